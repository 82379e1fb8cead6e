"""The graph of a model from outside, before anything of it is a layer of ours.

What captures a model writes it down in these structures; the rules that turn operations
into layers read them, and need not know what captured it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.importers.foreign_axes import Size


@dataclass(frozen=True, slots=True)
class Ref:
    """A mention of the result of a node, an input or a table.

    Attributes
    ----------
    name : str
    """

    name: str


def mentioned(value: Any) -> list[str]:
    """Return the names that an argument mentions, in tuples too."""
    if isinstance(value, Ref):
        return [value.name]
    if isinstance(value, tuple):
        return [name for one in value for name in mentioned(one)]
    return []


Extent = Size | None
"""Elements along an axis; None where they do not grow in proportion to the samples."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """The shape and the dtype of a tensor of a foreign graph.

    Attributes
    ----------
    shape : tuple of Size or None
    dtype : str
        As NumPy calls it.
    """

    shape: tuple[Extent, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class ForeignNode:
    """An operation of a foreign graph.

    Attributes
    ----------
    name : str
    op : str
        Name of the operation, the same for the variant that works in place.
    variant : str
        Full name, for messages and rules of one variant alone.
    args : mapping
        Arguments by their names, with defaults filled in. Results of others are `Ref`,
        lists are tuples, dtypes are their names.
    result : TensorType, tuple of them, or None
        None where it is no tensor.
    module : str
        Dotted path of the module that the operation is called in; empty for the whole.
    module_type : str
        Name of the class of that module.
    where : str
        ``file.py:12``: the line of the user's code; empty where it is not known.
    """

    name: str
    op: str
    variant: str
    args: Mapping[str, Any]
    result: TensorType | tuple[TensorType | None, ...] | None
    module: str
    module_type: str
    where: str


@dataclass(frozen=True, slots=True)
class ForeignInput:
    """A tensor that a foreign model is given for each batch.

    Attributes
    ----------
    name : str
        Of the node that stands for it.
    type : TensorType
    """

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class ForeignTable:
    """A tensor that a foreign model holds: a parameter, a buffer or a constant.

    Attributes
    ----------
    name : str
        By which the state of the model has it; the first of several.
    values : array
    is_trained : bool
        Whether its gradient is wanted.
    is_state : bool
        Whether the state of the model has it, so that it must be given back.
    aliases : tuple of str
        All names by which the state has the same tensor, `name` among them.
    """

    name: str
    values: npt.NDArray[np.generic]
    is_trained: bool
    is_state: bool
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForeignGraph:
    """A foreign model that was captured.

    Attributes
    ----------
    inputs : tuple of ForeignInput
    tables : mapping of str to ForeignTable
        By the names of the nodes that stand for them; several may be one tensor.
    nodes : tuple of ForeignNode
        In an order in which they can run; all of them reach an output.
    outputs : tuple
        References to what the model returns, or what is no tensor.
    output_names : tuple of str
        What the outputs are called in messages.
    """

    inputs: tuple[ForeignInput, ...]
    tables: Mapping[str, ForeignTable]
    nodes: tuple[ForeignNode, ...]
    outputs: tuple[Any, ...]
    output_names: tuple[str, ...]
