"""The layers of docs/own_layer.md, the face that they import from, and refusals."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers.modules import load_module
from helpers.pages import read_page

import arena_ckpt as ac
from arena_ckpt import InvalidParameterError, Model, layers, register_layer
from arena_ckpt.errors import IdRangeError
from arena_ckpt.graph.hints import Facts
from arena_ckpt.layers import (
    COMMON_PROPERTIES,
    INITIALIZERS,
    LAYER_TYPES,
    WEIGHT_PROPERTIES,
    Binding,
    Flops,
    IdInput,
    InPlace,
    Kind,
    Layer,
    LayerSpec,
    Loss,
    Phase,
    Shape,
    TensorLifespan,
    TensorSpec,
    WeightSpec,
    bias_spec,
    copy_unless_same,
    weight_spec,
)
from arena_ckpt.layers.activation import Activation

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/own_layer.md"
FILES = {block.file: block.code for block in read_page(PAGE) if block.file}
OWN = ("scale.py", "pseudo_huber.py", "one_hot.py")


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ModuleType]]:
    """The files of the page as modules, as a user would have them."""
    before, folder = dict(LAYER_TYPES), tmp_path_factory.mktemp("own")
    modules = {}
    for name in OWN:
        (folder / name).write_text(FILES[name])
        modules[name.removesuffix(".py")] = load_module(folder / name)
    yield modules
    LAYER_TYPES.clear()
    LAYER_TYPES.update(before)


def build(*, blocks: bool, debug: bool = False, loss: str = "mse") -> Model:
    model = Model(seed=1)
    model.add_layer("input", name="in", input_shape="1:1:5")
    model.add_layer("fully_connected", name="fc", unit=4)
    model.add_layer("scale", name="s1")
    model.add_layer("activation", name="act", activation="tanh")
    model.add_layer("scale", name="s2")
    model.add_layer(loss, name="loss")
    if blocks:
        model.add_checkpoint_block(["fc", "s1", "act", "s2"])
    model.set_property(batch_size=6)
    model.set_optimizer("adam", learning_rate=0.1)
    model.initialize(debug=debug)
    return model


@pytest.mark.parametrize("loss", ["mse", "pseudo_huber"])
def test_it_has_the_slopes_of_the_loss(loss: str) -> None:
    model = build(blocks=False, loss=loss)
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(6, 5)), generator.normal(size=(6, 4))
    start = generator.normal(size=4)
    model.set_weights({"s1:weight": start})
    _, gradients = model.compute_gradients(x, y)
    for place in range(4):
        losses = []
        for step in (1e-2, -1e-2):
            moved = start.copy()
            moved[place] += step
            model.set_weights({"s1:weight": moved})
            losses.append(model.evaluate((x, y)).loss)
        slope = (losses[0] - losses[1]) / 2e-2
        assert gradients["s1:weight"][place] == pytest.approx(slope, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("loss", ["mse", "pseudo_huber"])
def test_it_trains_to_the_same_bits_in_a_block_and_in_debug_mode(loss: str) -> None:
    x, y = np.random.default_rng(2).normal(size=(2, 6, 5))
    results = []
    for blocks, debug in ((False, False), (True, False), (True, True)):
        model = build(blocks=blocks, debug=debug, loss=loss)
        for _ in range(3):
            model.train_step(x, y[:, :4])
        results.append({n: w.tobytes() for n, w in model.weights().items()})
    assert results[0] == results[1] == results[2]


# -- a loss of one's own ---------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.3, 1.0])
def test_a_loss_of_ones_own_is_that_of_pytorch(delta: float) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    model = Model(seed=1)
    model.add_layer("input", name="in", input_shape="1:1:5")
    model.add_layer("fully_connected", name="fc", unit=4)
    model.add_layer("pseudo_huber", name="loss", delta=delta)
    model.set_property(batch_size=6, micro_batches=2)
    model.initialize()
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=(6, 5)), generator.normal(size=(6, 4))
    loss, gradients = model.compute_gradients(x, y)
    arrays = {n: torch.tensor(w.astype(float)) for n, w in model.weights().items()}
    for array in arrays.values():
        array.requires_grad_()
    weight, bias = arrays["fc:weight"], arrays["fc:bias"]
    ratio = (torch.tensor(x) @ weight + bias - torch.tensor(y)) / delta
    theirs = (delta**2 * (torch.sqrt(1 + ratio**2) - 1)).mean()
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), rel=1e-6)
    assert model.evaluate((x, y)).loss == pytest.approx(theirs.item(), rel=1e-6)
    for name, gradient in gradients.items():
        wanted = arrays[name].grad.numpy()
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-7)


def test_a_loss_of_ones_own_stands_in_an_ini_file_and_in_a_plan(tmp_path: Path) -> None:
    model = build(blocks=True, loss="pseudo_huber")
    model.save_ini(tmp_path / "net.ini")
    read = ac.load_ini(tmp_path / "net.ini")
    assert read.layers[-1]["delta"] == 1.0
    assert read.make_plan() == model.plan
    assert [layer.name for layer in model.plan.layers if layer.is_loss] == ["loss"]


# -- ids -------------------------------------------------------------------------------


def of_words(**values: Any) -> Model:
    model = Model(seed=1)
    model.add_layer("input", name="words", input_shape="1:3:1")
    model.add_layer("flatten", name="in_a_row")
    model.add_layer("one_hot", name="rows", **values)
    model.add_layer("flatten", name="flat")
    model.add_layer("fully_connected", name="fc", unit=2)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=4)
    return model


def test_ids_of_a_layer_of_ones_own_have_no_derivative_and_are_made_up() -> None:
    model = of_words(n_words=5)
    (rows,) = (n for n in model.compile().nodes if n.name == "rows")
    assert rows.spec.id_inputs == (IdInput(0, 5, set_by="n_words"),)
    assert (rows.spec.fixed_inputs, rows.derived_inputs) == ({0}, ())
    result = ac.verify(model, command=("/no/such/program",))
    assert result.passed, result


CALLS: dict[str, Callable[[Model, Any, Any], object]] = {
    "train_step": lambda model, x, y: model.train_step(x, y),
    "evaluate": lambda model, x, y: model.evaluate((x, y)),
    "predict": lambda model, x, y: model.predict(x),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wrong", [5, -1, 1.5])
def test_an_id_out_of_range_is_named_before_a_weight_changes(
    call: str, wrong: float
) -> None:
    model = of_words(n_words=5)
    model.initialize()
    x, y = np.ones((4, 3)), np.zeros((4, 2))
    model.train_step(x, y)
    before = {name: w.tobytes() for name, w in model.weights().items()}
    x[2, 1] = wrong
    with pytest.raises(
        IdRangeError, match=r"\(one_hot\) reads .* in sample 2, place 1; with n_words=5"
    ) as e:
        CALLS[call](model, x, y)
    facts = {"layer": "rows", "sample": 2, "place": 1, "value": wrong}
    assert vars(e.value).items() >= (facts | {"n_ids": 5, "n_words": 5}).items()
    assert {name: w.tobytes() for name, w in model.weights().items()} == before


def test_ids_whose_number_no_property_sets_are_refused_in_the_same_words(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, ModuleType]
) -> None:
    infer = own["one_hot"].OneHot.infer

    def without(self: Layer, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        return dataclasses.replace(
            infer(self, input_shapes), id_inputs=(IdInput(0, 10),)
        )

    monkeypatch.setattr(own["one_hot"].OneHot, "infer", without)
    model = of_words()
    model.initialize()
    with pytest.raises(
        IdRangeError,
        match=r"place 0; ids are whole numbers from 0 to 9\. 1 ids of .*"
        r": renumber them\. No",
    ):
        model.predict([[10, 0, 0]])


# -- what a class states ---------------------------------------------------------------


def test_a_layer_that_keeps_axes_is_looked_through_by_hints(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, ModuleType]
) -> None:
    def hints() -> list[str]:
        model = Model()
        model.add_layer("input", name="in", input_shape="1:8:8")
        model.add_layer("conv2d", name="conv", filters=4, kernel_size="3,3")
        model.add_layer("scale", name="s")
        model.add_layer("cross_softmax", name="loss")
        return [hint.kind for hint in model.warnings()]

    assert hints() == ["softmax_over_width"]
    monkeypatch.setattr(own["scale"].Scale, "keeps_axes", False)
    assert hints() == []
    monkeypatch.setattr(own["scale"].Scale, "reads", "pictures")
    assert hints() == ["softmax_over_width"]


def test_a_layer_that_moves_elements_lets_ids_stay_ids() -> None:
    class Turned(layers.Layer):
        type_name = "turned"
        moves_elements = True

        def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
            return LayerSpec(output_shapes=input_shapes)

        def forward(self, tensors: Binding) -> list[layers.Call]:
            return copy_unless_same(tensors, "in0", "out0")

    register_layer(Turned)
    model = Model(seed=1)
    model.add_layer("input", name="words", input_shape="1:1:3")
    model.add_layer("turned", name="turned")
    model.add_layer("embedding", name="rows", in_dim=3, out_dim=2)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=4)
    assert Facts(model.compile()).maker("turned:out0", _moves).name == "words"
    assert ac.verify(model, command=("/no/such/program",)).passed


def _moves(layer: Layer) -> bool:
    return layer.moves_elements


def test_weights_are_what_the_properties_say() -> None:
    given = {"weight_regularizer": "l2norm", "weight_regularizer_constant": 0.5}
    dense = ac.create_layer(
        "fully_connected", unit=3, weight_decay=0.1, bias_decay=0.2, **given
    )
    fans = {"fan_in": 4, "fan_out": 3}
    assert weight_spec(dense, "w", (4, 3), **fans) == WeightSpec(  # type: ignore[arg-type]
        "w",
        (4, 3),
        "xavier_uniform",
        4,
        3,
        TensorLifespan.FORWARD_DERIV,
        decay=0.1,
        regularizer_constant=0.5,
    )
    assert bias_spec(dense, "b", 3, **fans) == WeightSpec(  # type: ignore[arg-type]
        "b", (3,), "zeros", 4, 3, TensorLifespan.FORWARD, decay=0.2
    )
    plain = ac.create_layer("fully_connected", unit=3, weight_regularizer_constant=0.5)
    assert weight_spec(plain, "w", (4, 3), **fans).regularizer_constant == 0.0  # type: ignore[arg-type]
    assert {p.name for p in WEIGHT_PROPERTIES} < {p.name for p in dense.properties}


# -- the face --------------------------------------------------------------------------


def test_the_page_and_the_tests_of_own_layers_import_from_the_face_alone() -> None:
    for name, code in FILES.items():
        modules = {
            node.module
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.ImportFrom)
        }
        ours = {m for m in modules if m and m.startswith("arena_ckpt")}
        assert ours == {"arena_ckpt.layers"}, name


def test_every_name_of_the_face_is_there_and_documented() -> None:
    text = PAGE.read_text("utf-8")
    words = set(re.findall(r"\w+", text))
    assert len(layers.__all__) > 50
    for name in layers.__all__:
        assert getattr(layers, name) is not None
    assert not set(layers.__all__) - words
    with pytest.raises(AttributeError, match="dens"):
        layers.dens  # noqa: B018


def documented() -> Iterator[tuple[str, set[str]]]:
    """Yield what the page has tables of, and the names that are to stand there."""
    for spec in (LayerSpec, WeightSpec, TensorSpec, InPlace, Flops, IdInput):
        yield spec.__name__, {f.name for f in dataclasses.fields(spec)}
    methods = {n for n in vars(Binding) if not n.startswith("_")}
    yield "Binding", methods | set(Binding.__annotations__)
    yield "TensorLifespan", set(TensorLifespan.__members__)
    yield "Phase", set(Phase.__members__)
    yield "INITIALIZERS", set(INITIALIZERS)
    yield "kinds", {n for n in layers.__all__ if isinstance(getattr(layers, n), Kind)}
    own = {n for n in vars(Loss) if not n.startswith("_")} - {"infer"}
    yield "Loss", own
    hidden = {"given", "with_values"}
    yield "Layer", {n for n in vars(Layer) if not n.startswith("_")} - hidden


DOCUMENTED = dict(documented())


@pytest.mark.parametrize("what", DOCUMENTED)
def test_the_page_lists_all_of(what: str) -> None:
    names = DOCUMENTED[what]
    words = set(re.findall(r"\w+", PAGE.read_text("utf-8")))
    assert names
    assert not names - words, what


def test_what_stands_left_of_the_layers_is_the_same_there() -> None:
    from arena_ckpt.common import phases, properties

    assert layers.Phase is phases.Phase
    assert layers.REAL is properties.REAL
    assert layers.LayerResultError is ac.errors.LayerResultError
    assert ac.create_layer is layers.create_layer
    kinds = {n for n, value in vars(properties).items() if isinstance(value, Kind)}
    assert kinds < set(layers.__all__)


def test_importing_the_face_loads_nothing_before_a_name_is_used() -> None:
    code = (
        "import sys, arena_ckpt.layers\n"
        "print(sorted(m for m in sys.modules if m.startswith('arena_ckpt.layers.')))"
    )
    assert printed_by(code) == "[]"


def test_the_whole_face_loads_neither_numba_nor_networkx() -> None:
    code = (
        "import sys\n"
        "from arena_ckpt import layers\n"
        "for name in layers.__all__: getattr(layers, name)\n"
        "print({'numba', 'networkx'} & set(sys.modules))"
    )
    assert printed_by(code) == "set()"


def printed_by(code: str) -> str:
    """Return what a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


# -- what is refused -------------------------------------------------------------------


class _Nameless(Layer):
    type_name = "Big"


class _Taken(Layer):
    type_name = Activation.type_name


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (int, "no class of layers; derive it from arena_ckpt.layers.Layer"),
        (_Nameless, "lower case"),
        (_Taken, "choose another"),
    ],
)
def test_what_is_refused(given: type[Layer], says: str) -> None:
    before = dict(LAYER_TYPES)
    with pytest.raises(InvalidParameterError, match=says):
        register_layer(given)
    assert before == LAYER_TYPES


def test_a_class_of_the_same_name_elsewhere_does_not_take_the_place_of_ours() -> None:
    ours = LAYER_TYPES["activation"]
    theirs = type("Activation", (Activation,), {"__module__": "somewhere"})
    with pytest.raises(InvalidParameterError, match="choose another"):
        register_layer(theirs)
    assert LAYER_TYPES["activation"] is ours


def test_all_common_properties_are_properties_of_each_type() -> None:
    for layer in LAYER_TYPES.values():
        assert set(COMMON_PROPERTIES) <= set(layer.properties)


def test_a_profile_has_kernels_of_ones_own() -> None:
    model = build(blocks=True)
    calls = model.kernel_calls(model.plan)
    profile = model.profile(rounds=1)
    of_own = {str(call.kernel) for call in calls if call.kernel.family == "own"}
    assert of_own
    assert of_own <= {group.name for group in profile.by_kernel()}
    assert profile.recompute_seconds > 0
