"""Models from PyTorch: what they are, and that wrong imports are caught."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arena_ckpt as ac
from arena_ckpt.errors import (
    ImportCheckError,
    InvalidParameterError,
    StateError,
    UnknownLayerError,
    UnsupportedModelError,
)
from arena_ckpt.importers import torch_check, torch_rules, torch_rules_layers

torch = pytest.importorskip("torch", reason="PyTorch is absent")
nn = torch.nn
F = nn.functional


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4)

    def forward(self, x: Any) -> Any:
        out = torch.relu_(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return torch.relu(out)


def small_net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        Block(),
        Block(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(4, 3),
    )


def pictures(n: int = 2) -> Any:
    return torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def test_a_module_is_a_model_with_its_names_and_its_weights() -> None:
    module = small_net()
    imported = ac.from_torch(module, pictures(), "cross_softmax", check=True)
    names = [layer.name for layer in imported.model.layers]
    assert names[:5] == ["input", "0", "1.conv1", "1.bn1", "1/activation"] or (
        names[1:4] == ["0", "1.conv1", "1.bn1"]
    )
    assert imported.check.passed
    assert "6.weight (6:weight)" in str(imported.check) or imported.check.worst
    assert "running statistics: 8 after a step" in str(imported.check)
    imported.model.initialize()
    state = imported.to_state_dict()
    assert list(state) == list(module.state_dict())
    assert all(torch.equal(state[k], v) for k, v in module.state_dict().items())
    x = np.random.default_rng(0).normal(size=(2, 1, 6, 6)).astype(np.float32)
    imported.model.train_step(x, np.array([0, 1]))
    module.load_state_dict(imported.to_state_dict())
    found = imported.model.predict(x).reshape(2, 3)
    module.eval()
    with torch.no_grad():
        expected = torch.softmax(module(torch.tensor(x)), 1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_blocks_are_named_by_modules() -> None:
    imported = ac.from_torch(small_net(), pictures(), "cross_softmax")
    blocks = imported.blocks("[12]")
    assert list(blocks) == ["1", "2"]
    imported.model.add_checkpoint_block(module="1")
    imported.model.add_checkpoint_block(blocks["2"])
    assert [block.layers for block in imported.model.blocks] == [*blocks.values()]
    assert imported.model.blocks[0].name == "1"
    imported.model.make_plan()
    with pytest.raises(UnknownLayerError, match="no module matches 'layer"):
        imported.blocks("layer*.*")
    with pytest.raises(UnknownLayerError, match="no layer belongs to a module '7'"):
        imported.model.add_checkpoint_block(module="7")


def test_frozen_parameters_lie_beside_the_arena_and_eval_norms_stay() -> None:
    module = small_net()
    module[1].requires_grad_(False)
    module[1].bn1.eval()
    module[1].bn2.eval()
    model = ac.from_torch(module, pictures(), "cross_softmax").model
    layers = {layer.name: layer for layer in model.layers}
    assert not layers["1.conv1"]["trainable"]
    assert layers["1.bn1"]["statistics"] == "moving"
    assert layers["2.conv1"]["trainable"]
    assert model.make_plan().constant_bytes > 2 * 4 * 4 * 9 * 4


def test_one_weight_of_a_module_can_be_frozen() -> None:
    module = small_net()
    for name, weight in module.named_parameters():
        weight.requires_grad_(name.endswith("bias") or name.startswith("6"))
    imported = ac.from_torch(module, pictures(), "cross_softmax", check=True)
    layers = {layer.name: layer for layer in imported.model.layers}
    assert layers["1.bn1"]["train"] == ("beta",)
    trained = {
        tensor.name
        for tensor in imported.model.make_plan().tensors
        if tensor.name.startswith("1.bn1:")
    }
    assert "1.bn1:beta:grad" in trained
    assert "1.bn1:gamma:grad" not in trained


def test_the_optimizer_comes_with_its_decay() -> None:
    module = small_net()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02, weight_decay=0.1)
    model = ac.from_torch(
        module, pictures(), "cross_softmax", optimizer=optimizer
    ).model
    assert model.optimizer["learning_rate"] == 0.02
    assert model.optimizer["epsilon"] == 1e-8
    layers = {layer.name: layer for layer in model.layers}
    assert layers["6"]["weight_decay"] == layers["6"]["bias_decay"] == 0.1
    model.initialize()
    weight = model.weights()["6:weight"].T
    np.testing.assert_array_equal(weight, module[6].weight.detach().numpy())


def test_a_saved_model_goes_back_without_pytorch(tmp_path: Path) -> None:
    module = small_net()
    imported = ac.from_torch(module, pictures(), "cross_softmax")
    imported.model.initialize()
    path = tmp_path / "net.safetensors"
    imported.model.save(path)
    code = (
        "import sys, numpy as np, arena_ckpt as ac\n"
        "model = ac.load(sys.argv[1])\n"
        "np.savez(sys.argv[2], **model.to_state_dict())\n"
        "assert 'torch' not in sys.modules\n"
    )
    out = tmp_path / "state.npz"
    subprocess.run([sys.executable, "-c", code, path, out], check=True)
    with np.load(out) as found:
        for name, tensor in module.state_dict().items():
            expected = tensor.numpy()
            assert found[name].dtype == expected.dtype
            np.testing.assert_array_equal(found[name], expected)
    undone = ac.load(path, initialize=False)
    with pytest.raises(StateError, match="to_state_dict"):
        undone.to_state_dict()
    with pytest.raises(StateError, match="was not imported"):
        ac.Model().to_state_dict()


# -- what cannot be imported


def test_all_gaps_are_told_at_once_with_their_lines() -> None:
    def forward(own: Any, x: Any) -> Any:
        y = torch.fft.rfft(x).abs()
        noise = torch.randn_like(x)
        z = (x + noise).cumprod(1)
        return y.sum() + z + x.mean(0)

    with pytest.raises(UnsupportedModelError) as info:
        ac.from_torch(Applied(forward), torch.zeros(2, 4), "mse")
    text = str(info.value)
    assert "aten.fft_rfft (at " in text
    assert "aten.randn_like" in text
    assert "draws random numbers" in text
    assert "aten.cumprod" in text  # behind another gap
    assert "aten.mean" in text
    assert "over the batch" in text
    assert "register_importer" in text
    assert all("test_from_torch.py:" in gap.where for gap in info.value.gaps)


def test_an_operation_is_taught() -> None:
    def forward(own: Any, x: Any) -> Any:
        return torch.frac(own.fc(x))

    module = Applied(forward, fc=nn.Linear(4, 2))
    with pytest.raises(UnsupportedModelError, match=r"aten\.frac"):
        ac.from_torch(module, torch.zeros(2, 4), "mse")
    ac.register_importer("aten.frac")(lambda call: call.tensor("self"))
    try:
        ac.from_torch(module, torch.zeros(2, 4), "mse")
        with pytest.raises(InvalidParameterError, match="a rule for 'frac' already"):
            ac.register_importer("frac")
        with pytest.raises(ImportCheckError, match="training loss"):
            ac.from_torch(module, torch.zeros(2, 4), "mse", check=True)
    finally:
        del torch_rules.RULES["frac"]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("cross_sofmax", "there is no loss 'cross_sofmax'.*cross_softmax"),
        (["mse", "mse"], "returns 1 outputs .*there are 2 losses"),
        (("mse",), "is not possible; give a type"),
        ([None], "no output has a loss"),
        (7, "is not possible"),
    ],
)
def test_a_loss_that_is_none_is_refused(loss: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        ac.from_torch(nn.Linear(2, 2), torch.zeros(2, 2), loss)


def test_a_module_that_returns_its_loss_trains_on_it() -> None:
    def forward(own: Any, x: Any, y: Any) -> Any:
        return F.relu(own.fc(x) - y).square().mean() + 0.5 * own.fc(x).abs().mean()

    module = Applied(forward, fc=nn.Linear(3, 2))
    with torch.no_grad():
        module.fc.weight.mul_(2.0)
    imported = ac.from_torch(
        module, (torch.randn(4, 3), torch.randn(4, 2)), "output", check=True
    )
    assert imported.check.passed


# -- wrong imports are caught


def _plant(op: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Return what makes a rule get other arguments."""

    def plant(monkeypatch: Any) -> None:
        true = torch_rules.RULES[op]

        def wrong(call: Any) -> Any:
            args = {**call.args, **change(call)}
            return true(torch_rules.Call(call.build, call.node, args, call.parts_read))

        monkeypatch.setitem(torch_rules.RULES, op, wrong)

    return plant


def _lost(op: str) -> Callable[[Any], None]:
    def plant(monkeypatch: Any) -> None:
        monkeypatch.setitem(torch_rules.RULES, op, lambda call: call.tensor("self"))

    return plant


def _gates(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch_rules_layers, "_reordered", lambda table: table)


def _biased(monkeypatch: Any) -> None:
    pictures = torch_rules_layers.emit_pictures
    true = pictures.batch_norm
    monkeypatch.setattr(
        pictures, "batch_norm", lambda *a, **v: true(*a, **v, is_unbiased=False)
    )


def _nearest(monkeypatch: Any) -> None:
    pictures = torch_rules_layers.emit_pictures
    true = pictures.upsample
    monkeypatch.setattr(
        pictures, "upsample", lambda b, x, f, mode: true(b, x, f, "bilinear")
    )


def _norm(kind: Any) -> Any:
    return nn.Sequential(nn.Linear(6, 6), kind, nn.Linear(6, 2))


def _attention(own: Any, x: Any) -> Any:
    q, k, v = own.qkv(x).reshape(-1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return own.out(y.transpose(1, 2).flatten(2))


ROWS = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
STEPS = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(3))
IDS = torch.tensor([[0, 1, 2, 3], [4, 1, 2, 0]])

WRONG: dict[str, tuple[Callable[[], Any], Any, Callable[[Any], None], str]] = {
    "bilinear for nearest": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Upsample(scale_factor=2)),
        pictures(),
        _nearest,
        "gradients.*0.weight",
    ),
    "lost ReLU": (
        lambda: nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)),
        ROWS,
        _lost("relu"),
        "gradients.*0.weight",
    ),
    "lost causal mask": (
        lambda: Applied(_attention, qkv=nn.Linear(8, 24), out=nn.Linear(8, 8)),
        STEPS,
        _plant("scaled_dot_product_attention", lambda call: {"is_causal": False}),
        "gradients.*qkv.weight",
    ),
    "batch norm epsilon": (
        lambda: _norm(nn.BatchNorm1d(6)),
        ROWS,
        _plant("batch_norm", lambda call: {"eps": 1e-3}),
        "epsilon of 1 is 0.001, in PyTorch 1e-05",
    ),
    "layer norm epsilon": (
        lambda: _norm(nn.LayerNorm(6)),
        ROWS,
        _plant("layer_norm", lambda call: {"eps": 1e-6}),
        "epsilon of 1 is 1e-06, in PyTorch 1e-05",
    ),
    "tanh-GELU for GELU": (
        lambda: _norm(nn.GELU()),
        ROWS,
        _plant("gelu", lambda call: {"approximate": "tanh"}),
        r"activation of 1 is \('tanh_gelu'",
    ),
    "padding index": (
        lambda: nn.Sequential(nn.Embedding(5, 3, padding_idx=2), nn.Linear(3, 2)),
        IDS,
        _plant("embedding", lambda call: {"padding_idx": -1}),
        "padding_idx of 0 is None, in PyTorch 2",
    ),
    "gate order of a GRU": (
        lambda: Applied(lambda own, x: own.gru(x)[0], gru=nn.GRU(8, 3)),
        STEPS,
        _gates,
        "gradients.*gru.weight_ih_l0",
    ),
    "biased variance": (
        lambda: _norm(nn.BatchNorm1d(6)),
        ROWS,
        _biased,
        "running statistics: 2 after a step, the worst 1.running_var",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_import_is_caught(name: str, monkeypatch: Any) -> None:
    make, example, plant, message = WRONG[name]
    torch.manual_seed(0)
    module = make()
    if name == "gate order of a GRU":
        module.gru.batch_first = True
    assert ac.from_torch(module, example, "mse", check=True).check.passed
    plant(monkeypatch)
    with pytest.raises(ImportCheckError, match=f"(?s){message}"):
        ac.from_torch(module, example, "mse", check=True)


def test_predictions_lie_as_the_outputs_of_the_module() -> None:
    module = Applied(lambda own, x: own.fc(x).transpose(1, 2), fc=nn.Linear(3, 4))
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(4))
    imported = ac.from_torch(module, x, check=True)
    assert "prediction: " in str(imported.check)
    imported.model.initialize(mode="inference")
    found = imported.model.predict(x.numpy()).reshape(2, 4, 5)
    np.testing.assert_allclose(found, module(x).detach().numpy(), atol=1e-6)


def test_slopes_at_a_kink_are_right_with_smooth_functions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One sum and the same in two parts: rounding alone decides the slope."""

    class Kinked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(40, 16)
            self.left, self.right = nn.Linear(20, 16), nn.Linear(20, 16, bias=False)
            with torch.no_grad():
                self.left.weight.copy_(self.one.weight[:, :20])
                self.left.bias.copy_(self.one.bias)
                self.right.weight.copy_(self.one.weight[:, 20:])
            self.fc, self.beside = nn.Linear(16, 3), nn.Linear(40, 3)

        def forward(self, x: Any) -> Any:
            parts = self.left(x[:, :20]) + self.right(x[:, 20:])
            return self.fc(torch.relu(self.one(x) - parts)) + self.beside(x)

    monkeypatch.setattr(torch_check, "ROUNDING", 0.0)
    torch.manual_seed(0)
    check = ac.from_torch(Kinked(), torch.randn(8, 40), "mse", check=True).check
    kinks = {one.foreign for one in check.gradients if one.is_kink}
    assert {"one.weight", "left.weight", "right.weight"} <= kinks
    assert "at kinks, right with smooth functions" in str(check)
    assert check.passed
