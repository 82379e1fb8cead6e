"""Explains in a few sentences what limits a plan; claims only what the plan shows.

The arena is at least the live lower bound of its live ranges, and that is at least the
local lower bound, which no checkpoint block changes. Which of the three are equal shows
what could still help.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from arena_ckpt.common.names import output_role, tensor_name
from arena_ckpt.common.phases import Phase
from arena_ckpt.common.units import format_bytes, format_percent
from arena_ckpt.planning.memory_use import MemoryUse
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import PERSISTENT, Access, TensorKind
from arena_ckpt.report.summary import recomputed_layers

_WORDS = {
    TensorKind.GRADIENT: "weight gradients",
    TensorKind.ACTIVATION: "activations",
    TensorKind.RECOMPUTED: "recomputed activations",
    TensorKind.DERIVATIVE: "derivatives",
    TensorKind.WORKSPACE: "workspace",
    TensorKind.DATA: "input and labels",
}
_WORTH_NAMING = 0.05  # of the peak


def explain(plan: MemoryPlan, keep_all: MemoryPlan | None = None) -> list[str]:
    """Return a few sentences on what makes the arena as large as it is.

    Parameters
    ----------
    plan : MemoryPlan
    keep_all : MemoryPlan, optional
        Plan of the same model that recomputes nothing.

    Returns
    -------
    list of str
        The peak, what recomputing did where there is any, what could still help, and,
        where there are any, what lies in which RAM and the constants.

    Notes
    -----
    O(tensors + executions), and the live bytes of each step.
    """
    if _is_without_reuse(plan):
        return [
            "Memory optimization is off: every tensor has bytes of its own, "
            f"{format_bytes(plan.arena_bytes)} together; blocks cannot save anything "
            "until it is on.",
            *_memories(plan),
        ]
    sentences = [_peak(plan)]
    if keep_all is not None and (plan.blocks or recomputed_layers(plan)):
        sentences.append(_gain(plan, keep_all))
    sentences.append(_inference(plan) if plan.is_inference else _bounds(plan))
    return [*sentences, *_memories(plan)]


def _is_without_reuse(plan: MemoryPlan) -> bool:
    n_steps = len(plan.steps)
    return all((b.start, b.stop) == (0, n_steps) for b in plan.buffers)


def _memories(plan: MemoryPlan) -> Iterator[str]:
    """Yield a sentence on several RAMs and one on constants, where there are any."""
    rams = [use for use in plan.memories.values() if not use.is_constant]
    if len(rams) > 1:
        yield _spread("inference" if plan.is_inference else "an iteration", *rams)
    if plan.constant_bytes:
        yield (
            f"Constants, {format_bytes(plan.constant_bytes)} of weights that no step "
            "writes, lie beside the arena and can stay in flash."
        )


def _spread(who: str, fastest: MemoryUse, *slower: MemoryUse) -> str:
    touched = fastest.touched_bytes + sum(use.touched_bytes for use in slower)
    shares = [
        f"{format_percent(use.touched_bytes / touched)} in {use.name}, which holds "
        f"{format_bytes(use.height_bytes)}"
        for use in slower
        if use.height_bytes
    ]
    if not shares:
        return f"All buffers in RAM fit into {fastest.name}, the fastest."
    return (
        f"Of the {format_bytes(touched)} that {who} reads and writes in RAM, "
        f"{format_percent(fastest.touched_bytes / touched)} are in {fastest.name}, the "
        f"fastest; {'; '.join(shares)}."
    )


def _peak(plan: MemoryPlan) -> str:
    step = plan.peak_step
    kinds = plan.bytes_by_kind(step)
    total = sum(kinds.values())
    always = sum(kinds[kind] for kind in PERSISTENT)
    parts = [f"weights and optimizer states take {format_bytes(always)}"]
    if plan.is_inference and plan.constant_bytes and not always:
        parts = ["all weights are constants"]
    rest = total - always
    for kind in sorted(_WORDS, key=lambda kind: (-kinds[kind], kind)):
        if kinds[kind] >= _WORTH_NAMING * total:
            parts.append(f"{_words(plan, kind)} {format_bytes(kinds[kind])}")
            rest -= kinds[kind]
    if rest:
        parts.append(f"everything else {format_bytes(rest)}")
    passing = [
        plan.tensor_in(buffer, step).name
        for buffer in plan.alive_at(step)
        if (buffer.start, buffer.stop) != (0, len(plan.steps))
    ]
    largest = (
        f"; the largest tensor that comes and goes is {passing[0]}" if passing else ""
    )
    return f"At the peak ({plan.describe_step(step)}) {', '.join(parts)}{largest}."


def _words(plan: MemoryPlan, kind: TensorKind) -> str:
    if kind is TensorKind.GRADIENT and plan.n_pass < len(plan.steps):
        why = "micro-batches add to them" if plan.micro_batches > 1 else "clipping"
        return f"weight gradients (all kept to the end: {why})"
    return _WORDS[kind]


def _inference(plan: MemoryPlan) -> str:
    if plan.proved_optimal:
        return (
            "No layout of these live ranges is smaller, and inference has nothing to "
            "recompute: a smaller batch takes less."
        )
    above = plan.arena_bytes - plan.live_lower_bound_bytes
    return (
        f"The layout is {format_bytes(above)} above the live lower bound and not "
        "proved optimal; inference has nothing to recompute."
    )


def _bounds(plan: MemoryPlan) -> str:
    arena, local = plan.arena_bytes, plan.local_lower_bound_bytes
    if arena == local:
        recomputes = plan.blocks or recomputed_layers(plan)
        no_block = (
            "Nothing more can be saved by recomputing"
            if recomputes
            else "No block helps here"
        )
        return (
            f"{no_block}: the arena is already at the local lower "
            "bound, the weights and optimizer states and what a single step needs "
            "beside them."
        )
    blocks = (
        "recomputing more" if plan.blocks or recomputed_layers(plan) else "recomputing"
    )
    at_most = (
        f"{blocks} can lower it by {format_bytes(arena - local)} at the very "
        "most, down to the local lower bound"
    )
    if plan.proved_optimal:
        return f"No layout of these live ranges is smaller; {at_most}."
    above = arena - plan.live_lower_bound_bytes
    if len(plan.rams) > 1:
        return (
            f"The RAMs together are {format_bytes(above)} above the live lower bound; "
            f"{at_most}."
        )
    return (
        f"The layout is {format_bytes(above)} above the live lower bound and not "
        f"proved optimal; {at_most}."
    )


def _gain(plan: MemoryPlan, without: MemoryPlan) -> str:
    again = tuple(dict.fromkeys(recomputed_layers(plan)))
    saved = without.arena_bytes - plan.arena_bytes
    them = "the block" if len(plan.blocks) == 1 else "the blocks"
    if not again:
        return f"{_saves(saved)}: {them} {_changes_nothing(plan, saved)}."
    if saved > 0:
        times = len(recomputed_layers(plan))
        often = "twice" if times == len(again) else f"again, {times} times in all"
        return (
            f"Checkpointing saves {format_bytes(saved)}, "
            f"{format_percent(saved / without.arena_bytes)}, for "
            f"{format_percent(plan.overhead)} more time, counted in operations and "
            f"bytes: the forward of {_list(again)} runs {often}."
        )
    return f"{_saves(saved)}: {_why_not(plan, without)}."


def _saves(saved_bytes: int) -> str:
    if saved_bytes > 0:
        return f"Checkpointing saves {format_bytes(saved_bytes)}"
    if saved_bytes < 0:
        return f"Checkpointing costs {format_bytes(-saved_bytes)}"
    return "Checkpointing saves nothing"


def _changes_nothing(plan: MemoryPlan, saved_bytes: int) -> str:
    named = ", ".join(f"{b.name}: {' '.join(b.layers)}" for b in plan.blocks)
    verb = "changes" if len(plan.blocks) == 1 else "change"
    why = (
        f"({named}) {verb} no live range, because what the backward pass reads is the "
        "input or the output of a block, and those are kept"
    )
    if saved_bytes:
        why += "; the same live ranges at other steps happened to get another layout"
    return why


def _why_not(plan: MemoryPlan, without: MemoryPlan) -> str:
    """Return a sentence on where dropped tensors and their sources are at the peaks."""
    more = plan.arena_bytes > without.arena_bytes
    if more and plan.live_lower_bound_bytes <= without.live_lower_bound_bytes:
        return (
            "not because more bytes are alive at once (their live lower bound is "
            f"{format_bytes(plan.live_lower_bound_bytes)}), but because the layout "
            "found for the changed steps has gaps"
        )
    outputs = {tensor_name(n, output_role(0)) for n in recomputed_layers(plan)}
    peak = plan.peak_step
    kept = sorted(_sources(plan) & _alive(plan, peak) - _alive_same_step(plan, without))
    if kept:
        are = "are" if len(kept) > 1 else "is"
        return f"{_list(kept)} {are} kept until the recompute, which reads from there"
    back = sorted(outputs & _alive(plan, peak, recomputed=True))
    if back:
        are = "are" if len(back) > 1 else "is"
        return f"at the peak {_list(back)} {are} there again, recomputed"
    here = outputs & _alive(plan, peak)
    there = outputs & _alive(without, without.peak_step)
    if there and not here:
        return (
            f"without {_list(sorted(there))} another step "
            f"({plan.describe_step(peak)}) needs as many bytes or more"
        )
    if here:
        return f"the peak comes before {_list(sorted(here))} can be dropped"
    return (
        f"what it drops and recomputes ({_list(sorted(outputs))}) is not alive at the "
        "peak, with or without it"
    )


def _sources(plan: MemoryPlan) -> set[str]:
    """Return the tensors from which recomputing starts, weights left out."""
    return {
        plan.tensors[operand.tensor].name
        for execution in plan.executions
        if execution.phase is Phase.RECOMPUTE
        for operand in execution.operands
        if operand.access is Access.READ
        and plan.tensors[operand.tensor].life == 0
        and plan.tensors[operand.tensor].kind not in PERSISTENT
    }


def _alive(plan: MemoryPlan, step: int, recomputed: bool = False) -> set[str]:
    return {
        tensor.name
        for tensor in plan.tensors
        if tensor.start <= step < tensor.stop and tensor.life >= recomputed
    }


def _alive_same_step(plan: MemoryPlan, without: MemoryPlan) -> set[str]:
    """Return the tensors alive without blocks at the step of the peak with blocks."""
    running = plan.steps[plan.peak_step]
    if running not in without.steps:
        return {tensor.name for tensor in without.tensors}
    return _alive(without, without.steps.index(running))


def _list(names: Iterable[str]) -> str:
    names = list(names)
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
