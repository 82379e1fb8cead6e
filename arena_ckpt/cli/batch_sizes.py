"""Sets the batch size that a command is given, or finds the largest that fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from arena_ckpt.checkpoint.batch_size import BatchSizeChoice, TriedBatchSize
from arena_ckpt.cli.options import AUTO
from arena_ckpt.common.units import format_bytes
from arena_ckpt.model import Model
from arena_ckpt.planning.settings import TRAIN


def set_batch_size(
    model: Model,
    batch_size: int | str | None,
    request: Mapping[str, Any],
    *,
    most: int | None = None,
    budget_bytes: int | None = None,
    debug: bool = False,
) -> BatchSizeChoice | None:
    """Set the batch size of a model.

    Parameters
    ----------
    model : Model
    batch_size : int, "auto" or None
        None leaves it as it is.
    request : mapping
        Arguments of `Model.make_plan` that choose a plan.
    most : int, optional
        Largest batch size to try.
    budget_bytes : int, optional
        Budget where the request has none.
    debug : bool
        With room for canaries.

    Returns
    -------
    BatchSizeChoice or None
        What the search for the largest found.
    """
    if batch_size is None:
        return None
    if batch_size != AUTO:
        model.set_property(batch_size=batch_size)
        return None
    asked, context = dict(request), click.get_current_context()
    if asked.pop("mode", TRAIN) != TRAIN:
        raise click.UsageError(
            "--batch-size auto takes the most samples that can be trained; leave out "
            "--inference, or give a number: predict takes any number of samples",
            context,
        )
    budget = asked.pop("budget", budget_bytes)
    if budget is None:
        raise click.UsageError(
            "--batch-size auto takes the most samples that fit; say in what: add "
            "--budget, or --board to 'plan'",
            context,
        )
    if asked.pop("measure", False):
        raise click.UsageError(
            "--batch-size auto plans many sizes, and --measure would time each; leave "
            "one out",
            context,
        )
    choice = model.choose_batch_size(budget=budget, most=most, debug=debug, **asked)
    model.set_property(batch_size=choice.batch_size)
    return choice


def choice_lines(choice: BatchSizeChoice) -> list[str]:
    """Return lines on a batch size that was chosen, and on smaller that do not fit."""
    budget = format_bytes(choice.budget_bytes)
    larger = (
        "and no larger one"
        if choice.is_exhaustive
        else "the largest found; not every larger one was tried"
    )
    lines = [
        f"batch size {choice.batch_size} fits in {budget}, {larger} "
        f"({len(choice.tried)} sizes planned)"
    ]
    smaller = choice.smaller_that_need_more
    if smaller:
        needs = f"{_needs(smaller)}; {choice.batch_size} needs "
        lines.append(
            f"smaller batches can need more bytes: {needs}"
            f"{format_bytes(choice.point.arena_bytes)}"
        )
    return lines


def _needs(tried: Sequence[TriedBatchSize]) -> str:
    return ", ".join(
        f"{one.batch_size} needs {format_bytes(one.least_bytes)}" for one in tried
    )


def choice_document(choice: BatchSizeChoice | None) -> dict[str, Any]:
    """Return the part of a JSON document on a batch size, if one was chosen."""
    if choice is None:
        return {}
    return {
        "batch_size_choice": {
            "batch_size": choice.batch_size,
            "budget_bytes": choice.budget_bytes,
            "is_exhaustive": choice.is_exhaustive,
            "tried": [
                {
                    "batch_size": one.batch_size,
                    "least_bytes": one.least_bytes,
                    "fits": one.fits,
                }
                for one in choice.tried
            ],
        }
    }
