"""Turns an optimizer of PyTorch into one of ours, or says what has no counterpart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from arena_ckpt.common.wording import quoted
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.importers.torch_package import require_torch
from arena_ckpt.optim.optimizers import Optimizer, create_optimizer

_NEUTRAL: dict[str, Any] = {
    "foreach": ...,  # how PyTorch runs the same arithmetic
    "fused": ...,
    "capturable": ...,
    "differentiable": ...,
    "params": ...,
    "initial_lr": ...,
    "maximize": False,
    "amsgrad": False,
    "centered": False,
    "dampening": 0,
    "decoupled_weight_decay": ...,
}
"""Options without a counterpart here, and the values that they may have."""


def optimizer_from_torch(optimizer: Any) -> tuple[Optimizer, float]:
    """Return the counterpart of an optimizer of PyTorch.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        An SGD, Adam, AdamW or RMSprop with one set of options for all parameters, that
        has made no step.

    Returns
    -------
    (Optimizer, float)
        The second is the L2 decay, which is a property of our layers: `weight_decay`
        and `bias_decay` of each.

    Raises
    ------
    InvalidParameterError
        It is another optimizer, has options without a counterpart, or has made steps.
    """
    torch = require_torch("an optimizer of PyTorch")
    kind = type(optimizer).__name__
    known: dict[str, Callable[[Mapping[str, Any]], tuple[Optimizer, float]]] = {
        "SGD": _sgd,
        "Adam": _adam,
        "AdamW": _adamw,
        "RMSprop": _rmsprop,
    }
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InvalidParameterError(
            f"optimizer={quoted(optimizer)} is no optimizer of PyTorch; give one, or "
            "call model.set_optimizer on the imported model",
            optimizer=optimizer,
        )
    if kind not in known:
        raise InvalidParameterError(
            f"torch.optim.{kind} has no counterpart; there are those of "
            f"{', '.join(known)}",
            optimizer=kind,
        )
    if optimizer.state:
        raise InvalidParameterError(
            f"the {kind} has made steps, and what it remembers of them is not "
            "imported; give one that is new",
            optimizer=kind,
        )
    groups = optimizer.param_groups
    options = dict(groups[0])
    for name, value in options.items():
        if name != "params" and any(group[name] != value for group in groups):
            raise InvalidParameterError(
                f"the groups of the {kind} differ in {name}; one value is for all "
                "weights here, and learning_rate_scale and weight_decay are set layer "
                "by layer with model.replace_layer",
                option=name,
            )
        neutral = _NEUTRAL.get(name, ...)
        if neutral is not ... and value != neutral:
            raise InvalidParameterError(
                f"{name}={value} of the {kind} has no counterpart; only "
                f"{name}={neutral} can be imported",
                option=name,
                value=value,
            )
    return known[kind](options)


def _number(value: Any) -> float:
    number = float(value)
    assert math.isfinite(number)
    return number


def _sgd(options: Mapping[str, Any]) -> tuple[Optimizer, float]:
    values: dict[str, Any] = {"learning_rate": _number(options["lr"])}
    if options["momentum"]:
        values["momentum"] = _number(options["momentum"])
        values["nesterov"] = bool(options["nesterov"])
    return create_optimizer("sgd", **values), _number(options["weight_decay"])


def _moments(options: Mapping[str, Any]) -> dict[str, Any]:
    beta1, beta2 = map(_number, options["betas"])
    rate, epsilon = _number(options["lr"]), _number(options["eps"])
    return {
        "learning_rate": rate,
        "beta1": beta1,
        "beta2": beta2,
        "epsilon": epsilon,
    }


def _adam(options: Mapping[str, Any]) -> tuple[Optimizer, float]:
    if options.get("decoupled_weight_decay") and options["weight_decay"]:
        return _adamw(options)
    made = create_optimizer("adam", **_moments(options))
    return made, _number(options["weight_decay"])


def _adamw(options: Mapping[str, Any]) -> tuple[Optimizer, float]:
    decay = _number(options["weight_decay"])
    return create_optimizer("adamw", **_moments(options), weight_decay=decay), 0.0


def _rmsprop(options: Mapping[str, Any]) -> tuple[Optimizer, float]:
    made = create_optimizer(
        "rmsprop",
        learning_rate=_number(options["lr"]),
        alpha=_number(options["alpha"]),
        epsilon=_number(options["eps"]),
        momentum=_number(options["momentum"]),
    )
    return made, _number(options["weight_decay"])
