"""A plan bound to an arena: one flat table of kernel calls for all steps.

A program holds, for each step, the calls of its execution with the addresses of the
views they work on. Running steps is one native call and allocates nothing. A last,
smaller batch has a program of its own, on the leading samples of the same buffers.

Where an activation overwrites the output of a fully connected layer, the pass that adds
the bias applies the function as well; the bits are the same.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.names import CONTROL
from arena_ckpt.common.phases import Phase
from arena_ckpt.engine.arena import Arena
from arena_ckpt.engine.link import CallTable, Report
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.nodes import Node
from arena_ckpt.kernels import elementwise, reductions
from arena_ckpt.kernels.activations import ACTIVATIONS
from arena_ckpt.kernels.compiling import Doubles, Indexes, Integers, Matrix, Vector
from arena_ckpt.layers.base import Call, n_elems
from arena_ckpt.layers.hooks import hook_calls, unknown_role, wrong_dtype
from arena_ckpt.lowering.updates import UpdateCalls
from arena_ckpt.optim.optimizers import Optimizer
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import Control, Execution, TensorKind


class TensorViews:
    """Arrays over the arena for the tensors of a plan.

    Parameters
    ----------
    plan : MemoryPlan
    arena : Arena
    """

    def __init__(self, plan: MemoryPlan, arena: Arena) -> None:
        self.plan = plan
        self.arena = arena
        self._buffer_of = {
            tensor: buffer for buffer in plan.buffers for tensor in buffer.tensors
        }
        self._persistent = {
            tensor.name: index
            for index, tensor in enumerate(plan.tensors)
            if tensor.life == 0
        }

    def offset_bytes(self, tensor: int) -> int:
        """Return where a tensor life begins in the arena."""
        return self._buffer_of[tensor].offset_bytes

    def array(self, tensor: int, n_samples: int | None = None) -> npt.NDArray[Any]:
        """Return the view of a tensor life, or of its first `n_samples` samples."""
        life = self.plan.tensors[tensor]
        shape = life.shape
        if n_samples is not None and life.per_sample:
            shape = (n_samples, *shape[1:])
        return self.arena.view(self.offset_bytes(tensor), shape, life.dtype)

    def named(self, name: str, n_samples: int | None = None) -> npt.NDArray[Any]:
        """Return the view of the first life of a tensor."""
        return self.array(self._persistent[name], n_samples)

    @property
    def control(self) -> Doubles:
        """The scalars that change from step to step; see `Control`."""
        return self.named(CONTROL)


class Mode(enum.Enum):
    """What a program is run for."""

    TRAIN = "train"
    GRADIENTS = "gradients"
    """As in training, but nothing that lasts is changed."""

    PREDICT = "predict"
    """Forward only, without dropout, by the statistics of the training."""


@dataclass(frozen=True, slots=True)
class StepNote:
    """Where steps leave word of where they are, so that a crash is known by its step.

    Attributes
    ----------
    cell : float64 array, shape (1,)
        Holds `first` plus the number of the step while it runs, and half a step more
        when it has ended.
    first : int
    """

    cell: Doubles
    first: int


class _Binding:
    """Arrays of one execution, by role (the protocol `layers.base.Binding`)."""

    def __init__(
        self,
        views: TensorViews,
        node: Node,
        execution: Execution,
        *,
        mode: Mode,
        n_samples: int,
        accumulate: bool,
        random_key: int,
    ) -> None:
        control = views.control
        self.training = mode is not Mode.PREDICT
        self.updates_state = mode is Mode.TRAIN
        self.n_samples = n_samples
        self.input_shapes = node.input_shapes
        self.output_shapes = node.spec.output_shapes
        self.accumulate = accumulate
        self.random_key = random_key
        self.scale: Doubles = control[Control.SCALE : Control.SCALE + 1]
        self.loss: Doubles = control[Control.LOSS : Control.LOSS + 1]
        self.counters: Doubles = control[Control.ITERATION : Control.FIRST_SAMPLE + 1]
        self._views = views
        self._node = node
        self._phase = execution.phase
        self._operands = {o.role: o for o in execution.operands}

    def vector(self, role: str) -> Vector:
        return self._array(role, "float32").reshape(-1)

    def matrix(self, role: str) -> Matrix:
        array = self._array(role, "float32")
        return array.reshape(-1, array.shape[-1])

    def indexes(self, role: str) -> Indexes:
        return self._array(role, "int32").reshape(-1)

    def doubles(self, role: str) -> Doubles:
        return self._array(role, "float64").reshape(-1)

    def is_wanted(self, role: str) -> bool:
        return role in self._operands

    def is_same(self, role: str, other: str) -> bool:
        first, second = (self._tensor(r) for r in (role, other))
        return self._views.offset_bytes(first) == self._views.offset_bytes(second)

    def _tensor(self, role: str) -> int:
        if role not in self._operands:
            known = tuple(self._operands)
            node = self._node
            raise unknown_role(node.layer, node.spec, self._phase, role, known)
        return self._operands[role].tensor

    def _array(self, role: str, dtype: str) -> npt.NDArray[Any]:
        array = self._views.array(self._tensor(role), self.n_samples)
        if array.dtype != dtype:
            raise wrong_dtype(self._node.layer, self._phase, role, str(array.dtype))
        return array


class Program:
    """The kernel calls of every step, for one number of samples.

    Parameters
    ----------
    graph : Graph
    views : TensorViews
    optimizer : Optimizer
    mode : Mode
    seed : int
        With the name of a layer and the iteration it decides what is random.
    n_samples : int
        Samples in a pass, at most those of the plan.
    add_gradients : bool
        Weight gradients are added to those of earlier micro-batches.
    max_norm : float or None
        Where to clip the global norm of the gradients.
    note : StepNote, optional
        Steps leave word there.
    report : callable, optional
        Told about progress.

    Attributes
    ----------
    table : CallTable
    mode : Mode
    add_gradients : bool
    """

    def __init__(
        self,
        graph: Graph,
        views: TensorViews,
        optimizer: Optimizer,
        *,
        mode: Mode,
        seed: int,
        n_samples: int,
        add_gradients: bool = False,
        max_norm: float | None = None,
        note: StepNote | None = None,
        report: Report | None = None,
    ) -> None:
        self._graph = graph
        self._views = views
        n_hyper = Control.LENGTH - Control.HYPER
        self._hyper = self._control(Control.HYPER, n_hyper)
        self._updates = UpdateCalls(
            optimizer, self._hyper, self._control(Control.FRACTION)
        )
        self.mode = mode
        self._seed = seed
        self._n_samples = n_samples
        self.add_gradients = add_gradients
        self._max_norm = max_norm
        self._begun_gradients: set[int] = set()
        executions = views.plan.executions
        if mode is Mode.PREDICT:
            executions = tuple(e for e in executions if e.phase is Phase.FORWARD)
        calls = _fuse_bias(
            [(e.step, call) for e in executions for call in self._calls(e)]
        )
        calls = self._with_count(calls)
        if note is not None:
            calls = _with_notes(calls, note)
        self.table = CallTable([call for _, call in calls], report)
        n_steps = len(views.plan.steps)
        counts = np.bincount([step for step, _ in calls], minlength=n_steps)
        self._first_call: list[int] = [0, *np.cumsum(counts).tolist()]

    def run(self, start: int, stop: int) -> None:
        """Run the steps [start, stop)."""
        self.table.run(*self.calls(start, stop))

    def calls(self, start: int, stop: int) -> tuple[int, int]:
        """Return where the calls of the steps [start, stop) stand in the table."""
        return self._first_call[start], self._first_call[stop]

    def gradients_of_update(self, execution: Execution) -> dict[str, Matrix]:
        """Make the gradients that an update would make in tiles, beside the arena.

        Parameters
        ----------
        execution : Execution
            An update; the steps before it have run.

        Returns
        -------
        dict from str to float32 array
            By weight, ``"fc1:weight"``.
        """
        node = self._graph.node(execution.layer)
        tensors = self._bind(execution)
        gradients = {}
        for weight in node.spec.trained_weights:
            if tensors.is_wanted(f"{weight.name}:grad"):
                continue
            shape = tensors.matrix(weight.name).shape
            gradient = Arena(4 * n_elems(shape)).view(0, shape, "float32")
            calls = self._updates.make_gradient(weight, tensors, gradient)
            CallTable(calls).run(0, len(calls))
            gradients[f"{node.name}:{weight.name}"] = gradient.reshape(weight.shape)
        return gradients

    def n_calls(self, start: int, stop: int) -> int:
        """Return how many calls there are in the steps [start, stop)."""
        first, last = self.calls(start, stop)
        return last - first

    def _calls(self, execution: Execution) -> list[Call]:
        phase = execution.phase
        if phase is Phase.CLIP_GRADIENTS:
            return self._clip(execution)
        node = self._graph.node(execution.layer)
        tensors = self._bind(execution)
        if phase is Phase.FORWARD:
            calls = hook_calls(node.layer, phase, tensors)
            return [*calls, *self._penalties(node, tensors)]
        if phase is Phase.RECOMPUTE:
            return hook_calls(node.layer, phase, tensors)
        if phase is Phase.CALC_GRADIENT:
            calls = hook_calls(node.layer, phase, tensors)
            return [*calls, *self._penalty_gradients(node, tensors)]
        if phase is Phase.CALC_DERIVATIVE:
            calls = hook_calls(node.layer, phase, tensors)
            return [*calls, *_totals(execution, tensors)]
        return self._apply(node, tensors)

    def _bind(self, execution: Execution) -> _Binding:
        return _Binding(
            self._views,
            self._graph.node(execution.layer),
            execution,
            mode=self.mode,
            n_samples=self._n_samples,
            accumulate=self._accumulates(execution),
            random_key=random_key(self._seed, execution.layer),
        )

    def _accumulates(self, execution: Execution) -> bool:
        """Tell whether there are gradients already where this execution puts its own.

        They are of an earlier micro-batch, or of a layer that shares the weights.
        """
        if execution.phase is not Phase.CALC_GRADIENT:
            return False
        gradients = {
            o.tensor
            for o in execution.operands
            if self._views.plan.tensors[o.tensor].kind is TensorKind.GRADIENT
        }
        begun = bool(gradients & self._begun_gradients)
        self._begun_gradients |= gradients
        return begun or self.add_gradients

    def _with_count(self, calls: list[tuple[int, Call]]) -> list[tuple[int, Call]]:
        """Count the iteration with its last update: both or neither are interrupted."""
        updates = [
            execution.step
            for execution in self._views.plan.executions
            if execution.phase is Phase.APPLY_GRADIENT
        ]
        if not updates or self.mode is not Mode.TRAIN:
            return calls
        count = Call(elementwise.count_up, (self._control(Control.ITERATION),))
        return sorted([*calls, (updates[-1], count)], key=lambda pair: pair[0])

    def _control(self, place: Control, length: int = 1) -> Doubles:
        return self._views.control[place : place + length]

    def _penalties(self, node: Node, tensors: _Binding) -> list[Call]:
        fraction, loss = self._control(Control.FRACTION), tensors.loss
        return [
            Call(
                reductions.l2_penalty,
                (tensors.vector(w.name), w.regularizer_constant, fraction, loss),
            )
            for w in node.own_weights
            if w.regularizer_constant and node.trains
        ]

    def _penalty_gradients(self, node: Node, tensors: _Binding) -> list[Call]:
        return [
            self._updates.add_penalty(
                w,
                self._views.named(f"{node.name}:{w.name}").reshape(-1),
                tensors.vector(f"{w.name}:grad"),
            )
            for w in node.own_weights
            if w.regularizer_constant and tensors.is_wanted(f"{w.name}:grad")
        ]

    def _clip(self, execution: Execution) -> list[Call]:
        assert self._max_norm is not None
        total = self._control(Control.SQUARE_NORM)
        gradients = [self._views.array(o.tensor) for o in execution.operands]
        return [
            Call(elementwise.fill_doubles, (0.0, total)),
            *(Call(reductions.square_sum, (g.reshape(-1), total)) for g in gradients),
            Call(reductions.clip_scale, (total, self._max_norm, self._hyper[1:2])),
        ]

    def _apply(self, node: Node, tensors: _Binding) -> list[Call]:
        calls = []
        # Layers that share weights may have decays of their own: the owner's holds.
        for weight in self._graph.node(node.weights_of).spec.trained_weights:
            calls += self._updates.apply(weight, tensors)
        return calls


class FiniteCheck:
    """Counts NaN and infinite values in arrays of the arena.

    Parameters
    ----------
    arrays : list of float32 array
        Contiguous; looked at anew each time.
    masks : list of float32 array
        The same, but -inf does not count.
    count : int64 array, shape (1,)
        Scratch space.
    """

    def __init__(
        self,
        arrays: list[npt.NDArray[Any]],
        masks: list[npt.NDArray[Any]],
        count: Integers,
    ) -> None:
        calls = [
            Call(kernel, (array.reshape(-1), count))
            for kernel, some in (
                (reductions.count_nonfinite, arrays),
                (reductions.count_unusable_in_mask, masks),
            )
            for array in some
        ]
        self._count = count
        self._n_calls = len(calls)
        self._table = CallTable(calls)

    def __call__(self) -> int:
        """Return the count."""
        total = 0
        for place in range(self._n_calls):
            self._table.run(place, place + 1)
            total += int(self._count[0])
        return total


def random_key(seed: int, layer: str) -> int:
    """Return what random numbers of a layer are keyed by, from 0 to 2⁶³ - 1."""
    digest = hashlib.blake2b(f"{seed}:{layer}:random".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _totals(execution: Execution, tensors: _Binding) -> list[Call]:
    """Add derivatives to those of readers that came before."""
    totals = [o.role for o in execution.operands if o.role.endswith(":total")]
    return [
        Call(
            elementwise.add_to,
            (tensors.vector(role.removesuffix(":total")), tensors.vector(role)),
        )
        for role in totals
    ]


def _fuse_bias(calls: list[tuple[int, Call]]) -> list[tuple[int, Call]]:
    """Let one pass add the bias and apply an activation that overwrites its input."""
    fused_kernels = {a.forward: a.bias_forward for a in ACTIVATIONS.values()}
    result: list[tuple[int, Call]] = []
    for step, call in calls:
        fused = fused_kernels.get(call.kernel)
        if fused and result and result[-1][1].kernel is elementwise.add_bias:
            x, bias, sums = result[-1][1].arguments
            source, target = call.arguments
            if sums.ctypes.data == source.ctypes.data == target.ctypes.data:
                result[-1] = (result[-1][0], Call(fused, (x, bias, sums)))
                continue
        result.append((step, call))
    return result


def _with_notes(
    calls: list[tuple[int, Call]], note: StepNote
) -> list[tuple[int, Call]]:
    """Let each step that has calls leave word before the first and after the last."""
    noted: list[tuple[int, Call]] = []
    for step, group in groupby(calls, key=lambda pair: pair[0]):
        begins = Call(elementwise.fill_doubles, (float(note.first + step), note.cell))
        ends = Call(elementwise.fill_doubles, (note.first + step + 0.5, note.cell))
        noted += [(step, begins), *group, (step, ends)]
    return noted
