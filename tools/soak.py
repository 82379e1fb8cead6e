"""Long runs in which nothing may grow, drift or be left behind.

    python tools/soak.py steps                # 100,000 steps of digits_mlp, twice
    python tools/soak.py changes --minutes 40 # models of ever other shapes, freed

``steps``: after a warm-up the memory of the process, the objects of Python and the
blocks of its allocator stay where they are; the loss stays finite; plan and arena are
those of the first step; a second run of the same steps ends with the same bits.

``changes``: models of random architecture, sizes, batch, micro-batches, blocks, budget,
threads and debug mode are planned, trained, asked and freed, with failing calls
between. After `--different` of them the same come again: each must then give the plan
and weights of the first time, and memory, files, threads and objects stay flat from
there.

The exit code is 1 if something does not hold, and the report says what.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import hashlib
import math
import random
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
from soak_models import BUILDERS, change, data_for, request_for, rows

import arena_ckpt as ac
from arena_ckpt.common.digests import digest_arrays
from arena_ckpt.errors import ArenaError, BudgetError
from arena_ckpt.examples import load_example
from arena_ckpt.model import without_blocks
from arena_ckpt.planning.batch_statistics import can_train_on

GROWTH_BYTES = 256 * 1024
"""What a process may grow by in all steps after the warm-up."""
CHANGES_GROWTH_BYTES = 4 * 1024 * 1024
"""The same for models of changing sizes, where the allocator keeps some pages."""
WARM_UP = 20
"""A part of this many of the steps is not measured."""

process = psutil.Process()


class Samples:
    """What the process held at some moments, in memory that is taken at once.

    Parameters
    ----------
    most : int
        Moments there is room for; later ones overwrite the last.
    """

    NAMES = ("at", "rss_bytes", "objects", "blocks", "files", "threads")

    def __init__(self, most: int) -> None:
        self._rows = np.zeros((most, len(self.NAMES)), dtype=np.int64)
        self.n = 0

    def take(self, at: int) -> None:
        """Look, after garbage and free pages are given back."""
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
        row = self._rows[min(self.n, len(self._rows) - 1)]
        row[0] = at
        row[1] = process.memory_info().rss
        row[2] = len(gc.get_objects())
        row[3] = sys.getallocatedblocks()
        row[4] = process.num_fds()
        row[5] = process.num_threads()
        self.n += 1

    def column(self, name: str) -> np.ndarray:
        """Return one figure of all moments."""
        return self._rows[: self.n, self.NAMES.index(name)]


class Findings:
    """Prints figures, and remembers which of them are not as they should be."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def say(self, text: str) -> None:
        """Print a line at once."""
        print(text, flush=True)

    def require(self, holds: bool, what: str) -> None:
        """Print what was looked at; remember it if it does not hold."""
        self.say(f"{'ok   ' if holds else 'WRONG'}  {what}")
        if not holds:
            self.wrong.append(what)

    def require_flat(
        self, samples: Samples, most_bytes: int, each: str, slack: int
    ) -> None:
        """Compare the last third of the samples with the first, and fit a line.

        Parameters
        ----------
        samples : Samples
            After the warm-up; at least four.
        most_bytes : int
            Bound of the growth.
        each : str
            What is counted: steps or models.
        slack : int
            Python objects that may come and go.
        """
        third = max(1, samples.n // 3)
        at, rss = samples.column("at"), samples.column("rss_bytes")
        slope = float(np.polyfit(at - at[0], rss - rss[0], 1)[0])
        growth = int(np.median(rss[-third:]) - np.median(rss[:third]))
        self.require(
            growth <= most_bytes,
            f"memory {rss[0]:,} -> {rss[-1]:,} bytes over {at[-1] - at[0]:,} {each}: "
            f"{slope:+.3f} bytes each, {growth:+,} from the first third to the last "
            f"(at most {most_bytes:,})",
        )
        for name, allowed in (
            ("objects", slack),
            ("blocks", 4 * slack),
            ("files", 0),
            ("threads", 0),
        ):
            values = samples.column(name)
            before, after = int(values[:third].min()), int(values[-third:].min())
            self.require(
                after - before <= allowed,
                f"{name} {before:,} -> {after:,} (at most {allowed} more)",
            )


# -- many steps of one model -----------------------------------------------------------


def steps(n_steps: int, n_samples: int, findings: Findings) -> None:
    """Train digits_mlp twice for `n_steps` steps each, looked at `n_samples` times."""
    reference = checksum(load_example("digits_mlp").model.make_plan())
    digests = []
    for run in (1, 2):
        began = time.perf_counter()
        digest, samples, losses, arena_bytes = _run_steps(
            n_steps, n_samples, reference, findings
        )
        seconds = time.perf_counter() - began
        findings.say(
            f"run {run}: {n_steps:,} steps in {seconds:.0f} s, arena of "
            f"{arena_bytes:,} bytes, loss {losses[0]:.4f} -> {losses[1]:.6f}"
        )
        findings.require_flat(samples, GROWTH_BYTES, "steps", 10)
        digests.append(digest)
    findings.require(digests[0] == digests[1], f"same bits twice: {digests[0]}")


def _run_steps(
    n_steps: int, n_samples: int, reference: str, findings: Findings
) -> tuple[str, Samples, tuple[float, float], int]:
    example = load_example("digits_mlp")
    model, data = example.model, example.data
    plan = model.initialize()
    arena_bytes = plan.arena_bytes
    batches = [
        (
            data.x[start : start + plan.batch_size],
            data.y[start : start + plan.batch_size],
        )
        for start in range(0, data.n_samples, plan.batch_size)
    ]
    samples = Samples(1000)
    first = model.train_step(*batches[0])
    all_finite = math.isfinite(first)
    warm, every = n_steps // WARM_UP, max(1, n_steps // n_samples)
    loss = first
    for step in range(1, n_steps):
        loss = model.train_step(*batches[step % len(batches)])
        all_finite = all_finite and math.isfinite(loss)
        if step >= warm and step % every == 0:
            samples.take(step)
    findings.require(all_finite, "all losses are finite")
    findings.require(
        checksum(model.plan) == checksum(example.model.make_plan()) == reference
        and model.plan.arena_bytes == arena_bytes,
        f"plan as before the first step: {reference}",
    )
    return digest(model), samples, (first, loss), arena_bytes


# -- models of ever other shapes -------------------------------------------------------


def changes(
    *,
    minutes: float | None,
    n_models: int,
    n_different: int,
    seed: int,
    findings: Findings,
) -> None:
    """Plan, train and free random models, until the time or the number is reached."""
    reference = load_example("digits_mlp").model
    first_plan = reference.make_plan().to_json()
    expected: dict[int, str] = {}
    samples = Samples(1000)
    drifted: list[int] = []
    kept: list[int] = []
    outcomes: Counter[str] = Counter()
    same_plan = True
    began = time.perf_counter()
    index = 0
    every = max(1, n_different // 10)
    while index < n_models if minutes is None else _minutes(began) < minutes:
        number = index % n_different
        result, leftover = _one_model(seed, number)
        if leftover:
            kept.append(number)
        outcomes[result.partition(" ")[0]] += 1
        if expected.setdefault(number, result) != result:
            drifted.append(number)
            findings.say(f"model {number}: first {expected[number]}, now {result}")
        index += 1
        if index % every == 0:
            same_plan = same_plan and reference.make_plan().to_json() == first_plan
            if index > n_different:
                samples.take(index)
        if index % (10 * every) == 0:
            findings.say(
                f"  {index:,} models in {_minutes(began):.1f} min, "
                f"{process.memory_info().rss:,} bytes"
            )
    findings.say(
        f"{index:,} models, {min(index, n_different):,} of them different, in "
        f"{_minutes(began):.1f} min: "
        + ", ".join(f"{n:,} {name}" for name, n in sorted(outcomes.items()))
    )
    findings.require(not drifted, f"those that came again were the same {drifted}")
    findings.require(not kept, f"every model and arena was freed {kept[:9]}")
    findings.require(same_plan, "the plan of digits_mlp is byte for byte the first")
    if samples.n >= 4:
        findings.require_flat(samples, CHANGES_GROWTH_BYTES, "models", 100)
    else:
        findings.require(False, "enough came again to see memory: fewer --different")


def _minutes(began: float) -> float:
    return (time.perf_counter() - began) / 60


def _one_model(seed: int, number: int) -> tuple[str, bool]:
    """Run a model through its life; return what came out, and whether it lives on."""
    # A text as seed: tuples are not allowed, and sums would collide.
    drawn = random.Random(f"{seed}:{number}")
    life = _live(drawn)
    watched = next(life)
    result = next(life)
    life.close()
    if any(reference() is not None for reference in watched):
        gc.collect()
    return result, any(reference() is not None for reference in watched)


def _live(drawn: random.Random) -> Iterator[Any]:
    """Yield weak references to a model's parts, then what came out of its life."""
    build = drawn.choice(BUILDERS)
    name, model = build.__name__.strip("_"), build(drawn)
    change(model, drawn)
    request = request_for(model, drawn)
    watched: list[weakref.ref[Any]] = [weakref.ref(model)]
    try:
        plan = model.initialize(debug=drawn.random() < 0.25, **request)
    except BudgetError as error:
        yield watched
        yield f"over-budget {error.least_bytes} {name}"  # type: ignore[attr-defined]
        return
    session: Any = model._session
    watched += [weakref.ref(session), weakref.ref(session.arena)]
    yield watched
    generator = np.random.default_rng(drawn.randrange(2**32))
    x, y = data_for(session, generator, plan.batch_size)
    for _ in range(drawn.randint(1, 4)):
        n = drawn.randint(1, plan.batch_size)
        if not can_train_on(session.graph, n, plan.pass_samples):
            n = plan.batch_size
        model.train_step(rows(x, n), y[:n])
    _fail(model, x, y, drawn)
    for n in (1, drawn.randint(1, plan.batch_size), plan.batch_size):
        predicted = model.predict(rows(x, n))
        assert np.isfinite(predicted).all()
    model.evaluate((x, y))
    model.compute_gradients(x, y)
    model.set_weights(model.weights())
    model.train((x, y), epochs=1)
    yield f"trained {checksum(plan)} {digest(model)} {name}"


def _fail(model: ac.Model, x: Any, y: Any, drawn: random.Random) -> None:
    """Call what must be refused, and see that it changes no bit."""
    before = digest(model)
    broken = {name: values.copy() for name, values in x.items()}
    first = next(iter(broken.values()))
    first.reshape(-1)[drawn.randrange(first.size)] = drawn.choice((math.nan, math.inf))
    refused: tuple[Callable[[], object], ...] = (
        lambda: model.train_step(broken, y),
        lambda: model.train_step(x, y[:-1] if len(y) > 1 else y[:0]),
        lambda: model.train_step(x, None),
        lambda: model.predict({"no such input": first}),
        lambda: model.set_weights({"no such weight": 1.0}),
        lambda: model.set_property(batch_size=model.get_property("batch_size") + 1),
        lambda: model.initialize(),
        lambda: without_blocks(model).initialize(budget=1),
    )
    for call in refused:
        try:
            call()
        except ArenaError:
            continue
        raise AssertionError("what had to be refused was not")
    assert digest(model) == before, "a refused call changed weights"


# -- checksums -------------------------------------------------------------------------


def checksum(plan: ac.MemoryPlan) -> str:
    """Return a short checksum of the text of a plan."""
    return hashlib.sha256(plan.to_json().encode()).hexdigest()[:16]


def digest(model: ac.Model) -> str:
    """Return a short checksum of the bits of all weights."""
    return digest_arrays(model.weights())[:16]


def main() -> int:
    """Run the tool; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    long = commands.add_parser("steps", help="many steps of one model")
    long.add_argument("--steps", type=int, default=100_000)
    long.add_argument("--samples", type=int, default=100)
    wide = commands.add_parser("changes", help="models of ever other shapes")
    wide.add_argument("--minutes", type=float, help="instead of --models")
    wide.add_argument("--models", type=int, default=1000)
    wide.add_argument("--different", type=int, default=400)
    wide.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    findings = Findings()
    if options.command == "steps":
        steps(options.steps, options.samples, findings)
    else:
        changes(
            minutes=options.minutes,
            n_models=options.models,
            n_different=options.different,
            seed=options.seed,
            findings=findings,
        )
    print("nothing is wrong" if not findings.wrong else f"{len(findings.wrong)} WRONG")
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
