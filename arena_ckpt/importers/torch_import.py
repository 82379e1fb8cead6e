"""Imports models from PyTorch modules: `from_torch`."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.arguments import public_call, require_value
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.wording import quoted
from arena_ckpt.definition.foreign_state import ForeignState
from arena_ckpt.definition.weight_links import WeightLink, used_twice
from arena_ckpt.errors import InvalidParameterError, UnknownLayerError
from arena_ckpt.importers.foreign_graph import ForeignGraph, Ref
from arena_ckpt.importers.foreign_values import Tensor
from arena_ckpt.importers.import_gaps import Gap, UnsupportedOperation, require_no_gaps
from arena_ckpt.importers.model_builder import ModelBuilder
from arena_ckpt.importers.torch_graph import capture, reaching
from arena_ckpt.importers.torch_losses import LossChoice, add_loss, chosen_losses
from arena_ckpt.importers.torch_optimizer import optimizer_from_torch
from arena_ckpt.importers.torch_package import require_torch
from arena_ckpt.importers.torch_run import run_rules
from arena_ckpt.model import Model

Array = npt.NDArray[Any]

_ADVICE = (
    "register_importer makes a rule for an operation known; docs/import-torch.md says "
    "how"
)


@public_call
@dataclass(frozen=True, slots=True)
class Imported:
    """A model that was imported from a PyTorch module.

    Attributes
    ----------
    model : Model
        Not initialized; `initialize` gives it the weights of the module.
    check : ImportCheck or None
        What was compared with PyTorch; None without ``check=True``.
    links : tuple of WeightLink
        Which part of which parameter or buffer is which weight.
    """

    model: Model
    check: Any
    links: tuple[WeightLink, ...]

    def __repr__(self) -> str:
        return short_repr(
            self,
            counted(len(self.model.layers), "layer"),
            counted(len(self.links), "link"),
            "not checked" if self.check is None else str(self.check.verdict),
        )

    @public_call
    def to_state_dict(self) -> dict[str, Any]:
        """Return the weights of the model as the module's `load_state_dict` takes them.

        Returns
        -------
        dict of str to torch.Tensor
            All names of the module's `state_dict`, in its order. What has no weight
            here, such as ``num_batches_tracked``, is as it was imported.
        """
        torch = require_torch("to_state_dict")
        return {
            name: torch.from_numpy(np.array(array))
            for name, array in self.model.to_state_dict().items()
        }

    @public_call
    def blocks(self, pattern: str) -> dict[str, tuple[str, ...]]:
        """Return the layers of each module whose path matches a pattern.

        Parameters
        ----------
        pattern : str
            ``"layer*.*"``: what stands between dots is matched as `fnmatch` does, so
            that ``*`` matches no dot.

        Returns
        -------
        dict of str to tuple of str
            By module path; each can be given to `Model.add_checkpoint_block`.

        Raises
        ------
        UnknownLayerError
            No module matches.
        """
        require_value(
            "pattern", pattern, fits=isinstance(pattern, str), expected="a text"
        )
        parts = pattern.split(".")
        found: dict[str, list[str]] = {}
        for layer in self.model.layers:
            path = layer.name.partition("/")[0].split(".")
            if len(path) >= len(parts) and all(
                fnmatch.fnmatchcase(one, wanted)
                for one, wanted in zip(path, parts, strict=False)
            ):
                found.setdefault(".".join(path[: len(parts)]), []).append(layer.name)
        if not found:
            known = sorted(
                {layer.name.partition("/")[0] for layer in self.model.layers}
            )
            raise UnknownLayerError(
                f"no module matches {pattern!r}; there are {', '.join(known[:8])}"
                f"{', …' if len(known) > 8 else ''}",
                pattern=pattern,
            )
        return {path: tuple(names) for path, names in found.items()}


@public_call
def from_torch(
    module: Any,
    example_inputs: Any,
    loss: Any = None,
    *,
    optimizer: Any = None,
    check: bool = False,
    batch_size: int | None = None,
    seed: int = 0,
) -> Imported:
    """Import a PyTorch module as a model, with its weights.

    The module is captured by `torch.export`, without being decomposed, for any number
    of samples. Each part is taken in the mode that it is in: a batch normalization in
    eval mode keeps its running statistics, and parameters without ``requires_grad`` are
    frozen.

    Parameters
    ----------
    module : torch.nn.Module
        In training mode, float32, on the CPU.
    example_inputs : tensor, sequence or mapping
        Its arguments, by name in a mapping. The first axis of each tensor counts
        samples.
    loss : str, (str, dict), list of these, or None
        The type of a loss layer, with properties: ``"mse"``, ``("cross_softmax",
        {"per_token": True})``; ``"output"`` where the module returns its loss, a mean
        over samples. A list has one for each output, None where one is not trained.
        Without any the model can only predict.
    optimizer : torch.optim.Optimizer, optional
        An SGD, Adam, AdamW or RMSprop to train on with.
    check : bool
        Compare losses, all gradients and running statistics with PyTorch in float64.
    batch_size : int, optional
        Of the model; by default the number of samples of `example_inputs`.
    seed : int
        Of the model.

    Returns
    -------
    Imported

    Raises
    ------
    UnsupportedModelError
        The module has operations without a counterpart: all of them are listed, with
        the lines where they stand.
    InvalidParameterError
        It is wholly in eval mode, or an argument does not fit.
    ImportCheckError
        With `check`, something differs from PyTorch.

    Notes
    -----
    Nothing of the model needs PyTorch afterwards, nor does a saved one.
    """
    require_value(
        "check", check, fits=isinstance(check, bool), expected="True or False"
    )
    captured = capture(module, example_inputs)
    choices = chosen_losses(loss, captured.graph.output_names)
    graph = _trained_part(captured.graph, choices)
    built = _built(graph, seed, list(captured.gaps), choices)
    build, gaps, outputs, made = built
    require_no_gaps(gaps, f"the module {type(module).__name__}", _ADVICE)
    model = build.model
    samples = len(captured.example.tensors[0])
    model.set_property(batch_size=samples if batch_size is None else batch_size)
    if optimizer is not None:
        _take_optimizer(model, optimizer)
    model.start_from(build.start)
    links = tuple(build.links)
    model._foreign = _state_of(module, captured.graph, links)
    imported = Imported(model, None, links)
    if not check:
        return imported
    from arena_ckpt.importers.torch_check import check_import

    found = check_import(module, captured, graph, model, outputs, made)
    found.require_passed()
    return replace(imported, check=found)


def _built(
    graph: ForeignGraph,
    seed: int,
    gaps: list[Gap],
    choices: tuple[LossChoice | None, ...],
) -> tuple[
    ModelBuilder,
    list[Gap],
    tuple[tuple[str, Tensor] | None, ...],
    dict[str, tuple[str, ...]],
]:
    """Build a model; again, with copies for each sample, where tables stand twice.

    Two layers may read one parameter in two shapes. Where each sample has a copy of it,
    there is one weight, and its shapes are views.
    """
    build, found = ModelBuilder(seed), list(gaps)
    outputs, made = _build(graph, build, found, choices)
    twice = used_twice(_moving(graph, build.links))
    lone = {layer.name for layer in build.model.layers if layer.type_name == "weight"}
    sampled = frozenset(
        name
        for name in twice
        if any(
            link.foreign == name and link.weight.rpartition(":")[0] in lone
            for link in build.links
        )
    )
    if sampled and not found:
        build, found = ModelBuilder(seed), list(gaps)
        outputs, made = _build(graph, build, found, choices, sampled)
        twice = used_twice(_moving(graph, build.links))
    found += [
        Gap(
            f"parameter {name}",
            "it is used in roles that cannot share one weight here, so that training "
            "would move the two apart",
            name,
        )
        for name in twice
    ]
    return build, found, outputs, made


def _moving(graph: ForeignGraph, links: Sequence[WeightLink]) -> list[WeightLink]:
    """Return the links of what training changes: weights and running statistics."""
    trained = {table.name for table in graph.tables.values() if table.is_trained}
    return [
        link for link in links if link.foreign in trained or ":moving_" in link.weight
    ]


def _trained_part(
    graph: ForeignGraph, choices: tuple[LossChoice | None, ...]
) -> ForeignGraph:
    """Return the part of a graph that the outputs with losses depend on."""
    if not any(choices):
        return graph
    outputs = tuple(
        output if choice is not None else None
        for output, choice in zip(graph.outputs, choices, strict=True)
    )
    nodes = reaching(graph.nodes, outputs)
    return replace(graph, nodes=nodes, outputs=outputs)


def _build(
    graph: ForeignGraph,
    build: ModelBuilder,
    gaps: list[Gap],
    choices: tuple[LossChoice | None, ...],
    sampled: frozenset[str] = frozenset(),
) -> tuple[tuple[tuple[str, Tensor] | None, ...], dict[str, tuple[str, ...]]]:
    """Add all layers and losses.

    Returns
    -------
    (tuple, dict)
        The loss of each output, and what it reads; the layers made for each node.
    """
    values, layers = run_rules(graph, build, gaps, sampled)
    made: list[tuple[str, Tensor] | None] = []
    n_losses = sum(choice is not None for choice in choices)
    for output, choice, name in zip(
        graph.outputs, choices, graph.output_names, strict=True
    ):
        made.append(None)
        if isinstance(output, Ref) and output.name not in values:
            continue  # behind a gap
        value = values[output.name] if isinstance(output, Ref) else output
        if choice is None:
            if not n_losses and isinstance(value, Tensor):
                try:
                    build.plain(value)  # predictions lie as PyTorch's outputs
                except UnsupportedOperation as gap:
                    gaps.append(Gap("output", str(gap), name))
            continue
        title = "loss" if n_losses == 1 else _loss_name(name)
        try:
            made[-1] = add_loss(build, value, choice, title)
        except UnsupportedOperation as gap:
            gaps.append(Gap(f"loss {choice.type_name}", str(gap), name))
    return tuple(made), layers


def _loss_name(output: str) -> str:
    """Return what the loss of an output is called: ``loss_0``, ``loss_logits``."""
    return "loss_" + output.removeprefix("output ").replace(".", "_")


def _take_optimizer(model: Model, optimizer: Any) -> None:
    """Set the counterpart of an optimizer, and the L2 decay of the layers."""
    ours, decay = optimizer_from_torch(optimizer)
    model.set_optimizer(ours)
    if not decay:
        return
    for layer in model.layers:
        has = {declared.name for declared in layer.properties}
        if "trainable" not in has or not layer.is_trainable or layer.get("shared_from"):
            continue
        names = {"weight_decay", "bias_decay"} & has
        if not names:
            raise InvalidParameterError(
                f"weight_decay={decay:g} of the {type(optimizer).__name__} cannot be "
                f"imported: {quoted(layer.name)} has weights that do not decay "
                f"({layer.type_name})",
                layer=layer.name,
            )
        changes: dict[str, Any] = dict.fromkeys(names, decay)
        model.replace_layer(layer.name, **changes)


def _state_of(
    module: Any, graph: ForeignGraph, links: tuple[WeightLink, ...]
) -> ForeignState:
    arrays: Mapping[str, Array] = {
        name: tensor.detach().cpu().numpy().copy()
        for name, tensor in module.state_dict().items()
        if hasattr(tensor, "detach")
    }
    same = {
        alias: table.name
        for table in graph.tables.values()
        for alias in table.aliases
        if alias != table.name
    }
    return ForeignState.of("torch", links, arrays, same)
