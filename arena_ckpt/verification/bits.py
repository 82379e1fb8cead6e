"""Compares two runs bit by bit: every result of the steps, and the final results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.phases import Phase
from arena_ckpt.engine.debug.runner import Moment, Watcher, backward_of
from arena_ckpt.engine.views import TensorViews
from arena_ckpt.planning.tensors import Execution, Operand, TensorKind

Array = npt.NDArray[np.generic]
Key = tuple[int, Phase, str, str]
"""Number of the pass, and phase, layer and role of a result."""


class _OfResults(Watcher):
    """Looks at the results of steps and counts the passes."""

    def __init__(self, views: TensorViews) -> None:
        self.views = views
        self._pass = -1

    def before(self, moment: Moment) -> None:
        """Count a pass if the step begins one."""
        if moment.step == 0:
            self._pass += 1

    def after(self, moment: Moment) -> None:
        """Look at each result of the step."""
        if moment.execution is None:
            return
        for operand in _results(moment.execution, self.views):
            again = moment.execution.phase is Phase.RECOMPUTE
            phase = Phase.FORWARD if again else moment.execution.phase
            key = self._pass, phase, moment.execution.layer, operand.role
            self.look(key, operand, moment)

    def look(self, key: Key, operand: Operand, moment: Moment) -> None:
        """Look at a result."""


class Record(_OfResults):
    """Keeps the results of the first steps of a run that is taken to be right.

    Parameters
    ----------
    views : TensorViews
        Record of a plan that recomputes nothing.
    """

    def __init__(self, views: TensorViews) -> None:
        super().__init__(views)
        self.values: dict[Key, Array] = {}

    def look(self, key: Key, operand: Operand, moment: Moment) -> None:
        """Copy a result."""
        values = self.views.array(operand.tensor, moment.n_samples)
        self.values[key] = values.copy()


class Comparison(_OfResults):
    """Finds the first step whose results have other bits than the recorded ones.

    A recompute is compared with the forward pass of its layer.

    Parameters
    ----------
    views : TensorViews
    record : Record or None
        None compares nothing.
    """

    def __init__(self, views: TensorViews, record: Record | None) -> None:
        super().__init__(views)
        self._expected = record.values if record else {}
        executions = views.plan.executions
        self._next = {a.step: b for a, b in pairwise(executions)}
        self.n_tensors = 0
        self.n_bytes = 0
        self.difference: str | None = None

    def look(self, key: Key, operand: Operand, moment: Moment) -> None:
        """Compare a result with the recorded one, until one differs."""
        expected = self._expected.get(key)
        if self.difference or expected is None or self._is_overwritten(operand, moment):
            return
        found = self.views.array(operand.tensor, moment.n_samples)
        self.n_tensors += 1
        self.n_bytes += found.nbytes
        if is_same(found, expected):
            return
        plan = self.views.plan
        reader = backward_of(plan, moment.step)
        purpose = f", for the backward pass of {reader!r}," if reader else ""
        self.difference = (
            f"{moment.doer}{purpose} makes {plan.tensors[operand.tensor].name} "
            f"otherwise: {describe_difference(found, expected)}"
        )

    def _is_overwritten(self, operand: Operand, moment: Moment) -> bool:
        """Say whether a later part of the same step overwrites the result.

        A bias is added and an activation applied in one pass where they share bytes.
        """
        later = self._next.get(moment.step)
        if later is None or moment.program.n_calls(later.step, later.step + 1):
            return False
        place = self.views.offset_bytes(operand.tensor)
        return any(
            self.views.offset_bytes(other.tensor) == place
            for other in _results(later, self.views)
        )


def _results(execution: Execution, views: TensorViews) -> Iterator[Operand]:
    """Yield the operands of a step that other steps read."""
    for operand in execution.operands:
        kind = views.plan.tensors[operand.tensor].kind
        if operand.access.writes and kind is not TensorKind.WORKSPACE:
            yield operand


def is_same(one: Array, other: Array) -> bool:
    """Say whether two arrays have the same bits."""
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def first_difference(
    found: Mapping[str, Array], expected: Mapping[str, Array]
) -> str | None:
    """Describe the first array that differs, in the order of `expected`."""
    for name, array in expected.items():
        if name not in found:
            return f"{name} is missing"
        if not is_same(found[name], array):
            return f"{name} differs: {describe_difference(found[name], array)}"
    return None


def describe_difference(found: Array, expected: Array) -> str:
    """Say how many values differ, where the first is, and the largest difference."""
    if found.shape != expected.shape:
        return f"its shape is {found.shape}, not {expected.shape}"
    size = found.dtype.itemsize
    bits, wanted = (
        np.ascontiguousarray(a).reshape(-1).view(f"u{size}") for a in (found, expected)
    )
    places = np.flatnonzero(bits != wanted)
    first = np.unravel_index(int(places[0]), found.shape) if found.shape else ()
    with np.errstate(all="ignore"):
        gaps = np.abs(
            found.reshape(-1)[places].astype(np.float64)
            - expected.reshape(-1)[places].astype(np.float64)
        )
    n_nan = int(np.isnan(gaps).sum())
    largest = float(np.nanmax(gaps)) if n_nan < len(gaps) else float("nan")
    where = ", ".join(str(int(i)) for i in first)
    nan = f", {n_nan:,} of them NaN" if n_nan else ""
    return (
        f"{len(places):,} of {found.size:,} values{nan}, the first at [{where}], by "
        f"{largest:.3g} at most"
    )
