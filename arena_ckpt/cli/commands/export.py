"""The command ``arena-ckpt export``, which writes plans for other tools.

What writes them is imported inside the command, so that ``--help`` does not wait.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from arena_ckpt.cli.failures import OK
from arena_ckpt.cli.options import (
    MODEL_HELP,
    arithmetic_option,
    batch_size_option,
    inference_option,
    mode_of,
    no_blocks_option,
    set_given,
    strict_option,
)
from arena_ckpt.cli.request_options import given_request, request_options

_HELP = f"""\
Write the memory plan of MODEL in a format of another tool.

{MODEL_HELP}
\b
Formats:
  json            the whole plan; MemoryPlan.from_json reads it, a JSON
                  schema comes with the package
  minimalloc-csv  live ranges and offsets as google/minimalloc and
                  'arena-ckpt allocate' read them
  csv             a row for each buffer with all that is known of it
  chrome-trace    live bytes by kind and layers over time, for
                  ui.perfetto.dev
  torch-snapshot  a pickle for pytorch.org/memory_viz
  dot             the graph with its checkpoint blocks, for Graphviz
  c-header        offsets, sizes and execution orders as C99 constants

\b
Examples:
  arena-ckpt export digits_mlp --to json -o plan.json
  arena-ckpt export digits_mlp --to chrome-trace --measured -o trace.json
  arena-ckpt export model.ini --to c-header --budget 256KiB -o plan.h
"""


@click.command(help=_HELP)
@click.argument("model")
@click.option("--to", required=True, metavar="FORMAT", help="One of the formats above.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    default=Path("-"),
    metavar="FILE",
    help="Where to write it; '-' is standard output.  [default: -]",
)
@arithmetic_option
@batch_size_option
@no_blocks_option
@inference_option
@request_options
@strict_option
@click.option(
    "--measured",
    is_flag=True,
    help="Time axis of chrome-trace: run the steps here and show how long each took.  "
    "[default: one millisecond a step]",
)
def export(
    model: str,
    to: str,
    output: Path,
    arithmetic: str | None,
    batch_size: int | str | None,
    no_blocks: bool,
    inference: bool,
    measured: bool,
    **values: Any,
) -> int:
    """Write the memory plan of MODEL in a format of another tool."""
    from arena_ckpt.cli.batch_sizes import choice_lines, set_batch_size
    from arena_ckpt.cli.models import load_model, without_blocks
    from arena_ckpt.cli.output import require_writable
    from arena_ckpt.files.atomic_write import write_whole
    from arena_ckpt.report.export import export_plan, find_format

    is_stdout = output == Path("-")
    if find_format(to).is_text is False and is_stdout and sys.stdout.isatty():
        raise click.UsageError(
            f"{to} is binary and would garble the terminal; give a file: "
            f"-o {Path(model).stem}.pickle",
            click.get_current_context(),
        )
    if measured and to != "chrome-trace":
        raise click.UsageError(
            f"--measured is for chrome-trace; {to} shows no durations",
            click.get_current_context(),
        )
    if not is_stdout:
        require_writable(output)
    built = load_model(model).model
    if no_blocks:
        built = without_blocks(built)
    set_given(built, arithmetic=arithmetic)
    request = given_request(values)
    request["mode"] = mode_of(inference)
    choice = set_batch_size(built, batch_size, request)
    for line in choice_lines(choice) if choice else ():
        click.echo(line, err=True)
    name = model.rpartition(":")[2] if ".py:" in model else Path(model).stem
    planned = built.make_plan(**request)
    seconds = built.step_seconds(planned) if measured else None
    content = export_plan(planned, to, name=name, step_seconds=seconds)
    if is_stdout:
        sys.stdout.buffer.write(content)
    else:
        write_whole(output, lambda file: file.write(content))
        click.echo(f"{to}: {len(content):,} bytes are in {output}", err=True)
    return OK
