"""One pass over the model: the program for a number of samples, and their loading."""

from __future__ import annotations

import numpy as np

from arena_ckpt.common.names import input_role
from arena_ckpt.common.phases import Phase
from arena_ckpt.data.samples import Rows, Samples
from arena_ckpt.engine.finite_check import FiniteCheck
from arena_ckpt.engine.program import Program
from arena_ckpt.engine.views import TensorViews
from arena_ckpt.errors import IdRangeError
from arena_ckpt.graph.build import Graph
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.spec import IdInput
from arena_ckpt.planning.tensors import Control


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
    labels : dict from str to str
        The tensor of the labels of each loss; empty where the plan has none.
    masks : frozenset of str
        The tensors that may hold -inf.
    """

    def __init__(
        self,
        program: Program,
        views: TensorViews,
        n_samples: int,
        inputs: list[str],
        labels: dict[str, str],
        masks: frozenset[str],
    ) -> None:
        self.program = program
        self._views = views
        self.n_samples = n_samples
        names = [*inputs, *labels.values()]
        arrays = {name: views.named(name, n_samples) for name in names}
        self._inputs = [arrays[name].reshape(n_samples, -1) for name in inputs]
        self.labels = {
            loss: arrays[name].reshape(n_samples, -1) for loss, name in labels.items()
        }
        place = int(Control.NONFINITE)
        count = views.control[place : place + 1].view(np.int64)
        self.count_nonfinite = FiniteCheck(
            [array for name, array in arrays.items() if name not in masks],
            [array for name, array in arrays.items() if name in masks],
            count,
        )
        # Where class numbers become one-hot: element `row * classes + class number`.
        self._row_starts = {
            loss: np.arange(n_samples) * label.shape[1]
            for loss, label in self.labels.items()
        }
        self._one_hot = np.zeros(n_samples, dtype=np.int64)

    def load(self, samples: Samples, rows: Rows, start: int) -> None:
        """Copy the samples from `start` on, of the batch `rows`, into the arena."""
        stop = start + self.n_samples
        for target, (name, values) in zip(
            self._inputs, samples.inputs.items(), strict=True
        ):
            _copy(values, rows, start, stop, target)
            if name in samples.scaling:
                _scale(target, *samples.scaling[name])
        for loss, label in self.labels.items():
            given = samples.by_loss.get(loss, samples).labels
            if given is None:
                label.fill(0)
            elif given.ndim == 2:
                _copy(given, rows, start, stop, label)
            else:
                _copy(given, rows, start, stop, self._one_hot)
                np.add(self._one_hot, self._row_starts[loss], out=self._one_hot)
                label.fill(0)
                label.reshape(-1)[self._one_hot] = 1

    def refuse_ids(
        self, graph: Graph, samples: Samples, rows: Rows, start: int
    ) -> None:
        """Refuse samples with ids out of range, where a pass has led to NaN.

        Runs the forward steps again up to each layer that reads ids, and looks at them.

        Raises
        ------
        IdRangeError
        """
        for execution in self._views.plan.executions:
            if execution.phase is not Phase.FORWARD:
                break
            node = graph.node(execution.layer)
            for ids in node.spec.id_inputs:
                operand = execution.operand(input_role(ids.index))
                if operand is None:
                    continue
                self.load(samples, rows, start)
                self.program.run(0, execution.step)
                values = self._views.array(operand.tensor, self.n_samples)
                values = values.reshape(self.n_samples, -1)
                in_range = (values >= ids.least) & (values < ids.n_ids)
                wrong = ~(in_range & (values == np.floor(values)))
                if wrong.any():
                    row, place = (int(i) for i in np.argwhere(wrong)[0])
                    sample = start + row if rows is None else int(rows[start + row])
                    n_wrong = int(np.count_nonzero(wrong))
                    value = float(values[row, place])
                    raise _id_error(node.layer, ids, value, sample, place, n_wrong)


def _id_error(
    layer: Layer, ids: IdInput, value: float, sample: int, place: int, n_wrong: int
) -> IdRangeError:
    """Return the error of an id that is out of range.

    Parameters
    ----------
    layer : Layer
    ids : IdInput
        The input of the layer that reads the ids.
    value : float
        The first id that is out of range.
    sample, place : int
        Number of its sample in the data, and its place in the sample.
    n_wrong : int
        Number of such ids in the pass.
    """
    known = f"with {ids.set_by}={ids.n_ids} " if ids.set_by else ""
    way_out = "renumber them" if ids.least == 0 else "correct them"
    way_out += f", or set {ids.set_by} to the largest id plus 1" if ids.set_by else ""
    facts = {ids.set_by: ids.n_ids} if ids.set_by else {}
    return IdRangeError(
        f"layer {layer.name!r} ({layer.type_name}) reads {value:g} in sample {sample}, "
        f"place {place}; {known}{ids.called} are whole numbers from {ids.least} to "
        f"{ids.n_ids - 1}. {n_wrong:,} {ids.called} of this pass are none: {way_out}. "
        "No weight was changed",
        layer=layer.name,
        sample=sample,
        place=place,
        value=value,
        n_ids=ids.n_ids,
        least=ids.least,
        **facts,
    )


def _convert(values: np.ndarray, target: np.ndarray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is looked for later
        np.copyto(target, values, casting="same_kind")


def _scale(target: np.ndarray, offset: np.ndarray, factor: np.ndarray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is looked for later
        np.subtract(target, offset, out=target)
        np.multiply(target, factor, out=target)


def _copy(
    values: np.ndarray, rows: Rows, start: int, stop: int, target: np.ndarray
) -> None:
    if rows is None:
        _convert(values[start:stop], target)
    elif values.dtype != target.dtype:
        _convert(values[rows[start:stop]], target)
    else:
        # With mode="raise" NumPy would buffer the result outside the arena.
        np.take(values, rows[start:stop], axis=0, out=target, mode="clip")
