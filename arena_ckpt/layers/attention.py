"""The multi-head attention layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.properties import (
    BOOLEAN,
    FRACTION,
    POSITIVE_INT,
    Property,
    choice,
)
from arena_ckpt.layers.base import Binding, Call, beta_of
from arena_ckpt.layers.dense import product_gradient
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.head_groups import (
    NUM_HEADS_KV,
    FourSizes,
    groups_of,
    repeated_heads,
    summed_heads,
)
from arena_ckpt.layers.inner_lora import (
    add_low_derivative,
    add_low_product,
    frozen,
    low_product,
    low_rank_gradients,
    low_rank_tensors,
    low_rank_weights,
    low_slopes,
    whole_tensors,
    whole_weight,
)
from arena_ckpt.layers.lora import LORA_PROPERTIES
from arena_ckpt.layers.partial import read_for, refuse_part
from arena_ckpt.layers.spec import (
    InPlace,
    LayerSpec,
    Shape,
    TensorSpec,
    WeightSpec,
    format_shape,
)
from arena_ckpt.layers.weighted import (
    WEIGHT_PROPERTIES,
    WithBias,
    bias_spec,
    weight_spec,
)
from arena_ckpt.operations.families import attention, blas, elementwise, reductions
from arena_ckpt.operations.regions import Region
from arena_ckpt.operations.sizes import attention_work_elems

TILE_ROWS = 64
"""Maximum number of queries of a tile."""

TILE_COLUMNS = 256
"""Maximum number of keys of a tile.

Both were chosen by measurements on 128 and 1024 tokens, with 32 and 64 columns a head.
"""

_PARTS = ("query", "key", "value")

LINEAR_LAYERS = (*(f"{part}_fc" for part in _PARTS), "fc")
"""Names of the linear layers inside: ``NAME_weight`` and ``NAME_bias``."""

_HEADS, _AGAIN = "_heads", "_heads_again"
"""Ends of the roles of repeated heads, in the forward pass and in the backward pass."""


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
    units : int
        Columns of the output.
    rows, columns : int
        Queries and keys of a tile.
    mask_heads : int
        Number of masks: 0 without, 1 for all heads, or one for each.
    """

    heads: int
    groups: int
    t: int
    s: int
    dk: int
    dv: int
    units: int
    rows: int
    columns: int
    mask_heads: int

    @property
    def widths(self) -> tuple[int, int, int]:
        """Columns of the projected query, key and value."""
        return self.heads * self.dk, self.groups * self.dk, self.groups * self.dv

    @property
    def output_width(self) -> int:
        """Columns of what all heads put out."""
        return self.heads * self.dv


class MultiHeadAttention(WithBias):
    """``softmax(q kᵀ / sqrt(d) + mask) v`` for each head, between linear layers.

    With one input, query, key and value are the same; with two, key and value.
    """

    type_name = "multi_head_attention"
    trains_by_weight = True
    n_inputs = range(1, 5)
    reads = "sequences"
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property("num_heads", POSITIVE_INT, None, "heads (required)"),
        NUM_HEADS_KV,
        Property(
            "projected_key_dim",
            POSITIVE_INT,
            None,
            "width of query and key for each head; width of the query / num_heads "
            "where absent",
        ),
        Property(
            "projected_value_dim",
            POSITIVE_INT,
            None,
            "width of the value for each head; projected_key_dim where absent",
        ),
        Property(
            "output_shape",
            POSITIVE_INT,
            None,
            "outputs for each row; width of the query where absent",
        ),
        Property("dropout_rate", FRACTION, 0.0, "share of the probabilities set to 0"),
        Property(
            "is_causal", BOOLEAN, False, "a query sees keys up to its own place only"
        ),
        Property(
            "attention",
            choice("auto", "plain", "tiled"),
            "auto",
            "plain keeps the probabilities for the backward pass, tiled makes them "
            "again; auto is plain where they are no larger than the projections",
        ),
        Property("disable_bias", BOOLEAN, False, "true leaves the biases out"),
        Property("bias", BOOLEAN, True, "false leaves the biases out"),
        *LORA_PROPERTIES,
        *WEIGHT_PROPERTIES,
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the weights of the four linear layers, and what attention saves."""
        if self._has_lora:
            refuse_part(self, "lora_rank, which freezes the weights of the layer")
        sizes = self._sizes(input_shapes)
        n = len(input_shapes)
        forward = TensorLifespan.FORWARD
        lifespans = [forward] * n
        for part, i in zip(_PARTS, self._sources(n), strict=True):
            lifespans[i] |= read_for(self, f"{part}_fc_weight")
        if n == 4:
            lifespans[3] = forward if self._is_plain(sizes) else forward | self._back
        return LayerSpec(
            output_shapes=((1, sizes.t, sizes.units),),
            weights=self._weights(sizes, input_shapes),
            tensors=self._tensors(sizes),
            input_lifespan=tuple(lifespans),
            in_place=tuple(
                InPlace(Phase.CALC_DERIVATIVE, f"in{i}:grad", ("out0:grad",))
                for i in range(min(n, 3))
            ),
            fixed_inputs=frozenset({3}) if n == 4 else frozenset(),
            mask_inputs=frozenset({3}) if n == 4 else frozenset(),
            forward_skips_unwanted=True,
            flops=self._flops(sizes, input_shapes),
        )

    @property
    def _back(self) -> TensorLifespan:
        """The first backward phase of the layer, in which attention runs backward."""
        if self.is_trainable:
            return TensorLifespan.CALC_GRADIENT
        return TensorLifespan.CALC_DERIVATIVE

    def _sizes(self, shapes: tuple[Shape, ...]) -> _Sizes:
        """Return the sizes for inputs of these shapes.

        Raises
        ------
        ShapeMismatchError
            The shapes do not fit each other or the properties.
        """
        if self["num_heads"] is None:
            raise self.mismatch("has no num_heads; set it, for example num_heads=8")
        query, key, _ = self._checked_sources(shapes)
        dk = self._key_width(query)
        t, s = query[1], key[1]
        return _Sizes(
            heads=self["num_heads"],
            groups=groups_of(self),
            t=t,
            s=s,
            dk=dk,
            dv=self["projected_value_dim"] or dk,
            units=self["output_shape"] or query[2],
            rows=min(t, TILE_ROWS),
            columns=min(s, TILE_COLUMNS),
            mask_heads=self._mask_heads(shapes, t, s),
        )

    def _checked_sources(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Return the shapes of query, key and value; refuse those that do not fit."""
        for name, shape in zip((*_PARTS, "mask"), shapes, strict=False):
            if shape[0] != 1 and name != "mask":
                raise self.mismatch(
                    f"has a {name} of shape {format_shape(shape)}; expected "
                    "1:tokens:features, so reshape it",
                    shape=shape,
                )
        query, key, value = (shapes[i] for i in self._sources(len(shapes)))
        if key[1] != value[1]:
            raise self.mismatch(
                f"has {key[1]} keys ({format_shape(key)}) and {value[1]} values "
                f"({format_shape(value)}); they belong together one by one",
                key=key,
                value=value,
            )
        return query, key, value

    def _key_width(self, query: Shape) -> int:
        """Return the width of query and key for each head."""
        heads, width = self["num_heads"], query[2]
        if self["projected_key_dim"] is not None:
            return int(self["projected_key_dim"])
        if width % heads:
            raise self.mismatch(
                f"cannot divide a query of width {width} among "
                f"{heads} heads; change num_heads or set projected_key_dim",
                width=width,
                num_heads=heads,
            )
        return int(width // heads)

    def _mask_heads(self, shapes: tuple[Shape, ...], t: int, s: int) -> int:
        """Return the number of masks for `t` queries and `s` keys: 0, 1 or each head's.

        The mask is the fourth input.
        """
        if len(shapes) < 4:
            return 0
        mask, heads = shapes[3], self["num_heads"]
        if mask[0] not in (1, heads) or mask[1:] != (t, s):
            raise self.mismatch(
                f"has a mask of shape {format_shape(mask)}; expected "
                f"1:{t}:{s} (queries, keys) or {heads}:{t}:{s} (one for each "
                "head)",
                shape=mask,
            )
        return mask[0]

    @staticmethod
    def _sources(n_inputs: int) -> tuple[int, int, int]:
        """Return the numbers of the inputs that are query, key and value."""
        return (0, min(1, n_inputs - 1), min(2, n_inputs - 1))

    def _factors(self, n_inputs: int) -> dict[str, tuple[str, str]]:
        """Return for each linear layer the factors of the gradient of its weight."""
        parts = zip(_PARTS, self._sources(n_inputs), strict=True)
        factors = {f"{p}_fc": (f"in{i}", f"projected_{p}") for p, i in parts}
        return {**factors, "fc": ("attention_output", "out0:grad")}

    def _is_plain(self, sizes: _Sizes) -> bool:
        """Return whether the probabilities are saved for the backward pass."""
        if self["attention"] == "auto":
            return sizes.s <= sizes.dk
        return bool(self["attention"] == "plain")

    def _weights(
        self, sizes: _Sizes, shapes: tuple[Shape, ...]
    ) -> tuple[WeightSpec, ...]:
        """Return weight and bias of the three projections and of the output."""
        forward, derivative = TensorLifespan.FORWARD, TensorLifespan.CALC_DERIVATIVE
        factors = self._factors(len(shapes))
        rows = [shapes[i][2] for i in self._sources(len(shapes))]
        table = [
            (f"{part}_fc", width, columns, forward | derivative)
            for part, width, columns in zip(_PARTS, rows, sizes.widths, strict=True)
        ]
        table.append(("fc", sizes.output_width, sizes.units, forward | self._back))
        weights = []
        for name, fan_in, fan_out, lifespan in table:
            weight = weight_spec(
                self,
                f"{name}_weight",
                (fan_in, fan_out),
                fan_in=fan_in,
                fan_out=fan_out,
                lifespan=lifespan,
                gradient_factors=factors[name],
            )
            made = [weight]
            if self.has_bias:
                bias = f"{name}_bias"
                made.append(
                    bias_spec(self, bias, fan_out, fan_in=fan_in, fan_out=fan_out)
                )
            if self._has_lora:
                made = [frozen(spec) for spec in made]
                made += low_rank_weights(self, name, (fan_in, fan_out))
            weights += made
        return tuple(weights)

    @property
    def _has_lora(self) -> bool:
        """Whether low-rank products are trained in place of the weights."""
        return self["lora_rank"] is not None

    def _tensors(self, sizes: _Sizes) -> tuple[TensorSpec, ...]:
        """Return what forward saves, and the workspaces of both directions."""
        forward, back = TensorLifespan.FORWARD, self._back
        kept = forward | back | TensorLifespan.CALC_DERIVATIVE
        is_plain = self._is_plain(sizes)
        heads, t, s, rows = sizes.heads, sizes.t, sizes.s, sizes.rows
        columns = s if is_plain else sizes.columns
        n_work = attention_work_elems(
            t, s, heads, sizes.dk, sizes.dv, rows, None if is_plain else columns
        )
        saved = (
            TensorSpec("attention_weight", (heads, t, s), forward | back)
            if is_plain
            else TensorSpec("log_sums", (heads, t, 2), forward | back)
        )
        tensors = [
            # The backward pass overwrites these three with their derivatives.
            TensorSpec("projected_query", (t, sizes.widths[0]), kept),
            TensorSpec("projected_key", (s, sizes.widths[1]), kept),
            TensorSpec("projected_value", (s, sizes.widths[2]), kept),
            TensorSpec("attention_output", (t, sizes.output_width), forward | back),
            saved,
            TensorSpec("work", (n_work,), back, per_sample=False, per_thread=True),
            *self._repeated_tensors(sizes),
        ]
        if self._has_lora:
            tensors += self._low_rank_tensors(sizes)
        if not is_plain or self["dropout_rate"] > 0:
            tile = (rows * columns + rows,)
            tensors.append(
                TensorSpec("tile", tile, forward, per_sample=False, per_thread=True)
            )
        return tuple(tensors)

    def _repeated_tensors(self, sizes: _Sizes) -> tuple[TensorSpec, ...]:
        """Return the workspaces for heads of key and value that several heads read.

        They are repeated anew in the backward pass instead of being kept.
        """
        if sizes.groups == sizes.heads:
            return ()
        return tuple(
            TensorSpec(f"{part}{suffix}", (sizes.s, sizes.heads * width), phase)
            for suffix, phase in (
                (_HEADS, TensorLifespan.FORWARD),
                (_AGAIN, self._back),
            )
            for part, width in (("key", sizes.dk), ("value", sizes.dv))
        )

    def _low_rank_tensors(self, sizes: _Sizes) -> Iterator[TensorSpec]:
        for part, rows in zip(_PARTS, (sizes.t, sizes.s, sizes.s), strict=True):
            yield from low_rank_tensors(self, f"{part}_fc", rows, is_last=False)
        yield from low_rank_tensors(self, "fc", sizes.t, is_last=True)
        shape = sizes.output_width, sizes.units
        yield from whole_tensors(self, "fc", shape, self._back)

    def _flops(self, sizes: _Sizes, shapes: tuple[Shape, ...]) -> Flops:
        rows = (sizes.t, sizes.s, sizes.s)
        sources = self._sources(len(shapes))
        products = [
            2 * n * shapes[i][2] * width
            for n, i, width in zip(rows, sources, sizes.widths, strict=True)
        ]
        projections = sum(products)
        output = 2 * sizes.t * sizes.output_width * sizes.units
        pairs = sizes.heads * sizes.t * sizes.s
        if self["is_causal"]:
            pairs //= 2
        scores, values = 2 * pairs * sizes.dk, 2 * pairs * sizes.dv
        backward = 2 * scores + 2 * values
        if not self._is_plain(sizes):
            backward += scores
        backward += output
        gradients = sum(
            n
            for name, n in zip((*_PARTS, ""), (*products, output), strict=True)
            if self.trains(f"{name}_fc_weight".lstrip("_"))
        )
        forward, inwards = projections, projections
        if self._has_lora:
            low, low_output = self._low_rank_flops(sizes, shapes)
            forward, inwards = forward + low + low_output, inwards + low
            gradients = 2 * (low + low_output)
        forward += scores + values + output
        if not self.is_trainable:
            return Flops(forward, 0, inwards + backward, output)
        return Flops(forward, gradients + backward, inwards, output)

    def _low_rank_flops(
        self, sizes: _Sizes, shapes: tuple[Shape, ...]
    ) -> tuple[int, int]:
        """Return the operations of the products of the projections, and of the output.

        Backward multiplies by both factors, and makes the gradients of both.
        """
        rows = (sizes.t, sizes.s, sizes.s)
        widths = [shapes[i][2] for i in self._sources(len(shapes))]
        sums = [w + out for w, out in zip(widths, sizes.widths, strict=True)]
        rank = self["lora_rank"]
        projections = sum(2 * n * rank * w for n, w in zip(rows, sums, strict=True))
        return projections, 2 * sizes.t * rank * (sizes.output_width + sizes.units)

    # -- calls ----------------------------------------------------------------------

    def _projections(self, tensors: Binding) -> Iterator[tuple[str, int]]:
        """Return pairs of a projection and the number of the input that it reads."""
        return zip(_PARTS, self._sources(len(tensors.input_shapes)), strict=True)

    def _dropout(self, tensors: Binding) -> tuple[Any, ...]:
        rate = self["dropout_rate"] if tensors.training else 0.0
        return tensors.counters, tensors.random_key, rate

    def forward(self, tensors: Binding) -> list[Call]:
        """Project the inputs, attend, and project the result if it is wanted."""
        calls = []
        for part, index in self._projections(tensors):
            calls += self._linear(
                tensors, f"in{index}", f"{part}_fc", f"projected_{part}"
            )
        calls += [*self._repeat(tensors, _HEADS), self._attend(tensors)]
        if tensors.is_wanted("out0"):
            calls += self._linear(tensors, "attention_output", "fc", "out0")
        elif self._has_lora:
            calls += low_product(self, tensors, "fc", "attention_output")
        return calls

    def _linear(
        self, tensors: Binding, source: str, weight: str, target: str
    ) -> list[Call]:
        out = tensors.matrix(target)
        factors = tensors.matrix(source), tensors.matrix(f"{weight}_weight")
        calls = [Call(blas.matmul, (*factors, out))]
        if self.has_bias:
            bias = tensors.vector(f"{weight}_bias")
            calls.append(Call(elementwise.add_bias, (out, bias, out)))
        if self._has_lora:
            calls += low_product(self, tensors, weight, source)
            calls.append(add_low_product(tensors, weight, target))
        return calls

    def _grouped(self, tensors: Binding) -> Iterator[tuple[str, FourSizes]]:
        """Yield key and value with the sizes that repeat their heads, if any do."""
        sizes = self._sizes(tensors.input_shapes)
        if sizes.groups < sizes.heads:
            rows, shared = tensors.n_samples * sizes.s, sizes.heads // sizes.groups
            yield "key", (rows, sizes.groups, shared, sizes.dk)
            yield "value", (rows, sizes.groups, shared, sizes.dv)

    def _repeat(self, tensors: Binding, suffix: str) -> list[Call]:
        """Return the calls that give each head of the query its key and value."""
        return [
            repeated_heads(tensors, f"projected_{part}", f"{part}{suffix}", sizes)
            for part, sizes in self._grouped(tensors)
        ]

    def _attended(self, tensors: Binding, suffix: str) -> Iterator[Region]:
        """Yield query, key and value with as many heads each."""
        repeated = {part for part, _ in self._grouped(tensors)}
        for part in _PARTS:
            is_repeated = part in repeated
            role = f"{part}{suffix}" if is_repeated else f"projected_{part}"
            yield tensors.vector(role)

    def _attend(self, tensors: Binding) -> Call:
        sizes = self._sizes(tensors.input_shapes)
        is_plain = tensors.is_wanted("attention_weight")
        output = tensors.vector("attention_output")
        arguments = (
            *self._attended(tensors, _HEADS),
            tensors.vector("in3") if sizes.mask_heads else output,
            output,
            tensors.vector("attention_weight" if is_plain else "log_sums"),
            tensors.vector("tile") if tensors.is_wanted("tile") else output,
            *self._dropout(tensors),
            sizes.heads,
            sizes.t,
            sizes.s,
            sizes.dk,
            sizes.dv,
            sizes.mask_heads,
            int(self["is_causal"]),
            sizes.rows,
        )
        if is_plain:
            return Call(attention.plain_forward, arguments)
        return Call(attention.tiled_forward, (*arguments, sizes.columns))

    def _attend_backward(self, tensors: Binding) -> list[Call]:
        """Return the calls that overwrite the projections with their derivatives."""
        weight, calls = "fc_weight", self._repeat(tensors, _AGAIN)
        if self._has_lora:
            weight, made = whole_weight(self, tensors, "fc")
            calls += made
        return [
            *calls,
            self._heads_backward(tensors, weight),
            *(
                summed_heads(tensors, f"{part}{_AGAIN}", f"projected_{part}", sizes)
                for part, sizes in self._grouped(tensors)
            ),
        ]

    def _heads_backward(self, tensors: Binding, weight: str) -> Call:
        """Return the call that goes back through the heads.

        Parameters
        ----------
        tensors : Binding
        weight : str
            Role of the whole weight of the last linear layer.
        """
        sizes = self._sizes(tensors.input_shapes)
        is_plain = tensors.is_wanted("attention_weight")
        output, causal = tensors.vector("attention_output"), int(self["is_causal"])
        projected = tuple(self._attended(tensors, _AGAIN))
        rest = (
            tensors.vector("out0:grad"),
            tensors.vector(weight),
            tensors.vector("work"),
            *self._dropout(tensors),
            sizes.heads,
            sizes.t,
            sizes.s,
            sizes.dk,
            sizes.dv,
        )
        if is_plain:
            saved = tensors.vector("attention_weight")
            return Call(
                attention.plain_backward,
                (*projected, output, saved, *rest, causal, sizes.rows),
            )
        mask = tensors.vector("in3") if sizes.mask_heads else output
        arguments = (*projected, mask, output, tensors.vector("log_sums"), *rest)
        tiles = (sizes.mask_heads, causal, sizes.rows, sizes.columns)
        return Call(attention.tiled_backward, (*arguments, *tiles))

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Make the gradients of ``fc``, run attention backward, then the other three.

        The derivatives of the projections stay behind for `calc_derivative`.
        """
        factors = self._factors(len(tensors.input_shapes))
        calls = self._linear_gradient(tensors, "fc", factors["fc"])
        calls += self._attend_backward(tensors)
        for part in _PARTS:
            name = f"{part}_fc"
            calls += self._linear_gradient(tensors, name, factors[name])
        return calls

    def _linear_gradient(
        self, tensors: Binding, name: str, factors: tuple[str, str]
    ) -> list[Call]:
        if self._has_lora:
            return low_rank_gradients(self, tensors, name, factors)
        calls = product_gradient(tensors, f"{name}_weight", factors)
        if self.has_bias and tensors.is_wanted(f"{name}_bias:grad"):
            d_out, d_bias = factors[1], tensors.vector(f"{name}_bias:grad")
            arguments = (tensors.matrix(d_out), beta_of(tensors), d_bias)
            calls.append(Call(reductions.bias_gradient, arguments))
        return calls

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Multiply by the weights; an input of several projections gets their sum."""
        calls = []
        if tensors.is_wanted("work"):  # nothing was trained, so nothing was done
            calls += self._attend_backward(tensors)
        begun: set[str] = set()
        for part, index in self._projections(tensors):
            role = f"in{index}:grad"
            if not tensors.is_wanted(role):
                continue
            factors = (
                tensors.matrix(f"projected_{part}"),
                tensors.matrix(f"{part}_fc_weight"),
            )
            target, beta = tensors.matrix(role), 1.0 if role in begun else 0.0
            arguments = (*factors, beta, target)
            calls.append(Call(blas.matmul_transposed_b_onto, arguments))
            begun.add(role)
            if self._has_lora:
                name = f"{part}_fc"
                if not self.is_trainable:
                    calls += low_slopes(self, tensors, name, f"projected_{part}")
                calls.append(add_low_derivative(tensors, name, role))
        return calls
