"""The work of `arena-ckpt report`: shows a plan as a page, pictures or letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from arena_ckpt.checkpoint.front import FrontPoint
from arena_ckpt.cli.batch_sizes import (
    choice_document,
    choice_lines,
    set_batch_size,
)
from arena_ckpt.cli.failures import OK, print_json
from arena_ckpt.cli.fronts import front_of
from arena_ckpt.cli.models import load_model, plan_to_compare, without_blocks
from arena_ckpt.cli.options import set_given
from arena_ckpt.cli.output import require_writable
from arena_ckpt.common.units import format_bytes
from arena_ckpt.errors import DataError, InvalidParameterError, PlanFormatError
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.files.source import read_whole
from arena_ckpt.model import Model
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.report.ascii_map import plan_ascii
from arena_ckpt.report.front_facts import fastest_within, front_facts
from arena_ckpt.report.html import plan_html
from arena_ckpt.report.picture import plan_png, plan_svg
from arena_ckpt.report.pillow import require_pillow

LARGEST_PLAN_BYTES = 2**28
"""Maximum number of bytes of a file with a plan."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The forms in which a report is wanted.

    Attributes
    ----------
    html, png, svg : Path or None
    ascii : bool
        Print the map in letters.
    as_json : bool
        Print a document instead of lines.
    """

    html: Path | None
    png: Path | None
    svg: Path | None
    ascii: bool
    as_json: bool

    def places(self) -> list[Path]:
        """Return the files to write."""
        return [path for path in (self.html, self.png, self.svg) if path is not None]


def write_report(
    spec: str,
    wanted: Wanted,
    *,
    other: str | None,
    compare_blocks: bool,
    pareto: bool,
    measured: bool,
    arithmetic: str | None,
    batch_size: int | str | None,
    no_blocks: bool,
    request: Mapping[str, Any],
) -> int:
    """Plan a model, or read a plan, and write it in the wanted forms.

    Parameters
    ----------
    spec : str
        A model, or ``PLAN.json``.
    wanted : Wanted
    other : str or None
        A model or ``PLAN.json`` to draw before it.
    compare_blocks : bool
        Draw the same model with nothing recomputed before it.
    pareto : bool
        Add all plans that none other beats in bytes and time.
    measured : bool
        Run the steps of the plans that models make, for the time axis.
    arithmetic : str or None
        Arithmetic of the models, instead of their own.
    batch_size : int, "auto" or None
        Batch size of the models, instead of their own; auto is the largest that fits.
    no_blocks : bool
        Leave out the checkpoint blocks.
    request : mapping
        Arguments of `Model.make_plan` that choose a plan.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    InvalidParameterError
        There is nothing to compare, a file cannot be written, Pillow is missing, or the
        steps of a finished plan are to be measured.
    PlanFormatError
        A plan is damaged or of another version.
    """
    _require_places(wanted)
    model = _load_model(spec, no_blocks, arithmetic)
    choice = None
    front: Sequence[FrontPoint] = ()
    budget_bytes = None
    if model is None:
        _refuse_for_finished(spec, arithmetic, batch_size, no_blocks, request, pareto)
        if measured:
            raise InvalidParameterError(
                f"{spec} is a finished plan, whose steps cannot be run; name the model "
                "instead, or leave out --measured",
                path=spec,
            )
        plan = _read_plan(Path(spec))
    else:
        choice = set_batch_size(model, batch_size, request)
        if pareto:
            front, budget_bytes = front_of(model, request)
        plan = _chosen_plan(model, request, front, budget_bytes)
    before, before_title = None, ""
    made_before: Model | None = None
    if compare_blocks:
        before = _without_recomputing(spec, model, plan)
        made_before = None if model is None else without_blocks(model)
        before_title = "nothing recomputed"
    elif other is not None:
        other_model = _load_model(other, no_blocks, arithmetic)
        if other_model is None:
            before = _read_plan(Path(other))
        else:
            same_size = choice.batch_size if choice else batch_size
            set_batch_size(other_model, same_size, request)
            before = other_model.make_plan()
        made_before = other_model
        before_title = other
    if wanted.html is not None:
        page = plan_html(
            plan,
            spec,
            before=before,
            before_title=before_title,
            same_model=compare_blocks,
            front=front,
            budget=budget_bytes,
            step_seconds=_seconds(model, plan) if measured else None,
            before_step_seconds=_seconds(made_before, before) if measured else None,
        )
        _write(wanted.html, page.encode("utf-8", "replace"))
    if wanted.png is not None:
        _write(wanted.png, plan_png(plan, spec))
    if wanted.svg is not None:
        _write(wanted.svg, plan_svg(plan, spec).encode("utf-8", "replace"))
    if wanted.as_json:
        document = _document(spec, other, plan, before, wanted)
        print_json(document | choice_document(choice))
        return OK
    for line in choice_lines(choice) if choice else ():
        click.echo(line)
    if wanted.ascii:
        click.echo(plan_ascii(plan), nl=False)
    for path in wanted.places():
        what = "page" if path == wanted.html else "picture"
        sizes = f"arena {format_bytes(plan.arena_bytes)}"
        if plan.constant_bytes:
            sizes += f", constants {format_bytes(plan.constant_bytes)}"
        click.echo(f"{spec}: {sizes}; the {what} is in {path}")
    return OK


def _seconds(model: Model | None, plan: MemoryPlan | None) -> list[float] | None:
    """Return how long each step takes, or None for a plan that no model here made."""
    return None if model is None or plan is None else model.step_seconds(plan)


def _chosen_plan(
    model: Model,
    request: Mapping[str, Any],
    front: Sequence[FrontPoint],
    budget_bytes: int | None,
) -> MemoryPlan:
    """Return the plan of a request; of a front with a budget the fastest within it."""
    fastest = fastest_within(front_facts(front), budget_bytes)
    return model.make_plan(**request) if fastest is None else front[fastest].plan


def _without_recomputing(
    spec: str, model: Model | None, plan: MemoryPlan
) -> MemoryPlan:
    """Return the plan of a model with nothing recomputed, or say why there is none."""
    before = None if model is None else plan_to_compare(model, plan, debug=False)
    if before is None:
        why = "is a finished plan" if model is None else "recomputes nothing"
        raise InvalidParameterError(
            f"{spec} {why}, so there is nothing that --compare-blocks could leave "
            "out; name a model with checkpoint blocks or give --budget, or say "
            "what to compare with: --compare OTHER",
            model=spec,
        )
    return before


def _require_places(wanted: Wanted) -> None:
    """Refuse, before the work, files that could not be written after it."""
    places = wanted.places()
    for path in places:
        require_writable(path)
        if places.count(path) > 1:
            raise InvalidParameterError(
                f"{path} is named twice; give each format a file of its own",
                path=str(path),
            )
    if wanted.png is not None:
        require_pillow()


def _load_model(spec: str, no_blocks: bool, arithmetic: str | None) -> Model | None:
    """Return the model that `spec` names, or None if it names a finished plan."""
    if Path(spec).suffix.lower() == ".json":
        return None
    model = load_model(spec).model
    if no_blocks:
        model = without_blocks(model)
    set_given(model, arithmetic=arithmetic)
    return model


def _refuse_for_finished(
    spec: str,
    arithmetic: str | None,
    batch_size: int | str | None,
    no_blocks: bool,
    request: Mapping[str, Any],
    pareto: bool,
) -> None:
    """Refuse options that a finished plan cannot follow any more."""
    options = ("inference" if name == "mode" else name for name in request)
    given = [f"--{name.replace('_', '-')}" for name in options]
    given += ["--arithmetic"] if arithmetic is not None else []
    given += ["--batch-size"] if batch_size is not None else []
    given += ["--no-blocks"] if no_blocks else []
    given += ["--pareto"] if pareto else []
    if given:
        raise InvalidParameterError(
            f"{spec} is a finished plan, which {', '.join(given)} cannot change; name "
            "the model instead",
            path=spec,
        )


def _read_plan(path: Path) -> MemoryPlan:
    try:
        text = read_whole(path, LARGEST_PLAN_BYTES).decode()
    except (DataError, UnicodeDecodeError) as error:
        reason = str(error) if isinstance(error, DataError) else "it is no UTF-8 text"
        raise InvalidParameterError(
            f"{path} cannot be read: {reason}; 'arena-ckpt plan MODEL -o PLAN.json' "
            "writes a plan",
            path=str(path),
        ) from error
    try:
        return MemoryPlan.from_json(text)
    except PlanFormatError as error:
        raise PlanFormatError(f"{path}: {error}", **vars(error)) from error


def _write(path: Path, content: bytes) -> None:
    write_whole(path, lambda file: file.write(content))


def _document(
    spec: str,
    other: str | None,
    plan: MemoryPlan,
    before: MemoryPlan | None,
    wanted: Wanted,
) -> dict[str, Any]:
    def name(path: Path | None) -> str | None:
        return None if path is None else str(path)

    return {
        "command": "report",
        "model": spec,
        "compared_with": other,
        "arena_bytes": plan.arena_bytes,
        "constant_bytes": plan.constant_bytes,
        "before_arena_bytes": None if before is None else before.arena_bytes,
        "html_file": name(wanted.html),
        "png_file": name(wanted.png),
        "svg_file": name(wanted.svg),
        "map": plan_ascii(plan).splitlines() if wanted.ascii else None,
    }
