"""Writes models as INI text, and says which names its sections can have.

The format is NNTrainer's: `[Model]`, `[Optimizer]` and `[LearningRateScheduler]`, then
a section for each layer under the layer's name; `[CheckpointBlock NAME]` is our own.
`arena_ckpt.importers.ini` reads it.

References
----------
NNTrainer, "Writing Configuration File", docs/configuration-ini.md.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence

from arena_ckpt.common.properties import Kind, Property, write_properties
from arena_ckpt.common.wording import nearest, quoted
from arena_ckpt.errors import IniError, UnwritableFileError
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.files.source import path_text
from arena_ckpt.graph.blocks import CheckpointBlock
from arena_ckpt.graph.connections import find_output
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.layers.base import Layer
from arena_ckpt.optim.learning_rates import Schedule
from arena_ckpt.optim.optimizers import Optimizer

MODEL = "Model"
OPTIMIZER = "Optimizer"
SCHEDULER = "LearningRateScheduler"
BLOCK = "CheckpointBlock"
DATA_SECTIONS = ("Dataset", "train_set", "valid_set", "test_set")
OWN_SECTIONS = (MODEL, OPTIMIZER, SCHEDULER, *DATA_SECTIONS)

_SEED_LIMIT = 2**64  # the key of the generator that orders the samples


def _parse_seed(value: object) -> int:
    seed = (
        int(value.replace("_", "x"))
        if isinstance(value, str)
        else operator.index(value)  # type: ignore[arg-type]
    )
    if isinstance(value, bool) or not 0 <= seed < _SEED_LIMIT:
        raise ValueError
    return seed


SEED = Property(
    "seed",
    Kind("a whole number from 0 to 2**64 - 1", _parse_seed),
    0,
    "decides the initial weights and the order of samples",
)


def canonical_section(header: str) -> str:
    """Return the one spelling of a section's name: ``Model`` for `` model``."""
    name = header.strip()
    first, *rest = name.split(maxsplit=1) or [""]
    if first.lower() == BLOCK.lower():
        return " ".join([BLOCK, *rest])
    return next((own for own in OWN_SECTIONS if own.lower() == name.lower()), name)


def block_name(section: str) -> str | None:
    """Return the NAME of ``CheckpointBlock NAME``, or None for any other section."""
    first, _, name = section.partition(" ")
    return name if first == BLOCK else None


def name_fault(name: str) -> str | None:
    """Return the reason why no section can have this name, or None."""
    if name != name.strip() or not name:
        return "is empty or has spaces around it"
    if not name.isprintable():
        return "has a character that cannot be printed"
    if any(character in name for character in "[]#;"):
        return "has one of the characters [ ] # ;"
    return None


def layer_name_fault(name: str) -> str | None:
    """Return the reason why no section can be of a layer of this name, or None."""
    section = canonical_section(name)
    if section in OWN_SECTIONS or block_name(section) is not None:
        return "is the name of a section with another meaning"
    return name_fault(name)


def write_ini(
    path: str | os.PathLike[str],
    *,
    properties: Mapping[str, str],
    layers: Sequence[Layer],
    blocks: Sequence[CheckpointBlock],
    optimizer: Optimizer,
    schedule: Schedule | None,
    seed: int,
) -> None:
    """Write a model as an INI file; an error leaves the file as it was.

    Parameters
    ----------
    path : path
        An existing file is replaced; the folder has to exist.
    properties : mapping from str to str
        Properties of the model as text.
    layers, blocks : sequence
        Layers in the order in which they were added.
    optimizer : Optimizer
    schedule : Schedule or None
    seed : int

    Raises
    ------
    IniError
        A name that an INI section cannot have, a layer of a type or with inputs that
        cannot be read back, or a file that cannot be written; nothing was changed.
    """
    file = path_text(path)
    sections: list[tuple[str, Mapping[str, str]]] = [
        (
            MODEL,
            {"type": "NeuralNetwork", **properties, "seed": _seed_text(file, seed)},
        ),
        (OPTIMIZER, {"type": optimizer.type_name, **optimizer.to_properties()}),
    ]
    if schedule is not None:
        given = {"type": schedule.type_name, **schedule.to_properties()}
        sections.append((SCHEDULER, given))
    names = dict.fromkeys(layer.name for layer in layers)
    sections += [(layer.name, _layer_section(file, layer, names)) for layer in layers]
    for block in blocks:
        if fault := name_fault(block.name):
            raise _refuse(file, f"checkpoint block {block.name!r}", fault, block.name)
        sections.append((f"{BLOCK} {block.name}", {"layers": ", ".join(block.layers)}))
    write_sections(path, sections)


def write_sections(
    path: str | os.PathLike[str],
    sections: Sequence[tuple[str, Mapping[str, str]]],
    head: str = "",
) -> None:
    """Write sections as an INI file; an error leaves the file as it was.

    Parameters
    ----------
    path : path
    sections : sequence
        Pairs of a name and the texts by key.
    head : str
        Comment lines that stand above the first section.

    Raises
    ------
    IniError
        Names that one section cannot be told from another by, a text that no quotes
        fit around, or a file that cannot be written.
    """
    file = path_text(path)
    first: dict[str, str] = {}
    for name, _ in sections:
        if name.lower() in first:
            raise IniError(
                f"{file}: [{first[name.lower()]}] and [{name}] would be one section, "
                "as upper and lower case are the same there; give one of them another "
                "name",
                path=file,
                section=name,
                name=name,
            )
        first[name.lower()] = name
    text = head + "\n".join(
        "".join(
            [
                f"[{name}]\n",
                *(
                    f"{key} = {_value_text(file, name, key, value)}\n"
                    for key, value in given.items()
                ),
            ]
        )
        for name, given in sections
    )
    try:
        write_whole(path, lambda stream: stream.write(text.encode()))
    except UnwritableFileError as error:
        raise IniError(str(error), path=file) from error


def _value_text(file: str, section: str, key: str, value: str) -> str:
    """Return a value as it stands in the file: in quotes where it looks like them."""
    if not value.startswith(("'", '"')) and not value.endswith("\\"):
        return value
    for mark in "\"'":
        if mark not in value:
            return f"{mark}{value}{mark}"
    raise IniError(
        f"{file}: [{section}] {key} = {quoted(value)} has both kinds of quotes and "
        "cannot be written; give the layer that it names another name",
        path=file,
        section=section,
        key=key,
        value=value,
    )


def _seed_text(file: str, seed: int) -> str:
    try:
        return str(_parse_seed(seed))
    except (ValueError, TypeError):
        raise IniError(
            f"{file}: seed={quoted(seed)} cannot be saved; expected "
            f"{SEED.kind.expects}",
            path=file,
            section=MODEL,
            key="seed",
            value=seed,
        ) from None


def _layer_section(
    file: str, layer: Layer, names: Mapping[str, None]
) -> dict[str, str]:
    name = layer.name
    if fault := layer_name_fault(name):
        raise _refuse(file, f"layer {name!r}", fault, name)
    if LAYER_TYPES.get(layer.type_name) is not type(layer):
        raise IniError(
            f"{file}: layer {name!r} is a {type(layer).__name__}, which INI files do "
            f"not know; known are {', '.join(sorted(LAYER_TYPES))}",
            path=file,
            section=name,
            key="type",
        )
    for source in layer["input_layers"] or ():
        if find_output(source, names) is None:
            raise IniError(
                f"{file}: layer {name!r} reads {source!r}, which does not exist"
                f"{nearest(source, names)}; add it before the model is saved",
                path=file,
                section=name,
                key="input_layers",
                unknown=source,
            )
    given = {key: value for key, value in layer.given.items() if key != "name"}
    return {"type": layer.type_name, **write_properties(layer.properties, given)}


def _refuse(file: str, what: str, fault: str, name: str) -> IniError:
    return IniError(
        f"{file}: {what} cannot be saved, because its name {fault}; give it another "
        "name",
        path=file,
        section=name,
        name=name,
    )
