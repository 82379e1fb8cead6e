"""The node tests of the package `onnx` judge what imported operations compute.

`onnx_node_cases.txt` lists the cases that pass. It may only grow: a case that is taken
out of it is an operation that users lose.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from helpers.onnx_cases import TRAINING, all_cases, cases_in, outcome

pytest.importorskip(
    "onnx", reason="the package onnx, which reads ONNX files, is absent"
)

PASSED = tuple((Path(__file__).parent / "onnx_node_cases.txt").read_text().split())
AT_LEAST = 500
SAMPLED = {
    "batch_normalization": ("batchnorm_epsilon",),
    "clip": ("clip_splitbounds", "clip_min_greater_than_max"),
    "concat": ("concat_3d_axis_negative_2",),
    "conv": ("conv_with_autopad_same", "conv_with_strides_and_asymmetric_padding"),
    "convtranspose": ("convtranspose_pads", "convtranspose_autopad_same"),
    "depthtospace": ("depthtospace_example", "depthtospace_crd_mode_example"),
    "expand": ("expand_dim_changed",),
    "flatten": ("flatten_negative_axis2",),
    "gather": ("gather_2d_indices",),
    "gelu": ("gelu_tanh_1",),
    "gemm": ("gemm_all_attributes",),
    "gru": ("gru_bidirectional", "gru_batchwise"),
    "groupnormalization": ("group_normalization_epsilon",),
    "hardsigmoid": ("hardsigmoid_default",),
    "instance_normalization": ("instancenorm_epsilon",),
    "layernormalization": ("layer_normalization_3d_axis1_epsilon",),
    "leakyrelu": ("leakyrelu",),
    "logsoftmax": ("logsoftmax_axis_1",),
    "lstm": ("lstm_batchwise",),
    "matmul": ("matmul_bcast", "matmul_1d_3d"),
    "pad": ("constant_pad_axes",),
    "prelu": ("prelu_broadcast",),
    "reducel2": ("reduce_l2_negative_axes_keep_dims_random",),
    "resize": (
        "resize_upsample_scales_linear_align_corners",
        "resize_upsample_scales_nearest",
    ),
    "rmsnormalization": ("rms_normalization_3d_axis2_epsilon",),
    "rotaryembedding": ("rotary_embedding_interleaved",),
    "selu": ("selu",),
    "slice": ("slice_neg_steps",),
    "softmax": ("softmax_axis_0",),
    "split": ("split_2d_uneven_split_opset18",),
    "squeeze": ("squeeze_negative_axes",),
    "tile": ("tile",),
    "transpose": ("transpose_all_permutations_3",),
    "where": ("where_example",),
}
"""A case or two of some modules of the package."""

is_full = bool(os.environ.get("ARENA_CKPT_FULL"))


def test_the_list_of_cases_only_grows() -> None:
    assert len(set(PASSED)) == len(PASSED) >= AT_LEAST
    assert list(PASSED) == sorted(PASSED)
    assert {name for names in SAMPLED.values() for name in names} <= {*PASSED}


@pytest.mark.skipif(is_full, reason="all cases run")
def test_a_sample_of_recorded_outputs_is_predicted(tmp_path: Path) -> None:
    cases = cases_in(tuple(SAMPLED))
    sampled = [cases[name] for names in SAMPLED.values() for name in names]
    refused = {case.name: outcome(case, tmp_path) for case in sampled}
    assert {name: why for name, why in refused.items() if why != "passed"} == {}


@pytest.mark.skipif(not is_full, reason="ARENA_CKPT_FULL runs all cases")
def test_all_recorded_outputs_are_predicted_or_refused_by_name(tmp_path: Path) -> None:
    cases = all_cases()
    told = {
        name: outcome(case, tmp_path)
        for name, case in cases.items()
        if name not in TRAINING
    }
    passed = sorted(name for name, why in told.items() if why == "passed")
    lost = {name: told[name] for name in PASSED if told.get(name) != "passed"}
    assert lost == {}
    assert passed == list(PASSED), "add what passes now to onnx_node_cases.txt"
    reasons = Counter(why[:1] for why in told.values())
    assert reasons[""] == 0
