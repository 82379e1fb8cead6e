"""One pass over the model: the program for a number of samples, and how they get in."""

from __future__ import annotations

import numpy as np

from arena_ckpt.program import FiniteCheck, Program, TensorViews
from arena_ckpt.samples import Rows, Samples
from arena_ckpt.tensors import Control


class Pass:
    """A program with the views of its input data.

    Parameters
    ----------
    program : Program
    views : TensorViews
    n_samples : int
        Samples that a pass takes.
    inputs : list of str
        The tensors of the input layers, in their order.
    label : str
        The tensor of the labels.
    """

    def __init__(
        self,
        program: Program,
        views: TensorViews,
        n_samples: int,
        inputs: list[str],
        label: str,
    ) -> None:
        self.program = program
        self.n_samples = n_samples
        arrays = [views.named(name, n_samples) for name in [*inputs, label]]
        self._inputs = [array.reshape(n_samples, -1) for array in arrays[:-1]]
        self.label = arrays[-1].reshape(n_samples, -1)
        place = int(Control.NONFINITE)
        count = views.control[place : place + 1].view(np.int64)
        self.count_nonfinite = FiniteCheck(arrays, count)
        # Where class numbers become one-hot: element `row * classes + class number`.
        self._row_starts = np.arange(n_samples) * self.label.shape[1]
        self._one_hot = np.zeros(n_samples, dtype=np.int64)

    def load(self, samples: Samples, rows: Rows, start: int) -> None:
        """Copy the samples from `start` on, of the batch `rows`, into the arena."""
        stop = start + self.n_samples
        for target, values in zip(self._inputs, samples.inputs.values(), strict=True):
            _copy(values, rows, start, stop, target)
        if samples.labels is None:
            self.label.fill(0)
        elif samples.labels.ndim == 2:
            _copy(samples.labels, rows, start, stop, self.label)
        else:
            _copy(samples.labels, rows, start, stop, self._one_hot)
            np.add(self._one_hot, self._row_starts, out=self._one_hot)
            self.label.fill(0)
            self.label.reshape(-1)[self._one_hot] = 1


def _copy(
    values: np.ndarray, rows: Rows, start: int, stop: int, target: np.ndarray
) -> None:
    if rows is None:
        np.copyto(target, values[start:stop])
    else:
        # With mode="raise" NumPy would buffer the result outside the arena.
        np.take(values, rows[start:stop], axis=0, out=target, mode="clip")
