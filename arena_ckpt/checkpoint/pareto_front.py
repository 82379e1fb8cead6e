"""The front that `Model.pareto` returns: plans by bytes, which show themselves."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any, SupportsIndex, overload

from arena_ckpt.checkpoint.front import FrontPoint
from arena_ckpt.common.arguments import public_call, require_value
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.units import format_bytes, format_percent


@public_call(hint="Model.pareto() makes one of all plans of a model")
class ParetoFront(tuple[FrontPoint, ...]):
    """All plans of a model that none other beats in bytes and time.

    A tuple of `FrontPoint`, from the fewest bytes to the least time, so it is a
    sequence that cannot change; a slice of it is a front as well. ``print`` shows it as
    a table, and a notebook with its curve.

    Parameters
    ----------
    points : iterable of FrontPoint

    Raises
    ------
    InvalidParameterError
        Something else than points.

    Examples
    --------
    >>> import arena_ckpt as ac
    >>> front = ac.load_example("digits_mlp").model.pareto()
    >>> front[-1]
    <FrontPoint keep all: arena 726.31 KiB (743,744 B), 0.0 % overhead>
    """

    __slots__ = ()

    def __new__(cls, points: Iterable[FrontPoint] = ()) -> ParetoFront:
        """Return a front of points that are in order already."""
        own = tuple(points) if isinstance(points, Iterable) else (points,)
        require_value(
            "points",
            points,
            fits=all(isinstance(point, FrontPoint) for point in own),
            expected="points of a front, as Model.pareto() returns them",
        )
        return super().__new__(cls, own)

    @overload
    def __getitem__(self, index: SupportsIndex) -> FrontPoint: ...
    @overload
    def __getitem__(self, index: slice) -> ParetoFront: ...
    def __getitem__(self, index: SupportsIndex | slice) -> FrontPoint | ParetoFront:
        """Return a point, or a part of the front as a front."""
        if isinstance(index, slice):
            return ParetoFront(super().__getitem__(index))
        return super().__getitem__(index)

    def __repr__(self) -> str:
        if not self:
            return short_repr(self, "", "no plans")
        first, last = (
            f"{format_bytes(point.arena_bytes)} with "
            f"{format_percent(point.overhead)} overhead"
            for point in (self[0], self[-1])
        )
        n = counted(len(self), "plan")
        return short_repr(self, "", n, *([f"from {first}", f"to {last}"][: len(self)]))

    # Reports stand to the right of plans and fronts; what shows a front is looked up
    # when somebody asks.

    def __str__(self) -> str:
        """Return the front as a table in plain text."""
        report = importlib.import_module("arena_ckpt.report.front_table")
        return str(report.front_text(self))

    def _repr_html_(self) -> str:
        """Return the curve and the table as HTML, as a notebook shows the front."""
        report = importlib.import_module("arena_ckpt.report.front_table")
        return str(report.front_html(self))

    @public_call
    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row of plain values for each plan.

        Returns
        -------
        list of dict
            What ``pandas.DataFrame`` takes, with the keys `label`, `arena_bytes`,
            `overhead` (a share), `live_lower_bound_bytes`, `local_lower_bound_bytes`,
            `n_recomputes`, `recomputed` (layers that run again, separated by ``;``),
            `blocks` (names of checkpoint blocks that give the same plan), `ways`,
            `micro_batches` and `reason`: what is recomputed, and why no other plan
            beats this one.
        """
        report = importlib.import_module("arena_ckpt.report.front_facts")
        rows: list[dict[str, Any]] = report.front_rows(self)
        return rows
