"""Batch normalization over one value a channel is refused before any weight moves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.strategies import normal

import arena_ckpt as ac
from arena_ckpt.cli import main
from arena_ckpt.errors import (
    BatchStatisticsError,
    BudgetError,
    EmptyDataError,
    SavedStateMismatchError,
)
from arena_ckpt.planning.batch_statistics import ends_in_one

WAYS = ("recompute", "in_place", "layerwise_update", "micro_batch")


def dense_net(batch_size: int = 4, *, frozen: bool = False, **values: Any) -> ac.Model:
    """Batch normalization behind a dense layer: one value a channel of a sample."""
    model = ac.Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("fully_connected", name="fc", unit=8)
    model.add_layer("batch_normalization", name="bn", trainable=not frozen)
    model.add_layer("activation", name="act", activation="relu")
    model.add_layer("fully_connected", name="out", unit=1)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=batch_size, **values)
    model.set_optimizer("adam", learning_rate=0.01)
    return model


def picture_net(batch_size: int, **values: Any) -> ac.Model:
    """Batch normalization of channels of 2 × 2: four values of each in a sample."""
    model = ac.Model(seed=0)
    model.add_layer("input", name="in", input_shape="3:2:2")
    model.add_layer("batch_normalization", name="bn")
    model.add_layer("flatten", name="flat")
    model.add_layer("fully_connected", name="out", unit=1)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=batch_size, **values)
    return model


def samples(n: int) -> tuple[np.ndarray, np.ndarray]:
    x = normal(np.random.default_rng(0), n, 4)
    return x, x.sum(axis=1, keepdims=True)


def bits(model: ac.Model) -> dict[str, bytes]:
    return {name: weight.tobytes() for name, weight in model.weights().items()}


# -- at the plan -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "micro_batches", "passes"),
    [
        (1, 1, "with batch_size=1 a pass has one sample"),
        (4, 4, "passes of 1, 1, 1 and 1 samples"),
        (10, 4, "passes of 3, 3, 3 and 1 samples"),
        (32, 32, "passes of 1, 1, 1, … and 1 samples"),
    ],
)
def test_a_pass_of_one_sample_is_refused_by_every_plan(
    batch_size: int, micro_batches: int, passes: str
) -> None:
    for ask in (
        lambda model: model.make_plan(),
        lambda model: model.initialize(),
        lambda model: model.pareto(),
        lambda model: model.choose_plan(max_overhead=1.0),
        lambda model: ac.verify(model),
    ):
        model = dense_net(batch_size, micro_batches=micro_batches)
        with pytest.raises(BatchStatisticsError, match=re.escape(passes)) as caught:
            ask(model)
        error = caught.value
        facts = (error.layer, error.values_per_channel, error.n_samples)
        assert facts == ("bn", 1, batch_size)
        assert (error.batch_size, error.micro_batches) == (batch_size, micro_batches)
        assert "trainable=false" in str(error)
        assert not model.is_initialized


def test_what_is_refused_is_what_makes_a_pass_of_one_sample() -> None:
    for n_samples in range(1, 40):
        for pass_samples in range(1, 40):
            sizes = [
                min(pass_samples, n_samples - start)
                for start in range(0, n_samples, pass_samples)
            ]
            assert ends_in_one(n_samples, pass_samples) == (1 in sizes)


def test_a_plan_for_passes_of_one_sample_is_refused_where_it_is_given() -> None:
    plan = dense_net(4, micro_batches=4, frozen=True).make_plan()
    assert plan.pass_samples == 1
    with pytest.raises(ac.InvalidParameterError):
        dense_net(4).initialize(plan=plan)


def test_several_values_a_channel_are_enough() -> None:
    model = picture_net(1)
    model.initialize()
    before = bits(model)
    model.train((normal(np.random.default_rng(0), 3, 12), np.ones((3, 1))))
    assert bits(model) != before
    picture_net(4, micro_batches=4).make_plan()


def test_two_samples_a_pass_are_enough_and_every_weight_moves() -> None:
    model = dense_net(4, micro_batches=2)
    model.initialize()
    before = model.weights()
    x, y = samples(4)
    model.train((x, y), epochs=3)
    for name, weight in model.weights().items():
        if name != "fc:bias":  # the mean takes it away
            assert (weight != before[name]).any(), name


# -- at the training -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "batch_size", "micro_batches", "left"),
    [(9, 4, 1, 1), (1, 4, 1, 1), (11, 4, 2, 3), (5, 4, 2, 1)],
)
def test_a_last_batch_of_one_value_is_refused_before_the_first_step(
    n: int, batch_size: int, micro_batches: int, left: int, tmp_path: Path
) -> None:
    model = dense_net(batch_size, micro_batches=micro_batches)
    model.initialize()
    before = bits(model)
    folder = tmp_path / "run"
    with pytest.raises(BatchStatisticsError, match="No weight was changed") as caught:
        model.train(samples(n), checkpoint=folder)
    assert (caught.value.n_samples, caught.value.layer) == (left, "bn")
    assert (f"leaves the last {left} of an epoch out" in str(caught.value)) == (n > 4)
    assert bits(model) == before
    assert not folder.exists()
    # Predictions and evaluations take the moving statistics.
    assert model.predict(samples(1)[0]).shape == (1, 1, 1, 1)
    assert model.evaluate(samples(n)).n_samples == n


@pytest.mark.parametrize(("n", "micro_batches"), [(1, 1), (3, 2), (1, 2)])
def test_a_step_on_such_a_batch_is_refused(n: int, micro_batches: int) -> None:
    model = dense_net(4, micro_batches=micro_batches)
    model.initialize()
    before = bits(model)
    for call in (model.train_step, model.compute_gradients):
        with pytest.raises(BatchStatisticsError, match="a pass of one sample"):
            call(*samples(n))
    assert bits(model) == before
    assert np.isfinite(model.train_step(*samples(2)))


# -- drop_last -------------------------------------------------------------------------


def test_drop_last_trains_on_whole_batches_alone() -> None:
    model, by_hand = dense_net(4, drop_last=True), dense_net(4)
    x, y = samples(9)
    losses = []
    for one in (model, by_hand):
        one.initialize()
    history = model.train((x, y), epochs=2, shuffle=False)
    for _ in range(2):
        losses.append([by_hand.train_step(x[i : i + 4], y[i : i + 4]) for i in (0, 4)])
    assert bits(model) == bits(by_hand)
    assert history.n_iterations == 4
    for record, of in zip(history.epochs, losses, strict=True):
        assert record.loss == pytest.approx(np.mean(of), rel=1e-12)


def test_drop_last_leaves_other_samples_out_in_each_shuffled_epoch() -> None:
    model = dense_net(4, drop_last=True, frozen=True)
    model.set_optimizer("sgd", learning_rate=1e-30)  # losses tell who was there
    model.initialize()
    x, y = samples(5)
    model.set_weights({"bn:moving_variance": np.full(8, 1.0)})
    each = [model.evaluate((x[i : i + 1], y[i : i + 1])).loss for i in range(5)]
    history = model.train((x, y), epochs=12)
    left_out = {
        int(np.argmin([abs((sum(each) - e) / 4 - r.loss) for e in each]))
        for r in history.epochs
    }
    assert len(left_out) > 2


def test_drop_last_counts_the_rows_that_were_trained_on() -> None:
    model = ac.Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:2:3")
    model.add_layer("fully_connected", name="fc", unit=3)
    model.add_layer("cross_softmax", name="loss", per_token=True)
    model.set_property(batch_size=2, drop_last=True)
    model.set_optimizer("sgd", learning_rate=1e-30)
    model.initialize()
    x = normal(np.random.default_rng(0), 5, 6)
    y = np.array([[0, -100], [1, 2], [-100, -100], [2, 2], [1, 0]])
    record = model.train((x, y), shuffle=False).epochs[0]
    assert record.loss == pytest.approx(model.evaluate((x[:4], y[:4])).loss, rel=1e-6)


def test_drop_last_of_fewer_samples_than_a_batch_says_so() -> None:
    model = dense_net(4, drop_last=True)
    model.initialize()
    with pytest.raises(EmptyDataError, match="leaves out all 3 samples"):
        model.train(samples(3))
    with pytest.raises(EmptyDataError, match="make batch_size smaller"):
        model.train(samples(1))


def test_drop_last_resumes_to_the_bits_of_a_whole_run(tmp_path: Path) -> None:
    data = samples(11)
    whole, first, second = (dense_net(4, drop_last=True) for _ in range(3))
    for model in (whole, first, second):
        model.initialize()
    expected = whole.train(data, epochs=4)
    first.train(data, epochs=4, checkpoint=tmp_path, on_epoch=lambda r: r.epoch == 2)
    # It was stopped; a run that was cut short has the same states but for that.
    history = second.train(data, epochs=4, checkpoint=tmp_path, resume=True)
    assert history.n_iterations == 4
    cut = dense_net(4, drop_last=True)
    cut.initialize()
    folder = tmp_path / "cut"
    cut.train(data, epochs=2, checkpoint=folder, every=3)
    again = dense_net(4, drop_last=True)
    again.initialize()
    history = again.train(data, epochs=4, checkpoint=folder, every=3, resume=True)
    assert bits(again) == bits(whole)
    assert [r.loss for r in history.epochs] == [r.loss for r in expected.epochs]
    assert (history.n_iterations, history.n_resumed) == (8, 4)


def test_a_run_is_not_resumed_with_another_drop_last(tmp_path: Path) -> None:
    data = samples(10)
    for given, other in ((False, True), (True, False)):
        folder = tmp_path / str(given)
        model = dense_net(4, drop_last=given)
        model.initialize()
        model.train(data, checkpoint=folder)
        changed = dense_net(4, drop_last=other)
        changed.initialize()
        with pytest.raises(SavedStateMismatchError, match="drop_last"):
            changed.train(data, epochs=2, checkpoint=folder, resume=True)
    unset = dense_net(4)
    unset.initialize()
    unset.train(data, epochs=2, checkpoint=tmp_path / "False", resume=True)


def test_a_callback_changes_drop_last_for_later_trainings_only(tmp_path: Path) -> None:
    data = samples(10)
    model = dense_net(4)
    model.initialize()

    def change(record: Any) -> None:
        model.set_property(drop_last=True)

    history = model.train(data, epochs=2, on_epoch=change, checkpoint=tmp_path)
    assert history.n_iterations == 6
    again = dense_net(4)
    again.initialize()
    again.train(data, epochs=3, checkpoint=tmp_path, resume=True)
    assert model.train(data).n_iterations == 2


def test_drop_last_is_kept_by_ini_and_saved_models(tmp_path: Path) -> None:
    model = dense_net(4, drop_last=True)
    model.save_ini(tmp_path / "model.ini")
    assert ac.load_ini(tmp_path / "model.ini").get_property("drop_last") is True
    model.initialize()
    model.save(tmp_path / "model.safetensors")
    loaded = ac.load(tmp_path / "model.safetensors")
    assert loaded.get_property("drop_last") is True
    assert loaded.train(samples(9)).n_iterations == 2


# -- what is chosen and advised --------------------------------------------------------


def test_no_search_splits_a_batch_for_batch_statistics() -> None:
    for point in dense_net(8).pareto(allow=WAYS):
        assert point.plan.micro_batches == 1


@pytest.mark.parametrize("batch_size", [3, 16])
def test_no_advice_leads_to_one_value_a_channel(batch_size: int) -> None:
    def net(size: int) -> ac.Model:
        model = dense_net(size)
        model.set_optimizer("sgd", learning_rate=0.01)
        return model

    def advice(budget: int) -> str:
        with pytest.raises(BudgetError) as caught:
            net(batch_size).choose_plan(budget=budget)
        return str(caught.value)

    too_small = advice(net(2).pareto()[0].arena_bytes - 64)
    assert "Not even two samples fit" in too_small
    assert "and batch normalization needs as many" in too_small
    for size in (2, 8) if batch_size > 8 else ():
        message = advice(net(size).make_plan().arena_bytes)
        found = re.search(r"It would fit with batch_size=(\d+) instead", message)
        assert found is not None
        assert size <= int(found.group(1)) < 16
        assert "micro_batch" not in message


def test_frozen_statistics_do_not_depend_on_the_batch() -> None:
    def net(micro_batches: int = 1) -> ac.Model:
        model = ac.Model(seed=0)
        model.add_layer("input", name="in", input_shape="8:16:16")
        model.add_layer(
            "conv2d",
            name="c",
            filters=8,
            kernel_size="3,3",
            padding="same",
            trainable=False,
        )
        model.add_layer("batch_normalization", name="bn", trainable=False)
        model.add_layer("activation", name="act", activation="relu")
        model.add_layer("pooling2d", name="pool", pooling="global_average")
        model.add_layer("flatten", name="flat")
        model.add_layer("fully_connected", name="out", unit=2)
        model.add_layer("cross_softmax", name="loss")
        model.set_property(batch_size=8, micro_batches=micro_batches)
        return model

    smallest = net().pareto(allow=WAYS)[0]
    assert (smallest.plan.micro_batches, smallest.arena_bytes) == (8, 27_776)
    assert net().choose_plan(budget=27_776, allow=WAYS).arena_bytes == 27_776
    with pytest.raises(BudgetError, match="'micro_batch' in allow"):
        net().choose_plan(budget=60_000)
    x = normal(np.random.default_rng(0), 8, 8 * 16 * 16)
    y = np.arange(8) % 2
    gradients = []
    for micro_batches in (1, 8):
        model = net(micro_batches)
        model.initialize()
        gradients.append(model.compute_gradients(x, y))
    (loss, whole), (split_loss, split) = gradients
    assert split_loss == pytest.approx(loss, rel=1e-7)
    for name, gradient in whole.items():
        assert np.abs(split[name] - gradient).max() <= 1e-7


# -- verify and the command line -------------------------------------------------------


def test_verify_fails_where_the_loss_does_not_depend_on_the_weights() -> None:
    model = ac.Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:4")
    for i in range(3):
        model.add_layer("fully_connected", name=f"fc{i}", unit=8)
    model.add_layer("batch_normalization", name="bn")
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=4)
    x = np.ones((12, 4), np.float32)  # equal samples: every value is the mean
    y = np.zeros((12, 8), np.float32)
    result = ac.verify(model, (x, y), command=("/no/such/program",))
    assert not result.passed
    assert result.verdict == "defect found by 1 check: gradients"
    (finding,) = (c.finding for c in result.checks if c.passed is False)
    assert re.match(r"\d+ of \d+ slopes of the loss are flat", finding)
    assert "fc0:weight" in finding


def test_verify_takes_a_last_batch_that_can_be_trained_on() -> None:
    for batch_size, micro_batches, last in ((2, 1, 2), (3, 1, 2), (4, 2, 2)):
        model = dense_net(batch_size, micro_batches=micro_batches)
        for data in (None, samples(6)):
            result = ac.verify(model, data, command=("/no/such/program",))
            assert result.passed, [c for c in result.checks if c.passed is False]
            assert result.data.endswith(f"the last of {last}")


def test_the_command_line_refuses_with_its_code_and_leaves_samples_out() -> None:
    run = CliRunner().invoke
    refused = run(main, ["train", "autoencoder", "--batch-size", "1"])
    assert refused.exit_code == 2
    assert "layer 'in0_bn' (batch_normalization)" in refused.stderr
    ini = ["train", "digits_cnn", "--epochs", "1", "--quiet", "--batch-size"]
    kept, dropped = (
        run(main, [*ini, "500", *option]) for option in ([], ["--drop-last"])
    )
    assert (kept.exit_code, dropped.exit_code) == (0, 0)
    assert "trained 1 epoch (3 iterations)" in kept.stdout
    assert "trained 1 epoch (2 iterations)" in dropped.stdout


@pytest.mark.parametrize(
    "name", ["autoencoder", "digits_cnn", "resnet8", "resnet18", "mobilenet_v2"]
)
def test_examples_leave_last_batches_that_can_be_trained_on(name: str) -> None:
    example = ac.load_example(name)
    plan = example.model.make_plan()
    assert example.data is not None
    left = len(example.data.y) % plan.batch_size
    assert not left or not ends_in_one(left, plan.pass_samples)
