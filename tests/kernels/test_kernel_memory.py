"""Kernels stay in their bytes: see `kernel_memory` for how they are watched."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from helpers import TESTS
from helpers.every_kernel import all_kernels
from helpers.guarded_memory import Side, Slot, array_at
from helpers.kernel_access import ACCESS, CHANGED, facts_of
from helpers.kernel_geometries import FAMILIES, GROUPS
from helpers.planted_faults import FAULTS
from helpers.scale import how_many

N_CASES = how_many(10, 200)


def run_program(name: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"helpers.{name}", *arguments]
    done = subprocess.run(
        command, cwd=TESTS, capture_output=True, text=True, check=False, timeout=1800
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_a_page_beside_an_operand_cannot_be_touched() -> None:
    """What the harness counts on, in one process each."""
    for side, place in ((Side.BEHIND, 12), (Side.IN_FRONT, -1), (Side.FAR, None)):
        text = (
            "from helpers.guarded_memory import *\n"
            f"at = Slot().place(12, Side.{side.name}, 7)\n"
            "array_at(at, (3,), np.dtype(np.int32))[:] = 1\n"
            f"ctypes.string_at(at + {place or 12}, 1)\n"
        )
        done = subprocess.run([sys.executable, "-c", text], cwd=TESTS, check=False)
        assert done.returncode == (0 if place is None else -11), side


@pytest.mark.parametrize("side", Side)
def test_an_operand_has_its_bytes_and_the_byte_around_it(side: Side) -> None:
    slot = Slot()
    for n_bytes in (0, 4, 1000, 1 << 17):
        at = slot.place(n_bytes, side, 0x7F)
        memory = array_at(at, (n_bytes,), np.dtype(np.uint8))
        assert (memory == 0x7F).all()
        memory[:] = 1


def test_every_kernel_has_cases_and_facts() -> None:
    found = all_kernels()
    assert sorted(n for names in GROUPS.values() for n in names) == sorted(FAMILIES)
    covered = {name for family in FAMILIES.values() for name in family.kernels}
    assert sorted(set(found) - covered) == [], "kernel_geometries.FAMILIES lacks them"
    assert sorted(covered - set(found)) == [], "no such kernel"
    for kernel in found.values():
        facts = facts_of(kernel)
        named = dict(
            zip(
                inspect.signature(kernel._python).parameters,
                kernel.parameters,
                strict=True,
            )
        )
        assert facts, f"{kernel.name} writes something"
        for parameter in facts:
            assert named.get(parameter) not in (None, "int", "float"), (
                f"kernel_access: {kernel.name} has no array {parameter}"
            )
    used = {id(facts_of(kernel)) for kernel in found.values()}
    assert [name for name, facts in ACCESS.items() if id(facts) not in used] == []


@pytest.mark.parametrize("group", GROUPS)
def test_kernels_stay_in_their_bytes(group: str) -> None:
    """And their results depend on nothing that nobody wrote."""
    names = GROUPS[group]
    said = run_program("kernel_memory", ",".join(names), str(N_CASES))
    findings = [found for name in names for found in said[name]["findings"]]
    assert findings == []
    for name in names:
        for kernel in FAMILIES[name].kernels:
            assert said[name]["counts"].get(kernel, 0) >= N_CASES, (name, kernel)
    # What is said to be read before it is written is: else it would be poisoned.
    read = {found for name in names for found in said[name]["read"]}
    found = all_kernels()
    changed = {
        f"{kernel}.{parameter}"
        for name in names
        for kernel in FAMILIES[name].kernels
        for parameter, fact in facts_of(found[kernel]).items()
        if fact is CHANGED
    }
    assert sorted(changed - read) == [], "no result depends on what these held before"


def test_planted_faults_are_found_and_their_operands_named() -> None:
    said = run_program("planted_faults")
    assert len(said) == len(FAULTS) >= 12
    for name, fault in FAULTS.items():
        assert any(fault.says in found for found in said[name]), (name, said[name])
