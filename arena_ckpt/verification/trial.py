"""Runs a plan on some batches and returns all results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arena_ckpt.common.names import tensor_name
from arena_ckpt.definition.model_definition import ModelDefinition
from arena_ckpt.engine.debug.runner import Watcher
from arena_ckpt.engine.program import StepNote
from arena_ckpt.engine.session import Session
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.planner import make_plan, reruns_of
from arena_ckpt.planning.recompute import possible_reruns
from arena_ckpt.planning.settings import PlanSettings
from arena_ckpt.planning.tensors import PERSISTENT, TensorKind
from arena_ckpt.verification.batches import Batch
from arena_ckpt.verification.bits import Array


def plan_again(
    model: ModelDefinition, plan: MemoryPlan, settings: PlanSettings | None = None
) -> MemoryPlan:
    """Plan a model again with the recomputes of an existing plan.

    Recomputes that no plan of the model can have are left out: what is wrong with the
    plan in question is for the checks to say.

    Parameters
    ----------
    model : ModelDefinition
    plan : MemoryPlan
    settings : PlanSettings, optional
        By default those of the plan.
    """
    graph = ModelPlans(model).graph_of(plan)
    settings = ModelPlans(model).settings_of(plan) if settings is None else settings
    return make_plan(graph, settings, possible_reruns(graph, reruns_of(plan)))


def open_session(
    model: ModelDefinition, plan: MemoryPlan, note: StepNote | None = None
) -> Session:
    """Return a session of a plan without comparing the plan with the model."""
    return Session(
        ModelPlans(model).graph_of(plan),
        plan,
        model.optimizer,
        model.schedule,
        seed=int(model.seed),
        max_norm=model.get_property("clip_grad_by_norm"),
        threads=model.get_property("threads"),
        note=note,
    )


def run_trial(
    session: Session, batches: Sequence[Batch], watchers: Sequence[Watcher] = ()
) -> dict[str, Array]:
    """Compute gradients, train on every batch, compute gradients again, and predict.

    Weights that begin as zeros or ones, biases and the like, are moved a little first:
    a fault in what they do would not show.

    Parameters
    ----------
    session : Session
    batches : sequence of (x, y)
    watchers : sequence of Watcher
        They see the first gradients and the step on the first batch. After that steps
        run as in every training, but where others watch the session.

    Returns
    -------
    dict from str to array
        Losses, gradients, predictions, weights and states, by what they are.
    """
    out: dict[str, Array] = {}

    def note_gradients(when: str) -> None:
        loss, gradients = session.compute_gradients(*batches[0])
        out[f"the {when} loss"] = np.array(loss)
        # The backward pass comes to the last layers first, and so does an error.
        for name in reversed(gradients):
            out[f"the {when} gradient of {name}"] = gradients[name]

    _unsettle(session)
    for watcher in watchers:
        session.watch(watcher)
    note_gradients("first")
    for number, batch in enumerate(batches):
        loss = session.train_step(*batch)
        for watcher in watchers if number == 0 else ():
            session.unwatch(watcher)
        out[f"the loss of step {number}"] = np.array(loss)
    note_gradients("last")
    out["the prediction"] = session.predict(batches[0][0])
    for tensor in session.plan.tensors:
        if tensor.kind in PERSISTENT:
            what = "weight" if tensor.kind is TensorKind.WEIGHT else "state"
            values = session.views.named(tensor.name)
            out[f"the {what} {tensor.name} after {len(batches)} steps"] = values.copy()
    return out


def _unsettle(session: Session) -> None:
    """Move trained weights that are all equal, by up to a tenth."""
    generator = np.random.default_rng(0)
    weights = session.weights()
    for node in session.graph.nodes:
        for weight in node.own_weights:
            name = tensor_name(node.name, weight.name)
            if weight.is_trained and not np.ptp(weights[name]):
                moves = generator.uniform(-0.1, 0.1, weight.shape)
                session.set_weights({name: weights[name] + moves.astype(np.float32)})
