"""The networks of `real_tasks`, as one writes them in PyTorch, and their training.

Nothing of the graph of a model is read, as `torch_judge` does: each network is written
by hand out of PyTorch's own modules, which take over the weights that a model begins
with. Statistics, batches and metrics are computed here anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from arena_ckpt.optim.optimizers import Optimizer

torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
torch.set_num_threads(1)  # what is small here, several would only wait for
nn = torch.nn

Array = np.ndarray
Weights = Mapping[str, Array]


@dataclass(frozen=True)
class Epoch:
    """What PyTorch has for an epoch."""

    loss: float
    validation_loss: float
    metrics: dict[str, float]


def train(
    network: Any,
    optimizer: Any,
    loss_of: Callable[[Any, Any], Any],
    training: tuple[Array, Array],
    validation: tuple[Array, Array],
    *,
    epochs: int,
    batch_size: int,
    seed: int,
) -> list[Epoch]:
    """Train on batches in the order that a model of this seed takes."""
    x, y = map(torch.tensor, training)
    found, iteration = [], 0
    for _ in range(epochs):
        key = np.array([seed, iteration], np.uint64)
        order = np.random.Generator(np.random.Philox(key=key)).permutation(len(x))
        total = 0.0
        network.train()
        for start in range(0, len(x), batch_size):
            rows = torch.tensor(order[start : start + batch_size])
            optimizer.zero_grad()
            loss = loss_of(network(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
            iteration += 1
        outputs, loss = look(network, loss_of, validation)
        found.append(Epoch(total / len(x), loss, metrics(outputs, validation[1])))
    return found


def look(
    network: Any, loss_of: Callable[[Any, Any], Any], data: tuple[Array, Array]
) -> tuple[Array, float]:
    """Return predictions, as probabilities where the loss has some, and the loss."""
    x, y = map(torch.tensor, data)
    network.eval()
    with torch.no_grad():
        out = network(x)
        loss = loss_of(out, y).item()
        if loss_of is cross_entropy:
            out = torch.softmax(out, 1)
        elif loss_of is binary_cross_entropy:
            out = torch.sigmoid(out)
    return out.numpy(), loss


cross_entropy = nn.functional.cross_entropy


def binary_cross_entropy(out: Any, y: Any) -> Any:
    """Return the loss of one output for class numbers 0 and 1."""
    return nn.functional.binary_cross_entropy_with_logits(out[:, 0], y.float())


squared_error = nn.functional.mse_loss

LOSSES = {
    "cross_softmax": cross_entropy,
    "cross_sigmoid": binary_cross_entropy,
    "mse": squared_error,
}


def optimizer_of(network: Any, optimizer: Optimizer) -> Any:
    """Return PyTorch's optimizer with the values of ours."""
    weights = [w for w in network.parameters() if w.requires_grad]
    rate = optimizer["learning_rate"]
    if optimizer.type_name == "sgd":
        momentum, nesterov = optimizer["momentum"], optimizer["nesterov"]
        return torch.optim.SGD(weights, rate, momentum, nesterov=nesterov)
    betas, epsilon = (optimizer["beta1"], optimizer["beta2"]), optimizer["epsilon"]
    if optimizer.type_name == "adam":
        return torch.optim.Adam(weights, rate, betas, epsilon)
    decay = optimizer["weight_decay"]
    return torch.optim.AdamW(weights, rate, betas, epsilon, decay)


# -- networks, by the names of the tasks


def network_of(task: str, weights: Weights) -> Any:
    """Return the network of a task, with these weights."""
    return _NETWORKS[task](weights)


def _set(module: Any, **values: Array) -> Any:
    with torch.no_grad():
        for name, value in values.items():
            own = getattr(module, name)
            assert tuple(own.shape) == value.shape, (module, name, value.shape)
            own.copy_(torch.tensor(value))
    return module


def _linear(w: Weights, name: str) -> Any:
    weight = w[f"{name}:weight"].T
    module = nn.Linear(weight.shape[1], weight.shape[0])
    return _set(module, weight=weight, bias=w[f"{name}:bias"].reshape(-1))


def _batch_norm(w: Weights, name: str, kind: Any) -> Any:
    values = {
        ours: w[f"bn:{theirs}"].reshape(-1)
        for ours, theirs in (
            ("weight", "gamma"),
            ("bias", "beta"),
            ("running_mean", "moving_mean"),
            ("running_var", "moving_variance"),
        )
    }
    return _set(kind(len(values["weight"])), **values)


def _convolution(w: Weights, kind: Any, **properties: Any) -> Any:
    weight = w["conv:filter"]
    if kind is nn.Conv1d:
        weight = weight[:, :, 0]
    n_out, n_in, *size = weight.shape
    return _set(kind(n_in, n_out, size, bias=False, **properties), weight=weight)


def _recurrent(w: Weights, name: str) -> Any:
    """Return lstm or gru; PyTorch's gru has its blocks in another order."""
    kind, n_blocks = {"lstm": (nn.LSTM, 4), "gru": (nn.GRU, 3)}[name]
    order = [0, 1, 2, 3] if name == "lstm" else [1, 0, 2]

    def blocks(key: str) -> Array:
        value = w[f"{name}:{key}"]
        parts = np.split(value.reshape(-1, value.shape[-1]).T, n_blocks)
        return np.concatenate([parts[i] for i in order])

    of_x, of_h = blocks("weight_ih"), blocks("weight_hh")
    module = kind(of_x.shape[1], of_h.shape[1], batch_first=True)
    return _set(
        module,
        weight_ih_l0=of_x,
        weight_hh_l0=of_h,
        bias_ih_l0=blocks("bias_ih")[:, 0],
        bias_hh_l0=blocks("bias_hh")[:, 0],
    )


class _Last(nn.Module):
    """The last step of a recurrent layer over samples of some steps."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        steps = x.reshape(len(x), -1, self.layer.input_size)
        return self.layer(steps)[0][:, -1]


class _MeanOfWords(nn.Module):
    def __init__(self, weight: Array) -> None:
        super().__init__()
        self.table = _set(nn.Embedding(*weight.shape), weight=weight)

    def forward(self, x: Any) -> Any:
        return self.table(x.long()).mean(1)


def _gun_point(w: Weights) -> Any:
    return nn.Sequential(
        nn.Unflatten(1, (1, -1)),
        _convolution(w, nn.Conv1d, padding=3),
        _batch_norm(w, "bn", nn.BatchNorm1d),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        _linear(w, "out"),
    )


def _pictures(w: Weights) -> Any:
    return nn.Sequential(
        _convolution(w, nn.Conv2d),
        _batch_norm(w, "bn", nn.BatchNorm2d),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        _linear(w, "out"),
    )


class _Turned(nn.Module):
    """A body that is not trained, and whose statistics stay; a head that is."""

    def __init__(self, w: Weights) -> None:
        super().__init__()
        convolution = _convolution(w, nn.Conv2d)
        normalization = _batch_norm(w, "bn", nn.BatchNorm2d)
        self.body = nn.Sequential(convolution, normalization, nn.ReLU(), nn.Flatten())
        self.body.requires_grad_(False)
        self.head = _linear(w, "head")

    def forward(self, x: Any) -> Any:
        self.body.eval()
        return self.head(self.body(x[:, None]))


def _hidden(activation: Any) -> Callable[[Weights], Any]:
    return lambda w: nn.Sequential(_linear(w, "hidden"), activation, _linear(w, "out"))


def _read_by(kind: str) -> Callable[[Weights], Any]:
    return lambda w: nn.Sequential(_Last(_recurrent(w, kind)), _linear(w, "out"))


_NETWORKS: dict[str, Callable[[Weights], Any]] = {
    "wine": _hidden(nn.ReLU()),
    "diabetes": lambda w: _linear(w, "out"),
    "health": _hidden(nn.Tanh()),
    "sunspots": _read_by("lstm"),
    "gun_point": _gun_point,
    "ecg": _read_by("gru"),
    "power_demand": _hidden(nn.Sigmoid()),
    "basic_motions": _read_by("lstm"),
    "basic_motions_gru": _read_by("gru"),
    "pictures": _pictures,
    "text": lambda w: nn.Sequential(_MeanOfWords(w["words:weight"]), _linear(w, "out")),
    "turned_digits": _Turned,
}


# -- statistics and metrics


def standardized(x: Array, by: Array) -> Array:
    """Return samples with mean 0 and deviation 1 of `by`: of columns, or of channels.

    ``(n, columns)``, ``(n, steps, columns)`` or ``(n, channels, height, width)``.
    """
    axes = (0, 2, 3) if by.ndim == 4 else tuple(range(by.ndim - 1))
    mean = by.mean(axes, keepdims=True, dtype=np.float64)
    deviation = by.std(axes, keepdims=True, dtype=np.float64)
    return ((x - mean) / deviation).astype(np.float32)


def metrics(outputs: Array, y: Array) -> dict[str, float]:
    """Return all metrics of class numbers, or of values."""
    if y.dtype != np.int64:
        error = outputs - y.astype(np.float64)
        spread = y - y.mean(0, dtype=np.float64)
        return {
            "mean_absolute_error": np.abs(error).mean(),
            "root_mean_squared_error": np.sqrt((error**2).mean()),
            "error_of_mean": np.sqrt((spread**2).mean()),
            "r2": 1 - (error**2).sum() / (spread**2).sum(),
        }
    is_binary = outputs.shape[1] == 1
    guess = (outputs[:, 0] > 0.5).astype(int) if is_binary else outputs.argmax(1)
    of_class = [_of_class(guess == name, y == name) for name in np.unique(y)]
    means = np.nan_to_num(of_class).mean(0)
    precision, recall, f1 = of_class[1] if is_binary else means
    found = {
        "accuracy": (guess == y).mean(),
        "majority_accuracy": np.bincount(y).max() / len(y),
        "balanced_accuracy": means[1],
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }
    if is_binary:
        ones, zeros = outputs[y == 1], outputs[y == 0].T
        found["auc"] = (ones > zeros).mean() + 0.5 * (ones == zeros).mean()
    return found


def _of_class(guess: Array, truth: Array) -> tuple[float, float, float]:
    """Return precision, recall and F1; a class that nobody names has no precision."""
    hits, n_guessed, n = (np.count_nonzero(a) for a in (guess & truth, guess, truth))
    precision = hits / n_guessed if n_guessed else np.nan
    return precision, hits / n, 2 * hits / (n_guessed + n)
