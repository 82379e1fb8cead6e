"""The target for saved models: safetensors with our own document, and a plan."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from hypothesis import strategies as st

import arena_ckpt as ac
from arena_ckpt.files import tensor_file
from arena_ckpt.training.saved_state import FORMAT, PLAN, VERSION
from fuzzing.guard import Finding, Limits, guarded
from fuzzing.mutate import HUGE, Short, changed_json, mutated
from fuzzing.readers import dumps, small_model
from fuzzing.target import Target, empty_folder, reads_file

_X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
_Y = np.array([0, 1, 2, 1])
_LIMITS = Limits(cpu_seconds=5)
Arrays = dict[str, np.ndarray]


def _saved() -> bytes:
    model = small_model()
    model.initialize()
    model.train_step(_X, _Y)
    with empty_folder() as folder:
        model.save(folder / "model.safetensors")
        return (folder / "model.safetensors").read_bytes()


def state_bytes(header: Any, body: bytes) -> bytes:
    """Return a safetensors file of any header."""
    text = dumps(header)
    return struct.pack("<Q", len(text)) + text + body


def split_state(data: bytes) -> tuple[dict[str, Any], bytes] | None:
    """Return header and body, or None where there is no header."""
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
    except (ValueError, struct.error, RecursionError, OverflowError):
        return None
    return (header, data[8 + length :]) if isinstance(header, dict) else None


def resealed_state(data: bytes) -> bytes | None:
    """Return a file with the checksum of its content, where it has any."""
    parts = split_state(data)
    if parts is None:
        return None
    header, body = parts
    try:
        arrays = dict(sorted(safetensors.numpy.load(data).items()))
        document = json.loads(header["__metadata__"][tensor_file.KEY])
        document["checksum"] = tensor_file._checksum(document, arrays)
        header["__metadata__"][tensor_file.KEY] = tensor_file._text(document)
    except (safetensors.SafetensorError, LookupError, TypeError, ValueError):
        return None
    except RecursionError:
        return None
    return state_bytes(header, body)


def _read_state(data: bytes, folder: Path) -> None:
    """Load a file as it is and with its checksum set right; train what was loaded."""
    path = folder / "model.safetensors"
    for content in (data, resealed_state(data)):
        if content is None:
            continue
        path.write_bytes(content)
        with guarded(_LIMITS, folder):
            tensor_file.read_tensor_file(path, format_name=FORMAT, version=VERSION)
        model = None
        with guarded(_LIMITS, folder):
            model = ac.load(path)
        if model is not None:
            with guarded(_LIMITS, folder):
                model.train_step(_X, _Y)
        with guarded(_LIMITS, folder):
            _restore(path)
        if path.read_bytes() != content:
            raise Finding("the file was changed")


def _restore(path: Path) -> None:
    """Put a state into a model that has one; it stays as it was where that fails."""
    before = _OTHER.weights()
    try:
        _OTHER.restore(path)
    except ac.ArenaError:
        after = _OTHER.weights()
        if any(before[name].tobytes() != after[name].tobytes() for name in before):
            raise Finding("a state that was refused changed the model") from None
        raise


def _resume(data: bytes, folder: Path) -> None:
    """Go on from the state of a training, as it is and with its checksum set right."""
    run = folder / "run"
    for content in (data, resealed_state(data)):
        if content is None:
            continue
        run.mkdir()
        (run / _STATE_NAME).write_bytes(content)
        try:
            with empty_folder() as watched, guarded(_LIMITS, watched):
                _train(run, resume=True)
            left = [p.name for p in run.iterdir() if p.name.endswith(".part")]
            if left:
                raise Finding(f"{left} were left behind")
        finally:
            os.chdir(folder)
            shutil.rmtree(run)


def _train(run: Path, *, resume: bool) -> None:
    model = small_model()
    model.initialize()
    model.train(
        (_X, _Y), epochs=2, progress=False, checkpoint=run, resume=resume, every=1
    )


def _state_of_a_training() -> tuple[str, bytes]:
    with empty_folder() as folder:
        _train(folder / "run", resume=False)
        path = min((folder / "run").glob("*.safetensors"))
        return path.name, path.read_bytes()


_OTHER = small_model()
_OTHER.initialize()
SAVED = _saved()
_STATE_NAME, _RUNSAVED = _state_of_a_training()
_RUN_HEADER, _RUN_BODY = split_state(_RUNSAVED) or ({}, b"")
_RUN_DOCUMENT = json.loads(_RUN_HEADER["__metadata__"][tensor_file.KEY])
_HEADER, _BODY = split_state(SAVED) or ({}, b"")
_DOCUMENT = json.loads(_HEADER["__metadata__"][tensor_file.KEY])
_ARRAYS: Arrays = safetensors.numpy.load(SAVED)
_PLAN_DOCUMENT = json.loads(_ARRAYS[PLAN].tobytes())


def _with_document(document: Any) -> bytes:
    metadata = {tensor_file.KEY: dumps(document).decode()}
    return state_bytes({**_HEADER, "__metadata__": metadata}, _BODY)


def _with_run(document: Any) -> bytes:
    metadata = {tensor_file.KEY: dumps(document).decode()}
    return state_bytes({**_RUN_HEADER, "__metadata__": metadata}, _RUN_BODY)


def _with_header(header: Any) -> bytes:
    return state_bytes(header, _BODY)


def _with_arrays(changed: Arrays) -> bytes:
    metadata = _HEADER["__metadata__"]
    return bytes(safetensors.numpy.save({**_ARRAYS, **changed}, metadata))


def _with_plan(document: Any) -> bytes:
    return _with_arrays({PLAN: np.frombuffer(dumps(document), np.uint8)})


_odd_arrays = st.sampled_from(
    Short(
        (
            np.zeros(5, np.float32),
            np.full((6, 5), np.nan, np.float32),
            np.full(5, np.inf, np.float32),
            np.zeros((6, 5)),
            np.zeros((0, 5), np.float32),
            np.zeros((), np.int64),
            np.zeros(3, np.uint8),
            np.full(5, -1, np.float32),
        )
    )
)
_changed_arrays = st.dictionaries(
    st.sampled_from([*sorted(_ARRAYS), "new"]), _odd_arrays, min_size=1, max_size=2
)
_claims = st.builds(
    lambda length: struct.pack("<Q", length) + SAVED[8:],
    st.sampled_from((0, 1, *(n for n in HUGE if n < 2**64))),
)


def _bin_bytes() -> bytes:
    with empty_folder() as folder:
        _OTHER.save_nntrainer_bin(folder / "w.bin")
        return (folder / "w.bin").read_bytes()


def _read_bin(path: Path) -> None:
    """Load weights of NNTrainer; what is loaded is written back, and trains."""
    model = _OTHER
    content = path.read_bytes()
    before = _bin_bytes()
    try:
        model.load_nntrainer_bin(path)
    except ac.ArenaError:
        if _bin_bytes() != before:
            raise Finding("a refused file changed the model") from None
        raise
    if _bin_bytes()[: len(content)][:4] != content[:4]:
        raise Finding("what was loaded is not what the file holds")


_BIN = _bin_bytes()

STATES = (
    Target(
        "saved_model",
        mutated((SAVED,), (b'"F32"', b'"BF16"', b'"data_offsets":[0,', b'\\"run\\":'))
        | _claims
        | changed_json((_DOCUMENT,)).map(_with_document)
        | changed_json((_HEADER,)).map(_with_header)
        | changed_json((_PLAN_DOCUMENT,)).map(_with_plan)
        | _changed_arrays.map(_with_arrays),
        _read_state,
        seeds=(SAVED,),
        warm_up=lambda: _OTHER.train_step(_X, _Y),
    ),
    Target(
        "resume",
        mutated((_RUNSAVED, SAVED), (b'\\"run\\":null', b"progress", b"iteration"))
        | changed_json((_RUN_DOCUMENT,)).map(_with_run)
        | changed_json((_RUN_DOCUMENT["run"],)).map(
            lambda run: _with_run({**_RUN_DOCUMENT, "run": run})
        ),
        _resume,
        seeds=(_RUNSAVED,),
        warm_up=_state_of_a_training,
    ),
    Target(
        "nntrainer_bin",
        mutated((_BIN,), (b"adam", b"\0\0\xc0\x7f", b"\0\0\x80\xff"))
        | st.binary(max_size=400),
        reads_file("w.bin", _read_bin),
        seeds=(_BIN,),
        warm_up=lambda: _OTHER.train_step(_X, _Y),
    ),
)
