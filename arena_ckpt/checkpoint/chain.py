"""A chain of stages, the actions on it, and the bytes and times that they take.

A chain has the stages 0 … S-1 and the cuts 0 … S. Cut j is the set of tensors that
cross from stage j-1 to stage j; cut 0 is the model's input, which is always held. A cut
may hold several tensors and share them with later cuts (skip connections): so bytes are
given for pairs, those of one cut *beside* another that is held. All bytes are exact;
times are in any one unit, of operations as well as of seconds.

A recompute schedule is a sequence of actions. What it keeps for later forms a stack:
each entry is a cut that was checkpointed, or all that a stage saved. Its bytes are
counted beside the entries under it. `replay` walks a schedule over the numbers of a
chain, and shares no code with the search for good schedules.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from arena_ckpt.operations.array_types import Integers


@dataclass(frozen=True, slots=True)
class SaveOption:
    """One way to run a stage forward so that its backward can follow.

    Attributes
    ----------
    saved_bytes : int
        Held beside the stage's input cut from its forward until its backward; the
        output cut is among them.
    forward_bytes : int
        Peak of the forward beside the input cut, derivatives left out.
    backward_bytes : int
        Peak of the backward beside the input cut, all included: both derivatives, what
        was saved and what is recomputed, workspaces, weight gradients.
    backward_time : float
        Time of the backward, with the recomputing of what this option dropped.
    """

    saved_bytes: int
    forward_bytes: int
    backward_bytes: int
    backward_time: float


@dataclass(frozen=True, slots=True)
class SoloOption:
    """One way to take a stage backward from its input cut and incoming derivative.

    Everything else that the backward needs is recomputed on demand.

    Attributes
    ----------
    peak_bytes : int
        Beside the input cut; both derivatives are among them.
    time : float
    """

    peak_bytes: int
    time: float


@dataclass(frozen=True, eq=False)
class Chain:
    """The numbers of a chain of S stages.

    Attributes
    ----------
    cut_bytes : int64 array, shape (S + 1, S + 1)
        ``[i, j]``, for i <= j: bytes of the tensors of cut j that are not in cut i.
    derivative_bytes : int64 array, shape (S + 1,)
        Bytes of the derivatives of each cut's tensors.
    sweep_bytes : int64 array, shape (S, S)
        ``[i, s]``, for i <= s: peak beside cut i while stage s runs forward and keeps
        nothing but its output cut; for i < s its input cut goes with it. Derivatives
        are left out.
    forward_time : float64 array, shape (S,)
    saves : tuple of tuple of SaveOption
        For each stage, at least one: the first keeps all, so that its backward
        recomputes nothing.
    solos : tuple of tuple of SoloOption
        For each stage, the first the fastest; none for the last stage, whose backward
        always follows a forward of its own.

    Raises
    ------
    ValueError
        Shapes that do not match, or numbers that are negative or not finite.
    """

    cut_bytes: Integers
    derivative_bytes: Integers
    sweep_bytes: Integers
    forward_time: np.ndarray[tuple[int], np.dtype[np.float64]]
    saves: tuple[tuple[SaveOption, ...], ...]
    solos: tuple[tuple[SoloOption, ...], ...]

    def __post_init__(self) -> None:
        n = len(self.forward_time)
        shapes = (
            ("cut_bytes", self.cut_bytes, (n + 1, n + 1), np.int64),
            ("derivative_bytes", self.derivative_bytes, (n + 1,), np.int64),
            ("sweep_bytes", self.sweep_bytes, (n, n), np.int64),
            ("forward_time", self.forward_time, (n,), np.float64),
        )
        for name, array, shape, dtype in shapes:
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"{name} of a chain of {n} stages is {array.dtype} {array.shape}, "
                    f"not {np.dtype(dtype)} {shape}"
                )
            bad = np.argwhere(~((array >= 0) & np.isfinite(array)))
            if len(bad):
                where = tuple(bad[0].tolist())
                raise ValueError(f"{name}{[*where]} is {array[where]}")
        if n == 0:
            raise ValueError("a chain has at least one stage")
        if len(self.saves) != n or len(self.solos) != n:
            raise ValueError(
                f"{n} stages, but save options for {len(self.saves)} and solo options "
                f"for {len(self.solos)} of them"
            )
        for stage in range(n):
            if not self.saves[stage] or (stage < n - 1) != bool(self.solos[stage]):
                raise ValueError(
                    f"stage {stage} of {n} has {len(self.saves[stage])} save options "
                    f"and {len(self.solos[stage])} solo options"
                )
            for save in self.saves[stage]:
                sizes = save.saved_bytes, save.forward_bytes, save.backward_bytes
                if not (min(sizes) >= 0 and 0 <= save.backward_time < np.inf):
                    raise ValueError(f"stage {stage} has {save}")
            for solo in self.solos[stage]:
                if not (solo.peak_bytes >= 0 and 0 <= solo.time < np.inf):
                    raise ValueError(f"stage {stage} has {solo}")

    def __len__(self) -> int:
        return len(self.forward_time)


class ActionKind(enum.Enum):
    """The kinds of actions on a stage; only BACKWARD and SOLO finish a stage."""

    CHECKPOINT = "checkpoint"
    """Run the stage forward; keep its input cut and its output cut."""
    SWEEP = "sweep"
    """Run the stage forward; keep its output cut only."""
    SAVE = "save"
    """Run the stage forward; keep the tensors that an option saves."""
    BACKWARD = "backward"
    """Run the stage backward from the tensors that an option saved."""
    SOLO = "solo"
    """Run the stage backward from its input cut alone."""


@dataclass(frozen=True, slots=True)
class Action:
    """One action of a recompute schedule.

    Attributes
    ----------
    kind : ActionKind
    stage : int
    option : int
        Index among the stage's save options (SAVE, BACKWARD) or solo options (SOLO).
    """

    kind: ActionKind
    stage: int
    option: int = 0


class ImpossibleActionError(ValueError):
    """An action of a recompute schedule lacks its input, which is a planner's bug."""


class Replay(NamedTuple):
    """The bytes and the time that a recompute schedule takes.

    Attributes
    ----------
    peak_bytes : int
        Beside the first cut.
    time : float
    peak_action : int
        The first action with that peak.
    """

    peak_bytes: int
    time: float
    peak_action: int


class _Held(NamedTuple):
    """An entry of the stack: a cut, or what an option saved of the stage before it."""

    cut: int
    option: int | None
    bytes_with_those_below: int


def replay(
    chain: Chain, actions: Iterable[Action], first: int = 0, stop: int | None = None
) -> Replay:
    """Carry out a recompute schedule on the numbers of a chain, or of a part of it.

    Parameters
    ----------
    chain : Chain
    actions : iterable of Action
    first, stop : int, optional
        Do the stages [first, stop) beside cut `first`, with the derivative of cut
        `stop` there.

    Returns
    -------
    Replay

    Raises
    ------
    ImpossibleActionError
        An action whose input is not held or that comes out of turn, or an end before
        all the stages went backward.

    Notes ----- A checkpoint is dropped before the stage in front of it goes backward. A
    checkpoint from which a sweep goes on is dropped as well, whether it was used or
    not.
    """
    stack = [_Held(first, None, 0)]
    todo = len(chain) if stop is None else stop  # the stages below go backward yet
    peak_bytes = peak_action = 0
    time = 0.0
    for index, action in enumerate(actions):
        _check(action, stack, todo, len(chain), index)
        stage, top = action.stage, stack[-1]
        held = top.bytes_with_those_below
        derivative = int(chain.derivative_bytes[todo])
        match action.kind:
            case ActionKind.CHECKPOINT | ActionKind.SWEEP:
                if action.kind is ActionKind.SWEEP:
                    stack.pop()
                base = stack[-1]
                held = base.bytes_with_those_below
                used = held + int(chain.sweep_bytes[base.cut, stage]) + derivative
                kept = int(chain.cut_bytes[base.cut, stage + 1])
                stack.append(_Held(stage + 1, None, held + kept))
                time += float(chain.forward_time[stage])
            case ActionKind.SAVE:
                save = chain.saves[stage][action.option]
                used = held + save.forward_bytes + derivative
                entry = _Held(stage + 1, action.option, held + save.saved_bytes)
                stack.append(entry)
                time += float(chain.forward_time[stage])
            case ActionKind.BACKWARD:
                save = chain.saves[stage][action.option]
                stack.pop()
                used = stack[-1].bytes_with_those_below + save.backward_bytes
                time += save.backward_time
                todo = stage
            case ActionKind.SOLO:
                solo = chain.solos[stage][action.option]
                used = held + solo.peak_bytes
                time += solo.time
                todo = stage
        while stack[-1].cut == todo and stack[-1].option is None and len(stack) > 1:
            stack.pop()
        if used > peak_bytes:
            peak_bytes, peak_action = used, index
    if todo > first:
        raise ImpossibleActionError(
            f"the schedule ends before stage {todo - 1} is done"
        )
    return Replay(peak_bytes, time, peak_action)


def _check(
    action: Action, stack: Sequence[_Held], todo: int, n_stages: int, index: int
) -> None:
    """Refuse an action that is impossible in the current state."""
    stage, top = action.stage, stack[-1]
    match action.kind:
        case ActionKind.CHECKPOINT:
            possible = top.cut == stage and stage + 1 < todo
        case ActionKind.SWEEP:
            is_checkpoint = top.option is None and len(stack) > 1
            possible = top.cut == stage and stage + 1 < todo and is_checkpoint
        case ActionKind.SAVE:
            possible = top.cut == stage and stage < todo
        case ActionKind.BACKWARD:
            saved = top.cut == stage + 1 and top.option == action.option
            possible = saved and stage + 1 == todo
        case ActionKind.SOLO:
            possible = top.cut == stage and stage + 1 == todo < n_stages
    if not possible:
        holding = f"what option {top.option} of stage {top.cut - 1} saved"
        raise ImpossibleActionError(
            f"action {index}, {action.kind.value} {stage} (option {action.option}), "
            f"is impossible: stages from {todo} on are done, and on top of what is "
            f"held lies {holding if top.option is not None else f'cut {top.cut}'}"
        )
