"""The one decorator that every kernel of the package wears, and what runs kernels.

A kernel is a plain function over NumPy arrays whose annotations are its signature:

==========  =============================  =============================
annotation  what the function receives     slots of its argument block
==========  =============================  =============================
Vector      float32 array, one dimension   address, length
Matrix      float32 array, rows × columns  address, rows, columns
Doubles     float64 array, one dimension   address, length
Integers    int64 array, one dimension     address, length
Indexes     int32 array, one dimension     address, length
int         int64                          the value
float       float64                        its bits
==========  =============================  =============================

It can be called from Python with arrays (tests do), and it has an *entry*: a C
function that takes the address of an argument block of int64 slots. A program is a
table of (entry, argument block) pairs which `run_table` walks in native code, so a
whole training step is one call from Python and allocates nothing. It walks under IEEE's
default floating-point flags, whatever another library has set for the thread: rounding
to nearest, subnormal numbers kept, exceptions without effect.

"""

from __future__ import annotations

import functools
import importlib
import struct
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, cast

import numba
import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from arena_ckpt.kernels.compiling import cached
from arena_ckpt.kernels.refusals import (
    NUMBA_ERRORS,
    compile_error,
    shown_cause,
)
from arena_ckpt.kernels.registers import DEFAULT, read_registers, write_registers
from arena_ckpt.operations import own
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.signatures import (
    check_arguments,
    place_of,
    read_signature,
)

SLOTS = {
    "Vector": 2,
    "Matrix": 3,
    "Doubles": 2,
    "Integers": 2,
    "Indexes": 2,
    "int": 1,
    "float": 1,
}
"""Slots of an argument block that each kind of parameter takes."""


@functools.cache
def kernel_of(name: KernelName) -> Kernel:
    """Return the kernel that a name stands for; its module is loaded at the first use.

    A module whose kernels are made for some functions has a `variant` that takes them.
    """
    if name.family == own.FAMILY:
        return Kernel(own.FUNCTIONS[name.entry])
    module: Any = importlib.import_module(f"{__package__}.{name.family}")
    holder = module.variant(*name.variant) if name.variant else module
    return cast(Kernel, getattr(holder, name.entry))


def kernel(function: Callable[..., None]) -> Kernel:
    """Make a kernel of `function`; nothing is compiled before its first use.

    Parameters
    ----------
    function : callable
        Loops over contiguous arrays; annotated as the module's table says; writes its
        results in place, allocates nothing, raises nothing.

    Returns
    -------
    Kernel

    Raises
    ------
    KernelSignatureError
        A parameter without such an annotation, or a function that can raise.
    """
    return Kernel(function)


class Kernel:
    """A compiled function over arrays, with entries for the program table.

    Attributes
    ----------
    name : str
    parameters : tuple of str
        The annotation of each parameter.
    """

    def __init__(self, function: object) -> None:
        self._signature = read_signature(function)
        function = cast(FunctionType, function)
        self.name = function.__name__
        self.parameters = tuple(self._signature.values())
        self._python = function
        self._compiled = cached(numba.njit, function, inline="always")
        self._entries: dict[tuple[int, ...], Any] = {}
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"<kernel {self.name}({', '.join(self.parameters)})>"

    def __call__(self, *arguments: object) -> None:
        """Run on arrays and numbers, as annotated; arrays of others' are only read.

        Raises
        ------
        KernelArgumentError, KernelCompileError
        """
        slots = self.pack(arguments)
        if any(
            isinstance(value, np.ndarray) and not value.flags.writeable
            for value in arguments
        ):
            self._run_typed(arguments)  # Numba refuses to compile writes to these
            return
        block = np.array(slots, np.int64)
        table = np.array([self.entry(arguments), block.ctypes.data], np.int64)
        run_table(table.ctypes.data, 1)

    def _run_typed(self, arguments: Sequence[object]) -> None:
        try:
            self._compiled(*arguments)
        except (*NUMBA_ERRORS, TypeError, AttributeError) as error:
            raise compile_error(self._python, error) from shown_cause(error)

    def check(self, arguments: Sequence[Any]) -> None:
        """Refuse arguments that the annotations do not allow.

        Raises
        ------
        KernelArgumentError
        """
        facts = place_of(self._python)
        check_arguments(self.name, self._signature, arguments, facts)

    def pack(self, arguments: Sequence[Any]) -> list[int]:
        """Lay `arguments` out as the int64 slots of an argument block.

        The arrays must outlive every run of the block, which holds only addresses.

        Raises
        ------
        KernelArgumentError
            They are not as annotated.
        """
        self.check(arguments)
        slots: list[int] = []
        for kind, value in zip(self.parameters, arguments, strict=True):
            if kind == "int":
                slots.append(int(value))
            elif kind == "float":
                slots.append(struct.unpack("<q", struct.pack("<d", value))[0])
            else:
                slots += [value.ctypes.data, *value.shape]
        return slots

    def entry(self, arguments: Sequence[Any]) -> int:
        """Address of the C function for `arguments`, compiled or loaded at first use.

        Arrays of one address and shape share a parameter in the compiled code, so
        that operation in place is as fast as between separate arrays.

        Raises
        ------
        KernelCompileError
        """
        pattern = self._alias_pattern(arguments)
        if pattern not in self._entries:
            try:
                self._entries[pattern] = self._compile_entry(pattern)
            except Exception as error:  # Numba lets errors of other kinds pass too
                raise compile_error(self._python, error) from shown_cause(error)
        return int(self._entries[pattern].address)

    def _alias_pattern(self, arguments: Sequence[Any]) -> tuple[int, ...]:
        """For each parameter, the first one that is the same memory.

        Empty arrays are told apart: no loop runs over them, wherever they lie.
        """
        first: dict[object, int] = {}
        pattern = []
        for index, (kind, value) in enumerate(
            zip(self.parameters, arguments, strict=True)
        ):
            alone = kind in ("int", "float") or not value.size
            key = index if alone else (value.ctypes.data, value.shape, value.dtype.str)
            pattern.append(first.setdefault(key, index))
        return tuple(pattern)

    def _compile_entry(self, pattern: tuple[int, ...]) -> Any:
        body, slot = [], 0
        for index, kind in enumerate(self.parameters):
            if pattern[index] == index:
                body.append(
                    f"    p{index} = {_READ[kind].format(*range(slot, slot + 3))}"
                )
            slot += SLOTS[kind]
        call = ", ".join(f"p{index}" for index in pattern)
        suffix = "_".join(str(index) for index in pattern)
        name = f"{self.name}_entry_{suffix}"
        head = [f"def {name}(block):", f"    a = carray(block, {slot})"]
        source = "\n".join([*head, *body, f"    kernel_function({call})"])
        namespace = {"carray": carray, "kernel_function": self._compiled, **_POINTERS}
        # Compiled under the kernel's file name: that is where Numba keeps and stamps
        # its cache.
        exec(compile(source, self._python.__code__.co_filename, "exec"), namespace)
        function = cast(FunctionType, namespace[name])
        function.__module__ = self._python.__module__
        signature = types.void(types.CPointer(types.int64))
        return cached(numba.cfunc, function, signature)


typed_intrinsic: Any = intrinsic
"""`intrinsic` is typed in some Numba releases, untyped in others."""


def _pointer_to(name: str, numba_type: Any, llvm_type: Any) -> Any:
    @typed_intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], llvm_type.as_pointer())

        return types.CPointer(numba_type)(types.int64), codegen

    return pointer


@typed_intrinsic
def _as_float(typing_context: Any, bits: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@typed_intrinsic
def call_entry(typing_context: Any, entry: Any, block: Any) -> Any:
    """In native code: call the C function at an address with an argument block."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        slots = ir.IntType(64).as_pointer()
        function_type = ir.FunctionType(ir.VoidType(), [slots])
        function = builder.inttoptr(args[0], function_type.as_pointer())
        builder.call(function, [builder.inttoptr(args[1], slots)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


_POINTERS = {
    "_f32": _pointer_to("f32", types.float32, ir.FloatType()),
    "_f64": _pointer_to("f64", types.float64, ir.DoubleType()),
    "_i64": _pointer_to("i64", types.int64, ir.IntType(64)),
    "_i32": _pointer_to("i32", types.int32, ir.IntType(32)),
    "_as_float": _as_float,
}
float_pointer: Any = _POINTERS["_f32"]
"""In kernels: the pointer to float32 numbers that an address stands for."""
int_pointer: Any = _POINTERS["_i64"]
"""In native code: the pointer to int64 numbers that an address stands for."""

_READ = {
    "Vector": "carray(_f32(a[{0}]), a[{1}])",
    "Matrix": "carray(_f32(a[{0}]), (a[{1}], a[{2}]))",
    "Doubles": "carray(_f64(a[{0}]), a[{1}])",
    "Integers": "carray(_i64(a[{0}]), a[{1}])",
    "Indexes": "carray(_i32(a[{0}]), a[{1}])",
    "int": "a[{0}]",
    "float": "_as_float(a[{0}])",
}


def _run_table(table_address: int, n_calls: int) -> None:
    """Call the entries of a table of int64 pairs (entry, argument block), in order.

    Flags and exceptions of the thread are afterwards what they were before.

    Parameters
    ----------
    table_address : int
        Address of ``2 * n_calls`` int64 values.
    n_calls : int
        Pairs to run; zero is allowed.
    """
    table = carray(int_pointer(table_address), 2 * n_calls)
    before = read_registers()
    write_registers(DEFAULT)
    for call in range(n_calls):
        call_entry(table[2 * call], table[2 * call + 1])
    write_registers(before)


run_table: Callable[[int, int], None] = cached(
    numba.njit, _run_table, "void(int64, int64)"
)
