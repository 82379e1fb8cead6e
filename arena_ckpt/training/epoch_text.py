"""Writes epochs and evaluations as text: lines for people, and cells of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from arena_ckpt.common.text_table import Column
from arena_ckpt.engine.evaluation import Evaluation
from arena_ckpt.engine.metric_names import metric_text

Row: TypeAlias = Mapping[str, int | float | None]
"""An epoch by the names of its columns; every row of a table has the same ones."""

VALIDATION = "validation_"
"""What the columns of metrics begin with that were asked for."""

MOST_ROWS = 12
"""Maximum number of epochs that a table shows; it leaves out those in the middle."""

_LEFT_OUT = "…"


def evaluation_text(evaluation: Evaluation) -> str:
    """Return an evaluation as text, for example ``"loss 0.1234, accuracy 95.00 %"``.

    Metrics that were asked for stand behind.
    """
    name = evaluation.metric_name
    parts = [
        f"loss {loss_text(evaluation.loss)}",
        f"{name.replace('_', ' ')} {value_text(name, evaluation.metric)}",
    ]
    parts += [
        f"{other.replace('_', ' ')} {metric_text(other, evaluation.metrics.get(other))}"
        for other in evaluation.asked
        if other != name
    ]
    return ", ".join(parts)


def loss_text(loss: float) -> str:
    """Return a loss with four decimals, or four digits where these would be zeros."""
    is_middling = loss == 0 or 5e-5 <= abs(loss) < 1e6
    return f"{loss:.4f}" if is_middling else f"{loss:.3e}"


def value_text(name: str, value: float | None) -> str:
    """Return the value of a column as text."""
    if value is None:
        return ""
    if name == "accuracy":
        return f"{100 * value:.2f} %"
    if name in ("loss", "validation_loss"):
        return loss_text(value)
    if name.startswith(VALIDATION):
        return metric_text(name.removeprefix(VALIDATION), value)
    formats = {"epoch": "d", "seconds": ".3f"}
    return format(value, formats.get(name, ".4g"))


def epoch_cells(rows: Sequence[Row]) -> tuple[list[Column], list[list[str]]]:
    """Return the columns and the cells of a table of epochs, without its middle."""
    names = list(rows[0])
    lines = [[value_text(name, row[name]) for name in names] for row in rows]
    if len(lines) > MOST_ROWS:
        half = MOST_ROWS // 2
        lines[half:-half] = [[_LEFT_OUT] * len(names)]
    return [Column(name.replace("_", " "), is_number=True) for name in names], lines
