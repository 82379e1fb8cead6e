"""Runs the command line in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from arena_ckpt.cli import main


def run(*arguments: object) -> Result:
    """Run ``arena-ckpt`` with some arguments; return what it printed and its code."""
    return CliRunner().invoke(main, [*map(str, arguments)])
