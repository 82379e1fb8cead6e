"""What an evaluation tells; reading it back from a file needs no engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from arena_ckpt.common.text_table import Column, html_table, text_table
from arena_ckpt.engine.metric_names import metric_text
from arena_ckpt.engine.report import Report


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a model does on a data set.

    Its ``str`` has the metrics and the table of `report`, and a notebook shows both.

    Attributes
    ----------
    loss : float
        The mean over the samples, regularization included.
    metric_name : str
        ``"accuracy"`` where labels are classes, else ``"mean_absolute_error"``.
    metric : float
    n_samples : int
    metrics : dict from str to float
        Those that were asked for, else all of the task; NaN where one is not defined.
    report : Report or None
        Values by class or output, and the confusion matrix. In a `History` the last
        epoch has one.
    asked : tuple of str
        Names of the metrics that were asked for; none where all of the task were made.
    """

    loss: float
    metric_name: str
    metric: float
    n_samples: int
    metrics: dict[str, float] = field(default_factory=dict, compare=False, repr=False)
    report: Report | None = field(default=None, compare=False, repr=False)
    asked: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        lines = text_table(*self._cells())
        if self.report is not None:
            lines += ["", str(self.report)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        report = "" if self.report is None else self.report._repr_html_()
        return f"<div>{html_table(*self._cells())}{report}</div>"

    def _cells(self) -> tuple[list[Column], list[list[str]]]:
        shown: dict[str, Any] = self.metrics or {self.metric_name: self.metric}
        rows = [["samples", f"{self.n_samples:,}"], ["loss", f"{self.loss:.4f}"]]
        rows += [
            [name.replace("_", " "), metric_text(name, value)]
            for name, value in shown.items()
        ]
        return [Column("metric"), Column("value", is_number=True)], rows
