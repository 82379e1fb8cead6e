"""The option ``--loss`` of commands, for models whose files bring none."""

from __future__ import annotations

import re
from typing import Any

import click

from arena_ckpt.errors import InvalidParameterError

_KEY = "arena_ckpt.loss"


def _keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta[_KEY] = value


loss_option = click.option(
    "--loss",
    metavar="LOSS",
    expose_value=False,
    callback=_keep,
    help="The loss of a MODEL that is a PATH.onnx, for example mse, or with properties "
    "'cross_softmax(per_token=true)'.",
)


def given_loss() -> str | None:
    """Return what the present command was given as ``--loss``."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(_KEY)


def parse_loss(text: str) -> str | tuple[str, dict[str, Any]]:
    """Return a loss as `load_onnx` takes it.

    Raises
    ------
    InvalidParameterError
        It is neither a type nor ``TYPE(PROPERTY=VALUE, …)``.
    """
    found = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text)
    if found is None:
        raise _no_loss(text)
    kind, inside = found.groups()
    if inside is None:
        return str(kind)
    properties = {}
    for part in re.split(r",(?=\s*\w+\s*=)", inside):
        name, equals, value = part.partition("=")
        if not (equals and name.strip() and value.strip()):
            raise _no_loss(text)
        properties[name.strip()] = value.strip()
    return str(kind), properties


def _no_loss(text: str) -> InvalidParameterError:
    return InvalidParameterError(
        f"--loss {text!r} is no loss; write a type, mse, or a type with properties, "
        "'cross_softmax(per_token=true)'",
        loss=text,
    )
