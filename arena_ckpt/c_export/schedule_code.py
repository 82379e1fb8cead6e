"""The numbers of the optimizer in C: learning-rate schedules and hyperparameters.

They are those of `optim.learning_rates` and `optim.optimizers`, operation by operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from arena_ckpt.c_export.literals import double_literal
from arena_ckpt.optim.learning_rates import Schedule
from arena_ckpt.optim.optimizers import Optimizer


def learning_rate_lines(optimizer: Optimizer, schedule: Schedule | None) -> list[str]:
    """Return the C function that returns the learning rate of an iteration."""
    if schedule is None:
        body = [f"    return {double_literal(optimizer['learning_rate'])};"]
        comment = "The learning rate of the optimizer, in every iteration."
    else:
        body = list(_BODIES[schedule.type_name](schedule.values))
        comment = f"The learning rate of an iteration: schedule {schedule.type_name}."
    uses = any("iteration" in line for line in body)
    return [
        f"/* {comment} */",
        "static double learning_rate(uint32_t iteration)",
        "{",
        *(body if uses else ["    (void)iteration;", *body]),
        "}",
    ]


def hyperparameter_lines(optimizer: Optimizer) -> list[str]:
    """Return the C statements that set what the kernel of an optimizer reads."""
    numbers = ["rate", "1.0"]
    if optimizer.type_name == "sgd":
        if optimizer["momentum"]:
            numbers.append(double_literal(optimizer["momentum"]))
    elif optimizer.type_name == "rmsprop":
        names = ("alpha", "epsilon", *(["momentum"] if optimizer["momentum"] else []))
        numbers += [double_literal(optimizer[name]) for name in names]
    else:
        beta1, beta2 = map(double_literal, (optimizer["beta1"], optimizer["beta2"]))
        numbers += [beta1, beta2, double_literal(optimizer["epsilon"])]
        numbers += [
            f"1.0 - ac_whole_power({beta}, (int64_t)iteration + 1)"
            for beta in (beta1, beta2)
        ]
        if optimizer.type_name == "adamw":
            numbers.append(double_literal(optimizer["weight_decay"]))
    return [
        f"    CONTROL[HYPER + {place}] = {number};"
        for place, number in enumerate(numbers)
    ]


def functions_used(optimizer: Optimizer, schedule: Schedule | None) -> tuple[str, ...]:
    """Return the functions of `elementary.c` that the numbers need."""
    lines = [*learning_rate_lines(optimizer, schedule)]
    lines += hyperparameter_lines(optimizer)
    known = ("ac_power", "ac_cosine", "ac_whole_power")
    return tuple(n for n in known if any(f"{n}(" in line for line in lines))


def _constant(values: Mapping[str, Any]) -> Iterator[str]:
    yield f"    return {double_literal(values['learning_rate'])};"


def _exponential(values: Mapping[str, Any]) -> Iterator[str]:
    rate, base = map(double_literal, (values["learning_rate"], values["decay_rate"]))
    yield (
        f"    return {rate} * ac_power({base}, (double)iteration / "
        f"{double_literal(values['decay_steps'])});"
    )


def _step(values: Mapping[str, Any]) -> Iterator[str]:
    *rates, last = values["learning_rate"]
    for iteration, rate in zip(values["iteration"], rates, strict=True):
        if iteration < 2**32:
            yield f"    if (iteration <= {iteration}u) {{"
            yield f"        return {double_literal(rate)};"
            yield "    }"
        else:
            last = rate
            break
    yield f"    return {double_literal(last)};"


def _linear(values: Mapping[str, Any]) -> Iterator[str]:
    highest, lowest = values["max_learning_rate"], values["min_learning_rate"]
    steps, least = double_literal(values["decay_steps"]), double_literal(lowest)
    yield f"    double done = (double)iteration / {steps};"
    yield (
        f"    double rate = {double_literal(highest)} - "
        f"{double_literal(highest - lowest)} * done;"
    )
    yield f"    return {least} > rate ? {least} : rate;"


def _cosine(values: Mapping[str, Any]) -> Iterator[str]:
    highest, lowest = values["max_learning_rate"], values["min_learning_rate"]
    steps = values["decay_steps"]
    within = f"iteration % {steps}u" if steps < 2**32 else "iteration"
    yield (
        f"    double angle = {double_literal(math.pi)} * (double)({within}) / "
        f"{double_literal(steps)};"
    )
    yield (
        f"    return {double_literal(lowest)} + "
        f"{double_literal((highest - lowest) * 0.5)} * (1.0 + ac_cosine(angle));"
    )


_BODIES: dict[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "constant": _constant,
    "exponential": _exponential,
    "step": _step,
    "linear": _linear,
    "cosine": _cosine,
}
