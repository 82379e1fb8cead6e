"""Exported projects train on boards, emulated by QEMU, to the bits of the engine.

The project's own test runs there: batches, bits of the loss and a checksum of weights
and states after each of 20 steps. A fixed sample runs by default, all with --full.
"""

from __future__ import annotations

import functools
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.emulated_boards import (
    BOARDS,
    NAME,
    Firmware,
    build,
    compile_alone,
    emulate,
    emulator_command,
    require,
    run,
    symbols,
)
from helpers.scale import FULL, how_many

import arena_ckpt as ac
from arena_ckpt.c_export.kernels_text import kernel_files
from arena_ckpt.device.export_c import export_c
from arena_ckpt.operations.families import FAMILIES

MOST_STACK_BYTES = 1536


def tutorial_cnn() -> ac.Model:
    """Return the network of docs/tutorial.md."""
    model = ac.Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:8:8")
    for i, stride in ((1, "1,1"), (2, "1,1"), (3, "2,2")):
        model.add_layer(
            *("conv2d",),
            name=f"conv{i}",
            filters=8,
            kernel_size="3,3",
            stride=stride,
            padding="same",
        )
        model.add_layer("activation", name=f"act{i}", activation="gelu")
    model.add_layer("flatten", name="flat")
    model.add_layer("fully_connected", name="logits", unit=10)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=32)
    model.set_optimizer("adam", learning_rate=0.003)
    return model


def small_mlp() -> ac.Model:
    """Return a network whose steps are short, for many of them."""
    model = ac.Model(seed=1)
    model.add_layer("input", name="in", input_shape="1:1:64")
    model.add_layer("fully_connected", name="fc", unit=32, activation="gelu")
    model.add_layer("fully_connected", name="logits", unit=10)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=64)
    model.set_optimizer("adam", learning_rate=0.003)
    return model


def example(name: str, **sizes: Any) -> Callable[[], ac.Model]:
    """Return a function that returns a bundled example."""
    return lambda: ac.load_example(name, **sizes).model


MODELS: dict[str, tuple[Callable[[], ac.Model], dict[str, Any]]] = {
    "digits_mlp": (example("digits_mlp"), {}),
    "tutorial_cnn": (tutorial_cnn, {"budget": "256KiB"}),
    "digits_cnn": (example("digits_cnn"), {}),
    "resnet8": (example("resnet8", batch_size=2), {}),
    "keyword_gru": (example("keyword_gru", batch_size=4), {}),
    "transformer": (
        example("char_transformer", n_layers=1, d=64, heads=2, length=32, batch_size=2),
        {},
    ),
}
"""Models with what their plans are asked for."""

RISC_V = ("digits_mlp", "tutorial_cnn")
SAMPLE = {
    ("digits_mlp", "cortex-m4f"),
    ("digits_mlp", "cortex-m55"),
    ("tutorial_cnn", "cortex-m7"),
}
CASES = [
    (model, board)
    for board in BOARDS
    for model in (RISC_V if board == "risc-v" else MODELS)
    if FULL or (model, board) in SAMPLE
]


@functools.cache
def project_of(model: str) -> Path:
    """Return a folder with the exported project of one of `MODELS`."""
    make, request = MODELS[model]
    folder = Path(tempfile.mkdtemp(prefix="boards")) / model
    export_c(make(), folder, name=NAME, **request)
    return folder


# -- the same bits ---------------------------------------------------------------------


@pytest.mark.parametrize(("model", "board"), CASES)
def test_a_board_trains_to_the_same_bits(model: str, board: str) -> None:
    firmware = build(require(board), project_of(model))
    done = emulate(firmware)
    assert (done.code, done.text.splitlines()[:1]) == (
        *(0, ["20 steps of training have the same bits"]),
    ), done.text
    assert done.number("stack") <= MOST_STACK_BYTES


OPTIMIZED = [
    (board, optimize)
    for board in BOARDS
    for optimize in ("-O2", "-O3")
    if FULL or (board, optimize) == ("cortex-m55", "-O3")
]


@pytest.mark.parametrize(("board", "optimize"), OPTIMIZED)
def test_the_bits_do_not_depend_on_optimizing(board: str, optimize: str) -> None:
    project = project_of("tutorial_cnn")
    done = emulate(build(require(board), project, "run_test", optimize))
    assert done.code == 0, done.text


def test_a_wrong_bit_is_seen_on_a_board(tmp_path: Path) -> None:
    board = require("cortex-m4f")
    project = tmp_path / "faulty"
    export_c(small_mlp(), project, name=NAME)
    source = project / "src" / f"{NAME}.c"
    text = source.read_text("utf-8")
    assert "0.999" in text
    source.write_text(text.replace("0.999", "0.99899"), "utf-8")
    done = emulate(build(board, project))
    assert done.code == 1
    assert "the loss" in done.text or "weights and states" in done.text


# -- subnormal numbers -----------------------------------------------------------------


def products() -> dict[str, str]:
    """Return the kernels that `run_subnormals.c` calls, as a project has them."""
    wanted = ("arithmetic.multiply", "chains.chain_matmul")
    names = [name for family in FAMILIES for name in family if str(name) in wanted]
    assert len(names) == len(wanted)
    return kernel_files(names, (), NAME)


@pytest.mark.parametrize("optimize", ["-Os", "-O3"])
@pytest.mark.parametrize("name", BOARDS)
def test_products_may_be_subnormal(name: str, optimize: str, tmp_path: Path) -> None:
    flags = (optimize, "-ffp-contract=off", "-fno-strict-aliasing")
    firmware = compile_alone(
        require(name), products(), "run_subnormals", tmp_path, *flags
    )
    done = emulate(firmware)
    assert done.code == 0, done.text
    assert done.number("wrong products") == 0


def test_vectors_that_flush_subnormal_numbers_are_seen(tmp_path: Path) -> None:
    """Without what the sources say to the compiler, Cortex-M55 gives 0."""
    files = products()
    (line,) = re.findall(
        r"#pragma GCC optimize\(\"no-tree-vectorize\"\)\n", files["ac_kernels.c"]
    )
    files["ac_kernels.c"] = files["ac_kernels.c"].replace(line, "")
    firmware = compile_alone(
        require("cortex-m55"), files, "run_subnormals", tmp_path, "-O3"
    )
    done = emulate(firmware)
    assert done.code == 1
    assert done.number("wrong products") > 0


@pytest.mark.parametrize("board", BOARDS)
def test_training_on_subnormal_numbers_gives_the_same_bits(
    board: str, tmp_path: Path
) -> None:
    require(board)
    model = ac.Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:16")
    model.add_layer("fully_connected", name="fc", unit=24)
    model.add_layer("fully_connected", name="out", unit=16)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=8, arithmetic="portable")
    model.set_optimizer("sgd", learning_rate=5.0)
    model.initialize()
    generator = np.random.default_rng(0)
    weights = {
        name: generator.standard_normal(value.shape).astype(np.float32)
        for name, value in model.weights().items()
    }
    weights["fc:weight"] *= np.float32(1e-19)
    weights["fc:bias"] *= np.float32(1e-40)
    weights["out:bias"] *= np.float32(1e-40)
    model.set_weights(weights)
    x = generator.standard_normal((8, 1, 1, 16)).astype(np.float32) * np.float32(2e-20)
    y = np.zeros((8, 16), np.float32)
    project = tmp_path / "subnormal"
    export_c(model, project, name=NAME, data=(x, y))
    least = np.finfo(np.float32).tiny
    outputs = np.abs(model.predict(x))
    assert ((outputs > 0) & (outputs < least)).mean() > 0.2
    model.train_step(x, y)
    assert np.abs(model.weights()["fc:bias"]).max() > least
    for optimize in ("-Os", "-O3"):
        done = emulate(build(BOARDS[board], project, "run_test", optimize))
        assert done.code == 0, done.text


# -- size and speed --------------------------------------------------------------------

MOST_FLASH_KB = {"digits_mlp": 12, "tutorial_cnn": 14, "digits_cnn": 22}
"""Code and constants at -Os on Cortex-M4F, in units of 1024 bytes."""

MOST_INSTRUCTIONS = {"digits_mlp": 50_000_000, "tutorial_cnn": 65_000_000}
"""Instructions of a step at -Os on Cortex-M4F."""

OF_THE_COMPILER = r"__\w+|memcpy|memset"
"""What code of a project may call besides: arithmetic in software, and loops."""


@functools.cache
def on_m4f(model: str) -> Firmware:
    return build(require("cortex-m4f"), project_of(model), "run_steps")


@pytest.mark.parametrize(
    "model", [m for m in MOST_FLASH_KB if FULL or m in MOST_INSTRUCTIONS]
)
def test_code_is_small(model: str) -> None:
    assert on_m4f(model).flash_bytes <= 1024 * MOST_FLASH_KB[model]


@pytest.mark.parametrize("model", MOST_INSTRUCTIONS)
def test_steps_take_few_instructions(model: str) -> None:
    done = emulate(on_m4f(model))
    assert done.code == 0, done.text
    assert 1_000_000 < done.number("instructions") <= MOST_INSTRUCTIONS[model]
    assert done.number("stack") <= MOST_STACK_BYTES


@pytest.mark.parametrize("model", [m for m in MODELS if FULL or m in MOST_INSTRUCTIONS])
def test_memory_is_the_arena_and_nothing_comes_from_a_library(model: str) -> None:
    firmware = on_m4f(model)
    board = firmware.board
    found = symbols(board, firmware.library)
    arena_bytes = int(
        re.findall(
            rf"#define {NAME.upper()}_ARENA_BYTES (\d+)",
            (project_of(model) / "src" / f"{NAME}.h").read_text("utf-8"),
        )[0]
    )
    assert [size for name, _, size in found if name == f"{NAME}_arena"] == [arena_bytes]
    changing = {name for name, kind, _ in found if kind in "bBdDC"}
    assert changing == {f"{NAME}_arena"}
    sizes = run([f"{board.prefix}size", str(firmware.library)], firmware.elf.parent)
    assert {line.split()[1] for line in sizes.splitlines()[1:]} == {"0"}
    defined = {name for name, kind, _ in found if kind != "U"}
    undefined = {name for name, kind, _ in found if kind == "U"} - defined
    assert [n for n in undefined if not re.fullmatch(OF_THE_COMPILER, n)] == []
    everything = {name for name, _, _ in symbols(board, firmware.elf)}
    assert not everything & {"malloc", "printf", "sqrtf", "sqrt", "fmaf", "expf", "log"}


def test_cortex_m55_is_built_without_float_vectors(tmp_path: Path) -> None:
    board = require("cortex-m55")
    project = project_of("tutorial_cnn")
    flags = f"CFLAGS=-O3 {' '.join(board.flags)}"
    said = run(["make", "-n", f"build/lib{NAME}.a", flags], project)
    compiled = [line for line in said.splitlines() if " -c " in line]
    assert len(compiled) == 4
    assert all("-fno-tree-vectorize" in line for line in compiled)
    assert "-fno-tree-vectorize" in (project / "CMakeLists.txt").read_text("utf-8")
    firmware = build(board, project, "run_steps", "-O3")
    text = run([f"{board.prefix}objdump", "-d", str(firmware.library)], tmp_path)
    assert re.search(r"\tvfma\.f32\ts\d", text)
    assert re.findall(r"\tv\w+\.f32\tq\d.*", text) == []


# -- power losses ----------------------------------------------------------------------


def start(firmware: Firmware) -> subprocess.Popen[str]:
    return subprocess.Popen(
        emulator_command(firmware),
        cwd=firmware.elf.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL at random moments; two slots for states are files beside the emulator."""
    board = require("cortex-m4f")
    project = tmp_path / "killed"
    export_c(small_mlp(), project, name=NAME)
    firmware = build(board, project, "run_power")
    slots = [firmware.elf.parent / f"slot{i}" for i in range(2)]

    header = (project / "src" / f"{NAME}.h").read_text("utf-8")
    (n_bytes,) = re.findall(rf"#define {NAME.upper()}_STATE_BYTES (\d+)", header)

    def empty() -> None:
        for slot in slots:
            slot.write_bytes(bytes(int(n_bytes)))

    def finished(process: subprocess.Popen[str]) -> str:
        text, _ = process.communicate(timeout=300)
        assert process.returncode == 0, text
        return text

    empty()
    began = time.monotonic()
    assert "saved 20" in finished(start(firmware))
    step_seconds = (time.monotonic() - began) / 20
    expected = max(slot.read_bytes()[48:] for slot in slots)  # the iteration is first
    data = (firmware.elf.parent / "test" / "data.c").read_text("utf-8")
    states = re.findall(r"0x(\w{8})u", data.partition("test_state[20]")[2])[:20]
    assert int.from_bytes(expected[-4:], "little") == int(states[-1], 16)

    empty()
    moments, n_kills, begins = random.Random(0), how_many(4, 20), []
    for _ in range(n_kills):
        process = start(firmware)
        assert process.stdout is not None
        begins.append(process.stdout.readline())
        # Most runs save something; a few are killed before they do.
        time.sleep(moments.uniform(0.0, 40 / n_kills) * step_seconds)
        process.kill()
        process.communicate()
    text = finished(start(firmware))
    assert all(re.fullmatch(r"begins at \d+\n", line) for line in begins)
    assert text.startswith("begins at ")
    assert len(set(begins)) > 1, "no run was killed after a step was saved"
    assert max(slot.read_bytes()[48:] for slot in slots) == expected
