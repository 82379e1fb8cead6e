"""Describes the differences of two golden plans: first totals, then each tensor."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator

from arena_ckpt.testing.golden_text import PHASES, GoldenPlan, Row

MOST_LINES = 40
"""Maximum number of lines on tensors, and on layers; a layer more shifts everything
after it."""

ORDER_FIELDS = (
    "type",
    "forward",
    "recompute",
    "calc_gradient",
    "calc_derivative",
    "apply_gradient",
)


def differences(old: GoldenPlan, new: GoldenPlan) -> list[str]:
    """Return a line for each meaningful difference; the list is empty if there is none.

    ``"arena 9,441,280 → 9,437,184 B (−0.04 %)"``, ``"fc2: recompute 23 → 25"``,
    ``"fc2:out0: live 3..26 → 3..28, calc_gradient 26r → 28r"``. Where the plans come
    from does not count.
    """
    lines = list(_facts(old, new))
    lines += _shortened(list(_named("block", old.blocks, new.blocks, _block)), "blocks")
    lines += _shortened(list(_named("layer", old.orders, new.orders, _order)), "layers")
    tensors = list(_named("", old.tensors, new.tensors, _tensor))
    return lines + _shortened(tensors, "tensors")


def _shortened(lines: list[str], what: str) -> list[str]:
    more = len(lines) - MOST_LINES
    if more <= 0:
        return lines
    return [*lines[:MOST_LINES], f"… and {more:,} more {what}"]


def _facts(old: GoldenPlan, new: GoldenPlan) -> Iterator[str]:
    for key in {**new.facts, **old.facts}:
        before, value = old.facts.get(key, "none"), new.facts.get(key, "none")
        if before == value or key in ("model", "sizes", "variant"):
            continue
        are_numbers = all(re.fullmatch(r"[0-9]{1,19}", n) for n in (before, value))
        if key.endswith("_bytes") and are_numbers:
            name = key.removesuffix("_bytes").replace("_", " ")
            yield f"{name} {change_of_bytes(int(before), int(value))}"
        else:
            yield f"{key.replace('_', ' ')} {before} → {value}"


def change_of_bytes(before: int, after: int) -> str:
    """Return a change as text, for example ``"9,441,280 → 9,437,184 B (−0.04 %)"``."""
    text = f"{before:,} → {after:,} B"
    if not before:
        return text
    percent = f"{100 * (after - before) / before:+.2f}".replace("-", "−")
    return f"{text} ({percent} %)"


def _named(
    what: str,
    old: dict[str, Row],
    new: dict[str, Row],
    tell: Callable[[Row, Row], Iterator[str]],
) -> Iterator[str]:
    prefix = f"{what} " if what else ""
    for name, row in old.items():
        if name not in new:
            yield f"{prefix}{name}: gone"
        elif new[name] != row:
            parts = ", ".join(tell(row, new[name]))
            yield f"{name if what == 'layer' else prefix + name}: {parts}"
    for name, row in new.items():
        if name not in old:
            yield f"{prefix}{name}: new, {' '.join(row)}"
    if list(old) != list(new) and sorted(old) == sorted(new):
        yield f"{what or 'tensor'}s come in another order"


def _block(old: Row, new: Row) -> Iterator[str]:
    yield f"{' '.join(old)} → {' '.join(new)}"


def _order(old: Row, new: Row) -> Iterator[str]:
    for name, before, after in zip(ORDER_FIELDS, old, new, strict=True):
        if before != after:
            yield f"{name} {before} → {after}"


def _tensor(old: Row, new: Row) -> Iterator[str]:
    for name, before, after in zip(("kind", "dtype", "shape"), old, new, strict=False):
        if before != after:
            yield f"{name} {before} → {after}"
    was, now = (dict(cell.split("=", 1) for cell in row[3:]) for row in (old, new))
    if was["size"] != now["size"]:
        yield f"size {change_of_bytes(int(was['size']), int(now['size']))}"
    if was["offset"] != now["offset"]:
        yield f"offset {_place(was['offset'])} → {_place(now['offset'])}"
    if was["live"] != now["live"]:
        yield f"live {was['live']} → {now['live']}"
    used, uses = _by_phase(was["uses"]), _by_phase(now["uses"])
    for letter, phase in PHASES.items():
        if used[letter] != uses[letter]:
            yield f"{phase} {_uses(used[letter])} → {_uses(uses[letter])}"


def _place(offset: str) -> str:
    """Return an offset with commas, and its memory unless that is the one arena."""
    memory, at, number = offset.rpartition("@")
    return f"{memory}{at}{int(number):,}"


def _uses(steps: list[str]) -> str:
    return " ".join(steps) or "none"


def _by_phase(uses: str) -> dict[str, list[str]]:
    """Return accesses by phase: ``{"F": ["3w", "4r"]}`` for ``"F3w,F4r"``."""
    found: dict[str, list[str]] = defaultdict(list)
    for letter, use in re.findall(r"([A-Z])(\d+[rwu])", uses):
        found[letter].append(use)
    return found
