"""What an evaluation tells; reading it back from a file needs no engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a model does on a data set.

    Attributes
    ----------
    loss : float
        The mean over the samples, regularization included.
    metric_name : str
        ``"accuracy"`` where labels are classes, else ``"mean_absolute_error"``.
    metric : float
    n_samples : int
    """

    loss: float
    metric_name: str
    metric: float
    n_samples: int
