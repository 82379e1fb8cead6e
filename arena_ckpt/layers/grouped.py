"""Convolutions whose filters read the channels of their group alone.

Groups of one channel and one filter are a depthwise convolution, which has kernels of
its own. All others have the same kernels in either arithmetic, and no workspace.
"""

from __future__ import annotations

from typing import cast

from arena_ckpt.common.arithmetics import PORTABLE
from arena_ckpt.layers.base import Binding, Call, Layer, beta_of
from arena_ckpt.layers.spec import TensorSpec
from arena_ckpt.layers.workspaces import workspace_of, workspace_specs
from arena_ckpt.operations.convolution import Convolution
from arena_ckpt.operations.families import depthwise, direct_depthwise, grouped
from arena_ckpt.operations.kernel_names import KernelName


def check_groups(layer: Layer, channels: int, filters: int, groups: int) -> None:
    """Refuse groups that do not divide the channels or the filters of a layer.

    Raises
    ------
    ShapeMismatchError
    """
    for number, what in ((channels, "channels"), (filters, "filters")):
        if number % groups:
            raise layer.mismatch(
                f"has groups={groups}, which do not divide its {number} {what}; set "
                "groups to a divisor of both channels and filters",
                groups=groups,
                channels=channels,
                filters=filters,
            )


def is_depthwise(sizes: Convolution, groups: int) -> bool:
    """Return whether each filter reads one channel, and each channel has one filter."""
    return groups == sizes.channels == sizes.filters


def workspaces(sizes: Convolution, groups: int) -> tuple[TensorSpec, ...]:
    """Return the workspaces of the kernels of a convolution in groups."""
    if is_depthwise(sizes, groups):
        return workspace_specs(*sizes.depthwise_workspaces())
    return ()


def _kernel(
    sizes: Convolution, groups: int, tensors: Binding, phase: str
) -> tuple[KernelName, tuple[object, ...], tuple[int, ...]]:
    """Return the kernel of a phase, its workspaces and its numbers.

    Parameters
    ----------
    sizes : Convolution
    groups : int
    tensors : Binding
    phase : str
        ``"forward"``, ``"gradient"`` or ``"derivative"``.
    """
    if not is_depthwise(sizes, groups):
        kernel = getattr(grouped, f"grouped_{phase}")
        numbers = (groups, tensors.n_samples, *sizes.numbers)
        return cast(KernelName, kernel), (), numbers
    if tensors.arithmetic == PORTABLE:
        kernel = getattr(direct_depthwise, f"direct_depthwise_{phase}")
    else:
        kernel = getattr(depthwise, f"depthwise_{phase}")
    numbers = (tensors.n_samples, *sizes.numbers)
    if kernel == depthwise.depthwise_gradient:
        numbers = (*numbers, 0, sizes.channels)
    return cast(KernelName, kernel), workspace_of(tensors, phase), numbers


def forward(
    sizes: Convolution, groups: int, tensors: Binding, *, has_bias: bool
) -> list[Call]:
    """Return the call that sums over the channels of each group and over taps."""
    kernel, workspace, numbers = _kernel(sizes, groups, tensors, "forward")
    operands = (
        tensors.vector("in0"),
        tensors.vector("filter"),
        tensors.vector("bias") if has_bias else tensors.vector("filter")[:0],
        int(has_bias),
    )
    return [Call(kernel, (*operands, *workspace, tensors.vector("out0"), *numbers))]


def gradient(sizes: Convolution, groups: int, tensors: Binding) -> list[Call]:
    """Return the call that sums over samples and outputs."""
    kernel, workspace, numbers = _kernel(sizes, groups, tensors, "gradient")
    operands = tensors.vector("in0"), tensors.vector("out0:grad"), beta_of(tensors)
    result = tensors.vector("filter:grad")
    return [Call(kernel, (*operands, *workspace, result, *numbers))]


def derivative(sizes: Convolution, groups: int, tensors: Binding) -> list[Call]:
    """Return the call that sums over the filters of each group and over taps."""
    kernel, workspace, numbers = _kernel(sizes, groups, tensors, "derivative")
    operands = tensors.vector("out0:grad"), tensors.vector("filter")
    result = tensors.vector("in0:grad")
    return [Call(kernel, (*operands, *workspace, result, *numbers))]
