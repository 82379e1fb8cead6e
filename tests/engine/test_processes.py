"""Models in several processes: forked while they train, pickled, or refused."""

from __future__ import annotations

import concurrent.futures
import copy
import inspect
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers.strategies import chain

from arena_ckpt import ArenaError, Model, errors, load_digits, load_example
from arena_ckpt.errors import StateError

COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}

SECONDS = 600
"""Longer than compiling every kernel anew takes on a busy machine."""

# -- forks -----------------------------------------------------------------------------

# In a process of its own: the one of the tests may have threads of other tests.
FORKS = """
import hashlib, json, multiprocessing, os, signal, sys, threading, time, warnings
import numpy as np
import arena_ckpt as ac

warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: forks with threads
SECONDS, STEPS, WIDTH = 120, 40, 450

def built(threads=1, seed=0):
    model = ac.Model(seed)
    model.add_layer("input", name="in", input_shape=(1, 1, WIDTH))
    model.add_layer("fully_connected", name="fc", unit=WIDTH, activation="tanh")
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=16, threads=threads)
    model.set_optimizer("adam", learning_rate=1e-3)
    return model

def ready(*given):
    model = built(*given)
    model.initialize()
    return model

X, Y = np.random.default_rng(0).normal(size=(2, 16, WIDTH)).astype(np.float32)

def steps(model, n):
    for _ in range(n):
        model.train_step(X, Y)

def epochs(n):
    return {"epochs": n, "shuffle": False}

def bits(model):
    sha = hashlib.sha256()
    for weight in model.weights().values():
        sha.update(weight.tobytes())
    return sha.hexdigest()

def in_fork(work):
    "What `work` returns in a child, or how that ended."
    read, write = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)
        try:
            os.write(write, json.dumps(work()).encode())
        except BaseException as error:
            os.write(write, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(answer) if answer else f"ended with {status}"

def after(n, *given):
    model = ready(*given)
    steps(model, n)
    return bits(model)

found = {}
for threads in (1, 2):
    model = ready(threads)
    steps(model, 5)

    def go_on():
        steps(model, 5)
        result = bits(model)
        model.set_weights({"fc:weight": np.zeros((WIDTH, WIDTH))})
        return result

    child = in_fork(go_on)
    steps(model, 5)
    found[f"fork {threads}"] = [child, bits(model), after(10, threads)]

def work(model, queue):
    steps(model, 5)
    queue.put(bits(model))

context = multiprocessing.get_context("fork")
model, queue = ready(), context.SimpleQueue()
process = context.Process(target=work, args=(model, queue))
process.start()
found["multiprocessing"] = [queue.get(), after(5)]
process.join()

# The child finds each model as its last iteration left it, and the lock free.
states = {}
for kind in ((1, 0), (2, 1)):
    model = ready(*kind)
    states[kind] = [bits(model)]
    for _ in range(STEPS + 2):
        steps(model, 1)
        states[kind].append(bits(model))
models = {kind: ready(*kind) for kind in states}
trainers = [
    threading.Thread(target=m.train, args=((X, Y),), kwargs=epochs(STEPS))
    for m in models.values()
]

def continue_all():
    result = []
    for kind, model in models.items():
        n = model._session.iteration
        assert bits(model) == states[kind][n], (kind, n)
        steps(model, 2)
        assert bits(model) == states[kind][n + 2], (kind, n)
    return "whole"

for trainer in trainers:
    trainer.start()
answers = []
while any(trainer.is_alive() for trainer in trainers):
    answers.append(in_fork(continue_all) if len(answers) < 12 else "whole")
    time.sleep(0.002)
for trainer in trainers:
    trainer.join()
found["beside threads"] = sorted(set(answers))
found["parent"] = [bits(m) == states[kind][STEPS] for kind, m in models.items()]

# From a callback of training.
model, seen = ready(), []

def fork_once(record):
    if record.epoch == 3:
        seen.append(in_fork(lambda: (steps(model, 4), bits(model))[1]))

model.train((X, Y), on_epoch=fork_once, **epochs(7))
found["callback"] = [*seen, bits(model), states[1, 0][7]]

# Beside a thread that plans, compiles and initializes.
stop = threading.Event()

def initialize_many():
    while not stop.is_set():
        example = ac.load_example("digits_mlp")
        example.model.initialize()
        example.model.predict(example.data.x[: np.random.randint(1, 99)])

thread = threading.Thread(target=initialize_many)
thread.start()
found["beside a start"] = sorted({in_fork(lambda: after(3)) for _ in range(5)})
stop.set()
thread.join()
found["three"] = states[1, 0][3]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def forks() -> dict[str, Any]:
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    process = subprocess.run(
        [sys.executable, "-c", FORKS],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert process.returncode == 0, process.stderr
    result: dict[str, Any] = json.loads(process.stdout)
    return result


@pytest.mark.parametrize("threads", [1, 2])
def test_parent_and_child_go_on_as_if_unforked(
    forks: dict[str, Any], threads: int
) -> None:
    assert len(set(forks[f"fork {threads}"])) == 1, forks


def test_a_forked_worker_may_be_given_an_initialized_model(
    forks: dict[str, Any],
) -> None:
    assert len(set(forks["multiprocessing"])) == 1, forks


def test_a_fork_beside_threads_that_train_finds_whole_iterations(
    forks: dict[str, Any],
) -> None:
    assert forks["beside threads"] == ["whole"]
    assert forks["parent"] == [True, True]


def test_a_callback_may_fork(forks: dict[str, Any]) -> None:
    assert len(set(forks["callback"])) == 1, forks


def test_a_fork_beside_a_thread_that_compiles_does_not_hang(
    forks: dict[str, Any],
) -> None:
    assert forks["beside a start"] == [forks["three"]]


# -- pickles and copies ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn", "gpt", "keyword_gru"])
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_model_has_its_plan(how: str, name: str) -> None:
    example = load_example(name)
    plan = example.model.make_plan()
    twin = COPIES[how](example.model)

    assert twin.make_plan().to_json() == plan.to_json()
    assert COPIES[how](plan) == plan
    twin.add_layer("activation", name="more", activation="relu")
    assert "more" not in [layer.name for layer in example.model.layers]


@pytest.mark.parametrize("how", COPIES)
def test_an_initialized_model_says_why_it_is_not_copied(how: str) -> None:
    model = chain(2).model()
    model.initialize()
    with pytest.raises(
        StateError, match=r"hold addresses.*model\.save\(path\)"
    ) as error:
        COPIES[how](model)
    assert "arena_ckpt.load(path)" in str(error.value)


@pytest.mark.parametrize("how", COPIES)
def test_data_and_results_are_copied(how: str) -> None:
    data = load_digits()
    twin = COPIES[how](data)
    assert (twin.name, twin.x.tobytes(), twin.y.tobytes()) == (
        data.name,
        data.x.tobytes(),
        data.y.tobytes(),  # type: ignore[union-attr]
    )
    model = chain(2).model()
    model.initialize()
    x, y = chain(2).batch(8)
    for result in (model.evaluate((x, y)), model.train((x, y)), model.optimizer):
        assert COPIES[how](result) == result


# -- errors ----------------------------------------------------------------------------


def error_classes() -> list[type[ArenaError]]:
    return [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, ArenaError)
    ]


@pytest.mark.parametrize("kind", error_classes())
@pytest.mark.parametrize("how", COPIES)
def test_errors_keep_message_and_facts(how: str, kind: type[ArenaError]) -> None:
    error = kind("what, where", path="a b", values=(1, 2), errno=5, filename="c")
    twin = COPIES[how](error)

    assert type(twin) is kind
    assert (str(twin), twin.args) == ("what, where", ("what, where",))
    assert (twin.path, twin.values, twin.errno, twin.filename) == (
        "a b",
        (1, 2),
        5,
        "c",
    )


def test_facts_that_cannot_be_pickled_arrive_as_they_print() -> None:
    error = errors.InvalidParameterError("not callable", given=lambda: 1, n=2)
    twin = pickle.loads(pickle.dumps(error))
    assert (twin.n, "<lambda>" in twin.given) == (2, True)


# -- other processes -------------------------------------------------------------------


def train_elsewhere(model: Model, x: np.ndarray, y: np.ndarray) -> tuple[str, float]:
    plan = model.initialize()
    return plan.to_json(), model.train_step(x, y)


def fail_elsewhere(model: Model) -> None:
    model.make_plan(budget=1)


@pytest.fixture(scope="module", params=["spawn", "forkserver"])
def pool(request: pytest.FixtureRequest) -> Iterator[concurrent.futures.Executor]:
    if request.param not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {request.param}")
    context = multiprocessing.get_context(request.param)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        yield executor


def test_a_model_trains_to_the_same_numbers_in_another_process(
    pool: concurrent.futures.Executor,
) -> None:
    model, (x, y) = chain(2).model(), chain(2).batch(8)
    there = pool.submit(train_elsewhere, model, x, y).result(SECONDS)
    assert there == train_elsewhere(model, x, y)


def test_an_error_arrives_from_another_process(
    pool: concurrent.futures.Executor,
) -> None:
    model = chain(2).model()
    with pytest.raises(errors.BudgetError) as here:
        fail_elsewhere(model)
    with pytest.raises(errors.BudgetError) as there:
        pool.submit(fail_elsewhere, model).result(SECONDS)

    assert str(there.value) == str(here.value)
    assert vars(there.value) == vars(here.value)


def test_an_initialized_model_is_refused_to_another_process(
    pool: concurrent.futures.Executor,
) -> None:
    model = chain(2).model()
    model.initialize()
    with pytest.raises(StateError, match="cannot be copied or pickled"):
        pool.submit(fail_elsewhere, model).result(SECONDS)
