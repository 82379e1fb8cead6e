"""Golden plans: those of this repository, and the means to pin others."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.modules import load_module
from helpers.plan_surgery import NETS
from helpers.scale import FULL
from helpers.strategies import ModelSpec, chain, chains, dags
from hypothesis import given, settings

from arena_ckpt import Model, load_example
from arena_ckpt.cli import main
from arena_ckpt.common.arithmetics import ARITHMETICS, PORTABLE
from arena_ckpt.common.version import __version__
from arena_ckpt.errors import (
    GoldenFileError,
    GoldenMismatchError,
    UnwritableFileError,
)
from arena_ckpt.examples import EXAMPLES
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.testing import (
    add_golden,
    assert_plan_matches,
    check_folder,
    golden_variants,
    plan_differences,
    write_golden,
)
from arena_ckpt.testing.golden_diff import compare, differences
from arena_ckpt.testing.golden_files import load_bundled
from arena_ckpt.testing.golden_losses import (
    LOSSES_FILES,
    N_STEPS,
    first_losses,
    loss_differences,
    losses_text,
    parse_losses,
)
from arena_ckpt.testing.golden_text import (
    TITLE,
    GoldenPlan,
    golden_plan,
    golden_text,
    parse_golden,
)
from arena_ckpt.testing.sealed import seal
from arena_ckpt.testing.variants import make_variant

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "golden"


def mlp(batch_size: int = 4, name: str = "fc1", block: bool = True) -> Model:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:8")
    model.add_layer("fully_connected", name=name, unit=8)
    model.add_layer("activation", name="act1", activation="gelu")
    model.add_layer("fully_connected", name="fc2", unit=8)
    model.add_layer("mse", name="loss")
    if block:
        model.add_checkpoint_block([name, "act1"], name="b")
    model.set_property(batch_size=batch_size)
    return model


# -- this repository's -----------------------------------------------------------------


def test_the_plans_of_the_examples_are_those_pinned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In both formats; each plan is made once."""
    made: dict[str, MemoryPlan] = {}

    def make_once(model: Model, variant: str, where: str, **values: Any) -> MemoryPlan:
        if where not in made:
            made[where] = make_variant(model, variant, where, **values)
        return made[where]

    monkeypatch.setattr("arena_ckpt.testing.golden_files.make_variant", make_once)
    changed = [
        f"{outcome.path.name}: {outcome.state} {outcome.differences[:3]}"
        for form in ("plan", "nntrainer")
        for outcome in check_folder(GOLDEN, load_bundled, form)
        if outcome.state != "same"
    ]
    assert changed == [], "if that is meant, run tools/golden.py"


def test_the_folder_holds_each_example_and_nothing_else() -> None:
    tool = load_module(ROOT / "tools/golden.py")
    files = {path.name: path.stat().st_size for path in GOLDEN.iterdir()}
    assert sorted(files) == tool.expected_files()
    assert max(files.values()) < 300_000


PORTABLE_SAMPLE = (
    *("digits_mlp", "digits_cnn", "mobilenet_v2", "keyword_gru"),
    "char_transformer",
)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_first_losses_of_an_example_are_those_pinned(
    name: str, arithmetic: str
) -> None:
    if arithmetic == PORTABLE and not FULL and name not in PORTABLE_SAMPLE:
        pytest.skip("all tests run it, a sample does not")
    text = (GOLDEN / LOSSES_FILES[arithmetic]).read_text("utf-8")
    pinned = parse_losses(text, "losses")
    assert list(pinned) == list(EXAMPLES)
    assert len(pinned[name][1]) == N_STEPS
    losses = first_losses(name, arithmetic=arithmetic)
    assert loss_differences(name, pinned[name], losses) == []


def test_losses_in_portable_arithmetic_are_pinned_to_the_last_bit() -> None:
    loss = 0.1 + 0.2
    text = losses_text({"gpt": [loss]}, PORTABLE)
    assert parse_losses(text, "") == {"gpt": (0.0, [loss])}
    assert loss_differences("gpt", (0.0, [loss]), [loss]) == []
    assert loss_differences("gpt", (0.0, [loss]), [np.nextafter(loss, 1)])


def test_a_loss_that_is_off_is_told_with_its_step() -> None:
    pinned = (1e-3, [1.0, 2.0, 3.0])
    assert loss_differences("x", pinned, [1.0009, 2.0, 3.0]) == []
    (line,) = loss_differences("x", pinned, [1.0, 2.004, 9.0])
    assert line == (
        "x: loss of step 1 is 2.004 instead of 2, off by 0.002; 0.001 is allowed"
    )
    assert loss_differences("x", pinned, [1.0, float("nan"), 3.0])
    assert parse_losses(losses_text({"gpt": [1.5, 2.25]}), "") == {
        "gpt": (1e-4, [1.5, 2.25])
    }


PRINT_PLANS = """
import hashlib
from arena_ckpt import export_plan, load_example
from arena_ckpt.report.export import FORMATS
from arena_ckpt.testing import golden_variants
from arena_ckpt.testing.golden_text import golden_plan, golden_text
for name in ("digits_mlp", "resnet8", "char_transformer"):
    for variant, make in golden_variants(load_example(name).model).items():
        plan = make()
        text = golden_text(golden_plan(plan)).encode()
        print(name, variant, hashlib.sha256(text).hexdigest())
        for to in FORMATS:
            print(to, hashlib.sha256(export_plan(plan, to)).hexdigest())
"""


def test_plans_and_exports_are_the_same_in_every_process() -> None:
    said = []
    for seed in ("0", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", PRINT_PLANS]
        run = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, check=True
        )
        said.append(run.stdout)
    assert said[0].count(b"\n") == 12 * 8
    assert said[0] == said[1]


# -- text ------------------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=30)
@given(chains() | dags())
def test_text_comes_back(spec: ModelSpec) -> None:
    golden = golden_plan(spec.model().make_plan(), {"model": "x", "sizes": "{}"})
    assert parse_golden(golden_text(golden), "x") == golden
    assert differences(golden, golden) == []


@pytest.mark.parametrize(
    "name", ["a b", 'a"b', "back\\slash", "größe", "<script>alert(1)</script>", "-"]
)
def test_any_layer_name_comes_back(name: str) -> None:
    golden = golden_plan(mlp(name=name).make_plan())
    text = golden_text(golden)
    assert parse_golden(text, "x") == golden
    assert parse_golden(text.replace("\n", "\r\n"), "x") == golden
    assert name in golden.orders
    assert f"{name}:out0" in golden.tensors


def test_the_text_can_be_read() -> None:
    text = golden_text(golden_plan(mlp(block=False).make_plan()))
    assert text.startswith("arena-ckpt golden plan 3\n")
    lines = text.splitlines()
    assert "batch_size: 4" in lines
    assert "fc1 fully_connected 1 0 14 15 16" in lines
    (line,) = (line for line in lines if line.startswith("fc1:out0 "))
    assert line.startswith("fc1:out0 activation float32 4x1x1x8 size=128 offset=")
    assert " uses=F1w,F2r,D" in line


TEXT = golden_text(golden_plan(mlp().make_plan()))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "does not begin with"),
        ("something else 1\n", "does not begin with"),
        (TEXT.replace("golden plan 3", "golden plan 7", 1), "version 7"),
        (TEXT[: len(TEXT) // 2], "truncated"),
        (TEXT.replace("batch_size: 4", "batch_size: 5"), "changed by hand"),
        ("\n".join(TEXT.splitlines()[:-2] + TEXT.splitlines()[-1:]), "or cut"),
    ],
    ids=["empty", "other", "version", "truncated", "tampered", "cut"],
)
def test_what_is_no_golden_plan_is_refused_with_what_to_run(
    text: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.plan"
    path.write_text(text, "utf-8")
    with pytest.raises(GoldenFileError, match=says) as caught:
        assert_plan_matches(mlp().make_plan(), path)
    assert "arena-ckpt golden update" in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_damaged_file_of_losses_is_refused() -> None:
    text = losses_text({"gpt": [1.5]})
    with pytest.raises(GoldenFileError, match="changed by hand"):
        parse_losses(text.replace("1.5", "1.6"), "losses")
    with pytest.raises(GoldenFileError, match="version 2"):
        parse_losses(seal("arena-ckpt golden losses", 2, []), "losses")


# -- differences -----------------------------------------------------------------------


SEALED = {
    "a bad escape": ["[blocks]", 'b "\\x"'],
    "a line without a name": ["[blocks]", ""],
    "a short order": ["[execution order]", "in input 0 0"],
    "an order that is no number": ["[execution order]", "in input 0 a 1 2 3"],
    "a tensor without a size": ["[tensors]", "a:out0 data float32 4 live=0..1"],
}


@pytest.mark.parametrize("case", SEALED)
def test_lines_behind_a_right_checksum_are_looked_at(case: str) -> None:
    text = seal("arena-ckpt golden plan", 1, SEALED[case])
    with pytest.raises(GoldenFileError, match=r"x\.plan has lines that cannot be read"):
        parse_golden(text, "x.plan")


@pytest.mark.parametrize(
    "lines",
    [
        ["model: digits_mlp"],
        ["model: digits_mlp", "sizes: {", "variant: no-blocks"],
        ["model: digits_mlp", "sizes: []", "variant: no-blocks"],
        ["model: digits_mlp", "sizes: " + "[" * 9000, "variant: no-blocks"],
    ],
    ids=["no sizes", "half sizes", "a list of sizes", "deep sizes"],
)
def test_how_a_plan_was_made_is_looked_at(tmp_path: Path, lines: list[str]) -> None:
    text = seal("arena-ckpt golden plan", 1, lines)
    (tmp_path / "x.plan").write_text(text, "utf-8")
    (outcome,) = check_folder(tmp_path, load_bundled)
    assert outcome.state == "unreadable"
    assert "lines that cannot be read" in outcome.differences[0]


def test_a_file_that_cannot_be_checked_does_not_hide_the_others(tmp_path: Path) -> None:
    add_golden(tmp_path, "digits_mlp", load_bundled("digits_mlp", {}), inference=True)
    (good,) = tmp_path.glob("*.plan")
    text = good.read_text("utf-8")
    (tmp_path / "a.plan").write_text(text[:-9], "utf-8")
    facts = {"model": "no_such_model", "sizes": "{}", "variant": "no-blocks"}
    (tmp_path / "b.plan").write_text(golden_text(GoldenPlan(facts)), "utf-8")
    result = run("check", tmp_path)
    assert result.exit_code == 2
    first, damaged, second, unknown, last = result.stdout.splitlines()
    assert first == f"{tmp_path}/a.plan: unreadable"
    assert "a.plan was changed by hand or cut" in damaged
    assert second == f"{tmp_path}/b.plan: not made"
    assert "no_such_model" in unknown
    assert last == f"{good}: same"
    document = json.loads(run("check", tmp_path, "--json").stdout)
    states = [file["state"] for file in document["files"]]
    assert states == ["unreadable", "not made", "same"]


@pytest.mark.parametrize("lines", [["a"], ["[a]"], ["[a] x {}"]])
def test_losses_behind_a_right_checksum_are_looked_at(lines: list[str]) -> None:
    text = seal("arena-ckpt golden losses", 1, lines)
    with pytest.raises(GoldenFileError, match="lines that cannot be read"):
        parse_losses(text, "losses.golden")


def test_another_number_of_losses_is_told() -> None:
    (line,) = loss_differences("a", (1e-4, [0.0]), [1.0, 2.0])
    assert line == "a: 1 losses are pinned, 2 were made"
    (line,) = loss_differences("a", (1e-4, [0.0]), [1.0])
    assert "off by inf" in line


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "\ud800"])
def test_a_folder_that_no_system_has(tmp_path: Path, name: str) -> None:
    with pytest.raises(GoldenFileError, match="folder"):
        check_folder(tmp_path / name, load_bundled)


def test_what_is_pinned_of_a_tensor_stands_in_its_row() -> None:
    """The output of fc1 is made in step 1 and read by act1 in step 2."""
    plan = mlp().make_plan()
    (tensor,) = [t for t in plan.tensors if t.name == "fc1:out0" and not t.life]
    offset = next(
        buffer.offset_bytes
        for buffer in plan.buffers
        if plan.tensors.index(tensor) in buffer.tensors
    )
    pinned = golden_plan(plan)
    assert pinned.tensors["fc1:out0"] == (
        *("activation", "float32", "4x1x1x8", "size=128", f"offset={offset}"),
        *("live=1..3", "uses=F1w,F2r"),
    )
    assert pinned.orders["fc1"] == ("fully_connected", "1", "11", "16", "17", "18")


# -- comparing and writing -------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.plan", "x.exegolden"])
def test_a_plan_matches_what_was_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / name
    with pytest.raises(GoldenFileError, match=r"no golden file.*--update-golden"):
        assert_plan_matches(mlp().make_plan(), path)
    write_golden(mlp().make_plan(), path)
    assert_plan_matches(mlp().make_plan(), path)
    with pytest.raises(GoldenMismatchError, match="first") as caught:
        assert_plan_matches(mlp(name="first").make_plan(), path)
    assert isinstance(caught.value, AssertionError)
    assert "update" in str(caught.value)


def test_orders_of_nntrainer_are_compared_by_tensor(tmp_path: Path) -> None:
    path = tmp_path / "x.exegolden"
    path.write_text("in:out0, 0, 1\ngone:out0, 3\n")
    lines = plan_differences(mlp(block=False).make_plan(), path)
    assert lines[0] == "gone:out0: gone"
    assert any(line.startswith("in:out0: 0, 1 → 0, 1, ") for line in lines)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableFileError, match="choose another place"):
        write_golden(mlp().make_plan(), tmp_path / "file" / "x.plan")


def test_variants_of_a_model() -> None:
    model = load_example("digits_mlp").model
    plans = {name: make() for name, make in golden_variants(model).items()}
    assert list(plans) == ["no-blocks", "named-blocks", "budget-3-4", "budget-1-2"]
    sizes = [plan.arena_bytes for plan in plans.values()]
    assert sizes[3] < sizes[2] < sizes[0]
    assert not plans["no-blocks"].blocks
    assert plans["named-blocks"] == model.make_plan()
    assert list(golden_variants(load_bundled("keyword_gru", {}))) == ["no-blocks"]


# -- pytest ----------------------------------------------------------------------------

TEST_OF_A_USER = """
from arena_ckpt import load_example
from arena_ckpt.testing import assert_plan_matches

def test_by_fixture(golden_plan):
    golden_plan(load_example("{name}").model.make_plan(), "fixture.plan")

def test_by_function(request):
    plan = load_example("{name}").model.make_plan()
    assert_plan_matches(plan, request.path.parent / "golden/function.exegolden")
"""


def test_the_plugin_compares_and_updates(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\n")

    def outcomes(name: str, *options: str) -> dict[str, int]:
        pytester.makepyfile(test_user=TEST_OF_A_USER.format(name=name))
        plugin = ("-p", "arena_ckpt.testing.plugin", "-p", "no:cacheprovider")
        return pytester.runpytest_subprocess(*plugin, *options).parseoutcomes()

    assert outcomes("nine_layer_mlp") == {"failed": 2}
    assert outcomes("nine_layer_mlp", "--update-golden") == {"passed": 2}
    assert outcomes("nine_layer_mlp") == {"passed": 2}
    assert outcomes("digits_mlp") == {"failed": 2}


FAILING_TESTS = """
import arena_ckpt
from arena_ckpt.testing import assert_plan_matches

def plan():
    return arena_ckpt.load_example("digits_mlp").model.make_plan()

def test_by_fixture(golden_plan):
    golden_plan(plan(), "fixture.plan")

def test_by_function(request):
    assert_plan_matches(plan(), request.path.parent / "golden/function.plan")

def test_missing(golden_plan):
    golden_plan(plan(), "missing.plan")

def test_no_plan(golden_plan):
    golden_plan("plan", "fixture.plan")
"""


@pytest.mark.parametrize("style", ["long", "short"])
def test_pytest_shows_the_line_of_the_test_and_no_frame_of_ours(
    pytester: pytest.Pytester, style: str
) -> None:
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(test_user=FAILING_TESTS)
    for name in ("fixture", "function"):
        plan = load_example("nine_layer_mlp").model.make_plan()
        write_golden(plan, pytester.path / "golden" / f"{name}.plan")
    plugin = ("-p", "arena_ckpt.testing.plugin", "-p", "no:cacheprovider")
    result = pytester.runpytest_subprocess(*plugin, f"--tb={style}")
    result.assert_outcomes(failed=4)
    text = result.stdout.str()
    assert "GoldenMismatchError: the plan is not that of " in text
    assert "cause" in text
    assert "there is no golden file" in text
    assert 'golden_plan(plan(), "fixture.plan")' in text
    assert 'golden_plan(plan(), "missing.plan")' in text
    places = re.findall(r"^(\S+\.py):\d+: ", text, re.MULTILINE)
    assert set(places) == {"test_user.py"}, text
    assert "During handling" not in text


# -- the command line ------------------------------------------------------------------


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["golden", *map(str, arguments)])


def test_plans_are_pinned_checked_and_updated(tmp_path: Path) -> None:
    folder = tmp_path / "golden"
    added = run("update", folder, "--add", "digits_mlp")
    assert added.exit_code == 0, added.output
    names = {path.name for path in folder.iterdir()}
    variants = ("no-blocks", "named-blocks", "budget-3-4", "budget-1-2")
    assert names == {f"digits_mlp.{variant}.plan" for variant in variants}
    assert run("check", folder).exit_code == 0
    assert run("check", folder, "--format", "nntrainer").exit_code == 1
    assert run("update", folder, "--format", "nntrainer").exit_code == 0
    assert run("check", folder, "--format", "nntrainer").exit_code == 0

    source = {"model": "digits_mlp", "sizes": "{}", "variant": "no-blocks"}
    plan = load_example("nine_layer_mlp").model.make_plan()
    write_golden(plan, folder / "digits_mlp.no-blocks.plan", source)
    changed = run("check", folder)
    assert changed.exit_code == 1
    assert "digits_mlp.no-blocks.plan: differs" in changed.stdout
    assert "  arena 8,582,976 → 743,744 B (−91.33 %)" in changed.stdout
    assert "arena-ckpt golden update" in changed.stdout
    document = json.loads(run("check", folder, "--json").stdout)
    states = [file["state"] for file in document["files"]]
    assert states == ["same", "same", "same", "differs"]
    assert "differs" in run("update", folder).stdout
    assert run("check", folder).exit_code == 0


def test_models_in_files_can_be_pinned(tmp_path: Path) -> None:
    mlp().save_ini(tmp_path / "net.ini")
    assert run("update", tmp_path / "g", "--add", tmp_path / "net.ini").exit_code == 0
    names = sorted(path.name for path in (tmp_path / "g").iterdir())
    assert {"net.named-blocks.plan", "net.no-blocks.plan"} <= set(names)
    assert run("check", tmp_path / "g").exit_code == 0
    mlp(block=False).save_ini(tmp_path / "net.ini")
    gone = run("check", tmp_path / "g")
    assert gone.exit_code == 1
    assert "net.named-blocks.plan: differs\n  cause:\n    block " in gone.stdout
    assert ": removed (" in gone.stdout
    assert "net.no-blocks.plan: same" in gone.stdout
    update = run("update", tmp_path / "g")
    assert update.exit_code == 2
    assert "only has no-blocks" in update.stderr
    assert "remove the file" in update.stderr


TWO_MODELS = """
import arena_ckpt as ac

def build():
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:1:{inputs}")
    model.add_layer("fully_connected", name="fc", unit=3)
    model.add_layer("mse", name="loss")
    return model
"""


def test_models_of_one_name_are_pinned_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, inputs in (("a", 4), ("b", 5), ("c/a", 6), ("d/c/a", 7)):
        path = Path(f"{name}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TWO_MODELS.format(inputs=inputs), "utf-8")
    first = run("update", "g", "--add", "a.py:build")
    assert first.stdout == "g/build.no-blocks.plan: new\n"
    again = run("update", "g", "--add", "./a.py:build")
    assert again.stdout == "g/build.no-blocks.plan: same\n"
    other = run("update", "g", "--add", "b.py:build")
    assert "g/b.build.no-blocks.plan: new" in other.stdout
    assert "g/build.no-blocks.plan: same" in other.stdout
    run("update", "g", "--add", "c/a.py:build")
    run("update", "g", "--add", "d/c/a.py:build")
    assert sorted(path.name for path in Path("g").iterdir()) == [
        "a.build.no-blocks.plan",
        "b.build.no-blocks.plan",
        "build.no-blocks.plan",
        "c.a.build.no-blocks.plan",
    ]
    Path("e/c").mkdir(parents=True)
    Path("e/c/a.py").write_text(TWO_MODELS.format(inputs=8), "utf-8")
    full = run("update", "g", "--add", "e/c/a.py:build")
    assert full.exit_code == 2
    assert "g/build.no-blocks.plan pins a.py:build already" in full.stderr
    assert "in another folder" in full.stderr


def test_other_sizes_of_a_pinned_example_are_refused(tmp_path: Path) -> None:
    for n_layers in (1, 2):
        sizes: dict[str, object] = {"n_layers": n_layers, "d": 32, "heads": 2}
        model = load_bundled("char_transformer", sizes)
        if n_layers == 1:
            add_golden(tmp_path, "char_transformer", model, sizes)
            continue
        with pytest.raises(GoldenFileError, match=r'sizes.*"n_layers": 1.*already'):
            add_golden(tmp_path, "char_transformer", model, sizes)


def test_sizes_of_examples_are_kept(tmp_path: Path) -> None:
    sizes: dict[str, object] = {"n_layers": 1, "d": 32, "heads": 2}
    model = load_bundled("char_transformer", sizes)
    add_golden(tmp_path, "char_transformer", model, sizes)
    assert run("check", tmp_path).exit_code == 0


def test_plans_of_tests_are_left_to_them(tmp_path: Path) -> None:
    write_golden(mlp().make_plan(), tmp_path / "x.plan")
    result = run("check", tmp_path)
    assert result.exit_code == 0
    assert "of a test" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "no/such"], "no golden plans in no/such"),
        (["check", str(GOLDEN), "--format", "exe"], "plan or nntrainer"),
        (["update", "{tmp}", "--add", "digit_mlp"], "did you mean 'digits_mlp'"),
        (["chek"], "chek"),
    ],
    ids=str,
)
def test_bad_input_is_told(arguments: list[str], says: str, tmp_path: Path) -> None:
    result = run(*(word.format(tmp=tmp_path) for word in arguments))
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_damaged_file_is_made_again_by_update(tmp_path: Path) -> None:
    add_golden(tmp_path, "nine_layer_mlp", load_bundled("nine_layer_mlp", {}))
    path = tmp_path / "nine_layer_mlp.no-blocks.plan"
    text = path.read_text("utf-8")
    for damaged in (text[:2000], text.replace("plan 3", "plan 7", 1)):
        path.write_text(damaged, "utf-8")
        assert run("check", tmp_path).exit_code == 2
        assert "no-blocks.plan: damaged" in run("update", tmp_path).stdout
        assert path.read_text("utf-8") == text
    path.write_text(text[:30], "utf-8")
    lost = run("update", tmp_path)
    assert lost.exit_code == 2
    assert "remove it" in lost.stderr


def test_a_damaged_file_is_told_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "x.plan").write_text(TEXT[:300], "utf-8")
    result = run("check", tmp_path)
    assert result.exit_code == 2
    assert "truncated" in result.stdout
    assert "arena-ckpt golden update" in result.stdout


# -- memories --------------------------------------------------------------------------


def test_constants_and_rams_are_pinned(tmp_path: Path) -> None:
    def plan(**request: Any) -> MemoryPlan:
        return NETS["frozen"].model().make_plan(**request)

    apart = plan()
    rams = plan(memories={"tcm": "1KiB", "slow ram": "64KiB"})
    for one in (apart, rams):
        write_golden(one, tmp_path / "one.plan")
        assert plan_differences(one, tmp_path / "one.plan") == []
    text = (tmp_path / "one.plan").read_text()
    assert f"\nconstant_bytes: {apart.constant_bytes}\n" in text
    assert "\nram tcm: 1024\nram slow ram: 65536\n" in text
    assert " offset=constants@0 " in text
    assert re.search(r' "offset=slow ram@\d+" ', text)
    write_golden(apart, tmp_path / "apart.plan")
    found = plan_differences(plan(constants="arena"), tmp_path / "apart.plan")
    assert f"  constant {apart.constant_bytes:,} → 0 B (−100.00 %)" in found
    old = parse_golden((tmp_path / "apart.plan").read_text(), "")
    offsets = compare(old, golden_plan(plan(constants="arena"))).consequences
    assert any("constants@0" in one.text for one in offsets)


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_earlier_format_is_read(tmp_path: Path, version: int) -> None:
    plan = NETS["mlp"].model().make_plan()
    path = tmp_path / "old.plan"
    path.write_text(older_golden(plan, version))
    assert plan_differences(plan, path) == []
    assert_plan_matches(plan, path)
    assert parse_golden(path.read_text(), "").version == version
    lines = golden_text(golden_plan(plan)).splitlines()[1:-1]
    (tmp_path / "new.plan").write_text(seal(TITLE, 4, lines))
    with pytest.raises(GoldenFileError, match=r"has version 4, .* reads version 1, 2"):
        plan_differences(plan, tmp_path / "new.plan")


def test_what_an_earlier_format_does_not_pin_is_no_difference(tmp_path: Path) -> None:
    """Other activation and optimizer, of the same sizes; then another batch."""
    path = tmp_path / "old.plan"
    relu = chain(8, "gelu", 4, optimizer=("adam", {})).model()
    path.write_text(older_golden(relu.make_plan(), 2))
    other = chain(8, "swish", 4, optimizer=("adamw", {})).model()
    assert_plan_matches(other.make_plan(), path)
    other.set_property(batch_size=5)
    with pytest.raises(GoldenMismatchError) as caught:
        assert_plan_matches(other.make_plan(), path)
    assert caught.value.differences[:2] == ("cause:", "  batch size 8 → 5")
    assert str(caught.value).endswith(
        "arena-ckpt golden update. The file has format 2, in which no properties of "
        "layers and no optimizer are pinned; an update pins them too"
    )


def older_golden(plan: MemoryPlan, version: int) -> str:
    """Return the text of a golden file as formats 1 and 2 had it."""
    later = ("written_by", "arithmetic", "optimizer", "schedule", "clip_grad_by_norm")
    later_facts = tuple(f"{name}: " for name in (*later, "mode", "ways"))
    lines = golden_text(golden_plan(plan)).splitlines()[1:-1]
    begin, end = lines.index("[layers]"), lines.index("[blocks]")
    kept = [
        line for line in lines[:begin] + lines[end:] if not line.startswith(later_facts)
    ]
    return seal(TITLE, version, kept)


# -- who wrote it ----------------------------------------------------------------------


def test_the_version_that_wrote_a_file_is_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the same content stays byte for byte; another one names the writer."""
    path = tmp_path / "x.plan"
    model = mlp()
    write_golden(model.make_plan(), path)
    before = path.read_bytes()
    assert f"written_by: arena_ckpt {__version__}\n".encode() in before
    monkeypatch.setattr("arena_ckpt.testing.golden_text.__version__", "99.0")
    assert plan_differences(model.make_plan(), path) == []
    write_golden(model.make_plan(), path)
    assert path.read_bytes() == before
    model.set_property(batch_size=5)
    write_golden(model.make_plan(), path)
    assert b"written_by: arena_ckpt 99.0\n" in path.read_bytes()


def test_files_of_an_earlier_format_are_named_by_the_command(tmp_path: Path) -> None:
    add_golden(tmp_path, "nine_layer_mlp", load_bundled("nine_layer_mlp", {}))
    source = {"model": "nine_layer_mlp", "sizes": "{}"}
    plans = golden_variants(load_bundled("nine_layer_mlp", {}))
    for path in tmp_path.iterdir():
        variant = path.name.split(".")[1]
        head = [f"{k}: {v}" for k, v in {**source, "variant": variant}.items()]
        lines = older_golden(plans[variant](), 2).splitlines()[1:-1]
        path.write_text(seal(TITLE, 2, [*head, *lines]))
    checked = run("check", tmp_path)
    assert checked.exit_code == 0
    assert checked.stdout.splitlines()[-1] == (
        "2 files have format 2, in which no properties of layers and no optimizer are "
        f"pinned; an update pins them too: arena-ckpt golden update {tmp_path}"
    )
    documents = json.loads(run("check", tmp_path, "--json").stdout)["files"]
    assert [document["format"] for document in documents] == [2, 2]
    assert run("update", tmp_path).exit_code == 0
    assert "format" not in run("check", tmp_path).stdout
    assert "[layers]" in next(tmp_path.iterdir()).read_text()
