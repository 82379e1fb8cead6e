"""Examples with sizes of their own on the command line."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from arena_ckpt.cli import main
from arena_ckpt.cli.example_sizes import split_sizes
from arena_ckpt.cli.models import load_model
from arena_ckpt.errors import InvalidParameterError, UnknownTypeError


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("gpt", None),
        ("a/model.py:build", None),
        ("model (1).ini", None),
        ("gpt()", ("gpt", {})),
        (
            "mobilenet_v2(width=0.35, size=96)",
            ("mobilenet_v2", {"width": 0.35, "size": 96}),
        ),
        ("unet(shape=(3,32,32),checkpoint=false)", None),
        ("mobilenet_v2(activation=relu)", ("mobilenet_v2", {"activation": "relu"})),
        ("gpt(seed=-1)", ("gpt", {"seed": -1})),
    ],
)
def test_sizes_are_read(spec: str, expected: Any) -> None:
    if "shape" in spec:
        expected = ("unet", {"shape": (3, 32, 32), "checkpoint": False})
    assert split_sizes(spec) == expected


@pytest.mark.parametrize(
    "spec",
    ["gpt(2)", "gpt(d=1, d=2)", "gpt(**x)", "gpt(d=)", "gpt(d=f(1))", "gpt(d=1)(e=2)"],
)
def test_what_are_no_sizes_is_told(spec: str) -> None:
    with pytest.raises(InvalidParameterError, match="are no sizes of an example"):
        split_sizes(spec)


def test_a_model_has_the_sizes_that_were_asked_for() -> None:
    model = load_model("mobilenet_v2(width=0.5, size=64, batch_size=2)").model
    assert model.layers[0]["input_shape"] == (3, 64, 64)
    assert model.get_property("batch_size") == 2
    activations = {x["activation"] for x in model.layers if x.type_name == "activation"}
    assert activations == {"relu6"}
    with pytest.raises(UnknownTypeError, match="did you mean 'gpt'"):
        load_model("gpd(d=32)")
    with pytest.raises(InvalidParameterError, match="no argument 'widht'"):
        load_model("mobilenet_v2(widht=0.5)")


def test_a_command_takes_an_example_with_sizes() -> None:
    spec = "unet(filters=2, depth=1, shape=(1, 8, 8))"
    done = CliRunner().invoke(main, ["plan", spec])
    assert done.exit_code == 0, done.output
    assert f"{spec}: " in done.output
    wrong = CliRunner().invoke(main, ["plan", "unet(2)"])
    assert wrong.exit_code == 2
