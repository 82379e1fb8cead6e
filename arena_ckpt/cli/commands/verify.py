"""The command ``arena-ckpt verify``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from arena_ckpt.cli.data_options import data_options, given_data_options, load_data
from arena_ckpt.cli.failures import OK, RUN_FAILED, print_json
from arena_ckpt.cli.loss_option import given_loss, loss_option
from arena_ckpt.cli.options import (
    MODEL_HELP,
    arithmetic_option,
    as_json_option,
    batch_size_option,
    inference_option,
    mode_of,
    no_blocks_option,
    set_given,
    strict_option,
)
from arena_ckpt.cli.request_options import given_request, request_options

if TYPE_CHECKING:
    from arena_ckpt.verification.verify import Check

_HELP = f"""\
Check MODEL: its plan, its memory, its bits and its gradients.

{MODEL_HELP}
Trains copies of MODEL for three iterations, as planned, without recomputing,
without reusing a byte, in debug mode, with all that no step may read changed,
and in another process, and compares them bit by bit. Exits with 1 if a defect
was found; a kernel that crashes is one, with its step. With --inference it
predicts instead. A PyTorch module is compared with PyTorch first: losses, all
gradients, running statistics.

\b
Examples:
  arena-ckpt verify digits_mlp
  arena-ckpt verify model.ini --data train.npz --budget 256KiB
  arena-ckpt verify model.py:build --batch-size 4 --json
"""


@click.command(help=_HELP)
@click.argument("model")
@loss_option
@click.option(
    "--data",
    metavar="SPEC",
    help="Data to train on, in the forms of 'train'.  [default: those that come with "
    "MODEL, else some that are made up to fit]",
)
@data_options
@arithmetic_option
@batch_size_option
@no_blocks_option
@inference_option
@request_options
@strict_option
@as_json_option
def verify(
    model: str,
    data: str | None,
    arithmetic: str | None,
    batch_size: int | str | None,
    no_blocks: bool,
    inference: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Check MODEL: its plan, its memory, its bits and its gradients."""
    from arena_ckpt.cli.batch_sizes import (
        choice_document,
        choice_lines,
        set_batch_size,
    )
    from arena_ckpt.cli.line_breaks import fitted
    from arena_ckpt.cli.models import load_model, without_blocks
    from arena_ckpt.cli.output import describe_plan, warnings_document
    from arena_ckpt.cli.results import verification_document
    from arena_ckpt.cli.table_hints import table_hints
    from arena_ckpt.verification.verify import planned
    from arena_ckpt.verification.verify import verify as verify_model

    tables = given_data_options(values, data)
    loaded = load_model(model, check=True)
    built = without_blocks(loaded.model) if no_blocks else loaded.model
    set_given(built, arithmetic=arithmetic)
    request = given_request(values)
    request["mode"] = mode_of(inference)
    choice = set_batch_size(built, batch_size, request)
    if not as_json:
        for line in choice_lines(choice) if choice else ():
            click.echo(line)
        plan = planned(built, request)
        click.echo(fitted(f"{model}: {describe_plan(plan, built)}"))
        if loaded.import_verdict is not None:
            click.echo(f"passed    import, {loaded.import_verdict}")
    loss = given_loss()
    source = (model,) if loss is None else (model, loss)
    samples = loaded.data if data is None else load_data(data, tables)
    with table_hints(built, (data, samples)):
        result = verify_model(
            built,
            samples,
            on_check=None if as_json else _print_check,
            command=(sys.executable, "-m", "arena_ckpt.cli.verify_worker", *source),
            **request,
        )
    if as_json:
        document: dict[str, Any] = {"command": "verify", "model": model}
        document["warnings"] = warnings_document(built.warnings())
        document |= choice_document(choice)
        if loaded.import_verdict is not None:
            document["import"] = loaded.import_verdict
        print_json(document | verification_document(result))
    else:
        click.echo(f"{result.verdict}; on {result.data}")
    return OK if result.passed else RUN_FAILED


def _print_check(check: Check) -> None:
    state = {True: "passed", False: "FAILED", None: "left out"}[check.passed]
    click.echo(f"{state:8}  {check.name}, {check.seconds:.1f} s: {check.finding}")
