"""Options and help texts that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from arena_ckpt.cli.failures import model_warnings_as_errors
from arena_ckpt.common.arithmetics import ARITHMETICS, PORTABLE

if TYPE_CHECKING:
    from arena_ckpt.model import Model

F = TypeVar("F", bound=Callable[..., Any])

# Click wraps paragraphs, but for those that begin with \b.
MODEL_HELP = """\
\b
MODEL is one of
  NAME              a bundled example; 'arena-ckpt examples' lists them
  'NAME(SIZE=…)'    the same with other sizes: 'mobilenet_v2(width=0.5)'
  PATH.ini          a model in NNTrainer's INI format
  PATH.py:FUNCTION  a function without parameters that returns a Model,
                    (Model, data) or (Model, data, data); the second data
                    are for validation; data are a Dataset or (x, y). Or
                    it returns a PyTorch module: (module, inputs) or
                    (module, inputs, loss)
  PATH.onnx         a model in ONNX; --loss says what it is trained by
  PATH.safetensors  what 'train --save' or Model.save wrote: the model with
                    its weights
"""


def file_option(
    *names: str, metavar: str, help: str, allow_dash: bool = False
) -> Callable[[F], F]:
    """Return an option whose value is a file to write.

    Parameters
    ----------
    *names : str
    metavar, help : str
    allow_dash : bool
        ``-`` stands for standard output.
    """
    path = click.Path(dir_okay=False, allow_dash=allow_dash, path_type=Path)
    return click.option(*names, type=path, metavar=metavar, help=help)


AUTO = "auto"
"""The batch size that stands for the largest that fits."""


class _BatchSize(click.types.IntParamType):
    """A whole number, or `AUTO`."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        return AUTO if value == AUTO else super().convert(value, param, ctx)


batch_size_option = click.option(
    "--batch-size",
    type=_BatchSize(),
    metavar="N|auto",
    help="Samples of one iteration; auto: the most for which a plan fits the budget.  "
    "[default: as the model says]",
)
number_option = click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="N",
    help="Samples of one pass; fewer take a smaller arena.  [default: as the model "
    "says]",
)
weights_option = file_option(
    "--weights",
    metavar="W.npz",
    help="The trained weights, which 'train --save-weights W.npz' wrote; a saved model "
    "has its own.",
)
arithmetic_option = click.option(
    "--arithmetic",
    type=click.Choice(ARITHMETICS),
    help="portable: the same bits on every processor and in C, and convolutions "
    "without workspaces; fast: BLAS.  [default: as the model says, else fast]",
)
no_blocks_option = click.option(
    "--no-blocks", is_flag=True, help="Leave out the checkpoint blocks of the model."
)
inference_option = click.option(
    "--inference",
    is_flag=True,
    help="Plan inference alone: forward steps, without labels, gradients and states; "
    "every weight is a constant. MODEL needs no loss then.",
)
as_json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON document on standard output and nothing else there; also "
    'on failure: {"error": {"type", "message", "exit_code"}}.',
)


def _be_strict(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        model_warnings_as_errors()


strict_option = click.option(
    "--strict",
    is_flag=True,
    expose_value=False,
    callback=_be_strict,
    help="Exit with 2 where the model can be trained but hardly means what it says, "
    "instead of a warning.",
)
debug_option = click.option(
    "--debug",
    is_flag=True,
    help="Guard every buffer with a canary, poison it when it dies and look for NaN "
    "after each step. Slow; the results have the same bits.",
)
check_option = click.option(
    "--check",
    type=click.Choice(["loss", "all"]),
    default="loss",
    show_default=True,
    help="Where to look for NaN and infinity: at the loss, or after each step at "
    "whatever it wrote, to name the first layer.",
)


drop_last_option = click.option(
    "--drop-last/--keep-last",
    default=None,
    help="Leave the samples of an epoch out that fill no whole batch, or train on them "
    "as a smaller last batch.  [default: as the model says, else --keep-last]",
)


def mode_of(inference: bool) -> str:
    """Return the mode that a plan is made for."""
    return "inference" if inference else "train"


def set_given(model: Model, **values: int | str | None) -> None:
    """Set the properties of a model that were given on the command line."""
    given: dict[str, Any] = {k: v for k, v in values.items() if v is not None}
    model.set_property(**given)


def set_arithmetic(model: Model, arithmetic: str | None, *, for_board: bool) -> bool:
    """Set the arithmetic that was asked for; boards take the portable one by default.

    Returns
    -------
    bool
        Whether it is portable because of a board alone.
    """
    is_default = for_board and arithmetic is None
    is_default = is_default and "arithmetic" not in model.properties
    set_given(model, arithmetic=PORTABLE if is_default else arithmetic)
    return is_default
