"""Which tensors share their bytes, decided anew for each execution.

A result takes the memory of an operand where its layer offers that and no later reader
would find changed bytes. So the same layer can run in place in the forward pass, where
its input is dropped, and not in the recompute, where the backward pass reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

from arena_ckpt.common.phases import Phase
from arena_ckpt.graph.build import Graph
from arena_ckpt.layers.base import InPlace
from arena_ckpt.planning.tensors import (
    Access,
    Execution,
    LiveRange,
    Operand,
    TensorKind,
)

Groups = tuple[tuple[int, ...], ...]
"""Tensors by index; every tensor is in exactly one group."""

_NEVER_SHARED = (
    TensorKind.WEIGHT,
    TensorKind.OPTIMIZER_STATE,
    TensorKind.GRADIENT,
    TensorKind.WORKSPACE,
)


def share(
    graph: Graph, tensors: tuple[LiveRange, ...], executions: tuple[Execution, ...]
) -> Groups:
    """Group tensors that can share their bytes, deciding in order of time.

    Parameters
    ----------
    graph : Graph
        Its layers offer operation in place.
    tensors : tuple of LiveRange
    executions : tuple of Execution
        In order of time.

    Returns
    -------
    tuple of tuple of int

    Notes
    -----
    O(executions), and the updates of a group that are still to come.
    """
    updates: dict[int, list[int]] = {}
    for execution in executions:
        for operand in execution.operands:
            if operand.access is Access.UPDATE:
                updates.setdefault(operand.tensor, []).append(execution.step)
    group_of = [
        _Group([index], tensor.stop, updates.get(index, []))
        for index, tensor in enumerate(tensors)
    ]
    for execution in executions:
        offers = [
            (offer, result)
            for offer in graph.node(execution.layer).spec.in_place
            if offer.phase is _offered(execution.phase)
            and (result := execution.operand(offer.result))
        ]
        # A result that others add to later keeps everybody else out: it goes last.
        offers.sort(key=lambda pair: pair[1].tensor in updates)
        for offer, result in offers:
            for operand in _takeable(execution, offer, group_of):
                group, new = group_of[operand.tensor], group_of[result.tensor]
                if _fits(tensors, group, result.tensor, new, offer, execution.step):
                    group.add(new)
                    group_of[result.tensor] = group
                    if not offer.is_view:
                        group.overwritten = execution.step
                    break
    distinct = {id(group): group.members for group in group_of}
    return tuple(sorted(tuple(sorted(members)) for members in distinct.values()))


@dataclass(slots=True)
class _Group:
    """Tensors that share their bytes.

    Attributes
    ----------
    members : list of int
    stop : int
        When the last of them is read.
    updates : list of int
        Steps at which somebody adds to one of them.
    overwritten : int or None
        The last step at which a result took the place of an operand.
    """

    members: list[int]
    stop: int
    updates: list[int]
    overwritten: int | None = None

    def add(self, other: _Group) -> None:
        self.members.extend(other.members)
        self.stop = max(self.stop, other.stop)
        self.updates = [*self.updates, *other.updates]


def _offered(phase: Phase) -> Phase:
    return Phase.FORWARD if phase is Phase.RECOMPUTE else phase


def _takeable(
    execution: Execution, offer: InPlace, group_of: list[_Group]
) -> list[Operand]:
    """Return the offered operands whose bytes stand in no other role of this step.

    A layer with several kernels may read another role after the result is written.
    """
    found = []
    for role in offer.operands:
        operand = execution.operand(role)
        if operand is None:
            continue
        group = group_of[operand.tensor]
        others = [o for o in execution.operands if o.role != role]
        if offer.is_view or all(group_of[o.tensor] is not group for o in others):
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
    """Tell whether `result`, born at `step`, can take the bytes of `group`."""
    tensor, old = tensors[result], tensors[group.members[0]]
    if group is new or tensor.start != step:
        return False
    if old.kind in _NEVER_SHARED or old.size_bytes != tensor.size_bytes:
        return False
    if offer.is_view and group.overwritten == step:
        return False  # another result of this step stands where the operand was
    if not offer.is_view and group.stop > step + 1:
        return False  # somebody still reads what the result would overwrite
    # Whoever adds to one of the sharers later must find no reader of another.
    if any(group.stop > update for update in new.updates):
        return False
    group.updates = [update for update in group.updates if update >= step]
    return all(tensor.stop <= update for update in group.updates)
