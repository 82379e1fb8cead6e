"""Writes models as INI files that NNTrainer accepts.

A key that it does not know stops NNTrainer, so each one that is written stands in the
tables below. What a model has beyond them is of two kinds: what changes how it trains,
how it is planned or how it begins is left out and said; what changes the outputs that
it computes is refused, all of it in one error.

References
----------
NNTrainer at 9f8ed93: nntrainer/app_context.cpp (types), nntrainer/layers/*.h and
common_properties.h (properties and their values), nntrainer/models/model_loader.cpp
(sections).
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Mapping, Sequence

from arena_ckpt.common.properties import write_properties
from arena_ckpt.common.wording import listed, shown
from arena_ckpt.definition.ini_writer import (
    MODEL,
    OPTIMIZER,
    SCHEDULER,
    SEED,
    layer_name_fault,
    write_sections,
)
from arena_ckpt.errors import IniError
from arena_ckpt.files.source import path_text
from arena_ckpt.graph.blocks import CheckpointBlock
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.layers.base import Layer
from arena_ckpt.optim.learning_rates import Schedule
from arena_ckpt.optim.optimizers import OPTIMIZER_SCHEMAS, Optimizer

_MODEL_KEYS = ("batch_size", "epochs", "memory_optimization", "clip_grad_by_norm")
_OPTIMIZERS: Mapping[str, tuple[str, ...]] = {
    "sgd": ("learning_rate",),
    "adam": ("learning_rate", "beta1", "beta2", "epsilon"),
    "adamw": ("learning_rate", "beta1", "beta2", "epsilon", "weight_decay"),
}

_OF_ALL = ("input_layers", "input_shape", "activation", "trainable", "shared_from")
_OF_WEIGHTS = (
    *("weight_initializer", "bias_initializer", "disable_bias"),
    *("weight_regularizer", "weight_regularizer_constant"),
    *("weight_decay", "bias_decay"),
)
_OF_NORMS = ("gamma_initializer", "beta_initializer", "weight_decay", "bias_decay")
_OF_FILTERS = ("filters", "kernel_size", "stride", "padding", "dilation")
_OF_CELLS = ("unit", "hidden_state_activation", "integrate_bias", "dropout_rate")

_LAYERS: Mapping[str, tuple[str, ...]] = {
    "activation": (),
    "add": (),
    "addition": (),
    "batch_normalization": (
        *("epsilon", "momentum", *_OF_NORMS),
        *("moving_mean_initializer", "moving_variance_initializer"),
    ),
    "channel_shuffle": ("groups",),
    "concat": ("axis",),
    "conv1d": (*_OF_FILTERS, *_OF_WEIGHTS),
    "conv2d": (*_OF_FILTERS, *_OF_WEIGHTS),
    "conv2dtranspose": (*_OF_FILTERS, *_OF_WEIGHTS),
    "cross_sigmoid": (),
    "cross_softmax": (),
    "divide": (),
    "dropout": ("dropout_rate",),
    "embedding": ("in_dim", "out_dim", *_OF_WEIGHTS),
    "flatten": (),
    "fully_connected": ("unit", "lora_rank", "lora_alpha", *_OF_WEIGHTS),
    "gru": (
        *(*_OF_CELLS, *_OF_WEIGHTS),
        *("recurrent_activation", "return_sequences", "reset_after"),
    ),
    "grucell": (*_OF_CELLS, *_OF_WEIGHTS, "recurrent_activation", "reset_after"),
    "identity": (),
    "input": (),
    "layer_normalization": ("axis", "epsilon", *_OF_NORMS),
    "lstm": (
        *(*_OF_CELLS, *_OF_WEIGHTS),
        *("recurrent_activation", "return_sequences", "bidirectional"),
    ),
    "lstmcell": (*_OF_CELLS, *_OF_WEIGHTS, "recurrent_activation"),
    "matmul": (),
    "mse": (),
    "multi_head_attention": (
        *("num_heads", "projected_key_dim", "projected_value_dim", "output_shape"),
        *("dropout_rate", *_OF_WEIGHTS),
    ),
    "multiout": (),
    "multiply": (),
    "negative": (),
    "permute": ("direction",),
    "pooling2d": ("pooling", "pool_size", "stride", "padding"),
    "positional_encoding": ("max_timestep",),
    "pow": ("exponent",),
    "reduce_mean": ("axis",),
    "reduce_sum": ("axis",),
    "reshape": ("target_shape",),
    "rnn": (*_OF_CELLS, *_OF_WEIGHTS, "return_sequences"),
    "rnncell": (*_OF_CELLS, *_OF_WEIGHTS),
    "slice": ("axis", "start_index", "end_index"),
    "split": ("axis", "split_number"),
    "sqrt": (),
    "subtract": (),
    "upsample2d": ("upsample", "kernel_size"),
}
"""The types of layers that NNTrainer has and that mean the same there, with the
properties that it takes beside those of all layers."""

NAMES_THERE: Mapping[tuple[str, str], str] = {
    ("channel_shuffle", "groups"): "split_number",
}
"""Properties that have another name in NNTrainer."""

_ACTIVATIONS = (
    *("tanh", "sigmoid", "relu", "swish", "gelu", "tanh_gelu", "sigmoid_gelu"),
    *("softmax", "softplus", "leaky_relu", "elu", "selu", "mish", "none"),
)
_VALUES: Mapping[str, tuple[str, ...]] = {
    "activation": _ACTIVATIONS,
    "hidden_state_activation": _ACTIVATIONS,
    "recurrent_activation": _ACTIVATIONS,
    "pooling": ("max", "average", "global_max", "global_average"),
    "upsample": ("nearest", "bilinear"),
    "trainable": ("true", "false"),
}

_LEFT_OUT: Mapping[str, str] = {
    "attention": "it has one way to compute attention",
    "class_weight": "all classes count the same",
    "ignore_label": "all labels count",
    "init": "weights begin in its own way",
    "label_smoothing": "labels are not smoothed",
    "learning_rate_scale": "all layers have one learning rate",
    "pos_weight": "ones and zeros count the same",
    "standardization": "it has another meaning there; scale the data",
    "unbiased_variance": "moving variances are of the biased variance",
    "unroll": "it decides by itself how it runs",
    "weight": "all losses count the same",
}
"""Properties of layers that change no output, and what holds there without them."""

_NAME = re.compile(r"[a-zA-Z0-9][-_./a-zA-Z0-9]*")
_COMMENT_WIDTH = 88
_LONGEST_LINE = 1023
"""Maximum number of characters of a line that iniparser reads."""


def write_nntrainer_ini(
    path: str | os.PathLike[str],
    *,
    properties: Mapping[str, str],
    layers: Sequence[Layer],
    blocks: Sequence[CheckpointBlock],
    optimizer: Optimizer,
    schedule: Schedule | None,
    seed: int,
) -> tuple[str, ...]:
    """Write a model as an INI file that NNTrainer reads.

    Parameters
    ----------
    path, properties, layers, blocks, optimizer, schedule, seed
        See `arena_ckpt.definition.ini_writer.write_ini`.

    Returns
    -------
    tuple of str
        What was left out, each with what holds there instead; the same lines stand as
        comments at the head of the file.

    Raises
    ------
    IniError
        Layers, properties or names that NNTrainer does not have, all of them named; or
        a file that cannot be written. Nothing was changed.
    """
    file = path_text(path)
    left: list[str] = []
    gaps: list[str] = []
    sections: list[tuple[str, Mapping[str, str]]] = []
    head = {key: text for key, text in properties.items() if key in _MODEL_KEYS}
    left += [
        f"[{MODEL}] {key} = {text}: it has no such key"
        for key, text in properties.items()
        if key not in head
    ]
    if seed != SEED.default:
        left.append(f"[{MODEL}] seed = {seed}: it draws initial weights by itself")
    sections.append((MODEL, {"type": "NeuralNetwork", **head}))
    sections += _training_sections(optimizer, schedule, left)
    for index, layer in enumerate(layers):
        section = _layer_section(layer, index == 0, left, gaps)
        sections.append((layer.name, section))
    for block in blocks:
        left.append(
            f"checkpoint block {block.name!r} of {listed(block.layers)}: it keeps all "
            "activations, or has blocks that are named in its code"
        )
    if gaps:
        raise IniError(
            f"{file}: NNTrainer has no counterpart for {len(gaps):,} of what the model "
            f"computes: {listed(gaps, '; ')}. Change these layers, or save it with "
            "save_ini(path) for load_ini",
            path=file,
            gaps=tuple(gaps),
        )
    for name, given in sections:
        _require_short(file, name, given)
    write_sections(path, sections, _comment(left))
    return tuple(left)


def _comment(left: Sequence[str]) -> str:
    """Return comment lines; a backslash at the end of one would continue it."""
    if not left:
        return ""
    lines = ["# Left out, as NNTrainer has nothing for it:"]
    for note in left:
        lines += textwrap.wrap(
            note.replace("\\", "/"),
            _COMMENT_WIDTH,
            initial_indent="# - ",
            subsequent_indent="#   ",
        )
    return "\n".join([*lines, "", ""])


def _training_sections(
    optimizer: Optimizer, schedule: Schedule | None, left: list[str]
) -> list[tuple[str, Mapping[str, str]]]:
    kind, given = optimizer.type_name, optimizer.to_properties()
    declared = OPTIMIZER_SCHEMAS[kind]
    every = write_properties(declared, {p.name: optimizer[p.name] for p in declared})
    if kind not in _OPTIMIZERS:
        left.append(
            f"[{OPTIMIZER}] {kind}: it has {', '.join(_OPTIMIZERS)}; choose one in "
            "the code, without which it only predicts"
        )
        if schedule is not None:
            left.append(f"[{SCHEDULER}] {schedule.type_name}: it needs [{OPTIMIZER}]")
        return []
    # All of them, as some defaults are others there.
    kept = {key: every[key] for key in _OPTIMIZERS[kind]}
    left += [
        f"[{OPTIMIZER}] {key} = {text}: its {kind} has no such key"
        for key, text in given.items()
        if key not in kept
    ]
    sections: list[tuple[str, Mapping[str, str]]] = [
        (OPTIMIZER, {"type": kind, **kept})
    ]
    if schedule is not None:
        rates = {"type": schedule.type_name, **schedule.to_properties()}
        sections.append((SCHEDULER, rates))
    return sections


def _layer_section(
    layer: Layer, is_first: bool, left: list[str], gaps: list[str]
) -> dict[str, str]:
    """Return the keys of a layer; note what is left out, and what cannot be."""
    name, kind = layer.name, layer.type_name
    if _NAME.fullmatch(name) is None or layer_name_fault(name):
        gaps.append(f"the name {name!r} (letters, digits and - _ . / are possible)")
    if LAYER_TYPES.get(kind) is not type(layer) or kind not in _LAYERS:
        gaps.append(f"layer {name!r} of type {kind}")
        return {}
    values = {key: value for key, value in layer.given.items() if key != "name"}
    if not is_first and kind != "input":
        values.pop("input_shape", None)  # it would make the layer an input there
    if values.pop("bias", True) is False:
        values["disable_bias"] = True
    defaults = {declared.name: declared.default for declared in layer.properties}
    section = {"type": kind}
    for key, text in write_properties(layer.properties, values).items():
        if key in _OF_ALL or key in _LAYERS[kind]:
            if (kind, key) == ("reshape", "target_shape"):
                text = "-1" if values[key] == (1, 1, -1) else text
                if "-1" in text.split(":") and text != "-1":
                    gaps.append(f"target_shape={text} of layer {name!r}")
            elif key in _VALUES and text not in _VALUES[key]:
                gaps.append(f"{key}={text} of layer {name!r}")
            section[NAMES_THERE.get((kind, key), key)] = text
        elif values[key] == defaults[key]:
            continue
        elif key in _LEFT_OUT:
            left.append(f"[{name}] {key} = {shown(text)}: {_LEFT_OUT[key]}")
        else:
            gaps.append(f"{key}={shown(text)} of layer {name!r} ({kind})")
    return section


def _require_short(file: str, name: str, given: Mapping[str, str]) -> None:
    for key, text in given.items():
        n_characters = len(f"{key} = {text}\n".encode())
        if n_characters > _LONGEST_LINE:
            raise IniError(
                f"{file}: [{name}] {key} would be a line of {n_characters:,} bytes, "
                f"and NNTrainer reads {_LONGEST_LINE:,}; give it fewer values",
                path=file,
                section=name,
                key=key,
            )
