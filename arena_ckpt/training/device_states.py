"""The state of a session as a device saves it, in a file, and back.

The file holds the bytes that the exported C project saves and restores, so that a
training can move between a board and this machine. Trained weights, moving statistics,
states of the optimizer and the iteration are in it; constants are not, since no step
changes them.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from arena_ckpt.c_export.device_state import (
    CRC,
    HEADER,
    MAGIC,
    MOST_ITERATIONS,
    VERSION,
    DeviceState,
)
from arena_ckpt.c_export.exported_model import ExportedModel, FloatArray
from arena_ckpt.common.arithmetics import PORTABLE
from arena_ckpt.errors import (
    InvalidParameterError,
    PlanMismatchError,
    SavedStateVersionError,
)
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.files.tensor_file import corrupt, read_content

if TYPE_CHECKING:
    from arena_ckpt.engine.session import Session

_SHOWN_DIGITS = 12


def write_device_state(path: str, session: Session) -> None:
    """Write the state of a session; an existing file is replaced, or left as it was.

    Raises
    ------
    InvalidParameterError
        The session is not in portable arithmetic.
    UnwritableFileError
    """
    _require_portable(session)
    state = state_of(session)

    def write() -> None:
        if session.iteration >= MOST_ITERATIONS:
            raise InvalidParameterError(
                f"the model has made {session.iteration:,} iterations, and a device "
                f"counts less than {MOST_ITERATIONS:,}; save it with model.save(path)",
                iteration=session.iteration,
            )
        content = state.encode(session.iteration, session.persistent())
        write_whole(path, lambda file: file.write(content))

    session.in_turn(write)


def read_device_state(path: str, session: Session) -> None:
    """Put the state in a file into a session, whole or not at all.

    Raises
    ------
    InvalidParameterError
        The session is not in portable arithmetic.
    SavedStateNotFoundError, SavedStateError
        There is no such file, or it cannot be read.
    CorruptSavedStateError
        It is cut short, altered, or something else.
    SavedStateVersionError
        It is whole, and of another version of the format.
    PlanMismatchError
        It is whole, and of another plan, other layers or other constants.
    """
    _require_portable(session)
    content = _read_whole(path)
    state = state_of(session)
    _require_own_plan(path, content, state, session)
    iteration = HEADER.unpack_from(content)[-1]
    arrays = dict(session.persistent())
    start = HEADER.size
    for name, region in state.tensors.items():
        dtype = np.dtype(region.dtype).newbyteorder("<")
        values = np.frombuffer(content, dtype, region.size, start)
        arrays[name] = values.reshape(arrays[name].shape)
        start += region.nbytes
    session.restore(arrays, iteration)


def state_of(session: Session) -> DeviceState:
    """Return what lasts in the program of a session."""
    return exported_of(session, session.persistent()).state()


def exported_of(session: Session, weights: Mapping[str, FloatArray]) -> ExportedModel:
    """Return the model of a session as it is exported, with the given weights."""
    return ExportedModel(
        session.graph,
        session.plan,
        session.optimizer,
        session.schedule,
        session.seed,
        session.max_norm,
        weights,
        session.standardization,
    )


def _require_portable(session: Session) -> None:
    if session.graph.arithmetic != PORTABLE:
        raise InvalidParameterError(
            f"the model computes in arithmetic={session.graph.arithmetic!r}, whose "
            "bits no device has; build it with set_property(arithmetic='portable')",
            arithmetic=session.graph.arithmetic,
        )


def _read_whole(path: str) -> bytes:
    """Return the bytes of a file that is a whole state, of whatever plan."""
    content = read_content(path)
    if len(content) < HEADER.size + CRC.size:
        raise corrupt(path, f"it has {len(content):,} bytes, and no state has so few")
    magic, version, n_bytes, _, iteration = HEADER.unpack_from(content)
    if magic != MAGIC:
        raise corrupt(path, f"it does not begin with {MAGIC!r}")
    if n_bytes != len(content):
        raise corrupt(path, f"it has {len(content):,} bytes and says {n_bytes:,}")
    if content[-CRC.size :] != CRC.pack(zlib.crc32(content[: -CRC.size])):
        raise corrupt(path, "its checksum is not that of its content")
    if version != VERSION:
        raise SavedStateVersionError(
            f"{path} is a state of version {version} of the format, and this package "
            f"reads version {VERSION}; export the C project again with it",
            path=path,
            version=version,
        )
    if iteration >= MOST_ITERATIONS:
        raise corrupt(path, f"its iteration is {iteration:,}")
    return content


def _require_own_plan(
    path: str, content: bytes, state: DeviceState, session: Session
) -> None:
    n_bytes = len(content)
    digest = HEADER.unpack_from(content)[3]
    if digest == state.digest:
        if n_bytes != state.n_bytes:
            raise corrupt(path, f"it has {n_bytes:,} bytes, for {state.n_bytes:,}")
        return
    found, own = digest.hex(), state.digest.hex()
    of_size = (
        f"of the same {n_bytes:,} bytes"
        if n_bytes == state.n_bytes
        else f"of {n_bytes:,} bytes, and this model has {state.n_bytes:,}"
    )
    debug = (
        "; the model is initialized with debug, which devices have not"
        if session.plan.canary_bytes
        else ""
    )
    raise PlanMismatchError(
        f"{path} is a state {of_size}, of another plan, other layers or other "
        f"constants: their SHA-256 begins with {found[:_SHOWN_DIGITS]}, that of this "
        f"model with {own[:_SHOWN_DIGITS]}{debug}. Initialize the same model with the "
        "request that the C project was exported with, or export this one. Nothing was "
        "changed",
        what="plan",
        path=path,
        found=f"sha256:{found}",
        expected=f"sha256:{own}",
    )
