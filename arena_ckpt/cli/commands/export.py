"""The command ``arena-ckpt export``, which writes plans for other tools.

What writes them is imported inside the command, so that ``--help`` does not wait.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arena_ckpt.cli.failures import OK
from arena_ckpt.cli.loss_option import loss_option
from arena_ckpt.cli.options import (
    AUTO,
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

if TYPE_CHECKING:
    from arena_ckpt.cli.models import LoadedModel
    from arena_ckpt.data.dataset import Dataset
    from arena_ckpt.model import Model

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
  torch-state-dict  the weights of a saved model that was imported from
                  PyTorch, by its names there; safetensors.torch.load_file
                  reads it for load_state_dict
  c               a folder: a C99 project that trains the model, or with
                  --mode inference predicts, to the same bits as here

\b
Examples:
  arena-ckpt export digits_mlp --to json -o plan.json
  arena-ckpt export digits_mlp --to chrome-trace --measured -o trace.json
  arena-ckpt export model.ini --to c-header --budget 256KiB -o plan.h
  arena-ckpt export net.safetensors --to torch-state-dict -o state.safetensors
  arena-ckpt export digits_mlp --to c -o digits
  arena-ckpt export digits_mlp --to c --batch-size 4 --board rp2350 -o digits
  arena-ckpt export digits_mlp --to c --package arduino -o digits
"""


STATE_DICT = "torch-state-dict"
"""The format that holds weights instead of a plan."""

C_PROJECT = "c"
"""The format that is a folder, and of a model instead of its plan."""


@click.command(help=_HELP)
@click.argument("model")
@loss_option
@click.option("--to", required=True, metavar="FORMAT", help="One of the formats above.")
@click.option(
    "-o",
    "--output",
    type=click.Path(allow_dash=True, path_type=Path),
    default=Path("-"),
    metavar="FILE",
    help="Where to write it; '-' is standard output. For c a folder.  [default: -]",
)
@click.option(
    "--prefix",
    metavar="NAME",
    help="With which the names in C begin.  [default: the name of the model]",
)
@click.option(
    "--mode",
    type=click.Choice(["train", "inference"]),
    help="What the plan is for; inference is the same as --inference.  "
    "[default: train]",
)
@click.option(
    "--board",
    metavar="NAME|FILE.toml",
    help="For c: refuse a plan that does not fit on this board, and write a linker "
    "script that places it there; 'arena-ckpt boards' lists the names.",
)
@click.option(
    "--package",
    metavar="PLATFORM",
    help="For c: make the folder a package of arduino, platformio, zephyr or esp-idf, "
    "too.",
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
    prefix: str | None,
    mode: str | None,
    board: str | None,
    package: str | None,
    arithmetic: str | None,
    batch_size: int | str | None,
    no_blocks: bool,
    inference: bool,
    measured: bool,
    **values: Any,
) -> int:
    """Write the memory plan of MODEL in a format of another tool."""
    from arena_ckpt.boards import load_board
    from arena_ckpt.c_export.packages import require_package
    from arena_ckpt.cli.batch_sizes import choice_lines, set_batch_size
    from arena_ckpt.cli.memory_options import BOARD, given_budget
    from arena_ckpt.cli.models import load_model, without_blocks
    from arena_ckpt.cli.output import require_writable
    from arena_ckpt.files.atomic_write import write_whole
    from arena_ckpt.report.export import export_plan, find_format

    is_stdout = output == Path("-")
    if to == C_PROJECT:
        _require_folder(is_stdout)
    elif (
        to != STATE_DICT
        and find_format(to).is_text is False
        and is_stdout
        and sys.stdout.isatty()
    ):
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
    for option, value in {"--board": board, "--package": package}.items():
        if value is not None and to != C_PROJECT:
            raise click.UsageError(
                f"{option} is for c; {to} is of the plan alone",
                click.get_current_context(),
            )
    require_package(package)
    target = None if board is None else load_board(board)
    if not is_stdout and to != C_PROJECT:
        require_writable(output)
    loaded = load_model(model)
    built = loaded.model
    if to == STATE_DICT:
        return _export_state(loaded, model, output)
    if no_blocks:
        built = without_blocks(built)
    set_given(built, arithmetic=arithmetic)
    request = given_request(values, target)
    request["mode"] = _mode(mode, inference)
    if to == C_PROJECT:
        from arena_ckpt.device.export_c import in_portable_arithmetic  # loads Numba

        built = in_portable_arithmetic(built)
    available = None
    if target is not None and batch_size == AUTO:
        available = given_budget(BOARD, target, request.get("memories"))
    choice = set_batch_size(built, batch_size, request, budget_bytes=available)
    if available is not None:
        request.setdefault("budget", available)
    for line in choice_lines(choice) if choice else ():
        click.echo(line, err=True)
    name = prefix or (model.rpartition(":")[2] if ".py:" in model else Path(model).stem)
    if to == C_PROJECT:
        if loaded.state is not None:
            from arena_ckpt.cli.trained import with_weights_of

            built = with_weights_of(built, loaded.state)
        options = request | {"board": board, "package": package}
        return _export_c(built, output, name, loaded.data, options)
    planned = built.make_plan(**request)
    seconds = built.step_seconds(planned) if measured else None
    content = export_plan(planned, to, name=name, step_seconds=seconds)
    if is_stdout:
        sys.stdout.buffer.write(content)
    else:
        write_whole(output, lambda file: file.write(content))
        click.echo(f"{to}: {len(content):,} bytes are in {output}", err=True)
    return OK


def _export_state(loaded: LoadedModel, spec: str, output: Path) -> int:
    """Write the weights of an imported model by their names in PyTorch."""
    from arena_ckpt.cli.torch_models import state_dict_bytes
    from arena_ckpt.cli.trained import with_weights_of
    from arena_ckpt.files.atomic_write import write_whole

    model = loaded.model
    if loaded.state is not None:
        model = with_weights_of(model, loaded.state)
    content = state_dict_bytes(model, spec)
    if output == Path("-"):
        sys.stdout.buffer.write(content)
    else:
        write_whole(output, lambda file: file.write(content))
        click.echo(f"{STATE_DICT}: {len(content):,} bytes are in {output}", err=True)
    return OK


def _require_folder(is_stdout: bool) -> None:
    if is_stdout:
        raise click.UsageError(
            "a project in C is a folder; say where, with -o DIR",
            click.get_current_context(),
        )


def _mode(mode: str | None, inference: bool) -> str:
    """Return the mode of the plan, which two options can say."""
    if inference and mode == "train":
        raise click.UsageError(
            "--inference and --mode train exclude each other; leave one out",
            click.get_current_context(),
        )
    return mode or mode_of(inference)


def _export_c(
    model: Model, folder: Path, name: str, data: Dataset | None, options: dict[str, Any]
) -> int:
    """Write a project in C, and say what to do with it."""
    from arena_ckpt.device.export_c import export_c

    project = export_c(model, folder, name=name, data=data, **options)
    n_bytes = sum(map(len, project.files.values()))
    click.echo(
        f"c: {len(project.files)} files, {n_bytes:,} bytes, are in {folder}; 'make "
        f"test' there compares every bit, {folder / 'README.md'} says the rest",
        err=True,
    )
    return OK
