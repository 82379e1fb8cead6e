"""What a layer is: its shapes, the tensors it needs and when, and its kernels.

A layer states facts and never acts. `Layer.infer` turns input shapes into a
`LayerSpec`; from the lifespans in it liveness derives what each phase reads and
writes. The three call methods name the kernels of a phase, over arrays that a
`Binding` hands out by role:

=================  ==============================================================
role               tensor
=================  ==============================================================
in0, in1, …        an input: the output of another layer
out0               the output
in0:grad, …        derivative of the loss with respect to an input
out0:grad          derivative of the loss with respect to the output
weight, bias, …    a weight of the layer
weight:grad, …     its gradient
label              what the loss compares the prediction with
=================  ==============================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol

from arena_ckpt.errors import ShapeMismatchError
from arena_ckpt.kernels.jit import Doubles, Kernel, Matrix, Vector
from arena_ckpt.lifespan import Phase, TensorLifespan
from arena_ckpt.properties import NAME, NAMES, SHAPE, Property

Shape = tuple[int, int, int]
"""Channel, height and width of one sample."""


class Call(NamedTuple):
    """One kernel call: arrays and numbers, in the order of the kernel's parameters."""

    kernel: Kernel
    arguments: tuple[Any, ...]


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
    """

    name: str
    shape: tuple[int, ...]
    initializer: str
    fan_in: int
    fan_out: int
    lifespan: TensorLifespan
    decay: float = 0.0
    regularizer_constant: float = 0.0


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


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What a layer needs, given the shapes of its inputs.

    Attributes
    ----------
    output_shape : Shape
    weights : tuple of WeightSpec
    input_lifespan : TensorLifespan
        Phases in which the layer reads its inputs.
    output_lifespan : TensorLifespan
        Phases in which it reads its own output again, beside writing it.
    in_place : tuple of InPlace
    """

    output_shape: Shape
    weights: tuple[WeightSpec, ...] = ()
    input_lifespan: TensorLifespan = TensorLifespan.FORWARD
    output_lifespan: TensorLifespan = TensorLifespan.UNMANAGED
    in_place: tuple[InPlace, ...] = ()


class Binding(Protocol):
    """Arrays of one layer at one step, by role."""

    accumulate: bool
    """Weight gradients are added to those of earlier micro-batches."""

    scale: Doubles
    """What the loss of one sample counts (one element)."""

    loss: Doubles
    """Where losses are added up (one element)."""

    def vector(self, role: str) -> Vector:
        """Return the tensor as float32, flat."""

    def matrix(self, role: str) -> Matrix:
        """Return the tensor with its last axis as columns, everything else as rows."""

    def is_wanted(self, role: str) -> bool:
        """Tell whether anybody reads this derivative."""

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
    n_inputs : int or None
        How many inputs the layer takes; None for one or more.
    """

    type_name: ClassVar[str]
    properties: ClassVar[tuple[Property, ...]] = COMMON_PROPERTIES
    n_inputs: ClassVar[int | None] = 1
    is_loss: ClassVar[bool] = False

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given: Mapping[str, Any] = MappingProxyType(dict(given))
        self._defaults = {p.name: p.default for p in self.properties}

    def __getitem__(self, name: str) -> Any:
        """Return the value of a property, or its default."""
        return self.given[name] if name in self.given else self._defaults[name]

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

    @abstractmethod
    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return what the layer needs for inputs of these shapes.

        Raises
        ------
        ShapeMismatchError
            The shapes do not fit the layer or each other.
        """

    def forward(self, tensors: Binding) -> list[Call]:
        """Return the calls that make ``out0`` from the inputs."""
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
