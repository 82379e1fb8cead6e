"""Checks in a child process: what a crash, a kill, a hang or an error there becomes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from helpers.plan_faults import APPLY, DERIVATIVE, FORWARD, GRADIENT, RECOMPUTE
from helpers.plan_surgery import NETS
from helpers.program_faults import Calls, Patch, Step, at

import arena_ckpt as ac
from arena_ckpt import Phase
from arena_ckpt.cli import main
from arena_ckpt.errors import ArenaError, BudgetError, CrashError, NonFiniteError
from arena_ckpt.layers.base import Call
from arena_ckpt.operations.families import elementwise
from arena_ckpt.verification import child_process
from arena_ckpt.verification.check_runner import Check
from arena_ckpt.verification.child_process import Voice, call_apart, run_apart

MLP = NETS["mlp"]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(autouse=True)
def _no_traces_of_crashes(monkeypatch: Patch) -> None:
    """Let no child write Python's report of a crash, which pytest asks for."""
    import faulthandler

    was_on = faulthandler.is_enabled()
    faulthandler.disable()
    yield
    if was_on:
        faulthandler.enable()


def crash(step: Step) -> Calls:
    """Write to where no memory is, after what is right."""
    nowhere = np.frombuffer(bytearray(4), np.float32)
    nowhere = np.lib.stride_tricks.as_strided(nowhere, (1 << 42,))[(1 << 41) :]
    return [*step.calls, Call(elementwise.fill, (1.0, nowhere[:1]))]


def verified(model: ac.Model, **given: Any) -> dict[str, Check]:
    result = ac.verify(model, command=("/no/such/program",), **given)
    return {check.name: check for check in result.checks}


def failed(checks: dict[str, Check]) -> list[str]:
    return [name for name, check in checks.items() if check.passed is False]


# -- crashes of steps ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "layer", "where", "checks"),
    [
        (
            FORWARD,
            "fc3",
            "'fc3' in forward",
            [
                *("memory", "reads", "bits of the plan", "bits without recomputing"),
                *("bits without reuse", "gradients"),
            ],
        ),
        (
            RECOMPUTE,
            "act1",
            "'act1' in recompute",
            ["memory", "reads", "bits of the plan", "bits without reuse", "gradients"],
        ),
        (
            APPLY,
            "fc2",
            "'fc2' in apply_gradient",
            [
                *("memory", "reads", "bits of the plan", "bits without recomputing"),
                "bits without reuse",
            ],
        ),
    ],
    ids=["forward", "recompute", "update"],
)
def test_a_crash_is_a_defect_with_its_step(
    phase: Phase, layer: str, where: str, checks: list[str], monkeypatch: Patch
) -> None:
    at(phase, layer, crash)(monkeypatch)
    found = verified(MLP.model())

    assert failed(found) == checks
    for name in checks:
        assert "crashed with SIGSEGV" in found[name].finding, found[name]
        assert f"layer {where} (step " in found[name].finding, found[name]
    assert f"and only writes {'fc3:out0' if layer == 'fc3' else ''}" in (
        found["memory"].finding
    )
    assert all(found[name].passed for name in ("layout", "dataflow", "bounds"))
    assert found["bits of debug mode"].passed is None
    assert found["processes"].passed is None


def test_the_crash_of_a_smaller_batch_is_of_its_step(monkeypatch: Patch) -> None:
    def change(step: Step) -> Calls:
        return crash(step) if step.settings.n_samples == 7 else step.calls

    at(DERIVATIVE, "act3", change)(monkeypatch)
    found = verified(MLP.model())
    assert "'act3' in calc_derivative" in found["memory"].finding
    assert "SIGSEGV" in found["memory"].finding


def test_the_command_ends_with_1_and_says_where(
    monkeypatch: Patch, tmp_path: Path
) -> None:
    at(GRADIENT, "fc4", crash)(monkeypatch)
    MLP.model().save_ini(tmp_path / "net.ini")
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "net.ini")])
    assert result.exit_code == 1, result.output
    line = "FAILED    memory, "
    (memory,) = [one for one in result.output.splitlines() if one.startswith(line)]
    assert "layer 'fc4' in calc_gradient (step " in memory
    assert "crashed with SIGSEGV" in memory
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "net.ini"), "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["passed"] is False


def test_a_crash_while_time_is_measured_is_an_error(monkeypatch: Patch) -> None:
    monkeypatch.setattr("arena_ckpt.engine.measuring._read", lambda path, n_steps: None)
    at(FORWARD, "fc2", crash)(monkeypatch)
    with pytest.raises(CrashError, match="crashed with SIGSEGV") as caught:
        ac.verify(MLP.without_blocks().model(), max_overhead=0.5, measure=True)
    assert caught.value.signal == "SIGSEGV"


# -- other ends ------------------------------------------------------------------------


def ended(work: Callable[[Voice], None]) -> CrashError:
    with pytest.raises(CrashError) as caught:
        run_apart(work, lambda what: None)
    return caught.value


def test_a_kill_is_told_from_a_crash() -> None:
    error = ended(lambda voice: os.kill(os.getpid(), signal.SIGKILL))
    assert error.signal == "SIGKILL"
    assert "perhaps for its memory: verify with a smaller batch_size" in str(error)
    assert "before any step" in str(error)
    assert error.step is None


def test_an_exit_in_the_midst_is_told() -> None:
    error = ended(lambda voice: os._exit(7))
    assert "exit code 7" in str(error)
    assert error.signal is None


def test_what_never_ends_is_stopped(monkeypatch: Patch) -> None:
    monkeypatch.setattr(child_process, "AT_MOST_SECONDS", 0.5)
    monkeypatch.setattr(child_process, "_LOOK_SECONDS", 0.1)
    pids: list[int] = []

    def work(voice: Voice) -> None:
        voice.say(os.getpid())
        time.sleep(60)

    started = time.monotonic()
    with pytest.raises(CrashError, match=r"did not end within .* s and was stopped"):
        run_apart(work, pids.append)
    assert time.monotonic() - started < 20
    assert not is_running(pids[0])


def test_a_step_that_never_ends_is_named(monkeypatch: Patch) -> None:
    """A step under way keeps its number: only what ends a step is a sign of life."""
    monkeypatch.setattr(child_process, "AT_MOST_SECONDS", 0.5)
    monkeypatch.setattr(child_process, "_LOOK_SECONDS", 0.1)
    plan = MLP.model().make_plan()

    def work(voice: Voice) -> None:
        note = voice.follow(plan)
        assert note is not None
        for number in range(4):
            note.cell[0] = number + 0.5
            time.sleep(0.3)
        note.cell[0] = next(e.step for e in plan.executions if e.layer == "act1")
        time.sleep(60)

    with pytest.raises(CrashError, match=r"^layer 'act1' in forward .*did not end"):
        run_apart(work, lambda what: None)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("words")
        self.lock = (x for x in ())


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (NonFiniteError("no", layer="fc", step=3), NonFiniteError, "no"),
        (BudgetError("small", least_bytes=5), BudgetError, "small"),
        (KeyError("x"), KeyError, "x"),
        (Unpicklable(), RuntimeError, "Unpicklable: words"),
        (KeyboardInterrupt("by hand"), KeyboardInterrupt, "by hand"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_comes_back_whole(
    error: BaseException, kind: type[BaseException], text: str
) -> None:
    def work(voice: Voice) -> None:
        raise error

    with pytest.raises(kind, match=text) as caught:
        run_apart(work, lambda what: None)
    if isinstance(error, ArenaError):
        facts = {k: v for k, v in vars(caught.value).items() if k != "__notes__"}
        assert facts == vars(error)
    assert "in work" in caught.value.__notes__[0]


def test_what_is_said_is_heard_in_order_and_while_it_runs() -> None:
    heard: list[int] = []
    run_apart(lambda voice: [voice.say(i) for i in range(100)] and None, heard.append)
    assert heard == list(range(100))
    assert call_apart(lambda: os.getpid()) != os.getpid()
    big = np.arange(10**6)
    assert (call_apart(lambda: big * 2) == big * 2).all()


def test_an_interrupt_here_ends_the_child() -> None:
    pids: list[int] = []

    def hear(pid: int) -> None:
        pids.append(pid)
        raise KeyboardInterrupt

    def work(voice: Voice) -> None:
        voice.say(os.getpid())
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        run_apart(work, hear)
    assert not is_running(pids[0])


def test_ctrl_c_in_a_terminal_is_heard_by_the_parent_alone() -> None:
    """Every process of the terminal gets the signal; the child ignores it."""

    def work(voice: Voice) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        voice.say("alive")

    heard: list[str] = []
    run_apart(work, heard.append)
    assert heard == ["alive"]


ORPHAN = """
import os, sys, time
from arena_ckpt.verification.child_process import run_apart

def work(voice):
    voice.say(os.getpid())
    time.sleep(60)

def hear(pid):
    print(pid, flush=True)

run_apart(work, hear)
"""


def test_a_child_does_not_outlive_its_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ORPHAN)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 20
    while is_running(pid) and not is_ended(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_running(pid) or is_ended(pid)


def is_ended(pid: int) -> bool:
    """Tell whether a process has ended for which nobody waits."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] == "Z"


def test_no_process_is_left_behind() -> None:
    """Neither one that runs nor one that has ended and waits to be asked."""
    this = psutil.Process()
    before = {child.pid for child in this.children()}
    verified(MLP.model())
    assert {child.pid for child in this.children()} <= before


# -- without another process -----------------------------------------------------------


@pytest.mark.parametrize("how", ["no fork", "no more processes"])
def test_without_a_child_the_checks_run_here_and_say_so(
    how: str, monkeypatch: Patch
) -> None:
    def refuse() -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    if how == "no fork":
        monkeypatch.delattr(os, "fork")
    else:
        monkeypatch.setattr(os, "fork", refuse)
    found = verified(MLP.model())
    assert failed(found) == []
    for name in ("memory", "reads"):
        assert "in this process, as there can be no other" in found[name].finding
    monkeypatch.undo()
    found = verified(MLP.model())
    assert "in this process" not in found["memory"].finding
