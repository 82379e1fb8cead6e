"""The command ``arena-ckpt plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arena_ckpt.cli.failures import OK, RUN_FAILED, print_json
from arena_ckpt.cli.loss_option import loss_option
from arena_ckpt.cli.memory_options import BOARD, given_budget
from arena_ckpt.cli.options import (
    AUTO,
    MODEL_HELP,
    arithmetic_option,
    as_json_option,
    batch_size_option,
    debug_option,
    file_option,
    inference_option,
    mode_of,
    no_blocks_option,
    set_arithmetic,
    strict_option,
)
from arena_ckpt.cli.request_options import PLACING, given_request, request_options

if TYPE_CHECKING:
    from arena_ckpt.planning.plan import MemoryPlan

_HELP = f"""\
Show where every byte of a training iteration of MODEL goes, and why.

{MODEL_HELP}
Nothing is allocated, so any size can be planned. Where the
model has checkpoint blocks, the plan without them stands beside it.

\b
Examples:
  arena-ckpt plan digits_mlp
  arena-ckpt plan digits_mlp --batch-size 256 --top 20
  arena-ckpt plan digits_cnn --budget 1.5MiB
  arena-ckpt plan digits_cnn --budget 60% --keep '*_conv'
  arena-ckpt plan digits_cnn --budget 1MiB --batch-size auto
  arena-ckpt plan digits_cnn --max-overhead 10% --emit-blocks
  arena-ckpt plan digits_cnn --pareto --save front.pdf
  arena-ckpt plan nine_layer_mlp --execution-order
  arena-ckpt plan digits_mlp --calls
  arena-ckpt plan digits_mlp --batch-size 8 --board rp2350
  arena-ckpt plan digits_cnn --batch-size 8 --board all --brief
  arena-ckpt plan digits_cnn --memories dtcm=128KiB,sram=512KiB
  arena-ckpt plan digits_cnn --inference --batch-size 1
  arena-ckpt plan model.ini --json --output plan.json
"""


@click.command(help=_HELP)
@click.argument("model")
@loss_option
@arithmetic_option
@batch_size_option
@no_blocks_option
@inference_option
@request_options
@click.option(
    "--pareto",
    is_flag=True,
    help="Show all plans that none other beats in bytes and time instead of one; with "
    "--budget the fastest within it is marked.",
)
@file_option(
    "--save",
    metavar="FRONT.pdf",
    help="With --pareto: draw them there, by the suffix .pdf, .svg, or .png; a .png "
    "needs 'pip install arena-ckpt[png]'.",
)
@click.option(
    "--emit-blocks",
    is_flag=True,
    help="Print the choice as calls of add_checkpoint_block and as INI sections. "
    "Without a choice: the blocks of the model.",
)
@click.option(
    "--execution-order",
    is_flag=True,
    help="Print the steps of each layer as well.",
)
@click.option(
    "--calls",
    is_flag=True,
    help="Print the kernel calls of an iteration with the bytes they work on, and "
    "nothing else.",
)
@click.option(
    "--top",
    type=click.IntRange(0),
    default=8,
    show_default=True,
    metavar="N",
    help="How many of the largest tensors at the peak to print.",
)
@click.option(
    "--brief",
    is_flag=True,
    help="Print the totals (with blocks: the comparison) and the explanation only.",
)
@click.option(
    "--board",
    metavar="NAME|FILE.toml",
    help="Say whether the plan fits on this board; exit with 1 if not. 'arena-ckpt "
    "boards' lists the names; 'all' prints a table of every board, and what "
    "recomputing or several RAMs cost where the plan does not fit.",
)
@debug_option
@strict_option
@as_json_option
@file_option(
    "-o",
    "--output",
    metavar="PLAN.json",
    help="Write the whole plan there; MemoryPlan.from_json reads it.",
)
@click.pass_context
def plan(
    ctx: click.Context,
    /,
    model: str,
    arithmetic: str | None,
    batch_size: int | str | None,
    no_blocks: bool,
    inference: bool,
    pareto: bool,
    save: Path | None,
    emit_blocks: bool,
    execution_order: bool,
    calls: bool,
    top: int,
    brief: bool,
    board: str | None,
    debug: bool,
    as_json: bool,
    output: Path | None,
    **values: Any,
) -> int:
    """Show where every byte of a training iteration of MODEL goes, and why."""
    from arena_ckpt.boards import load_board
    from arena_ckpt.cli.batch_sizes import (
        choice_document,
        choice_lines,
        set_batch_size,
    )
    from arena_ckpt.cli.board_table import board_rows, board_table
    from arena_ckpt.cli.fronts import print_blocks, print_front, refuse_with_pareto
    from arena_ckpt.cli.line_breaks import fitted
    from arena_ckpt.cli.models import (
        load_model,
        plan_of_other_mode,
        plan_to_compare,
        warn_of,
        without_blocks,
    )
    from arena_ckpt.cli.output import (
        describe_plan,
        plan_document,
        print_board,
        print_explanation,
        print_table,
        print_training_cost,
        require_writable,
        training_cost_document,
    )
    from arena_ckpt.files.atomic_write import write_whole
    from arena_ckpt.lowering.listing import call_lines, calls_document
    from arena_ckpt.report.tables import execution_order_table

    if output is not None:
        require_writable(output)
    is_every = board == "all"
    target = None if board is None or is_every else load_board(board)
    loaded = load_model(model)
    built = loaded.model
    if no_blocks:
        built = without_blocks(built)
    for_board = set_arithmetic(built, arithmetic, for_board=board is not None)
    request = given_request(values, target)
    if inference:
        request["mode"] = mode_of(inference)
    if is_every and "memories" in request:
        raise click.UsageError(
            "--board all takes the RAMs of each board; leave out --memories", ctx
        )
    if save is not None and not pareto:
        raise click.UsageError("--save draws a front; add --pareto", ctx)
    if pareto:
        refuse_with_pareto(
            ctx,
            request,
            emit_blocks=emit_blocks,
            execution_order=execution_order,
            calls=calls,
            inference=inference,
            brief=brief,
            board=board is not None,
            output=output is not None,
        )
    if emit_blocks and {*request} - {*PLACING, "mode"}:
        request.setdefault("levels", 1)
    available = None
    if target is not None and batch_size == AUTO:
        available = given_budget(BOARD, target, request.get("memories"))
    choice = set_batch_size(
        built, batch_size, request, budget_bytes=available, debug=debug
    )
    if available is not None:
        request.setdefault("budget", available)
    hints = warn_of(built, loaded.data)
    if pareto:
        return print_front(
            model, built, request, save, hints, debug=debug, as_json=as_json
        )
    if emit_blocks and inference:
        raise click.UsageError(
            "--emit-blocks prints what is recomputed, and --inference recomputes "
            "nothing; leave one out",
            ctx,
        )
    planned = built.make_plan(debug=debug, **request)
    without = plan_to_compare(built, planned, debug=debug)
    other = plan_of_other_mode(built, planned, debug=debug)
    fit = None if target is None else target.check(planned)
    rows = board_rows(built, planned, request, debug=debug) if is_every else []
    does_fit = any(row.fits for row in rows) if is_every else not fit or fit.fits
    code = OK if does_fit else RUN_FAILED
    if output is not None:
        write_whole(output, lambda file: file.write(planned.to_json().encode()))
    if as_json:
        document: dict[str, Any] = {"command": "plan", "model": model}
        document |= plan_document(planned, without, hints) | choice_document(choice)
        document["mode"] = planned.mode
        document["arithmetic"] = built.get_property("arithmetic")
        document["training_cost"] = training_cost_document(planned, other)
        if calls:
            calls_of_plan = built.kernel_calls(planned)
            document["kernel_calls"] = calls_document(planned, calls_of_plan)
        document["board"] = None if fit is None else fit.summary()
        if is_every:
            document["boards"] = [row.summary() for row in rows]
        print_json(document)
        return code
    if calls:
        for line in call_lines(planned, built.kernel_calls(planned)):
            click.echo(line)
        return code
    for line in choice_lines(choice) if choice else ():
        click.echo(line)
    line = describe_plan(planned, built, for_board=for_board)
    click.echo(f"{fitted(f'{model}: {line}')}\n")
    _print_tables(planned, without, top, brief=brief)
    print_explanation(planned, without)
    if other is not None:
        print_training_cost(planned, other)
    if fit is not None:
        print_board(fit)
    if is_every:
        print_table(board_table(rows))
    if emit_blocks:
        print_blocks(built, planned)
    if execution_order:
        print_table(execution_order_table(planned))
        if planned.blocks:
            click.echo("(n): counted, but that layer need not run again\n")
    if output is not None:
        click.echo(f"the whole plan is in {output}")
    return code


def _print_tables(
    plan: MemoryPlan, without: MemoryPlan | None, top: int, *, brief: bool
) -> None:
    """Print the totals of a plan, its bytes at the peak and what recomputing saves.

    Parameters
    ----------
    plan : MemoryPlan
    without : MemoryPlan or None
        The plan of the same model that recomputes nothing.
    top : int
        Number of the largest tensors at the peak to print.
    brief : bool
        Print the totals, or the comparison if there is one, only.
    """
    from arena_ckpt.cli.output import print_table
    from arena_ckpt.report.stack import is_arena_alone
    from arena_ckpt.report.tables import (
        biggest_table,
        comparison_table,
        kind_table,
        memory_table,
        totals_table,
    )

    if without is None or not brief:
        print_table(totals_table(plan))
    if not is_arena_alone(plan):
        print_table(memory_table(plan))
    if not brief:
        print_table(kind_table(plan))
    if top and not brief:
        print_table(biggest_table(plan, top))
    if without is not None:
        print_table(comparison_table(without, plan))
