"""Prints fronts of plans, and chosen checkpoint blocks, on standard output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from arena_ckpt.checkpoint.front import FrontPoint
from arena_ckpt.checkpoint.pareto_front import ParetoFront
from arena_ckpt.cli.failures import OK, print_json
from arena_ckpt.cli.line_breaks import filled, fitted
from arena_ckpt.cli.models import without_blocks
from arena_ckpt.cli.output import (
    print_sentences,
    print_table,
    require_writable,
    warnings_document,
)
from arena_ckpt.common.units import format_bytes
from arena_ckpt.common.wording import quoted
from arena_ckpt.definition.ini_writer import BLOCK
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.graph.hints import Hint
from arena_ckpt.model import Model
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.report.drawing_formats import FORMATS
from arena_ckpt.report.front_facts import FrontFact, fastest_within, front_facts
from arena_ckpt.report.front_picture import drawing_of_front
from arena_ckpt.report.pillow import require_pillow
from arena_ckpt.report.tables import front_table


def refuse_with_pareto(
    ctx: click.Context, request: Mapping[str, Any], **of_one_plan: bool
) -> None:
    """Refuse options that mean a single plan beside --pareto.

    Parameters
    ----------
    ctx : click.Context
    request : mapping
        What was asked for.
    **of_one_plan
        For each other parameter that means a single plan, whether it was given.
    """
    asked = {"max_overhead": "max_overhead" in request}
    for name, is_given in (asked | of_one_plan).items():
        if is_given:
            option = "-o" if name == "output" else f"--{name.replace('_', '-')}"
            raise click.UsageError(
                f"--pareto shows the plans for all budgets, so {option} means "
                "nothing beside it; leave one out",
                ctx,
            )


def print_front(
    name: str,
    model: Model,
    request: Mapping[str, Any],
    picture: Path | None,
    hints: Sequence[Hint],
    *,
    debug: bool,
    as_json: bool,
) -> int:
    """Print all plans that no other beats, and draw them if a file is given."""
    if picture is not None:
        require_picture(picture)
    points, budget_bytes = front_of(model, request, debug=debug)
    facts = front_facts(points)
    fastest = fastest_within(facts, budget_bytes)
    if picture is not None:
        _write_picture(picture, points, name, budget_bytes)
    if as_json:
        rows = [_row(p, f) for p, f in zip(points, facts, strict=True)]
        document: dict[str, Any] = {"command": "plan", "model": name, "pareto": rows}
        document |= {"budget_bytes": budget_bytes, "fastest_within_budget": fastest}
        print_json(document | {"warnings": warnings_document(hints)})
        return OK
    click.echo(f"{fitted(f'{name}: {_count(points)}')}\n")
    print_table(front_table(points, budget_bytes))
    if budget_bytes is not None and fastest is not None:
        within = f"The fastest within {format_bytes(budget_bytes)}"
        print_sentences([f"{within}: {facts[fastest].numbers}."])
        click.echo()
    if len(points) == 1:
        limit = "Recomputing cannot make the arena smaller: run the command without "
        click.echo(f"{filled(f'{limit}--pareto to see what limits it.')}\n")
    if picture is not None:
        click.echo(f"the front is drawn in {picture}")
    return OK


def _count(points: Sequence[FrontPoint]) -> str:
    if len(points) == 1:
        return "one plan is the smallest and the fastest"
    return f"{len(points)} plans that none other beats in bytes and time"


def front_of(
    model: Model, request: Mapping[str, Any], *, debug: bool = False
) -> tuple[ParetoFront, int | None]:
    """Return the front of a model, and the budget in bytes if one is asked for.

    Raises
    ------
    BudgetError
        No plan is within the budget.
    """
    if "budget" not in request:
        return model.pareto(debug=debug, **request), None
    return ModelPlans(model).pareto_around(debug=debug, **request)


def require_picture(path: Path) -> None:
    """Refuse, before the work, a picture that could not be written after it.

    Raises
    ------
    InvalidParameterError
        A format that there is not, or Pillow is missing.
    UnwritableFileError
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InvalidParameterError(
            f"{path} ends with {quoted(suffix) if suffix else 'no suffix'}, which says "
            f"no format; a front is drawn as {', '.join(FORMATS)}",
            path=str(path),
        )
    require_writable(path)
    if suffix == ".png":
        require_pillow()


def _write_picture(
    path: Path, points: ParetoFront, name: str, budget_bytes: int | None
) -> None:
    drawing = drawing_of_front(points, name, budget_bytes)
    content = FORMATS[path.suffix.lower()](drawing)
    write_whole(path, lambda file: file.write(content))


def _row(point: FrontPoint, fact: FrontFact) -> dict[str, Any]:
    return {
        "label": point.label,
        "arena_bytes": point.arena_bytes,
        "overhead": point.overhead,
        "reason": fact.reason,
        "live_lower_bound_bytes": point.plan.live_lower_bound_bytes,
        "micro_batches": point.plan.micro_batches,
        "ways": list(point.plan.ways),
        "blocks": [{"name": b.name, "layers": list(b.layers)} for b in point.blocks],
        "reruns": [
            {"before": r.before, "layer": r.layer, "tensors": list(r.tensors)}
            for r in point.reruns
            if r.tensors
        ],
    }


def print_blocks(model: Model, plan: MemoryPlan) -> None:
    """Print the blocks of a plan as Python and as INI, if blocks can express it."""
    if not plan.blocks:
        click.echo(
            "nothing is recomputed, so there are no blocks"
            if not any(t.life for t in plan.tensors)
            else "named checkpoint blocks cannot say this choice; --levels 1 chooses "
            "among those that can"
        )
        return
    named = _short_names(model, plan)
    click.echo("# Python")
    for block, names in zip(plan.blocks, named, strict=True):
        click.echo(f"model.add_checkpoint_block({list(names)!r}, name={block.name!r})")
    click.echo("\n# INI")
    for block, names in zip(plan.blocks, named, strict=True):
        click.echo(f"[{BLOCK} {block.name}]\nlayers = {', '.join(names)}\n")


def _short_names(model: Model, plan: MemoryPlan) -> list[tuple[str, ...]]:
    """Return the layers of each block; runs of parts of one layer are shortened."""
    own = {layer.name for layer in model.layers}
    whole = [block.layers for block in plan.blocks]
    short = [tuple(name for name in names if name in own) for names in whole]
    for choice in (short, whole):
        copy = without_blocks(model)
        if any(len(names) < 2 for names in choice):
            continue
        for block, names in zip(plan.blocks, choice, strict=True):
            copy.add_checkpoint_block(names, name=block.name)
        if copy.compile().blocks == plan.blocks:
            return choice
    return whole
