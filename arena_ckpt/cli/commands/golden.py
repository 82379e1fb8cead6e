"""The command ``arena-ckpt golden``, which checks and updates golden plans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from arena_ckpt.cli.failures import OK, RUN_FAILED, print_json
from arena_ckpt.cli.options import as_json_option

if TYPE_CHECKING:
    from arena_ckpt.model import Model
    from arena_ckpt.testing.golden_files import Outcome

_HELP = """\
Check or update golden plans: memory plans pinned in files.

\b
Examples:
  arena-ckpt golden update golden --add digits_mlp
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
    """Make each plan pinned in DIR (golden) again; exit with 1 if one differs."""
    from arena_ckpt.testing.golden_files import check_folder

    outcomes = check_folder(folder, _load, form)
    _print("check", folder, outcomes, as_json=as_json)
    is_right = all(o.state in ("same", "of a test") for o in outcomes)
    if not is_right and not as_json:
        click.echo(f"if that is meant: arena-ckpt golden update {folder}")
    return OK if is_right else RUN_FAILED


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
@as_json_option
def update(
    folder: Path, form: str, add: tuple[str, ...], inference: bool, as_json: bool
) -> int:
    """Write each plan pinned in DIR (golden) again, and say what changed."""
    from arena_ckpt.testing.golden_files import add_golden, update_folder

    if inference and not add:
        raise click.UsageError(
            "--inference says what --add pins; name a model with --add",
            click.get_current_context(),
        )
    for spec in add:
        add_golden(folder, spec, _load(spec, {}), inference=inference)
    _print("update", folder, update_folder(folder, _load, form), as_json=as_json)
    return OK


def _load(spec: str, sizes: dict[str, object]) -> Model:
    from arena_ckpt.cli.models import load_model
    from arena_ckpt.testing.golden_files import load_bundled

    return load_bundled(spec, sizes) if sizes else load_model(spec).model


def _print(
    command: str, folder: Path, outcomes: list[Outcome], *, as_json: bool
) -> None:
    if as_json:
        files = [
            {"file": str(o.path), "state": o.state, "differences": list(o.differences)}
            for o in outcomes
        ]
        print_json(
            {"command": f"golden {command}", "folder": str(folder), "files": files}
        )
        return
    for outcome in outcomes:
        click.echo(f"{outcome.path}: {outcome.state}")
        for line in outcome.differences:
            click.echo(f"  {line}")
