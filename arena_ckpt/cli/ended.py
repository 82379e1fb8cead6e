"""What a training has come to, before anything of it is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from arena_ckpt.common.wording import listed
from arena_ckpt.data.dataset import Dataset
from arena_ckpt.engine.evaluation import Evaluation
from arena_ckpt.errors import NonFiniteError
from arena_ckpt.model import Model
from arena_ckpt.training.data_hints import diverged_hint, trained_statistics
from arena_ckpt.training.records import History

_LARGEST_FLOAT = float(np.finfo(np.float32).max)


def ended_evaluation(
    model: Model,
    training: Dataset,
    history: History,
    files: Sequence[Path | None],
    *,
    metrics: Sequence[str] | None = None,
) -> Evaluation:
    """Return how a trained model does on its training data.

    Parameters
    ----------
    model : Model
    training : Dataset
    history : History
    files : sequence of Path or None
        What is written afterwards, for the message.
    metrics : sequence of str, optional
        See `Model.evaluate`.

    Warns
    -----
    ModelWarning
        The loss is far above that of a model that predicts nothing. The last epoch
        need not have shown it: its loss is that of the weights before each update.

    Raises
    ------
    NonFiniteError
        The loss is NaN, or beyond float32.
    """
    try:
        result = model.evaluate(training, metrics=metrics)
    except NonFiniteError as error:
        raise _diverged(float(getattr(error, "loss", np.nan)), files) from error
    if not abs(result.loss) <= _LARGEST_FLOAT:
        raise _diverged(result.loss, files)
    if history.epochs and all(hint.kind != "diverged" for hint in model._told):
        session = model._running("evaluate")
        if not trained_statistics(session.graph):  # else they may lag, which is told
            samples = model._samples(session, training)
            first = history.epochs[0].loss
            hint = diverged_hint(session, samples, result.loss, first)
            model._tell(() if hint is None else (hint,))
    return result


def _diverged(loss: float, files: Sequence[Path | None]) -> NonFiniteError:
    kept = [str(path) for path in files if path is not None]
    nothing = (
        f", so {listed(kept)} {'is' if len(kept) == 1 else 'are'} not written"
        if kept
        else ""
    )
    return NonFiniteError(
        f"the training has diverged: with its final weights the loss on the training "
        f"data is {loss:.3g}{'' if math.isnan(loss) else ', beyond float32'}{nothing}. "
        "Standardize the inputs (--standardize) and targets, lower the learning rate, "
        "or set clip_grad_by_norm; --keep-best ends with the best epoch, and --check "
        "all names where NaN appears first",
        loss=loss,
    )
