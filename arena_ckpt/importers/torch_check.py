"""Compares an imported model with its PyTorch module, in full.

Both are given the same random batch, with dropout off. PyTorch computes in float64, and
in float32 as well: how far that is from float64 is what rounding makes of this model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.errors import ImportCheckError
from arena_ckpt.importers.foreign_graph import ForeignGraph
from arena_ckpt.importers.foreign_values import Tensor
from arena_ckpt.importers.model_builder import input_shape
from arena_ckpt.importers.torch_check_batch import Batch, batch_for
from arena_ckpt.importers.torch_check_losses import labels_for, reference_loss
from arena_ckpt.importers.torch_check_properties import differing_properties
from arena_ckpt.importers.torch_graph import Captured
from arena_ckpt.importers.torch_reference import SMOOTH, Reference, run_reference
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.functions import name_of
from arena_ckpt.layers.spec import Shape
from arena_ckpt.model import Model, copy_of

Array = npt.NDArray[Any]

LOSS_LIMIT = 1e-5
"""Share by which a loss may differ from that of PyTorch in float64."""
GRADIENT_LIMIT = 1e-4
"""Share by which a gradient may differ, or `ROUNDING` times what PyTorch's own does."""
ROUNDING = 4.0
STATISTICS_LIMIT = 1e-4
"""Share by which running statistics may differ."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One of the comparisons of an import.

    Attributes
    ----------
    name : str
    passed : bool
    text : str
        What was compared, with the numbers.
    """

    name: str
    passed: bool
    text: str

    def __str__(self) -> str:
        return f"{'passed' if self.passed else 'FAILED':8}  {self.name}: {self.text}"


@dataclass(frozen=True, slots=True)
class GradientError:
    """How far a gradient is from that of PyTorch in float64.

    Attributes
    ----------
    foreign : str
        The parameter.
    weights : tuple of str
        Ours that are parts of it.
    error : float
        ‖ours - reference‖ / (‖reference‖ + 1e-4 ‖all gradients‖)
    limit : float
    is_kink : bool
        It is above the limit, and below it with smooth functions in the places of ReLU
        and its like: an input of a ReLU lies so near 0 that rounding decides.
    """

    foreign: str
    weights: tuple[str, ...]
    error: float
    limit: float
    is_kink: bool = False

    def __str__(self) -> str:
        ours = ", ".join(self.weights) or "no weight"
        kink = " (a kink)" if self.is_kink else ""
        return f"{self.foreign} ({ours}) {self.error:.1e} of {self.limit:.1e}{kink}"


@dataclass(frozen=True, slots=True)
class ImportCheck:
    """What an imported model was compared in with its PyTorch module.

    Attributes
    ----------
    findings : tuple of Finding
    gradients : tuple of GradientError
        The worst first.
    """

    findings: tuple[Finding, ...]
    gradients: tuple[GradientError, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing differs."""
        return all(finding.passed for finding in self.findings)

    @property
    def worst(self) -> GradientError | None:
        """The gradient that is furthest beyond, or nearest to, its limit."""
        return self.gradients[0] if self.gradients else None

    @property
    def verdict(self) -> str:
        """One line: what was compared, and the worst gradient by both names."""
        state = "as in PyTorch" if self.passed else "not as in PyTorch"
        worst = "" if self.worst is None else f"; worst gradient {self.worst}"
        return f"{state}: {len(self.findings)} comparisons{worst}"

    def __str__(self) -> str:
        return "\n".join([*map(str, self.findings), self.verdict])

    def require_passed(self) -> None:
        """Refuse an import that differs.

        Raises
        ------
        ImportCheckError
        """
        failed = [finding for finding in self.findings if not finding.passed]
        if failed:
            lines = "\n".join(f"  {one.name}: {one.text}" for one in failed)
            raise ImportCheckError(
                f"the imported model is not the one that PyTorch runs:\n{lines}\n"
                "This is a defect of the import; with check=False the model is "
                "imported as it is",
                check=self,
            )


@dataclass(frozen=True, slots=True)
class _Heads:
    """The losses of an imported model, and labels for them."""

    layers: tuple[Layer | None, ...]
    shapes: tuple[Shape | None, ...]
    labels: tuple[Array | None, ...]

    def loss(self, outputs: Sequence[Any]) -> Any:
        """Return the sum of the losses, in PyTorch."""
        total: Any = 0.0
        for layer, shape, label, output in zip(
            self.layers, self.shapes, self.labels, outputs, strict=False
        ):
            if layer is not None and shape is not None:
                total = total + reference_loss(layer, shape, output, label)
        return total

    @property
    def y(self) -> Any:
        """The labels as `train_step` takes them."""
        named = {
            layer.name: label
            for layer, label in zip(self.layers, self.labels, strict=True)
            if layer is not None and label is not None
        }
        if len(named) == 1 and sum(one is not None for one in self.layers) == 1:
            return next(iter(named.values()))
        return named or None


def check_import(
    module: Any,
    captured: Captured,
    graph: ForeignGraph,
    model: Model,
    outputs: Sequence[tuple[str, Tensor] | None],
    made: Mapping[str, tuple[str, ...]],
) -> ImportCheck:
    """Compare an imported model with its module.

    Parameters
    ----------
    module : torch.nn.Module
    captured : Captured
    graph : ForeignGraph
        The part of it that was imported.
    model : Model
        Not initialized.
    outputs : sequence of (str, Tensor) or None
        The loss of each output of the module, and what it reads.
    made : mapping of str to tuple of str
        The layers that were added for each node.
    """
    rng = np.random.default_rng(0)
    own = _without_dropout(model)
    batch = batch_for(captured, own, rng)
    own.set_property(batch_size=batch.n_samples, micro_batches=1)
    own.set_optimizer("sgd", learning_rate=1e-3)
    heads = _heads(own, outputs, batch.n_samples, rng)
    findings = [_properties(graph, model, made)]
    gradients: tuple[GradientError, ...] = ()
    if any(heads.layers):
        plain = _ours(own, batch, heads)
        wanted = _wanted(captured, batch, heads)
        findings += _losses(module, captured, batch, heads, plain, wanted)
        gradients = _gradients(graph, own, captured, batch, heads, plain, wanted)
        findings.append(_gradient_finding(gradients))
        findings.append(_statistics(own, plain, wanted[0]))
        findings.append(_same_bits(own, batch, heads))
    mode = "train" if any(heads.layers) else "inference"
    if mode == "inference" and len(captured.graph.outputs) == 1:
        findings.append(_prediction(captured, own, batch))
    findings.append(_round_trip(module, own, mode))
    return ImportCheck(tuple(findings), gradients)


def _without_dropout(model: Model) -> Model:
    own = copy_of(model, blocks=False)
    start = own._start
    for layer in own.layers:
        if layer.get("dropout_rate"):
            own.replace_layer(layer.name, dropout_rate=0.0)
    own.start_from(start)
    return own


def _heads(
    model: Model,
    outputs: Sequence[tuple[str, Tensor] | None],
    n_samples: int,
    rng: np.random.Generator,
) -> _Heads:
    layers: list[Layer | None] = []
    shapes: list[Shape | None] = []
    labels: list[Array | None] = []
    by_name = {layer.name: layer for layer in model.layers}
    for output in outputs:
        if output is None:
            layers.append(None)
            shapes.append(None)
            labels.append(None)
            continue
        name, x = output
        layer = by_name[name]
        shape = input_shape([s.factor for s in x.sizes if not s.batched])
        layers.append(layer)
        shapes.append(shape)
        takes = getattr(layer, "takes_label", True)
        labels.append(labels_for(layer, shape, n_samples, rng) if takes else None)
    return _Heads(tuple(layers), tuple(shapes), tuple(labels))


@dataclass(frozen=True, slots=True)
class _Ours:
    """What an imported model makes of a batch."""

    loss: float
    evaluation: float
    gradients: dict[str, Array]
    weights: dict[str, Array]
    """After a step."""


def _ours(model: Model, batch: Batch, heads: _Heads) -> _Ours:
    run = copy_of(model)
    run.initialize()
    loss, gradients = run.compute_gradients(batch.x, heads.y)
    evaluation = run.evaluate((batch.x, heads.y), metrics=[]).loss
    run.train_step(batch.x, heads.y)
    return _Ours(loss, evaluation, gradients, run.weights())


def _wanted(
    captured: Captured, batch: Batch, heads: _Heads, *, is_smooth: bool = False
) -> tuple[Reference, Reference]:
    """Return what PyTorch makes of a batch in float64, and in float32."""
    wide, narrow = (
        run_reference(
            captured, batch.inputs, heads.loss, dtype=dtype, is_smooth=is_smooth
        )
        for dtype in ("float64", "float32")
    )
    return wide, narrow


def _properties(
    graph: ForeignGraph, model: Model, made: Mapping[str, tuple[str, ...]]
) -> Finding:
    differing, n_compared = differing_properties(graph, model, made)
    text = f"{n_compared} equal"
    if differing:
        text = "; ".join(map(str, differing[:4]))
        if len(differing) > 4:
            text += f"; and {len(differing) - 4} more"
    return Finding("properties", not differing, text)


def _losses(
    module: Any,
    captured: Captured,
    batch: Batch,
    heads: _Heads,
    ours: _Ours,
    wanted: tuple[Reference, Reference],
) -> list[Finding]:
    evaluation, how = _evaluated(module, captured, batch, heads)
    return [
        _loss("training loss", ours.loss, wanted[0].loss, ""),
        _loss("evaluation loss", ours.evaluation, evaluation, how),
    ]


def _loss(name: str, found: float, expected: float, how: str) -> Finding:
    error = abs(found - expected) / max(abs(expected), 1e-3)
    limit = LOSS_LIMIT
    text = f"{found:.9g}, in PyTorch {expected:.9g}{how} ({error:.1e} of {limit:.0e})"
    return Finding(name, bool(error <= limit), text)


def _evaluated(
    module: Any, captured: Captured, batch: Batch, heads: _Heads
) -> tuple[float, str]:
    """Return the loss of the module itself in eval mode, in float64."""
    import torch
    from torch.utils import _pytree as pytree

    try:
        own = copy.deepcopy(module).eval().double()
        tensors = [torch.tensor(one) for one in batch.inputs]
        tensors = [t.double() if t.is_floating_point() else t for t in tensors]
        with torch.no_grad():
            made = captured.example.call(own, tensors)
        leaves, _ = pytree.tree_flatten(made)
        if len(leaves) == len(captured.graph.outputs):
            return float(heads.loss(leaves)), ""
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        pass  # it makes float32 of its own, or cannot be copied
    found = run_reference(
        captured, batch.inputs, heads.loss, dtype="float64", trains=False
    )
    return found.loss, " as it was captured"


def _gradients(
    graph: ForeignGraph,
    model: Model,
    captured: Captured,
    batch: Batch,
    heads: _Heads,
    ours: _Ours,
    wanted: tuple[Reference, Reference],
) -> tuple[GradientError, ...]:
    """Return the errors of all gradients, with smooth twins where some are too far."""
    errors = _errors(graph, model, ours.gradients, wanted)
    if any(one.error > one.limit for one in errors.values()):
        twin = _smooth_twin(model)
        if twin is not None:
            smooth = _wanted(captured, batch, heads, is_smooth=True)
            found = _ours(twin, batch, heads).gradients
            again = _errors(graph, twin, found, smooth)
            errors = {
                name: GradientError(
                    name, one.weights, one.error, one.limit, _is_kink(one, again[name])
                )
                for name, one in errors.items()
            }
    ordered = sorted(
        errors.values(), key=lambda e: (e.is_kink, -e.error / e.limit, e.foreign)
    )
    return tuple(ordered)


def _is_kink(error: GradientError, smooth: GradientError) -> bool:
    return error.error > error.limit and smooth.error <= smooth.limit


def _errors(
    graph: ForeignGraph,
    model: Model,
    gradients: Mapping[str, Array],
    wanted: tuple[Reference, Reference],
) -> dict[str, GradientError]:
    """Return the error of the gradient of each parameter that is trained."""
    wide, narrow = (one.gradients for one in wanted)
    shapes = {name: array.shape for name, array in wide.items()}
    found = {name: np.zeros(array.size) for name, array in wide.items()}
    parts: dict[str, list[str]] = {name: [] for name in wide}
    assert model._foreign is not None
    for link in model._foreign.links:
        if link.weight not in gradients or link.foreign not in found:
            continue
        size = found[link.foreign].size
        places = link.to_ours(np.arange(size).reshape(link.foreign_shape)).reshape(-1)
        values = gradients[link.weight].reshape(-1).astype(np.float64)
        np.add.at(found[link.foreign], places, values)
        parts[link.foreign].append(link.weight)
    whole = np.sqrt(sum(float(np.sum(g**2)) for g in wide.values()))
    errors = {}
    for name, reference in wide.items():
        scale = float(np.linalg.norm(reference)) + 1e-4 * whole
        ours = found[name].reshape(shapes[name])
        error = float(np.linalg.norm(ours - reference)) / (scale or 1.0)
        rounding = float(np.linalg.norm(narrow[name] - reference)) / (scale or 1.0)
        limit = max(GRADIENT_LIMIT, ROUNDING * rounding)
        errors[name] = GradientError(name, tuple(parts[name]), error, limit)
    return errors


def _smooth_twin(model: Model) -> Model | None:
    """Return a model with smooth functions, or None if it has no others."""
    twin = copy_of(model)
    start = twin._start
    changed = False
    for layer in twin.layers:
        function = name_of(str(layer.get("activation") or "none"))
        if layer.type_name == "activation" and function in SMOOTH:
            twin.replace_layer(layer.name, activation=SMOOTH[function])
            changed = True
    twin.start_from(start)
    return twin if changed else None


def _gradient_finding(gradients: Sequence[GradientError]) -> Finding:
    wrong = [one for one in gradients if one.error > one.limit and not one.is_kink]
    kinks = sum(one.is_kink for one in gradients)
    if wrong:
        text = f"{len(wrong)} of {len(gradients)} differ: "
        text += "; ".join(map(str, wrong[:4]))
        if len(wrong) > 4:
            text += f"; and {len(wrong) - 4} more"
        return Finding("gradients", False, text)
    text = f"{len(gradients)} compared"
    if gradients:
        text += f", the worst {gradients[0]}"
    if kinks:
        text += f"; {kinks} at kinks, right with smooth functions"
    return Finding("gradients", True, text)


def _prediction(captured: Captured, model: Model, batch: Batch) -> Finding:
    """Compare what a model without a loss predicts with the output of the module."""
    outputs: list[Any] = []

    def keep(made: tuple[Any, ...]) -> Any:
        outputs.append(made[0].detach().numpy())
        return made[0].sum()

    run_reference(captured, batch.inputs, keep, dtype="float64", trains=False)
    run = copy_of(model)
    run.initialize(mode="inference")
    (reference,) = outputs
    found = np.asarray(run.predict(batch.x)).reshape(reference.shape)
    scale = float(np.linalg.norm(reference)) or 1.0
    error = float(np.linalg.norm(found - reference)) / scale
    text = f"{error:.1e} of {LOSS_LIMIT:.0e}"
    return Finding("prediction", error <= LOSS_LIMIT, text)


def _statistics(model: Model, ours: _Ours, wanted: Reference) -> Finding:
    """Compare running means and variances after a step."""
    worst, name, n = 0.0, "", 0
    assert model._foreign is not None
    for link in model._foreign.links:
        if ":moving_" not in link.weight:
            continue
        reference = link.to_ours(wanted.buffers[link.foreign]).reshape(-1)
        found = ours.weights[link.weight].reshape(-1)
        scale = float(np.linalg.norm(reference)) or 1.0
        error = float(np.linalg.norm(found - reference)) / scale
        n += 1
        if error >= worst:
            worst, name = error, f"{link.foreign} ({link.weight})"
    if not n:
        return Finding("running statistics", True, "none")
    text = f"{n} after a step, the worst {name} {worst:.1e} of {STATISTICS_LIMIT:.0e}"
    return Finding("running statistics", worst <= STATISTICS_LIMIT, text)


def _round_trip(module: Any, model: Model, mode: str) -> Finding:
    """Compare the state that goes back with the one that came, bit by bit."""
    run = copy_of(model)
    run.initialize(mode=mode)
    back = run.to_state_dict()
    state = {
        name: tensor.detach().numpy()
        for name, tensor in module.state_dict().items()
        if hasattr(tensor, "detach")
    }
    differing = [
        name
        for name, array in state.items()
        if name not in back
        or back[name].dtype != array.dtype
        or back[name].shape != array.shape
        or back[name].tobytes() != array.tobytes()
    ]
    text = f"all {len(state)} tensors are the same bits"
    if differing:
        text = f"{', '.join(differing[:4])} of {len(state)} tensors come back changed"
    return Finding("state_dict and back", not differing, text)


def _same_bits(model: Model, batch: Batch, heads: _Heads) -> Finding:
    """Compare two steps with the plan and without reusing memory."""
    results = []
    for planned in (True, False):
        run = copy_of(model)
        run.set_property(memory_optimization=planned)
        run.initialize()
        losses = [run.train_step(batch.x, heads.y) for _ in range(2)]
        results.append((losses, run.weights()))
    (one, first), (other, second) = results
    differing = [
        name for name in first if first[name].tobytes() != second[name].tobytes()
    ]
    same = one == other and not differing
    text = "losses and weights of 2 steps are the same"
    if not same:
        text = f"losses {one} and {other}; {len(differing)} weights differ"
    return Finding("same bits with and without the plan", same, text)
