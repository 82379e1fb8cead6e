"""Threads that run kernel calls side by side, in native code.

A walk over a table of calls (`run_beside`) comes to groups of calls that touch nothing
of each other. It offers a group to the threads of the pool and takes calls of it
itself, whoever is free the next one, and goes on when all have run. Who runs which call
decides no bit: what a call computes is fixed by the table.

Threads are started when a number of them is first wanted, under IEEE's default
floating-point flags and with all signals blocked. Between two groups a thread spins for
a while, then sleeps until the next group. Nothing is allocated in a walk.

One walk uses the pool at a time. Another one that runs beside it, of another model in
another Python thread, runs its groups by itself. A child of a fork begins without
threads. Where there are no POSIX threads, every walk runs its groups by itself.

The state is an array of int64, the words that several threads write apart by a cache
line. `_TICKET` holds the number of the group and the next call of it that nobody has
taken, in one word, so that both are read and changed together; so a thread that comes
late cannot take a call of a group that is through.

References
----------
The C library's ``pthread_mutex_*`` and ``pthread_cond_*``, POSIX.1-2017.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import platform
import signal
import threading
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils

from arena_ckpt.kernels.compiling import cached, routine
from arena_ckpt.kernels.flags import default_flags
from arena_ckpt.kernels.kernel import call_entry, int_pointer, typed_intrinsic
from arena_ckpt.kernels.registers import DEFAULT, read_registers, write_registers

_LINE = 8
"""int64 words of a cache line."""

_TICKET, _DONE, _OWNER, _SLEEPERS, _STOP = range(0, 5 * _LINE, _LINE)
_TABLE, _COUNT, _LIMIT = range(5 * _LINE, 5 * _LINE + 3)
"""What is offered: an address, calls, and how many threads of the pool may help."""

_MUTEX, _CONDITION = 7 * _LINE, 11 * _LINE
"""Room for a lock and for what sleepers wait for; 256 bytes hold either anywhere."""

_N_WORDS = 15 * _LINE
_CLOSED = (1 << 31) - 1
"""A call that no group has: nothing is to be taken."""

_SPINS = 4000
"""Looks at a word, with a pause each, before a thread lets others run: some 0.1 ms."""

_YIELDS = 2000
"""How often it lets others run before it sleeps: some 1 ms where nobody wants to.

To wake a thread takes tens of microseconds, and some steps have calls without parts
that take longer than `_SPINS`.
"""

STACK_BYTES = 8 << 20
"""Stack of a thread; kernels keep a few hundred KiB there."""

_FUNCTIONS = {
    "mutex_lock": "pthread_mutex_lock",
    "mutex_unlock": "pthread_mutex_unlock",
    "cond_wait": "pthread_cond_wait",
    "cond_broadcast": "pthread_cond_broadcast",
    "yield": "sched_yield",
}


def _load_library() -> Any:
    """Return the C library with its threads, or None where there are none."""
    if os.name != "posix":
        return None
    try:
        library = ctypes.CDLL(None)
        for name, symbol in _FUNCTIONS.items():
            address = ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value
            llvmlite.binding.add_symbol(f"arena_ckpt_{name}", address)
        needed = "create join attr_init attr_setstacksize attr_destroy mutex_init"
        for name in (*needed.split(), "cond_init"):
            getattr(library, f"pthread_{name}")
    except (OSError, AttributeError):
        return None
    return library


_LIBRARY = _load_library()


def _external(name: str, n_arguments: int) -> Any:
    arguments = [types.int64] * n_arguments
    return types.ExternalFunction(f"arena_ckpt_{name}", types.int32(*arguments))


_lock, _unlock = _external("mutex_lock", 1), _external("mutex_unlock", 1)
_wait, _wake = _external("cond_wait", 2), _external("cond_broadcast", 1)
_give_way = _external("yield", 0)

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_ORDER = "seq_cst"


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _I64.as_pointer())


@typed_intrinsic
def _load(typing_context: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_pointer(builder, args[0]), _ORDER, 8)

    return types.int64(types.int64), codegen


@typed_intrinsic
def _store(typing_context: Any, address: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], _pointer(builder, args[0]), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@typed_intrinsic
def _add(typing_context: Any, address: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(builder, args[0])
        builder.atomic_rmw("add", pointer, args[1], _ORDER)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@typed_intrinsic
def _exchange(typing_context: Any, address: Any, old: Any, new: Any) -> Any:
    """Write `new` where `old` stands; say whether it stood there."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(builder, args[0])
        result = builder.cmpxchg(pointer, args[1], args[2], _ORDER, _ORDER)
        return builder.extract_value(result, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


_MACHINE = platform.machine().lower()


@typed_intrinsic
def _pause(typing_context: Any) -> Any:
    """Tell the processor that the loop waits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if _MACHINE in ("x86_64", "amd64"):
            _call_intrinsic(builder, "llvm.x86.sse2.pause")
        elif _MACHINE in ("aarch64", "arm64"):
            _call_intrinsic(builder, "llvm.aarch64.hint", ir.Constant(_I32, 1))
        return context.get_dummy_value()

    return types.void(), codegen


def _call_intrinsic(builder: Any, name: str, *arguments: Any) -> None:
    of_type = ir.FunctionType(ir.VoidType(), [value.type for value in arguments])
    function = cgutils.get_or_insert_function(builder.module, of_type, name)
    builder.call(function, arguments)


@routine
def _take_calls(pool):
    """Run calls of the group on offer until none is left to take."""
    while True:
        ticket = _load(pool + 8 * _TICKET)
        table, count = _load(pool + 8 * _TABLE), _load(pool + 8 * _COUNT)
        call = ticket & _CLOSED
        if call >= count:
            return
        if _exchange(pool + 8 * _TICKET, ticket, ticket + 1):
            pair = carray(int_pointer(table + 16 * call), 2)
            call_entry(pair[0], pair[1])
            _add(pool + 8 * _DONE, 1)


@routine
def _run_group(table, count, pool, limit):
    """Run a group of calls, by this thread and up to `limit` of the pool."""
    if limit < 1 or not _exchange(pool + 8 * _OWNER, 0, 1):
        pairs = carray(int_pointer(table), 2 * count)
        for call in range(count):
            call_entry(pairs[2 * call], pairs[2 * call + 1])
        return
    group = (_load(pool + 8 * _TICKET) >> 31) + 1
    # Nobody takes a call before all that is offered stands there: the ticket is closed.
    _store(pool + 8 * _TABLE, table)
    _store(pool + 8 * _COUNT, count)
    _store(pool + 8 * _LIMIT, limit)
    _store(pool + 8 * _DONE, 0)
    _store(pool + 8 * _TICKET, group << 31)
    if _load(pool + 8 * _SLEEPERS) > 0:
        _lock(pool + 8 * _MUTEX)
        _wake(pool + 8 * _CONDITION)
        _unlock(pool + 8 * _MUTEX)
    _take_calls(pool)
    spins = 0
    while _load(pool + 8 * _DONE) < count:
        spins += 1
        if spins < _SPINS:
            _pause()
        else:
            _give_way()
    _store(pool + 8 * _TICKET, (group << 31) | _CLOSED)
    _store(pool + 8 * _OWNER, 0)


def _run_beside(table, groups, n_calls, pool, limit):
    """Call the entries of a table in order, groups of them side by side.

    Flags and exceptions of the thread are afterwards what they were before.

    Parameters
    ----------
    table : int
        Address of ``2 * n_calls`` int64: pairs (entry, argument block).
    groups : int
        Address of n_calls int64: how many calls the group has that begins there. Of a
        group that the range cuts off, those within it run.
    n_calls : int
    pool : int
        Address of the state.
    limit : int
        Threads of the pool that may help.
    """
    pairs, sizes = (
        carray(int_pointer(table), 2 * n_calls),
        carray(int_pointer(groups), n_calls),
    )
    before = read_registers()
    write_registers(DEFAULT)
    call = 0
    while call < n_calls:
        count = max(1, min(sizes[call], n_calls - call))
        if count == 1:
            call_entry(pairs[2 * call], pairs[2 * call + 1])
        else:
            _run_group(table + 16 * call, count, pool, limit)
        call += count
    write_registers(before)


def _help(state):
    """Take calls of whatever is offered, until the pool is stopped: what a thread does.

    ``state[0]`` is the address of the pool, ``state[1]`` the number of the thread.
    """
    pool, number = state[0], state[1]
    write_registers(DEFAULT)
    seen = np.int64(0)
    while _load(pool + 8 * _STOP) == 0:
        spins = 0
        while spins < _SPINS + _YIELDS and _load(pool + 8 * _TICKET) >> 31 == seen:
            if spins < _SPINS:
                _pause()
            else:
                _give_way()
            spins += 1
        if spins == _SPINS + _YIELDS:
            _lock(pool + 8 * _MUTEX)
            _add(pool + 8 * _SLEEPERS, 1)
            while _load(pool + 8 * _TICKET) >> 31 == seen and not _load(
                pool + 8 * _STOP
            ):
                _wait(pool + 8 * _CONDITION, pool + 8 * _MUTEX)
            _add(pool + 8 * _SLEEPERS, -1)
            _unlock(pool + 8 * _MUTEX)
        seen = _load(pool + 8 * _TICKET) >> 31
        if number < _load(pool + 8 * _LIMIT):
            _take_calls(pool)


class Pool:
    """The threads of this process that help walks.

    Attributes
    ----------
    address : int
        Of the state.
    """

    def __init__(self) -> None:
        self._growing = threading.Lock()
        self._threads: list[tuple[ctypes.c_void_p, np.ndarray]] = []
        self._memory = np.zeros(_N_WORDS + _LINE, np.int64)
        self.address = (self._memory.ctypes.data + 63) // 64 * 64
        self._ticket = self._word(_TICKET)
        self._ticket[0] = _CLOSED
        if _LIBRARY is not None:
            for name, word in (("mutex", _MUTEX), ("cond", _CONDITION)):
                init = getattr(_LIBRARY, f"pthread_{name}_init")
                init(ctypes.c_void_p(self.address + 8 * word), None)

    @property
    def n_helpers(self) -> int:
        """Number of threads that can help a walk."""
        return len(self._threads)

    def _word(self, word: int) -> np.ndarray:
        first = (self.address - self._memory.ctypes.data) // 8 + word
        return self._memory[first : first + 1]

    def grow(self, n_helpers: int) -> None:
        """Start the threads that are missing; where that fails, walks do with fewer."""
        if _LIBRARY is None:
            return
        with self._growing:
            while len(self._threads) < n_helpers and self._start():
                pass

    def _start(self) -> bool:
        """Start a thread, which keeps all signals to the others."""
        state = np.array([self.address, len(self._threads)], np.int64)
        thread, attributes = ctypes.c_void_p(), ctypes.create_string_buffer(256)
        work = ctypes.c_void_p(_worker().address)
        _LIBRARY.pthread_attr_init(attributes)
        _LIBRARY.pthread_attr_setstacksize(attributes, ctypes.c_size_t(STACK_BYTES))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            with default_flags():
                failed = _LIBRARY.pthread_create(
                    ctypes.byref(thread),
                    attributes,
                    work,
                    ctypes.c_void_p(state.ctypes.data),
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            _LIBRARY.pthread_attr_destroy(attributes)
        if not failed:
            self._threads.append((thread, state))
        return not failed

    def stop(self) -> None:
        """End all threads, after the calls that they are in."""
        if not self._threads:
            return
        self._word(_STOP)[0] = 1
        _LIBRARY.pthread_mutex_lock(ctypes.c_void_p(self.address + 8 * _MUTEX))
        _LIBRARY.pthread_cond_broadcast(ctypes.c_void_p(self.address + 8 * _CONDITION))
        _LIBRARY.pthread_mutex_unlock(ctypes.c_void_p(self.address + 8 * _MUTEX))
        for thread, _ in self._threads:
            _LIBRARY.pthread_join(thread, None)
        self._threads = []
        self._word(_STOP)[0] = 0


@functools.cache
def _worker() -> Any:
    signature = types.void(types.CPointer(types.int64))
    return cached(numba.cfunc, _help, signature)


@functools.cache
def _walker() -> Any:
    return cached(numba.njit, _run_beside, "void(int64, int64, int64, int64, int64)")


_pool = Pool()


def run_groups(table: int, groups: int, n_calls: int, n_threads: int) -> None:
    """Call the entries of a table in order, groups of them side by side.

    Parameters
    ----------
    table, groups, n_calls : int
        As `_run_beside` takes them.
    n_threads : int
        Threads that may share the calls of a group, that of the walk among them.
    """
    pool = _pool
    if pool.n_helpers < n_threads - 1:
        pool.grow(n_threads - 1)
    _walker()(table, groups, n_calls, pool.address, n_threads - 1)


def _forget_threads() -> None:
    """Begin anew in the child of a fork, where no thread of the pool is."""
    global _pool
    _pool = Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
atexit.register(lambda: _pool.stop())
