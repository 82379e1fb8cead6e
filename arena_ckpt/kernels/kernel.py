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
from numba.np.arrayobj import populate_array

from arena_ckpt.kernels.compiling import OPTIONS, cached, loaded
from arena_ckpt.kernels.linking import linked
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

Pattern = tuple[int, ...]
"""For each parameter of a kernel, the first one that is the same memory."""


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
        self._compiled = cached(numba.njit, function)
        self._linked = linked(function, forceinline=True, **OPTIONS)
        self._entries: dict[Pattern, Any] = {}
        self.__doc__ = function.__doc__

    @property
    def python(self) -> FunctionType:
        """The function that is compiled."""
        return self._python

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
        return self.entry_of(self.pattern(arguments))

    def entry_of(self, pattern: Pattern) -> int:
        """Address of the C function for arguments of a pattern, as `entry` returns it.

        Raises
        ------
        KernelCompileError
        """
        self.compile(pattern)
        return int(self._entries[pattern].address)

    def compile(self, pattern: Pattern) -> None:
        """Make an entry ready: it is in memory, on disk, or compiled now.

        Raises
        ------
        KernelCompileError
        """
        if pattern not in self._entries:
            try:
                self._entries[pattern] = self._make_entry(cached, pattern)
            except Exception as error:  # Numba lets errors of other kinds pass too
                error = self._cause() or error
                raise compile_error(self._python, error) from shown_cause(error)

    def _cause(self) -> Exception | None:
        """Return what Numba says of the function alone: it names the line in there."""
        try:
            self._linked.compile(tuple(_TYPES[kind] for kind in self.parameters))
        except Exception as error:
            return error
        return None

    def load(self, pattern: Pattern) -> bool:
        """Make an entry ready if that takes no compiler; return whether it is."""
        if pattern not in self._entries:
            entry = self._make_entry(loaded, pattern)
            if entry is None:
                return False
            self._entries[pattern] = entry
        return True

    def pattern(self, arguments: Sequence[Any]) -> Pattern:
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

    def _make_entry(self, make: Callable[..., Any], pattern: Pattern) -> Any:
        body, slot = [], 0
        for index, kind in enumerate(self.parameters):
            if pattern[index] == index:
                body.append(f"    p{index} = {kind}(block, {slot})")
            slot += SLOTS[kind]
        call = ", ".join(f"p{index}" for index in pattern)
        suffix = "_".join(str(index) for index in pattern)
        name = f"{self.name}_entry_{suffix}"
        head = f"def {name}(block):"
        source = "\n".join([head, *body, f"    kernel_function({call})"])
        namespace = {"kernel_function": self._linked, **_READERS}
        # Compiled under the kernel's file name: that is where Numba keeps and stamps
        # its cache.
        exec(compile(source, self._python.__code__.co_filename, "exec"), namespace)
        function = cast(FunctionType, namespace[name])
        function.__module__ = self._python.__module__
        signature = types.void(types.CPointer(types.int64))
        return make(numba.cfunc, function, signature)


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
def call_entry(typing_context: Any, entry: Any, block: Any) -> Any:
    """In native code: call the C function at an address with an argument block."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        slots = ir.IntType(64).as_pointer()
        function_type = ir.FunctionType(ir.VoidType(), [slots])
        function = builder.inttoptr(args[0], function_type.as_pointer())
        builder.call(function, [builder.inttoptr(args[1], slots)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


float_pointer: Any = _pointer_to("f32", types.float32, ir.FloatType())
"""In kernels: the pointer to float32 numbers that an address stands for."""
int_pointer: Any = _pointer_to("i64", types.int64, ir.IntType(64))
"""In native code: the pointer to int64 numbers that an address stands for."""


def _at(args: Any, further: int) -> tuple[Any, list[Any]]:
    """Return pointer and index of a slot, for `gep`."""
    block, slot = args
    return block, [slot.type(slot.constant + further)]


def _number_reader(numba_type: Any) -> Any:
    @typed_intrinsic
    def number(typing_context: Any, block: Any, slot: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            bits = builder.load(builder.gep(*_at(args, 0)))
            return builder.bitcast(bits, context.get_value_type(numba_type))

        return numba_type(block, types.int64), codegen

    return number


def _array_reader(array_type: Any) -> Any:
    @typed_intrinsic
    def array(typing_context: Any, block: Any, slot: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address, *shape = (
                builder.load(builder.gep(*_at(args, further)))
                for further in range(1 + array_type.ndim)
            )
            element_bytes = context.get_constant(
                types.intp, array_type.dtype.bitwidth // 8
            )
            strides = [element_bytes]
            for length in reversed(shape[1:]):
                strides.insert(0, builder.mul(strides[0], length))
            made = context.make_array(array_type)(context, builder)
            element = context.get_value_type(array_type.dtype)
            populate_array(
                made,
                data=builder.inttoptr(address, element.as_pointer()),
                shape=shape,
                strides=strides,
                itemsize=element_bytes,
                meminfo=None,
            )
            return made._getvalue()

        return array_type(block, types.int64), codegen

    return array


_TYPES = {
    "Vector": types.Array(types.float32, 1, "C"),
    "Matrix": types.Array(types.float32, 2, "C"),
    "Doubles": types.Array(types.float64, 1, "C"),
    "Integers": types.Array(types.int64, 1, "C"),
    "Indexes": types.Array(types.int32, 1, "C"),
    "int": types.int64,
    "float": types.float64,
}
"""What the function receives for each annotation."""

_READERS = {
    kind: _array_reader(made) if isinstance(made, types.Array) else _number_reader(made)
    for kind, made in _TYPES.items()
}
"""For each annotation: in entries, what the slots of a block from one on stand for."""


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
