"""Training, evaluation and weights as a user sees them, and every wrong way."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import TESTS
from helpers.strategies import ModelSpec, chain, normal

from arena_ckpt import Dataset, Model, create_optimizer, create_schedule
from arena_ckpt.common.phases import Phase
from arena_ckpt.engine.session import MOST_PASSES
from arena_ckpt.errors import (
    AfterInitializationError,
    ArenaError,
    ArenaTooLargeError,
    DataError,
    DataShapeError,
    DataTypeError,
    EmptyDataError,
    InvalidParameterError,
    LabelRangeError,
    NonFiniteDataError,
    NonFiniteError,
    NotInitializedError,
    ShapeMismatchError,
    StateError,
)
from arena_ckpt.lowering.kernel_call import Mode

N_INPUTS, N_CLASSES = 6, 3


def classifier(**properties: object) -> ModelSpec:
    return chain(
        *(5, "gelu", N_CLASSES),
        loss="cross_softmax",
        blocks=(("fc1", "act1"),),
        **properties,
    )


def clusters(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Samples around one corner for each class."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, N_CLASSES, n)
    x = 0.3 * normal(generator, n, N_INPUTS)
    x[np.arange(n), y] += 2
    return x, y


def bits(model: Model) -> dict[str, bytes]:
    return {name: weight.tobytes() for name, weight in model.weights().items()}


# -- training --------------------------------------------------------------------------


def test_training_learns_and_records_every_epoch() -> None:
    spec = classifier(epochs=3)
    model = spec.model()
    model.set_optimizer("adam", learning_rate=0.05)
    model.initialize()
    data, held_back = clusters(50), clusters(30, seed=1)

    history = model.train(data, validation=held_back, epochs=10)

    assert [record.epoch for record in history.epochs] == list(range(1, 11))
    assert history.n_iterations == 10 * 7  # 50 samples, 8 at a time
    assert not history.interrupted
    assert history.epochs[-1].loss < history.epochs[0].loss / 4
    assert {record.learning_rate for record in history.epochs} == {0.05}
    assert all(record.seconds > 0 for record in history.epochs)
    last = history.epochs[-1].validation
    assert last == model.evaluate(held_back)
    assert last is not None
    assert (last.metric_name, last.n_samples) == ("accuracy", 30)
    assert last.metric == 1.0
    assert len(model.train(data).epochs) == 3  # the property


def test_the_loss_of_an_epoch_counts_every_sample_once() -> None:
    model = chain(2, batch_size=4, optimizer=("sgd", {"learning_rate": 1e-20}))
    trained = model.initialized()
    x, y = model.batch(10)

    record = trained.train((x, y)).epochs[0]

    assert record.loss == pytest.approx(trained.evaluate((x, y)).loss, rel=1e-6)


def test_training_equals_the_same_steps_by_hand() -> None:
    spec = classifier()
    trained, by_hand = spec.initialized(), spec.initialized()
    x, y = clusters(19)

    history = trained.train((x, y), shuffle=False, epochs=2)

    for _ in range(2):
        for start in range(0, 19, 8):
            by_hand.train_step(x[start : start + 8], y[start : start + 8])
    assert bits(trained) == bits(by_hand)
    assert history.n_iterations == 6


def test_the_shuffled_order_comes_from_the_seed() -> None:
    data = clusters(40)

    def trained(seed: int, **given: Any) -> dict[str, bytes]:
        model = classifier().model()
        model.seed = seed
        model.initialize()
        model.set_weights(weights)
        model.train(data, epochs=2, **given)
        return bits(model)

    weights = classifier().initialized().weights()
    assert trained(1) == trained(1)
    assert trained(1) != trained(2)
    assert trained(1) != trained(1, shuffle=False)
    assert trained(1, shuffle=False) == trained(2, shuffle=False)


def orders(model: Model, n: int, **values: Any) -> list[list[int]]:
    """Train on `n` samples that tell their numbers; return the orders of the epochs."""
    session = model._session
    assert session is not None
    iterate, rows = session.iterate, []

    def watched(samples: Any, numbers: Any, **given: Any) -> float:
        rows.append(numbers.tolist())
        return iterate(samples, numbers, **given)

    session.iterate = watched  # type: ignore[method-assign]
    history = model.train(clusters(n), **values)
    session.iterate = iterate  # type: ignore[method-assign]
    numbers = [number for batch in rows for number in batch]
    assert len(numbers) == n * len(history.epochs)
    return [numbers[start : start + n] for start in range(0, len(numbers), n)]


def test_every_epoch_has_every_sample_once_in_an_order_of_its_own() -> None:
    found = orders(classifier().initialized(), 40, epochs=4)
    assert [sorted(order) for order in found] == [list(range(40))] * 4
    assert len({tuple(order) for order in found}) == 4
    assert list(range(40)) not in found


def test_without_shuffling_every_epoch_is_in_the_order_of_the_data() -> None:
    found = orders(classifier().initialized(), 19, epochs=2, shuffle=False)
    assert found == [list(range(19))] * 2


def test_epochs_of_two_calls_are_those_of_one() -> None:
    model = classifier().initialized()
    parts = orders(model, 40, epochs=1) + orders(model, 40, epochs=2)
    assert parts == orders(classifier().initialized(), 40, epochs=3)


def test_two_epochs_at_once_train_to_the_bits_of_one_after_the_other() -> None:
    data = clusters(40)
    at_once, in_parts = classifier().initialized(), classifier().initialized()

    at_once.train(data, epochs=2)
    in_parts.train(data, epochs=1)
    in_parts.train(data, epochs=1)

    assert bits(at_once) == bits(in_parts)


def test_on_epoch_can_stop_the_training() -> None:
    model = classifier().initialized()
    seen: list[int] = []

    def stop_at_two(record: Any) -> bool:
        seen.append(record.epoch)
        return bool(record.epoch == 2)

    history = model.train(clusters(8), epochs=9, on_epoch=stop_at_two)

    assert seen == [1, 2]
    assert len(history.epochs) == 2
    assert not history.interrupted


def test_a_schedule_sets_the_rate_of_each_iteration() -> None:
    model = classifier().model()
    model.set_learning_rate_scheduler(
        create_schedule("step", iteration="1, 2", learning_rate="0.3, 0.2, 0.1")
    )
    model.initialize()

    history = model.train(clusters(8), epochs=5)

    assert [record.learning_rate for record in history.epochs] == [
        0.3,
        0.3,
        0.2,
        0.1,
        0.1,
    ]


@pytest.mark.parametrize("when", ["in a callback", "in an iteration"])
def test_ctrl_c_ends_training_and_leaves_a_usable_model(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "getsignal", signal.getsignal)
    before = signal.getsignal(signal.SIGINT)
    assert before is signal.default_int_handler, "else Ctrl-C is somebody else's"
    model, uninterrupted = classifier().initialized(), classifier().initialized()
    x, y = clusters(32)

    def interrupt(record: Any) -> None:
        if record.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    if when == "in a callback":
        history = model.train((x, y), epochs=9, shuffle=False, on_epoch=interrupt)
        assert (len(history.epochs), history.n_iterations) == (2, 8)
    else:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        history = model.train((x, y), epochs=10**6, shuffle=False)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        assert len(history.epochs) == history.n_iterations // 4

    assert history.interrupted
    assert signal.getsignal(signal.SIGINT) is before
    for step in range(history.n_iterations):
        rows = slice(8 * (step % 4), 8 * (step % 4 + 1))
        uninterrupted.train_step(x[rows], y[rows])
    assert bits(model) == bits(uninterrupted)
    assert not model.train((x, y), epochs=1).interrupted


def test_a_second_ctrl_c_is_not_swallowed() -> None:
    model = classifier().initialized()

    def interrupt_twice(record: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        model.train(clusters(8), epochs=3, on_epoch=interrupt_twice)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    model.train(clusters(8))


def test_ctrl_c_of_somebody_else_is_left_alone() -> None:
    seen: list[int] = []
    model = classifier().initialized()
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    mine = signal.getsignal(signal.SIGINT)
    try:
        history = model.train(
            clusters(8),
            epochs=2,
            on_epoch=lambda record: os.kill(os.getpid(), signal.SIGINT),
        )
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)
    assert (len(history.epochs), history.interrupted, len(seen)) == (2, False, 2)


def test_an_error_in_a_callback_gives_ctrl_c_back() -> None:
    model = classifier().initialized()

    def fail(record: Any) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        model.train(clusters(8), on_epoch=fail)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    model.train(clusters(8))


def test_models_in_turns_and_in_threads_do_not_disturb_each_other() -> None:
    x, y = clusters(64)
    alone, in_turns, beside = (classifier().initialized() for _ in range(3))
    alone.train((x, y), epochs=5, shuffle=False)
    for _ in range(5):
        for start in range(0, 64, 8):
            rows = slice(start, start + 8)
            in_turns.train_step(x[rows], y[rows])
            beside.train_step(x[rows], y[rows])
            beside.predict(x)
    assert bits(in_turns) == bits(beside) == bits(alone)

    pair = [classifier().initialized() for _ in range(2)]
    threads = [
        threading.Thread(target=m.train, args=((x, y),), kwargs={"epochs": 20})
        for m in pair
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = classifier().initialized()
    again.train((x, y), epochs=20)
    assert bits(pair[0]) == bits(pair[1]) == bits(again)


def test_a_callback_may_use_the_model() -> None:
    plain, watched = classifier().initialized(), classifier().initialized()
    data = clusters(20)
    plain.train(data, epochs=3)

    def look(record: Any) -> None:
        watched.predict(data[0])
        watched.evaluate(data)
        watched.compute_gradients(data[0][:8], data[1][:8])

    watched.train(data, epochs=3, on_epoch=look)
    assert bits(plain) == bits(watched)


def test_a_schedule_sets_the_size_of_every_step() -> None:
    model = chain(2).model()
    rates = [0.5, 0.25, 0.125, 0.125]
    model.set_learning_rate_scheduler(
        create_schedule("step", iteration="0, 1", learning_rate="0.5, 0.25, 0.125")
    )
    model.initialize()
    x, y = chain(2).batch(8)

    for rate in rates:
        before = model.weights()
        _, gradients = model.compute_gradients(x, y)
        model.train_step(x, y)
        for name, weight in model.weights().items():
            step = np.float32(rate) * gradients[name]
            np.testing.assert_array_equal(weight, before[name] - step)

    model.set_learning_rate_scheduler(None)  # that of sgd from now on
    before, (_, gradients) = model.weights(), model.compute_gradients(x, y)
    model.train_step(x, y)
    step = np.float32(0.01) * gradients["fc1:bias"]
    np.testing.assert_array_equal(
        model.weights()["fc1:bias"], before["fc1:bias"] - step
    )


def test_an_optimizer_can_be_changed_before_it_is_used() -> None:
    model = chain(2).model()
    model.set_optimizer(create_optimizer("adam", beta1=0.5), learning_rate=0.25)
    assert model.optimizer == create_optimizer("adam", beta1=0.5, learning_rate=0.25)
    model.set_optimizer(model.optimizer, ["learning_rate=3", "beta2=0.5"], beta1=0.25)
    assert model.optimizer == create_optimizer(
        "adam", beta1=0.25, beta2=0.5, learning_rate=3
    )
    model.add_layer(model.layers[0], ["name=other", "input_shape=9"])
    assert model.layers[-1]["input_shape"] == (1, 1, 9)
    model.set_optimizer("sgd", ["momentum=0.5"], learning_rate=2)
    assert (model.optimizer["momentum"], model.optimizer["learning_rate"]) == (0.5, 2)


def test_several_inputs_come_as_a_dict_in_any_order() -> None:
    def two_inputs() -> Model:
        model = Model()
        for name in ("left", "right"):
            model.add_layer("input", name=name, input_shape=(1, 1, N_INPUTS))
        model.add_layer("fully_connected", name="fc", unit=4, input_layers="left")
        model.add_layer("fully_connected", name="fd", unit=4, input_layers="right")
        model.add_layer("addition", name="sum", input_layers="fc, fd")
        model.add_layer("mse", name="loss")
        model.set_property(batch_size=8)
        model.initialize()
        return model

    model, turned = two_inputs(), two_inputs()
    left, right = clusters(20)[0], clusters(20, seed=1)[0]
    y = normal(np.random.default_rng(2), 20, 4)

    model.train(({"left": left, "right": right}, y), epochs=2)
    turned.train(({"right": right.tolist(), "left": left}, y), epochs=2)

    assert bits(model) == bits(turned)
    found = model.predict({"left": left, "right": right})
    weights = model.weights()
    expected = left @ weights["fc:weight"] + right @ weights["fd:weight"]
    expected += weights["fc:bias"] + weights["fd:bias"]
    np.testing.assert_allclose(found.reshape(20, 4), expected, rtol=1e-4, atol=1e-6)
    assert model.predict({"left": right, "right": left}).tobytes() != found.tobytes()


# -- batches ---------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 5, 7])
def test_a_smaller_batch_equals_a_model_planned_for_it(n: int) -> None:
    large, exact = classifier().initialized(), classifier(batch_size=n).initialized()
    x, y = clusters(n)

    losses = [model.train_step(x, y) for model in (large, exact)]

    # OpenBLAS takes the same path for both: the operands have the same shape.
    assert losses[0] == losses[1]
    assert bits(large) == bits(exact)


@pytest.mark.parametrize("micro_batches", [2, 3, 8])
@pytest.mark.parametrize("n", [8, 5])
def test_micro_batches_equal_one_batch(micro_batches: int, n: int) -> None:
    whole = classifier().initialized()
    split = classifier(micro_batches=micro_batches).initialized()
    x, y = clusters(n)

    expected_loss, expected = whole.compute_gradients(x, y)
    loss, gradients = split.compute_gradients(x, y)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-5, atol=1e-7)
    for _ in range(3):
        assert split.train_step(x, y) == pytest.approx(whole.train_step(x, y), rel=1e-5)
    for name, weight in split.weights().items():
        np.testing.assert_allclose(weight, whole.weights()[name], rtol=1e-5, atol=1e-6)


def dropping(**properties: object) -> Model:
    """A dropout before weights of 1; the gradient of a weight shows what is kept."""
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 64)}),
        ("dropout", {"name": "drop", "dropout_rate": 0.5}),
        ("fully_connected", {"name": "fc", "unit": 1, "disable_bias": True}),
        ("mse", {"name": "loss"}),
    )
    model = ModelSpec(layers, (), {"batch_size": 6, **properties}).initialized()
    model.set_weights({"fc:weight": np.ones((64, 1))})
    return model


def masks(model: Model) -> list[tuple[int, ...]]:
    """Return the elements that are kept of each of six samples."""
    found = []
    for sample in range(6):
        x = np.zeros((6, 64), dtype=np.float32)
        x[sample] = 1
        _, gradients = model.compute_gradients(x, np.full((6, 1), -1.0))
        found.append(tuple(np.flatnonzero(gradients["fc:weight"])))
    return found


def test_every_sample_has_a_dropout_mask_of_its_own_also_in_micro_batches() -> None:
    whole = dropping()
    expected = masks(whole)
    assert len(set(expected)) == 6
    assert all(16 < len(mask) < 48 for mask in expected)
    assert masks(whole) == expected  # the iteration is the same
    for micro_batches in (2, 3, 6):
        assert masks(dropping(micro_batches=micro_batches)) == expected


def test_predictions_are_made_without_dropout() -> None:
    model = dropping()
    assert model.predict(np.ones((9, 64))).reshape(-1).tolist() == [64.0] * 9
    loss = model.evaluate((np.ones((4, 64)), np.full((4, 1), 63.0))).loss
    assert loss == 1.0


@pytest.mark.parametrize("blocks", [(), (("fc1", "act1", "fc2"),)])
def test_predictions_are_those_of_the_formula(
    blocks: tuple[tuple[str, ...], ...],
) -> None:
    """With the block `act1` overwrites the sums of `fc1`; without, backward needs them.

    The gradient of fc2's weight shows what was there when it was made.
    """
    spec = chain(5, "swish", 2, width=3, batch_size=4, blocks=blocks)
    model = spec.initialized()
    generator = np.random.default_rng(0)
    model.set_weights(
        {n: generator.normal(size=w.shape) for n, w in model.weights().items()}
    )
    weights = {n: w.astype(float) for n, w in model.weights().items()}
    x, y = generator.normal(size=(4, 3)), generator.normal(size=(4, 2))
    sums = x @ weights["fc1:weight"] + weights["fc1:bias"]
    hidden = sums / (1 + np.exp(-sums))
    out = hidden @ weights["fc2:weight"] + weights["fc2:bias"]
    np.testing.assert_allclose(model.predict(x).reshape(4, 2), out, rtol=1e-5)
    loss, gradients = model.compute_gradients(x, y)
    assert loss == pytest.approx(np.square(out - y).mean(axis=1).mean(), rel=1e-5)
    expected = hidden.T @ (out - y) / 4
    np.testing.assert_allclose(gradients["fc2:weight"], expected, rtol=1e-4, atol=1e-6)


def test_every_iteration_has_dropout_masks_of_its_own() -> None:
    model = dropping()
    first = masks(model)
    model.train_step(np.zeros((6, 64)), np.zeros((6, 1)))
    assert not set(first) & set(masks(model))


def test_a_batch_of_rows_is_a_mean_over_those_of_its_own_that_count() -> None:
    layers = (
        ("input", {"name": "in", "input_shape": (1, 3, 2)}),
        ("fully_connected", {"name": "fc", "unit": 3}),
        ("cross_softmax", {"name": "loss", "per_token": True}),
    )
    spec = ModelSpec(layers, (), {"batch_size": 1}, ("sgd", {"learning_rate": 0.5}))
    trained, by_hand = spec.initialized(), spec.initialized()
    x = normal(np.random.default_rng(0), 3, 6)
    y = np.array([[0, -100, -100], [1, 2, -100], [0, 1, 2]])
    trained.train((x, y), shuffle=False)
    for i in range(3):
        by_hand.train_step(x[i : i + 1], y[i : i + 1])
    assert bits(trained) == bits(by_hand)


def test_two_dropouts_drop_other_elements() -> None:
    """They would drop half of all elements together, and not three quarters."""
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 512)}),
        ("dropout", {"name": "first", "dropout_rate": 0.5}),
        ("dropout", {"name": "second", "dropout_rate": 0.5}),
        ("fully_connected", {"name": "fc", "unit": 1, "disable_bias": True}),
        ("mse", {"name": "loss"}),
    )
    kept = []
    for seed in (3, 4):
        model = ModelSpec(layers, (), {"batch_size": 1}).model()
        model.seed = seed
        model.initialize()
        model.set_weights({"fc:weight": np.ones((512, 1))})
        _, gradients = model.compute_gradients(np.ones((1, 512)), [[-1.0]])
        kept.append(gradients["fc:weight"].reshape(-1) != 0)
    assert all(80 < np.count_nonzero(mask) < 180 for mask in kept)
    assert not (kept[0] == kept[1]).all()


def test_clipping_starts_anew_in_every_iteration() -> None:
    """A step of rate 1 with the same batch is always as long as the norm allows."""
    model = chain(
        *(5, 3), optimizer=("sgd", {"learning_rate": 1.0}), clip_grad_by_norm=1e-3
    ).initialized()
    x, y = clusters(8)
    y = np.eye(3)[y]
    for _ in range(3):
        before = model.weights()
        model.train_step(x, y)
        moved = [before[name] - w for name, w in model.weights().items()]
        norm = np.sqrt(sum(np.square(m, dtype=float).sum() for m in moved))
        assert norm == pytest.approx(1e-3, rel=1e-2)


def test_the_loss_of_an_epoch_counts_every_row_once() -> None:
    """Batches have one, two and three rows that count."""
    layers = (
        ("input", {"name": "in", "input_shape": (1, 3, 2)}),
        ("fully_connected", {"name": "fc", "unit": 3}),
        ("cross_softmax", {"name": "loss", "per_token": True}),
    )
    slow = ("sgd", {"learning_rate": 1e-20})
    model = ModelSpec(layers, (), {"batch_size": 1}, slow).initialized()
    x = normal(np.random.default_rng(0), 3, 6)
    y = np.array([[0, -100, -100], [1, 2, -100], [0, 1, 2]])
    record = model.train((x, y)).epochs[0]
    assert record.loss == pytest.approx(model.evaluate((x, y)).loss, rel=1e-6)
    losses = [model.evaluate((x[i : i + 1], y[i : i + 1])).loss for i in range(3)]
    mean = (losses[0] + 2 * losses[1] + 3 * losses[2]) / 6
    assert record.loss == pytest.approx(mean, rel=1e-6)
    steps = [model.train_step(x[i : i + 1], y[i : i + 1]) for i in range(3)]
    assert steps == pytest.approx(losses, rel=1e-6)


def test_micro_batches_need_less_memory() -> None:
    whole = classifier(batch_size=64).model().make_plan().arena_bytes
    split = classifier(batch_size=64, micro_batches=8).model().make_plan().arena_bytes
    assert split < whole / 3


def test_class_numbers_and_one_hot_rows_give_the_same_bits() -> None:
    numbers, one_hot = classifier().initialized(), classifier().initialized()
    x, y = clusters(8)
    rows = np.eye(N_CLASSES, dtype=np.float32)[y]

    for _ in range(3):
        assert numbers.train_step(x, y) == one_hot.train_step(x, rows)
    assert (
        numbers.train((x, y)).epochs[0].loss == one_hot.train((x, rows)).epochs[0].loss
    )
    assert bits(numbers) == bits(one_hot)
    assert numbers.evaluate((x, y)) == one_hot.evaluate((x, rows))


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_looking_moves_no_running_statistics_and_a_step_does(
    micro_batches: int,
) -> None:
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 3)}),
        ("batch_normalization", {"name": "bn", "momentum": 0.5}),
        ("fully_connected", {"name": "fc", "unit": 1}),
        ("mse", {"name": "loss"}),
    )
    properties = {"batch_size": 4, "micro_batches": micro_batches}
    model = ModelSpec(layers, (), properties).initialized()
    x = normal(np.random.default_rng(0), 4, 3) + 2
    y = np.zeros((4, 1))
    before = bits(model)
    model.compute_gradients(x, y)
    model.evaluate((x, y))
    model.predict(x)
    assert bits(model) == before
    model.train_step(x, y)
    mean = model.weights()["bn:moving_mean"]
    expected = x.mean(axis=0) / 2  # from 0, half the way
    if micro_batches == 2:  # twice
        expected = x[:2].mean(axis=0) / 4 + x[2:].mean(axis=0) / 2
    np.testing.assert_allclose(mean, expected, rtol=1e-5)


def test_gradients_are_those_of_the_step_and_change_nothing() -> None:
    model = chain(4, "tanh", 2, optimizer=("sgd", {"learning_rate": 0.5})).initialized()
    x, y = normal(np.random.default_rng(0), 8, 6), np.zeros((8, 2), np.float32)
    before = model.weights()

    loss, gradients = model.compute_gradients(x, y)

    assert bits(model) == {k: w.tobytes() for k, w in before.items()}
    assert list(gradients) == list(before)
    assert model.train_step(x, y) == loss
    for name, weight in model.weights().items():
        expected = before[name] - np.float32(0.5) * gradients[name]
        np.testing.assert_allclose(weight, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "convert",
    [
        lambda a: a.astype(np.float64),
        lambda a: a.astype(np.float16).astype(object).astype(np.float16),
        lambda a: a.tolist(),
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a.astype(">f4"),
        lambda a: a.reshape(-1, 1, 1, N_INPUTS),
        lambda a: (
            np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:]
            .view(np.float32)
            .reshape(a.shape)
        ),
    ],
    ids="float64 float16 list fortran strided big-endian 4d unaligned".split(),
)
def test_any_real_array_is_taken(convert: Callable[[Any], Any]) -> None:
    plain, given = classifier().initialized(), classifier().initialized()
    x, y = clusters(8)
    x = x.astype(np.float16).astype(np.float32)  # exact in every dtype below
    for _ in range(2):
        assert given.train_step(convert(x), y) == plain.train_step(x, y)
    given.train((convert(x), y))
    plain.train((x, y))
    assert bits(given) == bits(plain)
    assert given.predict(convert(x)).tobytes() == plain.predict(x).tobytes()


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int32", "uint64", "float64", "bool", ">i2"]
)
def test_class_numbers_of_any_dtype(dtype: str) -> None:
    plain, given = classifier().initialized(), classifier().initialized()
    x, y = clusters(8)
    y = y % 2
    assert given.train_step(x, y.astype(dtype)) == plain.train_step(x, y)
    assert given.train_step(x, y.astype(dtype)[:, None]) == plain.train_step(x, y)
    assert given.train_step(x, y.tolist()) == plain.train_step(x, y)


# -- predicting ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 8, 9, 30])
def test_predictions_for_any_number_of_samples(n: int) -> None:
    model = classifier().initialized()
    x, _ = clusters(n)

    found = model.predict(x)

    assert found.shape == (n, 1, 1, N_CLASSES)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-6)
    for i in range(n):
        np.testing.assert_allclose(model.predict(x[i : i + 1])[0], found[i], rtol=1e-5)
    found[...] = 0  # a copy
    assert model.predict(x).max() > 0


def test_evaluation_of_values_and_of_bits() -> None:
    spec = chain(2, batch_size=4)
    model = spec.initialized()
    x, y = spec.batch(10)
    difference = model.predict(x).reshape(10, 2) - y

    found = model.evaluate((x, y))

    assert found.metric_name == "mean_absolute_error"
    assert found.metric == pytest.approx(float(np.abs(difference).mean()), rel=1e-5)
    assert found.loss == pytest.approx(float((difference**2).mean()), rel=1e-5)

    one_bit = chain(1, loss="cross_sigmoid", batch_size=4).initialized()
    inputs = x["in"]
    truth = (one_bit.predict(inputs).reshape(-1, 1) > 0.5).astype(np.float32)
    truth[:3] = 1 - truth[:3]
    found = one_bit.evaluate((inputs, truth))
    assert (found.metric_name, found.metric) == ("accuracy", pytest.approx(0.7))


def test_the_decay_of_a_layer_goes_through_adamws_moments_and_its_own_does_not() -> (
    None
):
    """With a gradient of 0, decay of the layer is all that the moments see."""
    moved = {}
    for layer_decay, own_decay in ((0.5, 0.0), (0.0, 0.5), (0.5, 0.5)):
        model = Model()
        model.add_layer("input", name="in", input_shape="1:1:1")
        model.add_layer("fully_connected", name="fc", unit=1, weight_decay=layer_decay)
        model.add_layer("mse", name="loss")
        model.set_optimizer("adamw", learning_rate=0.1, weight_decay=own_decay)
        model.initialize()
        model.set_weights({"fc:weight": [[2.0]], "fc:bias": [1.0]})
        model.train_step([[0.0]], [[1.0]])
        weights = model.weights()
        moved[layer_decay, own_decay] = weights["fc:weight"].item()
        assert weights["fc:bias"].item() == pytest.approx(1 - 0.1 * own_decay)
    # A step of Adam on the gradient 0.5 * 2 is the learning rate, whatever the decay.
    assert moved[0.5, 0.0] == pytest.approx(2 - 0.1)
    assert moved[0.0, 0.5] == pytest.approx(2 * (1 - 0.1 * 0.5))
    assert moved[0.5, 0.5] == pytest.approx(2 * (1 - 0.1 * 0.5) - 0.1)


def test_float32_data_are_read_where_they_lie() -> None:
    """As documented: changed between epochs, they are trained on as changed."""
    x, y = clusters(16)
    data = Dataset("clusters", x.copy(), y)
    changed, by_hand = classifier().initialized(), classifier().initialized()

    def change(record: Any) -> None:
        data.x[:] += 1

    changed.train(data, epochs=2, shuffle=False, on_epoch=change)
    for some in (x, x + 1):
        for start in (0, 8):
            by_hand.train_step(some[start : start + 8], y[start : start + 8])
    assert bits(changed) == bits(by_hand)


def test_rows_of_several_bits_are_values_and_rows_of_one_are_classes() -> None:
    model = chain(3, loss="cross_sigmoid", batch_size=2).initialized()
    x = np.zeros((2, 6))
    assert model.evaluate((x, [[1, 0, 0], [0, 0, 1]])).metric_name == "accuracy"
    for several in ([[1, 1, 0], [0, 0, 1]], [[0, 0, 0], [0, 0, 1]]):
        result = model.evaluate((x, several))
        assert result.metric_name == "mean_absolute_error"


@pytest.mark.parametrize("ignored", [-100, 0])
def test_rows_with_an_ignored_label_are_neither_hits_nor_misses(ignored: int) -> None:
    """Every row is taken for class 0, also where that is the label to ignore."""
    layers = (
        ("input", {"name": "in", "input_shape": (1, 4, 2)}),
        ("fully_connected", {"name": "fc", "unit": 3}),
        (
            "cross_softmax",
            {"name": "loss", "per_token": True, "ignore_label": ignored},
        ),
    )
    model = ModelSpec(layers, (), {"batch_size": 2}).initialized()
    model.set_weights({"fc:weight": np.zeros((2, 3)), "fc:bias": [3.0, 2.0, 1.0]})
    y = np.array([[ignored, 1, ignored, 2], [ignored, ignored, 1, 1], [1, 2, 1, 2]])
    result = model.evaluate((np.ones((3, 8)), y))
    assert (result.metric_name, result.n_samples) == ("accuracy", 3)
    assert result.metric == 0.0
    if ignored != 0:
        y[0, 1] = y[2, 3] = 0
        assert model.evaluate((np.ones((3, 8)), y)).metric == 2 / 8
    model.set_weights({"fc:bias": [1.0, 3.0, 2.0]})
    y = np.where(y == 0, ignored, y)
    expected = np.count_nonzero(y == 1) / np.count_nonzero(y != ignored)
    assert model.evaluate((np.ones((3, 8)), y)).metric == expected


def test_the_penalty_counts_where_every_label_is_ignored() -> None:
    """The loss is that of training: 0 for the labels, 1/2 · 0.5 · (2² + 1²)."""
    penalty = {"weight_regularizer": "l2norm", "weight_regularizer_constant": 0.5}
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 1)}),
        ("fully_connected", {"name": "fc", "unit": 2, **penalty}),
        ("cross_softmax", {"name": "loss", "per_token": True}),
    )
    model = ModelSpec(layers, (), {"batch_size": 2}).initialized()
    model.set_weights({"fc:weight": [[2.0, 1.0]]})
    x, y = np.ones((3, 1)), np.full((3, 1), -100)
    assert model.compute_gradients(x[:2], y[:2])[0] == 1.25
    result = model.evaluate((x, y))  # of three samples in two passes
    assert result.loss == pytest.approx(1.25, rel=1e-12)
    assert result.metric == 0


def test_evaluating_and_predicting_change_nothing() -> None:
    model, other = classifier().initialized(), classifier().initialized()
    data = clusters(20)
    for _ in range(3):
        model.evaluate(data)
        model.predict(data[0])
        assert model.train_step(data[0][:8], data[1][:8]) == other.train_step(
            data[0][:8], data[1][:8]
        )
    assert bits(model) == bits(other)


def test_a_dataset_is_taken_where_x_and_y_are() -> None:
    model = classifier().initialized()
    x, y = clusters(12)
    assert model.evaluate(Dataset("clusters", x, y)) == model.evaluate((x, y))
    with pytest.raises(EmptyDataError, match="no labels"):
        model.train(Dataset("clusters", x, None))


# -- weights ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"fc1:wieght": 0}, InvalidParameterError, "did you mean 'fc1:weight'"),
        ({"fc1:weight": np.zeros((5, 6))}, ShapeMismatchError, r"\(6, 5\).*\(5, 6\)"),
        ({"fc1:weight": np.zeros(30)}, ShapeMismatchError, "nothing was changed"),
        ({"fc1:bias": [1, 2, np.nan, 4, np.inf]}, NonFiniteDataError, "2 values"),
        ({"fc1:bias": [1e300] * 5}, NonFiniteDataError, "5 values"),
        ({"fc1:bias": ["a"] * 5}, DataTypeError, "fc1:bias"),
        ({"fc1:bias": [1j] * 5}, DataTypeError, "fc1:bias"),
        ({"fc1:bias": [[1], [2, 3]]}, DataTypeError, "fc1:bias"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_weights_that_cannot_be_leave_all_as_they_were(
    values: dict[str, Any], error: type[ArenaError], words: str
) -> None:
    model = classifier().initialized()
    before = bits(model)
    good = {"fc2:bias": np.ones(N_CLASSES)}

    with pytest.raises(error, match=words):
        model.set_weights(good | values)

    assert bits(model) == before
    model.set_weights(good)
    assert model.weights()["fc2:bias"].tolist() == [1] * N_CLASSES
    assert bits(model)["fc1:weight"] == before["fc1:weight"]


def test_weights_are_copies() -> None:
    model = classifier().initialized()
    before = bits(model)
    for weight in model.weights().values():
        weight.fill(7)
    assert bits(model) == before


# -- errors ----------------------------------------------------------------------------

GOOD_X, GOOD_Y = clusters(8)


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.astype(np.float32)
    changed.reshape(-1)[-2] = value
    return changed


BAD_BATCHES: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "nan in x": (with_value(GOOD_X, np.nan), GOOD_Y, NonFiniteDataError, "x"),
    "inf in x": (with_value(GOOD_X, -np.inf), GOOD_Y, NonFiniteDataError, "x"),
    "beyond float32": (
        GOOD_X.astype(np.float64) * 1e300,
        GOOD_Y,
        NonFiniteDataError,
        "x",
    ),
    "nan in y": (
        GOOD_X,
        with_value(np.eye(3)[GOOD_Y], np.nan),
        NonFiniteDataError,
        "y",
    ),
    "nan as class": (GOOD_X, with_value(GOOD_Y, np.nan), NonFiniteDataError, "y"),
    "too large a class": (GOOD_X, GOOD_Y + 1, LabelRangeError, r"3 classes \(0 to 2\)"),
    "negative class": (GOOD_X, GOOD_Y - 1, LabelRangeError, "-1"),
    "fractional class": (GOOD_X, GOOD_Y + 0.5, DataTypeError, "whole"),
    "huge class": (GOOD_X, np.full(8, 2**64 - 1, np.uint64), LabelRangeError, "y"),
    "too wide": (GOOD_X[:, :5], GOOD_Y, DataShapeError, r"\(8, 5\).*\(n, 6\)"),
    "one sample alone": (GOOD_X[0], GOOD_Y[:1], DataShapeError, r"x\[None\]"),
    "a number": (3.0, GOOD_Y, DataShapeError, "single number"),
    "too few labels": (GOOD_X, GOOD_Y[:7], DataShapeError, "7 labels for 8 samples"),
    "too many targets": (GOOD_X, np.zeros((8, 4)), DataShapeError, r"\(8, 3\)"),
    "no samples": (GOOD_X[:0], GOOD_Y[:0], EmptyDataError, "no samples"),
    "no labels": (GOOD_X, GOOD_Y[:0], DataError, "y"),
    "strings": (GOOD_X.astype(str), GOOD_Y, DataTypeError, "real numbers"),
    "complex": (GOOD_X + 1j, GOOD_Y, DataTypeError, "complex"),
    "objects": (GOOD_X.astype(object), GOOD_Y, DataTypeError, "object"),
    "dates": (GOOD_X.astype("M8[s]"), GOOD_Y, DataTypeError, "datetime"),
    "ragged": ([[1.0], [2.0, 3.0]], GOOD_Y[:2], DataTypeError, "same shape"),
    "none": (None, GOOD_Y, DataTypeError, "x"),
    "unknown input": ({"inn": GOOD_X}, GOOD_Y, InvalidParameterError, "'in'"),
}


@pytest.mark.parametrize("case", BAD_BATCHES)
def test_bad_data_change_nothing(case: str) -> None:
    x, y, error, words = BAD_BATCHES[case]
    model = classifier().initialized()
    before = bits(model)
    for call in (
        lambda: model.train_step(x, y),
        lambda: model.compute_gradients(x, y),
        lambda: model.train((x, y)),
        lambda: model.evaluate((x, y)),
    ):
        with pytest.raises(error, match=words) as caught:
            call()
        assert isinstance(caught.value, ArenaError)
        assert isinstance(caught.value, ValueError)
    assert bits(model) == before
    fresh = classifier().initialized()
    assert model.train_step(GOOD_X, GOOD_Y) == fresh.train_step(GOOD_X, GOOD_Y)


def test_the_place_of_a_nan_is_named() -> None:
    model = classifier().initialized()
    x = GOOD_X.copy()
    x[5, 2] = np.nan
    for call in (
        lambda: model.train_step(x, GOOD_Y),
        lambda: model.predict(x),
        lambda: model.train((x, GOOD_Y)),
    ):
        with pytest.raises(NonFiniteDataError) as caught:
            call()
        assert caught.value.index == (5, 2)
        assert caught.value.count == 1


def test_too_large_a_batch_is_refused_with_the_numbers() -> None:
    model = classifier().initialized()
    with pytest.raises(DataShapeError, match=r"9 samples.*batch_size=8") as caught:
        model.train_step(*clusters(9))
    assert (caught.value.expected, caught.value.found) == (8, 9)


@pytest.mark.filterwarnings("ignore:the values of the input 'in' reach 3e.38")
@pytest.mark.parametrize("debug", [False, True])
def test_an_infinite_loss_changes_no_weight(debug: bool) -> None:
    spec = chain(4, 2, optimizer=("adam", {}), clip_grad_by_norm=1.0)
    model, other = spec.initialized(debug=debug), spec.initialized(debug=debug)
    x, y = spec.batch(8)
    before = bits(model)
    huge = np.full((8, 6), 3e38, np.float32)

    with pytest.raises(NonFiniteError) as caught:
        model.train_step(huge, y)
    with pytest.raises(NonFiniteError):
        model.compute_gradients(huge, y)
    with pytest.raises(NonFiniteError):
        model.train((huge, y))

    assert isinstance(caught.value, ArithmeticError)
    assert bits(model) == before
    for _ in range(2):
        assert model.train_step(x, y) == other.train_step(x, y)


@pytest.mark.parametrize("debug", [False, True])
def test_a_loss_of_infinity_and_not_of_nan_changes_no_weight(debug: bool) -> None:
    model = chain(1, width=2, batch_size=1).initialized(debug=debug)
    model.set_weights({"fc1:weight": np.ones((2, 1))})
    before = bits(model)
    with pytest.raises(NonFiniteError):
        model.train_step(np.full((1, 2), 3e38), np.zeros((1, 1)))
    if not debug:
        with pytest.raises(NonFiniteError, match="the loss is inf "):
            model.train_step(np.full((1, 2), 3e38), np.zeros((1, 1)))
    assert bits(model) == before


def test_an_interrupt_between_the_updates_of_a_step_takes_all_of_them_back() -> None:
    """Step by step Ctrl-C can come between two; the native walk makes all or none."""

    class Interrupt:
        def before(self, moment: Any) -> None:
            if moment.step == last:
                raise KeyboardInterrupt

        def after(self, moment: Any) -> None: ...

        def leave(self, moment: Any) -> None: ...

    model = classifier(clip_grad_by_norm=1.0).initialized(debug=True)
    updates = [
        execution.step
        for execution in model.plan.executions
        if execution.phase is Phase.APPLY_GRADIENT
    ]
    assert len(updates) == 2
    last = updates[-1]
    session: Any = model._session
    x, y = clusters(8)
    before = bits(model)
    watcher = Interrupt()
    session.watch(watcher)
    with pytest.raises(KeyboardInterrupt):
        model.train_step(x, y)
    session.unwatch(watcher)
    assert bits(model) == before
    assert session.iteration == 0
    other = classifier(clip_grad_by_norm=1.0).initialized()
    assert model.train_step(x, y) == other.train_step(x, y)
    assert bits(model) == bits(other)


def test_every_call_before_initialize_says_so() -> None:
    model = classifier().model()
    x, y = clusters(8)
    for call in (
        lambda: model.train_step(x, y),
        lambda: model.compute_gradients(x, y),
        lambda: model.train((x, y)),
        lambda: model.predict(x),
        lambda: model.evaluate((x, y)),
        lambda: model.weights(),
        lambda: model.set_weights({}),
        lambda: model.plan,
    ):
        with pytest.raises(NotInitializedError, match="initialize") as caught:
            call()
        assert isinstance(caught.value, RuntimeError)


def test_every_change_after_initialize_is_refused() -> None:
    model = classifier().initialized()
    x, y = clusters(8)
    for call in (
        lambda: model.add_layer("mse", name="other"),
        lambda: model.add_checkpoint_block(["fc1", "act1"]),
        lambda: model.set_property(batch_size=9),
        lambda: model.set_property(["micro_batches=2", "epochs=5"]),
        lambda: model.set_property(clip_grad_by_norm=1.0),
        lambda: model.set_property(memory_optimization=False),
        lambda: model.set_optimizer("adam"),
        lambda: model.initialize(),
    ):
        with pytest.raises(AfterInitializationError, match="new Model"):
            call()
    assert model.get_property("epochs") == 1
    model.set_property(batch_size=8, epochs=2)  # 8 as before
    assert len(model.train((x, y)).epochs) == 2
    assert model.train_step(x, y) > 0


@pytest.mark.parametrize("epochs", [0, -1, 1.5, "three", True])
def test_impossible_epochs(epochs: Any) -> None:
    model = classifier().initialized()
    with pytest.raises(InvalidParameterError, match="epochs"):
        model.train(clusters(8), epochs=epochs)


@pytest.mark.parametrize("data", [None, 3, (GOOD_X,), (GOOD_X, GOOD_Y, 1), GOOD_X])
def test_data_that_is_no_pair(data: Any) -> None:
    model = classifier().initialized()
    with pytest.raises(InvalidParameterError, match=r"\(x, y\)"):
        model.train(data)
    with pytest.raises(InvalidParameterError, match=r"\(x, y\)"):
        model.evaluate(data)


@pytest.mark.parametrize("seed", [-1, 2**64, 2**200, 1.5, "a", None, True])
def test_an_impossible_seed_is_refused(seed: Any) -> None:
    model = classifier().model()
    model.seed = seed
    with pytest.raises(InvalidParameterError, match="seed"):
        model.initialize()
    model.seed = 5
    model.initialize()


@pytest.mark.parametrize(
    "seed", [0, 2**40, 2**63, 2**64 - 1, np.int64(3), np.uint64(2**64 - 1)]
)
def test_every_possible_seed_works(seed: int) -> None:
    model = classifier().model()
    model.seed = seed
    model.initialize()
    assert model.train(clusters(9)).n_iterations == 2


def test_large_seeds_next_to_each_other_shuffle_differently() -> None:
    def trained(seed: int) -> dict[str, bytes]:
        model = classifier().model()
        model.seed = seed
        model.initialize()
        model.set_weights(weights)
        model.train(clusters(40))
        return bits(model)

    weights = classifier().initialized().weights()
    assert trained(2**63 + 2) != trained(2**63 + 4)


MEMORY_SCRIPT = """
import psutil
from helpers.strategies import chain

spec = chain(2048, width=2048, batch_size=8)
process = psutil.Process()
spec.initialized()  # what is loaded once, is
before = process.memory_info().rss
model = spec.initialized()
model.train_step(*spec.batch(8))
held = process.memory_info().rss - before
del model  # no circle that would wait for the garbage collector
print(held, process.memory_info().rss - before)
"""


def test_memory_comes_back_with_the_model() -> None:
    """In a process of its own: what others freed before would hide what this takes."""
    run = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=True,
    )
    held, left = map(int, run.stdout.split())
    assert held > 2**24
    assert left < held / 4


def test_more_micro_batches_than_samples() -> None:
    model = classifier(micro_batches=9).model()
    with pytest.raises(InvalidParameterError, match=r"micro_batches=9.*batch_size=8"):
        model.initialize()


HUGE = 2**40


@pytest.mark.parametrize(
    "spec",
    [
        chain(HUGE),
        chain(HUGE, "relu", HUGE),
        chain(4, width=HUGE),
        chain(4, width=HUGE, batch_size=HUGE),
        chain(HUGE, HUGE, HUGE, width=HUGE, batch_size=HUGE),
        chain(4, batch_size=HUGE),
        chain(4, batch_size=HUGE, memory_optimization=False),
        chain(100, 100, batch_size=2**36, blocks=(("fc1", "fc2"),)),
    ],
    ids=range(8),
)
def test_huge_sizes_are_refused_before_anything_is_allocated(spec: ModelSpec) -> None:
    model = spec.model()
    for debug in (False, True):
        with pytest.raises(ArenaTooLargeError) as caught:
            model.initialize(debug=debug)
        assert caught.value.arena_bytes > 2**40
        assert "GiB" in str(caught.value)
        assert isinstance(caught.value, MemoryError)


def test_sizes_beyond_any_number_are_refused_by_name() -> None:
    model = Model()
    for values in ({"unit": 2**41}, {"unit": 0}, {"unit": -3}, {"unit": "1e3"}):
        with pytest.raises(InvalidParameterError, match="unit"):
            model.add_layer("fully_connected", name="fc", **values)
    for batch_size in (0, -1, 2**41, 2.5, True, "many"):
        with pytest.raises(InvalidParameterError, match="batch_size"):
            model.set_property(batch_size=batch_size)


# -- what two threads, wild rates and many sizes must not break ------------------------


def test_a_model_in_use_by_one_thread_is_refused_to_another() -> None:
    model = classifier().initialized()
    data, caught = clusters(16), []

    def intrude() -> None:
        for call in (model.weights, lambda: model.predict(data[0])):
            with pytest.raises(StateError, match="another thread") as error:
                call()
            caught.append(error)

    def on_epoch(record: object) -> None:
        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()

    model.train(data, epochs=1, on_epoch=on_epoch)

    assert len(caught) == 2
    assert model.predict(data[0]).shape == (16, 1, 1, N_CLASSES)


@pytest.mark.parametrize("debug", [False, True])
def test_a_learning_rate_beyond_float32_stops_before_the_step(debug: bool) -> None:
    model = classifier().model()
    model.initialize(debug=debug)
    model.set_learning_rate_scheduler(
        create_schedule(
            "exponential", learning_rate=1.0, decay_rate=1e300, decay_steps=1
        )
    )
    x, y = clusters(8)
    model.train_step(x, y)
    before = bits(model)

    with pytest.raises(NonFiniteError, match="learning rate is 1e\\+300"):
        model.train_step(x, y)

    assert bits(model) == before
    assert np.isfinite(model.predict(x)).all()


def test_weights_that_broke_earlier_are_named() -> None:
    model = classifier().initialized()
    x, y = clusters(8)
    session: Any = model._session
    session.views.named("fc1:weight").fill(np.nan)

    with pytest.raises(NonFiniteError, match=r"earlier one has left NaN.*fc1:weight"):
        model.train_step(x, y)


def test_labels_of_a_cross_entropy_are_probabilities() -> None:
    model = classifier().initialized()
    x, y = clusters(8)
    rows = np.eye(N_CLASSES, dtype=np.float32)[y]
    rows[3, 1] = 7

    for call in (model.train_step, lambda x, y: model.train((x, y))):
        with pytest.raises(LabelRangeError, match=r"y\[3, 1\] is 7") as caught:
            call(x, rows)
        assert caught.value.index == (3, 1)


def test_iterations_are_counted_by_their_last_update() -> None:
    for properties in ({}, {"micro_batches": 2}, {"clip_grad_by_norm": 1.0}):
        model = classifier(**properties).initialized()
        session: Any = model._session
        x, y = clusters(8)
        for n in range(3):
            assert session.iteration == n
            model.compute_gradients(x, y)
            model.evaluate((x, y))
            assert session.iteration == n
            model.train_step(x, y)


@pytest.mark.parametrize("blocks", [(), (("first", "drop"),)])
def test_an_iteration_is_counted_when_all_of_its_masks_are_drawn(
    blocks: tuple[tuple[str, ...], ...],
) -> None:
    """`last` is updated before `drop` goes backward, with the masks of its forward."""
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 4)}),
        ("fully_connected", {"name": "first", "unit": 64}),
        ("dropout", {"name": "drop", "dropout_rate": 0.5}),
        ("fully_connected", {"name": "last", "unit": 2}),
        ("mse", {"name": "loss"}),
    )
    model = ModelSpec(layers, blocks, {"batch_size": 3}).model()
    model.set_optimizer("sgd", learning_rate=1.0)
    model.initialize()
    x, y = normal(np.random.default_rng(0), 3, 4), np.zeros((3, 2))
    for _ in range(2):
        before = model.weights()
        _, gradients = model.compute_gradients(x, y)
        model.train_step(x, y)
        for name, weight in model.weights().items():
            moved = before[name] - weight
            np.testing.assert_allclose(moved, gradients[name], rtol=1e-4, atol=1e-6)


def test_the_penalty_of_a_frozen_layer_does_not_count() -> None:
    """Nothing could make it smaller."""
    penalty = {"weight_regularizer": "l2norm", "weight_regularizer_constant": 0.5}
    losses = {}
    for trainable in (True, False):
        for values in ({}, penalty):
            layers = (
                ("input", {"name": "in", "input_shape": (1, 1, 3)}),
                (
                    "fully_connected",
                    {"name": "fc", "unit": 2, "trainable": trainable, **values},
                ),
                ("fully_connected", {"name": "out", "unit": 2}),
                ("mse", {"name": "loss"}),
            )
            model = ModelSpec(layers, (), {"batch_size": 2}).initialized()
            losses[trainable, bool(values)] = model.evaluate(
                (np.ones((2, 3)), np.zeros((2, 2)))
            ).loss
            square = np.square(model.weights()["fc:weight"], dtype=float).sum()
    assert losses[False, True] == losses[False, False]
    more = losses[True, True] - losses[True, False]
    assert more == pytest.approx(0.5 / 2 * square, rel=1e-5)


def test_programs_for_many_sizes_are_not_kept_for_ever() -> None:
    model = classifier(batch_size=64).initialized()
    x, y = clusters(64)
    for n in range(1, 65):
        model.train_step(x[:n], y[:n])
    session: Any = model._session

    assert len(session._passes) <= MOST_PASSES + 1
    assert (Mode.TRAIN, 64, False, False) in session._passes


def test_a_model_can_be_copied_until_it_is_initialized() -> None:
    model = classifier().model()
    twin = pickle.loads(pickle.dumps(model))
    deep = copy.deepcopy(model)
    x, y = clusters(8)

    losses = []
    for one in (model, twin, deep):
        one.initialize()
        losses.append(one.train_step(x, y))

    assert losses[0] == losses[1] == losses[2]
    with pytest.raises(StateError, match="cannot be copied or pickled"):
        copy.copy(model)
