"""The command line: exit codes, messages and JSON, as people and scripts see them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.archives import read_npz
from helpers.command_line import run

import arena_ckpt
from arena_ckpt import errors
from arena_ckpt.cli.failures import exit_code_of
from arena_ckpt.cli.models import load_model, without_blocks
from arena_ckpt.errors import (
    ArenaTooLargeError,
    CanaryError,
    CorruptFileError,
    IniError,
    LayoutError,
    NonFiniteDataError,
    NonFiniteError,
    NotInitializedError,
    UnknownTypeError,
)
from arena_ckpt.examples import EXAMPLES
from arena_ckpt.planning.plan import MemoryPlan

SCRIPT = """\
print("loading")
from arena_ckpt import Dataset, Model, load_digits
import numpy as np

def build(unit=10, **properties):
    model = Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:64")
    model.add_layer("fully_connected", name="fc", unit=unit)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=64, **properties)
    return model

def with_data():
    return build(), load_digits()

def with_validation():
    return build(), *load_digits().split(0.5, seed=0)

def endless():
    return build(epochs=1_000_000), load_digits()

def diverging():
    model = build()
    model.set_optimizer("sgd", learning_rate=1e38)
    return model, load_digits()

def huge():
    x = np.zeros((1, 64), np.float32)
    return build(unit=2**40 // 64), Dataset("one", x, np.zeros(1, np.int64))

def fails():
    zero = 0
    return 1 / zero

def leaves():
    raise SystemExit(0)

def number():
    return 3

def pair():
    return build(), 3

def needs(argument):
    return build()

def misspelled():
    model = Model()
    model.add_layer("fully_conected")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(SCRIPT)
    return tmp_path


def run_json(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(*arguments: str, code: int = 2) -> str:
    """Run what has to fail; return the message."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.stderr.partition("error: ")[2]


# -- help ------------------------------------------------------------------------------


def test_help_shows_commands_examples_and_exit_codes() -> None:
    for arguments in ([], ["--help"], ["-h"]):
        result = run(*arguments)
        assert result.exit_code == 0
        assert "  130  interrupted with Ctrl-C; the iteration" in result.stdout
        assert "  arena-ckpt train digits_mlp --epochs 5\n" in result.stdout


@pytest.mark.parametrize("command", ["train", "plan", "examples"])
def test_help_of_commands_fits_a_terminal(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 88


def test_version() -> None:
    assert run("--version").stdout == f"arena-ckpt {arena_ckpt.__version__}\n"


def test_help_does_not_wait_for_numba() -> None:
    code = (
        "import sys\n"
        "from arena_ckpt.cli import main\n"
        "main(['plan', '--help'], standalone_mode=False)\n"
        "heavy = {'numba', 'numpy', 'networkx', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# -- what MODEL stands for -------------------------------------------------------------


def test_examples_are_listed() -> None:
    names = [line.split()[0] for line in run("examples").stdout.splitlines()]
    assert names == list(EXAMPLES)
    assert [entry["name"] for entry in run_json("examples")["examples"]] == names


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("digts_mlp", "did you mean 'digits_mlp'?"),
        ("modle.py:build", "there is no file modle.py (did you mean 'model.py'?)"),
        ("folder/x.ini", "there is no file folder/x.ini"),
        ("model.py", "for example model.py:build"),
        ("model.py:biuld", "no function 'biuld' (did you mean 'build'?)"),
        ("model.py:needs", "cannot be called without arguments"),
        ("model.py:fails", "failed (line 33): ZeroDivisionError: division by zero"),
        ("model.py:leaves", "failed (line 36): SystemExit: 0"),
        ("model.py:number", "returned int; expected a Model"),
        ("model.py:pair", "returned (Model, int); expected a Model"),
        ("model.py:misspelled", "UnknownTypeError: unknown layer type"),
    ],
)
def test_a_wrong_model_is_explained(model: str, message: str) -> None:
    assert message in refused("plan", model)


def test_a_file_that_is_no_python_is_explained(folder: Path) -> None:
    (folder / "broken.py").write_text("x = 1\ndef build(:\n")
    assert "broken.py cannot be run (line 2): SyntaxError" in refused(
        "plan", "broken.py:build"
    )


def test_ini_files_and_their_errors(folder: Path) -> None:
    load_model("model.py:build").model.save_ini(folder / "model.ini")
    assert (
        run_json("plan", "model.ini")["plan"]
        == run_json("plan", "model.py:build")["plan"]
    )
    (folder / "bad.ini").write_text("[Model]\nbatch_sise = 3\n")
    message = refused("plan", "bad.ini")
    assert "line 2" in message
    assert "batch_size" in message


def test_the_documented_ini_file_is_one(folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "ini.md").read_text("utf-8")
    text = page.partition("```ini net.ini\n")[2].partition("```")[0]
    (folder / "page.ini").write_text(text)
    document = run_json("plan", "page.ini")
    assert document["plan"]["blocks"]


def test_scripts_can_import_their_neighbours(folder: Path) -> None:
    (folder / "neighbour.py").write_text("UNIT = 7\n")
    (folder / "main.py").write_text(
        "from neighbour import UNIT\nimport model\n"
        "def build():\n    return model.build(unit=UNIT)\n"
    )
    sys_path = list(sys.path)
    try:
        assert run("plan", "main.py:build").exit_code == 0
    finally:
        for name in ("model", "neighbour"):
            sys.modules.pop(name, None)
    assert sys.path == sys_path


def test_a_model_without_its_blocks_is_otherwise_the_same() -> None:
    model = load_model("digits_mlp").model
    plain = without_blocks(model)

    assert plain.blocks == ()
    assert model.blocks
    assert plain.seed == model.seed
    assert plain.properties == model.properties
    assert plain.optimizer == model.optimizer
    assert [layer.given for layer in plain.layers] == [
        layer.given for layer in model.layers
    ]


# -- plan ------------------------------------------------------------------------------


def test_plan_prints_tables_and_the_explanation() -> None:
    printed = run("plan", "nine_layer_mlp", "--execution-order").stdout
    assert "the one allocation, proved optimal" in printed
    assert "fc1:weight:grad" in printed
    assert "Without and with recomputing" in printed
    assert "Checkpointing saves nothing" in printed
    row = next(line for line in printed.splitlines() if line.startswith("mse0"))
    assert row.split() == ["mse0", "mse", "8", "0", "9", "10", "11"]


def test_plan_json_agrees_with_the_model() -> None:
    document = run_json("plan", "nine_layer_mlp", "--batch-size", "16")
    model = load_model("nine_layer_mlp").model
    model.set_property(batch_size=16)
    plan, plain = model.make_plan(), without_blocks(model).make_plan()

    assert document["plan"]["arena_bytes"] == plan.arena_bytes
    assert document["plan"]["batch_size"] == 16
    assert document["plan"]["execution_order"]["fc1"]["recompute"] == 21
    assert document["plan"]["blocks"][0]["recomputed"] == ["fc1", "act_fc1"]
    assert document["without_blocks"]["arena_bytes"] == plain.arena_bytes
    assert document["saved_bytes"] == plain.arena_bytes - plan.arena_bytes


def test_plan_within_a_budget() -> None:
    document = run_json("plan", "digits_cnn", "--budget", "1.4MiB")
    assert document["plan"]["arena_bytes"] <= 1.4 * 2**20
    assert 0 < document["plan"]["overhead"] < 0.1
    assert document["saved_bytes"] > 0
    printed = run("plan", "digits_cnn", "--budget", "1.4MiB", "--brief").stdout
    assert "forward passes of layers run again, as chosen" in printed
    assert "Checkpointing saves" in printed


def test_plan_of_an_impossible_budget_says_what_would_help() -> None:
    message = refused("plan", "nine_layer_mlp", "--budget", "8MiB", code=1)
    assert "no plan fits in 8.00 MiB" in message
    assert "It would fit with" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--budget", "0"), "no memory size"),
        (("--budget", "12 parsecs"), "no memory size"),
        (("--max-overhead", "-20%"), "at least 0"),
        (("--budget", "1MiB", "--allow", "magic"), "there is no 'magic'"),
        (("--levels", "2", "--budget", "1MiB"), "'2' is not"),
        (("--pareto", "--max-overhead", "10%"), "leave one out"),
        (("--pareto", "--save", "front.gif"), "drawn as .png, .svg, .pdf"),
        (("--pareto", "--save", "front"), "no suffix"),
        (("--pareto", "-o", "plan.json"), "-o"),
        (("--pareto", "--emit-blocks"), "--emit-blocks"),
        (("--pareto", "--execution-order"), "--execution-order"),
        (("--pareto", "--brief"), "--brief"),
        (("--save", "front.png"), "add --pareto"),
        (("--levels", "1"), "what for"),
        (("--keep", "*_conv"), "keep and drop say how to choose"),
        (("--budget", "60%", "--drop", "*_cnov"), "did you mean"),
        (("--budget", "60%", "--drop", "loss"), "a loss adds its terms"),
        (("--budget", "0%"), "a share above 0 %"),
        (("--batch-size", "auto"), "add --budget"),
        (("--batch-size", "most"), "'most' is not a valid integer"),
        (("--batch-size", "auto", "--budget", "60%"), "bounds no batch size"),
        (("--batch-size", "auto", "--budget", "1MiB", "--measure"), "leave one out"),
        (("--batch-size", "auto", "--pareto"), "add --budget"),
    ],
)
def test_plan_refuses_requests_that_make_no_sense(
    arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused("plan", "digits_cnn", *arguments)


def test_plan_emits_blocks_that_give_the_same_plan(tmp_path: Path) -> None:
    given = ("--max-overhead", "10%", "--levels", "1")
    printed = run("plan", "digits_cnn", *given, "--emit-blocks").stdout
    calls = [line for line in printed.splitlines() if line.startswith("model.add")]
    assert calls
    model = without_blocks(load_model("digits_cnn").model)
    for call in calls:
        eval(call, {"model": model})
    chosen = run_json("plan", "digits_cnn", *given)["plan"]
    assert model.make_plan().arena_bytes == chosen["arena_bytes"]

    path = tmp_path / "model.ini"
    without_blocks(load_model("digits_cnn").model).save_ini(path)
    path.write_text(path.read_text() + printed.partition("# INI")[2])
    assert run_json("plan", str(path))["plan"]["arena_bytes"] == chosen["arena_bytes"]


def test_plan_emits_the_blocks_of_the_model_or_says_that_none_can() -> None:
    printed = run("plan", "digits_mlp", "--emit-blocks", "--brief").stdout
    assert "model.add_checkpoint_block(['fc1', 'act1', 'fc2', 'act2']" in printed
    printed = run("plan", "nine_layer_mlp", "--no-blocks", "--emit-blocks").stdout
    assert "nothing is recomputed" in printed


def test_plans_obey_patterns_of_layers() -> None:
    given = ("plan", "digits_cnn", "--keep", "c0*", "--keep", "c1?_conv")
    front = run_json(*given, "--pareto")["pareto"]
    again = {rerun["layer"] for point in front for rerun in point["reruns"]}
    assert again
    assert not {n for n in again if n.startswith("c0") or n.endswith("_conv")}
    free = run_json("plan", "digits_cnn", "--budget", "95%")["plan"]
    bound = run_json(*given, "--budget", "95%")["plan"]
    assert bound["arena_bytes"] <= 0.95 * front[-1]["arena_bytes"]
    assert bound["overhead"] >= free["overhead"]
    dropped = run_json("plan", "digits_cnn", "--budget", "100%", "--drop", "*_act")
    assert dropped["plan"]["overhead"] > 0


def test_auto_is_the_largest_batch_that_fits(tmp_path: Path) -> None:
    given = ("keyword_gru", "--budget", "400KiB", "--batch-size", "auto")
    document = run_json("plan", *given)
    choice = document["batch_size_choice"]
    size = choice["batch_size"]
    assert document["plan"]["batch_size"] == size
    assert document["plan"]["arena_bytes"] <= 400 * 1024 == choice["budget_bytes"]
    fitting = [one["batch_size"] for one in choice["tried"] if one["fits"]]
    assert size == fitting[-1]
    line = f"batch size {size} fits in 400.00 KiB (409,600 B), and no larger one"
    assert line in run("plan", *given, "--brief").stdout
    assert line in run("report", *given, "--ascii").stdout
    plan = tmp_path / "plan.json"
    run("export", *given, "--to", "json", "-o", str(plan))
    assert json.loads(plan.read_text())["batch_size"] == size
    training = run("train", *given, "--epochs", "1").stdout
    assert training.startswith(line)


def test_auto_says_that_smaller_batches_can_need_more() -> None:
    given = ("--budget", "970000", "--batch-size", "auto", "--brief")
    printed = run("plan", "digits_cnn", *given).stdout
    assert (
        "smaller batches can need more bytes: 55 needs 951.75 KiB (974,592 B); 57"
        in (printed)
    )
    assert "not every larger one was tried" in printed


def test_auto_takes_what_a_board_offers() -> None:
    given = ("--board", "rp2350", "--batch-size", "auto")
    document = run_json("plan", "keyword_gru", *given)
    assert document["board"]["fits_ram"]
    choice = document["batch_size_choice"]
    assert choice["budget_bytes"] == document["board"]["budget_bytes"]


def test_auto_takes_what_a_board_offers_in_the_rams_of_the_plan() -> None:
    given = ("--board", "stm32h743", "--batch-size", "auto", "--memories")
    document = run_json("plan", "keyword_gru", *given, "AXI SRAM=512KiB")
    choice = document["batch_size_choice"]
    assert choice["budget_bytes"] == document["board"]["budget_bytes"] == 512 * 1024
    told = refused("plan", "keyword_gru", *given, "sram=512KiB")
    assert "no range of RAM 'sram'" in told


def test_plan_shows_the_front(tmp_path: Path) -> None:
    picture = tmp_path / "front.png"
    printed = run("plan", "digits_mlp", "--pareto", "--save", str(picture)).stdout
    assert "plans that none other beats in bytes and time" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    front = run_json("plan", "digits_mlp", "--pareto")["pareto"]
    sizes = [point["arena_bytes"] for point in front]
    assert sizes == sorted(sizes)
    assert front[-1]["label"] == "keep all"
    assert front[0]["reruns"]
    assert front[-1]["reason"] == "recomputes nothing; no plan is faster"
    printed = run("plan", "nine_layer_mlp", "--pareto").stdout
    assert "Recomputing cannot make the arena smaller" in printed


def test_plan_marks_the_fastest_plan_within_a_budget(tmp_path: Path) -> None:
    given = ("plan", "digits_mlp", "--pareto", "--budget", "60%")
    for suffix, head in (("pdf", b"%PDF-"), ("svg", b"<svg"), ("PNG", b"\x89PNG")):
        picture = tmp_path / f"front.{suffix}"
        printed = run(*given, "--save", str(picture)).stdout
        assert picture.read_bytes().startswith(head)
    document = run_json(*given)
    point = document["pareto"][document["fastest_within_budget"]]
    budget = document["budget_bytes"]
    assert budget == int(0.6 * document["pareto"][-1]["arena_bytes"])
    chosen = run_json("plan", "digits_mlp", "--budget", "60%")["plan"]
    assert point["arena_bytes"] == chosen["arena_bytes"] <= budget
    (line,) = [x for x in printed.splitlines() if x.rstrip().endswith("  fastest")]
    assert f"({point['arena_bytes']:,} B)" in line
    assert "The fastest within" in printed
    assert "fastest within the budget" in (tmp_path / "front.svg").read_text("utf-8")


def test_summary_shows_the_layers() -> None:
    printed = run("summary", "digits_cnn", "--batch-size", "2").stdout
    lines = printed.splitlines()
    assert lines[0].split()[:3] == ["layer", "type", "output"]
    assert any(line.split()[:2] == ["c0a_conv", "conv2d"] for line in lines)
    assert "parameters   17,754 trained, 192 moving statistics" in lines
    assert "for a batch of 2 samples" in printed
    document = run_json("summary", "digits_cnn", "--batch-size", "2")
    assert document["totals"]["trained"] == 17_754
    assert [row["layer"] for row in document["layers"]][:2] == ["in", "c0a_conv"]
    assert document["batch_size"] == 2
    assert "is no model" in refused("summary", "digits_nnc")


def test_train_within_a_budget() -> None:
    given = ("--epochs", "1")
    free = run_json("train", "digits_cnn", *given)
    bound = run_json("train", "digits_cnn", *given, "--budget", "1.2MiB")
    assert bound["plan"]["arena_bytes"] <= 1.2 * 2**20
    assert bound["plan"]["arena_bytes"] < free["plan"]["arena_bytes"]
    assert bound["epochs"][0]["loss"] == free["epochs"][0]["loss"]
    assert bound["epochs"][0]["validation"] == free["epochs"][0]["validation"]


def test_plan_without_blocks_compares_nothing() -> None:
    document = run_json("plan", "nine_layer_mlp", "--no-blocks")
    assert document["without_blocks"] is None
    assert document["saved_bytes"] is None
    assert document["plan"]["blocks"] == []
    assert "Without and with" not in run("plan", "nine_layer_mlp", "--no-blocks").stdout


def test_plan_brief_and_top() -> None:
    brief = run("plan", "digits_mlp", "--brief").stdout
    assert "Without and with" in brief
    assert "The largest of" not in brief
    assert "the one allocation" in run("plan", "model.py:build", "--brief").stdout
    assert "The largest of" not in run("plan", "digits_mlp", "--top", "0").stdout


def test_plan_writes_a_plan_that_can_be_read(folder: Path) -> None:
    result = run("plan", "digits_mlp", "--output", "plan.json", "--debug")
    assert result.exit_code == 0
    assert "the whole plan is in plan.json" in result.stdout
    plan = MemoryPlan.from_json((folder / "plan.json").read_text())
    assert plan == load_model("digits_mlp").model.make_plan(debug=True)
    assert sorted(path.name for path in folder.glob("plan.json*")) == ["plan.json"]


def test_plan_of_what_no_machine_has_allocates_nothing() -> None:
    document = run_json("plan", "model.py:huge")
    assert document["plan"]["arena_bytes"] > 2**41


# -- train -----------------------------------------------------------------------------


def test_train_prints_a_line_per_epoch_and_the_result() -> None:
    result = run("train", "digits_mlp", "--epochs", "2")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert "trained 2 epochs (24 iterations)" in lines
    assert "accuracy" in lines[-1]
    assert lines[-1].startswith("validation data: loss")


def test_train_json_is_the_only_thing_on_standard_output() -> None:
    document = run_json("train", "model.py:with_validation", "--seed", "3")
    assert [record["epoch"] for record in document["epochs"]] == [1]
    assert document["epochs"][0]["validation"]["metric_name"] == "accuracy"
    assert document["training"]["n_samples"] == 898 + 1
    assert document["n_iterations"] == 15
    assert document["interrupted"] is False
    assert document["weights_file"] is None


def test_blocks_change_no_bit_of_the_weights(folder: Path) -> None:
    for name, options in (("a", []), ("b", ["--no-blocks"]), ("c", ["--debug"])):
        arguments = ["--epochs", "1", "--save-weights", f"{name}.npz", "--quiet"]
        result = run("train", "digits_mlp", *arguments, *options)
        assert result.exit_code == 0
        assert result.stdout.splitlines()[-1] == f"weights are in {name}.npz"
    first = (folder / "a.npz").read_bytes()
    assert (folder / "b.npz").read_bytes() == first
    assert (folder / "c.npz").read_bytes() == first
    assert "fc1:weight" in read_npz(folder / "a.npz")


def test_the_seed_decides(folder: Path) -> None:
    losses = [
        run_json("train", "model.py:with_data", "--seed", seed)["training"]["loss"]
        for seed in ("1", "1", "2")
    ]
    assert losses[0] == losses[1] != losses[2]


def test_options_go_before_the_data_of_the_model(folder: Path) -> None:
    data = arena_ckpt.load_digits().take(range(100))
    np.savez(folder / "few.npz", x=data.x, y=data.y)

    replaced = run_json("train", "digits_mlp", "--epochs", "1", "--data", "few.npz")
    assert replaced["training"]["n_samples"] == 100
    assert replaced["epochs"][0]["validation"] is None

    split = run_json("train", "model.py:with_data", "--validation-split", "0.25")
    assert split["epochs"][0]["validation"]["n_samples"] == 449

    other = run_json("train", "model.py:with_data", "--validation", "few.npz")
    assert other["epochs"][0]["validation"]["n_samples"] == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.py:build"], "model.py:build comes without data; give --data"),
        (["model.py:build", "--data", "digts"], "did you mean 'digits'?"),
        (["model.py:build", "--data", "no.npz"], "no.npz does not exist"),
        (["digits_mlp", "--batch-size", "0"], "batch_size=0 is not possible"),
        (["digits_mlp", "--epochs", "-1"], "epochs=-1 is not possible"),
        (["digits_mlp", "--epochs", "many"], "'many' is not a valid integer"),
        (["digits_mlp", "--seed", "-1"], "-1 is not in the range"),
        (["digits_mlp", "--epoch", "1"], "--epochs"),
        (["digits_mlp", "--validation-split", "1"], "above 0 and below 1"),
        (
            ["digits_mlp", "--validation", "digits", "--validation-split", "0.1"],
            "exclude each other",
        ),
        (["digits_mlp", "--save-weights", "no/w.npz"], "there is no folder no"),
        (["nine_layer_mlp", "--data", "digits"], "784"),
        ([], "Missing argument 'MODEL'"),
    ],
)
def test_bad_input_exits_with_2(arguments: list[str], message: str) -> None:
    assert message in refused("train", *arguments)


def test_an_unknown_command_names_the_nearest() -> None:
    assert "did you mean 'train'?" in refused("trian")


def test_what_fails_while_it_runs_exits_with_1() -> None:
    assert "nothing was allocated" in refused("train", "model.py:huge", code=1)
    assert "the loss is" in refused("train", "model.py:diverging", code=1)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownTypeError, 2),
        (IniError, 2),
        (CorruptFileError, 2),
        (NonFiniteDataError, 2),
        (ArenaTooLargeError, 1),
        (NonFiniteError, 1),
        (CanaryError, 1),
        (LayoutError, 1),
        (NotInitializedError, 1),
        (errors.PlanFormatError, 2),
        (errors.PlanMismatchError, 2),
        (errors.GoldenFileError, 2),
        (errors.GoldenMismatchError, 1),
        (errors.CorruptSavedStateError, 2),
        (errors.SavedStateMismatchError, 2),
        (errors.UnwritableFileError, 2),
        (errors.BudgetError, 1),
        (errors.CapacityError, 1),
        (errors.TimeLimitError, 3),
    ],
)
def test_exit_codes_by_error(error: type[arena_ckpt.ArenaError], code: int) -> None:
    assert exit_code_of(error("message")) == code


def test_a_search_that_ctrl_c_ended_exits_as_what_is_interrupted() -> None:
    assert exit_code_of(errors.TimeLimitError("message", interrupted=True)) == 130
    assert exit_code_of(errors.TimeLimitError("message", interrupted=False)) == 3


@pytest.mark.parametrize(
    ("arguments", "kind", "code"),
    [
        (["train", "model.py:diverging"], "NonFiniteError", 1),
        (["plan", "no.ini"], "InvalidParameterError", 2),
        (["train", "digits_mlp", "--epochs", "x"], "UsageError", 2),
        (["trian"], "UsageError", 2),
    ],
)
def test_errors_are_json_too(arguments: list[str], kind: str, code: int) -> None:
    result = run(*arguments, "--json")
    error = json.loads(result.stdout)["error"]
    assert result.exit_code == error["exit_code"] == code
    assert error["type"] == kind
    assert f"error: {error['message']}\n" in result.stderr


def test_the_traceback_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARENA_CKPT_TRACEBACK", "1")
    result = run("plan", "model.py:fails")
    assert result.exit_code == 2
    assert "ZeroDivisionError" in result.stderr.partition("Traceback")[2]
    assert "    return 1 / zero" in result.stderr


def test_ctrl_c_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(spec: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("arena_ckpt.cli.models.load_model", interrupt)
    result = run("train", "digits_mlp", "--json")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["error"]["type"] == "KeyboardInterrupt"


# -- as a process ----------------------------------------------------------------------


def start(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "arena_ckpt", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def test_ctrl_c_finishes_the_iteration_and_saves(folder: Path) -> None:
    process = start("train", "model.py:endless", "--save-weights", "w.npz")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch "):
            break
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted after" in rest
    assert "weights are in w.npz" in rest
    assert "fc:weight" in read_npz(folder / "w.npz")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["examples"], 0), (["plan", "nothing"], 2), (["train", "model.py:huge"], 1)],
)
def test_exit_codes_of_the_process(arguments: list[str], code: int) -> None:
    process = start(*arguments)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert bool(output) == (code == 0)


# -- odd words and paths ---------------------------------------------------------------

ODD_NAMES = (
    "a b",
    "\u00e9",
    "e\u0301",
    "😀",
    "\u202egnp",
    "a\nb",
    "%s{0}",
    "\udcff",
    "-x",
)


@pytest.mark.skipif(os.name != "posix", reason="names of POSIX")
@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_files_of_any_name_are_read_and_written(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    source, written = folder / f"{name}.ini", folder / f"{name}.json"
    load_model("digits_mlp").model.save_ini(source)
    done = run("plan", str(source), "--brief", "-o", str(written))
    assert done.exit_code == 0, done.output
    assert MemoryPlan.from_json(written.read_text("utf-8")).arena_bytes
    assert sorted(os.listdir(folder)) == sorted([source.name, written.name])


@pytest.mark.parametrize("word", ["a\0b.ini", "\ud800.ini"], ids=ascii)
def test_words_that_no_system_has_are_refused(word: str) -> None:
    done = run("plan", word)
    assert done.exit_code == 2
    assert "a character that no argument can have" in done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in files here")
def test_nobody_waits_for_a_pipe_as_plan_or_model(tmp_path: Path) -> None:
    for name in ("p.json", "p.ini", "p.csv", "p.toml"):
        os.mkfifo(tmp_path / name)
    for words in (
        ("report", tmp_path / "p.json", "--ascii"),
        ("plan", tmp_path / "p.ini"),
        ("allocate", tmp_path / "p.csv"),
        ("plan", "digits_mlp", "--board", tmp_path / "p.toml"),
    ):
        done = run(*map(str, words))
        assert done.exit_code == 2, words
        assert "p." in done.stderr


@pytest.mark.parametrize("name", ["x" * 300, "circle", "folder", "nowhere/x"])
def test_what_cannot_be_written_is_told_before_the_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "folder").mkdir()
    # Commands import it when they run, and those of one process share what they import.
    import arena_ckpt.cli.write_report  # noqa: F401

    monkeypatch.setattr("arena_ckpt.cli.models.load_model", None)  # is not reached
    before = sorted(os.listdir(tmp_path))
    for command, option in (("plan", "-o"), ("report", "-o"), ("train", "--save")):
        done = run(command, "digits_mlp", option, str(tmp_path / name))
        assert done.exit_code == 2
        assert sorted(os.listdir(tmp_path)) == before
