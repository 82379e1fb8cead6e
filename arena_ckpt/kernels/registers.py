"""The registers that hold the floating-point flags of a thread, for compiled code.

Flags say how numbers are rounded, whether subnormal operands and results count as 0,
and what an exception does. IEEE's default rounds to nearest, keeps subnormal numbers
and goes on after an exception. Beside them stand the exceptions that have happened,
which stay until someone clears them.

==============  ===============================================  =============
processor       flags                                            exceptions
==============  ===============================================  =============
x86-64          MXCSR, bits 6 to 15 (DAZ, masks, rounding, FTZ)  MXCSR, 0 to 5
aarch64         FPCR                                             FPSR
==============  ===============================================  =============

On any other processor nothing is read or set: there the flags are whatever the thread
has. x86-64's older x87 unit has flags of its own; neither LLVM nor OpenBLAS computes
float32 or float64 with it there.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from arena_ckpt.kernels.compiling import compiled

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_POINTER = ir.IntType(8).as_pointer()


@dataclass(frozen=True, slots=True)
class Registers:
    """How a kind of processor holds its flags, packed into an int64.

    Attributes
    ----------
    read : callable
        Given an LLVM builder: the registers, as an int64 value.
    write : callable
        Given an LLVM builder and such a value: sets them.
    default : int
        IEEE's default, without exceptions.
    flags : int
        The bits that are flags; the others are exceptions.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any, Any], None]
    default: int
    flags: int


def _call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Call an intrinsic function of LLVM."""
    of_type = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, of_type, name)
    return builder.call(function, arguments)


def _read_x86(builder: Any) -> Any:
    place = cgutils.alloca_once(builder, _I32)
    pointer = builder.bitcast(place, _POINTER)
    _call(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), pointer)
    return builder.zext(builder.load(place), _I64)


def _write_x86(builder: Any, value: Any) -> None:
    place = cgutils.alloca_once(builder, _I32)
    builder.store(builder.trunc(value, _I32), place)
    pointer = builder.bitcast(place, _POINTER)
    _call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), pointer)


def _read_arm(builder: Any) -> Any:
    """FPCR in the lower half, FPSR in the upper."""
    flags, exceptions = (
        _call(builder, f"llvm.aarch64.get.{name}", _I64) for name in ("fpcr", "fpsr")
    )
    return builder.or_(flags, builder.shl(exceptions, ir.Constant(_I64, 32)))


def _write_arm(builder: Any, value: Any) -> None:
    low = builder.and_(value, ir.Constant(_I64, 0xFFFFFFFF))
    high = builder.lshr(value, ir.Constant(_I64, 32))
    for name, half in (("fpcr", low), ("fpsr", high)):
        _call(builder, f"llvm.aarch64.set.{name}", ir.VoidType(), half)


X86_64 = Registers(_read_x86, _write_x86, default=0x1F80, flags=0xFFC0)
AARCH64 = Registers(_read_arm, _write_arm, default=0, flags=0xFFFFFFFF)
UNKNOWN = Registers(
    lambda builder: ir.Constant(_I64, 0), lambda builder, value: None, 0, 0
)


def registers_of(machine: str) -> Registers:
    """Return those of a kind of processor, by the name that Python has for it."""
    known = {"x86_64": X86_64, "amd64": X86_64, "aarch64": AARCH64, "arm64": AARCH64}
    return known.get(machine.lower(), UNKNOWN)


HERE = registers_of(platform.machine())
"""The registers of this processor."""

DEFAULT, FLAGS = HERE.default, HERE.flags

_typed_intrinsic: Any = intrinsic


@_typed_intrinsic
def read_registers(typing_context: Any) -> Any:
    """Return flags and exceptions of the thread, an int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return HERE.read(builder)

    return types.int64(), codegen


@_typed_intrinsic
def write_registers(typing_context: Any, value: Any) -> Any:
    """Set flags and exceptions of the thread to what was read before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        HERE.write(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@compiled
def read():
    """Return flags and exceptions of the thread, to Python."""
    return read_registers()


@compiled
def write(value):
    """Set flags and exceptions of the thread to what was read before."""
    write_registers(value)
