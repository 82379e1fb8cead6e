"""The command line: parses arguments, calls the package and prints results.

`commands` has a module for each command, `choice` and `options` what they share;
`models` finds what MODEL stands for, `script` runs a Python file for that, `results`
writes what a training did.
"""

from arena_ckpt.cli.commands import main

__all__ = ["main"]
