"""Time of one training step beside PyTorch eager, interleaved.

Each contestant lives in a process of its own and is asked, by turns, for a number of
steps (zero_grad, forward, backward, update with fused Adam), so that both see the same
moods of the machine. Shown are medians over the rounds, in microseconds of wall and
of process CPU time a step, and the ratio of the medians.

    python tools/bench/step_time.py [--threads 1 2] [--rounds 15] [--json FILE]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from interleaved import Step, measure
from results import ResultsFile, contestants

CASES = {
    "64-32-32-10 b16": (16, [64, 32, 32, 10], 400),
    "784-512-256-128-10 b32": (32, [784, 512, 256, 128, 10], 40),
    "6x1024 b256": (256, [1024] * 7, 2),
}


def arena_steps(batch: int, sizes: list[int], threads: int) -> Callable[[], object]:
    """Return a function that runs one step of ours."""
    import numpy as np

    import arena_ckpt as ac

    model = ac.Model(seed=0)
    model.add_layer("input", name="in", input_shape=(1, 1, sizes[0]))
    for i, unit in enumerate(sizes[1:], start=1):
        model.add_layer("fully_connected", name=f"fc{i}", unit=unit)
        if i + 1 < len(sizes):
            model.add_layer("activation", name=f"act{i}", activation="relu")
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=batch, threads=threads)
    model.set_optimizer("adam", learning_rate=1e-3)
    model.initialize()
    generator = np.random.default_rng(0)
    x = generator.standard_normal((batch, sizes[0]), dtype=np.float32)
    y = generator.standard_normal((batch, sizes[-1]), dtype=np.float32)
    return lambda: model.train_step(x, y)


def torch_steps(batch: int, sizes: list[int], threads: int) -> Callable[[], object]:
    """Return a function that runs one step of PyTorch."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    for i, unit in enumerate(sizes[1:]):
        layers.append(torch.nn.Linear(sizes[i], unit))
        if i + 2 < len(sizes):
            layers.append(torch.nn.ReLU())
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    criterion = torch.nn.MSELoss()
    x, y = torch.randn(batch, sizes[0]), torch.randn(batch, sizes[-1])

    def step() -> float:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def arena_ckpt(case: str, threads: int) -> tuple[Step, dict[str, object]]:
    """Set up ours."""
    batch, sizes, _ = CASES[case]
    return arena_steps(batch, sizes, threads), {}


def pytorch(case: str, threads: int) -> tuple[Step, dict[str, object]]:
    """Set up PyTorch."""
    batch, sizes, _ = CASES[case]
    return torch_steps(batch, sizes, threads), {}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    file = ResultsFile(options.json, "step_time", rounds=options.rounds)
    print(
        f"{'model':24} {'threads':>7} {'arena wall':>11} {'torch wall':>11} "
        f"{'ratio':>6} {'arena cpu':>11} {'torch cpu':>11} {'ratio':>6}   (µs a step)"
    )
    for case in options.case:
        for threads in options.threads:
            result = measure(
                {"arena": arena_ckpt, "eager": pytorch},
                case,
                threads=threads,
                rounds=options.rounds,
                n_steps=CASES[case][2],
            )
            ours, eager = result["arena"], result["eager"]
            print(
                f"{case:24} {threads:7} {ours.wall:11.1f} {eager.wall:11.1f} "
                f"{ours.wall / eager.wall:6.2f} {ours.cpu:11.1f} {eager.cpu:11.1f} "
                f"{ours.cpu / eager.cpu:6.2f}",
                flush=True,
            )
            row = {"case": case, "threads": threads}
            file.add(row | {"contestants": contestants(result)})


if __name__ == "__main__":
    main()
