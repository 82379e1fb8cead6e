"""Plans over several RAMs: what lies where, what is touched there, pins, refusals."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from helpers.frozen import head_only
from helpers.plan_surgery import NETS
from helpers.pool_judges import PoolCase, program_spill
from helpers.strategies import ModelSpec, chains, dags
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt import MemoryPlan, Model, load_board
from arena_ckpt.errors import ArenaError, BudgetError, InvalidParameterError
from arena_ckpt.examples import load_example
from arena_ckpt.planning.memory_use import touched_bytes
from arena_ckpt.planning.tensors import Access, TensorKind
from arena_ckpt.verification.batches import make_batches
from arena_ckpt.verification.verify import verify

TWO = {"dtcm": "128KiB", "sram": "512KiB"}


def digits(batch_size: int = 8) -> Model:
    model = load_example("digits_cnn").model
    model.set_property(batch_size=batch_size)
    return model


def where(plan: MemoryPlan) -> dict[str, set[str]]:
    """Return the memories of each tensor, over all its lives."""
    found: dict[str, set[str]] = {}
    for buffer in plan.buffers:
        for index in buffer.tensors:
            found.setdefault(plan.tensors[index].name, set()).add(buffer.memory)
    return found


# -- layout ----------------------------------------------------------------------------


def test_each_buffer_lies_in_one_ram_that_is_large_enough() -> None:
    plan = digits().make_plan(memories=TWO)
    assert list(plan.memories) == ["dtcm", "sram"]
    assert {b.memory for b in plan.buffers} == {"dtcm", "sram"}
    assert plan.arena_bytes == sum(m.height_bytes for m in plan.memories.values())
    for memory in plan.memories.values():
        assert 0 < memory.height_bytes <= (memory.size_bytes or 0)
        mine = [b for b in plan.buffers if b.memory == memory.name]
        ends = [b.offset_bytes + plan.taken_bytes(b.size_bytes) for b in mine]
        assert max(ends) == memory.height_bytes
        for step in range(len(plan.steps)):
            alive = sorted(
                (b.offset_bytes, b.size_bytes) for b in mine if b.start <= step < b.stop
            )
            for (start, size), (next_start, _) in pairwise(alive):
                assert start + size <= next_start


def test_bytes_touched_are_reads_and_writes_not_bytes_times_steps() -> None:
    model = digits()
    plan = model.make_plan(memories=TWO)
    counted = dict.fromkeys(plan.memories, 0)
    memory_of = {i: b.memory for b in plan.buffers for i in b.tensors}
    for execution in plan.executions:
        for operand in execution.operands:
            times = 2 if operand.access is Access.UPDATE else 1
            size = plan.tensors[operand.tensor].size_bytes
            counted[memory_of[operand.tensor]] += times * size
    found = {name: used.touched_bytes for name, used in plan.memories.items()}
    assert found == counted
    whole = model.make_plan().memories["arena"].touched_bytes
    assert sum(found.values()) == whole
    # A third of the bytes takes most of the traffic.
    assert found["dtcm"] > 0.6 * whole


def test_passes_count_as_often_as_they_run() -> None:
    plan = NETS["micro"].model().make_plan()
    assert plan.micro_batches == 3
    label = next(i for i, t in enumerate(plan.tensors) if t.name == "loss:label")
    reads = sum(
        plan.tensors[label].size_bytes
        for e in plan.executions
        for o in e.operands
        if o.tensor == label
    )
    by_tensor = touched_bytes(
        plan.tensors, plan.executions, n_pass=plan.n_pass, n_passes=plan.micro_batches
    )
    assert by_tensor[label] == 3 * reads


def test_what_is_touched_most_lies_in_the_fast_ram() -> None:
    """Of two tensors of one size and life, the one that is used more often."""
    plan = digits().make_plan(memories={"dtcm": "64KiB", "sram": "1MiB"})
    touched = dict.fromkeys(range(len(plan.tensors)), 0)
    for execution in plan.executions:
        for operand in execution.operands:
            touched[operand.tensor] += plan.tensors[operand.tensor].size_bytes
    rate = {
        name: sum(
            touched[i]
            for b in plan.buffers
            if b.memory == name and b.size_bytes
            for i in b.tensors
        )
        / sum(
            (b.stop - b.start) * b.size_bytes for b in plan.buffers if b.memory == name
        )
        for name in ("dtcm", "sram")
    }
    assert rate["dtcm"] > rate["sram"]


def test_one_ram_is_an_arena_with_a_name_and_a_limit() -> None:
    model = digits()
    plain, named = model.make_plan(), model.make_plan(memories={"sram": "512KiB"})
    assert named.arena_bytes == plain.arena_bytes
    assert [b.offset_bytes for b in named.buffers] == [
        b.offset_bytes for b in plain.buffers
    ]
    assert {b.memory for b in named.buffers} == {"sram"}


def test_plans_over_rams_are_the_same_each_time_and_are_read_back() -> None:
    plan = digits().make_plan(memories=TWO)
    assert digits().make_plan(memories=TWO) == plan
    assert MemoryPlan.from_json(plan.to_json()) == plan
    model = digits()
    assert model.initialize(plan=plan) == plan


def test_a_board_gives_its_rams() -> None:
    board = load_board("stm32h743")
    plan = digits(2).make_plan(memories=board.memories)
    assert list(plan.memories) == [
        *("DTCM", "AXI SRAM", "SRAM1, SRAM2 and SRAM3", "SRAM4")
    ]
    fit = board.check(plan)
    assert fit.fits
    assert fit.headroom_bytes == min(m.headroom_bytes for m in fit.memories)
    assert "RAM: buffers take" in " ".join(fit.sentences())


# -- bits ------------------------------------------------------------------------------


def trained(model: Model, **request: Any) -> list[bytes]:
    plan = model.initialize(**request)
    batches = make_batches(model.compile(), plan.batch_size, 2)
    losses = [model.train_step(x, y) for x, y in batches]
    return [str(losses).encode(), *(w.tobytes() for w in model.weights().values())]


@pytest.mark.parametrize("name", ["mlp", "micro", "cnn", "transformer", "recurrent"])
def test_the_same_bits_wherever_a_buffer_lies(name: str) -> None:
    spec = NETS[name]
    whole = spec.model().make_plan().arena_bytes
    rams = {"fast": whole // 3 // 64 * 64, "slow": 2 * whole}
    one = trained(spec.model())
    assert trained(spec.model(), memories=rams) == one
    assert trained(spec.model(), memories=rams, debug=True) == one
    reverse = {"slow": 2 * whole, "fast": 4096}
    assert trained(spec.model(), memories=reverse) == one


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.one_of(chains(), dags()), st.floats(0.1, 0.9), st.booleans())
def test_random_models_over_two_rams(
    spec: ModelSpec, share: float, constants: bool
) -> None:
    place = "flash" if constants else "arena"
    alone = spec.model().make_plan(constants=place)
    fast = max(64, int(share * alone.arena_bytes) // 64 * 64)
    plan = spec.model().make_plan(
        constants=place, memories={"fast": fast, "slow": 2 * alone.arena_bytes}
    )
    assert plan.memories["fast"].height_bytes <= fast
    assert plan.steps == alone.steps
    assert plan.constant_bytes == alone.constant_bytes
    MemoryPlan.from_json(plan.to_json())  # checks the layout of each memory


def test_verify_takes_a_plan_over_rams() -> None:
    found = verify(NETS["frozen"].model(), memories={"fast": "1KiB", "slow": "64KiB"})
    assert found.passed, found.verdict
    assert "fast of 1,024 B, slow of 65,536 B, the constants" in found.checks[0].finding


# -- pins ------------------------------------------------------------------------------


def test_pins_by_name_by_pattern_and_to_an_offset() -> None:
    plan = digits().make_plan(
        memories=TWO,
        pin={"c0a_conv:filter": "sram", "*_bn:gamma": "dtcm", "in:out0": ("sram", 640)},
    )
    places = where(plan)
    assert places["c0a_conv:filter"] == {"sram"}
    gammas = [name for name in places if name.endswith("_bn:gamma")]
    assert len(gammas) >= 4
    assert all(places[name] == {"dtcm"} for name in gammas)
    (samples,) = [b for b in plan.buffers if b.tensor == "in:out0"]
    assert (samples.memory, samples.offset_bytes) == ("sram", 640)


def test_without_rams_a_pin_fixes_an_offset_of_the_arena() -> None:
    plan = digits().make_plan(pin={"in:out0": ("arena", 128)})
    (samples,) = [b for b in plan.buffers if b.tensor == "in:out0"]
    assert (samples.memory, samples.offset_bytes) == ("arena", 128)
    digits().initialize(plan=plan)


def test_a_constant_can_be_pinned_into_ram() -> None:
    model = head_only(load_example("digits_cnn").model, batch_size=2)
    model_plan = model.make_plan()
    pinned = model.make_plan(memories=TWO, pin={"c0a_conv:filter": "dtcm"})
    assert where(pinned)["c0a_conv:filter"] == {"dtcm"}
    taken = pinned.taken_bytes(
        next(t.size_bytes for t in pinned.tensors if t.name == "c0a_conv:filter")
    )
    assert pinned.constant_bytes == model_plan.constant_bytes - taken
    assert pinned.naive_bytes == model_plan.naive_bytes + taken
    again = head_only(load_example("digits_cnn").model, batch_size=2)
    assert again.initialize(plan=pinned) == pinned


# -- budgets ---------------------------------------------------------------------------


def test_the_search_takes_only_plans_that_every_ram_holds() -> None:
    model = digits()
    model.make_plan(memories={"dtcm": "128KiB", "sram": "288KiB"})
    tight = {"dtcm": "128KiB", "sram": "256KiB"}
    with pytest.raises(BudgetError, match="no placement was found in dtcm"):
        model.make_plan(memories=tight)
    point = model.choose_plan(memories=tight, budget="384KiB")
    assert point.has_room
    assert point.overhead > 0
    for memory in point.plan.memories.values():
        assert memory.height_bytes <= (memory.size_bytes or 0)
    assert all(p.has_room for p in model.pareto(memories=tight))


def test_a_budget_can_name_a_ram() -> None:
    model = digits()
    point = model.choose_plan(memories=TWO, budget={"sram": "230KiB"})
    assert point.plan.memories["sram"].height_bytes <= 230 * 1024
    assert point.plan.memories["dtcm"].size_bytes == 128 * 1024
    alone = model.choose_plan(budget={"arena": "400KiB"})
    assert alone.arena_bytes <= 400 * 1024
    assert alone.plan == model.choose_plan(budget="400KiB").plan


# -- bad input -------------------------------------------------------------------------

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no mapping": ({"memories": 3}, "give RAMs by name, the fastest first"),
    "no rams": ({"memories": {}}, "give RAMs by name"),
    "no name": ({"memories": {"": 64}}, "is no name for a RAM"),
    "a number for a name": ({"memories": {5: 64}}, "is no name for a RAM"),
    "a name of ours": ({"memories": {"constants": 64}}, "every plan can have"),
    "no size": ({"memories": {"a": "big"}}, "a has the size 'big'"),
    "a boolean": ({"memories": {"a": True}}, "a has the size True"),
    "too small a ram": ({"memories": {"a": 63}}, "a has 63 bytes; no buffer fits"),
    "no pins": ({"pin": ["a"]}, "give memories by tensor"),
    "an unknown ram": (
        {"memories": TWO, "pin": {"in:out0": "dctm"}},
        "cannot lie in 'dctm' .did you mean 'dtcm'",
    ),
    "constants": (
        {"pin": {"in:out0": "constants"}},
        "constants are placed by themselves",
    ),
    "nothing fits": (
        {"memories": TWO, "pin": {"nosuch*": "sram"}},
        r"no tensor of the plan is called 'nosuch\*'",
    ),
    "an odd offset": ({"pin": {"in:out0": ("arena", 3)}}, "multiples of 64 from 0"),
    "a negative one": ({"pin": {"in:out0": ("arena", -64)}}, "multiples of 64 from 0"),
    "too large a tensor": (
        {"memories": {"a": "64", "b": "2MiB"}, "pin": {"c0a_conv:filter": "a"}},
        r"c0a_conv:filter takes 576 B, and a has 64 B",
    ),
    "two pins": (
        {"memories": TWO, "pin": {"in:out0": "dtcm", "in:*": "sram"}},
        "want the same bytes, those of in:out0",
    ),
    "overlapping pins": (
        {"pin": {"c0a_conv:filter": ("arena", 0), "c0b_conv:filter": ("arena", 64)}},
        "c0a_conv:filter, c0b_conv:filter cannot lie where they are pinned",
    ),
    "an unknown budget": (
        {"budget": {"sarm": 64}, "memories": TWO},
        "the plan has no RAM 'sarm' .did you mean 'sram'",
    ),
    "a budget without rams": ({"budget": {"sram": 64}}, "name others with memories="),
    "a budget of constants": ({"budget": {"constants": 64}}, "constants take what"),
    "an empty budget": ({"budget": {}}, "names no memory"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused(case: str) -> None:
    request, says = BAD[case]
    model = digits()
    with pytest.raises(InvalidParameterError, match=says):
        model.initialize(**request)
    assert not model.is_initialized


def test_pinned_buffers_that_do_not_fit_together() -> None:
    with pytest.raises(BudgetError, match=r"in dtcm .* of it live at one step"):
        digits().make_plan(memories=TWO, pin={"*": "dtcm"})


def test_a_plan_says_all_so_rams_beside_it_are_refused() -> None:
    plan = digits().make_plan(memories=TWO)
    with pytest.raises(InvalidParameterError, match="exclude each other"):
        digits().initialize(plan=plan, memories=TWO)


def test_a_plan_that_lies_outside_its_rams_is_refused() -> None:
    plan = digits().make_plan(memories=TWO)
    (dtcm, sram) = plan.rams
    small = replace(plan, rams=(replace(dtcm, size_bytes=64), sram))
    with pytest.raises(ArenaError, match="dtcm has 64 bytes, and 131072 are taken"):
        MemoryPlan.from_json(small.to_json())
    with pytest.raises(InvalidParameterError, match="dtcm has 64 bytes"):
        digits().initialize(plan=small)


def test_kinds_that_last_are_in_memories_like_all_others() -> None:
    plan = digits().make_plan(memories=TWO)
    places = where(plan)
    weights = [t.name for t in plan.tensors if t.kind is TensorKind.WEIGHT]
    assert {place for name in weights for place in places[name]} <= {"dtcm", "sram"}


# -- held against an integer program ---------------------------------------------------


@pytest.mark.parametrize("share", [0.25, 0.5])
@pytest.mark.parametrize("name", ["residual", "shared", "frozen"])
def test_as_little_is_touched_in_the_slow_ram_as_can_be(
    name: str, share: float
) -> None:
    """HiGHS finds nothing better for the buffers of a plan and the bytes touched."""
    whole = NETS[name].model().make_plan().arena_bytes
    sizes = (int(share * whole) // 64 * 64, 2 * whole)
    rams = dict(zip(("fast", "slow"), sizes, strict=True))
    plan = NETS[name].model().make_plan(memories=rams)
    touched = touched_bytes(
        plan.tensors, plan.executions, n_pass=plan.n_pass, n_passes=plan.micro_batches
    )
    buffers = plan.ram_buffers
    n = len(buffers)
    case = PoolCase(
        lower=tuple(b.start for b in buffers),
        upper=tuple(b.stop for b in buffers),
        size=tuple(plan.taken_bytes(b.size_bytes) for b in buffers),
        pools=sizes,
        allowed=((0, 1),) * n,
        weights=tuple(float(sum(touched[i] for i in b.tensors)) for b in buffers),
        fixed=(None,) * n,
        alignment=(64,) * n,
    )
    assert program_spill(case) == (plan.memories["slow"].touched_bytes,)
    assert plan.memories["slow"].touched_bytes > 0
