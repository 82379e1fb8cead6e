"""The request for a plan: a budget, an overhead, and the allowed ways to meet them."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import psutil

from arena_ckpt.allocation.integers import is_whole
from arena_ckpt.checkpoint.choose import ALLOWABLE, DEFAULT_ALLOW, Chooser
from arena_ckpt.checkpoint.front import FrontPoint
from arena_ckpt.checkpoint.policy import Patterns, parse_patterns
from arena_ckpt.checkpoint.refusal import does_not_fit, too_slow
from arena_ckpt.common.units import LONGEST_TEXT, format_bytes, parse_bytes
from arena_ckpt.common.wording import few, nearest, quote, quoted, shown
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.planning.planner import require_room

_NUMBERS = (str, int, float, np.integer, np.floating)


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """A checked request for a plan.

    Attributes
    ----------
    budget_bytes : int or None
        Maximum bytes of the arena.
    budget_share : Fraction or None
        The same as a share of the arena that keeps all.
    max_overhead : float or None
        Maximum additional time of an iteration, as a share.
    allow : frozenset of str
        Names out of `ALLOWABLE`.
    levels : int or None
        1 for what named checkpoint blocks can say.
    measure : bool
        Whether costs are measured on this machine.
    patterns : Patterns
        Layers that never run again, or are never kept.
    """

    budget_bytes: int | None
    budget_share: Fraction | None
    max_overhead: float | None
    allow: frozenset[str]
    levels: int | None
    measure: bool
    patterns: Patterns

    @property
    def asks(self) -> bool:
        """Whether a budget or an overhead is given."""
        bounds = (self.budget_bytes, self.budget_share, self.max_overhead)
        return any(bound is not None for bound in bounds)

    def in_bytes(self, chooser: Chooser) -> PlanRequest:
        """Return the request with its budget in bytes, also if it is given as a share.

        Raises
        ------
        InvalidParameterError
            The share comes to more than the memory of this machine.
        """
        if self.budget_share is None:
            return self
        budget_bytes = int(self.budget_share * chooser.keep_all.arena_bytes)
        _require_there(budget_bytes, budget_bytes)
        return replace(self, budget_bytes=budget_bytes, budget_share=None)

    def choose(self, chooser: Chooser) -> FrontPoint:
        """Return the plan that the request asks for.

        Raises
        ------
        BudgetError
            There is none, or it was not found.
        """
        budget_bytes = self.in_bytes(chooser).budget_bytes
        if budget_bytes is None:
            small = chooser.within_overhead(self.max_overhead)
            require_room(small.plan, chooser.settings)
            return small
        point = chooser.within_budget(budget_bytes)
        if point is None:
            raise does_not_fit(chooser, budget_bytes)
        if self.max_overhead is not None and point.overhead > self.max_overhead:
            raise too_slow(point, budget_bytes, self.max_overhead)
        return point


def parse_request(
    *,
    budget: str | int | None = None,
    max_overhead: str | float | None = None,
    allow: str | Iterable[str] | None = None,
    levels: int | None = None,
    measure: bool = False,
    keep: str | Iterable[str] | None = None,
    drop: str | Iterable[str] | None = None,
) -> PlanRequest:
    """Check the values that a user gave and return them as a request.

    Parameters
    ----------
    budget : str or int, optional
        Bytes, for example ``"256KiB"``, or a share of the arena that keeps all, for
        example ``"60%"``.
    max_overhead : str or float, optional
        A share, for example 0.2 or ``"20%"``.
    allow : iterable of str or str, optional
        Names of `ALLOWABLE`, or one text with commas; by default `DEFAULT_ALLOW`.
    levels : {None, 1}
    measure : bool
    keep, drop : str or iterable of str, optional
        Patterns of names of layers.

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
    share = _parse_share(budget)
    return PlanRequest(
        None if budget is None or share is not None else _parse_budget(budget),
        share,
        None if max_overhead is None else parse_overhead(max_overhead),
        DEFAULT_ALLOW if allow is None else _parse_allow(allow),
        levels,
        measure,
        Patterns(parse_patterns("keep", keep), parse_patterns("drop", drop)),
    )


def _parse_share(budget: object) -> Fraction | None:
    """Return the share that a budget such as ``"60%"`` names; None for other budgets.

    Raises
    ------
    InvalidParameterError
        A percent sign behind something else than a number above 0.
    """
    if not isinstance(budget, str) or not budget.rstrip().endswith("%"):
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", budget)
    if match and len(budget) <= LONGEST_TEXT and Fraction(match[1]) > 0:
        return Fraction(match[1]) / 100
    raise InvalidParameterError(
        f"budget={quoted(budget)} is not possible; give a share above 0 % of the arena "
        "that keeps all, for example '60%', or bytes, for example '256KiB'",
        budget=budget,
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
    _require_there(budget_bytes, budget)
    return budget_bytes


def _require_there(budget_bytes: int, budget: object) -> None:
    """Refuse a budget that is more than this machine has."""
    there_bytes = psutil.virtual_memory().total
    if budget_bytes > there_bytes:
        raise InvalidParameterError(
            f"a budget of {format_bytes(budget_bytes)} is more than the memory of this "
            f"machine, {format_bytes(there_bytes)}; the arena could not be allocated. "
            "Give a smaller one, or none",
            budget=budget,
        )


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
