"""Targets that take Python values: the calls that build, plan and train models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

import arena_ckpt as ac
from arena_ckpt.common.properties import Property
from arena_ckpt.definition.model_definition import MODEL_PROPERTIES
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.optim.learning_rates import SCHEDULE_SCHEMAS
from arena_ckpt.optim.optimizers import OPTIMIZER_SCHEMAS
from fuzzing.guard import LIMITS, Finding, Limits, guarded
from fuzzing.mutate import HUGE, NUMBERS, anything, texts
from fuzzing.readers import small_model
from fuzzing.target import Target

Given = dict[str, Any]

# -- properties ------------------------------------------------------------------------

_OWNERS: dict[str, dict[str, tuple[Property, ...]]] = {
    "layer": {name: tuple(kind.properties) for name, kind in LAYER_TYPES.items()},
    "optimizer": dict(OPTIMIZER_SCHEMAS),
    "schedule": dict(SCHEDULE_SCHEMAS),
    "model": {"model": MODEL_PROPERTIES},
}
_MADE_BY: dict[str, Callable[..., Any]] = {
    "layer": lambda kind, strings, **values: ac.Model().add_layer(
        kind, strings, **values
    ),
    "optimizer": lambda kind, strings, **values: ac.Model().set_optimizer(
        kind, strings, **values
    ),
    "schedule": ac.create_schedule,
    "model": lambda kind, strings, **values: ac.Model().set_property(strings, **values),
}
_words = st.sampled_from(
    (
        *("", "1:1:6", "3:8:8", "2,2", "same", "valid", "0,1", "a, b", "relu", "gelu"),
        *(
            "max",
            "true",
            "false",
            "0.5",
            "-1",
            "1e-3",
            "1e999",
            "nan",
            "١٢",
            "0x10",
            "1_0",
        ),
    )
)
_numbers = st.integers(-2, 9) | st.sampled_from(NUMBERS)
_values = _words | _numbers | st.lists(_numbers, max_size=4) | anything


@st.composite
def _properties(draw: st.DrawFn) -> tuple[str, Any, Any, Given]:
    """Return the owner, its type, strings and keyword arguments."""
    owner = draw(st.sampled_from(sorted(_OWNERS)))
    known = _OWNERS[owner]
    kind = draw(st.sampled_from(sorted(known)))
    names = [p.name for p in known[kind]]
    keys = st.sampled_from(names) if names and draw(st.integers(0, 5)) else texts
    pairs = st.builds("{}={}".format, keys, _words | _numbers.map(str))
    strings = draw(st.lists(pairs | texts, max_size=3) | anything)
    values = draw(st.dictionaries(keys, _values, max_size=3))
    for own in ("layer", "properties", "optimizer", "type_name", "self", "strings"):
        values.pop(own, None)
    values.pop("kind", None)
    if draw(st.integers(0, 9)) == 0:
        kind = draw(anything)
    return owner, kind, strings, values


def _set_properties(drawn: tuple[str, Any, Any, Given], folder: Path) -> None:
    owner, kind, strings, values = drawn
    with guarded(LIMITS, folder):
        _MADE_BY[owner](kind, strings, **values)


# -- graphs ----------------------------------------------------------------------------

_NAMES = ("a", "b", "c", "d", "a/x", "a(1)", "a/t0", "é", "A", "x y", "", "a,b", "loss")
_names = st.sampled_from(_NAMES) | texts
_SOURCES = ("a", "b", "c", "d", "a(1)", "a(0)", "a(-1)", "a/x", "a/t1", "a(", "zz")
_GOOD: dict[str, tuple[Given, ...]] = {
    "input": ({"input_shape": "1:1:6"}, {"input_shape": "3:8:8"}),
    "fully_connected": ({"unit": 4}, {"unit": 2**40}),
    "activation": ({"activation": "relu"}, {"activation": "softmax"}),
    "conv2d": (
        {"filters": 2, "kernel_size": "3,3"},
        {"filters": 3, "kernel_size": "3,3", "groups": 3},
    ),
    "conv1d": ({"filters": 2, "kernel_size": 3},),
    "depthwiseconv2d": ({"kernel_size": "3,3"},),
    "conv2dtranspose": ({"filters": 2, "kernel_size": "2,2"},),
    "pooling2d": ({"pooling": "max", "pool_size": "2,2"}, {"pooling": "average"}),
    "multi_head_attention": ({"num_heads": 2}, {"num_heads": 3, "unroll": True}),
    "lstm": ({"unit": 3}, {"unit": 3, "unroll": True, "return_sequences": True}),
    "gru": ({"unit": 3}, {"unit": 2, "unroll": True}),
    "rnn": ({"unit": 3}, {"unit": 2**20, "unroll": True}),
    "embedding": ({"in_dim": 5, "out_dim": 3}, {"in_dim": 2**40, "out_dim": 2**40}),
    "pad": ({"padding": 1}, {"padding": 2**30, "padding_mode": "replicate"}),
    "pixel_shuffle": ({"upscale_factor": 2}, {"upscale_factor": 1}),
    "channel_shuffle": ({"groups": 3}, {"groups": 1}),
    "group_normalization": ({"num_groups": 2},),
    "split": ({"axis": 3}, {"axis": 3, "split_number": 2}),
    "concat": ({"axis": 3},),
    "reshape": ({"target_shape": "1:2:3"},),
    "permute": ({"direction": "3,2,1"},),
    "slice": ({"axis": 3, "end_index": 3},),
    "matmul": ({},),
    "mse": ({},),
    "cross_softmax": ({}, {"per_token": True}),
}


@st.composite
def _layer(draw: st.DrawFn) -> tuple[str, Given]:
    kind = draw(
        st.sampled_from(("input", "fully_connected", "activation", "mse", "flatten"))
        | st.sampled_from(sorted(LAYER_TYPES))
    )
    given: Given = dict(draw(st.sampled_from(_GOOD.get(kind, ({},)))))
    names = [p.name for p in LAYER_TYPES[kind].properties]
    for _ in range(draw(st.integers(0, 2)) if names else 0):
        given[draw(st.sampled_from(names))] = draw(_values)
    match draw(st.integers(0, 3)):
        case 0:
            given["name"] = draw(_names)
        case 1:
            sources = st.lists(st.sampled_from(_SOURCES), min_size=1, max_size=3)
            given["input_layers"] = draw(sources | anything)
    return kind, given


_MODEL = st.fixed_dictionaries(
    {},
    optional={
        "batch_size": _numbers,
        "micro_batches": _numbers,
        "memory_optimization": st.booleans(),
        "clip_grad_by_norm": st.sampled_from((0.5, 1e-300, 1e308)),
    },
)
_blocks = st.lists(
    st.lists(_names, max_size=4) | st.lists(st.sampled_from("abcd"), max_size=4),
    max_size=2,
)
_graphs = st.tuples(
    st.lists(_layer(), max_size=7), _blocks, _MODEL, st.sampled_from(("sgd", "adam"))
)
_GOOD_END = [("fully_connected", {"unit": 3}), ("mse", {})]


def _build_graph(
    drawn: tuple[list[tuple[str, Given]], list[list[str]], Given, str], folder: Path
) -> None:
    """Build what can be built and plan it, with a good end and without."""
    layers, blocks, properties, optimizer = drawn
    limits = Limits(cpu_seconds=5)
    for end in ([], _GOOD_END):
        model = ac.Model()
        for kind, given in [*layers, *end]:
            with guarded(limits, folder):
                model.add_layer(kind, **given)
        for block in blocks:
            with guarded(limits, folder):
                model.add_checkpoint_block(block)
        with guarded(limits, folder):
            model.set_property(**properties)
        model.set_optimizer(optimizer)
        plan = None
        with guarded(limits, folder):
            plan = model.make_plan()
        if plan is not None:
            with guarded(limits, folder):
                ac.MemoryPlan.from_json(plan.to_json())
                _require_same(plan, ac.MemoryPlan.from_json(plan.to_json()))
                ModelPlans(model).require_own_plan(plan)


def _require_same(plan: ac.MemoryPlan, again: ac.MemoryPlan) -> None:
    if plan != again:
        raise Finding("from_json does not read what to_json wrote")


# -- requests --------------------------------------------------------------------------

_requests = st.dictionaries(
    st.sampled_from(
        (
            *("budget", "max_overhead", "allow", "levels", "debug", "buget"),
            *("keep", "drop", "most"),
        )
    ),
    _values
    | st.sampled_from(("1KiB", "2 KiB", "20%", "-1%", "1e999%", "recompute", 0.3, 1))
    | st.sampled_from(("60%", "fc*", "act1", "*", ["act*", "fc2"]))
    | st.lists(st.sampled_from(("recompute", "in_place", "tiled_update")), max_size=3),
    max_size=4,
)
_PLANNED = small_model()
_ASK: dict[str, Callable[..., Any]] = {
    "make_plan": _PLANNED.make_plan,
    "choose_plan": _PLANNED.choose_plan,
    "pareto": _PLANNED.pareto,
    "choose_batch_size": _PLANNED.choose_batch_size,
}


def _request(drawn: tuple[str, Given, Any], folder: Path) -> None:
    name, request, measure = drawn
    request = dict(request)
    if name != "make_plan":
        request.pop("buget", None)
    if name == "pareto":
        known = ("allow", "levels", "debug", "keep", "drop")
        request = {k: v for k, v in request.items() if k in known}
    elif name == "choose_batch_size":
        request.setdefault("budget", "1KiB")
        is_count = isinstance(most := request.get("most", 9), int)
        request["most"] = min(most, 256) if is_count else most
    else:
        request.pop("most", None)
    if measure is not True and measure is not None:
        request["measure"] = measure
    if request.get("debug") is not None:
        request["debug"] = bool(str(type(request["debug"])))
    with guarded(Limits(cpu_seconds=5), folder):
        _ASK[name](**request)


# -- allocation ------------------------------------------------------------------------

_few = st.integers(-1, 12)
_ints = st.lists(_few, min_size=3, max_size=3)
_odd = (
    _ints
    | _ints.map(np.array)
    | st.lists(_few | st.sampled_from(NUMBERS) | st.none(), min_size=3, max_size=3)
    | anything
)
_rows = st.fixed_dictionaries(
    {
        "lower": st.just([0, 1, 2]) | _ints | _odd,
        "upper": st.just([3, 4, 5]) | _ints | _odd,
        "size": st.just([4, 5, 6])
        | _ints
        | st.lists(st.sampled_from(HUGE), max_size=3),
    },
    optional={
        "alignment": st.sampled_from((1, 2, 64)) | _odd,
        "fixed_offset": st.lists(_few | st.none(), min_size=3, max_size=3) | _odd,
        "gaps": st.lists(
            st.none()
            | st.lists(st.tuples(_few, _few) | st.tuples(_few, _few, _few, _few)),
            min_size=3,
            max_size=3,
        )
        | _odd,
        "group": st.lists(st.none() | st.sampled_from("ab"), min_size=3, max_size=3)
        | _odd,
        "capacity": _few | _values,
        "pools": st.lists(_few | st.none(), max_size=3)
        | st.sampled_from(({"a": 9, "b": None}, {"a": "9B", "b": "1KiB"}, {"": 1}))
        | _odd,
        "allowed_pools": st.lists(
            st.none() | _few | st.sampled_from("abc") | st.lists(_few, max_size=2),
            min_size=3,
            max_size=3,
        )
        | _odd,
        "spill_weights": st.lists(_few | st.floats(-1, 1e300), min_size=3, max_size=3)
        | _odd,
        "node_limit": st.sampled_from((0, 10, 2**40, 10**30)) | _values,
        "time_limit_seconds": st.sampled_from((0, 0.01, -1.0, float("nan"))) | anything,
        "engine": st.sampled_from(("auto", "greedy", "exact", "large", "x")) | anything,
        "seed": _few | _values,
    },
)


def _allocate(drawn: Given, folder: Path) -> None:
    with guarded(LIMITS, folder):
        ac.allocate(**{"time_limit_seconds": 0.01, "progress": False, **drawn})


# -- data ------------------------------------------------------------------------------

_TRAINED = small_model()
_X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
_Y = np.array([0, 1, 2, 1])
_DTYPES = (
    "f2",
    "f4",
    "f8",
    "g",
    ">f4",
    "i1",
    "u8",
    "?",
    "c8",
    "O",
    "U3",
    "S2",
    "M8[s]",
)


@st.composite
def _arrays(draw: st.DrawFn) -> Any:
    """Return an array that nearly fits, or something else."""
    if draw(st.integers(0, 3)) == 0:
        return draw(anything)
    shape = draw(
        st.sampled_from(((4, 6), (3, 6), (4, 1, 1, 6), (4,), (4, 1), (4, 3), (6,)))
        | st.lists(st.integers(0, 6), max_size=5).map(tuple)
    )
    kind = draw(st.sampled_from(_DTYPES))
    fill = draw(st.sampled_from((0, 1, 2, 3, -1, 0.5, float("nan"), 1e39, 2**53)))
    with np.errstate(all="ignore"):
        try:
            array = np.full(shape, fill).astype(kind)
        except (ValueError, OverflowError):
            array = np.zeros(shape, kind)
    match draw(st.integers(0, 5)):
        case 0:
            array = np.asfortranarray(array)
        case 1:
            array = array[::-1] if array.ndim else array
        case 2:
            return array.tolist()
        case 3:
            return np.broadcast_to(array, (2**40, *array.shape))
    return array


_CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "train_step": lambda x, y: _TRAINED.train_step(x, y),
    "compute_gradients": lambda x, y: _TRAINED.compute_gradients(x, y),
    "train": lambda x, y: _TRAINED.train((x, y), epochs=1, progress=False),
    "train odd": lambda x, y: _TRAINED.train(x, epochs=y, progress=False),
    "validate": lambda x, y: _TRAINED.train(
        (_X, _Y), validation=(x, y), progress=False
    ),
    "evaluate": lambda x, y: _TRAINED.evaluate((x, y)),
    "predict": lambda x, y: _TRAINED.predict(x),
    "set_weights": lambda x, y: _TRAINED.set_weights({"fc1:bias": x, "fc2:bias": y}),
    "set_weights odd": lambda x, y: _TRAINED.set_weights(x),
    "dataset": lambda x, y: ac.Dataset("mine", x, y),
    "take": lambda x, y: ac.Dataset("mine", _X, _Y).take(x),
    "groups": lambda x, y: ac.Dataset("mine", _X, _Y).split(0.25, 0, groups=x),
    "classes": lambda x, y: ac.Dataset("mine", _X, _Y, x),
    "two inputs": lambda x, y: ac.Dataset("mine", {"a": x, "b": y}, None),
    "batches": lambda x, y: _TRAINED.train([(x, y), (_X, _Y)], progress=False),
    "drawn": lambda x, y: _TRAINED.train(iter([(_X, _Y), x, y]), progress=False),
    "split": lambda x, y: ac.Dataset("mine", _X, _Y).split(x, y),
}


def _give_data(drawn: tuple[str, Any, Any], folder: Path) -> None:
    name, x, y = drawn
    before = _TRAINED.weights()
    with guarded(LIMITS, folder):
        _CALLS[name](x, y)
    after = _TRAINED.weights()
    if not all(np.isfinite(w).all() for w in after.values()):
        raise Finding(f"{name} made weights that are not finite")
    _TRAINED.set_weights(before)


def _warm_up_data() -> None:
    if _TRAINED._session is None:
        _TRAINED.initialize()
    for name in ("train_step", "compute_gradients", "validate", "predict"):
        _CALLS[name](_X, _Y)


# -- the table -------------------------------------------------------------------------


def _warm_up_allocation() -> None:
    rows: Given = {"lower": [0, 1, 2], "upper": [3, 4, 5], "size": [4, 5, 6]}
    for engine in ("auto", "greedy", "exact", "large"):
        for more in (
            {},
            {"gaps": [[(1, 2)], None, [(3, 4, 0, 2)]]},
            {"group": ["a", "a", None]},
            {"fixed_offset": [0, None, None]},
            {"pools": [9, None]},
            {"pools": [9, None], "spill_weights": [1, 2, 3]},
            {"capacity": 15},
        ):
            ac.allocate(**rows, engine=engine, node_limit=100, **more)


OBJECTS = (
    Target("properties", _properties(), _set_properties),
    Target("graph", _graphs, _build_graph, warm_up=small_model().make_plan),
    Target(
        "request",
        st.tuples(st.sampled_from(sorted(_ASK)), _requests, st.none() | anything),
        _request,
        warm_up=lambda: [_PLANNED.pareto(), _PLANNED.choose_plan(budget="1GiB")],
    ),
    Target("allocate", _rows, _allocate, warm_up=_warm_up_allocation),
    Target(
        "data",
        st.tuples(st.sampled_from(sorted(_CALLS)), _arrays(), _arrays()),
        _give_data,
        warm_up=_warm_up_data,
    ),
)
