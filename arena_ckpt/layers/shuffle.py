"""Layers that move channels: between each other, or into height and width."""

from __future__ import annotations

from typing import ClassVar

from arena_ckpt.common.properties import POSITIVE_INT, Property
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.spec import LayerSpec, Shape
from arena_ckpt.operations.families import rearrange


class PixelShuffle(Layer):
    """Make a square of pixels of each factor² channels: a larger picture of fewer.

    ``out0[c, h r + i, w r + j] = in0[c r² + i r + j, h, w]`` with the factor r.
    """

    type_name = "pixel_shuffle"
    moves_elements = True
    reads = "pictures"
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property(
            "upscale_factor",
            POSITIVE_INT,
            None,
            "how many times more rows and columns (required)",
        ),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape with fewer channels and larger planes."""
        channels, height, width = input_shapes[0]
        factor = self["upscale_factor"]
        if factor is None:
            raise self.mismatch(
                "has no upscale_factor; set it, for example upscale_factor=2"
            )
        if channels % factor**2:
            raise self.mismatch(
                f"makes pixels of {factor**2} channels each (upscale_factor={factor}), "
                f"which do not divide its {channels} channels; set another factor, or "
                f"a multiple of {factor**2} filters before it",
                channels=channels,
                upscale_factor=factor,
            )
        out = (channels // factor**2, height * factor, width * factor)
        return LayerSpec(output_shapes=(out,))

    def forward(self, tensors: Binding) -> list[Call]:
        """Transpose, for each row of a square, its columns and those of the picture."""
        channels, height, width = tensors.input_shapes[0]
        r, plane = self["upscale_factor"], height * width
        planes = tensors.n_samples * channels // r**2
        x, y = tensors.vector("in0"), tensors.vector("out0")
        sizes = (planes, height, r, width)
        places = (r * r * plane, width, plane, r * r * plane, r * r * width, r)
        return [
            Call(
                rearrange.transpose,
                (x[i * r * plane :], y[i * r * width :], *sizes, *places),
            )
            for i in range(r)
        ]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Transpose the derivatives back."""
        channels, height, width = tensors.input_shapes[0]
        r, plane = self["upscale_factor"], height * width
        planes = tensors.n_samples * channels // r**2
        dy, dx = tensors.vector("out0:grad"), tensors.vector("in0:grad")
        sizes = (planes, height, width, r)
        places = (r * r * plane, r * r * width, r, r * r * plane, width, plane)
        return [
            Call(
                rearrange.transpose,
                (dy[i * r * width :], dx[i * r * plane :], *sizes, *places),
            )
            for i in range(r)
        ]


class ChannelShuffle(Layer):
    """Deal out the channels of each group in turn, so that groups mix."""

    type_name = "channel_shuffle"
    moves_elements = True
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property(
            "groups",
            POSITIVE_INT,
            None,
            "groups of as many channels each, which are mixed (required)",
        ),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input."""
        groups, channels = self["groups"], input_shapes[0][0]
        if groups is None:
            raise self.mismatch("has no groups; set it, for example groups=2")
        if channels % groups:
            raise self.mismatch(
                f"has groups={groups}, which do not divide its {channels} channels; "
                "set groups to a divisor",
                groups=groups,
                channels=channels,
            )
        return LayerSpec(output_shapes=input_shapes)

    def _call(self, tensors: Binding, groups: int, x: str, y: str) -> list[Call]:
        channels, height, width = tensors.input_shapes[0]
        plane, each = height * width, channels // groups
        arrays = (tensors.vector(x), tensors.vector(y))
        sizes = (tensors.n_samples, groups, each, plane)
        x_places = (0, channels * plane, each * plane, plane)
        y_places = (0, channels * plane, plane, groups * plane)
        return [Call(rearrange.copy_rows, (*arrays, *sizes, *x_places, *y_places))]

    def forward(self, tensors: Binding) -> list[Call]:
        """Copy channel i of group g to place i · groups + g."""
        return self._call(tensors, self["groups"], "in0", "out0")

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Copy the derivatives back: as many groups as channels of a group."""
        groups = tensors.input_shapes[0][0] // self["groups"]
        return self._call(tensors, groups, "out0:grad", "in0:grad")
