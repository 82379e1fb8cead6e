"""Files with the state of a training as a device saves it, written and read here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from arena_ckpt.c_export.device_state import DeviceState
from arena_ckpt.errors import SavedStateError, SavedStateNotFoundError
from arena_ckpt.files.atomic_write import write_whole

if TYPE_CHECKING:
    from arena_ckpt.engine.session import Session


def write_device_state(path: str, session: Session) -> None:
    """Write what a device with the same plan restores.

    Raises
    ------
    UnwritableFileError
    """
    blob = b""

    def encode() -> None:
        nonlocal blob
        state = DeviceState.of(session.plan)
        blob = state.encode(session.iteration, session.persistent())

    session.in_turn(encode)
    write_whole(path, lambda file: file.write(blob))


def read_device_state(path: str, session: Session) -> None:
    """Take over what a device has saved; nothing changes unless it is whole.

    Raises
    ------
    SavedStateNotFoundError, CorruptSavedStateError, SavedStateMismatchError
    """
    try:
        blob = Path(path).read_bytes()
    except FileNotFoundError:
        raise SavedStateNotFoundError(
            f"there is no file {path}; it is what NAME_save of a project in C writes",
            path=path,
        ) from None
    except (OSError, ValueError) as error:
        raise SavedStateError(f"{path} cannot be read ({error})", path=path) from None
    iteration, arrays = DeviceState.of(session.plan).decode(blob, path)
    kept = {n: a.copy() for n, a in session.persistent().items() if n not in arrays}
    session.restore({**kept, **arrays}, iteration)
