"""Models from PyTorch on the command line: ``file.py:function``, and their state.

A function may return a module, or a tuple of the module, its example inputs and its
loss, as `from_torch` takes them.
"""

from __future__ import annotations

from typing import Any

from arena_ckpt.errors import InvalidParameterError, StateError
from arena_ckpt.importers.torch_import import Imported, from_torch
from arena_ckpt.model import Model


def imported_from(made: Any, where: str, *, check: bool) -> Imported:
    """Return the model of what a function has returned.

    Parameters
    ----------
    made : object
        A module, (module, inputs) or (module, inputs, loss).
    where : str
        The function, for messages.
    check : bool
        Compare the model with PyTorch.

    Raises
    ------
    InvalidParameterError
        A module without example inputs.
    UnsupportedModelError, ImportCheckError
        See `from_torch`.
    """
    module, *rest = made if isinstance(made, tuple) else (made,)
    if not rest:
        rest = [getattr(module, "example_input_array", None)]
    if rest[0] is None or len(rest) > 2:
        raise InvalidParameterError(
            f"{where} returned a {type(module).__name__}, which is traced on example "
            "inputs; return (module, inputs) or (module, inputs, loss), or give it an "
            "attribute example_input_array",
            module=type(module).__name__,
        )
    return from_torch(module, *rest, check=check)


def state_dict_bytes(model: Model, spec: str) -> bytes:
    """Return the state of an imported model as a file in the format safetensors.

    Parameters
    ----------
    model : Model
        Initialized with the weights to write.
    spec : str
        The model, for messages.

    Raises
    ------
    InvalidParameterError
        It was not imported from PyTorch.
    """
    from safetensors.numpy import save

    try:
        state = model.to_state_dict()
    except StateError as error:
        raise InvalidParameterError(
            f"{spec} has no names of PyTorch: {error}", model=spec
        ) from None
    return save(state)
