"""Names of other frameworks: each alias leads to a name that exists, and is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import click
import pytest
from helpers.command_line import run

import arena_ckpt as ac
from arena_ckpt.cli import main
from arena_ckpt.common import aliases
from arena_ckpt.common.aliases import Alias, Table, renamed
from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.properties import Property, split_strings
from arena_ckpt.definition.model_definition import MODEL_PROPERTIES
from arena_ckpt.errors import (
    ArgumentError,
    IniError,
    InvalidParameterError,
    UnknownPropertyError,
    UnknownTypeError,
)
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.layers.functions import ACTIVATION
from arena_ckpt.optim.learning_rates import SCHEDULE_SCHEMAS
from arena_ckpt.optim.optimizers import OPTIMIZER_SCHEMAS

BUNDLED_LAYERS = {
    name: layer
    for name, layer in LAYER_TYPES.items()
    if layer.__module__.startswith("arena_ckpt.")
}


def schemas() -> Iterator[tuple[Property, ...]]:
    yield from (tuple(layer.properties) for layer in BUNDLED_LAYERS.values())
    yield from (*OPTIMIZER_SCHEMAS.values(), *SCHEDULE_SCHEMAS.values())
    yield MODEL_PROPERTIES


def commands() -> dict[str, click.Command]:
    return dict(main.commands)


def options() -> set[str]:
    found = list(commands().values())
    for command in [*found]:
        found += getattr(command, "commands", {}).values()
    params = [param for command in found for param in command.params]
    return {option for param in params for option in param.opts}


def words_of_properties() -> set[str]:
    return {word for schema in schemas() for p in schema for word in p.kind.words}


TABLES: dict[str, tuple[Table, Callable[[], Iterable[str]]]] = {
    "layers": (aliases.LAYERS, lambda: BUNDLED_LAYERS),
    "properties": (
        aliases.PROPERTIES,
        # `seed` is a key of [Model] in INI files.
        lambda: {"seed", *(p.name for schema in schemas() for p in schema)},
    ),
    "values": (aliases.VALUES, words_of_properties),
    "optimizers": (aliases.OPTIMIZERS, lambda: OPTIMIZER_SCHEMAS),
    "schedules": (aliases.SCHEDULES, lambda: SCHEDULE_SCHEMAS),
    "arguments": (
        aliases.ARGUMENTS,
        lambda: {
            *("epochs", "validation", "progress", "on_epoch"),
            *("budget", "memories"),
        },
    ),
    "options": (aliases.OPTIONS, options),
    "commands": (aliases.COMMANDS, commands),
}


@pytest.mark.parametrize("which", TABLES)
def test_every_alias_leads_to_a_name_that_exists(which: str) -> None:
    table, names = TABLES[which]
    known = set(names())
    for word, meanings in table.items():
        for alias in meanings:
            assert alias.name in known or (not alias.name and alias.note), word


@pytest.mark.parametrize(
    "which", ["layers", "values", "optimizers", "schedules", "commands"]
)
def test_no_alias_shadows_a_real_name(which: str) -> None:
    table, names = TABLES[which]
    real = {name.lower().replace("_", "").replace("-", "") for name in names()}
    assert real.isdisjoint(table)


@pytest.mark.parametrize("which", TABLES)
def test_words_are_written_as_they_are_looked_up(which: str) -> None:
    for word in TABLES[which][0]:
        assert word == word.lower()
        assert not set(word) & set("_- ")


def test_the_properties_of_an_alias_can_be_set() -> None:
    for table, make in (
        (aliases.LAYERS, ac.create_layer),
        (aliases.OPTIMIZERS, ac.create_optimizer),
    ):
        for meanings in table.values():
            for alias in (one for one in meanings if one.name):
                given = [text for text in alias.properties.split(", ") if text]
                made = make(alias.name, given)
                for name, text in split_strings("alias", given).items():
                    value = made[name]
                    wanted = (
                        float(text) if isinstance(value, float) else str(value).lower()
                    )
                    assert wanted == (value if isinstance(value, float) else text)


def test_every_activation_is_known_as_a_layer_too() -> None:
    for activation in set(ACTIVATION.words) - {"none"}:
        hint = renamed(activation, aliases.LAYERS, LAYER_TYPES)
        assert f"'activation' with activation={activation}" in hint


def test_known_names_raise_no_question() -> None:
    for name, layer in BUNDLED_LAYERS.items():
        for declared in layer.properties:
            try:
                ac.create_layer(name, [f"{declared.name}=?"])
            except UnknownPropertyError as error:
                pytest.fail(str(error))
            except InvalidParameterError:
                pass


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("Dense", "'fully_connected'?"),
        ("linear", "'fully_connected'?"),
        ("fc", "'fully_connected'?"),
        ("FullyConnected", "'fully_connected'?"),
        ("ReLU", "'activation' with activation=relu?"),
        ("SiLU", "'activation' with activation=swish?"),
        ("BatchNorm2d", "'batch_normalization'?"),
        ("layer_norm", "'layer_normalization'?"),
        ("MaxPool2D", "'pooling2d' with pooling=max?"),
        ("global_avg_pool", "'pooling2d' with pooling=global_average?"),
        ("crossEntropy", "'cross_softmax'?"),
        ("sparse_categorical_crossentropy", "'cross_softmax'?"),
        ("BCEWithLogitsLoss", "'cross_sigmoid'?"),
        ("self_attention", "'multi_head_attention'?"),
        ("embed", "'embedding'?"),
        ("cat", "'concat'?"),
        ("residual", "'addition'?"),
        ("embeding", "'embedding'?"),  # a typing error
    ],
)
def test_types_of_layers_are_told(word: str, meant: str) -> None:
    with pytest.raises(UnknownTypeError) as caught:
        ac.create_layer(word)
    assert str(caught.value).startswith(
        f"unknown layer type '{word}' (did you mean {meant}"
    )


@pytest.mark.parametrize(
    ("kind", "given", "hint"),
    [
        ("fully_connected", "units=3", "did you mean 'unit'?"),
        ("fully_connected", "out_features=3", "did you mean 'unit'?"),
        ("lstm", "hidden_size=3", "did you mean 'unit'?"),
        ("gru", "bias=false", "did you mean 'disable_bias'?; it means the opposite"),
        ("fully_connected", "use_bias=false", "did you mean 'bias'?"),
        ("fully_connected", "in_features=3", "the size of what a layer reads follows"),
        ("fully_connected", "act=relu", "did you mean 'activation'?"),
        ("conv2d", "out_channels=3", "did you mean 'filters'?"),
        ("conv2d", "kernel=3", "did you mean 'kernel_size'?"),
        ("pooling2d", "kernel_size=3", "did you mean 'pool_size'?"),
        ("embedding", "num_embeddings=3", "did you mean 'in_dim'?"),
        ("embedding", "embedding_dim=3", "did you mean 'out_dim'?"),
        ("multi_head_attention", "embed_dim=3", "did you mean 'output_shape'?"),
        ("dropout", "p=0.1", "did you mean 'dropout_rate'?"),
        ("dropout", "batch_size=3", "it is a property of the model"),
        ("dropout", "droput_rate=3", "did you mean 'dropout_rate'?"),
    ],
)
def test_properties_of_layers_are_told(kind: str, given: str, hint: str) -> None:
    with pytest.raises(UnknownPropertyError) as caught:
        ac.create_layer(kind, [given])
    assert f"unknown property '{given.partition('=')[0]}' ({hint}" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "given", "meant"),
    [
        ("activation", "activation=silu", "swish"),
        ("activation", "activation=linear", "none"),
        ("activation", "activation=LeakyReLU", "leaky_relu"),
        ("activation", "activation=sigmiod", "sigmoid"),
        ("pooling2d", "pooling=avg", "average"),
        ("upsample2d", "upsample=linear", "bilinear"),
        ("fully_connected", "weight_initializer=glorot_uniform", "xavier_uniform"),
    ],
)
def test_words_for_values_are_told(kind: str, given: str, meant: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        ac.create_layer(kind, [given])
    assert f"{given} is not possible (did you mean '{meant}'?); expected one of" in str(
        caught.value
    )


def test_optimizers_schedules_and_models_are_told() -> None:
    model = ac.Model()
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: model.set_optimizer("adam_w"), "(did you mean 'adamw'?)"),
        (
            lambda: ac.create_optimizer("momentum"),
            "(did you mean 'sgd' with momentum=0.9?)",
        ),
        (lambda: ac.create_optimizer("sgd", lr=1), "(did you mean 'learning_rate'?)"),
        (lambda: ac.create_optimizer("adam", beta_1=1), "(did you mean 'beta1'?)"),
        (lambda: ac.create_schedule("cosine_annealing"), "(did you mean 'cosine'?)"),
        (lambda: ac.create_schedule("cosine", T_max=3), "(did you mean 'decay_steps'?"),
        (lambda: model.set_property(batch=3), "(did you mean 'batch_size'?)"),
        (lambda: model.set_property(num_epochs=3), "(did you mean 'epochs'?)"),
        (
            lambda: model.set_property(lr=3),
            "(it is a property of the optimizer: set_op",
        ),
        (lambda: model.set_property(seed=3), "(it is given to Model(seed=…))"),
    ]
    for call, hint in cases:
        with pytest.raises(InvalidParameterError) as caught:
            call()
        assert hint in str(caught.value)


def test_arguments_are_told() -> None:
    @public_call
    def train(data: object, *, epochs: int = 1) -> None:
        pass

    with pytest.raises(ArgumentError, match=r"'num_epochs' \(did you mean 'epochs'"):
        train(1, num_epochs=3)  # type: ignore[call-arg]
    with pytest.raises(ArgumentError, match=r"\(it is a property of the model: set_"):
        train(1, batch_size=3)  # type: ignore[call-arg]


def test_ini_files_are_told(tmp_path: object) -> None:
    path = f"{tmp_path}/a.ini"
    for text, hint in (
        (
            "loss = crossentropy\n",
            "unknown loss 'crossentropy' (did you mean 'cross_so",
        ),
        ("batch = 3\n", "unknown property 'batch' (did you mean 'batch_size'?)"),
        ("random_state = 3\n", "'random_state' (did you mean 'seed'?)"),
        ("[d]\ntype = Dense\n", "[d] type: unknown layer type 'Dense' (did you mean"),
        (
            "[d]\ntype = conv2d\nksize = 3\n",
            "[d] ksize: layer 'd' (conv2d): unknown prop",
        ),
        ("[Optimizer]\ntype = AdamW\nlr = 3\n", "'lr' (did you mean 'learning_rate'?)"),
    ):
        with open(path, "w") as file:
            file.write(f"[Model]\ntype = NeuralNetwork\n{text}")
        with pytest.raises(IniError) as caught:
            ac.load_ini(path)
        assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train digits_mlp --lr 3", "--lr (it is a part of MODEL, and no option"),
        ("train digits_mlp --batch 3", "--batch (did you mean '--batch-size'?)"),
        ("train digits_mlp --bs 3", "--bs (did you mean '--batch-size'?)"),
        (
            "train digits_mlp --batch_size 3",
            "--batch_size (did you mean '--batch-size'",
        ),
        ("train digits_mlp --epoch 3", "--epoch (did you mean '--epochs'?)"),
        ("train digits_mlp --out 3", "--out (did you mean '--save'?)"),
        ("report digits_mlp --out 3", "--out (did you mean '--output'?)"),
        ("plan digits_mlp --mcu rp2040", "--mcu (did you mean '--board'?)"),
        ("train digits_mlp --keep-lats", "--keep-lats (did you mean '--keep-last'?)"),
        ("train digits_mlp -e 3", "-e (did you mean '--epochs'?)"),
    ],
)
def test_options_are_told(arguments: str, message: str) -> None:
    result = run(*arguments.split())
    assert result.exit_code == 2
    assert f"error: there is no option {message}" in result.stderr
    assert f"{arguments.split()[0]} --help'" in result.stderr


def test_commands_are_told() -> None:
    for word, meant in (("eval", "evaluate"), ("fit", "train"), ("plann", "plan")):
        assert f"no command '{word}' (did you mean '{meant}'?)" in run(word).stderr


def test_what_is_like_nothing_gets_no_hint() -> None:
    assert renamed("zzz", aliases.LAYERS, LAYER_TYPES) == ""
    assert renamed(math.pi, aliases.VALUES, ("a",)) == ""
    # An alias of what the owner has not is passed over.
    assert renamed("units", aliases.PROPERTIES, ["filters"]) == ""
    assert Alias("a", "b=c", "note").text() == "did you mean 'a' with b=c?; note"
