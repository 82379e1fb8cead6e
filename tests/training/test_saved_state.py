"""Saved models: everything comes back, and nothing damaged or foreign comes in."""

from __future__ import annotations

import errno
import json
import os
import pickle
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from helpers.example_data import first_batch
from helpers.older_plans import older_text
from helpers.strategies import ModelSpec, chain

import arena_ckpt as ac
from arena_ckpt import Model
from arena_ckpt.common.json_codec import encode
from arena_ckpt.definition.description import describe
from arena_ckpt.errors import (
    AfterInitializationError,
    ArenaWarning,
    CorruptSavedStateError,
    InvalidParameterError,
    NotInitializedError,
    SavedStateError,
    SavedStateMismatchError,
    SavedStateNotFoundError,
    SavedStateVersionError,
    StateError,
    UnwritableFileError,
)
from arena_ckpt.examples import EXAMPLES, load_example
from arena_ckpt.files import atomic_write, tensor_file
from arena_ckpt.layers.dense import FullyConnected
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.planner import make_plan
from arena_ckpt.planning.recompute import Rerun
from arena_ckpt.training.saved_state import FORMAT, PLAN, RECORDS, VERSION

SMALL = chain(
    *(5, "gelu", 5, "relu", 3),
    blocks=(("fc1", "act1", "fc2"),),
    optimizer=("adam", {"learning_rate": 0.01}),
    batch_size=8,
)


def state_of(model: Model) -> dict[str, bytes]:
    """Everything that lasts from one iteration to the next, but for the count."""
    assert model._session is not None
    return {n: view.tobytes() for n, view in model._session.persistent().items()}


def trained(spec: ModelSpec = SMALL, steps: int = 3, **request: Any) -> Model:
    model = spec.model()
    model.initialize(**request)
    for step in range(steps):
        model.train_step(*spec.batch(8, seed=step))
    return model


# -- round trips -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"debug": True},
        {"max_overhead": 0.5},
        {"max_overhead": 0.5, "allow": ["recompute", "micro_batch"]},
    ],
    ids=str,
)
def test_a_loaded_model_goes_on_as_the_saved_one(
    request_: dict[str, Any], tmp_path: Path
) -> None:
    model = trained(**request_)
    model.save(tmp_path / "model.safetensors")
    loaded = ac.load(tmp_path / "model.safetensors")

    assert loaded.plan == model.plan
    assert state_of(loaded) == state_of(model)
    for step in range(3, 6):
        batch = SMALL.batch(8, seed=step)
        assert loaded.train_step(*batch) == model.train_step(*batch)
    assert state_of(loaded) == state_of(model)


LARGE = (
    "resnet18",
    "gpt",
    "llama_tiny",
    "mobilenet_v2",
)  # of the same layers as the others


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in LARGE])
def test_every_example_comes_back(name: str, tmp_path: Path) -> None:
    example = load_example(name)
    example.model.initialize()
    assert example.data is not None
    n = example.model.get_property("batch_size")
    batch = first_batch(example, n)
    example.model.train_step(*batch)
    example.model.save(tmp_path / "it")
    loaded = ac.load(tmp_path / "it")
    assert loaded.plan == example.model.plan
    assert loaded.train_step(*batch) == example.model.train_step(*batch)
    assert state_of(loaded) == state_of(example.model)


def test_a_state_goes_back_into_the_model(tmp_path: Path) -> None:
    model = trained()
    model.save(tmp_path / "best")
    before = state_of(model)
    losses = [model.train_step(*SMALL.batch(8, seed=s)) for s in (3, 4)]
    model.restore(tmp_path / "best")
    assert state_of(model) == before
    assert [model.train_step(*SMALL.batch(8, seed=s)) for s in (3, 4)] == losses


def test_a_loaded_model_has_the_plan_that_it_had(tmp_path: Path) -> None:
    """Not the one that would be made: what it recomputes is nowhere else."""
    model = chain(5, "gelu", 4, "gelu", 3).model()
    again = (Rerun("fc3", "fc2", ("fc2:out0",)), Rerun("fc3", "act2", ("act2:out0",)))
    settings = replace(
        ModelPlans(model).settings(), ways=frozenset({"layerwise_update"})
    )
    plan = make_plan(model.compile(), settings, again)
    assert plan != model.make_plan()
    model.initialize(plan=plan)
    model.save(tmp_path / "state")
    assert ac.load(tmp_path / "state").plan == plan


def test_training_goes_on_in_the_same_order(tmp_path: Path) -> None:
    x, y = SMALL.batch(40)
    model = SMALL.initialized()
    model.train((x, y), epochs=2)
    model.save(tmp_path / "it")
    model.train((x, y), epochs=2)
    loaded = ac.load(tmp_path / "it")
    loaded.train((x, y), epochs=2)
    assert state_of(loaded) == state_of(model)


@pytest.mark.parametrize("name", ["Model", "ümläut 🦆", "valid_set", "a b/c", "x" * 99])
def test_any_name_of_a_layer_is_saved(name: str, tmp_path: Path) -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:3")
    model.add_layer("fully_connected", name=name, unit=2)
    model.add_layer("mse", name="loss")
    model.add_checkpoint_block(["in", name], name=f"block {name}")
    model.initialize()
    model.save(tmp_path / "it")
    loaded = ac.load(tmp_path / "it")
    assert [layer.name for layer in loaded.layers] == ["in", name, "loss"]
    assert loaded.blocks == model.blocks


def test_the_same_state_is_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        trained().save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    "name", ["with space", "ünïcode 🦆", "a/../b", "x" * 250, "no.suffix.at.all"]
)
def test_paths_of_all_kinds(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    model = trained()
    model.save(tmp_path / name)
    assert state_of(ac.load(str(tmp_path / name))) == state_of(model)


# -- readable by others ----------------------------------------------------------------


def test_others_can_read_the_weights(tmp_path: Path) -> None:
    model = trained()
    model.save(tmp_path / "it.safetensors")
    found = safetensors.numpy.load_file(tmp_path / "it.safetensors")
    for name, weight in model.weights().items():
        np.testing.assert_array_equal(found[name], weight)
        assert found[f"{name}:first_moment"].shape == weight.shape
    assert found[PLAN].tobytes().decode() == model.plan.to_json()


def test_the_names_of_what_is_no_tensor_stay() -> None:
    """They are part of the file, and older files have them: no module is meant."""
    assert (FORMAT, PLAN, RECORDS) == (
        "arena_ckpt saved state",
        "arena_ckpt.plan",
        "arena_ckpt.records",
    )


# -- damage ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "it"
    trained().save(path)
    return path.read_bytes()


def refused(path: Path, content: bytes) -> SavedStateError:
    path.write_bytes(content)
    with pytest.raises(SavedStateError) as caught:
        ac.load(path)
    assert isinstance(caught.value, ValueError)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    return caught.value


def test_a_file_cut_anywhere_is_refused(saved: bytes, tmp_path: Path) -> None:
    lengths = [*range(0, 40), *range(40, len(saved), 997), len(saved) - 1]
    for length in lengths:
        error = refused(tmp_path / "cut", saved[:length])
        assert isinstance(error, CorruptSavedStateError)


def test_a_byte_flipped_anywhere_is_found(saved: bytes, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    places = [*range(0, 300), *generator.integers(0, len(saved), 300).tolist()]
    for place in places:
        flipped = bytearray(saved)
        flipped[place] ^= 1 << int(generator.integers(8))
        refused(tmp_path / "flipped", bytes(flipped))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a zip archive",
        pickle.dumps({"a": print}),
        (2**63).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        safetensors.numpy.save({"a": np.zeros(3)}),
        safetensors.numpy.save({"a": np.zeros(3)}, {"arena_ckpt": "{}"}),
        safetensors.numpy.save({"a": np.zeros(3)}, {"arena_ckpt": "[" * 10**5}),
    ],
    ids=lambda content: repr(content[:20]),
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    assert isinstance(refused(tmp_path / "other", content), CorruptSavedStateError)


def test_a_small_file_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    """The header states a terabyte of weights."""
    header = (
        b'{"a":{"dtype":"F32","shape":[274877906944],"data_offsets":[0,1099511627776]}}'
    )
    content = len(header).to_bytes(8, "little") + header + b"\0" * 900
    tracemalloc.start()
    try:
        refused(tmp_path / "bomb", content)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [[0, 2**62, 2**62], [0] + [1] * 99], ids=len)
def test_shapes_without_elements_that_numpy_cannot_have(
    shape: list[int], saved: bytes, tmp_path: Path
) -> None:
    length = int.from_bytes(saved[:8], "little")
    header = json.loads(saved[8 : 8 + length])
    end = len(saved) - 8 - length
    header["empty"] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end]}
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + saved[8 + length :]
    error = refused(tmp_path / "it", content)
    assert isinstance(error, CorruptSavedStateError)


@pytest.mark.parametrize("length", [100_000_001, 2**63])
def test_a_header_that_nobody_reads_is_not_looked_at(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_file.json, "loads", None)
    content = length.to_bytes(8, "little") + b"{}"
    assert "header would have" in str(refused(tmp_path / "it", content))


def test_more_than_the_memory_that_is_free(
    saved: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_file, "available_bytes", lambda: 2 * len(saved) - 1)
    assert "of memory free" in str(refused(tmp_path / "it", saved))
    monkeypatch.setattr(tensor_file, "available_bytes", lambda: 2 * len(saved))
    ac.load(tmp_path / "it")

    def fail(_: Path) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(SavedStateError, match="ulimit"):
        ac.load(tmp_path / "it")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SavedStateNotFoundError, match="does not exist") as caught:
        ac.load(tmp_path / "gone")
    assert isinstance(caught.value, FileNotFoundError)
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(SavedStateError):
            ac.load(path)
    for path in (None, 3, ["a"]):
        with pytest.raises(InvalidParameterError, match="is no path"):
            ac.load(path)  # type: ignore[arg-type]


def rewritten(
    path: Path,
    change: Callable[[dict[str, Any]], object],
    others: tensor_file.Arrays | None = None,
) -> Path:
    """Change the document of a file, with a checksum as if someone had meant it."""
    arrays, document = tensor_file.read_tensor_file(
        path, format_name=FORMAT, version=VERSION
    )
    arrays = others or arrays
    change(document)
    version = document.pop("version")
    tensor_file.write_tensor_file(
        path,
        arrays,
        {k: v for k, v in document.items() if k not in ("format", "checksum")},
        format_name=FORMAT,
        version=version,
    )
    return path


def test_a_newer_version_says_so(saved: bytes, tmp_path: Path) -> None:
    path = tmp_path / "new"
    path.write_bytes(saved)
    rewritten(path, lambda document: document.update(version=VERSION + 1))
    with pytest.raises(SavedStateVersionError, match="install a newer") as caught:
        ac.load(path)
    assert caught.value.version == VERSION + 1


@pytest.mark.parametrize("what", ["package", "version", "name", "iteration"])
def test_a_message_repeats_little_of_a_file(
    what: str, saved: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "it"
    path.write_bytes(saved)
    arrays, document = tensor_file.read_tensor_file(
        path, format_name=FORMAT, version=VERSION
    )
    version: Any = document["version"]
    for name in ("format", "checksum", "version"):
        del document[name]
    if what == "package":
        document["package"], version = "x" * 10**5, VERSION + 1
    elif what == "version":
        version = ["x" * 10**5]
    elif what == "name":
        arrays["x" * 10**5] = np.zeros(1, np.float32)
    else:
        document["iteration"] = 10**4000
    tensor_file.write_tensor_file(
        path, arrays, document, format_name=FORMAT, version=version
    )
    with pytest.raises(SavedStateError) as caught:
        ac.load(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("model"), "lacks model"),
        (lambda d: d.update(iteration=-1), "iteration is -1"),
        (lambda d: d.update(iteration=2**70), "iteration is 11805"),
        (lambda d: d.update(plan_checksum="sha256:0"), "not the one"),
        (lambda d: d.update(iteration="3"), "expected a value of type int"),
        (lambda d: d["model"].update(seed=2**64), "seed"),
        (lambda d: d["model"].update(layers=[], blocks=[]), "no layers|empty"),
        (lambda d: d["model"]["layers"][1]["properties"].update(unit="6"), "unit|plan"),
        (lambda d: d["model"]["properties"].update(layer="6"), "layer"),
        (lambda d: d["model"].update(optimizer={"type_name": "adam"}), "lacks"),
        (lambda d: d["model"]["optimizer"].update(type_name="sgd"), "beta|learn|plan"),
    ],
)
def test_a_document_that_describes_no_model(
    change: Callable[[dict[str, Any]], object],
    message: str,
    saved: bytes,
    tmp_path: Path,
) -> None:
    path = tmp_path / "it"
    path.write_bytes(saved)
    with pytest.raises(CorruptSavedStateError, match=message):
        ac.load(rewritten(path, change))


@pytest.mark.parametrize("version", [4, 5])
def test_a_plan_of_an_earlier_version_is_used_as_it_is(
    version: int, saved: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "old"
    path.write_bytes(saved)
    arrays, _ = tensor_file.read_tensor_file(path, format_name=FORMAT, version=VERSION)
    plan = MemoryPlan.from_json(arrays[PLAN].tobytes().decode())
    text = older_text(plan, version)
    arrays[PLAN] = np.frombuffer(text.encode(), np.uint8)
    own = json.loads(text)["checksum"]
    assert own != plan.checksum
    loaded = ac.load(
        rewritten(path, lambda document: document.update(plan_checksum=own), arrays)
    )
    assert loaded.plan == MemoryPlan.from_json(text)
    batch = SMALL.batch(8, seed=7)
    assert loaded.train_step(*batch) == trained().train_step(*batch)


def test_a_plan_of_another_version_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained()
    with monkeypatch.context() as older:
        older.setattr("arena_ckpt.planning.plan.PLAN_VERSION", 3)
        model.save(tmp_path / "old")
    with pytest.warns(ArenaWarning, match="planned anew: .* B"):
        loaded = ac.load(tmp_path / "old")
    assert state_of(loaded) == state_of(model)
    batch = SMALL.batch(8, seed=7)
    assert loaded.train_step(*batch) == model.train_step(*batch)


def test_a_layer_of_ones_own_has_to_be_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mine(FullyConnected):
        type_name = "mine"

    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:3")
    model.add_layer(Mine({"name": "fc", "unit": 2}))
    model.add_layer("mse", name="loss")
    model.initialize()
    model.save(tmp_path / "it")
    with pytest.raises(SavedStateError, match=r"unknown.*'mine'.*register_layer"):
        ac.load(tmp_path / "it")
    monkeypatch.setitem(ac.layers.LAYER_TYPES, "mine", Mine)  # type: ignore[attr-defined]
    assert state_of(ac.load(tmp_path / "it")) == state_of(model)


class Doubled(FullyConnected):
    """Of the type fully_connected, but another layer."""


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (Doubled({"name": "fc", "unit": 2}), r"it is a Doubled, .* FullyConnected"),
        (
            FullyConnected({"name": "fc", "unit": 2, "weight_decay": np.float64(0.1)}),
            r"weight_decay=np\.float64",
        ),
        (FullyConnected({"name": "fc", "unit": 2, "mine": 3}), "would be read back as"),
    ],
)
def test_what_would_not_come_back_is_not_saved(
    layer: FullyConnected, why: str, tmp_path: Path
) -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:3")
    model.add_layer(layer)
    model.add_layer("mse", name="loss")
    model.initialize()
    with pytest.raises(InvalidParameterError, match=f"saved as text: .*{why}"):
        model.save(tmp_path / "it")
    data = np.ones((2, 3), np.float32), np.ones((2, 2), np.float32)
    with pytest.raises(InvalidParameterError, match=f"saved as text: .*{why}"):
        model.train(data, checkpoint=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_memory_is_not_taken_for_weights_that_a_file_only_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model with 256 MiB of weights the file has all but these."""
    small, large = (chain(n, 1, width=n) for n in (2, 8192))
    small.initialized().save(tmp_path / "it")
    model = large.model()
    plan = model.make_plan()
    arrays, document = tensor_file.read_tensor_file(
        tmp_path / "it", format_name=FORMAT, version=VERSION
    )
    arrays[PLAN] = np.frombuffer(plan.to_json().encode(), np.uint8)
    document |= {"model": encode(describe(model)), "plan_checksum": plan.checksum}
    for name in ("format", "version", "checksum"):
        del document[name]
    tensor_file.write_tensor_file(
        tmp_path / "it", arrays, document, format_name=FORMAT, version=VERSION
    )
    monkeypatch.setattr(Model, "initialize", None)
    with pytest.raises(
        SavedStateMismatchError, match=r"fc1:weight is .*\(8192, 8192\)"
    ):
        ac.load(tmp_path / "it")


@pytest.mark.parametrize("other", ["wider", "sgd", "longer"])
def test_a_state_of_another_model_changes_nothing(other: str, tmp_path: Path) -> None:
    sizes = {"wider": (5, "gelu", 6, "relu", 3), "sgd": (5, "gelu", 5, "relu", 3)}
    optimizer = SMALL.optimizer if other != "sgd" else ("sgd", {"momentum": 0.9})
    spec = chain(
        *sizes.get(other, (5, "gelu", 5, "relu", 5, "relu", 3)),
        optimizer=optimizer,
        batch_size=8,
    )
    spec.initialized().save(tmp_path / "other")
    model = trained()
    before = state_of(model)
    with pytest.raises(SavedStateMismatchError, match="Nothing was changed"):
        model.restore(tmp_path / "other")
    assert state_of(model) == before


# -- failing writes --------------------------------------------------------------------


def fails_with(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_failed_write_leaves_the_old_file(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained()
    model.save(tmp_path / "it")
    before = (tmp_path / "it").read_bytes()
    model.train_step(*SMALL.batch(8, seed=9))
    state = state_of(model)
    with monkeypatch.context() as broken:
        broken.setattr(atomic_write.os, call, fails_with(number))
        with pytest.raises(UnwritableFileError, match="cannot be written") as caught:
            model.save(tmp_path / "it")
    assert isinstance(caught.value, OSError)
    assert os.strerror(number) in str(caught.value)
    if number == errno.ENOSPC:
        assert "are free" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["it"]
    assert (tmp_path / "it").read_bytes() == before
    assert state_of(model) == state
    model.save(tmp_path / "it")
    assert (tmp_path / "it").read_bytes() != before


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_folder_that_cannot_be_flushed(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems flush files alone; what fails otherwise is told as it is."""
    model = trained()
    model.save(tmp_path / "it")
    model.train_step(*SMALL.batch(8, seed=9))
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(atomic_write.os, "fsync", fail)
    if number == errno.EINVAL:
        model.save(tmp_path / "it")
    else:
        with pytest.raises(UnwritableFileError, match=r"is written, but .*power cut"):
            model.save(tmp_path / "it")
    assert state_of(ac.load(tmp_path / "it")) == state_of(model)


LIMITED = """
import resource, signal, sys
import arena_ckpt as ac
from arena_ckpt.errors import UnwritableFileError
model = ac.load(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    model.save(sys.argv[1])
except UnwritableFileError as error:
    print(error)
"""


def test_a_write_that_the_system_ends_leaves_the_old_file(tmp_path: Path) -> None:
    """The kernel refuses the rest of the file, as it does on a full disk."""
    pytest.importorskip("resource", reason="there are no limits here")
    model = trained()
    model.save(tmp_path / "it")
    before = (tmp_path / "it").read_bytes()
    assert len(before) > 4096
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "it")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot be written (File too large)" in done.stdout
    assert (tmp_path / "it").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["it"]


def test_places_where_nothing_can_be_written(tmp_path: Path) -> None:
    model = trained()
    for path in (tmp_path, tmp_path / "no/where", Path("/dev/null"), "a\0b", ""):
        with pytest.raises(UnwritableFileError, match="cannot be written"):
            model.save(path)
    for path in (None, 3):
        with pytest.raises(InvalidParameterError, match="is no path"):
            model.save(path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_where_we_are_may_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    with pytest.raises(UnwritableFileError, match="cannot be written"):
        trained().save("it")


def test_a_link_goes_on_pointing_where_it_points(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    trained().save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    ac.load(tmp_path / "real")


def test_a_signal_handler_cannot_train_while_a_state_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained()
    refusals: list[str] = []
    fsync = os.fsync

    def meanwhile(number: int) -> None:
        try:
            model.train_step(*SMALL.batch(8))
        except StateError as error:
            refusals.append(str(error))
        fsync(number)

    with monkeypatch.context() as patched:
        patched.setattr(atomic_write.os, "fsync", meanwhile)
        model.save(tmp_path / "it")
    assert refusals
    assert "signal handler" in refusals[0]
    assert state_of(ac.load(tmp_path / "it")) == state_of(model)


def test_a_model_without_weights_is_not_saved(tmp_path: Path) -> None:
    for call in (Model.save, Model.restore):
        with pytest.raises(NotInitializedError):
            call(SMALL.model(), tmp_path / "it")
    assert not list(tmp_path.iterdir())


def test_the_seed_of_an_initialized_model_stays() -> None:
    model = trained()
    with pytest.raises(AfterInitializationError, match="Cannot change the seed"):
        model.seed = 7
    assert model.seed == 3
