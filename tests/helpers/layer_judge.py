"""One layer against PyTorch, in all its ways to run in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from arena_ckpt.common.phases import Phase
from arena_ckpt.layers.spec import Shape
from helpers.kernel_calls import assert_same_bits, normal
from helpers.layer_calls import Run

torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")


def assert_near(actual: Any, expected: Any, what: str, tolerance: float = 1e-5) -> None:
    """Near relative to the largest element of what PyTorch computed."""
    expected = expected.detach().numpy()
    assert actual.shape == expected.shape, what
    scale = float(np.abs(expected).max()) if expected.size else 0.0
    assert float(np.abs(actual - expected).max()) <= tolerance * scale + 1e-7, what


def judge_layer(
    kind: str,
    function: Callable[..., Any],
    inputs: list[Any],
    **values: Any,
) -> Run:
    """Compare a layer with a function of PyTorch; its ways in place with the plain.

    Parameters
    ----------
    kind : str
        Type of the layer, which has no weights.
    function : callable
        From the inputs as tensors to the output, or to several.
    inputs : list of float32 arrays
    **values
        Properties of the layer.
    """
    shapes: tuple[Shape, ...] = tuple(x.shape[1:] for x in inputs)
    run = Run(kind, shapes, len(inputs[0]), **values)
    derived = [i for i in range(len(inputs)) if i not in run.spec.fixed_inputs]
    theirs = [torch.from_numpy(x) for x in inputs]
    for i in derived:
        theirs[i].requires_grad_()
    made = function(*theirs)
    expected = list(made) if isinstance(made, (tuple, list)) else [made]
    outputs = run.forward(inputs)
    assert len(outputs) == len(expected)
    for k, (mine, judged) in enumerate(zip(outputs, expected, strict=True)):
        assert_near(mine, judged, f"out{k}")
    d_outputs = [normal(*y.shape, seed=9 + k) for k, y in enumerate(outputs)]
    grads = torch.autograd.grad(
        expected,
        [theirs[i] for i in derived],
        [torch.from_numpy(d) for d in d_outputs],
    )
    wanted = tuple(derived)
    derivatives = run.derivatives(inputs, outputs, d_outputs, wanted=wanted)
    for i, gradient in zip(derived, grads, strict=True):
        assert_near(derivatives[i], gradient, f"in{i}:grad")
        alone = run.derivatives(inputs, outputs, d_outputs, wanted=(i,))
        assert_same_bits(alone[i], derivatives[i])
    for over in run.ways_in_place(Phase.FORWARD):
        for mine, plain in zip(run.forward(inputs, over=over), outputs, strict=True):
            assert_same_bits(mine, plain)
    for over in run.ways_in_place(Phase.CALC_DERIVATIVE):
        again = run.derivatives(inputs, outputs, d_outputs, wanted=wanted, over=over)
        for i, plain in derivatives.items():
            assert_same_bits(again[i], plain)
    return run
