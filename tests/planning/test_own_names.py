"""A layer of one's own names its tensors as it likes: no plan or report changes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from arena_ckpt import Model
from arena_ckpt.common.names import is_reserved, tensor_name
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.errors import LayerResultError
from arena_ckpt.layers import (
    COMMON_PROPERTIES,
    LAYER_TYPES,
    Binding,
    Call,
    Flops,
    Layer,
    LayerSpec,
    Matrix,
    Shape,
    TensorSpec,
    Vector,
    WeightSpec,
    kernel,
)
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.report.ascii_map import plan_ascii
from arena_ckpt.report.explain import explain
from arena_ckpt.report.summary import plan_summary
from arena_ckpt.report.tables import biggest_table, kind_table
from arena_ckpt.verification.dataflow import check_dataflow

Names = tuple[str, str, str]

NEUTRAL: Names = ("kept", "scratch", "weight")


@kernel
def shift(x: Matrix, weight: Vector, out: Matrix) -> None:
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] + weight[j]


@kernel
def repeat(x: Matrix, kept: Matrix) -> None:
    for i in range(x.shape[0]):
        for j in range(kept.shape[1]):
            kept[i, j] = x[i, j % x.shape[1]]


@kernel
def halves(kept: Matrix, d_out: Matrix, d_in: Matrix) -> None:
    for i in range(d_in.shape[0]):
        for j in range(d_in.shape[1]):
            d_in[i, j] = d_out[i, j] if kept[i, j] > 0 else 0.5 * d_out[i, j]


@kernel
def column_sums(d_out: Matrix, beta: float, d_weight: Vector) -> None:
    for j in range(d_weight.size):
        total = np.float32(0)
        for i in range(d_out.shape[0]):
            total += d_out[i, j]
        d_weight[j] = total if beta == 0 else d_weight[j] + total


class Named(Layer):
    """Saves a tensor, uses a workspace and trains a weight, under names of a test.

    What it saves is cheap: the forward pass makes the output and leaves it out of a
    recompute. So a plan is dear only where the saved tensor is taken for an output.
    """

    type_name = "named"
    properties = COMMON_PROPERTIES
    names: ClassVar[Names] = NEUTRAL

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        width, (kept, scratch, weight) = input_shapes[0][2], self.names
        return LayerSpec(
            input_shapes,
            weights=(
                WeightSpec(
                    weight, (width,), "ones", 1, width, TensorLifespan.FORWARD_GRAD
                ),
            ),
            tensors=(
                TensorSpec(kept, (4 * width,), TensorLifespan.FORWARD_DERIV),
                TensorSpec(scratch, (width,), TensorLifespan.FORWARD),
            ),
            forward_skips_unwanted=True,
            flops=Flops(1_000_000, 0, 0, output=999_000),
        )

    def forward(self, tensors: Binding) -> list[Call]:
        kept, scratch, weight = self.names
        x = tensors.matrix("in0")
        calls = [
            Call(repeat, (x, tensors.matrix(scratch))),
            Call(repeat, (tensors.matrix(scratch), tensors.matrix(kept))),
        ]
        if tensors.is_wanted("out0"):
            out = tensors.matrix("out0")
            calls.append(Call(shift, (x, tensors.vector(weight), out)))
        return calls

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        beta = 1.0 if tensors.accumulate else 0.0
        gradient = tensors.vector(f"{self.names[2]}:grad")
        return [Call(column_sums, (tensors.matrix("out0:grad"), beta, gradient))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        roles = (self.names[0], "out0:grad", "in0:grad")
        return [Call(halves, tuple(map(tensors.matrix, roles)))]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYER_TYPES, "named", Named)
    monkeypatch.setattr(Named, "names", NEUTRAL)


def model_of(names: Names, layer: str = "two", *, blocks: bool = True) -> Model:
    Named.names = names
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:8")
    model.add_layer("fully_connected", name="a", unit=8)
    model.add_layer("named", name=layer)
    model.add_layer("fully_connected", name="b", unit=8)
    model.add_layer("mse", name="loss")
    if blocks:
        model.add_checkpoint_block(["a", layer])
    model.set_property(batch_size=4)
    model.set_optimizer("adam")
    return model


def plans_of(names: Names) -> Iterator[MemoryPlan]:
    """Yield plans with a block, and those that are chosen."""
    yield model_of(names).make_plan()
    yield from (point.plan for point in model_of(names, blocks=False).pareto())


def renamed(value: Any, names: Names, key: str = "", layer: str = "") -> Any:
    """Return a part of a plan's JSON with neutral names for those of the layer."""
    if isinstance(value, dict):
        layer = value.get("layer") or value.get("name") or layer
        rest = {k: v for k, v in value.items() if k != "checksum"}
        return {k: renamed(v, names, k, layer) for k, v in rest.items()}
    if isinstance(value, list):
        return [renamed(item, names, key, layer) for item in value]
    if not isinstance(value, str):
        return value
    is_role = layer == "two" and key in ("role", "weights")
    prefix = "" if is_role else "two:"
    if not is_role and not value.startswith(prefix):
        return value
    own, colon, others = value.removeprefix(prefix).partition(":")
    table = dict(zip(names, NEUTRAL, strict=True))
    return f"{prefix}{table.get(own, own)}{colon}{others}"


def reports_of(plan: MemoryPlan, names: Names) -> str:
    """Return what reports say, with neutral names, whatever the widths of columns."""
    parts = [
        *explain(plan),
        json.dumps(plan_summary(plan), ensure_ascii=False),
        plan_ascii(plan),
    ]
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(kind_table(plan), biggest_table(plan, 99))
    text = "\n".join([*parts, console.export_text()])
    for own, neutral in zip(names, NEUTRAL, strict=True):
        text = re.sub(rf"\btwo:{re.escape(own)}\b", f"two:{neutral}", text)
    return re.sub(r"[ ─-]+", " ", text)


def overhead_of(names: Names) -> float:
    return model_of(names).make_plan().overhead


@pytest.mark.parametrize("saved", ["outer", "out", "output", "in2x", "outs0"])
def test_what_is_saved_is_no_output_because_of_its_name(saved: str) -> None:
    names = (saved, *NEUTRAL[1:])
    (again,) = (
        [plan.tensors[o.tensor].name for o in e.operands if o.access.writes]
        for plan in [model_of(names).make_plan()]
        for e in plan.executions
        if e.phase is Phase.RECOMPUTE and e.layer == "two"
    )

    assert again == [f"two:{saved}", "two:scratch"]
    assert overhead_of(names) == overhead_of(NEUTRAL) < 0.01


LETTERS = st.characters(categories=("Lu", "Ll", "Lo"))
STARTS = ("in", "out", "label", "weight", "grad", "total", "discarded", "_")
IDENTIFIERS = st.builds(
    str.__add__,
    st.one_of(LETTERS, st.sampled_from(STARTS)),
    st.text(st.one_of(LETTERS, st.sampled_from("_0123")), max_size=4),
).filter(lambda name: name.isidentifier() and not is_reserved(name))


@example(("outer", "out", "in2x"))
@example(("zz", "M", "a"))
@example(("grad", "total", "velocity"))
@example(("discarded", "control", "model"))
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(IDENTIFIERS, min_size=3, max_size=3, unique=True).map(tuple))
def test_no_plan_and_no_report_depends_on_a_name(names: Names) -> None:
    for own, neutral in zip(plans_of(names), plans_of(NEUTRAL), strict=True):
        ours, theirs = (json.loads(plan.to_json()) for plan in (own, neutral))

        assert renamed(ours, names) == renamed(theirs, NEUTRAL)
        assert own.overhead == neutral.overhead
        assert own.counted_costs == neutral.counted_costs
        assert reports_of(own, names) == reports_of(neutral, NEUTRAL)
        assert MemoryPlan.from_json(own.to_json()) == own


@pytest.mark.parametrize("names", [NEUTRAL, ("outer", "in2x", "out")])
def test_the_walk_over_bytes_and_the_bits_do_not_depend_on_a_name(names: Names) -> None:
    losses = []
    for blocks in (True, False):
        model = model_of(names, blocks=blocks)
        plan = model.initialize(debug=True)
        check_dataflow(plan, model.compile())
        x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(4, 8)
        losses.append([model.train_step(x, x**2) for _ in range(3)])

    assert losses[0] == losses[1]
    assert losses[0] == sorted(losses[0], reverse=True)


@pytest.mark.parametrize(
    "name", ["out0", "in12", "label", "gradient_tile", "weight:x", "a/b", "a#1", "\n"]
)
@pytest.mark.parametrize("place", range(3))
def test_a_name_that_would_be_another_tensors_is_refused(name: str, place: int) -> None:
    names = (*NEUTRAL[:place], name, *NEUTRAL[place + 1 :])
    with pytest.raises(LayerResultError, match="infer states a name as"):
        model_of(names).compile()  # type: ignore[arg-type]


def test_the_control_tensor_keeps_its_name() -> None:
    """Only in a layer named model would a tensor named control have the same name."""
    names = ("control", *NEUTRAL[1:])
    assert tensor_name("two", "control") in {
        tensor.name for tensor in model_of(names).make_plan().tensors
    }
    with pytest.raises(LayerResultError, match="'control'; expected one that no other"):
        model_of(names, "model").compile()
