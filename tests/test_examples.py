import numpy as np
import pytest

from arena_ckpt import Model, load_ini
from arena_ckpt.errors import UnknownTypeError
from arena_ckpt.examples import EXAMPLES, load_example
from arena_ckpt.layers.dense import FullyConnected


def test_every_example_trains_for_a_step() -> None:
    for name, description in EXAMPLES.items():
        example = load_example(name)
        assert (example.name, example.description) == (name, description)
        assert example.data.y is not None
        example.model.initialize()
        n = example.model.get_property("batch_size")
        loss = example.model.train_step(example.data.x[:n], example.data.y[:n])
        assert np.isfinite(loss)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_survives_saving(name: str, tmp_path) -> None:
    model = load_example(name).model
    model.save_ini(tmp_path / "a.ini")
    load_ini(tmp_path / "a.ini").save_ini(tmp_path / "b.ini")
    assert (tmp_path / "a.ini").read_bytes() == (tmp_path / "b.ini").read_bytes()


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
