"""What a step reads without declaring it is found, and named.

Faults as in `test_faulty_programs`: the plan is right, and one step reads what is
foreign to it. `older` is the check that would find it without that of reads; where it
is None none would, because what is read is the same in every plan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from helpers.fault_checks import checks_of
from helpers.plan_faults import APPLY, CLIP, DERIVATIVE, FORWARD, GRADIENT, RECOMPUTE
from helpers.plan_surgery import NETS
from helpers.program_faults import (
    Calls,
    Change,
    Patch,
    Step,
    at,
    first_life,
    floats_at,
    with_argument,
)
from helpers.strategies import chain
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt import Model, Phase
from arena_ckpt.common.names import CONTROL
from arena_ckpt.engine.debug import shadows
from arena_ckpt.engine.debug.culprits import narrow, parts_outside
from arena_ckpt.engine.debug.reads import ForeignReads
from arena_ckpt.errors import ArenaTooLargeError, ForeignReadError
from arena_ckpt.layers.base import Call
from arena_ckpt.lowering.kernel_call import Mode
from arena_ckpt.operations.families import elementwise, reductions
from arena_ckpt.planning.tensors import Control
from arena_ckpt.verification.check_runner import run_check

_kept: list[np.ndarray] = []
"""Arrays outside the arena: programs hold only addresses."""


def outside(n: int) -> Any:
    _kept.append(np.zeros(n, np.float32))
    return _kept[-1]


def control_of(step: Step, place: int, n: int = 1) -> Any:
    return step.regions.named(CONTROL)[place : place + n]


# -- faults ----------------------------------------------------------------------------


def adds(source: Callable[[Step], Any], role: str) -> Change:
    """Add some elements to the first of a result."""

    def change(step: Step) -> Calls:
        read = source(step)
        return [
            *step.calls,
            Call(elementwise.add_to, (read, step.array(role)[: read.size])),
        ]

    return change


def behind(role: str, n: int, gap: int = 0) -> Callable[[Step], Any]:
    def source(step: Step) -> Any:
        array = step.array(role)
        return floats_at(array, array.size + gap, n)

    return source


def before(role: str, n: int) -> Callable[[Step], Any]:
    return lambda step: floats_at(step.array(role), -n, n)


def tensor(name: str, n: int) -> Callable[[Step], Any]:
    return lambda step: step.regions.named(name).reshape(-1)[:n]


def stale(role: str, n: int, result: str, filled: int = 0) -> Change:
    """Read a workspace before the kernels fill it, but for its first elements."""

    def change(step: Step) -> Calls:
        workspace, kept = step.array(role), outside(n)
        return [
            Call(elementwise.fill, (0.5, workspace[:filled])),
            Call(elementwise.copy, (workspace[:n], kept)),
            *step.calls,
            Call(elementwise.add_to, (kept, step.array(result)[:n])),
        ]

    return change


def where_smaller(change: Change) -> Change:
    """Change only what runs on less than a whole batch."""

    def changed(step: Step) -> Calls:
        smaller = step.settings.n_samples < step.plan.pass_samples
        return change(step) if smaller else step.calls

    return changed


def where_training(change: Change) -> Change:
    """Change only what does not predict: there a dropout does nothing."""

    def changed(step: Step) -> Calls:
        predicts = step.settings.mode is Mode.PREDICT
        return step.calls if predicts else change(step)

    return changed


def adds_penalty_by(place: int) -> Change:
    """Add to the loss what a scalar says that is none of the loss's."""

    def change(step: Step) -> Calls:
        arguments = (
            *(step.array("in0"), 1e-3),
            *(control_of(step, place), control_of(step, Control.LOSS)),
        )
        return [*step.calls, Call(reductions.l2_penalty, arguments)]

    return change


def hyper_from(place: int) -> Callable[[Step, Any], Any]:
    return lambda step, hyper: control_of(step, place, len(hyper))


def keeps_last(role: str) -> Change:
    """Leave the last element of a table as it was."""

    def change(step: Step) -> Calls:
        last, kept = step.array(role)[-1:].view(np.float32), outside(1)
        return [
            Call(elementwise.copy, (last, kept)),
            *step.calls,
            Call(elementwise.copy, (kept, last)),
        ]

    return change


def adds_nothing_of(role: str) -> Change:
    """Add 0 times what an element held before."""

    def change(step: Step) -> Calls:
        first, kept = step.array(role)[:1], outside(1)
        fraction = control_of(step, Control.SCALE)
        return [
            Call(elementwise.copy, (first, kept)),
            *step.calls,
            Call(reductions.l2_gradient, (kept, 0.0, fraction, first)),
        ]

    return change


CRASH = "crash"
"""What the older checks would do to the process that ran them."""


@dataclass(frozen=True)
class Fault:
    net: str
    phase: Phase
    layer: str
    change: Change
    named: tuple[str, ...]
    older: str | None = None


FAULTS: dict[str, Fault] = {
    "a row too far": Fault(
        *("mlp", FORWARD, "fc4", adds(behind("in0", 12), "out0")),
        ("fc4:out0 comes out otherwise", "0 bytes behind act3:out0"),
        "memory",
    ),
    "far behind, over the canary": Fault(
        *("cnn", FORWARD, "out", adds(behind("in0", 4, 100), "out0")),
        ("out:out0 comes out otherwise", "400 bytes behind flat:out0"),
        "memory",
    ),
    "in front of what it reads": Fault(
        *("mlp", GRADIENT, "fc3", adds(before("out0:grad", 1), "bias:grad")),
        ("fc3:bias:grad comes out otherwise", "4 bytes before fc3:out0:grad"),
        "bits of debug mode",
    ),
    "a workspace nobody filled": Fault(
        *("recurrent", GRADIENT, "lstm", stale("d_hidden_state", 4, "bias_ih:grad")),
        ("lstm:bias_ih:grad", "lstm:d_hidden_state", "only writes it, at element 0"),
        "bits of debug mode",
    ),
    "a workspace filled in part": Fault(
        *("recurrent", GRADIENT, "lstm", stale("d_hidden_state", 9, "bias_ih:grad", 8)),
        ("lstm:bias_ih:grad", "lstm:d_hidden_state", "only writes it, at element 8"),
        "bits of debug mode",
    ),
    "a table filled in part": Fault(
        *("cnn", FORWARD, "pool", keeps_last("places")),
        ("'pool' in forward", "what pool:places (places) held", "at element 63 of 64"),
        CRASH,
    ),
    "an operand added to that is to be written": Fault(
        "mlp",
        DERIVATIVE,
        "fc4",
        lambda step: [
            Call(
                elementwise.add_to,
                (step.array("out0:grad"), step.array("in0:grad")[:40]),
            )
        ],
        ("'fc4' in calc_derivative", "what act3:out0:grad (in0:grad) held before"),
        "memory",
    ),
    "rows behind a smaller batch": Fault(
        "mlp",
        FORWARD,
        "fc1",
        where_smaller(adds(behind("in0", 16), "out0")),
        ("fc1:out0 comes out otherwise", "row 7 of in:out0, behind the 7 samples"),
        "memory",
    ),
    "rows behind a smaller batch, of the label": Fault(
        "mlp",
        DERIVATIVE,
        "loss",
        where_smaller(adds(behind("label", 5), "in0:grad")),
        ("fc4:out0:grad comes out", "row 7 of loss:label, behind the 7 samples"),
        "memory",
    ),
    "a dead life read by a relu": Fault(
        *("relu", DERIVATIVE, "act1", with_argument(0, first_life("act1:out0"))),
        ("fc1:out0:grad comes out otherwise", "act1:out0 stood before"),
        "bits of debug mode",
    ),
    "a weight that is no operand": Fault(
        *("mlp", FORWARD, "act3", adds(tensor("fc3:bias:first_moment", 8), "out0")),
        ("act3:out0 comes out otherwise", "where fc3:bias:first_moment stands"),
    ),
    "the norm of the last clipping in the loss": Fault(
        *("mlp", FORWARD, "loss", adds_penalty_by(Control.SQUARE_NORM)),
        ("model:control comes out otherwise", "square_norm of model:control"),
    ),
    "the loss so far in a derivative": Fault(
        "mlp",
        DERIVATIVE,
        "loss",
        with_argument(2, lambda step, scale: control_of(step, Control.LOSS)),
        ("fc4:out0:grad comes out otherwise", "loss of model:control"),
        "gradients",
    ),
    "hyperparameters for the counters of a dropout": Fault(
        "transformer",
        FORWARD,
        "drop",
        where_training(with_argument(2, hyper_from(Control.HYPER))),
        ("drop:out0 comes out otherwise", "hyperparameter"),
        "bits of debug mode",
    ),
    "only in the recompute": Fault(
        *("mlp", RECOMPUTE, "fc2", adds(behind("weight", 2), "out0")),
        ("'fc2' in recompute", "fc2:out0 comes out", "0 bytes behind fc2:weight"),
        "bits of debug mode",
    ),
    "an update by scalars of another place": Fault(
        *("residual", APPLY, "c", with_argument(-1, hyper_from(Control.SQUARE_NORM))),
        ("'c' in apply_gradient", "c:weight comes out", "square_norm of model:control"),
    ),
    "an update by what stands behind the gradient": Fault(
        *("micro", APPLY, "fc4", adds(behind("bias:grad", 1), "bias")),
        ("'fc4' in apply_gradient", "fc4:bias comes out", "behind fc4:bias:grad"),
        "bits of debug mode",
    ),
    "what is multiplied by 0, which shows where it is NaN": Fault(
        *("mlp", DERIVATIVE, "fc3", adds_nothing_of("in0:grad")),
        ("act2:out0:grad comes out", "what one that it only writes held before"),
        "memory",
    ),
    "a norm that does not begin at 0": Fault(
        *("clip", CLIP, "", lambda step: step.calls[1:]),
        ("clip_gradients", "square_norm of model:control"),
    ),
}


def inject(fault: Fault, patch: Patch) -> None:
    layer = fault.layer
    if fault.phase is CLIP:
        plan = checks_of(fault.net).plan
        layer = next(e.layer for e in plan.executions if e.phase is CLIP)
    at(fault.phase, layer, fault.change)(patch)


@pytest.mark.parametrize("name", FAULTS)
def test_a_foreign_read_is_found_and_what_was_read_is_named(
    name: str, monkeypatch: Patch
) -> None:
    fault = FAULTS[name]
    inject(fault, monkeypatch)
    checks = checks_of(fault.net)

    found = run_check("reads", checks.reads)

    assert found.passed is False, found.finding
    assert fault.phase.value in found.finding
    missing = [part for part in fault.named if part not in found.finding]
    assert not missing, (missing, found.finding)


@pytest.mark.parametrize("name", [n for n, f in FAULTS.items() if f.older != CRASH])
def test_what_the_older_checks_find_of_it(name: str, monkeypatch: Patch) -> None:
    """What is read is the same in every plan: then only the check of reads sees it."""
    fault = FAULTS[name]
    inject(fault, monkeypatch)
    checks = checks_of(fault.net)
    found = None
    for check_name, check in checks.all():
        if check_name in ("reads", "processes"):
            continue
        done = run_check(check_name, check)
        if done.passed is False:
            found = done.name
            break
    assert found == fault.older


# -- in debug mode ---------------------------------------------------------------------


def spec(**properties: object) -> Any:
    return chain(
        *(5, "gelu", 5, "relu", 3),
        blocks=(("fc1", "act1", "fc2"),),
        optimizer=("sgd", {"learning_rate": 0.1, "momentum": 0.9}),
        **properties,
    )


def persistent(model: Model) -> dict[str, bytes]:
    assert model._session is not None
    return {n: a.tobytes() for n, a in model._session.persistent().items()}


def test_debug_mode_says_what_where_and_how_much(monkeypatch: Patch) -> None:
    at(GRADIENT, "fc2", adds(before("in0", 2), "weight:grad"))(monkeypatch)
    model = spec().initialized(debug=True)
    x, y = spec().batch(8)
    start = persistent(model)

    with pytest.raises(ForeignReadError) as caught:
        model.train_step(x, y)

    error = caught.value
    assert (error.layer, error.phase) == ("fc2", GRADIENT)
    assert model.plan.steps[error.step].layer == "fc2"
    assert error.tensor == "fc2:weight:grad"
    assert (error.n_elems, error.index) == (2, (0, 0))
    one, other = error.values
    assert one != other
    assert max(abs(one), abs(other)) > 1e6  # what foreign bytes hold
    place = next(b for b in model.plan.buffers if "act1:out0" in _names(model, b))
    assert error.byte is not None
    assert error.byte == place.offset_bytes - 8
    text = str(error)
    assert "in 2 of 25 values, the first at [0, 0]: " in text
    assert "8 bytes before act1:out0" in text
    assert "Weights are as before the iteration" in text
    assert isinstance(error, AssertionError)
    assert persistent(model) == start
    with pytest.raises(ForeignReadError, match="8 bytes before"):
        model.train_step(x, y)  # and again


def _names(model: Model, buffer: Any) -> list[str]:
    lives = [model.plan.tensors[i] for i in buffer.tensors]
    return [t.name for t in lives if t.life == 1 or t.name != "act1:out0"]


def test_a_prediction_is_looked_at_too(monkeypatch: Patch) -> None:
    def change(step: Step) -> Calls:
        predicts = step.settings.mode is Mode.PREDICT
        return adds(behind("bias", 1), "out0")(step) if predicts else step.calls

    at(FORWARD, "fc3", change)(monkeypatch)
    model = spec().initialized(debug=True)
    x, y = spec().batch(8)
    model.train_step(x, y)
    with pytest.raises(ForeignReadError, match=r"fc3:out0.*comes out"):
        model.predict(x)


def test_gradients_begin_in_the_first_micro_batch_and_add_in_the_second(
    monkeypatch: Patch,
) -> None:
    """What the first micro-batch finds in a gradient is foreign, to later ones not."""

    def change(step: Step) -> Calls:
        is_first = not step.settings.add_gradients
        return with_argument(2, lambda s, beta: 1.0)(step) if is_first else step.calls

    micro = spec(micro_batches=2)
    right = micro.initialized(debug=True)
    right.train_step(*micro.batch(8))
    at(GRADIENT, "fc3", change)(monkeypatch)
    model = micro.initialized(debug=True)
    with pytest.raises(ForeignReadError, match=r"what fc3:weight:grad .*held before"):
        model.train_step(*micro.batch(8))


def test_a_layer_that_keeps_something_outside_the_arena(monkeypatch: Patch) -> None:
    """Not even the same bytes lead to the same result then."""
    count = outside(8)

    def change(step: Step) -> Calls:
        first = step.array("out0")[:8]
        counted = Call(elementwise.add_to, (count + 1, count))
        _kept.append(counted.arguments[0])
        return [*step.calls, counted, Call(elementwise.add_to, (count, first))]

    at(FORWARD, "fc2", change)(monkeypatch)
    model = spec().initialized(debug=True)
    with pytest.raises(ForeignReadError, match=r"'fc2' in forward .*something else th"):
        model.train_step(*spec().batch(8))


def test_arenas_that_do_not_fit_are_refused(monkeypatch: Patch) -> None:
    model = spec().model()
    plan = model.make_plan(debug=True)
    free = 2 * plan.arena_bytes - 1
    monkeypatch.setattr("arena_ckpt.engine.arena.available_bytes", lambda: free)
    with pytest.raises(ArenaTooLargeError, match="foreign reads in 2 more arenas"):
        model.initialize(debug=True)
    assert not model.is_initialized
    model.initialize()


# -- patterns --------------------------------------------------------------------------


def test_the_patterns_differ_however_they_are_read() -> None:
    first, second = (np.array(words, np.float32) for words, _ in shadows._PATTERNS)
    assert len(first) == len(second) == 8
    with np.errstate(invalid="ignore"):
        for look in (
            lambda a: a.view(np.uint32),
            lambda a: a.view(np.uint64),
            lambda a: a.view(np.float64) > 0,
            lambda a: np.maximum(a, 0),
            lambda a: np.abs(a),
            lambda a: a * a,
            lambda a: a + np.float32(1),
            lambda a: a > 0,
        ):
            assert (look(first) != look(second)).all()
        zero = np.float32(0)
        assert ((first * zero != 0) != (second * zero != 0)).any()
        assert ((first == 0) != (second == 0)).any()
    integers = [integer for _, integer in shadows._PATTERNS]
    assert integers == [0, 1]


# -- what was read ---------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.lists(st.integers(0, 400), min_size=0, max_size=12, unique=True),
    st.integers(0, 399),
)
def test_the_first_byte_of_what_was_read_is_found(cuts: list[int], read: int) -> None:
    cuts = sorted(4 * cut for cut in cuts)
    taken = list(zip(cuts[::2], cuts[1::2], strict=False))
    left = parts_outside((0, 1600), taken)
    covered = {b for start, stop in (*taken, *left) for b in range(start, stop)}
    assert covered == set(range(1600))
    assert sum(b - a for a, b in (*taken, *left)) == 1600
    asked = []

    def differs(extents: Any) -> bool:
        asked.append(extents)
        return any(start <= 4 * read < stop for start, stop in extents)

    found = narrow(left, differs, 4)
    if any(start <= 4 * read < stop for start, stop in taken):
        assert found is None
    else:
        assert found == (4 * read, 4 * read + 4)
    assert len(asked) <= 20


def test_two_places_that_only_differ_together() -> None:
    def differs(extents: Any) -> bool:
        return all(any(a <= place < b for a, b in extents) for place in (0, 96))

    found = narrow([(0, 40), (60, 100)], differs, 4)
    assert found == (0, 100)
    assert narrow([], differs, 4) is None


# -- what is right ---------------------------------------------------------------------


@pytest.mark.parametrize("net", NETS)
def test_nothing_foreign_is_read_in_networks_of_all_kinds(net: str) -> None:
    checks = checks_of(net)
    found = run_check("reads", checks.reads)
    assert found.passed, found.finding
    assert "results have the same bits" in found.finding


def test_each_step_that_runs_is_looked_at(monkeypatch: Patch) -> None:
    """In every mode and size of batch, but those in which no kernel runs."""
    seen: set[tuple[Phase, str, Mode, int]] = set()
    original = ForeignReads.before

    def before(self: ForeignReads, moment: Any) -> None:
        n = self.n_steps
        original(self, moment)
        if self.n_steps > n:
            e = moment.execution
            seen.add((e.phase, e.layer, moment.program.settings.mode, moment.n_samples))

    monkeypatch.setattr(ForeignReads, "before", before)
    model = spec().initialized(debug=True)
    for n in (8, 5):
        x, y = spec().batch(n)
        model.train_step(x, y)
        model.compute_gradients(x, y)
    model.predict(x)
    assert {phase for phase, *_ in seen} == {
        *(FORWARD, RECOMPUTE, GRADIENT, DERIVATIVE, APPLY)
    }
    assert {(mode, n) for _, _, mode, n in seen} == {
        *((Mode.TRAIN, 8), (Mode.TRAIN, 5)),
        *((Mode.GRADIENTS, 8), (Mode.GRADIENTS, 5), (Mode.PREDICT, 5)),
    }


def test_a_regularized_weight_is_an_operand_of_its_gradient() -> None:
    """It was read without being one: the penalty's gradient is made of it."""
    penalty = {"weight_regularizer": "l2norm", "weight_regularizer_constant": 0.1}
    one = chain(4, "gelu", 3)
    regular = dataclasses.replace(
        one,
        layers=tuple(
            (kind, values | penalty if "unit" in values else values)
            for kind, values in one.layers
        ),
    )
    model = regular.initialized(debug=True)
    model.train_step(*regular.batch(8))
    for execution in model.plan.executions:
        if execution.phase is GRADIENT:
            assert execution.operand("weight") is not None
            assert execution.operand("bias") is None
