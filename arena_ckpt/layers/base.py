"""What a layer is: its shapes, the tensors it needs and when, and its kernels.

A layer states facts and never acts. `Layer.infer` turns input shapes into a
`LayerSpec`; from the lifespans in it liveness derives what each phase reads and
writes. The three call methods name the kernels of a phase, over arrays that a
`Binding` hands out by role:

=================  ==============================================================
role               tensor
=================  ==============================================================
in0, in1, …        an input: the output of another layer
out0, out1, …      an output
in0:grad, …        derivative of the loss with respect to an input
out0:grad, …       derivative of the loss with respect to an output
weight, bias, …    a weight of the layer
weight:grad, …     its gradient
columns, mean, …   a tensor of the layer's own (`TensorSpec`)
label              what the loss compares the prediction with
=================  ==============================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.dtypes import FLOAT32
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.properties import NAME, NAMES, SHAPE, Property, unknown_property
from arena_ckpt.errors import ShapeMismatchError
from arena_ckpt.kernels.compiling import Doubles, Indexes, Matrix, Vector
from arena_ckpt.kernels.kernel import Kernel

Shape = tuple[int, int, int]
"""Channel, height and width of one sample."""


@public_call(hint="put all arguments into one tuple, as in Call(kernel, (x, out))")
class Call(NamedTuple):
    """One kernel call: arrays and numbers, in the order of the kernel's parameters."""

    kernel: Kernel
    arguments: tuple[Any, ...]


@public_call
@dataclass(frozen=True, slots=True)
class WeightSpec:
    """A weight tensor of a layer.

    Attributes
    ----------
    name : str
        Within its layer: ``"weight"``, ``"bias"``.
    shape : tuple of int
        Elements along each axis; float32.
    initializer : str
        NNTrainer's name of the distribution it starts from.
    fan_in, fan_out : int
        Elements summed into one output and fed by one input; they scale the
        distribution.
    lifespan : TensorLifespan
        Phases in which the layer reads it.
    decay : float
        L2 weight decay, added to the gradient at the update.
    regularizer_constant : float
        The loss grows by half of this times the sum of squares.
    is_trained : bool
        False for state, such as running statistics: it has no gradient and nothing of
        the optimizer's; `calc_gradient` may change it.
    gradient_factors : (str, str) or None
        Roles of two matrices a and b that `calc_gradient` reads or makes and that no
        later step of the layer changes; the gradient is ``aᵀ · b``. It can then be made
        at the update, in tiles; `calc_gradient` leaves out one that is not wanted.
    """

    name: str
    shape: tuple[int, ...]
    initializer: str
    fan_in: int
    fan_out: int
    lifespan: TensorLifespan
    decay: float = 0.0
    regularizer_constant: float = 0.0
    is_trained: bool = True
    gradient_factors: tuple[str, str] | None = None


@public_call
@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor of the layer's own, beside inputs, outputs and weights.

    Attributes
    ----------
    name : str
        Its role.
    shape : tuple of int
        Elements along each axis; of one sample where `per_sample`.
    lifespan : TensorLifespan
        The phases that touch it. One phase makes a workspace, new at each such step;
        FORWARD with backward phases saves something for backward, which a checkpoint
        block drops and makes again; CALC_GRAD_DERIV carries something from the step
        of the weight gradient to that of the derivative.
    per_sample : bool
        The samples of the batch stand in front.
    dtype : str
        ``"float32"``, ``"float64"`` or ``"int32"``: a key of `common.dtypes.DTYPES`.
    """

    name: str
    shape: tuple[int, ...]
    lifespan: TensorLifespan
    per_sample: bool = True
    dtype: str = FLOAT32

    @property
    def is_saved(self) -> bool:
        """The forward pass makes it and the backward pass reads it."""
        return bool(self.lifespan & TensorLifespan.FORWARD) and bool(
            self.lifespan & TensorLifespan.CALC_GRAD_DERIV
        )


@public_call
@dataclass(frozen=True, slots=True)
class Flops:
    """Floating-point operations for one sample; a multiply-add counts two.

    `output` is the part of the forward pass that only makes the outputs: a recompute
    of what is saved for the backward pass leaves it out.
    """

    forward: int = 0
    calc_gradient: int = 0
    calc_derivative: int = 0
    output: int = 0


@public_call
@dataclass(frozen=True, slots=True)
class InPlace:
    """A result that may take the memory of one of its operands.

    Attributes
    ----------
    phase : Phase
        FORWARD (which a RECOMPUTE repeats) or CALC_DERIVATIVE.
    result : str
        Role of the result.
    operands : tuple of str
        Roles, in order of preference.
    is_view : bool
        The result has the operand's very bytes, so sharing them changes nothing.
    """

    phase: Phase
    result: str
    operands: tuple[str, ...]
    is_view: bool = False


NO_FLOPS = Flops()


@public_call
@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What a layer needs, given the shapes of its inputs.

    Attributes
    ----------
    output_shapes : tuple of Shape
        Of out0, out1, …
    weights : tuple of WeightSpec
    tensors : tuple of TensorSpec
        Workspaces and what backward needs beside inputs and outputs.
    input_lifespan : TensorLifespan, or a tuple with one for each input
        Phases in which the layer reads its inputs.
    output_lifespan : TensorLifespan
        Phases in which it reads its own outputs again, beside writing them.
    in_place : tuple of InPlace
    fixed_inputs : frozenset of int
        Inputs without a derivative, such as class numbers and masks.
    mask_inputs : frozenset of int
        Inputs that may hold -inf, which forbids: what is forbidden reaches no result.
    forward_skips_unwanted : bool
        A recompute may want saved tensors only; `forward` then leaves the outputs out.
    flops : Flops
    batch_values : int or None
        Where the layer takes statistics over the samples of a pass in training: how
        many values of one sample enter each of them. None where it takes none.
    """

    output_shapes: tuple[Shape, ...]
    weights: tuple[WeightSpec, ...] = ()
    tensors: tuple[TensorSpec, ...] = ()
    input_lifespan: TensorLifespan | tuple[TensorLifespan, ...] = TensorLifespan.FORWARD
    output_lifespan: TensorLifespan = TensorLifespan.UNMANAGED
    in_place: tuple[InPlace, ...] = ()
    fixed_inputs: frozenset[int] = frozenset()
    mask_inputs: frozenset[int] = frozenset()
    forward_skips_unwanted: bool = False
    flops: Flops = NO_FLOPS
    batch_values: int | None = None

    def reads_input(self, index: int, phase: TensorLifespan) -> bool:
        """Tell whether a phase reads an input."""
        given = self.input_lifespan
        return bool((given[index] if isinstance(given, tuple) else given) & phase)

    @property
    def trained_weights(self) -> tuple[WeightSpec, ...]:
        """The weights that have gradients."""
        return tuple(weight for weight in self.weights if weight.is_trained)


class Binding(Protocol):
    """Arrays of one layer at one step, by role."""

    training: bool
    """False where a model only predicts: dropout and batch statistics are off."""

    updates_state: bool
    """Weights that are not trained may change in `calc_gradient`."""

    n_samples: int
    """Samples of the pass."""

    input_shapes: tuple[Shape, ...]
    """Of one sample, whether the step reads the inputs or not."""

    output_shapes: tuple[Shape, ...]
    """Of one sample."""

    accumulate: bool
    """Weight gradients are added to what stands there already."""

    scale: Doubles
    """What the loss of one sample counts (one element)."""

    loss: Doubles
    """Where losses are added up (one element)."""

    counters: Doubles
    """The iteration, and the place in the batch of the first sample of the pass."""

    random_key: int
    """A number below 2⁶³, from the seed of the model and the name of the layer."""

    def vector(self, role: str) -> Vector:
        """Return the tensor as float32, flat."""

    def matrix(self, role: str) -> Matrix:
        """Return the tensor with its last axis as columns, everything else as rows."""

    def indexes(self, role: str) -> Indexes:
        """Return an int32 tensor, flat."""

    def doubles(self, role: str) -> Doubles:
        """Return a float64 tensor, flat."""

    def is_wanted(self, role: str) -> bool:
        """Tell whether a derivative, gradient or output is to be made."""

    def is_same(self, role: str, other: str) -> bool:
        """Tell whether two roles stand for the same bytes."""


COMMON_PROPERTIES = (
    Property("name", NAME, None, "unique name; made from the type where absent"),
    Property(
        "input_layers",
        NAMES,
        None,
        "layers whose outputs are read; the layer added before where absent",
    ),
    Property(
        "input_shape", SHAPE, None, "channel:height:width of one sample of the data"
    ),
)


def beta_of(tensors: Binding) -> float:
    """Return 1 where weight gradients are added to what is there, else 0."""
    return 1.0 if tensors.accumulate else 0.0


class Layer(ABC):
    """A layer as configured; immutable.

    Parameters
    ----------
    given : mapping
        Parsed values of the properties that were set.

    Attributes
    ----------
    type_name : str
        NNTrainer's name of the type.
    properties : tuple of Property
        Everything that can be set.
    n_inputs : int, range or None
        How many inputs the layer takes; None for one or more.
    is_alias : bool
        Its outputs are its input: it has no tensors and no kernels.
    """

    type_name: ClassVar[str]
    properties: ClassVar[tuple[Property, ...]] = COMMON_PROPERTIES
    n_inputs: ClassVar[int | range | None] = 1
    is_loss: ClassVar[bool] = False
    is_alias: ClassVar[bool] = False

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given: Mapping[str, Any] = MappingProxyType(dict(given))
        self._defaults = {p.name: p.default for p in self.properties}

    def __getitem__(self, name: str) -> Any:
        """Return the value of a property, or its default.

        Raises
        ------
        UnknownPropertyError
        """
        if name in self.given:
            return self.given[name]
        if not isinstance(name, str) or name not in self._defaults:
            raise unknown_property(
                f"layer of type {self.type_name}", name, self._defaults
            )
        return self._defaults[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a property, or `default` where the type has none."""
        return self[name] if name in self._defaults else default

    @property
    def name(self) -> str:
        """The unique name."""
        return str(self["name"])

    def with_values(self, **values: Any) -> Layer:
        """Return the same layer with some parsed values replaced."""
        return type(self)({**self.given, **values})

    def __repr__(self) -> str:
        return f"{self.type_name}({self.name!r})"

    def __reduce__(self) -> tuple[type[Layer], tuple[dict[str, Any]]]:
        return type(self), (dict(self.given),)

    @property
    def is_trainable(self) -> bool:
        """False only where ``trainable=false`` was set."""
        return bool(self.get("trainable", True))

    def expand(self, input_shapes: tuple[Shape, ...]) -> tuple[Layer, ...]:
        """Return the layers that this one stands for, in order; most are themselves.

        A part reads other parts by their names, and the inputs of this layer by the
        names in its ``input_layers``; the last part's output is that of the layer.
        """
        return (self,)

    @abstractmethod
    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return what the layer needs for inputs of these shapes.

        Raises
        ------
        ShapeMismatchError
            The shapes do not fit the layer or each other.
        """

    def forward(self, tensors: Binding) -> list[Call]:
        """Return the calls that make the outputs from the inputs."""
        return []

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Return the calls that make the gradients of the weights."""
        return []

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Return the calls that make the wanted derivatives of the inputs."""
        return []

    def mismatch(self, message: str, **facts: object) -> ShapeMismatchError:
        """Return the error of shapes that do not fit this layer."""
        return ShapeMismatchError(
            f"layer {self.name!r} ({self.type_name}): {message}",
            layer=self.name,
            **facts,
        )


def n_elems(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a shape."""
    product = 1
    for size in shape:
        product *= size
    return product


def format_shape(shape: tuple[int, ...]) -> str:
    """Write a shape as people give it: ``"1:1:784"``."""
    return ":".join(str(size) for size in shape)
