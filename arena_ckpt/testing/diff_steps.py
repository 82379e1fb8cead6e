"""Names the steps of golden plans by what runs at them, and compares their order.

A layer more shifts the number of every later step. What runs at a step stays the same,
so live ranges and accesses are compared by that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from arena_ckpt.common.phases import Phase
from arena_ckpt.testing.diff_causes import out_of_order
from arena_ckpt.testing.golden_changes import Change, is_number
from arena_ckpt.testing.golden_text import GoldenPlan

_BACKWARD = (Phase.CALC_GRADIENT, Phase.CALC_DERIVATIVE, Phase.APPLY_GRADIENT)


class Operation(NamedTuple):
    """What runs at a step: a phase of a layer, recomputes counted from 0."""

    phase: str
    layer: str
    times: int = 0

    def __str__(self) -> str:
        if not self.layer:
            return self.phase
        again = f" ({self.times + 1})" if self.times else ""
        return f"{self.phase} of {self.layer}{again}"


@dataclass(frozen=True, slots=True)
class Steps:
    """The operations of a golden plan by step, and the number of its steps."""

    operations: dict[int, Operation]
    n_steps: int

    def at(self, step: int) -> str:
        """Return a step in words: what runs there, or what ran last before it."""
        if step in self.operations:
            return str(self.operations[step])
        before = max((s for s in self.operations if s < step), default=None)
        if before is None:
            return f"step {step}"
        return f"{step - before} behind {self.operations[before]}"


def steps_of(golden: GoldenPlan) -> Steps:
    """Return what runs at the steps of a plan, as its execution orders say."""
    found: dict[int, Operation] = {}
    is_inference = all(set(row[2:]) == {"0"} for row in golden.orders.values())
    for layer, (_, forward, recompute, *backward) in golden.orders.items():
        found[int(forward)] = Operation(Phase.FORWARD.value, layer)
        if is_inference:
            continue
        numbers = recompute.split("+") if recompute != "0" else []
        for times, number in enumerate(numbers):
            found[int(number)] = Operation(Phase.RECOMPUTE.value, layer, times)
        if len(set(backward)) == 1:  # a frozen layer only passes derivatives on
            found[int(backward[0])] = Operation(Phase.CALC_DERIVATIVE.value, layer)
            continue
        for phase, number in zip(_BACKWARD, backward, strict=True):
            found[int(number)] = Operation(phase.value, layer)
    for row in golden.tensors.values():
        for number in re.findall(r"C(\d+)", row[-1]):
            found[int(number)] = Operation(Phase.CLIP_GRADIENTS.value, "")
    said = golden.facts.get("n_steps", "")
    last = max(found, default=-1)
    return Steps(found, int(said) if is_number(said) else last + 1)


def step_changes(old: Steps, new: Steps) -> Iterator[Change]:
    """Yield operations that come, go, run in another order, or have another number."""
    before, after = (
        {operation: step for step, operation in sorted(steps.operations.items())}
        for steps in (old, new)
    )
    layers = [{one.layer for one in many} for many in (before, after)]
    both = layers[0] & layers[1]
    yield from _recomputes(before, after, both)
    for what, having, lacking in (("gone", before, after), ("new", after, before)):
        for one in having:
            if one in lacking or one.phase == Phase.RECOMPUTE.value:
                continue
            if one.layer in both or not one.layer:
                was, now = (
                    str(many[one]) if one in many else None for many in (before, after)
                )
                yield Change("operation", str(one), was, now, f"{one}: {what}")
    shared = [one for one in before if one in after], [o for o in after if o in before]
    moved = set(out_of_order(*map(_texts, shared)))
    behind = [
        {
            str(one): f"behind {many[i - 1]}" if i else "first"
            for i, one in enumerate(many)
        }
        for many in (shared if moved else ())
    ]
    for name in (name for name in _texts(shared[1]) if name in moved):
        was, now = (one[name] for one in behind)
        yield Change("order", name, was, now, f"{name}: {was} → {now}")
    for one, step in after.items():
        if one in before and before[one] != step:
            text = f"{one}: step {before[one]} → {step}"
            yield Change("step", str(one), str(before[one]), str(step), text)


def _texts(operations: list[Operation]) -> list[str]:
    return [str(one) for one in operations]


def _recomputes(
    before: dict[Operation, int], after: dict[Operation, int], both: set[str]
) -> Iterator[Change]:
    """Yield the layers that are recomputed more or less often."""
    counts: list[dict[str, int]] = [{}, {}]
    for count, many in zip(counts, (before, after), strict=True):
        for one in many:
            if one.phase == Phase.RECOMPUTE.value and one.layer in both:
                count[one.layer] = count.get(one.layer, 0) + 1
    for layer in counts[0] | counts[1]:
        old, new = (count.get(layer, 0) for count in counts)
        if old != new:
            text = f"{layer}: recomputed {old} → {new} times"
            yield Change("recompute", layer, str(old), str(new), text)
