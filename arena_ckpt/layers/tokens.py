"""Layers of transformers beside attention: embedding, positions, dropout, SwiGLU."""

from __future__ import annotations

from typing import ClassVar

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.properties import (
    BOOLEAN,
    COUNT,
    FRACTION,
    POSITIVE_INT,
    Property,
)
from arena_ckpt.layers.base import Binding, Call, Layer, beta_of
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.shape import copy_unless_same
from arena_ckpt.layers.spec import (
    LARGEST_ID,
    IdInput,
    InPlace,
    LayerSpec,
    Shape,
    TensorSpec,
    WeightSpec,
    format_shape,
    n_elems,
)
from arena_ckpt.layers.weighted import WEIGHT_PROPERTIES, weight_spec
from arena_ckpt.operations.families import elementwise, tokens, touched_rows
from arena_ckpt.operations.kernel_names import KernelName


class Embedding(Layer):
    """Look up a row of a learned table for each id, a whole number from 0."""

    type_name = "embedding"
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property("in_dim", POSITIVE_INT, None, "how many ids there are (required)"),
        Property("out_dim", POSITIVE_INT, None, "width of a row (required)"),
        Property(
            "padding_idx",
            COUNT,
            None,
            "an id whose row starts from zeros and gets no gradient",
        ),
        Property(
            "sparse",
            BOOLEAN,
            False,
            "true makes the gradient of the rows alone that a batch names",
        ),
        *(p for p in WEIGHT_PROPERTIES if not p.name.startswith("bias")),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return one row for each id, and the table."""
        shape, rows, width = input_shapes[0], self["in_dim"], self["out_dim"]
        if rows is None or width is None:
            raise self.mismatch(
                "needs in_dim and out_dim; set them, for example in_dim=128 out_dim=64"
            )
        if rows > LARGEST_ID:
            raise self.mismatch(
                f"has in_dim {rows:,}; ids are float32, which tells apart at most "
                f"{LARGEST_ID:,}",
                in_dim=rows,
            )
        if shape[0] != 1 or (shape[1] > 1 and shape[2] > 1):
            raise self.mismatch(
                f"has ids of shape {format_shape(shape)}; expected 1:1:ids or 1:ids:1, "
                "so flatten them",
                shape=shape,
            )
        padding = self["padding_idx"]
        if padding is not None and padding >= rows:
            raise self.mismatch(
                f"has padding_idx {padding} and in_dim {rows}; ids go from 0 to "
                f"{rows - 1}",
                padding_idx=padding,
                in_dim=rows,
            )
        length = n_elems(shape)
        weight = weight_spec(
            self,
            "weight",
            (rows, width),
            fan_in=rows,
            fan_out=width,
            lifespan=TensorLifespan.FORWARD,
            zero_row=padding,
            touched_rows=length if self["sparse"] else None,
        )
        self._check_sparse(weight)
        back = TensorLifespan.CALC_GRADIENT
        row = TensorSpec("padding_row", (width,), back, per_sample=False)
        return LayerSpec(
            output_shapes=((1, length, width),),
            weights=(weight,),
            tensors=() if padding is None or self["sparse"] else (row,),
            input_lifespan=TensorLifespan.FORWARD_GRAD,
            id_inputs=(IdInput(0, rows, set_by="in_dim"),),
            flops=Flops(0, length * width, 0),
        )

    def _check_sparse(self, weight: WeightSpec) -> None:
        """Refuse what moves rows that no id names.

        Raises
        ------
        ShapeMismatchError
        """
        if not self["sparse"]:
            return
        for name, value in (
            ("weight_decay", weight.decay),
            ("weight_regularizer", weight.regularizer_constant),
        ):
            if value:
                raise self.mismatch(
                    f"has sparse=true and a {name}, which moves every row of the "
                    "table; leave one of them out",
                    **{name: self[name]},
                )

    def forward(self, tensors: Binding) -> list[Call]:
        """Copy the row of each id; an id out of range makes row and loss NaN."""
        ids, table = tensors.vector("in0"), tensors.matrix("weight")
        arguments = (ids, table, tensors.matrix("out0"), tensors.loss)
        return [Call(tokens.embedding_forward, arguments)]

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Add each row of the derivative to the row of its id, in order.

        What stands in the row of `padding_idx`, such as the share of an output layer
        that uses the same table, is put back behind.
        """
        beta, padding = beta_of(tensors), self["padding_idx"]
        ids, d_out = tensors.vector("in0"), tensors.matrix("out0:grad")
        gradient = tensors.matrix("weight:grad")
        if self["sparse"]:
            left_out = -1 if padding is None else padding
            arguments = (ids, d_out, self["in_dim"], left_out, beta, gradient)
            return [Call(touched_rows.touched_gradient, arguments)]
        calls = [Call(tokens.embedding_gradient, (ids, d_out, beta, gradient))]
        if padding is None:
            return calls
        row = gradient[padding : padding + 1].reshape(-1)
        if beta == 0:
            return [*calls, Call(elementwise.fill, (0.0, row))]
        copy, before = elementwise.copy, tensors.vector("padding_row")
        return [Call(copy, (row, before)), *calls, Call(copy, (before, row))]


class PositionalEncoding(Layer):
    """Add sines and cosines of its position to each row."""

    type_name = "positional_encoding"
    reads = "sequences"
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property(
            "max_timestep",
            POSITIVE_INT,
            None,
            "most rows that a sample may have; any number where absent",
        ),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input; the derivative is a view."""
        shape, most = input_shapes[0], self["max_timestep"]
        if shape[0] != 1:
            raise self.mismatch(
                f"has an input of shape {format_shape(shape)}; expected "
                "1:positions:features, so reshape it",
                shape=shape,
            )
        if most is not None and shape[1] > most:
            raise self.mismatch(
                f"has an input of {shape[1]} rows and max_timestep={most}; raise "
                "max_timestep or shorten the input",
                max_timestep=most,
                shape=shape,
            )
        work = (5 * ((shape[2] + 1) // 2),)
        return LayerSpec(
            output_shapes=(shape,),
            tensors=(
                TensorSpec(
                    "work",
                    work,
                    TensorLifespan.FORWARD,
                    per_sample=False,
                    dtype="float64",
                ),
            ),
            in_place=(
                InPlace(Phase.FORWARD, "out0", ("in0",)),
                InPlace(
                    Phase.CALC_DERIVATIVE, "in0:grad", ("out0:grad",), is_view=True
                ),
            ),
            flops=Flops(n_elems(shape), 0, 0),
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Add the encoding of its position to each row."""
        arrays = tensors.vector("in0"), tensors.vector("out0"), tensors.doubles("work")
        arguments = (*arrays, *tensors.input_shapes[0][1:])
        return [Call(tokens.add_positions, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Copy the derivative, unless it is a view."""
        return copy_unless_same(tensors, "out0:grad", "in0:grad")


class Dropout(Layer):
    """Set a share of the elements to 0 in training, and scale the others up."""

    type_name = "dropout"
    keeps_axes = True
    kernel: ClassVar[KernelName] = tokens.dropout
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property("dropout_rate", FRACTION, 0.0, "share of the elements set to 0"),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input; backward draws the same numbers again."""
        is_view = self["dropout_rate"] == 0
        n = n_elems(input_shapes[0])
        return LayerSpec(
            output_shapes=(input_shapes[0],),
            in_place=(
                InPlace(Phase.FORWARD, "out0", ("in0",), is_view),
                InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0:grad",), is_view),
            ),
            flops=Flops(n, 0, n),
        )

    def _drop(self, tensors: Binding, source: str, target: str) -> list[Call]:
        """Return the call that drops elements, or the one that copies all."""
        if self["dropout_rate"] == 0 or not tensors.training:
            return copy_unless_same(tensors, source, target)
        x = tensors.vector(source)
        random = (tensors.counters, tensors.random_key, self["dropout_rate"])
        arguments = (x, tensors.vector(target), *random, x.size // tensors.n_samples)
        return [Call(self.kernel, arguments)]

    def forward(self, tensors: Binding) -> list[Call]:
        """Drop in training, copy otherwise."""
        return self._drop(tensors, "in0", "out0")

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Drop the same elements again."""
        return self._drop(tensors, "out0:grad", "in0:grad")


class DropPath(Dropout):
    """Set whole samples to 0 in training, and scale the others up.

    In front of the addition of a residual connection it leaves out the branch
    (stochastic depth).

    References
    ----------
    Huang et al., "Deep Networks with Stochastic Depth", 2016.
    """

    type_name = "drop_path"
    kernel = tokens.drop_path
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property("dropout_rate", FRACTION, 0.0, "share of the samples set to 0"),
    )


class SwiGLU(Layer):
    """Gated activation ``swish(in0) * in1``."""

    type_name = "swiglu"
    n_inputs = 2
    properties = OUTPUT_PROPERTIES

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the common shape; backward needs both inputs."""
        first, second = input_shapes
        if first != second:
            raise self.mismatch(
                f"multiplies inputs of different shapes ({format_shape(first)} and "
                f"{format_shape(second)}); make them equal",
                shapes=input_shapes,
            )
        n = n_elems(first)
        return LayerSpec(
            output_shapes=(first,),
            input_lifespan=TensorLifespan.FORWARD_DERIV,
            in_place=(
                InPlace(Phase.FORWARD, "out0", ("in0", "in1")),
                InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0:grad", "in0", "in1")),
                InPlace(Phase.CALC_DERIVATIVE, "in1:grad", ("out0:grad", "in1", "in0")),
            ),
            flops=Flops(12 * n, 0, 16 * n),
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Multiply ``swish(in0)`` by ``in1``."""
        arguments = tuple(tensors.vector(role) for role in ("in0", "in1", "out0"))
        return [Call(tokens.swiglu_forward, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Make the wanted ones of the two derivatives in one pass."""
        a, b, d_out = (tensors.vector(role) for role in ("in0", "in1", "out0:grad"))
        first, second = (tensors.is_wanted(f"in{i}:grad") for i in (0, 1))
        if first and second:
            results = tensors.vector("in0:grad"), tensors.vector("in1:grad")
            return [Call(tokens.swiglu_derivatives, (a, b, d_out, *results))]
        if first:
            arguments = (a, b, d_out, tensors.vector("in0:grad"))
            return [Call(tokens.swiglu_gate_derivative, arguments)]
        rest = (a, d_out, tensors.vector("in1:grad"))
        return [Call(tokens.swiglu_value_derivative, rest)]
