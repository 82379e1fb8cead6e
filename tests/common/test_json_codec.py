"""Dataclasses as JSON values and back: nothing is lost, nothing else is taken."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from arena_ckpt.common.json_codec import decode, encode


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Range(NamedTuple):
    start: int
    stop: int


@dataclass(frozen=True)
class Inner:
    name: str
    share: float | None


@dataclass(frozen=True)
class Outer:
    number: int
    is_set: bool
    colour: Colour
    pair: tuple[int, str]
    many: tuple[Inner, ...]
    range: Range
    by_name: dict[str, Inner]
    whatever: Any


VALUE = Outer(
    7,
    True,
    Colour.BLUE,
    (1, "x"),
    (Inner("a", 0.5), Inner("b", None)),
    Range(2, 5),
    {"c": Inner("d", 1.0)},
    {"e": [1, "2"]},
)
TEXT = {
    "number": 7,
    "is_set": True,
    "colour": "blue",
    "pair": [1, "x"],
    "many": [{"name": "a", "share": 0.5}, {"name": "b", "share": None}],
    "range": [2, 5],
    "by_name": {"c": {"name": "d", "share": 1.0}},
    "whatever": {"e": [1, "2"]},
}


def test_a_value_comes_back() -> None:
    assert encode(VALUE) == TEXT
    found = decode(Outer, TEXT)
    assert found == VALUE
    assert type(found.range) is Range


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("number", True, ".number: expected a value of type int"),
        ("number", 7.0, ".number: expected a value of type int"),
        ("number", None, ".number: expected a value of type int"),
        ("is_set", 1, ".is_set: expected a value of type bool"),
        ("colour", "green", "'green' is not a valid Colour"),
        ("pair", [1], ".pair: expected 2 values"),
        ("pair", [1, "x", 2], ".pair: expected 2 values"),
        ("pair", ["x", 1], ".pair[0]: expected a value of type int"),
        ("pair", "1x", ".pair: expected a list"),
        ("many", [{"name": "a"}], ".many[0] lacks share"),
        ("many", [{"name": 1, "share": 0.5}], ".many[0].name: expected a value"),
        ("many", [{"name": "a", "share": "0.5"}], ".many[0].share: expected a value"),
        ("range", [2, 5, 7], ".range: expected 2 values"),
        ("by_name", [], ".by_name: expected an object"),
        ("by_name", {"c": None}, ".by_name.c: expected an object"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    key: str, value: object, where: str
) -> None:
    with pytest.raises(ValueError) as caught:
        decode(Outer, {**TEXT, key: value})
    assert where in str(caught.value)


def test_a_field_that_is_missing_is_named() -> None:
    for key in TEXT:
        rest = {name: value for name, value in TEXT.items() if name != key}
        with pytest.raises(ValueError, match=f"the document lacks {key}"):
            decode(Outer, rest)
