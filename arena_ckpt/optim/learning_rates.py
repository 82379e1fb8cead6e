"""Learning-rate schedules: the learning rate of each iteration.

Types, property names and formulas are those of NNTrainer's learning-rate schedulers,
so that its INI files carry over. NNTrainer computes some of them in single precision;
here everything is double, so the values agree to about seven digits.

References
----------
I. Loshchilov, F. Hutter, "SGDR: Stochastic gradient descent with warm restarts",
ICLR 2017 (the cosine schedule).
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arena_ckpt.common.aliases import SCHEDULES, renamed
from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.properties import (
    COUNTS,
    NONNEGATIVE_REAL,
    POSITIVE_INT,
    POSITIVE_REAL,
    POSITIVE_REALS,
    Property,
    parse_properties,
    split_strings,
    write_properties,
)
from arena_ckpt.common.short_repr import brief
from arena_ckpt.common.wording import nearest, quoted, shown
from arena_ckpt.errors import InvalidParameterError, UnknownTypeError
from arena_ckpt.operations.elementary import cosine, power


@dataclass(frozen=True, slots=True)
class Schedule:
    """A learning rate for every iteration; `create_schedule` makes one.

    Attributes
    ----------
    type_name : str
        A key of `SCHEDULE_SCHEMAS`.
    values : mapping from str to object
        Every property of the type, parsed.
    """

    type_name: str
    values: Mapping[str, Any]

    def __repr__(self) -> str:
        given = (f"{name}={brief(value)}" for name, value in self.values.items())
        return f"{self.type_name}({', '.join(given)})"

    @public_call
    def learning_rate_at(self, iteration: int) -> float:
        """Return the learning rate of an iteration.

        Parameters
        ----------
        iteration : int
            Counts from 0.

        Returns
        -------
        float
            Infinite where a growing exponential schedule leaves the range of floats.

        Raises
        ------
        InvalidParameterError
            No number, or a negative one.
        """
        is_number = isinstance(iteration, int | float | np.integer | np.floating)
        if not is_number or not iteration >= 0:
            raise InvalidParameterError(
                f"iteration {quoted(iteration)} is not possible; the first one is 0",
                iteration=iteration,
            )
        return _FORMULAS[self.type_name](self.values, iteration)

    def first_restart(self, start: int, stop: int) -> int | None:
        """Return the first iteration at which the schedule begins anew.

        Parameters
        ----------
        start, stop : int
            Half-open range of iterations to look at; a schedule that begins anew at
            `start` is not counted.

        Returns
        -------
        int or None
            The iteration, whose rate is higher than that of the one before; None where
            there is none, as in every schedule but cosine.
        """
        if self.type_name != "cosine":
            return None
        steps = self.values["decay_steps"]
        restart: int = (start // steps + 1) * steps
        if restart >= stop:
            return None
        rises = self.learning_rate_at(restart) > self.learning_rate_at(restart - 1)
        return restart if rises else None

    def to_properties(self) -> dict[str, str]:
        """Return the properties as text that `create_schedule` reads back exactly."""
        return write_properties(SCHEDULE_SCHEMAS[self.type_name], self.values)


_LEARNING_RATE = Property(
    "learning_rate", POSITIVE_REAL, None, "the learning rate (of the first iteration)"
)
_DECAY = (
    Property(
        "max_learning_rate", POSITIVE_REAL, None, "the learning rate of iteration 0"
    ),
    Property(
        "min_learning_rate",
        NONNEGATIVE_REAL,
        None,
        "the learning rate towards which it falls",
    ),
    Property("decay_steps", POSITIVE_INT, None, "the iterations that the fall takes"),
)

SCHEDULE_SCHEMAS: dict[str, tuple[Property, ...]] = {
    "constant": (_LEARNING_RATE,),
    "exponential": (
        _LEARNING_RATE,
        Property(
            "decay_rate",
            POSITIVE_REAL,
            None,
            "the factor gained over decay_steps iterations",
        ),
        Property(
            "decay_steps",
            POSITIVE_INT,
            None,
            "the iterations after which decay_rate is reached",
        ),
    ),
    "step": (
        Property(
            "iteration",
            COUNTS,
            None,
            "the last iteration of each learning rate but the last, ascending",
        ),
        Property(
            "learning_rate",
            POSITIVE_REALS,
            None,
            "the learning rates, one more than iterations",
        ),
    ),
    "linear": _DECAY,
    "cosine": _DECAY,
}
"""The properties of each type of schedule; all of them are required."""


@public_call
def create_schedule(
    type_name: str, properties: Sequence[str] = (), **values: object
) -> Schedule:
    """Return a learning-rate schedule with the given properties.

    Parameters
    ----------
    type_name : str
        ``constant``, ``exponential``, ``step``, ``linear`` or ``cosine``; upper and
        lower case mean the same.
    properties : sequence of str
        NNTrainer-style ``"key=value"``.
    **values
        The same as keyword arguments.

    Returns
    -------
    Schedule

    Raises
    ------
    UnknownTypeError
        No such type; the nearest one is named.
    UnknownPropertyError
        The type has no such property.
    InvalidParameterError
        A property is missing, is given twice or has an impossible value.

    Notes
    -----
    With i the iteration, from 0, and d the decay steps:

    - constant: learning_rate.
    - exponential: learning_rate · decay_rate^(i / d), smoothly and without end.
    - step: the first learning rate up to and including the first iteration of the
      list, then the second, and so on; the last one from then on.
    - linear: from max_learning_rate down to min_learning_rate at i = d, and there it
      stays.
    - cosine: half a cosine from max_learning_rate down towards min_learning_rate. At
      i = d it starts again from the maximum (i is taken modulo d), so the minimum
      itself is never reached. For a single fall, let d be the number of iterations
      of the whole training.

    Examples
    --------
    >>> create_schedule("linear", max_learning_rate=1.0, min_learning_rate=0.1,
    ...                 decay_steps=9).learning_rate_at(5)
    0.5
    """
    type_name = shown(type_name).strip().lower()
    if type_name not in SCHEDULE_SCHEMAS:
        near = nearest(type_name, SCHEDULE_SCHEMAS)
        raise UnknownTypeError(
            f"unknown learning-rate schedule {type_name!r}"
            f"{renamed(type_name, SCHEDULES, SCHEDULE_SCHEMAS) or near}; known are "
            f"{', '.join(SCHEDULE_SCHEMAS)}",
            type_name=type_name,
            known=tuple(SCHEDULE_SCHEMAS),
        )
    owner = f"schedule {type_name!r}"
    given = _given_once(owner, split_strings(owner, properties), values)
    schema = SCHEDULE_SCHEMAS[type_name]
    parsed = parse_properties(owner, schema, given)
    _require_all(owner, schema, parsed)
    _check_together(owner, type_name, parsed)
    return Schedule(type_name, parsed)


def _given_once(
    owner: str, strings: Mapping[str, object], values: Mapping[str, object]
) -> dict[str, object]:
    """Return properties given as strings and as arguments; refuse one given twice."""
    twice = next((key for key in values if key in strings), None)
    if twice is not None:
        raise InvalidParameterError(
            f"{owner}: {twice} is given twice ({quoted(strings[twice])} and "
            f"{quoted(values[twice])}); keep one",
            owner=owner,
            property=twice,
        )
    return {**strings, **values}


def _require_all(
    owner: str, schema: tuple[Property, ...], parsed: Mapping[str, object]
) -> None:
    """Refuse a schedule that lacks a property."""
    missing = [declared for declared in schema if declared.name not in parsed]
    if missing:
        names = ", ".join(declared.name for declared in missing)
        raise InvalidParameterError(
            f"{owner}: missing {names}; give "
            + ", and ".join(
                f"{declared.name} ({declared.help}): {declared.kind.expects}"
                for declared in missing
            ),
            owner=owner,
            missing=tuple(declared.name for declared in missing),
        )


def _check_together(owner: str, type_name: str, parsed: Mapping[str, Any]) -> None:
    """Refuse values of two properties that do not go together."""
    if type_name == "step":
        _check_iterations(owner, parsed["iteration"], parsed["learning_rate"])
    elif type_name in ("linear", "cosine"):
        highest, lowest = parsed["max_learning_rate"], parsed["min_learning_rate"]
        if lowest > highest:
            raise InvalidParameterError(
                f"{owner}: min_learning_rate={lowest} is above max_learning_rate="
                f"{highest}; exchange them",
                owner=owner,
                min_learning_rate=lowest,
                max_learning_rate=highest,
            )


def _check_iterations(
    owner: str, iterations: tuple[int, ...], rates: tuple[float, ...]
) -> None:
    """Refuse iterations that do not ascend, or do not go with the learning rates."""
    if len(rates) != len(iterations) + 1:
        raise InvalidParameterError(
            f"{owner}: {len(rates)} values of learning_rate do not go with "
            f"{len(iterations)} of iteration; give {len(iterations) + 1} learning "
            "rates, one more than iterations",
            owner=owner,
            n_learning_rates=len(rates),
            n_iterations=len(iterations),
        )
    for before, after in itertools.pairwise(iterations):
        if after <= before:
            raise InvalidParameterError(
                f"{owner}: iteration {after} stands after {before}; give the "
                "iterations in ascending order, each once",
                owner=owner,
                property="iteration",
                iterations=iterations,
            )


def _constant(values: Mapping[str, Any], iteration: int) -> float:
    rate: float = values["learning_rate"]
    return rate


def _exponential(values: Mapping[str, Any], iteration: int) -> float:
    rate: float = values["learning_rate"]
    base: float = values["decay_rate"]
    try:
        exponent = float(iteration / values["decay_steps"])
    except OverflowError:  # an int that no float can hold
        return math.inf
    return rate * power(base, exponent)


def _step(values: Mapping[str, Any], iteration: int) -> float:
    rates: tuple[float, ...] = values["learning_rate"]
    return rates[bisect.bisect_left(values["iteration"], iteration)]


def _linear(values: Mapping[str, Any], iteration: int) -> float:
    highest: float = values["max_learning_rate"]
    lowest: float = values["min_learning_rate"]
    done: float = iteration / values["decay_steps"]
    return max(highest - (highest - lowest) * done, lowest)


def _cosine(values: Mapping[str, Any], iteration: int) -> float:
    highest: float = values["max_learning_rate"]
    lowest: float = values["min_learning_rate"]
    decay_steps: int = values["decay_steps"]
    angle = float(math.pi * (iteration % decay_steps) / decay_steps)
    return lowest + (highest - lowest) * 0.5 * (1.0 + cosine(angle))


_FORMULAS: dict[str, Callable[[Mapping[str, Any], int], float]] = {
    "constant": _constant,
    "exponential": _exponential,
    "step": _step,
    "linear": _linear,
    "cosine": _cosine,
}
