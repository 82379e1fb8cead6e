"""INI files that NNTrainer accepts, and what they leave out."""

from __future__ import annotations

from pathlib import Path

import pytest

import arena_ckpt as ac
from arena_ckpt.definition.nntrainer_dialect import _LAYERS
from arena_ckpt.errors import IniError, InvalidParameterError
from arena_ckpt.layers import LAYER_TYPES

EXPECTED = """\
# Left out, as NNTrainer has nothing for it:
# - [Model] micro_batches = 2: it has no such key
# - [Model] seed = 7: it draws initial weights by itself
# - [Optimizer] momentum = 0.9: its sgd has no such key
# - [fc1] learning_rate_scale = 0.5: all layers have one learning rate
# - [loss] label_smoothing = 0.1: labels are not smoothed
# - checkpoint block 'hidden' of fc1, shuffle: it keeps all activations, or has blocks
#   that are named in its code

[Model]
type = NeuralNetwork
batch_size = 8

[Optimizer]
type = sgd
learning_rate = 0.05

[LearningRateScheduler]
type = exponential
learning_rate = 0.05
decay_rate = 0.5
decay_steps = 100

[in]
type = input
input_shape = 4:1:6

[fc1]
type = fully_connected
unit = 3
activation = relu
disable_bias = true

[shuffle]
type = channel_shuffle
split_number = 2

[flat]
type = flatten

[row]
type = reshape
target_shape = -1

[loss]
type = cross_softmax
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def model_of(*layers: tuple[str, dict[str, object]]) -> ac.Model:
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="4:4:4")
    for number, (kind, values) in enumerate(layers):
        model.add_layer(kind, **{"name": f"l{number}", **values})
    return model


def test_only_what_nntrainer_accepts_is_written_and_the_rest_is_said() -> None:
    model = ac.Model(seed=7)
    model.add_layer("input", name="in", input_shape="4:1:6")
    model.add_layer(
        "fully_connected",
        name="fc1",
        unit=3,
        activation="relu",
        bias=False,
        learning_rate_scale=0.5,
    )
    model.add_layer("channel_shuffle", name="shuffle", groups=2)
    model.add_layer("flatten", name="flat")
    model.add_layer("reshape", name="row", target_shape=-1)
    model.add_layer("cross_softmax", name="loss", label_smoothing=0.1)
    model.add_checkpoint_block(["fc1", "shuffle"], "hidden")
    model.set_optimizer("sgd", learning_rate=0.05, momentum=0.9)
    model.set_learning_rate_scheduler(
        ac.create_schedule(
            "exponential", learning_rate=0.05, decay_rate=0.5, decay_steps=100
        )
    )
    model.set_property(batch_size=8, micro_batches=2)

    left = model.save_ini("n.ini", dialect="nntrainer")

    assert Path("n.ini").read_text() == EXPECTED
    lines = EXPECTED[EXPECTED.index("# -") : EXPECTED.index("\n\n")]
    lines = lines.replace("\n#   ", " ").removeprefix("# - ")
    assert left == tuple(lines.split("\n# - "))
    again = ac.load_ini("n.ini")
    assert [
        (layer.name, layer.type_name, dict(layer.given)) for layer in again.layers[2:5]
    ] == [(one.name, one.type_name, dict(one.given)) for one in model.layers[2:5]]
    assert again.layers[1]["disable_bias"] is True
    assert again.save_ini("own.ini") == ()
    assert "seed = 0" in Path("own.ini").read_text()
    assert again.save_ini("again.ini", dialect="nntrainer") == ()
    text = EXPECTED.partition("\n\n")[2]
    assert Path("again.ini").read_text() == text


def test_defaults_that_differ_there_are_written() -> None:
    model_of().save_ini("n.ini", dialect="nntrainer")
    assert "learning_rate = 0.01\n" in Path("n.ini").read_text()


def test_an_optimizer_that_it_does_not_have_is_left_out_with_its_schedule() -> None:
    model = model_of(("mse", {}))
    model.set_optimizer("rmsprop")
    model.set_learning_rate_scheduler(ac.create_schedule("constant", learning_rate=1))
    left = model.save_ini("n.ini", dialect="nntrainer")
    assert [line.split(":")[0] for line in left] == [
        "[Optimizer] rmsprop",
        "[LearningRateScheduler] constant",
    ]
    text = Path("n.ini").read_text()
    assert "\n[Optimizer]" not in text
    assert "\n[LearningRateScheduler]" not in text


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        ("prelu", {}, "layer 'l0' of type prelu"),
        ("depthwiseconv2d", {"kernel_size": 3}, "layer 'l0' of type depthwiseconv2d"),
        ("activation", {"activation": "relu6"}, "activation=relu6 of layer 'l0'"),
        ("flatten", {"activation": "elu(2)"}, "activation=elu(alpha=2) of layer"),
        ("conv2d", {"filters": 4, "kernel_size": 1, "groups": 2}, "groups=2 of"),
        ("pooling2d", {"pooling": "adaptive_max", "output_size": 2}, "adaptive_max"),
        ("reshape", {"target_shape": "4:-1:2"}, "target_shape=4:-1:2 of layer"),
        ("add", {"value": 2}, "value=2.0 of layer 'l0' (add)"),
        ("batch_normalization", {"statistics": "moving"}, "statistics=moving of"),
        ("flatten", {"name": "a b"}, "the name 'a b'"),
        ("flatten", {"name": "Model"}, "the name 'Model'"),
    ],
)
def test_what_changes_the_outputs_is_refused(
    kind: str, values: dict[str, object], said: str
) -> None:
    model = model_of((kind, values), ("cosine_similarity", {"name": "second"}))
    with pytest.raises(IniError) as caught:
        model.save_ini("n.ini", dialect="nntrainer")
    message = str(caught.value)
    assert said in message
    assert "layer 'second' of type cosine_similarity" in message  # all at once
    assert len(caught.value.gaps) >= 2
    assert not Path("n.ini").exists()


def test_what_is_default_is_no_gap() -> None:
    conv = {"filters": 2, "kernel_size": 1, "groups": 1, "learning_rate_scale": 1}
    assert model_of(("conv2d", conv)).save_ini("n.ini", dialect="nntrainer") == ()
    assert "groups" not in Path("n.ini").read_text()


def test_a_shape_in_the_middle_would_begin_another_input_there() -> None:
    model = model_of(("flatten", {"input_shape": "4:4:4"}))
    model.save_ini("n.ini", dialect="nntrainer")
    assert Path("n.ini").read_text().count("input_shape") == 1
    first = ac.Model()
    first.add_layer("flatten", name="f", input_shape="4:4:4")
    first.save_ini("n.ini", dialect="nntrainer")
    assert Path("n.ini").read_text().count("input_shape") == 1


def test_lines_that_its_reader_cannot_hold() -> None:
    model = model_of()
    n = 300
    model.set_learning_rate_scheduler(
        ac.create_schedule("step", iteration=[*range(n)], learning_rate=[0.1] * (n + 1))
    )
    with pytest.raises(
        IniError, match=r"learning_rate would be a line|iteration would"
    ):
        model.save_ini("n.ini", dialect="nntrainer")
    model.save_ini("own.ini")


def test_another_dialect() -> None:
    with pytest.raises(InvalidParameterError, match="'arena_ckpt' or 'nntrainer'"):
        model_of().save_ini("n.ini", dialect="keras")


def test_the_tables_name_layers_and_properties_that_there_are() -> None:
    for kind, keys in _LAYERS.items():
        known = {declared.name for declared in LAYER_TYPES[kind].properties}
        # Biases of embeddings are none of ours, and harmless: nobody can give them.
        assert {*keys} - known <= {"bias_initializer", "disable_bias", "bias_decay"}
