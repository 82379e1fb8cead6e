"""Optimizers of PyTorch: what maps, what is refused, and the same steps after it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arena_ckpt as ac
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.importers.torch_optimizer import optimizer_from_torch

torch = pytest.importorskip("torch", reason="PyTorch is absent")
optim = torch.optim

MAPPED = [
    (optim.SGD, {"lr": 0.1}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (optim.Adam, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3}),
    (optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    (optim.AdamW, {"lr": 0.01}),
    (optim.RMSprop, {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "momentum": 0.5}),
    (optim.RMSprop, {"weight_decay": 0.1}),
]


@pytest.mark.parametrize(("kind", "options"), MAPPED, ids=str)
def test_a_few_steps_are_those_of_pytorch(kind: Any, options: dict[str, Any]) -> None:
    start = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    weight = torch.nn.Parameter(torch.tensor(start))
    theirs = kind([weight], **options)
    ours, decay = optimizer_from_torch(theirs)
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:1:3")
    model.add_layer("fully_connected", name="fc", unit=2, bias=False)
    model.replace_layer("fc", weight_decay=decay)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=4)
    model.set_optimizer(ours)
    model.initialize()
    model.set_weights({"fc:weight": start.T})
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    x, y = x.astype(np.float32), y.astype(np.float32)
    for _ in range(3):
        model.train_step(x, y)
        theirs.zero_grad()
        loss = ((torch.tensor(x) @ weight.T - torch.tensor(y)) ** 2).mean()
        loss.backward()
        theirs.step()
    found = model.weights()["fc:weight"].reshape(3, 2).T
    np.testing.assert_allclose(found, weight.detach().numpy(), rtol=1e-4, atol=1e-5)


def parameter() -> Any:
    return torch.nn.Parameter(torch.zeros(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.Adam([parameter()], amsgrad=True), "amsgrad=True of the Adam"),
        (lambda: optim.SGD([parameter()], 0.1, maximize=True), "maximize=True"),
        (lambda: optim.SGD([parameter()], 0.1, 0.9, 0.5), "dampening=0.5 of the SGD"),
        (lambda: optim.RMSprop([parameter()], centered=True), "centered=True"),
        (lambda: optim.Adagrad([parameter()]), "Adagrad has no counterpart; .*SGD"),
        (lambda: "adam", "no optimizer of PyTorch"),
        (
            lambda: optim.SGD(
                [{"params": [parameter()], "lr": 1.0}, {"params": [parameter()]}], 0.1
            ),
            "groups of the SGD differ in lr",
        ),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        optimizer_from_torch(make())


def test_an_optimizer_that_has_made_steps_is_refused() -> None:
    weight = parameter()
    made = optim.Adam([weight])
    weight.grad = torch.ones(3)
    made.step()
    with pytest.raises(InvalidParameterError, match="has made steps"):
        optimizer_from_torch(made)
