"""Files of ONNX become models, and models files again."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.onnx_files import (
    evaluated,
    keras_model,
    mlp_model,
    normal,
    onnx_model,
    write,
)

import arena_ckpt as ac
from arena_ckpt.importers.onnx_import import EXPORT

onnx = pytest.importorskip("onnx", reason="the package onnx is absent")

helper_node = onnx.helper.make_node


def relu_model(**more: Any) -> Any:
    return onnx_model(
        [helper_node("Relu", ["x"], ["y"])],
        {"x": ["n", 4]},
        {"y": ["n", 4]},
        {},
        **more,
    )


# -- what comes in, and goes out -------------------------------------------------------


def test_a_file_is_trained_and_written_with_its_names(tmp_path: Path) -> None:
    proto = mlp_model(producer="mine")
    path = write(tmp_path / "net.onnx", proto)

    imported = ac.load_onnx(path, loss="mse", batch_size=6)
    model = imported.model
    assert [layer.name for layer in model.layers] == [
        "x",
        "fc1",
        "act/relu",
        "fc2",
        "loss",
    ]
    assert (imported.inputs, imported.outputs) == ({"x": "x"}, {"y": "fc2"})
    model.initialize()
    x, y = normal(6, 4), normal(6, 3, seed=1)
    assert np.allclose(model.predict(x).reshape(6, 3), evaluated(proto, x=x), atol=1e-6)
    imported.save_onnx(tmp_path / "same.onnx")
    assert onnx.load(tmp_path / "same.onnx") == proto

    model.train((x, y), epochs=3, progress=False)
    imported.save_onnx(tmp_path / "trained.onnx")
    trained = onnx.load(tmp_path / "trained.onnx")
    assert np.allclose(
        evaluated(trained, x=x), model.predict(x).reshape(6, 3), atol=1e-6
    )
    assert trained.producer_name == "mine"
    assert [t.name for t in trained.graph.initializer] == [
        t.name for t in proto.graph.initializer
    ]
    assert trained.graph.node == proto.graph.node
    assert trained != proto


def test_keras_networks_with_channels_last_are_read(tmp_path: Path) -> None:
    proto = keras_model()
    imported = ac.load_onnx(write(tmp_path / "k.onnx", proto), loss="mse", batch_size=2)
    kinds = [layer.type_name for layer in imported.model.layers]
    assert kinds.count("permute") == 1  # of the input alone
    (norm,) = (x for x in imported.model.layers if x.type_name == "batch_normalization")
    assert norm["statistics"] == "moving"
    imported.model.initialize()
    x = normal(2, 5, 5, 3)
    found = imported.model.predict(x.reshape(2, *imported_shape(imported)))
    assert np.allclose(found.reshape(2, 2), evaluated(proto, x=x), atol=1e-5)
    imported.save_onnx(tmp_path / "again.onnx")
    assert onnx.load(tmp_path / "again.onnx") == proto


def imported_shape(imported: Any) -> tuple[int, int, int]:
    plan = imported.model.plan
    return next(one.output_shape for one in plan.layers if one.name == "x")


def test_data_beside_a_file_are_read_and_written_into_it(tmp_path: Path) -> None:
    proto = mlp_model()
    path = tmp_path / "net.onnx"
    onnx.save_model(
        proto, path, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    imported = ac.load_onnx(path, loss="mse")
    imported.model.initialize()
    imported.save_onnx(tmp_path / "whole.onnx")
    (tmp_path / "w.bin").unlink()
    assert ac.load_onnx(tmp_path / "whole.onnx").outputs == {"y": "y"}
    with pytest.raises(ac.OnnxError, match="data in a file beside it"):
        ac.load_onnx(path)


# -- samples ---------------------------------------------------------------------------


def test_a_number_of_samples_that_a_file_states_is_the_batch(tmp_path: Path) -> None:
    nodes = [
        helper_node("Reshape", ["x", "shape"], ["r"]),
        helper_node("MatMul", ["r", "w"], ["y"]),
    ]
    tables = {"shape": np.array([2, 12]), "w": normal(12, 3)}
    proto = onnx_model(nodes, {"x": [2, 3, 4]}, {"y": [2, 3]}, tables)
    path = write(tmp_path / "net.onnx", proto)
    assert ac.load_onnx(path, loss="mse").model.get_property("batch_size") == 2
    model = ac.load_onnx(path, loss="mse", batch_size=5).model
    model.initialize()
    assert model.predict(normal(5, 1, 3, 4)).shape == (5, 1, 1, 3)


def test_shapes_are_computed_for_any_number_of_samples(tmp_path: Path) -> None:
    """As PyTorch writes ``x.view(x.size(0), -1)`` and ``expand``."""
    nodes = [
        helper_node("Shape", ["x"], ["s"]),
        helper_node("Gather", ["s", "zero"], ["n"]),
        helper_node("Unsqueeze", ["n", "zeros"], ["n1"]),
        helper_node("Concat", ["n1", "rest"], ["shape"], axis=0),
        helper_node("Reshape", ["x", "shape"], ["y"]),
    ]
    tables = {
        "zero": np.array(0),
        "zeros": np.array([0]),
        "rest": np.array([-1]),
    }
    proto = onnx_model(nodes, {"x": ["n", 3, 4]}, {"y": ["n", 12]}, tables)
    imported = ac.load_onnx(write(tmp_path / "net.onnx", proto))
    assert [layer.type_name for layer in imported.model.layers] == [
        "input",
        "reshape",
        "identity",
    ]


def test_another_axis_or_none_can_count_the_samples(tmp_path: Path) -> None:
    node = helper_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    tables = {"axes": np.array([0])}
    proto = onnx_model([node], {"x": [3, 2]}, {"y": [2]}, tables)
    path = write(tmp_path / "net.onnx", proto)
    with pytest.raises(ac.UnsupportedModelError, match="mixes samples"):
        ac.load_onnx(path)
    for axis, x, expected in (
        (1, [[1, 2, 3], [4, 5, 6]], [6, 15]),
        (None, [[[1, 4], [2, 5], [3, 6]]], [6, 15]),
    ):
        model = ac.load_onnx(path, batch_axis=axis).model
        n = 2 if axis else 1
        model.set_property(batch_size=n)
        model.initialize(mode="inference")
        shape = (n, 1, 1, 3) if axis else (1, 1, 3, 2)
        found = model.predict(np.array(x, np.float32).reshape(shape))
        assert found.ravel().tolist() == expected


def test_open_sizes_are_asked_for_by_name(tmp_path: Path) -> None:
    node = helper_node("Relu", ["x"], ["y"])
    proto = onnx_model([node], {"x": ["n", "steps", 4]}, {"y": ["n", "steps", 4]}, {})
    path = write(tmp_path / "net.onnx", proto)
    with pytest.raises(ac.InvalidParameterError, match=r"sizes=\{'steps': 128\}"):
        ac.load_onnx(path)
    model = ac.load_onnx(path, sizes={"steps": 7}).model
    assert model.make_plan(mode="inference").layers[0].output_shape == (1, 7, 4)


# -- what is trained -------------------------------------------------------------------


def test_tables_that_are_only_read_can_be_frozen(tmp_path: Path) -> None:
    nodes = [
        helper_node("Mul", ["x", "scale"], ["s"]),
        helper_node("Add", ["s", "table"], ["t"]),
        helper_node("Add", ["t", "/Constant_output_0"], ["y"]),
    ]
    tables = {
        "scale": normal(4),
        "table": normal(4),
        "/Constant_output_0": np.array([0.5], np.float32),
    }
    proto = onnx_model(nodes, {"x": ["n", 4]}, {"y": ["n", 4]}, tables)
    path = write(tmp_path / "net.onnx", proto)

    def kinds(**more: Any) -> dict[str, str]:
        layers = ac.load_onnx(path, loss="mse", **more).model.layers
        return {x.name: x.type_name for x in layers if x.name in tables}

    assert kinds() == {"scale": "weight", "table": "weight"}
    assert kinds(frozen="tab*") == {"scale": "weight", "table": "constant"}
    assert kinds(frozen=["*"]) == {"scale": "constant", "table": "constant"}


def test_batch_normalization_trains_as_the_file_says(tmp_path: Path) -> None:
    node = helper_node(
        "BatchNormalization", ["x", "g", "b", "m", "v"], ["y", "", ""], training_mode=1
    )
    tables = {name: np.ones(4, np.float32) for name in "gbmv"}
    for producer, unbiased in (("pytorch", True), ("other", False)):
        proto = onnx_model(
            [node], {"x": ["n", 4]}, {"y": ["n", 4]}, tables, producer=producer
        )
        path = write(tmp_path / "net.onnx", proto)
        layer = ac.load_onnx(path, loss="mse", batch_size=3).model.layers[1]
        assert layer["statistics"] is None
        assert layer["unbiased_variance"] is unbiased
        assert (layer["epsilon"], layer["momentum"]) == pytest.approx((1e-5, 0.9))


def test_a_file_with_folded_normalizations_says_how_to_export_it(
    tmp_path: Path,
) -> None:
    nodes = [
        helper_node("Conv", ["x", "w", "b"], ["c"]),
        helper_node("Conv", ["c", "w", "b"], ["y"]),
    ]
    tables = {"w": normal(2, 2, 1, 1), "b": normal(2)}
    sizes = {"x": ["n", 2, 3, 3]}, {"y": ["n", 2, 3, 3]}
    path = write(tmp_path / "net.onnx", onnx_model(nodes, *sizes, tables))
    with pytest.warns(ac.ModelWarning) as issued:
        imported = ac.load_onnx(path, loss="mse")
    assert EXPORT in str(issued[0].message)
    assert issued[0].filename == __file__
    # Both read one weight.
    assert [x["shared_from"] for x in imported.model.layers[1:3]] == [None, "conv2d"]
    nodes[1] = helper_node("Conv", ["c", "w"], ["y"])
    write(path, onnx_model(nodes, *sizes, tables))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ac.load_onnx(path, loss="mse")


def test_several_outputs_have_a_loss_each_or_are_left_out(tmp_path: Path) -> None:
    nodes = [
        helper_node("Gemm", ["x", "a.weight"], ["one"], transB=1),
        helper_node("Gemm", ["x", "b.weight"], ["two"], transB=1),
    ]
    tables = {"a.weight": normal(2, 4), "b.weight": normal(3, 4)}
    proto = onnx_model(
        nodes, {"x": ["n", 4]}, {"one": ["n", 2], "two": ["n", 3]}, tables
    )
    path = write(tmp_path / "net.onnx", proto)
    with pytest.raises(
        ac.InvalidParameterError, match="one, two; give a loss for each"
    ):
        ac.load_onnx(path, loss="mse")
    both = {"one": "mse", "two": ("huber", {"delta": 2.0})}
    layers = ac.load_onnx(path, loss=both).model.layers
    assert {x.name: x.type_name for x in layers if x.is_loss} == {
        "one/loss": "mse",
        "two/loss": "huber",
    }
    with pytest.raises(ac.InvalidParameterError, match="give one for each"):
        ac.load_onnx(path, loss={"one": "mse"})
    with pytest.raises(ac.InvalidParameterError, match=r"no output 'tow'.*'two'"):
        ac.load_onnx(path, outputs=["tow"])
    imported = ac.load_onnx(path, loss="mse", outputs=["two"])
    assert [x.name for x in imported.model.layers] == ["x", "b", "loss"]


# -- refusals --------------------------------------------------------------------------


def test_all_that_cannot_be_imported_is_told_at_once(tmp_path: Path) -> None:
    nodes = [
        helper_node("Det", ["x"], ["d"], name="first"),
        helper_node("Relu", ["d"], ["r"]),
        helper_node("Round", ["r"], ["a"]),
        helper_node("ReduceMean", ["x"], ["b"], axes=[0], name="third"),
        helper_node("Add", ["a", "b"], ["y"]),
    ]
    proto = onnx_model(nodes, {"x": ["n", 4, 4]}, {"y": []}, {})
    path = write(tmp_path / "net.onnx", proto)
    with pytest.raises(ac.UnsupportedModelError) as caught:
        ac.load_onnx(path)
    assert [(gap.op, gap.where) for gap in caught.value.gaps] == [
        ("Det", "node 0 'first'"),
        ("ReduceMean", "node 3 'third'"),
    ]
    assert "mixes samples" in str(caught.value)


def test_an_attribute_that_is_not_known_is_no_guess(tmp_path: Path) -> None:
    """A later opset may give a meaning to what a rule has never looked at."""
    node = helper_node("Elu", ["x"], ["y"], alpha=2.0)
    path = write(
        tmp_path / "net.onnx",
        onnx_model([node], {"x": ["n", 4]}, {"y": ["n", 4]}, {}),
    )
    assert ac.load_onnx(path).outputs
    from arena_ckpt.importers import onnx_rules

    ours = onnx_rules.RULES["Elu"]
    onnx_rules.RULES["Elu"] = lambda call: call.tensor(0)
    try:
        with pytest.raises(ac.UnsupportedModelError, match="alpha of it is not known"):
            ac.load_onnx(path)
    finally:
        onnx_rules.RULES["Elu"] = ours


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"no protobuf \xff\xff", ac.OnnxError, "it is no ONNX, or damaged"),
        (b"", ac.OnnxError, "it has no graph"),
        (
            relu_model(opset=12).SerializeToString(),
            ac.OnnxError,
            "opset 12, and 13 is the oldest",
        ),
        (
            relu_model().SerializeToString().replace(b"Relu", b"Rely"),
            ac.OnnxError,
            "No Op registered for Rely",
        ),
    ],
)
def test_what_is_no_onnx_file_is_refused(
    data: bytes, error: type[Exception], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    with pytest.raises(error, match=words):
        ac.load_onnx(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(ac.OnnxFileNotFoundError, match=r"did you mean .*net\.onnx"):
        ac.load_onnx(tmp_path / "nett.onnx")


def test_without_the_package_the_extra_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "net.onnx", mlp_model())
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ac.InvalidParameterError, match=r"'arena-ckpt\[onnx\]'"):
        ac.load_onnx(path)
