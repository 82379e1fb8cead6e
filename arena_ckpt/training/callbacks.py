"""What a training does by itself after an epoch: stop, step smaller, keep the best.

Each rule is a pure function of the records of all epochs so far. A training that is
resumed has these records, so nothing else has to be saved for it to go on to the same
bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from arena_ckpt.common.arguments import public_call, require_value
from arena_ckpt.common.short_repr import counted
from arena_ckpt.common.wording import few, quote, quoted
from arena_ckpt.data.samples import Samples
from arena_ckpt.engine.metric_names import BINARY_METRICS, METRIC_NAMES
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.training.records import EpochRecord

LOSS, VALIDATION_LOSS = "loss", "validation_loss"

_CONSTANT = ("majority_accuracy", "error_of_mean")
"""Metrics of the labels alone, which no training changes."""

MONITORS = (
    *(LOSS, VALIDATION_LOSS),
    *(name for name in METRIC_NAMES if name not in _CONSTANT),
)
"""What can be monitored: losses, or a metric of the validation by its name."""

_HIGHER_IS_BETTER = (*BINARY_METRICS, "r2")

Records = Sequence[EpochRecord]


@public_call
@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Ends a training whose monitored number has not improved for some epochs.

    Parameters
    ----------
    patience : int
        Epochs without an improvement after which it ends.
    min_delta : float
        A smaller change is no improvement.
    monitor : str, optional
        ``"loss"``, ``"validation_loss"`` or the name of a metric of the validation,
        such as ``"f1"``; by default the loss of the validation where there is one, else
        of the training.
    """

    patience: int = 5
    min_delta: float = 0.0
    monitor: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        _require_patience(self.patience)
        _require_min_delta(self.min_delta)
        _require_monitor(self.monitor)

    @public_call
    def reason(self, records: Records) -> str | None:
        """Return why the training ends after these epochs; None where it goes on."""
        waits = _epochs_since_best(records, self.monitor, self.min_delta)
        if not waits or waits[-1] < self.patience:
            return None
        word = str(self.monitor).replace("_", " ")
        return f"{word} has not improved for {counted(self.patience, 'epoch')}"


@public_call
@dataclass(frozen=True, slots=True)
class ReduceOnPlateau:
    """Multiplies the learning rate where the monitored number no longer improves.

    Parameters
    ----------
    patience : int
        Epochs without an improvement after which it is multiplied, and again after as
        many more.
    factor : float
        Between 0 and 1. It comes on top of the learning-rate schedule.
    min_delta : float
        A smaller change is no improvement.
    monitor : str, optional
        See `EarlyStopping`.
    """

    patience: int = 5
    factor: float = 0.1
    min_delta: float = 0.0
    monitor: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        _require_patience(self.patience)
        require_value(
            "factor",
            self.factor,
            fits=_is_number(self.factor) and 0 < self.factor < 1,
            expected="a number between 0 and 1",
        )
        _require_min_delta(self.min_delta)
        _require_monitor(self.monitor)

    @public_call
    def rate_factor(self, records: Records) -> float:
        """Return what the learning rate is multiplied by after these epochs."""
        waits = _epochs_since_best(records, self.monitor, self.min_delta)
        n_reduced = sum(wait > 0 and wait % self.patience == 0 for wait in waits)
        return math.prod([self.factor] * n_reduced)


@public_call
@dataclass(frozen=True, slots=True)
class KeepBest:
    """Gives the model, when its training ends, the state after the best epoch.

    That is its weights, optimizer states and iteration; a second copy of them lies
    beside the arena while the training runs. After Ctrl-C or an error the model has the
    best state as well.

    Parameters
    ----------
    monitor : str, optional
        See `EarlyStopping`.
    """

    monitor: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be monitored."""
        _require_monitor(self.monitor)

    @public_call
    def best_epoch(self, records: Records) -> int | None:
        """Return the first epoch with the best number; None where none has one."""
        waits = _epochs_since_best(records, self.monitor, 0.0)
        places = [place for place, wait in enumerate(waits) if wait == 0]
        return records[places[-1]].epoch if places else None


Callback = EarlyStopping | ReduceOnPlateau | KeepBest
_KINDS = (EarlyStopping, ReduceOnPlateau, KeepBest)


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The callbacks of one training, at most one of each kind."""

    stop: EarlyStopping | None = None
    plateau: ReduceOnPlateau | None = None
    best: KeepBest | None = None

    def reason(self, records: Records) -> str | None:
        """Return why the training ends after these epochs; None where it goes on."""
        return self.stop.reason(records) if self.stop else None

    def rate_factor(self, records: Records) -> float:
        """Return what the learning rate is multiplied by after these epochs."""
        return self.plateau.rate_factor(records) if self.plateau else 1.0

    def best_epoch(self, records: Records) -> int | None:
        """Return the epoch whose state is kept; None where none is."""
        return self.best.best_epoch(records) if self.best else None

    def as_text(self) -> tuple[str, ...]:
        """Return each as text, with all that decides what it does."""
        return tuple(map(repr, self._given()))

    @property
    def monitors_validation(self) -> bool:
        """Whether one of them goes by the validation."""
        return any(one.monitor != LOSS for one in self._given())

    def _given(self) -> list[Callback]:
        return [one for one in (self.stop, self.plateau, self.best) if one is not None]


def parse_callbacks(
    given: object, validation: Samples | None, metrics: Sequence[str] = ()
) -> Callbacks:
    """Return what `Model.train` is told as `callbacks`, with what each monitors.

    Parameters
    ----------
    given : object
    validation : Samples or None
    metrics : sequence of str
        Names of the metrics that are made of each validation.

    Raises
    ------
    InvalidParameterError
        Something else, two of a kind, or a monitor that this training has not.
    """
    try:
        callbacks = [given] if isinstance(given, Callback) else few(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        callbacks = [given]
    found: dict[type, Any] = {}
    for one in callbacks:
        if not isinstance(one, Callback):
            raise InvalidParameterError(
                f"callbacks: {quoted(one)} is none of "
                f"{', '.join(kind.__name__ for kind in _KINDS)}; give for example "
                "callbacks=[EarlyStopping(patience=5)], and a function of your own as "
                "on_epoch",
                callbacks=given,
            )
        if type(one) in found:
            raise InvalidParameterError(
                f"callbacks: there are two of {type(one).__name__}; keep one",
                callbacks=given,
            )
        found[type(one)] = _resolved(one, validation, metrics)
    return Callbacks(*(found.get(kind) for kind in _KINDS))


def _resolved(
    callback: Callback, validation: Samples | None, metrics: Sequence[str]
) -> Callback:
    """Return a callback with the name of what it monitors in this training."""
    there = [LOSS]
    if validation is not None:
        names = (validation.metric_name, *metrics)
        there = [
            VALIDATION_LOSS,
            LOSS,
            *dict.fromkeys(n for n in names if _is_known(n)),
        ]
    if callback.monitor is not None and callback.monitor not in there:
        advice = "; give validation data" if validation is None else ""
        raise InvalidParameterError(
            f"callbacks: {type(callback).__name__} monitors {callback.monitor!r}, and "
            f"this training has {quote(there)}{advice}",
            monitor=callback.monitor,
        )
    return replace(callback, monitor=callback.monitor or there[0])


def _epochs_since_best(
    records: Records, monitor: str | None, min_delta: float
) -> list[int]:
    """Return for each epoch how many epochs ago the best one was; 0 if it is itself.

    A number that is NaN improves nothing; before the first other one the count goes
    from the beginning.
    """
    best, waits = math.inf, []
    for record in records:
        value = _monitored(record, monitor)
        if value < best - min_delta:
            best = value
            waits.append(0)
        else:
            waits.append((waits[-1] if waits else 0) + 1)
    return waits


def _monitored(record: EpochRecord, monitor: str | None) -> float:
    """Return the number of an epoch that is monitored; lower is better."""
    if monitor == LOSS:
        return record.loss
    of = record.validation
    if of is None:
        return math.nan
    if monitor == VALIDATION_LOSS:
        return of.loss
    is_main = monitor == of.metric_name
    value = of.metric if is_main else of.metrics.get(str(monitor), math.nan)
    plain = monitor if monitor in MONITORS else _plain(str(monitor))
    return -value if plain in _HIGHER_IS_BETTER else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_patience(patience: object) -> None:
    require_value(
        "patience",
        patience,
        fits=isinstance(patience, int) and _is_number(patience) and patience >= 1,
        expected="a number of epochs, 1 or more",
    )


def _require_min_delta(min_delta: Any) -> None:
    require_value(
        "min_delta",
        min_delta,
        fits=_is_number(min_delta) and 0 <= min_delta < math.inf,
        expected="a number of at least 0",
    )


def _require_monitor(monitor: object) -> None:
    require_value(
        "monitor",
        monitor,
        fits=monitor is None or _is_known(monitor),
        expected=f"one of {quote(MONITORS)}, of several losses behind the name of a "
        "loss, for example 'digit_accuracy'",
    )


def _is_known(monitor: object) -> bool:
    """Tell whether it names a number of an epoch, of several losses one of a loss."""
    return isinstance(monitor, str) and (monitor in MONITORS or _plain(monitor) != "")


def _plain(monitor: str) -> str:
    """Return the metric in a name such as ``digit_accuracy``; empty for others."""
    if monitor in METRIC_NAMES:
        return ""
    found = [name for name in METRIC_NAMES if monitor.endswith(f"_{name}")]
    longest = max(found, key=len, default="")
    return "" if longest in _CONSTANT else longest
