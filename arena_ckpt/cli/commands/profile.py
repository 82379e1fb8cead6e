"""The command ``arena-ckpt profile``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from arena_ckpt.cli.data_options import (
    DATA_HELP,
    data_options,
    given_data_options,
    load_data,
)
from arena_ckpt.cli.failures import OK, print_json
from arena_ckpt.cli.loss_option import loss_option
from arena_ckpt.cli.options import (
    MODEL_HELP,
    arithmetic_option,
    as_json_option,
    batch_size_option,
    file_option,
    inference_option,
    mode_of,
    no_blocks_option,
    set_given,
    strict_option,
)
from arena_ckpt.cli.request_options import given_request, request_options

_HELP = f"""\
Measure where the time of a training step of MODEL goes.

{MODEL_HELP}
The step is run some times, kernel call by kernel call, in an arena of its
own; no file of MODEL changes. Beside the time stand the operations and bytes a
second, and their share of what this machine reaches.

\b
Examples:
  arena-ckpt profile digits_cnn
  arena-ckpt profile digits_cnn --by kernel --top 5
  arena-ckpt profile digits_cnn --by phase --no-blocks
  arena-ckpt profile digits_cnn --budget 1MiB --by phase
  arena-ckpt profile gpt --threads 2 --rounds 5 --trace trace.json
  arena-ckpt profile digits_cnn --inference --batch-size 1
  arena-ckpt profile model.ini --data digits --json -o profile.json
"""


@click.command(help=_HELP)
@click.argument("model")
@loss_option
@click.option(
    "--by",
    type=click.Choice(["layer", "phase", "kernel"]),
    default="layer",
    show_default=True,
    help="What a row of the table is.",
)
@click.option(
    "--top",
    type=click.IntRange(0),
    default=12,
    show_default=True,
    metavar="N",
    help="How many of the slowest have a row; the others share one.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    metavar="N",
    help="How often to run the step; medians count.  [default: 3 times, and up to 50 "
    "within half a second]",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="Processor cores that share the work of large kernels.  [default: as the "
    "model says]",
)
@click.option(
    "--data",
    metavar="SPEC",
    help=f"Run on the first of these samples: {DATA_HELP}.  [default: random ones]",
)
@data_options
@arithmetic_option
@batch_size_option
@no_blocks_option
@inference_option
@request_options
@strict_option
@as_json_option
@file_option(
    "-o", "--output", metavar="FILE.json", help="Write what --json prints there."
)
@file_option(
    "--trace",
    metavar="TRACE.json",
    help="Write a trace of the step with its kernels there, for ui.perfetto.dev.",
)
def profile(
    model: str,
    by: str,
    top: int,
    rounds: int | None,
    threads: int | None,
    data: str | None,
    arithmetic: str | None,
    batch_size: int | str | None,
    no_blocks: bool,
    inference: bool,
    as_json: bool,
    output: Path | None,
    trace: Path | None,
    **values: Any,
) -> int:
    """Measure where the time of a training step of MODEL goes."""
    from arena_ckpt.cli.batch_sizes import choice_lines, set_batch_size
    from arena_ckpt.cli.line_breaks import filled, fitted
    from arena_ckpt.cli.models import load_model, warn_of, without_blocks
    from arena_ckpt.cli.output import (
        describe_plan,
        require_writable,
        warnings_document,
    )
    from arena_ckpt.files.atomic_write import write_whole
    from arena_ckpt.report.export import export_plan

    for path in (output, trace):
        if path is not None:
            require_writable(path)
    tables = given_data_options(values, data)
    loaded = load_model(model)
    built = without_blocks(loaded.model) if no_blocks else loaded.model
    set_given(built, arithmetic=arithmetic, threads=threads)
    request = given_request(values)
    request["mode"] = mode_of(inference)
    choice = set_batch_size(built, batch_size, request)
    hints = warn_of(built, loaded.data)
    samples = None if data is None else load_data(data, tables)
    plan = built.make_plan(**request)
    found = built.profile(samples, plan=plan, rounds=rounds)
    document: dict[str, Any] = {"command": "profile", "model": model}
    document |= {"warnings": warnings_document(hints)} | found.to_dict()
    if output is not None:
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        write_whole(output, lambda file: file.write(text.encode()))
    if trace is not None:
        content = export_plan(plan, "chrome-trace", timed_calls=found.calls)
        write_whole(trace, lambda file: file.write(content))
    if as_json:
        print_json(document)
        return OK
    for line in choice_lines(choice) if choice else ():
        click.echo(line)
    click.echo(f"{fitted(f'{model}: {describe_plan(plan, built)}')}\n")
    click.echo(f"{found.table(by, top)}\n")
    for sentence in found.sentences():
        click.echo(filled(sentence))
    if output is not None:
        click.echo(f"the whole profile is in {output}")
    if trace is not None:
        click.echo(f"the trace is in {trace}; ui.perfetto.dev opens it")
    return OK
