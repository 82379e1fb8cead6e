"""The plan: its bounds, its text, and that it is the same everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from helpers import TESTS
from helpers.strategies import ModelSpec, chain, chains, dags
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt import Model
from arena_ckpt.errors import PlanFormatError
from arena_ckpt.planning.plan import PLAN_FORMAT, PLAN_VERSION, MemoryPlan, checksum
from arena_ckpt.planning.planner import make_plan
from arena_ckpt.planning.settings import PlanSettings
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.report.nntrainer import exe_order_text

BLOCK = ("fc1", "act1", "fc2", "act2")


def example(**properties: object) -> ModelSpec:
    """A multilayer perceptron of MNIST's size, with a block of two dense layers."""
    return chain(
        *(512, "relu", 256, "relu", 128, "relu", 10),
        width=784,
        loss="cross_softmax",
        blocks=(BLOCK,),
        optimizer=("adam", {}),
        **{"batch_size": 32, **properties},
    )


def planned(spec: ModelSpec) -> MemoryPlan:
    return spec.model().make_plan()


# -- bounds ----------------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.one_of(chains(), dags()))
def test_bounds_of_random_models(spec: ModelSpec) -> None:
    plan = planned(spec)
    assert (
        0
        < plan.local_lower_bound_bytes
        <= plan.live_lower_bound_bytes
        <= plan.arena_bytes
        <= plan.naive_bytes
    )
    live = plan.live_bytes()
    assert len(live) == len(plan.steps)
    assert max(live) == live[plan.peak_step] == plan.live_lower_bound_bytes
    assert plan.arena_bytes == max(
        b.offset_bytes + plan.taken_bytes(b.size_bytes) for b in plan.ram_buffers
    )
    assert plan.constant_bytes == sum(
        plan.taken_bytes(b.size_bytes) for b in plan.buffers if b.is_constant
    )
    by_kind = plan.bytes_by_kind(plan.peak_step)
    assert list(by_kind) == list(TensorKind)
    assert sum(by_kind.values()) == plan.live_lower_bound_bytes
    unshared = planned(spec.with_properties(memory_optimization=False))
    assert unshared.arena_bytes == unshared.naive_bytes == plan.naive_bytes
    assert unshared.proved_optimal


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.one_of(chains(), dags()))
def test_no_two_buffers_that_live_together_overlap(spec: ModelSpec) -> None:
    plan = spec.model().make_plan(debug=True)
    for i, one in enumerate(plan.buffers):
        assert one.offset_bytes % plan.alignment_bytes == 0
        end = one.offset_bytes + one.size_bytes + plan.canary_bytes
        assert end <= (plan.constant_bytes if one.is_constant else plan.arena_bytes)
        for other in plan.buffers[:i]:
            in_time = one.start < other.stop and other.start < one.stop
            other_end = other.offset_bytes + other.size_bytes + plan.canary_bytes
            in_space = one.memory == other.memory and (
                one.offset_bytes < other_end and other.offset_bytes < end
            )
            assert not (in_time and in_space), (one, other)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.one_of(chains(), dags()))
def test_every_use_falls_into_the_life_of_its_buffer(spec: ModelSpec) -> None:
    plan = planned(spec)
    assert sorted(i for b in plan.buffers for i in b.tensors) == list(
        range(len(plan.tensors))
    )
    buffer_of = {i: b for b in plan.buffers for i in b.tensors}
    for execution in plan.executions:
        step = plan.steps[execution.step]
        assert step is not None
        assert (step.phase, step.layer) == (execution.phase, execution.layer)
        for operand in execution.operands:
            tensor, buffer = plan.tensors[operand.tensor], buffer_of[operand.tensor]
            assert tensor.start <= execution.step < tensor.stop
            assert buffer.start <= tensor.start < tensor.stop <= buffer.stop
            assert tensor.size_bytes == buffer.size_bytes


@pytest.mark.parametrize(
    ("optimizer", "properties", "local", "live", "naive"),
    [
        # control 128, weight 4·2·4 = 32 -> 64, bias 2·4 = 8 -> 64: 256 at every step.
        # The peak is the weight gradient: samples 8·4·4 = 128, one buffer of 64 for
        # output, prediction and derivative, gradients 64 + 64. Label and three tensors
        # of 64 with bytes of their own: 256 + 64 + 128 + 3·64 + 128.
        ("sgd", {}, 576, 576, 768),
        # Two moments for each weight: 4·64 more, everywhere.
        ("adam", {}, 576 + 256, 576 + 256, 768 + 256),
        # Half of the samples: 64 in place of 128. The gradients, 128, live from the
        # beginning, so that the peak is the loss: 256 + 128 + 64 + label 64 + 64.
        ("sgd", {"micro_batches": 2}, 512, 576, 704),
    ],
)
def test_totals_of_a_tiny_model_by_hand(
    optimizer: str, properties: dict[str, Any], local: int, live: int, naive: int
) -> None:
    plan = planned(
        chain(2, width=4, batch_size=8, optimizer=(optimizer, {}), **properties)
    )
    assert plan.local_lower_bound_bytes == local
    assert plan.live_lower_bound_bytes == live
    assert plan.arena_bytes == live
    assert plan.naive_bytes == naive


def test_live_bytes_of_a_tiny_model_by_hand() -> None:
    plan = planned(chain(2, width=4, batch_size=8))
    # forward of in, fc1, loss; backward of loss, fc1 (weight, derivative, update), in
    forward, loss, fc1, after = [448, 512, 512], [512, 512, 448], [576, 384, 384], 256
    assert plan.live_bytes() == [*forward, *loss, *fc1, *[after] * 3]
    assert plan.peak_step == plan.execution_order["fc1"].calc_gradient == 6
    # Canaries of 64 behind each of the eight buffers, seven of which live at the peak.
    debug = chain(2, width=4, batch_size=8).model().make_plan(debug=True)
    assert len(debug.buffers) == 8
    assert debug.live_lower_bound_bytes == debug.arena_bytes == 576 + 7 * 64


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"batch_size": 1},
        {"batch_size": 512},
        {"micro_batches": 4},
        {"clip_grad_by_norm": 1.0},
        {"clip_grad_by_norm": 1.0, "micro_batches": 3},
    ],
    ids=str,
)
def test_the_example_reaches_the_lower_bound(properties: dict[str, Any]) -> None:
    for spec in (example(**properties), example(**properties).without_blocks()):
        plan = planned(spec)
        assert plan.proved_optimal
        assert plan.arena_bytes == plan.live_lower_bound_bytes


@settings(derandomize=True, deadline=None, max_examples=150)
@given(chains(max_layers=12))
def test_random_chains_reach_the_lower_bound(spec: ModelSpec) -> None:
    assert planned(spec).proved_optimal


def test_a_chain_that_static_orders_and_repairs_leave_above_the_bound() -> None:
    spec = ModelSpec(
        (
            ("input", {"name": "in", "input_shape": (1, 1, 1)}),
            ("activation", {"name": "n0", "activation": "relu"}),
            ("activation", {"name": "n1", "activation": "relu"}),
            ("fully_connected", {"name": "n2", "unit": 9, "trainable": False}),
            ("activation", {"name": "n3", "activation": "relu"}),
            ("activation", {"name": "n4", "activation": "relu"}),
            ("activation", {"name": "n5", "activation": "relu"}),
            (
                "fully_connected",
                {"name": "n6", "unit": 4, "activation": "relu", "disable_bias": True},
            ),
            ("mse", {"name": "loss"}),
        ),
        (("in", "n0", "n1", "n2", "n3", "n4", "n5", "n6", "loss"),),
        {"batch_size": 5},
    )
    assert planned(spec).proved_optimal


def test_a_block_saves_memory_where_activations_dominate() -> None:
    spec = chain(
        *(64, "gelu") * 6,
        width=64,
        batch_size=256,
        blocks=(
            ("fc1", "act1", "fc2", "act2", "fc3", "act3"),
            ("fc4", "act4", "fc5", "act5", "fc6", "act6"),
        ),
    )
    with_blocks, without = planned(spec), planned(spec.without_blocks())
    assert with_blocks.arena_bytes < 0.75 * without.arena_bytes
    assert with_blocks.local_lower_bound_bytes == without.local_lower_bound_bytes


def test_alive_at_is_sorted_by_size() -> None:
    plan = planned(example())
    alive = plan.alive_at(plan.peak_step)
    sizes = [b.size_bytes for b in alive]
    assert sizes == sorted(sizes, reverse=True)
    assert alive[0].size_bytes == 784 * 512 * 4
    assert plan.alive_at(len(plan.steps)) == ()


# -- text ------------------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.one_of(chains(), dags()), st.booleans())
def test_text_comes_back_as_an_equal_plan(spec: ModelSpec, debug: bool) -> None:
    plan = spec.model().make_plan(debug=debug)
    text = plan.to_json()
    read = MemoryPlan.from_json(text)
    assert read == plan
    assert read.to_json() == text
    assert spec.model().make_plan(debug=debug).to_json() == text
    assert list(read.execution_order) == [layer.name for layer in plan.layers]


def test_the_text_says_what_it_is() -> None:
    document = json.loads(planned(example()).to_json())
    assert list(document)[:2] == ["format", "version"]
    assert (document["format"], document["version"]) == (PLAN_FORMAT, PLAN_VERSION)
    assert document["proved_optimal"] is True
    assert document["execution_order"]["fc1"] == [1, 21, 34, 35, 36]
    assert document["buffers"][0]["kind"] in [kind.value for kind in TensorKind]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no memory plan"),
        ("{", "no memory plan"),
        ("[]", "no memory plan"),
        ("null", "no memory plan"),
        ('{"format": "other"}', "'format' is not"),
        ('{"format": "%s"}' % PLAN_FORMAT, "version None"),  # noqa: UP031
        ('{"format": "%s", "version": 9}' % PLAN_FORMAT, "version 9"),  # noqa: UP031
        ('{"format": "%s", "version": 4}' % PLAN_FORMAT, "lacks"),  # noqa: UP031
        ("[" * 100_000, "no memory plan"),
    ],
    ids=lambda v: v[:30],
)
def test_what_is_no_plan_says_why(text: str, words: str) -> None:
    with pytest.raises(PlanFormatError, match=words) as caught:
        MemoryPlan.from_json(text)
    assert isinstance(caught.value, ValueError)
    assert "to_json" in str(caught.value) or "again" in str(caught.value)


SMALL = planned(
    chain(3, "relu", 2, width=2, batch_size=2, blocks=(("fc1", "act1"),))
).to_json()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything in a document."""
    found = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += places(item, (*path, index))
    return found


PLACES = places(json.loads(SMALL))[1:]
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 200),
    st.sampled_from([2**31, 2**62, 2**63, -(2**63), 10**30, 0, -1, 1.5, 1e308]),
    st.text(max_size=4),
    st.sampled_from([[], {}, [1], [[]], {"a": 1}, "float64", "int8", "forward"]),
)


@settings(derandomize=True, deadline=None, max_examples=250)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(PLACES), st.sampled_from(["set", "drop", "twice"]), JUNK
        ),
        min_size=1,
        max_size=3,
    )
)
def test_a_damaged_plan_is_refused_or_usable(
    damages: list[tuple[tuple[Any, ...], str, Any]],
) -> None:
    """Whatever is accepted can be drawn: no report may crash on it."""
    document = json.loads(SMALL)
    for path, how, junk in damages:
        parent: Any = document
        try:
            for key in path[:-1]:
                parent = parent[key]
            if how == "set":
                parent[path[-1]] = junk
            elif how == "drop":
                del parent[path[-1]]
            elif isinstance(parent, list):
                parent.append(parent[path[-1]])
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # another damage has removed the place
    document["checksum"] = checksum(document)  # as if someone had meant it
    try:
        plan = MemoryPlan.from_json(json.dumps(document))
    except PlanFormatError as error:
        assert str(error)  # noqa: PT017 - either way is right
        return
    assert MemoryPlan.from_json(plan.to_json()) == plan
    assert len(plan.live_bytes()) <= len(plan.steps)
    assert exe_order_text(plan)
    assert plan.bytes_by_kind(plan.peak_step)
    for layer in plan.layers:
        assert plan.execution_order[layer.name]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alignment_bytes", 0),
        ("canary_bytes", -1),
        ("live_lower_bound_bytes", 64),
        ("arena_bytes", 64),
        ("arena_bytes", "64"),
        ("batch_size", 1.0),
        ("batch_size", True),
        ("layers", []),
        ("execution_order", {}),
        ("tensors", None),
        ("steps", []),
    ],
    ids=str,
)
def test_a_plan_that_contradicts_itself_is_refused(key: str, value: Any) -> None:
    document = json.loads(SMALL)
    document[key] = value
    with pytest.raises(PlanFormatError, match="damaged"):
        MemoryPlan.from_json(json.dumps(document))


def test_a_buffer_that_outlives_the_iteration_is_refused_at_once() -> None:
    document = json.loads(SMALL)
    document["buffers"][0]["stop"] = 2**62
    with pytest.raises(PlanFormatError, match=r"of \d+ steps"):
        MemoryPlan.from_json(json.dumps(document))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.data())
def test_damaged_bytes_raise_nothing_else(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(SMALL) - 1))
    length = data.draw(st.integers(0, 30))
    junk = data.draw(st.text(max_size=5))
    try:
        MemoryPlan.from_json(SMALL[:place] + junk + SMALL[place + length :])
    except PlanFormatError:
        pass


def test_overlapping_buffers_and_lost_tensors_are_found() -> None:
    document = json.loads(SMALL)
    for buffer in document["buffers"]:
        buffer["offset_bytes"] = 0
    with pytest.raises(PlanFormatError, match=r"damaged.*overlap"):
        MemoryPlan.from_json(json.dumps(document))
    document = json.loads(SMALL)
    document["buffers"][0]["tensors"] = []
    with pytest.raises(PlanFormatError, match="every tensor exactly once"):
        MemoryPlan.from_json(json.dumps(document))
    document = json.loads(SMALL)
    document["executions"][0]["operands"][0]["tensor"] = 10**6
    with pytest.raises(PlanFormatError, match="step 0 uses tensor 1000000"):
        MemoryPlan.from_json(json.dumps(document))


CONTRADICTIONS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "no samples": (("batch_size",), 0, "0 samples are split into"),
    "no passes": (("micro_batches",), 0, "into 0 micro-batches"),
    "more passes than samples": (("micro_batches",), 99, "into 99 micro-batches"),
    "backward before the end": (("n_forward",), 10**9, "n_forward is 1000000000"),
    "a pass without end": (("n_pass",), 2**70, "n_pass 1180591620717411303424"),
    "another sum": (("naive_bytes",), 1, "naive_bytes is 1, the tensors take"),
    "a bound above the peak": (
        ("local_lower_bound_bytes",),
        2**62,
        "local lower bound",
    ),
    "no outputs": (("layers", 0, "output_shapes"), [], "has outputs of"),
    "outputs of nothing": (("layers", 0, "output_shapes"), [[1, 0, 3]], "outputs of"),
    "operations undone": (("layers", 0, "flops", "forward"), -1, "has operations of"),
    "another shape": (("tensors", 0, "shape"), [2**40, 2**40], "bytes for the shape"),
    "a life that cannot be": (("tensors", 0, "life"), 2**53, "has life 90071"),
    "another dtype": (("tensors", 0, "dtype"), "|O", "for the shape .* of |O"),
    "a line break": (("blocks", 0, "name"), "a\nb", "cannot be printed"),
    "a half character": (("allocator",), "\ud800", "cannot be printed"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradiction_behind_a_right_checksum_is_found(case: str) -> None:
    path, value, words = CONTRADICTIONS[case]
    document = json.loads(SMALL)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    document["checksum"] = checksum(document)
    with pytest.raises(PlanFormatError, match=f"damaged.*{words}"):
        MemoryPlan.from_json(json.dumps(document))


def test_a_plan_that_somebody_changed_is_refused() -> None:
    document = json.loads(SMALL)
    document["tensors"][0]["layer"] = "fc1"
    with pytest.raises(PlanFormatError, match=r"checksum.*arena-ckpt plan"):
        MemoryPlan.from_json(json.dumps(document))
    del document["checksum"]
    with pytest.raises(PlanFormatError, match="checksum is None"):
        MemoryPlan.from_json(json.dumps(document))


# -- the same everywhere ---------------------------------------------------------------

PRINT_PLANS = """
import hashlib, json, sys
sys.path.insert(0, {tests!r})
from helpers.residuals import SKIPS, residual
from helpers.strategies import OPTIMIZERS, chain
specs = [residual("gelu", *blocks) for blocks in SKIPS.values()]
specs += [
    chain(9, "softmax", 9, "gelu", 9, "relu", 5, blocks=(("fc1", "act1", "fc2"),),
          optimizer=optimizer, **properties)
    for optimizer in OPTIMIZERS
    for properties in ({{}}, {{"clip_grad_by_norm": 1.0, "micro_batches": 3}})
]
for spec in specs:
    print(hashlib.sha256(spec.model().make_plan().to_json().encode()).hexdigest())
"""


def test_every_process_makes_the_same_plan() -> None:
    printed = set()
    for hash_seed in ("0", "1", "4242"):
        process = subprocess.run(
            [sys.executable, "-c", PRINT_PLANS.format(tests=str(TESTS))],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert process.returncode == 0, process.stderr
        printed.add(process.stdout)
    assert len(printed) == 1
    assert len(printed.pop().split()) == 22  # 8 with blocks, 2 of each optimizer


def test_planning_changes_no_model_and_needs_no_arena() -> None:
    model = example().model()
    first = model.make_plan()
    assert model.make_plan() == first
    assert model.initialize() == first
    assert model.plan == first


def test_make_plan_of_a_graph_without_anything_to_train() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape=(1, 1, 2))
    model.add_layer("mse", name="loss")
    model.compile()
    assert model._graph is not None
    plan = make_plan(model._graph, PlanSettings(batch_size=4))
    assert [e.layer for e in plan.executions] == ["in", "loss"]
    assert plan.proved_optimal
