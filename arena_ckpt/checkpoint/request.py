"""The request for a plan: a budget, an overhead, and the allowed ways to meet them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import psutil

from arena_ckpt.allocation.integers import is_whole
from arena_ckpt.checkpoint.choose import ALLOWABLE, DEFAULT_ALLOW, Chooser
from arena_ckpt.checkpoint.front import FrontPoint
from arena_ckpt.checkpoint.refusal import does_not_fit, too_slow
from arena_ckpt.common.units import format_bytes, parse_bytes
from arena_ckpt.common.wording import few, nearest, quote, quoted, shown
from arena_ckpt.errors import InvalidParameterError

_NUMBERS = (str, int, float, np.integer, np.floating)


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """A checked request for a plan.

    Attributes
    ----------
    budget_bytes : int or None
        Maximum bytes of the arena.
    max_overhead : float or None
        Maximum additional time of an iteration, as a share.
    allow : frozenset of str
        Names out of `ALLOWABLE`.
    levels : int or None
        1 for what named checkpoint blocks can say.
    measure : bool
        Whether costs are measured on this machine.
    """

    budget_bytes: int | None
    max_overhead: float | None
    allow: frozenset[str]
    levels: int | None
    measure: bool

    @property
    def asks(self) -> bool:
        """Whether a budget or an overhead is given."""
        return self.budget_bytes is not None or self.max_overhead is not None

    def choose(self, chooser: Chooser) -> FrontPoint:
        """Return the plan that the request asks for.

        Raises
        ------
        BudgetError
            There is none, or it was not found.
        """
        if self.budget_bytes is None:
            return chooser.within_overhead(self.max_overhead)
        point = chooser.within_budget(self.budget_bytes)
        if point is None:
            raise does_not_fit(chooser, self.budget_bytes)
        if self.max_overhead is not None and point.overhead > self.max_overhead:
            raise too_slow(point, self.budget_bytes, self.max_overhead)
        return point


def parse_request(
    *,
    budget: str | int | None = None,
    max_overhead: str | float | None = None,
    allow: str | Iterable[str] | None = None,
    levels: int | None = None,
    measure: bool = False,
) -> PlanRequest:
    """Check the values that a user gave and return them as a request.

    Parameters
    ----------
    budget : str or int, optional
        Bytes, for example ``"256KiB"``.
    max_overhead : str or float, optional
        A share, for example 0.2 or ``"20%"``.
    allow : iterable of str or str, optional
        Names of `ALLOWABLE`, or one text with commas; by default `DEFAULT_ALLOW`.
    levels : {None, 1}
    measure : bool

    Raises
    ------
    InvalidParameterError
        Something that makes no sense, or a budget above the memory of this machine.
    """
    if levels is not None and not (is_whole(levels) and levels == 1):
        raise InvalidParameterError(
            f"levels={quoted(levels)} is not possible; 1 takes what named checkpoint "
            "blocks can say, None recomputes within recomputes where that pays",
            levels=levels,
        )
    if not isinstance(measure, bool):
        raise InvalidParameterError(
            f"measure={quoted(measure)} is not possible; give True or False",
            measure=measure,
        )
    return PlanRequest(
        None if budget is None else _parse_budget(budget),
        None if max_overhead is None else parse_overhead(max_overhead),
        DEFAULT_ALLOW if allow is None else _parse_allow(allow),
        levels,
        measure,
    )


def _parse_budget(budget: object) -> int:
    if isinstance(budget, bool) or not isinstance(budget, str | int | np.integer):
        raise InvalidParameterError(
            f"budget={quoted(budget)} is not possible; give bytes, for example 262144 "
            "or '256KiB'",
            budget=budget,
        )
    try:
        budget_bytes = parse_bytes(budget if isinstance(budget, str) else int(budget))
    except InvalidParameterError as error:
        raise InvalidParameterError(f"budget: {error}", budget=budget) from None
    there_bytes = psutil.virtual_memory().total
    if budget_bytes > there_bytes:
        raise InvalidParameterError(
            f"a budget of {format_bytes(budget_bytes)} is more than the memory of this "
            f"machine, {format_bytes(there_bytes)}; the arena could not be allocated. "
            "Give a smaller one, or none",
            budget=budget,
        )
    return budget_bytes


def parse_overhead(value: object) -> float:
    """Return an overhead such as ``0.2`` or ``"20%"`` as a share.

    Raises
    ------
    InvalidParameterError
        Not a number of at least 0.
    """
    share = math.nan
    if isinstance(value, _NUMBERS) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            text = value.strip() if isinstance(value, str) else ""
            share = float(text[:-1]) / 100 if text.endswith("%") else float(value)
    if not 0 <= share < math.inf:
        raise InvalidParameterError(
            f"max_overhead={quoted(value)} is not possible; give a share of at least "
            "0, for example 0.2 or '20%'",
            max_overhead=value,
        )
    return share


def _parse_allow(allow: object) -> frozenset[str]:
    if isinstance(allow, str):
        allow = [part.strip() for part in allow.split(",") if part.strip()]
    try:
        names = few(allow)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidParameterError(
            f"allow={quoted(allow)} is not possible; give names out of "
            f"{quote(ALLOWABLE)}",
            allow=allow,
        ) from None
    for name in names:
        if not isinstance(name, str) or name not in ALLOWABLE:
            raise InvalidParameterError(
                f"allow: there is no {quoted(name)}"
                f"{nearest(shown(name), ALLOWABLE)}; known are "
                f"{quote(ALLOWABLE)}",
                allow=allow,
            )
    return frozenset(names)
