"""Results of training and verification as lines for people and as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from arena_ckpt.engine.evaluation import Evaluation
from arena_ckpt.engine.metric_names import metric_text
from arena_ckpt.engine.report import Report
from arena_ckpt.report.tables import add_row, make_table
from arena_ckpt.training.epoch_text import evaluation_text, loss_text
from arena_ckpt.training.records import History

if TYPE_CHECKING:
    from arena_ckpt.training.taken_weights import TakenWeights
    from arena_ckpt.verification.verify import Verification


def evaluation_table(evaluations: Sequence[tuple[str, Evaluation]]) -> Table:
    """Return a table of evaluations, with the name of its data and its metrics."""
    table = make_table(
        "",
        ("data", "left"),
        ("samples", "right"),
        ("loss", "right"),
        ("metric", "left"),
        ("", "right"),
    )
    for name, evaluation in evaluations:
        cells = [name, f"{evaluation.n_samples:,}", loss_text(evaluation.loss)]
        for loss, value in evaluation.losses.items():
            add_row(table, *cells, f"{loss} loss", loss_text(value))
            cells = ["", "", ""]
        for metric, value in evaluation.metrics.items():
            text = metric_text(evaluation.plain_name(metric), value)
            add_row(table, *cells, metric.replace("_", " "), text)
            cells = ["", "", ""]
    return table


def evaluation_text_of(name: str, evaluation: Evaluation) -> str:
    """Return values by class or output as text, under the name of the data.

    It is empty without labels to tell them by.
    """
    parts = {f"{name}, {loss}": one for loss, one in evaluation.by_loss.items()}
    parts = parts or {name: evaluation}
    shown = {title: one.report for title, one in parts.items() if one.report}
    return "\n\n".join(f"{title}:\n{report}" for title, report in shown.items())


def result_text(history: History, n_epochs: int, on_training: Evaluation) -> str:
    """Return the lines printed at the end of a training of `n_epochs`.

    Parameters
    ----------
    history : History
    n_epochs : int
        Number of epochs that were requested.
    on_training : Evaluation
        Evaluation on the training data with the final weights.
    """
    done = len(history.epochs)
    iterations = f"{history.n_iterations:,} iterations"
    if history.n_resumed:
        iterations += f", {history.n_resumed:,} of them before it was resumed"
    head = (
        f"interrupted after {done} whole epochs of {n_epochs} ({iterations})"
        if history.interrupted
        else f"trained {done} epoch{'s' if done != 1 else ''} ({iterations})"
    )
    if history.stopped_by:
        head += f"; stopped early because {history.stopped_by}"
    if history.best_epoch is not None:
        head += f"; the model is that of epoch {history.best_epoch}"
    lines = [head, f"training data:   {_judged_text(on_training)}"]
    final = (history.best_epoch or done) - 1
    last = history.epochs[final].validation if history.epochs else None
    if last is not None:
        lines.append(f"validation data: {_judged_text(last)}")
    return "\n".join(lines)


def _judged_text(evaluation: Evaluation) -> str:
    """Return loss and metric, and what it is worth: the same of a constant guess."""
    text = evaluation_text(evaluation)
    of = evaluation.metrics
    if evaluation.metric_name == "accuracy" and "majority_accuracy" in of:
        worth = metric_text("majority_accuracy", of["majority_accuracy"])
        return f"{text} (always the most frequent class: {worth})"
    return f"{text}, R² {metric_text('r2', of['r2'])}" if "r2" in of else text


def history_document(history: History, on_training: Evaluation) -> dict[str, Any]:
    """Return a training as plain values; ``docs/cli.md`` lists the keys."""
    return {
        "epochs": [
            {
                "epoch": record.epoch,
                "loss": _finite(record.loss),
                **_losses(record.losses),
                "validation": None
                if record.validation is None
                else evaluation_document(record.validation),
                "learning_rate": _finite(record.learning_rate),
                "seconds": record.seconds,
            }
            for record in history.epochs
        ],
        "n_iterations": history.n_iterations,
        "n_resumed": history.n_resumed,
        "interrupted": history.interrupted,
        "stopped_by": history.stopped_by,
        "best_epoch": history.best_epoch,
        "training": evaluation_document(on_training),
    }


def taken_document(taken: TakenWeights) -> dict[str, Any]:
    """Return what a model took over as plain values."""
    return {
        "source": taken.source,
        "taken": list(taken.taken),
        "left": dict(taken.left),
        "unused": list(taken.unused),
        "statistics": taken.statistics or None,
    }


def evaluation_document(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as plain values; ``docs/cli.md`` lists the keys."""
    return {
        "loss": _finite(evaluation.loss),
        **_losses(evaluation.losses),
        "metric_name": evaluation.metric_name,
        "metric": _finite(evaluation.metric),
        "n_samples": evaluation.n_samples,
        "metrics": {name: _finite(value) for name, value in evaluation.metrics.items()},
        "report": None if evaluation.report is None else _report(evaluation.report),
        **(
            {
                "by_loss": {
                    name: evaluation_document(one)
                    for name, one in evaluation.by_loss.items()
                }
            }
            if evaluation.by_loss
            else {}
        ),
    }


def _losses(losses: Mapping[str, float]) -> dict[str, Any]:
    """Return each of several losses; nothing for one."""
    if not losses:
        return {}
    return {"losses": {name: _finite(loss) for name, loss in losses.items()}}


def _report(report: Report) -> dict[str, Any]:
    document = report.to_dict()
    document["rows"] = [
        {k: _finite(v) if isinstance(v, float) else v for k, v in row.items()}
        for row in document["rows"]
    ]
    return document


def _finite(value: float) -> float | None:
    """Return a number, or None if it is not finite, for which JSON has no word."""
    return value if math.isfinite(value) else None


def verification_document(result: Verification) -> dict[str, Any]:
    """Return a verification as plain values for JSON."""
    return {
        "data": result.data,
        "passed": result.passed,
        "verdict": result.verdict,
        "checks": [
            {
                "name": check.name,
                "finding": check.finding,
                "passed": check.passed,
                "seconds": check.seconds,
            }
            for check in result.checks
        ],
    }
