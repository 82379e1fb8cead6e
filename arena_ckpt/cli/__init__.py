"""The command line: parses arguments, calls the package and prints results.

`commands` has a module for each command; `request_options` and `options` hold the
options that commands share. `models` loads the model that MODEL names, `script` runs a
Python file for that, and `results` writes the results of a training.
"""

from arena_ckpt.cli.commands import main

__all__ = ["main"]
