"""Kill a training at random moments, resume it, and look that the end is the same.

Each run trains a small network with dropout, batch normalization and Adam in a process
of its own, which saves its state after every iteration and is killed (SIGKILL) after a
random time; the next process resumes. After every kill the newest state has to load;
the weights, optimizer states and records at the end have to be, bit for bit, those of a
run that nobody killed.

    python tools/kill_resume.py --kills 200 --seed 0
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from arena_ckpt import Model, create_schedule, load
from arena_ckpt.training.records import History

EPOCHS = 4
N_SAMPLES = 200


def make_model() -> Model:
    """Return a small network in which much can go wrong."""
    model = Model(seed=5)
    model.add_layer("input", name="in", input_shape=(2, 6, 6))
    model.add_layer("conv2d", name="conv", filters=4, kernel_size="3,3")
    model.add_layer("batch_normalization", name="bn")
    model.add_layer("activation", name="act", activation="gelu")
    model.add_layer("flatten", name="flat")
    model.add_layer("fully_connected", name="fc", unit=16)
    model.add_layer("dropout", name="drop", dropout_rate=0.3)
    model.add_layer("fully_connected", name="output", unit=5)
    model.add_layer("cross_softmax", name="loss")
    model.add_checkpoint_block(["conv", "bn", "act", "flat"])
    model.set_property(batch_size=16)
    model.set_optimizer("adam", learning_rate=0.01)
    model.set_learning_rate_scheduler(
        create_schedule(
            "exponential", learning_rate=0.01, decay_rate=0.5, decay_steps=20
        )
    )
    return model


def make_data() -> tuple[np.ndarray, np.ndarray]:
    """Return samples and classes, the same in every process."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 5, N_SAMPLES)
    x = generator.normal(size=(N_SAMPLES, 72)).astype(np.float32)
    x[np.arange(N_SAMPLES), y] += 2
    return x, y


def train(folder: Path) -> tuple[Model, History]:
    """Train to the end, from the newest state in the folder."""
    model, data = make_model(), make_data()
    model.initialize()
    history = model.train(
        data,
        validation=data,
        epochs=EPOCHS,
        checkpoint=folder,
        every=1,
        resume=True,
        progress=False,
    )
    return model, history


def outcome(model: Model, history: History) -> tuple[dict[str, bytes], list[object]]:
    """Return all that has to be the same at the end."""
    session = model._session
    assert session is not None
    states = {name: view.tobytes() for name, view in session.persistent().items()}
    return states, [(r.epoch, r.loss, r.validation) for r in history.epochs]


def run_for(seconds: float, work: Callable[[], object]) -> bool:
    """Do work in a process of its own, killed after a time; tell whether it ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return not os.WIFSIGNALED(status)


def kill_and_resume(kills: int, seed: int, folder: Path) -> Counter[str]:
    """Kill runs until `kills` were, and compare the end of each with the whole one.

    Raises
    ------
    AssertionError
        A run ended otherwise, or its states could not be read after a kill.
    """
    generator = random.Random(seed)
    train(folder / "warm")  # kernels are loaded now, and children have them
    started = time.monotonic()
    expected = outcome(*train(folder / "whole"))
    longest = 1.2 * (time.monotonic() - started)
    counts: Counter[str] = Counter()
    while counts["kills"] < kills:
        run = folder / f"run{counts['runs']}"
        while not run_for(generator.uniform(0, longest), lambda: train(run)):  # noqa: B023
            counts["kills"] += 1
            states = sorted(run.glob("*.safetensors"))
            counts["before the first state"] += not states
            counts["while a file was written"] += bool([*run.glob(".*.part")])
            if states:
                load(states[-1])
        counts["runs"] += 1
        assert outcome(*train(run)) == expected, f"{run} ended with other bits"
    return counts


def main() -> int:
    """Run the harness from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = kill_and_resume(given.kills, given.seed, Path(folder))
    took = time.monotonic() - started
    print(f"{counts['kills']} kills in {counts['runs']} runs, {took:.0f} s:")
    for name in ("before the first state", "while a file was written"):
        print(f"  {counts[name]} {name}")
    print("every state could be loaded; every run ended with the same bits")
    return 0


if __name__ == "__main__":
    sys.exit(main())
