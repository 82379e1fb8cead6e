"""Prints plans on standard output, and refuses files that cannot be written."""

from __future__ import annotations

import os
import stat
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from arena_ckpt.boards import BoardFit
from arena_ckpt.cli.data_options import classes_text, counts_for, gaps_text
from arena_ckpt.cli.line_breaks import TEXT_COLUMNS, filled, fitted
from arena_ckpt.common.arithmetics import PORTABLE
from arena_ckpt.common.units import format_bytes
from arena_ckpt.data.dataset import Dataset
from arena_ckpt.data.gaps import means_to_arrays
from arena_ckpt.errors import UnwritableFileError
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.graph.features import input_shapes
from arena_ckpt.graph.hints import Hint
from arena_ckpt.model import Model
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.report.explain import explain
from arena_ckpt.report.summary import plan_summary, recomputed_layers
from arena_ckpt.report.training_cost import training_cost, training_cost_sentence

_PIPE_COLUMNS = 120  # a file has no width; tables in it should not be folded


def describe_plan(plan: MemoryPlan, model: Model, *, for_board: bool = False) -> str:
    """Return one line that describes a plan.

    Parameters
    ----------
    plan : MemoryPlan
    model : Model
        What it is a plan of.
    for_board : bool
        Whether arithmetic is portable because of a board alone.
    """
    parts = [f"{len(plan.layers)} layers", f"batch size {plan.batch_size}"]
    if plan.is_inference:
        parts.append("inference alone")
    if model.get_property("arithmetic") == PORTABLE:
        why = ", as --board asks for; --arithmetic fast takes BLAS" if for_board else ""
        parts.append(f"portable arithmetic{why}")
    if plan.micro_batches > 1:
        parts.append(f"{plan.micro_batches} micro-batches")
    parts += [
        f"checkpoint block {block.name} ({' '.join(block.layers)})"
        for block in plan.blocks
    ]
    n_reruns = len(recomputed_layers(plan))
    if n_reruns and not plan.blocks:
        parts.append(f"{n_reruns} forward passes of layers run again, as chosen")
    parts += [way for way in plan.ways if way.startswith("tiled_")]
    if plan.canary_bytes:
        parts.append(f"debug: {plan.canary_bytes} B of canary behind each buffer")
    return "; ".join(parts)


def memory_line(plan: MemoryPlan) -> str:
    """Return one line on the bytes that a plan takes."""
    line = f"arena {format_bytes(plan.arena_bytes)}"
    if plan.constant_bytes:
        line += (
            f"; constants, which no step writes, {format_bytes(plan.constant_bytes)}"
        )
    return line


def print_training(
    name: str,
    model: Model,
    training: Dataset,
    validation: Dataset | None,
    plan: MemoryPlan,
    *,
    for_board: bool = False,
) -> None:
    """Print what is about to be trained; see `describe_plan`."""
    click.echo(fitted(f"{name}: {describe_plan(plan, model, for_board=for_board)}"))
    beside = (
        "no validation data"
        if validation is None
        else f"{validation.n_samples:,} for validation"
    )
    line = (
        f"{training.n_samples:,} samples of {training.name}, {beside}; optimizer "
        f"{model.optimizer.type_name}, seed {model.seed}"
    )
    click.echo(fitted(line))
    for data in (training, validation):
        if data is not None and (counts := counts_for(model, data)) is not None:
            is_second = data is validation
            click.echo(
                filled(classes_text(data.classes, counts, for_validation=is_second))
            )
    if (gaps := gaps_text(training)) is not None:
        click.echo(filled(gaps))
    click.echo()


def print_explanation(plan: MemoryPlan, without: MemoryPlan | None) -> None:
    """Print the sentences on what limits the plan."""
    for sentence in explain(plan, without):
        click.echo(filled(sentence))
    click.echo()


def print_training_cost(plan: MemoryPlan, other: MemoryPlan) -> None:
    """Print what training costs above inference.

    Parameters
    ----------
    plan, other : MemoryPlan
        One for each mode, in either order.
    """
    sentence = training_cost_sentence(*_by_mode(plan, other))
    click.echo(f"{filled(sentence)}\n")


def training_cost_document(
    plan: MemoryPlan, other: MemoryPlan | None
) -> dict[str, int] | None:
    """Return what training costs above inference as plain values, if it is known."""
    if other is None:
        return None
    return training_cost(*_by_mode(plan, other))


def _by_mode(plan: MemoryPlan, other: MemoryPlan) -> tuple[MemoryPlan, MemoryPlan]:
    """Return the plan of training, and that of inference."""
    return (other, plan) if plan.is_inference else (plan, other)


def print_board(fit: BoardFit) -> None:
    """Print whether a plan fits on a board, and what would fit."""
    print_sentences(fit.sentences())
    click.echo()


def print_sentences(sentences: Sequence[str]) -> None:
    """Print sentences, each from a line of its own."""
    for sentence in sentences:
        click.echo(filled(sentence))


def print_table(table: Table) -> None:
    """Print a table, in full width if standard output is no terminal.

    In a terminal of less than 80 columns that are too few for the table each row is a
    line of text, which is broken between words.
    """
    if sys.stdout is None:  # it was closed
        return
    is_free = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(width=_PIPE_COLUMNS if is_free else None)
    width = console.width
    wanted = Measurement.get(console, console.options.update(width=10**6), table)
    if width >= min(wanted.maximum, TEXT_COLUMNS):
        console.print(table)
    else:
        click.echo("\n".join(_rows_as_text(table, width)))
    click.echo()


def _rows_as_text(table: Table, width: int) -> list[str]:
    """Return the lines of a table as ``first cell: heading cell; heading cell``."""
    heads = [" ".join(str(column.header).split()) for column in table.columns]
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    lines = [str(table.title)] if table.title else []
    for first, *rest in zip(*columns, strict=True):
        said = [
            f"{head} {cell}".strip()
            for head, cell in zip(heads[1:], rest, strict=True)
            if cell
        ]
        text = f"{first}: {'; '.join(said)}" if said else first
        lines += textwrap.wrap(
            text, width, subsequent_indent="  ", break_on_hyphens=False
        )
    return lines


def plan_document(
    plan: MemoryPlan, without: MemoryPlan | None, hints: Sequence[Hint]
) -> dict[str, Any]:
    """Return the part of a JSON document that describes the plan."""
    return {
        "warnings": warnings_document(hints),
        "plan": plan_summary(plan),
        "without_blocks": None if without is None else plan_summary(without),
        "saved_bytes": None
        if without is None
        else without.arena_bytes - plan.arena_bytes,
        "explanation": explain(plan, without),
    }


def warnings_document(hints: Sequence[Hint]) -> list[dict[str, Any]]:
    """Return the part of a JSON document that lists warnings."""
    return [
        {"kind": hint.kind, "layers": list(hint.layers), "message": hint.message}
        for hint in hints
    ]


def require_writable(path: Path) -> None:
    """Refuse, before the work, a file that could not be written after it."""
    folder = path.parent
    if not os.path.isdir(folder):
        raise UnwritableFileError(
            f"{path} cannot be written: there is no folder {folder}; make it first",
            path=str(path),
        )
    fault = ""
    try:
        facts = os.stat(path)
        fault = "" if stat.S_ISREG(facts.st_mode) else "it is no regular file"
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # too long, a circle of links
        fault = getattr(error, "strerror", None) or str(error)
    if not os.access(folder, os.W_OK):
        fault = f"nothing may be written into {folder}"
    if fault:
        raise UnwritableFileError(
            f"{path} cannot be written ({fault}); choose another place",
            path=str(path),
        )


def write_weights(path: Path, model: Model) -> None:
    """Write an .npz with an array for each weight, under its name (``fc1:weight``).

    Statistics of the inputs, and means for cells without a value, are among them, as
    the weights are of no use without.
    """
    arrays: dict[str, Any] = dict(model.weights())
    first = next(iter(input_shapes(model.compile())))  # tables are for one input
    arrays |= means_to_arrays(first, model.column_means)
    if model.standardization is not None:
        arrays |= model.standardization.to_arrays()
    write_whole(path, lambda file: np.savez(file, **arrays))
