"""Words in which kernels write vectors that LLVM does not find by itself.

Functions over an LLVM builder, for intrinsics; `choose` is for kernels.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import overload

from arena_ckpt.kernels.kernel import typed_intrinsic
from arena_ckpt.operations.sizes import VECTOR_WIDTH

WIDTH = VECTOR_WIDTH
"""Numbers of a vector."""

FLOAT, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, WIDTH)


def _fuses() -> bool:
    """Whether one instruction multiplies and adds; else LLVM would call a function."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return True
    return bool(llvmlite.binding.get_host_cpu_features().get("fma", False))


_FUSES = _fuses()


def _is_wide() -> bool:
    """Whether a register holds 16 numbers, and there are 32 such registers."""
    told: str | None = getattr(config, "CPU_FEATURES", None)
    if told is not None:  # Numba is told what to compile for
        return "+avx512f" in told
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))


IS_WIDE = _is_wide()
"""Whether two vectors fit in one register."""


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Emit ``a * b + c``, rounded once where the machine can."""
    if _FUSES:
        fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(a.type, [a.type] * 3),
            f"llvm.fma.v{a.type.count}f32",
        )
        return builder.call(fma, [a, b, c])
    return builder.fadd(builder.fmul(a, b), c)


def broadcast(builder: Any, value: Any, length: int = WIDTH) -> Any:
    """Emit a vector of one value."""
    nothing = ir.Constant(ir.VectorType(FLOAT, length), ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, length), [0] * length)
    return builder.shuffle_vector(one, nothing, zeros)


def shuffle(builder: Any, low: Any, high: Any, places: list[int]) -> Any:
    """Emit a vector of elements of two: those of the second follow the first's."""
    mask = ir.Constant(ir.VectorType(I32, len(places)), places)
    return builder.shuffle_vector(low, high, mask)


def load_vector(builder: Any, base: Any, elems: Any, length: int = WIDTH) -> Any:
    """Emit reading a vector from `elems` elements behind an address."""
    kind = ir.VectorType(FLOAT, length).as_pointer()
    pointer = builder.bitcast(builder.gep(base, [elems]), kind)
    return builder.load(pointer, align=4)


def store_vector(builder: Any, value: Any, base: Any, elems: Any) -> None:
    """Emit writing one."""
    pointer = builder.bitcast(builder.gep(base, [elems]), VECTOR.as_pointer())
    builder.store(value, pointer, align=4)


def addresses_as(builder: Any, given: Any, *kinds: Any) -> list[Any]:
    """Emit numbers as pointers to the given kinds."""
    return [
        builder.inttoptr(address, kind.as_pointer())
        for address, kind in zip(given, kinds, strict=True)
    ]


def _keep_rolled(builder: Any, branch: Any) -> None:
    """Tell LLVM not to unroll the loop: two steps need more registers than there are.

    The name of a loop is a list that begins with itself.
    """
    module = builder.module
    loop = module.add_metadata([ir.Constant(I64, id(branch))])
    loop.operands = (loop, module.add_metadata(["llvm.loop.unroll.disable"]))
    branch.set_metadata("llvm.loop", loop)


def count(builder: Any, n: Any, start: list[Any], body: Callable[..., Any]) -> Any:
    """Emit ``for k in range(n): values = body(k, values)``; return the last values."""
    before = builder.block
    head = builder.append_basic_block("tile_head")
    inside = builder.append_basic_block("tile_body")
    after = builder.append_basic_block("tile_after")
    builder.branch(head)
    builder.position_at_end(head)
    k = builder.phi(I64)
    values = [builder.phi(value.type) for value in start]
    k.add_incoming(ir.Constant(I64, 0), before)
    for phi, value in zip(values, start, strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", k, n), inside, after)
    builder.position_at_end(inside)
    results = body(k, values)
    k.add_incoming(builder.add(k, ir.Constant(I64, 1)), builder.block)
    for phi, value in zip(values, results, strict=True):
        phi.add_incoming(value, builder.block)
    _keep_rolled(builder, builder.branch(head))
    builder.position_at_end(after)
    return values


@typed_intrinsic
def _choose(typing_context: Any, condition: Any, a: Any, b: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        is_true = context.cast(builder, args[0], condition, types.boolean)
        return builder.select(is_true, args[1], args[2])

    return a(condition, a, a), codegen


def choose(condition, a, b):
    """Return a if `condition` else b, without a branch that could be mispredicted."""
    return a if condition else b


@overload(choose, inline="always")
def _compiled_choose(condition, a, b):
    return lambda condition, a, b: _choose(condition, a, b)
