"""From steps and lifespans to uses, live ranges, and which tensors share their bytes.

`analyze` goes in stages. *Recompute on demand*: of each checkpoint block only those
layers run again whose results the backward pass of the block really reads.
*Executions*: for every step with something to do, which tensor stands in each role; a
tensor that is dropped and recomputed has several lives, and each reader is given the
one that is current. *Sharing*: a result takes the memory of an operand where its layer
offers that and no later reader would find changed bytes, decided anew for each
execution.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from arena_ckpt.graph import Graph, Node
from arena_ckpt.layers.base import InPlace, n_elems
from arena_ckpt.lifespan import Phase, TensorLifespan
from arena_ckpt.timeline import Timeline

CONTROL = "model:control"
"""The tensor of float64 scalars that change from step to step (see `Control`)."""


class Control(enum.IntEnum):
    """Places in the control tensor; hyperparameters of the optimizer fill the end."""

    LOSS = 0
    SCALE = 1
    FRACTION = 2
    SQUARE_NORM = 3
    NONFINITE = 4
    HYPER = 8
    LENGTH = 16


class TensorKind(enum.StrEnum):
    """What a tensor is for: the colours of every report."""

    WEIGHT = "weight"
    GRADIENT = "gradient"
    OPTIMIZER_STATE = "optimizer_state"
    ACTIVATION = "activation"
    RECOMPUTED = "recomputed_activation"
    DERIVATIVE = "derivative"
    WORKSPACE = "workspace"
    DATA = "data"


class Access(enum.StrEnum):
    """What an execution does to a tensor; an update reads and writes."""

    READ = "read"
    WRITE = "write"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor in a role of one execution; `tensor` indexes the tensor lives."""

    role: str
    tensor: int
    access: Access


@dataclass(frozen=True, slots=True)
class Execution:
    """A step at which kernels run."""

    step: int
    phase: Phase
    layer: str
    operands: tuple[Operand, ...]

    def operand(self, role: str) -> Operand | None:
        """Return the operand in a role, or None."""
        return next((o for o in self.operands if o.role == role), None)


@dataclass(frozen=True, slots=True)
class TensorLife:
    """One life of a tensor: from when its bytes are written until their last use.

    Attributes
    ----------
    name : str
        ``"fc1:out0"``; all lives of a tensor have one name.
    life : int
        0 for the first, 1 for the recomputed one.
    kind : TensorKind
    layer : str
        The layer that owns it.
    shape : tuple of int
        Elements along each axis, the batch first where there is one.
    dtype : str
        ``"float32"`` or ``"float64"``.
    size_bytes : int
    start, stop : int
        Steps, half-open.
    lifespan : TensorLifespan
        The phases in which it is touched.
    """

    name: str
    life: int
    kind: TensorKind
    layer: str
    shape: tuple[int, ...]
    dtype: str
    size_bytes: int
    start: int
    stop: int
    lifespan: TensorLifespan


@dataclass(frozen=True, slots=True)
class Liveness:
    """Result of `analyze`.

    Attributes
    ----------
    tensors : tuple of TensorLife
    executions : tuple of Execution
        In order of time.
    groups : tuple of tuple of int
        Tensors that share one buffer; every tensor is in exactly one group.
    """

    tensors: tuple[TensorLife, ...]
    executions: tuple[Execution, ...]
    groups: tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class _Life:
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
    updates: list[int] = field(default_factory=list)

    @property
    def last_use(self) -> int:
        return self.stop - 1

    @property
    def size_bytes(self) -> int:
        return n_elems(self.shape) * (8 if self.dtype == "float64" else 4)


def analyze(
    graph: Graph,
    timeline: Timeline,
    *,
    batch_size: int,
    state_names: tuple[str, ...],
    keep_gradients: bool,
    share_memory: bool,
) -> Liveness:
    """Find the live ranges of all tensors of one training iteration.

    Parameters
    ----------
    graph : Graph
    timeline : Timeline
    batch_size : int
        Samples of one forward pass.
    state_names : tuple of str
        Tensors that the optimizer keeps for each weight, for example first_moment.
    keep_gradients : bool
        Weight gradients live through the whole iteration (micro-batches add to them).
    share_memory : bool
        Allow operation in place.

    Returns
    -------
    Liveness

    Notes
    -----
    O(uses), and for sharing O(members²) of each group, which are few.
    """
    builder = _Builder(graph, timeline, batch_size, state_names, keep_gradients)
    builder.run()
    groups = _share(graph, builder) if share_memory else None
    n_steps = len(timeline.steps)
    tensors = []
    for life in builder.lives:
        persistent = life.is_persistent
        tensors.append(
            TensorLife(
                life.name,
                life.life,
                life.kind,
                life.layer,
                life.shape,
                life.dtype,
                life.size_bytes,
                0 if persistent or life.start is None else life.start,
                n_steps if persistent else max(life.stop, (life.start or 0) + 1),
                life.lifespan,
            )
        )
    if groups is None:
        groups = tuple((index,) for index in range(len(tensors)))
    return Liveness(tuple(tensors), tuple(builder.executions), groups)


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
        inner = inner_layers(readers, block.layers)
        wanted = read_backward & set(block.layers)
        for name in reversed(block.layers):
            if name in wanted and name in inner:
                needed.add(name)
                wanted.update(graph.node(name).inputs)
    return frozenset(needed)


def inner_layers(
    readers: Mapping[str, tuple[str, ...]], block: tuple[str, ...]
) -> frozenset[str]:
    """Return the layers of a block whose outputs only the block itself reads.

    Parameters
    ----------
    readers : mapping
        For each layer those that read its output.
    block : tuple of str
    """
    return frozenset(
        name for name in block[:-1] if all(r in block for r in readers[name])
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
        self.lives: list[_Life] = []
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
    ) -> _Life:
        life = self.lives[self.current[name]].life + 1 if name in self.current else 0
        self.current[name] = len(self.lives)
        self.lives.append(_Life(name, life, kind, layer, shape))
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
        if access is Access.UPDATE:
            life.updates.append(step)
        return Operand(role, index, access)


def _share(graph: Graph, builder: _Builder) -> tuple[tuple[int, ...], ...]:
    """Group tensors that can share their bytes, deciding in order of time."""
    lives = builder.lives
    group_of = {index: [index] for index in range(len(lives))}
    nodes = {node.name: node for node in graph.nodes}
    for execution in builder.executions:
        phase = execution.phase
        offered_phase = Phase.FORWARD if phase is Phase.RECOMPUTE else phase
        for offer in nodes[execution.layer].spec.in_place:
            result = execution.operand(offer.result)
            if offer.phase is not offered_phase or result is None:
                continue
            for role in offer.operands:
                operand = execution.operand(role)
                if operand is None:
                    continue
                group = group_of[operand.tensor]
                if not offer.is_view and any(
                    other.role != role and other.tensor in group
                    for other in execution.operands
                ):
                    continue  # a later kernel of this step may read it in that role
                if _can_take(lives, group, result.tensor, offer, execution.step):
                    group.append(result.tensor)
                    group_of[result.tensor] = group
                    break
    distinct = {id(group): group for group in group_of.values()}
    return tuple(sorted(tuple(sorted(group)) for group in distinct.values()))


def _can_take(
    lives: list[_Life], group: list[int], result: int, offer: InPlace, step: int
) -> bool:
    """Tell whether `result`, born at `step`, can take the bytes of `group`."""
    new = lives[result]
    if result in group or new.start != step:
        return False
    for index in group:
        old = lives[index]
        if old.is_persistent or old.size_bytes != new.size_bytes:
            return False
        if not offer.is_view and old.last_use > step:
            return False  # somebody still reads what the result would overwrite
        # Whoever adds to one of the sharers later must find no reader of another.
        if any(old.last_use >= update for update in new.updates):
            return False
        if any(new.last_use >= update for update in old.updates if update >= step):
            return False
    return True
