"""Brings the layer sections of an INI file into the form of our layers.

In stages, each from sections to sections: ``backbone = other.ini`` becomes the layers
of that file; references get the spelling of the section that they name; keys that
change nothing here are left out; ``flatten`` and ``activation`` become layers of their
own where a layer has no such property.

References
----------
NNTrainer, nntrainer/compiler/ini_interpreter.cpp, flatten_realizer.cpp and
activation_realizer.cpp.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from arena_ckpt.common.properties import BOOLEAN, SHAPE
from arena_ckpt.common.user_line import warn_user
from arena_ckpt.common.wording import listed, quote
from arena_ckpt.definition.ini_writer import OWN_SECTIONS, block_name
from arena_ckpt.definition.nntrainer_dialect import NAMES_THERE
from arena_ckpt.errors import ArenaWarning, IniError
from arena_ckpt.importers.ini_sections import Section, read_sections
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.shape import Input

_BACKBONE_KEYS = ("backbone", "trainable", "input_shape", "input_layers", "preload")
_SEVERAL_OUTPUTS = ("multiout", "split")

_NEUTRAL: Mapping[str, tuple[str, ...]] = {
    "trainable": ("true", "false"),  # of a layer without weights
    "distribute": ("false",),
    "packed": ("true", "false"),
    "inplace": ("true", "false"),
    "print": ("false",),
    "normalization": ("false", "0", "off", "no"),
    "weight_dtype": ("fp32",),
    "engine": ("cpu",),
    "compute_engine": ("cpu",),
    "loss_scale": ("1", "1.0"),
}
"""Keys of NNTrainer's layers, with the values that change nothing here; they are left
out where our layer has no such property."""

_NUMBERED = re.compile(r"(.+)(\([0-9]{1,9}\))")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What of a file has no counterpart and is left out, to be said in one warning."""

    file: str
    notes: list[str] = field(default_factory=list)

    def add(self, section: Section, key: str, advice: str) -> None:
        """Note a key, or with ``""`` a whole section."""
        line = section.lines.get(key, section.lines[""])
        place = f"[{section.name}]" + (f" {key}" if key else "")
        self.notes.append(f"{place} in line {line} ({advice})")

    def warn(self) -> None:
        """Issue the warning, if there is anything to say."""
        if self.notes:
            warn_user(
                f"{self.file}: not taken over: {listed(self.notes, '; ')}",
                ArenaWarning,
            )


def is_layer(section: Section) -> bool:
    """Say whether a section is of a layer, or of a backbone of layers."""
    return section.name not in OWN_SECTIONS and block_name(section.name) is None


def is_block(section: Section) -> bool:
    """Say whether a section is of a checkpoint block."""
    return block_name(section.name) is not None


# -- backbones -------------------------------------------------------------------------


def with_backbones(
    file: str,
    sections: Iterable[Section],
    check: Callable[[Section], None],
    left: LeftOut,
) -> list[Section]:
    """Return layers and blocks, those of other files in place of their backbones.

    Parameters
    ----------
    file : str
        Paths of backbones are relative to its folder, at any depth.
    sections : iterable of Section
    check : callable
        Raises IniError for a section of a backbone that cannot be.
    left : LeftOut

    Raises
    ------
    IniError
        A backbone that cannot be read, has no layers, or has a layer of a name that is
        there already; a circle of backbones.
    """
    folder = os.path.dirname(file)
    taken: dict[str, Section] = {}
    last_of: dict[str, str] = {}

    def spread(these: Iterable[Section], chain: tuple[str, ...]) -> list[Section]:
        found: list[Section] = []
        for section in these:
            if is_layer(section) and "backbone" in section.values:
                inner = spread(*_read_backbone(section, folder, chain, check))
                layers = [each for each in inner if is_layer(each)]
                if not layers:
                    raise section.error(
                        f"{section.values['backbone']} has no layers; name a file that "
                        "has some",
                        "backbone",
                    )
                last_of[section.name.lower()] = layers[-1].name
                found += _as_said(section, inner, layers[0], left)
                continue
            if is_layer(section):
                first = taken.setdefault(section.name.lower(), section)
                if first is not section:
                    raise section.error(
                        f"a layer of this name is in {first.file}, line "
                        f"{first.lines['']}, already; rename one of them"
                    )
            if is_layer(section) or is_block(section):
                found.append(section)
        return found

    found = spread(sections, (os.path.realpath(file),))
    names = {each.name.lower() for each in found if is_layer(each)}
    meant = {name: last for name, last in last_of.items() if name not in names}
    return [_redirected(each, meant) for each in found]


def _read_backbone(
    section: Section,
    folder: str,
    chain: tuple[str, ...],
    check: Callable[[Section], None],
) -> tuple[list[Section], tuple[str, ...]]:
    """Return the sections of the file that a backbone names, and the chain to it."""
    given = section.values["backbone"]
    if not given.lower().endswith(".ini"):
        raise section.error(
            f"{given} is no INI file, and only layers of INI files can be read; write "
            "its layers here, or leave the backbone out and give its outputs as data",
            "backbone",
        )
    for key in section.values:
        if key not in _BACKBONE_KEYS:
            raise section.error(
                f"a backbone has no key {key}; known are {', '.join(_BACKBONE_KEYS)}",
                key,
            )
    path = os.path.join(folder, given)
    real = os.path.realpath(path)
    if real in chain:
        raise section.error(
            f"{given} is read already where it names itself, through "
            f"{quote([*chain[chain.index(real) :], real])}; take one of these "
            "backbones away",
            "backbone",
        )
    try:
        sections = read_sections(path)
    except IniError as error:
        facts = dict(vars(error))
        if facts.get("line") is not None:
            raise
        facts = {key: facts[key] for key in facts if key not in ("path", "line")}
        raise section.error(str(error), "backbone", **facts) from error
    for each in sections:
        if is_layer(each) or is_block(each):
            check(each)
    return sections, (*chain, real)


def _as_said(
    section: Section, inner: list[Section], first: Section, left: LeftOut
) -> list[Section]:
    """Return the sections of a backbone with what its own section says of them."""
    changes: dict[str, dict[str, str]] = {}
    if "preload" in section.values:
        left.add(section, "preload", "weights are read by load_nntrainer_bin()")
    if trainable := section.values.get("trainable"):
        if not _is(BOOLEAN.parse, trainable):
            raise section.error(
                f"trainable={trainable} is not possible; expected true or false",
                "trainable",
            )
        for each in inner:
            if is_layer(each) and "trainable" in _properties_of(each):
                changes[each.name] = {"trainable": trainable}
    for key in ("input_shape", "input_layers"):
        if key not in section.values:
            continue
        given, own = section.values[key], first.values.get(key)
        is_shape = key == "input_shape"
        if is_shape and not _is(SHAPE.parse, given):
            raise section.error(
                f"{key}={given} is not possible; expected {SHAPE.expects}", key
            )
        if own is None and is_shape == (_type_of(first) is Input):
            changes.setdefault(first.name, {})[key] = given
        elif not (
            is_shape
            and own
            and _is(SHAPE.parse, own)
            and SHAPE.parse(own) == SHAPE.parse(given)
        ):
            left.add(
                section, key, f"layer {first.name!r} of the backbone has its own inputs"
            )
    return [
        replace(each, values={**each.values, **changes[each.name]})
        if each.name in changes
        else each
        for each in inner
    ]


def _is(parse: Callable[[object], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


# -- references ------------------------------------------------------------------------


def with_exact_references(sections: Iterable[Section]) -> list[Section]:
    """Return the sections with the names of layers as their sections spell them."""
    sections = list(sections)
    names = {section.name for section in sections if is_layer(section)}
    spelled = {name.lower(): name for name in names}
    return [_redirected(section, spelled, kept=names) for section in sections]


def _redirected(
    section: Section, meant: Mapping[str, str], kept: Iterable[str] = ()
) -> Section:
    """Return a section that names other layers.

    Parameters
    ----------
    section : Section
        Of a layer or a checkpoint block.
    meant : mapping from str to str
        The new names by old ones in lower case.
    kept : iterable of str
        Names that stay as they are.
    """
    kept = set(kept)

    def one(text: str) -> str:
        text = text.strip()
        if text in kept or text.lower() in meant:
            return text if text in kept else meant[text.lower()]
        if (found := _NUMBERED.fullmatch(text)) and found[1] not in kept:
            name = meant.get(found[1].lower(), found[1])
            return f"{name}{found[2]}"
        return text

    keys = ("layers",) if is_block(section) else ("input_layers", "shared_from")
    changed = {
        key: ", ".join(map(one, section.values[key].split(",")))
        for key in keys
        if key in section.values
    }
    if not any(section.values[key] != text for key, text in changed.items()):
        return section
    return replace(section, values={**section.values, **changed})


# -- keys ------------------------------------------------------------------------------


def without_neutral_keys(sections: Iterable[Section], left: LeftOut) -> list[Section]:
    """Return the sections without keys of NNTrainer's that change nothing here."""
    return [
        _without_neutral_keys(each, left) if is_layer(each) else each
        for each in sections
    ]


def _without_neutral_keys(section: Section, left: LeftOut) -> Section:
    known = _properties_of(section)
    if not known:
        return section
    kind = section.values["type"].lower()
    there = {name: ours for (of, ours), name in NAMES_THERE.items() if of == kind}
    values = {there.get(key, key): text for key, text in section.values.items()}
    lines = {there.get(key, key): line for key, line in section.lines.items()}
    section = replace(section, values=values, lines=lines)
    values = dict(values)
    for key in section.values:
        if key not in known and values[key].lower() in _NEUTRAL.get(key, ()):
            del values[key]
    if _type_of(section) is Input and _is_true(values.get("normalization", "")):
        del values["normalization"]
        left.add(
            section,
            "normalization",
            "it goes by the least and largest value of each batch; scale the data, or "
            "write standardization = true, which goes by those of the training",
        )
    return replace(section, values=values)


def _is_true(text: str) -> bool:
    return _is(BOOLEAN.parse, text) and bool(BOOLEAN.parse(text))


# -- properties that are layers --------------------------------------------------------


def with_realized_layers(sections: Iterable[Section]) -> list[Section]:
    """Return the sections with layers for properties that ours do not have.

    These are ``flatten`` of any layer, and ``activation`` of some. The new layers are
    named as NNTrainer names them, ``fc1/flatten_realized``, and whatever reads the
    layer reads them in its place.
    """
    found: list[Section] = []
    last_of: dict[str, list[str]] = {}
    for section in sections:
        made = _realized(section) if is_layer(section) else [section]
        found += made
        if len(made) > 1:
            last_of[section.name] = [each.name for each in made]
    ends = {name: names[-1] for name, names in last_of.items()}
    own = {name for names in last_of.values() for name in names[1:]}
    return [
        each
        if each.name in own
        else _with_whole_layers(each, last_of)
        if is_block(each)
        else _reading_ends(each, ends)
        for each in found
    ]


def _realized(section: Section) -> list[Section]:
    known, values = _properties_of(section), dict(section.values)
    if not known or section.values["type"].lower() in _SEVERAL_OUTPUTS:
        return [section]
    if getattr(_type_of(section), "is_loss", False):
        return [section]
    made: list[Section] = []

    def add(kind: str, **more: str) -> None:
        before = made[-1].name if made else section.name
        given = {"type": kind, "input_layers": before, **more}
        name = f"{section.name}/{kind}_realized"
        made.append(replace(section, name=name, values=given))

    if "flatten" in values and _is(BOOLEAN.parse, values["flatten"]):
        if _is_true(values.pop("flatten")):
            add("flatten")
    if "activation" in values and (made or "activation" not in known):
        activation = values.pop("activation")
        if activation.lower() != "none":
            add("activation", activation=activation)
    return [replace(section, values=values), *made]


def _reading_ends(section: Section, ends: Mapping[str, str]) -> Section:
    if "input_layers" not in section.values:
        return section
    read = [name.strip() for name in section.values["input_layers"].split(",")]
    now = [ends.get(name.removesuffix("(0)"), name) for name in read]
    if now == read:
        return section
    return replace(section, values={**section.values, "input_layers": ", ".join(now)})


def _with_whole_layers(block: Section, made: Mapping[str, list[str]]) -> Section:
    names = [name.strip() for name in block.values.get("layers", "").split(",")]
    now = [each for name in names for each in made.get(name, [name])]
    if now == names:
        return block
    return replace(block, values={**block.values, "layers": ", ".join(now)})


def _type_of(section: Section) -> type[Layer] | None:
    return LAYER_TYPES.get(section.values.get("type", "").lower())


def _properties_of(section: Section) -> set[str]:
    """Return the names of the properties of the layer; none where it is unknown."""
    kind = _type_of(section)
    return set() if kind is None else {declared.name for declared in kind.properties}
