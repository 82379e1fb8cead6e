"""Convolution layers of one and two dimensions, depthwise and transposed."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from arena_ckpt.common.arithmetics import PORTABLE
from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import BOOLEAN, POSITIVE_INT, Property
from arena_ckpt.layers import grouped
from arena_ckpt.layers.base import COMMON_PROPERTIES, Binding, Call, Layer, beta_of
from arena_ckpt.layers.functions import ACTIVATION_PROPERTY
from arena_ckpt.layers.lora import LORA_PROPERTIES, with_lora
from arena_ckpt.layers.partial import read_for
from arena_ckpt.layers.spec import (
    LayerSpec,
    Shape,
    TensorSpec,
    WeightSpec,
    format_shape,
    n_elems,
)
from arena_ckpt.layers.weighted import (
    WEIGHT_PROPERTIES,
    WithBias,
    bias_spec,
    weight_spec,
)
from arena_ckpt.layers.windows import (
    COUNT_PAIR,
    PADDING_1D,
    PADDING_2D,
    POSITIVE_PAIR,
    pad_1d,
    pad_2d,
)
from arena_ckpt.layers.workspaces import workspace_of, workspace_specs
from arena_ckpt.operations.convolution import Convolution, Workspace
from arena_ckpt.operations.families import convolution, direct
from arena_ckpt.operations.kernel_names import KernelName

_FILTERS = Property("filters", POSITIVE_INT, None, "channels of the output (required)")
_REST = (
    ACTIVATION_PROPERTY,
    Property("disable_bias", BOOLEAN, False, "true leaves the bias out"),
    Property("bias", BOOLEAN, True, "false leaves the bias out"),
    *WEIGHT_PROPERTIES,
)
_GROUPS = Property(
    "groups",
    POSITIVE_INT,
    1,
    "filters read the channels of their group alone; divides channels and filters",
)
_KERNEL = Property(
    "kernel_size", POSITIVE_PAIR, None, "height,width of a filter (required)"
)
_STRIDE = Property("stride", POSITIVE_PAIR, (1, 1), "step down and to the right")
_DILATION = Property("dilation", POSITIVE_PAIR, (1, 1), "distance between taps")
_PADDING = Property(
    "padding",
    PADDING_2D,
    (0, 0, 0, 0),
    "zeros around the input: one number, two (height,width), four "
    "(top,bottom,left,right), same or valid",
)


_ROLES = {"forward": ("in0", "out0"), "derivative": ("out0:grad", "in0:grad")}
"""What a convolution reads and writes in each phase."""


_DIRECT = {
    convolution.conv_forward: direct.direct_forward,
    convolution.conv_derivative: direct.direct_derivative,
}
"""Kernels that need no workspace, for portable arithmetic."""


class _Convolution(WithBias):
    """Base class of convolutions: a filter, a bias or none, and workspaces."""

    reads = "pictures"
    trains_by_weight = True

    @abstractmethod
    def _geometry(self, shape: Shape) -> Convolution:
        """Return the geometry of the convolution for an input of this shape."""

    def _required(self, name: str, example: str) -> Any:
        """Return the value of a property; refuse a layer without it."""
        if self[name] is None:
            raise self.mismatch(f"has no {name}; set it, for example {name}={example}")
        return self[name]

    def _fits(self, convolution: Convolution) -> Convolution:
        """Return a geometry; refuse a filter that is larger than the padded input."""
        top, bottom, left, right = convolution.padding
        for axis, size, padding, reach in (
            ("height", convolution.height, (top, bottom), convolution.reach[0]),
            ("width", convolution.width, (left, right), convolution.reach[1]),
        ):
            if reach + 1 > size + sum(padding):
                raise self.mismatch(
                    f"its kernel spans a {axis} of {reach + 1}, but the input has "
                    f"{size} and padding {padding[0]} + {padding[1]}; make the kernel "
                    "or the dilation smaller, or add padding",
                    axis=axis,
                    kernel=reach + 1,
                    padded_input=size + sum(padding),
                )
        return convolution

    def _weight_specs(
        self, shape: tuple[int, ...], outputs: int, fan_in: int, fan_out: int
    ) -> tuple[WeightSpec, ...]:
        """Return the filter of the given shape, and a bias of `outputs` elements."""
        weight = weight_spec(self, "filter", shape, fan_in=fan_in, fan_out=fan_out)
        if not self.has_bias:
            return (weight,)
        bias = bias_spec(self, "bias", outputs, fan_in=fan_in, fan_out=fan_out)
        return weight, bias

    def _flops(self, products: int, out: Shape) -> Flops:
        """Return the operations of each phase; a bias alone has a cheap gradient."""
        reads = read_for(self, "filter")
        if reads & TensorLifespan.CALC_GRADIENT:
            return Flops(products, products, products)
        return Flops(products, n_elems(out), products)

    def _needed(self, workspaces: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        """Leave out the workspaces of a filter gradient that nobody makes."""
        if read_for(self, "filter") & TensorLifespan.CALC_GRADIENT:
            return workspaces
        gradient = TensorLifespan.CALC_GRADIENT
        return tuple(each for each in workspaces if each.lifespan != gradient)

    def _grouped_spec(self, sizes: Convolution, groups: int) -> LayerSpec:
        """Return filter (filters, channels / groups, height, width) and bias."""
        out = (sizes.filters, sizes.out_height, sizes.out_width)
        each = sizes.channels // groups
        flops = 2 * each * sizes.taps * out[0] * out[1] * out[2]
        return LayerSpec(
            output_shapes=(out,),
            weights=self._weight_specs(
                (sizes.filters, each, *sizes.kernel),
                sizes.filters,
                fan_in=each * sizes.taps,
                fan_out=sizes.filters // groups * sizes.taps,
            ),
            tensors=self._needed(grouped.workspaces(sizes, groups)),
            input_lifespan=read_for(self, "filter"),
            flops=self._flops(flops, out),
        )

    def _run(
        self,
        kernel: KernelName,
        geometry: Convolution,
        workspace: Workspace,
        tensors: Binding,
        phase: str,
    ) -> Call:
        """Return the call of `conv_forward` or `conv_derivative` in a phase.

        Parameters
        ----------
        kernel : KernelName
        geometry : Convolution
        workspace : Workspace
            The workspace that the kernel takes for this geometry; in portable
            arithmetic its twin takes none.
        tensors : Binding
        phase : str
            ``"forward"`` makes ``out0``, with the bias; ``"derivative"`` makes the
            derivative of ``in0``.
        """
        source, target = _ROLES[phase]
        with_bias = phase == "forward" and self.has_bias
        bias = tensors.vector("bias") if with_bias else tensors.vector("filter")[:0]
        is_direct = tensors.arithmetic == PORTABLE
        groups = (workspace.samples, min(workspace.group, tensors.n_samples))
        return Call(
            _DIRECT[kernel] if is_direct else kernel,
            (
                tensors.vector(source),
                tensors.vector("filter"),
                bias,
                int(with_bias),
                *workspace_of(tensors, phase),
                tensors.vector(target),
                tensors.n_samples,
                *geometry.numbers,
                *(() if is_direct else groups),
            ),
        )

    def _gradient(
        self, geometry: Convolution, tensors: Binding, x: str, dy: str
    ) -> Call:
        """Return the call of `conv_gradient`."""
        is_direct = tensors.arithmetic == PORTABLE
        group = min(geometry.gradient_workspace().group, tensors.n_samples)
        return Call(
            direct.direct_gradient if is_direct else convolution.conv_gradient,
            (
                tensors.vector(x),
                tensors.vector(dy),
                beta_of(tensors),
                *workspace_of(tensors, "gradient"),
                tensors.vector("filter:grad"),
                tensors.n_samples,
                *geometry.numbers,
                *(() if is_direct else (group, 0, geometry.filters)),
            ),
        )

    def _bias_gradient(self, tensors: Binding, plane: int) -> list[Call]:
        """Return the call that sums derivatives over samples and `plane` elements."""
        if not self.has_bias or not tensors.is_wanted("bias:grad"):
            return []
        beta = beta_of(tensors)
        gradients = (tensors.vector("out0:grad"), beta, tensors.vector("bias:grad"))
        arguments = (*gradients, tensors.n_samples, plane)
        return [Call(convolution.conv_bias_gradient, arguments)]


def _pointwise(convolution: Convolution) -> Convolution:
    """Return the geometry of a single row where filters have one element.

    The kernels compute the same from it, faster. Any other geometry is returned as is.
    """
    is_pointwise = convolution.kernel == convolution.stride == (1, 1)
    if not is_pointwise or any(convolution.padding):
        return convolution
    return Convolution(
        convolution.channels,
        1,
        convolution.height * convolution.width,
        convolution.filters,
        (1, 1),
        (1, 1),
        (1, 1),
        (0, 0, 0, 0),
    )


class Convolution2D(_Convolution):
    """Cross-correlation: ``out0[f] = bias[f] + Σ_c in0[c] ⋆ filter[f, c]``."""

    type_name = "conv2d"
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        _FILTERS,
        _KERNEL,
        _STRIDE,
        _DILATION,
        _PADDING,
        _GROUPS,
        *LORA_PROPERTIES,
        *_REST,
    )

    def expand(self, input_shapes: tuple[Shape, ...]) -> tuple[Layer, ...]:
        """Return the layer, and a trained product beside it where it has a rank."""
        # A line of conv1d is a picture here, and has no rank.
        rank, channels = self.get("lora_rank"), input_shapes[0][0]
        if rank is None or self["filters"] is None:
            return (self,)
        one = (1, 1)
        if self["kernel_size"] != one or self["groups"] != 1:
            raise self.mismatch(
                "has lora_rank, which is for kernel_size=1,1 and one group; leave it "
                "out here",
                lora_rank=rank,
            )
        narrow = {"filters": rank, "kernel_size": one}
        narrow |= {name: self[name] for name in ("stride", "padding")}
        wide = {"filters": self["filters"], "kernel_size": one}
        return with_lora(self, (channels, self["filters"]), narrow, wide)

    def _geometry(self, shape: Shape) -> Convolution:
        filters = self._required("filters", "16")
        kernel = self._required("kernel_size", "3,3")
        grouped.check_groups(self, shape[0], filters, self["groups"])
        padding = pad_2d(
            self["padding"], shape, kernel, self["stride"], self["dilation"]
        )
        stride, dilation = self["stride"], self["dilation"]
        return self._fits(
            Convolution(*shape, filters, kernel, stride, dilation, padding)
        )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return filter (filters, channels / groups, height, width) and bias."""
        geometry = self._geometry(input_shapes[0])
        if self["groups"] > 1:
            return self._grouped_spec(geometry, self["groups"])
        kernels = _pointwise(geometry)
        channels, filters = geometry.channels, geometry.filters
        out = (filters, geometry.out_height, geometry.out_width)
        flops = 2 * channels * geometry.taps * filters * out[1] * out[2]
        return LayerSpec(
            output_shapes=(out,),
            weights=self._weight_specs(
                (filters, channels, *geometry.kernel),
                filters,
                fan_in=channels * geometry.taps,
                fan_out=filters * geometry.taps,
            ),
            tensors=self._needed(
                workspace_specs(
                    kernels.forward_workspace(),
                    kernels.gradient_workspace(),
                    kernels.derivative_workspace(),
                )
            ),
            input_lifespan=read_for(self, "filter"),
            flops=self._flops(flops, out),
        )

    def _kernels(self, tensors: Binding) -> Convolution:
        """Return the geometry that the kernels work with."""
        return _pointwise(self._geometry(tensors.input_shapes[0]))

    def forward(self, tensors: Binding) -> list[Call]:
        """Sum over channels and taps."""
        if self["groups"] > 1:
            sizes = self._geometry(tensors.input_shapes[0])
            groups, has_bias = self["groups"], self.has_bias
            return grouped.forward(sizes, groups, tensors, has_bias=has_bias)
        sizes = self._kernels(tensors)
        kernel, workspace = convolution.conv_forward, sizes.forward_workspace()
        return [self._run(kernel, sizes, workspace, tensors, "forward")]

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Sum over samples and outputs."""
        sizes = self._kernels(tensors)
        plane = sizes.out_height * sizes.out_width
        if not tensors.is_wanted("filter:grad"):
            calls = []
        elif self["groups"] > 1:
            sizes = self._geometry(tensors.input_shapes[0])
            calls = grouped.gradient(sizes, self["groups"], tensors)
        else:
            calls = [self._gradient(sizes, tensors, "in0", "out0:grad")]
        return [*calls, *self._bias_gradient(tensors, plane)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Sum over filters and taps."""
        if self["groups"] > 1:
            sizes = self._geometry(tensors.input_shapes[0])
            return grouped.derivative(sizes, self["groups"], tensors)
        sizes = self._kernels(tensors)
        kernel, workspace = convolution.conv_derivative, sizes.derivative_workspace()
        return [self._run(kernel, sizes, workspace, tensors, "derivative")]


class Convolution1D(Convolution2D):
    """Convolution along the last axis of an input of height 1."""

    type_name = "conv1d"
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        _FILTERS,
        Property("kernel_size", POSITIVE_INT, None, "width of a filter (required)"),
        Property("stride", POSITIVE_INT, 1, "step to the right"),
        Property("dilation", POSITIVE_INT, 1, "distance between taps"),
        Property(
            "padding",
            PADDING_1D,
            (0, 0),
            "zeros beside the input: one number, two (left,right), same, valid or "
            "causal",
        ),
        _GROUPS,
        *_REST,
    )

    def _geometry(self, shape: Shape) -> Convolution:
        if shape[1] != 1:
            raise self.mismatch(
                f"reads inputs of height 1, but {format_shape(shape)} has {shape[1]}; "
                "reshape it to channel:1:width, or use conv2d",
                shape=shape,
            )
        filters = self._required("filters", "16")
        kernel = self._required("kernel_size", "3")
        grouped.check_groups(self, shape[0], filters, self["groups"])
        stride, dilation = self["stride"], self["dilation"]
        left, right = pad_1d(self["padding"], shape[2], kernel, stride, dilation)
        return self._fits(
            Convolution(
                *shape,
                filters,
                (1, kernel),
                (1, stride),
                (1, dilation),
                (0, 0, left, right),
            )
        )


class TransposedConvolution2D(_Convolution):
    """Transposed convolution: computes the input derivative of a convolution."""

    type_name = "conv2dtranspose"
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        _FILTERS,
        _KERNEL,
        _STRIDE,
        _DILATION,
        Property(
            "padding",
            PADDING_2D,
            (0, 0, 0, 0),
            "rows and columns taken from the output: one number, two (height,width), "
            "four (top,bottom,left,right), same (output = input · stride) or valid",
        ),
        Property(
            "output_padding",
            COUNT_PAIR,
            (0, 0),
            "rows and columns added to the output at the bottom and right",
        ),
        *_REST,
    )

    def _geometry(self, shape: Shape) -> Convolution:
        """Return the geometry of the convolution from the output to the input."""
        channels, height, width = shape
        filters = self._required("filters", "16")
        kernel = self._required("kernel_size", "3,3")
        stride, dilation = self["stride"], self["dilation"]
        padding, more = self["padding"], self["output_padding"]
        if padding == "same":
            whole = (filters, height * stride[0], width * stride[1])
            padding = pad_2d(padding, whole, kernel, stride, dilation)
        top, bottom, left, right = pad_2d(padding, shape, kernel, stride, dilation)
        out_height = self._out_size("height", height, 0, top + bottom)
        out_width = self._out_size("width", width, 1, left + right)
        # No window reads the rows that output_padding adds at the bottom.
        return Convolution(
            filters,
            out_height,
            out_width,
            channels,
            kernel,
            stride,
            dilation,
            (top, bottom - more[0], left, right - more[1]),
        )

    def _out_size(self, axis: str, size: int, i: int, taken: int) -> int:
        """Return the size of the output along an axis.

        Parameters
        ----------
        axis : str
            ``"height"`` or ``"width"``, for messages.
        size : int
            Size of the input along the axis.
        i : int
            Place of the axis in the properties: 0 height, 1 width.
        taken : int
            Rows or columns that the padding takes from the output.
        """
        stride, dilation = self["stride"][i], self["dilation"][i]
        more = self["output_padding"][i]
        if more >= max(stride, dilation):
            raise self.mismatch(
                f"has output_padding {more} for its {axis}; make it smaller than the "
                f"stride ({stride}) or the dilation ({dilation})",
                axis=axis,
                output_padding=more,
            )
        whole = (size - 1) * stride + (self["kernel_size"][i] - 1) * dilation + 1 + more
        if taken >= whole:
            raise self.mismatch(
                f"its padding takes {taken} of a {axis} of {whole}; make it smaller",
                axis=axis,
                padding=taken,
            )
        return int(whole - taken)

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return filter (channels, filters, height, width) and bias (filters)."""
        sizes = self._geometry(input_shapes[0])
        channels, height, width = input_shapes[0]
        filters = sizes.channels
        out = (filters, sizes.height, sizes.width)
        flops = 2 * channels * sizes.taps * filters * height * width
        return LayerSpec(
            output_shapes=(out,),
            weights=self._weight_specs(
                (channels, filters, *sizes.kernel),
                filters,
                fan_in=channels * sizes.taps,
                fan_out=filters * sizes.taps,
            ),
            tensors=self._needed(
                workspace_specs(
                    sizes.derivative_workspace(),
                    sizes.gradient_workspace(),
                    sizes.forward_workspace(),
                )
            ),
            input_lifespan=read_for(self, "filter"),
            flops=self._flops(flops, out),
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Run the input derivative of the convolution."""
        sizes = self._geometry(tensors.input_shapes[0])
        kernel, workspace = convolution.conv_derivative, sizes.derivative_workspace()
        return [self._run(kernel, sizes, workspace, tensors, "forward")]

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Run the filter gradient of the convolution, input and output exchanged."""
        sizes = self._geometry(tensors.input_shapes[0])
        calls = []
        if tensors.is_wanted("filter:grad"):
            calls.append(self._gradient(sizes, tensors, "out0:grad", "in0"))
        return [*calls, *self._bias_gradient(tensors, sizes.height * sizes.width)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Run the convolution from the output derivative to that of the input."""
        sizes = self._geometry(tensors.input_shapes[0])
        kernel, workspace = convolution.conv_forward, sizes.forward_workspace()
        return [self._run(kernel, sizes, workspace, tensors, "derivative")]


class DepthwiseConvolution2D(_Convolution):
    """Depthwise convolution: ``out0[f] = bias[f] + in0[f // each] ⋆ filter[f]``."""

    type_name = "depthwiseconv2d"
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        Property(
            "filters",
            POSITIVE_INT,
            None,
            "may be given: as many as channels times depth_multiplier",
        ),
        Property("depth_multiplier", POSITIVE_INT, 1, "filters of each channel"),
        _KERNEL,
        _STRIDE,
        _DILATION,
        _PADDING,
        *_REST,
    )

    def _geometry(self, shape: Shape) -> Convolution:
        kernel = self._required("kernel_size", "3,3")
        each = self["depth_multiplier"]
        filters = each * shape[0]
        if self["filters"] not in (None, filters):
            raise self.mismatch(
                f"has filters={self['filters']}, but "
                f"{'one filter' if each == 1 else f'{each} filters'} for each of "
                f"{shape[0]} channels; leave filters out, or set depth_multiplier",
                filters=self["filters"],
                channels=shape[0],
            )
        stride, dilation = self["stride"], self["dilation"]
        padding = pad_2d(self["padding"], shape, kernel, stride, dilation)
        return self._fits(
            Convolution(*shape, filters, kernel, stride, dilation, padding)
        )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return filter (channels · multiplier, 1, height, width) and bias."""
        sizes = self._geometry(input_shapes[0])
        return self._grouped_spec(sizes, sizes.channels)

    def forward(self, tensors: Binding) -> list[Call]:
        """Filter each channel by itself."""
        sizes = self._geometry(tensors.input_shapes[0])
        return grouped.forward(sizes, sizes.channels, tensors, has_bias=self.has_bias)

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Sum over samples and outputs."""
        sizes = self._geometry(tensors.input_shapes[0])
        calls = []
        if tensors.is_wanted("filter:grad"):
            calls = grouped.gradient(sizes, sizes.channels, tensors)
        plane = sizes.out_height * sizes.out_width
        return [*calls, *self._bias_gradient(tensors, plane)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Filter each channel of the derivative with the flipped filters."""
        sizes = self._geometry(tensors.input_shapes[0])
        return grouped.derivative(sizes, sizes.channels, tensors)
