"""Splits kernel calls into parts that threads run side by side.

A part computes some of the samples, rows, elements or filters of a call. Each number
comes from the same operands in the same order in whichever part it is, so parts decide
no bit, and there are as many as there are threads. Matrix products are the exception:
a BLAS library may round the parts of a product otherwise than the whole. So a product
is split by its sizes alone, into the same parts for any number of threads.

A workspace for each thread is one tensor, of which each part takes its piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.operations.activations import ACTIVATIONS
from arena_ckpt.operations.curves import SAVES, curve_kernels
from arena_ckpt.operations.families import (
    arithmetic,
    attention,
    blas,
    chains,
    convolution,
    curves,
    depthwise,
    direct,
    direct_depthwise,
    elementwise,
    grouped,
    normalization,
    pooling,
    rmsprop,
    tokens,
    updates,
    windows,
)
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.portable import portable
from arena_ckpt.operations.regions import Region
from arena_ckpt.operations.sizes import TILE_ROWS

LEAST_BYTES = 1 << 17
"""Bytes of operands below which a pass over memory is not split: some 20 µs."""

LEAST_FLOPS = 1 << 19
"""Multiplications and additions below which no other kernel is split, likewise."""

PLANE_COST = 4
"""How many times as long one takes in a convolution of each channel by itself."""

PRODUCT_FLOPS = 1 << 23
"""Multiplications and additions of a matrix product that is split in two."""

LONG_PRODUCT = 2048
"""Rows or columns of a matrix product that is split in four."""

PRODUCT_UNIT = 32
"""Rows or columns that parts of products begin at multiples of."""

LINE_ELEMS = 16
"""float32 elements of a cache line, which no two parts should write."""


def side_by_side(calls: Iterable[KernelCall], threads: int) -> Iterator[KernelCall]:
    """Yield calls, those that pay as groups of parts.

    Parameters
    ----------
    calls : iterable of KernelCall
    threads : int
        Of the model, for which its workspaces are planned.
    """
    for call in calls:
        parts = list(_parts(call, threads))
        if not parts:
            yield call
            continue
        yield replace(parts[0], beside=len(parts))
        yield from parts[1:]


def _parts(call: KernelCall, threads: int) -> Iterator[KernelCall]:
    """Yield the parts of a call; none where it stays as it is."""
    if call.kernel in _PRODUCTS and (threads > 1 or call.kernel.family == blas.name):
        yield from _product_parts(call)
    elif threads > 1 and call.kernel in _RULES:
        yield from _RULES[call.kernel].parts(call, threads)


Values = dict[str, Any]
"""The operands of a call by the names of its parameters."""


def _values(call: KernelCall) -> Values:
    names = (name for name, _ in call.kernel.parameters)
    return dict(zip(names, call.operands, strict=True))


def _cuts(length: int, n_parts: int, unit: int) -> list[tuple[int, int]]:
    """Return where parts begin and end: whole units each, but for the last."""
    units = length // unit
    starts = [unit * (units * part // n_parts) for part in range(n_parts)]
    return list(zip(starts, [*starts[1:], length], strict=True))


# -- samples, rows and elements --------------------------------------------------------


def _always(values: Values) -> bool:
    return True


@dataclass(frozen=True)
class _Along:
    """Splits calls along an axis that comes first in some operands.

    Attributes
    ----------
    sliced : tuple of str
        These operands: parts of them stand one after another in memory.
    count : str or callable
        The parameter that says how long the axis is, or what tells it from the
        operands; else it is that of the first operand.
    room : tuple of str
        Workspaces, of which each thread has one.
    unit : int or str
        Parts begin at multiples of it, or of the parameter of this name.
    flops : callable, optional
        Multiplications and additions of a call; without, bytes decide if it pays.
    may : callable
        Says of the operands whether parts compute what the whole does.
    """

    sliced: tuple[str, ...]
    count: str | Callable[[Values], int] = ""
    room: tuple[str, ...] = ()
    unit: int | str = 1
    flops: Callable[[Values], int] | None = None
    may: Callable[[Values], bool] = _always

    def parts(self, call: KernelCall, threads: int) -> Iterator[KernelCall]:
        """Yield the parts; none where the call stays as it is."""
        values = _values(call)
        regions = {name: values[name] for name in self.sliced}
        first = regions[self.sliced[0]]
        length = len(first)
        if isinstance(self.count, str):
            length = values[self.count] if self.count else length
        else:
            length = self.count(values)
        unit = values[self.unit] if isinstance(self.unit, str) else self.unit
        n_parts = min(threads, length // unit)
        is_whole = any(len(region) % length for region in regions.values() if length)
        if is_whole or n_parts < 2 or not self.may(values):
            n_parts = 1
        elif not _pays(values, self.sliced, self.flops):
            n_parts = 1
        if n_parts == 1 and not self.room:
            return
        for part, (start, stop) in enumerate(_cuts(length, n_parts, unit)):
            own = dict(values)
            if n_parts > 1:
                for name, region in regions.items():
                    each = len(region) // length
                    own[name] = region[each * start : each * stop]
                if isinstance(self.count, str) and self.count:
                    own[self.count] = stop - start
            for name in self.room:
                own[name] = _piece(values[name], part, threads)
            yield replace(call, operands=tuple(own.values()))


def _pays(
    values: Values, touched: tuple[str, ...], flops: Callable[[Values], int] | None
) -> bool:
    """Tell whether parts of a call are worth waiting for each other."""
    if flops is not None:
        return flops(values) >= LEAST_FLOPS
    n_bytes: int = sum(values[name].nbytes for name in touched)
    return n_bytes >= LEAST_BYTES


def _piece(room: Region, part: int, threads: int) -> Region:
    """Return the workspace of a thread."""
    each = len(room) // threads
    return room[part * each : (part + 1) * each]


def _convolution_flops(values: Values) -> int:
    each = values["channels"] * values["kernel_height"] * values["kernel_width"]
    outputs = values["filters"] * values["out_height"] * values["out_width"]
    return int(2 * values["n"] * outputs * each)


def _plane_flops(values: Values) -> int:
    """Return those of a convolution in groups; of channels of their own at least."""
    taps = values["kernel_height"] * values["kernel_width"]
    each = values["channels"] // values.get("groups", values["channels"])
    outputs = values["filters"] * values["out_height"] * values["out_width"]
    return int(2 * values["n"] * outputs * each * taps) * PLANE_COST


def _normalized_samples(values: Values) -> int:
    """Return the samples of a batch whose channels are normalized."""
    return int(len(values["x"]) // (len(values["mean"]) * values["size"]))


def _flops_of_each(values: Values) -> int:
    sizes = values["rows"] * values["inner"] * values["columns"]
    return int(2 * values["n"] * sizes)


def _attention_flops(values: Values) -> int:
    width = values["dk"] + values["dv"]
    return int(2 * values["out"].size // values["dv"] * values["s"] * width)


def _draws_nothing(values: Values) -> bool:
    """Tell whether no element is dropped: what is depends on the place in the batch."""
    rate: float = values["rate"]
    return not rate


@dataclass(frozen=True)
class _Attention:
    """Splits attention along the samples, which no parameter counts.

    Attributes
    ----------
    saved : tuple of str
        Operands with an axis of samples beside q, k, v, mask and out.
    room : str
        The workspace. Where none is needed, out stands in its place.
    """

    saved: tuple[str, ...]
    room: str

    def parts(self, call: KernelCall, threads: int) -> Iterator[KernelCall]:
        """Yield the parts; none where the call stays as it is."""
        values = _values(call)
        samples = len(values["out"]) // (values["t"] * values["heads"] * values["dv"])
        shared = ("q", "k", "v", "mask", "out", *self.saved)
        sliced = tuple(name for name in shared if name in values)
        is_idle = values[self.room] is values["out"]
        if is_idle:
            sliced = (*sliced, self.room)
        rows = {name: values[name].reshape(samples, -1) for name in sliced}
        rule = _Along(
            sliced,
            room=() if is_idle else (self.room,),
            flops=_attention_flops,
            may=_draws_nothing,
        )
        operands = tuple((values | rows).values())
        for part in rule.parts(replace(call, operands=operands), threads):
            own = _values(part)
            flat = {name: own[name].reshape(-1) for name in sliced}
            yield replace(part, operands=tuple((own | flat).values()))


@dataclass(frozen=True)
class _Range:
    """Splits calls that compute a range of channels from the whole operands.

    The range is the last two parameters, and the whole where a layer names the call.

    Attributes
    ----------
    read : tuple of str
        Operands that are read whole, of which a part reads its share.
    room : tuple of str
        Workspaces, of which each thread has one.
    flops : callable, optional
        As in `_Along`.
    """

    read: tuple[str, ...]
    room: tuple[str, ...] = ()
    flops: Callable[[Values], int] | None = None

    def parts(self, call: KernelCall, threads: int) -> Iterator[KernelCall]:
        """Yield the parts; none where the call stays as it is."""
        values = _values(call)
        n_parts = min(threads, values["end"])
        if not _pays(values, self.read, self.flops):
            n_parts = 1
        if n_parts == 1 and not self.room:
            return
        for part, (begin, end) in enumerate(_cuts(values["end"], n_parts, 1)):
            own = values | {"begin": begin, "end": end}
            for name in self.room:
                own[name] = _piece(values[name], part, threads)
            yield replace(call, operands=tuple(own.values()))


@dataclass(frozen=True)
class _Filters:
    """Splits `conv_gradient` along the filters, which sums of all samples are for."""

    def parts(self, call: KernelCall, threads: int) -> Iterator[KernelCall]:
        """Yield the parts, which each copy the pictures."""
        values = _values(call)
        filters, gradient = values["filters"], values["dw"]
        n_parts = min(threads, filters // TILE_ROWS)
        if n_parts < 2 or _convolution_flops(values) < LEAST_FLOPS:
            n_parts = 1
        each = len(gradient) // filters
        for part, (start, stop) in enumerate(_cuts(filters, n_parts, TILE_ROWS)):
            own = values | {
                "dw": gradient[each * start : each * stop],
                "filters": stop - start,
                "first_filter": start,
            }
            for name in ("pictures", "table"):
                own[name] = _piece(values[name], part, threads)
            yield replace(call, operands=tuple(own.values()))


_ROOM = ("pictures", "table")


def _elements(kernel: KernelName) -> _Along:
    """Return the rule of a kernel whose vectors have an element for each result."""
    vectors = tuple(name for name, kind in kernel.parameters if kind == "Vector")
    return _Along(vectors, unit=LINE_ELEMS)


_ELEMENTWISE: tuple[KernelName, ...] = (
    *(arithmetic.subtract, arithmetic.multiply, arithmetic.multiply_derivatives),
    *(arithmetic.divide, arithmetic.divide_derivatives, arithmetic.divisor_derivative),
    *(arithmetic.negative, arithmetic.square_root, arithmetic.square_root_derivative),
    *(arithmetic.power, arithmetic.power_derivative, curves.affine),
    *(elementwise.copy, elementwise.add_to, elementwise.add),
    *(tokens.swiglu_forward, tokens.swiglu_derivatives),
    *(tokens.swiglu_gate_derivative, tokens.swiglu_value_derivative),
    *(updates.sgd, updates.sgd_momentum, updates.sgd_nesterov),
    *(updates.adam, updates.adamw, rmsprop.rmsprop, rmsprop.rmsprop_momentum),
    *(k for a in ACTIVATIONS.values() for k in (a.forward, a.backward)),
    *(kernel for name in SAVES for kernel in curve_kernels(name)),
)

_NORMS = ("x", "mean", "inverse", "y")

_RULES: dict[KernelName, _Along | _Range | _Attention | _Filters] = {
    **{
        kernel: _elements(kernel)
        for kernel in _ELEMENTWISE
        if all(kind != "Matrix" for _, kind in kernel.parameters)
    },
    **{
        kernel: _Along(("x", "y"))
        for kernel in (
            elementwise.add_bias,
            *(a.bias_forward for a in ACTIVATIONS.values()),
        )
        if kernel is not None
    },
    normalization.layer_norm_forward: _Along(_NORMS),
    normalization.layer_norm_derivative: _Along(("x", "dy", "mean", "inverse", "dx")),
    normalization.rms_norm_forward: _Along(("x", "inverse", "y")),
    normalization.rms_norm_derivative: _Along(("x", "dy", "inverse", "dx")),
    normalization.batch_norm_forward: _Along(("x", "y"), _normalized_samples),
    normalization.batch_norm_derivative: _Along(("x", "dy", "dx"), _normalized_samples),
    convolution.conv_forward: _Along(
        ("x", "y"), "n", _ROOM, "samples", _convolution_flops
    ),
    convolution.conv_derivative: _Along(
        ("dy", "dx"), "n", _ROOM, "samples", _convolution_flops
    ),
    convolution.conv_gradient: _Filters(),
    depthwise.depthwise_forward: _Along(("x", "y"), "n", _ROOM, 1, _plane_flops),
    depthwise.depthwise_derivative: _Along(("dy", "dx"), "n", _ROOM, 1, _plane_flops),
    depthwise.depthwise_gradient: _Range(("x", "dy"), _ROOM, _plane_flops),
    normalization.batch_norm_statistics: _Range(("x",)),
    normalization.batch_norm_sums: _Range(("x", "dy")),
    direct.direct_forward: _Along(("x", "y"), "n", flops=_convolution_flops),
    direct.direct_derivative: _Along(("dy", "dx"), "n", flops=_convolution_flops),
    **{
        kernel: _Along(arrays, "n", flops=_plane_flops)
        for kernel, arrays in (
            (direct_depthwise.direct_depthwise_forward, ("x", "y")),
            (direct_depthwise.direct_depthwise_derivative, ("dy", "dx")),
            (grouped.grouped_forward, ("x", "y")),
            (grouped.grouped_derivative, ("dy", "dx")),
        )
    },
    pooling.average_forward: _Along(("x", "y"), "planes"),
    pooling.plane_average_forward: _Along(("x", "y"), "planes"),
    pooling.plane_average_derivative: _Along(("dy", "dx"), "planes"),
    pooling.nearest_forward: _Along(("x", "y"), "planes"),
    pooling.nearest_derivative: _Along(("dy", "dx"), "planes"),
    pooling.bilinear_forward: _Along(("x", "y"), "planes"),
    pooling.bilinear_derivative: _Along(("dy", "dx"), "planes"),
    **{
        kernel: _Along(("a", "b", "c"), "n", flops=_flops_of_each)
        for kernel in (blas.matmul_each, chains.chain_each)
    },
    **{
        twin: _Attention(saved, room)
        for kernel, saved, room in (
            (attention.tiled_forward, ("lse",), "tile"),
            (attention.plain_forward, ("probabilities",), "tile"),
            (attention.tiled_backward, ("lse", "d_output"), "work"),
            (attention.plain_backward, ("probabilities", "d_output"), "work"),
        )
        for twin in (kernel, portable(kernel))
    },
}


# -- matrix products -------------------------------------------------------------------


_PRODUCTS: dict[KernelName, tuple[int, int]] = {
    blas.matmul: (0, 0),
    blas.matmul_transposed_a: (1, 0),
    blas.matmul_transposed_b: (0, 1),
    blas.matmul_transposed_b_onto: (0, 1),
    chains.chain_matmul: (0, 0),
    chains.chain_transposed_a: (1, 0),
    chains.chain_transposed_b: (0, 1),
    chains.chain_transposed_b_onto: (0, 1),
}
"""Whether the first factor is transposed, and the second."""


def _product_parts(call: KernelCall) -> Iterator[KernelCall]:
    """Yield the products that make some of the rows, or of the columns, of a product.

    These are windows of the matrices. The larger of the two axes is cut: less has to be
    read several times.
    """
    values = _values(call)
    a, b, c = (values[name] for name in ("a", "b", "c"))
    of_a, of_b = _PRODUCTS[call.kernel]
    rows, columns = c.shape
    inner = a.shape[0] if of_a else a.shape[1]
    longest = max(rows, columns)
    n_parts = 4 if longest >= LONG_PRODUCT else 2
    if 2 * rows * columns * inner < PRODUCT_FLOPS or longest < n_parts * PRODUCT_UNIT:
        return
    is_blas = call.kernel.family == blas.name
    kernel = windows.matmul_windows if is_blas else chains.chain_windows
    flat = [matrix.reshape(-1) for matrix in (a, b, c)]
    cuts_rows = rows >= columns
    for start, stop in _cuts(longest, n_parts, PRODUCT_UNIT):
        m, n = (stop - start, columns) if cuts_rows else (rows, stop - start)
        row, column = (start, 0) if cuts_rows else (0, start)
        places = (
            row if of_a else row * a.shape[1],
            column * b.shape[1] if of_b else column,
            row * columns + column,
        )
        yield replace(
            call,
            kernel=kernel,
            operands=(
                *(of_a, of_b, m, n, inner),
                *(flat[0], places[0], a.shape[1]),
                *(flat[1], places[1], b.shape[1]),
                values.get("beta", 0.0),
                *(flat[2], places[2], columns),
            ),
        )
