"""Contestants that take turns: each lives in a process of its own.

So all see the same moods of the machine, and none the libraries of another.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

Step = Callable[[], object]
Contestant = Callable[[str, int], tuple[Step, dict[str, Any]]]
"""Given a case and a number of threads: one step, and facts to show beside its time."""


class Figures(NamedTuple):
    """Medians over the rounds, in microseconds a step, and the contestant's facts."""

    wall: float
    cpu: float
    facts: dict[str, Any]
    walls: tuple[float, ...] = ()
    """The wall time of each round; round for round beside those of the others."""
    cpus: tuple[float, ...] = ()


def _serve(
    contestant: Contestant, case: str, threads: int, n_steps: int, pipe: Any
) -> None:
    try:
        step, facts = contestant(case, threads)
        for _ in range(max(3, n_steps)):
            step()
    except Exception as error:  # said by the parent, which goes on without it
        pipe.send(f"{type(error).__name__}: {error}")
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
    failures: dict[str, str] | None = None,
    n_setups: int = 1,
) -> dict[str, Figures]:
    """Time all contestants by turns; one that fails is reported and left out.

    What it says is written into `failures`, by its name. Contestants are set up, which
    is not timed and can take all cores, `n_setups` at a time.
    """
    failures = {} if failures is None else failures
    # The BLAS reads its number of threads when it is loaded, in the child process.
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    context = multiprocessing.get_context("spawn")

    def begin(contestant: Contestant) -> tuple[Any, Any, dict[str, Any] | str]:
        pipe, end = context.Pipe()
        arguments = (contestant, case, threads, n_steps, end)
        process = context.Process(target=_serve, args=arguments)
        process.start()
        end.close()  # so that a process that dies is seen, not waited for
        try:
            return process, pipe, pipe.recv()
        except EOFError:
            return process, pipe, "its process died"

    with ThreadPoolExecutor(n_setups) as pool:
        begun = list(pool.map(begin, contestants.values()))
    pipes: dict[str, Any] = {}
    facts: dict[str, dict[str, Any]] = {}
    for name, (_, pipe, answer) in zip(contestants, begun, strict=True):
        if isinstance(answer, str):
            print(f"{name} cannot run {case}: {answer}", flush=True)
            failures[name] = answer
        else:
            pipes[name], facts[name] = pipe, answer
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in pipes}
    for _ in range(rounds):
        for name, pipe in tuple(pipes.items()):
            try:
                pipe.send(True)
                times[name].append(pipe.recv())
            except (EOFError, OSError):
                print(f"{name} died while it ran {case}", flush=True)
                failures[name] = "its process died during a round"
                del pipes[name], times[name]
    for pipe in pipes.values():
        pipe.send(False)
    for process, _, _ in begun:
        process.join()
    return {
        name: _figures(tuple(zip(*rows, strict=True)), facts[name])
        for name, rows in times.items()
    }


def _figures(
    times: tuple[tuple[float, ...], tuple[float, ...]], facts: dict[str, Any]
) -> Figures:
    walls, cpus = times
    return Figures(
        statistics.median(walls), statistics.median(cpus), facts, walls, cpus
    )
