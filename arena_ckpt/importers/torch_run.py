"""Runs the rules of PyTorch's operations over a captured graph.

Operations on numbers that are known, such as masks and tables of positions, are run by
PyTorch at the import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.wording import quoted
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.importers import (  # each enters its rules
    torch_rules_layers,
    torch_rules_math,
    torch_rules_random,
    torch_rules_views,
    torch_rules_volumes,
)
from arena_ckpt.importers.foreign_axes import Size
from arena_ckpt.importers.foreign_graph import (
    ForeignGraph,
    ForeignNode,
    Ref,
    TensorType,
    mentioned,
)
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor
from arena_ckpt.importers.import_gaps import Gap, UnsupportedOperation
from arena_ckpt.importers.model_builder import ModelBuilder, describe
from arena_ckpt.importers.torch_rules import RULES, BatchSum, Call, Noise, Rule, rule

_NO_RULE = "there is no layer for it; register_importer takes a rule for it"

FAMILIES = (
    torch_rules_layers,
    torch_rules_math,
    torch_rules_random,
    torch_rules_views,
    torch_rules_volumes,
)
"""The modules that hold rules."""

VIEWS = frozenset(
    (
        *("view", "reshape", "flatten", "unflatten", "permute", "transpose", "t"),
        *("squeeze", "unsqueeze", "expand", "contiguous", "clone", "slice", "select"),
        *("narrow", "split", "chunk", "unbind", "split_with_sizes", "getitem"),
        *("alias", "detach", "to", "movedim", "swapaxes", "numpy_T", "expand_as"),
        *("index", "embedding", "index_select", "lift_fresh_copy", "view_as"),
    )
)
"""Operations after which a table is still a part of a parameter."""

RANDOM = frozenset(
    (
        *("bernoulli", "rand", "randn", "rand_like", "randn_like", "randint"),
        *("normal", "uniform", "multinomial", "randperm", "alpha_dropout"),
        *("feature_alpha_dropout", "feature_dropout", "poisson", "rrelu"),
        *("rrelu_with_noise", "exponential", "log_normal", "geometric", "cauchy"),
        "native_dropout",
    )
)
"""Operations that draw random numbers, of which dropout alone has a counterpart."""


def run_rules(
    graph: ForeignGraph,
    build: ModelBuilder,
    gaps: list[Gap],
    sampled: frozenset[str] = frozenset(),
) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    """Turn the operations of a graph into layers; go on where one cannot be taken.

    Parameters
    ----------
    graph : ForeignGraph
    build : ModelBuilder
        With nothing in it.
    gaps : list of Gap
        What cannot be imported is added.
    sampled : frozenset of str
        Parameters that each sample has a copy of, so that all uses share one weight.

    Returns
    -------
    (dict, dict)
        What each name of the graph stands for, where names behind a gap are missing;
        and the layers that were added for each node.
    """
    values: dict[str, Any] = {}
    made: dict[str, tuple[str, ...]] = {}
    read = _read(graph)
    for one in graph.inputs:
        if one.name not in read:
            continue
        sizes = [size.factor for size in one.type.shape[1:] if size is not None]
        is_whole = one.type.dtype != "float32"
        values[one.name] = build.input(one.name, sizes, is_whole=is_whole)
    for name, table in graph.tables.items():
        values[name] = (
            Table.of(table.name, table.values, is_trained=table.is_trained)
            if table.is_state
            else Fixed(table.values)
        )
    alone = _alone_in_module(graph.nodes)
    parts = _parts_read(graph)
    for node in graph.nodes:
        build.path, build.is_module = node.module, node.module in alone
        n_before = len(build.model.layers)
        try:
            for name in _mentioned(node, graph):
                whole = values.get(name)
                if isinstance(whole, Table) and whole.name in sampled:
                    values[name] = build.sampled(whole)
            if not values.keys() >= set(mentioned(tuple(node.args.values()))):
                _require_rule(node, values)
                continue  # behind a gap
            args = {name: _value(arg, values) for name, arg in node.args.items()}
            call = Call(build, node, args, parts.get(node.name))
            values[node.name] = _checked(node, _run(call))
            made[node.name] = tuple(one.name for one in build.model.layers[n_before:])
        except UnsupportedOperation as gap:
            gaps.append(Gap(_called(node), str(gap), node.where or node.name))
    return values, made


def _mentioned(node: ForeignNode, graph: ForeignGraph) -> list[str]:
    """Return the tables that an operation reads."""
    return [
        value.name
        for value in _flat(node.args.values())
        if isinstance(value, Ref) and value.name in graph.tables
    ]


def _read(graph: ForeignGraph) -> set[str]:
    """Return all names that operations or outputs read."""
    read: set[str] = set()
    for value in _flat([graph.outputs, *(tuple(n.args.values()) for n in graph.nodes)]):
        if isinstance(value, Ref):
            read.add(value.name)
    return read


def _called(node: ForeignNode) -> str:
    """Return what a gap calls an operation: ``aten.conv3d``."""
    space, _, rest = node.variant.partition(".")
    return f"{space}.{rest.partition('.')[0]}" if rest else node.variant


def _value(arg: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(arg, Ref):
        return values[arg.name]
    if isinstance(arg, tuple) and not isinstance(arg, Size):
        return tuple(_value(one, values) for one in arg)
    return arg


def _alone_in_module(nodes: Iterable[ForeignNode]) -> frozenset[str]:
    """Return the paths of modules in which one operation does all the work."""
    counts: dict[str, int] = {}
    inner: set[str] = set()
    for node in nodes:
        is_work = node.op not in VIEWS or node.op == "embedding"
        if is_work and node.op not in ("zeros", "pad"):
            counts[node.module] = counts.get(node.module, 0) + 1
        parts = node.module.split(".")
        inner.update(".".join(parts[:i]) for i in range(len(parts)))
    return frozenset(
        path for path, n in counts.items() if n == 1 and path and path not in inner
    )


def _parts_read(graph: ForeignGraph) -> dict[str, frozenset[int]]:
    """Return which of several results of operations are read."""
    read: dict[str, set[int]] = {}
    for node in graph.nodes:
        if node.op == "getitem" and isinstance(node.args["0"], Ref):
            read.setdefault(node.args["0"].name, set()).add(node.args["1"])
    return {name: frozenset(numbers) for name, numbers in read.items()}


def _require_rule(node: ForeignNode, values: Mapping[str, Any]) -> None:
    """Refuse an operation behind a gap for what is known without its operands.

    Raises
    ------
    UnsupportedOperation
        It has no rule, or reads random numbers.
    """
    if node.op not in RULES:
        raise UnsupportedOperation(_NO_RULE)
    for name in mentioned(tuple(node.args.values())):
        if isinstance(values.get(name), Noise):
            raise UnsupportedOperation("it reads random numbers")


def _run(call: Call) -> Any:
    """Return what an operation stands for."""
    node = call.node
    if node.op in RANDOM and node.op not in RULES:
        raise UnsupportedOperation(
            "it draws random numbers; of these dropout alone has a counterpart, and "
            "others would have to be an input of the module"
        )
    values = list(_flat(call.args.values()))
    depends = any(isinstance(v, Tensor | BatchSum | Noise) for v in values)
    trained = any(isinstance(v, Table) and v.is_trained for v in values)
    tables = any(isinstance(v, Table) for v in values)
    batched = any(isinstance(v, Size) for v in values)
    if not (depends or trained or batched or (tables and node.op in VIEWS)):
        if node.op == "getitem":
            return call["0"][call["1"]]
        if node.op not in RANDOM and node.result is not None:
            return _folded(call)
    found = RULES.get(node.op)
    if found is None:
        raise UnsupportedOperation(_NO_RULE)
    return found(call)


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, tuple) and not isinstance(value, Size):
            yield from _flat(value)
        else:
            yield value


def _folded(call: Call) -> Any:
    """Let PyTorch compute an operation on numbers that are known."""
    import torch

    space, packet, overload = _target_of(call.node.variant)
    target = getattr(getattr(getattr(torch.ops, space), packet), overload)
    args, kwargs = [], {}
    for declared in target._schema.arguments:
        value = _for_torch(call.args[declared.name])
        if declared.kwarg_only:
            if not declared.has_default_value() or (
                call.args[declared.name] != declared.default_value
            ):
                kwargs[declared.name] = value
        else:
            args.append(value)
    with torch.no_grad():
        return _from_torch(target(*args, **kwargs))


def _target_of(variant: str) -> tuple[str, str, str]:
    parts = variant.split(".")
    if len(parts) != 3:
        raise UnsupportedOperation(_NO_RULE)
    return parts[0], parts[1], parts[2]


def _for_torch(value: Any) -> Any:
    import torch

    if isinstance(value, Fixed | Table):
        return torch.tensor(value.array)
    if isinstance(value, tuple):
        return [_for_torch(one) for one in value]
    if isinstance(value, str):
        named = getattr(torch, value, value)
        kinds = (torch.dtype, torch.layout, torch.memory_format)
        return named if isinstance(named, kinds) else value
    return value


def _from_torch(made: Any) -> Any:
    if isinstance(made, list | tuple):
        return tuple(_from_torch(one) for one in made)
    if hasattr(made, "numpy"):
        return Fixed(made.detach().numpy().copy())
    return made


def _checked(node: ForeignNode, made: Any) -> Any:
    """Refuse a result that is not of the shape and dtype that PyTorch has found."""
    wanted = node.result if isinstance(node.result, tuple) else (node.result,)
    found = made if isinstance(made, tuple | list) else (made,)
    for expected, value in zip(wanted, found, strict=False):
        if not isinstance(value, Tensor) or not isinstance(expected, TensorType):
            continue
        if expected.dtype not in ("float32", "int64", "int32", "bool"):
            raise UnsupportedOperation(
                f"its result is {expected.dtype}; all that is trained is float32"
            )
        if value.sizes != expected.shape:
            shape = [size or Size(0) for size in expected.shape]
            raise UnsupportedOperation(
                f"its result would be {describe(value.sizes)} in place of "
                f"{describe(shape)}"
            )
    return made


@public_call
def register_importer(op: str) -> Callable[[Rule], Rule]:
    """Say how `from_torch` imports an operation that it does not know.

    Parameters
    ----------
    op : str
        As `UnsupportedModelError` names it: ``"aten.frac"`` for all variants,
        ``"mylib::scale"`` for an operation of your own.

    Returns
    -------
    function
        A decorator for a function that takes a `Call` and returns a value.

    Raises
    ------
    InvalidParameterError
        There is a rule for it already.

    Examples
    --------
    >>> from arena_ckpt.importers import emit_elements
    >>> @register_importer("aten.deg2rad")
    ... def deg2rad(call):
    ...     x = call.tensor("self")
    ...     return emit_elements.unary(call.build, x, "multiply", value=0.01745329)
    """
    if not isinstance(op, str) or not op:
        raise InvalidParameterError(
            f"op={quoted(op)} is not possible; give the name of an operation, such as "
            "'aten.frac'",
            op=op,
        )
    name = op.removeprefix("aten.").partition(".")[0]
    if name in RULES:
        raise InvalidParameterError(
            f"there is a rule for {name!r} already, and no second one", op=op
        )
    return rule(name)
