"""The tables of docs/import-torch.md say what an import does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import arena_ckpt as ac
from arena_ckpt.layers import create_layer
from arena_ckpt.optim.optimizers import create_optimizer

torch = pytest.importorskip("torch", reason="PyTorch is absent")
nn = torch.nn

PAGE = (Path(__file__).parents[2] / "docs" / "import-torch.md").read_text()
ROW = re.compile(
    r"^\| `(nn\.[^`]+)` \| (\w+) \| (\w+) \| (\w+) \| ?(.*?) ?\|$", re.MULTILINE
)


def example_for(module: Any) -> Any:
    kind = type(module).__name__
    if kind == "Embedding":
        return torch.zeros(2, 3, dtype=torch.int64)
    shapes = {
        "Linear": (2, 3),
        "Conv1d": (2, 2, 5),
        "LayerNorm": (2, 4),
        "RMSNorm": (2, 4),
        "GroupNorm": (2, 4, 5, 5),
        "LSTM": (2, 5, 3),
        "GRU": (2, 5, 3),
    }
    default = (2, getattr(module, "in_channels", 3), 5, 5)
    return torch.zeros(shapes.get(kind, default))


def links_of(code: str) -> tuple[set[str], dict[str, tuple[str, str]]]:
    module = eval(code)
    outputs = 3 if "LSTM" in code else 2 if "GRU" in code else 1
    imported = ac.from_torch(
        module,
        example_for(module),
        ["mse", *[None] * (outputs - 1)],
    )
    types = {layer.type_name for layer in imported.model.layers}
    return types, {
        link.foreign: (
            link.weight.rpartition(":")[2],
            ", ".join(map(str, link.steps)),
        )
        for link in imported.links
    }


def test_the_table_of_weights_is_what_links_say() -> None:
    rows = ROW.findall(PAGE)
    assert len(rows) == 18
    found = {code: links_of(code) for code in dict.fromkeys(row[0] for row in rows)}
    for code, layer, theirs, ours, steps in rows:
        types, links = found[code]
        assert layer in types, code
        assert links[theirs] == (ours, steps), code


def test_the_table_of_numbers_is_that_of_both_sides() -> None:
    norm, ours = nn.BatchNorm2d(3), create_layer("batch_normalization", name="n")
    assert (norm.eps, ours["epsilon"]) == (1e-5, 1e-3)
    assert (norm.momentum, ours["momentum"]) == (0.1, 0.99)
    assert not ours["unbiased_variance"]
    other = create_layer("layer_normalization", name="n")
    assert (nn.LayerNorm(3).eps, other["epsilon"]) == (1e-5, 1e-3)
    adam = torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    assert adam.defaults["eps"] == 1e-8
    assert create_optimizer("adam")["epsilon"] == 1e-7
    assert nn.LeakyReLU().negative_slope == 0.01
    for number in ("1e-5", "1e-3", "0.1", "0.99", "1e-8", "1e-7", "0.01"):
        assert number in PAGE
