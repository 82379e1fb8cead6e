"""Golden plans of a request: options of `plan` that `golden update --add` takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from arena_ckpt import load_board
from arena_ckpt.cli import main
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.testing import add_golden, check_folder
from arena_ckpt.testing.golden_files import load_bundled
from arena_ckpt.testing.golden_requests import LONGEST_NAME, request_name
from arena_ckpt.testing.golden_text import GoldenPlan, golden_text, parse_golden


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["golden", *map(str, arguments)])


def facts_in(path: Path) -> dict[str, str]:
    return parse_golden(path.read_text("utf-8"), str(path)).facts


@pytest.mark.parametrize(
    ("options", "name", "pinned"),
    [
        (["--budget", "600KiB"], "budget-600KiB", {"batch_size": "128"}),
        (["--batch-size", "8"], "batch-8", {"batch_size": "8", "arithmetic": "fast"}),
        (
            ["--batch-size", "4", "--board", "rp2350"],
            "batch-4.arithmetic-portable.board-rp2350",
            {"batch_size": "4", "arithmetic": "portable"},
        ),
        (
            ["--max-overhead", "10%", "--keep", "fc1"],
            "max-overhead-10%.keep-fc1",
            {"mode": "train"},
        ),
        (
            ["--memories", "tcm=64KiB,sram=2MiB", "--pin", "*:bias=tcm"],
            "memories-tcm-64KiB-sram-2MiB.pin-bias-tcm",
            {"ram tcm": "65536", "ram sram": "2097152"},
        ),
        (
            ["--inference", "--batch-size", "1"],
            "batch-1.inference",
            {"batch_size": "1", "mode": "inference"},
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_request_is_pinned_checked_and_made_again(
    options: list[str], name: str, pinned: dict[str, str], tmp_path: Path
) -> None:
    added = run("update", tmp_path, "--add", "digits_mlp", *options)
    assert added.exit_code == 0, added.output
    (path,) = tmp_path.iterdir()
    assert path.name == f"digits_mlp.{name}.plan"
    facts = facts_in(path)
    assert facts.items() >= pinned.items()
    assert facts["variant"] == name
    assert json.loads(facts["request"])
    assert run("check", tmp_path).exit_code == 0
    before = path.read_bytes()
    assert run("update", tmp_path).exit_code == 0
    assert path.read_bytes() == before


def test_the_budget_of_a_board_is_what_it_has_free(tmp_path: Path) -> None:
    options = ["--batch-size", "4", "--board", "rp2350", "--budget", "board"]
    added = run("update", tmp_path, "--add", "digits_mlp", *options)
    assert added.exit_code == 0, added.output
    (path,) = tmp_path.iterdir()
    board = load_board("rp2350")
    request = json.loads(facts_in(path)["request"])
    assert request["budget"] == board.free_bytes(board.arena_ram.name)
    assert int(facts_in(path)["arena_bytes"]) <= request["budget"]


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--budget", "1KiB"], 1, "no plan fits in 1.00 KiB"),
        (["--board", "nrf52840"], 1, "does not fit on"),
        (["--board", "rp2530"], 2, "did you mean 'rp2350'"),
        (["--budget", "64KiB", "--measure"], 2, "same on every machine; leave it out"),
        (["--batch-size", "auto"], 2, "auto"),
        (
            ["--inference", "--max-overhead", "10%"],
            2,
            "cannot go with mode='inference'",
        ),
        (["--keep", "fc1"], 2, "say how to choose, but not what for"),
        (["--budget", "board"], 2, "board of --board, and there is none"),
    ],
    ids=str,
)
def test_what_cannot_be_pinned_says_why(
    options: list[str], code: int, says: str, tmp_path: Path
) -> None:
    refused = run("update", tmp_path / "g", "--add", "digits_mlp", *options)
    assert refused.exit_code == code, refused.output
    assert says in refused.stderr
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize(
    "options", [["--budget", "64KiB"], ["--batch-size", "4"], ["--board", "rp2350"]]
)
def test_without_a_model_to_add_there_is_nothing_to_ask_for(
    options: list[str], tmp_path: Path
) -> None:
    refused = run("update", tmp_path, *options)
    assert refused.exit_code == 2
    assert f"{options[0]} says what --add pins" in refused.stderr


def test_a_request_of_python_is_the_same(tmp_path: Path) -> None:
    model = load_bundled("digits_mlp", {})
    request: dict[str, Any] = {"batch_size": 8, "memories": {"b": "64KiB", "a": "8MiB"}}
    (path,) = add_golden(tmp_path, "digits_mlp", model, request=request)
    assert path.name == "digits_mlp.batch-8.memories-b-64KiB-a-8MiB.plan"
    assert model.get_property("batch_size") == 128
    assert [one.state for one in check_folder(tmp_path, load_bundled)] == ["same"]
    with pytest.raises(InvalidParameterError, match="did you mean 'batch_size'"):
        add_golden(tmp_path, "digits_mlp", model, request={"batchsize": 8})
    with pytest.raises(InvalidParameterError, match="cannot be written"):
        add_golden(tmp_path, "digits_mlp", model, request={"budget": object()})


@pytest.mark.parametrize(
    "request_", ["[]", "{}", "{", '{"measure": true}', "[" * 9000, "null"]
)
def test_a_request_behind_a_right_checksum_is_looked_at(
    request_: str, tmp_path: Path
) -> None:
    facts = {"model": "digits_mlp", "sizes": "{}", "variant": "x", "request": request_}
    (tmp_path / "x.plan").write_text(golden_text(GoldenPlan(facts)), "utf-8")
    (outcome,) = check_folder(tmp_path, load_bundled)
    assert outcome.state == "unreadable"
    assert "lines that cannot be read" in outcome.differences[0]


def test_long_requests_have_short_names() -> None:
    one, other = (
        request_name({"keep": [f"layer_{n}" for n in range(30)], "budget": f"{n}KiB"})
        for n in (1, 2)
    )
    assert len(one) == len(other) == LONGEST_NAME
    assert one != other
