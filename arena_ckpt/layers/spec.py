"""The classes in which a layer states what it needs: shapes, weights, tensors, flops.

`LayerSpec` holds all others. It is what `Layer.infer` returns, and all that the planner
knows of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.dtypes import FLOAT32, item_bytes
from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.short_repr import brief_repr

CACHE_LINE_BYTES = 64
"""Bytes that two threads cannot write at the same time without waiting."""

Shape = tuple[int, int, int]
"""Channel, height and width of one sample, in elements."""

INITIALIZERS = (
    "zeros",
    "ones",
    "lecun_normal",
    "lecun_uniform",
    "xavier_normal",
    "xavier_uniform",
    "he_normal",
    "he_uniform",
)
"""Names of the distributions that a weight can start from."""


@public_call
@dataclass(frozen=True, slots=True)
class WeightSpec:
    """A weight tensor of a layer.

    Attributes
    ----------
    name : str
        Name within the layer: ``"weight"``, ``"bias"``.
    shape : tuple of int
        Elements along each axis; the dtype is float32.
    initializer : str
        Distribution that the weight starts from, one of `INITIALIZERS`.
    fan_in : int
        Number of elements that are summed into one output; scales the distribution.
    fan_out : int
        Number of outputs that one input contributes to; scales the distribution.
    lifespan : TensorLifespan
        Phases in which the layer reads the weight.
    decay : float
        Weight decay: at the update, this times the weight is added to the gradient.
    regularizer_constant : float
        L2 penalty: the loss grows by half of this times the sum of squares.
    is_trained : bool
        False for state, such as running statistics: it has neither a gradient nor
        optimizer state, and `calc_gradient` may change it.
    is_frozen : bool
        True for a parameter that no step changes, in a layer whose other weights are
        trained: it has neither a gradient nor optimizer state. Planning sets it where
        the properties ``trainable`` and ``train`` leave the weight out.
    touched_rows : int or None
        Number of rows of the first axis that one sample touches at most, where the
        gradient holds only the rows which a batch touches: see
        `kernels.touched_rows`, whose `touched_gradient` `calc_gradient` calls.
    gradient_factors : (str, str) or None
        Roles of two matrices a and b whose product ``aᵀ · b`` is the gradient.
        `calc_gradient` reads or makes both, and no later step of the layer changes
        them. The update can then make the gradient itself, a few rows at a time, and
        `calc_gradient` leaves out a gradient that is not wanted.
    values : bytes or None
        Elements that the weight starts from instead of `initializer`: float32,
        little-endian, in the order of `shape`.
    zero_row : int or None
        Row of the first axis that starts from zeros.
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
    values: bytes | None = None
    zero_row: int | None = None
    is_frozen: bool = False
    touched_rows: int | None = None

    __repr__ = brief_repr


@public_call
@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that a layer needs beside its inputs, outputs and weights.

    Attributes
    ----------
    name : str
        Role of the tensor in the hooks of the layer.
    shape : tuple of int
        Elements along each axis; of one sample where `per_sample` is true.
    lifespan : TensorLifespan
        Phases that touch the tensor. A single phase makes it a workspace, whose content
        is undefined at the start of each step. FORWARD together with a backward phase
        saves values for the backward pass; a checkpoint block drops them and makes them
        again. CALC_GRAD_DERIV carries values from `calc_gradient` to `calc_derivative`.
    per_sample : bool
        True puts an axis of samples in front of `shape`.
    dtype : str
        ``"float32"``, ``"float64"`` or ``"int32"``: a key of `common.dtypes.DTYPES`.
    arithmetic : str or None
        ``"fast"`` or ``"portable"`` where only kernels of that arithmetic need the
        tensor.
    per_thread : bool
        True gives each thread of the model one, one after another: the workspace of a
        kernel that runs on parts of a batch side by side. Has one axis.
    """

    name: str
    shape: tuple[int, ...]
    lifespan: TensorLifespan
    per_sample: bool = True
    dtype: str = FLOAT32
    arithmetic: str | None = None
    per_thread: bool = False

    __repr__ = brief_repr

    def for_threads(self, threads: int) -> TensorSpec:
        """Return what a number of threads need: where each has one, so many of them.

        Each of these begins at a cache line of its own.
        """
        if not self.per_thread:
            return self
        line = CACHE_LINE_BYTES // item_bytes(self.dtype)
        elems = -(-self.shape[0] // line) * line
        return replace(self, shape=(threads * elems,))

    @property
    def is_saved(self) -> bool:
        """Whether the forward pass makes the tensor and the backward pass reads it."""
        return bool(self.lifespan & TensorLifespan.FORWARD) and bool(
            self.lifespan & TensorLifespan.CALC_GRAD_DERIV
        )


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
        Roles of the operands, in order of preference.
    is_view : bool
        True where the result has the same bytes as the operand, so that sharing memory
        changes no value.
    """

    phase: Phase
    result: str
    operands: tuple[str, ...]
    is_view: bool = False


@public_call
@dataclass(frozen=True, slots=True)
class IdInput:
    """An input whose elements are ids: whole numbers from `least` to `n_ids` - 1.

    An input of ids has no derivative, and what brings ids may only move them, as
    reshape and slice do. The layer's `forward` writes NaN to ``tensors.loss[0]`` where
    an id is out of range; the sample is then looked for and refused by an
    `IdRangeError`, before any weight changes.

    Attributes
    ----------
    index : int
        Number of the input, counted from 0.
    n_ids : int
        Number of different ids, counted from 0.
    set_by : str
        Property of the layer that sets `n_ids`, for the message of the error; empty
        where there is none.
    least : int
        Smallest id that is allowed: 1 where ids are lengths of sequences.
    called : str
        What the elements are, for the message of the error.
    """

    index: int
    n_ids: int
    set_by: str = ""
    least: int = 0
    called: str = "ids"

    @property
    def valid(self) -> range:
        """The ids that are allowed."""
        return range(self.least, self.n_ids)


LARGEST_ID = 2**24
"""Maximum number of ids: they are float32, exact for whole numbers up to here."""

NO_FLOPS = Flops()


@public_call
@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What a layer needs, given the shapes of its inputs.

    Attributes
    ----------
    output_shapes : tuple of Shape
        Shapes of out0, out1 and so on, each of one sample.
    weights : tuple of WeightSpec
        Weights, trained or not.
    tensors : tuple of TensorSpec
        Workspaces, and what the backward pass needs beside inputs and outputs.
    input_lifespan : TensorLifespan, or a tuple with one for each input
        Phases in which the layer reads its inputs.
    output_lifespan : TensorLifespan
        Backward phases in which the layer reads its own outputs again.
    in_place : tuple of InPlace
        Results that may overwrite an operand.
    fixed_inputs : frozenset of int
        Numbers of the inputs that have no derivative, such as masks. Those of
        `id_inputs` need not be repeated here.
    id_inputs : tuple of IdInput
        Inputs whose elements are ids.
    mask_inputs : frozenset of int
        Numbers of the inputs that may hold -inf, which forbids an element: nothing of
        what is forbidden reaches a result.
    table_inputs : frozenset of int
        Numbers of the inputs that may be tables, tensors without an axis of samples:
        the outputs of `weight` and `constant`. The hooks ask ``tensors.is_table``. The
        derivative of a table is the sum over the samples.
    optional_outputs : frozenset of int
        Numbers of the outputs that nobody has to read. One that nobody reads is not
        made, unless the backward pass reads it again (`output_lifespan`), and has no
        derivative; the hooks ask ``tensors.is_wanted``.
    forward_skips_unwanted : bool
        True where `forward` leaves out each output of which ``tensors.is_wanted`` is
        false, because a recompute wants saved tensors only.
    flops : Flops
        Operations for one sample.
    batch_values : int or None
        Number of values of one sample that enter each statistic which the layer takes
        over the samples of a pass in training; None where it takes none.
    """

    output_shapes: tuple[Shape, ...]
    weights: tuple[WeightSpec, ...] = ()
    tensors: tuple[TensorSpec, ...] = ()
    input_lifespan: TensorLifespan | tuple[TensorLifespan, ...] = TensorLifespan.FORWARD
    output_lifespan: TensorLifespan = TensorLifespan.UNMANAGED
    in_place: tuple[InPlace, ...] = ()
    fixed_inputs: frozenset[int] = frozenset()
    id_inputs: tuple[IdInput, ...] = ()
    mask_inputs: frozenset[int] = frozenset()
    table_inputs: frozenset[int] = frozenset()
    optional_outputs: frozenset[int] = frozenset()
    forward_skips_unwanted: bool = False
    flops: Flops = NO_FLOPS
    batch_values: int | None = None

    __repr__ = brief_repr

    def reads_input(self, index: int, phase: TensorLifespan) -> bool:
        """Return whether a phase reads the input of this number."""
        given = self.input_lifespan
        return bool((given[index] if isinstance(given, tuple) else given) & phase)

    @property
    def trained_weights(self) -> tuple[WeightSpec, ...]:
        """The weights that have a gradient."""
        return tuple(w for w in self.weights if w.is_trained and not w.is_frozen)


def n_elems(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a shape."""
    product = 1
    for size in shape:
        product *= size
    return product


def format_shape(shape: tuple[int, ...]) -> str:
    """Return a shape as text, the way people give it: ``"1:1:784"``."""
    return ":".join(str(size) for size in shape)
