"""Rules for dropout, and for the random numbers by which a branch is dropped."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from arena_ckpt.importers import torch_rules_math as arithmetic
from arena_ckpt.importers.emit_elements import binary
from arena_ckpt.importers.emit_pictures import dropout
from arena_ckpt.importers.foreign_axes import Size
from arena_ckpt.importers.foreign_values import Fixed, Tensor
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import sizes_of
from arena_ckpt.importers.torch_rules import RULES, Call, Noise, rule, sizes_from


@rule("dropout", "native_dropout")
def _dropout(call: Call) -> Any:
    name = "input" if "input" in call.args else "self"
    if not call["train"] or call["p"] == 0:
        return call[name]
    if call["p"] == 1:
        raise UnsupportedOperation("it drops everything")
    return dropout(call.build, call.tensor(name), float(call["p"]))


@rule("feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def _other_dropout(call: Call) -> Any:
    if not call["train"] or call["p"] == 0:
        return call["input" if "input" in call.args else "self"]
    raise UnsupportedOperation(
        "it drops whole channels, or moves what is left; dropout of elements has a "
        "layer"
    )


@rule("empty", "new_empty", "empty_like", "rand", "rand_like", "new_rand")
def _drawn(call: Call) -> Noise:
    """Numbers that a later operation fills in, or that are spread evenly."""
    sizes = (
        list(sizes_of(call.value("self")))
        if call.node.op.endswith("_like")
        else sizes_from(call["size"])
    )
    whole = tuple(size for size in sizes if size is not None)
    return Noise(None, 0.0, 1.0, whole)


@rule("bernoulli")
def _bernoulli(call: Call) -> Noise:
    given, keep = call["self"], call.get("p")
    if isinstance(given, Noise) and keep is None:
        raise UnsupportedOperation("its probabilities are random")
    if isinstance(given, Fixed) and (keep is None or keep == 0.5):
        values = np.unique(given.array)
        if keep is None and len(values) == 1:
            sizes = tuple(size or Size(1) for size in call.node.result.shape)  # type: ignore[union-attr]
            return Noise(float(values[0]), 0.0, 1.0, sizes)
    if not isinstance(keep, int | float):
        raise UnsupportedOperation("its probabilities are a tensor")
    sizes = (
        given.sizes if isinstance(given, Noise) else tuple(sizes_of(call.value("self")))
    )
    return Noise(float(keep), 0.0, 1.0, sizes)


@rule("floor")
def _floor(call: Call) -> Noise:
    noise = call["self"]
    if not isinstance(noise, Noise) or noise.keep is not None:
        raise UnsupportedOperation("it rounds, which has no gradient")
    return replace(noise, keep=noise.shift, shift=0.0)


def _with_noise(op: str) -> None:
    """Let the rule of an operation take random numbers that drop branches."""
    other = RULES[op]

    def ruled(call: Call) -> Any:
        left, right = call.get("self"), call.get("other")
        if isinstance(left, Noise):
            return _noise_first(call, left, right)
        if isinstance(right, Noise):
            return _noise_second(call, left, right)
        return other(call)

    RULES[op] = ruled


def _number(value: Any) -> float | None:
    if isinstance(value, Fixed) and value.array.size == 1:
        return float(value.array.item())
    return float(value) if isinstance(value, int | float) else None


def _noise_first(call: Call, noise: Noise, other: Any) -> Any:
    number, op = _number(other), call.node.op
    if number is not None:
        if op == "add" and noise.keep is None:
            return replace(noise, shift=noise.shift + number)
        if op == "mul":
            return replace(noise, factor=noise.factor * number)
        if op == "div":
            return replace(noise, factor=noise.factor / number)
    if op == "mul" and isinstance(other, Tensor):
        return _dropped(call, other, noise)
    raise UnsupportedOperation(_ALONE)


def _noise_second(call: Call, other: Any, noise: Noise) -> Any:
    op = call.node.op
    if op in ("add", "mul") and _number(other) is not None:
        return _noise_first(call, noise, other)
    if op == "mul" and isinstance(other, Tensor):
        return _dropped(call, other, noise)
    raise UnsupportedOperation(_ALONE)


_ALONE = (
    "it draws random numbers; as a factor that keeps with a probability, "
    "bernoulli(p) or floor(rand + p), they have a layer"
)


def _dropped(call: Call, x: Tensor, noise: Noise) -> Tensor:
    """Multiply by random numbers: drop samples, or elements, and scale what is left."""
    if noise.keep is None or not 0 < noise.keep <= 1:
        raise UnsupportedOperation(_ALONE)
    of_sample = [size == Size(1) for size in noise.sizes[1:]]
    if not noise.sizes or noise.sizes[0] != Size(1, True):
        raise UnsupportedOperation("its random numbers are the same for all samples")
    if all(of_sample):
        kind = "drop_path"
    elif noise.sizes == x.sizes:
        kind = "dropout"
    else:
        raise UnsupportedOperation("it drops whole channels")
    made = dropout(call.build, x, 1.0 - noise.keep, kind)
    # The layer divides by what it keeps.
    factor = noise.factor * noise.keep
    if math.isclose(factor, 1.0, rel_tol=1e-6):
        return made
    return binary(call.build, "multiply", made, Fixed(np.array(factor)))


assert arithmetic  # its rules are the ones that are extended
for _op in ("add", "mul", "div"):
    _with_noise(_op)
