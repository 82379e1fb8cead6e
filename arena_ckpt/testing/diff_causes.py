"""Finds what is another in the models of two golden plans."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence

from arena_ckpt.common.properties import Property
from arena_ckpt.optim.learning_rates import SCHEDULE_SCHEMAS
from arena_ckpt.optim.optimizers import OPTIMIZER_SCHEMAS
from arena_ckpt.planning.model_facts import default_text
from arena_ckpt.testing.golden_changes import Change, inputs_of, properties_of
from arena_ckpt.testing.golden_text import GoldenPlan, Row, words

GENERATED = "/generated_out_"
"""Part of the names of layers that stand where an output has several readers."""

_OF_TRAINING = ("optimizer", "schedule")
_PLAIN = (
    "mode",
    "batch_size",
    "micro_batches",
    "clip_grad_by_norm",
    "arithmetic",
    "ways",
    "alignment_bytes",
    "canary_bytes",
)
_SPELT = ("batch_size", "micro_batches", "alignment_bytes", "canary_bytes")
"""Facts that are told without underscores."""

MAY_BE_UNKNOWN = ("mode", "ways", "arithmetic", *_OF_TRAINING, "clip_grad_by_norm")
"""Facts that files of earlier formats, or plans read from files, do not state."""

MOST_NAMES = 4
"""Maximum number of names that a line lists."""


def find_renamed(old: GoldenPlan, new: GoldenPlan) -> dict[str, str]:
    """Return the new names of layers that are the same but for their names.

    Type, properties and inputs are equal, and so are the shapes of outputs. Where
    inputs are not pinned, the layers follow the same one.
    """
    waiting: dict[object, deque[str]] = {}
    place = {name: index for index, name in enumerate(new.orders)}
    for name in new.orders:
        if name not in old.orders:
            looks = _looks(new, name, list(new.orders), place, {})
            waiting.setdefault(looks, deque()).append(name)
    if not waiting:
        return {}
    renamed: dict[str, str] = {}
    names = list(old.orders)
    place = {name: index for index, name in enumerate(names)}
    for name in names:
        if name not in new.orders:
            looks = _looks(old, name, names, place, renamed)
            if others := waiting.get(looks):
                renamed[name] = others.popleft()
    return renamed


def _looks(
    golden: GoldenPlan,
    name: str,
    names: Sequence[str],
    place: Mapping[str, int],
    renamed: Mapping[str, str],
) -> object:
    """Return all that is known of a layer but its name.

    Parameters
    ----------
    golden : GoldenPlan
    name : str
    names : sequence of str
        The layers in forward order.
    place : mapping from str to int
        Where each stands there.
    renamed : mapping from str to str
        New names of layers before it.
    """
    row = golden.layers.get(name)
    output = golden.tensors.get(f"{name}:out0", ("", "", ""))
    if row is not None:
        properties = properties_of(row)
        if "shared_from" in properties:
            owner = properties["shared_from"]
            properties["shared_from"] = renamed.get(owner, owner)
        inputs = tuple(renamed.get(n, n) for n in inputs_of(golden, name))
        reads: object = (inputs, tuple(properties.items()))
    else:
        before = names[place[name] - 1] if place[name] else ""
        reads = renamed.get(before, before)
    return golden.orders[name][0], reads, output[2]


def find_causes(
    old: GoldenPlan, new: GoldenPlan, renamed: dict[str, str]
) -> Iterator[Change]:
    """Yield what is another in the models, layers first.

    Parameters
    ----------
    old : GoldenPlan
        With the new names of layers that were renamed.
    new : GoldenPlan
    renamed : dict from str to str
    """
    for before, after in renamed.items():
        text = f"{before}: renamed to {after}"
        yield Change("renamed", after, before, after, text)
    yield from _come_and_gone(old, new)
    yield from _moved(list(old.orders), list(new.orders))
    for name in new.orders:
        if name in old.orders:
            yield from _layer(name, old, new)
    yield from _connections(old, new)
    yield from _blocks(old, new)
    yield from _facts(old, new)


def _come_and_gone(old: GoldenPlan, new: GoldenPlan) -> Iterator[Change]:
    for what, having, lacking in (("removed", old, new), ("inserted", new, old)):
        names = list(having.orders)
        for place, name in enumerate(names):
            if name in lacking.orders:
                continue
            type_name, row = having.orders[name][0], having.layers.get(name, ())
            told = ", ".join((type_name, *row[1:]))
            previous = names[place - 1] if place else ""
            where = f" behind {made_by(previous)}" if previous else " as the first"
            text = f"{name}: {what}{where} ({told})"
            before, after = (told, None) if having is old else (None, told)
            yield Change(what, name, before, after, text, previous)


def made_by(name: str) -> str:
    """Return the layer that a user named, for one that was generated behind it."""
    return name.partition(GENERATED)[0]


def _moved(old: list[str], new: list[str]) -> Iterator[Change]:
    """Yield the layers that stand elsewhere among those that both have."""
    known, knows = set(old), set(new)
    before = [name for name in old if name in knows]
    after = [name for name in new if name in known]
    moved = out_of_order(before, after)
    behind = [
        {name: f"behind {many[i - 1]}" if i else "first" for i, name in enumerate(many)}
        for many in ((before, after) if moved else ())
    ]
    for name in moved:
        was, now = (one[name] for one in behind)
        yield Change("moved", name, was, now, f"{name}: moved, {was} → {now}")


def out_of_order(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Return the fewest names without which two orders of the same names are equal."""
    place = {name: index for index, name in enumerate(before)}
    places = [place[name] for name in after]
    ends: list[int] = []
    end_at: list[int] = []  # index into `after` of the end of each shortest chain
    earlier: list[int | None] = []
    for index, value in enumerate(places):
        length = bisect_left(ends, value)
        earlier.append(end_at[length - 1] if length else None)
        ends[length : length + 1] = [value]
        end_at[length : length + 1] = [index]
    kept = set()
    at = end_at[-1] if end_at else None
    while at is not None:
        kept.add(at)
        at = earlier[at]
    return [name for index, name in enumerate(after) if index not in kept]


def _layer(name: str, old: GoldenPlan, new: GoldenPlan) -> Iterator[Change]:
    """Yield what is another in a layer that both have: its type, or properties."""
    was, now = old.orders[name][0], new.orders[name][0]
    if was != now:
        yield Change("type", name, was, now, f"{name}: type {was} → {now}")
    if not (old.pins_properties and new.pins_properties):
        return
    rows = (old.layers[name], new.layers[name])
    before, after = map(properties_of, rows)
    if was != now:  # what the old type had, and the new one has not, is no news
        before = {key: value for key, value in before.items() if key in after}
    for key in before | after:
        one, other = before.get(key), after.get(key)
        if was == now:
            default = default_text(now, key) or "its default"
            one, other = (default if v is None else v for v in (one, other))
        if one != other:
            text = f"{name}: {key} {one or 'none'} → {other}"
            yield Change("property", name, one, other, text, key)


def _connections(old: GoldenPlan, new: GoldenPlan) -> Iterator[Change]:
    """Yield layers that read others, unless that follows from layers that came."""
    if not (old.pins_properties and new.pins_properties):
        return
    for name in new.orders:
        if name not in old.orders or GENERATED in name:
            continue
        before, after = inputs_of(old, name), inputs_of(new, name)
        behind = [
            tuple(_behind(golden, read, other.orders) for read in inputs)
            for golden, inputs, other in ((old, before, new), (new, after, old))
        ]
        if behind[0] != behind[1]:
            was, now = (", ".join(inputs) or "none" for inputs in (before, after))
            told = (
                ", ".join(map(made_by, inputs)) or "none" for inputs in (before, after)
            )
            yield Change("inputs", name, was, now, f"{name}: reads {' → '.join(told)}")


def _behind(golden: GoldenPlan, name: str, others: Collection[str]) -> str:
    """Return the layer that is read where layers that the other plan lacks are not."""
    while GENERATED in name or name not in others:
        inputs = inputs_of(golden, name)
        if len(inputs) != 1:
            break
        (name,) = inputs
    return name


def _blocks(old: GoldenPlan, new: GoldenPlan) -> Iterator[Change]:
    gone = {n: row for n, row in old.blocks.items() if n not in new.blocks}
    come = {n: row for n, row in new.blocks.items() if n not in old.blocks}
    for name, row in gone.items():
        again = next((other for other, same in come.items() if same == row), None)
        if again is None:
            text = f"block {name}: removed ({_few(row)})"
            yield Change("block", name, " ".join(row), None, text)
        else:
            del come[again]
            text = f"block {name}: renamed to {again}"
            yield Change("block", again, name, again, text, "name")
    for name, row in come.items():
        text = f"block {name}: new ({_few(row)})"
        yield Change("block", name, None, " ".join(row), text)
    for name, row in old.blocks.items():
        after = new.blocks.get(name, row)
        if after != row:
            text = f"block {name}: {_few(row)} → {_few(after)}"
            yield Change("block", name, " ".join(row), " ".join(after), text)
    shared = [name for name in old.blocks if name in new.blocks]
    if shared != [name for name in new.blocks if name in old.blocks]:
        text = "blocks come in another order"
        pair = (" ".join(old.blocks), " ".join(new.blocks))
        yield Change("block", "blocks", *pair, text, "order")


def _few(row: Row) -> str:
    if len(row) <= MOST_NAMES:
        return " ".join(row)
    return f"{row[0]} … {row[-1]}, {len(row)} layers"


def _facts(old: GoldenPlan, new: GoldenPlan) -> Iterator[Change]:
    """Yield what is another in the updates, in batches and in what was asked for."""
    for key in _OF_TRAINING:
        if key in old.facts and key in new.facts:
            schemas = OPTIMIZER_SCHEMAS if key == "optimizer" else SCHEDULE_SCHEMAS
            yield from _part(key, old.facts[key], new.facts[key], schemas)
        else:
            yield from _fact(key, old, new)
    rams = [key for key in old.facts | new.facts if key.startswith("ram ")]
    for key in (*_PLAIN, *rams):
        yield from _fact(key, old, new)


def _fact(key: str, old: GoldenPlan, new: GoldenPlan) -> Iterator[Change]:
    before, after = old.facts.get(key), new.facts.get(key)
    is_unknown = key in MAY_BE_UNKNOWN and None in (before, after)
    if before != after and not is_unknown:
        texts = " → ".join("none" if v is None else v for v in (before, after))
        label = key.replace("_", " ") if key in _SPELT else key
        yield Change("fact", key, before, after, f"{label} {texts}")


def _part(
    key: str, before: str, after: str, schemas: dict[str, tuple[Property, ...]]
) -> Iterator[Change]:
    """Yield what is another in an optimizer or a schedule."""
    if before == after:
        return
    (was, *old_cells), (now, *new_cells) = (words(t) or [""] for t in (before, after))
    old, new = (
        dict(cell.partition("=")[::2] for cell in many)
        for many in (old_cells, new_cells)
    )
    if was != now:
        others = [n for n in new if n in old and old[n] != new[n]]
        rest = "".join(f", {name} {old[name]} → {new[name]}" for name in others)
        yield Change(key, key, before, after, f"{key} {was} → {now}{rest}")
        return
    defaults = {
        declared.name: declared.kind.write(declared.default)
        for declared in schemas.get(now, ())
        if declared.default is not None
    }
    for name in old | new:
        one, other = (values.get(name, defaults.get(name)) for values in (old, new))
        if one != other:
            text = f"{key} {now}: {name} {one or 'none'} → {other or 'none'}"
            yield Change(key, key, one, other, text, name)
