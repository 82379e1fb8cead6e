"""Compares two golden plans: causes, then tensors, then what follows from them."""

from __future__ import annotations

from collections.abc import Iterator

from arena_ckpt.testing.diff_causes import find_causes, find_renamed
from arena_ckpt.testing.diff_steps import Steps, step_changes, steps_of
from arena_ckpt.testing.diff_tensors import TENSOR, tensor_changes
from arena_ckpt.testing.diff_text import diff_lines
from arena_ckpt.testing.golden_changes import (
    Change,
    GoldenDiff,
    change_of_bytes,
    is_number,
    with_new_names,
)
from arena_ckpt.testing.golden_text import GOLDEN_VERSION, GoldenPlan

_TOTALS = (
    "arena_bytes",
    "constant_bytes",
    "live_lower_bound_bytes",
    "local_lower_bound_bytes",
    "naive_bytes",
    "proved_optimal",
    "allocator",
    "n_steps",
)


def compare(old: GoldenPlan, new: GoldenPlan) -> GoldenDiff:
    """Return all differences of two golden plans.

    Where the plans come from, and which version wrote them, does not count. What one
    of them does not pin is no difference.
    """
    renamed = find_renamed(old, new)
    old_version = old.version
    if renamed:
        old = with_new_names(old, renamed)
    causes = tuple(find_causes(old, new, renamed))
    steps = (steps_of(old), steps_of(new))
    of_tensors = tuple(
        one
        for one in tensor_changes(old, new, steps)
        if not (renamed and one.what == "order")  # tensors are sorted by name
    )
    consequences: tuple[Change, ...] = (
        *_totals(old, new, steps),
        *step_changes(*steps),
        *(one for one in of_tensors if one.what not in TENSOR),
    )
    if not (causes or of_tensors or consequences) and _rows(old) != _rows(new):
        text = "other numbers of steps at which nothing runs"
        consequences = (Change("rows", "plan", None, None, text),)
    return GoldenDiff(
        causes,
        tuple(one for one in of_tensors if one.what in TENSOR),
        consequences,
        same_model=not causes and old.pins_properties and new.pins_properties,
        renamed=renamed,
        last_step=max(steps[1].operations, default=0),
        old_format=old_version if old_version < GOLDEN_VERSION else None,
    )


def _rows(golden: GoldenPlan) -> object:
    return (
        *(list(rows.items()) for rows in (golden.blocks, golden.orders)),
        list(golden.tensors.items()),
    )


def differences(old: GoldenPlan, new: GoldenPlan) -> list[str]:
    """Return the differences in lines, causes first; the list is empty if none are.

    Changes of one kind are folded; `compare` has each.
    """
    return diff_lines(compare(old, new))


def _totals(
    old: GoldenPlan, new: GoldenPlan, steps: tuple[Steps, Steps]
) -> Iterator[Change]:
    """Yield the totals that are another."""
    for key in _TOTALS:
        nothing = "0" if key == "constant_bytes" else "none"
        before, after = (golden.facts.get(key, nothing) for golden in (old, new))
        if before == after:
            continue
        are_bytes = key.endswith("_bytes") and is_number(before) and is_number(after)
        label = key.removesuffix("_bytes").removeprefix("n_").replace("_", " ")
        told = (
            change_of_bytes(int(before), int(after))
            if are_bytes
            else f"{before} → {after}"
        )
        yield Change("total", key, before, after, f"{label} {told}")
    peaks = [(golden.facts.get("peak_step", ""), golden) for golden in (old, new)]
    if peaks[0][0] != peaks[1][0]:
        told = " → ".join(
            f"{step} ({one.at(int(step))})" if is_number(step) else step or "none"
            for (step, _), one in zip(peaks, steps, strict=True)
        )
        pair = (peaks[0][0] or None, peaks[1][0] or None)
        yield Change("total", "peak_step", *pair, f"peak step {told}")
