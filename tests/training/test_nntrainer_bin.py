"""Weights in and out of NNTrainer's ``.bin`` files, byte by byte."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest

import arena_ckpt as ac
from arena_ckpt.errors import (
    InferenceOnlyError,
    NonFiniteDataError,
    NotInitializedError,
    SavedStateMismatchError,
    SavedStateNotFoundError,
    UnwritableFileError,
)
from arena_ckpt.training.nntrainer_bin import weight_order

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(8, 4)), RNG.normal(size=(8, 2))
TRAINED = ["fc1:weight", "fc1:bias", "bn:gamma", "bn:beta", "out:weight", "out:bias"]
ORDER = [*TRAINED[:2], "bn:moving_mean", "bn:moving_variance", *TRAINED[2:]]
WEIGHT_BYTES = 4 * (4 * 3 + 3 + 4 * 3 + 3 * 2 + 2)
MOMENT_BYTES = 2 * (WEIGHT_BYTES - 4 * 2 * 3)


def model_of(optimizer: str = "adam", mode: str = "train") -> ac.Model:
    model = ac.Model(seed=2)
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("fully_connected", name="fc1", unit=3)
    model.add_layer("batch_normalization", name="bn", activation="relu")
    model.add_layer("fully_connected", name="out", unit=2)
    model.add_layer("mse", name="loss")
    model.set_optimizer(optimizer, learning_rate=0.05)
    model.set_property(batch_size=8)
    model.initialize(mode=mode)
    return model


def train(model: ac.Model, epochs: int) -> None:
    model.train((X, Y), epochs=epochs, progress=False)


@pytest.fixture(scope="module")
def trained() -> ac.Model:
    model = model_of()
    train(model, 3)
    return model


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def floats(model: ac.Model, names: list[str]) -> bytes:
    weights = model.weights()
    return b"".join(weights[name].astype("<f4").tobytes() for name in names)


def test_a_file_is_raw_tensors_then_adam_then_counts(trained: ac.Model) -> None:
    trained.save_nntrainer_bin("w.bin")
    content = Path("w.bin").read_bytes()
    assert len(content) == WEIGHT_BYTES + 4 + MOMENT_BYTES + 8
    assert content[:WEIGHT_BYTES] == floats(trained, ORDER)
    assert content[WEIGHT_BYTES:][:4] == b"adam"
    trained.save("w.safetensors")
    import safetensors.numpy

    saved = safetensors.numpy.load_file("w.safetensors")
    moments = b"".join(
        saved[f"{name}:{moment}"].astype("<f4").tobytes()
        for name in TRAINED
        for moment in ("first_moment", "second_moment")
    )
    assert content[WEIGHT_BYTES + 4 :] == moments + struct.pack("<II", 0, 3)


def test_what_was_loaded_goes_on_bit_for_bit(trained: ac.Model) -> None:
    trained.save_nntrainer_bin("w.bin")
    trained.save("w.safetensors")
    expected = ac.load("w.safetensors")
    again = model_of()
    train(again, 1)
    again.load_nntrainer_bin("w.bin")
    for model in (expected, again):
        train(model, 2)
        model.save_nntrainer_bin(f"{model is again}.bin")
    assert Path("True.bin").read_bytes() == Path("False.bin").read_bytes()


def test_weights_alone_and_weights_with_counts_are_read(trained: ac.Model) -> None:
    weights = floats(trained, ORDER)
    for tail, iteration in (
        (b"", 0),
        (struct.pack("<II", 7, 21), 21),
        (b"adam", 0),
        (b"adam" + struct.pack("<II", 7, 21), 21),
    ):
        Path("w.bin").write_bytes(weights + tail)
        model = model_of()
        train(model, 1)
        model.load_nntrainer_bin("w.bin")
        model.save_nntrainer_bin("again.bin")
        content = Path("again.bin").read_bytes()
        assert content[:WEIGHT_BYTES] == weights
        assert content[WEIGHT_BYTES + 4 : -8] == bytes(MOMENT_BYTES)  # begun anew
        assert content[-8:] == struct.pack("<II", 0, iteration)


def test_other_optimizers_and_inference(trained: ac.Model) -> None:
    trained.save_nntrainer_bin("w.bin")
    other = model_of("sgd")
    other.load_nntrainer_bin("w.bin")
    other.save_nntrainer_bin("sgd.bin")
    weights = floats(trained, ORDER)
    assert Path("sgd.bin").read_bytes() == weights + struct.pack("<II", 0, 3)
    only = model_of("sgd", mode="inference")
    only.load_nntrainer_bin("w.bin")
    assert np.array_equal(only.predict(X), trained.predict(X))
    only.save_nntrainer_bin("only.bin")
    assert Path("only.bin").read_bytes() == weights
    with pytest.raises(InferenceOnlyError):
        train(only, 1)


# -- order -------------------------------------------------------------------------


def order_of(model: ac.Model) -> list[str]:
    names = [layer.name for layer in model.layers]
    return [name.split(":")[0] for name in weight_order(model.compile(), names)]


def branched(*layers: tuple[str, str]) -> ac.Model:
    """Return layers without biases, each with its name and the names that it reads."""
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    for name, read in layers:
        kind = "addition" if "," in read else "fully_connected"
        given = {} if kind == "addition" else {"unit": 4, "disable_bias": True}
        model.add_layer(kind, name=name, input_layers=read, **given)
    model.add_layer("mse", name="loss")
    return model


def test_of_two_branches_the_later_one_comes_first() -> None:
    model = branched(("a", "in"), ("b", "in"), ("sum", "a,b"), ("out", "sum"))
    assert order_of(model) == ["b", "a", "out"]
    # c reads b as well: the search that goes on from a reaches d, c is left after it.
    model = branched(
        ("a", "in"), ("b", "in"), ("c", "b"), ("d", "a"), ("sum", "c,d"), ("out", "sum")
    )
    assert order_of(model) == ["b", "c", "a", "d", "out"]


def test_a_layer_beside_a_shortcut_keeps_its_place() -> None:
    model = branched(("a", "in"), ("b", "a"), ("sum", "a,b"), ("out", "sum"))
    assert order_of(model) == ["a", "b", "out"]


def test_of_a_split_the_outputs_that_many_read_come_last() -> None:
    """They are read through a multiout, which stands right behind the split."""
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("split", name="cut", axis=3, split_number=2)
    for name, read in (("a", "cut(1)"), ("b", "cut(0)"), ("c", "cut(0)")):
        model.add_layer(
            "fully_connected", name=name, input_layers=read, unit=2, disable_bias=True
        )
    model.add_layer("addition", name="sum", input_layers="a,b,c")
    model.add_layer("mse", name="loss")
    assert order_of(model) == ["a", "c", "b"]


def test_parts_of_a_layer_stand_together() -> None:
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("fully_connected", name="fc", unit=3, lora_rank=2)
    model.add_layer("mse", name="loss")
    assert weight_order(model.compile(), ["in", "fc", "loss"]) == [
        *("fc:weight", "fc:bias", "fc/lora_a:weight", "fc/lora_b:weight")
    ]


@pytest.mark.parametrize(("is_trained", "first"), [(True, "b"), (False, "a")])
def test_shared_weights_are_written_once(is_trained: bool, first: str) -> None:
    """By the sharer that makes their gradient first; frozen ones by the first."""
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    for name, more in (("a", {}), ("mid", {}), ("b", {"shared_from": "a"})):
        more = {**more, "trainable": is_trained or name == "mid"}
        model.add_layer("fully_connected", name=name, unit=4, disable_bias=True, **more)
    model.add_layer("mse", name="loss")
    expected = ["mid", "a"] if first == "b" else ["a", "mid"]
    assert order_of(model) == expected


# -- files that do not fit -------------------------------------------------------------


def test_a_file_of_another_size_names_the_numbers_and_the_layer(
    trained: ac.Model,
) -> None:
    weights = floats(trained, ORDER)
    before = floats(trained, ORDER)
    Path("w.bin").write_bytes(weights[:-12])
    said = (
        r"w\.bin has 128 bytes, and the 8 weights of this model take 140: it ends in "
        r"the weight \(3 x 2\) of layer 'out', which takes bytes 108 to 132"
    )
    with pytest.raises(SavedStateMismatchError, match=said) as caught:
        trained.load_nntrainer_bin("w.bin")
    assert (caught.value.layer, caught.value.expected, caught.value.found) == (
        *("out", 140, 128),
    )
    for tail in (b"x", bytes(12), b"adam" + bytes(MOMENT_BYTES - 4)):
        Path("w.bin").write_bytes(weights + tail)
        said = rf"has {140 + len(tail)} bytes; .* end after 140, with out:bias, and"
        with pytest.raises(SavedStateMismatchError, match=said):
            trained.load_nntrainer_bin("w.bin")
    assert floats(trained, ORDER) == before


def test_numbers_that_no_training_leaves_are_refused(trained: ac.Model) -> None:
    weights = floats(trained, ORDER)
    moments = bytearray(MOMENT_BYTES)
    cases = [
        (
            struct.pack("<f", np.nan) + weights[4:],
            "fc1:weight has nan at place 0 of 12",
        ),
        (weights[:-4] + struct.pack("<f", np.inf), "out:bias has inf at place 1 of 2"),
    ]
    moments[48:52] = struct.pack("<f", -1.0)  # behind the 12 of the first moment
    cases.append((weights + b"adam" + moments, "fc1:weight:second_moment has -1.0"))
    for content, said in cases:
        Path("w.bin").write_bytes(content)
        with pytest.raises(NonFiniteDataError, match=said):
            trained.load_nntrainer_bin("w.bin")
    assert floats(trained, ORDER) == weights


def test_where_there_is_no_file_and_no_model(trained: ac.Model) -> None:
    with pytest.raises(SavedStateNotFoundError, match="nothing"):
        trained.load_nntrainer_bin("nothing.bin")
    with pytest.raises(UnwritableFileError):
        trained.save_nntrainer_bin("missing/w.bin")
    os.mkdir("folder")
    with pytest.raises(UnwritableFileError):
        trained.save_nntrainer_bin("folder")
    for call in (ac.Model().save_nntrainer_bin, ac.Model().load_nntrainer_bin):
        with pytest.raises(NotInitializedError):
            call("w.bin")


def test_more_iterations_than_a_file_counts(trained: ac.Model) -> None:
    Path("w.bin").write_bytes(floats(trained, ORDER) + struct.pack("<II", 0, 2**32 - 1))
    model = model_of("sgd")
    model.load_nntrainer_bin("w.bin")
    train(model, 1)
    with pytest.raises(ac.InvalidParameterError, match="4,294,967,296 iterations"):
        model.save_nntrainer_bin("more.bin")
    assert not Path("more.bin").exists()
