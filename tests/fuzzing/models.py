"""The target of good input: random networks, held against PyTorch and each other.

Each network tells its *story* once for every plan: gradients, predictions, a loss,
three steps of training of which the last has fewer samples, and all of it again. The
stories of plans that only recompute or share memory have the same bits. One of them,
and those of plans that round differently, are held against PyTorch's float64.

How far a number may be off: by `FACTOR` times as much as PyTorch's own float32, and by
`FLOOR` of the largest number of its array. Where that is not enough, PyTorch's float64
tells the story a few times more with `NOISE` in every operation, and numbers may be off
by what that moves them: so networks in which rounding counts for much (sums that
cancel, a relu at 0) are no findings, and a wrong term still is one.

Networks run in a child process, so that one that kills it is a finding.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import arena_ckpt as ac
from arena_ckpt import MemoryPlan, Model
from arena_ckpt.checkpoint.choose import DEFAULT_ALLOW
from arena_ckpt.errors import (
    ArenaWarning,
    BudgetError,
    ModelWarning,
    NonFiniteError,
)
from fuzzing.guard import Finding
from fuzzing.networks import ROUNDS_DIFFERENTLY, NetworkSpec, networks
from fuzzing.target import Target

FACTOR = 4.0
"""Times PyTorch's own error in float32."""

FLOOR = 4e-6
"""Share of the largest number of an array: 64 units in the last place."""

NOISE = 2.0**-22
"""Share by which everything is moved at random: 4 units in the last place."""

N_NOISY = 8
"""Stories with noise; a number may be off by `FACTOR` times the largest deviation."""

MOST_SECONDS = 300.0
"""Of one network, by the clock; a child that takes longer is ended."""

Story = dict[str, np.ndarray]
Batches = list[tuple[dict[str, np.ndarray], np.ndarray]]
Report = Callable[[str], None]
Variant = tuple[str, Model, bool]

PLAIN = "nothing recomputed, no memory reused"


# -- stories ---------------------------------------------------------------------------


def story(teller: Any, batches: Batches) -> Story:
    """Let a model, or its judge, compute everything that a network can be asked.

    Parameters
    ----------
    teller : Model or TorchJudge
    batches : list of (x, y)
        What is looked at before and after training, then a batch for each step.

    Returns
    -------
    dict from str to array
        Losses have the shape ().
    """
    told: Story = {}
    (x, y), *steps = batches

    def look(when: str) -> None:
        loss, gradients = teller.compute_gradients(x, y)
        told[f"loss {when}"] = np.array(loss)
        for name, gradient in gradients.items():
            told[f"gradient of {name} {when}"] = gradient
        more = {name: np.concatenate([a, a[:1]]) for name, a in x.items()}
        told[f"prediction {when}"] = teller.predict(more)
        evaluated = teller.evaluate((more, np.concatenate([y, y[:1]])))
        told[f"evaluated loss {when}"] = np.array(evaluated.loss)
        told[f"metric {when}"] = np.array(evaluated.metric)

    look("at first")
    for number, batch in enumerate(steps, 1):
        told[f"loss of step {number}"] = np.array(teller.train_step(*batch))
        for name, weight in teller.weights().items():
            told[f"{name} after step {number}"] = weight
    look("at last")
    return told


def batches_of(spec: NetworkSpec) -> Batches:
    """Return what the story of a network is told of."""
    sizes = (spec.batch_size, *spec.sizes)
    return [spec.batch(n, seed=number) for number, n in enumerate(sizes)]


def differences(one: Story, other: Story) -> list[str]:
    """Name what two stories do not have in common to the bit."""
    if one.keys() != other.keys():
        return sorted(one.keys() ^ other.keys())
    return [name for name in one if one[name].tobytes() != other[name].tobytes()]


# -- the judge -------------------------------------------------------------------------


@dataclass(slots=True)
class Verdict:
    """What PyTorch says of a network; more is asked only where it is needed.

    Attributes
    ----------
    model : Model
        Initialized, as its story begins.
    batches : list of (x, y)
    truth : dict
        The story in float64.
    moved : dict from str to float
        How far rounding can move each array of it, at least.
    """

    model: Model
    batches: Batches
    truth: Story = field(init=False)
    moved: dict[str, float] = field(init=False)
    _n_noisy: int = 0

    def __post_init__(self) -> None:
        self.truth = self._story("float64")
        self.moved = self._off(self._story("float32"))

    def _story(self, dtype: str, **settings: Any) -> Story:
        from helpers.torch_judge import TorchJudge

        with np.errstate(all="ignore"):
            return story(TorchJudge(self.model, dtype, **settings), self.batches)

    def _off(self, told: Story) -> dict[str, float]:
        return {name: _distance(told[name], self.truth[name]) for name in self.truth}

    @property
    def is_finite(self) -> bool:
        """PyTorch's float32 tells the whole story without NaN, infinity or near it."""
        largest = max(float(np.abs(a).max()) for a in self.truth.values())
        return np.isfinite(list(self.moved.values())).all() and largest < 1e30

    @property
    def hangs_on_subnormals(self) -> bool:
        """PyTorch's float32 is finite only by numbers below the least normal one.

        Our exponential is 0 there: a softmax that is so sure leaves a class nothing,
        and the kld of that is infinite.
        """
        import torch

        torch.set_flush_denormal(True)
        try:
            told = self._story("float32")
        finally:
            torch.set_flush_denormal(False)
        return not all(np.isfinite(array).all() for array in told.values())

    def wrong(self, told: Story) -> list[str]:
        """Name what is farther from the truth than rounding explains."""
        if told.keys() != self.truth.keys():
            return sorted(told.keys() ^ self.truth.keys())
        off = self._off(told)
        while found := [name for name in off if not off[name] <= self._limit(name)]:
            if self._n_noisy == N_NOISY:
                return [self._say(name, off[name]) for name in found]
            noisy = self._story("float64", noise=NOISE, seed=self._n_noisy)
            self._n_noisy += 1
            for name, moved in self._off(noisy).items():
                self.moved[name] = max(self.moved[name], moved)
        return []

    def _limit(self, name: str) -> float:
        largest = float(np.abs(self.truth[name]).max())
        floor = FLOOR * largest + 1e-12 + self._taken_back(name)
        return FACTOR * self.moved[name] + floor

    def _taken_back(self, name: str) -> float:
        """Return the part of a moving variance that its float32 source cannot hold.

        It comes from an inverse deviation with epsilon in it, so 2⁻²² of epsilon, which
        no output can show, may be missing; the unbiased one takes that up to twice.
        """
        owner, _, weight = name.partition(" ")[0].partition(":")
        if weight != "moving_variance":
            return 0.0
        layer = next(layer for layer in self.model.layers if layer.name == owner)
        return float(layer["epsilon"]) * 2.0**-21

    def _say(self, name: str, off: float) -> str:
        largest = float(np.abs(self.truth[name]).max())
        return (
            f"{name} is off by {off:.3g} (largest element {largest:.3g}, "
            f"rounding moves it by {self.moved[name]:.3g})"
        )


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):  # two infinite numbers
        difference = np.abs(one.reshape(-1) - other.reshape(-1))
    return float(difference.max()) if difference.size else 0.0


# -- one network -----------------------------------------------------------------------


def check_network(spec: NetworkSpec, report: Report = lambda _: None) -> str:
    """Run one network with its plans.

    Parameters
    ----------
    spec : NetworkSpec
    report : callable
        Told what is about to run.

    Returns
    -------
    str
        ``"judged"``, or why it could not be.

    Raises
    ------
    Finding
    """
    with warnings.catch_warnings():
        for said_on_purpose in (ArenaWarning, ModelWarning):
            warnings.simplefilter("ignore", said_on_purpose)
        return _check(spec, report)


def _check(spec: NetworkSpec, report: Report) -> str:
    plain = spec.without_blocks().with_properties(memory_optimization=False)
    report(PLAIN)
    batches = batches_of(spec)
    verdict = Verdict(plain.begun(), batches)
    expected = _told(plain.begun(), batches)
    if expected is None:
        if verdict.is_finite and not verdict.hangs_on_subnormals:
            raise Finding("NonFiniteError where PyTorch's float32 is finite")
        return "not finite"
    if not verdict.is_finite:
        return "not finite"
    if wrong := verdict.wrong(expected):
        raise Finding(f"{PLAIN}: {_few(wrong)}")
    for name, model, has_same_bits in _variants(spec, report):
        told = _told(model, batches)
        if told is None:
            raise Finding(f"{name}: NonFiniteError, which another plan does not raise")
        if has_same_bits and (others := differences(told, expected)):
            raise Finding(f"{name}: other bits in {_few(others)}")
        if not has_same_bits and (wrong := verdict.wrong(told)):
            raise Finding(f"{name}: {_few(wrong)}")
    report("an epoch of train(), saved and loaded")
    _check_epoch(spec, batches, expected)
    return "judged"


def _few(found: list[str]) -> str:
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    return "; ".join(found[:4]) + more


def _told(model: Model, batches: Batches) -> Story | None:
    """Return the story of a model; None if it ends in a loss that is not finite."""
    try:
        return story(model, batches)
    except NonFiniteError:
        return None


def _variants(spec: NetworkSpec, report: Report) -> Iterator[Variant]:
    """Yield the plans of a network: a name, a model, and whether no bit may differ."""
    report("memory reused")
    yield "memory reused", spec.without_blocks().begun(), True
    report("blocks")
    yield "blocks", spec.begun(), True
    report("debug mode")
    yield "debug mode", spec.begun(debug=True), True
    report("constants in the arena")
    yield "constants in the arena", spec.begun(constants="arena"), True
    report("two RAMs")
    yield "two RAMs", spec.begun(memories=_two_rams(spec)), True
    if spec.share is not None:
        yield from _chosen(spec, spec.share, report)


def _two_rams(spec: NetworkSpec) -> dict[str, int]:
    """Return RAMs of which the fast one holds a third of the arena."""
    arena_bytes = spec.model().make_plan().arena_bytes
    return {"fast": max(64, arena_bytes // 3), "slow": 2 * arena_bytes}


def _chosen(spec: NetworkSpec, share: float, report: Report) -> Iterator[Variant]:
    """Yield plans that a search chose: of the front, and for a budget."""
    allow = sorted({*DEFAULT_ALLOW, *spec.allow})
    report(f"the front of plans, allow={allow}, levels={spec.levels}")
    front = spec.model().pareto(levels=spec.levels, allow=allow)
    for number in sorted({0, round(share * (len(front) - 1))}):
        point = front[number]
        name = f"point {number} of {len(front)}, allow={allow}, levels={spec.levels}"
        report(name)
        yield name, spec.begun(plan=point.plan), _changes_no_bit(point.plan, spec)
    if spec.asks:
        budget = front[number].arena_bytes
        name = f"budget={budget}, allow={allow}, levels={spec.levels}"
        report(name)
        try:
            model = spec.begun(budget=budget, allow=allow, levels=spec.levels)
        except BudgetError as error:
            raise Finding(f"{name}: refused, but the front fits: {error}") from error
        yield name, model, _changes_no_bit(model.plan, spec)


def _changes_no_bit(plan: MemoryPlan, spec: NetworkSpec) -> bool:
    is_whole = plan.micro_batches == spec.model().get_property("micro_batches")
    return is_whole and not set(plan.ways) & set(ROUNDS_DIFFERENTLY)


def _check_epoch(spec: NetworkSpec, batches: Batches, expected: Story) -> None:
    """Train an epoch whose last batch is smaller; save the model and load it again.

    An epoch is its steps, one by one, and what was loaded goes on to the same bits.
    """
    model, (_, *steps) = spec.begun(), batches
    x = {name: np.concatenate([x[name] for x, _ in steps]) for name in steps[0][0]}
    y = np.concatenate([y for _, y in steps])
    history = model.train((x, y), epochs=1, shuffle=False, progress=False)
    weights, sizes = model.weights(), list(spec.sizes)
    if spec.leaves_out:
        del sizes[-1]
    last = f" after step {len(sizes)}"
    if wrong := differences(weights, {name: expected[name + last] for name in weights}):
        raise Finding(f"an epoch of train() leaves other bits in {_few(wrong)}")
    if not spec.layers[-1][1].get("per_token"):
        losses = [float(expected[f"loss of step {i + 1}"]) for i in range(len(sizes))]
        mean, found = np.average(losses, weights=sizes), history.epochs[0].loss
        if not np.isclose(found, mean, rtol=1e-9, atol=1e-12):
            raise Finding(f"the loss of an epoch is {found}, that of its steps {mean}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        model.save(path)
        loaded = ac.load(path)
    losses = [_loss_of_step(m, *steps[0]) for m in (model, loaded)]
    wrong = differences(model.weights(), loaded.weights())
    if wrong or losses[0] != losses[1]:
        raise Finding(f"a model that was loaded goes on to other bits in {_few(wrong)}")


def _loss_of_step(model: Model, x: Any, y: Any) -> float | None:
    """Return the loss of one more step; None if it is not finite."""
    try:
        return model.train_step(x, y)
    except NonFiniteError:
        return None


# -- the child -------------------------------------------------------------------------


def _serve(connection: Any) -> None:
    """Check the networks that arrive; say what is about to run, then what came out."""
    faulthandler.enable()
    while True:
        try:
            spec = connection.recv()
        except EOFError:  # the parent has ended
            return
        try:
            outcome = check_network(spec, lambda name: connection.send(("runs", name)))
            connection.send(("done", outcome))
        except Finding as finding:
            connection.send(("found", str(finding)))
        except Exception as error:
            lines = traceback.format_exception(error)
            text = f"{type(error).__name__}: {error}\n{''.join(lines[-4:])}"
            connection.send(("found", text))


class Child:
    """A process that checks networks; another takes its place when it dies."""

    def __init__(self) -> None:
        self._process: Any = None
        self._connection: Any = None
        self.outcomes: dict[str, int] = {}

    def check(self, spec: NetworkSpec) -> None:
        """Check one network.

        Raises
        ------
        Finding
            What the child found, or that it died or hung, and at which plan.
        """
        if self._process is None or not self._process.is_alive():
            self._start()
        self._connection.send(spec)
        at = "the beginning"
        while True:
            try:
                if not self._connection.poll(MOST_SECONDS):
                    self.close()
                    raise Finding(f"took more than {MOST_SECONDS:g} s at: {at}")
                kind, text = self._connection.recv()
            except (EOFError, ConnectionError):
                self._process.join()
                code = self._process.exitcode
                raise Finding(f"the process died (exit code {code}) at: {at}") from None
            if kind == "found":
                raise Finding(text)
            if kind == "done":
                self.outcomes[text] = self.outcomes.get(text, 0) + 1
                return
            at = text

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


CHILD = Child()

MODELS = (
    Target(
        "models",
        networks(),
        lambda spec, _: CHILD.check(spec),
        show=NetworkSpec.python,
        summary=lambda: ", ".join(
            f"{n:,} {what}" for what, n in CHILD.outcomes.items()
        ),
        cost=200,
        needs="torch",
    ),
)
