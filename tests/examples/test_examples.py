import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.example_data import first_batch

from arena_ckpt import Model, load_ini
from arena_ckpt.cli.models import without_blocks
from arena_ckpt.errors import InvalidParameterError, UnknownTypeError
from arena_ckpt.examples import EXAMPLES, load_example
from arena_ckpt.examples.material import VOCABULARY
from arena_ckpt.layers.dense import FullyConnected

SMALL: dict[str, dict[str, Any]] = {
    "gpt": {"n_layers": 2, "d": 32, "heads": 4, "ff": 64, "length": 16},
    "llama_tiny": {"n_layers": 1, "d": 32, "ff": 64, "length": 16},
    "resnet18": {"batch_size": 2},
    "mobilenet_v2": {"size": 32},
    "mobilenet_v3_small": {"size": 32},
    "unet": {"filters": 4, "depth": 2, "shape": (1, 16, 16)},
    "lstm_har": {"unit": 8, "steps": 24},
}
"""Sizes at which the tests train what is large."""


def two_steps(model: Model, x: Any, y: Any) -> tuple[list[float], dict[str, bytes]]:
    model.initialize()
    losses = [model.train_step(x, y) for _ in range(2)]
    return losses, {name: array.tobytes() for name, array in model.weights().items()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_trains_to_the_same_bits_without_its_blocks(name: str) -> None:
    example = load_example(name, **SMALL.get(name, {}))
    assert (example.name, example.description) == (name, EXAMPLES[name])
    n = example.model.get_property("batch_size")
    x, y = first_batch(example, n)

    with_blocks = two_steps(example.model, x, y)

    assert np.isfinite(with_blocks[0]).all()
    if example.model.blocks:
        assert two_steps(without_blocks(example.model), x, y) == with_blocks


def test_the_blocks_of_a_transformer_save_memory() -> None:
    sizes = {"n_layers": 4, "d": 64, "heads": 8, "ff": 256}
    plain, blocked = (
        load_example("transformer", checkpoint=checkpoint, **sizes).model.make_plan()
        for checkpoint in (False, True)
    )
    assert [len(block.layers) for block in blocked.blocks] == [6] * 4
    assert blocked.proved_optimal
    assert blocked.arena_bytes < 0.8 * plain.arena_bytes


@pytest.mark.parametrize(("name", "stages"), [("resnet8", 3), ("resnet18", 4)])
def test_the_blocks_of_a_resnet_cost_little(name: str, stages: int) -> None:
    """Blocks around all residual blocks take as many bytes and twice the time."""
    every = load_example(name, checkpoint=False).model
    names = [layer.name for layer in every.layers]
    for stage in range(stages):
        for repeat in range(2):
            block = [name for name in names if name.startswith(f"s{stage}b{repeat}")]
            if block:
                every.add_checkpoint_block(block)
    most, plan = every.make_plan(), load_example(name).model.make_plan()
    assert plan.arena_bytes <= most.arena_bytes
    assert plan.overhead < 0.56 * most.overhead


def test_a_size_that_an_example_does_not_have() -> None:
    says = r"transformer.*'n_layer'.*n_layers"
    with pytest.raises(InvalidParameterError, match=says):
        load_example("transformer", n_layer=3)
    with pytest.raises(InvalidParameterError, match="digits_mlp"):
        load_example("digits_mlp", unit=3)


@pytest.mark.parametrize("seed", [0, 1])
def test_digits_are_read_with_98_percent_by_convolutions(seed: int) -> None:
    example = load_example("digits_cnn", seed=seed)
    assert example.validation is not None
    example.model.initialize()
    example.model.train(example.data, progress=False)
    assert example.model.evaluate(example.validation).metric >= 0.98


def test_a_character_transformer_learns() -> None:
    example = load_example("char_transformer", n_layers=1, d=32, heads=2)
    data, model = example.data, example.model
    assert data.y is not None
    assert (data.x[:, 1:] == data.y[:, :-1]).all()  # the next character
    assert 0 <= data.x.min() <= data.x.max() < len(VOCABULARY)
    model.set_learning_rate_scheduler(None)
    model.initialize()
    n = model.get_property("batch_size")
    losses = [
        model.train_step(data.x[i : i + n], data.y[i : i + n])
        for i in range(0, 60 * n, n)
    ]
    assert losses[0] > 4
    assert np.mean(losses[-10:]) < 3.3


def test_a_llama_learns() -> None:
    example = load_example("llama_tiny", n_layers=1, d=32, ff=64)
    data, model = example.data, example.model
    assert data.y is not None
    model.initialize()
    assert "logits:weight" not in model.weights()  # it is the embedding
    n = model.get_property("batch_size")
    losses = [
        model.train_step(data.x[i : i + n], data.y[i : i + n])
        for i in range(0, 60 * n, n)
    ]
    assert losses[0] > 4
    assert np.mean(losses[-10:]) < 3.3


def test_a_u_net_finds_discs() -> None:
    example = load_example("unet", filters=4, depth=2, shape=(1, 24, 24))
    data, model = example.data, example.model
    assert data.y is not None
    model.initialize()
    n = model.get_property("batch_size")
    losses = [
        model.train_step(data.x[i : i + n], data.y[i : i + n])
        for _ in range(10)
        for i in range(0, data.n_samples, n)
    ]
    share = float((data.y == 0).mean())  # of what always saying "beside" gets right
    found = model.predict(data.x).reshape(*data.y.shape, 2).argmax(-1)
    assert losses[-1] < losses[0] / 2
    assert float((found == data.y).mean()) > (1 + share) / 2


def test_movements_are_told_apart() -> None:
    example = load_example("lstm_har", unit=12, steps=24, bidirectional=True)
    model = example.model
    model.set_property(epochs=60)
    model.initialize()
    model.train(example.data)
    assert model.evaluate(example.data).metric > 0.8


@pytest.mark.parametrize(
    ("name", "sizes", "n_parameters"),
    [
        ("mobilenet_v2", {"width": 1.0, "classes": 1000}, 3_504_872),
        ("mobilenet_v3_small", {"width": 1.0, "classes": 1000}, 2_542_856),
    ],
)
def test_networks_have_as_many_parameters_as_those_of_torchvision(
    name: str, sizes: dict[str, Any], n_parameters: int
) -> None:
    graph = load_example(name, **sizes).model.compile()
    weights = [w for node in graph.nodes for w in node.spec.trained_weights]
    assert sum(math.prod(weight.shape) for weight in weights) == n_parameters


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_survives_saving(name: str, tmp_path: Path) -> None:
    model = load_example(name, **SMALL.get(name, {})).model
    model.save_ini(tmp_path / "a.ini")
    load_ini(tmp_path / "a.ini").save_ini(tmp_path / "b.ini")
    assert (tmp_path / "a.ini").read_bytes() == (tmp_path / "b.ini").read_bytes()
    assert load_ini(tmp_path / "a.ini").make_plan() == model.make_plan()


def test_every_call_gives_a_new_model_and_the_same_data() -> None:
    first, second = load_example("nine_layer_mlp"), load_example("nine_layer_mlp")
    assert first.model is not second.model
    assert first.data.x.tobytes() == second.data.x.tobytes()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_digits_are_read_with_95_percent(seed: int) -> None:
    example = load_example("digits_mlp")
    assert (example.data.n_samples, example.validation.n_samples) == (1438, 359)
    assert len(example.model.blocks) == 3
    example.model.seed = seed
    example.model.initialize()
    example.model.train(example.data, progress=False)
    assert example.model.evaluate(example.validation).metric >= 0.95


def test_the_nine_layers_are_those_of_the_documentation() -> None:
    example = load_example("nine_layer_mlp")
    model: Model = example.model
    names = "in fc1 act_fc1 fc2 act_fc2 fc3 act_fc3 output mse0".split()
    assert [layer.name for layer in model.layers] == names
    units = [x["unit"] for x in model.layers if isinstance(x, FullyConnected)]
    assert units == [512, 256, 128, 10]
    assert [block.layers for block in model.blocks] == [tuple(names[1:5])]
    assert model.get_property("batch_size") == 32
    assert model.optimizer.type_name == "adam"
    assert model.optimizer["learning_rate"] == 0.001
    assert example.data.x.shape == (512, 784)
    assert example.data.y.shape == (512, 10)
    assert (example.data.y.sum(axis=1) == 1).all()
    assert example.validation is None


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UnknownTypeError, match="did you mean 'digits_mlp'"):
        load_example("digit_mlp")


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"n_layers": 10**9}, "n_layers=1,000,000,000 .* at most 1,024"),
        ({"d": 2**63}, "at most 65,536"),
        ({"n_layers": "x"}, "cannot be built with"),
        ({"heads": 0}, "num_heads=0"),
    ],
    ids=str,
)
def test_sizes_that_cannot_be_are_told(sizes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidParameterError, match=words):
        load_example("transformer", **sizes)
