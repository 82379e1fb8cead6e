"""Compares the tensors of two golden plans, by what runs when they are used."""

from __future__ import annotations

import re
from collections.abc import Iterator

from arena_ckpt.testing.diff_steps import Steps
from arena_ckpt.testing.golden_changes import Change, change_of_bytes
from arena_ckpt.testing.golden_text import PHASES, GoldenPlan, Row

TENSOR = ("tensor", "kind", "dtype", "shape", "bytes", "life")
"""What of tensors is told before totals; the rest of a row follows from it."""


def tensor_changes(
    old: GoldenPlan, new: GoldenPlan, steps: tuple[Steps, Steps]
) -> Iterator[Change]:
    """Yield each difference of each tensor.

    Parameters
    ----------
    old, new : GoldenPlan
    steps : tuple of Steps
        Those of either.
    """
    for name, row in old.tensors.items():
        if name not in new.tensors:
            yield Change("tensor", name, " ".join(row), None, f"{name}: gone")
    for name, row in new.tensors.items():
        if name not in old.tensors:
            told = f"{name}: new, {' '.join(row[:3])}"
            yield Change("tensor", name, None, " ".join(row), told)
        else:
            yield from _row(name, old.tensors[name], row, steps)
    shared = [name for name in old.tensors if name in new.tensors]
    if shared != [name for name in new.tensors if name in old.tensors]:
        yield Change("order", "tensors", None, None, "tensors come in another order")


def _row(name: str, old: Row, new: Row, steps: tuple[Steps, Steps]) -> Iterator[Change]:
    for what, before, after in zip(("kind", "dtype", "shape"), old, new, strict=False):
        if before != after:
            text = f"{name}: {what} {before} → {after}"
            yield Change(what, name, before, after, text)
    was, now = (dict(cell.split("=", 1) for cell in row[3:]) for row in (old, new))
    if was["size"] != now["size"]:
        follows = old[1:3] != new[1:3]
        size = change_of_bytes(int(was["size"]), int(now["size"]))
        yield Change(
            "size" if follows else "bytes",
            *(name, was["size"], now["size"], f"{name}: size {size}"),
        )
    if was["offset"] != now["offset"]:
        text = f"{name}: offset {_place(was['offset'])} → {_place(now['offset'])}"
        yield Change("offset", name, was["offset"], now["offset"], text)
    lives = [_life(*pair) for pair in zip((was, now), steps, strict=True)]
    if lives[0] != lives[1]:
        (start, stop), (other_start, other_stop) = lives
        parts = [f"from {start} → {other_start}"] * (start != other_start)
        parts += [f"until {stop} → {other_stop}"] * (stop != other_stop)
        before, after = (f"{first} … {last}" for first, last in lives)
        text = f"{name}: live {', '.join(parts)}"
        yield Change("life", name, before, after, text)
    uses = [_uses(*pair) for pair in zip((was, now), steps, strict=True)]
    if uses[0] != uses[1]:
        told = [
            ", ".join(one for one in many if one not in other) or "none"
            for many, other in (uses, uses[::-1])
        ]
        before, after = (", ".join(many) for many in uses)
        text = f"{name}: used by {told[0]} → {told[1]}"
        yield Change("uses", name, before, after, text)


def _place(offset: str) -> str:
    """Return an offset with commas, and its memory unless that is the one arena."""
    memory, at, number = offset.rpartition("@")
    return f"{memory}{at}{int(number):,}"


def _life(cells: dict[str, str], steps: Steps) -> tuple[str, str]:
    """Return the first and the last operation of a live range."""
    start, stop = map(int, cells["live"].split(".."))
    return (
        "the beginning" if start == 0 else steps.at(start),
        "the end" if stop == steps.n_steps else steps.at(stop - 1),
    )


def _uses(cells: dict[str, str], steps: Steps) -> list[str]:
    """Return the accesses by operation: ``["forward of fc1 (write)"]``."""
    found = []
    for letter, step, access in re.findall(r"([A-Z])(\d+)([rwu])", cells["uses"]):
        operation = steps.operations.get(int(step))
        phase = PHASES[letter]
        at = (
            str(operation)
            if operation is not None and operation.phase == phase
            else f"{phase} at step {step}"
        )
        found.append(f"{at} ({_ACCESS[access]})")
    return found


_ACCESS = {"r": "read", "w": "write", "u": "update"}
