"""Rules for PyTorch's convolutions, poolings, norms, attention and recurrent layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arena_ckpt.importers import emit_parts, emit_pictures
from arena_ckpt.importers.emit_elements import binary, matmul, softmax
from arena_ckpt.importers.emit_pictures import Margins, Pair
from arena_ckpt.importers.emit_sequences import (
    RecurrentWeights,
    attention,
    recurrent,
)
from arena_ckpt.importers.foreign_axes import BATCH, Size, View
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import ModelBuilder, describe, sizes_of
from arena_ckpt.importers.torch_rules import Call, as_table, pair, rule
from arena_ckpt.importers.torch_rules_math import FORBIDDEN

_FLOAT32_EPSILON = float(np.finfo(np.float32).eps)


def _needed(table: Table | None, name: str) -> Table:
    if table is None:
        raise UnsupportedOperation(f"it has no {name}")
    return table


def _pair(value: Any, rank: int, neutral: int) -> Pair:
    """Return numbers for height and width, of what has one dimension the second."""
    if rank == 3:
        number = value[0] if isinstance(value, tuple) else value
        return neutral, int(number)
    return pair(value)


# -- convolutions


@rule("conv1d", "conv2d")
def _convolution(call: Call) -> Tensor:
    x, weight = call.tensor("input"), _needed(call.table("weight"), "weight")
    rank = weight.array.ndim
    dilation = _pair(call["dilation"], rank, 1)
    return emit_pictures.convolution(
        call.build,
        x,
        weight,
        call.table("bias"),
        stride=_pair(call["stride"], rank, 1),
        padding=_margins(call["padding"], weight, dilation),
        dilation=dilation,
        groups=call["groups"],
    )


def _margins(padding: Any, weight: Table, dilation: Pair) -> Margins:
    """Return padding at top, bottom, left and right."""
    rank = weight.array.ndim
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        kernel = (1, 1, *weight.array.shape[2:])[-2:]
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return (
            total[0] // 2,
            total[0] - total[0] // 2,
            total[1] // 2,
            total[1] - total[1] // 2,
        )
    vertical, horizontal = _pair(padding, rank, 0)
    return vertical, vertical, horizontal, horizontal


@rule("conv_transpose1d", "conv_transpose2d")
def _transposed_convolution(call: Call) -> Tensor:
    x, weight = call.tensor("input"), _needed(call.table("weight"), "weight")
    if call["groups"] != 1:
        raise UnsupportedOperation(f"groups={call['groups']}; there is a layer for 1")
    rank = weight.array.ndim
    vertical, horizontal = _pair(call["padding"], rank, 0)
    return emit_pictures.transposed_convolution(
        call.build,
        x,
        weight,
        call.table("bias"),
        stride=_pair(call["stride"], rank, 1),
        padding=(vertical, vertical, horizontal, horizontal),
        output_padding=_pair(call["output_padding"], rank, 0),
        dilation=_pair(call["dilation"], rank, 1),
    )


# -- pooling


@rule("max_pool1d", "max_pool2d", "max_pool2d_with_indices", "avg_pool1d", "avg_pool2d")
def _pooling(call: Call) -> Any:
    x, op = call.tensor("self"), call.node.op
    rank = 3 if "1d" in op else 4
    size = _pair(call["kernel_size"], rank, 1)
    stride = call["stride"]
    if _pair(call.get("dilation", 1), rank, 1) != (1, 1):
        raise UnsupportedOperation("its windows are dilated")
    if call.get("divisor_override") is not None:
        raise UnsupportedOperation("it divides by another number than the window has")
    vertical, horizontal = _pair(call["padding"], rank, 0)
    made = emit_pictures.pooling(
        call.build,
        x,
        "max" if op.startswith("max") else "average",
        size=size,
        stride=size if stride in ((), None) else _pair(stride, rank, 1),
        padding=(vertical, vertical, horizontal, horizontal),
        count_padding=bool(call.get("count_include_pad", True)),
        rounds_up=bool(call["ceil_mode"]),
    )
    if op.endswith("indices"):
        if call.parts_read and 1 in call.parts_read:
            raise UnsupportedOperation("its indices are read")
        return (made, None)
    return made


@rule(
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d"),
)
def _adaptive_pooling(call: Call) -> Any:
    x, op = call.tensor("self"), call.node.op
    rank = 3 if "1d" in op else 4
    size = _pair(call["output_size"], rank, 1)
    kind = "max" if "max" in op else "average"
    made = emit_pictures.adaptive_pooling(call.build, x, kind, size)
    if kind == "max":
        if call.parts_read and 1 in call.parts_read:
            raise UnsupportedOperation("its indices are read")
        return (made, None)
    return made


# -- normalizations


@rule("batch_norm")
def _batch_norm(call: Call) -> Tensor:
    mean, variance = call.table("running_mean"), call.table("running_var")
    if mean is None or variance is None:
        raise UnsupportedOperation(
            "it has no running statistics, which evaluation takes here; leave "
            "track_running_stats on"
        )
    if not isinstance(call["momentum"], int | float):
        raise UnsupportedOperation("its momentum changes from step to step")
    return emit_pictures.batch_norm(
        call.build,
        call.tensor("input"),
        call.table("weight"),
        call.table("bias"),
        mean,
        variance,
        momentum=1.0 - float(call["momentum"]),
        epsilon=float(call["eps"]),
        by_moving=not call["training"],
    )


@rule("instance_norm")
def _instance_norm(call: Call) -> Tensor:
    if not call["use_input_stats"] or call["running_mean"] is not None:
        raise UnsupportedOperation("it has running statistics")
    return _of_groups(call, 0)


@rule("group_norm")
def _group_norm(call: Call) -> Tensor:
    return _of_groups(call, call["num_groups"])


def _of_groups(call: Call, groups: int) -> Tensor:
    return emit_pictures.group_norm(
        call.build,
        call.tensor("input"),
        groups,
        call.table("weight"),
        call.table("bias"),
        epsilon=float(call["eps"]),
    )


@rule("layer_norm")
def _layer_norm(call: Call) -> Tensor:
    return emit_pictures.layer_norm(
        call.build,
        call.tensor("input"),
        len(call["normalized_shape"]),
        call.table("weight"),
        call.table("bias"),
        epsilon=float(call["eps"]),
    )


@rule("rms_norm")
def _rms_norm(call: Call) -> Tensor:
    epsilon = call["eps"]
    return emit_pictures.layer_norm(
        call.build,
        call.tensor("input"),
        len(call["normalized_shape"]),
        call.table("weight"),
        None,
        epsilon=_FLOAT32_EPSILON if epsilon is None else float(epsilon),
        kind="rms_norm",
    )


# -- margins and sizes


@rule("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d")
def _pad(call: Call) -> Value:
    x, margins = call.tensor("self"), list(call.get("pad", call.get("padding")))
    mode = call.get("mode", "constant")
    if call.node.op.startswith("reflection"):
        mode = "reflect"
    if mode == "constant" and call.get("value") not in (None, 0, 0.0):
        raise UnsupportedOperation(f"its margins are {call['value']}; 0 has a layer")
    if mode not in ("constant", "reflect"):
        raise UnsupportedOperation(f"mode={mode!r} has no layer")
    margins += [0] * (2 * x.rank - len(margins))
    pairs = [(margins[2 * i], margins[2 * i + 1]) for i in range(x.rank)][::-1]
    if any(n < 0 for sides in pairs for n in sides):
        return _cropped(call, x, pairs)
    value: Value = x
    for dim, sides in enumerate(pairs[:-2]):
        if any(sides):
            if mode != "constant":
                raise UnsupportedOperation("it reflects more than height and width")
            value = _zeros_beside(call, value, dim, sides)
    vertical = pairs[-2] if x.rank > 1 and not (x.rank == 2) else (0, 0)
    if x.rank == 3 and any(pairs[1]):
        if mode != "constant":
            raise UnsupportedOperation("it reflects more than one dimension")
        value, vertical = _zeros_beside(call, value, 1, pairs[1]), (0, 0)
    if any(vertical) or any(pairs[-1]):
        assert isinstance(value, Tensor)
        if x.rank == 2:
            return _zeros_beside(call, value, 1, pairs[-1])
        name = {"constant": "zero", "reflect": "reflect"}[mode]
        value = emit_pictures.pad(call.build, value, (*vertical, *pairs[-1]), name)
    return value


def _zeros_beside(call: Call, x: Value, dim: int, sides: tuple[int, int]) -> Value:
    sizes = sizes_of(x)
    if sizes[dim].batched:
        raise UnsupportedOperation("it adds samples")
    shape = [1 if size.batched else size.factor for size in sizes]
    before, after = (
        Fixed(np.zeros([*shape[:dim], n, *shape[dim + 1 :]], np.float32)) for n in sides
    )
    parts: list[Value] = [before] if sides[0] else []
    parts.append(x)
    parts += [after] if sides[1] else []
    return emit_parts.concat(call.build, parts, dim)


def _cropped(call: Call, x: Tensor, pairs: list[tuple[int, int]]) -> Value:
    value: Value = x
    for dim, (before, after) in enumerate(pairs):
        if before > 0 or after > 0:
            raise UnsupportedOperation("it crops and adds margins at once")
        if before or after:
            n = x.sizes[dim].factor
            value = emit_parts.cut(call.build, value, dim, -before, n + after)
    return value


@rule(
    *("upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact2d"),
    "upsample_bilinear2d",
)
def _upsample(call: Call) -> Tensor:
    x = call.tensor("input" if "input" in call.args else "self")
    if call.get("align_corners"):
        raise UnsupportedOperation("align_corners=True; False has a layer")
    assert call.node.result is not None
    result = call.node.result
    wanted = [size.factor for size in result.shape[2:]]  # type: ignore[union-attr]
    given = [size.factor for size in x.sizes[2:]]
    if any(out % size for out, size in zip(wanted, given, strict=True)):
        raise UnsupportedOperation(
            f"{given} to {wanted}; sizes that are multiples have a layer"
        )
    factors = [out // size for out, size in zip(wanted, given, strict=True)]
    if call.get("scale_factors") is not None and any(
        factor != scale
        for factor, scale in zip(factors, call["scale_factors"], strict=True)
    ):
        raise UnsupportedOperation("its scale is no whole number")
    mode = "bilinear" if "bilinear" in call.node.op else "nearest"
    vertical, horizontal = (1,) * (2 - len(factors)) + tuple(factors)
    return emit_pictures.upsample(call.build, x, (vertical, horizontal), mode)


@rule("pixel_shuffle")
def _pixel_shuffle(call: Call) -> Tensor:
    x = call.tensor("self")
    return emit_pictures.pixel_shuffle(call.build, x, call["upscale_factor"])


@rule("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(call: Call) -> Tensor:
    x = call.tensor("self" if "self" in call.args else "input")
    return emit_pictures.channel_shuffle(call.build, x, call["groups"])


# -- lookups and attention


@rule("embedding")
def _embedding(call: Call) -> Value:
    if call["scale_grad_by_freq"]:
        raise UnsupportedOperation("it divides gradients by how often an id occurs")
    weight = _needed(call.table("weight"), "weight")
    padding = call["padding_idx"]
    return emit_parts.embedding(
        call.build, call.value("indices"), weight, None if padding < 0 else padding
    )


@rule("scaled_dot_product_attention")
def _attention(call: Call) -> Tensor:
    query, key, value = (call.tensor(name) for name in ("query", "key", "value"))
    mask = call["attn_mask"]
    if isinstance(mask, Table) and not mask.is_trained:
        mask = Fixed(mask.array)
    rate = float(call["dropout_p"])
    is_causal = bool(call["is_causal"])
    if isinstance(mask, Fixed):
        mask, is_causal = _causal(mask, is_causal)
    is_plain = query.rank == 4 and query.view.dims[0] == (BATCH,)
    has_heads = mask is not None and any(n != Size(1) for n in sizes_of(mask)[:-2])
    if isinstance(mask, Table) or (has_heads and not is_plain):
        return _composed_attention(call, query, key, value, mask)
    return attention(
        call.build,
        query,
        key,
        value,
        mask,
        is_causal=is_causal,
        scale=call["scale"],
        rate=rate,
    )


def _causal(mask: Fixed, is_causal: bool) -> tuple[Fixed | None, bool]:
    """Return a mask with finite numbers, or none where it only hides what is later."""
    array = mask.array
    if array.dtype == bool:
        array = np.where(array, np.float32(0), np.float32(-np.inf))
    steps, keys = (1, *array.shape)[-2:]
    later = np.triu(np.full((steps, keys), -np.inf, np.float32), 1)
    if not is_causal and steps == keys and (array == later).all():
        return None, True
    return Fixed(np.maximum(array, np.float32(FORBIDDEN))), is_causal


def _composed_attention(
    call: Call, query: Tensor, key: Tensor, value: Tensor, mask: Value | None
) -> Tensor:
    """Return attention as products and a softmax, for masks that are trained."""
    if call["is_causal"] or call["enable_gqa"]:
        raise UnsupportedOperation(f"it is causal over {describe(query.sizes)}")
    build = call.build
    rank = query.rank
    scale = call["scale"] or 1 / math.sqrt(query.sizes[-1].factor)
    query = binary(build, "multiply", query, Fixed(np.array(scale)))
    turned = build.permute(key, [*range(rank - 2), rank - 1, rank - 2])
    scores = matmul(build, query, turned)
    if mask is not None:
        scores = binary(build, "add", scores, mask)
    chosen = softmax(build, scores, rank - 1)
    chosen = emit_pictures.dropout(build, chosen, float(call["dropout_p"]))
    return matmul(build, chosen, value)


# -- recurrent


@rule("lstm", "gru", "rnn_tanh", "rnn_relu")
def _recurrent(call: Call) -> tuple[Any, ...]:
    op, build = call.node.op, call.build
    kind = op.partition("_")[0]
    if "batch_first" not in call.args:
        raise UnsupportedOperation("it takes sequences of several lengths")
    x = call.tensor("input")
    if not call["batch_first"]:
        x = _tensor(build.permute(x, [1, 0, 2]))
    n_directions = 2 if call["bidirectional"] else 1
    n_layers = call["num_layers"]
    params = [as_table(one, "weight") for one in call["params"]]
    n_each = len(params) // (n_layers * n_directions)
    if n_each not in (2, 4):
        raise UnsupportedOperation("it projects its states (proj_size)")
    weights = [
        _weights(kind, params[first : first + n_each])
        for first in range(0, len(params), n_each)
    ]
    more: dict[str, Any] = {}
    if op == "rnn_relu":
        more["hidden_state_activation"] = "relu"
    if kind == "gru":
        more["reset_after"] = True
    given = call["hx"] if isinstance(call["hx"], tuple) else (call["hx"],)
    is_zero = all(isinstance(one, Fixed) and not one.array.any() for one in given)
    read = {0, 1, 2} if call.parts_read is None else call.parts_read
    build.is_module = build.is_module and n_layers == 1
    states: list[list[Tensor]] = []
    for layer in range(n_layers):
        of_layer = weights[layer * n_directions : (layer + 1) * n_directions]
        if is_zero:
            x, last = recurrent(
                build,
                kind,
                x,
                of_layer,
                with_states=bool(read & {1, 2}),
                with_output=0 in read or layer < n_layers - 1,
                with_cell=2 in read,
                **more,
            )
        else:
            if n_directions == 2:
                raise UnsupportedOperation(
                    "both directions begin with states that are not zero"
                )
            first = [emit_parts.select(build, _state(one), 0, layer) for one in given]
            x, last = _unrolled(build, kind, x, of_layer[0], first, 2 in read, **more)
        states.append(last)
        if layer < n_layers - 1 and call["train"]:
            x = emit_pictures.dropout(build, x, float(call["dropout"]))
    output: Value = x
    if 0 in read and not call["batch_first"]:
        output = build.permute(x, [1, 0, 2])
    if not read & {1, 2}:
        return (output,)
    unit = weights[0].weight_hh.array.shape[0]
    stacked: list[Value | None] = []
    for number in range(len(states[0])):
        rows = []
        for of_one in states if number + 1 in read else ():
            sizes = [Size(1, True), Size(n_directions), Size(unit)]
            rows.append(build.permute(build.reshape(of_one[number], sizes), [1, 0, 2]))
        if rows:
            whole = rows[0] if len(rows) == 1 else emit_parts.concat(build, rows, 0)
            stacked.append(whole)
        else:
            stacked.append(None)
    return (output if 0 in read else None, *stacked)


def _tensor(value: Value) -> Tensor:
    assert isinstance(value, Tensor)
    return value


def _state(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise UnsupportedOperation(
            "its first state is a parameter or known, and not zero"
        )
    return value


def _unrolled(
    build: ModelBuilder,
    kind: str,
    x: Tensor,
    weights: RecurrentWeights,
    states: list[Value],
    with_cell: bool,
    **properties: Any,
) -> tuple[Tensor, list[Tensor]]:
    """Add a cell for each step of what begins with states that are not zero."""
    steps = x.sizes[1].factor
    rows = emit_parts.split(build, x, [1] * steps, 1)
    made = []
    for step, row in enumerate(rows):
        width = sizes_of(row)[2]
        one = _tensor(build.reshape(row, [Size(1, True), width]))
        reads_cell = kind == "lstm" and (with_cell or step < steps - 1)
        states = [
            *_cell_step(build, kind, one, weights, states, reads_cell, properties)
        ]
        made.append(build.unsqueeze(states[0], 1))
    return _tensor(emit_parts.concat(build, made, 1)), [_tensor(s) for s in states]


def _weights(kind: str, tables: list[Table | None]) -> RecurrentWeights:
    """Return the weights of a direction, transposed, with gates in our order."""
    ih, hh, *biases = (_needed(table, "weight") for table in tables)
    if kind == "gru":
        ih, hh = _reordered(ih), _reordered(hh)
        biases = [_reordered(bias) for bias in biases]
    bias_ih, bias_hh = biases or (None, None)
    return RecurrentWeights(ih.permuted((1, 0)), hh.permuted((1, 0)), bias_ih, bias_hh)


def _reordered(table: Table) -> Table:
    """Return reset, update, memory as update, reset, memory."""
    shape = table.array.shape
    blocks = table.reshaped((3, shape[0] // 3, *shape[1:]))
    return blocks.taken(0, [1, 0, 2]).reshaped(shape)


@rule("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
def _cell(call: Call) -> Any:
    op, build = call.node.op, call.build
    kind = op.partition("_")[0]
    names = ("w_ih", "w_hh", "b_ih", "b_hh")
    tables = [as_table(call[name], name) for name in names]
    weights = _weights(kind, [table for table in tables if table is not None])
    given = call["hx"] if isinstance(call["hx"], tuple) else (call["hx"],)
    states: list[Value] = []
    if not all(isinstance(one, Fixed) and not one.array.any() for one in given):
        states = [_state(one) for one in given]
    more: dict[str, Any] = {}
    if op == "rnn_relu_cell":
        more["hidden_state_activation"] = "relu"
    reads_cell = kind == "lstm" and (call.parts_read is None or 1 in call.parts_read)
    x = call.tensor("input")
    made = _cell_step(build, kind, x, weights, states, reads_cell, more)
    if kind != "lstm":
        return made[0]
    return (*made, None)[:2]


def _cell_step(
    build: ModelBuilder,
    kind: str,
    x: Tensor,
    weights: RecurrentWeights,
    states: Sequence[Value],
    reads_cell: bool,
    properties: Mapping[str, Any],
) -> tuple[Tensor, ...]:
    """Add a cell; return its hidden state, and its cell state if that is read."""
    x = build.plain(x)
    width, unit = (w.array.shape[0] for w in (weights.weight_ih, weights.weight_hh))
    inputs = [build.shaped(x.source, (1, 1, width))]
    for one in states:
        inputs.append(build.shaped(build.plain(_tensor(one)).source, (1, 1, unit)))
    more = {k: v for k, v in properties.items() if k != "return_sequences"}
    if weights.bias_ih is None:
        more["disable_bias"] = True
    if kind == "lstm" and not reads_cell:
        more["return_cell_state"] = False
    name = build.add(
        f"{kind}cell",
        inputs,
        (1, 1, unit),
        weights=dict(weights.named()),
        unit=unit,
        **more,
    )
    hidden = Tensor(name, View.of_sample([unit]))
    if not reads_cell:
        return (hidden,)
    cell = build.output_of(name, 1, (1, 1, unit))
    return hidden, Tensor(cell, View.of_sample([unit]))
