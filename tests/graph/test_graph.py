"""From layers to a graph: order, realized layers, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_ckpt import Model, create_layer, load_ini
from arena_ckpt.errors import (
    CycleError,
    DanglingOutputError,
    DuplicateNameError,
    GraphError,
    InvalidParameterError,
    LossError,
    ShapeMismatchError,
    UnknownLayerError,
)
from arena_ckpt.graph.build import Graph, build_graph
from arena_ckpt.graph.connections import Output, order_layers
from arena_ckpt.layers.base import Layer

Spec = tuple[str, dict[str, Any]]


def layers(*specs: Spec) -> list[Layer]:
    return [create_layer(type_name, **values) for type_name, values in specs]


def graph(*specs: Spec) -> Graph:
    return build_graph(layers(*specs), ())


def refused(error: type[InvalidParameterError], *specs: Spec) -> Any:
    """Build what must be refused with exactly `error`, and return the error."""
    with pytest.raises(InvalidParameterError) as caught:
        graph(*specs)
    assert type(caught.value) is error, caught.value
    return caught.value


def data(name: str = "in", shape: str = "1:1:4") -> Spec:
    return "input", {"name": name, "input_shape": shape}


def fc(name: str, unit: int = 4, **values: Any) -> Spec:
    return "fully_connected", {"name": name, "unit": unit, **values}


def loss(name: str = "loss", **values: Any) -> Spec:
    return "mse", {"name": name, **values}


def names(built: Graph) -> list[str]:
    return [node.name for node in built.nodes]


# -- what is refused ---------------------------------------------------------------


def test_no_layers() -> None:
    error = refused(GraphError)
    assert "no layers" in str(error)
    assert "add_layer" in str(error)


def test_a_model_without_layers_says_so() -> None:
    with pytest.raises(GraphError, match="no layers"):
        Model().compile()


def test_an_unknown_input() -> None:
    error = refused(UnknownLayerError, data(), fc("fc1", input_layers="inn"), loss())
    assert "'fc1' reads 'inn'" in str(error)
    assert "did you mean 'in'?" in str(error)
    assert (error.layer, error.unknown) == ("fc1", "inn")


def test_a_circle() -> None:
    error = refused(
        CycleError,
        data(),
        ("addition", {"name": "sum", "input_layers": "in,b"}),
        fc("a", input_layers="sum"),
        fc("b", input_layers="a"),
        loss(input_layers="b"),
    )
    assert set(error.cycle) == {"sum", "a", "b"}
    for name in error.cycle:
        assert name in str(error)


def test_a_layer_that_reads_itself() -> None:
    error = refused(CycleError, data(), fc("a", input_layers="a"), loss())
    assert error.cycle == ("a",)
    assert "a -> a" in str(error)


def test_no_loss() -> None:
    error = refused(LossError, data(), fc("fc1"))
    assert "0 loss layers" in str(error)
    assert error.losses == ()


def test_two_losses() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("fully_connected", name="fc1", unit=2)
    model.add_layer("mse", name="first")
    model.add_layer("mse", name="second", input_layers="fc1")
    graph = model.compile()
    assert [node.name for node in graph.losses] == ["first", "second"]
    assert graph.predictions == ("first:out0", "second:out0")


def test_a_loss_that_is_read() -> None:
    error = refused(LossError, data(), fc("fc1"), loss(), fc("fc2"))
    assert "'loss' is read by 'fc2'" in str(error)
    assert "last layer" in str(error)
    assert error.losses == ("loss",)


def test_outputs_that_nobody_reads() -> None:
    error = refused(
        DanglingOutputError,
        data(),
        data("spare"),
        fc("side", input_layers="in"),
        fc("main", input_layers="in"),
        loss(),
    )
    assert "'spare', 'side'" in str(error)
    assert error.layers == ("spare", "side")


def test_one_output_of_several_that_nobody_reads() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("split", name="parts", axis=3, split_number=2)
    model.add_layer("fully_connected", name="fc", unit=2, input_layers="parts(1)")
    model.add_layer("mse", name="loss")
    with pytest.raises(DanglingOutputError, match="reads output 0 of 'parts'"):
        model.compile()


@pytest.mark.parametrize("trainable", [True, False])
def test_no_derivative_goes_through_ids(trainable: bool) -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="maker", unit=3, trainable=trainable)
    model.add_layer("embedding", name="table", in_dim=5, out_dim=2)
    model.add_layer("mse", name="loss")
    if trainable:
        with pytest.raises(GraphError, match="'maker' cannot train"):
            model.compile()
        return
    node = model.compile().node("table")
    assert (node.derived_inputs, node.trains) == ((), True)


def test_shapes_that_do_not_add() -> None:
    error = refused(
        ShapeMismatchError,
        data(),
        fc("a", 4),
        fc("b", 5, input_layers="in"),
        ("addition", {"name": "sum", "input_layers": "a,b"}),
        loss(),
    )
    assert "'sum'" in str(error)
    assert "a 1:1:4, b 1:1:5" in str(error)
    assert error.layer == "sum"
    assert error.shapes == ((1, 1, 4), (1, 1, 5))


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (("input", {"name": "x"}), "input_shape"),
        (("fully_connected", {"name": "x", "input_shape": "1:1:4"}), "unit"),
    ],
)
def test_a_layer_that_lacks_its_size(spec: Spec, wanted: str) -> None:
    error = refused(ShapeMismatchError, spec, loss(input_layers="x"))
    assert "'x'" in str(error)
    assert wanted in str(error)
    assert error.layer == "x"


def test_one_name_twice() -> None:
    error = refused(DuplicateNameError, data(), fc("same"), fc("same"), loss())
    assert "'same'" in str(error)
    assert error.name == "same"


def test_a_name_that_a_realized_activation_takes() -> None:
    error = refused(
        DuplicateNameError,
        data(),
        fc("a", activation="relu"),
        fc("a/activation_realized"),
        loss(),
    )
    assert error.name == "a/activation_realized"


def test_a_model_refuses_a_name_at_once() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    with pytest.raises(DuplicateNameError, match="'in'") as caught:
        model.add_layer("fully_connected", name="in", unit=3)
    assert caught.value.name == "in"
    assert [layer.name for layer in model.layers] == ["in"]


@pytest.mark.parametrize("name", ["in(1)", "in(0)", "a b(12)", "(3)", " in(1) "])
def test_a_name_that_means_an_output_is_refused(name: str, tmp_path: Path) -> None:
    ini = tmp_path / "model.ini"
    ini.write_text(
        "[Model]\ntype = NeuralNetwork\n[in]\ntype = input\ninput_shape = 1:1:4\n"
        f"[{name}]\ntype = fully_connected\nunit = 2\n[loss]\ntype = mse\n"
    )
    for make in (
        lambda: create_layer("input", name=name, input_shape="1:1:4"),
        lambda: create_layer("input", [f"name={name}", "input_shape=1:1:4"]),
        lambda: Model().add_layer("fully_connected", name=name, unit=3),
        lambda: load_ini(ini),
    ):
        with pytest.raises(InvalidParameterError, match="split\\(1\\) is output 1"):
            make()


@pytest.mark.parametrize("name", ["in(a)", "in(1", "in()", "in(1)x", "in 1", "(a)"])
def test_other_parentheses_are_names(name: str) -> None:
    model = Model()
    model.add_layer("input", name=name, input_shape="1:1:4")
    model.add_layer("fully_connected", name="fc", unit=3, input_layers=[name])
    model.add_layer("mse", name="loss")
    assert model.compile().node("fc").inputs[0].layer == name


def test_outputs_are_still_read_by_number() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("split", name="parts", axis=3, split_number=2)
    model.add_layer("subtract", name="d", input_layers=["parts(1)", "parts(0)"])
    model.add_layer("fully_connected", name="fc", unit=3)
    model.add_layer("mse", name="loss")
    assert [one.index for one in model.compile().node("d").inputs] == [1, 0]


@pytest.mark.parametrize(
    ("spec", "takes"),
    [
        (fc("x", input_layers="in,side"), "takes 1 input(s) and has 2"),
        (
            ("activation", {"name": "x", "input_layers": "in,side"}),
            "takes 1 input(s) and has 2",
        ),
        (
            ("input", {"name": "x", "input_shape": "1:1:4", "input_layers": "in"}),
            "takes 0 input(s) and has 1",
        ),
        (loss("x", input_layers="in,side"), "takes 1 input(s) and has 2"),
    ],
)
def test_a_wrong_number_of_inputs(spec: Spec, takes: str) -> None:
    error = refused(GraphError, data(), data("side"), spec, loss())
    assert f"layer 'x' ({spec[0]}) {takes}" in str(error)
    assert error.layer == "x"
    assert set(error.inputs) <= {"in", "side"}


@pytest.mark.parametrize("first", [fc("x"), ("addition", {"name": "x"})])
def test_a_first_layer_without_input(first: Spec) -> None:
    error = refused(GraphError, first, loss())
    assert "'x'" in str(error)
    assert "begin with an input layer" in str(error)
    assert error.inputs == ()


# -- order -------------------------------------------------------------------------


def test_a_layer_reads_the_one_added_before() -> None:
    built = graph(data(), fc("a"), fc("b"), loss())

    assert names(built) == ["in", "a", "b", "loss"]
    assert [node.sources for node in built.nodes] == [
        (),
        ("in:out0",),
        ("a:out0",),
        ("b:out0",),
    ]


def test_layers_may_be_added_in_any_order() -> None:
    built = graph(
        loss(input_layers="b"),
        fc("b", input_layers="a"),
        fc("a", input_layers="in"),
        data(),
    )

    assert names(built) == ["in", "a", "b", "loss"]


def test_of_several_that_could_go_next_the_first_added_goes() -> None:
    built = graph(
        data(),
        fc("z", input_layers="in"),
        fc("a", input_layers="in"),
        fc("m", input_layers="z"),
        ("addition", {"name": "sum", "input_layers": "a,m"}),
        loss(),
    )

    assert names(built) == [
        "in",
        "in/generated_out_0",
        *("z", "a", "m", "sum", "loss"),
    ]


def test_a_layer_added_early_waits_only_for_its_inputs() -> None:
    built = graph(
        data(),
        fc("late", input_layers="b"),
        fc("a", input_layers="in"),
        fc("b", input_layers="in"),
        fc("c", input_layers="in"),
        ("addition", {"name": "sum", "input_layers": "late,a,c"}),
        loss(),
    )

    assert names(built) == [
        "in",
        "in/generated_out_0",
        *("a", "b", "late", "c", "sum", "loss"),
    ]


@given(st.data())
def test_the_order_is_the_smallest_by_adding(draw: st.DataObject) -> None:
    n = draw.draw(st.integers(1, 8))
    adding = draw.draw(st.permutations(range(n)))
    sources: dict[str, tuple[str, ...]] = {
        f"l{i}": tuple(
            f"l{s}"
            for s in draw.draw(st.sets(st.integers(0, i - 1)) if i else st.just(set()))
        )
        for i in range(n)
    }
    added = [create_layer("addition", name=f"l{i}") for i in adding]
    inputs = {name: tuple(map(Output, many)) for name, many in sources.items()}

    found = [layer.name for layer in order_layers(added, inputs)]

    expected: list[str] = []
    waiting = [layer.name for layer in added]
    while waiting:  # the first added whose inputs are all there
        ready = next(w for w in waiting if set(sources[w]) <= set(expected))
        waiting.remove(ready)
        expected.append(ready)
    assert found == expected


# -- realized layers ---------------------------------------------------------------


def test_an_activation_given_on_a_layer_becomes_a_layer() -> None:
    built = graph(data(), fc("a", activation="relu"), fc("b", 2), loss())

    assert names(built) == ["in", "a", "a/activation_realized", "b", "loss"]
    follower = built.node("a/activation_realized")
    assert follower.layer.type_name == "activation"
    assert follower.layer["activation"] == "relu"
    assert follower.sources == ("a:out0",)
    assert built.node("a").layer["activation"] == "none"
    assert built.node("b").sources == ("a/activation_realized:out0",)


def test_whoever_names_the_layer_reads_its_activation() -> None:
    built = graph(
        data(),
        fc("a", activation="tanh"),
        fc("b", input_layers="a"),
        ("addition", {"name": "sum", "input_layers": "a,b"}),
        loss(),
    )

    assert built.node("sum").sources == ("a/activation_realized:out0", "b:out0")


def test_an_activation_of_none_adds_nothing() -> None:
    assert names(graph(data(), fc("a", activation="none"), loss())) == [
        "in",
        "a",
        "loss",
    ]


def test_an_input_shape_on_the_first_layer_becomes_an_input() -> None:
    built = graph(fc("a", input_shape="1:1:4", activation="relu"), loss())

    assert names(built) == ["a/input_realized", "a", "a/activation_realized", "loss"]
    assert built.node("a/input_realized").spec.output_shapes[0] == (1, 1, 4)
    assert built.node("a").input_shapes == ((1, 1, 4),)


def test_a_model_with_an_input_shape_on_its_first_layer_trains_alike() -> None:
    bits = []
    for has_input in (True, False):
        model = Model(seed=1)
        if has_input:
            model.add_layer("input", name="in", input_shape="1:1:4")
        shape = {} if has_input else {"input_shape": "1:1:4"}
        model.add_layer("fully_connected", name="a", unit=2, **shape)
        model.add_layer("mse", name="loss")
        model.set_property(batch_size=2)
        model.initialize()
        model.train_step(np.ones((2, 4), np.float32), np.zeros((2, 2), np.float32))
        bits.append(model.weights()["a:weight"].tobytes())
    assert bits[0] == bits[1]


# -- shapes and derivatives --------------------------------------------------------


def test_shapes_go_through_the_graph() -> None:
    built = graph(
        data(shape="2:3:4"),
        fc("rows", 5),
        ("flatten", {"name": "flat"}),
        fc("out", 2),
        loss(),
    )

    assert {node.name: node.spec.output_shapes[0] for node in built.nodes} == {
        "in": (2, 3, 4),
        "rows": (2, 3, 5),
        "flat": (1, 1, 30),
        "out": (1, 1, 2),
        "loss": (1, 1, 2),
    }
    assert [w.shape for w in built.node("out").spec.weights] == [(30, 2), (2,)]


def test_derivatives_are_wanted_from_the_first_trained_layer_on() -> None:
    built = graph(
        data(),
        fc("frozen", trainable=False),
        fc("trained"),
        fc("frozen_too", trainable=False),
        loss(),
    )

    assert {n.name: (n.trains, n.wants_derivative) for n in built.nodes} == {
        "in": (False, False),
        "frozen": (False, False),
        "trained": (True, True),
        "frozen_too": (False, True),
        "loss": (False, True),
    }


def test_readers_are_in_forward_order_and_each_once() -> None:
    built = graph(
        data(),
        fc("a"),
        ("addition", {"name": "twice", "input_layers": "a,a"}),
        ("addition", {"name": "sum", "input_layers": "twice,a"}),
        loss(),
    )

    assert built.readers()["a:out0"] == ("twice", "sum")
    assert built.loss.name == "loss"


def test_the_given_layers_are_not_changed() -> None:
    given = layers(data(), fc("a", activation="relu"), loss())
    before = [dict(layer.given) for layer in given]

    build_graph(given, ())

    assert [dict(layer.given) for layer in given] == before


def test_outputs_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arena_ckpt.graph.build.MOST_OUTPUTS", 20)
    for steps in (3, 30):
        model = Model()
        model.add_layer("input", input_shape=(1, steps, 2))
        model.add_layer("rnn", unit=2, unroll=True)
        model.add_layer("mse")
        if steps == 3:
            model.compile()
            continue
        with pytest.raises(GraphError, match="more than 20 outputs at 'rnn0/x'"):
            model.compile()
