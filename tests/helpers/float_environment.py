"""The floating-point environment of this thread, through the C library alone.

Neither Numba nor what it compiles has a part in it, so it can judge both; and a process
can use it before it loads any of them.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

MACHINE = platform.machine()
HAS = platform.libc_ver()[0] == "glibc" and MACHINE in ("x86_64", "aarch64")
needs_glibc = pytest.mark.skipif(not HAS, reason="knows glibc's fenv_t alone")

# Where the register with the flags stands in fenv_t, and its bits.
_PLACE = {"x86_64": 28, "aarch64": 0}.get(MACHINE, 0)
FLUSH = {"x86_64": 0x8040, "aarch64": 1 << 24}.get(MACHINE, 0)
UPWARD = {"x86_64": 0x4000, "aarch64": 1 << 22}.get(MACHINE, 0)
CONTROL = {"x86_64": 0xFFC0, "aarch64": 0xFFFFFFFF}.get(MACHINE, 0)
"""Flags, without the exceptions that have happened."""

EXCEPTIONS = {"x86_64": 0x3D, "aarch64": 0x1F}.get(MACHINE, 0)
"""FE_ALL_EXCEPT."""


def _libm() -> ctypes.CDLL:
    return ctypes.CDLL("libm.so.6")


def flags() -> int:
    """Return the register that holds the flags."""
    environment = ctypes.create_string_buffer(32)
    _libm().fegetenv(environment)
    return int(struct.unpack_from("<I", environment, _PLACE)[0])


def set_flags(value: int) -> None:
    """Set that register, and leave everything else."""
    environment = ctypes.create_string_buffer(32)
    _libm().fegetenv(environment)
    struct.pack_into("<I", environment, _PLACE, value)
    _libm().fesetenv(environment)


@contextmanager
def having(added: int) -> Iterator[None]:
    """Set some flags for a while."""
    before = flags()
    set_flags(before | added)
    try:
        yield
    finally:
        set_flags(before)


def exceptions() -> int:
    """Return the exceptions that have happened since they were cleared."""
    return int(_libm().fetestexcept(EXCEPTIONS))


def clear_exceptions() -> None:
    """Forget them."""
    _libm().feclearexcept(EXCEPTIONS)
