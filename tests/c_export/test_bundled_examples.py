"""Every bundled example trains in C to the bits of the engine, whatever its plan."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers.scale import FULL, how_many

from arena_ckpt import Model, load_example
from arena_ckpt.device.export_c import export_c
from arena_ckpt.examples import EXAMPLES
from arena_ckpt.model import without_blocks

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("make")), reason="no C compiler here"
)

SIZES: dict[str, dict[str, Any]] = {
    "transformer": {"n_layers": 1, "d": 16, "heads": 2, "ff": 32, "batch_size": 1},
    "char_transformer": {"n_layers": 1, "d": 16, "heads": 2, "batch_size": 1},
    "gpt": {
        **{"n_layers": 2, "d": 16, "heads": 2, "ff": 32, "length": 8},
        **{"batch_size": 2, "dropout": 0.1},
    },
    "llama_tiny": {
        **{"n_layers": 1, "d": 16, "heads": 2, "heads_kv": 1, "ff": 24},
        **{"length": 8, "batch_size": 2},
    },
    "resnet8": {"batch_size": 1},
    "resnet18": {"batch_size": 1},
    "mobilenet_v2": {"batch_size": how_many(2, 4), "size": 32, "width": 0.35},
    "mobilenet_v3_small": {"batch_size": 2, "size": 32},
    "unet": {"filters": 4, "depth": 2, "shape": (1, 16, 16), "batch_size": 2},
    "keyword_gru": {"unit": 12, "steps": 9, "batch_size": 2},
    "lstm_har": {"unit": 6, "steps": 9, "batch_size": 2},
    "autoencoder": {"width": 64, "hidden": 16, "batch_size": 3},
}
"""Sizes with which examples are trained in a second; of others the batch is smaller."""

BATCHES = {"digits_mlp": 5, "digits_cnn": how_many(1, 3), "nine_layer_mlp": 4}

LARGE = ("resnet18",)
"""Minutes in C without instructions for what it does most: a few steps, built for this
machine, and only where all tests run."""

PLANS = ("all kept", "named blocks", "the smallest")

SAMPLE = {"keyword_gru": "all kept", "digits_mlp": "named blocks"}
"""The plan that a sample runs of an example, where it is not the smallest."""

COMPILERS: dict[str, tuple[str, ...]] = {
    "gcc -O2": ("gcc", "-O2"),
    "gcc -O0": ("gcc", "-O0"),
    "gcc -O3 -march=native": ("gcc", "-O3", "-march=native"),
    "clang -O2": ("clang", "-O2"),
}


def example(name: str) -> Model:
    model = load_example(name, **SIZES.get(name, {})).model
    if name in BATCHES:
        model.set_property(batch_size=BATCHES[name])
    return model


def passes(folder: Path, compiler: str) -> str:
    """Run the test of a project and return what it says."""
    cc, *flags = COMPILERS[compiler]
    if shutil.which(cc) is None:
        pytest.skip(f"no {cc} here")
    command = ["make", "-s", "-B", "test", f"CC={cc}", f"CFLAGS={' '.join(flags)}"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{compiler}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_trains_to_the_same_bits(
    name: str, plan: str, tmp_path: Path
) -> None:
    if not FULL and (name in LARGE or plan != SAMPLE.get(name, "the smallest")):
        pytest.skip("all tests run it, a sample does not")
    model = example(name)
    if plan == "named blocks" and not model.blocks:
        pytest.skip("it has no blocks")
    if plan != "named blocks":
        model = without_blocks(model)
    request = {"max_overhead": "100%"} if plan == "the smallest" else {}
    steps, compilers = how_many(3, 20), tuple(COMPILERS) if FULL else ("gcc -O2",)
    if name in LARGE:
        steps, compilers = 3, ("gcc -O3 -march=native",)
    export_c(model, tmp_path / "c", name=name, steps=steps, **request)
    for compiler in compilers:
        said = passes(tmp_path / "c", compiler)
        assert f"{steps} steps of training have the same bits" in said
