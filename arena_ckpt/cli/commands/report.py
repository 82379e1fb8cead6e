"""The command ``arena-ckpt report``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

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
    strict_option,
)
from arena_ckpt.cli.request_options import given_request, request_options

_HELP = f"""\
Show the memory plan of MODEL as a page, a picture or a map in letters.

{MODEL_HELP}
MODEL and OTHER may also be a PLAN.json that 'arena-ckpt plan -o' wrote. The page is one
file that needs no network: steps to the right, bytes upwards, with search, zoom, the
life of every tensor, and what moved the peak where two plans are compared. Without -o,
--png, --svg and --ascii it is written to report.html.

\b
Examples:
  arena-ckpt report digits_mlp -o report.html
  arena-ckpt report transformer -o report.html --compare-blocks
  arena-ckpt report transformer -o report.html --measured
  arena-ckpt report model.ini --compare old-plan.json
  arena-ckpt report digits_mlp --png map.png --svg map.svg
  arena-ckpt report digits_mlp --ascii
"""


@click.command(help=_HELP)
@click.argument("model")
@loss_option
@file_option(
    "-o",
    "--output",
    metavar="REPORT.html",
    help="Write the page there.",
)
@click.option(
    "--compare",
    "other",
    metavar="OTHER",
    help="Draw this model or PLAN.json before MODEL, on the same scales.",
)
@click.option(
    "--compare-blocks",
    is_flag=True,
    help="Draw the plan of MODEL that recomputes nothing before this one.",
)
@click.option(
    "--pareto",
    is_flag=True,
    help="Add all plans that none other beats in bytes and time, to choose from; with "
    "--budget the fastest within it is marked.",
)
@file_option(
    "--png",
    metavar="MAP.png",
    help="Draw a still picture there; needs 'pip install arena-ckpt[png]'.",
)
@file_option(
    "--svg",
    metavar="MAP.svg",
    help="Draw a still picture there.",
)
@click.option(
    "--ascii",
    "in_letters",
    is_flag=True,
    help="Print a map of 80 columns.",
)
@click.option(
    "--measured",
    is_flag=True,
    help="Time axis of the page: run the steps here and show how long each took.  "
    "[default: counted operations]",
)
@arithmetic_option
@batch_size_option
@no_blocks_option
@inference_option
@request_options
@strict_option
@as_json_option
@click.pass_context
def report(
    ctx: click.Context,
    /,
    model: str,
    output: Path | None,
    other: str | None,
    compare_blocks: bool,
    pareto: bool,
    png: Path | None,
    svg: Path | None,
    in_letters: bool,
    measured: bool,
    arithmetic: str | None,
    batch_size: int | str | None,
    no_blocks: bool,
    inference: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Show the memory plan of MODEL as a page, a picture or a map in letters."""
    is_still = png is not None or svg is not None or in_letters
    shows_several = {
        "--compare": other is not None,
        "--compare-blocks": compare_blocks,
        "--pareto": pareto,
    }
    _refuse_together(ctx, shows_several, no_blocks, is_still and output is None)
    if measured and is_still and output is None:
        raise click.UsageError(
            "only the page has a time axis; add -o REPORT.html, or leave out "
            "--measured",
            ctx,
        )
    from arena_ckpt.cli.fronts import refuse_with_pareto
    from arena_ckpt.cli.write_report import Wanted, write_report

    request = given_request(values)
    if pareto:
        refuse_with_pareto(ctx, request, inference=inference)
    if inference:
        request["mode"] = mode_of(inference)

    html = Path("report.html") if output is None and not is_still else output
    return write_report(
        model,
        Wanted(html, png, svg, in_letters, as_json),
        other=other,
        compare_blocks=compare_blocks,
        pareto=pareto,
        measured=measured,
        arithmetic=arithmetic,
        batch_size=batch_size,
        no_blocks=no_blocks,
        request=request,
    )


def _refuse_together(
    ctx: click.Context,
    shows_several: Mapping[str, bool],
    no_blocks: bool,
    without_page: bool,
) -> None:
    """Refuse options that exclude each other.

    Parameters
    ----------
    ctx : click.Context
    shows_several : mapping of str to bool
        Which of the options were given that show several plans.
    no_blocks : bool
        Checkpoint blocks are left out.
    without_page : bool
        Only still pictures are drawn.
    """
    if shows_several["--compare"] and shows_several["--compare-blocks"]:
        raise click.UsageError(
            "--compare and --compare-blocks exclude each other; keep one", ctx
        )
    if no_blocks and shows_several["--compare-blocks"]:
        raise click.UsageError(
            "--no-blocks leaves out what --compare-blocks compares; keep one", ctx
        )
    if without_page and any(shows_several.values()):
        name = next(name for name, is_given in shows_several.items() if is_given)
        raise click.UsageError(
            "only the page shows several plans; add -o REPORT.html, or leave out "
            f"{name}",
            ctx,
        )
