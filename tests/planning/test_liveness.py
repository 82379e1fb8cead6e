"""Live ranges, recomputed lives and shared bytes, on cases to check by eye.

Each case begins with the orders (forward, recompute, calc_gradient, calc_derivative,
apply_gradient) from which its ranges follow; all ranges are half-open.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from helpers.small_plans import (
    DATA,
    LOSS,
    act,
    add,
    build,
    fc,
    lives,
    plan_of,
    sharers,
    steps,
)
from hypothesis import given, note, settings
from hypothesis import strategies as st

from arena_ckpt import MemoryPlan, Model, Phase
from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import BOOLEAN, Property
from arena_ckpt.graph.build import Graph, build_graph
from arena_ckpt.layers import (
    COMMON_PROPERTIES,
    Layer,
    LayerSpec,
    Shape,
    TensorSpec,
    WeightSpec,
)
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.planner import make_plan
from arena_ckpt.planning.recompute import Rerun
from arena_ckpt.planning.tensors import Access, Execution, TensorKind

# -- activations -------------------------------------------------------------------


def test_an_activation_lives_from_its_forward_to_its_last_reader() -> None:
    # loss (4,0,5,6,7)  b (3,0,8,9,10)  act (2,0,11,12,13)  a (1,0,14,15,16)
    plan = plan_of(DATA, fc("a"), act("act", "gelu"), fc("b"), LOSS)

    assert lives(plan, "in:out0") == [(0, 15)]  # read for the gradient of a at 14
    assert lives(plan, "a:out0") == [(1, 13)]  # gelu's backward reads its input at 12
    assert lives(plan, "act:out0") == [(2, 9)]  # read for the gradient of b at 8
    assert lives(plan, "b:out0") == [(3, 5)]
    assert lives(plan, "loss:out0") == [(4, 7)]
    assert lives(plan, "loss:label") == [(0, 7)]


def test_what_relu_saves_is_its_output() -> None:
    plan = plan_of(DATA, fc("a"), act("act", "relu"), fc("b"), LOSS)

    assert lives(plan, "a:out0") == [(1, 3)]
    assert lives(plan, "act:out0") == [(2, 13)]
    assert sharers(plan, "act:out0") == {"a:out0", "act:out0"}


def test_derivatives_live_from_the_first_reader_to_the_owner() -> None:
    plan = plan_of(DATA, fc("a"), act("act", "gelu"), fc("b"), LOSS)

    assert lives(plan, "b:out0:grad") == [(6, 10)]
    assert lives(plan, "act:out0:grad") == [(9, 13)]
    assert lives(plan, "a:out0:grad") == [(12, 15)]
    assert lives(plan, "in:out0:grad") == []  # nobody wants it
    assert steps(plan, Phase.CALC_DERIVATIVE) == [(6, "loss"), (9, "b"), (12, "act")]


def test_nothing_flows_back_beyond_the_first_trained_layer() -> None:
    # loss (3,0,4,5,6)  b (2,0,7,8,9)  a (1,0,10,10,10)
    plan = plan_of(DATA, fc("a", trainable=False), fc("b"), LOSS)

    assert lives(plan, "in:out0") == [(0, 2)]
    assert lives(plan, "a:out0") == [(1, 8)]
    assert lives(plan, "a:out0:grad") == []
    assert lives(plan, "a:weight:grad") == []
    assert steps(plan, Phase.CALC_DERIVATIVE) == [(5, "loss")]


def test_a_frozen_layer_hands_derivatives_on_and_needs_no_input() -> None:
    # loss (3,0,4,5,6)  b (2,0,7,7,7)  a (1,0,8,9,10)
    plan = plan_of(DATA, fc("a"), fc("b", trainable=False), LOSS)

    assert lives(plan, "a:out0") == [(1, 3)]
    assert lives(plan, "b:out0:grad") == [(5, 8)]
    assert lives(plan, "a:out0:grad") == [(7, 9)]


# -- recomputed lives --------------------------------------------------------------

# in, fc1, act1, fc2, loss; loss (4,0,5,6,7)
SHORT = (DATA, fc("fc1"), act("act1", "gelu"), fc("fc2"), LOSS)


def test_a_recomputed_tensor_has_two_lives() -> None:
    # fc2 (3,10,11,12,13)  act1 (2,9,14,15,16)  fc1 (1,8,17,18,19)
    plan = plan_of(*SHORT, blocks=[["fc1", "act1", "fc2"]])

    assert lives(plan, "fc1:out0") == [(1, 3), (8, 16)]
    assert lives(plan, "act1:out0") == [(2, 4), (9, 12)]
    assert lives(plan, "fc2:out0") == [(3, 5)]  # the output of the block
    assert lives(plan, "in:out0") == [(0, 18)]  # its input is preserved
    assert steps(plan, Phase.RECOMPUTE) == [(8, "fc1"), (9, "act1")]
    kinds = [t.kind for t in plan.tensors if t.name == "fc1:out0"]
    assert kinds == [TensorKind.ACTIVATION, TensorKind.RECOMPUTED]


def test_each_reader_is_given_the_current_life() -> None:
    plan = plan_of(*SHORT, blocks=[["fc1", "act1", "fc2"]])
    read = {
        (e.phase, e.layer): plan.tensors[operand.tensor].life
        for e in plan.executions
        if (operand := e.operand("in0")) and e.layer in ("act1", "fc2")
    }

    assert read == {
        (Phase.FORWARD, "act1"): 0,
        (Phase.FORWARD, "fc2"): 0,
        (Phase.RECOMPUTE, "act1"): 1,
        (Phase.CALC_GRADIENT, "fc2"): 1,
        (Phase.CALC_DERIVATIVE, "act1"): 1,
    }


def test_the_two_lives_are_two_buffers() -> None:
    plan = plan_of(*SHORT, blocks=[["fc1", "act1", "fc2"]])

    assert "fc1:out0#1" not in sharers(plan, "fc1:out0")
    assert "act1:out0#1" not in sharers(plan, "act1:out0")


def test_gelu_is_in_place_in_the_forward_and_not_in_the_recompute() -> None:
    plan = plan_of(*SHORT, blocks=[["fc1", "act1", "fc2"]])

    assert sharers(plan, "act1:out0") == {"fc1:out0", "act1:out0"}
    assert sharers(plan, "act1:out0", 1) == {"act1:out0#1"}
    assert sharers(plan, "fc1:out0", 1) == {"fc1:out0#1"}  # backward reads it


def test_without_a_block_gelu_is_not_in_place() -> None:
    assert sharers(plan_of(*SHORT), "act1:out0") == {"act1:out0"}


# in, fc1, act1, fc2, act2, fc3, loss with a block of four: loss (6,0,7,8,9)
# fc3 (5,0,10,11,12)  act2 (4,16,17,18,19)  fc2 (3,15,20,21,22)
# act1 (2,14,23,24,25)  fc1 (1,13,26,27,28)
DEEP = ("fc1", "act1", "fc2", "act2")


def deep(function: str) -> MemoryPlan:
    return plan_of(
        DATA,
        fc("fc1"),
        act("act1", function),
        fc("fc2"),
        act("act2", function),
        fc("fc3"),
        LOSS,
        blocks=[DEEP],
    )


def test_only_what_backward_reads_is_recomputed() -> None:
    plan = deep("relu")

    # act2 is the preserved output; relu reads its output, so fc2's is not needed again
    assert steps(plan, Phase.RECOMPUTE) == [(13, "fc1"), (14, "act1")]
    assert lives(plan, "fc2:out0") == [(3, 5)]
    assert lives(plan, "act2:out0") == [(4, 19)]
    assert lives(plan, "fc1:out0") == [(1, 3), (13, 15)]
    assert lives(plan, "act1:out0") == [(2, 4), (14, 25)]
    assert sharers(plan, "act1:out0", 1) == {"fc1:out0#1", "act1:out0#1"}


def test_gelu_needs_its_input_again() -> None:
    plan = deep("gelu")

    assert steps(plan, Phase.RECOMPUTE) == [(13, "fc1"), (14, "act1"), (15, "fc2")]
    assert lives(plan, "fc2:out0") == [(3, 5), (15, 19)]
    assert lives(plan, "act2:out0") == [(4, 11)]


def test_a_block_of_which_backward_reads_nothing_recomputes_nothing() -> None:
    # the output of fc1 is not read by relu's backward, and relu's is preserved
    plan = plan_of(
        DATA, fc("fc1"), act("act1", "relu"), fc("fc2"), LOSS, blocks=[["fc1", "act1"]]
    )

    assert steps(plan, Phase.RECOMPUTE) == []
    assert {t.life for t in plan.tensors} == {0}


def test_a_tensor_read_outside_its_block_is_preserved() -> None:
    plan = plan_of(
        DATA,
        fc("fc1"),
        act("act1", "gelu"),
        fc("fc2"),
        fc("fc3"),
        add("sum", "fc3", "act1"),
        LOSS,
        blocks=[["fc1", "act1", "fc2"]],
    )

    assert len(lives(plan, "act1:out0")) == 1
    assert len(lives(plan, "fc1:out0")) == 2
    assert [layer for _, layer in steps(plan, Phase.RECOMPUTE)] == ["fc1"]


def test_samples_are_never_dropped() -> None:
    # nothing in the arena could make them again
    plan = plan_of(*SHORT, blocks=[["in", "fc1", "act1", "fc2"]])

    assert [layer for _, layer in steps(plan, Phase.RECOMPUTE)] == ["fc1", "act1"]
    assert len(lives(plan, "in:out0")) == 1


def test_all_samples_and_labels_are_there_from_the_start() -> None:
    other = ("input", {"name": "other", "input_shape": "1:1:4"})
    plan = plan_of(
        DATA, fc("a", "in"), other, fc("b", "other"), add("sum", "a", "b"), LOSS
    )
    order = plan.execution_order
    assert order["other"].forward == 2
    assert lives(plan, "other:out0") == [(0, order["b"].calc_gradient + 1)]
    assert lives(plan, "loss:label") == [(0, order["loss"].calc_derivative + 1)]


def test_a_loss_at_the_end_of_a_block_is_not_run_again() -> None:
    """Its output is nobody's input, and yet it is the prediction."""
    plan = plan_of(
        *(DATA, fc("fc1"), act("act1", "gelu"), fc("fc2"), LOSS),
        blocks=[["fc1", "act1", "fc2", "loss"]],
    )
    assert [layer for _, layer in steps(plan, Phase.RECOMPUTE)] == ["fc1", "act1"]
    assert len(lives(plan, "loss:out0")) == 1


def test_small_statistics_stay_with_the_output_of_their_layer() -> None:
    """Two numbers a row are less than the four of the output."""
    norm = ("layer_normalization", {"name": "norm", "axis": 3})
    plan = plan_of(DATA, fc("a"), norm, fc("b"), LOSS, blocks=[["a", "norm"]])
    assert [layer for _, layer in steps(plan, Phase.RECOMPUTE)] == ["a"]
    assert len(lives(plan, "norm:mean")) == 1


def test_what_is_saved_is_dropped_where_it_is_larger_than_the_output() -> None:
    """The gates of all steps are more than the state of the last."""
    rows = ("input", {"name": "in", "input_shape": "1:3:4"})
    lstm = ("lstm", {"name": "lstm", "unit": 4})
    plan = plan_of(rows, fc("a"), lstm, fc("b"), LOSS, blocks=[["a", "lstm"]])
    assert [layer for _, layer in steps(plan, Phase.RECOMPUTE)] == ["a", "lstm"]
    saved = [t for t in plan.tensors if t.layer == "lstm" and t.life]
    assert saved
    assert len(lives(plan, "lstm:out0")) == 1


def test_what_is_saved_once_for_the_batch_stays() -> None:
    norm = ("batch_normalization", {"name": "bn"})
    plan = plan_of(DATA, fc("a"), norm, fc("b"), LOSS, blocks=[["a", "bn", "b"]])
    assert len(lives(plan, "bn:mean")) == 1
    (again,) = [
        e for e in plan.executions if (e.phase, e.layer) == (Phase.RECOMPUTE, "bn")
    ]
    written = {o.role for o in again.operands if o.access is Access.WRITE}
    assert {"mean", "inv_std_dev", "out0"} <= written
    for role in ("mean", "inv_std_dev"):  # made again beside what is kept
        operand = again.operand(role)
        assert operand is not None
        name = plan.tensors[operand.tensor].name
        assert name == f"bn:{role}:discarded"


def test_what_a_frozen_layer_would_read_for_its_gradient_is_not_made_again() -> None:
    plan = plan_of(
        DATA,
        fc("a"),
        add("sum", "a", "in"),
        fc("frozen", trainable=False),
        fc("b"),
        LOSS,
        blocks=[["a", "sum", "frozen"]],
    )
    assert steps(plan, Phase.RECOMPUTE) == []
    trained = plan_of(
        DATA,
        fc("a"),
        add("sum", "a", "in"),
        fc("trained"),
        fc("b"),
        LOSS,
        blocks=[["a", "sum", "trained"]],
    )
    assert [layer for _, layer in steps(trained, Phase.RECOMPUTE)] == ["a", "sum"]


def test_a_result_that_nobody_wants_again_has_the_type_of_the_one_that_stays() -> None:
    pool = ("pooling2d", {"name": "pool", "pooling": "max", "pool_size": (1, 2)})
    model = build(DATA, fc("a"), pool, fc("b"), LOSS)
    reruns = (Rerun("b", "pool", ("pool:out0",)),)
    plan = make_plan(model.compile(), ModelPlans(model).settings(), reruns)
    found = {t.name: t for t in plan.tensors if t.layer == "pool"}
    (saved,) = [
        t for name, t in found.items() if t.dtype == "int32" and ":d" not in name
    ]
    discarded = found[f"{saved.name}:discarded"]
    assert (discarded.dtype, discarded.shape) == ("int32", saved.shape)
    assert discarded.kind is TensorKind.WORKSPACE


# -- several readers ---------------------------------------------------------------


def test_the_first_reader_writes_the_derivative_and_the_others_add() -> None:
    # loss (6,0,7,8,9)  sum (5,0,10,11,12)  c (4,0,13,14,15)  b (3,0,16,17,18)
    # a/generated_out_0 (2,0,19,20,21)  a (1,0,22,23,24)
    plan = plan_of(DATA, fc("a"), fc("b"), fc("c", "a"), add("sum", "b", "c"), LOSS)

    assert lives(plan, "a:out0:grad") == [(14, 23)]  # until the gradient of a at 22
    assert lives(plan, "b:in0:grad") == [(17, 18)]  # b's part, at once added
    assert lives(plan, "c:in0:grad") == []
    assert lives(plan, "a:out0") == [(1, 17)]  # read for the gradient of b at 16
    accesses = [
        (e.step, o.role, o.access)
        for e in plan.executions
        for o in e.operands
        if plan.tensors[o.tensor].name == "a:out0:grad"
    ]
    assert accesses == [
        (14, "in0:grad", Access.WRITE),
        (17, "in0:grad:total", Access.UPDATE),
        (22, "out0:grad", Access.READ),
    ]
    assert sharers(plan, "a:out0:grad") == {"a:out0:grad"}


def test_the_derivatives_of_a_sum_are_views_while_nobody_adds_to_them() -> None:
    plan = plan_of(DATA, fc("a"), fc("b"), fc("c", "a"), add("sum", "b", "c"), LOSS)

    views = {"sum:out0:grad", "b:out0:grad", "c:out0:grad"}
    assert views <= sharers(plan, "sum:out0:grad")


def test_a_residual_connection_gets_bytes_of_its_own_to_add_to() -> None:
    # loss (5,0,6,7,8)  sum (4,0,9,10,11)  b (3,0,12,13,14)
    # a/generated_out_0 (2,0,15,16,17)  a (1,0,18,19,20)
    plan = plan_of(DATA, fc("a"), fc("b"), add("sum", "b", "a"), LOSS)

    assert lives(plan, "a:out0:grad") == [(10, 19)]
    assert lives(plan, "b:out0:grad") == [(10, 14)]
    # b adds to a's at 13, while b's own is read until then: they must not be one
    assert "a:out0:grad" not in sharers(plan, "b:out0:grad")


@pytest.mark.parametrize("inputs", ["abc", "bac", "bca", "cab"])
def test_a_derivative_that_is_added_to_is_nobodys_view(inputs: str) -> None:
    # c adds to the derivative of a while that of b, written by the sum, is unread
    plan = plan_of(DATA, fc("a"), fc("b"), fc("c", "a"), add("sum", *inputs), LOSS)

    shared = sharers(plan, "a:out0:grad")
    assert not shared & {"b:out0:grad", "c:out0:grad"}


# -- additions ---------------------------------------------------------------------


def test_a_sum_takes_the_bytes_of_a_dying_input() -> None:
    plan = plan_of(DATA, fc("a"), fc("b", "in"), add("sum", "a", "b"), LOSS)

    assert "a:out0" in sharers(plan, "sum:out0")
    assert "b:out0" not in sharers(plan, "sum:out0")


def test_a_sum_of_a_tensor_with_itself_is_not_in_place() -> None:
    # loss (4,0,5,6,7)  sum (3,0,8,9,10)  a/generated_out_0 (2,0,11,12,13)
    # a (1,0,14,15,16)
    plan = plan_of(DATA, fc("a"), add("sum", "a", "a"), LOSS)

    assert "a:out0" not in sharers(plan, "sum:out0")
    assert lives(plan, "a:out0:grad") == [(9, 15)]
    assert lives(plan, "sum:in1:grad") == [(9, 10)]
    assert sharers(plan, "a:out0:grad") == {"a:out0:grad"}  # its second part is added


@pytest.mark.parametrize(
    ("inputs", "taken"),
    [
        ("aba", "b"),  # a is added again after the first sum is written
        ("baa", "b"),
        ("aab", None),  # only the first two can be overwritten
        ("abb", "a"),
    ],
)
def test_a_sum_is_never_over_an_input_that_comes_again(
    inputs: str, taken: str | None
) -> None:
    plan = plan_of(DATA, fc("a"), fc("b", "in"), add("sum", *inputs), LOSS)

    overwritten = {"a:out0", "b:out0"} & sharers(plan, "sum:out0")
    assert overwritten == ({f"{taken}:out0"} if taken else set())


# -- weights and gradients ---------------------------------------------------------

# loss (3,0,4,5,6)  b (2,0,7,8,9)  a (1,0,10,11,12)  in (0,0,13,14,15)
TWO = (DATA, fc("a"), fc("b"), LOSS)


def test_weights_and_states_live_through_the_iteration() -> None:
    model = build(*TWO)
    model.set_optimizer("adam")
    plan = model.make_plan()

    for name in ("a:weight", "b:bias", "a:weight:first_moment", "b:bias:second_moment"):
        assert lives(plan, name) == [(0, 16)]
        assert sharers(plan, name) == {name}


def test_a_frozen_layer_has_no_states() -> None:
    model = build(DATA, fc("a", trainable=False), fc("b"), LOSS)
    model.set_optimizer("sgd", momentum=0.9)
    plan = model.make_plan()

    assert lives(plan, "a:weight:velocity") == []
    assert len(lives(plan, "b:weight:velocity")) == 1


def test_running_statistics_have_no_states() -> None:
    model = build(DATA, fc("a"), ("batch_normalization", {"name": "bn"}), LOSS)
    model.set_optimizer("sgd", momentum=0.9)
    names = {t.name for t in model.make_plan().tensors}
    assert {"bn:moving_mean", "bn:gamma:velocity", "bn:beta:velocity"} <= names
    assert not {"bn:moving_mean:velocity", "bn:moving_variance:velocity"} & names
    assert "bn:moving_mean:grad" not in names


def test_a_gradient_lives_until_its_update() -> None:
    plan = plan_of(*TWO)

    assert lives(plan, "b:weight:grad") == lives(plan, "b:bias:grad") == [(7, 10)]
    assert lives(plan, "a:weight:grad") == lives(plan, "a:bias:grad") == [(10, 13)]
    assert plan.micro_batches == 1


def test_with_clipping_all_gradients_live_until_the_end() -> None:
    # the norm at 16, then the updates of b at 17 and a at 18
    plan = plan_of(*TWO, clip_grad_by_norm=1.0)

    assert lives(plan, "b:weight:grad") == [(7, 18)]
    assert lives(plan, "a:weight:grad") == [(10, 19)]
    (clip,) = [e for e in plan.executions if e.phase is Phase.CLIP_GRADIENTS]
    assert [plan.tensors[o.tensor].name for o in clip.operands] == [
        "a:weight:grad",
        "a:bias:grad",
        "b:weight:grad",
        "b:bias:grad",
    ]


def test_with_micro_batches_gradients_live_from_the_beginning() -> None:
    # the updates of b at 16 and a at 17
    plan = plan_of(*TWO, batch_size=5, micro_batches=2)

    assert lives(plan, "b:weight:grad") == [(0, 17)]
    assert lives(plan, "a:weight:grad") == [(0, 18)]
    (activation,) = [t for t in plan.tensors if t.name == "a:out0"]
    assert activation.shape == (3, 1, 1, 4)  # the larger half of the batch
    assert (activation.start, activation.stop) == (1, 8)


def test_with_micro_batches_and_clipping_the_norm_comes_first() -> None:
    plan = plan_of(*TWO, batch_size=4, micro_batches=2, clip_grad_by_norm=1.0)

    assert lives(plan, "b:weight:grad") == [(0, 18)]
    assert lives(plan, "a:weight:grad") == [(0, 19)]


def test_without_memory_reuse_every_tensor_has_a_buffer_for_good() -> None:
    plan = plan_of(*SHORT, blocks=[["fc1", "act1"]], memory_optimization=False)

    assert len(plan.buffers) == len(plan.tensors)
    assert {(b.start, b.stop) for b in plan.buffers} == {(0, len(plan.steps))}
    assert plan.arena_bytes == plan.naive_bytes
    assert lives(plan, "fc1:out0") == [(1, 3), (11, 15)]  # the tensors live as ever


def test_results_overwrite_operands_only_where_the_plan_may_do_so() -> None:
    model = build(DATA, fc("fc1"), act("act1", "relu"), fc("fc2"), LOSS)
    asked = ModelPlans(model).settings()
    assert max(len(b.tensors) for b in make_plan(model.compile(), asked).buffers) > 1
    plan = make_plan(model.compile(), replace(asked, ways=asked.ways - {"in_place"}))
    assert {len(buffer.tensors) for buffer in plan.buffers} == {1}
    assert plan.arena_bytes < plan.naive_bytes  # bytes are used again all the same


# -- from one backward step to the next ----------------------------------------------


def test_what_a_gradient_hands_to_the_derivative_has_one_life() -> None:
    """batch_normalization makes its sums with the gradient and reads them again."""
    norm = ("batch_normalization", {"name": "bn"})
    for micro_batches in (1, 2):
        plan = plan_of(
            *(DATA, fc("fc"), norm, LOSS), batch_size=4, micro_batches=micro_batches
        )
        order = plan.execution_order["bn"]
        assert lives(plan, "bn:sums") == [
            (order.calc_gradient, order.calc_derivative + 1)
        ]
        access = {
            e.phase: operand.access
            for e in plan.executions
            if e.layer == "bn" and (operand := e.operand("sums"))
        }
        assert access == {
            Phase.CALC_GRADIENT: Access.WRITE,
            Phase.CALC_DERIVATIVE: Access.READ,
        }


class Handing(Layer):
    """Makes something for its derivative in the step of the gradient, if it has one."""

    type_name = "handing"
    properties = (*COMMON_PROPERTIES, Property("trainable", BOOLEAN, True, "trains"))

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        backward = TensorLifespan.CALC_GRAD_DERIV
        forward = TensorLifespan.FORWARD
        return LayerSpec(
            output_shapes=input_shapes,
            weights=(WeightSpec("weight", (4,), "ones", 4, 4, forward),),
            tensors=(
                TensorSpec("sums", (4,), backward, per_sample=False, dtype="float64"),
            ),
        )


def test_a_frozen_layer_makes_in_its_derivative_what_no_gradient_made() -> None:
    for trainable, phases in (
        (True, {Phase.CALC_GRADIENT: Access.WRITE, Phase.CALC_DERIVATIVE: Access.READ}),
        (False, {Phase.CALC_DERIVATIVE: Access.WRITE}),
    ):
        model = build(DATA, fc("fc"))
        model.add_layer(Handing({"name": "own", "trainable": trainable}))
        model.add_layer("mse", name="loss")
        plan = model.make_plan()
        found = {
            e.phase: operand.access
            for e in plan.executions
            if e.layer == "own" and (operand := e.operand("sums"))
        }
        assert found == phases
        (sums,) = [t for t in plan.tensors if t.name == "own:sums"]
        assert (sums.dtype, sums.size_bytes) == ("float64", 32)


# -- any graph: nobody reads bytes that another has written over -------------------

FUNCTIONS = ("relu", "gelu", "sigmoid", "softmax", "none")


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Random graphs of one width, with blocks, micro-batches, clipping and states."""
    model = Model()
    names = ["in"]
    model.add_layer("input", name="in", input_shape="1:1:4")
    unread = {"in"}

    def put(type_name: str, sources: Sequence[str], **values: Any) -> None:
        name = f"l{len(names)}"
        model.add_layer(type_name, name=name, input_layers=sources, **values)
        unread.difference_update(sources)
        names.append(name)
        unread.add(name)

    for _ in range(draw(st.integers(1, 8))):
        kind = draw(
            st.sampled_from(["fully_connected", "activation", "addition", "flatten"])
        )
        source = draw(st.sampled_from(names))
        if kind == "fully_connected":
            trainable = draw(st.booleans()) or draw(st.booleans())
            put(kind, [source], unit=4, trainable=trainable)
        elif kind == "activation":
            put(kind, [source], activation=draw(st.sampled_from(FUNCTIONS)))
        elif kind == "addition":
            more = draw(st.lists(st.sampled_from(names), max_size=3))
            put(kind, [source, *more])
        else:
            put(kind, [source])
    put("addition", [name for name in names if name in unread])
    put("fully_connected", [names[-1]], unit=4)
    model.add_layer(
        draw(st.sampled_from(["mse", "cross_softmax"])),
        name="loss",
        input_layers=[names[-1]],
    )
    cuts = draw(st.lists(st.integers(0, len(names)), max_size=4, unique=True))
    cuts.sort()
    order = [name for name in model.make_plan().execution_order if name != "loss"]
    for start, stop in itertools.pairwise(cuts):
        if stop - start >= 2:
            model.add_checkpoint_block(order[start:stop])
    model.set_property(batch_size=4, micro_batches=draw(st.sampled_from([1, 2])))
    if draw(st.booleans()):
        model.set_property(clip_grad_by_norm=1.0)
    if draw(st.booleans()):
        model.set_optimizer("sgd", momentum=0.9)
    return model


class Bytes:
    """Which tensors' values stand in the arena, as executions write over each other."""

    def __init__(self, plan: MemoryPlan, graph: Graph) -> None:
        self.plan, self.graph = plan, graph
        self.buffer_of = {t: i for i, b in enumerate(plan.buffers) for t in b.tensors}
        self.overlaps = [
            [
                j
                for j, other in enumerate(plan.buffers)
                if b.memory == other.memory
                and b.offset_bytes < other.offset_bytes + other.size_bytes
                and other.offset_bytes < b.offset_bytes + b.size_bytes
            ]
            for b in plan.buffers
        ]
        self.valid: list[set[int]] = [set() for _ in plan.buffers]
        for index, tensor in enumerate(plan.tensors):
            if tensor.kind in (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE):
                self.valid[self.buffer_of[index]].add(index)

    def load(self) -> None:
        """Write the samples, as before each pass."""
        for index, tensor in enumerate(self.plan.tensors):
            if tensor.kind is TensorKind.DATA:
                self.write(index)

    def holds(self, tensor: int) -> bool:
        return tensor in self.valid[self.buffer_of[tensor]]

    def write(self, tensor: int, *, keep: bool = False) -> None:
        buffer = self.buffer_of[tensor]
        kept = self.valid[buffer] if keep else set()
        for other in self.overlaps[buffer]:
            self.valid[other] = set()
        self.valid[buffer] = kept | {tensor}

    def run(self, execution: Execution) -> None:
        where = f"step {execution.step}, {execution.phase.value} of {execution.layer}"
        reads = [o for o in execution.operands if o.access is Access.READ]
        for operand in reads:
            name = self.plan.tensors[operand.tensor].name
            assert self.holds(operand.tensor), f"{where}: {name} is stale"
        if execution.phase is Phase.CLIP_GRADIENTS:
            return
        if not self.graph.node(execution.layer).inputs:
            assert execution.phase is Phase.FORWARD, f"{where}: nothing makes samples"
            assert self.holds(execution.operands[0].tensor), f"{where}: not loaded"
            return
        phase = execution.phase
        if phase is Phase.RECOMPUTE:
            phase = Phase.FORWARD
        offers = {
            offer.result: offer
            for offer in self.graph.node(execution.layer).spec.in_place
            if offer.phase is phase
        }
        for operand in execution.operands:
            if operand.access is Access.READ:
                continue
            tensor = operand.tensor
            if operand.access is Access.UPDATE:
                is_first = phase is Phase.CALC_GRADIENT
                assert is_first or self.holds(tensor), f"{where}: {operand.role}"
                self.write(tensor)
                continue
            buffer = self.buffer_of[tensor]
            under = [o for o in reads if self.buffer_of[o.tensor] == buffer]
            offer = offers.get(operand.role)
            is_view = bool(offer and offer.is_view and under)
            if under and not is_view:
                assert offer is not None, f"{where}: {operand.role} was not offered"
                assert len(under) == 1, f"{where}: {under} under {operand.role}"
                assert under[0].role in offer.operands
            self.write(tensor, keep=is_view)


@settings(max_examples=150, deadline=None)
@given(models())
def test_nobody_reads_bytes_that_another_has_written_over(model: Model) -> None:
    note(f"{[dict(layer.given) for layer in model.layers]}")
    note(f"{model.blocks} {model.properties} {model.optimizer}")
    plan = model.make_plan()
    arena = Bytes(plan, build_graph(model.layers, model.blocks))

    for _ in range(plan.micro_batches):
        arena.load()
        for execution in plan.executions:
            if execution.step < plan.n_pass:
                arena.run(execution)
    for execution in plan.executions:
        if execution.step >= plan.n_pass:
            arena.run(execution)

    for index, tensor in enumerate(plan.tensors):  # the next iteration finds them
        if tensor.kind in (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE):
            assert arena.holds(index)


def test_the_check_above_sees_a_stale_read() -> None:
    model = build(*SHORT)
    plan = model.make_plan()
    arena = Bytes(plan, build_graph(model.layers, model.blocks))
    place = {t.name: i for i, t in enumerate(plan.tensors)}
    arena.load()
    for execution in plan.executions[:3]:
        arena.run(execution)  # in, fc1, act1; then something tramples on fc1's output
    arena.buffer_of[place["loss:out0"]] = arena.buffer_of[place["fc1:out0"]]
    arena.write(place["loss:out0"])

    def run_on() -> None:
        for execution in plan.executions[3:]:
            arena.run(execution)

    with pytest.raises(AssertionError, match="calc_derivative of act1: fc1:out0 is st"):
        run_on()


def test_only_one_derivative_of_a_difference_takes_the_place_of_the_outputs() -> None:
    difference = ("subtract", {"name": "d", "input_layers": "a,b"})
    for values in ({}, {"trainable": False}):
        first = fc("a")
        first[1].update(values)
        plan = plan_of(DATA, first, fc("b", "in"), difference, LOSS)
        taken = sharers(plan, "d:out0:grad") & {"a:out0:grad", "b:out0:grad"}
        assert taken == {"b:out0:grad" if values else "a:out0:grad"}
