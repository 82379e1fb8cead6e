"""Layers of all families in one graph: what holds for any of them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzzing import networks
from helpers import mixed_graphs as mixed
from helpers.drawn_layers import words_of
from helpers.mixed_graphs import MixedSpec, mixed_graphs
from helpers.mixed_outcomes import finite_outcome, outcome
from helpers.scale import how_many
from hypothesis import Phase, given, settings

from arena_ckpt import load_ini
from arena_ckpt.errors import ModelWarning
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import Access, TensorKind


def assert_same_bits(spec: MixedSpec) -> None:
    plain = spec.without_blocks().with_properties(memory_optimization=False)
    expected = finite_outcome(plain)
    assert not expected.differences(outcome(spec.without_blocks())), "memory reuse"
    assert not expected.differences(outcome(spec)), "blocks and memory reuse"
    unshared = spec.with_properties(memory_optimization=False)
    assert not expected.differences(outcome(unshared)), "blocks"
    assert not expected.differences(outcome(spec, debug=True)), "debug mode"


@settings(derandomize=True, deadline=None, max_examples=25)
@given(mixed_graphs())
def test_same_bits_of_any_graph(spec: MixedSpec) -> None:
    assert_same_bits(spec)


@settings(derandomize=True, deadline=None, max_examples=how_many(6, 25))
@given(mixed_graphs(max_layers=6, n_losses=3))
def test_same_bits_of_several_losses(spec: MixedSpec) -> None:
    assert_same_bits(spec)


DRAWING = {
    "mixed graphs": (mixed.Growing, mixed.GROWTHS),
    "networks": (networks.GrowingNetwork, networks.GROWTHS),
}
"""What adds layers to random graphs, and its ways to do so."""

NOT_DRAWN = {
    "mean_loss": "it takes no labels, which all that trains these graphs gives",
}
"""Types of layers that no growth adds, and why."""


@pytest.mark.parametrize("strategy", DRAWING)
def test_every_type_of_layer_can_be_drawn(strategy: str) -> None:
    """What no random graph holds is tried with no other layer beside it."""
    own = {n for n, made in LAYER_TYPES.items() if made.__module__[:5] != "arena"}
    drawn = words_of(*DRAWING[strategy])
    assert sorted(set(LAYER_TYPES) - own - drawn - set(NOT_DRAWN)) == []
    assert not drawn & set(NOT_DRAWN)


# -- plans -----------------------------------------------------------------------------

plans = settings(derandomize=True, deadline=None, max_examples=40)


@plans
@given(mixed_graphs())
def test_bounds_of_any_graph(spec: MixedSpec) -> None:
    plan = spec.model().make_plan()
    assert (
        0
        < plan.local_lower_bound_bytes
        <= plan.live_lower_bound_bytes
        <= plan.arena_bytes
        <= plan.naive_bytes
    )
    assert max(plan.live_bytes()) == plan.live_lower_bound_bytes
    unshared = spec.with_properties(memory_optimization=False).model().make_plan()
    assert unshared.arena_bytes == unshared.naive_bytes == plan.naive_bytes
    plain = spec.without_blocks().model().make_plan()
    assert plain.local_lower_bound_bytes <= plain.live_lower_bound_bytes


@plans
@given(mixed_graphs())
def test_every_use_falls_into_a_life_and_reads_what_was_written(
    spec: MixedSpec,
) -> None:
    """An oracle of its own: bytes are followed from step to step, by address."""
    plan = spec.model().make_plan(debug=True)
    buffer_of = {i: b for b in plan.buffers for i in b.tensors}
    written: set[int] = {
        index
        for index, tensor in enumerate(plan.tensors)
        if tensor.kind
        in (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE, TensorKind.DATA)
        or not tensor.name
    }
    keeps = plan.micro_batches > 1  # then earlier passes leave gradients to add to
    for execution in plan.executions:
        for operand in execution.operands:
            tensor, buffer = plan.tensors[operand.tensor], buffer_of[operand.tensor]
            assert buffer.start <= tensor.start <= execution.step
            assert execution.step < tensor.stop <= buffer.stop
            if operand.access is Access.WRITE:
                written.add(operand.tensor)
            elif tensor.kind is not TensorKind.GRADIENT or not keeps:
                assert operand.tensor in written, (execution, tensor)
    for one, other in _pairs_at_once(plan):
        if one.memory != other.memory:
            continue
        ends = [b.offset_bytes + plan.taken_bytes(b.size_bytes) for b in (one, other)]
        assert ends[0] <= other.offset_bytes or ends[1] <= one.offset_bytes


def _pairs_at_once(plan: MemoryPlan) -> Iterator[tuple[Any, Any]]:
    for i, one in enumerate(plan.buffers):
        for other in plan.buffers[:i]:
            if one.start < other.stop and other.start < one.stop:
                yield one, other


@plans
@given(mixed_graphs())
def test_plans_survive_json_and_models_survive_ini(spec: MixedSpec) -> None:
    model = spec.model()
    plan = model.make_plan()
    text = plan.to_json()
    assert MemoryPlan.from_json(text) == plan  # which checks the layout as well
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first.ini"), Path(folder, "second.ini")
        model.save_ini(first)
        again = load_ini(first)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ModelWarning)  # the first model has had it
            assert again.make_plan().to_json() == text
        again.save_ini(second)
        assert second.read_text() == first.read_text()


PROBE = """
import hashlib, sys
from arena_ckpt import load_ini
for path in sys.argv[1:]:
    plan = load_ini(path).make_plan()
    print(hashlib.sha256(plan.to_json().encode()).hexdigest())
"""


def test_plans_are_the_same_in_another_process(tmp_path: Path) -> None:
    """Whatever the order of its sets and dicts of strings."""
    specs: list[MixedSpec] = []

    @settings(derandomize=True, deadline=None, max_examples=25, phases=[Phase.generate])
    @given(mixed_graphs())
    def collect(spec: MixedSpec) -> None:
        specs.append(spec)

    collect()
    paths, expected = [], []
    for number, spec in enumerate(specs):
        paths.append(str(tmp_path / f"{number}.ini"))
        model = spec.model()
        model.save_ini(paths[-1])
        text = model.make_plan().to_json()
        expected.append(hashlib.sha256(text.encode()).hexdigest())
    for seed in ("1", "4242"):
        process = subprocess.run(
            [sys.executable, "-c", PROBE, *paths],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert process.returncode == 0, process.stderr
        assert process.stdout.split() == expected


# -- steady state ----------------------------------------------------------------------

ALLOCATIONS = """
import gc, json, tracemalloc
import numpy as np
from numba.core.runtime import rtsys
from arena_ckpt import Model

def add(kind, name, *sources, **values):
    if sources:
        values["input_layers"] = list(sources)
    model.add_layer(kind, name=name, **values)

found = {}
for micro_batches in (1, 2):
    model = Model(seed=0)
    add("input", "ids", input_shape=(1, 1, 6))
    add("embedding", "rows", in_dim=9, out_dim=8)
    add("positional_encoding", "places")
    add("multi_head_attention", "tiled", num_heads=2, attention="tiled",
        dropout_rate=0.1, is_causal=True)
    add("addition", "residual", "tiled", "places")
    add("layer_normalization", "norm")
    add("multi_head_attention", "plain", num_heads=2, attention="plain")
    add("dropout", "drop", dropout_rate=0.1)
    add("lstm", "lstm", unit=4, return_sequences=True, unroll=True)
    add("gru", "gru", "norm", unit=4, return_sequences=True)
    add("concat", "joined", "lstm", "gru", "drop", axis=3)
    add("input", "picture", input_shape=(2, 6, 6))
    add("conv2d", "conv", filters=4, kernel_size=3, padding="same", activation="relu")
    add("batch_normalization", "batch_norm")
    add("depthwiseconv2d", "depth", kernel_size=3, padding="same")
    add("pooling2d", "pool", pooling="max", pool_size=(1, 2), stride=(1, 2))
    add("conv2dtranspose", "wider", filters=1, kernel_size=(1, 2), stride=(1, 2))
    add("rms_norm", "rms")
    add("concat", "all", "joined", "rms", axis=3)
    add("split", "halves", axis=3, split_number=2)
    add("swiglu", "gate", "halves", "halves(1)")
    add("fully_connected", "fc", "gate", unit=5)
    add("cross_softmax", "loss", per_token=True)
    model.add_checkpoint_block(["tiled", "residual", "norm", "plain", "drop"])
    model.add_checkpoint_block(["lstm", "gru", "joined"])
    model.add_checkpoint_block(["conv", "batch_norm", "depth", "pool", "wider", "rms"])
    model.set_property(batch_size=8, micro_batches=micro_batches)
    model.set_optimizer("adam")
    model.initialize()
    generator = np.random.default_rng(0)
    x = {
        "ids": generator.integers(0, 9, (8, 6)).astype(np.float32),
        "picture": generator.normal(size=(8, 72)).astype(np.float32),
    }
    y = generator.integers(0, 5, (8, 6))
    for _ in range(260):  # from 257 on Python keeps an object for the iteration
        model.train_step(x, y)
    before = rtsys.get_allocation_stats()
    for _ in range(50):
        model.train_step(x, y)
    after = rtsys.get_allocation_stats()
    gc.collect()
    tracemalloc.start()
    for _ in range(5):
        model.train_step(x, y)
    gc.collect()
    start = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    for _ in range(50):
        model.train_step(x, y)
    peak = tracemalloc.get_traced_memory()[1] - start
    gc.collect()
    growth = tracemalloc.get_traced_memory()[0] - start
    tracemalloc.stop()
    found[micro_batches] = {
        "counts": before.alloc > 0,
        "numba": [b - a for a, b in zip(before, after)],
        "peak": peak,
        "growth": growth,
    }
print(json.dumps(found))
"""


def test_steady_training_of_all_families_allocates_nothing() -> None:
    process = subprocess.run(
        [sys.executable, "-c", ALLOCATIONS],
        env={**os.environ, "NUMBA_NRT_STATS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    for found in json.loads(process.stdout).values():
        assert found["counts"], "Numba does not count: the test would prove nothing"
        assert found["numba"] == [0, 0, 0, 0]
        assert found["growth"] <= 256, found  # the counters of this test itself
        assert found["peak"] < 64 * 1024, found
