"""Options that say how tables of data are read, the same for every command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from arena_ckpt.data.dataset import Dataset
    from arena_ckpt.model import Model

F = TypeVar("F", bound=Callable[..., Any])

DATA_HELP = (
    "'digits', a .npz with x and y (x:NAME for each of several inputs), a table "
    "(.csv, .tsv, .txt, .dat, .data) with labels in the last column, or IDX files as "
    "'images,labels' (or only images, with the labels beside them)"
)
"""Forms of data on the command line."""

TABLE = (
    *("header", "label_column", "targets", "label_names", "index_column"),
    *("skip_rows", "separator", "decimal", "missing"),
)
"""Names of the parameters that `data_options` adds: those of `load_csv`."""

_MOST_NUMBERS = 20
"""Maximum number of classes without names that a line lists."""

_OPTIONS = (
    click.option(
        "--header/--no-header",
        default=None,
        help="The first line of a table has the names of its columns, or is a sample.  "
        "[default: found out; an error where there is doubt]",
    ),
    click.option(
        "--label-column",
        metavar="NAME|N",
        help="Column of a table with the labels: a name in its header, a number from "
        "0, or from -1 at the end; first, last or none. Texts there are names of "
        "classes.  [default: last]",
    ),
    click.option(
        "--targets",
        type=click.IntRange(min=1),
        metavar="N",
        help="The last N columns of a table are values to predict, instead of labels.",
    ),
    click.option(
        "--label-names",
        is_flag=True,
        help="Labels of a table are names of classes, numbers too.",
    ),
    click.option(
        "--index-column",
        metavar="NAME|N",
        help="Column of a table that is left out, as it numbers or names the rows; "
        "none leaves out none.  [default: the first, with a warning, if it plainly "
        "does]",
    ),
    click.option(
        "--skip-rows",
        type=click.IntRange(min=0),
        metavar="N",
        help="Leave out N lines at the top of a table.",
    ),
    click.option(
        "--separator",
        type=click.Choice(["comma", "tab", "semicolon", "space"]),
        help="What separates the cells of a table.  [default: found out]",
    ),
    click.option(
        "--decimal",
        type=click.Choice(["point", "comma"]),
        help="Decimal mark of a table.  [default: found out]",
    ),
    click.option(
        "--missing",
        type=click.Choice(["drop", "mean"]),
        help="Rows of a table with cells that are empty or NA are left out, or the "
        "mean of the column in the training data is filled in, which the model keeps.  "
        "[default: they are refused]",
    ),
)


def data_options(command: F) -> F:
    """Give a command the options of tables of data."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given_data_options(values: dict[str, Any], *specs: str | None) -> dict[str, Any]:
    """Take the options of tables out of a command's parameters; return the given ones.

    Parameters
    ----------
    values : dict
        Parameters of the command; those of tables are taken out.
    *specs : str or None
        The data that the command names.

    Raises
    ------
    click.UsageError
        Options are given, and none of the data are a table.
    """
    from arena_ckpt.data.loaders import is_table

    options = {name: values.pop(name) for name in TABLE}
    options["label_names"] = options["label_names"] or None
    given = {name: value for name, value in options.items() if value is not None}
    if given and not any(is_table(spec) for spec in specs if spec is not None):
        names = ", ".join(_option_of(name, value) for name, value in given.items())
        raise click.UsageError(
            f"{names}: a table is read so, and none is named; give --data with a "
            ".csv, .tsv, .txt, .dat or .data, or leave the option out",
            click.get_current_context(),
        )
    return given


def load_data(spec: str, options: Mapping[str, Any]) -> Dataset:
    """Load data; options of tables are for those that are tables."""
    from arena_ckpt.data.loaders import is_table, open_data

    return open_data(spec, options if is_table(spec) else None)


def split_option(command: F) -> F:
    """Give a command the option that says how samples are put aside."""
    return click.option(
        "--split",
        type=click.Choice(["random", "stratified", "last"]),
        help="Which samples --validation-split puts aside: any, the same share of each "
        "class, or the last ones, as for a series in time.  [default: random]",
    )(command)


def counts_for(model: Model, data: Dataset) -> dict[str, int] | None:
    """Return the samples of each class of data, where a model takes them for classes.

    Whole numbers that an mse predicts are values.
    """
    has_classes = model.layers[-1].type_name in ("cross_softmax", "cross_sigmoid")
    return data.class_counts if data.classes or has_classes else None


def classes_text(
    names: Sequence[str] | None, counts: dict[str, int], *, for_validation: bool
) -> str:
    """Return a line with classes and their samples.

    Parameters
    ----------
    names : sequence of str or None
        Names of the classes, where `counts` goes by them and not by numbers.
    counts : dict from str to int
    for_validation : bool
        Whether they are of the data for validation, below those of the training.
    """
    from arena_ckpt.common.wording import listed, shown
    from arena_ckpt.data.class_counts import extent_text

    n = len(counts)
    head = f"{n:,} class{'es' if n > 1 else ''}"
    if names is None and n > _MOST_NUMBERS:
        text = f"{head} of {extent_text(counts)} samples"
        return f"for validation: {text}" if for_validation else text
    parts = [
        f"{'' if names is None else f'{number} '}{shown(name)} ({count:,})"
        for number, (name, count) in enumerate(counts.items())
    ]
    if for_validation:
        return f"for validation: {listed(parts)}"
    return f"{head} with their samples: {listed(parts)}"


def gaps_text(data: Dataset) -> str | None:
    """Return a line about the cells of data that had no value, if there were any."""
    if data.gaps is None or not data.gaps.cells.any():
        return None
    n = int(data.gaps.cells.sum())
    cells = "cell without a value is" if n == 1 else "cells without a value are"
    return (
        f"{n:,} {cells} filled in with the mean of the column in the training data, "
        "which the model keeps"
    )


def _option_of(name: str, value: object) -> str:
    flag = f"--{name.replace('_', '-')}"
    return f"--no-{name}" if value is False else flag
