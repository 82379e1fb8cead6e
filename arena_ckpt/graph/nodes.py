"""A layer in its graph: the tensors it reads and makes, and whether it trains."""

from __future__ import annotations

from dataclasses import dataclass, field

from arena_ckpt.common.names import (
    input_index,
    output_index,
    output_role,
    split_first,
    tensor_name,
)
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.short_repr import brief_repr
from arena_ckpt.graph.connections import Output
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.spec import LayerSpec, Shape, WeightSpec


@dataclass(frozen=True, slots=True)
class Node:
    """A layer with the tensors that it reads and makes in its graph.

    Attributes
    ----------
    layer : Layer
    inputs : tuple of Output
        Outputs that it reads, in the order of its roles in0, in1, …
    sources : tuple of str
        Names of the tensors behind them, ``"split:out1"``; a multiout has those of its
        input.
    input_shapes : tuple of Shape
    spec : LayerSpec
    weights_of : str
        The layer whose weights it uses: itself, unless it shares them.
    trains : bool
        Whether it has trained weights that are not frozen.
    updates : bool
        Whether its update step changes the weights: it trains, and its backward steps
        are the last of all layers that share the weights.
    wants_derivative : bool
        Whether it or a layer before it trains, so that its outputs need derivatives.
    derived_inputs : tuple of int
        The inputs whose derivatives it makes.
    unread : frozenset of str
        Its outputs that nobody reads: some of those that its layer calls optional.
    name : str
        Name of the layer.
    outputs : tuple of str
        Names of the tensors that the layer makes; an alias makes none.
    """

    layer: Layer
    inputs: tuple[Output, ...]
    sources: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    spec: LayerSpec
    weights_of: str
    trains: bool
    updates: bool
    wants_derivative: bool
    derived_inputs: tuple[int, ...]
    unread: frozenset[str] = frozenset()
    name: str = field(init=False, repr=False, compare=False)
    outputs: tuple[str, ...] = field(init=False, repr=False, compare=False)

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        name = self.layer.name
        n_made = 0 if self.layer.is_alias else len(self.spec.output_shapes)
        outputs = tuple(tensor_name(name, output_role(k)) for k in range(n_made))
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "outputs", outputs)

    @property
    def is_data(self) -> bool:
        """Whether the layer brings samples of the data into the model."""
        return not self.inputs and not self.layer.is_table

    @property
    def table(self) -> str | None:
        """The weight that is the output itself, or None: see `Layer.is_table`."""
        if not self.layer.is_table:
            return None
        return tensor_name(self.weights_of, self.spec.weights[0].name)

    @property
    def left_out(self) -> frozenset[str]:
        """The outputs that it does not make: unread, and no use to its own backward."""
        return frozenset() if self.spec.output_lifespan else self.unread

    @property
    def own_weights(self) -> tuple[WeightSpec, ...]:
        """The weights of the layer, unless they are those of another layer."""
        return self.spec.weights if self.weights_of == self.name else ()

    def tensor_in(self, role: str) -> str:
        """Return the name of the tensor in a role of a backward step of the layer."""
        first, others = split_first(role)
        if (index := input_index(first)) is not None:
            tensor = self.sources[index]
        elif (index := output_index(first)) is not None:
            tensor = self.outputs[index]
        else:
            return tensor_name(self.name, role)
        return tensor_name(tensor, others) if others else tensor

    def runs(self, phase: Phase) -> bool:
        """Tell whether a phase of the layer has anything to do."""
        if phase is Phase.CALC_GRADIENT:
            return self.trains
        if phase is Phase.APPLY_GRADIENT:
            return self.updates
        if phase is Phase.CALC_DERIVATIVE:
            return bool(self.derived_inputs)
        if self.layer.is_table:  # the forward step adds nothing but penalties
            return phase is Phase.FORWARD and any(
                weight.lifespan & TensorLifespan.FORWARD for weight in self.spec.weights
            )
        return not self.layer.is_alias
