"""The errors for a budget that no plan fits, with what would help."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from arena_ckpt.checkpoint.choose import (
    ALLOWABLE,
    NO_PATTERNS,
    Chooser,
    unsplittable,
)
from arena_ckpt.checkpoint.front import FrontPoint
from arena_ckpt.checkpoint.policy import Patterns
from arena_ckpt.common.units import format_bytes, format_percent
from arena_ckpt.errors import BudgetError
from arena_ckpt.planning.batch_statistics import least_samples
from arena_ckpt.planning.placing import describe_rams

MOST_NAMED = 4
"""Maximum number of tensors at the peak that an error names."""


def too_slow(point: FrontPoint, budget_bytes: int, max_overhead: float) -> BudgetError:
    """Return the error for a budget that only plans beyond the overhead limit fit."""
    return BudgetError(
        f"within {format_bytes(budget_bytes)} the fastest plan found takes "
        f"{format_percent(point.overhead)} more time, {format_percent(max_overhead)} "
        "is asked; allow more overhead, or raise the budget",
        budget_bytes=budget_bytes,
        least_bytes=point.arena_bytes,
        overhead=point.overhead,
    )


def does_not_fit(chooser: Chooser, budget_bytes: int) -> BudgetError:
    """Return the error for a budget that no plan fits, with what would help.

    To find what would help, it plans with other allowances, batch sizes and optimizers.
    """
    best = chooser.within_overhead()
    plan = best.plan
    bound = chooser.lower_bound_bytes()
    if bound == best.arena_bytes:
        proved = ", and no plan can need less"
    else:
        proved = (
            f"; none can need less than {format_bytes(bound)}, the weights and states "
            "and the hungriest step"
        )
    if chooser.patterns and bound != best.arena_bytes:
        free = chooser.changed(patterns=NO_PATTERNS).within_overhead()
        if free.arena_bytes < best.arena_bytes:
            proved += (
                f". What binds is {chooser.patterns}: without, the smallest found "
                f"takes {format_bytes(free.arena_bytes)}"
            )
    step = plan.peak_step
    largest = [plan.tensor_in(b, step) for b in plan.alive_at(step)[:MOST_NAMED]]
    named = ", ".join(f"{t.name} {format_bytes(t.size_bytes)}" for t in largest)
    where = format_bytes(budget_bytes)
    if not best.has_room:
        where += f" of {describe_rams(chooser.settings.rams)}"
    return BudgetError(
        f"no plan fits in {where}: the smallest found takes "
        f"{format_bytes(best.arena_bytes)} and {format_percent(best.overhead)} more "
        f"time{proved}. At its peak ({plan.describe_step(step)}) the largest tensors "
        f"are {named}. {_advice(chooser, budget_bytes)}",
        budget_bytes=budget_bytes,
        least_bytes=best.arena_bytes,
        lower_bound_bytes=bound,
        step=step,
        tensors=tuple(tensor.name for tensor in largest),
        plan=plan,
    )


def _advice(chooser: Chooser, budget_bytes: int) -> str:
    """Return a text that names the cheapest change after which a plan fits."""
    patterns = chooser.patterns
    kinds = Patterns(keep=patterns.keep), Patterns(drop=patterns.drop)
    for less in dict.fromkeys(filter(None, (*kinds, patterns))):
        free = chooser.changed(patterns=patterns.without(less))
        if free.within_budget(budget_bytes):
            return f"It would fit with {less} left out."
    for change, other in _changes(chooser):
        if other.fits(budget_bytes):
            return f"It would fit with {change}."
    settings, least = chooser.settings, least_samples(chooser.graph)
    low, high = least - 1, settings.batch_size
    while high - low > 1:
        middle = (low + high) // 2
        smaller = replace(settings, batch_size=middle, micro_batches=1)
        fits = chooser.changed(settings=smaller).fits(budget_bytes)
        low, high = (middle, high) if fits else (low, middle)
    if low >= least:
        unsplit = " and micro_batches=1" if settings.micro_batches > 1 else ""
        return (
            f"It would fit with batch_size={low}{unsplit} instead of "
            f"{settings.batch_size}."
        )
    if least > 1:
        return (
            "Not even two samples fit, and batch normalization needs as many: make the "
            "layers smaller, or freeze its statistics with trainable=false."
        )
    return "Not even one sample fits: make the layers smaller."


def _changes(chooser: Chooser) -> Iterator[tuple[str, Chooser]]:
    """Yield changes that leave the network as it is, and what each achieves."""
    splits = unsplittable(chooser.graph) is None
    for name in ALLOWABLE:
        if name not in chooser.allow and (splits or name != "micro_batch"):
            yield f"{name!r} in allow", chooser.changed(allow=chooser.allow | {name})
    if chooser.settings.state_names:
        yield (
            "an optimizer without states, such as sgd",
            chooser.changed(settings=replace(chooser.settings, state_names=())),
        )
    if chooser.settings.clip:
        yield (
            "no clip_grad_by_norm, which keeps all gradients",
            chooser.changed(settings=replace(chooser.settings, clip=False)),
        )
    if chooser.settings.micro_batches > 1:
        yield (
            "micro_batches=1, which adds up no gradients",
            chooser.changed(settings=replace(chooser.settings, micro_batches=1)),
        )
