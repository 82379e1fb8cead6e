"""Base class of layers, and what its hooks are given and return.

A layer states facts and never acts. `Layer.infer` turns input shapes into a
`LayerSpec`; the planner derives from the lifespans in it what each phase reads and
writes. The methods `forward`, `calc_gradient` and `calc_derivative` name the kernels of
a phase, over tensors that a `Binding` hands out by role:

=================  ==============================================================
role               tensor
=================  ==============================================================
in0, in1, …        an input: the output of another layer
out0, out1, …      an output
in0:grad, …        derivative of the loss with respect to an input
out0:grad, …       derivative of the loss with respect to an output
weight, bias, …    a weight of the layer
weight:grad, …     its gradient
columns, mean, …   another tensor of the layer (`TensorSpec`)
label              what the loss compares the prediction with
=================  ==============================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.properties import NAME, NAMES, SHAPE, Property, unknown_property
from arena_ckpt.common.short_repr import brief, shortened
from arena_ckpt.errors import ShapeMismatchError
from arena_ckpt.layers.spec import LayerSpec, Shape
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.regions import Region


@public_call(hint="put all arguments into one tuple, as in Call(kernel, (x, out))")
class Call(NamedTuple):
    """One kernel call: a kernel, and its arguments in the order of its parameters."""

    kernel: KernelName
    arguments: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"Call({self.kernel!r}, {brief(self.arguments)})"


class Binding(Protocol):
    """The operands of one layer in one step, by role, and the facts of the pass.

    A tensor is handed out as the `Region` where it lies, with the shape that a kernel
    will see.
    """

    @property
    def training(self) -> bool:
        """False where a model only predicts: dropout and batch statistics are off."""

    @property
    def updates_state(self) -> bool:
        """True where `calc_gradient` is to change the weights that are not trained."""

    @property
    def arithmetic(self) -> str:
        """``"fast"`` or ``"portable"``; kernels of products are exchanged by itself."""

    @property
    def n_samples(self) -> int:
        """Number of samples of the pass: the batch, or one of its micro-batches."""

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Shape of one sample of each input, even if the step does not read it."""

    @property
    def output_shapes(self) -> tuple[Shape, ...]:
        """Shape of one sample of each output, even if the step does not touch it."""

    @property
    def accumulate(self) -> bool:
        """True where weight gradients are added to what stands there already."""

    @property
    def scale(self) -> Region:
        """Factor of each term of the loss (one float64), see `Loss.term_scale`."""

    @property
    def loss(self) -> Region:
        """Sum that the loss adds its terms to (one float64)."""

    @property
    def counters(self) -> Region:
        """The iteration, and the place in the batch of the first sample of the pass."""

    @property
    def random_key(self) -> int:
        """A number below 2⁶³, from the seed of the model and the name of the layer."""

    def vector(self, role: str) -> Region:
        """Return a float32 tensor, shape (elements,)."""

    def matrix(self, role: str) -> Region:
        """Return a float32 tensor, shape (rows, columns).

        Columns are the last axis of the tensor. Rows are all other axes together, the
        samples first: an input (channel, height, width) has the shape
        (n_samples · channel · height, width), a weight (a, b, c) the shape (a · b, c).
        """

    def indexes(self, role: str) -> Region:
        """Return an int32 tensor, shape (elements,)."""

    def doubles(self, role: str) -> Region:
        """Return a float64 tensor, shape (elements,)."""

    def is_wanted(self, role: str) -> bool:
        """Return whether a derivative, gradient or output is to be made."""

    def kept(self, role: str) -> Region | None:
        """Return a saved tensor as the forward pass has kept it, shape (elements,).

        None but in a recompute that makes the tensor only because it is made together
        with what the recompute is for. `forward` may copy the elements then.
        """

    def is_same(self, role: str, other: str) -> bool:
        """Return whether two roles stand for the same bytes."""

    def is_table(self, index: int) -> bool:
        """Return whether an input has no axis of samples: see `table_inputs`."""


LONGEST_FACTS = 200
"""Maximum number of characters of properties in the short form of a layer."""

COMMON_PROPERTIES: tuple[Property, ...] = (
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
"""Properties that every type of layer has."""


def beta_of(tensors: Binding) -> float:
    """Return the factor of what stands in a weight gradient before a step.

    1.0 where the step adds to it, 0.0 where it is replaced.
    """
    return 1.0 if tensors.accumulate else 0.0


BIAS = "bias"
"""Value of ``trainable`` that trains what is added and nothing else."""


def is_added(weight: str) -> bool:
    """Tell whether a weight of this name is a bias: what a layer adds."""
    return weight == "beta" or BIAS in weight.split("_")


class Layer(ABC):
    """Base class of layers: the properties that were set, and no other state.

    Parameters
    ----------
    given : mapping
        Parsed values of the properties that were set.

    Attributes
    ----------
    type_name : str
        Name of the type, in lower case; NNTrainer's where it has the type.
    properties : tuple of Property
        Properties that can be set; they begin with `COMMON_PROPERTIES`.
    n_inputs : int, range or None
        Number of inputs that the layer takes; None for one or more.
    is_loss : bool
        True for the subclasses of `Loss`.
    is_alias : bool
        True where every output is the input itself: no tensors, no kernels.
    is_table : bool
        True where the output is the layer's one weight itself, without an axis of
        samples: it has no forward step, and every sample reads the same bytes.
    repeats_table : bool
        True where the only input is a table, of which every sample gets a copy.
    moves_elements : bool
        True where every element of an output is an element of an input, unchanged, as
        in reshape and slice. Ids stay ids behind such a layer, and masks stay masks.
    keeps_axes : bool
        True where the axes of an output mean the same as those of an input of the same
        shape, as in an activation: behind it a picture is still a picture. Where there
        are as many outputs as inputs, output i is made from input i.
    reads : ``"pictures"``, ``"sequences"`` or None
        What the layer takes its inputs for: pictures (channel, height, width), or
        sequences (1, steps, features); None where it fits any input. A layer that reads
        pictures makes pictures. What `Model.warnings` says goes by this.
    trains_by_weight : bool
        True where `calc_gradient` leaves out each gradient of which
        ``tensors.is_wanted`` is false, so that some weights alone can be trained.
    """

    type_name: ClassVar[str]
    properties: ClassVar[tuple[Property, ...]] = COMMON_PROPERTIES
    n_inputs: ClassVar[int | range | None] = 1
    is_loss: ClassVar[bool] = False
    is_alias: ClassVar[bool] = False
    is_table: ClassVar[bool] = False
    repeats_table: ClassVar[bool] = False
    moves_elements: ClassVar[bool] = False
    keeps_axes: ClassVar[bool] = False
    reads: ClassVar[Literal["pictures", "sequences"] | None] = None
    trains_by_weight: ClassVar[bool] = False

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given: Mapping[str, Any] = MappingProxyType(dict(given))
        self._defaults = {p.name: p.default for p in self.properties}

    def __getitem__(self, name: str) -> Any:
        """Return the value of a property, or its default where it was not set.

        Raises
        ------
        UnknownPropertyError
            The type has no property of this name.
        """
        if name in self.given:
            return self.given[name]
        if not isinstance(name, str) or name not in self._defaults:
            raise unknown_property(
                f"layer of type {self.type_name}", name, self._defaults
            )
        return self._defaults[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a property, or `default` where the type lacks it."""
        return self[name] if name in self._defaults else default

    @property
    def name(self) -> str:
        """Name of the layer, unique in its model."""
        return str(self["name"])

    def with_values(self, **values: Any) -> Layer:
        """Return a layer of the same type with some parsed values replaced."""
        return type(self)({**self.given, **values})

    def __repr__(self) -> str:
        given = (f"{k}={brief(v)}" for k, v in self.given.items() if k != "name")
        name = brief(None if self["name"] is None else self.name)
        facts = ", ".join([name, *given])
        return f"{self.type_name}({shortened(facts, LONGEST_FACTS)})"

    def __reduce__(self) -> tuple[type[Layer], tuple[dict[str, Any]]]:
        return type(self), (dict(self.given),)

    @property
    def is_trainable(self) -> bool:
        """Whether any weights are trained: false only where ``trainable=false``."""
        return bool(self.get("trainable", True))

    def trains(self, weight: str) -> bool:
        """Tell whether ``train`` and ``trainable`` let a weight of this name train.

        Parameters
        ----------
        weight : str
            Name within the layer: ``"bias"``.
        """
        chosen = self.get("train")
        if chosen is not None:
            return weight in chosen
        trainable = self.get("trainable", True)
        return is_added(weight) if trainable == BIAS else bool(trainable)

    def expand(self, input_shapes: tuple[Shape, ...]) -> tuple[Layer, ...]:
        """Return the layers that this layer is replaced by, in forward order.

        Most layers return themselves. A part reads other parts by their names, and the
        inputs of this layer by the names in its ``input_layers``; the output of the
        last part is that of the layer.

        Parameters
        ----------
        input_shapes : tuple of Shape
            Shape of one sample of each input.
        """
        return (self,)

    @abstractmethod
    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return what the layer needs for inputs of these shapes.

        Parameters
        ----------
        input_shapes : tuple of Shape
            Shape of one sample of each input.

        Raises
        ------
        ShapeMismatchError
            The shapes do not fit the layer or each other.
        """

    def forward(self, tensors: Binding) -> list[Call]:
        """Return the kernel calls that make the outputs from the inputs."""
        return []

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Return the kernel calls that make the gradients of the weights."""
        return []

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Return the kernel calls that make the wanted derivatives of the inputs."""
        return []

    def mismatch(self, message: str, **facts: object) -> ShapeMismatchError:
        """Return the error to raise where shapes do not fit this layer.

        Parameters
        ----------
        message : str
            What does not fit and what to do, to follow ``layer 'fc' (scale): ``.
        **facts
            Attributes of the error: the numbers in the message.
        """
        return ShapeMismatchError(
            f"layer {self.name!r} ({self.type_name}): {message}",
            layer=self.name,
            **facts,
        )
