"""From steps and lifespans to executions: which tensor stands in each role, and when.

*Recompute on demand*: of each checkpoint block only those layers run again whose
results the backward pass of the block really reads. A tensor that is dropped and
recomputed has several lives, and each reader is given the one that is current.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from arena_ckpt.graph import Graph, Node
from arena_ckpt.layers.base import n_elems
from arena_ckpt.lifespan import Phase, TensorLifespan
from arena_ckpt.tensors import (
    CONTROL,
    Access,
    Control,
    Execution,
    Operand,
    TensorKind,
    TensorLife,
)
from arena_ckpt.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Uses:
    """Result of `find_uses`.

    Attributes
    ----------
    tensors : tuple of TensorLife
    executions : tuple of Execution
        In order of time; steps with nothing to do have none.
    """

    tensors: tuple[TensorLife, ...]
    executions: tuple[Execution, ...]


def find_uses(
    graph: Graph,
    timeline: Timeline,
    *,
    batch_size: int,
    state_names: tuple[str, ...],
    keep_gradients: bool,
) -> Uses:
    """Give every role of every step its tensor; see `arena_ckpt.liveness.analyze`.

    Notes
    -----
    O(uses).
    """
    builder = _Builder(graph, timeline, batch_size, state_names, keep_gradients)
    builder.run()
    n_steps = len(timeline.steps)
    tensors = tuple(life.closed(n_steps) for life in builder.lives)
    return Uses(tensors, tuple(builder.executions))


def recomputed_layers(graph: Graph) -> frozenset[str]:
    """Return the layers of checkpoint blocks whose forward has to run again."""
    read_backward: set[str] = set()
    for node in graph.nodes:
        for phase in (Phase.CALC_GRADIENT, Phase.CALC_DERIVATIVE):
            if not _runs(graph, node, phase):
                continue
            if node.spec.input_lifespan & phase.lifespan:
                read_backward.update(node.inputs)
            if node.spec.output_lifespan & phase.lifespan:
                read_backward.add(node.name)
    readers = graph.readers()
    needed: set[str] = set()
    for block in graph.blocks:
        inner = _inner_layers(graph, readers, block.layers)
        wanted = read_backward & set(block.layers)
        for name in reversed(block.layers):
            if name in wanted and name in inner:
                needed.add(name)
                wanted.update(graph.node(name).inputs)
    return frozenset(needed)


def _inner_layers(
    graph: Graph, readers: Mapping[str, tuple[str, ...]], block: tuple[str, ...]
) -> frozenset[str]:
    """Return the layers of a block whose outputs can be dropped and made again.

    These are read by the block only; the samples of an input layer are never dropped,
    because nothing in the arena could make them again.
    """
    return frozenset(
        name
        for name in block[:-1]
        if graph.node(name).inputs and all(r in block for r in readers[name])
    )


def _runs(graph: Graph, node: Node, phase: Phase) -> bool:
    """Tell whether a phase of a layer has anything to do."""
    if phase is Phase.CALC_GRADIENT or phase is Phase.APPLY_GRADIENT:
        return node.trains
    if phase is Phase.CALC_DERIVATIVE:
        return any(graph.node(name).wants_derivative for name in node.inputs)
    return True


class _Builder:
    """Walks the timeline once and gives every role of every execution its tensor."""

    def __init__(
        self,
        graph: Graph,
        timeline: Timeline,
        batch_size: int,
        state_names: tuple[str, ...],
        keep_gradients: bool,
    ) -> None:
        self.graph = graph
        self.timeline = timeline
        self.batch_size = batch_size
        self.state_names = state_names
        self.keep_gradients = keep_gradients
        self.nodes = {node.name: node for node in graph.nodes}
        self.recomputed = recomputed_layers(graph)
        self.lives: list[_OpenLife] = []
        self.executions: list[Execution] = []
        self.current: dict[str, int] = {}

    def run(self) -> None:
        self._add_persistent()
        for index, step in enumerate(self.timeline.steps):
            if step is None:
                continue
            node = self.nodes[step.layer]
            if step.phase is Phase.RECOMPUTE and node.name not in self.recomputed:
                continue
            if not _runs(self.graph, node, step.phase):
                continue
            operands = tuple(self._operands(index, step.phase, node))
            if operands:
                self.executions.append(
                    Execution(index, step.phase, node.name, operands)
                )

    def _add_persistent(self) -> None:
        control = self._add(CONTROL, TensorKind.WORKSPACE, "", (Control.LENGTH,))
        control.dtype, control.is_persistent = "float64", True
        for node in self.graph.nodes:
            for weight in node.spec.weights:
                name = f"{node.name}:{weight.name}"
                states = self.state_names if node.trains else ()
                for tensor, kind in (
                    (name, TensorKind.WEIGHT),
                    *((f"{name}:{s}", TensorKind.OPTIMIZER_STATE) for s in states),
                ):
                    self._add(
                        tensor, kind, node.name, weight.shape
                    ).is_persistent = True
        loss = self.graph.loss
        label = self._add(
            f"{loss.name}:label",
            TensorKind.DATA,
            loss.name,
            (self.batch_size, *loss.spec.output_shape),
        )
        label.start = 0

    def _add(
        self, name: str, kind: TensorKind, layer: str, shape: tuple[int, ...]
    ) -> _OpenLife:
        life = self.lives[self.current[name]].life + 1 if name in self.current else 0
        self.current[name] = len(self.lives)
        self.lives.append(_OpenLife(name, life, kind, layer, shape))
        return self.lives[-1]

    def _operands(self, step: int, phase: Phase, node: Node) -> Iterator[Operand]:
        if phase in (Phase.FORWARD, Phase.RECOMPUTE):
            yield from self._forward(step, phase, node)
        elif phase is Phase.CALC_GRADIENT:
            yield from self._reads(step, phase, node)
            yield self._use(step, phase, "out0:grad", f"{node.name}:out0:grad")
            yield from self._gradients(step, node)
        elif phase is Phase.CALC_DERIVATIVE:
            yield from self._reads(step, phase, node)
            if node.layer.is_loss:
                yield self._use(step, phase, "label", f"{node.name}:label")
            else:
                yield self._use(step, phase, "out0:grad", f"{node.name}:out0:grad")
            yield from self._derivatives(step, node)
        elif phase is Phase.CLIP_GRADIENTS:
            for other in self.graph.nodes:
                for weight in other.spec.weights if other.trains else ():
                    name = f"{other.name}:{weight.name}:grad"
                    yield self._use(step, phase, name, name)
        else:
            for weight in node.spec.weights:
                name = f"{node.name}:{weight.name}"
                yield self._use(step, phase, f"{weight.name}:grad", f"{name}:grad")
                for role in (weight.name, *self._states(weight.name)):
                    tensor = f"{node.name}:{role}"
                    yield self._use(step, phase, role, tensor, Access.UPDATE)

    def _states(self, weight: str) -> tuple[str, ...]:
        return tuple(f"{weight}:{state}" for state in self.state_names)

    def _forward(self, step: int, phase: Phase, node: Node) -> Iterator[Operand]:
        yield from self._reads(step, phase, node)
        if node.layer.is_loss:
            yield self._use(step, phase, "label", f"{node.name}:label")
        kind = (
            TensorKind.DATA
            if not node.inputs
            else TensorKind.RECOMPUTED
            if phase is Phase.RECOMPUTE
            else TensorKind.ACTIVATION
        )
        name = f"{node.name}:out0"
        life = self._add(
            name, kind, node.name, (self.batch_size, *node.spec.output_shape)
        )
        operand = self._use(step, phase, "out0", name, Access.WRITE)
        if not node.inputs:
            life.start = 0  # copied in before the iteration begins
        yield operand

    def _reads(self, step: int, phase: Phase, node: Node) -> Iterator[Operand]:
        """Yield inputs, weights and own output, as the lifespans of the layer say."""
        flag = TensorLifespan.FORWARD if phase is Phase.RECOMPUTE else phase.lifespan
        if node.spec.input_lifespan & flag:
            for i, source in enumerate(node.inputs):
                yield self._use(step, phase, f"in{i}", f"{source}:out0")
        for weight in node.spec.weights:
            if weight.lifespan & flag:
                tensor = f"{node.name}:{weight.name}"
                yield self._use(step, phase, weight.name, tensor)
        if node.spec.output_lifespan & flag:
            yield self._use(step, phase, "out0", f"{node.name}:out0")

    def _gradients(self, step: int, node: Node) -> Iterator[Operand]:
        access = Access.UPDATE if self.keep_gradients else Access.WRITE
        for weight in node.spec.weights:
            tensor = f"{node.name}:{weight.name}:grad"
            life = self._add(tensor, TensorKind.GRADIENT, node.name, weight.shape)
            operand = self._use(
                step, Phase.CALC_GRADIENT, f"{weight.name}:grad", tensor, access
            )
            if self.keep_gradients:
                life.start = 0
            yield operand

    def _derivatives(self, step: int, node: Node) -> Iterator[Operand]:
        """Results for the inputs; the first reader writes, the others add to it."""
        phase = Phase.CALC_DERIVATIVE
        for i, (source, shape) in enumerate(
            zip(node.inputs, node.input_shapes, strict=True)
        ):
            if not self.nodes[source].wants_derivative:
                continue
            role, total = f"in{i}:grad", f"{source}:out0:grad"
            full = (self.batch_size, *shape)
            if total not in self.current:
                self._add(total, TensorKind.DERIVATIVE, source, full)
                yield self._use(step, phase, role, total, Access.WRITE)
            else:
                part = f"{node.name}:{role}"
                self._add(part, TensorKind.DERIVATIVE, node.name, full)
                yield self._use(step, phase, role, part, Access.WRITE)
                yield self._use(step, phase, f"{role}:total", total, Access.UPDATE)

    def _use(
        self,
        step: int,
        phase: Phase,
        role: str,
        tensor: str,
        access: Access = Access.READ,
    ) -> Operand:
        index = self.current[tensor]
        life = self.lives[index]
        if life.start is None:
            life.start = step
        life.stop = max(life.stop, step + 1)
        life.lifespan |= phase.lifespan
        return Operand(role, index, access)


@dataclass(slots=True)
class _OpenLife:
    """A tensor life under construction."""

    name: str
    life: int
    kind: TensorKind
    layer: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    start: int | None = None
    stop: int = 0
    is_persistent: bool = False
    lifespan: TensorLifespan = TensorLifespan.UNMANAGED

    def closed(self, n_steps: int) -> TensorLife:
        start = 0 if self.is_persistent or self.start is None else self.start
        return TensorLife(
            name=self.name,
            life=self.life,
            kind=self.kind,
            layer=self.layer,
            shape=self.shape,
            dtype=self.dtype,
            size_bytes=n_elems(self.shape) * (8 if self.dtype == "float64" else 4),
            start=start,
            stop=n_steps if self.is_persistent else max(self.stop, start + 1),
            lifespan=self.lifespan,
        )
