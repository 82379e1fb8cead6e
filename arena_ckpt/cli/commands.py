"""The commands: options and help, and in which order things are called.

The model, reports and with them Numba are imported inside the commands, so that
``--help`` does not wait for them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arena_ckpt.cli.choice import given_request, request_options
from arena_ckpt.cli.export import export
from arena_ckpt.cli.failures import INTERRUPTED, OK, RUN_FAILED, Commands, print_json
from arena_ckpt.cli.golden import golden
from arena_ckpt.cli.options import MODEL_HELP as _MODEL_HELP
from arena_ckpt.cli.options import as_json as _json
from arena_ckpt.cli.options import batch_size as _batch_size
from arena_ckpt.cli.options import no_blocks as _no_blocks

if TYPE_CHECKING:
    from arena_ckpt.model import Model


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        import arena_ckpt

        click.echo(f"arena-ckpt {arena_ckpt.__version__}")
        ctx.exit()


_MAIN_HELP = """\
Train neural networks inside one preallocated, planned block of memory.

\b
Examples:
  arena-ckpt examples
  arena-ckpt plan digits_mlp
  arena-ckpt train digits_mlp --epochs 5
  arena-ckpt train model.ini --data digits --validation-split 0.2
  arena-ckpt plan model.py:build --batch-size 64 --json
  arena-ckpt allocate buffers.csv -o layout.csv --capacity 1MiB
  arena-ckpt export digits_mlp --to chrome-trace -o trace.json

\b
Exit codes:
  0    it worked
  1    it failed while it ran: an arena larger than the free memory, a loss
       that is NaN or infinite, a defect found in debug mode; buffers that
       are proved not to fit, a layout that breaks a rule
  2    the command line, the model, the data or a file cannot be used;
       the message says what to change
  3    not known whether buffers fit: the time or node limit was reached
  130  interrupted with Ctrl-C; the iteration under way was finished

Errors are one message on standard error. With ARENA_CKPT_TRACEBACK=1 in the
environment the Python traceback comes before it.
"""
_TRAIN_HELP = f"""\
Train MODEL and print the loss of every epoch.

{_MODEL_HELP}
The first use ever compiles the kernels, which takes some seconds once.

\b
Examples:
  arena-ckpt train digits_mlp
  arena-ckpt train digits_mlp --epochs 5 --seed 1 --save-weights weights.npz
  arena-ckpt train model.ini --data train.npz --validation test.npz
  arena-ckpt train model.py:build --data digits --validation-split 0.2 --json
"""
_PLAN_HELP = f"""\
Show where every byte of a training iteration of MODEL goes, and why.

{_MODEL_HELP}
Nothing is allocated, so any size can be planned. Where the
model has checkpoint blocks, the plan without them stands beside it.

\b
Examples:
  arena-ckpt plan digits_mlp
  arena-ckpt plan digits_mlp --batch-size 256 --top 20
  arena-ckpt plan digits_cnn --budget 1.5MiB
  arena-ckpt plan digits_cnn --max-overhead 10% --emit-blocks
  arena-ckpt plan digits_cnn --pareto --save front.png
  arena-ckpt plan nine_layer_mlp --execution-order
  arena-ckpt plan digits_mlp --batch-size 8 --board rp2350
  arena-ckpt plan model.ini --json --output plan.json
"""
_ALLOCATE_HELP = """\
Place the buffers of FILE.csv in one block of memory, as low as possible.

FILE.csv has a header with id, lower, upper and size (steps and bytes, half-open) and,
where wanted, alignment, gaps, group and offset, which fixes a buffer. With --check it
is an answer instead: the offsets are not used but tested.

\b
Examples:
  arena-ckpt allocate buffers.csv
  arena-ckpt allocate buffers.csv -o layout.csv --png layout.png
  arena-ckpt allocate buffers.csv -o - --capacity 1MiB --time-limit 60
  arena-ckpt allocate --check layout.csv --capacity 1MiB
"""
_debug = click.option(
    "--debug",
    is_flag=True,
    help="Guard every buffer with a canary, poison it when it dies and look for NaN "
    "after each step. Slow; the results have the same bits.",
)


@click.group(
    cls=Commands,
    help=_MAIN_HELP,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Train neural networks inside one preallocated, planned block of memory."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@main.command(help=_TRAIN_HELP)
@click.argument("model")
@click.option(
    "--data",
    metavar="SPEC",
    help="Training data, instead of those that come with MODEL: 'digits', a .npz "
    "with x and y, a .csv or .tsv with labels in the last column, or IDX files as "
    "'images,labels' (or only images, with the labels beside them).",
)
@click.option(
    "--validation",
    metavar="SPEC",
    help="Data to evaluate on after each epoch; the same forms as --data.",
)
@click.option(
    "--validation-split",
    type=float,
    metavar="FRACTION",
    help="Put this part of the training data aside for validation, for example 0.2.",
)
@click.option(
    "--epochs",
    type=int,
    metavar="N",
    help="Passes over the data.  [default: as the model says]",
)
@_batch_size
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    metavar="N",
    help="Decides initial weights, order of samples and the validation split.  "
    "[default: as the model says]",
)
@_no_blocks
@request_options
@_debug
@click.option(
    "--save-weights",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="OUT.npz",
    help="Write the weights there at the end, also after Ctrl-C.",
)
@_json
@click.option("--quiet", is_flag=True, help="Print the final result only.")
def train(
    model: str,
    data: str | None,
    validation: str | None,
    validation_split: float | None,
    epochs: int | None,
    batch_size: int | None,
    seed: int | None,
    no_blocks: bool,
    debug: bool,
    save_weights: Path | None,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> int:
    """Train MODEL and print the loss of every epoch."""
    from arena_ckpt.cli.models import (
        choose_data,
        load_model,
        plan_to_compare,
        without_blocks,
    )
    from arena_ckpt.cli.output import (
        plan_document,
        print_epoch,
        print_explanation,
        print_table,
        print_training,
        require_writable,
        write_weights,
    )
    from arena_ckpt.cli.results import history_document, result_text
    from arena_ckpt.report import totals_table

    if validation is not None and validation_split is not None:
        raise click.UsageError(
            "--validation and --validation-split exclude each other; keep one",
            click.get_current_context(),
        )
    if save_weights is not None:
        require_writable(save_weights)
    loaded = load_model(model)
    built = without_blocks(loaded.model) if no_blocks else loaded.model
    if seed is not None:
        built.seed = seed
    _set_given(built, epochs=epochs, batch_size=batch_size)
    training, evaluation = choose_data(
        loaded, model, data, validation, validation_split, built.seed
    )
    plan = built.initialize(debug=debug, **given_request(values))
    without = plan_to_compare(built, plan, debug=debug)
    talks = not (as_json or quiet)
    if talks:
        print_training(model, built, training, evaluation, plan)
        print_table(totals_table(plan))
        print_explanation(plan, without)
    # The progress bar takes sys.stdout over and would send these lines to its terminal.
    out, n_epochs = sys.stdout, built.get_property("epochs")
    history = built.train(
        training,
        validation=evaluation,
        progress=False if as_json or quiet else None,
        on_epoch=(lambda record: print_epoch(record, n_epochs, out)) if talks else None,
    )
    if save_weights is not None:
        write_weights(save_weights, built)  # a second Ctrl-C may end what follows
    result = built.evaluate(training)
    if as_json:
        document: dict[str, Any] = {"command": "train", "model": model}
        document |= plan_document(plan, without) | history_document(history, result)
        document["weights_file"] = None if save_weights is None else str(save_weights)
        print_json(document)
    else:
        click.echo(result_text(history, n_epochs, result))
        if save_weights is not None:
            click.echo(f"weights are in {save_weights}")
    return INTERRUPTED if history.interrupted else OK


@main.command(help=_PLAN_HELP)
@click.argument("model")
@_batch_size
@_no_blocks
@request_options
@click.option(
    "--pareto",
    is_flag=True,
    help="Show all plans that none other beats in bytes and time instead of one.",
)
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FRONT.png",
    help="With --pareto: draw them there; needs 'pip install arena-ckpt[png]'.",
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
    help="Say whether the plan fits on this board; exit with 1 if not. Names are in "
    "docs/boards.md.",
)
@_debug
@_json
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PLAN.json",
    help="Write the whole plan there; MemoryPlan.from_json reads it.",
)
@click.pass_context
def plan(
    ctx: click.Context,
    /,
    model: str,
    batch_size: int | None,
    no_blocks: bool,
    pareto: bool,
    save: Path | None,
    emit_blocks: bool,
    execution_order: bool,
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
    from arena_ckpt.cli.fronts import print_blocks, print_front, refuse_with_pareto
    from arena_ckpt.cli.models import load_model, plan_to_compare, without_blocks
    from arena_ckpt.cli.output import (
        describe_plan,
        plan_document,
        print_board,
        print_explanation,
        print_table,
        require_writable,
        write_file,
    )
    from arena_ckpt.report import (
        biggest_table,
        comparison_table,
        execution_order_table,
        kind_table,
        totals_table,
    )

    if output is not None:
        require_writable(output)
    target = None if board is None else load_board(board)
    built = load_model(model).model
    if no_blocks:
        built = without_blocks(built)
    _set_given(built, batch_size=batch_size)
    request = given_request(values)
    if save is not None and not pareto:
        raise click.UsageError("--save draws a front; add --pareto", ctx)
    if pareto:
        of_one_plan = {
            "--budget": "budget" in request,
            "--max-overhead": "max_overhead" in request,
            "--emit-blocks": emit_blocks,
            "--execution-order": execution_order,
            "--brief": brief,
            "--board": board is not None,
            "-o": output is not None,
        }
        refuse_with_pareto(ctx, [name for name, on in of_one_plan.items() if on])
        return print_front(model, built, request, save, debug=debug, as_json=as_json)
    if emit_blocks and request:
        request.setdefault("levels", 1)
    planned = built.make_plan(debug=debug, **request)
    without = plan_to_compare(built, planned, debug=debug)
    fit = None if target is None else target.check(planned)
    code = OK if fit is None or fit.fits else RUN_FAILED
    if output is not None:
        write_file(output, lambda file: file.write(planned.to_json().encode()))
    if as_json:
        document: dict[str, Any] = {"command": "plan", "model": model}
        document |= plan_document(planned, without)
        document["board"] = None if fit is None else fit.summary()
        print_json(document)
        return code
    click.echo(f"{model}: {describe_plan(planned)}\n")
    if without is None or not brief:
        print_table(totals_table(planned))
    if not brief:
        print_table(kind_table(planned))
    if top and not brief:
        print_table(biggest_table(planned, top))
    if without is not None:
        print_table(comparison_table(without, planned))
    print_explanation(planned, without)
    if fit is not None:
        print_board(fit)
    if emit_blocks:
        print_blocks(built, planned)
    if execution_order:
        print_table(execution_order_table(planned))
        if planned.blocks:
            click.echo("(n): counted, but that layer need not run again\n")
    if output is not None:
        click.echo(f"the whole plan is in {output}")
    return code


@main.command(help=_ALLOCATE_HELP)
@click.argument("path", metavar="FILE.csv", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="OUT.csv",
    help="Write the buffers with their offsets there; '-' is standard output, and the "
    "summary then goes to standard error.",
)
@click.option(
    "--capacity",
    metavar="SIZE",
    help="Take the first layout that fits in it, for example 256KiB.  [default: look "
    "for the lowest]",
)
@click.option(
    "--time-limit",
    type=float,
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to improve or to prove after the first layouts.",
)
@click.option(
    "--node-limit",
    type=click.IntRange(0),
    metavar="N",
    help="So many nodes of the search instead of seconds: the same answer everywhere.",
)
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="'greedy' tries fixed orders only, 'exact' searches with proofs, 'large' "
    "varies the orders; 'auto' is 'exact' where it can be, else 'large'.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="Decides how orders are varied.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Test the offsets (and pools) in FILE.csv instead of looking for some.",
)
@click.option(
    "--png",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="MAP.png",
    help="Draw the layout there; needs 'pip install arena-ckpt[png]'.",
)
@_json
@click.pass_context
def allocate(
    ctx: click.Context,
    path: Path,
    output: Path | None,
    capacity: str | None,
    time_limit: float,
    node_limit: int | None,
    engine: str,
    seed: int,
    check: bool,
    png: Path | None,
    as_json: bool,
) -> int:
    """Place the buffers of FILE.csv in one block of memory, as low as possible."""
    if check:
        _refuse_given(ctx, "output", "time_limit", "node_limit", "engine", "seed")
    if as_json and output == Path("-"):
        raise click.UsageError(
            "--json and --output - both want standard output; give a file", ctx
        )
    if png is not None and png == output:
        raise click.UsageError(
            f"--output and --png are both {png}; give two files", ctx
        )
    from arena_ckpt.allocation.options import SearchOptions
    from arena_ckpt.cli.allocation import allocate_file, check_file
    from arena_ckpt.units import parse_bytes

    capacity_bytes = None if capacity is None else parse_bytes(capacity)
    if check:
        return check_file(path, capacity_bytes, png, as_json=as_json)
    return allocate_file(
        path,
        output,
        png,
        capacity_bytes,
        SearchOptions(
            time_limit, node_limit, engine, seed, progress=False if as_json else None
        ),
        as_json=as_json,
    )


@main.command()
@_json
def examples(as_json: bool) -> int:
    """List the bundled examples; their names can stand for MODEL."""
    from arena_ckpt.examples import EXAMPLES

    if as_json:
        print_json(
            {
                "command": "examples",
                "examples": [
                    {"name": name, "description": text}
                    for name, text in EXAMPLES.items()
                ],
            }
        )
        return OK
    width = max(map(len, EXAMPLES))
    for name, text in EXAMPLES.items():
        click.echo(f"{name:{width}}  {text}")
    return OK


main.add_command(export)
main.add_command(golden)


def _refuse_given(ctx: click.Context, *names: str) -> None:
    """Refuse options that mean nothing beside --check."""
    for name in names:
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--check looks for no layout, so --{name.replace('_', '-')} means "
                "nothing beside it; leave one of them out",
                ctx,
            )


def _set_given(model: Model, **values: int | None) -> None:
    given: dict[str, Any] = {k: v for k, v in values.items() if v is not None}
    model.set_property(**given)
