"""Files as NNTrainer's users write them, with what its reader takes."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import arena_ckpt as ac
from arena_ckpt.errors import ArenaWarning, IniError

HEAD = "[Model]\ntype = NeuralNetwork\n"
INPUT = "[in]\ntype = input\ninput_shape = 1:1:4\n"
FC = "[fc]\ntype = fully_connected\nunit = 3\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str) -> ac.Model:
    Path("m.ini").write_text(text)
    return ac.load_ini("m.ini")


def refused(text: str) -> str:
    with pytest.raises(IniError) as caught:
        load(text)
    return str(caught.value)


def layers(model: ac.Model) -> list[str]:
    return [layer.name for layer in model.layers]


# -- text ----------------------------------------------------------------------------


def test_quotes_are_no_part_of_a_value() -> None:
    model = load(
        f"{HEAD}batch_size = \"4\"   # four\nepochs = '2'; two\n{INPUT}"
        "[c]\ntype = 'conv2d'\nfilters = 2\nkernel_size = 1,1\npadding = \"same\"\n"
    )
    assert model.properties == {"batch_size": 4, "epochs": 2}
    assert model.layers[1]["padding"] == "same"


def test_comments_begin_only_outside_of_quotes() -> None:
    assert "epochs=2 # two is not" in refused(HEAD + 'epochs = "2 # two" # three')


def test_a_backslash_continues_a_line_and_lines_keep_their_numbers() -> None:
    model = load(
        f"{HEAD}[LearningRateScheduler]\ntype = step\niteration = 1, \\\n   2\n"
        "learning_rate = 0.3, 0.2,\\\n0.1\n"
    )
    assert model.schedule is not None
    assert model.schedule.values["iteration"] == (1, 2)
    assert model.schedule.values["learning_rate"] == (0.3, 0.2, 0.1)
    assert "m.ini, line 5, [Model] epoch" in refused(
        HEAD + "threads \\\n= 1\nepoch = 1"
    )
    assert load(HEAD + "epochs = 3\\").get_property("epochs") == 3


def test_a_comment_that_takes_the_next_line_is_warned_of() -> None:
    with pytest.warns(ArenaWarning, match="line 3: a comment that ends in a backslash"):
        model = load(HEAD + "# C:\\data\\\nepochs = 3\n")
    assert model.properties == {}


def test_sections_are_merged_and_of_equal_keys_the_last_counts() -> None:
    text = (
        f"{HEAD}epochs = 2\n{INPUT}{FC}[model]\nEPOCHS = 5\n[FC]\nactivation = relu\n"
    )
    said = (
        r"\[Model\] in line 10, \[Model\] epochs in line 11, \[fc\] in line 12 stood "
        "above already"
    )
    with pytest.warns(ArenaWarning, match=said):
        model = load(text)
    assert model.properties == {"epochs": 5}
    assert layers(model) == ["in", "fc"]
    assert model.layers[1]["unit"] == 3
    assert model.layers[1]["activation"] == "relu"
    with pytest.warns(ArenaWarning):
        assert "line 4, [Model] epochs" in refused(f"{HEAD}epochs = 1\nepochs = x\n")


def test_names_of_layers_are_found_in_any_case() -> None:
    model = load(
        f"{HEAD}[In]\ntype = input\ninput_shape = 1:1:4\n"
        "[Cut]\ntype = split\naxis = 3\ninput_layers = IN\n"
        "[a]\ntype = addition\ninput_layers = cut(0), CUT(2)\n"
        "[L]\ntype = mse\n[CheckpointBlock b]\nlayers = CUT, A\n"
    )
    assert model.layers[1]["input_layers"] == ("In",)
    assert model.layers[2]["input_layers"] == ("Cut(0)", "Cut(2)")
    assert model.blocks[0].layers == ("Cut", "a")


def test_names_that_differ_in_case_alone_cannot_be_saved() -> None:
    model = ac.Model()
    for name in ("Fc", "fC"):
        model.add_layer("flatten", name=name)
    with pytest.raises(IniError, match=r"\[Fc\] and \[fC\] would be one section"):
        model.save_ini("a.ini")
    assert not Path("a.ini").exists()


@pytest.mark.parametrize("name", ["'a", '"b"', "c\\", "d'e", "'f'\\"])
def test_names_with_quotes_and_backslashes_come_back(name: str) -> None:
    model = ac.Model()
    model.add_layer("input", name=name, input_shape="1:1:1")
    model.add_layer("mse", name="loss", input_layers=name)
    model.save_ini("a.ini")
    assert ac.load_ini("a.ini").layers[1]["input_layers"] == (name,)


def test_a_name_with_both_kinds_of_quotes_cannot_be_saved() -> None:
    model = ac.Model()
    model.add_layer("input", name="'a\"", input_shape="1:1:1")
    model.add_layer("mse", name="loss", input_layers="'a\"")
    with pytest.raises(IniError, match="both kinds of quotes"):
        model.save_ini("a.ini")


# -- [Model], [Optimizer], data --------------------------------------------------------


def test_what_is_left_out_is_said_in_one_warning() -> None:
    text = (
        f'{HEAD}Save_Path = "model.bin"\nsave_best_path = best.bin\n'
        "learning_rate = 0.5\n[Optimizer]\ntype = sgd\nlearning_rate = 0.25\n"
        '[DataSet]\nBufferSize=10\nTrainData="t.dat"\n[train_set]\ntype = file\n'
        f"path = t.dat\n{INPUT}normalization = true\n{FC}[loss]\ntype = mse\n"
    )
    with pytest.warns(ArenaWarning) as caught:
        model = load(text)
    (warning,) = caught
    said = str(warning.message)
    for part in (
        "m.ini: not taken over: [Dataset] in line 9 (data are given to train()",
        "[train_set] in line 12",
        "[Model] save_path in line 3",
        "[Model] save_best_path in line 4",
        "[Model] learning_rate in line 5 ([Optimizer] is there as well",
        "[in] normalization in line 18",
    ):
        assert part in said
    assert model.optimizer["learning_rate"] == 0.25
    assert model.make_plan().arena_bytes > 0


def test_keys_that_change_nothing_are_taken_in_silence() -> None:
    model = load(
        f"{HEAD}continue_train = false\nmodel_tensor_type = FP32-FP32\n"
        f"tensor_type = fp32\ntensor_format = NCHW\nfsu = false\n{INPUT}"
        "normalization = false\ntrainable = false\n[p]\ntype = pooling2d\n"
        "pooling = max\npool_size = 1,2\ntrainable = false\ndistribute = false\n"
        f"{FC}packed = false\nweight_dtype = FP32\n"
    )
    assert set(model.layers[0].given) == {"name", "input_shape"}
    assert set(model.layers[2].given) == {"name", "unit"}
    assert "float32" in refused(HEAD + "model_tensor_type = FP16-FP16\n")
    assert "unknown property 'packed'" in refused(HEAD + FC + "packed = maybe\n")


def test_the_decay_of_an_optimizer_is_an_exponential_schedule() -> None:
    optimizer = "[Optimizer]\ntype = adam\nlearning_rate = 0.1\n"
    decay = "Decay_rate = 0.96\nDecay_steps = 1000\n"
    expected = ac.create_schedule(
        "exponential", learning_rate=0.1, decay_rate=0.96, decay_steps=1000
    )
    assert load(HEAD + optimizer + decay).schedule == expected
    old = load(f"{HEAD}optimizer = adam\nlearning_rate = 0.1\nbeta1 = 0.8\n{decay}")
    assert old.schedule == expected
    assert old.optimizer["beta1"] == 0.8
    assert "line 6, [Optimizer] decay_rate: " in refused(
        HEAD + optimizer + "decay_rate = 0.5\n"
    )
    twice = refused(
        f"{HEAD}{optimizer}{decay}[LearningRateScheduler]\ntype = constant\n"
        "learning_rate = 1\n"
    )
    assert "line 8, [LearningRateScheduler]: the learning rate decays by" in twice


# -- layers ----------------------------------------------------------------------------


def test_activation_and_flatten_of_layers_without_such_properties() -> None:
    model = load(
        f"{HEAD}loss = cross\n"
        "[in]\ntype = input\ninput_shape = 2:2:3\nactivation = tanh\n"
        "[c]\ntype = conv2d\nfilters = 2\nkernel_size = 1,1\nflatten = true\n"
        "activation = relu\n[out]\ntype = fully_connected\ninput_layers = C\nunit = 2\n"
        "activation = softmax\n[CheckpointBlock b]\nlayers = in, c\n"
    )
    made = "/activation_realized"
    assert [(layer.name, layer.type_name) for layer in model.layers] == [
        ("in", "input"),
        ("in" + made, "activation"),
        ("c", "conv2d"),
        ("c/flatten_realized", "flatten"),
        (f"c{made}", "activation"),
        ("out", "fully_connected"),
        ("loss", "cross_softmax"),
    ]
    assert model.layers[1]["activation"] == "tanh"
    assert model.layers[3]["input_layers"] == ("c",)
    assert model.layers[4]["input_layers"] == ("c/flatten_realized",)
    assert model.layers[5]["input_layers"] == ("c" + made,)
    assert model.blocks[0].layers == tuple(layers(model)[:5])
    model.compile()
    model.save_ini("again.ini")
    assert layers(ac.load_ini("again.ini")) == layers(model)


def test_an_activation_of_many_outputs_stays_unknown() -> None:
    text = f"{HEAD}{INPUT}[s]\ntype = split\naxis = 3\nactivation = relu\n"
    assert "line 9, [s] activation" in refused(text)


def test_every_layer_of_a_backbone_stands_in_its_place() -> None:
    Path("body.ini").write_text(
        f"{HEAD}loss = cross\n[Optimizer]\ntype = sgd\n[b0]\ntype = input\n"
        f"{FC}activation = relu\n[act]\ntype = activation\nactivation = tanh\n"
        "[CheckpointBlock k]\nlayers = fc, act\n"
    )
    model = load(
        f'{HEAD}[Body]\nbackbone = "body.ini"\ntrainable = false\n'
        "input_shape = 1:1:4\n[out]\ntype = fully_connected\nunit = 2\n"
        "input_layers = body\n[loss]\ntype = mse\n"
    )
    assert layers(model) == ["b0", "fc", "act", "out", "loss"]
    assert model.layers[0]["input_shape"] == (1, 1, 4)
    assert model.layers[1]["trainable"] is False
    assert "trainable" not in model.layers[2].given
    assert model.layers[3]["input_layers"] == ("act",)
    assert model.layers[3].is_trainable
    assert model.blocks[0].layers == ("fc", "act")
    assert model.optimizer.type_name == "sgd"
    assert model.make_plan().arena_bytes > 0


def test_what_a_backbone_says_of_its_own_inputs_counts() -> None:
    Path("body.ini").write_text(INPUT + FC)
    body = f"{HEAD}[body]\nbackbone = body.ini\ninput_shape = "
    assert layers(load(body + "4")) == ["in", "fc"]
    with pytest.warns(ArenaWarning, match=r"\[body\] input_shape in line 5 .*'in'"):
        model = load(body + "1:1:5")
    assert model.layers[0]["input_shape"] == (1, 1, 4)


def test_backbones_that_cannot_be() -> None:
    body = f"{HEAD}[body]\nbackbone = "
    Path("none.ini").write_text(HEAD)
    Path("bad.ini").write_text("[x]\ntype = flaten\n")
    Path("untyped.ini").write_text("[x]\nunit = 3\n")
    Path("body.ini").write_text(INPUT + FC)
    Path("circle.ini").write_text("[a]\nbackbone = m.ini\n")
    assert "m.ini, line 4, [body] backbone: nothing.ini" in refused(
        body + "nothing.ini"
    )
    assert "none.ini has no layers" in refused(body + "none.ini")
    assert "bad.ini, line 2, [x] type: " in refused(body + "bad.ini")
    assert "untyped.ini, line 1, [x] type: " in refused(body + "untyped.ini")
    assert "circle.ini, line 2, [a] backbone: m.ini is read" in refused(
        body + "circle.ini"
    )
    assert (
        "body.ini, line 4, [fc]: a layer of this name is in m.ini, line 5"
        in refused(
            f"{body}none.ini\n{FC}[again]\nbackbone = body.ini\n".replace(
                "none.ini", "x.ini"
            )
            if Path("x.ini").write_text("[y]\ntype = flatten\n")
            else ""
        )
    )
    assert "trainable=maybe" in refused(body + "body.ini\ntrainable = maybe")
    assert "input_shape=x" in refused(body + "body.ini\ninput_shape = x")
    assert "no key outputlayer" in refused(body + "body.ini\nOutputLayer = fc")
    assert "no INI file" in refused(body + "mobilenet.tflite")


def test_all_of_it_is_read_on_a_command_line_with_its_warning() -> None:
    from helpers.command_line import run

    Path("m.ini").write_text(f"{HEAD}save_path = m.bin\n{INPUT}{FC}[l]\ntype = mse\n")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = run("plan", "m.ini", "--brief")
    assert result.exit_code == 0, result.output
    assert "save_path in line 3" in result.stderr
