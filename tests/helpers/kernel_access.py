"""What each kernel does with its arrays: the facts that the harness of kernels holds.

An array that is not named is only read. A fact can depend on the call; then it is a
function of the arguments by name, which returns one of the words or, for each element,
whether it is written.
"""

from __future__ import annotations

import enum
import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.kernels.kernel import Kernel


class Access(enum.Enum):
    """What a kernel does with an array that it writes."""

    RESULT = "written, not read before"
    CHANGED = "read and written"
    SCRATCH = "a workspace: written before it is read, and nobody's result"


RESULT, CHANGED, SCRATCH = Access
Arguments = Mapping[str, Any]
Fact = Access | Callable[[Arguments], Access | npt.NDArray[np.bool_]]


def _by_beta(given: Arguments) -> Access:
    return RESULT if given["beta"] == 0 else CHANGED


def _places(size: int, *steps: tuple[int, int], first: int = 0) -> Any:
    """Mark the elements at first + Σ i · step for all i below each n of (n, step)."""
    at = np.array([first])
    for n, step in steps:
        at = (at[:, None] + step * np.arange(n)).reshape(-1)
    marked = np.zeros(size, bool)
    marked[at] = True
    return marked


def _window(given: Arguments) -> Any:
    if given["beta"] != 0:
        return CHANGED
    rows, columns = (given["m"], given["c_distance"]), (given["n"], 1)
    return _places(given["c"].size, rows, columns, first=given["c_place"])


def _copied_rows(given: Arguments) -> Any:
    steps = [(given[f"n{i}"], given[f"y{i}"]) for i in range(3)]
    first = given["y_from"]
    return _places(given["y"].size, *steps, (given["width"], 1), first=first)


def _transposed(given: Arguments) -> Any:
    return _places(
        given["y"].size,
        *((given["n0"], given["y0"]), (given["n1"], given["y1"])),
        *((given["columns"], given["y_column"]), (given["rows"], 1)),
    )


def _steps_out(given: Arguments) -> Any:
    """Mark all steps of an output that keeps them, or the last; maybe half of each."""
    width = given.get("out_width", given["unit"])
    rows, start = given["n"] * given["out_steps"], given.get("out_start", 0)
    return _places(given["out"].size, (rows, width), (given["unit"], 1), first=start)


def _masked_steps(given: Arguments) -> Any:
    """Mark some columns of the steps that are not valid."""
    is_masked = np.arange(given["steps"]) >= given["counts"][:, None]
    marked = np.zeros((given["n"], given["steps"], given["columns"]), bool)
    stop = given["start"] + given["width"]
    marked[:, :, given["start"] : stop] = is_masked[:, :, None]
    return marked.reshape(-1)


def _row_of_each(given: Arguments) -> Any:
    """Mark a row for each sample, maybe half of it."""
    rows = given["n"], given["y_columns"]
    width = given["width"] if "width" in given else given["unit"]
    return _places(given["y"].size, rows, (width, 1), first=given["y_start"])


ACCESS: dict[str, dict[str, Fact]] = {
    # activations
    "bias_*_forward": {"y": RESULT},
    "softmax_forward": {"y": RESULT},
    "softmax_backward": {"dx": RESULT},
    "softplus_forward": {"y": RESULT},
    "softplus_backward": {"dx": RESULT},
    **{
        f"{name}_{way}": {target: RESULT}
        for name in (
            *("mish", "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "tanh_gelu"),
            *("swish", "elu", "selu"),
        )
        for way, target in (("forward", "y"), ("backward", "dx"))
    },
    # curves
    "curve_*_forward": {"y": RESULT},
    "curve_*_backward": {"dx": RESULT},
    "affine": {"y": RESULT},
    "prelu_forward": {"y": RESULT},
    "prelu_derivative": {"dx": RESULT},
    "prelu_gradient": {"d_slopes": _by_beta},
    # arithmetic
    "broadcast_*": {"y": RESULT},
    "subtract": {"y": RESULT},
    "multiply": {"y": RESULT},
    "multiply_derivatives": {"da": RESULT, "db": RESULT},
    "divide": {"y": RESULT},
    "divide_derivatives": {"da": RESULT, "db": RESULT},
    "divisor_derivative": {"db": RESULT},
    "negative": {"y": RESULT},
    "square_root": {"y": RESULT},
    "square_root_derivative": {"dx": RESULT},
    "power": {"y": RESULT},
    "power_derivative": {"dx": RESULT},
    "repeat": {"y": RESULT},
    "sum_plain": {"y": RESULT},
    "sum_products": {"y": RESULT},
    "sum_quotients": {"y": RESULT},
    # choices
    "extreme": {"y": RESULT},
    "select": {"y": RESULT},
    "sum_extreme": {"da": RESULT},
    "sum_selected": {"dx": RESULT},
    # along an axis
    "axis_softmax_forward": {"y": RESULT},
    "axis_softmax_backward": {"dx": RESULT},
    "axis_extreme_forward": {"y": RESULT},
    "axis_extreme_derivative": {"dx": RESULT},
    "axis_product_forward": {"y": RESULT},
    "axis_product_derivative": {"dx": RESULT},
    "axis_norm_forward": {"y": RESULT},
    "axis_norm_derivative": {"dx": RESULT},
    "running_sum": {"y": RESULT},
    "gather_forward": {"y": RESULT, "loss": CHANGED},
    "gather_derivative": {"dx": RESULT},
    "axis_cosine_forward": {"y": RESULT},
    "axis_cosine_derivative": {"da": RESULT},
    # attention
    "tiled_forward*": {"out": RESULT, "lse": RESULT, "tile": SCRATCH},
    "plain_forward*": {"out": RESULT, "probabilities": RESULT, "tile": SCRATCH},
    "tiled_backward*": {
        **{"q": CHANGED, "k": CHANGED, "v": CHANGED},
        "work": SCRATCH,
    },
    "plain_backward*": {
        **{"q": CHANGED, "k": CHANGED, "v": CHANGED, "probabilities": CHANGED},
        "work": SCRATCH,
    },
    # products
    "matmul": {"c": RESULT},
    "matmul_transposed_a": {"c": _by_beta},
    "matmul_transposed_b": {"c": RESULT},
    "matmul_transposed_b_onto": {"c": _by_beta},
    "matmul_each": {"c": RESULT},
    "matmul_windows": {"c": _window},
    "chain_matmul": {"c": RESULT},
    "chain_transposed_a": {"c": _by_beta},
    "chain_transposed_b": {"c": RESULT},
    "chain_transposed_b_onto": {"c": _by_beta},
    "chain_each": {"c": RESULT},
    "chain_windows": {"c": _window},
    "chain_sgd_product": {"weight": CHANGED},
    # convolutions
    "conv_forward": {"pictures": SCRATCH, "table": SCRATCH, "y": RESULT},
    "conv_derivative": {"pictures": SCRATCH, "table": SCRATCH, "dx": RESULT},
    "conv_gradient": {"pictures": SCRATCH, "table": SCRATCH, "dw": _by_beta},
    "conv_bias_gradient": {"db": _by_beta},
    "direct_forward": {"y": RESULT},
    "direct_derivative": {"dx": RESULT},
    "direct_gradient": {"dw": _by_beta},
    "direct_depthwise_forward": {"y": RESULT},
    "direct_depthwise_derivative": {"dx": RESULT},
    "direct_depthwise_gradient": {"dw": _by_beta},
    "depthwise_forward": {"pictures": SCRATCH, "table": SCRATCH, "y": RESULT},
    "depthwise_derivative": {"pictures": SCRATCH, "table": SCRATCH, "dx": RESULT},
    "depthwise_gradient": {"pictures": SCRATCH, "table": SCRATCH, "dw": _by_beta},
    "grouped_forward": {"y": RESULT},
    "grouped_derivative": {"dx": RESULT},
    "grouped_gradient": {"dw": _by_beta},
    # elementwise
    "add_bias": {"y": RESULT},
    "copy": {"y": RESULT},
    "add_to": {"y": CHANGED},
    "add": {"y": RESULT},
    "fill": {"y": RESULT},
    "fill_doubles": {"y": RESULT},
    "count_up": {"counter": CHANGED},
    "one_hot": {"y": RESULT},
    # recurrent
    "gru_*_forward": {
        **{"gates": CHANGED, "a": SCRATCH, "h": RESULT, "product": SCRATCH},
        "out": _steps_out,
    },
    "gru_*_states": {
        "hidden": RESULT,
        "product": lambda given: SCRATCH if given["reset_after"] else RESULT,
    },
    "gru_*_backward": {
        "gates": CHANGED,
        "product": lambda given: CHANGED if given["reset_after"] else SCRATCH,
        **{"a": SCRATCH, "dh": CHANGED, "d_product": SCRATCH, "sums": RESULT},
    },
    "lstm_*_forward": {
        **{"gates": CHANGED, "z": SCRATCH, "h": RESULT, "c": RESULT},
        "out": _steps_out,
    },
    "lstm_*_states": {"cells": RESULT, "hidden": RESULT},
    "lstm_*_backward": {
        **{"gates": CHANGED, "dh": CHANGED, "dc": CHANGED, "sums": RESULT},
    },
    "rnn_*_forward": {
        **{"states": CHANGED, "a": SCRATCH, "h": RESULT, "out": _steps_out},
    },
    "rnn_*_backward": {
        **{"d_states": RESULT, "a": RESULT, "dh": CHANGED, "sums": RESULT},
    },
    "rnn_previous": {"hidden": RESULT},
    "count_steps": {"counts": RESULT, "loss": CHANGED},
    "fill_masked": {"x": _masked_steps},
    "reverse_valid": {"x": CHANGED},
    "take_last": {"y": _row_of_each},
    "add_last": {"dx": CHANGED},
    "last_cells": {"y": _row_of_each},
    "join_biases": {"joined": RESULT},
    "bias_from_sums": {"db": _by_beta},
    # losses
    "mse_loss": {"loss": CHANGED},
    "mse_derivative": {"dx": RESULT},
    "cross_softmax_loss": {"probabilities": RESULT, "loss": CHANGED},
    "cross_softmax_derivative": {"dx": RESULT},
    "cross_sigmoid_loss": {"probabilities": RESULT, "loss": CHANGED},
    "cross_sigmoid_derivative": {"dx": RESULT},
    "kld_loss": {"loss": CHANGED},
    "kld_derivative": {"dq": RESULT},
    "sum_samples": {"y": RESULT},
    "weigh_samples": {"scales": RESULT},
    "class_softmax_loss": {"probabilities": RESULT, "loss": CHANGED},
    "class_softmax_derivative": {"dx": RESULT},
    "mae_loss": {"loss": CHANGED},
    "mae_derivative": {"dx": RESULT},
    "huber_loss": {"loss": CHANGED},
    "huber_derivative": {"dx": RESULT},
    "mean_loss": {"loss": CHANGED},
    "mean_derivative": {"dx": RESULT},
    "class_probabilities": {"probabilities": RESULT},
    "weighted_*_loss": {"probabilities": RESULT, "loss": CHANGED},
    "weighted_*_derivative": {"dx": RESULT},
    "clip_values": {"y": RESULT},
    "scale_number": {"y": RESULT},
    "rmsprop": {"weight": CHANGED, "square_mean": CHANGED},
    "rmsprop_momentum": {
        **{"weight": CHANGED, "square_mean": CHANGED, "velocity": CHANGED},
    },
    "centered": {
        **{"weight": CHANGED, "square_mean": CHANGED, "gradient_mean": CHANGED},
    },
    "centered_momentum": {
        **{"weight": CHANGED, "square_mean": CHANGED, "gradient_mean": CHANGED},
        "velocity": CHANGED,
    },
    # normalization
    "layer_norm_forward": {"mean": RESULT, "inverse": RESULT, "y": RESULT},
    "layer_norm_gradient": {"d_gamma": _by_beta, "d_beta": _by_beta},
    "layer_norm_derivative": {"dx": RESULT},
    "strided_norm_forward": {"mean": RESULT, "inverse": RESULT, "y": RESULT},
    "strided_norm_gradient": {"d_gamma": _by_beta, "d_beta": _by_beta},
    "strided_norm_derivative": {"dx": RESULT},
    "rms_norm_forward": {"inverse": RESULT, "y": RESULT},
    "rms_norm_gradient": {"d_gamma": _by_beta},
    "rms_norm_derivative": {"dx": RESULT},
    "batch_norm_statistics": {"mean": RESULT, "inverse": RESULT},
    "moving_statistics": {"mean": RESULT, "inverse": RESULT},
    "move_statistics": {"moving_mean": CHANGED, "moving_variance": CHANGED},
    "batch_norm_forward": {"y": RESULT},
    "batch_norm_sums": {"sums": RESULT},
    "batch_norm_gradient": {"d_gamma": _by_beta, "d_beta": _by_beta},
    "batch_norm_derivative": {"dx": RESULT},
    "scale_channels": {"dx": RESULT},
    "group_norm_forward": {"y": RESULT},
    "group_norm_gradient": {"d_gamma": _by_beta, "d_beta": _by_beta},
    "group_norm_derivative": {"dx": RESULT},
    # pooling
    "max_forward": {"y": RESULT, "place": RESULT},
    "max_forward_wide": {"y": RESULT, "place": RESULT},
    "max_derivative": {"dx": RESULT},
    "average_forward": {"y": RESULT},
    "average_derivative": {"row_of_dy": SCRATCH, "dx": RESULT},
    "plane_max_forward": {"y": RESULT, "place": RESULT},
    "plane_max_derivative": {"dx": RESULT},
    "plane_average_forward": {"y": RESULT},
    "plane_average_derivative": {"dx": RESULT},
    "nearest_forward": {"y": RESULT},
    "nearest_derivative": {"dx": RESULT},
    "bilinear_forward": {"y": RESULT},
    "bilinear_derivative": {"dx": RESULT},
    "span_average_forward": {"y": RESULT},
    "span_average_derivative": {"dx": RESULT},
    "span_max_forward": {"y": RESULT, "place": RESULT},
    "span_max_derivative": {"dx": RESULT},
    "pad_forward": {"y": RESULT},
    "pad_derivative": {"dx": RESULT},
    # copies
    "copy_rows": {"y": _copied_rows},
    "place_rows": {"y": RESULT},
    "transpose": {"y": _transposed},
    # reductions
    "square_sum": {"sum_so_far": CHANGED},
    "clip_scale": {"scale": RESULT},
    "l2_penalty": {"loss": CHANGED},
    "l2_gradient": {"gradient": CHANGED},
    "count_nonfinite": {"count": RESULT},
    "count_unusable_in_mask": {"count": RESULT},
    "bias_gradient": {"db": _by_beta},
    # tokens
    "embedding_forward": {"y": RESULT, "loss": CHANGED},
    "embedding_gradient": {"d_weight": _by_beta},
    "add_positions": {"y": RESULT, "work": SCRATCH},
    "dropout": {"y": RESULT},
    "drop_path": {"y": RESULT},
    "swiglu_forward": {"y": RESULT},
    "swiglu_gate_derivative": {"da": RESULT},
    "swiglu_value_derivative": {"db": RESULT},
    "swiglu_derivatives": {"da": RESULT, "db": RESULT},
    # heads
    "rotate": {"y": RESULT},
    "masked_softmax": {"y": RESULT},
    # updates
    "sgd": {"weight": CHANGED},
    "sgd_product": {"weight": CHANGED},
    "sgd_momentum": {"weight": CHANGED, "velocity": CHANGED},
    "sgd_nesterov": {"weight": CHANGED, "velocity": CHANGED},
    **{
        name: {"weight": CHANGED, "first_moment": CHANGED, "second_moment": CHANGED}
        for name in ("adam", "adamw", "touched_adam")
    },
    # touched rows
    "touched_gradient": {"gradient": _by_beta},
    "touched_square_sum": {"sum_so_far": CHANGED},
    "touched_sgd": {"weight": CHANGED},
    "touched_momentum": {"weight": CHANGED, "velocity": CHANGED},
}
"""By name of the kernel; ``*`` stands for what a kernel is made for."""


def facts_of(kernel: Kernel) -> dict[str, Fact]:
    """Return what is said of a kernel; KeyError where nothing is."""
    if kernel.name in ACCESS:
        return ACCESS[kernel.name]
    for pattern, facts in ACCESS.items():
        if fnmatch.fnmatchcase(kernel.name, pattern):
            return facts
    raise KeyError(kernel.name)
