"""Any model of ours in PyTorch: the outside judge of losses, gradients and updates.

`TorchJudge` reads the graph of a model (layers, who reads whom, whose weights) and
computes every layer as its page in docs/layers says, with PyTorch's operations and
automatic derivatives, in float64 or float32. It holds weights and states of its own and
goes on from step to step as the model does: micro-batches, penalties, clipping, decay,
schedules, running statistics, and the masks of dropout, which it draws as the random
numbers of the package are defined (`_random_bits`).

With `noise` every input, weight, result and derivative is moved by a random share of
about that size, as rounding would: how far results differ then is how far any
computation of that precision may be off, at kinks such as that of relu too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from arena_ckpt import Model
from arena_ckpt.graph.nodes import Node
from arena_ckpt.layers.functions import name_of, numbers_of
from arena_ckpt.layers.windows import pad_1d, pad_2d
from arena_ckpt.lowering.binding import random_key

torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
torch.set_num_threads(1)  # what is small here, several would only wait for
F = torch.nn.functional
Tensor = Any
Arrays = dict[str, np.ndarray]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "tanh_gelu": lambda x: F.gelu(x, approximate="tanh"),
    "swish": F.silu,
    "elu": F.elu,
    "selu": F.selu,
    "softplus": F.softplus,
    "mish": F.mish,
    "relu6": F.relu6,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
    "exp": torch.exp,
    "log": torch.log,
    "abs": torch.abs,
    "sigmoid_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
}


def _with_numbers(name: str, *numbers: float) -> Callable[[Tensor], Tensor]:
    """Return an activation function made by its numbers."""
    if name == "leaky_relu":
        return lambda x: F.leaky_relu(x, *numbers)
    if name == "elu":
        return lambda x: F.elu(x, *numbers)
    return lambda x: x.clamp(*numbers)


_SCALE, _ALPHA = 1.0507009873554805, 1.6732632423543772
"""Of SELU."""

SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y * y,
    "elu": lambda y: torch.where(y > 0, torch.ones_like(y), y + 1),
    "selu": lambda y: torch.where(
        y > 0, torch.full_like(y, _SCALE), y + _SCALE * _ALPHA
    ),
}
"""The slopes of functions by their outputs, as all libraries compute them."""


class _FromOutput(torch.autograd.Function):
    """An activation whose slope is that at its rounded output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str, factor: Any) -> Tensor:
        y = ACTIVATIONS[name](x)
        y = y * factor(y)
        ctx.save_for_backward(y)
        ctx.slope = SLOPES[name]
        return y

    @staticmethod
    def backward(ctx: Any, *derivatives: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors
        return derivatives[0] * ctx.slope(y), None, None


def _rate_scale(node: Node) -> float:
    """Return the factor of the learning rate of a layer's weights."""
    return float(node.layer.get("learning_rate_scale", 1.0))


class Evaluated(NamedTuple):
    """What a model is worth on a data set."""

    loss: float
    metric: float


class TorchJudge:
    """A model of ours in PyTorch.

    Parameters
    ----------
    model : Model
        Initialized; only its definition, its plan's micro-batches and its weights are
        read.
    dtype : {"float64", "float32"}
    noise : float
        Share by which everything is moved at random; 0 for none.
    seed : int
        Of the noise.
    """

    def __init__(
        self,
        model: Model,
        dtype: str = "float64",
        *,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.dtype = getattr(torch, dtype)
        self.nodes = model.compile().nodes
        self.pass_samples = model.plan.pass_samples
        self.seed = model.seed
        self.iteration = 0
        self.loss_node = self.nodes[-1]
        self._noise = noise
        self._generator = torch.Generator().manual_seed(seed)
        self._max_norm = model.get_property("clip_grad_by_norm")
        self._optimizer_type = model.optimizer.type_name
        self._values = model.optimizer
        self._schedule = model.schedule
        trained = self._trained()
        self.values = {
            name: torch.tensor(weight, dtype=self.dtype, requires_grad=name in trained)
            for name, weight in model.weights().items()
        }
        self.trained = {name: self.values[name] for name in trained}
        self._optimizer = self._make_optimizer() if trained else None
        self._training = False
        self._first_sample = 0

    def _trained(self) -> list[str]:
        return [
            f"{node.name}:{weight.name}"
            for node in self.nodes
            for weight in node.own_weights
            if weight in node.spec.trained_weights and node.layer.is_trainable
        ]

    def _make_optimizer(self) -> Any:
        given = self._values
        weights = [{"params": [weight]} for weight in self.trained.values()]
        rate = given["learning_rate"]
        if self._optimizer_type == "sgd":
            return torch.optim.SGD(
                weights, rate, given["momentum"], nesterov=given["nesterov"]
            )
        if self._optimizer_type == "rmsprop":
            alpha, momentum = given["alpha"], given["momentum"]
            return torch.optim.RMSprop(
                *(weights, rate, alpha, given["epsilon"]),
                momentum=momentum,
                centered=given["centered"],
            )
        betas = (given["beta1"], given["beta2"])
        if self._optimizer_type == "adam":
            return torch.optim.Adam(weights, rate, betas, given["epsilon"])
        return torch.optim.AdamW(
            weights, rate, betas, given["epsilon"], given["weight_decay"]
        )

    # -- what a model is asked ---------------------------------------------------------

    def compute_gradients(self, x: Mapping[str, Any], y: Any) -> tuple[float, Arrays]:
        """Return the loss and the gradients, penalties included; change nothing."""
        state = {k: v.detach().clone() for k, v in self._state().items()}
        loss = self._backward(x, y)
        self._state_back(state)
        return loss, {
            name: _numpy(torch.zeros_like(w) if w.grad is None else w.grad)
            for name, w in self.trained.items()
        }

    def train_step(self, x: Mapping[str, Any], y: Any) -> float:
        """Run one iteration; return its loss."""
        loss = self._backward(x, y)
        if self._optimizer is None:
            return loss
        for weight in self.trained.values():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        if self._max_norm is not None:
            torch.nn.utils.clip_grad_norm_(list(self.trained.values()), self._max_norm)
        if self._values["clip_value"] is not None:
            torch.nn.utils.clip_grad_value_(
                list(self.trained.values()), self._values["clip_value"]
            )
        rate, shrunk = self._rate(), 1.0
        if self._optimizer_type == "adamw":  # its own decay comes first
            shrunk -= rate * self._values["weight_decay"]
        with torch.no_grad():
            for name, decay in self._decays().items():
                weight = self.trained[name]
                weight.grad += decay * shrunk * weight
        scales = {node.name: _rate_scale(node) for node in self.nodes}
        for name, group in zip(self.trained, self._optimizer.param_groups, strict=True):
            group["lr"] = rate * scales[name.partition(":")[0]]
        before = [weight.detach().clone() for weight in self.trained.values()]
        self._optimizer.step()
        if self._noise:  # what an update all but takes away leaves its rounding
            with torch.no_grad():
                for old, weight in zip(before, self.trained.values(), strict=True):
                    change = weight - old
                    weight.copy_(old * self._factor(old) + change * self._factor(old))
        self.iteration += 1
        return loss

    def predict(self, x: Mapping[str, Any]) -> np.ndarray:
        """Return the predictions."""
        return self._look(x, None)[0]

    def evaluate(self, data: tuple[Mapping[str, Any], Any]) -> Evaluated:
        """Return loss and metric, without dropout, by running statistics."""
        prediction, loss = self._look(*data)
        return Evaluated(loss, self._metric(prediction, np.asarray(data[1])))

    def weights(self) -> Arrays:
        """Return all weights, running statistics among them."""
        return {name: _numpy(value) for name, value in self.values.items()}

    # -- passes ------------------------------------------------------------------------

    def _state(self) -> dict[str, Tensor]:
        return {k: v for k, v in self.values.items() if k not in self.trained}

    def _state_back(self, state: Mapping[str, Tensor]) -> None:
        self.values |= state

    def _backward(self, x: Mapping[str, Any], y: Any) -> float:
        for weight in self.trained.values():
            weight.grad = None
        self._training = True
        n, total = len(y), 0.0
        terms = self._n_terms(y)
        for start in range(0, n, self.pass_samples):
            stop = min(n, start + self.pass_samples)
            some = {name: array[start:stop] for name, array in x.items()}
            self._first_sample = start
            loss = self._loss(self._run(some), y[start:stop], terms)
            if loss.requires_grad:
                loss.backward()
            total += float(loss.detach())
        penalty = self._penalty()
        if penalty.requires_grad:
            penalty.backward()
        return total + float(penalty.detach())

    def _look(self, x: Mapping[str, Any], y: Any) -> tuple[np.ndarray, float]:
        self._training = False
        with torch.no_grad():
            out = self._run(x)
            loss = 0.0
            if y is not None:
                loss = float(self._loss(out, y, self._n_terms(y)) + self._penalty())
            return _numpy(self._prediction(out)), loss

    def _run(self, x: Mapping[str, Any]) -> Tensor:
        """Run all layers up to the loss; return what it reads."""
        outputs: dict[tuple[str, int], Tensor] = {}
        self.n_samples = len(next(iter(x.values())))
        for node in self.nodes:
            inputs = [outputs[source.layer, source.index] for source in node.inputs]
            if node is self.loss_node:
                return inputs[0]
            kind = node.layer.type_name
            if kind == "input":
                array = torch.tensor(x[node.name], dtype=self.dtype)
                made = array.reshape(-1, *node.spec.output_shapes[0])
                fixed = node.name.startswith(("ids", "lengths", "mask"))
                results: tuple[Tensor, ...] = (made if fixed else self._moved(made),)
            else:
                results = _LAYERS[kind](self, node, *inputs)
                if kind not in _MOVES_NOTHING:
                    results = tuple(map(self._moved, results))
            for index, (result, shape) in enumerate(
                zip(results, node.spec.output_shapes, strict=True)
            ):
                assert result.shape[1:] == shape, (node.name, result.shape, shape)
                outputs[node.name, index] = result
        raise AssertionError("the model has no loss")

    def _moved(self, value: Tensor) -> Tensor:
        """Return what rounding could make of a tensor, and of its derivative."""
        if not self._noise:
            return value
        value = value * self._factor(value)
        if value.requires_grad:
            value.register_hook(lambda d: d * self._factor(d))
        return value

    def _factor(self, like: Tensor) -> Tensor:
        noise = torch.randn(like.shape, generator=self._generator, dtype=like.dtype)
        return 1 + self._noise * noise

    def weight(self, node: Node, name: str) -> Tensor | None:
        """Return a weight that a layer uses, perhaps of another; None for no such."""
        value = self.values.get(f"{node.weights_of}:{name}")
        return None if value is None else self._moved(value)

    def activation(self, name: str) -> Callable[[Tensor], Tensor]:
        """Return an activation function.

        Where its slope is computed from its output, and that is rounded, the slope of
        an element that is all but saturated is off by far more than rounding itself.
        """
        if name_of(name) == "softmax":
            return partial(self.softmax, axis=int(numbers_of(name)[0]))
        if numbers_of(name):
            return _with_numbers(name_of(name), *numbers_of(name))
        if not self._noise or name not in SLOPES:
            return ACTIVATIONS[name]
        return lambda x: _FromOutput.apply(x, name, self._factor)

    def softmax(self, x: Tensor, axis: int = -1) -> Tensor:
        """Return the softmax over an axis, by a rounded inverse of its sum.

        What it gives does not sum to 1 then, nor its derivative to 0: that is all there
        is of a derivative where every choice is worth the same.
        """
        powers = torch.exp(x - x.amax(axis, keepdim=True).detach())
        return powers * self._moved(1 / powers.sum(axis, keepdim=True))

    # -- losses and updates ------------------------------------------------------------

    def _n_terms(self, y: Any) -> float:
        layer = self.loss_node.layer
        weights = self._class_weights()
        if layer.get("per_token"):
            counted = np.asarray(y)[np.asarray(y) != layer["ignore_label"]]
            if weights is None:
                return counted.size
            return float(weights[counted.astype(int)].sum())
        if weights is None:
            return len(y)
        if np.ndim(y) == 1:
            return float(weights[np.asarray(y)].sum())
        shape = self.loss_node.spec.output_shapes[0]
        label = self._classes_last(torch.tensor(y).reshape(-1, *shape))
        rows = math.prod(shape) // shape[layer.class_axis - 1]
        return float((label * weights).sum()) / rows

    def _class_weights(self) -> Tensor | None:
        given = self.loss_node.layer.get("class_weight")
        return None if given is None else torch.tensor(given, dtype=self.dtype)

    def _classes_last(self, values: Tensor) -> Tensor:
        """Return values of the shape of outputs as rows of classes."""
        axis = self.loss_node.layer.class_axis
        return values.movedim(axis, -1).reshape(-1, values.shape[axis])

    def _loss(self, out: Tensor, y: Any, n_terms: float) -> Tensor:
        """Return what a part of a batch adds to the loss of a batch of `n_terms`."""
        layer, kind = self.loss_node.layer, self.loss_node.layer.type_name
        if n_terms == 0:
            return out.sum() * 0
        if kind == "cross_softmax":
            return self._cross_entropy(self._classes_last(out), y, out.shape) / n_terms
        label = torch.tensor(y, dtype=self.dtype).reshape(out.shape)
        if kind == "kld":
            return F.kl_div(out.log(), label, reduction="sum") / n_terms
        n_elems = n_terms * math.prod(out.shape[1:])
        if kind == "huber":
            delta = layer["delta"]
            return F.huber_loss(out, label, reduction="sum", delta=delta) / n_elems
        if kind == "cross_sigmoid":
            weights = layer["pos_weight"]
            if weights is not None:
                weights = torch.tensor(weights, dtype=self.dtype)
                behind = 3 - layer["axis"] if len(weights) > 1 else 0
                weights = weights.reshape(-1, *(1,) * behind)
            loss = F.binary_cross_entropy_with_logits(
                out, label, reduction="sum", pos_weight=weights
            )
            return loss / n_elems
        function = {"mse": F.mse_loss, "mae": F.l1_loss}[kind]
        return function(out, label, reduction="sum") / n_elems

    def _cross_entropy(self, rows: Tensor, y: Any, shape: Any) -> Tensor:
        """Return the sum of the cross entropies of rows of logits."""
        layer = self.loss_node.layer
        given = {
            "weight": self._class_weights(),
            "label_smoothing": layer["label_smoothing"],
            "reduction": "sum",
        }
        if not layer["per_token"] and np.ndim(y) > 1:
            label = torch.tensor(y, dtype=self.dtype).reshape(shape)
            return F.cross_entropy(rows, self._classes_last(label), **given)
        numbers = torch.tensor(np.asarray(y).reshape(-1), dtype=torch.int64)
        if layer["per_token"]:
            given["ignore_index"] = layer["ignore_label"]
            if bool((numbers == layer["ignore_label"]).all()):
                return rows.sum() * 0
        return F.cross_entropy(rows, numbers, **given)

    def _prediction(self, out: Tensor) -> Tensor:
        kind = self.loss_node.layer.type_name
        if kind == "cross_softmax":
            return torch.softmax(out, self.loss_node.layer.class_axis)
        return torch.sigmoid(out) if kind == "cross_sigmoid" else out

    def _metric(self, prediction: np.ndarray, y: np.ndarray) -> float:
        """Return the share of hits where labels are classes, else the mean error."""
        layer = self.loss_node.layer
        if layer.get("per_token"):
            truth = y.reshape(-1)
            hits = prediction.argmax(layer.class_axis).reshape(-1) == truth
            counts = truth != layer["ignore_label"]
            return float(hits[counts].mean()) if counts.any() else 0.0
        guess = prediction.reshape(len(y), -1)
        if y.ndim == 1:
            y = np.eye(guess.shape[1])[y]
        are_bits = np.isin(y, (0, 1)).all()
        if are_bits and y.shape[1] == 1:
            return float(((guess > 0.5) == (y > 0.5)).mean())
        if are_bits and (y.sum(1) == 1).all():
            return float((guess.argmax(1) == y.argmax(1)).mean())
        return float(np.abs(guess - y).mean())

    def _penalty(self) -> Tensor:
        total = torch.zeros((), dtype=self.dtype)
        for name, weight in self._own_weights().items():
            if weight.regularizer_constant and name in self.trained:
                squares = (self.values[name] ** 2).sum()
                total = total + weight.regularizer_constant / 2 * squares
        return total

    def _decays(self) -> dict[str, float]:
        return {
            name: weight.decay
            for name, weight in self._own_weights().items()
            if weight.decay and name in self.trained
        }

    def _own_weights(self) -> dict[str, Any]:
        return {f"{n.name}:{w.name}": w for n in self.nodes for w in n.own_weights}

    def _rate(self) -> float:
        if self._schedule is None:
            return float(self._values["learning_rate"])
        return rate_of(self._schedule.type_name, self._schedule.values, self.iteration)

    # -- dropout -----------------------------------------------------------------------

    def kept(
        self,
        node: Node,
        n: int,
        rows: list[int],
        size: int,
        rate: float,
        *,
        is_second: bool = False,
    ) -> Tensor:
        """Return the factors of dropout, (n, rows, size): 0, or 1 / (1 - rate).

        `rows` are numbers that name rows of `size` elements within a sample. The second
        direction of sequences with lengths has a key of its own.
        """
        if not self._training or rate == 0:
            return torch.ones((n, len(rows), size), dtype=self.dtype)
        key = random_key(self.seed, node.name) ^ (is_second << 62)
        here = _mix(_mix(np.uint64(0), np.uint64(key)), np.uint64(self.iteration))
        samples = np.arange(self._first_sample, self._first_sample + n, dtype=np.uint64)
        of_sample = _mix(here, samples)[:, None]
        of_row = _mix(of_sample, np.array(rows, np.uint64))[..., None]
        bits = _random_bits(of_row, np.arange(size, dtype=np.uint32))
        stays = bits >= int(rate * 2**24 + 0.5)
        return torch.tensor(np.where(stays, 1 / (1 - rate), 0.0), dtype=self.dtype)


def rate_of(kind: str, values: Mapping[str, Any], i: int) -> float:
    """Return the learning rate of iteration `i`, from 0."""
    if kind == "constant":
        return float(values["learning_rate"])
    if kind == "exponential":
        steps = i / values["decay_steps"]
        return float(values["learning_rate"] * values["decay_rate"] ** steps)
    if kind == "step":
        passed = sum(i > last for last in values["iteration"])
        return float(values["learning_rate"][passed])
    highest, lowest = values["max_learning_rate"], values["min_learning_rate"]
    share = i / values["decay_steps"]
    if kind == "linear":
        return float(max(highest + (lowest - highest) * share, lowest))
    share -= math.floor(share)  # a cosine begins again
    return float(lowest + (highest - lowest) * (1 + math.cos(math.pi * share)) / 2)


def _numpy(value: Tensor) -> np.ndarray:
    return np.array(value.detach().numpy(), np.float64)


def _mix(state: Any, word: Any) -> Any:
    """Return 64 bits that depend on all bits of both (SplitMix64)."""
    with np.errstate(over="ignore"):
        x = state + (word + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _random_bits(key: Any, element: Any) -> Any:
    """Return 24 random bits, by a hash of 32 bits keyed by both halves of `key`."""
    low, high = key.astype(np.uint32), (key >> np.uint64(32)).astype(np.uint32)
    with np.errstate(over="ignore"):
        x = element ^ low
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x21F0AAAD)
        x = (x ^ (x >> np.uint32(15))) + high
        x = x * np.uint32(0x735A2D97)
        x = x ^ (x >> np.uint32(15))
    return x >> np.uint32(8)


# -- layers ----------------------------------------------------------------------------
# Each takes the judge, the node and its inputs, (samples, channel, height, width), and
# returns its outputs.

Outputs = tuple[Tensor, ...]


def _dense(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    weight = judge.weight(node, "weight")
    turned = weight if node.layer["transpose"] else weight.T
    bias = judge.weight(node, "bias") if node.layer.has_bias else None
    return (F.linear(x, turned, bias),)


def _activation(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    return (judge.activation(node.layer["activation"])(x),)


def _prelu(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    slopes = judge.weight(node, "weight")
    assert slopes is not None
    is_flat = x.shape[1] == 1
    slopes = slopes.reshape((-1,) if is_flat else (-1, 1, 1))
    return (torch.where(x > 0, x, slopes * x),)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Outputs]:
    """Return a layer of two inputs, or of one and a number."""

    def layer(judge: TorchJudge, node: Node, a: Tensor, *other: Tensor) -> Outputs:
        value = node.layer["value"]
        b = other[0] if other else torch.tensor(value, dtype=a.dtype)
        return (function(a, b),)

    return layer


def _extreme(judge: TorchJudge, node: Node, a: Tensor, *other: Tensor) -> Outputs:
    is_most, value = node.layer.type_name == "maximum", node.layer["value"]
    if other:
        return ((torch.maximum if is_most else torch.minimum)(a, other[0]),)
    return (a.clamp(min=value) if is_most else a.clamp(max=value),)


def _along(node: Node) -> tuple[int, ...]:
    axis = node.layer["axis"]
    return (1, 2, 3) if axis is None else (axis,)


def _product(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    for axis in _along(node):
        x = x.prod(axis, keepdim=True)
    return (x,)


def _gather(judge: TorchJudge, node: Node, x: Tensor, ids: Tensor) -> Outputs:
    axis = node.layer["axis"]
    places = [one.reshape(-1).long() for one in ids]
    pairs = zip(x, places, strict=True)
    return (torch.stack([one.index_select(axis - 1, at) for one, at in pairs]),)


def _cosine(judge: TorchJudge, node: Node, a: Tensor, b: Tensor) -> Outputs:
    axes, least = _along(node), node.layer["epsilon"]
    norms = [torch.linalg.vector_norm(x, dim=axes, keepdim=True) for x in (a, b)]
    first, second = (norm.clamp(min=least) for norm in norms)
    return ((a * b).sum(axes, keepdim=True) / (first * second),)


def _drop_path(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    kept = judge.kept(node, len(x), [0], 1, node.layer["dropout_rate"])
    return (x * kept.reshape(-1, 1, 1, 1),)


def _addition(judge: TorchJudge, node: Node, *inputs: Tensor) -> Outputs:
    return (sum(inputs[1:], inputs[0]),)


def _power(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    return (x ** node.layer["exponent"],)


def _reduced(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    axis = node.layer["axis"]
    axes = (1, 2, 3) if axis is None else (axis,)
    is_mean = node.layer.type_name == "reduce_mean"
    return ((x.mean if is_mean else x.sum)(axes, keepdim=True),)


def _reshaped(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    return (x.reshape(len(x), *node.spec.output_shapes[0]),)


def _concat(judge: TorchJudge, node: Node, *inputs: Tensor) -> Outputs:
    axis = node.layer["axis"] or (3 if inputs[0].shape[1] > 1 else 1)
    n = max(len(one) for one in inputs)  # a table has no axis of samples
    return (torch.cat([one.expand(n, -1, -1, -1) for one in inputs], axis),)


def _split(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    axis = node.layer["axis"]
    number = node.layer["split_number"] or x.shape[axis]
    return tuple(x.chunk(number, axis))


def _slice(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    axis, start = node.layer["axis"], node.layer["start_index"] - 1
    stop = (node.layer["end_index"] or x.shape[axis] + 1) - 1
    return (x.narrow(axis, start, stop - start),)


def _permute(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    return (x.permute(0, *node.layer["direction"]),)


def _dropout(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    size, rate = math.prod(x.shape[1:]), node.layer["dropout_rate"]
    return (x * judge.kept(node, len(x), [0], size, rate).reshape(x.shape),)


def _embedding(judge: TorchJudge, node: Node, ids: Tensor) -> Outputs:
    weight, padding = judge.weight(node, "weight"), node.layer["padding_idx"]
    rows = F.embedding(ids.reshape(len(ids), -1).long(), weight, padding)
    return (rows.unsqueeze(1),)


def _positions(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    t, d = x.shape[2:]
    columns = torch.arange(d, dtype=torch.float64)
    pairs = torch.div(columns, 2, rounding_mode="floor") * 2
    places = torch.arange(t, dtype=torch.float64)
    angles = places[:, None] * 10000.0 ** (-pairs / d)
    code = torch.where(columns % 2 == 0, angles.sin(), angles.cos())
    return (x + code.to(judge.dtype),)


# -- pictures


def _padded(x: Tensor, padding: tuple[int, ...], value: float = 0.0) -> Tensor:
    top, bottom, left, right = padding
    return F.pad(x, (left, right, top, bottom), value=value)


def _convolution(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    layer, shape = node.layer, node.input_shapes[0]
    kernel, stride = layer["kernel_size"], layer["stride"]
    dilation = layer["dilation"]
    if layer.type_name == "conv1d":
        padding = (0, 0, *pad_1d(layer["padding"], shape[2], kernel, stride, dilation))
        stride, dilation = (1, stride), (1, dilation)
    else:
        padding = pad_2d(layer["padding"], shape, kernel, stride, dilation)
    is_depthwise = layer.type_name == "depthwiseconv2d"
    groups = shape[0] if is_depthwise else layer["groups"]
    weight, bias = judge.weight(node, "filter"), judge.weight(node, "bias")
    x = _padded(x, padding)
    return (F.conv2d(x, weight, bias, stride, 0, dilation, groups),)


def _transposed(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    layer, shape = node.layer, node.input_shapes[0]
    kernel, stride = layer["kernel_size"], layer["stride"]
    dilation, padding = layer["dilation"], layer["padding"]
    if padding == "same":
        shape = (shape[0], shape[1] * stride[0], shape[2] * stride[1])
    top, bottom, left, right = pad_2d(padding, shape, kernel, stride, dilation)
    down, aside = layer["output_padding"]
    whole = F.conv_transpose2d(
        x, judge.weight(node, "filter"), stride=stride, dilation=dilation
    )
    whole = _padded(whole, (-top, down - bottom, -left, aside - right))
    bias = judge.weight(node, "bias")
    return (whole if bias is None else whole + bias[:, None, None],)


def _pooling(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    layer, kind = node.layer, node.layer["pooling"]
    if kind == "global_average":
        return (x.mean((2, 3), keepdim=True),)
    if kind == "global_max":
        return (F.max_pool2d(x, x.shape[2:]),)
    if kind == "adaptive_average":
        return (F.adaptive_avg_pool2d(x, layer["output_size"]),)
    if kind == "adaptive_max":
        return (F.adaptive_max_pool2d(x, layer["output_size"]),)
    window, stride = layer["pool_size"], layer["stride"]
    padding = pad_2d(layer["padding"], node.input_shapes[0], window, stride)
    if kind == "max":
        return (F.max_pool2d(_padded(x, padding, -math.inf), window, stride),)
    sums = F.avg_pool2d(_padded(x, padding), window, stride, divisor_override=1)
    counted = 1.0 if layer["count_include_pad"] else 0.0
    ones = _padded(torch.ones_like(x), padding, counted)
    return (sums / F.avg_pool2d(ones, window, stride, divisor_override=1),)


def _pad(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    top, bottom, left, right = pad_2d(
        node.layer["padding"], node.input_shapes[0], (1, 1), (1, 1)
    )
    mode = node.layer["padding_mode"].replace("zero", "constant")
    return (F.pad(x, (left, right, top, bottom), mode=mode),)


def _pixels(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    return (F.pixel_shuffle(x, node.layer["upscale_factor"]),)


def _channels(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    apart = x.reshape(len(x), node.layer["groups"], -1, *x.shape[2:])
    return (apart.transpose(1, 2).reshape(x.shape),)


def _upsampling(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    size = node.spec.output_shapes[0][1:]
    if node.layer["upsample"] == "nearest":
        return (F.interpolate(x, size, mode="nearest"),)
    return (F.interpolate(x, size, mode="bilinear", align_corners=False),)


# -- normalization


def _inverse(judge: TorchJudge, squares: Tensor, node: Node) -> Tensor:
    """Return the inverse deviation, which is rounded before anything is multiplied.

    Over few elements the derivative by way of it cancels the other one.
    """
    return judge._moved(torch.rsqrt(squares + node.layer["epsilon"]))


def _centred(judge: TorchJudge, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return what lies around the rounded mean, and the squares of that.

    What is left does not sum to 0, though the derivative by way of the squares takes it
    so, as every derivative of a norm does: hence no derivative of their mean.
    """
    mean = judge._moved(mean)
    return x - mean, (x - mean.detach()) ** 2


def _layer_norm(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    axes = tuple(sorted(set(node.layer["axis"])))
    centred, squares = _centred(judge, x, x.mean(axes, keepdim=True))
    variance = squares.mean(axes, keepdim=True)
    normalized = centred * _inverse(judge, variance, node)
    shape = [x.shape[axis] if axis in axes else 1 for axis in (1, 2, 3)]
    return (_affine(judge, node, normalized, shape),)


def _affine(
    judge: TorchJudge, node: Node, normalized: Tensor, shape: Sequence[int]
) -> Tensor:
    """Multiply by gamma and add beta, both of this shape, if there are any."""
    gamma, beta = (judge.weight(node, name) for name in ("gamma", "beta"))
    if gamma is None:
        return normalized
    return normalized * gamma.reshape(shape) + beta.reshape(shape)


def _group_norm(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    channels = x.shape[1] if x.shape[1:3] != (1, 1) else x.shape[3]
    if node.layer.type_name == "instance_normalization":
        channels = x.shape[1]
    groups = x.reshape(len(x), node.layer.get("num_groups", channels), -1)
    centred, squares = _centred(judge, groups, groups.mean(-1, keepdim=True))
    variance = squares.mean(-1, keepdim=True)
    normalized = (centred * _inverse(judge, variance, node)).reshape(x.shape)
    is_row = channels != x.shape[1]
    return (_affine(judge, node, normalized, (-1,) if is_row else (-1, 1, 1)),)


def _rms_norm(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    squares = (x * x).mean(-1, keepdim=True)
    return (x * _inverse(judge, squares, node) * judge.weight(node, "gamma"),)


def _batch_norm(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    layer = node.layer
    by_channel = x.shape[1] > 1
    axes = (0, 2, 3) if by_channel else (0, 1, 2)
    shape = (-1, 1, 1) if by_channel else (-1,)
    moving = [f"{node.weights_of}:moving_{name}" for name in ("mean", "variance")]
    takes_batch = layer.is_trainable and layer["statistics"] != "moving"
    if judge._training and takes_batch:
        mean = x.mean(axes, keepdim=True)
        centred, squares = _centred(judge, x, mean)
        variance = squares.mean(axes, keepdim=True)
        n = x.numel() // variance.numel()
        factor = n / (n - 1) if layer.get("unbiased_variance") else 1.0
        for name, new in zip(moving, (mean, variance * factor), strict=True):
            keep, old = layer["momentum"], judge.values[name]
            judge.values[name] = keep * old + (1 - keep) * new.detach().reshape(-1)
    else:
        mean, variance = (judge.values[name].reshape(shape) for name in moving)
        centred = x - mean
    normalized = centred * _inverse(judge, variance, node)
    return (_affine(judge, node, normalized, shape),)


# -- attention


def _attention(judge: TorchJudge, node: Node, *inputs: Tensor) -> Outputs:
    layer, heads = node.layer, node.layer["num_heads"]
    parts = [inputs[i] for i in (0, min(1, len(inputs) - 1), min(2, len(inputs) - 1))]

    def projected(x: Tensor, name: str) -> Tensor:
        weight = judge.weight(node, f"{name}_weight")
        made = F.linear(x, weight.T, judge.weight(node, f"{name}_bias"))
        if layer["lora_rank"] is not None:
            a, b = (judge.weight(node, f"{name}_lora_{part}") for part in "ab")
            made = made + layer["lora_alpha"] / layer["lora_rank"] * (x @ a) @ b
        return judge._moved(made)

    def by_head(x: Tensor, name: str) -> Tensor:
        count = heads if name == "query_fc" else layer["num_heads_kv"] or heads
        rows = projected(x[:, 0], name)
        rows = rows.reshape(*rows.shape[:2], count, -1).transpose(1, 2)
        return rows.repeat_interleave(heads // count, 1)

    q, k, v = (
        by_head(x, f"{name}_fc")
        for x, name in zip(parts, ("query", "key", "value"), strict=True)
    )
    n, _, t, width = q.shape
    s = k.shape[2]
    scores = q @ k.transpose(2, 3) / math.sqrt(width)
    if len(inputs) == 4:
        scores = scores + inputs[3]
    if layer["is_causal"]:
        unseen = torch.ones((t, s), dtype=torch.bool).triu(1)
        scores = scores.masked_fill(unseen, -math.inf)
    hidden = scores.amax(-1, keepdim=True) == -math.inf  # nothing is seen: 0
    chosen = judge.softmax(scores.masked_fill(hidden, 0.0))
    chosen = judge._moved(chosen.masked_fill(hidden, 0.0))
    kept = judge.kept(node, n, list(range(heads * t)), s, layer["dropout_rate"])
    seen = (chosen * kept.reshape(n, heads, t, s)) @ v
    joined = judge._moved(seen).transpose(1, 2).reshape(n, 1, t, -1)
    return (projected(joined, "fc"),)


def _given_attention(judge: TorchJudge, node: Node, *inputs: Tensor) -> Outputs:
    layer, heads = node.layer, node.layer["num_heads"]
    groups = layer["num_heads_kv"] or heads

    def by_head(x: Tensor, count: int) -> Tensor:
        rows = x[:, 0].reshape(len(x), x.shape[2], count, -1).transpose(1, 2)
        return rows.repeat_interleave(heads // count, 1)

    q, k, v = map(by_head, inputs[:3], (heads, groups, groups))
    n, _, t, width = q.shape
    s = k.shape[2]
    scores = judge._moved(q @ k.transpose(2, 3) / math.sqrt(width))
    if len(inputs) == 4:
        scores = scores + inputs[3]
    if layer["is_causal"]:
        unseen = torch.ones((t, s), dtype=torch.bool).triu(1)
        scores = scores.masked_fill(unseen, -math.inf)
    hidden = scores.amax(-1, keepdim=True) == -math.inf
    chosen = judge.softmax(scores.masked_fill(hidden, 0.0))
    chosen = judge._moved(chosen.masked_fill(hidden, 0.0))
    kept = judge.kept(node, n, [0], heads * t * s, layer["dropout_rate"])
    seen = (chosen * kept.reshape(n, heads, t, s)) @ v
    return (seen.transpose(1, 2).reshape(n, 1, t, -1),)


def _rotary(judge: TorchJudge, node: Node, x: Tensor) -> Outputs:
    heads, theta = node.layer["num_heads"], node.layer["rope_theta"]
    n, _, t, width = x.shape
    d = width // heads
    speeds = theta ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    angles = torch.arange(t, dtype=torch.float64)[:, None, None] * speeds
    cosines, sines = (f(angles).float().to(x.dtype) for f in (torch.cos, torch.sin))
    first, second = x.reshape(n, t, heads, 2, d // 2).unbind(3)
    turned = first * cosines - second * sines, second * cosines + first * sines
    return (torch.stack(turned, 3).reshape(x.shape),)


# -- recurrent

Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _recurrent(judge: TorchJudge, node: Node, x: Tensor, *states: Tensor) -> Outputs:
    """Run a layer over its steps, or a cell over its one step."""
    layer, unit = node.layer, node.layer["unit"]
    is_cell = layer.type_name.endswith("cell")
    n, _, steps, _ = x.shape
    lengths = None
    if states and not is_cell:
        lengths, states = states[0].reshape(n).long(), ()
    directions = ("", "reverse_") if layer.get("bidirectional") else ("",)
    every, last_states = [], []
    for number, prefix in enumerate(directions):
        step = _STEPS[layer.type_name.removesuffix("cell")](judge, node, prefix)
        zero = torch.zeros((n, unit), dtype=judge.dtype)
        if lengths is not None:
            run = _over_valid_steps(judge, node, step, x[:, 0], lengths, number == 1)
            every.append(run[0][:, None])
            last_states.append(run[1:])
            continue
        h, c = (states[i][:, 0, 0] if i < len(states) else zero for i in (0, 1))
        times = range(steps - 1, -1, -1) if number else range(steps)
        out: list[Tensor] = [zero] * steps
        for time in times:
            h, c = step(x[:, 0, time], h, c)
            rows = [time + number * steps]
            kept = judge.kept(node, n, rows, unit, layer["dropout_rate"])
            h, c = judge._moved(h * kept[:, 0]), judge._moved(c)
            out[time] = h
        every.append(torch.stack(out, 1)[:, None])
        last_states.append((h, c))
    joined = torch.cat(every, -1)
    if not is_cell and not layer["return_sequences"]:
        last = torch.full((n,), steps) if lengths is None else lengths
        joined = joined[torch.arange(n), :, last - 1][:, :, None]
    hidden, cell = (
        torch.cat(one, -1)[:, None, None] for one in zip(*last_states, strict=True)
    )
    states = (cell,) if is_cell else (hidden, cell)
    return joined, *states[: len(node.spec.output_shapes) - 1]


def _over_valid_steps(
    judge: TorchJudge,
    node: Node,
    step: Step,
    x: Tensor,
    lengths: Tensor,
    is_second: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the hidden states of a direction, 0 where none is, and the last states."""
    unit, rate = node.layer["unit"], node.layer["dropout_rate"]
    n, steps, _ = x.shape
    h = c = torch.zeros((n, unit), dtype=judge.dtype)
    rows = list(range(steps))
    kept = judge.kept(node, n, rows, unit, rate, is_second=is_second)
    out: list[Tensor] = [h] * steps
    for time in reversed(rows) if is_second else rows:
        valid = (time < lengths)[:, None]
        new_h, new_c = step(x[:, time], h, c)
        place = (lengths - 1 - time).clamp(min=0) if is_second else torch.tensor(time)
        new_h = judge._moved(new_h * kept[torch.arange(n), place])
        h, c = torch.where(valid, new_h, h), torch.where(valid, judge._moved(new_c), c)
        out[time] = torch.where(valid, h, torch.zeros_like(h))
    return torch.stack(out, 1), h, c


def _sums_of_products(
    judge: TorchJudge, node: Node, prefix: str
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return x · weight_ih and h · weight_hh with what is added to each."""
    of_x, of_h = (judge.weight(node, f"{prefix}weight_{w}") for w in ("ih", "hh"))
    one = judge.weight(node, f"{prefix}bias_h")
    bias = one if one is not None else judge.weight(node, f"{prefix}bias_ih")
    bias_h = judge.weight(node, f"{prefix}bias_hh")
    return lambda x: F.linear(x, of_x.T, bias), lambda h: F.linear(h, of_h.T, bias_h)


def _rnn_step(judge: TorchJudge, node: Node, prefix: str) -> Step:
    of_x, of_h = _sums_of_products(judge, node, prefix)
    active = judge.activation(node.layer["hidden_state_activation"])
    return lambda x, h, c: (active(of_x(x) + of_h(h)), c)


def _lstm_step(judge: TorchJudge, node: Node, prefix: str) -> Step:
    of_x, of_h = _sums_of_products(judge, node, prefix)
    active = judge.activation(node.layer["hidden_state_activation"])
    gate = judge.activation(node.layer["recurrent_activation"])

    def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = (of_x(x) + of_h(h)).chunk(4, -1)
        c = gate(f) * c + gate(i) * active(g)
        return gate(o) * active(c), c

    return step


def _gru_step(judge: TorchJudge, node: Node, prefix: str) -> Step:
    of_x, of_h = _sums_of_products(judge, node, prefix)
    active = judge.activation(node.layer["hidden_state_activation"])
    gate = judge.activation(node.layer["recurrent_activation"])
    unit = node.layer["unit"]
    of_state = judge.weight(node, "weight_hh")[:, 2 * unit :]
    bias_h = judge.weight(node, "bias_hh")

    def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        (x_z, x_r, x_g), (h_z, h_r, h_g) = (
            part.chunk(3, -1) for part in (of_x(x), of_h(h))
        )
        z, r = gate(x_z + h_z), gate(x_r + h_r)
        if node.layer["reset_after"]:
            g = active(x_g + r * h_g)
        else:
            own = None if bias_h is None else bias_h[2 * unit :]
            g = active(x_g + F.linear(r * h, of_state.T, own))
        return z * h + (1 - z) * g, c

    return step


_STEPS: dict[str, Callable[[TorchJudge, Node, str], Step]] = {
    "rnn": _rnn_step,
    "lstm": _lstm_step,
    "gru": _gru_step,
}

_LAYERS: dict[str, Callable[..., Outputs]] = {
    "expand": lambda judge, node, x: (x.expand(judge.n_samples, -1, -1, -1),),
    "weight": lambda judge, node: (judge.weight(node, "weight")[None],),
    "constant": lambda judge, node: (judge.values[f"{node.name}:value"][None],),
    "fully_connected": _dense,
    "activation": _activation,
    "addition": _addition,
    "prelu": _prelu,
    "add": _binary(lambda a, b: a + b),
    "subtract": _binary(lambda a, b: a - b),
    "multiply": _binary(lambda a, b: a * b),
    "divide": _binary(lambda a, b: a / b),
    "maximum": _extreme,
    "minimum": _extreme,
    "where": lambda judge, node, c, a, b: (torch.where(c != 0, a, b),),
    "reduce_max": lambda judge, node, x: (x.amax(_along(node), keepdim=True),),
    "reduce_min": lambda judge, node, x: (x.amin(_along(node), keepdim=True),),
    "reduce_prod": _product,
    "norm": lambda judge, node, x: (
        torch.linalg.vector_norm(x, dim=_along(node), keepdim=True),
    ),
    "cumsum": lambda judge, node, x: (x.cumsum(node.layer["axis"]),),
    "gather": _gather,
    "cosine_similarity": _cosine,
    "drop_path": _drop_path,
    "swiglu": lambda judge, node, a, b: (F.silu(a) * b,),
    "negative": lambda judge, node, x: (-x,),
    "sqrt": lambda judge, node, x: (x.sqrt(),),
    "pow": _power,
    "matmul": lambda judge, node, a, b: (a @ b,),
    "reduce_sum": _reduced,
    "reduce_mean": _reduced,
    "flatten": _reshaped,
    "reshape": _reshaped,
    "identity": lambda judge, node, *inputs: inputs,
    "multiout": lambda judge, node, x: (x,),
    "concat": _concat,
    "split": _split,
    "slice": _slice,
    "permute": _permute,
    "dropout": _dropout,
    "embedding": _embedding,
    "positional_encoding": _positions,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "depthwiseconv2d": _convolution,
    "conv2dtranspose": _transposed,
    "pooling2d": _pooling,
    "upsample2d": _upsampling,
    "pad": _pad,
    "pixel_shuffle": _pixels,
    "channel_shuffle": _channels,
    "layer_normalization": _layer_norm,
    "rms_norm": _rms_norm,
    "group_normalization": _group_norm,
    "instance_normalization": _group_norm,
    "batch_normalization": _batch_norm,
    "multi_head_attention": _attention,
    "attention": _given_attention,
    "rotary_embedding": _rotary,
    **dict.fromkeys(
        ("rnn", "lstm", "gru", "rnncell", "lstmcell", "grucell"), _recurrent
    ),
}
JUDGED = frozenset(_LAYERS) | {"input"}
"""The types of layers that have a counterpart here; losses stand in `TorchJudge`."""

_MOVES_NOTHING = frozenset(
    (
        *("flatten", "reshape", "identity", "multiout", "concat", "split", "slice"),
        "expand",
        *("permute", "negative", "pixel_shuffle", "channel_shuffle", "pad"),
    )
)
"""Layers whose results are exact, so that equal elements stay equal."""
