"""Looks for NaN and infinity in whatever a step wrote."""

from __future__ import annotations

import numpy as np

from arena_ckpt.common.phases import Phase
from arena_ckpt.data.arrays import is_usable
from arena_ckpt.engine.debug.runner import Moment, Watcher, backward_of
from arena_ckpt.engine.views import TensorViews
from arena_ckpt.errors import NonFiniteError
from arena_ckpt.planning.tensors import Access, Execution, Operand, TensorKind

_MOST_NAMED = 6
"""Maximum number of layers that a message names as having run again."""


class FiniteWatch(Watcher):
    """Names the first step that writes NaN or infinity, and what ran again by then.

    Parameters
    ----------
    views : TensorViews
        Of any plan.
    masks : frozenset of str
        The tensors that may hold -inf.
    """

    def __init__(self, views: TensorViews, masks: frozenset[str] = frozenset()) -> None:
        self._views = views
        self._masks = masks
        self._plan = views.plan
        self._recomputed: list[str] = []

    def before(self, moment: Moment) -> None:
        """Forget the recomputes of the last pass."""
        if moment.step == 0:
            self._recomputed.clear()

    def after(self, moment: Moment) -> None:
        """Look at the tensors that were written.

        Raises
        ------
        NonFiniteError
            The message names layer and tensor.
        """
        execution = moment.execution
        if execution is None:
            return
        if moment.n_calls:
            self._check(execution, moment)
        if execution.phase is Phase.RECOMPUTE:
            self._recomputed.append(execution.layer)

    def _check(self, execution: Execution, moment: Moment) -> None:
        for operand in execution.operands:
            kind = self._plan.tensors[operand.tensor].kind
            if operand.access is Access.READ or kind is TensorKind.WORKSPACE:
                continue  # a workspace need not be filled
            values = self._views.array(operand.tensor, moment.n_samples)
            name = self._plan.tensors[operand.tensor].name
            finite = is_usable(values, name in self._masks)
            if finite.all():
                continue
            reader = backward_of(self._plan, execution.step)
            raise NonFiniteError(
                f"{moment.doer}{_purpose(reader)} wrote "
                f"{np.count_nonzero(~finite):,} values that are NaN or infinite into "
                f"{name}{self._replaced(operand, execution)} (of {values.size:,})"
                f"{self._sources(moment)}; {_history(self._recomputed)}weights are as "
                "before the iteration. Lower the learning rate, clip gradients or look "
                "at the data",
                layer=execution.layer,
                phase=execution.phase,
                step=execution.step,
                tensor=name,
                recomputed=tuple(self._recomputed),
                backward_of=reader,
            )

    def _replaced(self, result: Operand, execution: Execution) -> str:
        """Say which operand the result stands in the place of."""
        place = self._views.offset_bytes(result.tensor)
        replaced = [
            self._plan.tensors[other.tensor].name
            for other in execution.operands
            if not other.access.writes
            and self._views.offset_bytes(other.tensor) == place
        ]
        return f", in place of {replaced[0]}" if replaced else ""

    def _sources(self, moment: Moment) -> str:
        """Say which operands are not finite themselves."""
        assert moment.execution is not None
        operands = moment.execution.operands
        written = {
            self._views.offset_bytes(o.tensor) for o in operands if o.access.writes
        }
        broken = [
            f"{self._plan.tensors[o.tensor].name} ({o.role})"
            for o in operands
            if self._views.offset_bytes(o.tensor) not in written
            and not is_usable(
                self._views.array(o.tensor, moment.n_samples),
                self._plan.tensors[o.tensor].name in self._masks,
            ).all()
        ]
        return f", because of those in {', '.join(broken)}" if broken else ""


def _purpose(reader: str | None) -> str:
    return f", for the backward pass of {reader!r}," if reader else ""


def _history(recomputed: list[str]) -> str:
    """Say which layers had run again, in their order; the last ones of many."""
    if not recomputed:
        return ""
    last = ", ".join(recomputed[-_MOST_NAMED:])
    if len(recomputed) <= _MOST_NAMED:
        return f"recomputed by then: {last}; "
    return f"recomputed by then: {len(recomputed)} layers, last {last}; "
