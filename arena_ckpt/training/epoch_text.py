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
    by_loss = evaluation.by_loss or {"": evaluation}
    main = {
        f"{loss} {one.metric_name}".lstrip(): (one.metric_name, one.metric)
        for loss, one in by_loss.items()
    }
    parts = [f"loss {loss_text(evaluation.loss)}{losses_text(evaluation.losses)}"]
    parts += [
        f"{title.replace('_', ' ')} {value_text(name, value)}"
        for title, (name, value) in main.items()
    ]
    shown = evaluation.main_names
    parts += [
        f"{other.replace('_', ' ')} "
        f"{metric_text(evaluation.plain_name(other), evaluation.metrics.get(other))}"
        for other in evaluation.asked
        if other not in shown
    ]
    return ", ".join(parts)


def losses_text(losses: Mapping[str, float]) -> str:
    """Return several losses as text behind their sum: ``" (digit 0.12, angle 3.4)"``.

    Empty for one.
    """
    each = ", ".join(f"{name} {loss_text(loss)}" for name, loss in losses.items())
    return f" ({each})" if each else ""


def columns_by_loss(
    evaluation: Evaluation | None, names: Mapping[str, Evaluation]
) -> dict[str, float | None]:
    """Return the columns of a validation for each of several losses, by their names.

    Parameters
    ----------
    evaluation : Evaluation or None
        None where an epoch has none.
    names : mapping
        Evaluations of the same losses, which tell what their metrics are.
    """
    parts = {} if evaluation is None else evaluation.by_loss
    row: dict[str, float | None] = {}
    for name in names:
        row[f"validation_{name}_loss"] = parts[name].loss if name in parts else None
    for name, one in names.items():
        value = parts[name].metric if name in parts else None
        row[f"{name}_{one.metric_name}"] = value
    return row


def loss_text(loss: float) -> str:
    """Return a loss with four decimals, or four digits where these would be zeros."""
    is_middling = loss == 0 or 5e-5 <= abs(loss) < 1e6
    return f"{loss:.4f}" if is_middling else f"{loss:.3e}"


def value_text(name: str, value: float | None) -> str:
    """Return the value of a column as text."""
    if value is None:
        return ""
    if name.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    if name.endswith("loss"):
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
