"""Captures a PyTorch module as a foreign graph, by `torch.export`.

The graph is the one for training, not decomposed: `linear`, `batch_norm`, `gru` or
`scaled_dot_product_attention` stay what they are. The first axis of every tensor is
dynamic, and there are at least two samples, because `torch.export` takes a single one
for a constant.

Nothing of PyTorch is kept but the values of parameters and buffers.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena_ckpt.common.wording import listed, quoted
from arena_ckpt.errors import InvalidParameterError, UnsupportedModelError
from arena_ckpt.importers.foreign_axes import Size
from arena_ckpt.importers.foreign_graph import (
    Extent,
    ForeignGraph,
    ForeignInput,
    ForeignNode,
    ForeignTable,
    Ref,
    TensorType,
)
from arena_ckpt.importers.import_gaps import Gap
from arena_ckpt.importers.torch_package import require_torch
from arena_ckpt.importers.torch_writes import gaps_of_writes

_DTYPES = frozenset(("float32", "int64", "int32"))
"""Of tensors that a module may be given: values, and ids."""
_SAMPLES = (60, 84, 120)
"""Numbers of samples at which an extent is looked at; each divides by many."""


@dataclass(frozen=True, slots=True)
class Example:
    """The arguments of a module, for batches of any size.

    Attributes
    ----------
    leaves : tuple
        Tensors and other arguments, one after another.
    spec : object
        How PyTorch puts the leaves back into arguments.
    """

    leaves: tuple[Any, ...]
    spec: Any

    @property
    def tensors(self) -> tuple[Any, ...]:
        """The leaves that are tensors."""
        return tuple(leaf for leaf in self.leaves if _is_tensor(leaf))

    def call(self, module: Any, tensors: list[Any]) -> Any:
        """Call a module with other tensors in the places of these."""
        from torch.utils import _pytree as pytree

        given = iter(tensors)
        leaves = [next(given) if _is_tensor(one) else one for one in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return module(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class Captured:
    """A module as a graph.

    Attributes
    ----------
    graph : ForeignGraph
    example : Example
        With as many samples as were given, at least two.
    gaps : tuple of Gap
        What is done in place and cannot be followed.
    program : torch.export.ExportedProgram
        What `graph` was written from.
    """

    graph: ForeignGraph
    example: Example
    gaps: tuple[Gap, ...]
    program: Any


def capture(module: Any, example_inputs: Any) -> Captured:
    """Capture a module.

    Parameters
    ----------
    module : torch.nn.Module
        In the mode that it is trained in, each part as its caller has set it.
    example_inputs : tensor, sequence or mapping
        Arguments of the module, by name in a mapping; the first axis of each tensor
        counts samples.

    Raises
    ------
    InvalidParameterError
        It is no module, wholly in eval mode, or the examples do not fit.
    UnsupportedModelError
        `torch.export` cannot follow the module, or not for any number of samples.
    """
    torch = require_torch("from_torch")
    _require_module(torch, module)
    example = _example_of(torch, example_inputs)
    args, kwargs = _unflattened(example)
    shapes = _dynamic_shapes(torch, module, args, kwargs)
    with _failures_named(module, example), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are about uses other than this one
        program = torch.export.export(
            module, args, kwargs, dynamic_shapes=shapes, strict=False
        )
    return _Writer(torch, module, program, example).write()


# -- what is given -------------------------------------------------------------------


def _require_module(torch: Any, module: Any) -> None:
    if not isinstance(module, torch.nn.Module):
        raise InvalidParameterError(
            f"{quoted(module)} is no torch.nn.Module; give one that is built, "
            "not its class",
            module=module,
        )
    if not any(part.training for part in module.modules()):
        raise InvalidParameterError(
            f"the {type(module).__name__} is wholly in eval mode, in which dropout and "
            "batch statistics are off; call .train() on it, then .eval() on parts that "
            "shall stay as they are",
            module=type(module).__name__,
        )
    named = (*module.named_parameters(), *module.named_buffers())
    others = [
        (name, _dtype(tensor))
        for name, tensor in named
        if (tensor.is_floating_point() or tensor.is_complex())
        and _dtype(tensor) != "float32"
    ]
    if others:
        name, dtype = others[0]
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise InvalidParameterError(
            f"{name}{more} of the {type(module).__name__} is {dtype}; all that is "
            "trained here is float32: call .float() on the module",
            names=tuple(name for name, _ in others),
        )
    elsewhere = [name for name, tensor in named if tensor.device.type != "cpu"]
    if elsewhere:
        raise InvalidParameterError(
            f"{elsewhere[0]} of the {type(module).__name__} is not in the memory of "
            "the CPU; call .cpu() on the module",
            names=tuple(elsewhere),
        )


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _example_of(torch: Any, given: Any) -> Example:
    """Return the arguments that examples are, of two samples at least."""
    from torch.utils import _pytree as pytree

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    match given:
        case torch.Tensor():
            args = (given,)
        case Mapping():
            kwargs = dict(given)
        case tuple() | list():
            args = tuple(given)
        case _:
            raise InvalidParameterError(
                f"example_inputs={quoted(given)} is not possible; give a tensor, a "
                "tuple of the arguments of the module, or a dict of them by name",
                example_inputs=given,
            )
    paths, spec = pytree.tree_flatten_with_path((args, kwargs))
    named = [(_path_text(path), leaf) for path, leaf in paths]
    tensors = [(name, leaf) for name, leaf in named if _is_tensor(leaf)]
    if not tensors:
        raise InvalidParameterError(
            "example_inputs has no tensor; give the arguments of the module",
            example_inputs=given,
        )
    for name, tensor in tensors:
        _require_input(name, tensor)
    samples = {name: len(tensor) for name, tensor in tensors}
    if len(set(samples.values())) > 1:
        counts = listed([f"{name} has {n}" for name, n in samples.items()])
        raise InvalidParameterError(
            f"the first axis of each example counts samples, but {counts}; a tensor "
            "that is the same for all samples belongs into a buffer of the module",
            samples=samples,
        )
    if next(iter(samples.values())) == 1:
        named = [
            (name, torch.cat([leaf, leaf]) if _is_tensor(leaf) else leaf)
            for name, leaf in named
        ]
    return Example(tuple(leaf for _, leaf in named), spec)


def _path_text(path: Any) -> str:
    """Return what messages call an argument: ``input 0``, or its name."""
    _, *rest = path
    keys = [str(getattr(key, "key", getattr(key, "idx", key))) for key in rest]
    text = ".".join(keys)
    return f"input {text}" if text.isdigit() else f"input {text!r}"


def _require_input(name: str, tensor: Any) -> None:
    dtype = _dtype(tensor)
    if dtype not in _DTYPES:
        raise InvalidParameterError(
            f"{name} is {dtype}; a module is given float32 values, and ids as int64 or "
            "int32",
            input=name,
            dtype=dtype,
        )
    if tensor.ndim == 0 or tensor.numel() == 0:
        raise InvalidParameterError(
            f"{name} has the shape {tuple(tensor.shape)}; its first axis has to count "
            "samples, one at least",
            input=name,
            shape=tuple(tensor.shape),
        )


def _unflattened(example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    from torch.utils import _pytree as pytree

    args, kwargs = pytree.tree_unflatten(list(example.leaves), example.spec)
    return args, kwargs


def _dynamic_shapes(
    torch: Any, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    from torch.utils import _pytree as pytree

    def dynamic(value: Any) -> Any:
        return pytree.tree_map(
            lambda leaf: {0: torch.export.Dim.DYNAMIC} if _is_tensor(leaf) else None,
            value,
        )

    try:
        given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    except TypeError as error:
        raise InvalidParameterError(
            f"example_inputs do not fit the {type(module).__name__}: {error}",
            module=type(module).__name__,
        ) from None
    return {name: dynamic(value) for name, value in given.items()}


@contextlib.contextmanager
def _failures_named(module: Any, example: Example) -> Iterator[None]:
    """Turn what `torch.export` raises into one message of ours."""
    try:
        yield
    except Exception as error:
        text = str(error)
        name = type(module).__name__
        where = _user_line(text)
        at = f" at {where}" if where else ""
        if "onstraint" in text and "pecializ" in text:
            n = len(example.tensors[0])
            raise UnsupportedModelError(
                f"the {name} works for batches of {n} only{at}: its code makes a "
                "constant of the number of samples. Take it from the input, as in "
                f"x.view(x.size(0), -1). torch.export says: {_first_line(text)}",
                gaps=(),
            ) from error
        raise UnsupportedModelError(
            f"torch.export cannot follow the {name}{at}: {type(error).__name__}: "
            f"{_first_line(text)}",
            gaps=(),
        ) from error


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no reason"


# -- what is captured ----------------------------------------------------------------


class _Writer:
    """Writes an exported program down as a graph of ours."""

    def __init__(self, torch: Any, module: Any, program: Any, example: Example) -> None:
        self._torch = torch
        self._module = module
        self._program = program
        self._example = example
        self._nodes: list[ForeignNode] = []
        self._targets: dict[str, Any] = {}
        self._inputs: list[ForeignInput] = []
        self._tables: dict[str, ForeignTable] = {}
        self._batches: set[Any] = set()

    def write(self) -> Captured:
        program = self._program
        signature = {
            spec.arg.name: spec for spec in program.graph_signature.input_specs
        }
        named = self._named_tensors()
        env: dict[Any, Any] = {}
        for node in program.graph.nodes:
            if node.op == "placeholder":
                self._place(node, signature[node.name], named)
                env[node] = Ref(node.name)
        output = self._walk(program.graph_module, env, "")
        spec = program.call_spec.out_spec
        names = _output_names(spec)
        outputs = tuple(output)
        assert len(names) == len(outputs)
        gaps = gaps_of_writes(
            self._nodes, self._targets, self._inputs, self._tables, outputs
        )
        graph = ForeignGraph(
            tuple(self._inputs),
            self._tables,
            reaching(self._nodes, outputs),
            outputs,
            names,
        )
        return Captured(graph, self._example, gaps, program)

    def _named_tensors(self) -> dict[str, tuple[str, ...]]:
        """Return all names of the tensor of each name, the first one first."""
        by_tensor: dict[int, list[str]] = {}
        module = self._module
        for name, tensor in (
            *module.named_parameters(remove_duplicate=False),
            *module.named_buffers(remove_duplicate=False),
        ):
            by_tensor.setdefault(id(tensor), []).append(name)
        return {name: tuple(names) for names in by_tensor.values() for name in names}

    def _place(
        self, node: Any, spec: Any, named: Mapping[str, tuple[str, ...]]
    ) -> None:
        """Note a placeholder: a tensor of the module, or an input."""
        kind = spec.kind.name
        if kind == "USER_INPUT":
            if not _is_tensor(node.meta.get("val")):
                return  # None and numbers are constants in the graph
            self._batches |= _symbols(node.meta["val"].shape[0])
            found = self._type_of(node.meta["val"])
            assert isinstance(found, TensorType)
            if found.shape[0] != Size(1, True):
                raise UnsupportedModelError(
                    f"the {type(self._module).__name__} works for one number of "
                    "samples only: torch.export made a constant of it in silence",
                    gaps=(),
                )
            self._inputs.append(ForeignInput(node.name, found))
            return
        program = self._program
        tensors: dict[str, Any] = {**program.constants, **program.state_dict}
        tensor = tensors[spec.target]
        aliases = named.get(spec.target, (spec.target,))
        is_state = aliases[0] in program.state_dict
        self._tables[node.name] = ForeignTable(
            aliases[0],
            tensor.detach().cpu().numpy().copy(),
            kind == "PARAMETER" and tensor.requires_grad,
            is_state,
            tuple(
                name for name in aliases if name in program.state_dict or not is_state
            ),
        )

    def _walk(self, graph_module: Any, env: dict[Any, Any], prefix: str) -> Any:
        """Write the operations of a graph down; return what it returns."""
        for node in graph_module.graph.nodes:
            if node.op == "output":
                return self._value(node.args[0], env)
            if node.op == "get_attr":
                env[node] = self._attribute(graph_module, node, prefix)
            elif node.op == "call_function":
                env[node] = self._call(graph_module, node, env, prefix)
        raise AssertionError("a graph without an output")

    def _attribute(self, graph_module: Any, node: Any, prefix: str) -> Any:
        found = graph_module
        for part in node.target.split("."):
            found = getattr(found, part)
        if not _is_tensor(found):
            return found  # a graph in the graph
        name = f"{prefix}{node.name}"
        values = found.detach().cpu().numpy().copy()
        self._tables[name] = ForeignTable(node.target, values, False, False, ())
        return Ref(name)

    def _call(
        self, graph_module: Any, node: Any, env: dict[Any, Any], prefix: str
    ) -> Any:
        target = node.target
        value = node.meta.get("val")
        if isinstance(value, self._torch.SymInt):
            size = self._extent(value)
            if size is not None:
                return size if size.batched else size.factor
        args = [self._value(arg, env) for arg in node.args]
        kwargs = {key: self._value(arg, env) for key, arg in node.kwargs.items()}
        if _name_of(target) in ("wrap_with_set_grad_enabled", "wrap_with_autocast"):
            return self._inner(node, args, prefix)
        if _name_of(target) == "getitem" and isinstance(args[0], tuple):
            return args[0][args[1]]
        schema = getattr(target, "_schema", None)
        variant = str(target) if schema is not None else _name_of(target)
        name = f"{prefix}{node.name}"
        stack = node.meta.get("nn_module_stack") or {}
        path, kind = next(reversed(stack.values())) if stack else ("", "")
        if not isinstance(kind, str):
            kind = kind.__name__
        if kind.startswith("_empty_nn_module_stack"):
            path = kind = ""
        self._nodes.append(
            ForeignNode(
                name,
                _op_of(target, schema),
                variant,
                _by_name(schema, args, kwargs),
                self._type_of(value),
                re.sub(r"@\d+", "", path),
                kind.rpartition(".")[2],
                _user_line(node.meta.get("stack_trace") or ""),
            )
        )
        self._targets[name] = schema
        return Ref(name)

    def _inner(self, node: Any, args: list[Any], prefix: str) -> tuple[Any, ...]:
        """Write the operations of a graph within a ``with`` statement down."""
        place = next(i for i, arg in enumerate(args) if hasattr(arg, "graph"))
        inner = args[place]
        name = f"{prefix}{node.name}"
        holes = [one for one in inner.graph.nodes if one.op == "placeholder"]
        env = dict(zip(holes, args[place + 1 :], strict=True))
        made = self._walk(inner, env, f"{name}/")
        made = made if isinstance(made, tuple) else (made,)
        stops_gradients = _name_of(node.target) == "wrap_with_set_grad_enabled"
        if not stops_gradients or args[0]:
            return made
        return tuple(self._detached(one, name, i) for i, one in enumerate(made))

    def _detached(self, made: Any, name: str, index: int) -> Any:
        source = next((n for n in self._nodes if Ref(n.name) == made), None)
        if source is None:
            return made
        detached = f"{name}/detached_{index}"
        self._nodes.append(
            ForeignNode(
                detached,
                "detach",
                "torch.no_grad",
                {"self": made},
                source.result,
                source.module,
                source.module_type,
                source.where,
            )
        )
        self._targets[detached] = None
        return Ref(detached)

    def _value(self, value: Any, env: Mapping[Any, Any]) -> Any:
        torch = self._torch
        if isinstance(value, torch.fx.Node):
            return env[value]
        if isinstance(value, Size):
            return value
        if isinstance(value, list | tuple):
            return tuple(self._value(one, env) for one in value)
        if isinstance(value, slice):
            return slice(*(self._value(x, env) for x in _ends(value)))
        if value is None or isinstance(value, bool | int | float | str):
            return value
        return str(value).removeprefix("torch.")  # a dtype, a device, a layout

    def _type_of(self, value: Any) -> Any:
        if _is_tensor(value):
            shape = tuple(self._extent(size) for size in value.shape)
            return TensorType(shape, _dtype(value))
        if isinstance(value, list | tuple):
            return tuple(self._type_of(one) for one in value)
        return None

    def _extent(self, size: Any) -> Extent:
        """Return elements along an axis, perhaps in proportion to the samples."""
        symbols = _symbols(size)
        if not symbols:
            return Size(int(size))
        if not symbols <= self._batches:
            return None
        expression = size.node.expr
        found = {n: expression.subs(dict.fromkeys(symbols, n)) for n in _SAMPLES}
        factors = {value / n for n, value in found.items()}
        if len(factors) == 1 and (factor := factors.pop()).is_integer:
            return Size(int(factor), True)
        if len(set(found.values())) == 1:
            return Size(int(found[_SAMPLES[0]]))
        return None


def _ends(value: slice) -> tuple[Any, Any, Any]:
    return value.start, value.stop, value.step


def _symbols(size: Any) -> set[Any]:
    node = getattr(size, "node", None)
    return set() if node is None else set(node.expr.free_symbols)


def _name_of(target: Any) -> str:
    return str(getattr(target, "__name__", target))


def _op_of(target: Any, schema: Any) -> str:
    """Return the name of an operation, the same for its variant in place."""
    if schema is None:
        return _name_of(target)
    space, _, name = schema.name.partition("::")
    if name.endswith("_") and not name.startswith("_"):
        name = name[:-1]
    return name if space == "aten" else f"{space}::{name}"


def _by_name(schema: Any, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by their names, defaults among them."""
    if schema is None:
        return {str(i): arg for i, arg in enumerate(args)} | kwargs
    found = {
        declared.name: _plain(declared.default_value)
        for declared in schema.arguments
        if declared.has_default_value()
    }
    names = [declared.name for declared in schema.arguments]
    return found | dict(zip(names, args, strict=False)) | kwargs


def _plain(default: Any) -> Any:
    return tuple(default) if isinstance(default, list) else default


def _output_names(spec: Any) -> tuple[str, ...]:
    """Return what messages call the outputs of a module."""
    from torch.utils import _pytree as pytree

    if spec.num_leaves == 1:
        return ("output",)
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    paths, _ = pytree.tree_flatten_with_path(tree)
    return tuple(
        "output " + ".".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in path)
        for path, _ in paths
    )


def reaching(
    nodes: Sequence[ForeignNode], outputs: tuple[Any, ...]
) -> tuple[ForeignNode, ...]:
    """Return the nodes that an output depends on."""
    wanted: set[str] = set()
    _mention(outputs, wanted)
    kept = []
    for node in reversed(nodes):
        if node.name in wanted:
            kept.append(node)
            _mention(tuple(node.args.values()), wanted)
    return tuple(reversed(kept))


def _mention(value: Any, names: set[str]) -> None:
    if isinstance(value, Ref):
        names.add(value.name)
    elif isinstance(value, tuple):
        for one in value:
            _mention(one, names)
    elif isinstance(value, slice):
        _mention(_ends(value), names)


_FRAME = re.compile(r'File "(?P<path>[^"]+)", line (?P<line>\d+)')


def _user_line(trace: str) -> str:
    """Return the last line of a stack trace that is in no file of PyTorch."""
    import torch

    own = str(Path(torch.__file__).parent) + os.sep
    here = str(Path(__file__).parents[1]) + os.sep
    found = ""
    for frame in _FRAME.finditer(trace):
        path = frame["path"]
        if path.startswith((own, here, "torch" + os.sep, "<")):
            continue
        if path.startswith(os.getcwd() + os.sep):
            path = os.path.relpath(path)
        found = f"{path}:{frame['line']}"
    return found
