"""The models of the zoo are imported, and checked in full; few are refused, by name."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from helpers import torch_zoo
from helpers.scale import FULL

import arena_ckpt as ac

torch = pytest.importorskip("torch", reason="PyTorch is absent")

EXPECTED_GAPS = {
    "contrastive": "it mixes samples",
    "minibatch_discriminator": "it mixes samples",
    "mixture_top_one": "aten.topk",
    "spatial_transformer": "aten.affine_grid_generator",
    "vae_sampling": "aten.randn_like",
    "weight_norm": "aten._weight_norm",
}
"""What is refused, and what the message says of it. It may only become shorter."""

SAMPLE = (
    "lenet5",
    "mobilenet_v3",
    "resnet18_frozen_backbone",
    "vae",
    "neumf",
    "bilstm_classifier",
    "vit",
    "llama",
)
"""Of all families; a weight of its own, several inputs and a tied loss among them."""

IMPORTED = [name for name in torch_zoo.names() if name not in EXPECTED_GAPS]

MAX_CPU_SECONDS = 3.0
"""That an import takes beside `torch.export`."""


def test_few_models_are_refused() -> None:
    assert set(EXPECTED_GAPS) <= set(torch_zoo.names())
    assert len(EXPECTED_GAPS) <= 6
    assert len(IMPORTED) >= 120


@pytest.mark.parametrize("name", IMPORTED if FULL else SAMPLE)
def test_a_model_is_imported_and_what_it_computes_is_that_of_pytorch(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, inputs, loss = torch_zoo.build(name)
    export_seconds = time_exports(monkeypatch)
    began = time.process_time()
    ac.from_torch(module, inputs, loss)
    seconds = time.process_time() - began - sum(export_seconds)
    assert seconds < MAX_CPU_SECONDS
    imported = ac.from_torch(module, inputs, loss, check=True)
    assert imported.check.passed
    if loss != "output":
        assert_same_predictions(imported.model, module, inputs, loss)


def time_exports(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list that gets the CPU seconds of each `torch.export`."""
    spent, export = [], torch.export.export

    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        try:
            return export(*args, **kwargs)
        finally:
            spent.append(time.process_time() - began)

    monkeypatch.setattr(torch.export, "export", timed)
    return spent


def assert_same_predictions(
    model: ac.Model, module: Any, inputs: tuple[Any, ...], loss: Any
) -> None:
    """Compare with the module itself, in which nothing was captured."""
    with torch.no_grad():
        outputs = module.eval()(*inputs)
    if isinstance(outputs, dict):
        outputs = tuple(outputs.values())
    expected = outputs if isinstance(outputs, tuple) else (outputs,)
    losses = loss if isinstance(loss, list) else [loss]
    model.initialize()
    names = [layer.name for layer in model.layers if layer.type_name == "input"]
    arrays = [x.numpy() for x in inputs]
    found = model.predict(dict(zip(names, arrays, strict=True)))
    predictions = found.values() if isinstance(found, dict) else [found]
    for ours, theirs, one in zip(predictions, expected, losses, strict=True):
        wanted = after_loss(theirs, one).numpy()
        np.testing.assert_allclose(
            np.asarray(ours).reshape(wanted.shape), wanted, rtol=1e-4, atol=2e-5
        )


def after_loss(output: Any, loss: Any) -> Any:
    """Return what a loss predicts: probabilities, where it has some inside."""
    kind, properties = loss if isinstance(loss, tuple) else (loss, {})
    if kind == "cross_softmax":
        return output.softmax(properties.get("axis", -1))
    return output.sigmoid() if kind == "cross_sigmoid" else output


@pytest.mark.parametrize("name", EXPECTED_GAPS if FULL else ["contrastive"])
def test_a_gap_is_refused_with_its_line(name: str) -> None:
    module, inputs, loss = torch_zoo.build(name)
    with pytest.raises(ac.UnsupportedModelError) as refused:
        ac.from_torch(module, inputs, loss)
    assert EXPECTED_GAPS[name] in str(refused.value)
    assert f"torch_zoo/{torch_zoo.FAMILIES[name]}.py:" in str(refused.value)
