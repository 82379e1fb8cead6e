"""One layer under a linear one, compared with a function of PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from helpers.strategies import ModelSpec

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(
    torch is None, reason="PyTorch, the outside judge, is absent"
)
Array = npt.NDArray[Any]
Shape = tuple[int, int, int]
TOLERANCE = 1e-5
N = 5


@dataclass(frozen=True)
class Probe:
    """A layer after a linear layer, so that its input has a derivative, before mse."""

    kind: str
    shape: Shape
    values: Mapping[str, Any]

    @property
    def layers(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        linear = {"name": "pre", "unit": self.shape[2], "bias": False}
        return (
            ("input", {"name": "in", "input_shape": self.shape}),
            ("fully_connected", linear),
            (self.kind, {"name": "it", **self.values}),
            ("mse", {"name": "loss"}),
        )

    @property
    def spec(self) -> ModelSpec:
        properties = {"batch_size": N, "memory_optimization": False}
        return ModelSpec(self.layers, properties=properties)


def run(probe: Probe, x: Array | None = None) -> dict[str, Array]:
    """Return everything a step of `probe` computes; mse hands on dy = 2 everywhere."""
    model = probe.spec.initialized()
    generator = np.random.default_rng(1)
    weights = {
        name: (generator.normal(size=w.shape) / 2).astype(np.float32)
        for name, w in model.weights().items()
    }
    weights["pre:weight"] = np.eye(probe.shape[2], dtype=np.float32)
    model.set_weights(weights)
    if x is None:
        x = generator.normal(size=(N, *probe.shape)).astype(np.float32)
    y = model.predict(x)
    dy = generator.normal(size=y.shape).astype(np.float32)
    _, gradients = model.compute_gradients(x, y - dy * (y.size / 2))
    assert model._session is not None
    views = model._session.views
    return {
        "x": x,
        "y": y.reshape(N, *probe.spec.model().make_plan().layers[2].output_shape),
        "dy": views.named("it:out0:grad").copy(),
        "dx": views.named("pre:out0:grad").copy(),
        **{f"d {name}": g for name, g in gradients.items()},
        **weights,
    }


def assert_near(found: Array, expected: Any, what: str) -> None:
    expected = expected.detach().numpy()
    assert found.shape == expected.shape, what
    largest = float(np.abs(expected).max())
    assert np.abs(found - expected).max() <= TOLERANCE * largest + 1e-7, what


def assert_is(probe: Probe, function: Callable[[Any, dict[str, Any]], Any]) -> None:
    """Compare with PyTorch; `function` gets the input and the weights by name."""
    ours = run(probe)
    x = torch.tensor(ours["x"], requires_grad=True)
    weights = {
        name.partition(":")[2]: torch.tensor(w, requires_grad=True)
        for name, w in ours.items()
        if name.startswith("it:")
    }
    y = function(x, weights)
    y.backward(torch.tensor(ours["dy"].reshape(tuple(y.shape))))
    assert_near(ours["y"], y, "output")
    assert_near(ours["dx"].reshape(ours["x"].shape), x.grad, "input derivative")
    for name, weight in weights.items():
        assert_near(ours[f"d it:{name}"], weight.grad, f"gradient of {name}")


def padded(x: Any, top: int, bottom: int, left: int, right: int) -> Any:
    return torch.nn.functional.pad(x, (left, right, top, bottom))
