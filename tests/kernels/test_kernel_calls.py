"""Calls of a kernel from Python: what they compile, and what they may write."""

from __future__ import annotations

import numpy as np
import pytest

from arena_ckpt import Model
from arena_ckpt.errors import KernelArgumentError, KernelCompileError
from arena_ckpt.kernels import side_by_side
from arena_ckpt.kernels.elementwise import add
from arena_ckpt.kernels.kernel import Kernel, Pattern


def numbers(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_a_call_runs_the_entry_that_a_table_would() -> None:
    """Compiling the same loops for Python as well takes as long again."""
    kernel = Kernel(add._python)
    x, y, out = numbers(1, 2), numbers(10, 20), numbers(0, 0)
    kernel(x, y, out)
    np.testing.assert_array_equal(out, numbers(11, 22))
    kernel(x, y, x)  # in place
    np.testing.assert_array_equal(x, numbers(11, 22))
    assert sorted(kernel._entries) == [(0, 1, 0), (0, 1, 2)]
    assert kernel._compiled.signatures == []


def test_arrays_that_are_only_read_can_be_read_only() -> None:
    x, y, out = numbers(1, 2), numbers(10, 20), numbers(0, 0)
    x.flags.writeable = False
    add(x, y, out)
    np.testing.assert_array_equal(out, numbers(11, 22))


def test_read_only_arrays_are_not_written() -> None:
    x, y, out = numbers(1, 2), numbers(10, 20), numbers(7, 7)
    out.flags.writeable = False
    with pytest.raises(KernelCompileError, match="add cannot be compiled"):
        add(x, y, out)
    np.testing.assert_array_equal(out, numbers(7, 7))


def test_arrays_with_gaps_are_refused() -> None:
    with pytest.raises(KernelArgumentError, match="not C-contiguous for 'b'"):
        add(numbers(1, 2), numbers(1, 0, 2, 0)[::2], numbers(0, 0))


def test_empty_arrays_share_no_parameter_wherever_they_lie() -> None:
    """Else a layer without bias or states has entries of its own compiled for it."""
    empty = numbers()
    assert add.pattern((empty, empty, empty)) == (0, 1, 2)
    x = numbers(1)
    assert add.pattern((x, empty, x)) == (0, 1, 0)


def test_a_convolution_without_bias_has_no_entries_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is compiled here: entries are only asked for."""
    asked: dict[str, set[tuple[int, ...]]] = {}

    def entry_of(kernel: Kernel, pattern: Pattern) -> int:
        asked.setdefault(kernel.name, set()).add(pattern)
        return 0

    monkeypatch.setattr(Kernel, "entry_of", entry_of)
    monkeypatch.setattr(side_by_side, "make_ready", lambda entries, report: None)
    model = Model()
    model.add_layer("input", name="in", input_shape=(4, 5, 5))
    for bias in ("", "bare "):
        given = {"kernel_size": 3, "padding": 1, "disable_bias": bool(bias)}
        for kind, more in (
            ("conv2d", {"filters": 4}),
            ("conv2d", {"filters": 4, "groups": 2}),
            ("depthwiseconv2d", {}),
        ):
            name = f"{bias}{kind} {more.get('groups')}".replace(" ", "_")
            model.add_layer(kind, name=name, **given, **more)
    model.add_layer("mse", name="loss")
    model.initialize()
    kernels = ("conv_forward", "conv_derivative", "grouped_forward")
    for name in (*kernels, "depthwise_forward"):
        (pattern,) = asked[name]
        assert pattern == tuple(range(len(pattern))), name
