"""Files that PyTorch writes train as the modules that it wrote them from."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.scale import FULL

import arena_ckpt as ac
from arena_ckpt.definition.weight_links import to_foreign

pytest.importorskip("onnx", reason="the package onnx is absent")
torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")

nn, F = torch.nn, torch.nn.functional


class Pictures(nn.Module):
    """A residual network; a bias before a batch normalization has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False)
        self.bn2 = nn.BatchNorm2d(8, eps=1e-3, momentum=0.3)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        y = torch.tanh(self.bn1(self.conv1(x)))
        y = F.silu(self.bn2(self.conv2(y)) + y)
        y = F.adaptive_avg_pool2d(F.avg_pool2d(y, 2), 1)
        return self.fc(torch.flatten(y, 1))


class Parts(nn.Module):
    """Depthwise filters, upsampling, transposed filters, groups, a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3, 2, 1)
        self.d = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.p = nn.PReLU()
        self.t = nn.ConvTranspose2d(8, 4, 2, 2)
        self.g = nn.GroupNorm(2, 4)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid()
        )

    def forward(self, x: Any) -> Any:
        y = F.softplus(self.d(F.elu(self.c(x))))
        y = self.p(F.interpolate(y, scale_factor=2))
        y = self.g(self.t(F.avg_pool2d(y, 2)))
        y = y * self.gate(y)
        return F.interpolate(y, scale_factor=2, mode="bilinear").mean((2, 3))


class Tokens(nn.Module):
    """An embedding, learned places, a class token, and a block of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        d = 16
        self.table = nn.Embedding(20, d)
        self.token = nn.Parameter(torch.randn(1, 1, d))
        self.places = nn.Parameter(torch.randn(1, 7, d))
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d, eps=1e-3)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 24), nn.GELU(), nn.Linear(24, d))
        self.head = nn.Linear(d, 5, bias=False)

    def forward(self, ids: Any) -> Any:
        x = self.table(ids)
        x = torch.cat([self.token.expand(x.size(0), -1, -1), x], 1) + self.places
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, t, 3, 4, d // 4).unbind(2)
        q, k, v = (one.transpose(1, 2) for one in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, d))
        x = x + self.mlp(self.norm2(x))
        return self.head(x[:, 0] + x.mean(1))


class Recurrent(nn.Module):
    """A layer and what is made of its outputs."""

    def __init__(self, kind: str, *, both: bool = False, first: bool = True) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(5, 6, batch_first=first, bidirectional=both)
        self.fc = nn.Linear(12 if both else 6, 3)
        self.first = first

    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x if self.first else x.transpose(0, 1))
        return self.fc(y.mean(1 if self.first else 0))


class States(nn.Module):
    """An encoder whose last states are read, and no other output."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(5, 6, batch_first=True)

    def forward(self, x: Any) -> Any:
        _, (h, c) = self.rnn(x)
        return torch.cat([h[-1], c[-1]], 1)


ZOO = {
    "pictures": (Pictures, (3, 8, 8)),
    "parts": (Parts, (3, 8, 8)),
    "tokens": (Tokens, (6,)),
    "lstm": (lambda: Recurrent("LSTM", both=True), (4, 5)),
    "gru": (lambda: Recurrent("GRU", first=False), (4, 5)),
    "rnn": (lambda: Recurrent("RNN"), (4, 5)),
    "states": (States, (4, 5)),
}
USUAL = ("pictures", "tokens", "lstm")
N = 3


def exported(module: Any, x: Any, path: Path) -> Path:
    """Write a module as `arena_ckpt.importers.onnx_import.EXPORT` says."""
    names = {"input_names": ["x"], "output_names": ["y"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (x,),
            path,
            training=torch.onnx.TrainingMode.TRAINING,
            do_constant_folding=False,
            dynamo=False,
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
            **names,
        )
    return path


def exported_by_dynamo(module: Any, x: Any, path: Path) -> Path:
    """Write a module by the newer exporter, which needs another package."""
    pytest.importorskip("onnxscript", reason="PyTorch's newer exporter needs it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (x,),
            path,
            dynamo=True,
            optimize=False,
            verbose=False,
            training=torch.onnx.TrainingMode.TRAINING,
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )
    return path


@pytest.mark.skipif(not FULL, reason="ARENA_CKPT_FULL runs the newer exporter")
def test_the_newer_exporter_writes_the_same_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "exported", exported_by_dynamo)
    monkeypatch.setitem(globals(), "INPUT", "ids")
    test_loss_gradients_and_names_are_those_of_the_module("tokens", tmp_path)


INPUT = "x"


@pytest.mark.parametrize("name", ZOO if FULL else USUAL)
def test_loss_gradients_and_names_are_those_of_the_module(
    name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    make, shape = ZOO[name]
    module = make().train()
    is_ids = len(shape) == 1
    x = torch.randint(0, 20, (N, *shape)) if is_ids else torch.randn(N, *shape)
    path = exported(module, x, tmp_path / "net.onnx")
    # The exporter runs the module, which moves its running statistics.
    state = {key: value.clone() for key, value in module.state_dict().items()}

    imported = ac.load_onnx(path, loss="mse", batch_size=N)
    model = imported.model
    model.initialize()
    start = imported.to_initializers()
    parameters = dict(module.named_parameters())
    assert parameters.keys() <= start.keys()
    for key in start.keys() & state.keys():
        assert np.array_equal(start[key], state[key].numpy()), key

    y = torch.randn_like(module(x))
    module.load_state_dict(state)
    loss = F.mse_loss(module(x), y)
    loss.backward()
    own = next(one.output_shape for one in model.plan.layers if one.name == INPUT)
    data = x.numpy().astype(np.float32).reshape(N, *own)
    found, gradients = model.compute_gradients(data, y.numpy())
    assert found == pytest.approx(loss.item(), rel=1e-5)
    zeros = {key: np.zeros_like(value) for key, value in start.items()}
    links = [link for link in imported.links if link.weight in gradients]
    for key, gradient in to_foreign(links, gradients, zeros).items():
        expected = parameters[key].grad.numpy()
        worst = np.abs(gradient - expected).max()
        assert worst <= 1e-5 * np.abs(expected).max() + 1e-7, key

    # A step moves the running statistics as PyTorch does.
    model.train_step(data, y.numpy())
    moved = imported.to_initializers()
    for key, value in module.state_dict().items():
        if "running" in key:
            assert np.allclose(moved[key], value.numpy(), atol=1e-6), key


def test_a_trained_file_is_what_the_module_computes_with_its_weights(
    tmp_path: Path,
) -> None:
    module = States()
    x = torch.randn(N, 4, 5)
    path = exported(module, x, tmp_path / "net.onnx")
    imported = ac.load_onnx(path, loss="mse", batch_size=N)
    imported.model.initialize()
    data = x.numpy().reshape(N, 1, 4, 5)
    imported.model.train((data, np.ones((N, 12), np.float32)), epochs=2, progress=False)
    trained = imported.to_initializers()
    module.load_state_dict({key: torch.tensor(value) for key, value in trained.items()})
    expected = module(x).detach().numpy()
    assert np.allclose(imported.model.predict(data).reshape(N, 12), expected, atol=1e-6)
    imported.save_onnx(path)
    assert ac.load_onnx(path).outputs == {"y": "y"}
