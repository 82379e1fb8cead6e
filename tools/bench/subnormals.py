"""What subnormal numbers and foreign floating-point flags cost a training.

*Dead units*: a layer of 160 × 160 weights below units that never fire gets no gradient,
so its moments shrink in each step, with a strong decay its weights as well. Compared
are two models of the same kind by turns, one just begun and one after thousands of
steps on the same batch: above 1 the later steps are slower.

*Flags*: the same calls are walked by turns by `run_table`, which sets IEEE's default
flags and puts back what was there, and by a loop that does not; a `train_step` that is
bare does not look at the flags in Python either.

Shown are the shortest times of a process, in microseconds, and their ratios.

    python tools/bench/subnormals.py [--steps 5000] [--rounds 15]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import arena_ckpt as ac
from arena_ckpt.engine import link, session
from arena_ckpt.kernels import kernel as entries

WIDTH = 160
DEAD: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "adam": ("adam", {"learning_rate": 1e-3}, {}),
    "adamw": ("adamw", {"learning_rate": 1e-3}, {}),
    "sgd, momentum": ("sgd", {"learning_rate": 1e-3, "momentum": 0.9}, {}),
    "sgd, decay": ("sgd", {"learning_rate": 0.1}, {"weight_decay": 0.5}),
    "adamw, decay": ("adamw", {"learning_rate": 0.1, "weight_decay": 0.5}, {}),
}
Batch = tuple[np.ndarray, np.ndarray]
Walk = Callable[[int, int], None]


def model_of(
    width: int, optimizer: str, given: dict[str, Any], layer: dict[str, Any]
) -> ac.Model:
    """Return a small network."""
    model = ac.Model(seed=0)
    model.add_layer("input", name="in", input_shape=(1, 1, width))
    model.add_layer("fully_connected", name="fc", unit=width, **layer)
    model.add_layer("activation", name="act", activation="relu")
    model.add_layer("fully_connected", name="out", unit=1)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=1)
    model.set_optimizer(optimizer, **given)
    model.initialize()
    return model


def batch_of(width: int) -> Batch:
    """Return a sample of positive numbers, and its target."""
    x = np.random.default_rng(0).uniform(0.5, 1.5, (1, width)).astype(np.float32)
    return x, np.ones((1, 1), np.float32)


def kill(model: ac.Model, batch: Batch, n_steps: int) -> None:
    """Fill the moments, let no unit fire any more, and train on."""
    for _ in range(20):
        model.train_step(*batch)
    weights = model.weights()
    model.set_weights(
        {
            "fc:weight": -np.abs(weights["fc:weight"]) - np.float32(1e-3),
            "fc:bias": np.full_like(weights["fc:bias"], -1),
        }
    )
    for _ in range(n_steps):
        model.train_step(*batch)


def time_of(step: Callable[[], object], n: int) -> float:
    """Return the microseconds of a step."""
    began = time.process_time_ns()
    for _ in range(n):
        step()
    return (time.process_time_ns() - began) / n / 1e3


def dead_units(n_steps: int, rounds: int) -> None:
    """Print how much slower a training becomes."""
    batch = batch_of(WIDTH)
    print(f"{'dead units':18} {'first steps':>12} {f'after {n_steps:,}':>12} ratio")
    for name, case in DEAD.items():
        young, old = model_of(WIDTH, *case), model_of(WIDTH, *case)
        kill(old, batch, n_steps)
        times: list[list[float]] = [[], []]
        for _ in range(rounds):
            kill(young, batch, 20)
            for model, found in zip((young, old), times, strict=True):
                found.append(time_of(lambda m=model: m.train_step(*batch), 100))
        early, late = map(min, times)
        print(f"{name:18} {early:12.1f} {late:12.1f} {late / early:5.2f}", flush=True)


@numba.njit("void(int64, int64)", error_model="numpy", nogil=True)
def bare_table(table_address: int, n_calls: int) -> None:
    """`run_table` without the flags."""
    table = numba.carray(entries.int_pointer(table_address), 2 * n_calls)
    for call in range(n_calls):
        entries.call_entry(table[2 * call], table[2 * call + 1])


def flags(rounds: int) -> None:
    """Print what setting the flags costs."""
    nothing = np.zeros(2, np.int64)
    walks: dict[str, Walk] = {"with flags": entries.run_table, "bare": bare_table}
    model, batch = model_of(8, "sgd", {}, {}), batch_of(8)

    def train(walk: Walk) -> float:
        run_by_default = session.run_by_default
        link.run_table = walk
        if walk is bare_table:
            session.run_by_default = lambda work, *given: work(*given)
        try:
            return time_of(lambda: model.train_step(*batch), 500)
        finally:
            link.run_table, session.run_by_default = entries.run_table, run_by_default

    address = nothing.ctypes.data
    cases: dict[str, Callable[[Walk], float]] = {
        "an empty walk": lambda walk: time_of(lambda: walk(address, 0), 5_000),
        "a tiny train_step": train,
    }
    print(f"\n{'flags':18} {'with flags':>12} {'bare':>12} ratio")
    for name, measure in cases.items():
        times: dict[str, list[float]] = {walk: [] for walk in walks}
        for _ in range(rounds):
            for walk, function in walks.items():
                times[walk].append(measure(function))
        ours, bare = (min(found) for found in times.values())
        print(f"{name:18} {ours:12.3f} {bare:12.3f} {ours / bare:5.2f}", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    dead_units(options.steps, options.rounds)
    flags(options.rounds)


if __name__ == "__main__":
    main()
