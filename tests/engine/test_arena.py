"""The one block of memory: aligned, viewed, guarded, poisoned, and never too large."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.strategies import chain

from arena_ckpt.common.units import ALIGNMENT_BYTES
from arena_ckpt.engine import arena as arena_module
from arena_ckpt.engine.arena import CANARY_BYTES, Arena, available_bytes, check_fits
from arena_ckpt.errors import ArenaError, ArenaTooLargeError


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def forbid_arenas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever asks NumPy for the bytes of an arena fail; planning needs a few."""
    zeros = np.zeros

    def without_bytes(shape: Any, dtype: Any = float) -> np.ndarray:
        if np.dtype(dtype) == np.uint8 and np.prod(shape) >= 1024:
            pytest.fail(f"{shape} bytes were allocated")
        return zeros(shape, dtype)

    monkeypatch.setattr(np, "zeros", without_bytes)


# -- where it lies ---------------------------------------------------------------------


@pytest.mark.parametrize("size_bytes", [64, 128, 4096, 100_032, 3_000_000])
def test_it_begins_at_a_multiple_of_the_alignment(size_bytes: int) -> None:
    several = [Arena(size_bytes) for _ in range(5)]
    for arena in several:
        assert address(arena.bytes) % ALIGNMENT_BYTES == 0
        assert arena.bytes.nbytes == size_bytes


def test_an_empty_arena() -> None:
    assert Arena(0).bytes.nbytes == 0


def test_every_tensor_of_a_model_lies_aligned_in_the_one_block() -> None:
    model = chain(5, "gelu", 3, loss="cross_softmax", batch_size=7).initialized()
    session = model._session
    assert session is not None
    first = address(session.arena.bytes)
    for index, tensor in enumerate(model.plan.tensors):
        array = session.views.array(index)
        assert np.shares_memory(array, session.arena.bytes), tensor.name
        assert address(array) % ALIGNMENT_BYTES == 0, tensor.name
        assert address(array) + array.nbytes <= first + model.plan.arena_bytes
        assert array.nbytes == tensor.size_bytes
        assert array.flags.c_contiguous
        assert array.flags.writeable


# -- views -----------------------------------------------------------------------------


def test_a_view_is_no_copy() -> None:
    arena = Arena(256)
    view = arena.view(64, (2, 3), "float32")
    assert (view.shape, view.dtype) == ((2, 3), np.float32)
    assert address(view) == address(arena.bytes) + 64
    view[1, 2] = 1.5
    again = arena.view(64 + 5 * 4, (1,), "float32")
    assert again[0] == 1.5
    assert not arena.bytes[:64].any()
    assert not arena.bytes[64 + 24 :].any()


def test_views_of_other_types_see_the_same_bytes() -> None:
    arena = Arena(64)
    arena.view(8, (1,), "float64")[0] = -2.0
    assert arena.view(8, (2,), "uint32").tolist() == [0, 0xC0000000]


@pytest.mark.parametrize("offset_bytes", [64, 128, 1000])
def test_no_view_reaches_beyond_the_end(offset_bytes: int) -> None:
    with pytest.raises((TypeError, ValueError)):
        Arena(128).view(offset_bytes, (17,), "float32")


def test_a_view_keeps_the_memory_alive() -> None:
    view = Arena(64).view(0, (16,), "float32")
    view[:] = 3
    assert view.sum() == 48


# -- poison and canaries ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dead_numbers_become_nan(dtype: str) -> None:
    arena = Arena(192)
    arena.poison(64, 64, dtype)
    assert np.isnan(arena.view(64, (64 // np.dtype(dtype).itemsize,), dtype)).all()
    assert not arena.bytes[:64].any()
    assert not arena.bytes[128:].any()


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "uint64"])
def test_every_byte_of_dead_integers_becomes_a5(dtype: str) -> None:
    arena = Arena(192)
    arena.poison(64, 64, dtype)
    assert (arena.bytes[64:128] == 0xA5).all()
    assert not arena.bytes[:64].any()
    assert not arena.bytes[128:].any()


def test_a_canary_stands_until_any_of_its_bytes_is_written() -> None:
    arena = Arena(64 + CANARY_BYTES + 64)
    assert not arena.is_guard_intact(64)
    arena.guard(64)
    assert arena.is_guard_intact(64)
    arena.bytes[63] = 1
    arena.bytes[64 + CANARY_BYTES] = 1
    assert arena.is_guard_intact(64)
    for place in range(64, 64 + CANARY_BYTES):
        before = arena.bytes[place]
        arena.bytes[place] = before ^ 1
        assert not arena.is_guard_intact(64), place
        arena.bytes[place] = before


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, np.nan, np.inf, 1e-30])
def test_a_float_written_over_a_canary_is_seen(value: float) -> None:
    arena = Arena(128)
    arena.guard(64)
    arena.view(64, (1,), "float32")[0] = value
    assert not arena.is_guard_intact(64)


# -- too large -------------------------------------------------------------------------


def test_the_forbidding_above_sees_an_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_arenas(monkeypatch)
    with pytest.raises(pytest.fail.Exception, match="bytes were allocated"):
        Arena(4096)


def test_there_is_memory_here_and_its_amount_is_known() -> None:
    assert 1 << 20 < available_bytes() < 1 << 50


def test_what_fits_to_the_byte_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena_module, "available_bytes", lambda: 4096)
    check_fits(4096, "the arena")
    assert Arena(4096).bytes.nbytes == 4096


def test_what_does_not_fit_is_refused_with_the_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arena_module, "available_bytes", lambda: 4096)
    forbid_arenas(monkeypatch)
    with pytest.raises(ArenaTooLargeError) as caught:
        Arena(4097)
    error = caught.value
    assert (error.arena_bytes, error.available_bytes) == (4097, 4096)
    assert isinstance(error, ArenaError)
    assert isinstance(error, MemoryError)
    for part in ("4,097 B", "4,096 B", "nothing was allocated", "micro_batches"):
        assert part in str(error)


def test_what_the_process_may_not_have_is_refused_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "zeros", refuse)
    with pytest.raises(ArenaTooLargeError, match="does not give to this process"):
        Arena(640)


@pytest.mark.parametrize("debug", [False, True])
def test_a_model_that_does_not_fit_is_refused_and_can_be_made_smaller(
    debug: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = chain(32, "relu", 4, batch_size=64).model()
    needed = model.make_plan(debug=debug).arena_bytes
    monkeypatch.setattr(arena_module, "available_bytes", lambda: needed - 1)
    with monkeypatch.context() as patched:
        forbid_arenas(patched)
        with pytest.raises(ArenaTooLargeError, match=f"{needed:,} B") as caught:
            model.initialize(debug=debug)
    assert caught.value.arena_bytes == needed
    assert caught.value.available_bytes == needed - 1
    # The model is as before, not half initialized; debug mode takes three arenas.
    model.set_property(batch_size=2 if debug else 32)
    plan = model.initialize(debug=debug)
    assert plan.arena_bytes < needed
    assert len(model.weights()) == 4


def test_micro_batches_make_a_model_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = chain(32, "relu", 4, batch_size=64)
    needed = spec.model().make_plan().arena_bytes
    monkeypatch.setattr(arena_module, "available_bytes", lambda: needed - 1)
    spec.with_properties(micro_batches=4).initialized()
