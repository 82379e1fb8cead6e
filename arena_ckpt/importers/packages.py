"""Access to the optional packages that models from elsewhere are read with."""

from __future__ import annotations

import importlib
from typing import Any

from arena_ckpt.errors import InvalidParameterError

_EXTRAS = {"torch": ("PyTorch", "torch"), "onnx": ("onnx", "onnx")}


def require_package(name: str, user: str) -> Any:
    """Return an optional package.

    Parameters
    ----------
    name : str
        As it is imported.
    user : str
        What needs it, for the message.

    Raises
    ------
    InvalidParameterError
        It is not installed.
    """
    title, extra = _EXTRAS[name]
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InvalidParameterError(
            f"{user} needs {title}, which is not installed; install it with "
            f"'pip install arena-ckpt[{extra}]'",
            package=name,
        ) from None
