"""Weights that a model takes over from another one, by their names and shapes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arena_ckpt.common.names import weight_of
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.wording import few, listed, nearest, quoted, shown
from arena_ckpt.data.gaps import take_means
from arena_ckpt.data.standardization import Standardization
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.files.npz import read_arrays
from arena_ckpt.files.source import path_text
from arena_ckpt.training.saved_state import SavedState, read_state

if TYPE_CHECKING:
    from arena_ckpt.engine.session import Session


@dataclass(frozen=True, slots=True, repr=False)
class TakenWeights:
    """What became of the weights of a model that took over those of another.

    Attributes
    ----------
    source : str
        Where they are from.
    taken : tuple of str
        Weights that were taken over.
    left : dict from str to str
        Weights that stay as they were, each with the reason.
    unused : tuple of str
        Weights of the source that this model has not.
    statistics : str
        What became of the statistics that standardize the inputs of the source; empty
        where it has none.
    """

    source: str
    taken: tuple[str, ...]
    left: Mapping[str, str]
    unused: tuple[str, ...]
    statistics: str = ""

    def __repr__(self) -> str:
        return short_repr(
            self,
            repr(self.source),
            f"{len(self.taken)} taken",
            f"{len(self.left)} left",
            f"{len(self.unused)} unused",
        )

    def __str__(self) -> str:
        n = len(self.taken) + len(self.left)
        lines = [
            f"{len(self.taken)} of {counted(n, 'weight')} taken from {self.source}"
        ]
        lines += [f"  {name} is as before: {why}" for name, why in self.left.items()]
        if self.unused:
            lines.append(f"  not used of it: {listed(self.unused)}")
        if self.statistics:
            lines.append(f"  statistics of its inputs: {self.statistics}")
        return "\n".join(lines)


def take_weights(
    session: Session, source: WeightSource, exclude: str | Iterable[str] = ()
) -> TakenWeights:
    """Overwrite the weights of a session that a source has; see `Model.take_weights`.

    Raises
    ------
    SavedStateError, DataError, InvalidParameterError
        Nothing is changed.
    """
    name_of_source, arrays = source.name, source.arrays
    own = session.weights()
    patterns = _patterns(exclude, own)
    taken: dict[str, Any] = {}
    left: dict[str, str] = {}
    for name, value in own.items():
        found = arrays.get(name)
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            left[name] = "excluded"
        elif found is None:
            left[name] = "there is none of this name"
        elif np.shape(found) != value.shape:
            left[name] = f"its shape is {value.shape}, there it is {np.shape(found)}"
        else:
            taken[name] = found
    unused = tuple(name for name in arrays if name not in own)
    if not taken:
        why = (
            listed(f"{name} ({reason})" for name, reason in left.items())
            if any(name in arrays for name in own)
            else f"it has {listed(map(shown, arrays)) or 'none'}, and this model "
            f"{listed(own)}"
        )
        raise InvalidParameterError(
            f"no weight of {name_of_source} fits this model: {why}. Weights are taken "
            "over by name and shape; name the layers as there",
            source=name_of_source,
        )
    session.set_weights(taken)
    # Moments of one age do not fit weights that have not made them.
    weights = session.weights()
    lasting = session.persistent().items()
    session.restore(
        {name: weights.get(name, np.zeros_like(view)) for name, view in lasting}, 0
    )
    return TakenWeights(name_of_source, tuple(taken), left, unused)


@dataclass(frozen=True, slots=True, eq=False)
class WeightSource:
    """Weights by name, what they are called, and what of the data goes with them."""

    name: str
    arrays: Mapping[str, Any]
    statistics: Standardization | None
    means: tuple[float, ...] | None


def read_source(source: object, axes: Mapping[str, str]) -> WeightSource:
    """Return the weights of a path, a saved state or a dict.

    Parameters
    ----------
    source : path, SavedState or mapping
    axes : mapping
        What a feature is, by those inputs that can be standardized.

    Raises
    ------
    SavedStateError, DataError, InvalidParameterError
        It cannot be read, or is nothing of that kind.
    """
    name = "the given arrays"
    if isinstance(source, str | os.PathLike):
        name = path_text(source)
        is_npz = Path(name).suffix.lower() == ".npz"
        source = read_arrays(name) if is_npz else read_state(name)
    if isinstance(source, SavedState):
        arrays = source.arrays
        states = {name for name in arrays if weight_of(name) in arrays}
        return WeightSource(
            source.path,
            {n: a for n, a in arrays.items() if n not in states},
            source.document.standardization,
            source.document.means,
        )
    if isinstance(source, Mapping):
        given = dict(source)
        statistics = Standardization.take_from(given, axes)
        return WeightSource(name, given, statistics, take_means(given, axes))
    raise InvalidParameterError(
        f"{quoted(source)} is no source of weights; give the path of a saved model or "
        "of an .npz, an initialized Model, or a dict from names to arrays",
        source=source,
    )


def _patterns(exclude: object, own: Iterable[str]) -> list[str]:
    try:
        patterns = [exclude] if isinstance(exclude, str) else few(exclude)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        patterns = [None]
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise InvalidParameterError(
                f"exclude={quoted(exclude)} is not possible; give names of weights or "
                "patterns of them, for example ['logits:*']",
                exclude=exclude,
            )
        if not any(fnmatchcase(name, pattern) for name in own):
            raise InvalidParameterError(
                f"exclude: {quoted(pattern)} matches no weight{nearest(pattern, own)}; "
                f"the model has {listed(own)}",
                exclude=exclude,
            )
    return patterns
