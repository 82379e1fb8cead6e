"""The calls of a loss whose samples have weights, one sample after the other."""

from __future__ import annotations

from dataclasses import dataclass, fields

from arena_ckpt.common.phases import Phase
from arena_ckpt.graph.nodes import Node
from arena_ckpt.layers.base import Call
from arena_ckpt.layers.hooks import hook_calls, wrong_dtype
from arena_ckpt.layers.sample_weights import DERIVATIVE_SCALES, LOSS_SCALES
from arena_ckpt.lowering.binding import RoleRegions
from arena_ckpt.operations.families import sample_weights
from arena_ckpt.operations.regions import Region


def has_sample_weights(node: Node) -> bool:
    """Tell whether a layer is a loss that reads a weight for each sample."""
    return node.layer.is_loss and len(node.inputs) > 1


def weighted_calls(
    node: Node, phase: Phase, tensors: RoleRegions, hook: str = ""
) -> list[Call]:
    """Return the calls of a phase of a loss whose samples have weights."""
    calls: list[Call] = []
    if phase is Phase.FORWARD:
        derivative = tensors.regions.control(tensors.places.derivative_scale)
        for scale, role in (
            (tensors.scale, LOSS_SCALES),
            (derivative, DERIVATIVE_SCALES),
        ):
            arguments = tensors.vector("in1"), scale, tensors.doubles(role)
            calls.append(Call(sample_weights.weigh_samples, arguments))
    for row in range(tensors.n_samples):
        one = OneSample(**{f.name: getattr(tensors, f.name) for f in fields(tensors)})
        calls += hook_calls(node.layer, phase, one.at(row), hook)
    return calls


@dataclass(frozen=True, eq=False)
class OneSample(RoleRegions):
    """The regions of one sample of a pass, with its own scale.

    Attributes
    ----------
    row : int
        Its number in the pass.
    """

    row: int = 0

    def at(self, row: int) -> OneSample:
        """Return the regions of another sample; a pass of it has this one alone."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return OneSample(**{**given, "row": row, "n_samples": 1})

    @property
    def scale(self) -> Region:
        """Factor of each term of the sample (one element)."""
        is_forward = self.execution.phase is Phase.FORWARD
        return self.doubles(LOSS_SCALES if is_forward else DERIVATIVE_SCALES)

    def _region(self, role: str, dtype: str) -> Region:
        tensor = self._tensor(role)
        region = self.regions.region(tensor, self.row + 1)
        if region.dtype != dtype:
            phase = self.execution.phase
            raise wrong_dtype(self.node.layer, phase, role, region.dtype)
        is_of_sample = self.regions.plan.tensors[tensor].per_sample
        return region[self.row :] if is_of_sample else region
