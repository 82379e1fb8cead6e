"""Random calls of every kernel: layers of odd sizes, and what no layer calls.

A family makes cases by number. The layers of a case run forward, weight gradient and
derivative as a step would, on arrays that hold what their roles want.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.arithmetics import FAST, PORTABLE
from arena_ckpt.common.phases import Phase
from arena_ckpt.errors import ShapeMismatchError
from arena_ckpt.kernels import (
    blas,
    chains,
    class_losses,
    elementwise,
    reductions,
    rmsprop,
    rmsprop_centered,
    sample_weights,
    table_sums,
    touched_rows,
    update_terms,
    updates,
)
from arena_ckpt.kernels.activations import ACTIVATIONS
from arena_ckpt.kernels.steps import UNITS
from arena_ckpt.kernels.windows import matmul_windows
from arena_ckpt.layers import create_layer
from arena_ckpt.layers.attention import TILE_COLUMNS
from arena_ckpt.layers.base import Call, Layer
from arena_ckpt.layers.loss import Loss
from arena_ckpt.layers.spec import LayerSpec, Shape
from arena_ckpt.operations.curves import SAVES
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.portable import portable
from helpers.kernel_memory import Bench

Array = npt.NDArray[Any]
Random = np.random.Generator
Drawn = tuple[str, tuple[Shape, ...], dict[str, Any]]
"""Type of layer, shapes of its inputs, properties."""


def size(random: Random, most: int = 20) -> int:
    """Return 1, or something about a vector, or anything."""
    some = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65]
    if random.random() < 0.5:
        return min(most, int(random.choice(some)))
    return int(random.integers(1, most + 1))


def chance(random: Random, share: float) -> bool:
    return bool(random.random() < share)


def normal(random: Random, *shape: int) -> Array:
    return random.normal(size=shape).astype(np.float32)


# -- one layer -------------------------------------------------------------------------


@dataclass
class Bound:
    """The protocol `Binding`, over arrays by role."""

    layer: Layer
    spec: LayerSpec
    input_shapes: tuple[Shape, ...]
    n_samples: int
    training: bool
    updates_state: bool
    accumulate: bool
    arrays: dict[str, Array] = field(default_factory=dict)
    random_key: int = 12345
    arithmetic: str = FAST

    def __post_init__(self) -> None:
        self.output_shapes = self.spec.output_shapes
        self.counters = np.array([3.0, 2.0])
        self.scale = np.full(1, 0.25)
        self.loss = np.full(1, 0.5)

    def vector(self, role: str) -> Array:
        return self.arrays[role].reshape(-1)

    def matrix(self, role: str) -> Array:
        return self.arrays[role].reshape(-1, self.arrays[role].shape[-1])

    indexes = doubles = vector

    def is_wanted(self, role: str) -> bool:
        return role in self.arrays

    def kept(self, role: str) -> None:
        return None

    def is_table(self, index: int) -> bool:
        return False

    def is_same(self, role: str, other: str) -> bool:
        first, second = self.arrays[role], self.arrays[other]
        return bool(first.ctypes.data == second.ctypes.data)


def run_layer(
    bench: Bench, where: str, drawn: Drawn, random: Random, arithmetic: str = FAST
) -> None:
    """Run the phases of a layer, call by call, under the harness."""
    kind, shapes, values = drawn
    names = tuple(f"x{i}" for i in range(len(shapes)))
    layer = create_layer(kind, name="layer", input_layers=names, **values)
    try:
        spec = layer.infer(shapes)
    except ShapeMismatchError:
        return
    n = size(random, 9)
    training = not chance(random, 0.2)
    bound = Bound(
        layer, spec, shapes, n, training, chance(random, 0.7), chance(random, 0.4)
    )
    bound.arithmetic = arithmetic
    where = f"{where}, {kind} {shapes} {values} of {n} samples"
    kept = dict(_given(bound, random))
    for phase in (Phase.FORWARD, Phase.CALC_GRADIENT, Phase.CALC_DERIVATIVE):
        if phase is not Phase.FORWARD and not training:
            return
        if phase is Phase.CALC_GRADIENT and not layer.is_trainable:
            continue
        bound.arrays = dict(kept)
        made = _results(bound, phase, random)
        if phase is not Phase.FORWARD and not made and not spec.weights:
            continue
        bound.arrays |= made
        taken = _in_place(bound, phase, made, random)
        calls = {
            Phase.FORWARD: layer.forward,
            Phase.CALC_GRADIENT: layer.calc_gradient,
            Phase.CALC_DERIVATIVE: layer.calc_derivative,
        }[phase](bound)
        for kernel, arguments in calls:
            call = Call(_in_arithmetic(kernel, arithmetic), arguments)
            bench.run(call, f"{where}, {phase.value} {taken}".rstrip())
        if phase is Phase.FORWARD:
            for role in made:
                kept[role] = bound.arrays[role]
            for k, shape in enumerate(spec.output_shapes):
                kept.setdefault(f"out{k}", normal(random, n, *shape))
                kept[f"out{k}:grad"] = normal(random, n, *shape)


def _in_arithmetic(kernel: Any, arithmetic: str) -> Any:
    is_named = arithmetic == PORTABLE and isinstance(kernel, KernelName)
    return portable(kernel) if is_named else kernel


def _given(bound: Bound, random: Random) -> dict[str, Array]:
    """Return inputs, weights, workspaces and label."""
    layer, spec, n = bound.layer, bound.spec, bound.n_samples
    given = {
        f"in{i}": _input(layer, i, (n, *shape), random)
        for i, shape in enumerate(bound.input_shapes)
    }
    for weight in spec.weights:
        values = normal(random, *weight.shape) / 2
        given[weight.name] = np.abs(values) if "variance" in weight.name else values
    for tensor in spec.tensors:
        shape = (n, *tensor.shape) if tensor.per_sample else tensor.shape
        given[tensor.name] = np.full(shape, 7, tensor.dtype)
    if isinstance(layer, Loss):
        shape = (n, *layer.label_shape(spec.output_shapes[0]))
        label = random.random(shape).astype(np.float32)
        if layer.ignored_label is not None:
            classes = spec.output_shapes[0][layer.class_axis - 1]
            label = random.integers(-1, classes, shape).astype(np.float32)
        given["label"] = label
    return given


def _input(layer: Layer, index: int, shape: tuple[int, ...], random: Random) -> Array:
    if layer.type_name == "embedding":
        return random.integers(-1, layer["in_dim"] + 1, shape).astype(np.float32)
    if layer.type_name == "gather" and index == 1:
        return random.integers(-1, 10, shape).astype(np.float32)
    if layer.type_name in ("rnn", "lstm", "gru") and index == 1:
        return random.integers(0, 8, shape).astype(np.float32)
    if layer.type_name == "where" and index == 0:
        return random.integers(0, 2, shape).astype(np.float32)
    if layer.type_name == "multi_head_attention" and index == 3:
        hidden = random.random(shape) < 0.3
        return np.where(hidden, -np.inf, 0).astype(np.float32)
    if layer.type_name in ("kld", "sqrt", "pow"):
        return random.uniform(0.1, 1, shape).astype(np.float32)
    return normal(random, *shape)


def _results(bound: Bound, phase: Phase, random: Random) -> dict[str, Array]:
    """Return memory for what the phase makes; some of it may not be wanted."""
    spec, n = bound.spec, bound.n_samples
    if phase is Phase.FORWARD:
        if spec.forward_skips_unwanted and chance(random, 0.2):
            return {}
        outputs = enumerate(spec.output_shapes)
        return {f"out{k}": np.full((n, *s), 7, np.float32) for k, s in outputs}
    if phase is Phase.CALC_GRADIENT:
        return {
            f"{weight.name}:grad": normal(random, *weight.shape)
            for weight in spec.trained_weights
            if not (weight.gradient_factors and chance(random, 0.2))
        }
    wanted = [i for i in range(len(bound.input_shapes)) if i not in spec.fixed_inputs]
    some = [i for i in wanted if chance(random, 0.75)] or wanted
    return {f"in{i}:grad": normal(random, n, *bound.input_shapes[i]) for i in some}


def _in_place(
    bound: Bound, phase: Phase, made: dict[str, Array], random: Random
) -> str:
    """Put some results where operands are, as the layer offers; say which."""
    taken: dict[str, str] = {}
    for offer in bound.spec.in_place:
        if offer.phase is not phase or offer.result not in made:
            continue
        n_elems = made[offer.result].size
        fitting = [
            role
            for role in offer.operands
            if role not in taken.values()
            and role in bound.arrays
            and bound.arrays[role].size == n_elems
        ]
        if fitting and offer.result not in taken and chance(random, 0.5):
            taken[offer.result] = str(random.choice(fitting))
    for result, operand in taken.items():
        shape = bound.arrays[result].shape
        copy = bound.arrays[operand].copy()
        bound.arrays[operand] = copy
        bound.arrays[result] = copy.reshape(shape)
    return " ".join(f"{result} over {role}" for result, role in taken.items())


# -- families --------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """Cases that run some kernels, by name."""

    kernels: tuple[str, ...]
    draw: Callable[[Random], Drawn | list[Call]]
    arithmetic: str = FAST

    def run(self, bench: Bench, where: str, index: int) -> None:
        random = np.random.default_rng([index, *map(ord, where.partition(":")[0])])
        drawn = self.draw(random)
        if isinstance(drawn, list):
            for call in drawn:
                sizes = [v.shape if isinstance(v, np.ndarray) else v for v in call[1]]
                bench.run(call, f"{where}, {sizes}")
        else:
            run_layer(bench, where, drawn, random, self.arithmetic)


def _pair(random: Random, most: int) -> tuple[int, int]:
    a, b = random.integers(1, most + 1, 2)
    return int(a), int(b)


def _picture(random: Random, channels: int = 9, most: int = 12) -> Shape:
    most = 40 if chance(random, 0.15) else most
    channels = min(channels, 2) if most == 40 else channels
    return size(random, channels), size(random, most), size(random, most)


def _windows(random: Random, least: int = 5) -> dict[str, Any]:
    """Kernels, strides above them, dilation, padding on one side."""
    kernel, values = _pair(random, least), {}
    padding = random.integers(0, 5, 4) * (random.random(4) < 0.5)
    if chance(random, 0.5):
        values["stride"] = _pair(random, 6)
    if chance(random, 0.3):
        values["dilation"] = _pair(random, 3)
    words: list[Any] = ["same", "valid", tuple(int(p) for p in padding)]
    return {"kernel_size": kernel, "padding": words[random.integers(3)], **values}


def _with_bias(random: Random, values: dict[str, Any]) -> dict[str, Any]:
    return values | ({"disable_bias": True} if chance(random, 0.3) else {})


def _conv2d(random: Random) -> Drawn:
    values = {"filters": size(random, 9), **_windows(random)}
    if chance(random, 0.1):  # more vectors of a filter than are worked out together
        shape = 40 + size(random, 20), 4 + size(random, 3), 4 + size(random, 3)
        return "conv2d", (shape,), values | {"kernel_size": (5, 5), "padding": 2}
    return "conv2d", (_picture(random),), _with_bias(random, values)


def _pointwise(random: Random) -> Drawn:
    values = {"filters": size(random, 9), "kernel_size": (1, 1)}
    return "conv2d", (_picture(random),), _with_bias(random, values)


def _conv1d(random: Random) -> Drawn:
    given = _windows(random)
    values = {name: v[1] for name, v in given.items() if name != "padding"}
    left, right = (int(p) for p in random.integers(0, 4, 2))
    words: list[Any] = ["same", "causal", (left, right)]
    values |= {"filters": size(random, 9), "padding": words[random.integers(3)]}
    shape = (size(random, 9), 1, size(random, 40))
    return "conv1d", (shape,), _with_bias(random, values)


def _convolution(random: Random) -> Drawn:
    return (_conv2d, _conv2d, _pointwise, _conv1d)[random.integers(4)](random)


def _transposed(random: Random) -> Drawn:
    values = {"filters": size(random, 9), **_windows(random, 4)}
    if values["padding"] == "valid":
        del values["padding"]
    return "conv2dtranspose", (_picture(random, most=7),), _with_bias(random, values)


def _either_convolution(random: Random) -> Drawn:
    return _transposed(random) if chance(random, 0.3) else _convolution(random)


def _depthwise(random: Random) -> Drawn:
    values = _with_bias(random, _windows(random, 6))
    return "depthwiseconv2d", (_picture(random, 3),), values


def _grouped(random: Random) -> Drawn:
    """Groups of some channels and filters, or filters of one channel each."""
    if chance(random, 0.3):
        values = {**_windows(random), "depth_multiplier": 1 + size(random, 4)}
        return "depthwiseconv2d", (_picture(random, 5),), _with_bias(random, values)
    groups, each = 1 + size(random, 4), size(random, 4)
    _, height, width = _picture(random)
    values = {"groups": groups, "filters": groups * (1 + size(random, 5))}
    shape = (groups * each, height, width)
    window = {"kernel_size": (1, 1)} if chance(random, 0.2) else _windows(random)
    return "conv2d", (shape,), _with_bias(random, values | window)


def _far_taps(random: Random) -> Drawn:
    """Pictures of which no row, or only some columns, fit beside what a tap reads."""
    width = int(random.integers(5000, 12000))
    values = {"filters": size(random, 3), "kernel_size": (1, size(random, 5))}
    values["dilation"] = (1, int(random.choice([1, 3, 1100, 2500])))
    values["stride"] = (1, int(random.choice([1, 1, 2, 300])))
    return "conv2d", ((1, 1, width),), values | {"padding": (0, 0, size(random, 9), 0)}


def _pooling(random: Random) -> Drawn:
    kind = ("max", "max", "average")[random.integers(3)]
    values = _windows(random, 4)
    values["pool_size"] = values.pop("kernel_size")
    values.pop("dilation", None)
    if chance(random, 0.3):
        values = {"pool_size": (2, 2), "stride": (2, 2)}
    return "pooling2d", (_picture(random, 4),), {"pooling": kind, **values}


def _wide_pooling(random: Random) -> Drawn:
    pool, sides = (
        (int(random.integers(16, 20)), 17),
        [int(v) for v in random.integers(17, 30, 2)],
    )
    values = {"pooling": "max", "pool_size": pool, "stride": _pair(random, 20)}
    shape = (size(random, 3), sides[0] + 2, sides[1])
    return "pooling2d", (shape,), values


def _global_pooling(random: Random) -> Drawn:
    kind = ("global_max", "global_average")[random.integers(2)]
    return "pooling2d", (_picture(random, 4),), {"pooling": kind}


def _spans(random: Random) -> Drawn:
    """Shares that are no windows, or means that count padding."""
    shape = size(random, 4), size(random, 12), size(random, 12)
    if chance(random, 0.4):
        pool = 1 + size(random, 4), 1 + size(random, 4)
        values = {"pooling": "average", "pool_size": pool, "count_include_pad": True}
        padding = int(random.integers(pool[0])), int(random.integers(pool[1]))
        return (
            "pooling2d",
            (shape,),
            values
            | {
                "padding": padding,
                "stride": _pair(random, 4),
            },
        )
    kind = ("adaptive_max", "adaptive_average")[random.integers(2)]
    return "pooling2d", (shape,), {"pooling": kind, "output_size": _pair(random, 9)}


def _margins(random: Random) -> Drawn:
    mode = ("zero", "reflect", "replicate")[random.integers(3)]
    most = 4 if mode != "reflect" else 1
    shape = size(random, 3), 4 + size(random, 9), 4 + size(random, 9)
    if mode != "reflect":
        shape = size(random, 3), size(random, 9), size(random, 9)
    padding = tuple(int(v) for v in random.integers(0, most + 3, 4))
    return "pad", (shape,), {"padding": padding, "padding_mode": mode}


def _shuffled(random: Random) -> Drawn:
    groups = size(random, 4)
    shape = groups * groups * size(random, 3), size(random, 17), size(random, 17)
    if chance(random, 0.5):
        return "channel_shuffle", (shape,), {"groups": groups}
    return "pixel_shuffle", (shape,), {"upscale_factor": groups}


def _upsampling(random: Random) -> Drawn:
    kind = ("nearest", "bilinear")[random.integers(2)]
    shape = size(random, 3), size(random, 9), size(random, 9)
    return "upsample2d", (shape,), {"upsample": kind, "kernel_size": _pair(random, 4)}


def _flat(random: Random, most: int = 70) -> Shape:
    return size(random, 2), size(random, 3), size(random, most)


def _dense(random: Random) -> Drawn:
    values = _with_bias(random, {"unit": size(random, 40)})
    return "fully_connected", (_flat(random),), values


def _activation(name: str) -> Callable[[Random], Drawn]:
    return lambda random: ("activation", (_flat(random),), {"activation": name})


def _biased(name: str) -> Callable[[Random], list[Call]]:
    """A pass that adds the bias of a dense layer and applies the next function."""

    def draw(random: Random) -> list[Call]:
        x = normal(random, size(random, 9), size(random, 70))
        kernel = ACTIVATIONS[name].bias_forward
        assert kernel is not None
        return [Call(kernel, (x, normal(random, x.shape[1]), x))]

    return draw


def _broadcast(random: Random) -> tuple[Shape, Shape]:
    whole = (size(random, 4), size(random, 5), size(random, 70))
    if chance(random, 0.4):
        return whole, whole
    parts = [tuple(1 if chance(random, 0.4) else v for v in whole) for _ in range(2)]
    first, second = ((a, b, c) for a, b, c in parts)
    return (whole, second) if chance(random, 0.5) else (first, second)


def _arithmetic(*kinds: str) -> Callable[[Random], Drawn]:
    return lambda random: (kinds[random.integers(len(kinds))], _broadcast(random), {})


def _elementwise(random: Random) -> Drawn:
    kind = ("negative", "sqrt", "pow")[random.integers(3)]
    exponents = (0.0, 2.0, 3.0, 0.5, -0.5, -1.0, 1.7, -2.0)
    values = {"exponent": exponents[random.integers(8)]} if kind == "pow" else {}
    return kind, (_flat(random),), values


CURVES: dict[str, str] = {
    **{name: name for name in SAVES},
    "clamp": "clamp(min=-0.5, max=1)",
    "leaky_relu": "leaky_relu(negative_slope=0.3)",
    "elu": "elu(alpha=1.5)",
}
"""Functions that take two numbers, as the property ``activation`` is set to them."""


def _prelu(random: Random) -> Drawn:
    shape = _flat(random)
    slopes = shape[0] if shape[0] > 1 else shape[2]
    n = slopes if chance(random, 0.6) else 1
    return "prelu", (shape,), {"num_parameters": n, "trainable": chance(random, 0.8)}


def _with_number(random: Random) -> Drawn:
    kind = ("add", "subtract", "multiply", "divide")[random.integers(4)]
    return kind, (_flat(random),), {"value": 2.5}


def _where(random: Random) -> Drawn:
    first, second = _broadcast(random)
    parts = tuple(
        1 if chance(random, 0.3) else max(s) for s in zip(first, second, strict=True)
    )
    return "where", ((parts[0], parts[1], parts[2]), first, second), {}


def _along_axis(*kinds: str) -> Callable[[Random], Drawn]:
    def draw(random: Random) -> Drawn:
        kind, axis = kinds[random.integers(len(kinds))], int(random.integers(1, 4))
        shape = size(random, 5), size(random, 9), size(random, 70)
        if kind == "activation":
            return kind, (shape,), {"activation": f"softmax(axis={1 + axis % 2})"}
        if kind == "gather":
            return kind, (shape, (1, 1, size(random, 9))), {"axis": axis}
        given = {"axis": axis} if kind == "cumsum" or chance(random, 0.7) else {}
        return kind, (shape,) * (2 if kind == "cosine_similarity" else 1), given

    return draw


def _matmul(random: Random) -> Drawn:
    c, m, k, n = size(random, 3), size(random), size(random), size(random)
    return "matmul", ((c, m, k), (c, k, n)), {}


def _reduce(random: Random) -> Drawn:
    kind = ("reduce_sum", "reduce_mean")[random.integers(2)]
    axis = int(random.integers(0, 4))
    shape = size(random, 5), size(random, 9), size(random, 300)
    return kind, (shape,), {"axis": axis} if axis else {}


def _attention(random: Random) -> Drawn:
    heads, dk = size(random, 3), size(random, 9)
    wide = chance(random, 0.2)
    t, s = (size(random, 70 if wide else 12) for _ in range(2))
    n_inputs = int(random.integers(1, 5))
    if chance(random, 0.1):  # more keys than a tile has
        t, s = size(random, 5), TILE_COLUMNS + size(random, 9)
    width = heads * dk
    values: dict[str, Any] = {
        "num_heads": heads,
        "is_causal": chance(random, 0.3),
        "attention": ("plain", "tiled")[random.integers(2)],
        "trainable": not chance(random, 0.2),
    }
    if chance(random, 0.3):
        values["num_heads_kv"] = 1
    if chance(random, 0.2):
        values["lora_rank"] = 1
    if chance(random, 0.5):
        values |= {"projected_key_dim": dk, "projected_value_dim": size(random, 9)}
        values["output_shape"] = size(random)
        width = size(random)
    if chance(random, 0.3):
        values["dropout_rate"] = 0.4
    if n_inputs == 1:
        s = t = min(s, 70)
    shapes = [(1, t, width), (1, s, size(random)), (1, s, size(random))]
    mask = (heads if chance(random, 0.5) else 1, t, s)
    shapes = [*shapes, mask][:n_inputs]
    return "multi_head_attention", tuple(shapes), _with_bias(random, values)


def _recurrent(kind: str) -> Callable[[Random], Drawn]:
    """Sequences and cells; the functions are the usual ones, as each pair compiles."""

    def draw(random: Random) -> Drawn:
        unit = UNITS + size(random, 9) if chance(random, 0.1) else size(random, 20)
        values: dict[str, Any] = {"unit": unit, "trainable": not chance(random, 0.2)}
        if chance(random, 0.4):
            values["dropout_rate"] = 0.3
        bias = random.integers(4)
        values |= {} if bias > 1 else {("disable_bias", "integrate_bias")[bias]: True}
        if kind == "gru":
            values["reset_after"] = chance(random, 0.5)
        width = size(random, 12)
        if chance(random, 0.4):
            most = 2 if kind == "lstm" else 1
            states = int(random.integers(0, most + 1))
            if kind == "lstm":
                values["return_cell_state"] = chance(random, 0.5)
            shapes = [(1, 1, width), *[(1, 1, unit)] * states]
            return f"{kind}cell", tuple(shapes), values
        values["return_sequences"] = chance(random, 0.5)
        values["bidirectional"] = chance(random, 0.4)
        values["return_state"] = chance(random, 0.4)
        return kind, ((1, size(random, 7), width),), values

    return draw


def _with_lengths(random: Random) -> Drawn:
    """Sequences whose lengths are given."""
    kind = ("rnn", "lstm", "gru")[random.integers(3)]
    name, shapes, values = _recurrent(kind)(random)
    if name != kind:
        values.pop("return_cell_state", None)
    values["return_state"] = chance(random, 0.6)
    return kind, ((1, size(random, 7), shapes[0][2]), (1, 1, 1)), values


def _loss(*kinds: str) -> Callable[[Random], Drawn]:
    def draw(random: Random) -> Drawn:
        kind = kinds[random.integers(len(kinds))]
        values = {}
        if kind == "cross_softmax" and chance(random, 0.5):
            values = {"per_token": True, "ignore_label": 0}
        return kind, (_flat(random),), values

    return draw


def _weighted_loss(random: Random) -> Drawn:
    shape = _picture(random, 40, 9) if chance(random, 0.6) else _flat(random)
    axis = int(random.integers(1, 4))
    weights = [float(w) for w in random.uniform(0, 4, shape[axis - 1])]
    if chance(random, 0.3):
        only = [weights[0]] if chance(random, 0.5) else weights
        return "cross_sigmoid", (shape,), {"axis": axis, "pos_weight": only}
    values: dict[str, Any] = {"axis": axis, "label_smoothing": 0.1}
    if chance(random, 0.5):
        values |= {"per_token": True, "ignore_label": 0}
    if chance(random, 0.7):
        values["class_weight"] = weights
    return "cross_softmax", (shape,), values


def _class_probabilities(random: Random) -> list[Call]:
    outer, classes, inner = size(random, 3), size(random, 40), size(random, 70)
    x = normal(random, outer * classes * inner)
    y = np.full_like(x, 7)
    kernel = class_losses.class_probabilities
    return [
        Call(kernel, (x, y, classes, inner)),
        Call(kernel, (x, x, inner, classes)),
    ]


def _table_sums(random: Random) -> list[Call]:
    n, rows, width = size(random, 9), size(random, 5), size(random, 70)
    before, total = int(random.integers(0, 4)), width + int(random.integers(0, 5))
    first = min(before, total - width)
    x, y = normal(random, n * rows * total), np.full(rows * width, 7, np.float32)
    places = n, rows * total, first, rows, total, width
    return [Call(table_sums.sum_samples, (x, y, *places))]


def _sample_weights(random: Random) -> list[Call]:
    n = size(random, 70)
    weights, scale = normal(random, n), np.array([0.3])
    return [Call(sample_weights.weigh_samples, (weights, scale, np.full(n, 7.0)))]


def _normalization(kind: str) -> Callable[[Random], Drawn]:
    def draw(random: Random) -> Drawn:
        values: dict[str, Any] = {"trainable": not chance(random, 0.2)}
        if kind == "layer_normalization":
            axes = [a for a in (1, 2, 3) if chance(random, 0.5)] or [3]
            values["axis"] = tuple(axes)
            values["affine"] = not chance(random, 0.2)
        if kind == "batch_normalization" and values["trainable"]:
            values["statistics"] = "moving" if chance(random, 0.3) else "batch"
        shape = (
            _picture(random, 40, 9) if chance(random, 0.6) else (1, 1, size(random, 70))
        )
        return kind, (shape,), values

    return draw


def _group_normalization(random: Random) -> Drawn:
    values = {"trainable": not chance(random, 0.2), "affine": not chance(random, 0.2)}
    if chance(random, 0.3):
        shape = _picture(random, 9, 9)
        return "instance_normalization", (shape,), values
    groups, each = size(random, 5), size(random, 20)
    _, height, width = _picture(random, 1, 9)
    shape = groups * each, height, width
    if chance(random, 0.2):
        shape = 1, 1, groups * each
    return "group_normalization", (shape,), values | {"num_groups": groups}


def _rearranged(random: Random) -> Drawn:
    kind = ("concat", "slice", "split", "permute")[random.integers(4)]
    shape = size(random, 5), size(random, 20), size(random, 20)
    axis = int(random.integers(1, 4))
    if kind == "permute":
        return (
            kind,
            (shape,),
            {"direction": tuple(int(a) + 1 for a in random.permutation(3))},
        )
    if kind == "concat":
        shapes = []
        for _ in range(int(random.integers(1, 4))):
            other = list(shape)
            other[axis - 1] = size(random, 9)
            shapes.append((other[0], other[1], other[2]))
        return kind, tuple(shapes), {"axis": axis}
    if kind == "slice":
        first = int(random.integers(1, shape[axis - 1] + 1))
        last = int(random.integers(first, shape[axis - 1] + 1))
        return (
            kind,
            (shape,),
            {"axis": axis, "start_index": first, "end_index": last + 1},
        )
    parts = [p for p in range(1, shape[axis - 1] + 1) if shape[axis - 1] % p == 0]
    return kind, (shape,), {"axis": axis, "split_number": int(random.choice(parts))}


def _shape(random: Random) -> Drawn:
    kind = ("flatten", "identity", "multiout", "addition")[random.integers(4)]
    n = int(random.integers(1, 4)) if kind in ("identity", "addition") else 1
    return kind, (_flat(random),) * n, {}


def _tokens(random: Random) -> Drawn:
    kinds = ("embedding", "positional_encoding", "dropout", "swiglu", "drop_path")
    kind = kinds[random.integers(len(kinds))]
    if kind == "embedding":
        values = {"in_dim": size(random, 12), "out_dim": size(random, 40)}
        return kind, ((1, 1, size(random, 9)),), values
    if kind == "positional_encoding":
        return kind, ((1, size(random, 9), size(random, 40)),), {}
    shape = _flat(random)
    if kind == "swiglu":
        return kind, (shape, shape), {}
    return kind, (shape,), {"dropout_rate": 0.4}


def _heads(random: Random) -> Drawn:
    count, width = size(random, 3), size(random, 9)
    if chance(random, 0.3):
        shape = (1, size(random, 12), 2 * width * count)
        return "rotary_embedding", (shape,), {"num_heads": count}
    shared, wide = size(random, 3), size(random, 9)
    t, s = size(random, 12), size(random, 40)
    heads = count * shared
    values: dict[str, Any] = {"num_heads": heads, "num_heads_kv": count}
    values["is_causal"] = chance(random, 0.4)
    if chance(random, 0.3):
        values["dropout_rate"] = 0.4
    rows = ((1, t, heads * width), (1, s, count * width), (1, s, count * wide))
    mask = (heads if chance(random, 0.5) else 1, t, s)
    return "attention", (*rows, mask)[: 3 + chance(random, 0.6)], values


# -- what no layer calls ---------------------------------------------------------------


def _update(random: Random) -> list[Call]:
    n = size(random, 200)
    weight, gradient, first, second = (normal(random, n) for _ in range(4))
    hyper = np.array([0.1, 0.5, 0.9, 0.99, 1e-8, 0.1, 0.01, 0.1])
    state = np.abs(second)
    centered = weight, gradient, state, normal(random, n)
    a, b = (normal(random, k, size(random)) for k in [size(random)] * 2)
    product = normal(random, a.shape[1], b.shape[1])
    momentum = np.array([0.1, 0.5, 0.9, 1e-8, 0.5])
    return [
        Call(updates.sgd, (weight, gradient, 0.1, hyper[:2])),
        Call(updates.sgd_momentum, (weight, gradient, first, 0.1, hyper[:3])),
        Call(updates.sgd_nesterov, (weight, gradient, first, 0.1, hyper[:3])),
        Call(updates.adam, (weight, gradient, first, state, 0.1, hyper[:7])),
        Call(updates.adamw, (weight, gradient, first, state, 0.1, hyper)),
        Call(updates.sgd_product, (a, b, hyper[:2], product)),
        Call(rmsprop.rmsprop, (weight, gradient, state, 0.1, hyper[:4])),
        Call(rmsprop_centered.centered, (*centered, 0.1, hyper[:4])),
        Call(rmsprop_centered.centered_momentum, (*centered, first, 0.1, momentum)),
        Call(rmsprop.rmsprop_momentum, (weight, gradient, state, first, 0.1, momentum)),
        Call(update_terms.clip_values, (gradient, 0.5, first)),
        Call(update_terms.scale_number, (hyper[:1], 0.5, hyper[1:2].copy())),
    ]


def _touched_rows(random: Random) -> list[Call]:
    """Gradients of a few ids, and the updates of the table that they name."""
    n_rows, width, n = size(random, 12), size(random, 20), size(random, 9)
    lines = n + int(random.integers(0, 4))
    ids = random.integers(0, n_rows, n).astype(np.float32)
    dy, gradient = normal(random, n, width), np.zeros((lines, 3 + width), np.float32)
    padding = int(random.integers(-1, n_rows))
    run_python = touched_rows.touched_gradient._python
    run_python(ids, dy, n_rows, -1, 0.0, gradient)
    weight, first, second = (normal(random, n_rows, width) for _ in range(3))
    hyper = np.array([0.1, 0.5, 0.9, 0.99, 1e-8, 0.1, 0.01])
    look_ahead = int(chance(random, 0.5))
    moments = first, np.abs(second)
    given = (ids, dy, n_rows, padding)
    return [
        Call(touched_rows.touched_gradient, (*given, 0.0, gradient.copy())),
        Call(touched_rows.touched_gradient, (*given, 1.0, gradient[:].copy())),
        Call(touched_rows.touched_square_sum, (gradient, np.full(1, 0.5))),
        Call(touched_rows.touched_sgd, (weight, gradient, 0.1, hyper[:2])),
        Call(
            touched_rows.touched_momentum,
            (weight, gradient, first, 0.1, look_ahead, hyper[:3]),
        ),
        Call(touched_rows.touched_adam, (weight, gradient, *moments, hyper)),
    ]


def _reductions(random: Random) -> list[Call]:
    n = size(random, 200)
    x, y = normal(random, n), normal(random, n)
    one, other = np.full(1, 0.5), np.full(1, 0.25)
    rows = normal(random, size(random), size(random, 70))
    labels = random.integers(0, rows.shape[1], rows.shape[0])
    return [
        Call(reductions.square_sum, (x, one)),
        Call(reductions.clip_scale, (one, 1.0, other)),
        Call(reductions.l2_penalty, (x, 0.1, one, other)),
        Call(reductions.l2_gradient, (x, 0.1, one, y)),
        Call(reductions.count_nonfinite, (x, np.zeros(1, np.int64))),
        Call(reductions.count_unusable_in_mask, (x, np.zeros(1, np.int64))),
        Call(elementwise.add_to, (x, y)),
        Call(elementwise.fill, (2.0, x)),
        Call(elementwise.fill_doubles, (2.0, normal(random, n).astype(np.float64))),
        Call(elementwise.count_up, (np.full(1, 5.0),)),
        Call(elementwise.one_hot, (labels, rows)),
    ]


def _products(random: Random) -> list[Call]:
    m, n, k = size(random), size(random), size(random)
    a, b, c = normal(random, m, k), normal(random, k, n), normal(random, m, n)
    a_t, b_t = a.T.copy(), b.T.copy()
    beta = float(random.integers(2))
    wide = [v + size(random, 5) for v in (k, n, n)]
    places = [int(v) for v in random.integers(0, 4, 3)]
    windows: list[Any] = []
    for rows, columns, distance, place in zip(
        (m, k, m), (k, n, n), wide, places, strict=True
    ):
        flat = normal(random, place + (rows - 1) * distance + columns)
        windows.append((flat, place, distance))
    first, second, third = windows
    return [
        Call(blas.matmul, (a, b, c)),
        Call(blas.matmul_transposed_a, (a_t, b, beta, c)),
        Call(blas.matmul_transposed_b, (a, b_t, c)),
        Call(blas.matmul_transposed_b_onto, (a, b_t, beta, c)),
        Call(matmul_windows, (0, 0, m, n, k, *first, *second, beta, *third)),
    ]


def _chains(random: Random) -> list[Call]:
    """The same products as chains, and those with more columns and products."""
    twins = (
        *(chains.chain_matmul, chains.chain_transposed_a, chains.chain_transposed_b),
        *(chains.chain_transposed_b_onto, chains.chain_windows),
    )
    calls = [
        Call(twin, arguments)
        for twin, (_, arguments) in zip(twins, _products(random), strict=True)
    ]
    m, k, n = size(random, 12), size(random, 300), size(random, 70)
    a, b, c = normal(random, m, k), normal(random, k, n), normal(random, m, n)
    hyper = np.array([0.1, 1.0])
    return [
        *calls,
        Call(chains.chain_matmul, (a, b, c)),
        Call(chains.chain_transposed_b, (a, b.T.copy(), c)),
        Call(chains.chain_transposed_b_onto, (a, b.T.copy(), 1.0, c)),
        Call(chains.chain_sgd_product, (a.T.copy(), b, hyper, c)),
    ]


_CONVOLUTIONS = (
    "conv_forward",
    "conv_derivative",
    "conv_gradient",
    "conv_bias_gradient",
)
_STEPS = ("join_biases", "bias_from_sums")

FAMILIES: dict[str, Family] = {
    "convolution": Family(_CONVOLUTIONS, _either_convolution),
    "depthwise": Family(
        ("depthwise_forward", "depthwise_gradient", "depthwise_derivative"), _depthwise
    ),
    "grouped convolution": Family(
        ("grouped_forward", "grouped_derivative", "grouped_gradient"), _grouped
    ),
    "pooling": Family(
        ("max_forward", "max_derivative", "average_forward", "average_derivative"),
        _pooling,
    ),
    "spans": Family(
        tuple(
            f"span_{k}_{w}"
            for k in ("max", "average")
            for w in ("forward", "derivative")
        ),
        _spans,
    ),
    "margins": Family(("pad_forward", "pad_derivative"), _margins),
    "shuffled": Family(("copy_rows", "transpose"), _shuffled),
    "wide pooling": Family(("max_forward_wide",), _wide_pooling),
    "global pooling": Family(
        tuple(
            f"plane_{k}_{w}"
            for k in ("max", "average")
            for w in ("forward", "derivative")
        ),
        _global_pooling,
    ),
    "upsampling": Family(
        tuple(
            f"{k}_{w}"
            for k in ("nearest", "bilinear")
            for w in ("forward", "derivative")
        ),
        _upsampling,
    ),
    "dense": Family(("add_bias", "bias_gradient"), _dense),
    "products": Family(
        (
            "matmul",
            "matmul_transposed_a",
            "matmul_transposed_b",
            "matmul_transposed_b_onto",
            "matmul_windows",
        ),
        _products,
    ),
    "matmul": Family(("matmul_each",), _matmul),
    "chains": Family(
        (
            "chain_matmul",
            "chain_transposed_a",
            "chain_transposed_b",
            "chain_transposed_b_onto",
            "chain_windows",
            "chain_sgd_product",
        ),
        _chains,
    ),
    "portable matmul": Family(("chain_each",), _matmul, PORTABLE),
    "direct convolution": Family(
        ("direct_forward", "direct_derivative", "direct_gradient"),
        _either_convolution,
        PORTABLE,
    ),
    "far taps": Family(
        ("direct_forward", "direct_derivative", "direct_gradient"), _far_taps, PORTABLE
    ),
    "direct depthwise": Family(
        (
            "direct_depthwise_forward",
            "direct_depthwise_derivative",
            "direct_depthwise_gradient",
        ),
        _depthwise,
        PORTABLE,
    ),
    **{
        f"activation {name}": Family(
            (a.forward.name, a.backward.name), _activation(name)
        )
        for name, a in ACTIVATIONS.items()
    },
    **{
        f"bias and {name}": Family((a.bias_forward.name,), _biased(name))
        for name, a in ACTIVATIONS.items()
        if a.bias_forward
    },
    **{
        f"curve {name}": Family(
            (f"curve_{name}_forward", f"curve_{name}_backward"), _activation(text)
        )
        for name, text in CURVES.items()
    },
    "learned slopes": Family(
        ("prelu_forward", "prelu_derivative", "prelu_gradient"), _prelu
    ),
    "numbers": Family(("affine",), _with_number),
    "extremes": Family(("extreme", "sum_extreme"), _arithmetic("maximum", "minimum")),
    "conditions": Family(("select", "sum_selected"), _where),
    "softmax along an axis": Family(
        ("axis_softmax_forward", "axis_softmax_backward"), _along_axis("activation")
    ),
    "extremes along an axis": Family(
        ("axis_extreme_forward", "axis_extreme_derivative"),
        _along_axis("reduce_max", "reduce_min"),
    ),
    "products along an axis": Family(
        ("axis_product_forward", "axis_product_derivative"), _along_axis("reduce_prod")
    ),
    "norms": Family(("axis_norm_forward", "axis_norm_derivative"), _along_axis("norm")),
    "running sums": Family(("running_sum",), _along_axis("cumsum")),
    "gathering": Family(("gather_forward", "gather_derivative"), _along_axis("gather")),
    "cosines": Family(
        ("axis_cosine_forward", "axis_cosine_derivative"),
        _along_axis("cosine_similarity"),
    ),
    "add and subtract": Family(
        ("broadcast_add", "broadcast_subtract", "add", "subtract", "sum_plain"),
        _arithmetic("add", "subtract"),
    ),
    "multiply and divide": Family(
        (
            "broadcast_multiply",
            "broadcast_divide",
            "multiply",
            "multiply_derivatives",
            "divide",
            "divide_derivatives",
            "divisor_derivative",
            "sum_products",
            "sum_quotients",
        ),
        _arithmetic("multiply", "divide"),
    ),
    "powers": Family(
        (
            "negative",
            "square_root",
            "square_root_derivative",
            "power",
            "power_derivative",
        ),
        _elementwise,
    ),
    "reduce": Family(("sum_plain", "repeat"), _reduce),
    "attention": Family(
        ("tiled_forward", "plain_forward", "tiled_backward", "plain_backward"),
        _attention,
    ),
    "lstm": Family(
        (
            *(f"lstm_tanh_sigmoid_{w}" for w in ("forward", "states", "backward")),
            *_STEPS,
        ),
        _recurrent("lstm"),
    ),
    "gru": Family(
        (
            *(f"gru_tanh_sigmoid_{w}" for w in ("forward", "states", "backward")),
            *_STEPS,
        ),
        _recurrent("gru"),
    ),
    "rnn": Family(
        ("rnn_tanh_forward", "rnn_tanh_backward", "rnn_previous"), _recurrent("rnn")
    ),
    "portable attention": Family(
        tuple(
            f"{k}_{w}_portable"
            for k in ("tiled", "plain")
            for w in ("forward", "backward")
        ),
        _attention,
        arithmetic=PORTABLE,
    ),
    "lengths": Family(
        (
            *("count_steps", "fill_masked", "reverse_valid", "take_last", "add_last"),
            "last_cells",
        ),
        _with_lengths,
        PORTABLE,
    ),
    "portable lstm": Family(
        tuple(f"lstm_tanh_sigmoid_portable_{w}" for w in ("forward", "backward")),
        _recurrent("lstm"),
        arithmetic=PORTABLE,
    ),
    "portable gru": Family(
        tuple(f"gru_tanh_sigmoid_portable_{w}" for w in ("forward", "backward")),
        _recurrent("gru"),
        arithmetic=PORTABLE,
    ),
    "portable rnn": Family(
        tuple(f"rnn_tanh_portable_{w}" for w in ("forward", "backward")),
        _recurrent("rnn"),
        arithmetic=PORTABLE,
    ),
    "losses": Family(
        tuple(
            f"{k}_{w}"
            for k in ("mse", "cross_softmax", "cross_sigmoid", "kld", "class_softmax")
            for w in ("loss", "derivative")
        ),
        _loss("mse", "cross_softmax", "cross_softmax", "cross_sigmoid", "kld"),
    ),
    "losses of values": Family(
        ("mae_loss", "mae_derivative", "huber_loss", "huber_derivative"),
        _loss("mae", "huber"),
    ),
    "mean loss": Family(("mean_loss", "mean_derivative"), _loss("mean_loss")),
    "weighted losses": Family(
        tuple(
            f"weighted_{k}_{w}"
            for k in ("softmax", "sigmoid")
            for w in ("loss", "derivative")
        ),
        _weighted_loss,
    ),
    "class probabilities": Family(("class_probabilities",), _class_probabilities),
    "table sums": Family(("sum_samples",), _table_sums),
    "sample weights": Family(("weigh_samples",), _sample_weights),
    "batch normalization": Family(
        (
            "batch_norm_statistics",
            "moving_statistics",
            "move_statistics",
            "batch_norm_forward",
            "batch_norm_sums",
            "batch_norm_gradient",
            "batch_norm_derivative",
            "scale_channels",
        ),
        _normalization("batch_normalization"),
    ),
    "layer normalization": Family(
        tuple(
            f"{k}_norm_{w}"
            for k in ("layer", "strided")
            for w in ("forward", "gradient", "derivative")
        ),
        _normalization("layer_normalization"),
    ),
    "group normalization": Family(
        tuple(f"group_norm_{w}" for w in ("forward", "gradient", "derivative")),
        _group_normalization,
    ),
    "rms": Family(
        tuple(f"rms_norm_{w}" for w in ("forward", "gradient", "derivative")),
        _normalization("rms_norm"),
    ),
    "rearranged": Family(("copy_rows", "place_rows", "transpose"), _rearranged),
    "shape": Family(("copy",), _shape),
    "tokens": Family(
        (
            "embedding_forward",
            "embedding_gradient",
            "add_positions",
            "dropout",
            "drop_path",
            "swiglu_forward",
            "swiglu_gate_derivative",
            "swiglu_value_derivative",
            "swiglu_derivatives",
        ),
        _tokens,
    ),
    "heads": Family(("rotate", "masked_softmax"), _heads),
    "updates": Family(
        (
            *("sgd", "sgd_product", "sgd_momentum", "sgd_nesterov", "adam", "adamw"),
            *("rmsprop", "rmsprop_momentum", "clip_values", "scale_number"),
            *("centered", "centered_momentum"),
        ),
        _update,
    ),
    "touched rows": Family(
        (
            *("touched_gradient", "touched_square_sum", "touched_sgd"),
            *("touched_momentum", "touched_adam"),
        ),
        _touched_rows,
    ),
    "reductions": Family(
        (
            "square_sum",
            "clip_scale",
            "l2_penalty",
            "l2_gradient",
            "count_nonfinite",
            "count_unusable_in_mask",
            "add_to",
            "fill",
            "fill_doubles",
            "count_up",
            "one_hot",
        ),
        _reductions,
    ),
}


GROUPS: dict[str, tuple[str, ...]] = {
    "pictures": (
        *("convolution", "depthwise", "pooling", "wide pooling", "global pooling"),
        *("upsampling", "direct convolution", "far taps", "direct depthwise"),
        *("grouped convolution", "spans", "margins", "shuffled"),
    ),
    "functions": tuple(n for n in FAMILIES if n.startswith(("activation", "bias"))),
    "arithmetic": ("add and subtract", "multiply and divide", "powers", "reduce"),
    "curves": tuple(n for n in FAMILIES if n.startswith("curve ")),
    "choices": ("learned slopes", "numbers", "extremes", "conditions"),
    "axiswise": (
        *("softmax along an axis", "extremes along an axis", "products along an axis"),
        *("norms", "running sums", "gathering", "cosines"),
    ),
    "products": ("dense", "products", "matmul", "attention", "lstm", "gru", "rnn"),
    "chains": ("chains", "portable matmul"),
    "portable layers": (
        "portable attention",
        "portable lstm",
        "portable gru",
        "portable rnn",
        "lengths",
    ),
    "rows": (
        *("losses", "batch normalization", "layer normalization", "rms", "tokens"),
        "heads",
        *("mean loss", "losses of values", "weighted losses", "class probabilities"),
        *("table sums", "sample weights"),
        *("rearranged", "shape", "group normalization"),
    ),
    "updates": ("updates", "touched rows", "reductions"),
}
"""Families that one process runs."""
