"""The layers of a part of a model, by the dotted path that their names begin with."""

from __future__ import annotations

from collections.abc import Iterable

from arena_ckpt.common.wording import nearest, quoted
from arena_ckpt.errors import InvalidParameterError, UnknownLayerError


def layers_of_module(names: Iterable[str], module: str) -> tuple[str, ...]:
    """Return the layers of a module of an imported model, in their order.

    Parameters
    ----------
    names : iterable of str
        Of all layers.
    module : str
        A path such as ``"layer1.0"``; its layers are called that, or begin with it and
        a dot or a slash.

    Raises
    ------
    UnknownLayerError
        No layer is.
    """
    if not isinstance(module, str) or not module:
        raise InvalidParameterError(
            f"module={quoted(module)} is not possible; give the path of a module, for "
            "example 'layer1.0'",
            module=module,
        )
    every = tuple(names)
    found = tuple(
        name
        for name in every
        if name == module or name.startswith((f"{module}.", f"{module}/"))
    )
    if not found:
        paths = {name.partition("/")[0] for name in every}
        known = {
            ".".join(path.split(".")[: i + 1])
            for path in paths
            for i in range(path.count(".") + 1)
        }
        raise UnknownLayerError(
            f"no layer belongs to a module {module!r}{nearest(module, sorted(known))}",
            module=module,
        )
    return found
