"""The layer of docs/own_layer.md, and what a layer of one's own is refused for."""

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers.modules import load_module

from arena_ckpt import InvalidParameterError, Model, register_layer
from arena_ckpt.errors import KernelCompileError
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.layers.activation import Activation
from arena_ckpt.layers.base import Layer

PAGE = Path(__file__).parents[2] / "docs/own_layer.md"


def blocks(language: str) -> list[str]:
    pattern = rf"```{language}\n(.*?)```"
    return re.findall(pattern, PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def scale(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The code of the page as a module, as a user would have it."""
    path = tmp_path_factory.mktemp("own") / "scale.py"
    path.write_text(blocks("python")[0])
    return load_module(path)


def build(*, blocks: bool, debug: bool = False) -> Model:
    model = Model(seed=1)
    model.add_layer("input", name="in", input_shape="1:1:5")
    model.add_layer("fully_connected", name="fc", unit=4)
    model.add_layer("scale", name="s1")
    model.add_layer("activation", name="act", activation="tanh")
    model.add_layer("scale", name="s2")
    model.add_layer("mse", name="loss")
    if blocks:
        model.add_checkpoint_block(["fc", "s1", "act", "s2"])
    model.set_property(batch_size=6)
    model.set_optimizer("adam", learning_rate=0.1)
    model.initialize(debug=debug)
    return model


def test_it_has_the_slopes_of_the_loss(scale: ModuleType) -> None:
    model = build(blocks=False)
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


def test_it_trains_to_the_same_bits_in_a_block_and_in_debug_mode(
    scale: ModuleType,
) -> None:
    x, y = np.random.default_rng(2).normal(size=(2, 6, 5))
    results = []
    for blocks, debug in ((False, False), (True, False), (True, True)):
        model = build(blocks=blocks, debug=debug)
        for _ in range(3):
            model.train_step(x, y[:, :4])
        results.append({n: w.tobytes() for n, w in model.weights().items()})
    assert results[0] == results[1] == results[2]


def test_the_kernel_that_cannot_be_compiled_says_what_the_page_says(
    tmp_path: Path,
) -> None:
    path = tmp_path / "shift.py"
    path.write_text(blocks("python")[1])
    with pytest.raises(KernelCompileError) as e:
        load_module(path)
    (said,) = blocks("text")
    name, _, message = said.strip().partition(": ")
    assert name == type(e.value).__name__
    assert message.replace("...", str(path)) == str(e.value)


class _Nameless(Layer):
    type_name = "Big"


class _Taken(Layer):
    type_name = Activation.type_name


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (int, "no class of layers"),
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
