"""Faults for plans: each changes one thing, and says which check finds it and how.

Faults that change nothing (two buffers of one size and one life, their offsets swapped)
are avoided by choosing what is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from arena_ckpt import Phase
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import Access, Operand, TensorKind
from helpers.plan_surgery import (
    accessed,
    apart,
    bound_to,
    exchanged,
    life,
    merged,
    place_of,
    step_of,
    stretched,
    swapped_offsets,
    unbound,
    with_buffer,
    with_executions,
    with_life,
    with_operand,
    with_operands,
    with_tensor,
    without,
)

FORWARD, RECOMPUTE = Phase.FORWARD, Phase.RECOMPUTE
GRADIENT, DERIVATIVE = Phase.CALC_GRADIENT, Phase.CALC_DERIVATIVE
APPLY, CLIP = Phase.APPLY_GRADIENT, Phase.CLIP_GRADIENTS
READ, WRITE, UPDATE = Access.READ, Access.WRITE, Access.UPDATE


@dataclass(frozen=True)
class Fault:
    """One thing changed in the plan of a net.

    `rule` is what the check gives as broken, `named` what the finding has to hold: the
    tensor, and the layer where a step is at fault.
    """

    net: str
    change: Callable[[MemoryPlan], MemoryPlan]
    check: str
    rule: str
    named: tuple[str, ...]


def moved(name: str, onto: str) -> Callable[[MemoryPlan], MemoryPlan]:
    """Let a buffer begin where another does."""

    def change(plan: MemoryPlan) -> MemoryPlan:
        offset = plan.buffers[place_of(plan, onto)].offset_bytes
        return with_buffer(plan, place_of(plan, name), offset_bytes=offset)

    return change


def into_constants(name: str) -> Callable[[MemoryPlan], MemoryPlan]:
    """Let a buffer lie behind the constants, in their memory."""

    def change(plan: MemoryPlan) -> MemoryPlan:
        place, end = place_of(plan, name), plan.constant_bytes
        taken = plan.taken_bytes(plan.buffers[place].size_bytes)
        changed = with_buffer(plan, place, memory="constants", offset_bytes=end)
        return replace(changed, constant_bytes=end + taken)

    return change


def shifted(name: str, by: int) -> Callable[[MemoryPlan], MemoryPlan]:
    def change(plan: MemoryPlan) -> MemoryPlan:
        place = place_of(plan, name)
        return with_buffer(
            plan, place, offset_bytes=plan.buffers[place].offset_bytes + by
        )

    return change


def lived(
    name: str, number: int = 0, *, later: int = 0, earlier: int = 0, both: bool = False
) -> Callable[[MemoryPlan], MemoryPlan]:
    """Let a buffer (or its life, too) begin later and end earlier."""

    def change(plan: MemoryPlan) -> MemoryPlan:
        place = place_of(plan, name, number)
        buffer = plan.buffers[place]
        start, stop = buffer.start + later, buffer.stop - earlier
        if both:
            plan = with_life(plan, life(plan, name, number), start=start, stop=stop)
        return with_buffer(plan, place, start=start, stop=stop)

    return change


def dropped(phase: Phase, layer: str) -> Callable[[MemoryPlan], MemoryPlan]:
    return lambda plan: without(plan, phase, layer)


def swapped(
    one: tuple[Phase, str], other: tuple[Phase, str]
) -> Callable[[MemoryPlan], MemoryPlan]:
    return lambda plan: exchanged(plan, one, other)


def rebound(
    phase: Phase, layer: str, role: str, name: str, number: int = 0
) -> Callable[[MemoryPlan], MemoryPlan]:
    return lambda plan: stretched(
        bound_to(plan, phase, layer, role, life(plan, name, number))
    )


def to_dead(phase: Phase, layer: str, role: str) -> Callable[[MemoryPlan], MemoryPlan]:
    """Let the first life of a tensor stand in a role, dead as it is."""

    def change(plan: MemoryPlan) -> MemoryPlan:
        operand = plan.executions[step_of(plan, phase, layer)].operand(role)
        assert operand is not None
        name = plan.tensors[operand.tensor].name
        return bound_to(plan, phase, layer, role, life(plan, name, 0))

    return change


def with_dead_buffer(plan: MemoryPlan, name: str) -> MemoryPlan:
    """Let a life and its buffer last to the end, where its bytes are changed before."""
    n_steps = len(plan.steps)
    place = place_of(plan, name)
    plan = with_life(plan, life(plan, name), stop=n_steps)
    return apart(with_buffer(plan, place, stop=n_steps))


def does(
    phase: Phase, layer: str, role: str, access: Access
) -> Callable[[MemoryPlan], MemoryPlan]:
    return lambda plan: accessed(plan, phase, layer, role, access)


def left_out(phase: Phase, layer: str, role: str) -> Callable[[MemoryPlan], MemoryPlan]:
    return lambda plan: unbound(plan, phase, layer, role)


def in_place(name: str, into: str, *lives: int) -> Callable[[MemoryPlan], MemoryPlan]:
    return lambda plan: merged(plan, name, into, *lives)


def added(
    phase: Phase, layer: str, role: str, name: str, access: Access
) -> Callable[[MemoryPlan], MemoryPlan]:
    return lambda plan: with_operand(
        plan, phase, layer, Operand(role, life(plan, name), access)
    )


def at_step(
    phase: Phase, layer: str, step: Callable[[MemoryPlan], int], *, copy: bool = False
) -> Callable[[MemoryPlan], MemoryPlan]:
    """Move an execution to another step, or repeat it there."""

    def change(plan: MemoryPlan) -> MemoryPlan:
        executions = list(plan.executions)
        place = step_of(plan, phase, layer)
        new = replace(executions[place], step=step(plan))
        steps = list(plan.steps)
        steps[new.step] = plan.steps[executions[place].step]
        executions[place : place + (not copy)] = [new]
        return stretched(replace(with_executions(plan, executions), steps=tuple(steps)))

    return change


def idle_step(after: Phase, layer: str) -> Callable[[MemoryPlan], int]:
    """Return the first step behind an execution at which nothing runs."""

    def find(plan: MemoryPlan) -> int:
        taken = {e.step for e in plan.executions}
        first = plan.executions[step_of(plan, after, layer)].step
        return next(s for s in range(first, len(plan.steps)) if s not in taken)

    return find


def discarded(layer: str) -> Callable[[MemoryPlan], MemoryPlan]:
    """Let a recompute throw its output away."""

    def change(plan: MemoryPlan) -> MemoryPlan:
        name = f"{layer}:out0"
        made = plan.tensors[life(plan, name, 1)]
        place = replace(
            made, name=f"{name}:discarded", life=0, kind=TensorKind.WORKSPACE
        )
        plan = with_tensor(plan, place)
        return bound_to(plan, RECOMPUTE, layer, "out0", len(plan.tensors) - 1)

    return change


def over(
    name: str, number: int, buffer_of: str, other: int
) -> Callable[[MemoryPlan], MemoryPlan]:
    """Lay a buffer over another, and let the plan say that it ends before."""

    def change(plan: MemoryPlan) -> MemoryPlan:
        mine, theirs = place_of(plan, name, number), place_of(plan, buffer_of, other)
        guest = plan.buffers[theirs]
        plan = with_buffer(plan, mine, stop=guest.start)
        for index in plan.buffers[mine].tensors:
            tensor = plan.tensors[index]
            stop = max(min(tensor.stop, guest.start), tensor.start + 1)
            plan = with_life(plan, index, stop=stop)
        offset = plan.buffers[mine].offset_bytes
        return apart(with_buffer(plan, theirs, offset_bytes=offset))

    return change


PLANS: dict[str, Fault] = {
    # -- constants
    "a trained weight among the constants": Fault(
        "frozen",
        into_constants("out:bias"),
        "dataflow",
        "constant",
        ("out:bias", "apply_gradient of out"),
    ),
    "a constant over another": Fault(
        "frozen",
        moved("bn2:moving_mean", "conv2:filter"),
        "layout",
        "overlap",
        ("bn2:moving_mean", "conv2:filter"),
    ),
    "a constant behind the end of its memory": Fault(
        "frozen",
        lambda p: with_buffer(
            p, place_of(p, "conv2:filter"), offset_bytes=p.constant_bytes
        ),
        "layout",
        "height",
        ("conv2:filter",),
    ),
    # -- offsets and sizes
    "two offsets swapped": Fault(
        "mlp", swapped_offsets, "layout", "overlap", ("buffer ",)
    ),
    "two offsets of a chosen plan swapped": Fault(
        "chosen", swapped_offsets, "layout", "overlap", ("buffer ",)
    ),
    "a buffer over another": Fault(
        "cnn",
        moved("act2:out0", "conv1:filter"),
        "layout",
        "overlap",
        ("conv1:filter",),
    ),
    "a weight over a statistic": Fault(
        "cnn",
        moved("bn1:gamma", "bn1:moving_mean"),
        "layout",
        "overlap",
        ("bn1:moving_mean", "bn1:gamma"),
    ),
    "an offset that is not aligned": Fault(
        "mlp", shifted("fc1:weight", 4), "layout", "alignment", ("fc1:weight",)
    ),
    "an offset below 0": Fault(
        "mlp",
        lambda p: with_buffer(p, place_of(p, "fc2:weight"), offset_bytes=-64),
        "layout",
        "height",
        ("fc2:weight",),
    ),
    "an offset beyond the arena": Fault(
        "transformer",
        lambda p: with_buffer(
            p, place_of(p, "mha:fc_weight"), offset_bytes=p.arena_bytes - 64
        ),
        "layout",
        "height",
        ("mha:fc_weight",),
    ),
    "an arena that is too small": Fault(
        "cnn",
        lambda p: replace(p, arena_bytes=p.arena_bytes - 64),
        "layout",
        "height",
        ("buffer ",),
    ),
    "a buffer that is too small": Fault(
        "mlp",
        lambda p: with_buffer(p, place_of(p, "act3:out0"), size_bytes=64),
        "dataflow",
        "size",
        ("act3:out0", "384 bytes"),
    ),
    "a buffer a little too small": Fault(
        "mlp",
        lambda p: with_buffer(p, place_of(p, "fc4:bias:grad"), size_bytes=16),
        "dataflow",
        "size",
        ("fc4:bias:grad", "20 bytes"),
    ),
    "a tensor planned too small": Fault(
        "recurrent",
        lambda p: with_life(
            with_buffer(p, place_of(p, "out:bias:grad"), size_bytes=8),
            life(p, "out:bias:grad"),
            size_bytes=8,
        ),
        "dataflow",
        "size",
        ("out:bias:grad", "12 bytes"),
    ),
    "a tensor in two buffers": Fault(
        "mlp",
        lambda p: with_buffer(
            p,
            place_of(p, "fc1:bias"),
            tensors=(life(p, "fc1:bias"), life(p, "fc2:bias")),
        ),
        "dataflow",
        "size",
        ("fc2:bias", "two buffers"),
    ),
    "a tensor in no buffer": Fault(
        "mlp",
        lambda p: with_buffer(
            p, place_of(p, "fc1:out0"), tensors=(life(p, "fc1:out0"),)
        ),
        "dataflow",
        "size",
        ("act1:out0", "no buffer"),
    ),
    # -- live ranges
    "a life that ends too early": Fault(
        "relu",
        lived("act3:out0", earlier=1),
        "dataflow",
        "life",
        ("act3:out0", "step 16, calc_derivative of act3"),
    ),
    "a life and its buffer that end too early": Fault(
        "mlp",
        lived("fc4:bias:grad", earlier=1, both=True),
        "dataflow",
        "life",
        ("fc4:bias:grad", "apply_gradient of fc4"),
    ),
    "a life that begins too late": Fault(
        "mlp",
        lived("fc2:out0", 1, later=1),
        "dataflow",
        "life",
        ("fc2:out0", "step 23, recompute of fc2"),
    ),
    "a life and its buffer that begin too late": Fault(
        "transformer",
        lived("mha:log_sums", later=1, both=True),
        "dataflow",
        "life",
        ("mha:log_sums", "forward of mha"),
    ),
    "a weight that does not last": Fault(
        "mlp",
        lived("fc1:weight", earlier=1, both=True),
        "dataflow",
        "life",
        ("fc1:weight",),
    ),
    "a label that is loaded before it lives": Fault(
        "mlp",
        lived("loss:label", later=8, both=True),
        "dataflow",
        "life",
        ("loss:label",),
    ),
    "bytes given away before the last reader": Fault(
        "mlp",
        over("act1:out0", 1, "fc2:bias:grad", 0),
        "dataflow",
        "life",
        ("act1:out0", "calc_gradient of fc2"),
    ),
    # -- steps
    "a forward step dropped": Fault(
        "mlp",
        dropped(FORWARD, "fc3"),
        "dataflow",
        "unwritten",
        ("fc3:out0", "forward of act3"),
    ),
    "a recompute dropped": Fault(
        "mlp",
        dropped(RECOMPUTE, "fc2"),
        "dataflow",
        "unwritten",
        ("fc2:out0", "calc_derivative of act2"),
    ),
    "a recompute within dropped": Fault(
        "cnn",
        dropped(RECOMPUTE, "bn1"),
        "dataflow",
        "unwritten",
        ("bn1:out0", "recompute of act1"),
    ),
    "a recompute of a chosen plan dropped": Fault(
        "chosen",
        dropped(RECOMPUTE, "act5"),
        "dataflow",
        "unwritten",
        ("act5:out0", "recompute of fc6"),
    ),
    "a recompute of a recurrence dropped": Fault(
        "recurrent",
        dropped(RECOMPUTE, "gru"),
        "dataflow",
        "unwritten",
        ("gru:", "gru"),
    ),
    "a derivative dropped": Fault(
        "residual",
        dropped(DERIVATIVE, "c"),
        "dataflow",
        "version",
        ("sum:out0:grad", "calc_derivative of sum"),
    ),
    "a weight gradient dropped": Fault(
        "transformer",
        dropped(GRADIENT, "ln2"),
        "dataflow",
        "version",
        ("ln2:gamma:grad", "apply_gradient of ln2"),
    ),
    "an update dropped": Fault(
        "mlp",
        dropped(APPLY, "fc3"),
        "dataflow",
        "schedule",
        ("fc3:weight", "apply_gradient of fc3"),
    ),
    "a last update dropped": Fault(
        "shared",
        dropped(APPLY, "first"),
        "dataflow",
        "schedule",
        ("first:weight", "apply_gradient of first"),
    ),
    "recomputes in the wrong order": Fault(
        "mlp",
        swapped((RECOMPUTE, "fc1"), (RECOMPUTE, "act1")),
        "dataflow",
        "unwritten",
        ("fc1:out0", "recompute of act1"),
    ),
    "recomputes of pictures in the wrong order": Fault(
        "cnn",
        swapped((RECOMPUTE, "conv2"), (RECOMPUTE, "bn1")),
        "dataflow",
        "unwritten",
        ("act1:out0", "recompute of conv2"),
    ),
    "a recompute after its reader": Fault(
        "transformer",
        swapped((RECOMPUTE, "drop"), (GRADIENT, "fc2")),
        "dataflow",
        "unwritten",
        ("drop:out0", "calc_gradient of fc2"),
    ),
    "forward steps in the wrong order": Fault(
        "residual",
        swapped((FORWARD, "b"), (FORWARD, "act_b")),
        "dataflow",
        "unwritten",
        ("b:out0", "forward of act_b"),
    ),
    "an update before the last use of the weight": Fault(
        "mlp",
        swapped((DERIVATIVE, "fc2"), (APPLY, "fc2")),
        "dataflow",
        "version",
        ("fc2:weight", "calc_derivative of fc2"),
    ),
    "an update before a recompute with the weight": Fault(
        "residual",
        swapped((RECOMPUTE, "a"), (APPLY, "a")),
        "dataflow",
        "version",
        ("a:weight:grad", "apply_gradient of a"),
    ),
    "an update in a micro-batch": Fault(
        "micro",
        at_step(APPLY, "fc4", idle_step(DERIVATIVE, "fc4")),
        "dataflow",
        "schedule",
        ("fc4:weight", "apply_gradient of fc4"),
    ),
    "a forward step twice": Fault(
        "shared",
        at_step(FORWARD, "act", lambda p: p.n_forward - 1, copy=True),
        "dataflow",
        "schedule",
        ("act:out0", "forward of act"),
    ),
    "an update twice": Fault(
        "mlp",
        at_step(APPLY, "fc4", idle_step(APPLY, "fc4"), copy=True),
        "dataflow",
        "schedule",
        ("fc4:weight", "apply_gradient of fc4"),
    ),
    "a weight gradient after the pass": Fault(
        "clip",
        lambda p: replace(p, n_pass=p.n_pass - 6),
        "dataflow",
        "schedule",
        ("fc1", "after the pass"),
    ),
    # -- operands
    "a dead life read": Fault(
        "mlp",
        to_dead(DERIVATIVE, "act2", "in0"),
        "dataflow",
        "life",
        ("fc2:out0", "calc_derivative of act2"),
    ),
    "a dead life of a chosen plan read": Fault(
        "chosen",
        to_dead(RECOMPUTE, "fc6", "in0"),
        "dataflow",
        "life",
        ("act5:out0", "recompute of fc6"),
    ),
    "a dead life read in place": Fault(
        "mlp",
        lambda p: with_dead_buffer(to_dead(DERIVATIVE, "act2", "in0")(p), "fc2:out0"),
        "dataflow",
        "stale",
        ("fc2:out0", "act2:out0", "calc_derivative of act2"),
    ),
    "a recompute thrown away": Fault(
        "transformer",
        discarded("fc1"),
        "dataflow",
        "unwritten",
        ("fc1:out0", "recompute of gelu"),
    ),
    "another tensor of the shape read": Fault(
        "residual",
        rebound(GRADIENT, "b", "in0", "sum:out0"),
        "dataflow",
        "operand",
        ("act_a:out0", "sum:out0", "calc_gradient of b"),
    ),
    "another weight read": Fault(
        "mlp",
        rebound(FORWARD, "fc3", "bias", "fc3:bias:first_moment"),
        "dataflow",
        "operand",
        ("fc3:bias", "fc3:bias:first_moment", "forward of fc3"),
    ),
    "the states of an update swapped": Fault(
        "mlp",
        lambda p: bound_to(
            bound_to(
                p,
                APPLY,
                "fc3",
                "bias:first_moment",
                life(p, "fc3:bias:second_moment"),
            ),
            APPLY,
            "fc3",
            "bias:second_moment",
            life(p, "fc3:bias:first_moment"),
        ),
        "dataflow",
        "operand",
        ("fc3:bias:first_moment", "apply_gradient of fc3"),
    ),
    "a gradient left out of clipping": Fault(
        "clip",
        left_out(CLIP, "loss", "fc2:weight:grad"),
        "dataflow",
        "operand",
        ("fc2:weight:grad", "clip_gradients"),
    ),
    "a state left out of an update": Fault(
        "recurrent",
        left_out(APPLY, "lstm", "bias_hh:velocity"),
        "dataflow",
        "operand",
        ("lstm:bias_hh:velocity", "apply_gradient of lstm"),
    ),
    "a label left out": Fault(
        "cnn",
        left_out(DERIVATIVE, "loss", "label"),
        "dataflow",
        "operand",
        ("loss:label", "calc_derivative of loss"),
    ),
    # -- parts, sums, states
    "a derivative overwritten, not added": Fault(
        "residual",
        lambda p: with_operands(
            p,
            DERIVATIVE,
            "b",
            lambda o: replace(o, access=WRITE) if o.role == "in0:grad:total" else o,
        ),
        "dataflow",
        "operand",
        ("act_a:out0:grad", "calc_derivative of b"),
    ),
    "a derivative without its second part": Fault(
        "transformer",
        lambda p: bound_to(
            unbound(p, DERIVATIVE, "ln2", "in0:grad"),
            DERIVATIVE,
            "ln2",
            "in0:grad:total",
            life(p, "add1:out0:grad"),
        ),
        "dataflow",
        "operand",
        ("ln2:in0:grad", "calc_derivative of ln2"),
    ),
    "a gradient overwritten by each micro-batch": Fault(
        "micro",
        does(GRADIENT, "fc2", "weight:grad", WRITE),
        "dataflow",
        "version",
        ("fc2:weight:grad", "1 of its 2 parts"),
    ),
    "a gradient overwritten by a layer that shares": Fault(
        "shared",
        does(GRADIENT, "first", "weight:grad", WRITE),
        "dataflow",
        "version",
        ("first:weight:grad", "1 of its 2 parts"),
    ),
    "a gradient whose bytes a pass reuses": Fault(
        "micro",
        lambda p: with_buffer(
            with_buffer(
                p,
                place_of(p, "fc3:weight:grad"),
                start=p.buffers[place_of(p, "fc4:out0")].stop,
            ),
            place_of(p, "fc4:out0"),
            offset_bytes=p.buffers[place_of(p, "fc3:weight:grad")].offset_bytes,
        ),
        "dataflow",
        "stale",
        ("fc3:weight:grad", "fc4:out0"),
    ),
    "a statistic moved by a recompute": Fault(
        "cnn",
        lambda p: with_operand(
            unbound(p, RECOMPUTE, "bn1", "moving_mean"),
            RECOMPUTE,
            "bn1",
            Operand("moving_mean", life(p, "bn1:moving_mean"), UPDATE),
        ),
        "dataflow",
        "version",
        ("bn1:moving_mean",),
    ),
    "a statistic not moved": Fault(
        "cnn",
        does(GRADIENT, "bn2", "moving_variance", READ),
        "dataflow",
        "operand",
        ("bn2:moving_variance", "calc_gradient of bn2"),
    ),
    # -- bytes shared
    "in place where a later reader needs the old value": Fault(
        "mlp",
        in_place("act3:out0", "fc3:out0"),
        "dataflow",
        "stale",
        ("fc3:out0", "act3:out0", "calc_derivative of act3"),
    ),
    "in place in the recompute, where it is read": Fault(
        "mlp",
        in_place("act1:out0", "fc1:out0", 1, 1),
        "dataflow",
        "stale",
        ("fc1:out0", "act1:out0", "calc_derivative of act1"),
    ),
    "in place under a residual": Fault(
        "residual",
        in_place("b:out0:grad", "sum:out0:grad"),
        "dataflow",
        "stale",
        ("act_a:out0:grad", "b:out0:grad"),
    ),
    "in place where the layer does not offer it": Fault(
        "residual",
        in_place("b:out0", "act_a:out0"),
        "dataflow",
        "in_place",
        ("b:out0", "act_a:out0", "forward of b"),
    ),
    "a workspace over an operand": Fault(
        "recurrent",
        lambda p: with_buffer(
            p,
            place_of(p, "out:weight:grad"),
            offset_bytes=p.buffers[place_of(p, "gru:out0", 0)].offset_bytes,
        ),
        "layout",
        "overlap",
        ("out:weight:grad", "gru:out0"),
    ),
}
