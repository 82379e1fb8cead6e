import os
import warnings
from pathlib import Path

import pytest
from helpers.strategies import ModelSpec, chains, dags
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt import Model, create_schedule, load_ini
from arena_ckpt.definition.ini_writer import canonical_section, layer_name_fault
from arena_ckpt.errors import (
    ArenaWarning,
    IniFileNotFoundError,
    InvalidParameterError,
    NonConsecutiveBlockError,
    UnknownBlockLayerError,
    UnknownPropertyError,
    UnknownTypeError,
)
from arena_ckpt.errors import IniError as Error
from arena_ckpt.importers.ini_sections import LARGEST_FILE_BYTES
from arena_ckpt.layers import Layer

SMALL = """\
[Model]
type = NeuralNetwork
batch_size = 4
seed = 7

[Optimizer]
type = adam
learning_rate = 0.002

[LearningRateScheduler]
type = step
iteration = 10, 20
learning_rate = 0.1, 0.01, 0.001

[in]
type = input
input_shape = 1:1:4

[fc1]
type = fully_connected
unit = 3
activation = relu

[fc2]
type = fully_connected
input_layers = fc1
unit = 2
weight_decay = 1e-05

[loss]
type = mse

[CheckpointBlock hidden]
layers = fc1, fc2
"""
HEAD = "[Model]\ntype = NeuralNetwork\n"
INPUT = "[in]\ntype = input\ninput_shape = 1:1:4\n"


def load(tmp_path: Path, text: str | bytes, name: str = "model.ini") -> Model:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_ini(path)


def fail(tmp_path: Path, text: str | bytes, *parts: str) -> Error:
    """Load what cannot be loaded; the file and all `parts` are in the message."""
    with pytest.raises(Error) as caught:
        load(tmp_path, text)
    for part in (str(tmp_path / "model.ini"), *parts):
        assert part in str(caught.value)
    assert caught.value.path == str(tmp_path / "model.ini")
    return caught.value


def parts(model: Model) -> tuple[object, ...]:
    return (
        model.properties,
        [(layer.type_name, dict(layer.given)) for layer in model.layers],
        model.blocks,
        model.optimizer,
        model.schedule,
        model.seed,
    )


# -- reading -----------------------------------------------------------------------


def test_every_part_of_a_model_is_read(tmp_path: Path) -> None:
    model = load(tmp_path, SMALL)

    assert model.seed == 7
    assert model.properties == {"batch_size": 4}
    assert model.optimizer.type_name == "adam"
    assert model.optimizer["learning_rate"] == 0.002
    assert model.schedule == create_schedule(
        "step", iteration=[10, 20], learning_rate=[0.1, 0.01, 0.001]
    )
    assert [layer.name for layer in model.layers] == ["in", "fc1", "fc2", "loss"]
    assert model.layers[2]["input_layers"] == ("fc1",)
    assert model.blocks[0].layers == ("fc1", "fc2")
    assert model.blocks[0].name == "hidden"
    assert model.make_plan().arena_bytes > 0


def test_case_spaces_and_comments_do_not_matter(tmp_path: Path) -> None:
    text = (
        "\ufeff; a comment\r\n\r\n  [ mODEL ]  # here too\r\n"
        "  TYPE=neuralnetwork;and here\r\n\tBatch_Size =  4   # four\r\n"
        "[optimizer]\r\nType = ADAM\r\n[In]\r\ntype = INPUT\r\nInput_Shape = 1:1:4\r\n"
        "[fc]\r\ntype = Fully_Connected\r\n  unit = 2\r\n[l]\r\ntype = MSE\r\n"
        "[checkpointblock  b 1 ]\r\nLayers = In ,fc"
    )
    model = load(tmp_path, text)

    assert model.get_property("batch_size") == 4
    assert model.optimizer.type_name == "adam"
    assert [layer.name for layer in model.layers] == ["In", "fc", "l"]
    assert model.blocks[0].layers == ("In", "fc")
    assert model.blocks[0].name == "b 1"


def test_a_section_called_default_is_a_layer(tmp_path: Path) -> None:
    text = HEAD + INPUT.replace("[in]", "[DEFAULT]") + "[loss]\ntype = mse\n"
    assert [layer.name for layer in load(tmp_path, text).layers] == ["DEFAULT", "loss"]


def test_without_optimizer_the_default_and_without_type_adam(tmp_path: Path) -> None:
    assert load(tmp_path, HEAD).optimizer.type_name == "sgd"
    text = HEAD + "[Optimizer]\nepsilon = 1e-6\n"
    assert load(tmp_path, text).optimizer.type_name == "adam"


def test_optimizer_in_its_old_place(tmp_path: Path) -> None:
    optimizer = load(
        tmp_path, HEAD + "optimizer = Adam\nlearning_rate = 0.5\nbeta1 = 0.8\n"
    ).optimizer
    assert optimizer.type_name == "adam"
    assert (optimizer["learning_rate"], optimizer["beta1"]) == (0.5, 0.8)


@pytest.mark.parametrize("loss", ["mse", "cross_softmax", "cross_sigmoid"])
def test_loss_in_the_model_section(tmp_path: Path, loss: str) -> None:
    text = f"{HEAD}loss = {loss.upper()}\n{INPUT}[fc]\ntype = fully_connected\nunit = 2"
    last = load(tmp_path, text).layers[-1]
    assert (last.type_name, last.name) == (loss, "loss")


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_cross_replaces_the_last_activation(tmp_path: Path, kind: str) -> None:
    text = (
        f"{HEAD}loss = cross\n{INPUT}[fc]\ntype = fully_connected\nunit = 2\n"
        f"[act]\ntype = activation\ninput_layers = fc\nactivation = {kind}\n"
        "[CheckpointBlock b]\nlayers = fc, act\n"
    )
    model = load(tmp_path, text)

    assert [layer.name for layer in model.layers] == ["in", "fc", "loss"]
    assert model.layers[-1].type_name == f"cross_{kind}"
    assert model.layers[-1]["input_layers"] == ("fc",)
    assert model.blocks[0].layers == ("fc", "loss")
    model.compile()


def test_cross_takes_the_activation_of_a_layer(tmp_path: Path) -> None:
    text = (
        f"{HEAD}loss = cross\n{INPUT}[fc]\ntype = fully_connected\nunit = 2\n"
        "activation = softmax\n"
    )
    model = load(tmp_path, text)
    assert model.layers[1]["activation"] == "none"
    assert model.layers[-1].type_name == "cross_softmax"


def test_a_file_in_the_style_of_nntrainer(tmp_path: Path) -> None:
    text = (
        "# Network\n\n[Model]\nType = NeuralNetwork\t# of all types this one\n"
        "Epochs = 20\t\t# passes\nLoss = cross\t# mse or\n"
        "\t\t# cross\n# Save_Path = model.bin\nbatch_size=16\n\n"
        "[Optimizer]\nType = adam\nbeta1 = 0.9\t# first\nepsilon = 1e-7\n\n"
        "[LearningRateScheduler]\ntype=constant\nLearning_rate = 1e-4\n\n"
        "# Layers\n[inputlayer]\nType = input\nInput_Shape = 1:4:4\n\n"
        "[flat]\nType=flatten\ninput_layers = inputlayer\n\n"
        "[hidden]\nType = fully_connected\nUnit = 8\nbias_initializer=zeros\n"
        "Activation = tanh\n\n"
        "[outputlayer]\nType = fully_connected\ninput_layers=hidden\nUnit = 3\n"
        "weight_initializer = xavier_uniform\nActivation = softmax\n"
    )
    model = load(tmp_path, text)

    assert model.properties == {"batch_size": 16, "epochs": 20}
    assert dict(model.optimizer.given) == {"beta1": 0.9, "epsilon": 1e-7}
    assert model.schedule == create_schedule("constant", learning_rate=1e-4)
    assert [(layer.name, layer.type_name) for layer in model.layers] == [
        ("inputlayer", "input"),
        ("flat", "flatten"),
        ("hidden", "fully_connected"),
        ("outputlayer", "fully_connected"),
        ("loss", "cross_softmax"),
    ]
    assert model.make_plan().arena_bytes > 0


# -- round trip --------------------------------------------------------------------


def test_saved_text_is_what_was_read(tmp_path: Path) -> None:
    load(tmp_path, SMALL).save_ini(tmp_path / "again.ini")
    assert (tmp_path / "again.ini").read_text() == SMALL
    assert sorted(os.listdir(tmp_path)) == ["again.ini", "model.ini"]


def test_an_empty_model_comes_back(tmp_path: Path) -> None:
    Model().save_ini(tmp_path / "empty.ini")
    assert parts(load_ini(tmp_path / "empty.ini")) == parts(Model())


schedules = st.one_of(
    st.none(),
    st.floats(1e-9, 1e9).map(lambda x: create_schedule("constant", learning_rate=x)),
    st.floats(1e-9, 1e9).map(
        lambda x: create_schedule(
            "step", iteration=[1, 2**40], learning_rate=[x, x / 3, 0.1]
        )
    ),
)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(spec=chains() | dags(), schedule=schedules, seed=st.integers(0, 2**64 - 1))
def test_any_model_comes_back_equal(
    tmp_path_factory: pytest.TempPathFactory,
    spec: ModelSpec,
    schedule: object,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("ini")
    model = spec.model()
    model.seed = seed
    if schedule:
        model.set_learning_rate_scheduler(schedule)
    model.save_ini(folder / "a.ini")
    back = load_ini(folder / "a.ini")
    back.save_ini(folder / "b.ini")

    assert parts(back) == parts(model)
    assert (folder / "b.ini").read_bytes() == (folder / "a.ini").read_bytes()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    name=st.text(min_size=1, max_size=12)
    | st.sampled_from(["DEFAULT", "a b", "é", "OPTIMIZER"])
)
def test_any_name_comes_back_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    path = tmp_path_factory.mktemp("ini") / "a.ini"
    model = Model()
    try:
        model.add_layer("input", name=name, input_shape=(1, 1, 1))
    except InvalidParameterError:
        return
    try:
        model.save_ini(path)
    except Error:
        assert layer_name_fault(model.layers[0].name)
        assert not path.exists()
    else:
        assert parts(load_ini(path)) == parts(model)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(data=st.binary(max_size=60) | st.text("[]=#;\nModel type=cx, \r\t\\'\"%$"))
def test_no_bytes_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: bytes | str
) -> None:
    path = tmp_path_factory.mktemp("ini") / "a.ini"
    path.write_bytes(data if isinstance(data, bytes) else (HEAD + data).encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ArenaWarning)  # of keys and sections twice
        try:
            load_ini(path)
        except Error as error:
            assert str(path) in str(error)  # noqa: PT017 (loading may also work)


def test_canonical_sections() -> None:
    assert canonical_section(" model ") == "Model"
    assert canonical_section("LEARNINGRATESCHEDULER") == "LearningRateScheduler"
    assert canonical_section("checkpointBLOCK\t a  b ") == "CheckpointBlock a  b"
    assert canonical_section("Modelling") == "Modelling"


# -- saving ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["Model", "optimizer", "train_set", "CheckpointBlock", "checkpointblock x"]
)
def test_names_of_other_sections_cannot_be_saved(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.ini"
    path.write_text("old")
    model = Model()
    model.add_layer("input", name=name, input_shape=(1, 1, 1))
    with pytest.raises(Error, match="another meaning") as caught:
        model.save_ini(path)
    assert str(path) in str(caught.value)
    assert repr(name) in str(caught.value)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["model.ini"]


@pytest.mark.parametrize("name", ["a]", "a#b", " a"])
def test_block_names_that_no_section_can_have(tmp_path: Path, name: str) -> None:
    model = load(tmp_path, HEAD + INPUT + "[loss]\ntype = mse\n")
    model.add_checkpoint_block(["in", "loss"], name)
    with pytest.raises(Error, match="checkpoint block"):
        model.save_ini(tmp_path / "new.ini")
    assert os.listdir(tmp_path) == ["model.ini"]


def test_foreign_layer_types_and_missing_inputs_cannot_be_saved(tmp_path: Path) -> None:
    class Foreign(Layer):
        type_name = "foreign"
        infer = None  # type: ignore[assignment]

    model = Model()
    model.add_layer(Foreign({"name": "f"}))
    with pytest.raises(Error, match="Foreign"):
        model.save_ini(tmp_path / "a.ini")
    model = Model()
    model.add_layer("input", name="in1", input_shape=(1, 1, 1))
    model.add_layer("mse", name="loss", input_layers="in2")
    with pytest.raises(Error, match=r"'in2'.*did you mean 'in1'"):
        model.save_ini(tmp_path / "a.ini")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, None, True])
def test_seeds_that_cannot_be_saved(tmp_path: Path, seed: object) -> None:
    with pytest.raises(Error, match="seed"):
        Model(seed=seed).save_ini(tmp_path / "a.ini")  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.ini"
    path.write_text("old")

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(Error, match="No space left"):
        Model().save_ini(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["model.ini"]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(Error, match="folder"):
        Model().save_ini(tmp_path)
    with pytest.raises(Error, match="No such file"):
        Model().save_ini(tmp_path / "missing" / "a.ini")
    with pytest.raises(Error, match="cannot be written"):
        Model().save_ini(f"{tmp_path}/a\0b")
    assert os.listdir(tmp_path) == []


def test_saving_follows_links_and_keeps_usual_rights(tmp_path: Path) -> None:
    target, link, plain = tmp_path / "t.ini", tmp_path / "l.ini", tmp_path / "p.ini"
    target.write_text("old")
    link.symlink_to(target)
    plain.write_text("")
    Model().save_ini(link)
    assert link.is_symlink()
    assert target.read_text().startswith("[Model]")
    assert target.stat().st_mode == plain.stat().st_mode


def test_saving_keeps_the_rights_of_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ini"
    path.touch(mode=0o600)
    Model().save_ini(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(Error, match="no regular file"):
        Model().save_ini(path)
    assert path.is_fifo()
    with pytest.raises(Error, match="no regular file"):
        load_ini(path)
    assert os.listdir(tmp_path) == ["pipe"]


def test_the_longest_names_can_be_saved(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".ini")
    Model().save_ini(path)
    assert parts(load_ini(path)) == parts(Model())


# -- bad files ---------------------------------------------------------------------


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "digits.ini").write_text(HEAD)
    with pytest.raises(Error, match=r"digits\.ini") as caught:
        load_ini(tmp_path / "digit.ini")
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, IniFileNotFoundError)
    assert caught.value.near == "digits.ini"
    assert caught.value.path == str(tmp_path / "digit.ini")


def test_folders_and_impossible_paths(tmp_path: Path) -> None:
    with pytest.raises(Error, match="is a folder"):
        load_ini(tmp_path)
    with pytest.raises(Error):
        load_ini("a\0b")


def test_a_file_of_more_than_16_mib(tmp_path: Path) -> None:
    path = tmp_path / "model.ini"
    with path.open("wb") as stream:
        stream.truncate(LARGEST_FILE_BYTES + 1)
    with pytest.raises(Error, match="16,777,217 bytes"):
        load_ini(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    error = fail(tmp_path, b"[Model]\n\xff\n", "line 2", "0xff", "UTF-8")
    assert (error.line, error.offset) == (2, 8)
    error = fail(tmp_path, b"\xef\xbb\xbf[Model]\n\xff\n", "line 2")
    assert error.offset == 11
    fail(tmp_path, "[Model]\n".encode("utf-16"), "line 1", "NUL")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["no [Model] section"]),
        ("[Modle]\ntype = NeuralNetwork", ["did you mean [Modle]?"]),
        ("unit = 1\n[Model]", ["line 1", "'unit = 1'", "before any section"]),
        ("x", ["line 1", "'x'", "before any section"]),
        (HEAD + "x" * 999, ["line 3", "xxx…'"]),
        (HEAD + "nonsense", ["line 3", "[Model]", "'nonsense'", "key = value"]),
        (HEAD + "= 3", ["line 3", "[Model]", "key = value"]),
        (HEAD + "[in\ntype = input", ["line 3", "'[in'", "[NAME]"]),
        (HEAD + "[]", ["line 3", "'[]'"]),
        (HEAD + "[ ]", ["line 3", "'[]'"]),
        (HEAD + "[a] b]\ntype = mse", ["line 3", "[a] b]"]),
        (HEAD + "epochs =", ["line 3", "[Model] epochs", "no value"]),
        (HEAD + "epoch = 3", ["line 3", "[Model] epoch", "did you mean 'epochs'?"]),
        (HEAD + "epochs = no", ["line 3", "[Model] epochs", "whole number"]),
        (HEAD + "seed = -1", ["line 3", "[Model] seed", "from 0"]),
        (HEAD + "continue_train = true", ["line 3", "continue_train", "when it is"]),
        (HEAD + "tensor_format = NHWC", ["line 3", "[Model] tensor_format", "NCHW"]),
        ("[Model]\ntype = knn", ["line 2", "[Model] type", "NeuralNetwork"]),
        (HEAD + "loss = crossed", ["line 3", "[Model] loss", "did you mean 'cross'?"]),
        (HEAD + "loss = cross", ["line 3", "[Model] loss", "softmax or sigmoid"]),
        (HEAD + "loss = mse\n[l]\ntype = mse", ["line 3", "[Model] loss", "line 4"]),
        (HEAD + "loss = mse\n[loss]\ntype = flatten", ["line 3", "line 4"]),
        (HEAD + "optimizer = adm", ["line 3", "[Model] optimizer", "'adam'"]),
        (HEAD + "optimizer = sgd\nbeta1 = 0.5", ["line 4", "[Model] beta1", "sgd"]),
        (HEAD + "learning_rate = 1", ["line 3", "learning_rate", "[Optimizer]"]),
        (
            HEAD + "optimizer = sgd\n[Optimizer]\ntype = sgd",
            ["line 3", "[Model] optimizer", "as well"],
        ),
        (HEAD + "[Optimiser]\ntype = adam", ["line 4", "did you mean [Optimizer]?"]),
        (HEAD + "[Optimizer]\ntype = adan", ["line 4", "[Optimizer] type", "'adam'"]),
        (
            HEAD + "[Optimizer]\ntype = adam\nlearning_rat = 1",
            ["line 5", "[Optimizer] learning_rat", "did you mean 'learning_rate'?"],
        ),
        (
            HEAD + "[LearningRateScheduler]\nlearning_rate = 1",
            ["line 3", "[LearningRateScheduler] type", "no type"],
        ),
        (
            HEAD + "[LearningRateScheduler]\ntype = constan",
            ["line 4", "[LearningRateScheduler] type", "did you mean 'constant'?"],
        ),
        (
            HEAD + "[LearningRateScheduler]\ntype = constant",
            ["line 3", "[LearningRateScheduler]", "missing learning_rate"],
        ),
        (HEAD + "epochs = 'a", ["line 3", 'epochs = "\'a"', "close it"]),
        (HEAD + 'epochs = "3" 4', ["line 3", "close it at the end"]),
        (HEAD + "[fc]\nunit = 3", ["line 3", "[fc] type", "no type"]),
        (HEAD + "[fc]\ntyp = mse", ["[fc] type", "by 'typ'"]),
        (HEAD + "[fc]\ntype = flaten", ["line 4", "[fc] type", "'flatten'"]),
        (HEAD + "[fc]\ntype = flatten\nname = x", ["line 5", "[fc] name", "remove"]),
        (
            HEAD + "[fc]\ntype = fully_connected\nunits = 3",
            ["line 5", "[fc] units", "did you mean 'unit'?"],
        ),
        (
            HEAD + "[fc]\ntype = fully_connected\nunit = three",
            ["line 5", "[fc] unit", "unit=three", "whole number"],
        ),
        (
            HEAD + "[fc]\nbackbone = a.tflite",
            ["line 4", "[fc] backbone", "no INI file"],
        ),
        (HEAD + "[CheckpointBlok b]\nlayers = a, b", ["[CheckpointBlock NAME]"]),
        (HEAD + "[a=b]\ntype = mse", ["line 3", "[a=b]", "name"]),
        (HEAD + "[a\tb]\ntype = mse", ["line 3", "cannot be printed"]),
        (
            HEAD + INPUT + "[loss]\ntype = mse\ninput_layers = inn",
            ["line 8", "[loss] input_layers", "did you mean 'in'?"],
        ),
        (HEAD + "[CheckpointBlock]\nlayers = a, b", ["line 3", "NAME"]),
        (HEAD + "[CheckpointBlock b]", ["line 3", "[CheckpointBlock b] layers"]),
        (
            HEAD + "[CheckpointBlock b]\nlayer = a, b",
            ["line 4", "[CheckpointBlock b] layer", "did you mean 'layers'?"],
        ),
        (
            HEAD + INPUT + "[loss]\ntype = mse\n[CheckpointBlock b]\nlayers = im, loss",
            ["line 9", "[CheckpointBlock b] layers", "did you mean 'in'?"],
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: list[str]) -> None:
    fail(tmp_path, text, *said)
    assert os.listdir(tmp_path) == ["model.ini"]


def test_long_lines_cost_linear_time(tmp_path: Path) -> None:
    spaces = " " * 10**6
    fail(tmp_path, f"{HEAD}a{spaces}b", "line 3")
    fail(tmp_path, f"{HEAD}a{spaces}b = 1", "line 3", "'a b'")


def test_facts_and_cause_of_an_error_are_kept(tmp_path: Path) -> None:
    text = HEAD + INPUT + "[fc]\ntype = fully_connected\nunits = 3\n"
    error = fail(tmp_path, text)
    assert (error.section, error.key, error.line) == ("fc", "units", 8)
    assert error.property == "units"
    assert "unit" in error.known
    assert isinstance(error.__cause__, UnknownPropertyError)

    error = fail(tmp_path, HEAD + "[fc]\ntype = fc")
    assert error.type_name == "fc"
    assert isinstance(error.__cause__, UnknownTypeError)


@pytest.mark.parametrize(
    ("layers", "kind"),
    [
        ("fc1, loss", NonConsecutiveBlockError),
        ("fc2, fc1", NonConsecutiveBlockError),
        ("fc1, fc3", UnknownBlockLayerError),
        ("fc1, , fc2", UnknownBlockLayerError),
    ],
)
def test_blocks_that_cannot_be(tmp_path: Path, layers: str, kind: type) -> None:
    text = SMALL.replace("layers = fc1, fc2", f"layers = {layers}")
    error = fail(tmp_path, text, "[CheckpointBlock hidden] layers", "line 34")
    assert isinstance(error.__cause__, kind)
