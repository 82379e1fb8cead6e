"""Says which tensors each step of a layer touches, in which role and how.

That depends on the graph and the settings alone, so all timelines of both share it. In
which live range a tensor is touched is found by walking a timeline: `live_ranges`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

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
from arena_ckpt.planning.loss_places import control_length
from arena_ckpt.planning.recompute import saved_tensors
from arena_ckpt.planning.settings import PlanSettings
from arena_ckpt.planning.sparse_gradients import gradient_shape
from arena_ckpt.planning.tensors import CONTROL_DTYPE, Access, TensorKind
from arena_ckpt.planning.tiled_update import (
    accumulates,
    clipped_parts,
    tile_rows,
    tiled_weights,
)


class Begun(NamedTuple):
    """A tensor at the beginning of one of its live ranges.

    See `LiveRange` for what the fields mean. `is_given` is true where the bytes are
    there before the first step.
    """

    name: str
    kind: TensorKind
    layer: str
    shape: tuple[int, ...]
    per_sample: bool
    dtype: str
    size_bytes: int
    is_given: bool


def begun(
    name: str,
    kind: TensorKind,
    layer: str,
    shape: tuple[int, ...],
    *,
    per_sample: bool = False,
    dtype: str = FLOAT32,
    is_given: bool = False,
) -> Begun:
    """Return a tensor of a shape at the beginning of a live range."""
    n_bytes = size_bytes(shape, dtype)
    return Begun(name, kind, layer, shape, per_sample, dtype, n_bytes, is_given)


class Touch(NamedTuple):
    """A tensor in a role of a step.

    Attributes
    ----------
    role, tensor : str
    access : Access
    begins : Begun or None
        The live range that the step begins.
    """

    role: str
    tensor: str
    access: Access = Access.READ
    begins: Begun | None = None


class Sum(NamedTuple):
    """What the first step that makes a tensor touches, and what each later one does."""

    tensor: str
    first: tuple[Touch, ...]
    later: tuple[Touch, ...]


@dataclass(frozen=True, slots=True)
class StepTouches:
    """All that a step touches.

    Attributes
    ----------
    always : tuple of Touch
    sums : tuple of Sum
        Gradients and derivatives, which several layers may add to.
    """

    always: tuple[Touch, ...]
    sums: tuple[Sum, ...] = ()


NOTHING = StepTouches(())


class Touches:
    """Finds what the steps of a graph touch; each is looked at once.

    Parameters
    ----------
    graph : Graph
    settings : PlanSettings
    """

    def __init__(self, graph: Graph, settings: PlanSettings) -> None:
        self.graph = graph
        self.settings = settings
        self.batch_size = settings.pass_samples
        self.whole_batch = settings.batch_size
        self.is_inference = settings.is_inference
        self.clips_values = settings.clip_values
        self.state_names = () if self.is_inference else settings.state_names
        self.keep_gradients = settings.keeps_gradients
        self.tiled = tiled_weights(graph) if settings.tiles_updates else {}
        self.tables = graph.tables
        self._known: dict[tuple[Phase, str, frozenset[str]], StepTouches] = {}

    def of(self, phase: Phase, layer: str, remade: frozenset[str]) -> StepTouches:
        """Return what a step of a layer touches.

        Parameters
        ----------
        phase : Phase
        layer : str
        remade : frozenset of str
            The tensors that a recompute makes again; empty in other phases.
        """
        key = phase, layer, remade
        found = self._known.get(key)
        if found is None:
            found = self._find(phase, self.graph.node(layer), remade)
            self._known[key] = found
        return found

    def persistent(self) -> Iterator[Begun]:
        """Yield the weights and states, which are live at all steps."""
        length = control_length(self.graph)
        yield begun(CONTROL, TensorKind.WORKSPACE, "", (length,), dtype=CONTROL_DTYPE)
        for node in self.graph.nodes:
            for weight in node.own_weights:
                name = tensor_name(node.name, weight.name)
                is_moved = weight.is_trained and not weight.is_frozen
                states = self.state_names if node.trains and is_moved else ()
                yield begun(name, TensorKind.WEIGHT, node.name, weight.shape)
                for state in (state_of(name, one) for one in states):
                    kind = TensorKind.OPTIMIZER_STATE
                    yield begun(state, kind, node.name, weight.shape)

    def labels(self) -> Iterator[Begun]:
        """Yield the labels, which are copied in before an iteration begins."""
        for node in filter(self._has_label, self.graph.losses):
            shape = loss_of(node).label_shape(node.spec.output_shapes[0])
            yield begun(
                tensor_name(node.name, LABEL),
                TensorKind.DATA,
                node.name,
                (self.batch_size, *shape),
                per_sample=True,
                is_given=True,
            )

    def _has_label(self, node: Node) -> bool:
        """Tell whether the steps of a layer read labels; inference can do without."""
        layer = node.layer
        if not isinstance(layer, Loss) or not layer.takes_label:
            return False
        return not self.is_inference or layer.needs_label_to_predict

    # -- one step ----------------------------------------------------------------------

    def _find(self, phase: Phase, node: Node, remade: frozenset[str]) -> StepTouches:
        if phase is Phase.RECOMPUTE and not remade:
            return NOTHING
        if not node.runs(phase):
            return NOTHING
        sums: Iterator[Sum] = iter(())
        if phase is Phase.CALC_GRADIENT:
            sums = self._gradients(node)
        elif phase is Phase.CALC_DERIVATIVE:
            sums = self._derivatives(node)
        return StepTouches(tuple(self._touched(phase, node, remade)), tuple(sums))

    def _touched(
        self, phase: Phase, node: Node, remade: frozenset[str]
    ) -> Iterator[Touch]:
        if phase in (Phase.FORWARD, Phase.RECOMPUTE):
            yield from self._reads(phase, node)
            if self._has_label(node):
                yield self._read(LABEL, tensor_name(node.name, LABEL))
            yield from self._results(phase, node, remade)
        elif phase in (Phase.CALC_GRADIENT, Phase.CALC_DERIVATIVE):
            yield from self._reads(phase, node)
            if self._has_label(node):
                yield self._read(LABEL, tensor_name(node.name, LABEL))
            elif not node.layer.is_loss:
                for index, output in enumerate(node.outputs):
                    if output not in node.unread:
                        role = gradient_of(output_role(index))
                        yield self._read(role, gradient_of(output))
            yield from self._own_tensors(phase, node, remade)
        elif phase is Phase.CLIP_GRADIENTS:
            for other in self.graph.nodes:
                for weight in other.spec.trained_weights if other.updates else ():
                    name = gradient_of(tensor_name(other.weights_of, weight.name))
                    yield self._read(name, name)
        else:
            yield from self._updates(node)

    def _read(self, role: str, tensor: str) -> Touch:
        return Touch(role, self.tables.get(tensor, tensor))

    def _updates(self, node: Node) -> Iterator[Touch]:
        """Yield what an update touches: gradients, weights and optimizer states.

        A gradient that is made in tiles is not touched; its two factors are.
        """
        trained = node.spec.trained_weights
        tiled = [w for w in trained if self._is_tiled(node, w)]
        factors = (weight.gradient_factors or () for weight in tiled)
        for role in dict.fromkeys(role for pair in factors for role in pair):
            yield self._read(role, node.tensor_in(role))
        elems = self._tile_elems(node, tiled)
        if elems:
            name, kind = tensor_name(node.name, TILE), TensorKind.WORKSPACE
            tile = begun(name, kind, node.name, (elems,))
            yield Touch(TILE, name, Access.WRITE, tile)
        for weight in trained:
            if weight not in tiled:
                role = gradient_of(weight.name)
                yield Touch(role, tensor_name(node.weights_of, role))
            states = (state_of(weight.name, state) for state in self.state_names)
            for role in (weight.name, *states):
                yield Touch(role, tensor_name(node.weights_of, role), Access.UPDATE)

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

    def _results(
        self, phase: Phase, node: Node, remade: frozenset[str]
    ) -> Iterator[Touch]:
        """Yield the outputs that a forward pass or a recompute writes."""
        if node.layer.is_table:
            return  # its output is its weight
        wanted = remade if phase is Phase.RECOMPUTE else frozenset(node.outputs)
        kind = _kind_of_result(phase) if node.inputs else TensorKind.DATA
        is_given = not node.inputs  # copied in before the iteration begins
        for index, (name, shape) in enumerate(
            zip(node.outputs, node.spec.output_shapes, strict=True)
        ):
            role, full = output_role(index), (self.batch_size, *shape)
            if name in node.left_out:
                continue
            if name in wanted:
                made = begun(
                    name, kind, node.name, full, per_sample=True, is_given=is_given
                )
                yield Touch(role, name, Access.WRITE, made)
            elif not node.spec.forward_skips_unwanted:
                yield _discarded(node, role, full)
        yield from self._own_tensors(phase, node, remade)

    def _own_tensors(
        self, phase: Phase, node: Node, remade: frozenset[str]
    ) -> Iterator[Touch]:
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
                yield self._read(spec.name, name)
            elif name in kept and name not in remade:
                yield _discarded(node, spec.name, shape, spec)
            else:
                saved = spec.is_saved and not self.is_inference
                kind = _kind_of_result(phase) if saved else TensorKind.WORKSPACE
                made = begun(
                    name,
                    kind,
                    node.name,
                    shape,
                    per_sample=spec.per_sample,
                    dtype=spec.dtype,
                )
                yield Touch(spec.name, name, Access.WRITE, made)

    def _begins(self, spec: TensorSpec, phase: Phase, node: Node) -> bool:
        """Tell whether a phase is the first to touch a tensor of the layer's own."""
        if phase in (Phase.FORWARD, Phase.RECOMPUTE):
            return True
        if spec.lifespan & TensorLifespan.FORWARD:
            return False
        carried = spec.lifespan & TensorLifespan.CALC_GRADIENT and node.trains
        return phase is Phase.CALC_GRADIENT or not carried

    def _reads(self, phase: Phase, node: Node) -> Iterator[Touch]:
        """Yield the inputs, weights and own outputs that a phase reads."""
        flag = TensorLifespan.FORWARD if phase is Phase.RECOMPUTE else phase.lifespan
        for i, source in enumerate(node.sources):
            if node.spec.reads_input(i, flag):
                yield self._read(input_role(i), source)
        for weight in node.spec.weights:
            if weight.lifespan & flag or self._penalizes(phase, node, weight):
                tensor = tensor_name(node.weights_of, weight.name)
                changes = not weight.is_trained and phase is Phase.CALC_GRADIENT
                access = Access.UPDATE if changes else Access.READ
                yield Touch(weight.name, tensor, access)
        if node.spec.output_lifespan & flag:
            for index, output in enumerate(node.outputs):
                yield self._read(output_role(index), output)

    def _penalizes(self, phase: Phase, node: Node, weight: WeightSpec) -> bool:
        """Tell whether a gradient step adds the gradient of a weight's penalty."""
        return bool(
            phase is Phase.CALC_GRADIENT
            and weight.regularizer_constant
            and node.weights_of == node.name
            and not self._is_tiled(node, weight)
        )

    def _gradients(self, node: Node) -> Iterator[Sum]:
        """Yield the gradients that a step writes, or adds to for shared weights."""
        for weight in node.spec.trained_weights:
            if self._is_tiled(node, weight):
                continue
            role = gradient_of(weight.name)
            tensor = tensor_name(node.weights_of, role)
            made = begun(
                tensor,
                TensorKind.GRADIENT,
                node.weights_of,
                gradient_shape(weight, self.whole_batch),
                is_given=self.keep_gradients,
            )
            access = Access.UPDATE if self.keep_gradients else Access.WRITE
            yield Sum(
                tensor,
                first=(Touch(role, tensor, access, made),),
                later=(Touch(role, tensor, Access.UPDATE),),
            )

    def _derivatives(self, node: Node) -> Iterator[Sum]:
        """Yield the derivatives of the inputs.

        The first layer that makes the derivative of a tensor writes it; each other one
        writes a share and adds that.
        """
        kind = TensorKind.DERIVATIVE
        for i in node.derived_inputs:
            source = node.sources[i]
            role, total = gradient_of(input_role(i)), gradient_of(source)
            full: tuple[int, ...] = node.input_shapes[i]
            has_samples = source not in self.tables
            if has_samples:
                full = (self.batch_size, *full)
            whole = begun(total, kind, layer_of(source), full, per_sample=has_samples)
            part = tensor_name(node.name, role)
            share = begun(part, kind, node.name, full, per_sample=has_samples)
            yield Sum(
                total,
                first=(Touch(role, total, Access.WRITE, whole),),
                later=(
                    Touch(role, part, Access.WRITE, share),
                    Touch(total_of(role), total, Access.UPDATE),
                ),
            )


def _discarded(
    node: Node, role: str, shape: tuple[int, ...], spec: TensorSpec | None = None
) -> Touch:
    """Return a result that a recompute writes and nobody reads."""
    name = discarded(tensor_name(node.name, role))
    made = begun(
        name,
        TensorKind.WORKSPACE,
        node.name,
        shape,
        per_sample=spec is None or spec.per_sample,
        dtype=spec.dtype if spec else FLOAT32,
    )
    return Touch(role, name, Access.WRITE, made)


def _kind_of_result(phase: Phase) -> TensorKind:
    again = phase is Phase.RECOMPUTE
    return TensorKind.RECOMPUTED if again else TensorKind.ACTIVATION
