"""``--inference`` of the commands that plan, and what training costs above it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.command_line import run
from helpers.strategies import chain

from arena_ckpt import MemoryPlan, Model, plan_ascii, plan_html, plan_svg
from arena_ckpt.boards import load_board
from arena_ckpt.examples import load_example
from arena_ckpt.report.explain import explain
from arena_ckpt.report.export import FORMATS, export_plan
from arena_ckpt.report.nntrainer import exe_order_text
from arena_ckpt.report.training_cost import training_cost_sentence

SCRIPT = """\
from arena_ckpt import Model

def build():
    model = Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:64")
    model.add_layer("fully_connected", name="fc", unit=10, activation="softmax")
    model.set_property(batch_size=4)
    return model
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(SCRIPT)
    return tmp_path


def printed(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def document(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments: str, code: int = 2) -> str:
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


def plans(batch_size: int = 1) -> tuple[MemoryPlan, MemoryPlan]:
    """Return the plans of digits_cnn to train and to predict."""
    model = load_example("digits_cnn").model
    model.set_property(batch_size=batch_size)
    return model.make_plan(), model.make_plan(mode="inference")


def test_plan_shows_inference_and_what_training_costs_above_it() -> None:
    training, inference = plans()
    text = printed("plan", "digits_cnn", "--inference", "--batch-size", "1")
    assert "batch size 1; inference alone" in text
    assert "inference has nothing to recompute" in text
    assert training_cost_sentence(training, inference) in text
    assert "recomputing can lower" not in text
    assert "Without and with recomputing" not in text


def test_plan_of_a_training_says_what_it_costs_above_inference() -> None:
    sentence = training_cost_sentence(*plans())
    assert sentence in printed("plan", "digits_cnn", "--batch-size", "1")
    assert sentence in printed("plan", "digits_cnn", "--batch-size", "1", "--brief")
    assert sentence == (
        "Inference alone takes 32.50 KiB (33,280 B) of RAM and 70.12 KiB (71,808 B) of "
        "constants; training takes 292.50 KiB (299,520 B) more RAM."
    )


def test_json_says_the_same() -> None:
    training, inference = plans()
    cost = {
        "arena_bytes": training.arena_bytes - inference.arena_bytes,
        "constant_bytes": -inference.constant_bytes,
    }
    found = document("plan", "digits_cnn", "--batch-size", "1")
    assert (found["mode"], found["training_cost"]) == ("train", cost)
    found = document("plan", "digits_cnn", "--batch-size", "1", "--inference")
    assert (found["mode"], found["training_cost"]) == ("inference", cost)
    assert found["plan"]["arena_bytes"] == inference.arena_bytes
    assert found["without_blocks"] is None
    orders = found["plan"]["execution_order"].values()
    assert not any(order["calc_gradient"] for order in orders)


def test_a_model_without_a_loss_is_planned_and_has_no_cost_of_training() -> None:
    text = printed("plan", "model.py:build", "--inference")
    assert "4 layers" not in text
    assert "training takes" not in text
    assert document("plan", "model.py:build", "--inference")["training_cost"] is None
    assert "needs at least one, for example mse" in refused("plan", "model.py:build")
    assert "mode='inference'" in refused("train", "model.py:build", "--data", "digits")


def test_a_model_that_cannot_train_at_that_size_has_no_cost_either() -> None:
    """Its batch normalization needs two samples, which inference does not."""
    found = document("plan", "autoencoder", "--inference", "--batch-size", "1")
    assert found["training_cost"] is None


def test_options_go_with_it(folder: Path) -> None:
    _, inference = plans(8)
    given = ("plan", "digits_cnn", "--inference", "--batch-size", "8")
    calls = run(*given, "--calls").stdout
    assert "calc_gradient" not in calls
    assert "label" not in calls.replace("label=arena", "")
    assert "constants[" in calls
    assert "c0a_conv" in printed(*given, "--execution-order")
    assert "canary" in printed(*given, "--debug")
    assert run(*given, "-o", "plan.json").exit_code == 0
    assert MemoryPlan.from_json((folder / "plan.json").read_text()) == inference
    assert "fits on RP2350" in printed(*given, "--board", "rp2350")
    assert run(*given, "--budget", str(inference.arena_bytes)).exit_code == 0
    message = refused(*given, "--budget", str(inference.arena_bytes - 1), code=1)
    assert "It would fit with batch_size=7" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan", "digits_mlp", "--pareto"), "--inference means nothing beside it"),
        (("report", "digits_mlp", "--pareto"), "--inference means nothing beside it"),
        (("plan", "digits_mlp", "--emit-blocks"), "recomputes nothing"),
        (("plan", "digits_mlp", "--max-overhead", "10%"), "recomputes nothing"),
        (("export", "digits_mlp", "--to", "json", "--levels", "1"), "'levels' cannot"),
        (("golden", "update"), "name a model with --add"),
    ],
)
def test_what_does_not_go_with_it(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(*arguments, "--inference")


def test_report_and_export(folder: Path) -> None:
    _, inference = plans(8)
    given = ("digits_cnn", "--inference", "--batch-size", "8")
    assert run("report", *given, "--ascii").stdout == plan_ascii(inference)
    options = ("--compare", "digits_cnn", "-o", "both.html")
    assert run("report", *given, *options).exit_code == 0
    assert (folder / "both.html").read_text().count("calc_gradient")
    assert run("plan", *given, "-o", "plan.json").exit_code == 0
    message = refused("report", "plan.json", "--inference")
    assert "--mode" not in message
    assert "--inference cannot change" in message
    assert run("report", "plan.json", "--ascii").stdout == plan_ascii(inference)
    exported = run("export", *given, "--to", "json").stdout
    assert MemoryPlan.from_json(exported) == inference
    traced = run("export", *given, "--to", "chrome-trace", "--measured")
    assert traced.exit_code == 0, traced.output


def test_verify() -> None:
    text = printed("verify", "model.py:build", "--inference")
    assert "verified: 8 checks passed, 4 left out" in text
    assert "made-up samples" in text
    assert "passed processes" in text
    found = document("verify", "digits_mlp", "--inference", "--batch-size", "4")
    named = {check["name"]: check["passed"] for check in found["checks"]}
    assert named["bits of training"] is True
    assert named["processes"] is True


def test_goldens_of_inference_are_pinned_on_demand(folder: Path) -> None:
    added = printed("golden", "update", "g", "--add", "digits_mlp", "--inference")
    assert added == "g/digits_mlp.inference.plan: new"
    assert [path.name for path in (folder / "g").iterdir()] == [
        "digits_mlp.inference.plan"
    ]
    assert printed("golden", "check", "g") == "g/digits_mlp.inference.plan: same"
    update = ("golden", "update", "g", "--format", "nntrainer")
    assert "digits_mlp.inference.exegolden: new" in printed(*update)
    added = printed("golden", "update", "g", "--add", "model.py:build", "--inference")
    assert "build.inference.plan: new" in added


# -- plans of inference in every form --------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_takes_a_plan_of_inference(form: str) -> None:
    for plan in (plans()[1], _one_layer().make_plan(mode="inference")):
        assert export_plan(plan, form, name="x")


def test_every_picture_takes_a_plan_of_inference() -> None:
    for plan in (plans()[1], _one_layer().make_plan(mode="inference")):
        assert "<svg" in plan_svg(plan, "x")
        assert "<html" in plan_html(plan, "x")
        assert "forward" in plan_ascii(plan)
        assert explain(plan)
        assert load_board("rp2350").check(plan).summary()["fits"]


def _one_layer() -> Model:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    return model


def test_orders_of_tensors_are_those_of_forward_alone() -> None:
    plan = chain(8, "gelu", 4).model().make_plan(mode="inference")
    assert exe_order_text(plan) == (
        "in:out0, 0, 1\n"
        "fc1:bias, 1\n"
        "fc1:out0, 1, 2, 3\n"
        "fc1:weight, 1\n"
        "act1:out0, 1, 2, 3\n"
        "fc2:bias, 3\n"
        "fc2:out0, 3, 4\n"
        "fc2:weight, 3\n"
        "loss:out0, 4\n"
    )


def test_a_layout_that_is_not_proved_is_explained() -> None:
    plan = plans()[1]
    above = replace(plan, arena_bytes=plan.arena_bytes + 64)
    said = " ".join(explain(above))
    assert "64 B above the live lower bound" in said
    assert "nothing to recompute" in said
