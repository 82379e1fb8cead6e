"""Models in several threads: side by side, shared by mistake, first uses at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.strategies import chain

from arena_ckpt import Model
from arena_ckpt.engine.locks import Gate
from arena_ckpt.errors import AfterInitializationError, StateError

SECONDS = 60
"""Longer than anything here takes, so that a deadlock ends in a failure."""


def at_once(*tasks: Callable[[], object]) -> None:
    """Run every task in a thread of its own, begun together; raise what they raise."""
    ready, failed = threading.Barrier(len(tasks)), []

    def run(task: Callable[[], object]) -> None:
        ready.wait(SECONDS)
        try:
            task()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), "a deadlock"
    if failed:
        raise failed[0]


WIDTH = 450
"""Wide enough that OpenBLAS, given two threads, rounds otherwise on many processors."""


def wide(threads: int, seed: int) -> Model:
    model = Model(seed)
    model.add_layer("input", name="in", input_shape=(1, 1, WIDTH))
    model.add_layer("fully_connected", name="fc", unit=WIDTH, activation="tanh")
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=16, threads=threads)
    model.set_optimizer("adam", learning_rate=1e-3)
    model.initialize()
    return model


def narrow() -> Model:
    model = chain(2).model()
    model.initialize()
    return model


def batch() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(2, 16, WIDTH)).astype(np.float32)
    return x[0], x[1]


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Let Python change threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def bits(model: Model) -> dict[str, bytes]:
    return {name: weight.tobytes() for name, weight in model.weights().items()}


# -- models beside each other ----------------------------------------------------------


def test_models_with_other_numbers_of_threads_train_beside_each_other(
    many_switches: None,
) -> None:
    x, y = batch()

    def train(model: Model) -> None:
        for _ in range(10):
            model.train_step(x, y)
            model.predict(x)
            model.evaluate((x, y))

    kinds = [(1, 0), (2, 0), (1, 1), (2, 1)]
    alone = [wide(*kind) for kind in kinds]
    for model in alone:
        train(model)
    beside = [wide(*kind) for kind in kinds]
    at_once(*(lambda model=model: train(model) for model in beside))

    assert [bits(model) for model in beside] == [bits(model) for model in alone]


def test_lines_of_two_trainings_stay_whole(capfd: pytest.CaptureFixture[str]) -> None:
    x, y = chain(2).batch(16)
    pair = [narrow(), narrow()]
    at_once(
        *(
            lambda m=m: m.train((x, y), epochs=3, progress=True, shuffle=False)
            for m in pair
        )
    )

    assert bits(pair[0]) == bits(pair[1])
    lines = [line.split("  ")[0] for line in capfd.readouterr().err.splitlines()]
    assert sorted(lines) == sorted(2 * [f"epoch {n}/3" for n in (1, 2, 3)])


# -- the gate --------------------------------------------------------------------------


class Guest:
    """A thread that stays inside a gate until it is told to leave."""

    def __init__(self, gate: Gate) -> None:
        self.is_inside, self._may_leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(
            target=gate.run, args=(self._stay,), daemon=True
        )
        self._thread.start()

    def _stay(self) -> None:
        self.is_inside.set()
        self._may_leave.wait(SECONDS)

    def leave(self) -> None:
        assert self.is_inside.wait(SECONDS)
        self._may_leave.set()
        self._thread.join(SECONDS)


def test_iterations_run_side_by_side_and_none_begins_while_a_fork_waits() -> None:
    gate = Gate()
    first, second = Guest(gate), Guest(gate)
    assert first.is_inside.wait(SECONDS)
    assert second.is_inside.wait(SECONDS)
    closed, may_open = threading.Event(), threading.Event()

    def fork() -> None:
        gate.close()
        closed.set()
        may_open.wait(SECONDS)
        gate.open()

    forking = threading.Thread(target=fork, daemon=True)
    forking.start()
    while not gate._is_closed:
        time.sleep(1e-4)
    late = Guest(gate)
    first.leave()
    assert not closed.wait(0.05)
    assert not late.is_inside.is_set()
    second.leave()
    assert closed.wait(SECONDS)
    assert not late.is_inside.wait(0.05)
    may_open.set()
    late.leave()
    forking.join(SECONDS)


def test_an_error_inside_leaves_the_gate_open() -> None:
    gate = Gate()
    with pytest.raises(ZeroDivisionError):
        gate.run(lambda: 1 / 0)
    assert gate.run(lambda: 2) == 2


def test_one_that_is_interrupted_while_it_leaves_can_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(set[int]):
        def discard(self, element: int) -> None:
            super().discard(element)
            raise KeyboardInterrupt

    gate = Gate()
    with monkeypatch.context() as patch:
        patch.setattr(gate, "_inside", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            gate.run(lambda: None)
    assert gate.run(lambda: 2) == 2


def test_a_signal_handler_in_the_midst_of_an_iteration_is_refused() -> None:
    model, other = narrow(), wide(2, 0)
    x, y = chain(2).batch(8)
    session: Any = model._session
    seen = []

    def handle(*_: object) -> None:
        for call in (lambda: other.predict(batch()[0]), lambda: model.train_step(x, y)):
            with pytest.raises(StateError, match="signal handler"):
                call()
            seen.append(call)

    one = next(iter(session._passes.values()))
    load = one.load
    one.load = lambda *given: (handle(), load(*given))
    model.train_step(x, y)

    assert len(seen) == 2
    assert model.train_step(x, y) > 0


# -- a model shared by mistake ---------------------------------------------------------

X, Y = chain(2).batch(8)
USES: dict[str, Callable[[Model], object]] = {
    "train": lambda m: m.train((X, Y)),
    "train_step": lambda m: m.train_step(X, Y),
    "compute_gradients": lambda m: m.compute_gradients(X, Y),
    "predict": lambda m: m.predict(X),
    "evaluate": lambda m: m.evaluate((X, Y)),
    "weights": lambda m: m.weights(),
    "set_weights": lambda m: m.set_weights({}),
    "save": lambda m: m.save("state.safetensors"),
    "restore": lambda m: m.restore("state.safetensors"),
    "set_learning_rate_scheduler": lambda m: m.set_learning_rate_scheduler(None),
}


@pytest.mark.parametrize("name", USES)
def test_a_model_that_trains_is_refused_to_other_threads(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = narrow()
    caught: list[StateError] = []

    def intrude() -> None:
        with pytest.raises(StateError, match=f"^{name}: another thread") as error:
            USES[name](model)
        caught.append(error.value)

    model.train((X, Y), epochs=1, on_epoch=lambda record: at_once(intrude))

    assert len(caught) == 1
    model.save("state.safetensors")
    USES[name](model)


def test_under_contention_every_call_is_whole_or_refused(many_switches: None) -> None:
    model, alone = narrow(), narrow()

    def use(names: list[str]) -> None:
        done = 0
        while done < 50:
            try:
                USES[names[0]](model)
            except StateError:
                time.sleep(1e-5)
                continue
            done += names[0] == "train_step"
            names = [*names[1:], names[0]]

    at_once(
        lambda: use(["train_step", "weights"]),
        lambda: use(["predict", "train_step"]),
        lambda: use(["evaluate", "compute_gradients", "train_step"]),
    )
    for _ in range(150):
        alone.train_step(X, Y)

    assert bits(model) == bits(alone)


def test_of_two_threads_that_initialize_a_model_one_does() -> None:
    for _ in range(5):
        model, refused = chain(2).model(), []

        def initialize(model: Model = model, refused: list = refused) -> None:
            try:
                model.initialize()
            except AfterInitializationError as error:
                refused.append(error)

        at_once(initialize, initialize)
        assert len(refused) == 1
        model.train_step(X, Y)


# -- first uses at once ----------------------------------------------------------------

FIRST_USES = """
import sys, threading
sys.path.insert(0, sys.argv[1])
import arena_ckpt as ac

names = sorted(ac.__all__)
ready = threading.Barrier(6)
failed, plans, losses = [], [], []

def work(number):
    ready.wait(60)
    try:
        for name in names[number:] + names[:number]:
            getattr(ac, name)
        example = ac.load_example("digits_mlp")
        plan = example.model.initialize()
        plans.append(plan.to_json())
        x, y = example.data.x, example.data.y
        losses.append([example.model.train_step(x[:n], y[:n]) for n in (128, 7, 50)])
        ac.load_example("digits_cnn").model.make_plan()
    except BaseException as error:
        failed.append(repr(error))

threads = [threading.Thread(target=work, args=(9 * n,)) for n in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failed, failed
assert len(set(plans)) == 1 and len({tuple(l) for l in losses}) == 1
print("same", len(plans))
"""


def test_names_plans_and_kernels_can_be_asked_for_first_by_many_threads() -> None:
    process = subprocess.run(
        [sys.executable, "-c", FIRST_USES, os.getcwd()],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,  # everything may have to be compiled first
    )
    assert (process.stdout, process.stderr) == ("same 6\n", "")
