"""Runs a captured module in PyTorch, as what an imported model is compared with.

The program that was captured is interpreted, in float64 or float32, with dropout off.
Its smooth twin has functions without kinks in the places of ReLU and its like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.importers.torch_graph import Captured

Array = npt.NDArray[Any]

SMOOTH = {
    "relu": "softplus",
    "relu6": "sigmoid",
    "leaky_relu": "swish",
    "clamp": "tanh",
    "hard_sigmoid": "sigmoid",
    "hard_swish": "swish",
    "abs": "swish",
}
"""The smooth twin of each of our functions with a kink."""

_TWINS = {
    "relu": "softplus",
    "relu6": "sigmoid",
    "leaky_relu": "silu",
    "clamp": "tanh",
    "clamp_min": "tanh",
    "clamp_max": "tanh",
    "hardtanh": "tanh",
    "hardsigmoid": "sigmoid",
    "hardswish": "silu",
    "abs": "silu",
}
"""The same by PyTorch's names of the operations."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What PyTorch makes of a batch.

    Attributes
    ----------
    loss : float
    gradients : dict from str to array
        Of the parameters that are trained, by the first of their names.
    buffers : dict from str to array
        After the pass.
    """

    loss: float
    gradients: dict[str, Array]
    buffers: dict[str, Array]


def run_reference(
    captured: Captured,
    inputs: Sequence[Array],
    loss: Callable[[tuple[Any, ...]], Any],
    *,
    dtype: str,
    is_smooth: bool = False,
    trains: bool = True,
) -> Reference:
    """Run a captured module on a batch.

    Parameters
    ----------
    captured : Captured
    inputs : sequence of array
        In the order of the inputs of the graph.
    loss : callable
        Makes the loss of the outputs.
    dtype : {"float64", "float32"}
    is_smooth : bool
        Functions with kinks have their smooth twins.
    trains : bool
        False takes running statistics, as in evaluation, and no gradients.
    """
    import torch

    number = getattr(torch, dtype)
    names = {name: table.name for name, table in captured.graph.tables.items()}
    tensors: dict[str, Any] = {}
    trained: dict[str, Any] = {}
    values = _values_of(captured)
    given = iter(inputs)
    env: list[Any] = []
    for node in captured.program.graph.nodes:
        if node.op != "placeholder":
            continue
        if node.name in names:
            table = captured.graph.tables[node.name]
            if table.name not in tensors:
                tensor = values[node.name].detach().clone()
                if tensor.is_floating_point():
                    tensor = tensor.to(number)
                if table.is_trained and trains:
                    tensor.requires_grad_()
                    trained[table.name] = tensor
                tensors[table.name] = tensor
            env.append(tensors[table.name])
        elif isinstance(node.meta.get("val"), torch.Tensor):
            tensor = torch.tensor(next(given))
            env.append(tensor.to(number) if tensor.is_floating_point() else tensor)
        else:
            env.append(node.meta.get("val"))
    runner = _interpreter(captured.program.graph_module, number, is_smooth, trains)
    with torch.set_grad_enabled(trains):
        total = loss(tuple(runner.run(*env)))
        gradients: dict[str, Array] = {}
        if trains:
            total.backward()
            gradients = {
                name: _array(torch.zeros_like(t) if t.grad is None else t.grad)
                for name, t in trained.items()
            }
    buffers = {name: _array(tensor) for name, tensor in tensors.items()}
    return Reference(float(total.detach()), gradients, buffers)


def _array(tensor: Any) -> Array:
    return np.array(tensor.detach().numpy())


def _values_of(captured: Captured) -> Mapping[str, Any]:
    program = captured.program
    tensors = {**program.constants, **program.state_dict}
    return {
        spec.arg.name: tensors[spec.target]
        for spec in program.graph_signature.input_specs
        if spec.target is not None and spec.target in tensors
    }


def _interpreter(module: Any, number: Any, is_smooth: bool, trains: bool) -> Any:
    """Return what runs a graph with dropout off, in another dtype."""
    import torch

    class Runner(torch.fx.Interpreter):
        is_random = False

        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            name = getattr(target, "__name__", str(target))
            if name in ("wrap_with_set_grad_enabled", "wrap_with_autocast"):
                return self._inner(name, args)
            schema = getattr(target, "_schema", None)
            op = "" if schema is None else schema.name.partition("::")[2]
            op = op[:-1] if op.endswith("_") and not op.startswith("_") else op
            if op.startswith("_assert") or op.startswith("sym_constrain"):
                return None
            args, kwargs = _in_dtype(args, number), _in_dtype(kwargs, number)
            if op in ("dropout", "feature_dropout", "alpha_dropout"):
                return args[0]
            if op == "bernoulli":
                keep = args[1] if len(args) > 1 else kwargs.get("p")
                return torch.full_like(args[0], keep) if keep is not None else args[0]
            if op in ("rand", "rand_like"):
                self.is_random = True
                return target(*args, **kwargs) * 0
            if op == "floor" and self.is_random:
                return args[0]  # of 0 + p, what keeps with the probability p
            if schema is not None:
                args, kwargs = _changed(schema, args, kwargs, op, trains)
            if is_smooth and op in _TWINS:
                twin = getattr(torch.nn.functional, _TWINS[op])
                return twin(args[0])
            return target(*args, **kwargs)

        def _inner(self, name: str, args: Any) -> Any:
            place = next(i for i, arg in enumerate(args) if hasattr(arg, "graph"))
            runner = type(self)(args[place])
            enabled = args[0] if name.endswith("grad_enabled") else trains
            with torch.set_grad_enabled(bool(enabled) and torch.is_grad_enabled()):
                return runner.run(*args[place + 1 :])

        def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
            found = super().get_attr(target, args, kwargs)
            if isinstance(found, torch.Tensor) and found.is_floating_point():
                return found.to(number)
            return found

    return Runner(module)


def _in_dtype(value: Any, number: Any) -> Any:
    import torch

    if value is torch.float32:
        return number
    if isinstance(value, list | tuple):
        return type(value)(_in_dtype(one, number) for one in value)
    if isinstance(value, dict):
        return {key: _in_dtype(one, number) for key, one in value.items()}
    return value


def _changed(
    schema: Any, args: Any, kwargs: Any, op: str, trains: bool
) -> tuple[Any, Any]:
    """Return arguments with the dropout of an operation off, and its mode."""
    wanted: dict[str, Any] = {}
    if op in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        wanted["dropout"] = 0.0
    elif op == "scaled_dot_product_attention":
        wanted["dropout_p"] = 0.0
    elif op == "batch_norm" and not trains:
        wanted["training"] = False
    if not wanted:
        return args, kwargs
    args, kwargs = list(args), dict(kwargs)
    for place, declared in enumerate(schema.arguments):
        if declared.name in wanted:
            if place < len(args):
                args[place] = wanted[declared.name]
            elif declared.name in kwargs:
                kwargs[declared.name] = wanted[declared.name]
    return args, kwargs
