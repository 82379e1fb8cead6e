"""The command ``arena-ckpt examples``."""

from __future__ import annotations

import click

from arena_ckpt.cli.failures import OK, print_json
from arena_ckpt.cli.options import (
    as_json_option,
)


@click.command()
@as_json_option
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
