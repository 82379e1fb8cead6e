"""Verifies a model: runs all checks, and returns what each proved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arena_ckpt.common.arguments import public_call, require_callback
from arena_ckpt.common.short_repr import short_repr, shortened
from arena_ckpt.common.wording import quoted
from arena_ckpt.data.dataset import Dataset
from arena_ckpt.errors import InvalidParameterError, NonFiniteError
from arena_ckpt.graph.weight_inputs import weighted_pair
from arena_ckpt.model import Model, copy_of, pair_of, standardize_as_asked
from arena_ckpt.model_plans import ModelPlans, asked, require_mode
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.settings import TRAIN
from arena_ckpt.verification.batches import (
    Batch,
    batches_of,
    make_batches,
    smaller_batch,
)
from arena_ckpt.verification.check_runner import Check as Check
from arena_ckpt.verification.check_runner import CheckRunner, FindBatches
from arena_ckpt.verification.checks import Checks
from arena_ckpt.verification.child_process import Voice, call_apart
from arena_ckpt.verification.trial import open_session, plan_again, require_finite

N_BATCHES = 3
"""Number of training steps of each run; the last has fewer samples."""


@public_call
@dataclass(frozen=True, slots=True)
class Verification:
    """Result of `verify`.

    Attributes
    ----------
    checks : tuple of Check
        In the order in which they ran.
    data : str
        What the model was trained on.
    """

    checks: tuple[Check, ...]
    data: str

    def __repr__(self) -> str:
        return short_repr(self, "", self.verdict, shortened(self.data))

    def __str__(self) -> str:
        """Return the verdict with a line for each check."""
        marks = {True: "passed", False: "FAILED", None: "left out"}
        lines = [f"{marks[c.passed]:8}  {c.name}: {c.finding}" for c in self.checks]
        return "\n".join([self.verdict, *lines])

    @property
    def passed(self) -> bool:
        """Whether no check found a defect."""
        return all(check.passed is not False for check in self.checks)

    @property
    def verdict(self) -> str:
        """One sentence that sums up the checks."""
        failed = [check.name for check in self.checks if check.passed is False]
        if failed:
            return f"defect found by {_checks(len(failed))}: {', '.join(failed)}"
        n_passed = sum(check.passed is True for check in self.checks)
        left_out = len(self.checks) - n_passed
        rest = f", {left_out} left out" if left_out else ""
        return f"verified: {_checks(n_passed)} passed{rest}"


def _checks(n: int) -> str:
    return "1 check" if n == 1 else f"{n} checks"


@public_call(
    hint="give samples and labels as one pair, verify(model, (x, y)), or a Dataset"
)
def verify(
    model: Model,
    data: Dataset | tuple[Any, Any] | None = None,
    *,
    on_check: Callable[[Check], object] | None = None,
    command: Sequence[str] | None = None,
    budget: str | int | None = None,
    max_overhead: str | float | None = None,
    allow: str | Iterable[str] | None = None,
    levels: int | None = None,
    measure: bool = False,
    keep: str | Iterable[str] | None = None,
    drop: str | Iterable[str] | None = None,
    constants: str | None = None,
    memories: Mapping[str, str | int] | None = None,
    pin: Mapping[str, str | tuple[str, int]] | None = None,
    mode: str = TRAIN,
) -> Verification:
    """Check a model's plan, its memory, its bits and its gradients; change nothing.

    Parameters
    ----------
    model : Model
        Copies of it are trained. Of an initialized one its plan is verified, else the
        one that `budget` and so on ask for.
    data : Dataset or (x, y), optional
        To train on; without, samples and labels are made up to fit.
    on_check : callable, optional
        Called with each `Check` when it has run.
    command : sequence of str, optional
        How another process builds the model; by default from its INI text.
    budget, max_overhead, allow, levels, measure, keep, drop
        See `Model.choose_plan`.
    constants, memories, pin
        See `Model.choose_plan`.
    mode : {"train", "inference"}
        What to plan; see `Model.make_plan`. An initialized model has its own mode.

    Returns
    -------
    Verification
        Its `passed` is false if a defect was found.

    Raises
    ------
    InvalidParameterError, GraphError, DataError
        The model, the request or the data cannot be used.
    NonFiniteError
        The model's loss is NaN or infinite on these data, so nothing can be compared.
    CrashError
        A kernel crashed while its time was measured, which `request` asks for. Any
        other crash is a finding of the check under way.
    ArenaTooLargeError
        Without reuse the model does not fit the memory that is free.
    """
    if not isinstance(model, Model):
        raise InvalidParameterError(
            f"model is a {type(model).__name__}; expected a Model", model=model
        )
    if on_check is not None:
        require_callback("on_check", on_check, "a Check")
    if command is not None and not (
        isinstance(command, list | tuple)
        and command
        and all(isinstance(word, str) for word in command)
    ):
        raise InvalidParameterError(
            f"command={quoted(command)} is not possible; give the words of a command "
            "as a list, for example ['python', 'again.py']",
            command=command,
        )
    request = asked(
        budget=budget,
        max_overhead=max_overhead,
        allow=allow,
        levels=levels,
        measure=measure,
        keep=keep,
        drop=drop,
        constants=constants,
        memories=memories,
        pin=pin,
    )
    if mode != TRAIN:
        require_mode(mode)
        request["mode"] = mode
    plan, again = _plan_of(model, request)
    own = copy_of(model)
    if data is not None:
        standardize_as_asked(own, data)
    batches, find, described = _batches(own, plan, data)
    checks = Checks(own, plan, batches, replan=again, command=command)
    runner = CheckRunner(checks, on_check, find)
    return Verification(runner.run(), described)


def _plan_of(
    model: Model, request: dict[str, Any]
) -> tuple[MemoryPlan, Callable[[], MemoryPlan] | None]:
    """Return the plan to verify, and a function that makes it again from scratch."""
    if model.is_initialized:
        if request.get("mode") == model.plan.mode:
            del request["mode"]
        if request:
            raise InvalidParameterError(
                f"the model is initialized, so its own plan is verified; leave out "
                f"{', '.join(request)}, or verify a new Model"
            )
        plan = model.plan
        if not plan.canary_bytes:
            return plan, None
        return plan_again(model, plan), None
    plan = planned(model, request)
    if request.get("measure"):  # times differ from run to run
        return plan, None
    return plan, lambda: copy_of(model).make_plan(**request)


def planned(model: Model, request: dict[str, Any]) -> MemoryPlan:
    """Return the plan that a request asks for; measuring its costs may crash.

    Raises
    ------
    CrashError
    """
    if request.get("measure"):
        return call_apart(lambda: model.make_plan(**request))
    return model.make_plan(**request)


def _batches(
    model: Model, plan: MemoryPlan, data: Dataset | tuple[Any, Any] | None
) -> tuple[list[Batch], FindBatches | None, str]:
    """Return batches, a function that finds others if these are made up, and a name."""
    size, graph = plan.batch_size, ModelPlans(model).graph_of(plan)
    is_inference = plan.is_inference
    last = smaller_batch(graph, size, plan.pass_samples)
    shape = f"{N_BATCHES} batches of {size}, the last of {last}"
    if data is not None:
        name = data.name if isinstance(data, Dataset) else "the given data"
        batches = batches_of(
            *pair_of(weighted_pair(graph, data)),
            size,
            N_BATCHES,
            last,
            needs_labels=not is_inference and graph.takes_labels,
        )
        return batches, None, f"{name}: {shape}"
    batches = make_batches(graph, size, N_BATCHES, last)

    def find(voice: Voice) -> list[Batch]:
        try:
            session = open_session(model, plan, voice.follow(plan))
            if is_inference:
                for prediction in session.predictions(batches[0][0]).values():
                    require_finite(prediction)
            else:
                session.compute_gradients(*batches[0])
        except NonFiniteError:
            return make_batches(graph, size, N_BATCHES, last, positive=True)
        return batches

    made_up = "samples" if is_inference else "samples and labels"
    return batches, find, f"made-up {made_up}: {shape}"
