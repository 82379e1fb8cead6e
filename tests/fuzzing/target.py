"""What is fuzzed: a name, where inputs come from, and the call."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fuzzing.guard import LIMITS, Finding, Limits, guarded


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """One public entry under bad input.

    Attributes
    ----------
    name : str
    inputs : strategy
        Where hypothesis takes inputs from.
    call : callable
        Takes an input and an empty folder, which is also the present one. It may raise
        our errors; a `Finding` or any other exception is a defect.
    seeds : tuple of bytes
        Good inputs of a target that takes bytes, for atheris to begin with; empty for
        a target that takes what a strategy draws.
    warm_up : callable
        Runs once, without limits, so that no input waits for a compiler.
    show : callable or None
        Returns what tells a reader more about an input than its repr.
    summary : callable or None
        Returns what became of the inputs so far.
    cost : int
        How many inputs of other targets one takes the time of.
    needs : str
        A package without which it cannot run; empty for none.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    call: Callable[[Any, Path], None]
    seeds: tuple[bytes, ...] = ()
    warm_up: Callable[[], object] = field(default=lambda: None)
    show: Callable[[Any], str] | None = None
    summary: Callable[[], str] | None = None
    cost: int = 1
    needs: str = ""

    @property
    def can_run(self) -> bool:
        """What it needs is installed."""
        return not self.needs or importlib.util.find_spec(self.needs) is not None

    def check(self, value: Any) -> None:
        """Run one input.

        Raises
        ------
        Finding
        """
        with empty_folder() as folder:
            self.run(value, folder)

    def run(self, value: Any, folder: Path) -> None:
        """Run one input in a folder of the caller."""
        self.call(value, folder)


@dataclass(slots=True)
class Outcome:
    """What a run found: how many inputs, and the smallest one that fails."""

    n_inputs: int = 0
    smallest: Any = None
    finding: BaseException | None = None


def run_target(
    target: Target, n_inputs: int, number: int | None, *, shrinks: bool = True
) -> Outcome:
    """Draw inputs and run them; shrink the first that fails.

    Parameters
    ----------
    target : Target
    n_inputs : int
    number : int or None
        Decides the inputs; None takes the same each time.
    shrinks : bool
        False leaves what was found as it is, at once.
    """
    phases = (Phase.generate, Phase.shrink) if shrinks else (Phase.generate,)
    outcome = Outcome()
    target.warm_up()

    with empty_folder() as folder:

        @settings(
            max_examples=n_inputs,
            database=None,
            derandomize=number is None,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            phases=phases,
        )
        @given(target.inputs)
        def one(value: Any) -> None:
            outcome.n_inputs += 1
            try:
                target.run(value, folder)
            except BaseException as error:
                outcome.smallest, outcome.finding = value, error
                raise

        try:
            (one if number is None else seed(number)(one))()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome.finding = outcome.finding or error
        else:
            outcome.finding = outcome.smallest = None
    return outcome


def fuzz_bytes(target: Target, folder: Path) -> Callable[[bytes], None]:
    """Return what runs a target on the bytes of another fuzzer."""
    if target.seeds:
        return lambda data: target.run(data, folder)

    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(target.inputs)
    def one(value: Any) -> None:
        target.run(value, folder)

    drawn: Callable[[bytes], Any] = one.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    return lambda data: drawn(data) and None


@contextlib.contextmanager
def empty_folder() -> Iterator[Path]:
    """Give a folder that is the present one meanwhile, and is removed afterwards."""
    before = Path.cwd()
    in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz_", dir=in_memory) as name:
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)


def reads_file(
    name: str, *readers: Callable[[Path], object], limits: Limits = LIMITS
) -> Callable[[bytes, Path], None]:
    """Return a call that gives bytes as a file to readers, one after the other."""

    def call(data: bytes, folder: Path) -> None:
        path = folder / name
        path.write_bytes(data)
        for reader in readers:
            with guarded(limits, folder):
                reader(path)
        if path.read_bytes() != data:
            raise Finding(f"{path} was changed")

    return call
