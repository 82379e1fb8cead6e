"""Tells the differences of golden plans in a few lines, the causes first."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

from arena_ckpt.testing.diff_causes import GENERATED, made_by
from arena_ckpt.testing.golden_changes import Change, GoldenDiff

MOST_CAUSES = 12
"""Maximum number of lines on causes; changes of one kind share a line."""
MOST_TENSORS = 6
"""Maximum number of lines on tensors."""
MOST_STEPS = 3
"""Maximum number of lines on steps in another order, and of shifts in one line."""
MOST_NAMES = 3
"""Maximum number of names in a line; as many changes of one kind have a line each."""

CAUSE, CAUSES = "cause:", "causes:"
SAME_MODEL = "the model is the same; the plan differs:"
UNKNOWN = "no cause is pinned; the plan differs:"
TENSORS = "tensors:"
CONSEQUENCES = "consequences:"


def diff_lines(diff: GoldenDiff) -> list[str]:
    """Return the lines that tell a diff; an empty list if there is no difference."""
    if not diff:
        return []
    causes = list(_causes(diff))
    tensors = list(_tensors(diff))
    following = list(_consequences(diff))
    lines = []
    if causes:
        head = CAUSE if len(causes) == 1 else CAUSES
        lines += [head, *_cut(causes, MOST_CAUSES, "causes")]
    else:
        lines.append(SAME_MODEL if diff.same_model else UNKNOWN)
    if tensors:
        lines += [TENSORS, *_cut(tensors, MOST_TENSORS, "kinds of change")]
    if following:
        lines += [CONSEQUENCES, *following]
    return [line if line.endswith(":") else f"  {line}" for line in lines]


def _cut(lines: list[str], most: int, what: str) -> list[str]:
    more = len(lines) - most
    return lines if more <= 1 else [*lines[:most], f"… and {more:,} more {what}"]


def names_in(names: Iterable[str]) -> str:
    """Return the first names with commas, and how many more there are."""
    names = list(names)
    more = len(names) - MOST_NAMES
    if more <= 1:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMES])} and {more:,} more"


def _groups(
    changes: Iterable[Change], key: Callable[[Change], Hashable]
) -> Mapping[Hashable, list[Change]]:
    found: dict[Hashable, list[Change]] = {}
    for one in changes:
        found.setdefault(key(one), []).append(one)
    return found


# -- causes ----------------------------------------------------------------------------


def _causes(diff: GoldenDiff) -> Iterator[str]:
    told = []
    for run in _runs(diff.causes):
        own = [one for one in run if not _is_implied(one, diff)]
        if len(own) <= MOST_NAMES:
            told += own
            continue
        where = f"behind {made_by(own[0].detail)}" if own[0].detail else "as the first"
        names = names_in(one.name for one in own)
        yield f"{len(own)} layers {own[0].what} {where}: {names}"

    def kind(one: Change) -> Hashable:
        if one.what in ("property", "inputs", "type"):
            return (one.what, one.detail, one.before, one.after)
        return (one.what, one.name, one.detail, one.text)

    for many in _groups(told, kind).values():
        first = many[0]
        if len(many) == 1:
            yield first.text
            continue
        rest = first.text.removeprefix(f"{first.name}: ")
        names = names_in(one.name for one in many)
        yield f"{len(many)} layers: {rest} ({names})"


def _runs(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Yield layers that were inserted or removed in one place together."""
    run: list[Change] = []
    for one in changes:
        is_next = run and one.what in ("inserted", "removed")
        if is_next and (one.what, one.detail) == (run[-1].what, run[-1].name):
            run.append(one)
            continue
        if run:
            yield run
        run = [one]
    if run:
        yield run


def _is_implied(one: Change, diff: GoldenDiff) -> bool:
    """Tell whether a change of a part is told with the layer that it is a part of."""
    if one.what not in ("renamed", "inserted", "removed"):
        return False
    if GENERATED in one.name:
        return True
    same = {other.name for other in diff.causes if other.what == one.what}
    return any(
        one.name[:place] in same
        for place, letter in enumerate(one.name)
        if letter == "/"
    )


# -- tensors ---------------------------------------------------------------------------


def _tensors(diff: GoldenDiff) -> Iterator[str]:
    layers = {
        one.name: one.what for one in diff.causes if one.what in ("inserted", "removed")
    }
    by_what = _groups(diff.tensors, lambda one: one.what)
    for what, many in by_what.items():
        if what == "tensor":
            yield from _come_and_gone(many, layers)
        elif what == "shape":
            yield from _shapes(many)
        elif what == "life":
            yield from _each_or_count(many, "live ranges have other ends")
        else:
            for same in _groups(many, lambda one: (one.before, one.after)).values():
                yield from _same(same, str(what))


def _same(many: list[Change], what: str) -> Iterator[str]:
    if len(many) <= MOST_NAMES:
        yield from (one.text for one in many)
        return
    first = many[0]
    names = names_in(one.name for one in many)
    yield f"{what} {first.before} → {first.after} of {len(many)} tensors: {names}"


def _come_and_gone(many: list[Change], layers: Mapping[str, str]) -> Iterator[str]:
    def group(one: Change) -> Hashable:
        is_gone = one.after is None
        owner = one.name.partition(":")[0]
        if owner in layers:
            return (is_gone, "")
        kind = (one.before or one.after or "").partition(" ")[0]
        return (is_gone, kind)

    for key, same in _groups(many, group).items():
        assert isinstance(key, tuple)
        is_gone, kind = key
        how = "gone" if is_gone else "new"
        names = names_in(one.name for one in same)
        if not kind:
            layer = "removed" if is_gone else "inserted"
            yield f"{len(same)} of {layer} layers: {names}"
        elif len(same) == 1:
            yield same[0].text
        else:
            yield f"{len(same)} of kind {kind} {how}: {names}"


def _shapes(many: list[Change]) -> Iterator[str]:
    """Yield shapes in groups of those in which the same numbers changed."""

    def numbers(one: Change) -> Hashable:
        old, new = (str(text).split("x") for text in (one.before, one.after))
        if len(old) != len(new):
            return (one.before, one.after)
        pairs = zip(old, new, strict=True)
        return tuple(sorted({pair for pair in pairs if pair[0] != pair[1]}))

    for key, same in _groups(many, numbers).items():
        if len(same) == 1:
            yield same[0].text
            continue
        assert isinstance(key, tuple)
        told = (
            ", ".join(f"{a} → {b}" for a, b in key)
            if isinstance(key[0], tuple)
            else " → ".join(key)
        )
        names = names_in(one.name for one in same)
        yield f"{told} in the shapes of {len(same)} tensors: {names}"


def _each_or_count(many: list[Change], what: str) -> Iterator[str]:
    if len(many) <= MOST_NAMES:
        yield from (one.text for one in many)
    else:
        first = many[0].text
        yield f"{len(many)} {what}; the first is {first}"


# -- consequences ----------------------------------------------------------------------


def _consequences(diff: GoldenDiff) -> Iterator[str]:
    by_what = _groups(diff.consequences, lambda one: one.what)
    totals = by_what.get("total", [])
    yield from (one.text for one in totals)
    yield from (one.text for one in by_what.get("rows", []))
    yield from _recomputes(by_what.get("recompute", []))
    if operations := by_what.get("operation", []):
        yield from _each_or_count(operations, "operations are new or gone")
    if moved := by_what.get("order", []):
        is_implied = any(one.what == "moved" for one in diff.causes)
        if is_implied:
            yield f"{len(moved)} steps run in another order"
        else:
            yield from _cut([one.text for one in moved], MOST_STEPS, "steps moved")
    if steps := by_what.get("step", []):
        yield _shifts(steps, diff.last_step)
    for what, noun, told in (
        ("size", "size", "changed with it"),
        ("uses", "tensor", "used by other steps"),
        ("offset", "offset", "moved"),
    ):
        many = by_what.get(what, [])
        if many and len(many) <= MOST_NAMES and not diff.causes:
            yield from (one.text for one in many)
        elif many:
            yield f"{counted(many, noun)} {told}"


def counted(many: Sequence[object], noun: str) -> str:
    """Return a number with its noun: ``"1 offset"``, ``"272 offsets"``."""
    return f"{len(many):,} {noun}{'' if len(many) == 1 else 's'}"


def _recomputes(many: list[Change]) -> Iterator[str]:
    """Yield which layers are recomputed more, and which less often."""
    for word, more in (("recomputed as well", True), ("no longer recomputed", False)):
        same = [one for one in many if (one.before == "0") is more and _ends(one)]
        if same:
            yield f"{word}: {names_in(one.name for one in same)}"
    for one in many:
        if not _ends(one):
            yield one.text


def _ends(one: Change) -> bool:
    return "0" in (one.before, one.after)


def _shifts(steps: list[Change], last_step: int) -> str:
    """Return by how much steps are later, from which on, in one line."""
    shifts = [int(one.after or 0) - int(one.before or 0) for one in steps]
    ordered = sorted(
        zip(steps, shifts, strict=True), key=lambda pair: int(pair[0].after or 0)
    )
    parts = [
        (shift, [one for one, _ in run])
        for shift, run in itertools.groupby(ordered, key=lambda pair: pair[1])
    ]
    head = f"{counted(steps, 'step')} renumbered"
    if len(parts) > MOST_STEPS:
        least, most = min(shifts), max(shifts)
        return f"{head}, by {least:+d} to {most:+d}".replace("-", "−")
    told = ", ".join(
        f"{shift:+d}".replace("-", "−")
        + f" from {run[0].name} "
        + ("on" if run[-1].after == str(last_step) else f"to {run[-1].name}")
        for shift, run in parts
    )
    return f"{head}: {told}"
