"""Training on batches that are drawn from generators and other iterables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arena_ckpt as ac

RNG = np.random.default_rng(2)
X = RNG.standard_normal((12, 4)).astype("f4")
Y = np.arange(12) % 3


def model(**properties: object) -> ac.Model:
    made = ac.Model(seed=1)
    made.add_layer("input", name="in", input_shape="1:1:4")
    made.add_layer("fully_connected", name="fc", unit=3)
    made.add_layer("cross_softmax", name="loss")
    made.set_optimizer("adam", learning_rate=0.01)
    made.set_property(**({"batch_size": 5, "epochs": 1} | properties))
    made.initialize()
    return made


def drawn(*sizes: int) -> Iterator[tuple[Any, Any]]:
    start = 0
    for size in sizes or (5, 5, 2):
        yield X[start : start + size], Y[start : start + size]
        start += size


class Again:
    """Batches that can be drawn again, with a length where one is given."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return drawn(*self.sizes)


class Counted(Again):
    def __len__(self) -> int:
        return 3


def bits(made: ac.Model) -> bytes:
    return b"".join(w.tobytes() for w in made.weights().values())


def steps(made: ac.Model, n_epochs: int = 1, *sizes: int) -> ac.Model:
    for _ in range(n_epochs):
        for x, y in drawn(*sizes):
            made.train_step(x, y)
    return made


@pytest.mark.parametrize("n_epochs", [1, 3])
@pytest.mark.parametrize("kind", [Again(), Counted(), [*drawn()], drawn])
def test_batches_have_the_bits_of_arrays(kind: Any, n_epochs: int) -> None:
    if kind is drawn:
        kind, n_epochs = drawn(), 1
    made, whole = model(), model()
    records: list[int] = []
    history = made.train(
        kind,
        epochs=n_epochs,
        validation=(X, Y),
        on_epoch=lambda record: records.append(record.epoch),
    )
    expected = whole.train((X, Y), epochs=n_epochs, shuffle=False, validation=(X, Y))
    assert bits(made) == bits(whole)
    for one, other in zip(history.epochs, expected.epochs, strict=True):
        assert one.loss == other.loss
        assert one.validation == other.validation
    assert records == [*range(1, n_epochs + 1)]
    assert (history.n_iterations, history.interrupted) == (3 * n_epochs, False)


def test_a_list_of_two_batches_is_no_pair() -> None:
    made = model()
    made.train([(X[:5], Y[:5]), (X[5:10], Y[5:10])])
    assert bits(made) == bits(steps(model(), 1, 5, 5))
    assert made.train([X, Y.tolist()]).n_iterations == 3


def test_data_sets_may_be_batches() -> None:
    made = model()
    made.train(iter([ac.Dataset("one", X[:5], Y[:5])]))
    assert bits(made) == bits(steps(model(), 1, 5))


def test_a_generator_is_gone_through_once() -> None:
    made = model(epochs=2)
    before = bits(made)
    with pytest.raises(ac.InvalidParameterError, match="epochs=2 of a generator"):
        made.train(drawn())
    assert bits(made) == before
    assert made.train(drawn(), epochs=1).n_iterations == 3


@pytest.mark.parametrize(
    ("second", "match"),
    [
        ((X[:, :3], Y), r"batch 2 of epoch 1 .*expected \(n, 4\).*in \(n, 1, 1, 4\)"),
        ((X[:6], Y[:6]), "batch of 6 samples does not fit"),
        ((X[:2], Y[:3]), "3 labels for 2 samples"),
        ((X[:2], Y[:2] + 9), "9, but the model has 3 classes"),
        ((X[:2] * np.nan, Y[:2]), "NaN"),
        ((X[:2], None), "without labels"),
        ((X[:2],), "is 1 values"),
        (X[:2], "is a ndarray"),
        (None, "is a NoneType"),
        (({"a": X[:2]}, Y[:2]), "'a'"),
    ],
)
def test_a_batch_that_does_not_fit_keeps_those_before(second: Any, match: str) -> None:
    made = model()
    with pytest.raises(ac.UnevenBatchesError, match=match) as caught:
        made.train(iter([(X[:5], Y[:5]), second, (X[:5], Y[:5])]))
    assert "The iteration before" in str(caught.value)
    facts = vars(caught.value)
    assert (facts["epoch"], facts["batch"], facts["n_iterations"]) == (1, 2, 1)
    assert bits(made) == bits(steps(model(), 1, 5))
    made.train((X, Y))  # the model stays usable


@pytest.mark.parametrize(
    ("batches", "epochs", "match"),
    [
        (iter(()), 1, r"after 0 batches\. No weight"),
        (Counted(5, 5), 2, "epoch 1 after 2 batches of the 3 .* 2 iterations before"),
        (Counted(*[2] * 4), 1, None),
    ],
)
def test_batches_that_end_early(batches: Any, epochs: int, match: str | None) -> None:
    made = model()
    if match is None:
        assert made.train(batches, epochs=epochs).n_iterations == 4
        return
    with pytest.raises(ac.UnevenBatchesError, match=match):
        made.train(batches, epochs=epochs)


def test_an_object_that_is_used_up_has_no_second_epoch() -> None:
    class Once:
        def __init__(self) -> None:
            self.one = drawn()

        def __iter__(self) -> Iterator[Any]:
            return self.one

    with pytest.raises(ac.UnevenBatchesError, match="ended in epoch 2 after 0 batches"):
        model().train(Once(), epochs=2)


def test_errors_of_a_generator_come_through() -> None:
    def broken() -> Iterator[Any]:
        yield X[:5], Y[:5]
        raise OSError("the disk is gone")

    made = model()
    with pytest.raises(OSError, match="the disk is gone"):
        made.train(broken())
    assert bits(made) == bits(steps(model(), 1, 5))


def test_drop_last_leaves_out_small_batches() -> None:
    made = model(drop_last=True)
    assert made.train(drawn()).n_iterations == 2
    assert bits(made) == bits(steps(model(), 1, 5, 5))
    with pytest.raises(ac.EmptyDataError, match="drop_last leaves out all 2 batches"):
        made.train(drawn(2, 2))


def test_a_callback_ends_the_training() -> None:
    history = model().train(Again(), epochs=9, on_epoch=lambda record: True)
    assert len(history.epochs) == 1


def test_no_state_is_saved_on_the_way(tmp_path: Path) -> None:
    made = model()
    with pytest.raises(ac.InvalidParameterError, match="cannot be drawn again"):
        made.train(Again(), checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("data", [3, None, "digits", {"x": X}, b"ab", X])
def test_what_is_no_data_is_refused(data: Any) -> None:
    with pytest.raises(ac.InvalidParameterError, match="also a generator of batches"):
        model().train(data)
