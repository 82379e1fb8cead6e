"""Loads models by name or path: examples, files of models, Python functions."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena_ckpt.cli.data_options import load_data
from arena_ckpt.cli.example_sizes import split_sizes
from arena_ckpt.cli.loss_option import given_loss, parse_loss
from arena_ckpt.cli.script import functions_in, load_script
from arena_ckpt.common.user_line import warn_user
from arena_ckpt.common.wording import nearest
from arena_ckpt.data.dataset import Dataset
from arena_ckpt.errors import (
    BatchStatisticsError,
    InvalidParameterError,
    LossError,
    ModelWarning,
)
from arena_ckpt.examples import EXAMPLES, load_example
from arena_ckpt.graph.hints import RESTARTS, Hint, restart_hint
from arena_ckpt.importers.ini import load_ini
from arena_ckpt.importers.saved_model import read_saved
from arena_ckpt.model import Model
from arena_ckpt.model import without_blocks as without_blocks
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.planner import reruns_of
from arena_ckpt.planning.settings import INFERENCE, TRAIN
from arena_ckpt.training.loop import batches_of
from arena_ckpt.training.saved_state import SavedState

_NO_MODELS = {
    ".npz": "an .npz holds data, or weights without layers; name the model that the "
    "weights are of, and give them to 'predict' or 'evaluate' with --weights {spec}. "
    "'arena-ckpt train MODEL --save OUT.safetensors' writes both in one file",
    ".json": "a plan has no layers; 'report' takes it as it is, and every other "
    "command the model that it is a plan of",
}
"""Suffixes of files of this package that hold no model, and what to do with them."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model and what came with it.

    Attributes
    ----------
    model : Model
    data, validation : Dataset or None
    state : SavedState or None
        Weights, optimizer states and iteration of a saved model, which is not
        initialized, so that its plan can still be chosen.
    brings_weights : bool
        The file of the model holds its weights, with which it begins.
    import_verdict : str or None
        What a comparison with PyTorch has found, where there was one.
    """

    model: Model
    data: Dataset | None = None
    validation: Dataset | None = None
    state: SavedState | None = None
    brings_weights: bool = False
    import_verdict: str | None = None


def load_model(
    spec: str, loss: str | None = None, *, check: bool = False
) -> LoadedModel:
    """Load the model that an argument of the command line names.

    Parameters
    ----------
    spec : str
        The name of a bundled example, perhaps with sizes (``NAME(SIZE=VALUE)``),
        ``PATH.ini``, ``PATH.py:FUNCTION``, ``PATH.onnx`` or ``PATH.safetensors``.
    loss : str, optional
        Of a ``PATH.onnx``; by default what the command was given as ``--loss``.
    check : bool
        Compare a PyTorch module that a function returns with what is made of it.

    Raises
    ------
    InvalidParameterError
        It stands for nothing, or for something that builds no model.
    UnknownTypeError
        Sizes of an example that does not exist.
    SavedStateError
        A saved model that cannot be read.
    """
    loss = given_loss() if loss is None else loss
    suffix = Path(spec).suffix.lower()
    if suffix == ".onnx":
        parsed = None if loss is None else parse_loss(loss)
        from arena_ckpt.importers.onnx_import import load_onnx  # and all its rules

        model = load_onnx(_existing(spec), loss=parsed).model
        return LoadedModel(model, brings_weights=True)
    if loss is not None:
        raise InvalidParameterError(
            f"--loss {loss} is for a PATH.onnx, which brings no loss; {spec} has its "
            "own, so leave it out",
            model=spec,
            loss=loss,
        )
    named = split_sizes(spec)
    if named or spec in EXAMPLES:
        name, sizes = named or (spec, {})
        example = load_example(name, **sizes)
        return LoadedModel(example.model, example.data, example.validation)
    path, colon, function = spec.rpartition(":")
    if colon and path.endswith(".py"):
        made = load_script(_existing(path), function, check=check)
        if isinstance(made, tuple):
            return LoadedModel(*made)
        verdict = None if made.check is None else made.check.verdict
        return LoadedModel(made.model, brings_weights=True, import_verdict=verdict)
    if spec.endswith(".py"):
        known = functions_in(_existing(spec))
        raise InvalidParameterError(
            f"{spec} needs the function that builds the model, for example "
            f"{spec}:{known[0] if known else 'build'}; it has "
            f"{', '.join(known) or 'no functions'}",
            model=spec,
        )
    if spec.lower().endswith(".ini"):
        return LoadedModel(load_ini(_existing(spec)))
    if suffix == ".safetensors":
        saved = read_saved(_existing(spec))
        return LoadedModel(saved.model, state=saved.state)
    if suffix in _NO_MODELS:
        reason = _NO_MODELS[suffix].format(spec=spec)
        raise InvalidParameterError(f"{spec} is no model: {reason}", model=spec)
    raise InvalidParameterError(
        f"{spec!r} is no model{nearest(spec, EXAMPLES)}; give a PATH.ini, a "
        "PATH.onnx, a PATH.py:FUNCTION, a saved PATH.safetensors or an example, one of "
        f"{', '.join(EXAMPLES)}",
        model=spec,
    )


def _existing(name: str) -> Path:
    path = Path(name)
    if os.path.isfile(path):
        return path
    beside: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        names = os.listdir(path.parent)
        beside = sorted(n for n in names if n.endswith(path.suffix))
    raise InvalidParameterError(
        f"there is no file {name}{nearest(path.name, beside)}", path=name
    )


def plan_to_compare(
    model: Model, plan: MemoryPlan, *, debug: bool
) -> MemoryPlan | None:
    """Return the plan of a model without recomputing, or None if the plan has none."""
    micro_batches = model.get_property("micro_batches")
    recomputes = plan.blocks or reruns_of(plan)
    if not recomputes and plan.micro_batches == micro_batches:
        return None
    constants = "flash" if plan.constant_bytes else "arena"
    return without_blocks(model).make_plan(debug=debug, constants=constants)


def plan_of_other_mode(
    model: Model, plan: MemoryPlan, *, debug: bool
) -> MemoryPlan | None:
    """Return the plan of inference beside one of training, or the reverse.

    None where the model cannot be trained as it is.
    """
    mode = TRAIN if plan.is_inference else INFERENCE
    try:
        return model.make_plan(debug=debug, mode=mode)
    except (LossError, BatchStatisticsError):
        return None


def warnings_of(model: Model, data: Dataset | None) -> tuple[Hint, ...]:
    """Return the warnings about a model, those about its data at the end.

    Parameters
    ----------
    model : Model
    data : Dataset or None
        With it the number of iterations of a training is known.
    """
    hints = model.warnings()
    if data is None or any(hint.kind == RESTARTS for hint in hints):
        return hints
    properties = map(model.get_property, ("batch_size", "drop_last", "epochs"))
    batch_size, drop_last, epochs = properties
    stop = epochs * batches_of(data.n_samples, batch_size, drop_last)
    restart = restart_hint(model.schedule, 0, stop)
    return hints if restart is None else (*hints, restart)


def with_told(hints: tuple[Hint, ...], model: Model) -> tuple[Hint, ...]:
    """Return warnings, and behind them those others that a training has issued."""
    return (*hints, *(hint for hint in model._told if hint not in hints))


def warn_of(model: Model, data: Dataset | None) -> tuple[Hint, ...]:
    """Issue and return the warnings about a model and its data."""
    model.compile()
    hints = warnings_of(model, data)
    for hint in hints[len(model.warnings()) :]:
        warn_user(hint.message, ModelWarning)
    return hints


def choose_data(
    loaded: LoadedModel,
    spec: str,
    data: str | None,
    validation: str | None,
    validation_fraction: float | None,
    seed: int,
    *,
    tables: Mapping[str, Any],
    split: str | None = None,
) -> tuple[Dataset, Dataset | None]:
    """Return training and validation data; options come before the data of MODEL.

    Parameters
    ----------
    loaded : LoadedModel
    spec : str
        Name of the model in messages.
    data, validation : str or None
    validation_fraction : float or None
        Share of the training data that is put aside for validation.
    seed : int
    tables : mapping
        Options of `load_csv` for those data that are tables.
    split : {None, "random", "stratified", "last"}
        Which samples are put aside.
    """
    options = dict(tables)
    if options.get("missing") == "mean" and loaded.model.column_means:
        options["missing"] = loaded.model.column_means
    training = loaded.data if data is None else load_data(data, options)
    if training is None:
        raise InvalidParameterError(
            f"{spec} comes without data; give --data, for example --data digits or "
            "--data train.npz",
            model=spec,
        )
    if validation_fraction is not None:
        return training.split(
            validation_fraction,
            seed,
            stratify=split == "stratified",
            shuffle=split != "last",
        )
    if validation is not None:
        if training.gaps is not None:
            options["missing"] = training.gaps.means
        beside = load_data(validation, options)
        if training.classes and beside.classes:
            beside = beside.with_classes(training.classes)
        return training, beside
    return training, loaded.validation if data is None else None
