"""The command ``arena-ckpt allocate``."""

from __future__ import annotations

from pathlib import Path

import click

from arena_ckpt.cli.options import (
    as_json_option,
    file_option,
)

_HELP = """\
Place the buffers of FILE.csv in one block of memory, as low as possible.

FILE.csv has a header with id, lower, upper and size (steps and bytes, half-open) and,
where wanted, alignment, gaps, group and offset, which fixes a buffer. With --check it
is an answer instead: the offsets are not used but tested. In dumps of NNTrainer's they
always are an answer.

With --pools the buffers are spread over several memories, the preferred first. A column
pools lists those that a buffer may lie in, pool pins it to one, and weight says what it
costs if it lies one further down.

\b
Examples:
  arena-ckpt allocate buffers.csv
  arena-ckpt allocate buffers.csv -o layout.csv --png layout.png
  arena-ckpt allocate buffers.csv -o - --capacity 1MiB --time-limit 60
  arena-ckpt allocate buffers.csv --pools dtcm=128KiB,sram=512KiB
  arena-ckpt allocate --check layout.csv --capacity 1MiB
  arena-ckpt allocate nntrainer.tensor.csv --html map.html
"""


@click.command(help=_HELP)
@click.argument("path", metavar="FILE.csv", type=click.Path(path_type=Path))
@file_option(
    "-o",
    "--output",
    allow_dash=True,
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
    "--pools",
    metavar="SIZES",
    help="Spread the buffers over several memories, for example 'dtcm=128KiB,"
    "sram=512KiB' or '128KiB,unlimited'; what does not fit in one goes to the next.",
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
@file_option(
    "--png",
    metavar="MAP.png",
    help="Draw the layout there; needs 'pip install arena-ckpt[png]'.",
)
@file_option(
    "--html",
    metavar="PAGE.html",
    help="Show the layout of a dump of NNTrainer's there, as 'arena-ckpt report' shows "
    "plans, with the layout in the dump beside it.",
)
@as_json_option
@click.pass_context
def allocate(
    ctx: click.Context,
    path: Path,
    output: Path | None,
    capacity: str | None,
    pools: str | None,
    time_limit: float,
    node_limit: int | None,
    engine: str,
    seed: int,
    check: bool,
    png: Path | None,
    html: Path | None,
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
    if html is not None and pools is not None:
        raise click.UsageError(
            "--html shows one block, and --pools are several; leave one of them out",
            ctx,
        )
    if html is not None and html in (png, output):
        raise click.UsageError(f"--html and another option are both {html}", ctx)
    from arena_ckpt.allocation.search_options import SearchOptions
    from arena_ckpt.cli.allocate_file import allocate_file, check_file
    from arena_ckpt.cli.pool_options import parse_pools
    from arena_ckpt.common.units import parse_bytes

    capacity_bytes = None if capacity is None else parse_bytes(capacity)
    sizes = None if pools is None else parse_pools(pools)
    if check:
        return check_file(
            path, capacity_bytes, png, html, pool_sizes=sizes, as_json=as_json
        )
    return allocate_file(
        path,
        output,
        png,
        html,
        capacity_bytes,
        SearchOptions(
            time_limit, node_limit, engine, seed, progress=False if as_json else None
        ),
        pool_sizes=sizes,
        as_json=as_json,
    )


def _refuse_given(ctx: click.Context, *names: str) -> None:
    """Refuse options that have no meaning beside --check."""
    for name in names:
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--check looks for no layout, so --{name.replace('_', '-')} means "
                "nothing beside it; leave one of them out",
                ctx,
            )
