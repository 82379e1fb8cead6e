"""Convolutions of one and two dimensions, depthwise and transposed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from arena_ckpt.kernels import convolution, depthwise
from arena_ckpt.kernels.conv_geometry import Convolution, Workspace
from arena_ckpt.kernels.jit import Kernel
from arena_ckpt.layers.base import (
    COMMON_PROPERTIES,
    Binding,
    Call,
    Flops,
    Layer,
    LayerSpec,
    Shape,
    TensorSpec,
    WeightSpec,
    format_shape,
)
from arena_ckpt.layers.dense import ACTIVATION, WEIGHT_PROPERTIES
from arena_ckpt.layers.windows import (
    PADDING_1D,
    PADDING_2D,
    Padding,
    PAIR,
    POSITIVE_PAIR,
    pad_1d,
    pad_2d,
)
from arena_ckpt.lifespan import TensorLifespan
from arena_ckpt.properties import BOOLEAN, POSITIVE_INT, Property

_FILTERS = Property("filters", POSITIVE_INT, None, "channels of the output (required)")
_REST = (
    Property("activation", ACTIVATION, "none", "becomes a layer of its own"),
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


class _Convolution(Layer):
    """What all have: a filter, perhaps a bias, and workspaces for each phase."""

    @property
    def has_bias(self) -> bool:
        """Neither ``bias=false`` nor ``disable_bias=true`` was set."""
        return bool(self["bias"]) and not self["disable_bias"]

    @abstractmethod
    def _geometry(self, shape: Shape) -> Convolution:
        """Return the sizes for an input of this shape."""

    def _required(self, name: str, example: str) -> Any:
        if self[name] is None:
            raise self.mismatch(f"has no {name}; set it, for example {name}={example}")
        return self[name]

    def _fits(self, convolution: Convolution) -> Convolution:
        """Refuse a kernel that is larger than the padded input."""
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
        regularized = self["weight_regularizer"] == "l2norm"
        constant = self["weight_regularizer_constant"] if regularized else 0.0
        weights = [
            WeightSpec(
                "filter",
                shape,
                self["weight_initializer"],
                fan_in=fan_in,
                fan_out=fan_out,
                lifespan=TensorLifespan.FORWARD_DERIV,
                decay=self["weight_decay"],
                regularizer_constant=constant,
            )
        ]
        if self.has_bias:
            weights.append(
                WeightSpec(
                    "bias",
                    (outputs,),
                    self["bias_initializer"],
                    fan_in=fan_in,
                    fan_out=fan_out,
                    lifespan=TensorLifespan.FORWARD,
                    decay=self["bias_decay"],
                )
            )
        return tuple(weights)

    def _run(
        self,
        kernel: Kernel,
        geometry: Convolution,
        workspace: Workspace,
        tensors: Binding,
        phase: str,
        source: str,
        target: str,
        *,
        with_bias: bool,
    ) -> Call:
        """Return the call of `conv_forward` or `conv_derivative`."""
        bias = tensors.vector("bias" if with_bias else "filter")
        return Call(
            kernel,
            (
                *(tensors.vector(source), tensors.vector("filter")),
                *(bias, int(with_bias)),
                *_workspace(tensors, phase),
                *(tensors.vector(target), tensors.n_samples),
                *geometry.numbers,
                *(workspace.samples, min(workspace.group, tensors.n_samples)),
            ),
        )

    def _bias_gradient(self, tensors: Binding, plane: int) -> list[Call]:
        if not self.has_bias:
            return []
        beta = 1.0 if tensors.accumulate else 0.0
        arguments = (tensors.vector("out0:grad"), beta, tensors.vector("bias:grad"))
        arguments += (tensors.n_samples, plane)
        return [Call(convolution.conv_bias_gradient, arguments)]


def _workspace_specs(
    forward: Workspace, gradient: Workspace, derivative: Workspace
) -> tuple[TensorSpec, ...]:
    """Return two tensors for each phase: padded pictures, and a table of offsets."""
    lifespans = (
        ("forward", forward, TensorLifespan.FORWARD),
        ("gradient", gradient, TensorLifespan.CALC_GRADIENT),
        ("derivative", derivative, TensorLifespan.CALC_DERIVATIVE),
    )
    return tuple(
        TensorSpec(f"{phase}_{name}", (elems,), lifespan, per_sample=False, dtype=dtype)
        for phase, workspace, lifespan in lifespans
        for name, elems, dtype in (
            ("pictures", workspace.elems, "float32"),
            ("offsets", workspace.table_elems, "int32"),
        )
    )


def _workspace(tensors: Binding, phase: str) -> tuple[Any, Any]:
    return tensors.vector(f"{phase}_pictures"), tensors.indexes(f"{phase}_offsets")


def _pointwise(convolution: Convolution) -> Convolution:
    """Take a convolution that looks at one element only for one of a single row."""
    is_pointwise = convolution.kernel == convolution.stride == (1, 1)
    if not is_pointwise or any(convolution.padding):
        return convolution
    return Convolution(
        convolution.channels,
        1,
        convolution.height * convolution.width,
        convolution.filters,
        *((1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
    )


class Convolution2D(_Convolution):
    """``out0[f] = bias[f] + Σ_c in0[c] ⋆ filter[f, c]`` (cross-correlation)."""

    type_name = "conv2d"
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        *(_FILTERS, _KERNEL, _STRIDE, _DILATION, _PADDING),
        *_REST,
    )

    def _geometry(self, shape: Shape) -> Convolution:
        filters = self._required("filters", "16")
        kernel = self._required("kernel_size", "3,3")
        padding = pad_2d(
            self["padding"], shape, kernel, self["stride"], self["dilation"]
        )
        return self._fits(
            Convolution(
                *(*shape, filters, kernel),
                *(self["stride"], self["dilation"], padding),
            )
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
        return _pointwise(self._geometry(tensors.shape("in0")))

    def forward(self, tensors: Binding) -> list[Call]:
        """Sum over channels and taps."""
        geometry = self._kernels(tensors)
        workspace = geometry.forward_workspace()
        run = (convolution.conv_forward, geometry, workspace, tensors, "forward")
        return [self._run(*run, "in0", "out0", with_bias=self.has_bias)]
