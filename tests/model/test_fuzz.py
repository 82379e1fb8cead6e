"""A few inputs of every fuzz target; `tools/fuzz.py` runs them by the thousand."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from fuzzing.guard import Finding, Limits, guarded
from fuzzing.target import Target, fuzz_bytes, run_target
from fuzzing.targets import TARGETS
from hypothesis import strategies as st

from arena_ckpt.errors import DataError

N_INPUTS = {
    "paths": 40,
    "command_line": 60,
    "saved_model": 60,
    "request": 60,
    "onnx": 60,
}
"""Of what takes longer than a hundredth of a second."""


@pytest.mark.parametrize("name", [n for n in TARGETS if n != "models"])
def test_bad_input_ends_in_errors_of_ours(name: str) -> None:
    outcome = run_target(TARGETS[name], N_INPUTS.get(name, 150), None)
    assert outcome.finding is None, f"TARGETS[{name!r}].check({outcome.smallest!r})"
    assert outcome.n_inputs > 20


@pytest.mark.parametrize("name", [n for n, t in TARGETS.items() if t.seeds])
def test_the_seeds_of_a_target_are_no_bad_input(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].check(seed)


def test_targets_take_the_bytes_of_another_fuzzer(tmp_path: Path) -> None:
    target = Target(
        "ints", st.lists(st.integers(0, 9)), lambda value, _: _refuse(value)
    )
    run = fuzz_bytes(target, tmp_path)
    generator = np.random.default_rng(0)
    inputs = [b"", *(generator.bytes(64) for _ in range(100))]
    with pytest.raises(Finding):
        deque(map(run, inputs))


def _refuse(value: list[int]) -> None:
    if value:
        raise Finding(f"{value}")


def test_the_smallest_input_that_fails_is_found() -> None:
    target = Target(
        "ints", st.lists(st.integers(0, 9)), lambda value, _: _refuse(value)
    )
    outcome = run_target(target, 100, 3)
    assert isinstance(outcome.finding, Finding)
    assert outcome.smallest == [0]


# -- the guard -------------------------------------------------------------------------


def _raise(error: BaseException) -> None:
    raise error


DEFECTS = {
    "KeyError escaped": lambda folder: _raise(KeyError("a")),
    "RecursionError escaped": lambda folder: _raise(RecursionError("deep")),
    "UserWarning escaped": lambda folder: warnings.warn("odd", stacklevel=1),
    "took more than 0.2 s of processor": lambda folder: _spin(),
    "took more than 1 s": lambda folder: time.sleep(9),
    "took more than 16,777,216 bytes": lambda folder: np.zeros(2**28, np.uint8),
    "left behind": lambda folder: (folder / "new").write_bytes(b"x"),
    "or changed": lambda folder: (folder / "old").write_bytes(b"longer"),
    "left open": lambda folder: OPEN.append((folder / "old").open("rb")),
    "a message of 0 characters": lambda folder: _raise(DataError("")),
    "a message of 1,000,000": lambda folder: _raise(DataError("x" * 10**6)),
}
OPEN: list[object] = []


def _spin() -> None:
    while True:
        pass


@pytest.mark.skipif(os.name != "posix", reason="the limits are those of POSIX")
@pytest.mark.parametrize("defect", DEFECTS)
def test_the_guard_sees(defect: str, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    limits = Limits(cpu_seconds=0.2, wall_seconds=1, grown_bytes=2**24)
    with pytest.raises(Finding, match=defect), guarded(limits, tmp_path):
        DEFECTS[defect](tmp_path)
    while OPEN:
        OPEN.pop().close()  # type: ignore[attr-defined]
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0


def test_the_guard_lets_our_errors_pass(tmp_path: Path) -> None:
    with guarded(Limits(), tmp_path):
        raise DataError("what is wrong, and what to do")
