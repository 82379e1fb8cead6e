"""Layers, activations, losses, optimizers and schedules: pages say what code does."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from helpers.pages import ROOT

from arena_ckpt.common.properties import Property
from arena_ckpt.kernels.kernel import kernel_of
from arena_ckpt.layers import (
    COMMON_PROPERTIES,
    INITIALIZERS,
    LAYER_TYPES,
    WEIGHT_PROPERTIES,
    create_layer,
)
from arena_ckpt.layers.functions import FUNCTIONS, function_of
from arena_ckpt.layers.loss import LOSS_PROPERTIES
from arena_ckpt.optim.learning_rates import SCHEDULE_SCHEMAS
from arena_ckpt.optim.optimizers import OPTIMIZER_SCHEMAS, create_optimizer

LAYERS = ROOT / "docs/layers"
TEXTS = {page.name: page.read_text("utf-8") for page in sorted(LAYERS.glob("*.md"))}
DENSE, LOSSES = TEXTS["dense.md"], TEXTS["losses.md"]
ACTIVATIONS = TEXTS["activations.md"]
OPTIMIZERS = (ROOT / "docs/optimizers.md").read_text("utf-8")
TEXTS_OF = {"clamp": "clamp(min=-1, max=2)"}
"""Functions that need numbers, with some."""

COMMON = {declared.name for declared in COMMON_PROPERTIES}
OF_WEIGHTS = {declared.name for declared in WEIGHT_PROPERTIES}


def section(text: str, title: str) -> str:
    """Return what stands under a heading, up to the next one as high."""
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert found, f"no section {title!r}"
    rest = text[found.end() :]
    return re.split(rf"^#{{1,{len(found[1])}}} ", rest, flags=re.MULTILINE)[0]


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells behind each name in the first column of tables."""
    found = {}
    for line in text.splitlines():
        if line.startswith("| "):
            first, *others = (c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1])
            for name in re.findall(r"`(\w+)`", first):
                found[name] = others
    return found


def plain(cell: str) -> str:
    return cell.strip("`").replace("−", "-")


def written(declared: Property) -> set[str]:
    """Return how a page may show a default."""
    value: Any = declared.default
    if value is None:
        return {"–", "required", "from the type", "the layer added before"}
    if isinstance(value, bool):
        return {str(value).lower()}
    return {str(value)}


def assert_shown(declared: tuple[Property, ...], text: str) -> None:
    shown = rows(text)
    wanted = [one for one in declared if one.name not in COMMON]
    for one in wanted:
        assert one.name in shown, f"{one.name} is missing"
        assert plain(shown[one.name][0]) in written(one), (one.name, shown[one.name])
    names = {one.name for one in wanted}
    assert set(shown) - COMMON <= names, "there is no such property"


def page_of(type_name: str) -> str:
    """Return the page, beside the overview, that names a type in a table or heading."""
    wanted = re.compile(rf"^(?:\|[^|]*`{type_name}|#+ .*\b{type_name}\b)", re.MULTILINE)
    found = [
        name
        for name, text in TEXTS.items()
        if name != "README.md" and wanted.search(text)
    ]
    assert found, f"no page of docs/layers has {type_name}"
    row = re.compile(rf"^\| \[[^]]*\]\((\w+\.md)\) \|.*`{type_name}`", re.MULTILINE)
    listed = row.findall(TEXTS["README.md"])
    return TEXTS[next((name for name in found if name in listed), found[0])]


@pytest.mark.parametrize("type_name", LAYER_TYPES)
def test_every_layer_has_its_properties_on_its_page(type_name: str) -> None:
    text = page_of(type_name)
    words = set(re.findall(r"\w+", text))
    for declared in LAYER_TYPES[type_name].properties:
        if declared.name not in COMMON | OF_WEIGHTS:
            assert declared.name in words, (type_name, declared.name)


def test_the_overview_names_every_layer() -> None:
    table = TEXTS["README.md"].partition("## What all layers have")[0]
    assert set(LAYER_TYPES) <= set(re.findall(r"`(\w+)`", table))
    assert {*FUNCTIONS, "none"} <= set(re.findall(r"`(\w+)`", table))
    assert set(rows(section(TEXTS["README.md"], "What all layers have"))) == COMMON


def test_properties_of_weights_have_their_defaults() -> None:
    assert_shown(WEIGHT_PROPERTIES, section(DENSE, "Properties of weights"))
    drawn = rows(section(DENSE, "Initial values"))
    assert set(drawn) == {*INITIALIZERS, "weight_initializer"}


def test_dense_layers_have_their_defaults() -> None:
    table = section(DENSE, "fully_connected").partition("| weight | shape")[0]
    own = tuple(
        declared
        for declared in LAYER_TYPES["fully_connected"].properties
        if declared.name not in OF_WEIGHTS
    )
    assert_shown(own, table)
    assert_shown(LAYER_TYPES["activation"].properties, section(DENSE, "activation"))


def test_every_activation_says_what_backward_reads() -> None:
    table = rows(ACTIVATIONS.partition("```python")[0])
    reads = {name: cells[-1] for name, cells in table.items()}
    made = {name: function_of(TEXTS_OF.get(name, name)).kernels for name in FUNCTIONS}
    saves = {name: function.saves for name, function in made.items()}
    assert reads == {**saves, "none": "nothing"}


def test_activations_and_their_slopes_are_those_of_the_page() -> None:
    """The formulas of the page, written for Python, give what the kernels give."""
    x = np.linspace(-4, 4, 81, dtype=np.float32)
    d = x.astype(np.float64)
    s = 1 / (1 + np.exp(-d))
    cdf = np.array([(1 + math.erf(z / math.sqrt(2))) / 2 for z in d])
    phi = np.exp(-d * d / 2) / np.sqrt(2 * np.pi)
    u = np.sqrt(2 / np.pi) * (d + 0.044715 * d**3)
    v = 2 * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * d**2)
    s2u = 1 / (1 + np.exp(-2 * u))
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    h, sg = np.clip((d + 3) / 6, 0, 1), 1 / (1 + np.exp(-1.702 * d))
    low, t = np.exp(d) - 1, np.tanh(np.log1p(np.exp(d)))
    formulas = {
        "relu": (np.maximum(d, 0), np.where(d > 0, 1, 0)),
        "leaky_relu": (np.where(d <= 0, 0.01 * d, d), np.where(d <= 0, 0.01, 1)),
        "sigmoid": (s, s * (1 - s)),
        "tanh": (np.tanh(d), 1 - np.tanh(d) ** 2),
        "gelu": (d * cdf, cdf + d * phi),
        "tanh_gelu": (d * (1 + np.tanh(u)) / 2, s2u * (1 + d * v * (1 - s2u))),
        "swish": (d * s, s * (1 + d * (1 - s))),
        "elu": (np.where(d <= 0, low, d), np.where(d <= 0, 1 + low, 1)),
        "selu": (
            np.where(d <= 0, scale * alpha * low, scale * d),
            np.where(d <= 0, scale * alpha * low + scale * alpha, scale),
        ),
        "softplus": (np.log1p(np.exp(d)), s),
        "mish": (d * t, t + d * s * (1 - t**2)),
        "relu6": (np.clip(d, 0, 6), np.where(d > 0, 1, 0)),
        "clamp": (np.clip(d, -1, 2), np.where((d >= -1) & (d <= 2), 1, 0)),
        "hard_sigmoid": (h, np.where((h > 0) & (h < 1), 1 / 6, 0)),
        "hard_swish": (d * h, np.select([d <= -3, d >= 3], [0, 1], d / 3 + 0.5)),
        "sigmoid_gelu": (d * sg, sg * (1 + 1.702 * d * (1 - sg))),
        "exp": (np.exp(d), np.exp(d)),
        "log": (np.log(np.where(d > 0, d, np.nan)), 1 / np.where(d == 0, np.nan, d)),
        "abs": (np.abs(d), np.sign(d)),
        "sin": (np.sin(d), np.cos(d)),
        "cos": (np.cos(d), -np.sin(d)),
        "tan": (np.tan(d), 1 + np.tan(d) ** 2),
    }
    assert {*formulas, "softmax"} == set(FUNCTIONS)
    # softmax is of rows: tests/kernels/test_kernels_activations.py has it
    for name, (value, slope) in formulas.items():
        y, dx = np.empty_like(x), np.empty_like(x)
        made = function_of(TEXTS_OF.get(name, name))
        saved = x if made.kernels.saves == "input" else y
        kernel_of(made.kernels.forward)(x, *made.numbers, y)
        kernel_of(made.kernels.backward)(saved, *made.numbers, np.ones_like(x), dx)
        known = np.isfinite(value) & np.isfinite(slope) & (np.abs(slope) < 1e3)
        y, dx, value, slope = y[known], dx[known], value[known], slope[known]
        np.testing.assert_allclose(y, value, rtol=2e-6, atol=2e-6, err_msg=name)
        np.testing.assert_allclose(dx, slope, rtol=2e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("name", [n for n, t in LAYER_TYPES.items() if t.is_loss])
def test_every_loss_has_a_section_with_its_properties(name: str) -> None:
    own = [one for one in LAYER_TYPES[name].properties if one not in LOSS_PROPERTIES]
    assert_shown(tuple(own), section(LOSSES, name))
    first, _, labels = LOSSES.partition("## Labels")
    assert name in rows(first)
    assert name in rows(labels.partition("\n## ")[0])


def test_properties_of_every_loss_have_their_defaults() -> None:
    assert_shown(LOSS_PROPERTIES, section(LOSSES, "Properties of every loss"))


@pytest.mark.parametrize("name", OPTIMIZER_SCHEMAS)
def test_every_optimizer_has_a_section_with_its_properties(name: str) -> None:
    assert_shown(OPTIMIZER_SCHEMAS[name], section(OPTIMIZERS, name))


@pytest.mark.parametrize("name", SCHEDULE_SCHEMAS)
def test_every_schedule_has_a_section_with_its_properties(name: str) -> None:
    shown = rows(section(OPTIMIZERS, name))
    assert set(shown) == {declared.name for declared in SCHEDULE_SCHEMAS[name]}
    assert all(declared.default is None for declared in SCHEDULE_SCHEMAS[name])


def test_the_bytes_of_states_are_those_of_the_optimizers() -> None:
    table = OPTIMIZERS.partition("```python")[0]
    found = {
        tuple(re.findall(r"`(\w+)`", first)): (re.findall(r"`(\w+)`", states), int(n))
        for first, states, n in re.findall(
            r"^\| ([^|]*`[^|]*) \| ([^|]*) \| (\d+) \|$", table, re.MULTILINE
        )
    }
    assert {names[0] for names in found} == set(OPTIMIZER_SCHEMAS)
    for (name, *with_), (states, n_bytes) in found.items():
        given = {one: True if one == "centered" else 0.9 for one in with_}
        made = create_optimizer(name, **given)
        assert list(made.state_names) == states
        assert n_bytes == 4 * len(states)


def test_pages_of_layers_make_layers() -> None:
    """A type that the overview names can be created; nothing stale stands there."""
    table = TEXTS["README.md"].partition("## What all layers have")[0]
    for name in set(re.findall(r"`(\w+)`", table)) - {*FUNCTIONS, "none"}:
        create_layer(name)
