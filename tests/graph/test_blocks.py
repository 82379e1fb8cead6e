"""Bad checkpoint blocks: each is refused by name and leaves the model as it was."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from arena_ckpt import InvalidParameterError, Model, Phase
from arena_ckpt.errors import (
    AfterInitializationError,
    BlockTooSmallError,
    CheckpointBlockError,
    DuplicateBlockLayerError,
    DuplicateNameError,
    NonConsecutiveBlockError,
    OverlappingBlocksError,
    ReversedBlockError,
    UnknownBlockLayerError,
)

CONSECUTIVE = "Layers in checkpoint block must be consecutive"
GOOD = ("fc2", "act2")
FORWARD_ORDER = ("in", "fc1", "act1", "fc2", "act2", "fc3", "loss")


def build() -> Model:
    """in - fc1 - act1 - [fc2 - act2] - fc3 - loss."""
    model = Model(seed=3)
    model.add_layer("input", name="in", input_shape="1:1:4")
    for i in (1, 2):
        model.add_layer("fully_connected", name=f"fc{i}", unit=5)
        model.add_layer("activation", name=f"act{i}", activation="sigmoid")
    model.add_layer("fully_connected", name="fc3", unit=2)
    model.add_layer("mse", name="loss")
    model.add_checkpoint_block(GOOD, name="good")
    model.set_property(batch_size=4)
    return model


def train(model: Model, steps: int = 3) -> dict[str, bytes]:
    """Return everything that training leaves, as bits."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 4), dtype=np.float32)
    y = rng.standard_normal((4, 2), dtype=np.float32)
    losses = [model.train_step(x, y) for _ in range(steps)]
    bits = {name: weight.tobytes() for name, weight in model.weights().items()}
    return {**bits, "losses": np.array(losses).tobytes()}


def untouched_bits() -> dict[str, bytes]:
    model = build()
    model.initialize()
    return train(model)


BAD: dict[str, tuple[tuple[str, ...], type[CheckpointBlockError], dict[str, Any]]] = {
    "empty": ((), BlockTooSmallError, {}),
    "one layer": (("fc1",), BlockTooSmallError, {}),
    "unknown": (("fc1", "act9"), UnknownBlockLayerError, {"unknown": ("act9",)}),
    "all unknown": (("a", "b"), UnknownBlockLayerError, {"unknown": ("a", "b")}),
    "duplicate": (
        ("fc1", "act1", "fc1"),
        DuplicateBlockLayerError,
        {"repeated": ("fc1",)},
    ),
    "overlapping": (
        ("act1", "fc2"),
        OverlappingBlocksError,
        {"shared": ("fc2",), "other": GOOD},
    ),
    "the same again": (GOOD, OverlappingBlocksError, {"shared": GOOD, "other": GOOD}),
    "a gap": (
        ("in", "fc1", "fc3"),
        NonConsecutiveBlockError,
        {"order": FORWARD_ORDER},
    ),
    "reversed": (("act1", "fc1"), ReversedBlockError, {"order": FORWARD_ORDER}),
    "shuffled": (
        ("in", "act1", "fc1"),
        NonConsecutiveBlockError,
        {"order": FORWARD_ORDER},
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_block_is_refused_with_its_layers(case: str) -> None:
    names, error, facts = BAD[case]
    model = build()

    with pytest.raises(CheckpointBlockError) as caught:
        model.add_checkpoint_block(names)

    assert type(caught.value) is error
    assert isinstance(caught.value, InvalidParameterError)
    assert isinstance(caught.value, ValueError)
    message = str(caught.value)
    for name in names:
        assert repr(name) in message
    assert caught.value.layers == names
    for name, value in facts.items():
        assert getattr(caught.value, name) == value
    if issubclass(error, NonConsecutiveBlockError):
        assert message.startswith(f"{CONSECUTIVE}: ")


@pytest.mark.parametrize("case", BAD)
def test_a_refused_block_leaves_the_model_as_it_was(case: str) -> None:
    model, untouched = build(), build()

    with pytest.raises(CheckpointBlockError):
        model.add_checkpoint_block(BAD[case][0])

    assert [block.layers for block in model.blocks] == [GOOD]
    model.compile()
    assert model.make_plan() == untouched.make_plan()
    model.initialize()
    assert train(model) == untouched_bits()


@pytest.mark.parametrize("case", BAD)
def test_a_block_refused_after_compile_leaves_it_compiled(case: str) -> None:
    model = build()
    model.compile()
    plan = model.make_plan()

    with pytest.raises(CheckpointBlockError):
        model.add_checkpoint_block(BAD[case][0])

    assert model.make_plan() == plan


def test_each_way_of_being_wrong_has_its_class() -> None:
    assert len({error for _, error, _ in BAD.values()}) == 6
    assert issubclass(ReversedBlockError, NonConsecutiveBlockError)


@pytest.mark.parametrize("names", [["fc1", "act1"], ["no", "layers"], []])
def test_no_block_is_added_after_initialization(names: list[str]) -> None:
    model = build()
    model.initialize()
    plan = model.plan

    with pytest.raises(
        AfterInitializationError, match=r"^Cannot add checkpoint block after init"
    ) as caught:
        model.add_checkpoint_block(names)

    assert "Cannot add checkpoint block after initialization" in str(caught.value)
    assert isinstance(caught.value, InvalidParameterError)
    assert model.plan is plan
    assert [block.layers for block in model.blocks] == [GOOD]
    assert train(model) == untouched_bits()


def test_messages_say_what_to_do() -> None:
    def message(*names: str) -> str:
        with pytest.raises(CheckpointBlockError) as caught:
            build().add_checkpoint_block(names)
        return str(caught.value)

    assert "'fc2' is already in block 'fc2', 'act2'" in message("act1", "fc2")
    assert "between them run 'fc1'" in message("in", "act1")
    assert "reversed order" in message("act1", "fc1")
    assert "forward order, which is 'in', 'fc1', 'act1'" in message("in", "act1", "fc1")
    assert "did you mean 'act1'?" in message("fc1", "actt1")
    assert "at least 2 layers, got 1" in message("fc1")


def test_two_blocks_cannot_have_one_name() -> None:
    model = build()

    with pytest.raises(DuplicateNameError, match="'good'"):
        model.add_checkpoint_block(["fc1", "act1"], name="good")

    assert len(model.blocks) == 1


def test_a_block_may_be_added_before_its_model_is_a_graph() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("fully_connected", name="a", unit=4, input_layers="later")
    model.add_layer("activation", name="b", activation="relu")
    model.add_checkpoint_block(["a", "b"])  # nothing is wrong with it so far
    model.add_layer("fully_connected", name="later", unit=4, input_layers="in")
    model.add_layer("mse", name="loss", input_layers="b")

    model.compile()

    assert [block.layers for block in model.blocks] == [("a", "b")]


def test_a_block_that_later_layers_break_is_refused_at_compile() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("fully_connected", name="a", unit=4, input_layers="late")
    model.add_layer("fully_connected", name="b", unit=4, input_layers="in")
    model.add_checkpoint_block(["a", "b"])
    model.add_layer("fully_connected", name="late", unit=4, input_layers="in")
    model.add_layer("addition", name="sum", input_layers="a,b")
    model.add_layer("mse", name="loss")

    with pytest.raises(ReversedBlockError, match=f"{CONSECUTIVE}: 'a', 'b'") as caught:
        model.compile()

    assert caught.value.order == (
        *("in", "in/generated_out_0", "b", "late", "a", "sum", "loss"),
    )


def test_a_string_of_names_is_a_block() -> None:
    model = build()
    model.add_checkpoint_block("fc1, act1")

    assert model.blocks[-1].layers == ("fc1", "act1")


def test_an_activation_given_on_a_layer_goes_into_its_block() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    for i in (1, 2):
        model.add_layer("fully_connected", name=f"fc{i}", unit=4, activation="relu")
    model.add_layer("mse", name="loss")
    model.add_checkpoint_block(["fc1", "fc2"])

    assert model.make_plan().blocks[0].layers == (
        "fc1",
        "fc1/activation_realized",
        "fc2",
        "fc2/activation_realized",
    )


REFUSED: dict[str, Callable[[Model], object]] = {
    "a layer": lambda m: m.add_layer("mse", name="loss"),
    "a type": lambda m: m.add_layer("fully_conected", name="x"),
    "a property": lambda m: m.set_property(batch_size=8, epoch=3),
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_refused_calls_change_nothing_either(what: str) -> None:
    model = build()
    before = (model.layers, model.blocks, copy.copy(model.properties))

    with pytest.raises(InvalidParameterError):
        REFUSED[what](model)

    assert (model.layers, model.blocks, model.properties) == before


@pytest.mark.parametrize("name", ["gru", "encoder/gru"])
def test_parts_of_a_layer_can_be_named_whatever_it_is_called(name: str) -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:3:2")
    model.add_layer("gru", name=name, unit=2, return_sequences=True, unroll=True)
    model.add_layer("fully_connected", name="fc", unit=2)
    model.add_layer("mse", name="loss")
    model.add_checkpoint_block([f"{name}/t0", f"{name}/t1"])

    assert model.make_plan().blocks[0].layers == (f"{name}/t0", f"{name}/t1")


def test_a_whole_layer_and_its_parts_are_in_two_blocks() -> None:
    """It was once called unknown, as none of its parts has its name."""
    model = Model()
    model.add_layer("input", name="in", input_shape="1:3:2")
    model.add_layer("gru", name="gru", unit=2, return_sequences=True, unroll=True)
    model.add_layer("fully_connected", name="fc", unit=2)
    model.add_layer("mse", name="loss")
    model.add_checkpoint_block(["gru", "fc"])
    model.add_checkpoint_block(["gru/t0", "gru/t1"])

    with pytest.raises(OverlappingBlocksError, match="'gru/t0', 'gru/t1' is already"):
        model.make_plan()


def gelus() -> Model:
    """in - fc0 (gelu) - fc1 (gelu), which is read twice - a and b - sum - loss."""
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    for name in ("fc0", "fc1"):
        model.add_layer("fully_connected", name=name, unit=4, activation="gelu")
    model.add_layer("fully_connected", name="a", unit=4, input_layers="fc1")
    model.add_layer("fully_connected", name="b", unit=4, input_layers="fc1")
    model.add_layer("addition", name="sum", input_layers="a,b")
    model.add_layer("mse", name="loss")
    return model


@pytest.mark.parametrize("part", ["activation_realized", "generated_out_0"])
def test_a_layer_stands_for_its_parts_but_those_that_a_block_names(part: str) -> None:
    model = gelus()
    model.add_checkpoint_block(["fc0", "fc1"])
    if part == "activation_realized":
        other = [f"fc1/{part}", "fc1/generated_out_0"]
    else:
        other = [f"fc1/{part}", "a"]
    model.add_checkpoint_block(other)

    first, second = (block.layers for block in model.make_plan().blocks)

    own = ("fc0", "fc0/activation_realized", "fc1", "fc1/activation_realized")
    assert first == (own[:3] if part == "activation_realized" else own)
    assert second == tuple(other)


def test_statistics_of_a_batch_stay_so_that_nothing_runs_again_for_them() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:64")
    for i in range(2):
        model.add_layer("fully_connected", name=f"fc{i}", unit=64)
        model.add_layer("batch_normalization", name=f"bn{i}")
        model.add_layer("activation", name=f"act{i}", activation="relu")
        model.add_checkpoint_block([f"fc{i}", f"bn{i}", f"act{i}"])
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=16)
    plan = model.make_plan()

    again = [e.layer for e in plan.executions if e.phase is Phase.RECOMPUTE]
    assert again == ["fc1", "fc0"]  # the input of the normalization, and that alone
    statistics = [t for t in plan.tensors if t.name == "bn0:mean"]
    assert [t.life for t in statistics] == [0]
