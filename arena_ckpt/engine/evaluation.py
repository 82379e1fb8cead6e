"""What an evaluation tells; reading it back from a file needs no engine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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
        ``"accuracy"`` where labels are classes, else ``"mean_absolute_error"``;
        ``"mean_output"`` where the loss takes no labels.
    metric : float
    n_samples : int
    metrics : dict from str to float
        Those that were asked for, else all of the task; NaN where one is not defined.
    report : Report or None
        Values by class or output, and the confusion matrix. In a `History` the last
        epoch has one.
    asked : tuple of str
        Names of the metrics that were asked for; none where all of the task were made.
    by_loss : dict from str to Evaluation
        Of a model of several losses, what it tells of each; their losses are without
        weights. `loss` is their sum then, each times its weight; `metric_name`,
        `metric` and `report` are those of the first, and `metrics` has those of all,
        as ``"digit_accuracy"``.
    """

    loss: float
    metric_name: str
    metric: float
    n_samples: int
    metrics: dict[str, float] = field(default_factory=dict, compare=False, repr=False)
    report: Report | None = field(default=None, compare=False, repr=False)
    asked: tuple[str, ...] = field(default=(), compare=False, repr=False)
    by_loss: dict[str, Evaluation] = field(default_factory=dict)

    def without_reports(self) -> Evaluation:
        """Return the same without `report`, also of each of several losses."""
        by_loss = {name: one.without_reports() for name, one in self.by_loss.items()}
        return replace(self, report=None, by_loss=by_loss)

    @property
    def losses(self) -> dict[str, float]:
        """Each of several losses by name, without its weight; empty for one."""
        return {name: one.loss for name, one in self.by_loss.items()}

    def __str__(self) -> str:
        lines = text_table(*self._cells())
        for title, report in self._reports():
            lines += ["", *title, str(report)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        reports = "".join(
            "".join(title) + report._repr_html_() for title, report in self._reports()
        )
        return f"<div>{html_table(*self._cells())}{reports}</div>"

    def _reports(self) -> list[tuple[list[str], Report]]:
        """Return the report, or that of each of several losses behind its title."""
        of_losses = {f"{name}:": one.report for name, one in self.by_loss.items()}
        found = of_losses or {"": self.report}
        return [
            ([title] if title else [], report)
            for title, report in found.items()
            if report is not None
        ]

    @property
    def main_names(self) -> frozenset[str]:
        """Names in `metrics` of `metric`, of several losses that of each."""
        if not self.by_loss:
            return frozenset({self.metric_name})
        parts = self.by_loss.items()
        return frozenset(f"{name}_{one.metric_name}" for name, one in parts)

    def plain_name(self, name: str) -> str:
        """Return the name of a metric without that of one of several losses."""
        stems = [f"{one}_" for one in self.by_loss if name.startswith(f"{one}_")]
        return name.removeprefix(max(stems, key=len, default=""))

    def _cells(self) -> tuple[list[Column], list[list[str]]]:
        shown: dict[str, Any] = self.metrics or {self.metric_name: self.metric}
        rows = [["samples", f"{self.n_samples:,}"], ["loss", f"{self.loss:.4f}"]]
        rows += [[f"{n} loss", f"{loss:.4f}"] for n, loss in self.losses.items()]
        rows += [
            [name.replace("_", " "), metric_text(self.plain_name(name), value)]
            for name, value in shown.items()
        ]
        return [Column("metric"), Column("value", is_number=True)], rows


def joined(by_loss: dict[str, Evaluation], loss: float) -> Evaluation:
    """Return the evaluation of a model of several losses.

    Parameters
    ----------
    by_loss : dict from str to Evaluation
    loss : float
        The sum of their losses, each times its weight.
    """
    first = next(iter(by_loss.values()))
    metrics = {
        f"{name}_{metric}": value
        for name, one in by_loss.items()
        for metric, value in one.metrics.items()
    }
    return Evaluation(
        loss,
        first.metric_name,
        first.metric,
        first.n_samples,
        metrics,
        first.report,
        tuple(
            f"{name}_{metric}" for name, one in by_loss.items() for metric in one.asked
        ),
        by_loss,
    )
