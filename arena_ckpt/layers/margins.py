"""The layer that puts margins around pictures."""

from __future__ import annotations

from typing import ClassVar

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.properties import Property, choice
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.spec import LayerSpec, Shape, format_shape, n_elems
from arena_ckpt.layers.windows import MARGINS, pad_2d
from arena_ckpt.operations.families import margins
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.sizes import MARGIN_REFLECT, MARGIN_REPLICATE, MARGIN_ZERO

_MODES = {
    "zero": MARGIN_ZERO,
    "reflect": MARGIN_REFLECT,
    "replicate": MARGIN_REPLICATE,
}


class Pad(Layer):
    """Put zeros, mirrored elements or those of the edge around each channel."""

    type_name = "pad"
    reads = "pictures"
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property(
            "padding",
            MARGINS,
            None,
            "rows and columns that are added: one number, two (height,width) or four "
            "(top,bottom,left,right) (required)",
        ),
        Property(
            "padding_mode",
            choice(*_MODES),
            "zero",
            "zero, reflect (mirrored without the edge) or replicate (the edge)",
        ),
    )

    def _padding(self, shape: Shape) -> tuple[int, int, int, int]:
        """Return the margins at top, bottom, left and right."""
        if self["padding"] is None:
            raise self.mismatch("has no padding; set it, for example padding=1")
        padding = pad_2d(self["padding"], shape, (1, 1), (1, 1))
        for axis, size, sides in (
            ("height", shape[1], padding[:2]),
            ("width", shape[2], padding[2:]),
        ):
            if self["padding_mode"] == "reflect" and max(sides) >= size:
                raise self.mismatch(
                    f"cannot mirror {max(sides)} elements of a {axis} of {size}, its "
                    f"edge left out ({format_shape(shape)}); make the padding smaller "
                    f"than {size}, or set padding_mode=replicate",
                    axis=axis,
                    padding=sides,
                    size=size,
                )
        return padding

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape with the margins."""
        channels, height, width = input_shapes[0]
        top, bottom, left, right = self._padding(input_shapes[0])
        out = (channels, height + top + bottom, width + left + right)
        return LayerSpec(
            output_shapes=(out,), flops=Flops(calc_derivative=n_elems(out))
        )

    def _call(self, tensors: Binding, kernel: KernelName, x: str, y: str) -> list[Call]:
        channels, height, width = tensors.input_shapes[0]
        _, out_height, out_width = tensors.output_shapes[0]
        top, _, left, _ = self._padding(tensors.input_shapes[0])
        sizes = (tensors.n_samples * channels, height, width, top, left)
        mode = _MODES[self["padding_mode"]]
        arrays = (tensors.vector(x), tensors.vector(y))
        return [Call(kernel, (*arrays, *sizes, out_height, out_width, mode))]

    def forward(self, tensors: Binding) -> list[Call]:
        """Copy the elements, and fill the margins."""
        return self._call(tensors, margins.pad_forward, "in0", "out0")

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Add for each element the derivatives of all places where it stands."""
        return self._call(tensors, margins.pad_derivative, "out0:grad", "in0:grad")
