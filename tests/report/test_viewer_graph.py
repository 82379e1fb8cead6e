"""The graph of the layers on the page of a plan, in a Chromium."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from helpers.synthetic_plans import synthetic_plan
from helpers.viewer_pages import BLOCKED, PLAIN, Open, Opened, middle_of

from arena_ckpt import load_example
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.report.html import plan_html

PLACES = """const { places, plan } = app.graph;
return {
  names: Array.from(plan.layerName, (word) => plan.words[word]),
  column: [...places.column],
  lane: [...places.lane],
  lines: [...places.lines].map(([layer, line]) => ({ layer, ...line })),
}"""


def random_net(seed: int, n_layers: int) -> MemoryPlan:
    """Return a plan whose layers read up to three earlier ones, some of them none."""
    rng = random.Random(seed)
    plan = synthetic_plan(8 * n_layers, seed=seed)
    names = [layer.name for layer in plan.layers]
    layers = [
        replace(
            layer,
            inputs=tuple(rng.sample(names[:i], min(i, rng.choice([0, 1, 1, 1, 2, 3])))),
        )
        for i, layer in enumerate(plan.layers)
    ]
    return replace(plan, layers=tuple(layers))


@pytest.mark.parametrize(
    "plan",
    [
        BLOCKED,
        load_example("resnet8").model.make_plan(),
        load_example("char_transformer").model.make_plan(),
        *(random_net(seed, 30) for seed in range(5)),
    ],
    ids=["chain", "resnet8", "char_transformer", *map(str, range(5))],
)
def test_layers_stand_right_of_what_they_read_and_cover_nothing(
    opened: Open, plan: MemoryPlan
) -> None:
    page = opened(plan_html(plan))
    places = page.js(PLACES)
    assert places["names"] == [layer.name for layer in plan.layers]
    column = dict(zip(places["names"], places["column"], strict=True))
    lane = dict(zip(places["names"], places["lane"], strict=True))
    line_of = {places["names"][line["layer"]]: line for line in places["lines"]}
    cells = [(column[name], lane[name]) for name in column]
    for line in line_of.values():
        cells += [(at, line["lane"]) for at in range(line["first"], line["last"] + 1)]
    assert len(set(cells)) == len(cells)  # neither boxes nor lines lie on each other
    assert min(column.values()) == 0
    for layer in plan.layers:
        for read in layer.inputs:
            assert column[read] < column[layer.name]
            if column[read] + 1 < column[layer.name]:
                line = line_of[read]
                assert line["first"] == column[read] + 1
                assert line["last"] >= column[layer.name] - 1


def test_a_chain_is_one_lane_and_a_residual_net_keeps_its_trunk_straight(
    opened: Open,
) -> None:
    assert set(opened().js(PLACES)["lane"]) == {0}
    plan = load_example("resnet8").model.make_plan()
    places = opened(plan_html(plan)).js(PLACES)
    lane = dict(zip(places["names"], places["lane"], strict=True))
    away = {name for name in lane if lane[name]}
    assert away
    assert all("skip" in name for name in away)
    assert max(lane.values()) == 1


def names_of(page: Opened, selector: str) -> set[str]:
    return set(page.page.locator(f"{selector} .name").all_inner_texts())


def test_the_graph_shows_who_uses_the_selected_tensor(opened: Open) -> None:
    page = opened()
    page.page.mouse.click(*middle_of(page, "fc1:out0"))
    page.settle()
    assert names_of(page, '#layers .layer[aria-selected="true"]') == {"fc1"}
    users: dict[str, set[str]] = {}
    for execution in BLOCKED.executions:
        for operand in execution.operands:
            if BLOCKED.tensors[operand.tensor].name == "fc1:out0":
                users.setdefault(execution.layer, set()).add(operand.access.value)
    assert len(users) > 1
    boxes = page.page.locator("#layers .layer.uses")
    shown = {
        box.locator(".name").inner_text(): set(
            box.locator(".type").inner_text().split(", ")
        )
        for box in boxes.all()
    }
    verbs = {"read": "reads", "write": "writes", "update": "updates"}
    assert shown == {
        layer: {verbs[access] for access in accesses}
        for layer, accesses in users.items()
    }


def test_the_graph_follows_the_step(opened: Open) -> None:
    page = opened()
    for step in (0, BLOCKED.peak_step, 20):
        page.js("app.setStep(step)", step=step)
        page.settle()
        execution = BLOCKED.steps[step]
        assert execution is not None
        assert names_of(page, "#layers .layer.now") == {execution.layer}


def opacity_at(page: Opened, name: str) -> float:
    """Return how much the overlay covers the middle of a tensor."""
    x, y = middle_of(page, name)
    alpha: int = page.js(
        """const { overlay, ratio } = app.charts[0];
        const at = overlay.getBoundingClientRect();
        return pixel(overlay, (x - at.x - 3) * ratio, (y - at.y + 2) * ratio)[3]""",
        x=x,
        y=y,
    )
    return alpha / 255


def test_a_click_on_a_layer_lights_its_tensors_alone(opened: Open) -> None:
    page = opened()
    page.page.click("#layers .layer:has-text('fc2')")
    page.settle()
    assert opacity_at(page, "fc2:out0") < 0.5
    assert opacity_at(page, "in:out0") > 0.5
    page.page.click("#buffers-button")
    page.settle()
    rows = page.page.locator('#buffers-table tr[aria-selected="true"] td.layer')
    assert set(rows.all_inner_texts()) == {"fc2"}
    page.page.click("#layers .layer:has-text('fc2')")
    page.settle()
    assert opacity_at(page, "in:out0") < 0.5
    page.page.click("#layers .layer:has-text('fc2')")
    page.page.keyboard.press("Escape")
    page.settle()
    assert page.page.locator('#layers .layer[aria-selected="true"]').count() == 0


def test_blocks_are_framed_around_their_layers(opened: Open) -> None:
    page = opened()
    block = BLOCKED.blocks[0]
    frames = page.page.locator("#layers-sheet rect.block")
    assert frames.count() == len(block.layers)
    boxes = [frame.bounding_box() for frame in frames.all()]

    def is_framed(name: str) -> bool:
        here = page.page.locator(f"#layers .layer:has-text('{name}')").bounding_box()
        x, y = here["x"] + here["width"] / 2, here["y"] + here["height"] / 2
        return any(
            box["x"] <= x <= box["x"] + box["width"]
            and box["y"] <= y <= box["y"] + box["height"]
            for box in boxes
        )

    assert {layer.name for layer in BLOCKED.layers if is_framed(layer.name)} == set(
        block.layers
    )
    assert page.page.locator("#layers-sheet text").all_text_contents() == [block.name]
    assert opened(plan_html(PLAIN)).page.locator("#layers-sheet rect").count() == 0


def test_a_long_net_is_scrolled_to_what_is_selected_and_fits_when_asked(
    opened: Open,
) -> None:
    plan = load_example("mobilenet_v2").model.make_plan()
    page = opened(plan_html(plan))
    for name in ("b16out_conv:out0", "stem_conv:out0"):
        page.js("app.select(name)", name=name)
        page.settle()
        box = page.page.locator('#layers .layer[aria-selected="true"]').bounding_box()
        sight = page.page.locator("#layers-scroll").bounding_box()
        assert sight["x"] <= box["x"]
        assert box["x"] + box["width"] <= sight["x"] + sight["width"]
    made = page.page.locator("#layers .layer").count()
    assert made < len(plan.layers) / 4  # what is in sight, and beside it
    page.page.click("#layers-fit")
    page.settle()
    assert page.page.locator("#layers .layer").count() == len(plan.layers)
    across = page.page.evaluate("document.querySelector('#layers-scroll').scrollWidth")
    assert across <= sight["width"]
    wide = page.page.locator("#layers .layer").first.bounding_box()["width"]
    page.page.click("#layers-closer")
    page.settle()
    assert page.page.locator("#layers .layer").first.bounding_box()["width"] > wide


def test_keys_go_along_the_connections(opened: Open) -> None:
    page = opened(plan_html(load_example("resnet8").model.make_plan()))
    page.page.focus("#layers-scroll")

    def active() -> str:
        box = page.page.get_attribute("#layers-scroll", "aria-activedescendant")
        label = page.page.get_attribute(f"#{box}", "aria-label")
        return str(label).split(", ")[0]

    step = page.js("return app.step")
    page.page.keyboard.press("Home")
    assert active() == "in"
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("ArrowRight")
    assert active() == "stem_bn"
    page.page.keyboard.press("ArrowLeft")
    assert active() == "stem_conv"
    page.page.keyboard.press("End")
    assert active() == "loss"
    page.page.keyboard.press("ArrowLeft")
    page.page.keyboard.press("Enter")
    page.settle()
    assert page.js("return app.layer") == active() == "logits"
    assert page.js("return app.step") == step
    page.page.keyboard.press("g")
    assert not page.page.is_visible("#layers-scroll")
    assert page.js("return document.activeElement.id") == "layers-button"
    page.page.keyboard.press("g")
    assert page.page.is_visible("#layers-scroll")


def test_a_phone_shows_the_graph_when_it_is_asked_for(opened: Open) -> None:
    page = opened(width=390, height=844, has_touch=True, device_scale_factor=2)
    assert not page.page.is_visible("#layers-scroll")
    page.page.tap("#layers-button")
    page.settle()
    assert page.page.is_visible("#layers-scroll")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    page.page.tap("#layers .layer.now")
    page.settle()
    assert page.js("return app.layer") is not None


def test_parts_have_names_for_those_who_do_not_see_them(opened: Open) -> None:
    page = opened()
    page.page.click("#buffers-button")
    tree = page.page.locator("body").aria_snapshot()
    for part in (
        "- main:",
        "- complementary",
        '- region "Layers"',
        '- region "All buffers"',
        'listbox "graph of the layers',
        '- grid "all buffers"',
        '- columnheader "start"',
        '- searchbox "filter rows"',
    ):
        assert part in tree, part
    text = page.page.evaluate("document.querySelector('#help').textContent")
    for said in ("table of all buffers", "graph of the layers", "copy a link"):
        assert said in text


def test_layers_without_connections_are_shown_in_a_row(opened: Open) -> None:
    page = opened(plan_html(synthetic_plan(20_000)))
    places = page.js(PLACES)
    assert set(places["lane"]) == {0}
    assert page.page.locator("#layers .layer").count() < 60
