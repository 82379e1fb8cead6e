"""Attention and recurrent layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arena_ckpt.importers.emit_elements import binary
from arena_ckpt.importers.foreign_axes import BATCH, Size, View, axes_of
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import ModelBuilder, describe, sizes_of


def attention(
    build: ModelBuilder,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Value | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    rate: float = 0.0,
) -> Tensor:
    """Add softmax(q kᵀ · scale + mask) v of each head.

    Parameters
    ----------
    build : ModelBuilder
    query, key, value : Tensor
        (batch, heads, positions, width); heads of key and value may be fewer, or
        repeated, or left out.
    mask : Value or None
        Added to the scores: (…, positions, positions), -inf forbids.
    is_causal : bool
    scale : float or None
        None is 1 / √width.
    rate : float
        Of dropout.
    """
    if query.rank != 4 or query.view.dims[0] != (BATCH,):
        q, k, v = (_heads_in_one(x) for x in (query, key, value))
        if any(x.sizes[:-2] != query.sizes[:-2] for x in (key, value)):
            raise UnsupportedOperation(
                f"attention of {describe(query.sizes)} to {describe(key.sizes)}"
            )
        if mask is not None and sizes_of(mask)[:-2] not in _ONE_MASK:
            raise UnsupportedOperation(f"a mask of {describe(sizes_of(mask))}")
        out = attention(
            build,
            q,
            k,
            v,
            mask,
            is_causal=is_causal,
            scale=scale,
            rate=rate,
        )
        return out.seen(_heads_apart(out.view, query.view))
    width = query.sizes[-1].factor
    if scale is not None and not math.isclose(
        scale, 1 / math.sqrt(width), rel_tol=1e-6
    ):
        query = binary(
            build,
            "multiply",
            query,
            Fixed(np.array(scale * math.sqrt(width), np.float32)),
        )
    heads = query.sizes[1].factor
    rows = []
    kept = []
    for x in (query, key, value):
        if x.rank != 4 or x.view.dims[0] != (BATCH,):
            raise UnsupportedOperation(
                f"attention over {describe(x.sizes)}; (batch, heads, positions, "
                "width) is what there is a layer for"
            )
        # Heads of key and value that are repeated stay one: groups of queries share it.
        if _repeats_behind(x.view):
            heads_kept = tuple(a for a in x.view.dims[1] if not a.is_repeated)
            x = x.seen(x.view.with_dim(1, heads_kept))
        x = build.written(x)
        dims = x.view.dims
        x = build.ordered(x, (*dims[2], *dims[1], *dims[3]))
        kept.append(x)
        sizes = [size.factor for size in x.sizes]
        rows.append(build.shaped(x.source, (1, sizes[2], sizes[1] * sizes[3])))
    heads_kv = kept[1].sizes[1].factor
    if kept[2].sizes[1].factor != heads_kv or heads % heads_kv:
        raise UnsupportedOperation(
            f"{heads} heads of the query for {heads_kv} of the key and "
            f"{kept[2].sizes[1].factor} of the value"
        )
    steps = kept[0].sizes[2].factor
    inner = kept[2].sizes[3].factor
    if mask is not None:
        rows.append(_mask(build, mask, heads, steps, kept[1].sizes[2].factor))
    more: dict[str, Any] = {}
    if heads_kv != heads:
        more["num_heads_kv"] = heads_kv
    if is_causal:
        more["is_causal"] = True
    if rate:
        more["dropout_rate"] = rate
    source = build.add(
        "attention",
        rows,
        (1, steps, heads * inner),
        num_heads=heads,
        **more,
    )
    last = axes_of(inner)
    dims = kept[0].view.dims
    order = (*dims[2], *dims[1], *last)
    return Tensor(source, View(order, (*dims[:3], last)))


_ONE_MASK: tuple[tuple[Size, ...], ...] = ((), (Size(1),), (Size(1), Size(1)))
"""Sizes before the last two of a mask that is the same for all heads."""


def _heads_in_one(x: Tensor) -> Tensor:
    """Return (batch, heads, positions, width), with all other dimensions as heads."""
    dims = x.view.dims
    lead = [axis for dim in dims[:-2] for axis in dim]
    if lead.count(BATCH) != 1:
        raise UnsupportedOperation(f"attention over {describe(x.sizes)}")
    heads = tuple(axis for axis in lead if axis is not BATCH)
    return x.seen(View(x.view.order, ((BATCH,), heads, *dims[-2:])))


def _heads_apart(view: View, like: View) -> View:
    """Return a view with the dimensions of another one in the place of heads."""
    heads = iter(view.dims[1])
    lead = tuple(
        tuple(BATCH if axis is BATCH else next(heads) for axis in dim)
        for dim in like.dims[:-2]
    )
    return View(view.order, (*lead, *view.dims[2:]))


def _repeats_behind(view: View) -> bool:
    """Whether the repeats of heads are behind the heads themselves."""
    seen = [axis.is_repeated for axis in view.dims[1]]
    return seen == sorted(seen)


def _mask(build: ModelBuilder, mask: Value, heads: int, steps: int, keys: int) -> str:
    if isinstance(mask, Tensor):
        if mask.rank != 4 or mask.sizes[2:] != ((steps, False), (keys, False)):
            raise UnsupportedOperation(f"a mask of {describe(mask.sizes)}")
        mask = build.plain(mask)
        n = mask.sizes[1].factor
        if n not in (1, heads):
            raise UnsupportedOperation(f"a mask of {describe(mask.sizes)}")
        return build.shaped(mask.source, (n, steps, keys))
    array = mask.array
    shape = (1,) * (4 - array.ndim) + array.shape
    if shape[0] != 1 or shape[1] not in (1, heads):
        raise UnsupportedOperation(f"a mask of {array.shape}")
    if isinstance(mask, Fixed):
        if array.dtype == bool:
            array = np.where(array, np.float32(0), np.float32(-np.inf))
        whole = np.broadcast_to(array.reshape(shape), (1, shape[1], steps, keys))
        mask = Fixed(whole)
    elif mask.is_trained:
        raise UnsupportedOperation("a mask that is trained")
    return build.table(mask, (shape[1], steps, keys))


@dataclass(frozen=True, slots=True)
class RecurrentWeights:
    """The weights of one direction of a recurrent layer, in our order of gates.

    Attributes
    ----------
    weight_ih : Table
        (width, gates · unit)
    weight_hh : Table
        (unit, gates · unit)
    bias_ih, bias_hh : Table or None
        (gates · unit,)
    """

    weight_ih: Table
    weight_hh: Table
    bias_ih: Table | None
    bias_hh: Table | None

    def named(self, prefix: str = "") -> dict[str, Table]:
        """Return the weights by our names."""
        names = {
            "weight_ih": self.weight_ih,
            "weight_hh": self.weight_hh,
            "bias_ih": self.bias_ih,
            "bias_hh": self.bias_hh,
        }
        return {prefix + name: w for name, w in names.items() if w is not None}


def recurrent(
    build: ModelBuilder,
    kind: str,
    x: Tensor,
    directions: Sequence[RecurrentWeights],
    *,
    with_states: bool = False,
    with_output: bool = True,
    with_cell: bool = True,
    **properties: Any,
) -> tuple[Tensor, list[Tensor]]:
    """Add a recurrent layer over (batch, steps, width) that begins with zeros.

    Parameters
    ----------
    build : ModelBuilder
    kind : {"rnn", "lstm", "gru"}
    x : Tensor
    directions : sequence of RecurrentWeights
        One, or forward and backward.
    with_states : bool
        The last states are read.
    with_output : bool
        The steps are read; without them only the last one is kept.
    with_cell : bool
        With the states of an lstm, c is read as well.
    **properties

    Returns
    -------
    (Tensor, list of Tensor)
        (batch, steps, directions · unit), and the last states (batch, directions ·
        unit): h, and c of an lstm.
    """
    if x.rank != 3 or BATCH not in x.view.dims[0]:
        raise UnsupportedOperation(
            f"{describe(x.sizes)}: a sequence is (batch, steps, width) here; set "
            "batch_first=True"
        )
    x = build.plain(x)
    steps, width = (size.factor for size in x.sizes[1:])
    unit = directions[0].weight_hh.array.shape[0]
    total = unit * len(directions)
    weights = directions[0].named()
    if len(directions) == 2:
        weights |= directions[1].named("reverse_")
        properties["bidirectional"] = True
    if directions[0].bias_ih is None:
        properties["disable_bias"] = True
    is_cell_read = kind == "lstm" and with_cell
    if not with_output and with_states and len(directions) == 1 and not is_cell_read:
        with_states, is_last = False, True  # the last step is the last state
    else:
        is_last = False
    if with_states:
        properties["return_state"] = True
    name = build.add(
        kind,
        [build.shaped(x.source, (1, steps, width))],
        (1, steps if with_output else 1, total),
        weights=weights,
        unit=unit,
        return_sequences=with_output,
        **properties,
    )
    if is_last:
        state = Tensor(name, View.of_sample([total]))
        return state, [state]
    output = Tensor(name, x.view.resized(2, total))
    states = []
    if with_states:
        for i in range(2 if kind == "lstm" else 1):
            source = build.output_of(name, i + 1, (1, 1, total))
            states.append(Tensor(source, View.of_sample([total])))
        if kind == "lstm" and not with_cell:
            states[0] = _beside_unread(build, states[0], states[1])
    return output, states


def _beside_unread(build: ModelBuilder, x: Tensor, unread: Tensor) -> Tensor:
    """Return a tensor that reads another output too, as each state has to be read."""
    nothing = binary(build, "multiply", unread, Fixed(np.array(0.0)))
    return binary(build, "add", x, nothing)
