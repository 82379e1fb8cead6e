"""Training moves between a device and this machine, to the same bits."""

from __future__ import annotations

import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arena_ckpt import Model, create_optimizer, create_schedule
from arena_ckpt.c_export.device_state import CRC, HEADER
from arena_ckpt.device.export_c import export_c
from arena_ckpt.errors import (
    CorruptSavedStateError,
    InferenceOnlyError,
    InvalidParameterError,
    NotInitializedError,
    PlanMismatchError,
    SavedStateError,
    SavedStateNotFoundError,
    SavedStateVersionError,
    UnwritableFileError,
)
from arena_ckpt.planning.plan import memory_checksum
from arena_ckpt.training import device_states

COMPILER = shutil.which("gcc") or shutil.which("cc")
BATCH = 4


def small_model(unit: int = 5, activation: str = "tanh", **properties: object) -> Model:
    """Return a model whose every kind of state takes part."""
    model = Model(seed=3)
    asked = {"arithmetic": "portable", "batch_size": BATCH, **properties}
    model.set_property(**asked)
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="fc1", unit=unit, trainable=False)
    model.add_layer("batch_normalization", name="bn1")
    model.add_layer("activation", name="act1", activation=activation)
    model.add_layer("fully_connected", name="fc2", unit=3)
    model.add_layer("cross_softmax", name="loss")
    model.set_optimizer(create_optimizer("adam", learning_rate=0.01))
    schedule = create_schedule(
        "cosine", max_learning_rate=0.1, min_learning_rate=0.01, decay_steps=20
    )
    model.set_learning_rate_scheduler(schedule)
    return model


def batches(n: int) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(5)
    return [
        (rng.standard_normal((BATCH, 6), np.float32), rng.integers(0, 3, BATCH))
        for _ in range(n)
    ]


def initialized(**request: Any) -> Model:
    model = small_model()
    model.initialize(**request)
    return model


def trained(model: Model, some: list[tuple[Any, Any]]) -> list[float]:
    return [model.train_step(x, y) for x, y in some]


def state_of(model: Model) -> tuple[int, dict[str, bytes]]:
    session = model._session
    assert session is not None
    lasting = {name: view.tobytes() for name, view in session.persistent().items()}
    return session.iteration, lasting


MAIN = r"""
#include <stdio.h>
#include <string.h>
#include "net.h"

static FILE *file;

static int put(void *context, uint32_t position, const uint8_t *bytes, uint32_t n)
{
    (void)context;
    return fseek(file, (long)position, SEEK_SET) || fwrite(bytes, 1, n, file) != n;
}

static int get(void *context, uint32_t position, uint8_t *bytes, uint32_t n)
{
    (void)context;
    return fseek(file, (long)position, SEEK_SET) || fread(bytes, 1, n, file) != n;
}

/* net FIRST STEPS FROM TO: restores FROM unless it is -, trains, saves TO, and prints
 * the bits of each loss. */
int main(int argc, char **argv)
{
    int step, status = NET_OK, first = argv[1][0] - '0', steps = argv[2][0] - '0';
    FILE *data = fopen("data.bin", "rb");
    if (argc != 5 || data == 0) {
        return 9;
    }
    net_init();
    if (strcmp(argv[3], "-") != 0) {
        file = fopen(argv[3], "rb");
        status = file == 0 ? NET_IO : net_restore(get, 0);
        fclose(file);
    }
    fseek(data, (long)(first * NET_BATCH * (6 + 3) * sizeof(float)), SEEK_SET);
    for (step = 0; step < steps && status == NET_OK; step++) {
        double loss;
        unsigned char bytes[sizeof loss];
        int i;
        if (fread(net_input(0), 4, NET_BATCH * 6, data) != NET_BATCH * 6
            || fread(net_label(), 4, NET_BATCH * 3, data) != NET_BATCH * 3) {
            return 8;
        }
        status = net_step(&loss);
        memcpy(bytes, &loss, sizeof loss);
        for (i = 0; i < (int)sizeof loss; i++) {
            printf("%02x", bytes[i]);
        }
        printf("\n");
    }
    if (status == NET_OK) {
        file = fopen(argv[4], "wb");
        status = file == 0 ? NET_IO : net_save(put, 0);
        fclose(file);
    }
    return status;
}
"""


class Device:
    """An exported project, compiled for this machine, with batches to train on."""

    def __init__(self, folder: Path, some: list[tuple[Any, Any]]) -> None:
        self.folder = folder
        export_c(small_model(), folder / "net", name="net", steps=1)
        (folder / "main.c").write_text(MAIN)
        one_hot = np.eye(3, dtype=np.float32)
        (folder / "data.bin").write_bytes(
            b"".join(x.tobytes() + one_hot[y].tobytes() for x, y in some)
        )
        sources = sorted((folder / "net" / "src").glob("*.c"))
        assert COMPILER is not None
        subprocess.run(
            [COMPILER, "-O2", "-Inet/src", "-o", "run", "main.c", *map(str, sources)],
            cwd=folder,
            check=True,
        )

    def train(self, first: int, steps: int, start: str, end: str) -> list[float]:
        """Train some steps and return their losses."""
        done = subprocess.run(
            ["./run", str(first), str(steps), start, end],
            cwd=self.folder,
            check=True,
            capture_output=True,
            text=True,
        )
        return [
            float(np.frombuffer(bytes.fromhex(line), "<f8")[0])
            for line in done.stdout.split()
        ]


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Device:
    if COMPILER is None:
        pytest.skip("no C compiler")
    return Device(tmp_path_factory.mktemp("device"), batches(9))


def test_a_training_moves_from_a_device_to_here(device: Device) -> None:
    some = batches(9)
    whole = initialized()
    losses = trained(whole, some)

    found = device.train(0, 5, "-", "board.state")
    model = initialized()
    model.load_device_state(device.folder / "board.state")
    found += trained(model, some[5:])

    assert found == losses
    assert state_of(model) == state_of(whole)


def test_a_training_moves_from_here_to_a_device(device: Device) -> None:
    some = batches(9)
    whole = initialized()
    losses = trained(whole, some)

    model = initialized()
    found = trained(model, some[:5])
    model.save_device_state(device.folder / "laptop.state")
    found += device.train(5, 4, "laptop.state", "end.state")
    whole.save_device_state(device.folder / "whole.state")

    assert found == losses
    end = (device.folder / "end.state").read_bytes()
    assert end == (device.folder / "whole.state").read_bytes()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("saved") / "net.state"
    model = initialized()
    trained(model, batches(2))
    model.save_device_state(path)
    return path, path.read_bytes()


def refused(model: Model, path: Path, error: type[Exception]) -> Exception:
    """Load a state that is refused; nothing changes."""
    before = state_of(model)
    with pytest.raises(error) as caught:
        model.load_device_state(path)
    assert type(caught.value) is error
    assert state_of(model) == before
    return caught.value


def test_every_flipped_byte_is_refused(
    saved: tuple[Path, bytes], tmp_path: Path
) -> None:
    path, content = tmp_path / "flipped", saved[1]
    model = initialized()
    for place in range(len(content)):
        for bits in (0x01, 0xFF):
            flipped = bytearray(content)
            flipped[place] ^= bits
            path.write_bytes(flipped)
            refused(model, path, CorruptSavedStateError)
    path.write_bytes(content)
    model.load_device_state(path)
    assert state_of(model)[0] == 2


def test_a_state_of_another_length_is_refused(
    saved: tuple[Path, bytes], tmp_path: Path
) -> None:
    path, content = tmp_path / "cut", saved[1]
    model = initialized()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refused(model, path, CorruptSavedStateError)
    path.write_bytes(content + b"\0")
    refused(model, path, CorruptSavedStateError)


def resealed(content: bytes, **fields: Any) -> bytes:
    """Return a state with another header, whole again."""
    names = ("magic", "version", "n_bytes", "digest", "iteration")
    header = dict(zip(names, HEADER.unpack_from(content), strict=True)) | fields
    body = HEADER.pack(*header.values()) + content[HEADER.size : -CRC.size]
    return body + CRC.pack(zlib.crc32(body))


def test_a_whole_state_that_does_not_fit_says_why(
    saved: tuple[Path, bytes], tmp_path: Path
) -> None:
    path, content = tmp_path / "other", saved[1]
    model = initialized()
    path.write_bytes(resealed(content, version=7))
    error = refused(model, path, SavedStateVersionError)
    assert error.version == 7  # type: ignore[attr-defined]

    path.write_bytes(resealed(content, iteration=2**32))
    assert "4,294,967,296" in str(refused(model, path, CorruptSavedStateError))

    path.write_bytes(resealed(content, digest=bytes(32)))
    message = str(refused(model, path, PlanMismatchError))
    assert f"of the same {len(content):,} bytes" in message
    assert "begins with 000000000000, that of this model" in message


@pytest.mark.parametrize(
    ("others", "request_"),
    [
        ({"unit": 6}, {}),
        ({"batch_size": 3}, {}),
        ({"micro_batches": 2}, {}),
        ({}, {"constants": "arena"}),
        ({}, {"debug": True}),
        ({}, {"memories": {"a": "1KiB", "b": "64KiB"}}),
    ],
    ids=str,
)
def test_a_state_of_another_plan_is_refused(
    saved: tuple[Path, bytes], others: dict[str, Any], request_: dict[str, Any]
) -> None:
    model = small_model(**others)
    model.initialize(**request_)
    error = refused(model, saved[0], PlanMismatchError)
    assert error.what == "plan"  # type: ignore[attr-defined]
    if request_.get("debug"):
        assert "initialized with debug" in str(error)


def test_a_state_of_other_layers_or_constants_is_refused(
    saved: tuple[Path, bytes], tmp_path: Path
) -> None:
    """The plan is the same: what runs is not, or what it reads."""
    other = small_model(activation="sigmoid")
    other.initialize()
    assert memory_checksum(other.plan) == memory_checksum(initialized().plan)
    refused(other, saved[0], PlanMismatchError)
    frozen = initialized()
    frozen.set_weights({"fc1:weight": frozen.weights()["fc1:weight"] * 2})
    assert "constants" in str(refused(frozen, saved[0], PlanMismatchError))
    faster = small_model()
    faster.set_optimizer(faster.optimizer, learning_rate=0.5)
    faster.initialize()
    faster.load_device_state(saved[0])


def test_what_has_no_such_state_says_so(
    saved: tuple[Path, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "none"
    with pytest.raises(NotInitializedError, match="save_device_state"):
        small_model().save_device_state(path)
    fast = small_model(arithmetic="fast")
    fast.initialize()
    for call in (fast.save_device_state, fast.load_device_state):
        with pytest.raises(InvalidParameterError, match="arithmetic='portable'"):
            call(saved[0])
    inference = initialized(mode="inference")
    for call in (inference.save_device_state, inference.load_device_state):
        with pytest.raises(InferenceOnlyError):
            call(saved[0])
    assert not path.exists()
    assert saved[0].read_bytes() == saved[1]


def test_files_that_cannot_be_used(saved: tuple[Path, bytes], tmp_path: Path) -> None:
    model = initialized()
    refused(model, tmp_path / "missing", SavedStateNotFoundError)
    refused(model, tmp_path, SavedStateError)
    path = tmp_path / "model.safetensors"
    model.save(path)
    refused(model, path, CorruptSavedStateError)
    with pytest.raises(UnwritableFileError):
        model.save_device_state(tmp_path)
    with pytest.raises(InvalidParameterError):
        model.save_device_state(3)  # type: ignore[arg-type]


def test_more_iterations_than_a_device_counts_are_refused(tmp_path: Path) -> None:
    model = initialized()
    assert model._session is not None
    arrays = model._session.persistent()
    model._session.restore(arrays, 2**32)
    with pytest.raises(InvalidParameterError, match="4,294,967,296 iterations"):
        model.save_device_state(tmp_path / "state")
    assert not list(tmp_path.iterdir())


def test_a_state_has_what_the_plan_says(saved: tuple[Path, bytes]) -> None:
    session = initialized()._session
    assert session is not None
    state = device_states.state_of(session)
    assert state.n_bytes == len(saved[1])
    assert {name for name in state.tensors if name.startswith("fc1")} == set()
    assert "bn1:moving_mean" in state.tensors
