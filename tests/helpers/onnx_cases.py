"""Node tests of the package `onnx` as models of one operation.

A case has inputs and outputs and no notion of samples. It is presented in the ways in
which a file can be imported: with the first axis as the batch, with the second one
(sequences), or as one sample without an axis for it. Inputs that are not data in that
way become initializers with the recorded values. Whatever way an import accepts, the
values that it predicts are compared with those recorded.
"""

from __future__ import annotations

import importlib
import itertools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt import ArenaError, load_onnx
from arena_ckpt.errors import NonFiniteDataError, UnsupportedModelError

Array = npt.NDArray[Any]

TRAINING = (
    "training_dropout",
    "training_dropout_default",
    "batchnorm_example_training_mode",
    "batchnorm_epsilon_training_mode",
)
"""What is recorded is that of a training step: a prediction drops nothing, and
normalizes by running statistics."""


@dataclass(frozen=True, slots=True)
class Case:
    """A node test: its model and the arrays that were recorded."""

    name: str
    model: Any
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    rtol: float
    atol: float

    @property
    def op(self) -> str:
        return str(self.model.graph.node[0].op_type)


def all_cases() -> dict[str, Case]:
    """Return the cases of one operation of ONNX's own whose outputs are all float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        return _cases_of(load_model_tests(kind="node"))


def cases_in(modules: Sequence[str]) -> dict[str, Case]:
    """Return those cases that some modules of the package make; all take long."""
    import onnx.backend.test.case.node as node

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in modules:
            importlib.import_module(f"{node.__name__}.{module}")
    return _cases_of(node._NodeTestCases)


def _cases_of(loaded: Iterable[Any]) -> dict[str, Case]:
    found = {}
    for case in loaded:
        if case.model is None or len(case.model.graph.node) != 1 or not case.data_sets:
            continue
        inputs, outputs = case.data_sets[0]
        is_ours = case.model.graph.node[0].domain in ("", "ai.onnx")
        arrays = all(
            isinstance(a, np.ndarray | np.generic) for a in (*inputs, *outputs)
        )
        if not (is_ours and arrays and all(a.dtype == np.float32 for a in outputs)):
            continue
        name = case.name.removeprefix("test_")
        found[name] = Case(
            name,
            case.model,
            tuple(map(np.asarray, inputs)),
            tuple(map(np.asarray, outputs)),
            max(case.rtol, 1e-3),
            max(case.atol, 1e-6),
        )
    return found


@dataclass(frozen=True, slots=True)
class Presentation:
    """Which inputs are data, and which of their axes is the batch."""

    data: tuple[int, ...]
    batch_axis: int | None


def presentations(case: Case) -> Iterator[Presentation]:
    """Yield ways to import a case, those with the most data first."""
    floats = [i for i, a in enumerate(case.inputs) if a.dtype == np.float32 and a.ndim]
    others = [i for i, a in enumerate(case.inputs) if a.dtype != np.float32 and a.ndim]
    first = floats[:1] or others[:1]
    choices = [tuple(floats), tuple(first)]
    if others:
        choices.insert(0, tuple(sorted((*first, *others))) if len(floats) < 2 else ())
        choices.append(tuple(others))
        choices.append(tuple(floats[:3]))
    if len(floats) > 2:
        choices.append(tuple(floats[:3]))
        choices.append(tuple(floats[:4]))
    for data, axis in itertools.product(dict.fromkeys(choices), (0, None, 1)):
        shapes = [case.inputs[i].shape for i in data]
        if not data or min(map(len, shapes)) <= (axis or 0):
            continue
        if axis is not None and len({shape[axis] for shape in shapes}) > 1:
            continue
        yield Presentation(data, axis)


def presented(case: Case, way: Presentation, output: int) -> Any:
    """Return the model of a case whose inputs are data or initializers."""
    from onnx import helper, numpy_helper

    graph = case.model.graph
    names = [value.name for value in graph.input]
    inputs, initializers = [], []
    for i, name in enumerate(names):
        array = case.inputs[i]
        if i in way.data:
            dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
            inputs.append(helper.make_tensor_value_info(name, dtype, array.shape))
        else:
            initializers.append(numpy_helper.from_array(array, name))
    model = type(case.model)()
    model.CopyFrom(case.model)
    for part, new in (("input", inputs), ("initializer", initializers)):
        model.graph.ClearField(part)
        getattr(model.graph, part).extend(new)
    kept = [graph.output[output]]
    model.graph.ClearField("output")
    model.graph.output.extend(kept)
    return model


def outcome(case: Case, folder: Path) -> str:
    """Return ``passed``, or why a case is refused.

    Raises
    ------
    AssertionError
        Values are wrong.
    """
    refusals: list[str] = []
    for way in presentations(case):
        refusal = _try(case, way, folder)
        if refusal is None:
            return "passed"
        refusals.append(f"{way.data}@{way.batch_axis}: {refusal}")
    return " | ".join(refusals) or "no input that can be data"


def _try(case: Case, way: Presentation, folder: Path) -> str | None:
    axis = way.batch_axis
    for number, expected in enumerate(case.outputs):
        path = folder / "node.onnx"
        path.write_bytes(presented(case, way, number).SerializeToString())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                imported = load_onnx(path, batch_axis=axis)
            n = 1 if axis is None else case.inputs[way.data[0]].shape[axis]
            imported.model.set_property(batch_size=n)
            imported.model.initialize(mode="inference")
        except UnsupportedModelError as error:
            return "; ".join(gap.reason for gap in error.gaps)
        except ArenaError as error:
            return f"{type(error).__name__}: {error}"
        names = [value.name for value in case.model.graph.input]
        x = {}
        for i in way.data:
            array = case.inputs[i].astype(np.float32)
            array = array[None] if axis is None else np.moveaxis(array, axis, 0)
            shape = imported.model.make_plan(mode="inference").layers
            layer = imported.inputs.get(names[i])
            if layer is None:
                continue
            (own,) = (one.output_shape for one in shape if one.name == layer)
            x[layer] = array.reshape(n, *own)
        try:
            found = imported.model.predict(x if len(x) > 1 else next(iter(x.values())))
        except NonFiniteDataError as error:
            return f"{type(error).__name__}: {error}"
        _compare(case, found, expected, axis, n)
    return None


def _compare(
    case: Case, found: Array, expected: Array, axis: int | None, n: int
) -> None:
    """Refuse values that differ; the batch may have moved to another axis."""
    assert found.size == expected.size, f"{case.name}: {found.shape} {expected.shape}"
    candidates = [expected]
    if axis is not None and n > 1:
        candidates += [
            np.moveaxis(expected, i, 0)
            for i, size in enumerate(expected.shape)
            if size == n and i
        ]
    near = [
        np.allclose(found.ravel(), one.ravel(), case.rtol, case.atol, equal_nan=True)
        for one in candidates
    ]
    worst = np.abs(found.ravel() - candidates[0].ravel()).max(initial=0)
    assert any(near), f"{case.name}: off by {worst}"
