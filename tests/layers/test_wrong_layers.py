"""Layers used wrongly: each is refused by an error of ours that says what to do."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from arena_ckpt import Model
from arena_ckpt.errors import (
    ArenaError,
    ArenaTooLargeError,
    BlockTooSmallError,
    CycleError,
    DanglingOutputError,
    DuplicateBlockLayerError,
    DuplicateNameError,
    GraphError,
    InvalidParameterError,
    LossError,
    NonConsecutiveBlockError,
    ReversedBlockError,
    ShapeMismatchError,
    SharedWeightsError,
    UnknownBlockLayerError,
    UnknownLayerError,
)

Layer = tuple[str, dict[str, Any]]
HUGE = 2**40


def layer(kind: str, name: str = "it", *sources: str, **values: Any) -> Layer:
    values["name"] = name
    if sources:
        values["input_layers"] = list(sources)
    return kind, values


def build(*layers: Layer, block: tuple[str, ...] = (), batch_size: int = 2) -> Model:
    model = Model(seed=0)
    for kind, values in layers:
        model.add_layer(kind, **values)
    model.add_layer("mse", name="loss")
    if block:
        model.add_checkpoint_block(block)
    model.set_property(batch_size=batch_size)
    return model


def samples(*shape: int, name: str = "in") -> Layer:
    return layer("input", name, input_shape=shape)


ROWS = samples(1, 4, 6)
FC = layer("fully_connected", "fc", unit=6)
SHORT = layer("slice", "short", "in", axis=2, end_index=3)
LSTM = layer("lstm", "one", unit=3, return_sequences=True)
STEPS = layer("rnn", "steps", unit=3, return_sequences=True, unroll=True)


def attention(*sources: str, **values: Any) -> Layer:
    return layer("multi_head_attention", "it", *sources, **values)


WRONG: dict[str, tuple[tuple[Layer, ...], type[ArenaError], str]] = {
    # -- attention
    "indivisible heads": (
        (ROWS, attention(num_heads=4)),
        ShapeMismatchError,
        r"'it' .* query of width 6 among 4 heads; change num_heads or set",
    ),
    "no heads": ((ROWS, attention()), ShapeMismatchError, "num_heads; set it"),
    "more than a mask": (
        (ROWS, attention(*["in"] * 5, num_heads=1)),
        GraphError,
        r"'it' \(multi_head_attention\) takes 1 to 4 input\(s\) and has 5",
    ),
    "mask of another shape": (
        (ROWS, samples(1, 4, 3, name="mask"), attention("in", "in", "in", "mask",
         num_heads=2)),
        ShapeMismatchError,
        r"mask of shape 1:4:3; expected 1:4:4 .* or 2:4:4",
    ),
    "mask that trains": (
        (ROWS, layer("fully_connected", "scores", unit=4),
         attention("in", "in", "in", "scores", num_heads=2)),
        GraphError,
        "'scores' cannot train: .*'it' only.*trainable=false",
    ),
    "keys without values": (
        (ROWS, SHORT, attention("in", "in", "short", num_heads=1)),
        ShapeMismatchError,
        r"4 keys \(1:4:6\) and 2 values \(1:2:6\)",
    ),
    "attention to pictures": (
        (samples(2, 4, 6), attention(num_heads=1)),
        ShapeMismatchError,
        "query of shape 2:4:6; expected 1:tokens:features, so reshape",
    ),
    # -- tokens
    "ids that train": (
        (samples(1, 1, 6), FC, layer("embedding", in_dim=3, out_dim=2)),
        GraphError,
        "'fc' cannot train: .*ids or a mask.*trainable=false",
    ),
    "ids as a picture": (
        (ROWS, layer("embedding", in_dim=3, out_dim=2)),
        ShapeMismatchError,
        "ids of shape 1:4:6; expected 1:1:ids or 1:ids:1, so flatten",
    ),
    "ids beyond float32": (
        (samples(1, 1, 6), layer("embedding", in_dim=2**24 + 1, out_dim=2)),
        ShapeMismatchError,
        "in_dim 16,777,217; .* at most 16,777,216",
    ),
    "too many positions": (
        (ROWS, layer("positional_encoding", max_timestep=3)),
        ShapeMismatchError,
        "4 rows and max_timestep=3; raise",
    ),
    "positions of pictures": (
        (samples(2, 4, 6), layer("positional_encoding")),
        ShapeMismatchError,
        "2:4:6; expected 1:positions:features, so reshape",
    ),
    "swiglu of different shapes": (
        (ROWS, SHORT, layer("swiglu", "it", "in", "short")),
        ShapeMismatchError,
        "1:4:6 and 1:2:6.; make them equal",
    ),
    "swiglu of one": ((ROWS, layer("swiglu")), GraphError, "takes 2 .* and has 1"),
    "normalized over axis 4": (
        (ROWS, layer("layer_normalization", axis=4)),
        ShapeMismatchError,
        r"over axis 4; expected some of 1 \(channel\)",
    ),
    # -- windows
    "kernel beyond the input": (
        (ROWS, layer("conv2d", filters=2, kernel_size=5)),
        ShapeMismatchError,
        "height of 5, but the input has 4 and padding 0 . 0; make the kernel",
    ),
    "line of a picture": (
        (ROWS, layer("conv1d", filters=2, kernel_size=2)),
        ShapeMismatchError,
        "height 1, but 1:4:6 has 4; reshape it",
    ),
    "transposed to nothing": (
        (ROWS, layer("conv2dtranspose", filters=1, kernel_size=2, padding=3)),
        ShapeMismatchError,
        "padding takes 6 of a height of 5; make it smaller",
    ),
    "pooled to nothing": (
        (ROWS, layer("pooling2d", pooling="max", pool_size=5)),
        ShapeMismatchError,
        "height of 5, but the input has 4",
    ),
    # -- arithmetic and parts
    "branches of different shapes": (
        (ROWS, FC, SHORT, layer("addition", "it", "fc", "short", "fc")),
        ShapeMismatchError,
        r"\(fc 1:4:6, short 1:2:6, fc 1:4:6\); make them equal",
    ),
    "matrices that do not fit": (
        (ROWS, layer("matmul", "it", "in", "in")),
        ShapeMismatchError,
        "in 1:4:6, in 1:4:6, whose widths of the first and heights .* 6 and 4; make",
    ),
    "concat along others": (
        (ROWS, SHORT, layer("concat", "it", "in", "short", axis=3)),
        ShapeMismatchError,
        r"axis 3 \(width\) that differ .*\(in 1:4:6, short 1:2:6\)",
    ),
    "slice of nothing": (
        (ROWS, layer("slice", axis=2, start_index=5)),
        ShapeMismatchError,
        "start_index=5 .* height of 1:4:6, which is 4; set 1 <= start_index",
    ),
    "elements lost": (
        (ROWS, layer("reshape", target_shape="5:-1")),
        ShapeMismatchError,
        "24 elements .* do not fit; keep their number",
    ),
    "output that a split lacks": (
        (ROWS, layer("split", "parts", axis=3), layer("negative", "it", "parts(9)")),
        GraphError,
        "'it' reads output 9 of 'parts', which has 6, numbered from 0",
    ),
    "output that one layer lacks": (
        (ROWS, FC, layer("negative", "it", "fc(1)")),
        GraphError,
        "reads output 1 of 'fc', which has 1",
    ),
    "output number in words": (
        (ROWS, FC, layer("negative", "it", "fc(one)")),
        UnknownLayerError,
        r"'fc\(one\)', which does not exist; the model has 'in', 'fc'",
    ),
    "output number of 5,000 digits": (
        (ROWS, FC, layer("negative", "it", f"fc({'9' * 5000})")),
        UnknownLayerError,
        "which does not exist",
    ),
    "output that nobody reads": (
        (ROWS, layer("split", "parts", axis=3, split_number=2),
         layer("negative", "it", "parts(1)")),
        DanglingOutputError,
        "nobody reads output 0 of 'parts'; connect it",
    ),
    # -- recurrent
    "steps of a picture": (
        (samples(2, 4, 6), LSTM),
        ShapeMismatchError,
        "'one' .* reads 2:4:6 and needs 1:steps:width; reshape",
    ),
    "many steps for a cell": (
        (ROWS, layer("grucell", unit=2)),
        ShapeMismatchError,
        "reads 1:4:6 and needs one step, 1:1:width",
    ),
    "state of another size": (
        (samples(1, 1, 6), layer("grucell", "it", "in", "in", unit=2)),
        ShapeMismatchError,
        "1:1:6 as input 1; with unit=2 a state is 1:1:2",
    ),
    "cell state that nobody reads": (
        (samples(1, 1, 6), layer("lstmcell", unit=2)),
        DanglingOutputError,
        "output 1 of 'it'",
    ),
    "cell state for a gru": (
        (samples(1, 1, 6), layer("grucell", "it", "in", "in", "in", unit=6)),
        GraphError,
        "takes 1 to 2 input",
    ),
    # -- shared weights
    "shared between kinds": (
        (ROWS, FC, layer("conv2d", filters=1, kernel_size=1, shared_from="fc")),
        SharedWeightsError,
        r"'it' .* of 'fc': it needs .*\(1, 1, 1, 1\).* has .*\(6, 6\)",
    ),
    "shared with a frozen one": (
        (ROWS, FC, layer("fully_connected", unit=6, shared_from="fc", trainable=False)),
        SharedWeightsError,
        "bias \\(6,\\), frozen; that layer has",
    ),
    "shared with itself": (
        (ROWS, layer("fully_connected", unit=6, shared_from="it")),
        SharedWeightsError,
        "let one layer have weights of its own",
    ),
    "shared with nobody": (
        (ROWS, FC, layer("fully_connected", unit=6, shared_from="fx")),
        SharedWeightsError,
        "'fx', which does not exist .did you mean 'fc'",
    ),
    "shared with a function": (
        (ROWS, layer("activation", "act", activation="relu"),
         layer("fully_connected", unit=6, shared_from="act")),
        SharedWeightsError,
        "cannot share the weights of 'act'",
    ),
    "lstm shared with gru": (
        (ROWS, LSTM, layer("gru", unit=3, shared_from="one")),
        SharedWeightsError,
        "cannot share the weights of 'one'",
    ),
    # -- names and connections
    "name of a part": (
        (ROWS, STEPS, layer("fully_connected", "steps/t0", unit=3)),
        DuplicateNameError,
        "two layers are named 'steps/t0'.*LAYER/PART",
    ),
    "name of an activation": (
        (ROWS, layer("fully_connected", "a", unit=6, activation="relu"),
         layer("fully_connected", "a/activation_realized", unit=6)),
        DuplicateNameError,
        "two layers are named 'a/activation_realized'",
    ),
    "name of an output": (
        (ROWS, FC, layer("negative", "fc/generated_out_0"),
         layer("addition", "it", "fc", "fc/generated_out_0")),
        DuplicateNameError,
        "two layers are named 'fc/generated_out_0'",
    ),
    "circle": (
        (ROWS, layer("add", "a", "in", "b"), layer("negative", "b", "a"),
         layer("negative", "it", "b")),
        CycleError,
        "a -> b -> a; change the input_layers",
    ),
    "a layer behind a loss": (
        (ROWS, layer("kld", "other", "in"), FC), LossError,
        "loss 'other' is read by 'fc'; a loss has to be the last layer of its branch"
    ),
    # -- sizes
    "split into too much": (
        (samples(1, 1, HUGE), layer("split", axis=3)),
        ShapeMismatchError,
        "1,099,511,627,776 parts, at most 4,096 .* set split_number",
    ),
    "unrolled without end": (
        (samples(1, 10**8, 2), layer("lstm", unit=2, unroll=True)),
        ShapeMismatchError,
        "100,000,000 steps, at most 4,096 .* leave unroll out",
    ),
    "weights of a galaxy": (
        (samples(HUGE, HUGE, HUGE), layer("fully_connected", unit=HUGE)),
        ArenaTooLargeError,
        "alone .* make batch_size or that layer smaller",
    ),
    "padding without end": (
        (samples(3, 4, 4), layer("conv2d", filters=1, kernel_size=1, padding=HUGE)),
        ArenaTooLargeError,
        "it:forward_pictures alone",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_layer_that_cannot_be_is_refused(what: str) -> None:
    """When planned, before anything is allocated; the model stays what it was."""
    layers, error, message = WRONG[what]
    model = build(*layers)
    before = (model.layers, model.blocks, copy.copy(model.properties))
    for _ in range(2):
        with pytest.raises(error, match=message) as caught:
            model.initialize()
        assert isinstance(caught.value, ArenaError)
        assert caught.value.__dict__, "the facts are attributes of the error"
    assert (model.layers, model.blocks, model.properties) == before


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("multi_head_attention", {"num_heads": 0}),
        ("multi_head_attention", {"attention": "sparse"}),
        ("layer_normalization", {"axis": -1}),
        ("layer_normalization", {"axis": ()}),
        ("batch_normalization", {"momentum": 2}),
        ("batch_normalization", {"epsilon": 0}),
        ("rms_norm", {"epsilon": "nan"}),
        ("dropout", {"dropout_rate": 1}),
        ("dropout", {"dropout_rate": -0.1}),
        ("embedding", {"in_dim": -1}),
        ("embedding", {"out_dim": 2.5}),
        ("permute", {"direction": "0,1,2"}),
        ("reshape", {"target_shape": ()}),
        ("reshape", {"target_shape": "0:1:2"}),
        ("pooling2d", {"pool_size": 0}),
        ("lstm", {"hidden_state_activation": "softmax"}),
        ("gru", {"unroll": "sometimes"}),
        ("rnn", {"unit": 2**41}),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_refused(kind: str, values: dict[str, Any]) -> None:
    model = Model()
    (name,) = values
    with pytest.raises(InvalidParameterError, match=f"{name}=.* is not possible; exp"):
        model.add_layer(kind, **values)
    assert not model.layers


BLOCKS: dict[str, tuple[tuple[str, ...], type[ArenaError], str]] = {
    "reversed": (("steps/t1", "steps/t0"), ReversedBlockError, "in forward order"),
    "gap": (("steps/t0", "steps/t2"), NonConsecutiveBlockError, "run 'steps/t1'"),
    "unknown": (("steps/t3", "steps/t4"), UnknownBlockLayerError, "'steps/t4'"),
    "alone": (("steps",), BlockTooSmallError, "at least 2"),
    "twice": (("steps", "steps/t0"), DuplicateBlockLayerError, "more than once"),
}


@pytest.mark.parametrize("what", BLOCKS)
def test_a_block_of_parts_that_cannot_be_is_refused(what: str) -> None:
    names, error, message = BLOCKS[what]
    with pytest.raises(error, match=message):
        build(ROWS, STEPS, FC, block=names).make_plan()
