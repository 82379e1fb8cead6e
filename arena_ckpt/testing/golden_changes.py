"""The differences of two golden plans as data: causes, tensors and consequences."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from arena_ckpt.testing.golden_text import INPUTS, GoldenPlan, Row


@dataclass(frozen=True, slots=True)
class Change:
    """One difference of two golden plans.

    Attributes
    ----------
    what : str
        ``"property"``, ``"shape"``, ``"offset"``, … what is another.
    name : str
        Of what: a layer, a block, a tensor, or a fact of the plan.
    before, after : str or None
        None where there is nothing.
    text : str
        The change in words, on one line.
    detail : str
        The name of the property, where it is one; the layer before one that was
        inserted or removed.
    """

    what: str
    name: str
    before: str | None
    after: str | None
    text: str
    detail: str = ""

    def document(self) -> dict[str, str | None]:
        """Return the change as a JSON object."""
        head: dict[str, str | None] = {"what": self.what, "name": self.name}
        if self.detail:
            head["detail"] = self.detail
        return head | {"before": self.before, "after": self.after, "text": self.text}


@dataclass(frozen=True, slots=True)
class GoldenDiff:
    """All differences of two golden plans, the causes first.

    Attributes
    ----------
    causes : tuple of Change
        What is another in the model, and in how it is trained.
    tensors : tuple of Change
        Kinds, shapes, dtypes and live ranges of tensors, and which come and go.
    consequences : tuple of Change
        Totals, recomputes, offsets, sizes and numbers of steps.
    same_model : bool
        Whether both plans state properties, and no cause was found.
    renamed : dict from str to str
        New names of layers by their old ones; other changes have the new names.
    last_step : int
        Of the new plan.
    old_format : int or None
        Format of a file that pins no properties.
    """

    causes: tuple[Change, ...]
    tensors: tuple[Change, ...]
    consequences: tuple[Change, ...]
    same_model: bool
    renamed: Mapping[str, str]
    last_step: int
    old_format: int | None

    def __bool__(self) -> bool:
        """Tell whether there is any difference."""
        return bool(self.causes or self.tensors or self.consequences)

    def document(self) -> dict[str, list[dict[str, str | None]]]:
        """Return all changes as JSON lists; nothing is left out."""
        return {
            "causes": [one.document() for one in self.causes],
            "tensors": [one.document() for one in self.tensors],
            "consequences": [one.document() for one in self.consequences],
        }


def inputs_of(golden: GoldenPlan, layer: str) -> tuple[str, ...]:
    """Return the layers that a layer reads, as far as that is pinned."""
    row = golden.layers.get(layer)
    text = row[0].removeprefix(INPUTS) if row else ""
    return tuple(text.split(",")) if text else ()


def properties_of(row: Row) -> dict[str, str]:
    """Return the properties of a layer from its row."""
    return dict(cell.partition("=")[::2] for cell in row[1:])


def with_new_names(golden: GoldenPlan, renamed: Mapping[str, str]) -> GoldenPlan:
    """Return a plan in which some layers have other names."""

    def layer(name: str) -> str:
        return renamed.get(name, name)

    def tensor(name: str) -> str:
        owner, colon, rest = name.partition(":")
        return layer(owner) + colon + rest

    def row_of_layer(row: Row) -> Row:
        inputs = ",".join(map(layer, row[0].removeprefix(INPUTS).split(",")))
        shared = "shared_from="
        rest = (
            shared + layer(cell.removeprefix(shared))
            if cell.startswith(shared)
            else cell
            for cell in row[1:]
        )
        return (INPUTS + inputs, *rest)

    def keys(rows: Mapping[str, Row], rename: Callable[[str], str]) -> dict[str, Row]:
        return {rename(name): row for name, row in rows.items()}

    return GoldenPlan(
        golden.facts,
        {name: tuple(map(layer, row)) for name, row in golden.blocks.items()},
        keys(golden.orders, layer),
        keys(golden.tensors, tensor),
        {layer(name): row_of_layer(row) for name, row in golden.layers.items()},
        golden.version,
    )


def change_of_bytes(before: int, after: int) -> str:
    """Return a change as text, for example ``"9,441,280 → 9,437,184 B (−0.04 %)"``."""
    text = f"{before:,} → {after:,} B"
    if not before:
        return text
    percent = f"{100 * (after - before) / before:+.2f}".replace("-", "−")
    return f"{text} ({percent} %)"


def is_number(text: str) -> bool:
    """Tell whether a text is a whole number that fits into 64 bits."""
    return re.fullmatch(r"[0-9]{1,19}", text) is not None
