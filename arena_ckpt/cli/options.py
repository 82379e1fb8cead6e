"""Options and help that several commands share."""

from __future__ import annotations

import click

# Click wraps paragraphs, but for those that begin with \b.
MODEL_HELP = """\
\b
MODEL is one of
  NAME              a bundled example; 'arena-ckpt examples' lists them
  PATH.ini          a model in NNTrainer's INI format
  PATH.py:FUNCTION  a function without parameters that returns a Model,
                    (Model, Dataset) or (Model, Dataset, Dataset); the
                    second Dataset is for validation
"""
batch_size = click.option(
    "--batch-size",
    type=int,
    metavar="N",
    help="Samples of one iteration.  [default: as the model says]",
)
no_blocks = click.option(
    "--no-blocks", is_flag=True, help="Leave out the checkpoint blocks of the model."
)
as_json = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON document on standard output and nothing else there; also "
    'on failure: {"error": {"type", "message", "exit_code"}}.',
)
