"""Runs a plan on some batches and returns all results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arena_ckpt.common.names import tensor_name
from arena_ckpt.definition.model_definition import ModelDefinition
from arena_ckpt.engine.debug.runner import Watcher
from arena_ckpt.engine.program import StepNote
from arena_ckpt.engine.session import Session
from arena_ckpt.errors import NonFiniteError
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

    Recomputes that no plan of the model can have are left out; the checks report what
    is wrong with the existing plan.

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
        note=note,
        standardization=model.standardization,
    )


def run_trial(
    session: Session, batches: Sequence[Batch], watchers: Sequence[Watcher] = ()
) -> dict[str, Array]:
    """Compute gradients, train on every batch, compute gradients again, and predict.

    A plan of inference predicts: the first batch, and then every one.

    Weights that begin as equal values, such as biases, are moved a little first;
    otherwise a fault in their use would not show.

    Parameters
    ----------
    session : Session
    batches : sequence of (x, y)
    watchers : sequence of Watcher
        They see the first gradients and the step on the first batch, or the first
        prediction. Later steps run as in every training, unless other watchers are set.

    Returns
    -------
    dict from str to array
        Losses, gradients, predictions, weights and states, by what they are.
    """
    if session.plan.is_inference:
        return _run_predictions(session, batches, watchers)
    out: dict[str, Array] = {}

    def note_gradients(when: str) -> None:
        loss, gradients = session.compute_gradients(*batches[0])
        out[f"the {when} loss"] = np.array(loss)
        # The backward pass comes to the last layers first, and so does an error.
        for name in reversed(gradients):
            out[f"the {when} gradient of {name}"] = gradients[name]

    unsettle(session)
    for watcher in watchers:
        session.watch(watcher)
    note_gradients("first")
    for number, batch in enumerate(batches):
        loss = session.train_step(*batch)
        for watcher in watchers if number == 0 else ():
            session.unwatch(watcher)
        out[f"the loss of step {number}"] = np.array(loss)
    note_gradients("last")
    out |= _predictions("the prediction", session, batches[0])
    return out | _lasting(session, f"after {len(batches)} steps")


def _run_predictions(
    session: Session, batches: Sequence[Batch], watchers: Sequence[Watcher]
) -> dict[str, Array]:
    """Predict the first batch while it is watched, and then every one."""
    unsettle(session)
    for watcher in watchers:
        session.watch(watcher)
    out = _predictions("the first prediction", session, batches[0])
    for prediction in out.values():
        require_finite(prediction)
    for watcher in watchers:
        session.unwatch(watcher)
    return out | predictions(session, batches) | _lasting(session, "after them")


def predictions(session: Session, batches: Sequence[Batch]) -> dict[str, Array]:
    """Return what a session predicts for each batch."""
    out: dict[str, Array] = {}
    for number, batch in enumerate(batches):
        out |= _predictions(f"the prediction of batch {number}", session, batch)
    return out


def _predictions(what: str, session: Session, batch: Batch) -> dict[str, Array]:
    """Return predictions for a batch by what they are; of several losses one each."""
    return {
        f"{what}{f' of {loss}' if loss else ''}": array
        for loss, array in session.predictions(batch[0]).items()
    }


def _lasting(session: Session, when: str) -> dict[str, Array]:
    """Return copies of all weights and states."""
    out: dict[str, Array] = {}
    for tensor in session.plan.tensors:
        if tensor.kind in PERSISTENT:
            what = "weight" if tensor.kind is TensorKind.WEIGHT else "state"
            values = session.views.named(tensor.name)
            out[f"the {what} {tensor.name} {when}"] = values.copy()
    return out


def unsettle(session: Session) -> None:
    """Move trained weights that are all equal, by up to a tenth."""
    generator = np.random.default_rng(0)
    weights = session.weights()
    for node in session.graph.nodes:
        for weight in node.own_weights:
            name = tensor_name(node.name, weight.name)
            if weight.is_trained and not np.ptp(weights[name]):
                moves = generator.uniform(-0.1, 0.1, weight.shape)
                session.set_weights({name: weights[name] + moves.astype(np.float32)})


def require_finite(prediction: Array) -> None:
    """Refuse a prediction with NaN or infinity.

    Raises
    ------
    NonFiniteError
    """
    if not np.isfinite(prediction).all():
        raise NonFiniteError(
            "the model predicts NaN or infinity, so nothing can be compared; give "
            "samples for which it does not"
        )
