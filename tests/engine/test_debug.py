"""Debug mode: stray writes, NaN and stale bytes do not pass unseen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.strategies import ModelSpec, chain

from arena_ckpt import Model, Phase, TensorLifespan
from arena_ckpt.errors import (
    CanaryError,
    InvalidParameterError,
    NonFiniteError,
    PlanMismatchError,
)
from arena_ckpt.layers import Binding, Call, LayerSpec, Shape
from arena_ckpt.layers.activation import Activation
from arena_ckpt.layers.dense import FullyConnected
from arena_ckpt.lowering.calls import Lowering
from arena_ckpt.lowering.kernel_call import Mode
from arena_ckpt.operations.activations import ACTIVATIONS
from arena_ckpt.operations.families import elementwise
from arena_ckpt.planning.plan import Buffer
from arena_ckpt.planning.tensors import Execution

MOMENTUM = ("sgd", {"learning_rate": 0.1, "momentum": 0.9})


def spec(**properties: object) -> ModelSpec:
    return chain(
        *(5, "gelu", 5, "relu", 3),
        blocks=(("fc1", "act1", "fc2"),),
        optimizer=MOMENTUM,
        **properties,
    )


def write_one_further(role: str) -> Callable[[Binding], list[Call]]:
    """Return a phase that adds a tensor to itself, one element beyond its end too."""

    def calls(tensors: Binding) -> list[Call]:
        exact = tensors.vector(role)
        longer = dataclasses.replace(exact, shape=(exact.size + 1,))
        return [Call(elementwise.add_to, (longer, longer))]

    return calls


def persistent(model: Model) -> dict[str, bytes]:
    """Weights and optimizer states."""
    assert model._session is not None
    views = model._session.views
    return {
        t.name: views.named(t.name).tobytes()
        for t in model.plan.tensors
        if t.kind in ("weight", "optimizer_state")
    }


def buffer_bytes(model: Model, buffer: Buffer) -> np.ndarray:
    assert model._session is not None
    return model._session.arena.view(buffer.offset_bytes, (buffer.size_bytes,), "uint8")


# -- canaries --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "role", "tensor"),
    [
        ("forward", "out0", "fc2:out0"),
        ("calc_gradient", "weight:grad", "fc2:weight:grad"),
        ("calc_gradient", "bias:grad", "fc2:bias:grad"),
        ("calc_derivative", "in0:grad", "act1:out0:grad"),
        ("forward", "weight", "fc2:weight"),
    ],
)
def test_a_write_past_the_end_is_found_where_it_happens(
    phase: str, role: str, tensor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(FullyConnected, phase)

    def broken(self: FullyConnected, tensors: Binding) -> list[Call]:
        calls: list[Call] = original(self, tensors)
        return calls + (write_one_further(role)(tensors) if self.name == "fc2" else [])

    monkeypatch.setattr(FullyConnected, phase, broken)
    model = spec().initialized(debug=True)
    x, y = spec().batch(8)
    before = persistent(model)

    with pytest.raises(CanaryError, match=f"'fc2' in {phase}.*past the end") as caught:
        model.train_step(x, y)

    order = model.plan.execution_order["fc2"]
    assert caught.value.step == getattr(order, phase)
    shared = next(
        b
        for b in model.plan.buffers
        if tensor in {model.plan.tensors[i].name for i in b.tensors}
        and b.start <= caught.value.step < b.stop
    )
    assert caught.value.tensor == shared.tensor
    assert isinstance(caught.value, AssertionError)
    assert persistent(model) == before


def test_the_recompute_is_guarded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the second run of the layer, in the backward pass, writes too far."""
    original = FullyConnected.forward
    runs: list[str] = []

    def broken(self: FullyConnected, tensors: Binding) -> list[Call]:
        runs.append(self.name)
        calls = original(self, tensors)
        again = runs.count("fc1") == 2 and self.name == "fc1"
        return calls + (write_one_further("out0")(tensors) if again else [])

    monkeypatch.setattr(FullyConnected, "forward", broken)
    model = spec().initialized(debug=True)
    before = persistent(model)
    with pytest.raises(CanaryError, match="'fc1' in recompute") as caught:
        model.train_step(*spec().batch(8))
    assert caught.value.step == model.plan.execution_order["fc1"].recompute
    assert persistent(model) == before  # fc3 had been updated already


def test_without_debug_the_arena_has_no_canaries() -> None:
    plain, debug = spec().model().make_plan(), spec().model().make_plan(debug=True)
    assert (plain.canary_bytes, debug.canary_bytes) == (0, 64)
    assert plain.arena_bytes < debug.arena_bytes
    assert plain.executions == debug.executions


def test_every_canary_is_intact_after_training() -> None:
    model = spec().initialized(debug=True)
    for step in range(3):
        model.train_step(*spec().batch(8, seed=step))
    assert model._session is not None
    n_steps = len(model.plan.steps)
    alive = [b for b in model.plan.buffers if b.stop == n_steps]
    assert len(alive) > 10
    for buffer in alive:
        end = buffer.offset_bytes + buffer.size_bytes
        assert model._session.arena.is_guard_intact(end), buffer.tensor


# -- NaN and infinity ------------------------------------------------------------------


def test_the_first_layer_that_makes_nan_is_named() -> None:
    model = spec().initialized(debug=True)
    x, y = spec().batch(8)
    model.train_step(x, y)
    assert model._session is not None
    model._session.views.named("fc2:weight")[1, 2] = np.nan
    before = persistent(model)

    with pytest.raises(NonFiniteError, match=r"'fc2' in forward \(step 3\)") as caught:
        model.train_step(x, y)

    error = caught.value
    assert (error.layer, error.phase, error.step) == ("fc2", Phase.FORWARD, 3)
    assert error.tensor == "fc2:out0"
    assert "8 values" in str(error)  # one column of eight rows
    assert persistent(model) == before


@pytest.mark.parametrize("properties", [{}, {"clip_grad_by_norm": 1e30}], ids=str)
def test_an_update_to_infinity_is_rolled_back(properties: dict[str, object]) -> None:
    rate = ("sgd", {"learning_rate": 1e38, "momentum": 0.9})
    model = chain(5, "relu", 3, optimizer=rate, **properties).initialized(debug=True)
    x, y = spec().batch(8)
    before = persistent(model)

    with pytest.raises(NonFiniteError, match="in apply_gradient") as caught:
        model.train_step(x, 1000 * y)

    assert caught.value.phase is Phase.APPLY_GRADIENT
    assert persistent(model) == before


def test_a_kernel_that_reads_what_is_dead_meets_nan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A planner that forgets that gelu reads its input again would be caught."""
    original = Activation.infer

    def forgetful(self: Activation, shapes: tuple[Shape, ...]) -> LayerSpec:
        spec = original(self, shapes)
        return dataclasses.replace(
            spec, input_lifespan=TensorLifespan.FORWARD, in_place=()
        )

    def stale(self: Activation, tensors: Binding) -> list[Call]:
        dead = tensors.regions.named("fc1:out0").reshape(-1)  # type: ignore[attr-defined]
        d_out, d_in = tensors.vector("out0:grad"), tensors.vector("in0:grad")
        return [Call(ACTIVATIONS["gelu"].backward, (dead, d_out, d_in))]

    monkeypatch.setattr(Activation, "infer", forgetful)
    monkeypatch.setattr(Activation, "calc_derivative", stale)
    plain = chain(5, "gelu", 3)
    plain.initialized().train_step(*plain.batch(8))  # passes unseen
    model = plain.initialized(debug=True)
    session = model._session
    assert session is not None
    assert session._runner is not None
    session.unwatch(session._runner.watchers[-1])  # which would see it first
    with pytest.raises(NonFiniteError, match="'act1' in calc_derivative"):
        model.train_step(*plain.batch(8))


# -- poison ----------------------------------------------------------------------------


@pytest.mark.parametrize("canaries_only", [True, False])
def test_what_is_dead_holds_nan(canaries_only: bool) -> None:
    """After the iteration, unless its bytes belong to something alive by then."""
    model = spec().initialized(debug=True)
    if not canaries_only:
        for _ in range(2):
            model.train_step(*spec().batch(8))
    n_steps = len(model.plan.steps)
    dead = [b for b in model.plan.buffers if b.stop < n_steps]
    assert len(dead) > 10
    for buffer in dead:
        if not canaries_only and covered(model, buffer):
            continue
        values = buffer_bytes(model, buffer).view(np.float32)
        intact = values.view(np.uint32) == np.uint32(0xC7C7C7C7)  # a later canary
        assert (np.isnan(values) | intact).all(), buffer.tensor


def covered(model: Model, buffer: Buffer) -> bool:
    """Whether a buffer that lives to the end has taken some of the bytes."""
    n_steps = len(model.plan.steps)
    return any(
        other.offset_bytes < buffer.offset_bytes + buffer.size_bytes
        and buffer.offset_bytes < other.offset_bytes + other.size_bytes
        for other in model.plan.buffers
        if other.stop == n_steps and other is not buffer
    )


def test_a_dead_activation_is_nan_in_the_middle_of_an_iteration() -> None:
    """The first life of act1's output dies when fc2 has read it."""
    model = spec().initialized(debug=True)
    session = model._session
    assert session is not None
    plan = model.plan
    one = session._pass(Mode.TRAIN, 8, False)
    one.load(session._batch(*spec().batch(8)).samples, None, 0)
    session._begin([1.0])
    # What dies with the forward pass itself waits: a prediction may be read from it.
    dying = [buffer for buffer in plan.buffers if buffer.stop < plan.n_forward]
    assert [(b.tensor, b.stop) for b in dying] == [("fc1:out0", 4)]
    for buffer in dying:
        session._steps(one, 0, buffer.stop)
        values = buffer_bytes(model, buffer).view(np.float32)
        assert np.isnan(values).all(), buffer.tensor


def test_predictions_in_debug_mode() -> None:
    """Also where nothing trains, so that nobody else reads the prediction."""
    frozen = ModelSpec(
        (
            ("input", {"name": "in", "input_shape": (1, 1, 6)}),
            ("fully_connected", {"name": "fc", "unit": 3, "trainable": False}),
            ("mse", {"name": "loss"}),
        ),
        properties={"batch_size": 8},
    )
    for each in (spec(), frozen):
        plain, debug = each.initialized(), each.initialized(debug=True)
        x, y = each.batch(20)
        assert debug.predict(x).tobytes() == plain.predict(x).tobytes()
        assert debug.evaluate((x, y)) == plain.evaluate((x, y))


# -- check="all" -----------------------------------------------------------------------


def checked(spec: ModelSpec, **given: Any) -> Model:
    model = spec.model()
    model.initialize(check="all", **given)
    return model


@pytest.mark.parametrize("check", [None, "some", np.array(["all", "loss"]), "x" * 999])
def test_what_is_no_check(check: Any) -> None:
    with pytest.raises(InvalidParameterError, match="expected 'loss', 'all'") as caught:
        spec().model().initialize(check=check)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "given",
    [{}, {"max_overhead": "50%"}, {"allow": "in_place", "max_overhead": 1.0}],
    ids=str,
)
def test_check_all_takes_any_plan_as_it_is(given: dict[str, Any]) -> None:
    plain, model = spec().model(), checked(spec(), **given)
    plain.initialize(**given)
    assert model.plan == plain.plan
    assert model.plan.canary_bytes == 0
    for step in range(3):
        x, y = spec().batch(8, seed=step)
        assert model.train_step(x, y) == plain.train_step(x, y)
    assert persistent(model) == persistent(plain)
    assert model.predict(x).tobytes() == plain.predict(x).tobytes()


@pytest.mark.parametrize("reuse", [True, False])
def test_check_all_names_step_layer_phase_and_tensor(reuse: bool) -> None:
    one = spec(memory_optimization=reuse)
    model = checked(one)
    x, y = one.batch(8)
    model.train_step(x, y)
    assert model._session is not None
    model._session.views.named("fc2:weight")[1, 2] = np.nan
    before = persistent(model)

    with pytest.raises(NonFiniteError, match=r"'fc2' in forward \(step 3\)") as caught:
        model.train_step(x, y)

    error = caught.value
    assert (error.layer, error.phase, error.step) == ("fc2", Phase.FORWARD, 3)
    assert error.tensor == "fc2:out0"
    assert "because of those in fc2:weight (weight)" in str(error)
    assert (error.recomputed, error.backward_of) == ((), None)
    assert "recomputed by then" not in str(error)
    assert persistent(model) == before


def test_check_loss_looks_at_the_loss_only() -> None:
    model = spec().model()
    model.initialize(check="loss")
    assert model._session is not None
    model._session.views.named("fc2:weight")[1, 2] = np.nan
    with pytest.raises(NonFiniteError, match="the loss is nan") as caught:
        model.train_step(*spec().batch(8))
    assert not hasattr(caught.value, "layer")


def test_debug_looks_at_all_whatever_check_says() -> None:
    model = spec().model()
    model.initialize(debug=True, check="loss")
    assert model._session is not None
    model._session.views.named("fc2:weight")[1, 2] = np.nan
    with pytest.raises(NonFiniteError, match="'fc2' in forward"):
        model.train_step(*spec().batch(8))


@pytest.mark.parametrize("check", ["every", "ALL", None, True])
def test_another_check_is_refused(check: Any) -> None:
    model = spec().model()
    with pytest.raises(InvalidParameterError, match=r"check=.*'loss', 'all'"):
        model.initialize(check=check)
    model.initialize(check="all")  # nothing has changed


def nan_in(phase: Phase, layer: str, role: str) -> Callable[..., list[Call]]:
    """Return a `Lowering.calls` by which a step of a layer writes NaN as well."""
    original = Lowering.calls

    def calls(self: Lowering, execution: Execution) -> list[Call]:
        right = original(self, execution)
        if (execution.phase, execution.layer) != (phase, layer):
            return right
        operand = execution.operand(role)
        assert operand is not None
        array = self.regions.region(operand.tensor).reshape(-1)
        return [*right, Call(elementwise.fill, (float("nan"), array))]

    return calls


@pytest.mark.parametrize("debug", [False, True])
def test_nan_in_a_recompute_says_for_whom_and_what_ran_again(
    debug: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lowering, "calls", nan_in(Phase.RECOMPUTE, "act1", "out0"))
    model = spec().model()
    model.initialize(debug=debug, check="all")
    before = persistent(model)

    with pytest.raises(NonFiniteError) as caught:
        model.train_step(*spec().batch(8))

    error = caught.value
    assert (error.layer, error.phase) == ("act1", Phase.RECOMPUTE)
    assert (error.recomputed, error.backward_of) == (("fc1",), "fc2")
    assert "'act1' in recompute" in str(error)
    assert "for the backward pass of 'fc2', wrote" in str(error)
    assert "recomputed by then: fc1; " in str(error)
    assert persistent(model) == before


def test_many_recomputes_are_shortened_and_counted_by_the_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        Lowering, "calls", nan_in(Phase.CALC_GRADIENT, "fc1", "bias:grad")
    )
    deep = chain(*[6, "gelu"] * 6, 3, micro_batches=2)
    model = deep.model()
    plan = model.pareto()[0].plan
    model.initialize(plan=plan, check="all")
    with pytest.raises(NonFiniteError, match="'fc1' in calc_gradient") as caught:
        model.train_step(*deep.batch(8))
    reruns = [e.layer for e in plan.executions if e.phase is Phase.RECOMPUTE]
    error = caught.value
    assert len(reruns) > 10
    assert error.recomputed == tuple(reruns)  # of this pass alone
    last = ", ".join(reruns[-6:])
    assert f"recomputed by then: {len(reruns)} layers, last {last}; " in str(error)


# -- plans with and without canaries ---------------------------------------------------


def test_a_plan_without_canaries_says_what_to_do_in_debug_mode() -> None:
    model = spec().model()
    plan = model.make_plan()
    with pytest.raises(PlanMismatchError) as caught:
        model.initialize(plan=plan, debug=True)
    error = caught.value
    assert (error.what, error.found, error.expected) == ("canary_bytes", 0, 64)
    assert "no canaries, and debug=True needs 64 bytes behind each buffer" in str(error)
    assert "make_plan(debug=True" in str(error)
    assert "check='all'" in str(error)
    model.initialize(plan=plan, check="all")


def test_a_plan_with_canaries_is_for_debug_mode() -> None:
    model = spec().model()
    plan = model.make_plan(debug=True)
    with pytest.raises(PlanMismatchError, match=r"64 bytes of canary.*debug=True"):
        model.initialize(plan=plan)
    other = dataclasses.replace(plan, canary_bytes=128)
    with pytest.raises(PlanMismatchError, match=r"128 bytes of canary.*expected 64"):
        model.initialize(plan=other, debug=True)
    model.initialize(plan=plan, debug=True)


# -- canaries on all sides -------------------------------------------------------------


@pytest.mark.parametrize("place", range(-3, 0))
def test_the_padding_before_a_buffer_is_guarded(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fc3:bias takes 12 bytes; its canary reaches to the next multiple of 64."""
    original = FullyConnected.forward

    def broken(self: FullyConnected, tensors: Binding) -> list[Call]:
        if self.name != "fc3":
            return original(self, tensors)
        weight = tensors.vector("weight")
        offset_bytes = weight.offset_bytes + 4 * place
        before = dataclasses.replace(weight, offset_bytes=offset_bytes, shape=(1,))
        return [*original(self, tensors), Call(elementwise.fill, (1.0, before))]

    monkeypatch.setattr(FullyConnected, "forward", broken)
    model = spec().initialized(debug=True)
    with pytest.raises(CanaryError, match=r"'fc3' in forward.*start of fc3:weight"):
        model.train_step(*spec().batch(8))


def test_the_front_of_the_arena_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = spec().initialized(debug=True)
    assert model._session is not None
    model._session.arena._front[-1] = 0
    with pytest.raises(CanaryError, match="before the start of the arena") as caught:
        model.train_step(*spec().batch(8))
    first = min(model.plan.buffers, key=lambda b: b.offset_bytes)
    assert caught.value.tensor == first.tensor
