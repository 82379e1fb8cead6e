"""Rules for recurrent layers, attention and rotary positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.importers import emit_elements, emit_parts
from arena_ckpt.importers import emit_sequences as emit
from arena_ckpt.importers.emit_sequences import RecurrentWeights
from arena_ckpt.importers.foreign_axes import Size
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import ModelBuilder, sizes_of
from arena_ckpt.importers.onnx_folding import Known
from arena_ckpt.importers.onnx_joined import JoinedTable, plain
from arena_ckpt.importers.onnx_rules import (
    OnnxCall,
    Result,
    plain_sizes,
    rule,
    weight_of,
)

# -- recurrent layers ------------------------------------------------------------------

_GATES = {"RNN": (0,), "LSTM": (0, 2, 3, 1), "GRU": (0, 1, 2)}
"""Which of ONNX's blocks is which of ours: input, forget, memory cell, output of an
LSTM, where ONNX has the output second; update, reset, memory cell of a GRU."""

_DEFAULTS = {
    "RNN": ("Tanh",),
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "GRU": ("Sigmoid", "Tanh"),
}
_ACTIVATIONS = {
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "relu": "relu",
}


@rule("RNN", "LSTM", "GRU")
def _recurrent(call: OnnxCall) -> Result | tuple[Result | None, ...]:
    op, build = call.node.op, call.builder
    _require_plain_steps(call)
    direction = call.attribute("direction", "forward")
    n = 2 if direction == "bidirectional" else 1
    batch_first = bool(call.attribute("layout", 0))
    x: Value = call.tensor(0)
    if not batch_first:
        x = build.permute(x, (1, 0, 2))
    if direction == "reverse":
        x = _backwards(call, x)
    assert isinstance(x, Tensor)
    steps = plain_sizes(x, [1])[0]
    weight, recurrent = weight_of(call, 1), weight_of(call, 2)
    bias = weight_of(call, 3) if call.has(3) else None
    if weight.array.shape[0] != n or recurrent.array.shape[0] != n:
        raise UnsupportedOperation(f"its weights are not those of {n} directions")
    unit = recurrent.array.shape[2]
    weights = [_weights(op, weight, recurrent, bias, i) for i in range(n)]
    wants_cell = op == "LSTM" and len(call.wanted) > 2 and call.wanted[2]
    y, states = emit.recurrent(
        build,
        op.lower(),
        x,
        weights,
        with_states=wants_cell,
        **_properties(call, n),
    )
    whole = build.reshape(y, [y.sizes[0], y.sizes[1], Size(n), Size(unit)])
    wants_hidden = len(call.wanted) > 1 and call.wanted[1]
    hidden = cell = None
    if wants_cell:
        if not wants_hidden:
            raise UnsupportedOperation("its last cell state is read without Y_h")
        hidden, cell = (
            build.reshape(state, [y.sizes[0], Size(n), Size(unit)]) for state in states
        )
        if not call.wanted[0]:
            # All outputs of a layer have to be read; the mean of equals is exact.
            same = _last_steps(build, whole, steps, n)
            both = emit_elements.binary(build, "add", hidden, same)
            hidden = _times(build, both, 0.5)
    elif wants_hidden:
        hidden = _last_steps(build, whole, steps, n)
    if direction == "reverse":
        whole = _backwards(call, whole) if call.wanted[0] else whole
    if not batch_first:
        whole = build.permute(whole, (1, 2, 0, 3))
        hidden = build.permute(hidden, (1, 0, 2)) if hidden is not None else None
        cell = build.permute(cell, (1, 0, 2)) if cell is not None else None
    return whole, hidden, cell


def _last_steps(build: ModelBuilder, whole: Value, steps: int, n: int) -> Value:
    """Return the state after the last step of each direction, (batch, n, unit)."""
    parts = []
    for i in range(n):
        own = emit_parts.cut(build, whole, 2, i, i + 1)
        parts.append(emit_parts.select(build, own, 1, 0 if i else steps - 1))
    return parts[0] if n == 1 else emit_parts.concat(build, parts, 1)


def _require_plain_steps(call: OnnxCall) -> None:
    """Refuse what our layers do not have.

    Raises
    ------
    UnsupportedOperation
    """
    if call.has(4):
        x = call.tensor(0)
        axis = 1 if call.attribute("layout", 0) else 0
        lengths = call.known(4).uniform
        if lengths != plain_sizes(x, [axis])[0]:
            raise UnsupportedOperation("sequences of several lengths")
    for place, what in ((5, "initial_h"), (6, "initial_c"), (7, "peepholes")):
        if call.has(place):
            given = call.given(place)
            if isinstance(given, Table) and not given.is_trained:
                given = Known.of(given.array)
            if not isinstance(given, Known) or given.uniform != 0.0:
                raise UnsupportedOperation(f"{what} other than zeros")
    if call.attribute("clip") is not None:
        raise UnsupportedOperation("states that are clipped (clip)")
    if call.attribute("input_forget", 0):
        raise UnsupportedOperation("input and forget gates that are one (input_forget)")
    for name in ("activation_alpha", "activation_beta"):
        if call.attribute(name):
            raise UnsupportedOperation(f"activations with numbers ({name})")


def _properties(call: OnnxCall, n: int) -> dict[str, Any]:
    op = call.node.op
    given = tuple(call.attribute("activations") or _DEFAULTS[op] * n)
    per = len(_DEFAULTS[op])
    ways = {given[i * per : (i + 1) * per] for i in range(n)}
    names = [name.lower() for name in next(iter(ways))]
    if len(ways) != 1 or len(names) != per or set(names) - set(_ACTIVATIONS):
        raise UnsupportedOperation(f"activations {', '.join(given)}")
    hidden = names[-1]
    if op == "LSTM" and names[1] != names[2]:
        raise UnsupportedOperation(f"activations {', '.join(given)}")
    found: dict[str, Any] = {}
    if hidden != "tanh":
        found["hidden_state_activation"] = _ACTIVATIONS[hidden]
    if op != "RNN" and names[0] != "sigmoid":
        found["recurrent_activation"] = _ACTIVATIONS[names[0]]
    if op == "GRU":
        found["reset_after"] = bool(call.attribute("linear_before_reset", 0))
    return found


def _weights(
    op: str, weight: Table, recurrent: Table, bias: Table | None, i: int
) -> RecurrentWeights:
    """Return the weights of a direction in our order of gates."""
    n_gates = len(_GATES[op])
    unit = recurrent.array.shape[2]

    def matrix(table: Table) -> Table:
        inner = table.array.shape[2]
        one = plain(table.sliced(0, i, i + 1)).reshaped((n_gates, unit, inner))
        ours = one.taken(0, _GATES[op]) if op == "LSTM" else one
        return ours.reshaped((n_gates * unit, inner)).permuted((1, 0))

    def vector(table: Table, half: int) -> Table:
        one = table.sliced(0, i, i + 1).reshaped((2, n_gates, unit))
        own = plain(one.sliced(0, half, half + 1)).reshaped((n_gates, unit))
        if isinstance(own, JoinedTable):
            raise UnsupportedOperation("a bias that is joined out of several weights")
        ours = own.taken(0, _GATES[op]) if op == "LSTM" else own
        return ours.reshaped((n_gates * unit,))

    if bias is None:
        return RecurrentWeights(matrix(weight), matrix(recurrent), None, None)
    return RecurrentWeights(
        matrix(weight), matrix(recurrent), vector(bias, 0), vector(bias, 1)
    )


MOST_STEPS = 64
"""Maximum number of steps that are put in the opposite order one by one."""


def _backwards(call: OnnxCall, x: Value) -> Value:
    """Return (batch, steps, …) from the last step to the first."""
    build = call.builder
    steps = sizes_of(x)[1].factor
    if steps > MOST_STEPS:
        raise UnsupportedOperation(
            f"{steps} steps from the last to the first (direction=reverse)"
        )
    parts = [emit_parts.cut(build, x, 1, i, i + 1) for i in reversed(range(steps))]
    return emit_parts.concat(build, parts, 1)


# -- attention -------------------------------------------------------------------------


@rule("Attention")
def _attention(call: OnnxCall) -> Result | tuple[Result | None, ...]:
    build = call.builder
    q, k, v = (call.tensor(place) for place in range(3))
    is_flat = q.rank == 3
    if is_flat:
        heads, heads_kv = (
            int(call.attribute(name, 0)) for name in ("q_num_heads", "kv_num_heads")
        )
        q = _in_heads(build, q, heads)
        k, v = _in_heads(build, k, heads_kv), _in_heads(build, v, heads_kv)
    if call.has(6):
        raise UnsupportedOperation("lengths of keys (nonpad_kv_seqlen)")
    past = 0
    if call.has(4) or call.has(5):
        past = plain_sizes(call.tensor(4), [2])[0]
        k = _joined(build, call.tensor(4), k)
        v = _joined(build, call.tensor(5), v)
    given = call.attribute("scale")
    scale = None if given is None else float(given)
    cap = float(call.attribute("softcap", 0.0))
    causal = bool(call.attribute("is_causal", 0))
    windows = [
        int(call.attribute(name, -1))
        for name in ("left_window_size", "right_window_size")
    ]
    mode = int(call.attribute("qk_matmul_output_mode", 0))
    mask = call.value(3) if call.has(3) else None
    wants_scores = len(call.wanted) > 3 and call.wanted[3]
    scores: Value | None = None
    simple = not (cap or wants_scores or past) and windows == [-1, -1]
    steps, keys = plain_sizes(q, [2])[0], plain_sizes(k, [2])[0]
    simple = simple and (mask is None or isinstance(mask, Fixed))
    simple = simple and q.view.batch_first and not (causal and mask is not None)
    simple = simple and (mask is None or _has_open_rows(mask, steps, keys))
    simple = simple and not (causal and steps > keys)
    if simple:
        if isinstance(mask, Fixed):
            mask = _full_mask(mask, keys)
        y = emit.attention(build, q, k, v, mask, is_causal=causal, scale=scale)
    else:
        forbidden = _forbidden(steps, keys, past, causal, windows)
        y, scores = _composed(call, q, k, v, mask, forbidden, scale, cap, mode)
    out: Value = y
    if is_flat:
        out = build.permute(out, (0, 2, 1, 3))
        sizes = sizes_of(out)
        flat = Size(sizes[2].factor * sizes[3].factor)
        out = build.reshape(out, [sizes[0], sizes[1], flat])
    return out, k, v, scores


def _in_heads(build: ModelBuilder, x: Tensor, heads: int) -> Tensor:
    """Return (batch, steps, heads · width) as (batch, heads, steps, width)."""
    batch, steps, width = x.sizes
    if heads < 1 or width.factor % heads:
        raise UnsupportedOperation(f"{heads} heads of {width.factor} columns")
    parted = build.reshape(x, [batch, steps, Size(heads), Size(width.factor // heads)])
    return _tensor(build.permute(parted, (0, 2, 1, 3)))


def _joined(build: ModelBuilder, past: Tensor, now: Tensor) -> Tensor:
    return _tensor(emit_parts.concat(build, [past, now], 2))


def _tensor(value: Value) -> Tensor:
    assert isinstance(value, Tensor)
    return value


def _additive(mask: Fixed) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    if mask.array.dtype == bool:
        return np.where(mask.array, np.float32(0), np.float32(-np.inf))
    return mask.array.astype(np.float32)


def _full_mask(mask: Fixed, keys: int) -> Fixed:
    """Return an additive mask over all keys; those beyond it are forbidden."""
    array = _additive(mask)
    missing = keys - array.shape[-1]
    if missing > 0 and array.shape[-1] != 1:
        margins = [(0, 0)] * (array.ndim - 1) + [(0, missing)]
        array = np.pad(array, margins, constant_values=-np.inf)
    return Fixed(array)


def _has_open_rows(mask: Value, steps: int, keys: int) -> bool:
    """Whether every query may see some key."""
    if not isinstance(mask, Fixed):
        return False
    return bool((_additive(mask) > -np.inf).any(-1).all())


def _composed(
    call: OnnxCall,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Value | None,
    forbidden: npt.NDArray[np.bool_],
    scale: float | None,
    cap: float,
    mode: int,
) -> tuple[Tensor, Value | None]:
    """Return attention as products and a softmax, and the scores that are asked for."""
    build = call.builder
    keys = plain_sizes(k, [2])[0]
    width = plain_sizes(q, [3])[0]
    k, v = (_repeated(build, x, q.sizes[1].factor) for x in (k, v))
    factor = 1 / math.sqrt(width) if scale is None else scale
    q = _times(build, q, factor)
    scores = emit_elements.matmul(build, q, build.permute(k, (0, 1, 3, 2)))
    stages: dict[int, Value] = {0: scores}
    added: Value | None = mask
    if isinstance(mask, Fixed):
        full = _full_mask(mask, keys).array
        forbidden = forbidden | (full == -np.inf)
        added = Fixed(np.where(full == -np.inf, np.float32(0), full))
    elif mask is not None and _tensor(mask).is_whole:
        raise UnsupportedOperation("a mask of yes and no that comes from the data")
    capped = scores
    if cap:
        small = _times(build, scores, 1 / cap)
        capped = _times(build, emit_elements.function(build, small, "tanh"), cap)
    stages[1] = capped
    biased = capped
    if forbidden.any():
        far = Fixed(np.where(forbidden, _LEAST, np.float32(0)))
        biased = emit_elements.binary(build, "add", biased, far)
    if added is not None:
        biased = emit_elements.binary(build, "add", biased, added)
    stages[2] = biased
    if mode == 2 and forbidden.any() and len(call.wanted) > 3 and call.wanted[3]:
        raise UnsupportedOperation("its scores of -inf are read")
    shares = emit_elements.softmax(build, biased, 3)
    if forbidden.all(-1).any():
        # A query that may see no key gives zeros.
        open_rows = ~forbidden.all(-1, keepdims=True)
        alive = Fixed(np.asarray(open_rows, np.float32))
        shares = emit_elements.binary(build, "multiply", shares, alive)
    stages[3] = shares
    if not call.wanted[0]:
        return biased if mode < 3 else shares, stages[mode]
    return emit_elements.matmul(build, shares, v), stages[mode]


def _forbidden(
    steps: int, keys: int, past: int, causal: bool, windows: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Return which keys a query may not see because of where they stand."""
    places, columns = np.arange(steps)[:, None] + past, np.arange(keys)[None, :]
    left, right = windows
    forbidden = np.zeros((steps, keys), bool)
    if causal:
        forbidden |= columns > places
    if left >= 0:
        forbidden |= columns < places - left
    if right >= 0:
        forbidden |= columns > places + right
    return forbidden


_LEAST = np.float32(-1e30)
"""What is added to a score that does not count: far below all, and yet finite."""


def _times(build: ModelBuilder, x: Tensor, factor: float) -> Tensor:
    number = Fixed(np.array(factor, np.float32))
    return emit_elements.binary(build, "multiply", x, number)


def _repeated(build: ModelBuilder, x: Tensor, heads: int) -> Tensor:
    """Return heads of keys or values, each for a group of heads of the query."""
    batch, own, steps, width = x.sizes
    if own.factor == heads:
        return x
    if heads % own.factor:
        raise UnsupportedOperation(f"{heads} heads of the query for {own.factor}")
    group = heads // own.factor
    parted = build.reshape(x, [batch, own, Size(1), steps, width])
    full = build.expand(parted, [None, None, Size(group), None, None])
    return _tensor(build.reshape(full, [batch, Size(heads), steps, width]))


# -- rotary positions ------------------------------------------------------------------


@rule("RotaryEmbedding")
def _rotary(call: OnnxCall) -> Result:
    x, build = call.tensor(0), call.builder
    is_flat = x.rank == 3
    if is_flat:
        x = _in_heads(build, x, int(call.attribute("num_heads", 0)))
    width = plain_sizes(x, [3])[0]
    turned = int(call.attribute("rotary_embedding_dim", 0)) or width
    cosines, sines = (_angles(call, place) for place in (1, 2))
    part = _tensor(emit_parts.cut(build, x, 3, 0, turned))
    half = Size(turned // 2)
    if call.attribute("interleaved", 0):
        parted = build.reshape(part, [*part.sizes[:3], half, Size(2)])
        a, b = (emit_parts.select(build, parted, 4, i) for i in (0, 1))
    else:
        a, b = emit_parts.split(build, part, [half.factor] * 2, 3)
    first = _turned(build, "subtract", (a, cosines), (b, sines))
    second = _turned(build, "add", (a, sines), (b, cosines))
    if call.attribute("interleaved", 0):
        columns = [build.unsqueeze(one, 4) for one in (first, second)]
        joined = emit_parts.concat(build, columns, 4)
        joined = build.reshape(joined, part.sizes)
    else:
        joined = emit_parts.concat(build, [first, second], 3)
    if turned < width:
        rest = emit_parts.cut(build, x, 3, turned, width)
        joined = emit_parts.concat(build, [joined, rest], 3)
    if is_flat:
        joined = build.permute(joined, (0, 2, 1, 3))
        sizes = sizes_of(joined)
        flat = Size(sizes[2].factor * sizes[3].factor)
        joined = build.reshape(joined, [sizes[0], sizes[1], flat])
    return joined


def _turned(
    build: ModelBuilder, kind: str, one: Sequence[Value], other: Sequence[Value]
) -> Value:
    products = [emit_elements.binary(build, "multiply", *pair) for pair in (one, other)]
    return emit_elements.binary(build, kind, products[0], products[1])


def _angles(call: OnnxCall, place: int) -> Value:
    """Return cosines or sines as (batch, 1, steps, half)."""
    build, table = call.builder, call.value(place)
    if call.has(3):
        ids = call.value(3)
        if isinstance(ids, Tensor):
            if isinstance(table, Fixed):
                table = weight_of(call, place)
            if not isinstance(table, Table):
                raise UnsupportedOperation("cosines that depend on the data")
            table = Table.of(table.name, table.array, is_trained=False)
            rows: Value = emit_parts.embedding(build, ids, table)
        else:
            array = table.array if not isinstance(table, Tensor) else None
            if array is None:
                raise UnsupportedOperation("cosines that depend on the data")
            rows = Fixed(array[ids.array.astype(np.int64)])
    else:
        rows = Fixed(table.array) if isinstance(table, Table) else table
    return build.unsqueeze(rows, 1)
