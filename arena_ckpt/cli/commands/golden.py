"""The command ``arena-ckpt golden``, which checks and updates golden plans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arena_ckpt.cli.failures import BAD_INPUT, OK, RUN_FAILED, print_json
from arena_ckpt.cli.options import (
    arithmetic_option,
    as_json_option,
    set_arithmetic,
)
from arena_ckpt.cli.request_options import given_request, request_options

if TYPE_CHECKING:
    from arena_ckpt.model import Model
    from arena_ckpt.testing.golden_files import Outcome

_HELP = """\
Check or update golden plans: memory plans pinned in files.

\b
Examples:
  arena-ckpt golden update golden --add digits_mlp
  arena-ckpt golden update --add digits_mlp --batch-size 8 --board rp2350
  arena-ckpt golden update --add digits_cnn --budget 1.5MiB
  arena-ckpt golden check
  arena-ckpt golden check tests/golden --format nntrainer
  arena-ckpt golden update
"""
_folder = click.argument(
    "folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("golden")
)
_format = click.option(
    "--format",
    "form",
    default="plan",
    show_default=True,
    metavar="NAME",
    help="'plan', or 'nntrainer' for NNTrainer's .exegolden beside each plan.",
)


@click.group(help=_HELP)
def golden() -> None:
    """Check or update golden plans: memory plans pinned in files."""


@golden.command()
@_folder
@_format
@as_json_option
def check(folder: Path, form: str, as_json: bool) -> int:
    """Make each plan pinned in DIR (golden) again; exit with 1 if one differs.

    Exit with 2 if a file cannot be read, or its model cannot be made.
    """
    from arena_ckpt.testing.golden_files import NOT_MADE, UNREADABLE, check_folder

    outcomes = check_folder(folder, _load, form)
    _print("check", folder, outcomes, as_json=as_json)
    states = {outcome.state for outcome in outcomes}
    if not as_json:
        if states & {"differs", "missing"}:
            click.echo(
                f"each difference: arena-ckpt golden check {folder} --json; if they "
                f"are meant: arena-ckpt golden update {folder}"
            )
        _tell_old_formats(folder, outcomes)
    if states & {UNREADABLE, NOT_MADE}:
        return BAD_INPUT
    return OK if states <= {"same", "of a test"} else RUN_FAILED


@golden.command()
@_folder
@_format
@click.option(
    "--add",
    multiple=True,
    metavar="MODEL",
    help="Pin the plans of this model as well; may be given several times.",
)
@click.option(
    "--inference",
    is_flag=True,
    help="With --add: pin the plan of inference alone, and no others.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="N",
    help="With --add, as all that follows: pin the one plan that 'arena-ckpt plan "
    "MODEL' makes with these options.",
)
@arithmetic_option
@click.option(
    "--board",
    metavar="NAME|FILE.toml",
    help="Pin a plan that fits on this board, in portable arithmetic unless the model "
    "or --arithmetic says otherwise; a plan that does not fit is refused.",
)
@request_options
@as_json_option
@click.pass_context
def update(
    ctx: click.Context,
    /,
    folder: Path,
    form: str,
    add: tuple[str, ...],
    inference: bool,
    batch_size: int | None,
    arithmetic: str | None,
    board: str | None,
    as_json: bool,
    **values: Any,
) -> int:
    """Write each plan pinned in DIR (golden) again, and say what changed."""
    from arena_ckpt.boards import load_board
    from arena_ckpt.testing.golden_files import add_golden, update_folder

    target = None if board is None else load_board(board)
    request = given_request(values, target)
    own = {"batch_size": batch_size, "arithmetic": arithmetic, "board": board}
    request |= {name: value for name, value in own.items() if value is not None}
    if not add and (inference or request):
        first = "inference" if inference else next(iter(request))
        raise click.UsageError(
            f"--{first.replace('_', '-')} says what --add pins; name a model with "
            "--add. Files that are there already say themselves what they pin",
            ctx,
        )
    added = []
    for spec in add:
        model = _load(spec, {})
        asked = dict(request)
        if set_arithmetic(model, arithmetic, for_board=board is not None):
            asked["arithmetic"] = model.get_property("arithmetic")
        added += add_golden(
            folder, spec, model, inference=inference, request=asked or None
        )
    outcomes = [
        replace(outcome, state="new") if outcome.path in added else outcome
        for outcome in update_folder(folder, _load, form)
    ]
    _print("update", folder, outcomes, as_json=as_json)
    return OK


def _tell_old_formats(folder: Path, outcomes: list[Outcome]) -> None:
    """Say which files pin less than this package can, in one line."""
    from arena_ckpt.testing.golden_files import of_old_format

    old = [outcome.old_format for outcome in outcomes if outcome.old_format]
    if old:
        sentence = of_old_format(len(old), min(old))
        click.echo(f"{sentence}: arena-ckpt golden update {folder}")


def _load(spec: str, sizes: dict[str, object]) -> Model:
    from arena_ckpt.cli.models import load_model
    from arena_ckpt.testing.golden_files import load_bundled

    return load_bundled(spec, sizes) if sizes else load_model(spec).model


def _print(
    command: str, folder: Path, outcomes: list[Outcome], *, as_json: bool
) -> None:
    if as_json:
        files = [o.document() for o in outcomes]
        print_json(
            {"command": f"golden {command}", "folder": str(folder), "files": files}
        )
        return
    for outcome in outcomes:
        click.echo(f"{outcome.path}: {outcome.state}")
        for line in outcome.differences:
            click.echo(f"  {line}")
