"""Arrays as people have them, in data sets, splits and trainings."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.command_line import run

import arena_ckpt as ac
from arena_ckpt.training.saved_run import digest

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 4))
Y = np.arange(12) % 3


def model(loss: str = "cross_softmax", unit: int = 3, shape: str = "1:1:4") -> ac.Model:
    made = ac.Model(seed=1)
    made.add_layer("input", name="in", input_shape=shape)
    made.add_layer("flatten", name="flat")
    made.add_layer("fully_connected", name="fc", unit=unit)
    made.add_layer(loss, name="loss")
    made.set_property(batch_size=4, epochs=2)
    made.initialize()
    return made


def pictures(loss: str = "mse", **properties: object) -> ac.Model:
    """Return a model from pictures to pictures, or to rows of classes."""
    made = ac.Model(seed=1)
    made.add_layer("input", name="in", input_shape="1:8:8")
    made.add_layer("conv2d", name="conv", filters=1, kernel_size="3,3", padding="same")
    made.add_layer(loss, name="loss", **properties)
    made.set_property(batch_size=4, epochs=1)
    made.initialize()
    return made


def losses(made: ac.Model, data: Any) -> list[float]:
    return [record.loss for record in made.train(data).epochs]


FORMS: dict[str, tuple[Any, Any]] = {
    "float64": (X, Y),
    "int32 labels": (X.astype("f4"), Y.astype("i4")),
    "labels in a column": (X, Y[:, None]),
    "uint8 labels": (X, Y.astype("u1")),
    "float labels": (X, Y.astype("f8")),
    "lists": (X.tolist(), Y.tolist()),
    "a transposed view": (np.asfortranarray(X), Y),
    "big-endian": (X.astype(">f8"), Y.astype(">i8")),
    "one-hot rows of int": (X, np.eye(3, dtype=int)[Y]),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_dataset_takes_what_train_takes(form: str) -> None:
    x, y = FORMS[form]
    expected = losses(model(), (X.astype("f4"), Y))
    assert losses(model(), (x, y)) == expected
    data = ac.Dataset("mine", x, y)
    assert losses(model(), data) == expected
    assert (data.x.dtype, data.x.flags.c_contiguous) == (np.float32, True)
    training, validation = data.split(0.25, 0)
    assert (training.n_samples, validation.n_samples) == (9, 3)


@pytest.mark.parametrize("y", [X[:, 0], X[:, :1], Y.astype("f4"), Y > 0])
def test_targets_may_be_flat(y: npt.NDArray[Any]) -> None:
    pair = losses(model("mse", 1), (X, y))
    assert losses(model("mse", 1), ac.Dataset("mine", X, y)) == pair


def test_masks_and_labels_of_tokens_keep_their_shapes() -> None:
    x = RNG.standard_normal((6, 1, 8, 8))
    mask = (x > 0).astype(np.uint8)
    data = ac.Dataset("masks", x, mask)
    assert data.y.shape == (6, 1, 8, 8)
    assert losses(pictures(), data) == losses(pictures(), (x, mask))
    tokens = RNG.integers(0, 8, (6, 8))
    data = ac.Dataset("tokens", x, tokens)
    assert data.y.tolist() == tokens.tolist()
    made = [pictures("cross_softmax", per_token="true") for _ in range(2)]
    assert losses(made[0], data) == losses(made[1], (x, tokens))
    large = ac.Dataset("ids", x, tokens + 2**24 + 1)
    assert large.y[0, 0] == tokens[0, 0] + 2**24 + 1


def test_right_arrays_are_not_copied() -> None:
    x, y = X.astype("f4"), Y.copy()
    data = ac.Dataset("mine", x, y)
    assert np.shares_memory(data.x, x)
    assert np.shares_memory(data.y, y)
    training, validation = data.split(0.25, shuffle=False)
    assert np.shares_memory(training.x, x)
    assert validation.y.tolist() == Y[9:].tolist()


# -- bytes and mapped files ------------------------------------------------------------


def test_bytes_in_an_npz_stay_bytes(tmp_path: Path) -> None:
    x = np.asfortranarray(RNG.integers(0, 256, (12, 3, 4, 4), dtype=np.uint8))
    np.savez(tmp_path / "p.npz", **{"x": x, "y": Y})
    np.savez(tmp_path / "q.npz", **{"x:in": x, "x:other": X, "y": Y})
    one, several = (ac.load_npz(tmp_path / name) for name in ("p.npz", "q.npz"))
    for found in (one.x, several.x["in"]):
        assert found.dtype == np.uint8
        assert found.tolist() == x.tolist()
    assert several.x["other"].dtype == np.float32


def test_bytes_stay_bytes_and_become_numbers_batch_by_batch() -> None:
    x = RNG.integers(0, 256, (20_000, 1, 8, 8), dtype=np.uint8)
    y = np.arange(20_000) % 3
    data = ac.Dataset("bytes", x, y)
    assert np.shares_memory(data.x, x)
    made = model(shape="1:8:8")
    made.set_weights({"fc:weight": made.weights()["fc:weight"] / 255})
    expected = made.evaluate((x.astype("f4"), y))
    tracemalloc.start()
    try:
        assert made.evaluate(data) == expected
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < x.nbytes  # as float32 alone they would be four times x
    found = made.predict(x[:8])
    assert found.tobytes() == made.predict(x[:8].astype("f4")).tobytes()


def test_training_on_bytes_has_the_bits_of_floats() -> None:
    x = RNG.integers(0, 4, (12, 4), dtype=np.uint8)
    for shuffled in (True, False):
        made = [model(), model()]
        made[0].train((x, Y), shuffle=shuffled)
        made[1].train((x.astype("f4"), Y), shuffle=shuffled)
        weights = [m.weights()["fc:weight"].tobytes() for m in made]
        assert weights[0] == weights[1]
    session = made[0]._session
    assert session is not None
    assert digest(session.samples(x, Y)) == digest(session.samples(x.astype("f4"), Y))


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i2"])
def test_mapped_files_are_read_batch_by_batch(tmp_path: Path, dtype: str) -> None:
    x = RNG.integers(0, 4, (12, 4)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = ac.Dataset("mapped", mapped, Y)
    assert np.shares_memory(data.x, mapped)
    assert losses(model(), data) == losses(model(), (x, Y))
    assert losses(model(), (mapped, Y)) == losses(model(), (x, Y))
    training, validation = data.split(0.25, shuffle=False)
    assert np.shares_memory(training.x, mapped)
    assert validation.x.tolist() == x[9:].tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_what_is_not_finite_in_a_mapped_file_is_found(
    tmp_path: Path, bad: float
) -> None:
    x = X.copy()
    x[7, 2] = bad
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    made = model()
    before = made.weights()["fc:weight"].tobytes()
    for call in (
        lambda: made.predict(mapped),
        lambda: made.evaluate((mapped, Y)),
        lambda: made.train_step(mapped[4:8], Y[4:8]),
    ):
        with pytest.raises(ac.NonFiniteDataError, match=r"\[[37], 2\]"):
            call()
    assert made.weights()["fc:weight"].tobytes() == before
    with pytest.raises(ac.NonFiniteDataError, match=r"the first at \[7, 2\]"):
        made.train((mapped, Y), shuffle=False)


# -- several inputs --------------------------------------------------------------------

TWO = """\
import numpy as np
import arena_ckpt as ac

def build():
    model = ac.Model(seed=1)
    model.add_layer("input", name="a", input_shape="1:1:4")
    model.add_layer("input", name="b", input_shape="1:1:4")
    model.add_layer("addition", name="sum", input_layers="a,b")
    model.add_layer("fully_connected", name="fc", unit=3)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=4, epochs=1)
    return model

def pair():
    x = np.eye(4).repeat(3, axis=0)
    return build(), ({"a": x, "b": x}, np.arange(12) % 3)

def pairs():
    model, (x, y) = pair()
    return model, (x, y), (x, y)

def three():
    return build(), (1, 2, 3)
"""


def test_several_inputs_go_through_data_sets_and_splits() -> None:
    namespace: dict[str, Any] = {}
    exec(TWO, namespace)
    made, (x, y) = namespace["pair"]()
    data = ac.Dataset("two", x, y)
    training, validation = data.split(0.25, 3, stratify=True)
    assert {k: v.shape for k, v in training.x.items()} == {"a": (9, 4), "b": (9, 4)}
    assert np.array_equal(validation.x["a"], validation.x["b"])
    assert ac.verify(made, data).passed
    made.initialize()
    history = made.train(training, validation=validation)
    assert history.epochs[0].validation is not None
    with pytest.raises(ac.DataShapeError, match="different numbers of samples"):
        ac.Dataset("two", {"a": X, "b": X[:3]}, None)
    for wrong in ({}, {3: X}):
        with pytest.raises(ac.DataTypeError, match="by the name of its layer"):
            ac.Dataset("two", wrong, None)


def test_several_inputs_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.py").write_text(TWO)
    x = np.eye(4).repeat(3, axis=0)
    np.savez("two.npz", **{"x:a": x, "x:b": x}, y=Y)
    loaded = ac.load_npz("two.npz")
    assert [*loaded.x] == ["a", "b"]
    for words in (
        ("train", "two.py:build", "--data", "two.npz"),
        ("verify", "two.py:build", "--data", "two.npz"),
        ("train", "two.py:pair"),
        ("train", "two.py:pairs", "--quiet"),
    ):
        result = run(*words)
        assert result.exit_code == 0, result.output
    assert "validation data:" in result.stdout
    result = run("train", "two.py:three")
    assert result.exit_code == 2
    assert "where data are a Dataset or (x, y)" in result.stderr
    np.savez("both.npz", **{"x:a": x, "x": x}, y=Y)
    with pytest.raises(ac.CorruptFileError, match="it has x and x:a"):
        ac.load_npz("both.npz")


# -- splits ----------------------------------------------------------------------------

SKEWED = np.repeat([0, 1, 2, 3], [60, 30, 9, 1])
SORTED = ac.Dataset("sorted", np.arange(100.0)[:, None], SKEWED)


def test_a_random_split_is_what_it_was() -> None:
    order = np.random.default_rng(5).permutation(100)
    training, validation = SORTED.split(0.2, 5)
    assert training.x[:, 0].tolist() == order[:80].tolist()
    assert validation.x[:, 0].tolist() == order[80:].tolist()


def test_a_stratified_split_keeps_the_shares() -> None:
    training, validation = SORTED.split(0.2, 5, stratify=True)
    assert np.bincount(validation.y).tolist() == [12, 6, 2]
    assert np.bincount(training.y).tolist() == [48, 24, 7, 1]
    both = np.concatenate([training.x, validation.x])[:, 0]
    assert sorted(both) == list(range(100))
    assert (np.diff(training.y) < 0).any()  # mixed
    with pytest.raises(ac.DataError, match="class numbers"):
        ac.Dataset("values", X, X).split(0.2, 0, stratify=True)
    with pytest.raises(ac.DataError, match="each class is trained on"):
        ac.Dataset("few", X, np.arange(12)).split(0.2, 0, stratify=True)


def test_a_split_in_order_needs_no_seed() -> None:
    training, validation = SORTED.split(0.25, shuffle=False)
    assert training.x[:, 0].tolist() == list(range(75))
    assert validation.x[:, 0].tolist() == list(range(75, 100))


@pytest.mark.parametrize("kind", [int, str, object])
def test_no_group_is_on_both_sides(kind: type) -> None:
    groups = (np.arange(100) // 7).astype(kind)
    for seed in range(5):
        parts = SORTED.split(0.2, seed, groups=groups)
        of = [{groups[int(i)] for i in part.x[:, 0]} for part in parts]
        assert not of[0] & of[1]
        assert abs(parts[1].n_samples - 20) <= 7
    last = SORTED.split(0.2, shuffle=False, groups=groups)[1]
    assert last.x[:, 0].tolist() == list(range(77, 100))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"groups": [1] * 100}, "all 100 samples are of one group"),
        ({"groups": [1, 2]}, r"expected \(100,\)"),
        ({"groups": [1] * 100, "stratify": True}, "exclude each other"),
        ({"shuffle": False, "stratify": True}, "exclude each other"),
        ({"shuffle": "no"}, "shuffle='no'"),
        ({"seed": None}, "seed=None"),
    ],
)
def test_splits_that_cannot_be(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ac.ArenaError, match=match):
        SORTED.split(0.2, **({"seed": 0} | options))


def test_a_class_that_is_not_trained_on_is_named() -> None:
    made = model()
    data = ac.Dataset("sorted", X, np.sort(Y), ("ant", "bee", "cow"))
    training, validation = data.split(0.25, shuffle=False)
    training = ac.Dataset("training", training.x[:8], training.y[:8], data.classes)
    with pytest.warns(ac.ModelWarning, match=r"samples of 2 \(cow\).*stratify=True"):
        made.train(training, validation=validation)


# -- names of classes ------------------------------------------------------------------


def test_names_of_classes_are_kept_with_the_model(tmp_path: Path) -> None:
    made = model()
    assert made.classes is None
    data = ac.Dataset("animals", X, Y, ("ant", "bee", "cow"))
    with pytest.raises(ac.ArenaError):
        made.train(data, epochs=1, checkpoint=tmp_path / "run", every=-1)
    assert made.classes is None
    made.train(data, epochs=1, checkpoint=tmp_path / "run")
    assert made.classes == data.classes
    made.save(tmp_path / "m.safetensors")
    newest = sorted((tmp_path / "run").glob("*.safetensors"))[-1]
    for path in (tmp_path / "m.safetensors", newest):
        assert ac.load(path).classes == ("ant", "bee", "cow")
    again = ac.load(tmp_path / "m.safetensors")
    other = ac.Dataset("other", X[1:3], [1, 0], ("bee", "cow"))
    assert again.evaluate(other) == again.evaluate((X[1:3], [2, 1]))
    strange = ac.Dataset("strange", X[1:3], [1, 0], ("bee", "crow"))
    with pytest.raises(ac.UnknownClassError, match=r"'crow' \(did you mean 'cow'\?\)"):
        again.evaluate(strange)
    fresh = model()
    fresh.restore(tmp_path / "m.safetensors")
    assert fresh.classes == data.classes


@pytest.mark.parametrize(
    ("classes", "error"),
    [
        (("ant", "bee"), ac.LabelRangeError),
        (("ant", "bee", "bee"), ac.InvalidParameterError),
        ("abc", ac.InvalidParameterError),
        ((1, 2, 3), ac.InvalidParameterError),
        ((), ac.InvalidParameterError),
        (3, ac.InvalidParameterError),
    ],
)
def test_names_that_cannot_be(classes: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="mine"):
        ac.Dataset("mine", X, Y, classes)
    with pytest.raises(ac.DataTypeError, match="names class numbers"):
        ac.Dataset("mine", X, X, ("a", "b", "c"))


@pytest.mark.parametrize("y", [["a", "b"], np.array(["a", None], object), [b"a", b"b"]])
def test_texts_as_labels_are_told_how_to_become_numbers(y: Any) -> None:
    for call in (
        lambda: model().train((X[:2], y)),
        lambda: ac.Dataset("mine", X[:2], y),
    ):
        with pytest.raises(
            ac.DataTypeError, match=r"numpy.unique\(y, return_inverse=True\)\[1\]"
        ):
            call()


def test_other_values_are_told_what_to_write() -> None:
    with pytest.raises(ac.DataTypeError, match=r"for example with x\.astype\("):
        ac.Dataset("mine", X.astype(object), Y)
    with pytest.raises(ac.InvalidParameterError, match=r"seed=None .*shuffle=False"):
        ac.Dataset("mine", X, Y).split(0.25)


def test_every_error_is_public() -> None:
    from arena_ckpt import errors

    for name, value in vars(errors).items():
        if isinstance(value, type) and value.__module__ == errors.__name__:
            assert getattr(ac, name) is value
            assert name in ac.__all__
