"""Access to the optional packages that models from elsewhere are read with."""

from __future__ import annotations

from typing import Any

from arena_ckpt.errors import InvalidParameterError


def require_torch(user: str) -> Any:
    """Return PyTorch.

    Parameters
    ----------
    user : str
        What needs it, for the message.

    Raises
    ------
    InvalidParameterError
        It is not installed.
    """
    try:
        import torch
    except ImportError:
        raise InvalidParameterError(
            f"{user} needs PyTorch, which is not installed; install it with "
            "'pip install arena-ckpt[torch]'",
            package="torch",
        ) from None
    return torch
