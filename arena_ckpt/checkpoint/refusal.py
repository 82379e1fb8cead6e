"""The errors for a budget that no plan fits, with what would help."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from arena_ckpt.checkpoint.choose import (
    ALLOWABLE,
    NO_PATTERNS,
    Chooser,
    unsplittable,
)
from arena_ckpt.checkpoint.front import FrontPoint
from arena_ckpt.checkpoint.policy import Patterns
from arena_ckpt.common.units import format_bytes, format_percent
from arena_ckpt.common.wording import quote
from arena_ckpt.errors import BudgetError
from arena_ckpt.planning.batch_statistics import least_samples
from arena_ckpt.planning.placing import describe_rams

_SPLIT = "micro_batch"

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
        proved = ", and no plan can need less with these layers and this batch"
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


@dataclass(frozen=True, slots=True)
class _Change:
    """A change after which a model may fit.

    Attributes
    ----------
    words : str
        What to change, to follow "It would fit with".
    made : callable
        Returns a chooser for the changed model.
    way : str
        The name in `ALLOWABLE`, if it is one of these.
    """

    words: str
    made: Callable[[Chooser], Chooser]
    way: str = ""


def _advice(chooser: Chooser, budget_bytes: int) -> str:
    """Return a text that names the least change after which a plan fits.

    Whatever it names was planned: single changes first, then a smaller batch, then
    several of these together.
    """
    patterns = chooser.patterns
    kinds = Patterns(keep=patterns.keep), Patterns(drop=patterns.drop)
    for less in dict.fromkeys(filter(None, (*kinds, patterns))):
        free = chooser.changed(patterns=patterns.without(less))
        if free.within_budget(budget_bytes):
            return f"It would fit with {less} left out."
    changes = list(_changes(chooser))
    one = next((c for c in changes if c.made(chooser).fits(budget_bytes)), None)
    enough = one or _smaller_batch(chooser, budget_bytes)
    unrolling = _unrolling(chooser)
    if unrolling is not None and unrolling.made(chooser).fits(budget_bytes):
        words = f"{enough.words}, or with " if enough else ""
        return f"It would fit with {words}{unrolling.words}."
    if enough is not None:
        return f"It would fit with {enough.words}."
    if patterns:
        changes.insert(0, _Change(f"{patterns} left out", _without_patterns))
    together = _together(chooser, changes, budget_bytes)
    if not together and unrolling is not None:
        together = _unrolled_together(chooser, changes, unrolling, budget_bytes)
    if not together:
        return _too_large(chooser, [*changes, *([unrolling] if unrolling else [])])
    return f"It would fit with {_and(c.words for c in together)}, together."


def _together(
    chooser: Chooser, changes: Sequence[_Change], budget_bytes: int
) -> list[_Change]:
    """Return changes that are enough together, none of them in vain; may be empty."""
    needed = [*changes]
    if not _all_of(changes)(chooser).fits(budget_bytes):
        # A smaller batch saves what smaller parts of a batch do, and more.
        needed = [c for c in changes if c.way != _SPLIT]
        smaller = _smaller_batch(_all_of(needed)(chooser), budget_bytes)
        if smaller is None:
            return []
        needed.append(smaller)
    for change in changes:
        others = [other for other in needed if other is not change]
        if len(others) > 1 and _all_of(others)(chooser).fits(budget_bytes):
            needed = others
    return needed


def _unrolled_together(
    chooser: Chooser,
    changes: Sequence[_Change],
    unrolling: _Change,
    budget_bytes: int,
) -> list[_Change]:
    """Return the same with recurrent layers unrolled, which takes long to plan.

    So the batch is halved until a plan fits, first with the default ways to run.
    """
    plain = [unrolling, *(c for c in changes if not c.way)]
    all_ways = [unrolling, *(c for c in changes if c.way != _SPLIT)]
    for needed in (plain, all_ways):
        batch_size = chooser.settings.batch_size
        while batch_size >= least_samples(chooser.graph):
            smaller = _batch_of(batch_size, chooser)
            if _all_of([*needed, smaller])(chooser).fits(budget_bytes):
                return [*needed, smaller] if smaller.words else needed
            batch_size //= 2
    return []


def _too_large(chooser: Chooser, changes: Sequence[_Change]) -> str:
    least = least_samples(chooser.graph)
    tried = _and(change.words for change in changes)
    even = f", even with {tried}" if tried else ""
    if least > 1:
        return (
            f"Not even two samples fit{even}, and batch normalization needs as many: "
            "make the layers smaller, or freeze its statistics with trainable=false."
        )
    return f"Not even one sample fits{even}: make the layers smaller."


def _all_of(changes: Sequence[_Change]) -> Callable[[Chooser], Chooser]:
    def made(chooser: Chooser) -> Chooser:
        for change in changes:
            chooser = change.made(chooser)
        return chooser

    return made


def _and(words: Iterable[str]) -> str:
    *most, last = [*words] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _without_patterns(chooser: Chooser) -> Chooser:
    return chooser.changed(patterns=NO_PATTERNS)


def _with_settings(**values: Any) -> Callable[[Chooser], Chooser]:
    def made(chooser: Chooser) -> Chooser:
        return chooser.changed(settings=replace(chooser.settings, **values))

    return made


def _with_way(name: str) -> Callable[[Chooser], Chooser]:
    return lambda chooser: chooser.changed(allow=chooser.allow | {name})


def _smaller_batch(chooser: Chooser, budget_bytes: int) -> _Change | None:
    """Return the largest smaller batch found for which a plan fits."""
    settings, least = chooser.settings, least_samples(chooser.graph)
    low, high = least - 1, settings.batch_size
    while high - low > 1:
        middle = (low + high) // 2
        smaller = _with_settings(batch_size=middle, micro_batches=1)(chooser)
        fits = smaller.fits(budget_bytes)
        low, high = (middle, high) if fits else (low, middle)
    if low < least:
        return None
    return _batch_of(low, chooser)


def _batch_of(batch_size: int, chooser: Chooser) -> _Change:
    """Return the change to a batch of this size, without words if it is the same."""
    settings = chooser.settings
    unsplit = " and micro_batches=1" if settings.micro_batches > 1 else ""
    words = f"batch_size={batch_size}{unsplit} instead of {settings.batch_size}"
    return _Change(
        "" if batch_size == settings.batch_size else words,
        _with_settings(batch_size=batch_size, micro_batches=1),
    )


def _unrolling(chooser: Chooser) -> _Change | None:
    if chooser.unrolled() is None:
        return None
    return _Change(
        f"unroll=true for {quote(chooser.loops)}",
        lambda other: other.unrolled() or other,
    )


def _changes(chooser: Chooser) -> Iterator[_Change]:
    """Yield changes that leave what the network computes as it is."""
    splits = unsplittable(chooser.graph) is None
    settings = chooser.settings
    for name in ALLOWABLE:
        if name not in chooser.allow and (splits or name != _SPLIT):
            yield _Change(f"{name!r} in allow", _with_way(name), name)
    if settings.state_names:
        words = "an optimizer without states, such as sgd"
        yield _Change(words, _with_settings(state_names=()))
    if settings.clip:
        words = "no clip_grad_by_norm, which keeps all gradients"
        yield _Change(words, _with_settings(clip=False))
    if settings.micro_batches > 1:
        words = "micro_batches=1, which adds up no gradients"
        yield _Change(words, _with_settings(micro_batches=1))
