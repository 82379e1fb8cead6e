"""Times kernel calls one by one, inside iterations that are run for nothing else.

A session of its own runs whole iterations: on an arena, weights and data of its own,
with a learning rate of 0, so that every iteration does the same work. Rounds take
turns: one iteration as training runs it, for the time outside kernels, and one whose
calls are run one by one with a clock around each. What reading the clock takes is
measured and left out. Each part is timed by itself, as short times are disturbed least
by other work on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.progress import compile_progress, status_line
from arena_ckpt.data.samples import Samples
from arena_ckpt.data.standardization import Standardization
from arena_ckpt.engine.batch import Batch
from arena_ckpt.engine.passes import Pass
from arena_ckpt.engine.program import Program
from arena_ckpt.engine.session import Session
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.random_batch import random_batch
from arena_ckpt.lowering.call_costs import call_costs
from arena_ckpt.lowering.calls import lower
from arena_ckpt.optim.optimizers import Optimizer
from arena_ckpt.planning.plan import MemoryPlan

FEWEST_ROUNDS = 3
MOST_ROUNDS = 50
ENOUGH_SECONDS = 0.5
"""Number of seconds after which no further round begins, if there were a few."""

CLOCK_READINGS = 201
"""Number of calls of nothing by which the cost of reading the clock is known."""

_Key = tuple[int, str, int]
"""The step of a call, its kernel, and its number among equal ones in the step."""


@dataclass(frozen=True, slots=True)
class TimedCall:
    """A kernel call of an iteration, with what it costs in all its passes together.

    Attributes
    ----------
    step : int
    kernel : str
        ``"blas.matmul"``.
    runs : int
        Number of times that an iteration runs the call: once for each micro-batch.
    n_flops, n_bytes : int
        Floating-point operations, and bytes read and written, of all runs.
    """

    step: int
    kernel: str
    runs: int
    n_flops: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class CallTimes:
    """How long the kernel calls of an iteration took.

    Attributes
    ----------
    calls : tuple of TimedCall
        By ascending step.
    seconds : float64 array, shape (rounds, calls)
        Of all runs of a call in an iteration.
    outside_seconds : float64 array, shape (rounds,)
        Of an iteration without its kernels; empty where that was not asked for.
    clock_seconds : float
        What a reading of the clock takes, and is left out of `seconds`.
    """

    calls: tuple[TimedCall, ...]
    seconds: npt.NDArray[np.float64]
    outside_seconds: npt.NDArray[np.float64]
    clock_seconds: float


class TimedSession(Session):
    """A session that can put a clock around each kernel call.

    Its losses may be NaN: no one reads what it computes.
    """

    _seconds: dict[Program, npt.NDArray[np.float64]] | None = None
    _runs: dict[Program, npt.NDArray[np.int64]]
    _kernel_seconds = 0.0
    clock_seconds = 0.0

    def outside_seconds(self, work: Callable[[], object]) -> float:
        """Run an iteration as it is, and return its seconds without its kernels."""
        self._kernel_seconds = 0.0
        began = time.perf_counter()
        work()
        return time.perf_counter() - began - self._kernel_seconds

    def run_timed(self, work: Callable[[], object]) -> None:
        """Run an iteration with a clock around each call."""
        self._seconds, self._runs = {}, {}
        try:
            work()
        finally:
            self._found = self._seconds
            self._seconds = None

    def last_times(
        self,
    ) -> dict[Program, tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]:
        """Return the seconds and runs of each call of the programs that ran timed."""
        return {one: (took, self._runs[one]) for one, took in self._found.items()}

    def predict_batch(self, batch: Batch) -> None:
        """Run forward passes over a batch, and copy the predictions."""

        def keep(one: Pass, start: int) -> None:
            for name in self._predicted:
                self._prediction(name, one).copy()

        self._predict(batch, self.heads.no_scales(), keep)

    def _check_loss(self) -> None:
        """Go on with any loss."""

    def _steps(self, one: Pass, start: int, stop: int) -> None:
        if self._seconds is None:
            began = time.perf_counter()
            super()._steps(one, start, stop)
            self._kernel_seconds += time.perf_counter() - began
            return
        program = one.program
        if program not in self._seconds:
            n_calls = program.n_calls(0, len(self.plan.steps))
            self._seconds[program] = np.zeros(n_calls)
            self._runs[program] = np.zeros(n_calls, dtype=np.int64)
        first, last = program.calls(start, stop)
        took = _timed(program, first, last, self.clock_seconds)
        self._seconds[program][first:last] += took
        self._runs[program][first:last] += 1


def time_calls(
    graph: Graph,
    plan: MemoryPlan,
    optimizer: Optimizer,
    *,
    max_norm: float | None = None,
    rounds: int | None = None,
    standardization: Standardization | None = None,
    samples_of: Callable[[Session], Samples | None] | None = None,
    times_outside: bool = False,
) -> CallTimes:
    """Run iterations of a plan and time their kernel calls.

    Parameters
    ----------
    graph : Graph
    plan : MemoryPlan
        Of this graph; one of inference runs predictions.
    optimizer : Optimizer
    max_norm : float or None
        Where gradients are clipped.
    rounds : int or None
        None runs at least 3, and up to 50 within half a second.
    standardization : Standardization, optional
        Of the samples.
    samples_of : callable, optional
        Makes the samples that the iterations run on, checked by the session it is
        given; by default, and where it returns None, random ones are drawn.
    times_outside : bool
        Whether iterations are run for the time outside their kernels as well.

    Returns
    -------
    CallTimes

    Raises
    ------
    ArenaTooLargeError
        The plan does not fit in the memory that is free.
    """
    with compile_progress() as report:
        session = TimedSession(
            graph,
            plan,
            optimizer,
            None,
            seed=0,
            max_norm=max_norm,
            report=report,
            standardization=standardization,
        )
    session.rate_factor = 0.0
    samples = None if samples_of is None else samples_of(session)
    if samples is None:
        session.standardize(None)
        samples = _random_samples(session)
    work = _iteration(session, samples)
    work()  # loads what the passes need, and touches memory for the first time
    session.run_timed(work)
    programs = [*session.last_times()]
    session.clock_seconds = _clock_seconds(programs[0])
    took: list[list[npt.NDArray[np.float64]]] = []
    outside: list[float] = []
    runs = [n for _, n in session.last_times().values()]
    began = time.perf_counter()
    with status_line("measuring", None, "iterations measured") as report_round:
        while not _is_enough(len(took), rounds, time.perf_counter() - began):
            report_round(f"round {len(took) + 1}")
            if times_outside:
                outside.append(session.outside_seconds(work))
            session.run_timed(work)
            found = session.last_times()
            took.append([found[program][0] for program in programs])
    calls, seconds = _joined(session, programs, runs, took)
    return CallTimes(calls, seconds, np.array(outside), session.clock_seconds)


def _is_enough(n: int, rounds: int | None, seconds: float) -> bool:
    if rounds is not None:
        return n >= rounds
    return n >= MOST_ROUNDS or (n >= FEWEST_ROUNDS and seconds >= ENOUGH_SECONDS)


def _timed(
    program: Program, first: int, last: int, clock_seconds: float
) -> list[float]:
    """Run the calls [first, last) one by one; return the seconds of each.

    Calls that may run side by side do; each is said to take its share of their time.
    """
    run, clock = program.table.run, time.perf_counter
    seconds: list[float] = []
    while first + len(seconds) < last:
        index = first + len(seconds)
        beside = program.table.beside(index)
        began = clock()
        run(index, index + beside)
        took = max(0.0, clock() - began - clock_seconds)
        seconds += [took / beside] * beside
    return seconds


def _clock_seconds(program: Program) -> float:
    """Return the seconds that are measured where no call is run."""
    run, clock = program.table.run, time.perf_counter
    seconds = []
    for _ in range(CLOCK_READINGS):
        began = clock()
        run(0, 0)
        seconds.append(clock() - began)
    return float(np.median(seconds))


def _random_samples(session: Session) -> Samples:
    generator = np.random.default_rng(0)
    x, y = random_batch(session.graph, session.plan.batch_size, generator)
    return session.samples(x, None if session.plan.is_inference else y)


def _iteration(session: TimedSession, samples: Samples) -> Callable[[], object]:
    """Return what runs an iteration, or a prediction, on the first samples.

    Too few of them are taken again.
    """
    n = session.plan.batch_size
    rows = np.arange(n) % samples.n_samples
    if session.plan.is_inference:
        batch = Batch(samples, n, rows, samples.is_looked_at_later)
        return lambda: session.predict_batch(batch)
    return lambda: session.iterate(samples, rows)


def _joined(
    session: TimedSession,
    programs: list[Program],
    runs: list[npt.NDArray[np.int64]],
    took: list[list[npt.NDArray[np.float64]]],
) -> tuple[tuple[TimedCall, ...], npt.NDArray[np.float64]]:
    """Return the calls of all programs, those of several micro-batches as one."""
    plan, places = session.plan, dict[_Key, int]()
    found: list[TimedCall] = []
    columns: list[npt.NDArray[np.float64]] = []
    for number, program in enumerate(programs):
        n_samples = program.settings.n_samples
        calls = lower(session.graph, plan, session.optimizer, program.settings)
        assert len(calls) == len(runs[number]), "the table has other calls"
        costs = call_costs(plan, calls, n_samples)
        seen: dict[tuple[int, str], int] = {}
        for index, (call, cost) in enumerate(zip(calls, costs, strict=True)):
            n_runs = int(runs[number][index])
            if not n_runs:  # an update, which only the last pass goes on to
                continue
            name = call.step, str(call.kernel)
            seen[name] = seen.get(name, 0) + 1
            column = np.array([one[number][index] for one in took])
            one = TimedCall(*name, n_runs, n_runs * cost.n_flops, n_runs * cost.n_bytes)
            place = places.setdefault((*name, seen[name]), len(found))
            if place == len(found):
                found.append(one)
                columns.append(column)
                continue
            before = found[place]
            found[place] = TimedCall(
                *name,
                before.runs + one.runs,
                before.n_flops + one.n_flops,
                before.n_bytes + one.n_bytes,
            )
            columns[place] = columns[place] + column
    order = sorted(range(len(found)), key=lambda k: (found[k].step, k))
    seconds = np.empty((len(took), len(found)))
    for place, k in enumerate(order):
        seconds[:, place] = columns[k]
    return tuple(found[k] for k in order), seconds
