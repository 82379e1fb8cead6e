"""Contestants that take turns: each lives in a process of its own.

So all see the same moods of the machine, and none the libraries of another.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Step = Callable[[], object]
Contestant = Callable[[str, int], tuple[Step, dict[str, Any]]]
"""Given a case and a number of threads: one step, and facts to show beside its time."""


class Figures(NamedTuple):
    """Medians over the rounds, in microseconds a step, and the contestant's facts."""

    wall: float
    cpu: float
    facts: dict[str, Any]


def _serve(
    contestant: Contestant, case: str, threads: int, n_steps: int, pipe: Any
) -> None:
    try:
        step, facts = contestant(case, threads)
        for _ in range(max(3, n_steps)):
            step()
    except Exception as error:  # said by the parent, which goes on without it
        pipe.send(error)
        return
    pipe.send(facts)
    while pipe.recv():
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(n_steps):
            step()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        pipe.send((wall / n_steps * 1e6, cpu / n_steps * 1e6))


def measure(
    contestants: Mapping[str, Contestant],
    case: str,
    *,
    threads: int,
    rounds: int,
    n_steps: int,
) -> dict[str, Figures]:
    """Time all contestants by turns; one that fails is reported and left out."""
    # The BLAS reads its number of threads when it is loaded, in the child process.
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Any] = {}
    facts: dict[str, dict[str, Any]] = {}
    processes = []
    for name, contestant in contestants.items():
        pipe, end = context.Pipe()
        arguments = (contestant, case, threads, n_steps, end)
        process = context.Process(target=_serve, args=arguments)
        process.start()
        processes.append(process)
        answer = pipe.recv()  # one after the other: compiling takes all cores
        if isinstance(answer, Exception):
            print(f"{name} cannot run {case}: {type(answer).__name__}: {answer}")
            continue
        pipes[name], facts[name] = pipe, answer
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in pipes}
    for _ in range(rounds):
        for name, pipe in pipes.items():
            pipe.send(True)
            times[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    for process in processes:
        process.join()
    return {
        name: Figures(
            statistics.median(wall for wall, _ in rows),
            statistics.median(cpu for _, cpu in rows),
            facts[name],
        )
        for name, rows in times.items()
    }
