"""Decides for each execution whether its result takes the bytes of an operand.

A result takes the bytes of an operand where the layer offers that and no later step
reads the operand. So the same layer can run in place in the forward pass, where its
input is dropped, and not in the recompute, where the backward pass reads the input.
"""

from __future__ import annotations

from dataclasses import dataclass

from arena_ckpt.common.phases import Phase
from arena_ckpt.graph.build import Graph
from arena_ckpt.layers.spec import InPlace
from arena_ckpt.planning.tensors import (
    Access,
    Execution,
    LiveRange,
    Operand,
    TensorKind,
)

Groups = tuple[tuple[int, ...], ...]
"""Indices of the tensors that share bytes, a tuple for each buffer."""

_NEVER_SHARED = (
    TensorKind.WEIGHT,
    TensorKind.OPTIMIZER_STATE,
    TensorKind.GRADIENT,
    TensorKind.WORKSPACE,
)


def share(
    graph: Graph, tensors: tuple[LiveRange, ...], executions: tuple[Execution, ...]
) -> Groups:
    """Return the groups of tensors that share their bytes, decided in order of time.

    Parameters
    ----------
    graph : Graph
        Graph whose layers offer operation in place.
    tensors : tuple of LiveRange
    executions : tuple of Execution
        Executions in order of time.

    Returns
    -------
    tuple of tuple of int

    Notes
    -----
    Takes O(executions), times the later updates of a group.
    """
    updates: dict[int, list[int]] = {}
    for execution in executions:
        for operand in execution.operands:
            if operand.access is Access.UPDATE:
                updates.setdefault(operand.tensor, []).append(execution.step)
    groups = _Groups(tensors, updates)
    for execution in executions:
        offered = graph.node(execution.layer).spec.in_place
        if not offered:
            continue
        phase = _offered(execution.phase)
        offers = [
            (offer, result)
            for offer in offered
            if offer.phase is phase and (result := execution.operand(offer.result))
        ]
        # A result that later steps add into lets no other tensor share: it goes last.
        offers.sort(key=lambda pair: pair[1].tensor in updates)
        for offer, result in offers:
            for operand in _takeable(execution, offer, groups):
                group, new = groups[operand.tensor], groups[result.tensor]
                if _fits(tensors, group, result.tensor, new, offer, execution.step):
                    group.add(new)
                    groups[result.tensor] = group
                    if not offer.is_view:
                        group.overwritten = execution.step
                    break
    shared = (tuple(sorted(group.members)) for group in groups.values())
    of_first = {members[0]: members for members in shared}
    return tuple(
        of_first.get(index, (index,))
        for index in range(len(tensors))
        if index not in groups or index in of_first
    )


@dataclass(slots=True)
class _Group:
    """Tensors that share their bytes.

    Attributes
    ----------
    members : list of int
        Indices of the tensors.
    stop : int
        The first step after the last read of any of them.
    updates : list of int
        Steps that add into one of them.
    overwritten : int or None
        The last step at which a result overwrote an operand.
    """

    members: list[int]
    stop: int
    updates: list[int]
    overwritten: int | None = None

    def add(self, other: _Group) -> None:
        self.members.extend(other.members)
        self.stop = max(self.stop, other.stop)
        self.updates = [*self.updates, *other.updates]


class _Groups(dict[int, _Group]):
    """The groups of tensors that may share; at first each is alone."""

    def __init__(
        self, tensors: tuple[LiveRange, ...], updates: dict[int, list[int]]
    ) -> None:
        super().__init__()
        self._tensors = tensors
        self._updates = updates

    def __missing__(self, index: int) -> _Group:
        alone = _Group([index], self._tensors[index].stop, self._updates.get(index, []))
        self[index] = alone
        return alone


def _offered(phase: Phase) -> Phase:
    return Phase.FORWARD if phase is Phase.RECOMPUTE else phase


def _takeable(execution: Execution, offer: InPlace, groups: _Groups) -> list[Operand]:
    """Return the offered operands whose bytes have no other role in this step.

    A layer with several kernels may read another role after the result is written.
    """
    found = []
    for role in offer.operands:
        operand = execution.operand(role)
        if operand is None:
            continue
        group = groups[operand.tensor]
        others = [o for o in execution.operands if o.role != role]
        if offer.is_view or all(groups.get(o.tensor) is not group for o in others):
            found.append(operand)
    return found


def _fits(
    tensors: tuple[LiveRange, ...],
    group: _Group,
    result: int,
    new: _Group,
    offer: InPlace,
    step: int,
) -> bool:
    """Tell whether the tensor `result`, written at `step`, can take a group's bytes."""
    tensor, old = tensors[result], tensors[group.members[0]]
    if group is new or tensor.start != step:
        return False
    if old.kind in _NEVER_SHARED or old.size_bytes != tensor.size_bytes:
        return False
    if offer.is_view and group.overwritten == step:
        return False  # another result of this step has overwritten the operand
    if not offer.is_view and group.stop > step + 1:
        return False  # a later step reads what the result would overwrite
    # Tensors may share bytes only if no later step adds into one of them while
    # another is still to be read.
    if any(group.stop > update for update in new.updates):
        return False
    group.updates = [update for update in group.updates if update >= step]
    return all(tensor.stop <= update for update in group.updates)
