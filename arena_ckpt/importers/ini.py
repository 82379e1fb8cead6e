"""Imports models from NNTrainer's INI format.

`arena_ckpt.importers.ini_sections` makes sections of the text; here they become a
`Model`. NNTrainer's `[Model] loss`, and its former place of the optimizer, `[Model]
optimizer`, are read as well; `Model.save_ini` writes neither.

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
from arena_ckpt.importers.ini_sections import Section, read_sections
from arena_ckpt.layers import LAYER_TYPES, create_layer
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.shape import Input
from arena_ckpt.model import Model
from arena_ckpt.optim.learning_rates import create_schedule
from arena_ckpt.optim.optimizers import create_optimizer

_LOSSES = ("mse", "cross", "cross_softmax", "cross_sigmoid")
_OLD_OPTIMIZER_KEYS = ("optimizer", "learning_rate", "beta1", "beta2", "epsilon")
_NORMALIZATION = "normalization"
_ELSEWHERE = {
    "save_path": "an INI file holds no paths; give one when weights are saved",
    "decay_rate": f"give it in [{SCHEDULER}], with type = exponential",
    "decay_steps": f"give it in [{SCHEDULER}], with type = exponential",
    "continue_train": "training begins when it is called",
    "tensor_type": "all tensors are float32",
    "model_tensor_type": "all tensors are float32",
    "tensor_format": "shapes are channel:height:width, as in NCHW",
}
"""Keys of NNTrainer's [Model] section that we do not support, with what to do
instead."""


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
    Keys and types may be in any case, names of layers may not. ``#`` and ``;`` begin a
    comment anywhere in a line. ``[Model]`` is required; without ``[Optimizer]`` the
    model keeps its default (sgd), and without a type in it the type is adam, as in
    NNTrainer.

    ``[Model] loss = mse``, ``cross_softmax`` or ``cross_sigmoid`` adds such a layer,
    named ``loss``, at the end. ``cross`` does as well, and the activation of the last
    layer decides which: a softmax or sigmoid, given as an activation layer or as the
    property of a layer, is removed, because the loss computes it itself. A loss layer
    in the file together with ``[Model] loss`` is an error.

    ``standardization = true`` of an input layer is by the data of the first training,
    not, as in NNTrainer, of each sample by itself. ``normalization = true``, which is
    by the least and largest value of each batch there, is an error.

    Data are not part of the file: ``[Dataset]``, ``[train_set]``, ``[valid_set]`` and
    ``[test_set]`` are errors that say where to give them instead.

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
    layers = [section for section in sections if _is_layer(section.name)]
    blocks = [s for s in sections if block_name(s.name) is not None]

    model = Model(seed=_seed(head))
    _set_properties(model, head)
    _set_optimizer(model, head, by_name.get(OPTIMIZER))
    if schedule := by_name.get(SCHEDULER):
        _require_type(schedule)
        with schedule.building():
            texts = _strings(schedule.without("type"))
            kind = schedule.values["type"]
            model.set_learning_rate_scheduler(create_schedule(kind, texts))
    renamed = _add_layers(model, head, layers)
    for block in blocks:
        _add_block(model, block, renamed)
    return model


# -- sections --------------------------------------------------------------------------


def _is_layer(name: str) -> bool:
    return name not in OWN_SECTIONS and block_name(name) is None


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
        if section.name in DATA_SECTIONS:
            raise section.error(
                "data are not part of an INI file here; give them to Model.train(), "
                "or to the command line with --data, and remove this section"
            )
        name = block_name(section.name)
        if name == "":
            raise section.error(
                f"a checkpoint block needs a name; write [{BLOCK} NAME]"
            )
        if section.name not in OWN_SECTIONS:
            fault = name_fault(section.name if name is None else name)
            if fault:
                raise section.error(f"the name {fault}; give it another one")
        for key, value in section.values.items():
            if not value:
                raise section.error("has no value; give one or remove the key", key)
        if _is_layer(section.name):
            _require_type(section)


def _require_type(section: Section) -> None:
    if "type" in section.values:
        return
    if "backbone" in section.values:
        raise section.error(
            "models in other files are not read; write their layers here", "backbone"
        )
    kind = "fully_connected" if _is_layer(section.name) else "constant"
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


def _set_properties(model: Model, head: Section) -> None:
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
    for key in given:
        if key in _ELSEWHERE:
            raise head.error(f"{_ELSEWHERE[key]}, and remove {key} here", key)
        if key not in own:
            with head.building():
                raise unknown_property("model", key, [*own, "type", "seed", "loss"])
    with head.building():
        model.set_property(**given)


def _set_optimizer(model: Model, head: Section, section: Section | None) -> None:
    old = {key: head.values[key] for key in _OLD_OPTIMIZER_KEYS if key in head.values}
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
        kind = section.values.get("type", "adam")
        with section.building():
            model.set_optimizer(
                create_optimizer(kind, _strings(section.without("type")))
            )
    elif old:
        kind = old.pop("optimizer")
        with head.building("optimizer"):
            model.set_optimizer(create_optimizer(kind, _strings(old)))


def _strings(values: Mapping[str, str]) -> list[str]:
    return [f"{key}={text}" for key, text in values.items()]


# -- layers ----------------------------------------------------------------------------


def _add_layers(model: Model, head: Section, layers: list[Section]) -> dict[str, str]:
    """Add all layers; return the new name of the layer that the loss replaced."""
    layers, renamed = _with_loss(head, layers)
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
    return renamed


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
    # What NNTrainer's input layers are by default; true is refused as unknown.
    is_off = section.values.get(_NORMALIZATION, "").lower() in (
        "false",
        "0",
        "off",
        "no",
    )
    is_input = LAYER_TYPES.get(kind.lower()) is Input
    left_out = (_NORMALIZATION,) if is_off and is_input else ()
    texts = _strings(section.without("type", *left_out))
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
