"""Finds the live range of every tensor, and the tensor in each role of every step.

A tensor that is dropped and recomputed has several live ranges. Each step that reads it
uses the current one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from arena_ckpt.common.dtypes import FLOAT32, size_bytes
from arena_ckpt.common.names import (
    CONTROL,
    LABEL,
    TILE,
    discarded,
    gradient_of,
    input_role,
    layer_of,
    output_role,
    state_of,
    tensor_name,
    total_of,
)
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.graph.build import Graph, loss_of
from arena_ckpt.graph.nodes import Node
from arena_ckpt.layers.loss import Loss
from arena_ckpt.layers.spec import TensorSpec, WeightSpec, n_elems
from arena_ckpt.planning.in_place import Groups, share
from arena_ckpt.planning.loss_places import control_length
from arena_ckpt.planning.recompute import saved_tensors
from arena_ckpt.planning.settings import PlanSettings
from arena_ckpt.planning.sparse_gradients import gradient_shape
from arena_ckpt.planning.tensors import (
    CONTROL_DTYPE,
    Access,
    Execution,
    LiveRange,
    Operand,
    TensorKind,
)
from arena_ckpt.planning.tiled_update import (
    accumulates,
    clipped_parts,
    tile_rows,
    tiled_weights,
)
from arena_ckpt.planning.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Uses:
    """The live ranges that `find_uses` finds, and the executions that use them.

    Attributes
    ----------
    tensors : tuple of LiveRange
    executions : tuple of Execution
        The steps at which kernels run, in order of time.
    """

    tensors: tuple[LiveRange, ...]
    executions: tuple[Execution, ...]


def find_uses(graph: Graph, timeline: Timeline, settings: PlanSettings) -> Uses:
    """Find the tensor in every role of every step; see `analyze`.

    Notes
    -----
    O(uses).
    """
    builder = _Builder(graph, timeline, settings)
    builder.add_persistent()
    builder.walk()
    builder.keep_predictions()
    return builder.closed()


def find_uses_of_stretch(
    graph: Graph,
    timeline: Timeline,
    settings: PlanSettings,
    *,
    begin: Iterable[LiveRange],
    end: Collection[str],
) -> Uses:
    """Find the tensor in every role of some steps, as if there were no others.

    Parameters
    ----------
    graph : Graph
        The graph of the whole model.
    timeline : Timeline
        The steps to look at alone.
    settings : PlanSettings
    begin : iterable of LiveRange
        Tensors whose bytes are there when the steps begin, weights included.
    end : collection of str
        Tensors that are read after the last step: they are live one step longer.
    """
    builder = _Builder(graph, timeline, settings)
    for life in begin:
        builder.add_given(life)
    builder.walk()
    for name in end:
        builder.keep_beyond(name)
    return builder.closed()


class _Builder:
    """Walks the timeline once and finds the tensor in every role of each execution."""

    def __init__(
        self, graph: Graph, timeline: Timeline, settings: PlanSettings
    ) -> None:
        self.graph = graph
        self.timeline = timeline
        self.batch_size = settings.pass_samples
        self.whole_batch = settings.batch_size
        self.is_inference = settings.is_inference
        self.clips_values = settings.clip_values
        self.state_names = () if self.is_inference else settings.state_names
        self.keep_gradients = settings.keeps_gradients
        self.tiled = tiled_weights(graph) if settings.tiles_updates else {}
        self.nodes = {node.name: node for node in graph.nodes}
        self.lives: list[_OpenRange] = []
        self.executions: list[Execution] = []
        self.current: dict[str, int] = {}
        self.tables = graph.tables

    def add_given(self, life: LiveRange) -> None:
        """Add a tensor whose bytes are there before the first step."""
        given = self._add(
            life.name, life.kind, life.layer, life.shape, per_sample=life.per_sample
        )
        given.dtype, given.start = life.dtype, 0

    def keep_beyond(self, name: str) -> None:
        """Extend the current live range of a tensor beyond the last step."""
        self.lives[self.current[name]].stop = len(self.timeline.steps) + 1

    def keep_predictions(self) -> None:
        """Extend the live range of what the model predicts to the last forward step."""
        for name in self.graph.predictions:
            life = self.lives[self.current[name]]
            life.stop = max(life.stop, self.timeline.n_forward)

    def closed(self) -> Uses:
        """Return the live ranges and executions that were found."""
        n_steps = len(self.timeline.steps)
        tensors = tuple(life.closed(n_steps) for life in self.lives)
        return Uses(tensors, tuple(self.executions))

    def walk(self) -> None:
        """Add an execution for each step at which a layer touches a tensor."""
        for index, step in enumerate(self.timeline.steps):
            if step is None:
                continue
            node = self.nodes[step.layer]
            if step.phase is Phase.RECOMPUTE and not self.timeline.remade[index]:
                continue
            if not node.runs(step.phase):
                continue
            operands = tuple(self._operands(index, step.phase, node))
            if operands:
                self.executions.append(
                    Execution(index, step.phase, node.name, operands)
                )

    def add_persistent(self) -> None:
        """Add the weights, states and labels, which are live at all steps."""
        length = control_length(self.graph)
        control = self._add(CONTROL, TensorKind.WORKSPACE, "", (length,))
        control.dtype, control.is_persistent = CONTROL_DTYPE, True
        for node in self.graph.nodes:
            for weight in node.own_weights:
                name = tensor_name(node.name, weight.name)
                is_moved = weight.is_trained and not weight.is_frozen
                states = self.state_names if node.trains and is_moved else ()
                for tensor, kind in (
                    (name, TensorKind.WEIGHT),
                    *((state_of(name, s), TensorKind.OPTIMIZER_STATE) for s in states),
                ):
                    self._add(
                        tensor, kind, node.name, weight.shape
                    ).is_persistent = True
        for node in filter(self._has_label, self.graph.losses):
            shape = loss_of(node).label_shape(node.spec.output_shapes[0])
            name, full = tensor_name(node.name, LABEL), (self.batch_size, *shape)
            label = self._add(name, TensorKind.DATA, node.name, full, per_sample=True)
            label.start = 0

    def _has_label(self, node: Node) -> bool:
        """Tell whether the steps of a layer read labels; inference can do without."""
        layer = node.layer
        if not isinstance(layer, Loss) or not layer.takes_label:
            return False
        return not self.is_inference or layer.needs_label_to_predict

    def _add(
        self,
        name: str,
        kind: TensorKind,
        layer: str,
        shape: tuple[int, ...],
        *,
        per_sample: bool = False,
    ) -> _OpenRange:
        life = self.lives[self.current[name]].life + 1 if name in self.current else 0
        self.current[name] = len(self.lives)
        self.lives.append(_OpenRange(name, life, kind, layer, shape, per_sample))
        return self.lives[-1]

    def _operands(self, step: int, phase: Phase, node: Node) -> Iterator[Operand]:
        if phase in (Phase.FORWARD, Phase.RECOMPUTE):
            yield from self._reads(step, phase, node)
            if self._has_label(node):
                yield self._use(step, phase, LABEL, tensor_name(node.name, LABEL))
            yield from self._results(step, phase, node)
        elif phase in (Phase.CALC_GRADIENT, Phase.CALC_DERIVATIVE):
            yield from self._reads(step, phase, node)
            if self._has_label(node):
                yield self._use(step, phase, LABEL, tensor_name(node.name, LABEL))
            elif not node.layer.is_loss:
                for index, output in enumerate(node.outputs):
                    if output not in node.unread:
                        role = gradient_of(output_role(index))
                        yield self._use(step, phase, role, gradient_of(output))
            yield from self._own_tensors(step, phase, node)
            if phase is Phase.CALC_GRADIENT:
                yield from self._gradients(step, node)
            else:
                yield from self._derivatives(step, node)
        elif phase is Phase.CLIP_GRADIENTS:
            for other in self.graph.nodes:
                for weight in other.spec.trained_weights if other.updates else ():
                    name = gradient_of(tensor_name(other.weights_of, weight.name))
                    yield self._use(step, phase, name, name)
        else:
            yield from self._updates(step, phase, node)

    def _updates(self, step: int, phase: Phase, node: Node) -> Iterator[Operand]:
        """Yield the operands of an update: gradients, weights and optimizer states.

        A gradient that is made in tiles is no operand; its two factors are.
        """
        tiled = [w for w in node.spec.trained_weights if self._is_tiled(node, w)]
        factors = (weight.gradient_factors or () for weight in tiled)
        for role in dict.fromkeys(role for pair in factors for role in pair):
            yield self._use(step, phase, role, node.tensor_in(role))
        elems = self._tile_elems(node, tiled)
        if elems:
            tile = self._add(
                tensor_name(node.name, TILE), TensorKind.WORKSPACE, node.name, (elems,)
            )
            yield self._use(step, phase, TILE, tile.name, Access.WRITE)
        for weight in node.spec.trained_weights:
            if weight not in tiled:
                role = gradient_of(weight.name)
                tensor = tensor_name(node.weights_of, role)
                yield self._use(step, phase, role, tensor)
            states = (state_of(weight.name, state) for state in self.state_names)
            for role in (weight.name, *states):
                tensor = tensor_name(node.weights_of, role)
                yield self._use(step, phase, role, tensor, Access.UPDATE)

    def _is_tiled(self, node: Node, weight: WeightSpec) -> bool:
        return weight.name in self.tiled.get(node.name, ())

    def _tile_elems(self, node: Node, tiled: list[WeightSpec]) -> int:
        """Return the size of the largest tile of a layer's gradients; 0 without one.

        A tile is made of a gradient that nowhere lies whole, or is the clipped part of
        one that does.
        """
        clips = self.clips_values
        sizes = [
            tile_rows(weight) * n_elems(weight.shape[1:])
            for weight in tiled
            if not accumulates(weight, self.state_names, clips_values=clips)
        ]
        if clips:
            sizes += [
                stop - start
                for weight in node.spec.trained_weights
                if weight not in tiled
                for start, stop in clipped_parts(n_elems(weight.shape))
            ]
        return max(sizes, default=0)

    def _results(self, step: int, phase: Phase, node: Node) -> Iterator[Operand]:
        """Yield the outputs that a forward pass or a recompute writes."""
        if node.layer.is_table:
            return  # its output is its weight
        again = phase is Phase.RECOMPUTE
        wanted = self.timeline.remade[step] if again else frozenset(node.outputs)
        kind = _kind_of_result(phase) if node.inputs else TensorKind.DATA
        for index, (name, shape) in enumerate(
            zip(node.outputs, node.spec.output_shapes, strict=True)
        ):
            role, full = output_role(index), (self.batch_size, *shape)
            if name in node.left_out:
                continue
            if name in wanted:
                life = self._add(name, kind, node.name, full, per_sample=True)
                operand = self._use(step, phase, role, name, Access.WRITE)
                if not node.inputs:
                    life.start = 0  # copied in before the iteration begins
                yield operand
            elif not node.spec.forward_skips_unwanted:
                yield self._discarded(step, phase, node, role, full)
        yield from self._own_tensors(step, phase, node)

    def _own_tensors(self, step: int, phase: Phase, node: Node) -> Iterator[Operand]:
        """Yield the tensors of the layer's own that a phase writes or reads."""
        forward = phase in (Phase.FORWARD, Phase.RECOMPUTE)
        flag = TensorLifespan.FORWARD if forward else phase.lifespan
        kept = saved_tensors(node) if phase is Phase.RECOMPUTE else ()
        for spec in node.spec.tensors:
            if not spec.lifespan & flag:
                continue
            name = tensor_name(node.name, spec.name)
            shape = (self.batch_size, *spec.shape) if spec.per_sample else spec.shape
            if not self._begins(spec, phase, node):
                yield self._use(step, phase, spec.name, name)
            elif name in kept and name not in self.timeline.remade[step]:
                yield self._discarded(step, phase, node, spec.name, shape, spec)
            else:
                saved = spec.is_saved and not self.is_inference
                kind = _kind_of_result(phase) if saved else TensorKind.WORKSPACE
                life = self._add(
                    name, kind, node.name, shape, per_sample=spec.per_sample
                )
                life.dtype = spec.dtype
                yield self._use(step, phase, spec.name, name, Access.WRITE)

    def _begins(self, spec: TensorSpec, phase: Phase, node: Node) -> bool:
        """Tell whether a phase is the first to touch a tensor of the layer's own."""
        if phase in (Phase.FORWARD, Phase.RECOMPUTE):
            return True
        if spec.lifespan & TensorLifespan.FORWARD:
            return False
        carried = spec.lifespan & TensorLifespan.CALC_GRADIENT and node.trains
        return phase is Phase.CALC_GRADIENT or not carried

    def _discarded(
        self,
        step: int,
        phase: Phase,
        node: Node,
        role: str,
        shape: tuple[int, ...],
        spec: TensorSpec | None = None,
    ) -> Operand:
        """Return an operand for a result that a recompute writes and nobody reads."""
        life = self._add(
            discarded(tensor_name(node.name, role)),
            TensorKind.WORKSPACE,
            node.name,
            shape,
            per_sample=spec is None or spec.per_sample,
        )
        life.dtype = spec.dtype if spec else FLOAT32
        return self._use(step, phase, role, life.name, Access.WRITE)

    def _reads(self, step: int, phase: Phase, node: Node) -> Iterator[Operand]:
        """Yield the inputs, weights and own outputs that a phase reads."""
        flag = TensorLifespan.FORWARD if phase is Phase.RECOMPUTE else phase.lifespan
        for i, source in enumerate(node.sources):
            if node.spec.reads_input(i, flag):
                yield self._use(step, phase, input_role(i), source)
        for weight in node.spec.weights:
            if weight.lifespan & flag or self._penalizes(phase, node, weight):
                tensor = tensor_name(node.weights_of, weight.name)
                changes = not weight.is_trained and phase is Phase.CALC_GRADIENT
                access = Access.UPDATE if changes else Access.READ
                yield self._use(step, phase, weight.name, tensor, access)
        if node.spec.output_lifespan & flag:
            for index, output in enumerate(node.outputs):
                yield self._use(step, phase, output_role(index), output)

    def _penalizes(self, phase: Phase, node: Node, weight: WeightSpec) -> bool:
        """Tell whether a gradient step adds the gradient of a weight's penalty."""
        return bool(
            phase is Phase.CALC_GRADIENT
            and weight.regularizer_constant
            and node.weights_of == node.name
            and not self._is_tiled(node, weight)
        )

    def _gradients(self, step: int, node: Node) -> Iterator[Operand]:
        """Yield the gradients that a step writes, or adds to for shared weights."""
        for weight in node.spec.trained_weights:
            if self._is_tiled(node, weight):
                continue
            role = gradient_of(weight.name)
            tensor = tensor_name(node.weights_of, role)
            access = Access.UPDATE
            if tensor not in self.current:
                shape = gradient_shape(weight, self.whole_batch)
                life = self._add(tensor, TensorKind.GRADIENT, node.weights_of, shape)
                if self.keep_gradients:
                    life.start = 0
                else:
                    access = Access.WRITE
            yield self._use(step, Phase.CALC_GRADIENT, role, tensor, access)

    def _derivatives(self, step: int, node: Node) -> Iterator[Operand]:
        """Yield the derivatives of the inputs.

        The first layer that makes the derivative of a tensor writes it; each other one
        writes a share and adds that.
        """
        phase = Phase.CALC_DERIVATIVE
        for i in node.derived_inputs:
            role, total = gradient_of(input_role(i)), gradient_of(node.sources[i])
            full: tuple[int, ...] = node.input_shapes[i]
            has_samples = node.sources[i] not in self.tables
            if has_samples:
                full = (self.batch_size, *full)
            if total not in self.current:
                source = layer_of(node.sources[i])
                kind = TensorKind.DERIVATIVE
                self._add(total, kind, source, full, per_sample=has_samples)
                yield self._use(step, phase, role, total, Access.WRITE)
            else:
                part, kind = tensor_name(node.name, role), TensorKind.DERIVATIVE
                self._add(part, kind, node.name, full, per_sample=has_samples)
                yield self._use(step, phase, role, part, Access.WRITE)
                yield self._use(step, phase, total_of(role), total, Access.UPDATE)

    def _use(
        self,
        step: int,
        phase: Phase,
        role: str,
        tensor: str,
        access: Access = Access.READ,
    ) -> Operand:
        index = self.current[self.tables.get(tensor, tensor)]
        life = self.lives[index]
        if life.start is None:
            life.start = step
        life.stop = max(life.stop, step + 1)
        life.lifespan |= phase.lifespan
        return Operand(role, index, access)


def _kind_of_result(phase: Phase) -> TensorKind:
    again = phase is Phase.RECOMPUTE
    return TensorKind.RECOMPUTED if again else TensorKind.ACTIVATION


@dataclass(slots=True)
class _OpenRange:
    """A live range whose end is not known yet."""

    name: str
    life: int
    kind: TensorKind
    layer: str
    shape: tuple[int, ...]
    per_sample: bool = False
    dtype: str = FLOAT32
    start: int | None = None
    stop: int = 0
    is_persistent: bool = False
    lifespan: TensorLifespan = TensorLifespan.UNMANAGED

    def closed(self, n_steps: int) -> LiveRange:
        start = 0 if self.is_persistent or self.start is None else self.start
        return LiveRange(
            name=self.name,
            life=self.life,
            kind=self.kind,
            layer=self.layer,
            shape=self.shape,
            per_sample=self.per_sample,
            dtype=self.dtype,
            size_bytes=size_bytes(self.shape, self.dtype),
            start=start,
            stop=n_steps if self.is_persistent else max(self.stop, start + 1),
            lifespan=self.lifespan,
        )


@dataclass(frozen=True, slots=True)
class Liveness:
    """The live ranges that `analyze` finds, and which of them share a buffer.

    Attributes
    ----------
    tensors : tuple of LiveRange
    executions : tuple of Execution
        The steps at which kernels run, in order of time.
    groups : tuple of tuple of int
        Tensors that share one buffer.
    """

    tensors: tuple[LiveRange, ...]
    executions: tuple[Execution, ...]
    groups: Groups


def analyze(graph: Graph, timeline: Timeline, settings: PlanSettings) -> Liveness:
    """Find the live ranges of all tensors of one training iteration.

    Parameters
    ----------
    graph : Graph
    timeline : Timeline
    settings : PlanSettings

    Returns
    -------
    Liveness
    """
    uses = find_uses(graph, timeline, settings)
    return Liveness(uses.tensors, uses.executions, group_tensors(graph, uses, settings))


def group_tensors(graph: Graph, uses: Uses, settings: PlanSettings) -> Groups:
    """Return the groups of tensors that share their bytes.

    Without operation in place each tensor is a group of its own.
    """
    if settings.shares_in_place:
        return share(graph, uses.tensors, uses.executions)
    return tuple((index,) for index in range(len(uses.tensors)))
