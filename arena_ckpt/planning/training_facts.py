"""What a plan states of the updates: the optimizer and its schedule, as text."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PlanPart:
    """An optimizer or a learning-rate schedule as text.

    Attributes
    ----------
    type_name : str
        For example ``"adam"``.
    properties : dict from str to str
        Every property with its value, also where that is the default.
    """

    type_name: str
    properties: dict[str, str] = field(hash=False)


@dataclass(frozen=True, slots=True)
class PlanTraining:
    """How an iteration of training changes the weights.

    Attributes
    ----------
    optimizer : PlanPart
    schedule : PlanPart or None
        The learning-rate schedule; without one the optimizer has the rate.
    clip_grad_by_norm : float or None
        The global norm to which gradients are scaled down.
    """

    optimizer: PlanPart
    schedule: PlanPart | None
    clip_grad_by_norm: float | None

    @property
    def parts(self) -> tuple[PlanPart, ...]:
        """The optimizer, and the schedule where there is one."""
        return (self.optimizer, *([self.schedule] if self.schedule else ()))
