"""One declaration reads keyword arguments and text, and writes text back."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_ckpt import Model, create_layer, create_optimizer
from arena_ckpt.common.properties import (
    BOOLEAN,
    COUNT,
    COUNTS,
    FRACTION,
    LARGEST_INT,
    NAME,
    NAMES,
    NONNEGATIVE_REAL,
    POSITIVE_INT,
    POSITIVE_REAL,
    POSITIVE_REALS,
    REAL,
    SHAPE,
    Kind,
    Property,
    choice,
    parse_properties,
    split_strings,
    write_properties,
)
from arena_ckpt.common.wording import nearest
from arena_ckpt.definition.model_definition import MODEL_PROPERTIES
from arena_ckpt.errors import (
    InvalidParameterError,
    UnknownPropertyError,
    UnknownTypeError,
)
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.optim.learning_rates import SCHEDULE_SCHEMAS
from arena_ckpt.optim.optimizers import OPTIMIZER_SCHEMAS

COLOUR = choice("red", "dark_blue")
KINDS: dict[str, Kind] = {
    "boolean": BOOLEAN,
    "positive_int": POSITIVE_INT,
    "count": COUNT,
    "real": REAL,
    "positive_real": POSITIVE_REAL,
    "nonnegative_real": NONNEGATIVE_REAL,
    "fraction": FRACTION,
    "shape": SHAPE,
    "name": NAME,
    "names": NAMES,
    "positive_reals": POSITIVE_REALS,
    "counts": COUNTS,
    "colour": COLOUR,
}
SCHEMA = tuple(Property(name, kind, None, "") for name, kind in KINDS.items())


def parse(**given_values: object) -> dict[str, Any]:
    return parse_properties("thing", SCHEMA, given_values)


# -- values ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "given_value", "value"),
    [
        ("boolean", "true", True),
        ("boolean", " Yes ", True),
        ("boolean", "0", False),
        ("boolean", False, False),
        ("positive_int", "32", 32),
        ("positive_int", " 32 ", 32),
        ("positive_int", LARGEST_INT, LARGEST_INT),
        ("count", 0, 0),
        ("real", "-1e-3", -0.001),
        ("positive_real", 2, 2.0),
        ("nonnegative_real", "0", 0.0),
        ("fraction", "0.999", 0.999),
        ("fraction", 0, 0.0),
        ("shape", "1:1:784", (1, 1, 784)),
        ("shape", "784", (1, 1, 784)),
        ("shape", "28:28", (1, 28, 28)),
        ("shape", "1:3:32:32", (3, 32, 32)),
        ("shape", (3, 32, 32), (3, 32, 32)),
        ("shape", 10, (1, 1, 10)),
        ("name", " fc1 ", "fc1"),
        ("name", "fc1/activation_realized", "fc1/activation_realized"),
        ("names", "a, b", ("a", "b")),
        ("names", ["a", "b"], ("a", "b")),
        ("positive_reals", "0.1, 1", (0.1, 1.0)),
        ("counts", 3, (3,)),
        ("colour", "Dark_Blue", "dark_blue"),
    ],
)
def test_values_are_read(kind: str, given_value: object, value: object) -> None:
    read = parse(**{kind: given_value})[kind]

    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("boolean", "maybe"),
        ("boolean", ""),
        ("boolean", None),
        ("positive_int", 0),
        ("positive_int", -3),
        ("positive_int", "1.5"),
        ("positive_int", 2.5),
        ("positive_int", "1_000"),
        ("positive_int", True),
        ("positive_int", LARGEST_INT + 1),
        ("positive_int", "many"),
        ("positive_int", None),
        ("positive_int", [3]),
        ("count", -1),
        ("real", math.nan),
        ("real", "inf"),
        ("real", True),
        ("real", "1_0.5"),
        ("positive_real", 0),
        ("nonnegative_real", -1e-9),
        ("fraction", 1),
        ("fraction", -0.1),
        ("shape", "1:0:4"),
        ("shape", "1:-1:4"),
        ("shape", "2:1:1:4"),
        ("shape", "1:1:1:1:4"),
        ("shape", ""),
        ("shape", ()),
        ("shape", None),
        ("name", ""),
        ("name", "a=b"),
        ("name", "a,b"),
        ("name", "a:b"),
        ("name", "a\nb"),
        ("names", ""),
        ("names", []),
        ("names", "a,,b"),
        ("positive_reals", "1,0"),
        ("counts", "1;2"),
        ("colour", "green"),
        ("colour", "seven"),
    ],
)
def test_impossible_values_are_named(kind: str, bad: object) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        parse(**{kind: bad})

    error: Any = caught.value
    shown = bad if str(bad).strip() else repr(bad)
    assert str(error) == (
        f"thing: {kind}={shown} is not possible; expected {KINDS[kind].expects}"
    )
    assert (error.owner, error.property) == ("thing", kind)
    assert error.value is bad


def test_values_come_in_the_order_of_the_schema() -> None:
    assert list(parse(name="a", boolean=True, count=1)) == ["boolean", "count", "name"]


def test_what_is_not_given_is_not_there() -> None:
    assert parse() == {}


# -- strings -----------------------------------------------------------------------


def test_strings_are_split_at_the_first_equals_sign() -> None:
    assert split_strings("x", ["Unit = 10", "a=b=c", "empty="]) == {
        "unit": "10",
        "a": "b=c",
        "empty": "",
    }
    assert split_strings("x", "unit=10") == {"unit": "10"}
    assert split_strings("x", ()) == {}


@pytest.mark.parametrize("bad", ["unit", "", "=3", " = "])
def test_what_is_no_property_is_named(bad: str) -> None:
    with pytest.raises(InvalidParameterError, match="'key=value'") as caught:
        split_strings("layer 'x'", ["a=1", bad])

    assert repr(bad) in str(caught.value)
    assert caught.value.text == bad


def test_a_key_given_twice_is_named_with_both_values() -> None:
    with pytest.raises(InvalidParameterError, match="unit is given twice") as caught:
        split_strings("layer 'x'", ["unit=1", "UNIT=2"])

    assert "'1' and '2'" in str(caught.value)
    assert caught.value.property == "unit"


def test_strings_and_keywords_make_the_same_layer() -> None:
    by_strings = create_layer(
        "fully_connected",
        ["name=fc1", "unit=10", "activation=relu", "input_layers=a,b", "bias=false"],
    )
    by_keywords = create_layer(
        "Fully_Connected",
        name="fc1",
        unit=10,
        activation="relu",
        input_layers=["a", "b"],
        bias=False,
    )

    assert dict(by_strings.given) == dict(by_keywords.given)


def test_keywords_win_over_strings() -> None:
    assert create_layer("fully_connected", ["unit=10"], unit=20)["unit"] == 20


def test_the_model_reads_strings_too() -> None:
    model = Model()
    model.set_property(["batch_size=32", "epochs=10"], epochs=5)

    assert model.get_property("batch_size") == 32
    assert model.get_property("epochs") == 5
    assert model.get_property("memory_optimization") is True


# -- names -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "unknown", "meant", "owner"),
    [
        (
            lambda: create_layer("fully_connected", name="fc1", units=3),
            "units",
            "unit",
            "layer 'fc1' (fully_connected)",
        ),
        (
            lambda: create_layer("activation", ["activaton=relu"]),
            "activaton",
            "activation",
            "activation",
        ),
        (
            lambda: create_optimizer("adam", learning_rat=0.1),
            "learning_rat",
            "learning_rate",
            "optimizer adam",
        ),
        (
            lambda: Model().set_property(batchsize=3),
            "batchsize",
            "batch_size",
            "model",
        ),
        (
            lambda: Model().get_property("epoch"),
            "epoch",
            "epochs",
            "model",
        ),
    ],
)
def test_an_unknown_property_names_the_nearest(
    make: Any, unknown: str, meant: str, owner: str
) -> None:
    with pytest.raises(UnknownPropertyError) as caught:
        make()

    error: Any = caught.value
    assert str(error).startswith(
        f"{owner}: unknown property '{unknown}' (did you mean '{meant}'?)"
    )
    assert (error.owner, error.property) == (owner, unknown)
    assert meant in error.known
    assert list(error.known) == sorted(error.known)


@pytest.mark.parametrize(
    ("make", "meant"),
    [
        (lambda: create_layer("fully_conected"), "fully_connected"),
        (lambda: create_layer("MSEE"), "mse"),
        (lambda: create_optimizer("adamm"), "adam"),
    ],
)
def test_an_unknown_type_names_the_nearest(make: Any, meant: str) -> None:
    with pytest.raises(UnknownTypeError, match=f"did you mean '{meant}") as caught:
        make()
    assert isinstance(caught.value, ValueError)


def test_nothing_is_meant_by_what_is_near_nothing() -> None:
    assert nearest("xyz", ["unit", "name"]) == ""
    assert nearest("UNITS", ["unit", "name"]) == " (did you mean 'unit'?)"
    assert nearest("unit", []) == ""


def test_nothing_is_set_when_one_value_is_bad() -> None:
    model = Model()
    with pytest.raises(InvalidParameterError, match="epochs=0 is not possible"):
        model.set_property(batch_size=8, epochs=0)
    assert model.properties == {}


# -- round trip --------------------------------------------------------------------

words = st.text("abcXYZ019_/-", min_size=1, max_size=8)
wholes = st.integers(0, LARGEST_INT)
reals = st.floats(allow_nan=False, allow_infinity=False)
above_zero = st.floats(0, exclude_min=True, allow_infinity=False)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "positive_int": st.integers(1, LARGEST_INT),
    "count": wholes,
    "real": reals,
    "positive_real": above_zero,
    "nonnegative_real": st.floats(0, allow_infinity=False),
    "fraction": st.floats(0, 1, exclude_max=True),
    "shape": st.tuples(*[st.integers(1, LARGEST_INT)] * 3),
    "name": words,
    "names": st.lists(words, min_size=1, max_size=4).map(tuple),
    "positive_reals": st.lists(above_zero, min_size=1, max_size=4).map(tuple),
    "counts": st.lists(wholes, min_size=1, max_size=4).map(tuple),
    "colour": st.sampled_from(["red", "dark_blue"]),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
def test_text_read_back_is_the_same(values: dict[str, Any]) -> None:
    parsed = parse(**values)
    assert parsed == values

    text = write_properties(SCHEMA, parsed)

    assert list(text) == list(parsed)
    assert parse(**text) == parsed
    strings = [f"{key}={value}" for key, value in text.items()]
    assert parse_properties("thing", SCHEMA, split_strings("thing", strings)) == parsed


def test_text_is_what_people_write() -> None:
    values = parse(
        boolean=True, shape="784", names="a,b", real=0.1, counts=(0, 5), count=0
    )
    assert write_properties(SCHEMA, values) == {
        "boolean": "true",
        "count": "0",
        "real": "0.1",
        "shape": "1:1:784",
        "names": "a, b",
        "counts": "0, 5",
    }


def all_schemas() -> dict[str, tuple[Property, ...]]:
    schemas = {f"layer {name}": kind.properties for name, kind in LAYER_TYPES.items()}
    schemas |= {f"optimizer {name}": s for name, s in OPTIMIZER_SCHEMAS.items()}
    schemas |= {f"schedule {name}": tuple(s) for name, s in SCHEDULE_SCHEMAS.items()}
    return {**schemas, "model": MODEL_PROPERTIES}


@pytest.mark.parametrize("owner", all_schemas())
def test_every_default_is_a_value_of_its_property(owner: str) -> None:
    schema = all_schemas()[owner]
    names = [declared.name for declared in schema]
    assert len(set(names)) == len(names)
    for declared in schema:
        assert declared.help
        if declared.default is not None:
            text = write_properties([declared], {declared.name: declared.default})
            read = parse_properties(owner, [declared], text)
            assert read == {declared.name: declared.default}
