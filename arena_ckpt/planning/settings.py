"""The settings of a training iteration that its memory depends on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from arena_ckpt.planning.memory_use import PlannedRam, constant_tensors
from arena_ckpt.planning.placing import Pin
from arena_ckpt.planning.tensors import Execution, LiveRange
from arena_ckpt.planning.training_facts import PlanTraining

WAYS = ("in_place", "layerwise_update", "tiled_attention", "tiled_update")
"""Ways to save bytes beside reuse.

Results overwrite operands; each gradient is applied as soon as it is made; attention
keeps no probabilities; a large gradient is made and applied in parts.
"""

DEFAULT_WAYS = frozenset(("in_place", "layerwise_update"))
"""Ways to save bytes that change no bit of the results."""


INFERENCE_WAYS = frozenset(("in_place",))
"""Those of `DEFAULT_WAYS` that mean something where nothing is updated."""

TRAIN, INFERENCE = "train", "inference"
MODES = (TRAIN, INFERENCE)
"""What a plan is for: iterations of training, or forward passes alone."""


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """The settings with which a model is planned.

    Attributes
    ----------
    batch_size : int
        Number of samples of one iteration.
    micro_batches : int
        Number of passes of an iteration; their gradients are added up.
    state_names : tuple of str
        Names of the tensors that the optimizer keeps for each weight.
    clip : bool
        Gradients are clipped by their global norm, so all are live until the last step.
    clip_values : bool
        Each element of a gradient is limited before its update, in a workspace.
    share_memory : bool
        False gives every tensor bytes of its own: for comparison.
    canary_bytes : int
        Bytes of the canary behind each buffer.
    ways : frozenset of str
        Ways to save bytes beside reuse, out of `WAYS`.
    constants_apart : bool
        What no step writes lies in a read-only memory beside the RAM.
    rams : tuple of PlannedRam
        RAMs with their sizes, the fastest first; empty for one without a limit.
    pins : tuple of Pin
        Tensors that have to lie in one of the RAMs.
    mode : str
        One of `MODES`. Inference has forward steps alone: no labels, no gradients and
        no states, whatever else is set.
    training : PlanTraining or None
        Optimizer, schedule and clipping, which the plan states; None where they are not
        known, and in inference.
    """

    batch_size: int
    micro_batches: int = 1
    state_names: tuple[str, ...] = ()
    clip: bool = False
    clip_values: bool = False
    share_memory: bool = True
    canary_bytes: int = 0
    ways: frozenset[str] = DEFAULT_WAYS
    constants_apart: bool = True
    rams: tuple[PlannedRam, ...] = ()
    pins: tuple[Pin, ...] = ()
    mode: str = TRAIN
    training: PlanTraining | None = None

    @property
    def is_inference(self) -> bool:
        """Whether there are forward steps alone."""
        return self.mode == INFERENCE

    @property
    def pass_samples(self) -> int:
        """Largest number of samples of one forward pass."""
        return -(-self.batch_size // self.micro_batches)

    @property
    def defers_updates(self) -> bool:
        """Whether all updates follow the backward pass of all layers."""
        layerwise = "layerwise_update" in self.ways
        return self.clip or self.keeps_gradients or not layerwise

    @property
    def keeps_gradients(self) -> bool:
        """Whether weight gradients are live in all steps, as passes add to them."""
        return self.micro_batches > 1

    @property
    def tiles_updates(self) -> bool:
        """Whether large gradients are made in tiles; see `planning.tiled_update`."""
        return "tiled_update" in self.ways and not self.defers_updates

    def constants_of(
        self, tensors: Sequence[LiveRange], executions: Iterable[Execution]
    ) -> frozenset[int]:
        """Return the tensors that lie beside the RAM, as indices.

        They are those that no step writes and that are pinned to no RAM.
        """
        if not self.constants_apart:
            return frozenset()
        return frozenset(
            index
            for index in constant_tensors(tensors, executions)
            if not any(pin.fits(tensors[index].name) for pin in self.pins)
        )

    @property
    def shares_in_place(self) -> bool:
        """Whether results may take the bytes of operands."""
        return self.share_memory and "in_place" in self.ways
