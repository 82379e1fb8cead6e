"""Imports models from NNTrainer's INI format.

`arena_ckpt.importers.ini_sections` makes sections of the text, and
`arena_ckpt.importers.ini_layers` brings those of layers into the form of ours; here
they become a `Model`. NNTrainer's `[Model] loss`, and its former place of the
optimizer, `[Model] optimizer`, are read as well; `Model.save_ini` writes neither.

References
----------
NNTrainer, "Writing Configuration File", docs/configuration-ini.md, and
nntrainer/models/model_loader.cpp.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

from arena_ckpt.common.aliases import LAYERS, renamed
from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.properties import parse_properties, unknown_property
from arena_ckpt.common.wording import listed, nearest
from arena_ckpt.definition.ini_writer import (
    BLOCK,
    DATA_SECTIONS,
    MODEL,
    OPTIMIZER,
    OWN_SECTIONS,
    SCHEDULER,
    SEED,
    block_name,
    name_fault,
)
from arena_ckpt.definition.model_definition import MODEL_PROPERTIES
from arena_ckpt.errors import IniError
from arena_ckpt.files.source import path_text
from arena_ckpt.graph.connections import find_output
from arena_ckpt.importers.ini_layers import (
    LeftOut,
    is_block,
    is_layer,
    with_backbones,
    with_exact_references,
    with_realized_layers,
    without_neutral_keys,
)
from arena_ckpt.importers.ini_sections import Section, read_sections
from arena_ckpt.layers import LAYER_TYPES, create_layer
from arena_ckpt.layers.base import Layer
from arena_ckpt.model import Model
from arena_ckpt.optim.learning_rates import create_schedule
from arena_ckpt.optim.optimizers import create_optimizer

_LOSSES = ("mse", "cross", "cross_softmax", "cross_sigmoid")
_DECAY_KEYS = ("decay_rate", "decay_steps")
_OLD_OPTIMIZER_KEYS = (
    *("optimizer", "learning_rate", "beta1", "beta2", "epsilon"),
    *_DECAY_KEYS,
)
_SINGLE = ("fp32-fp32", "fp32")
_NEUTRAL: Mapping[str, tuple[tuple[str, ...], str]] = {
    "continue_train": (("false",), "training begins when it is called"),
    "fsu": (("false",), "weights are not read from storage step by step"),
    "loss_scale": (("1", "1.0"), "the loss is not scaled"),
    "tensor_type": (_SINGLE, "all tensors are float32"),
    "model_tensor_type": (_SINGLE, "all tensors are float32"),
    "tensor_format": (("nchw",), "shapes are channel:height:width, as in NCHW"),
}
"""Keys of NNTrainer's [Model] section, with the values that change nothing here, and
what holds here whatever is given."""

_SAVES = "weights are saved by save(), and by save_nntrainer_bin() for NNTrainer"
_LEFT_OUT = {
    "save_path": _SAVES,
    "save_best_path": _SAVES,
    "fsu_path": "weights are not read from storage step by step",
    "fsu_lookahead": "weights are not read from storage step by step",
}
"""Keys of NNTrainer's [Model] section that are left out, with what there is instead."""

_DATA = "data are given to train(), or to the command line with --data"


@public_call
def load_ini(path: str | os.PathLike[str]) -> Model:
    """Read a model from an INI file in NNTrainer's format.

    Parameters
    ----------
    path : path
        UTF-8 text of at most 16 MiB.

    Returns
    -------
    Model
        Not initialized yet. `Model.save_ini` writes it back; reading that again gives
        an equal model.

    Raises
    ------
    IniError
        A file that cannot be read, text that is no INI, or sections that describe no
        model. The message names file, line, section and key; where they are
        known they are attributes as well (`path`, `line`, `section`, `key`). An error
        of a layer, optimizer or schedule is kept as `__cause__`.
    IniFileNotFoundError
        There is no such file; the nearest name in its folder is given.

    Notes
    -----
    Keys, types and names of sections may be in any case; a layer has the spelling of
    its section, and ``input_layers`` finds it in any. ``#`` and ``;`` begin a
    comment anywhere in a line but within quotes, which may stand around a value. A
    backslash at the end of a line continues it. Sections of one name are one section,
    and of equal keys in it the last counts; an `ArenaWarning` says so. ``[Model]`` is
    required; without ``[Optimizer]`` the model keeps its default (sgd), and without a
    type in it the type is adam, as in NNTrainer. ``decay_rate`` and ``decay_steps``
    beside the learning rate of the optimizer are an exponential schedule.

    ``[Model] loss = mse``, ``cross_softmax`` or ``cross_sigmoid`` adds such a layer,
    named ``loss``, at the end. ``cross`` does as well, and the activation of the last
    layer decides which: a softmax or sigmoid, given as an activation layer or as the
    property of a layer, is removed, because the loss computes it itself. A loss layer
    in the file together with ``[Model] loss`` is an error.

    ``activation`` of a layer that has no such property is a layer of its own, and so is
    ``flatten = true``. ``backbone = other.ini`` is all layers of that file, which is
    looked for from the folder of this one; ``trainable`` beside it is that of each of
    them, and to read the backbone is to read its last layer.

    ``standardization = true`` of an input layer is by the data of the first training,
    not, as in NNTrainer, of each sample by itself. What has no counterpart is left out,
    and an `ArenaWarning` lists it: ``normalization = true``, which is by the least and
    largest value of each batch there; ``save_path`` and ``save_best_path``; data, in
    ``[Dataset]``, ``[train_set]``, ``[valid_set]`` and ``[test_set]``; and the learning
    rate of ``[Model]`` beside ``[Optimizer]``, which NNTrainer does not use either.

    Shapes and the graph are checked later, by `Model.compile`, so that parts of a model
    can be read and added to.

    References
    ----------
    NNTrainer, "Writing Configuration File", docs/configuration-ini.md.
    """
    file = path_text(path)
    sections = read_sections(file)
    _check_sections(file, sections)
    by_name = {section.name: section for section in sections}
    head = by_name[MODEL]
    left = LeftOut(file)
    for section in sections:
        if section.name in DATA_SECTIONS:
            left.add(section, "", _DATA)

    model = Model(seed=_seed(head))
    _set_properties(model, head, left)
    _set_optimizer(model, head, by_name.get(OPTIMIZER), left)
    if schedule := by_name.get(SCHEDULER):
        _set_schedule(model, schedule)
    parts = with_backbones(file, sections, _check_section, left)
    parts = without_neutral_keys(with_exact_references(parts), left)
    layers, renamed = _with_loss(head, [each for each in parts if is_layer(each)])
    parts = with_realized_layers([*layers, *filter(is_block, parts)])
    _add_layers(model, [each for each in parts if is_layer(each)])
    for block in filter(is_block, parts):
        _add_block(model, block, renamed)
    left.warn()
    return model


# -- sections --------------------------------------------------------------------------


def _check_sections(file: str, sections: list[Section]) -> None:
    """Refuse sections that cannot form a model, before any layer is built."""
    names = [section.name for section in sections]
    if MODEL not in names:
        raise IniError(
            f"{file} has no [{MODEL}] section{_meant(MODEL, names)}; add one with "
            "type = NeuralNetwork",
            path=file,
            section=MODEL,
        )
    for section in sections:
        _check_section(section)


def _check_section(section: Section) -> None:
    name = block_name(section.name)
    if name == "":
        raise section.error(f"a checkpoint block needs a name; write [{BLOCK} NAME]")
    if section.name not in OWN_SECTIONS:
        fault = name_fault(section.name if name is None else name)
        if fault:
            raise section.error(f"the name {fault}; give it another one")
    for key, value in section.values.items():
        if not value:
            raise section.error("has no value; give one or remove the key", key)
    if is_layer(section) and "backbone" not in section.values:
        _require_type(section)


def _require_type(section: Section) -> None:
    if "type" in section.values:
        return
    kind = "fully_connected" if is_layer(section) else "constant"
    slip = difflib.get_close_matches("type", list(section.values), n=1, cutoff=0.75)
    raise section.error(
        "this section has no type"
        + (f" (did you mean it by {slip[0]!r}?)" if slip else "")
        + (_meant(section.name, OWN_SECTIONS) or _meant_block(section.name))
        + f"; add one, for example type = {kind}",
        "type",
    )


def _meant(word: str, known: Iterable[str]) -> str:
    """Return a suggestion such as ``" (did you mean [x]?)"`` for a likely typing error.

    `nearest` accepts larger differences, which suits keys but not names of layers,
    which can be any words.
    """
    lowered = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.75)
    return f" (did you mean [{lowered[found[0]]}]?)" if found else ""


def _meant_block(header: str) -> str:
    first = header.split()[0].lower()
    found = difflib.get_close_matches(first, [BLOCK.lower()], n=1, cutoff=0.75)
    return f" (did you mean [{BLOCK} NAME]?)" if found else ""


# -- model -----------------------------------------------------------------------------


def _seed(head: Section) -> int:
    given = {key: text for key, text in head.values.items() if key == "seed"}
    with head.building():
        return int(parse_properties("model", [SEED], given).get("seed", SEED.default))


def _set_properties(model: Model, head: Section, left: LeftOut) -> None:
    kind = head.values.get("type", "neuralnetwork")
    if kind.lower() != "neuralnetwork":
        raise head.error(
            f"unknown model type {kind!r}{nearest(kind, ['neuralnetwork'])}; only "
            "NeuralNetwork can be trained here",
            "type",
            type_name=kind,
        )
    given = head.without("type", "seed", "loss", *_OLD_OPTIMIZER_KEYS)
    own = [declared.name for declared in MODEL_PROPERTIES]
    for key, text in head.values.items():
        if key in _LEFT_OUT:
            left.add(head, key, _LEFT_OUT[key])
            del given[key]
        elif key in _NEUTRAL:
            neutral, holds = _NEUTRAL[key]
            if text.lower() not in neutral:
                raise head.error(f"{holds}, and remove {key} here", key)
            del given[key]
        elif key in given and key not in own:
            with head.building():
                raise unknown_property("model", key, [*own, "type", "seed", "loss"])
    with head.building():
        model.set_property(**given)


def _set_optimizer(
    model: Model, head: Section, section: Section | None, left: LeftOut
) -> None:
    old = {key: head.values[key] for key in _OLD_OPTIMIZER_KEYS if key in head.values}
    if old and "optimizer" not in old and section:
        for key in old:  # as in NNTrainer
            left.add(head, key, f"[{OPTIMIZER}] is there as well, and it counts")
        old = {}
    if old and (section or "optimizer" not in old):
        key = next(iter(old))
        raise head.error(
            f"[{OPTIMIZER}] is the place for the optimizer"
            + (", and it is there as well" if section else "")
            + f"; move {key} there"
            + ("" if section else ", and its type"),
            key,
        )
    if section is not None:
        kind, given, key = section.values.get("type", "adam"), section.values, ""
    elif old:
        section, kind, given, key = head, old["optimizer"], old, "optimizer"
    else:
        return
    properties = {
        name: text
        for name, text in given.items()
        if name not in ("type", "optimizer", *_DECAY_KEYS)
    }
    with section.building(key):
        model.set_optimizer(create_optimizer(kind, _strings(properties)))
    decay = {name: given[name] for name in _DECAY_KEYS if name in given}
    if decay:
        with section.building(next(iter(decay))):
            rate = model.optimizer["learning_rate"]
            model.set_learning_rate_scheduler(
                create_schedule("exponential", learning_rate=rate, **decay)
            )


def _set_schedule(model: Model, section: Section) -> None:
    if model.schedule is not None:
        raise section.error(
            "the learning rate decays by decay_rate and decay_steps of the optimizer "
            "already; remove them, or this section"
        )
    _require_type(section)
    with section.building():
        texts = _strings(section.without("type"))
        kind = section.values["type"]
        model.set_learning_rate_scheduler(create_schedule(kind, texts))


def _strings(values: Mapping[str, str]) -> list[str]:
    return [f"{key}={text}" for key, text in values.items()]


# -- layers ----------------------------------------------------------------------------


def _add_layers(model: Model, layers: list[Section]) -> None:
    names = [section.name for section in layers]
    for section in layers:
        layer = _create_layer(section)
        for source in layer["input_layers"] or ():
            if find_output(source, names) is None:
                raise section.error(
                    f"layer {source!r} does not exist{nearest(source, names)}; the "
                    f"file has {listed(names)}",
                    "input_layers",
                    unknown=source,
                )
        with section.building():
            model.add_layer(layer)


def _create_layer(section: Section) -> Layer:
    kind = section.values["type"]
    if "name" in section.values:
        raise section.error(
            f"the section is the layer's name, {section.name!r}; remove this key",
            "name",
        )
    meant = _meant(section.name, OWN_SECTIONS)
    if kind.lower() not in LAYER_TYPES and meant:
        raise section.error(
            f"unknown layer type {kind!r}; the section is taken for a layer{meant}",
            "type",
            type_name=kind,
        )
    texts = _strings(section.without("type"))
    with section.building():
        return create_layer(kind, [f"name={section.name}", *texts])


def _with_loss(
    head: Section, layers: list[Section]
) -> tuple[list[Section], dict[str, str]]:
    """Add the loss layer of ``[Model] loss``; cross entropy replaces an activation."""
    if "loss" not in head.values:
        return layers, {}
    kind = head.values["loss"].lower()
    if kind not in _LOSSES:
        raise head.error(
            f"unknown loss {kind!r}"
            f"{renamed(kind, LAYERS, _LOSSES) or nearest(kind, _LOSSES)}; known are "
            f"{', '.join(_LOSSES)}",
            "loss",
            type_name=kind,
        )
    for section in layers:
        layer_type = LAYER_TYPES.get(section.values["type"].lower())
        if section.name == "loss" or (layer_type and layer_type.is_loss):
            raise head.error(
                f"layer {section.name!r} in line {section.lines['']} is a loss or has "
                "its name already; remove one of them",
                "loss",
                layer=section.name,
            )
    loss = replace(head, name="loss", lines={"": head.lines["loss"]})
    if kind != "cross":
        return [*layers, replace(loss, values={"type": kind})], {}
    last = layers[-1] if layers else None
    activation = last.values.get("activation", "").lower() if last else ""
    if last is None or activation not in ("softmax", "sigmoid"):
        raise head.error(
            "cross needs softmax or sigmoid as the activation of the last layer; add "
            "it, or write cross_softmax or cross_sigmoid, which bring their own",
            "loss",
            activation=activation or None,
        )
    values = {"type": f"cross_{activation}"}
    if last.values["type"].lower() != "activation":
        kept = replace(last, values=last.without("activation"))
        return [*layers[:-1], kept, replace(loss, values=values)], {}
    if "input_layers" in last.values:
        values["input_layers"] = last.values["input_layers"]
    loss = replace(last, name="loss", values=values)
    return [*layers[:-1], loss], {last.name: "loss"}


def _add_block(model: Model, section: Section, renamed: Mapping[str, str]) -> None:
    for key in section.without("layers"):
        with section.building():
            raise unknown_property(f"section {section.name!r}", key, ["layers"])
    if "layers" not in section.values:
        raise section.error(
            "names no layers; write them in forward order, layers = fc1, act1",
            "layers",
        )
    names = [name.strip() for name in section.values["layers"].split(",")]
    with section.building("layers"):
        model.add_checkpoint_block(
            [renamed.get(name, name) for name in names], block_name(section.name) or ""
        )
