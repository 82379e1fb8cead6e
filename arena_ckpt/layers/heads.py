"""Attention without projections, and rotary positions: parts of a Llama block."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import ClassVar

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.properties import (
    BOOLEAN,
    FRACTION,
    POSITIVE_INT,
    POSITIVE_REAL,
    Property,
)
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.head_groups import NUM_HEADS_KV, groups_of
from arena_ckpt.layers.spec import (
    InPlace,
    LayerSpec,
    Shape,
    TensorSpec,
    WeightSpec,
    format_shape,
    n_elems,
)
from arena_ckpt.operations.activations import ACTIVATIONS
from arena_ckpt.operations.families import arithmetic, blas, heads, tokens

_FORWARD, _BACK = TensorLifespan.FORWARD, TensorLifespan.CALC_DERIVATIVE


class RotaryEmbedding(Layer):
    """Turn the pairs of each head by angles that grow with the position."""

    type_name = "rotary_embedding"
    reads = "sequences"
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property("num_heads", POSITIVE_INT, 1, "heads that share a row"),
        Property("rope_theta", POSITIVE_REAL, 10000.0, "base of the wavelengths"),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input, and a table of cosines and sines."""
        shape, n_heads = input_shapes[0], self["num_heads"]
        if shape[0] != 1:
            raise self.mismatch(
                f"has an input of shape {format_shape(shape)}; expected "
                "1:positions:features, so reshape it",
                shape=shape,
            )
        if shape[2] % (2 * n_heads):
            raise self.mismatch(
                f"cannot turn pairs of {n_heads} heads in a row of width {shape[2]}; "
                "make it a multiple of twice num_heads",
                width=shape[2],
                num_heads=n_heads,
            )
        width = shape[2] // n_heads
        turns = WeightSpec(
            "turns",
            (shape[1], width),
            "zeros",
            fan_in=width,
            fan_out=width,
            lifespan=TensorLifespan.FORWARD_DERIV,
            is_trained=False,
            values=_turns(shape[1], width, self["rope_theta"]),
        )
        n = 3 * n_elems(shape)
        return LayerSpec(
            output_shapes=(shape,),
            weights=(turns,),
            in_place=(
                InPlace(Phase.FORWARD, "out0", ("in0",)),
                InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0:grad",)),
            ),
            flops=Flops(n, 0, n),
        )

    def _rotate(
        self, tensors: Binding, source: str, sign: float, target: str
    ) -> list[Call]:
        _, length, width = tensors.input_shapes[0]
        n_heads = self["num_heads"]
        arrays = tensors.vector(source), tensors.vector("turns"), sign
        sizes = length, n_heads, width // n_heads
        return [Call(heads.rotate, (*arrays, tensors.vector(target), *sizes))]

    def forward(self, tensors: Binding) -> list[Call]:
        """Turn each pair."""
        return self._rotate(tensors, "in0", 1.0, "out0")

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Turn each pair of the derivative back."""
        return self._rotate(tensors, "out0:grad", -1.0, "in0:grad")


def _turns(length: int, width: int, theta: float) -> bytes:
    """Return for each position the cosines of its angles, then their sines."""
    half, numbers = width // 2, []
    speeds = [theta ** (-2 * j / width) for j in range(half)]
    for place in range(length):
        numbers += [math.cos(place * speed) for speed in speeds]
        numbers += [math.sin(place * speed) for speed in speeds]
    return struct.pack(f"<{len(numbers)}f", *numbers)


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Sizes that follow from the properties and the shapes of the inputs.

    Attributes
    ----------
    heads, groups : int
        Number of heads of the query, and of key and value.
    t, s : int
        Number of queries, and of keys and values.
    dk, dv : int
        Columns of query and key, and of value, for each head.
    """

    heads: int
    groups: int
    t: int
    s: int
    dk: int
    dv: int

    @property
    def rows(self) -> int:
        """Number of queries that share the keys of a group."""
        return self.heads // self.groups * self.t


_PARTS = ("query", "key", "value")


class Attention(Layer):
    """``softmax(q kᵀ / sqrt(d) + mask) v`` for each head of given rows."""

    type_name = "attention"
    n_inputs = range(3, 5)
    reads = "sequences"
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property("num_heads", POSITIVE_INT, 1, "heads of the query"),
        NUM_HEADS_KV,
        Property("dropout_rate", FRACTION, 0.0, "share of the probabilities set to 0"),
        Property(
            "is_causal", BOOLEAN, False, "a query sees keys up to its own place only"
        ),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the output, and workspaces; probabilities are saved."""
        sizes, n = self._sizes(input_shapes), len(input_shapes)
        is_masked = n == 4
        if is_masked:
            self._check_mask(input_shapes[3], sizes)
        scores = sizes.heads * sizes.t * sizes.s
        products = 2 * scores * (sizes.dk + sizes.dv)
        work = 12 * scores
        return LayerSpec(
            output_shapes=((1, sizes.t, sizes.heads * sizes.dv),),
            tensors=self._tensors(sizes),
            input_lifespan=(_FORWARD | _BACK,) * 3 + (_FORWARD,) * is_masked,
            in_place=tuple(
                InPlace(Phase.CALC_DERIVATIVE, f"in{i}:grad", ("out0:grad", f"in{i}"))
                for i in range(3)
            ),
            fixed_inputs=frozenset({3} if is_masked else ()),
            mask_inputs=frozenset({3} if is_masked else ()),
            table_inputs=frozenset({3} if is_masked else ()),
            forward_skips_unwanted=True,
            flops=Flops(products + work, 0, 2 * products + work),
        )

    def _sizes(self, shapes: tuple[Shape, ...]) -> _Sizes:
        """Return the sizes for inputs of these shapes.

        Raises
        ------
        ShapeMismatchError
            The shapes do not fit each other or the properties.
        """
        query, key, value = shapes[:3]
        n_heads, groups = self["num_heads"], groups_of(self)
        for name, shape, count in zip(
            _PARTS, (query, key, value), (n_heads, groups, groups), strict=True
        ):
            if shape[0] != 1 or shape[2] % count:
                raise self.mismatch(
                    f"has a {name} of shape {format_shape(shape)}; expected "
                    f"1:tokens:features with features for {count} heads",
                    shape=shape,
                    num_heads=count,
                )
        if key[1] != value[1] or query[2] // n_heads != key[2] // groups:
            raise self.mismatch(
                f"has a query {format_shape(query)} of {n_heads} heads, a key "
                f"{format_shape(key)} and a value {format_shape(value)} of {groups}; "
                "key and value need equally many tokens, heads of query and key the "
                f"same width, which are {query[2] // n_heads} and {key[2] // groups}",
                shapes=shapes,
            )
        return _Sizes(
            heads=n_heads,
            groups=groups,
            t=query[1],
            s=key[1],
            dk=query[2] // n_heads,
            dv=value[2] // groups,
        )

    def _check_mask(self, mask: Shape, sizes: _Sizes) -> None:
        if mask[0] not in (1, sizes.heads) or mask[1:] != (sizes.t, sizes.s):
            rows = f"{sizes.t}:{sizes.s}"
            raise self.mismatch(
                f"has a mask of shape {format_shape(mask)}; expected 1:{rows} "
                f"(queries, keys) or {sizes.heads}:{rows} (one for each head)",
                shape=mask,
            )

    def _tensors(self, sizes: _Sizes) -> tuple[TensorSpec, ...]:
        """Return the probabilities, and the workspaces of both directions.

        Queries, keys and values head by head are made again by the backward pass from
        the inputs, instead of being kept.
        """
        rows = {
            "query": (sizes.heads, sizes.t, sizes.dk),
            "key": (sizes.groups, sizes.s, sizes.dk),
            "value": (sizes.groups, sizes.s, sizes.dv),
            "output": (sizes.heads, sizes.t, sizes.dv),
        }
        scores = (sizes.heads, sizes.t, sizes.s)
        spaces = [(f"{name}_rows", shape, _FORWARD) for name, shape in rows.items()]
        spaces += [(f"{name}_again", shape, _BACK) for name, shape in rows.items()]
        spaces += [("slopes", scores, _BACK), ("query_slopes", rows["query"], _BACK)]
        if self["dropout_rate"] > 0:
            spaces += [("kept", scores, _FORWARD), ("kept_again", scores, _BACK)]
        return (
            TensorSpec("probabilities", scores, _FORWARD | _BACK),
            *(TensorSpec(*space) for space in spaces),
        )

    # -- calls ----------------------------------------------------------------------

    def _by_head(
        self, tensors: Binding, source: str, target: str, part: str, factor: float = 1.0
    ) -> Call:
        """Return the call that puts rows of all heads into those of each head."""
        count, length, width = self._part(tensors, part)
        steps = (length * count * width, width, count * width, 1)
        sizes = (tensors.n_samples, count, length, width)
        x, y = tensors.vector(source), tensors.vector(target)
        return Call(arithmetic.repeat, (x, factor, y, *sizes, *steps))

    def _joined(
        self, tensors: Binding, source: str, target: str, part: str, factor: float = 1.0
    ) -> Call:
        """Return the call that puts the heads of each row beside each other."""
        count, length, width = self._part(tensors, part)
        steps = (count * length * width, width, length * width, 1)
        sizes = (tensors.n_samples, length, count, width)
        x, y = tensors.vector(source), tensors.vector(target)
        return Call(arithmetic.repeat, (x, factor, y, *sizes, *steps))

    def _part(self, tensors: Binding, part: str) -> tuple[int, int, int]:
        """Return heads, rows and columns of an input, or of the output."""
        sizes = self._sizes(tensors.input_shapes)
        return {
            "query": (sizes.heads, sizes.t, sizes.dk),
            "key": (sizes.groups, sizes.s, sizes.dk),
            "value": (sizes.groups, sizes.s, sizes.dv),
            "output": (sizes.heads, sizes.t, sizes.dv),
        }[part]

    def _product(
        self,
        tensors: Binding,
        roles: tuple[str, str, str],
        sizes: tuple[int, int, int],
        transposed: tuple[int, int] = (0, 0),
    ) -> Call:
        """Return the call of a matrix product for each group of heads."""
        n = tensors.n_samples * self._sizes(tensors.input_shapes).groups
        arrays = (tensors.vector(role) for role in roles)
        return Call(blas.matmul_each, (*arrays, n, *sizes, *transposed))

    def _drop(self, tensors: Binding, source: str, target: str) -> list[Call]:
        """Return the call that drops probabilities; none where none are dropped."""
        rate = self["dropout_rate"]
        if not tensors.is_wanted(target) or rate == 0:
            return []
        x, y = tensors.vector(source), tensors.vector(target)
        random = tensors.counters, tensors.random_key, rate if tensors.training else 0.0
        return [Call(tokens.dropout, (x, y, *random, x.size // tensors.n_samples))]

    def forward(self, tensors: Binding) -> list[Call]:
        """Multiply, mask and normalize; then multiply by the values."""
        sizes = self._sizes(tensors.input_shapes)
        scale = 1 / math.sqrt(sizes.dk)
        is_masked = len(tensors.input_shapes) == 4
        probabilities = tensors.vector("probabilities")
        mask = tensors.vector("in3") if is_masked else probabilities
        per_head = sizes.t * sizes.s if is_masked else 0
        mask_heads = tensors.input_shapes[3][0] if is_masked else 0
        has_samples = is_masked and not tensors.is_table(3)
        steps = (
            mask_heads * per_head if has_samples else 0,
            per_head if mask_heads > 1 else 0,
        )
        is_dropped = self["dropout_rate"] > 0
        factor = "kept" if is_dropped else "probabilities"
        calls = [
            self._by_head(tensors, "in0", "query_rows", "query", scale),
            self._by_head(tensors, "in1", "key_rows", "key"),
            self._product(
                tensors,
                ("query_rows", "key_rows", "probabilities"),
                (sizes.rows, sizes.dk, sizes.s),
                (0, 1),
            ),
            Call(
                heads.masked_softmax,
                (
                    *(probabilities, mask, probabilities),
                    *(sizes.heads, sizes.t, sizes.s),
                    *(*steps, int(is_masked), int(self["is_causal"])),
                ),
            ),
        ]
        if not tensors.is_wanted("out0"):
            return calls
        return [
            *calls,
            *self._drop(tensors, "probabilities", "kept"),
            self._by_head(tensors, "in2", "value_rows", "value"),
            self._product(
                tensors,
                (factor, "value_rows", "output_rows"),
                (sizes.rows, sizes.s, sizes.dv),
            ),
            self._joined(tensors, "output_rows", "out0", "output"),
        ]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Go back through the products; the inputs are copied before any is written."""
        sizes = self._sizes(tensors.input_shapes)
        rows, s, dk, dv = sizes.rows, sizes.s, sizes.dk, sizes.dv
        scale = 1 / math.sqrt(dk)
        wanted = [tensors.is_wanted(f"in{i}:grad") for i in range(3)]
        is_dropped = self["dropout_rate"] > 0
        factor = "kept_again" if is_dropped else "probabilities"
        calls = [self._by_head(tensors, "out0:grad", "output_again", "output")]
        joins = []
        if wanted[0] or wanted[1]:
            calls += [
                self._by_head(tensors, "in0", "query_again", "query", scale),
                self._by_head(tensors, "in1", "key_again", "key"),
                self._by_head(tensors, "in2", "value_again", "value"),
                self._product(
                    tensors,
                    ("output_again", "value_again", "slopes"),
                    (rows, dv, s),
                    (0, 1),
                ),
                *(self._drop(tensors, "slopes", "slopes") if is_dropped else ()),
                self._softmax_slopes(tensors, s),
            ]
        if wanted[2]:
            calls += self._drop(tensors, "probabilities", "kept_again")
            roles = (factor, "output_again", "value_again")
            calls.append(self._product(tensors, roles, (s, rows, dv), (1, 0)))
            joins.append(self._joined(tensors, "value_again", "in2:grad", "value"))
        if wanted[0]:
            roles = ("slopes", "key_again", "query_slopes")
            calls.append(self._product(tensors, roles, (rows, s, dk)))
            joins.append(
                self._joined(tensors, "query_slopes", "in0:grad", "query", scale)
            )
        if wanted[1]:
            roles = ("slopes", "query_again", "key_again")
            calls.append(self._product(tensors, roles, (s, rows, dk), (1, 0)))
            joins.append(self._joined(tensors, "key_again", "in1:grad", "key"))
        return [*calls, *joins]

    def _softmax_slopes(self, tensors: Binding, s: int) -> Call:
        """Return the call that makes slopes of scores from those of probabilities."""
        slopes = tensors.matrix("slopes")
        arguments = (tensors.matrix("probabilities"), slopes, slopes)
        return Call(ACTIVATIONS["softmax"].backward, arguments)
