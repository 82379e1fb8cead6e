"""Kernel calls are data: another arena, or another process, makes the same of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from helpers.example_data import first_batch
from helpers.scale import how_many

import arena_ckpt as ac
from arena_ckpt import Model
from arena_ckpt.engine.arena import Arena
from arena_ckpt.engine.link import CallTable
from arena_ckpt.lowering.kernel_call import KernelCall, Mode
from arena_ckpt.lowering.listing import call_lines, calls_document
from arena_ckpt.operations.activations import ACTIVATIONS
from arena_ckpt.operations.families import FAMILIES
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.recurrent import gru_kernels, lstm_kernels, rnn_kernels
from arena_ckpt.operations.regions import Region

EXAMPLES = (
    "digits_mlp",
    "keyword_gru",
    "digits_cnn",
    "autoencoder",
    "resnet8",
    "char_transformer",
)
N_EXAMPLES = how_many(3, len(EXAMPLES))


def kernel_named(text: str) -> KernelName:
    """Return the kernel that a listing calls ``"gru.forward[tanh,sigmoid]"``."""
    family, _, rest = text.partition(".")
    entry, _, variant = rest.rstrip("]").partition("[")
    functions = variant.split(",")
    made: dict[str, Any] = {
        "gru": gru_kernels,
        "lstm": lstm_kernels,
        "rnn": rnn_kernels,
    }
    if family == "activations":
        found = getattr(ACTIVATIONS[functions[0]], entry)
    elif variant:
        found = getattr(made[family](*functions), entry)
    else:
        found = getattr(next(f for f in FAMILIES if f.name == family), entry)
    assert isinstance(found, KernelName)
    assert str(found) == text
    return found


def read_calls(document: Any) -> list[KernelCall]:
    """Return the calls that a document says, from JSON alone."""
    return [
        KernelCall(
            call["step"],
            kernel_named(call["kernel"]),
            tuple(
                Region(
                    value["memory"],
                    value["offset_bytes"],
                    tuple(value["shape"]),
                    value["dtype"],
                )
                if isinstance(value, dict)
                else value
                for value in call["operands"].values()
            ),
        )
        for call in document["calls"]
    ]


@pytest.mark.parametrize("name", EXAMPLES[:N_EXAMPLES])
def test_calls_from_json_give_the_same_bytes_on_another_arena(name: str) -> None:
    example = ac.load_example(name)
    model = example.model
    plan = model.initialize()
    session = model._session
    assert session is not None
    document = calls_document(plan, model.kernel_calls(plan))
    calls = read_calls(json.loads(json.dumps(document)))
    assert calls == list(model.kernel_calls(plan))

    n = plan.pass_samples
    assert example.data is not None
    x, y = first_batch(example, n)
    model.train_step(x, y)  # moments are no longer zero
    samples = session.samples(x, y)
    one = session._pass(Mode.TRAIN, n, False)
    one.load(samples, None, 0)
    other = Arena(plan.arena_bytes)
    other.bytes[:] = session.arena.bytes

    one.program.run(0, len(plan.steps))
    CallTable(calls, {"arena": other}).run(0, len(calls))

    assert np.array_equal(other.bytes, session.arena.bytes)


@pytest.mark.parametrize("name", EXAMPLES)
def test_all_operands_lie_in_the_arena(name: str) -> None:
    model = ac.load_example(name).model
    plan = model.make_plan()
    calls = model.kernel_calls(plan)
    assert [call.step for call in calls] == sorted(call.step for call in calls)
    for call in calls:
        call.kernel.check(call.operands)
        for operand in call.operands:
            assert isinstance(operand, Region | int | float)
            if isinstance(operand, Region):
                assert operand.memory == "arena"
                stop = operand.offset_bytes + operand.nbytes
                assert 0 <= operand.offset_bytes <= stop <= plan.arena_bytes


LIST_CALLS = """
import hashlib, json
import arena_ckpt as ac
from arena_ckpt.lowering.listing import calls_document
model = ac.load_example("char_transformer").model
plan = model.make_plan()
text = json.dumps(calls_document(plan, model.kernel_calls(plan)))
print(hashlib.sha256(text.encode()).hexdigest())
"""


def test_every_process_makes_the_same_calls() -> None:
    printed = set()
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", LIST_CALLS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        printed.add(done.stdout)
    assert len(printed) == 1


NO_NUMBA = """
import sys
import arena_ckpt as ac
from arena_ckpt.lowering.listing import call_lines, calls_document
model = ac.load_example(sys.argv[1]).model
plan = model.make_plan()
calls = model.kernel_calls(plan)
print(len(list(call_lines(plan, calls))) > len(calls_document(plan, calls)["calls"]))
print("numba" in sys.modules)
"""


@pytest.mark.parametrize("name", ["digits_mlp", "keyword_gru", "gpt"])
def test_listing_calls_loads_no_numba(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_NUMBA, name],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False"]


def test_the_command_that_lists_calls_loads_no_numba() -> None:
    code = (
        "import sys; from arena_ckpt.cli import main\n"
        "try: main(['plan', 'digits_mlp', '--calls'])\n"
        "except SystemExit: pass\n"
        "print('numba' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    *lines, loaded = done.stdout.splitlines()
    assert lines[0] == "step 1, forward of fc1"
    assert loaded == "False"


def small_model() -> Model:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("fully_connected", name="fc", unit=2, activation="relu")
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=3)
    return model


def test_calls_can_be_read_by_people() -> None:
    model = small_model()
    plan = model.make_plan()
    lines = list(call_lines(plan, model.kernel_calls(plan)))
    at = {
        t.name: b.offset_bytes
        for b in plan.buffers
        for t in [plan.tensors[b.tensors[0]]]
    }
    x, w = at["in:out0"], at["fc:weight"]
    assert lines[0] == "step 1, forward of fc"
    assert lines[1].startswith(
        f"  blas.matmul a=arena[{x}:{x + 48}] 3×4 float32, "
        f"b=arena[{w}:{w + 32}] 4×2 float32, c=arena["
    )
    assert lines[2].startswith("  activations.bias_forward[relu] x=arena[")
    assert lines[-1].startswith("  elementwise.count_up ")


def test_a_bias_is_added_with_the_activation_that_overwrites_it() -> None:
    model = small_model()
    names = [str(call.kernel) for call in model.kernel_calls(model.make_plan())]
    assert "activations.bias_forward[relu]" in names
    assert "elementwise.add_bias" not in names
