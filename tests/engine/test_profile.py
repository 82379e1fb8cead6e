"""Profiles: every kernel call is timed, sums add up, and the model stays as it is."""

from __future__ import annotations

import functools
import html.parser
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arena_ckpt import MemoryPlan, Model, Profile, export_plan
from arena_ckpt.common.phases import Phase
from arena_ckpt.data.dataset import Dataset
from arena_ckpt.engine import call_timing, profiling
from arena_ckpt.engine.machine_speed import measure_machine
from arena_ckpt.engine.profile import ALL_LAYERS, OUTSIDE, VIEWS, MachineSpeed
from arena_ckpt.errors import (
    ArenaTooLargeError,
    DataShapeError,
    InvalidParameterError,
    PlanMismatchError,
)
from arena_ckpt.lowering.call_costs import call_costs
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.optim.optimizers import OPTIMIZER_SCHEMAS, create_optimizer

SPEED = MachineSpeed(1, 1e11, 1e10)
GENERATOR = np.random.default_rng(5)
X = GENERATOR.standard_normal((5, 6)).astype(np.float32)
Y = {
    "digit": GENERATOR.integers(0, 3, 5),
    "angle": GENERATOR.standard_normal((5, 2)).astype(np.float32),
}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def speed(threads: int) -> MachineSpeed:
        return replace(SPEED, threads=threads)

    monkeypatch.setattr(profiling, "measure_machine", speed)


def heads(*, blocks: bool = False, **properties: object) -> Model:
    """Return a body that a classifier and a regression read."""
    model = Model(seed=1)
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="body", unit=8)
    model.add_layer("activation", name="inner", activation="tanh")
    model.add_layer("fully_connected", name="more", unit=8)
    model.add_layer("activation", name="act", activation="tanh")
    model.add_layer("fully_connected", name="classes", unit=3)
    model.add_layer("cross_softmax", name="digit")
    model.add_layer("fully_connected", name="values", unit=2, input_layers="act")
    model.add_layer("mse", name="angle")
    if blocks:
        model.add_checkpoint_block(["body", "inner", "more", "act"])
    model.set_property(**{"batch_size": 8, **properties})
    model.set_optimizer("sgd", learning_rate=0.1)
    return model


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "blocks": {"blocks": True},
    "micro-batches": {"blocks": True, "micro_batches": 3, "clip_grad_by_norm": 1.0},
}


@functools.cache
def profiled(case: str) -> tuple[MemoryPlan, Profile]:
    model = heads(**CASES[case])
    return (plan := model.make_plan()), model.profile(plan=plan, rounds=2)


@functools.cache
def predicted() -> tuple[MemoryPlan, Profile]:
    model = heads()
    plan = model.make_plan(mode="inference")
    return plan, model.profile(plan=plan, rounds=2)


# -- what is in it ---------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_every_call_of_the_plan_is_in_it_once(case: str) -> None:
    plan, profile = profiled(case)
    calls = heads(**CASES[case]).kernel_calls(plan)
    executions = {execution.step: execution for execution in plan.executions}

    assert [(c.step, c.kernel) for c in profile.calls] == [
        (call.step, str(call.kernel)) for call in calls
    ]
    assert [c.phase for c in profile.calls] == [executions[c.step].phase for c in calls]
    for call in profile.calls:
        is_global = call.phase is Phase.CLIP_GRADIENTS
        assert call.layer == (None if is_global else executions[call.step].layer)
        is_of_pass = call.step < plan.n_pass
        assert call.runs == (plan.micro_batches if is_of_pass else 1)
    assert profile.rounds == 2


def test_a_prediction_has_its_forward_calls() -> None:
    plan, profile = predicted()
    calls = heads().kernel_calls(plan)

    assert [(c.step, c.kernel) for c in profile.calls] == [
        (call.step, str(call.kernel)) for call in calls
    ]
    assert {call.phase for call in profile.calls} == {Phase.FORWARD}
    assert "whole prediction" in profile.table()


@pytest.mark.parametrize("case", CASES)
def test_all_views_add_up_to_the_whole(case: str) -> None:
    _, profile = profiled(case)

    assert profile.seconds == profile.kernel_seconds + profile.outside_seconds
    assert profile.outside_seconds > 0
    assert min(call.seconds for call in profile.calls) >= 0
    for view in VIEWS:
        groups = profile.by(view)
        assert sum(g.seconds for g in groups) == pytest.approx(profile.kernel_seconds)
        share = profile.outside_seconds / profile.seconds
        assert sum(g.share for g in groups) + share == pytest.approx(1)
        for total in ("runs", "n_flops", "n_bytes"):
            of_calls = sum(getattr(call, total) for call in profile.calls)
            assert sum(getattr(group, total) for group in groups) == of_calls > 0
        seconds = [group.seconds for group in groups]
        assert seconds == sorted(seconds, reverse=True)
        assert len({group.name for group in groups}) == len(groups)
        assert all(0 <= group.machine_share <= 1 for group in groups)
    assert profile.by_layer() == profile.by("layer")
    assert (profile.by_phase(), profile.by_kernel()) == (
        profile.by("phase"),
        profile.by("kernel"),
    )
    assert sum(profile.step_seconds) == pytest.approx(profile.kernel_seconds)


def test_clipping_belongs_to_all_layers() -> None:
    _, profile = profiled("micro-batches")
    assert ALL_LAYERS in [group.name for group in profile.by_layer()]
    assert "clip_gradients" in [group.name for group in profile.by_phase()]


def test_recomputing_costs_where_there_are_blocks() -> None:
    _, plain = profiled("plain")
    _, blocks = profiled("blocks")

    assert plain.recompute_seconds == plain.recompute_share == 0
    assert plain.sentences()[-1] == "Nothing is recomputed."
    assert 0 < blocks.recompute_share < 1
    share = blocks.recompute_seconds / blocks.seconds
    assert blocks.recompute_share == pytest.approx(share)
    said = f"{100 * share:.1f} % of the step."
    assert blocks.sentences()[-1].startswith("Recomputing takes 0.")
    assert blocks.sentences()[-1].endswith(said)


def test_steps_without_a_call_take_no_time() -> None:
    plan, profile = profiled("plain")
    called = {call.step for call in profile.calls}
    silent = [step for step in range(len(plan.steps)) if step not in called]

    assert silent
    assert all(profile.step_seconds[step] == 0 for step in silent)
    assert len(profile.step_seconds) == len(plan.steps)


# -- operations and bytes --------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_operations_are_those_of_the_summary(case: str) -> None:
    model, (_, profile) = heads(**CASES[case]), profiled(case)
    summary, again = model.summary(), 0
    if case != "plain":
        again = sum(row.forward_flops for row in summary.layers[1:3]) * 8

    assert sum(c.n_flops for c in profile.calls) == summary.training_flops + again
    products = {
        call.step: call.n_flops
        for call in profile.calls
        if call.kernel == "blas.matmul" and call.phase is Phase.FORWARD
    }
    assert [*products.values()] == [2 * 8 * n for n in (6 * 8, 8 * 8, 8 * 3, 8 * 2)]


def test_bytes_are_read_and_written() -> None:
    plan, profile = profiled("plain")
    found = {(c.layer, c.phase, c.kernel): c.n_bytes for c in profile.calls}

    product = "body", Phase.FORWARD, "blas.matmul"
    assert found[product] == 4 * (8 * 6 + 6 * 8 + 8 * 8)
    updates = [
        call.n_bytes
        for call in profile.calls
        if call.layer == "values" and call.phase is Phase.APPLY_GRADIENT
    ]
    # A weight is read and written, and its gradient read; the rest are numbers.
    assert updates[0] - 3 * 4 * 8 * 2 == updates[1] - 3 * 4 * 2 < 100
    costs = call_costs(plan, heads().kernel_calls(plan), plan.pass_samples)
    assert [cost.n_bytes for cost in costs] == [c.n_bytes for c in profile.calls]


def test_rates_are_operations_and_bytes_by_time() -> None:
    _, profile = profiled("blocks")
    (group,) = (g for g in profile.by_kernel() if g.name == "blas.matmul")

    assert group.flops_per_second == pytest.approx(group.n_flops / group.seconds)
    assert group.bytes_per_second == pytest.approx(group.n_bytes / group.seconds)
    assert SPEED.least_seconds(10**11, 1) == SPEED.least_seconds(1, 10**10) == 1
    for call in profile.calls:
        least = SPEED.least_seconds(call.n_flops, call.n_bytes)
        assert call.least_seconds == min(call.seconds, least)


def test_the_machine_is_measured() -> None:
    for threads in (1, 2):
        speed = measure_machine(threads)
        assert speed.threads == threads
        assert 1e8 < speed.flops_per_second < 1e14
        assert 1e7 < speed.bytes_per_second < 1e13


def test_threads_of_the_model_are_named_beside_one() -> None:
    profile = heads(threads=2).profile(rounds=1)
    assert (profile.machine.threads, profile.machine_one_thread.threads) == (2, 1)
    assert "with 2 threads, and 100 GFLOP/s" in profile.sentences()[0]


# -- nothing else changes --------------------------------------------------------------


def test_a_model_stays_as_it_was() -> None:
    model, twin = heads(blocks=True), heads(blocks=True)
    model.profile(rounds=1)
    assert not model.is_initialized

    batch = X, {name: array[:5] for name, array in Y.items()}
    for one in (model, twin):
        one.initialize()
        one.train_step(*batch)
    before = {name: array.tobytes() for name, array in model.weights().items()}
    profile = model.profile(batch, rounds=1)
    after = {name: array.tobytes() for name, array in model.weights().items()}

    assert before == after
    assert profile.recompute_seconds > 0
    assert model.train_step(*batch) == twin.train_step(*batch)
    assert [array.tobytes() for array in model.weights().values()] == [
        array.tobytes() for array in twin.weights().values()
    ]


def test_every_iteration_does_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []

    class Watched(call_timing.TimedSession):
        def run_timed(self, work: Any) -> None:
            super().run_timed(work)
            weights.append({name: w.tobytes() for name, w in self.weights().items()})

    monkeypatch.setattr(call_timing, "TimedSession", Watched)
    heads().profile(rounds=2)
    assert len(weights) == 3  # one of them is not counted
    assert weights[0] == weights[1] == weights[2]


@pytest.mark.parametrize("threads", [1, 2])
def test_timed_calls_are_run(threads: int) -> None:
    """A timed iteration computes what one without a clock does."""
    model = heads(blocks=True, threads=threads)
    plan = model.make_plan()
    graph, optimizer = ModelPlans(model).graph_of(plan), model.optimizer
    timed, plain = (
        call_timing.TimedSession(graph, plan, optimizer, None, seed=1) for _ in range(2)
    )
    timed.run_timed(lambda: timed.train_step(X, Y))
    plain.train_step(X, Y)
    for name, weight in timed.weights().items():
        assert (weight == plain.weights()[name]).all(), name
    ((seconds, runs),) = timed.last_times().values()
    assert (runs == 1).all()
    assert (seconds >= 0).all()
    assert seconds.sum() > 0


def test_optimizers_take_a_learning_rate_of_0() -> None:
    for name in OPTIMIZER_SCHEMAS:
        hyper = create_optimizer(name).hyperparameters(3, 0.0)
        assert np.isfinite(hyper).all(), name


def test_a_loss_that_is_nan_is_timed_too() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("sqrt", name="root")
    model.add_layer("fully_connected", name="fc", unit=2)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=4)
    assert model.profile(rounds=1).kernel_seconds > 0


@pytest.mark.parametrize("mode", ["train", "inference"])
def test_given_samples_are_run(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    load = call_timing.Pass.load

    def watched(one: Any, samples: Any, rows: Any, start: int) -> None:
        load(one, samples, rows, start)
        seen.append(one._inputs[0].copy())

    monkeypatch.setattr(call_timing.Pass, "load", watched)
    model = heads()
    data = X, (Y if mode == "train" else None)
    model.profile(data, plan=model.make_plan(mode=mode), rounds=1)
    expected = X[[0, 1, 2, 3, 4, 0, 1, 2]]  # the first ones fill up the batch
    assert seen
    assert all((batch == expected).all() for batch in seen)


# -- as text, data and a trace ---------------------------------------------------------


def test_tables_are_narrow_and_end_with_the_whole() -> None:
    _, profile = profiled("micro-batches")
    for view in VIEWS:
        lines = profile.table(view, 2).splitlines()
        assert max(map(len, lines)) <= 80
        assert lines[0].split()[0] == view
        n_more = len(profile.by(view)) - 2
        assert lines[4].startswith(f"{n_more} more ")
        assert lines[5].startswith(OUTSIDE)
        assert lines[-1].startswith("whole step")
        assert "100.0 %" in lines[-1]
        columns, rows = profile.cells(view, 2)
        assert [len(row) for row in rows] == [len(columns)] * 5
        runs = sum(call.runs for call in profile.calls)
        assert sum(int(row[1]) for row in rows[:3]) == int(rows[4][1]) == runs
    assert profile.table("phase", 0).splitlines()[2].startswith("all phases")
    assert str(profile).startswith(profile.table())
    assert str(profile).endswith(profile.sentences()[-1])


def test_sentences_name_what_takes_the_most() -> None:
    _, profile = profiled("plain")
    slowest = profile.by_kernel()[0]
    assert f"{slowest.name} takes the most of the step: " in profile.sentences()[1]
    assert f"{100 * slowest.share:.1f} %" in profile.sentences()[1]
    assert "takes the most of the prediction" in predicted()[1].sentences()[1]


def test_a_notebook_shows_the_table() -> None:
    text = profiled("blocks")[1]._repr_html_()
    html.parser.HTMLParser().feed(text)
    assert "outside kernels" in text
    assert "Recomputing takes" in text


def test_json_holds_it_all_and_the_page_names_its_fields() -> None:
    _, profile = profiled("micro-batches")
    document = profile.to_dict()

    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert len(document["calls"]) == len(profile.calls)
    assert document["seconds"] == profile.seconds
    assert document["recompute_share"] == profile.recompute_share
    page = Path(__file__).parents[2].joinpath("docs/profile.md").read_text("utf-8")
    keys = {*document, *document["machine"]}
    for group in ("layers", "phases", "kernels", "calls"):
        keys |= {*document[group][0]}
    assert not [key for key in keys if f"`{key}`" not in page]


def test_a_trace_has_the_kernels_within_their_steps() -> None:
    plan, profile = profiled("blocks")
    trace = json.loads(export_plan(plan, "chrome-trace", timed_calls=profile.calls))
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    kernels = [event for event in slices if event["cat"] == "kernel"]
    layers = {e["args"]["step"]: e for e in slices if "layer" in e.get("args", {})}

    assert [event["name"] for event in kernels] == [c.kernel for c in profile.calls]
    end = 0.0
    for event in kernels:
        step = layers[event["args"]["step"]]
        assert event["ts"] >= max(step["ts"], end) - 1e-6
        end = event["ts"] + event["dur"]
        assert end <= step["ts"] + step["dur"] + 1e-6
    names = Counter(
        e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"
    )
    assert names == {"phases": 1, "layers": 1, "kernels": 1}
    assert trace["otherData"]["time"] == "measured"
    total = sum(event["dur"] for event in kernels) / 1e6
    assert total == pytest.approx(profile.kernel_seconds, rel=0.05)


def test_a_trace_of_other_calls_is_refused() -> None:
    plan, profile = profiled("plain")
    calls = profile.calls
    with pytest.raises(InvalidParameterError, match="shows no durations"):
        export_plan(plan, "csv", timed_calls=calls)
    for wrong in (
        [replace(calls[0], step=len(plan.steps))],
        [calls[-1], calls[0]],
        [replace(calls[0], step=-1)],
    ):
        with pytest.raises(InvalidParameterError, match="give the calls of a profile"):
            export_plan(plan, "chrome-trace", timed_calls=wrong)
    endless = [replace(calls[0], seconds=float("nan"))]
    with pytest.raises(InvalidParameterError, match="finite and at least 0"):
        export_plan(plan, "chrome-trace", timed_calls=endless)


# -- what cannot be --------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [0, -1, 1.5, "3", True])
def test_rounds_are_whole_numbers(rounds: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"rounds=.*at least 1"):
        heads().profile(rounds=rounds)


def test_views_and_rows_are_checked() -> None:
    _, profile = profiled("plain")
    for view in ("layers", 3, None):
        with pytest.raises(InvalidParameterError, match=r"by=.*'layer'"):
            profile.table(view)  # type: ignore[arg-type]
    for top in (-1, 1.5, "all"):
        with pytest.raises(InvalidParameterError, match=r"top=.*at least 0"):
            profile.table("layer", top)  # type: ignore[arg-type]


def test_plans_of_other_models_are_refused() -> None:
    plan = heads(batch_size=3).make_plan()
    with pytest.raises(PlanMismatchError):
        heads().profile(plan=plan)


def test_an_arena_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arena_ckpt.engine.arena.available_bytes", lambda: 100)
    with pytest.raises(ArenaTooLargeError, match="profiling needs"):
        heads().profile()


def test_samples_that_do_not_fit_are_refused() -> None:
    data = Dataset("wide ones", np.zeros((4, 7), np.float32), None)
    model = heads()
    with pytest.raises(DataShapeError, match="wide ones"):
        model.profile(data, plan=model.make_plan(mode="inference"), rounds=1)
