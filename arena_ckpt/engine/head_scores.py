"""Loss, metric and scores of one loss of a model, pass by pass of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from arena_ckpt.data.samples import Samples
from arena_ckpt.engine.evaluation import Evaluation
from arena_ckpt.engine.loss_heads import Head
from arena_ckpt.engine.metric_names import OwnMetric, own_value
from arena_ckpt.engine.scores import scores_of
from arena_ckpt.engine.weights import FloatArray

Asked = Mapping[str, OwnMetric | None] | None
"""Metrics by name, own ones with their function; None for all of the task."""


class HeadScores:
    """What an evaluation adds up for one loss.

    Parameters
    ----------
    head : Head
    samples : Samples
        With the labels of this loss.
    asked : mapping or None
        The metrics that are asked for.
    """

    def __init__(self, head: Head, samples: Samples, asked: Asked) -> None:
        self.head = head
        self.loss = 0.0
        self._samples = samples
        self._asked = asked
        self._scores = scores_of(
            samples,
            head.loss,
            head.output_shape,
            asks_auc=asked is not None and "auc" in asked,
        )
        # What own metrics get is copied as a whole; nothing else is.
        self._kept = (
            np.empty((samples.n_samples, *head.output_shape), np.float32)
            if any((asked or {}).values())
            else None
        )
        self._total = 0.0

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics that these labels have."""
        return self._scores.metric_names

    @property
    def made_names(self) -> tuple[str, ...]:
        """The metrics that are made, but own ones."""
        known = self.metric_names
        if self._asked is None:
            return known
        named = (name for name, own in self._asked.items() if own is None)
        return tuple(name for name in named if name in known)

    def add(
        self,
        loss: float,
        prediction: FloatArray,
        label: FloatArray | None,
        start: int,
    ) -> None:
        """Take the loss, the predictions and the labels of a pass, if there are any."""
        self.loss += loss
        self._total += self._samples.metric_sum(prediction, label)
        self._scores.add(prediction, label)
        if self._kept is not None:
            self._kept[start : start + len(prediction)] = prediction

    def outputs_and_labels(self) -> tuple[FloatArray, npt.NDArray[np.generic] | None]:
        """Return what own metrics get."""
        assert self._kept is not None
        return self._samples.for_metrics(self._kept)

    def evaluation(self, loss: float) -> Evaluation:
        """Return what was added up, with a loss."""
        metrics = self._scores.metrics()
        samples = self._samples
        if self._asked is not None:
            for name, own in self._asked.items():
                if own is not None:
                    metrics[name] = own_value(name, own(*self.outputs_and_labels()))
            metrics = {name: metrics[name] for name in self._asked if name in metrics}
        n_scored = samples.n_scored()
        return Evaluation(
            loss,
            samples.metric_name,
            self._total / n_scored if n_scored else 0.0,
            samples.n_samples,
            metrics,
            self._scores.report(samples.classes),
            tuple(metrics) if self._asked is not None else (),
        )
