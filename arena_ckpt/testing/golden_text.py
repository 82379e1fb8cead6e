"""Golden plans as text: one fact per line, in a deterministic order.

A file has a first line with its version, facts as ``key: value``, sections of lines,
and a checksum over all that stands above it. The fact ``written_by`` says which version
of the package wrote it and is never a difference. Tensors are sorted by name and live
range, so that a diff of two files shows tensors and not places in a list. Names with
spaces or quotes are written as JSON strings.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from arena_ckpt.common.arguments import require_value
from arena_ckpt.common.memories import ARENA
from arena_ckpt.common.phases import Phase
from arena_ckpt.common.version import __version__
from arena_ckpt.planning.model_facts import PlanPart
from arena_ckpt.planning.plan import Buffer, MemoryPlan, require_plan
from arena_ckpt.report.export.live_range_ids import live_range_id
from arena_ckpt.testing.sealed import reading, seal, unseal

GOLDEN_VERSION = 3

READABLE_VERSIONS = (1, 2, GOLDEN_VERSION)
"""The versions of files that are read.

Version 1 knew one memory, the arena; versions 1 and 2 pin neither what layers read nor
their properties, nor optimizer, arithmetic, mode and ways.
"""

SOURCE = ("model", "sizes", "variant", "request")
"""Facts that say how to make a plan again."""

WRITTEN_BY = "written_by"
INPUTS = "inputs="
"""Beginning of the cell with the layers that a layer reads, the first in its row."""
TITLE = "arena-ckpt golden plan"
PHASE_LETTERS = {
    Phase.FORWARD: "F",
    Phase.RECOMPUTE: "R",
    Phase.CALC_GRADIENT: "G",
    Phase.CALC_DERIVATIVE: "D",
    Phase.CLIP_GRADIENTS: "C",
    Phase.APPLY_GRADIENT: "A",
}
PHASES = {letter: phase.value for phase, letter in PHASE_LETTERS.items()}

_COMMENT = """\
# Written by 'arena-ckpt golden update' or 'pytest --update-golden', not by hand.
# Steps, half-open; bytes. Uses: F forward, R recompute, G calc_gradient,
# D calc_derivative, C clip_gradients, A apply_gradient; r read, w write, u update.
# Layers: what they read, and the properties that are not their defaults.
"""
_FACTS = (
    "batch_size",
    "micro_batches",
    "arena_bytes",
    "live_lower_bound_bytes",
    "local_lower_bound_bytes",
    "naive_bytes",
    "proved_optimal",
    "alignment_bytes",
    "canary_bytes",
    "allocator",
)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"]+')

_STEP = r"\d{1,19}"
_ROWS = {
    "[blocks]": re.compile(r".+", re.DOTALL),
    "[layers]": re.compile(rf"{INPUTS}.*", re.DOTALL),
    "[execution order]": re.compile(
        rf"\S+ {_STEP} {_STEP}(?:\+{_STEP})*"
        rf"(?: {_STEP}){{3}}"
    ),
    "[tensors]": re.compile(
        rf"\S+ \S+ \S+ size={_STEP} offset=(?:.+@)?{_STEP} "
        rf"live={_STEP}\.\.{_STEP} uses=\S*"
    ),
}
"""Pattern of the columns that follow the name in a line of each section."""

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GoldenPlan:
    """The content of a golden file.

    Attributes
    ----------
    facts : dict from str to str
        Totals and bounds, and where the plan comes from.
    blocks, orders : dict from str to tuple of str
        Layers of each block; type and the five orders of each layer.
    layers : dict from str to tuple of str
        Of each layer what it reads, ``"inputs=a,b"``, and its properties,
        ``"unit=64"``; empty where they are not known.
    tensors : dict from str to tuple of str
        For each live range its kind, dtype, shape, size, offset, steps and uses.
    version : int
        Of the file that it was read from.
    """

    facts: dict[str, str] = field(default_factory=dict)
    blocks: dict[str, Row] = field(default_factory=dict)
    orders: dict[str, Row] = field(default_factory=dict)
    tensors: dict[str, Row] = field(default_factory=dict)
    layers: dict[str, Row] = field(default_factory=dict)
    version: int = GOLDEN_VERSION

    @property
    def pins_properties(self) -> bool:
        """Whether properties of layers are pinned."""
        return bool(self.layers)


def golden_plan(plan: MemoryPlan, source: dict[str, str] | None = None) -> GoldenPlan:
    """Return the facts of a plan that are pinned.

    Parameters
    ----------
    plan : MemoryPlan
    source : dict from str to str, optional
        How to make the plan again, for `check` and `update`.
    """
    require_plan(plan)
    is_source = source is None or isinstance(source, dict)
    expected = "a dict from str to str"
    require_value("source", source, fits=is_source, expected=expected)
    facts = dict(source or {})
    facts[WRITTEN_BY] = f"arena_ckpt {__version__}"
    facts |= _training(plan)
    facts |= {"mode": plan.mode, "ways": " ".join(plan.ways) or "none"}
    facts |= {name: str(getattr(plan, name)) for name in _FACTS}
    if plan.constant_bytes:
        facts["constant_bytes"] = str(plan.constant_bytes)
    for ram in plan.rams:
        facts[f"ram {ram.name}"] = str(ram.size_bytes)
    step = plan.peak_step
    facts |= {"n_steps": str(len(plan.steps)), "peak_step": str(step)}
    again: dict[str, list[str]] = defaultdict(list)
    for i, running in enumerate(plan.steps):
        if running and running.phase is Phase.RECOMPUTE:
            again[running.layer].append(str(i))
    orders = {}
    for layer in plan.layers:
        order = plan.execution_order[layer.name]
        recompute = "+".join(again[layer.name]) or "0"
        rest = (order.calc_gradient, order.calc_derivative, order.apply_gradient)
        forward = str(order.forward)
        row = (layer.type_name, forward, recompute, *map(str, rest))
        orders[layer.name] = row
    return GoldenPlan(
        facts,
        {block.name: block.layers for block in plan.blocks},
        orders,
        _tensors(plan),
        _layers(plan),
    )


def _training(plan: MemoryPlan) -> dict[str, str]:
    """Return what a plan states of arithmetic, ways and updates, as far as it does."""
    facts = {"arithmetic": plan.arithmetic} if plan.arithmetic else {}
    if plan.training is None:
        return facts
    training = plan.training
    return facts | {
        "optimizer": _part(training.optimizer),
        "schedule": _part(training.schedule),
        "clip_grad_by_norm": str(training.clip_grad_by_norm or "none"),
    }


def _part(part: PlanPart | None) -> str:
    """Return an optimizer or a schedule as words, ``"sgd learning_rate=0.1"``."""
    if part is None:
        return "none"
    return " ".join(map(_token, (part.type_name, *cells(part.properties))))


def words(text: str) -> list[str]:
    """Return the words of a line; those in quotes are JSON strings."""
    return [_untoken(token) for token in _TOKEN.findall(text)]


def cells(properties: dict[str, str]) -> tuple[str, ...]:
    """Return properties as cells of a row: ``("unit=64",)``."""
    return tuple(f"{name}={value}" for name, value in properties.items())


def _layers(plan: MemoryPlan) -> dict[str, Row]:
    """Return inputs and properties of each layer, if the plan states properties."""
    rows: dict[str, Row] = {}
    for layer in plan.layers:
        if layer.properties is None:
            return {}
        inputs = f"{INPUTS}{','.join(layer.inputs)}"
        rows[layer.name] = (inputs, *cells(layer.properties))
    return rows


def _tensors(plan: MemoryPlan) -> dict[str, Row]:
    uses: dict[int, list[str]] = defaultdict(list)
    for execution in plan.executions:
        letter = PHASE_LETTERS[execution.phase]
        for operand in execution.operands:
            use = f"{letter}{execution.step}{operand.access.value[0]}"
            if use not in uses[operand.tensor]:
                uses[operand.tensor].append(use)
    offsets = {i: _offset(b) for b in plan.buffers for i in b.tensors}
    by_name = sorted(
        range(len(plan.tensors)),
        key=lambda i: (plan.tensors[i].name, plan.tensors[i].life),
    )
    rows: dict[str, Row] = {}
    for index in by_name:
        tensor = plan.tensors[index]
        rows[live_range_id(tensor)] = (
            tensor.kind.value,
            tensor.dtype,
            "x".join(map(str, tensor.shape)) or "scalar",
            f"size={tensor.size_bytes}",
            f"offset={offsets[index]}",
            f"live={tensor.start}..{tensor.stop}",
            f"uses={','.join(uses[index])}",
        )
    return rows


def _offset(buffer: Buffer) -> str:
    """Return an offset, with its memory unless that is the one arena."""
    place = "" if buffer.memory == ARENA else f"{buffer.memory}@"
    return f"{place}{buffer.offset_bytes}"


def golden_text(golden: GoldenPlan) -> str:
    """Return the text of a golden file; `parse_golden` reads it back."""
    return seal(TITLE, GOLDEN_VERSION, _lines(golden))


def _lines(golden: GoldenPlan) -> Iterator[str]:
    yield from _COMMENT.splitlines()
    for key, value in golden.facts.items():
        yield f"{key}: {value}"
    for title, rows in (
        ("layers", golden.layers),
        ("blocks", golden.blocks),
        ("execution order", golden.orders),
        ("tensors", golden.tensors),
    ):
        yield f"[{title}]"
        for name, row in rows.items():
            yield " ".join(map(_token, (name, *row)))


def _token(text: str) -> str:
    plain = re.fullmatch(r'[^\s"]+', text) and text[0] not in "[#"
    return text if plain else json.dumps(text, ensure_ascii=False)


def parse_golden(text: str, where: str) -> GoldenPlan:
    """Read a text of `golden_text`.

    Parameters
    ----------
    text : str
        With whatever line ends.
    where : str
        The file, for messages.

    Raises
    ------
    GoldenFileError
        No golden plan, of another version, truncated, or changed by hand.
    """
    lines = unseal(text, where, TITLE, *READABLE_VERSIONS)
    with reading(where):
        return _parsed(lines, int(text.partition("\n")[0].split()[-1]))


def _parsed(lines: list[str], version: int) -> GoldenPlan:
    golden = GoldenPlan(version=version)
    sections = {
        "[layers]": golden.layers,
        "[blocks]": golden.blocks,
        "[execution order]": golden.orders,
        "[tensors]": golden.tensors,
    }
    title, section = "", None
    for line in lines:
        if line.startswith("#"):
            continue
        if line in sections:
            title, section = line, sections[line]
        elif section is None:
            key, _, value = line.partition(": ")
            golden.facts[key] = value
        else:
            name, *row = words(line)
            if not _ROWS[title].fullmatch(" ".join(row)):
                raise ValueError(f"{line!r} does not belong into {title}")
            section[name] = tuple(row)
    if golden.layers and golden.layers.keys() != golden.orders.keys():
        raise ValueError("[layers] and [execution order] name other layers")
    for key in ("optimizer", "schedule"):
        words(golden.facts.get(key, ""))  # looked at before they are compared
    return golden


def _untoken(token: str) -> str:
    return str(json.loads(token)) if token.startswith('"') else token
