"""Constants at work: the same bits beside the arena, and read-only in debug mode."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from helpers.example_data import prediction_bytes
from helpers.frozen import head_only
from helpers.plan_surgery import NETS
from helpers.program_faults import also_fills, also_writes_behind, at

from arena_ckpt import Model, Phase
from arena_ckpt.errors import ArenaWarning, CanaryError, SavedStateMismatchError
from arena_ckpt.examples import EXAMPLES, load_example
from arena_ckpt.verification.batches import make_batches

FROZEN = NETS["frozen"]
TESTS = Path(__file__).parents[1]


def trained(model: Model, n: int = 2, **request: object) -> dict[str, bytes]:
    """Train some steps; return weights, losses and a prediction as bytes."""
    plan = model.initialize(**request)  # type: ignore[arg-type]
    batches = make_batches(model.compile(), plan.batch_size, n)
    losses = [model.train_step(x, y) for x, y in batches]
    found = {name: weight.tobytes() for name, weight in model.weights().items()}
    found["losses"] = np.array(losses).tobytes()
    return found | {"prediction": prediction_bytes(model.predict(batches[0][0]))}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_with_a_frozen_trunk_train_to_the_same_bits(name: str) -> None:
    def model() -> Model:
        return head_only(load_example(name).model, batch_size=2)

    apart, whole = trained(model()), trained(model(), constants="arena")
    assert apart == whole


def test_debug_mode_finds_nothing_and_the_same_bits() -> None:
    assert trained(FROZEN.model(), debug=True) == trained(FROZEN.model())


def test_frozen_weights_and_statistics_stay_as_they_are() -> None:
    model = FROZEN.model()
    model.initialize()
    before = model.weights()
    x, y = make_batches(model.compile(), 4, 1)[0]
    model.train_step(x, y)
    after = model.weights()
    for name in before:
        is_frozen = name.startswith(("conv2", "bn2"))
        assert (before[name] == after[name]).all() == is_frozen, name


def test_constants_are_set_and_restored_although_they_are_read_only(
    tmp_path: Path,
) -> None:
    model = FROZEN.model()
    model.initialize(debug=True)
    new = {name: weight + 0.5 for name, weight in model.weights().items()}
    model.set_weights(new)
    assert all((model.weights()[name] == new[name]).all() for name in new)
    path = tmp_path / "model.safetensors"
    model.save(path)
    model.set_weights({name: weight - 1 for name, weight in new.items()})
    model.restore(path)
    assert all((model.weights()[name] == new[name]).all() for name in new)


def test_head_first_then_all_and_back(tmp_path: Path) -> None:
    """A state of a frozen trunk goes into a model that trains all, and back."""
    whole = load_example("digits_cnn").model
    x, y = make_batches(whole.compile(), 4, 1)[0]

    def at_work(n_trained: int) -> Model:
        model = head_only(whole, n_trained, batch_size=4)
        model.initialize()
        return model

    head, path = at_work(1), tmp_path / "state.safetensors"
    first = head.weights()
    for _ in range(3):
        head.train_step(x, y)
    head.save(path)
    for n_trained in (99, 1, 2):  # all, the head, the head and a layer
        model = at_work(n_trained)
        if n_trained == 1:
            model.restore(path)
            assert model._session.iteration == 3
        else:
            with pytest.warns(ArenaWarning, match="trains other weights: these were"):
                model.restore(path)
            assert model._session.iteration == 0
            states = set(model._session.persistent()) - set(first)
            assert states
            for name in states:
                assert not model._session.views.named(name).any(), name
        for name, weight in head.weights().items():
            assert model.weights()[name].tobytes() == weight.tobytes(), name
    every = at_work(99)
    every.set_weights(head.weights())
    every.train_step(x, y)
    every.save(path)
    back = at_work(1)
    with pytest.warns(ArenaWarning, match="trains other weights"):
        back.restore(path)
    assert back.predict(x).tobytes() == every.predict(x).tobytes()
    assert back.plan.constant_bytes > 0 == every.plan.constant_bytes


def test_a_state_of_another_optimizer_is_still_another_model(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    head = head_only(load_example("digits_cnn").model, batch_size=4)
    head.initialize()
    head.save(path)
    other = head_only(load_example("digits_cnn").model, 99, batch_size=4)
    other.set_optimizer("sgd", momentum=0.9)
    other.initialize()
    before = other.weights()
    with pytest.raises(SavedStateMismatchError, match="Nothing was changed"):
        other.restore(path)
    for name, weight in other.weights().items():
        assert (weight == before[name]).all()


@pytest.mark.parametrize(
    ("phase", "layer", "fault", "found"),
    [
        (Phase.FORWARD, "conv2", also_fills("filter", slice(0, 1)), "conv2:filter"),
        (Phase.FORWARD, "bn2", also_fills("gamma", slice(3, 4)), "bn2:gamma"),
        (
            Phase.CALC_DERIVATIVE,
            "bn2",
            also_writes_behind("gamma", 30),
            " of the constants, of bn2:beta",
        ),
    ],
)
def test_a_step_that_writes_a_constant_is_named(
    phase: Phase,
    layer: str,
    fault: object,
    found: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at(phase, layer, fault)(monkeypatch)  # type: ignore[arg-type]
    model = FROZEN.model()
    model.initialize(debug=True)
    before = model.weights()
    x, y = make_batches(model.compile(), 4, 1)[0]
    with pytest.raises(CanaryError, match=f"'{layer}' in {phase.value}") as caught:
        model.train_step(x, y)
    assert found in str(caught.value)
    assert "which no step may" in str(caught.value)
    for name, weight in model.weights().items():
        assert (weight == before[name]).all(), name


@pytest.mark.skipif(sys.platform == "win32", reason="there is no mprotect")
def test_a_write_to_constants_ends_the_process_in_debug_mode() -> None:
    program = """
        import sys
        sys.path.insert(0, {tests!r})
        from helpers.plan_surgery import NETS
        model = NETS["frozen"].model()
        model.initialize(debug={debug})
        model._session.views.named("conv2:filter")[...] = 1
        print("written")
    """
    for debug in (False, True):
        text = textwrap.dedent(program.format(tests=str(TESTS), debug=debug))
        done = subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, check=False
        )
        assert (done.returncode < 0) == debug, done.stderr
        assert ("written" in done.stdout) != debug


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_has_an_arena_of_its_own() -> None:
    program = """
        import os, sys
        sys.path.insert(0, {tests!r})
        from helpers.plan_surgery import NETS
        from arena_ckpt.verification.batches import make_batches
        model = NETS["frozen"].model()
        model.initialize()
        before = {{name: w.copy() for name, w in model.weights().items()}}
        x, y = make_batches(model.compile(), 4, 1)[0]
        child = os.fork()
        if not child:
            model.set_weights({{name: w + 1 for name, w in before.items()}})
            model.train_step(x, y)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        after = model.weights()
        print(all((before[name] == after[name]).all() for name in before))
    """
    text = textwrap.dedent(program.format(tests=str(TESTS)))
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False
    )
    assert done.stdout == "True\n", done.stderr
