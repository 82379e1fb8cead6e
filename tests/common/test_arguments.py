"""Every public call refuses arguments that it does not have, in words of ours."""

from __future__ import annotations

import enum
import functools
import inspect
import pickle
import pydoc
import timeit
import typing
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import arena_ckpt as ac
from arena_ckpt import layers, testing
from arena_ckpt.boards.board import Board
from arena_ckpt.common.arguments import public_call
from arena_ckpt.data import loaders
from arena_ckpt.errors import (
    ArenaError,
    ArgumentError,
    InvalidParameterError,
    UnknownPropertyError,
)
from arena_ckpt.optim.learning_rates import Schedule

PLACES: dict[str, tuple[object, tuple[str, ...]]] = {
    "arena_ckpt": (ac, tuple(ac.__all__)),
    "arena_ckpt.testing": (testing, tuple(testing.__all__)),
    "arena_ckpt.data.loaders": (loaders, ("open_data",)),
    "arena_ckpt.layers": (
        layers,
        (
            *("Call", "Flops", "IdInput", "InPlace", "LayerSpec", "Property"),
            *("TensorSpec", "WeightSpec", "bias_spec", "weight_spec"),
        ),
    ),
}
"""Where the documentation lets a user call something, and what."""

METHODS_ONLY: dict[str, tuple[type, tuple[str, ...]]] = {
    "Board": (Board, ("check",)),
    "Schedule": (Schedule, ("learning_rate_at",)),
}
"""Objects that calls return, with the documented methods that take arguments."""

OPEN: dict[str, tuple[Any, ...]] = {
    "Model.add_layer": ("input",),
    "Model.replace_layer": ("fc", "fully_connected"),
    "Model.set_optimizer": ("sgd",),
    "Model.set_property": (),
    "create_layer": ("input",),
    "create_optimizer": ("sgd",),
    "create_schedule": ("constant",),
    "export_c": (ac.Model(), "nowhere"),
    "load_example": ("resnet8",),
}
"""Calls that take the properties of something, and what to call them with."""


def public_calls() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield each public function, constructor and method, by its name."""
    for holder, names in PLACES.values():
        for name in names:
            value = getattr(holder, name)
            if not callable(value) or _has_no_call(value):
                continue
            yield name, value
            if isinstance(value, type) and holder is ac:
                yield from _methods(name, value)
    for name, (owner, methods) in METHODS_ONLY.items():
        for method in methods:
            yield f"{name}.{method}", _on_object(owner, method)


def _has_no_call(value: object) -> bool:
    """Members of enumerations are named, and errors take any facts."""
    return isinstance(value, type) and issubclass(value, enum.Enum | BaseException)


def _methods(name: str, owner: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for method in dir(owner):
        defined = next((c for c in owner.__mro__ if method in vars(c)), None)
        assert defined is not None
        is_ours = defined.__module__.startswith("arena_ckpt")
        if method.startswith("_") or not is_ours:
            continue
        if callable(getattr(owner, method)):
            yield f"{name}.{method}", _on_object(owner, method)


def _on_object(owner: type, method: str) -> Callable[..., Any]:
    """Return a method as it is called: on an object, or on its class."""
    if isinstance(inspect.getattr_static(owner, method), classmethod):
        return typing.cast(Callable[..., Any], getattr(owner, method))
    thing = ac.Model() if owner is ac.Model else owner.__new__(owner)
    return typing.cast(Callable[..., Any], getattr(thing, method))


CALLS = dict(public_calls())
NAMES = [name for name, call in CALLS.items() if name not in OPEN]


def test_the_walk_meets_what_is_public() -> None:
    assert len(CALLS) > 70
    assert {
        *("Model", "Model.train", "Model.pareto", "Model.compile", "Model.save_ini"),
        *("Dataset", "Dataset.split", "MemoryPlan.from_json", "allocate", "verify"),
        *("ExecutionOrder", "assert_plan_matches", "TensorSpec", "Board.check"),
    } <= CALLS.keys()
    assert OPEN.keys() <= CALLS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_public_call_refuses_an_unknown_argument(name: str) -> None:
    with pytest.raises(ArgumentError, match="has no argument 'definitely_wrong'") as e:
        CALLS[name](definitely_wrong=1)
    known = [
        parameter.name
        for parameter in inspect.signature(CALLS[name]).parameters.values()
        if parameter.kind is not parameter.VAR_POSITIONAL
    ]
    assert e.value.argument == "definitely_wrong"  # type: ignore[attr-defined]
    assert list(e.value.known) == known  # type: ignore[attr-defined]
    assert isinstance(e.value, ArenaError)
    assert isinstance(e.value, InvalidParameterError)
    assert isinstance(e.value, TypeError)
    assert e.value.__suppress_context__


@pytest.mark.parametrize("name", NAMES)
def test_a_public_call_refuses_too_many_arguments(name: str) -> None:
    with pytest.raises(ArgumentError, match=r"by position and is given 40"):
        CALLS[name](*range(40))


@pytest.mark.parametrize("name", OPEN)
def test_a_call_that_takes_properties_refuses_an_unknown_one(name: str) -> None:
    with pytest.raises(InvalidParameterError, match="definitely_wrong") as e:
        CALLS[name](*OPEN[name], definitely_wrong=1)
    assert isinstance(e.value, TypeError)
    if OPEN[name]:
        with pytest.raises(ArgumentError, match="which the call leaves out"):
            CALLS[name]()
    with pytest.raises(ArgumentError, match="by position and is given 40"):
        CALLS[name](*["sgd"] * 40)


@pytest.mark.parametrize("name", CALLS)
def test_a_public_call_keeps_its_signature_and_its_help(name: str) -> None:
    call = CALLS[name]
    made = call
    if isinstance(call, type):
        made = getattr(call, "__new__" if issubclass(call, tuple) else "__init__")
    own = getattr(made, "__wrapped__", None)
    assert own is not None, f"{name} lacks the decorator public_call"
    kept = list(inspect.signature(own).parameters.values())
    if kept[0:1] and kept[0].name in ("self", "cls", "_cls"):
        kept = kept[1:]
    assert list(inspect.signature(call).parameters.values()) == kept
    assert not any(p.kind is p.VAR_KEYWORD for p in kept) or name in OPEN
    assert call.__doc__
    text = pydoc.plain(pydoc.render_doc(call))
    assert call.__name__ in text
    assert all(p.name in text for p in kept)


@pytest.mark.parametrize("name", [name for name in CALLS if "." not in name])
def test_a_public_call_can_be_pickled_by_its_name(name: str) -> None:
    assert pickle.loads(pickle.dumps(CALLS[name])) is CALLS[name]


def test_objects_of_public_classes_are_still_pickled() -> None:
    block = ac.CheckpointBlock(("a", "b"), "c")
    order = ac.ExecutionOrder(1, 2, 3, 4, 5)
    assert pickle.loads(pickle.dumps((block, order))) == (block, order)
    assert pickle.loads(pickle.dumps(ac.Model(seed=3))).seed == 3


# -- what is said ----------------------------------------------------------------------


@public_call
def area(width: int, height: int = 2, *, scale: float = 1.0) -> float:
    """Return an area."""
    if scale < 0:
        raise TypeError("from inside")
    return len(3) if scale == 0 else width * height * scale  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: area(), "area needs 'width', which the call leaves out; call it as "
         "area(width, height=2, *, scale=1.0)"),
        (lambda: area(1, 2, 3), "area takes 2 arguments by position and is given 3; "
         "give the others by name, as in area(width, height=2, *, scale=1.0)"),
        (lambda: area(1, width=1), "area is given 'width' twice, by position and by "
         "name; leave one out"),
        (lambda: area(1, 2, width=1), "area is given 'width' twice, by position and by "
         "name; leave one out"),
        (lambda: area(1, hight=1), "area has no argument 'hight' (did you mean "
         "'height'?); it has width, height, scale"),
        (lambda: area(1, hight=1, width=3), "area has no argument 'hight' (did you "
         "mean 'height'?); it has width, height, scale"),
        (lambda: ac.load_digits(zzz=1), "load_digits has no argument 'zzz'; it takes "
         "none"),
        (lambda: ac.Model.train((1, 2)), "train is called on the class Model; make an "
         "object with Model(…) and call train(data, *, validation=None, metrics=None, "
         "epochs=None, shuffle=True, progress=None, on_epoch=None, callbacks=(), "
         "checkpoint=None, every=None, resume=False) on that"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_told_what_is_wrong(
    call: Callable[[], object], says: str
) -> None:
    with pytest.raises(ArgumentError) as e:
        call()
    assert str(e.value) == says


def test_an_error_from_inside_a_call_stays_what_it_is() -> None:
    for scale, message in ((-1, "from inside"), (0, "has no len")):
        with pytest.raises(TypeError, match=message) as e:
            area(1, scale=scale)
        assert not isinstance(e.value, ArenaError)


def test_a_wrong_call_made_inside_a_call_names_the_inner_one() -> None:
    @public_call
    def outer(value: int) -> float:
        return area(value, hight=1)  # type: ignore[call-arg]

    with pytest.raises(ArgumentError, match=r"^area has no argument 'hight'"):
        outer(3)


X, Y = np.zeros((4, 3), np.float32), np.zeros((4, 2), np.float32)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m.train(X, Y), r"train takes 1 argument .* as one pair, "
         r"train\(\(x, y\)\), or a Dataset; call it as train\(data, \*"),
        (lambda m: m.train(x=X, y=Y), r"no argument 'x'; .* train\(\(x, y\)\)"),
        (lambda m: m.evaluate(X, Y), r"evaluate takes 1 .* evaluate\(\(x, y\)\)"),
        (lambda m: ac.verify(m, X, Y), r"verify takes 2 .* verify\(model, \(x, y\)\)"),
        (lambda m: m.train_step((X, Y)), r"needs 'y'.* train_step\(\*pair\)"),
        (lambda m: m.compute_gradients((X, Y)), r"compute_gradients\(\*pair\)"),
        (lambda m: m.predict(X, Y), r"labels are for evaluate\(\(x, y\)\)"),
        (lambda m: ac.Dataset(X, Y), r"needs 'y'.* Dataset\('mine', x, y\).*load_csv, "
         "load_digits, load_idx and load_npz"),
        (lambda m: ac.Dataset(x=X, y=Y), r"needs 'name'.* Dataset\('mine', x, y\)"),
        (lambda m: m.train((X, Y), epoch=3), r"\(did you mean 'epochs'\?\); .*resume$"),
        (lambda m: m.initialize("plan.json"), r"no arguments by position .*by name"),
        (lambda m: m.initialize(bugdet=3), r"\(did you mean 'budget'\?\)"),
        (lambda m: m.pareto(budget=3), "'budget'; it has allow.* for choose_plan"),
        (lambda m: ac.Model([m]*2, 3), "Model takes 1 .* add_layer"),
        (lambda m: ac.load_example("resnet8", batchsize=3),
         r"example 'resnet8' has no argument 'batchsize' \(did you mean 'batch_size'"),
        (lambda m: ac.CheckpointBlock(), "CheckpointBlock needs 'layers'"),
    ],
)  # fmt: skip
def test_a_common_slip_is_told_what_was_meant(
    call: Callable[[ac.Model], object], says: str
) -> None:
    with pytest.raises(ArgumentError, match=says):
        call(ac.Model())


# -- what it costs ---------------------------------------------------------------------


def test_a_right_call_costs_less_than_two_microseconds() -> None:
    """A training step of the smallest network takes about ten."""

    def plain(x: int, y: int, *, z: int = 3) -> int:
        return x

    wrapped = public_call(plain)
    seconds = {
        call: min(
            timeit.repeat(functools.partial(call, 1, 2, z=4), number=1000, repeat=9)
        )
        for call in (plain, wrapped)
    }
    assert (seconds[wrapped] - seconds[plain]) / 1000 < 2e-6


# -- what type checkers see ------------------------------------------------------------

SNIPPET = """
from dataclasses import dataclass
from arena_ckpt.common.arguments import public_call

@public_call(hint="")
def area(width: int, *, scale: float = 1.0) -> float: ...

@public_call
@dataclass
class Box:
    width: int

    @public_call
    def grown(self, by: int) -> "Box": ...

reveal_type(area)
reveal_type(Box(1).grown)
area(1, scal=2.0)
Box(widht=1)
Box(1).grown("a")
"""


def test_type_checkers_see_the_signature() -> None:
    api = pytest.importorskip("mypy.api")
    said, errors, _ = api.run(
        ["--config-file=", "--hide-error-context", "-c", SNIPPET.replace("...", "pass")]
    )
    assert not errors
    for line in (
        "def (width: int, *, scale: float =) -> float",
        "def (by: int) -> __main__.Box",
        'Unexpected keyword argument "scal" for "area"',
        'Unexpected keyword argument "widht" for "Box"',
        'Argument 1 to "grown" of "Box" has incompatible type "str"',
    ):
        assert line in said.replace("builtins.", ""), said


def test_properties_that_there_are_not_are_of_the_same_builtin_class() -> None:
    """``create_layer("input", nmae="in")`` is a misspelt argument as well."""
    with pytest.raises(TypeError, match=r"'nmae' \(did you mean 'name'"):
        layers.create_layer("input", nmae="in")
    assert issubclass(UnknownPropertyError, ValueError)
