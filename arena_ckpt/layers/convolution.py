"""Convolution layers of one and two dimensions, depthwise and transposed."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, cast

from arena_ckpt.common.arithmetics import FAST, PORTABLE
from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import BOOLEAN, POSITIVE_INT, Property
from arena_ckpt.layers.base import COMMON_PROPERTIES, Binding, Call, beta_of
from arena_ckpt.layers.functions import ACTIVATION_PROPERTY
from arena_ckpt.layers.spec import (
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
from arena_ckpt.layers.windows import (
    COUNT_PAIR,
    PADDING_1D,
    PADDING_2D,
    POSITIVE_PAIR,
    pad_1d,
    pad_2d,
)
from arena_ckpt.operations.convolution import Convolution, Workspace
from arena_ckpt.operations.families import (
    convolution,
    depthwise,
    direct,
    direct_depthwise,
)
from arena_ckpt.operations.kernel_names import KernelName

_FILTERS = Property("filters", POSITIVE_INT, None, "channels of the output (required)")
_REST = (
    ACTIVATION_PROPERTY,
    Property("disable_bias", BOOLEAN, False, "true leaves the bias out"),
    Property("bias", BOOLEAN, True, "false leaves the bias out"),
    *WEIGHT_PROPERTIES,
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
        bias = tensors.vector("bias" if with_bias else "filter")
        is_direct = tensors.arithmetic == PORTABLE
        groups = (workspace.samples, min(workspace.group, tensors.n_samples))
        return Call(
            _DIRECT[kernel] if is_direct else kernel,
            (
                tensors.vector(source),
                tensors.vector("filter"),
                bias,
                int(with_bias),
                *_workspace(tensors, phase),
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
                *_workspace(tensors, "gradient"),
                tensors.vector("filter:grad"),
                tensors.n_samples,
                *geometry.numbers,
                *(() if is_direct else (group,)),
            ),
        )

    def _bias_gradient(self, tensors: Binding, plane: int) -> list[Call]:
        """Return the call that sums derivatives over samples and `plane` elements."""
        if not self.has_bias:
            return []
        beta = beta_of(tensors)
        gradients = (tensors.vector("out0:grad"), beta, tensors.vector("bias:grad"))
        arguments = (*gradients, tensors.n_samples, plane)
        return [Call(convolution.conv_bias_gradient, arguments)]


def _workspace_specs(
    forward: Workspace, gradient: Workspace, derivative: Workspace
) -> tuple[TensorSpec, ...]:
    """Return the workspaces of each phase: padded pictures, and a table of offsets."""
    lifespans = (
        ("forward", forward, TensorLifespan.FORWARD),
        ("gradient", gradient, TensorLifespan.CALC_GRADIENT),
        ("derivative", derivative, TensorLifespan.CALC_DERIVATIVE),
    )
    return tuple(
        TensorSpec(
            f"{phase}_{name}",
            (elems,),
            lifespan,
            per_sample=False,
            dtype=dtype,
            arithmetic=FAST,
        )
        for phase, workspace, lifespan in lifespans
        for name, elems, dtype in (
            ("pictures", workspace.elems, "float32"),
            ("offsets", workspace.table_elems, "int32"),
        )
    )


def _workspace(tensors: Binding, phase: str) -> tuple[Any, ...]:
    """Return the workspaces of a phase, if the arithmetic has any.

    The phase is ``"forward"``, ``"gradient"`` or ``"derivative"``.
    """
    if tensors.arithmetic == PORTABLE:
        return ()
    return tensors.vector(f"{phase}_pictures"), tensors.indexes(f"{phase}_offsets")


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
        *_REST,
    )

    def _geometry(self, shape: Shape) -> Convolution:
        filters = self._required("filters", "16")
        kernel = self._required("kernel_size", "3,3")
        padding = pad_2d(
            self["padding"], shape, kernel, self["stride"], self["dilation"]
        )
        stride, dilation = self["stride"], self["dilation"]
        return self._fits(
            Convolution(*shape, filters, kernel, stride, dilation, padding)
        )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return filter (filters, channels, height, width) and bias (filters)."""
        geometry = self._geometry(input_shapes[0])
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
            tensors=_workspace_specs(
                kernels.forward_workspace(),
                kernels.gradient_workspace(),
                kernels.derivative_workspace(),
            ),
            input_lifespan=TensorLifespan.FORWARD_GRAD,
            flops=Flops(flops, flops, flops),
        )

    def _kernels(self, tensors: Binding) -> Convolution:
        """Return the geometry that the kernels work with."""
        return _pointwise(self._geometry(tensors.input_shapes[0]))

    def forward(self, tensors: Binding) -> list[Call]:
        """Sum over channels and taps."""
        sizes = self._kernels(tensors)
        kernel, workspace = convolution.conv_forward, sizes.forward_workspace()
        return [self._run(kernel, sizes, workspace, tensors, "forward")]

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Sum over samples and outputs."""
        sizes = self._kernels(tensors)
        call = self._gradient(sizes, tensors, "in0", "out0:grad")
        plane = sizes.out_height * sizes.out_width
        return [call, *self._bias_gradient(tensors, plane)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Sum over filters and taps."""
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
        flops = 2 * channels * sizes.taps * filters * height * width
        return LayerSpec(
            output_shapes=((filters, sizes.height, sizes.width),),
            weights=self._weight_specs(
                (channels, filters, *sizes.kernel),
                filters,
                fan_in=channels * sizes.taps,
                fan_out=filters * sizes.taps,
            ),
            tensors=_workspace_specs(
                sizes.derivative_workspace(),
                sizes.gradient_workspace(),
                sizes.forward_workspace(),
            ),
            input_lifespan=TensorLifespan.FORWARD_GRAD,
            flops=Flops(flops, flops, flops),
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Run the input derivative of the convolution."""
        sizes = self._geometry(tensors.input_shapes[0])
        kernel, workspace = convolution.conv_derivative, sizes.derivative_workspace()
        return [self._run(kernel, sizes, workspace, tensors, "forward")]

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Run the filter gradient of the convolution, input and output exchanged."""
        sizes = self._geometry(tensors.input_shapes[0])
        call = self._gradient(sizes, tensors, "out0:grad", "in0")
        return [call, *self._bias_gradient(tensors, sizes.height * sizes.width)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Run the convolution from the output derivative to that of the input."""
        sizes = self._geometry(tensors.input_shapes[0])
        kernel, workspace = convolution.conv_forward, sizes.forward_workspace()
        return [self._run(kernel, sizes, workspace, tensors, "derivative")]


def _depthwise(tensors: Binding, phase: str) -> KernelName:
    """Return the kernel of a phase in the arithmetic of the model."""
    if tensors.arithmetic == PORTABLE:
        return cast(KernelName, getattr(direct_depthwise, f"direct_depthwise_{phase}"))
    return cast(KernelName, getattr(depthwise, f"depthwise_{phase}"))


class DepthwiseConvolution2D(_Convolution):
    """Depthwise convolution: ``out0[c] = bias[c] + in0[c] ⋆ filter[c]``."""

    type_name = "depthwiseconv2d"
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        Property("filters", POSITIVE_INT, None, "may be given: as many as channels"),
        _KERNEL,
        _STRIDE,
        _DILATION,
        _PADDING,
        *_REST,
    )

    def _geometry(self, shape: Shape) -> Convolution:
        kernel = self._required("kernel_size", "3,3")
        if self["filters"] not in (None, shape[0]):
            raise self.mismatch(
                f"has filters={self['filters']}, but one filter for each of "
                f"{shape[0]} channels; leave filters out",
                filters=self["filters"],
                channels=shape[0],
            )
        stride, dilation = self["stride"], self["dilation"]
        padding = pad_2d(self["padding"], shape, kernel, stride, dilation)
        return self._fits(
            Convolution(*shape, shape[0], kernel, stride, dilation, padding)
        )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return filter (channels, 1, height, width) and bias (channels)."""
        sizes = self._geometry(input_shapes[0])
        out = (sizes.channels, sizes.out_height, sizes.out_width)
        flops = 2 * sizes.taps * out[0] * out[1] * out[2]
        return LayerSpec(
            output_shapes=(out,),
            weights=self._weight_specs(
                (sizes.channels, 1, *sizes.kernel),
                sizes.channels,
                fan_in=sizes.taps,
                fan_out=sizes.taps,
            ),
            tensors=_workspace_specs(*sizes.depthwise_workspaces()),
            input_lifespan=TensorLifespan.FORWARD_GRAD,
            flops=Flops(flops, flops, flops),
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Filter each channel by itself."""
        sizes = self._geometry(tensors.input_shapes[0])
        bias = tensors.vector("bias" if self.has_bias else "filter")
        return [
            Call(
                _depthwise(tensors, "forward"),
                (
                    tensors.vector("in0"),
                    tensors.vector("filter"),
                    bias,
                    int(self.has_bias),
                    *_workspace(tensors, "forward"),
                    tensors.vector("out0"),
                    tensors.n_samples,
                    *sizes.numbers,
                ),
            )
        ]

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Sum over samples and outputs."""
        sizes = self._geometry(tensors.input_shapes[0])
        call = Call(
            _depthwise(tensors, "gradient"),
            (
                tensors.vector("in0"),
                tensors.vector("out0:grad"),
                beta_of(tensors),
                *_workspace(tensors, "gradient"),
                tensors.vector("filter:grad"),
                tensors.n_samples,
                *sizes.numbers,
            ),
        )
        plane = sizes.out_height * sizes.out_width
        return [call, *self._bias_gradient(tensors, plane)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Filter each channel of the derivative with the flipped filter."""
        sizes = self._geometry(tensors.input_shapes[0])
        return [
            Call(
                _depthwise(tensors, "derivative"),
                (
                    tensors.vector("out0:grad"),
                    tensors.vector("filter"),
                    *_workspace(tensors, "derivative"),
                    tensors.vector("in0:grad"),
                    tensors.n_samples,
                    *sizes.numbers,
                ),
            )
        ]
