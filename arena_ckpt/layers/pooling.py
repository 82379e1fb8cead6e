"""Layers that make pictures smaller or larger: pooling and upsampling."""

from __future__ import annotations

from typing import ClassVar

from arena_ckpt.common.dtypes import INT32, item_bytes
from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import BOOLEAN, Property, choice
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.spec import LayerSpec, Shape, TensorSpec, n_elems
from arena_ckpt.layers.windows import PADDING_2D, POSITIVE_PAIR, pad_2d
from arena_ckpt.operations.families import pooling, spans
from arena_ckpt.operations.sizes import MOST_IN_BYTES

_FUNCTIONS = choice(
    *("max", "average", "global_max", "global_average"),
    *("adaptive_max", "adaptive_average"),
)


class Pooling2D(Layer):
    """Maximum or mean of each window, of each share of a channel, or of all of it."""

    type_name = "pooling2d"
    reads = "pictures"
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property(
            "pooling",
            _FUNCTIONS,
            None,
            "max, average, global_max, global_average, adaptive_max or "
            "adaptive_average (required)",
        ),
        Property(
            "pool_size",
            POSITIVE_PAIR,
            None,
            "height,width of a window (of max and average)",
        ),
        Property(
            "output_size",
            POSITIVE_PAIR,
            None,
            "height,width of the output (of adaptive_max and adaptive_average)",
        ),
        Property("stride", POSITIVE_PAIR, (1, 1), "step down and to the right"),
        Property(
            "padding",
            PADDING_2D,
            (0, 0, 0, 0),
            "beyond the input, never the greatest and not counted in a mean: one "
            "number, two (height,width), four (top,bottom,left,right), same or valid",
        ),
        Property(
            "count_include_pad",
            BOOLEAN,
            False,
            "true counts padding in a mean, as zeros (of average)",
        ),
    )

    @property
    def _is_global(self) -> bool:
        return str(self["pooling"]).startswith("global_")

    @property
    def _is_adaptive(self) -> bool:
        return str(self["pooling"]).startswith("adaptive_")

    @property
    def _is_max(self) -> bool:
        return str(self["pooling"]).endswith("max")

    def _has_spans(self, shape: Shape) -> bool:
        """Return whether kernels over spans are needed, not those over plain windows.

        They are where shares of a plane are no windows, or a mean counts padding.
        """
        if self._is_adaptive:
            height, width = self["output_size"]
            return bool(shape[1] % height or shape[2] % width)
        if not self["count_include_pad"]:
            return False
        kernel, stride = self["pool_size"], self["stride"]
        return any(pad_2d(self["padding"], shape, kernel, stride))

    def _windows(self, shape: Shape) -> tuple[int, ...]:
        """Return the sizes of windows and outputs, as kernels take them."""
        if self["pooling"] is None:
            raise self.mismatch("has no pooling; set it, for example pooling=max")
        self._refuse_others()
        if self._is_global:
            self._refuse_windows()
            return (shape[1] * shape[2],)
        if self._is_adaptive:
            return self._shares(shape)
        kernel, stride = self["pool_size"], self["stride"]
        if kernel is None:
            raise self.mismatch("has no pool_size; set it, for example pool_size=2,2")
        padding = pad_2d(self["padding"], shape, kernel, stride)
        outputs = []
        for axis, size, i in (("height", shape[1], 0), ("width", shape[2], 1)):
            before, after = padding[2 * i : 2 * i + 2]
            if kernel[i] > size + before + after:
                raise self.mismatch(
                    f"its window has a {axis} of {kernel[i]}, but the input has {size} "
                    f"and padding {before} + {after}; make pool_size smaller",
                    axis=axis,
                    pool_size=kernel[i],
                    padded_input=size + before + after,
                )
            if max(before, after) >= kernel[i]:
                raise self.mismatch(
                    f"padding {before} + {after} of its {axis} leaves windows of "
                    f"{kernel[i]} with nothing in them; make the padding smaller than "
                    "pool_size",
                    axis=axis,
                    pool_size=kernel[i],
                    padding=(before, after),
                )
            outputs.append((size + before + after - kernel[i]) // stride[i] + 1)
        return (*shape[1:], *kernel, *stride, padding[0], padding[2], *outputs)

    def _shares(self, shape: Shape) -> tuple[int, ...]:
        """Return the sizes of adaptive windows; those of unequal shares are 0."""
        self._refuse_windows()
        if self["output_size"] is None:
            raise self.mismatch(
                "has no output_size; set it, for example output_size=2,2"
            )
        rows, columns = self["output_size"]
        window = (shape[1] // rows, shape[2] // columns)
        if self._has_spans(shape):
            window = (0, 0)
        return (*shape[1:], *window, *window, 0, 0, rows, columns)

    def _refuse_others(self) -> None:
        """Refuse properties that this kind of pooling does not have."""
        for name, kinds in (
            ("output_size", ("adaptive_max", "adaptive_average")),
            ("count_include_pad", ("average",)),
        ):
            if self[name] and self["pooling"] not in kinds:
                raise self.mismatch(
                    f"has pooling={self['pooling']}, but {name} is set; leave it out, "
                    f"or set pooling={' or '.join(kinds)}",
                    property=name,
                )

    def _refuse_windows(self) -> None:
        """Refuse sizes of windows where they follow from the input."""
        taken = "the whole input" if self._is_global else "equal shares of the input"
        for name in ("pool_size", "stride", "padding"):
            value = self[name]
            if value is None or value == "valid" or set(value) <= {0}:
                continue
            if name != "stride" or value != (1, 1):
                raise self.mismatch(
                    f"pooling={self['pooling']} takes {taken}, but {name} is set; "
                    "leave it out, or set pooling=max or average",
                    property=name,
                )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return one output for each window; a maximum saves its place."""
        shape = input_shapes[0]
        windows = self._windows(shape)
        rows, columns = (1, 1) if self._is_global else windows[-2:]
        out = (shape[0], rows, columns)
        taps = windows[0] if self._is_global else windows[2] * windows[3]
        if self._is_adaptive:
            taps = -(-shape[1] // rows) * -(-shape[2] // columns)
        has_spans = not self._is_global and self._has_spans(shape)
        tensors: tuple[TensorSpec, ...] = ()
        if self._is_max:
            places = n_elems(out)
            if not self._is_global and not has_spans and taps <= MOST_IN_BYTES:
                places = -(-places // item_bytes(INT32))  # a byte for each
            tensors = (
                TensorSpec(
                    "places", (places,), TensorLifespan.FORWARD_DERIV, dtype="int32"
                ),
            )
        elif not self._is_global and not has_spans:
            tensors = (
                TensorSpec(
                    "row",
                    (columns,),
                    TensorLifespan.CALC_DERIVATIVE,
                    per_sample=False,
                ),
            )
        flops = n_elems(out) * taps
        backward = n_elems(out) if self._is_max else flops
        return LayerSpec(
            output_shapes=(out,),
            tensors=tensors,
            flops=Flops(forward=flops, calc_derivative=backward),
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Take the maximum or the mean of each window."""
        shape = tensors.input_shapes[0]
        sizes = (tensors.n_samples * shape[0], *self._windows(shape))
        arrays = (tensors.vector("in0"), tensors.vector("out0"))
        if not self._is_global and self._has_spans(shape):
            if not self._is_max:
                return [Call(spans.span_average_forward, (*arrays, *sizes))]
            shares = (*sizes[:3], *sizes[-2:])
            arguments = (*arrays, tensors.indexes("places"), *shares)
            return [Call(spans.span_max_forward, arguments)]
        if not self._is_max:
            kernel = pooling.average_forward
            if self._is_global:
                kernel = pooling.plane_average_forward
            return [Call(kernel, (*arrays, *sizes))]
        if self._is_global:
            kernel = pooling.plane_max_forward
        elif sizes[3] * sizes[4] <= MOST_IN_BYTES:
            kernel = pooling.max_forward
        else:
            kernel = pooling.max_forward_wide
        return [Call(kernel, (*arrays, tensors.indexes("places"), *sizes))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Add each derivative to the place of its maximum, or spread it evenly."""
        shape = tensors.input_shapes[0]
        sizes = (tensors.n_samples * shape[0], *self._windows(shape))
        dy, dx = tensors.vector("out0:grad"), tensors.vector("in0:grad")
        if not self._is_global and self._has_spans(shape):
            if not self._is_max:
                return [Call(spans.span_average_derivative, (dy, dx, *sizes))]
            numbers = (sizes[0], shape[1] * shape[2], sizes[-2] * sizes[-1])
            places = tensors.indexes("places")
            return [Call(spans.span_max_derivative, (dy, places, dx, *numbers))]
        if self._is_max:
            kernel = pooling.max_derivative
            if self._is_global:
                kernel = pooling.plane_max_derivative
            return [Call(kernel, (dy, tensors.indexes("places"), dx, *sizes))]
        if self._is_global:
            return [Call(pooling.plane_average_derivative, (dy, dx, *sizes))]
        arguments = (dy, tensors.vector("row"), dx, *sizes)
        return [Call(pooling.average_derivative, arguments)]


_UPSAMPLINGS = {
    "nearest": (pooling.nearest_forward, pooling.nearest_derivative),
    "bilinear": (pooling.bilinear_forward, pooling.bilinear_derivative),
}


class Upsample2D(Layer):
    """Upsampling, by copies of the nearest element or by interpolation."""

    type_name = "upsample2d"
    reads = "pictures"
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property("upsample", choice(*_UPSAMPLINGS), "nearest", "nearest or bilinear"),
        Property(
            "kernel_size",
            POSITIVE_PAIR,
            None,
            "how many times more rows,columns (required)",
        ),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape with height and width times the factors."""
        channels, height, width = input_shapes[0]
        if self["kernel_size"] is None:
            raise self.mismatch("has no kernel_size; set it, for example 2,2")
        down, right = self["kernel_size"]
        out = (channels, height * down, width * right)
        flops = n_elems(out) * (1 if self["upsample"] == "nearest" else 9)
        return LayerSpec(
            output_shapes=(out,),
            flops=Flops(forward=flops, calc_derivative=flops),
        )

    def _call(self, tensors: Binding, which: int, x: str, y: str) -> list[Call]:
        """Return the forward call (`which` 0) or the derivative (1), from x to y."""
        channels, height, width = tensors.input_shapes[0]
        sizes = (tensors.n_samples * channels, height, width, *self["kernel_size"])
        arrays = (tensors.vector(x), tensors.vector(y))
        return [Call(_UPSAMPLINGS[self["upsample"]][which], (*arrays, *sizes))]

    def forward(self, tensors: Binding) -> list[Call]:
        """Copy or interpolate the elements of the input."""
        return self._call(tensors, 0, "in0", "out0")

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Sum for each input element the derivatives of the outputs that it entered."""
        return self._call(tensors, 1, "out0:grad", "in0:grad")
