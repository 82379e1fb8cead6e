"""The models of the zoo run in PyTorch: forward, backward, the same each time."""

from __future__ import annotations

import pytest
from helpers import torch_zoo

torch = pytest.importorskip("torch", reason="PyTorch is absent")


def test_there_are_enough_models_in_every_family() -> None:
    assert len(torch_zoo.names()) >= 46
    for family in set(torch_zoo.FAMILIES.values()):
        assert list(torch_zoo.FAMILIES.values()).count(family) >= 4, family


def tensors(outputs: object) -> list[torch.Tensor]:
    if isinstance(outputs, dict):
        return list(outputs.values())
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


@pytest.mark.parametrize("name", torch_zoo.names())
def test_every_model_runs_and_every_weight_gets_a_gradient(name: str) -> None:
    module, inputs, loss = torch_zoo.build(name)
    assert module.training
    assert {x.dtype for x in inputs} <= {torch.float32, torch.int64}
    size = sum(weight.numel() for weight in module.parameters())
    assert size < 200_000
    outputs = tensors(module(*inputs))
    assert len(outputs) == (len(loss) if isinstance(loss, list) else 1)
    if loss == "output":
        (total,) = outputs
        assert total.shape == ()
    else:
        total = sum(out.square().mean() for out in outputs)
    total.backward()
    assert total.isfinite()
    for weight_name, weight in module.named_parameters():
        if weight.requires_grad:
            assert weight.grad is not None, weight_name
            assert weight.grad.isfinite().all(), weight_name


def test_a_model_is_the_same_each_time_it_is_built() -> None:
    first, again = (torch_zoo.build("gcn") for _ in range(2))
    values, others = first.module.state_dict(), again.module.state_dict()
    assert all(torch.equal(values[name], others[name]) for name in values)
    assert torch.equal(first.example_inputs[0], again.example_inputs[0])
