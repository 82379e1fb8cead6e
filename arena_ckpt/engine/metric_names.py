"""Names of metrics, how their values are written, and metrics of one's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from arena_ckpt.common.wording import few, nearest, quote, quoted
from arena_ckpt.errors import InvalidParameterError

OwnMetric: TypeAlias = Callable[[Any, Any], float]
"""A function of outputs and labels, arrays with one sample a row."""

CLASS_METRICS = (
    *("accuracy", "majority_accuracy", "balanced_accuracy"),
    *("precision", "recall", "f1"),
)
BINARY_METRICS = (*CLASS_METRICS, "auc")
VALUE_METRICS = (
    *("mean_absolute_error", "root_mean_squared_error", "error_of_mean", "r2"),
)
MEAN_OUTPUT = "mean_output"
"""The metric of a loss that takes no labels."""

METRIC_NAMES = (*BINARY_METRICS, *VALUE_METRICS, MEAN_OUTPUT)

_SHARES = frozenset(BINARY_METRICS[:3])
"""Metrics that are written in percent."""

_OF_ONE = frozenset({*BINARY_METRICS[3:], "r2"})
"""Metrics whose best value is 1."""

_ELSEWHERE = {
    "acc": "accuracy",
    "f1_score": "f1",
    "mae": "mean_absolute_error",
    "mse": "root_mean_squared_error",
    "r2_score": "r2",
    "rmse": "root_mean_squared_error",
    "roc_auc": "auc",
}
"""Names that other libraries have for metrics."""


def metric_text(name: str, value: float | None) -> str:
    """Return the value of a metric as text; ``"–"`` where it is not defined."""
    if value is None or math.isnan(value):
        return "–"
    if name in _SHARES:
        return f"{100 * value:.2f} %"
    return f"{value:.4f}" if name in _OF_ONE else f"{value:.4g}"


def parse_metrics(metrics: object) -> dict[str, OwnMetric | None] | None:
    """Return the metrics that a user asks for, by name; own ones with their function.

    Raises
    ------
    InvalidParameterError
        A name that no metric has, one that is there twice, or neither a name nor a
        function.
    """
    if metrics is None:
        return None
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    if not isinstance(metrics, Iterable) or isinstance(metrics, Mapping | bytes):
        raise _wrong(metrics)
    try:
        asked = few(metrics)
    except (TypeError, ValueError) as error:
        raise InvalidParameterError(
            f"metrics= cannot be used ({error}); give a list of names and functions"
        ) from None
    found: dict[str, OwnMetric | None] = {}
    for one in asked:
        if callable(one):
            name, own = str(getattr(one, "__name__", type(one).__name__)), one
        elif isinstance(one, str):
            name, own = one, None
            if name not in METRIC_NAMES:
                raise _unknown(name, METRIC_NAMES)
        else:
            raise _wrong(one)
        if name in found:
            raise InvalidParameterError(
                f"metrics= has {quoted(name)} twice; give each metric once, and each "
                "function a name of its own",
                metric=name,
            )
        found[name] = own
    return found


def names_of_metrics(text: str | None) -> list[str] | None:
    """Return the metrics of a command, ``"f1, auc"``.

    Raises
    ------
    InvalidParameterError
        See `parse_metrics`.
    """
    if text is None:
        return None
    asked = [name.strip() for name in text.split(",")]
    parse_metrics(asked)
    return asked


def metrics_of_training(
    metrics: object, *, has_validation: bool
) -> dict[str, OwnMetric | None] | None:
    """Return the metrics of the validation that a training is asked for.

    Raises
    ------
    InvalidParameterError
        As of `parse_metrics`, or there is no validation.
    """
    asked = parse_metrics(metrics)
    if asked and not has_validation:
        raise InvalidParameterError(
            f"metrics= are those of the validation after each epoch ({quote(asked)}), "
            "and there is none; give validation=, or call evaluate after the training",
            metrics=tuple(asked),
        )
    return asked


def require_known(asked: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names of metrics that a task does not have.

    Raises
    ------
    InvalidParameterError
    """
    known = tuple(known)
    for name in asked:
        if name not in known:
            raise InvalidParameterError(
                f"there is no {quoted(name)} of these labels; there are {quote(known)}",
                metric=name,
                known=known,
            )


def own_value(name: str, value: object) -> float:
    """Return what an own metric gives as a float.

    Raises
    ------
    InvalidParameterError
        It is no number.
    """
    try:
        return float(value)  # type: ignore[arg-type]
    except Exception:  # whatever the array of another library raises
        raise InvalidParameterError(
            f"the metric {quoted(name)} returned {quoted(value)}; expected one number",
            metric=name,
            value=value,
        ) from None


def _unknown(name: str, known: tuple[str, ...]) -> InvalidParameterError:
    other = _ELSEWHERE.get(name.lower())
    hint = f" (here it is {other!r})" if other else nearest(name, known)
    return InvalidParameterError(
        f"there is no metric {quoted(name)}{hint}; there are {', '.join(known)}, and "
        "functions f(outputs, labels) of your own",
        metric=name,
        known=known,
    )


def _wrong(value: object) -> InvalidParameterError:
    return InvalidParameterError(
        f"metrics={quoted(value)} is not possible; give a list of names such as 'f1' "
        "and of functions f(outputs, labels)",
        metrics=value,
    )
