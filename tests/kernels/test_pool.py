"""The threads that run kernel calls side by side."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers import TESTS
from helpers.grouped_calls import Counted, grouped

from arena_ckpt.kernels import elementwise
from arena_ckpt.kernels.pool import run_groups


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_every_call_runs_once_in_any_group(threads: int) -> None:
    sizes = [*range(1, 20), 1, 1, 40, 2, 2, 2]
    counted = Counted(sum(sizes))
    for _ in range(200):
        counted.run(grouped(*sizes), threads)
    assert (counted.counts == 200).all()


def test_what_comes_after_a_group_reads_all_that_it_made() -> None:
    """One call of each group is short, so that its thread is through much sooner."""
    few, many = np.zeros((2, 1 << 15), np.float32), np.zeros((2, 1 << 20), np.float32)
    last = np.zeros(8, np.float32)
    calls = [(few[0], few[1]), (many[0], many[1]), (many[1, -8:], last)]
    blocks = [np.array(elementwise.copy.pack(call)) for call in calls]
    entry = elementwise.copy.entry(calls[0])
    table = np.array([[entry, block.ctypes.data] for block in blocks])
    groups = grouped(2, 1)
    for number in range(1, 101):
        many[0] = number
        run_groups(table.ctypes.data, groups.ctypes.data, len(calls), 2)
        assert (last == number).all()


def test_a_group_that_is_cut_off_runs_as_far_as_it_is_asked_for() -> None:
    counted = Counted(10)
    counted.run(grouped(2, 5, 3), 2, first=0, n=4)
    counted.run(grouped(2, 5, 3), 2, first=4, n=6)
    assert (counted.counts == 1).all()


def test_walks_in_several_python_threads_are_whole() -> None:
    tables = [Counted(12) for _ in range(4)]

    def walk(counted: Counted) -> None:
        for _ in range(500):
            counted.run(grouped(4, 1, 7), 3)

    walkers = [threading.Thread(target=walk, args=(table,)) for table in tables]
    for walker in walkers:
        walker.start()
    for walker in walkers:
        walker.join()
    for table in tables:
        assert (table.counts == 500).all()


PRELUDE = """
import os, sys, threading, time
sys.path.insert(0, sys.argv[1])
from helpers.grouped_calls import Counted, grouped
counted = Counted(8)
def walk(times=100):
    for _ in range(times):
        counted.run(grouped(4, 4), 3)
walk()
"""

PROGRAMS = {
    "ends while threads spin": "",
    "ends while threads sleep": "time.sleep(0.05)",
    "ends while a daemon walks": """
threading.Thread(target=walk, args=(10**9,), daemon=True).start()
time.sleep(0.05)
""",
    "a child has threads of its own": """
child = os.fork()
walk()
assert (counted.counts == 200).all()
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert len(os.listdir("/proc/self/task")) >= 3
""",
    "threads stay as many as they are": """
n = len(os.listdir("/proc/self/task"))
walk(1000)
assert len(os.listdir("/proc/self/task")) == n
""",
    "signals go to the threads of Python": """
import signal
for task in os.listdir("/proc/self/task"):
    text = open(f"/proc/self/task/{task}/status").read()
    blocked = int(text.partition("SigBlk:")[2].split()[0], 16)
    if int(task) != os.getpid() and blocked:
        break
else:
    raise AssertionError("no thread blocks signals")
signal.alarm(1)
signal.signal(signal.SIGALRM, lambda *_: sys.exit(0))
walk(10**9)
""",
}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_process(name: str) -> None:
    process = subprocess.run(
        [
            sys.executable,
            "-X",
            "faulthandler",
            "-c",
            PRELUDE + PROGRAMS[name],
            str(TESTS),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (process.returncode, process.stderr) == (0, "")


def test_where_no_thread_can_be_started_the_walk_runs_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from arena_ckpt.kernels import pool

    monkeypatch.setattr(pool, "_pool", pool.Pool())
    monkeypatch.setattr(pool.Pool, "_start", lambda self: False)
    counted = Counted(6)
    counted.run(grouped(6), 4)
    assert (counted.counts == 1).all()
