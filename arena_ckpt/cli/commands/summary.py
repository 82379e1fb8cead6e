"""The command ``arena-ckpt summary``."""

from __future__ import annotations

import click

from arena_ckpt.cli.failures import OK, print_json
from arena_ckpt.cli.loss_option import loss_option
from arena_ckpt.cli.options import (
    MODEL_HELP,
    arithmetic_option,
    as_json_option,
    no_blocks_option,
    set_given,
    strict_option,
)

_HELP = f"""\
Show the layers of MODEL: output, parameters, activations, trained or frozen.

{MODEL_HELP}
Nothing is planned or allocated, and MODEL needs no loss. The layers stand in forward
order; what a layer reads is named where that is not the layer before it.

\b
Examples:
  arena-ckpt summary digits_cnn
  arena-ckpt summary model.ini --batch-size 1
  arena-ckpt summary model.py:build --json
"""


@click.command(help=_HELP)
@click.argument("model")
@loss_option
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="N",
    help="Samples that the activations are for.  [default: as the model says]",
)
@arithmetic_option
@no_blocks_option
@strict_option
@as_json_option
def summary(
    model: str,
    batch_size: int | None,
    arithmetic: str | None,
    no_blocks: bool,
    as_json: bool,
) -> int:
    """Show the layers of MODEL: output, parameters, activations, trained or frozen."""
    from arena_ckpt.cli.models import load_model, warn_of, without_blocks
    from arena_ckpt.cli.output import print_table, warnings_document
    from arena_ckpt.report.tables import summary_table

    loaded = load_model(model)
    built = without_blocks(loaded.model) if no_blocks else loaded.model
    set_given(built, batch_size=batch_size, arithmetic=arithmetic)
    hints = warn_of(built, loaded.data)
    shown = built.summary()
    if as_json:
        print_json(
            {
                "command": "summary",
                "model": model,
                "warnings": warnings_document(hints),
                "batch_size": shown.batch_size,
                "layers": shown.to_rows(),
                "totals": shown.to_totals(),
            }
        )
        return OK
    print_table(summary_table(shown))
    for line in shown.totals():
        click.echo(line)
    return OK
