"""Exports a model as a C project: plan it, train it a little, write it down."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from arena_ckpt.allocation.integers import is_whole
from arena_ckpt.boards import Board, load_board
from arena_ckpt.c_export.packages import require_package
from arena_ckpt.c_export.project import CProject, make_project, write_project
from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.arithmetics import PORTABLE
from arena_ckpt.common.progress import compile_progress
from arena_ckpt.common.wording import quoted
from arena_ckpt.data.dataset import Dataset
from arena_ckpt.device.reference_run import Batch, run_reference
from arena_ckpt.device.targets import target_of
from arena_ckpt.engine.arena import check_fits
from arena_ckpt.engine.session import Session
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.files.source import path_text
from arena_ckpt.graph.features import require_statistics
from arena_ckpt.graph.weight_inputs import weighted_pair
from arena_ckpt.model import Model, copy_of
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.settings import TRAIN
from arena_ckpt.training.device_states import exported_of
from arena_ckpt.verification.batches import batches_of, make_batches

N_STEPS = 20
"""Number of steps that the test of a project compares."""

MOST_STEPS = 10_000

MOST_BATCHES = 4
MOST_TEST_VALUES = 2**18
"""Maximum number of batches of a test, and about that of their values together."""


@public_call
def export_c(
    model: Model,
    folder: str | os.PathLike[str],
    *,
    name: str = "model",
    mode: str = TRAIN,
    steps: int = N_STEPS,
    data: tuple[Any, Any] | Dataset | None = None,
    plan: MemoryPlan | None = None,
    board: Board | str | Path | None = None,
    package: str | None = None,
    **request: Any,
) -> CProject:
    """Write a C99 project that trains a model to the same bits as here.

    Parameters
    ----------
    model : Model
        It is not changed. Where it is initialized, the project begins with its weights,
        with states of the optimizer and an iteration of zero.
    folder : path
        Made where it is missing; a project of the same name in it is replaced.
    name : str
        With which functions, macros and files begin.
    mode : {"train", "inference"}
        ``"inference"`` gives a project that predicts and does nothing else.
    steps : int
        Number of steps that the test of the project compares, at most `MOST_STEPS`.
    data : (x, y) or Dataset, optional
        Of which the test takes batches; without, they are made up.
    plan : MemoryPlan, optional
        A plan of the model, in portable arithmetic; by default one is made.
    board : Board, or what `load_board` takes, optional
        The plan has to fit on it, and ``board/BOARD.ld`` places it there.
    package : {"arduino", "platformio", "zephyr", "esp-idf"}, optional
        Makes the folder a package of that platform, too.
    **request
        What `Model.make_plan` takes, such as ``budget="256KiB"``.

    Returns
    -------
    CProject
        What was written.

    Raises
    ------
    CExportError
        The model has layers, or a plan, that cannot be exported; all are named, and
        nothing is written.
    BoardFitError
        The plan does not fit on the board.
    InvalidParameterError
        The model asks for fast arithmetic, or a number makes no sense.
    UnwritableFileError
        The folder holds other files, or cannot be written.
    """
    if not isinstance(model, Model):
        raise InvalidParameterError(
            f"{quoted(model)} is no model; give a Model, or build one from a file with "
            "load_ini",
            model=model,
        )
    if not is_whole(steps) or not 1 <= steps <= MOST_STEPS:
        raise InvalidParameterError(
            f"steps={quoted(steps)} is not possible; give how many steps the test of "
            f"the project compares, from 1 to {MOST_STEPS:,}",
            steps=steps,
        )
    project = make_c_project(
        model,
        name=name,
        mode=mode,
        steps=steps,
        data=data,
        plan=plan,
        board=board,
        package=package,
        **request,
    )
    write_project(project, folder)
    return project


def make_c_project(
    model: Model,
    *,
    name: str = "model",
    mode: str = TRAIN,
    steps: int = N_STEPS,
    data: tuple[Any, Any] | Dataset | None = None,
    plan: MemoryPlan | None = None,
    board: Board | str | Path | None = None,
    package: str | None = None,
    **request: Any,
) -> CProject:
    """Return the project that `export_c` writes."""
    require_package(package)
    spec = ""
    if board is not None and not isinstance(board, Board):
        spec = path_text(board)
        board = load_board(spec)
    portable = in_portable_arithmetic(model)
    plans = ModelPlans(portable)
    if plan is None and model.is_initialized and not request:
        own = model.plan
        is_own = own.mode == mode and all(
            model.get_property(name) == portable.get_property(name)
            for name in ("arithmetic", "threads")
        )
        plan = own if is_own and not own.canary_bytes else None
    if plan is None:
        plan = portable.make_plan(mode=mode, **request)
    else:
        plans.require_mode_of(plan, mode)
        plans.require_own_plan(plan)
    target = None if board is None else target_of(board, plan, spec)
    check_fits(plan.host_bytes, "the arena")
    graph = plans.graph_of(plan)
    require_statistics(graph, model.standardization, "export_c")
    with compile_progress() as report:
        session = Session(
            graph,
            plan,
            portable.optimizer,
            portable.schedule,
            seed=portable.seed,
            max_norm=portable.get_property("clip_grad_by_norm"),
            report=report,
            standardization=model.standardization,
        )
    if model.is_initialized:
        session.set_weights(model.weights())
    exported = replace(exported_of(session, session.weights()), classes=model.classes)
    is_training = mode == TRAIN
    batches = _batches(session, data, is_training)
    reference = run_reference(session, batches, steps if is_training else 0)
    return make_project(exported, name, reference, package=package, target=target)


def in_portable_arithmetic(model: Model) -> Model:
    """Return a copy of a model that plans in portable arithmetic, for one thread.

    Raises
    ------
    InvalidParameterError
        The model asks for another.
    """
    asked = model.properties.get("arithmetic", PORTABLE)
    if asked != PORTABLE:
        raise InvalidParameterError(
            f"the model asks for arithmetic={quoted(asked)}, whose bits no other "
            "machine can promise; leave it out, or set arithmetic='portable'",
            arithmetic=asked,
        )
    portable = copy_of(model)
    portable.set_property(arithmetic=PORTABLE, threads=1)  # C has one
    return portable


def _batches(
    session: Session, data: tuple[Any, Any] | Dataset | None, is_training: bool
) -> Sequence[Batch]:
    """Return whole batches of data, or made up ones; few where samples are large."""
    plan, graph = session.plan, session.graph
    values = sum(np.prod(shape) for shape in session.inputs.values())
    fitting = MOST_TEST_VALUES // int(values * plan.batch_size)
    n_batches = max(1, min(MOST_BATCHES, fitting))
    size = plan.batch_size if is_training else plan.pass_samples
    if data is None:
        return make_batches(graph, size, n_batches, size)
    data = weighted_pair(graph, data)
    if isinstance(data, Dataset):
        x, y = data.x, data.y
    elif isinstance(data, tuple) and len(data) == 2:
        x, y = data
    else:
        raise InvalidParameterError(
            f"data={quoted(data)} is not possible; give a Dataset, or samples and "
            "labels as (x, y)",
            data=data,
        )
    needs_labels = is_training and graph.takes_labels
    return batches_of(x, y, size, n_batches, size, needs_labels=needs_labels)
