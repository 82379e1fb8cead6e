"""The commands of `arena-ckpt`, one module each with its options and its help.

Models, reports and with them Numba are imported inside the commands, so that ``--help``
does not wait for them.
"""

from __future__ import annotations

import click

from arena_ckpt.cli.commands.allocate import allocate
from arena_ckpt.cli.commands.board_check import board_check
from arena_ckpt.cli.commands.boards import boards
from arena_ckpt.cli.commands.evaluate import evaluate
from arena_ckpt.cli.commands.examples import examples
from arena_ckpt.cli.commands.export import export
from arena_ckpt.cli.commands.golden import golden
from arena_ckpt.cli.commands.plan import plan
from arena_ckpt.cli.commands.predict import predict
from arena_ckpt.cli.commands.profile import profile
from arena_ckpt.cli.commands.report import report
from arena_ckpt.cli.commands.summary import summary
from arena_ckpt.cli.commands.train import train
from arena_ckpt.cli.commands.verify import verify
from arena_ckpt.cli.failures import Commands


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        import arena_ckpt

        click.echo(f"arena-ckpt {arena_ckpt.__version__}")
        ctx.exit()


_HELP = """\
Train neural networks inside one preallocated, planned block of memory.

\b
Examples:
  arena-ckpt examples
  arena-ckpt summary digits_cnn
  arena-ckpt plan digits_mlp
  arena-ckpt train digits_mlp --epochs 5
  arena-ckpt train model.ini --data digits --validation-split 0.2
  arena-ckpt train digits_mlp --save digits.safetensors
  arena-ckpt evaluate digits.safetensors --data digits
  arena-ckpt predict digits.safetensors --data digits -o out.csv
  arena-ckpt plan model.py:build --batch-size 64 --json
  arena-ckpt report digits_mlp -o report.html
  arena-ckpt profile digits_cnn
  arena-ckpt verify digits_mlp
  arena-ckpt allocate buffers.csv -o layout.csv --capacity 1MiB
  arena-ckpt export digits_mlp --to chrome-trace -o trace.json
  arena-ckpt board-check firmware.elf --board rp2350

\b
Exit codes:
  0    it worked
  1    it failed while it ran: no plan within the budget or on the board, an
       arena larger than the free memory, a loss that is NaN or infinite, a
       defect found in debug mode or by verify; buffers that are proved not
       to fit, a layout that breaks a rule, a golden plan that differs;
       firmware that does not fit on its board
  2    the command line, the model, the data or a file cannot be used, or
       with --strict the model has a warning; the message says what to change
  3    not known whether buffers fit: the time or node limit was reached
  130  interrupted with Ctrl-C; the iteration under way was finished
       (with --checkpoint SIGTERM does the same)

Errors are one message on standard error. With ARENA_CKPT_TRACEBACK=1 in the
environment the Python traceback comes before it.
"""


@click.group(
    cls=Commands,
    help=_HELP,
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


_COMMANDS = (
    *(train, evaluate, predict, summary, plan, report, verify, allocate, export),
    *(profile, boards, board_check, golden, examples),
)

for command in _COMMANDS:
    main.add_command(command)
