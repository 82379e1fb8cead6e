"""How a training iteration is run, as far as its memory depends on it."""

from __future__ import annotations

from dataclasses import dataclass

WAYS = ("in_place", "layerwise_update", "tiled_attention", "tiled_update")
"""Results overwrite operands; each gradient is applied as soon as it is made; attention
keeps no probabilities; a large gradient is made and applied in parts."""

DEFAULT_WAYS = frozenset(("in_place", "layerwise_update"))
"""Those that change no bit."""


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """The settings of one model.

    Attributes
    ----------
    batch_size : int
        Samples of one iteration.
    micro_batches : int
        Passes it is split into; their gradients are added up.
    state_names : tuple of str
        Tensors that the optimizer keeps for each weight.
    clip : bool
        Gradients are clipped by their global norm, so all of them live until the end.
    share_memory : bool
        False gives every tensor bytes of its own: for comparison.
    canary_bytes : int
        Guard space behind each buffer.
    ways : frozenset of str
        How bytes are saved beside reuse: of `WAYS`.
    """

    batch_size: int
    micro_batches: int = 1
    state_names: tuple[str, ...] = ()
    clip: bool = False
    share_memory: bool = True
    canary_bytes: int = 0
    ways: frozenset[str] = DEFAULT_WAYS

    @property
    def pass_samples(self) -> int:
        """Samples of one forward pass, at most."""
        return -(-self.batch_size // self.micro_batches)

    @property
    def defers_updates(self) -> bool:
        """Updates follow the backward pass of all layers."""
        layerwise = "layerwise_update" in self.ways
        return self.clip or self.keeps_gradients or not layerwise

    @property
    def keeps_gradients(self) -> bool:
        """Weight gradients live through the whole iteration: passes add to them."""
        return self.micro_batches > 1

    @property
    def tiles_updates(self) -> bool:
        """Large gradients never exist whole; see `arena_ckpt.planning.tiled_update`."""
        return "tiled_update" in self.ways and not self.defers_updates

    @property
    def shares_in_place(self) -> bool:
        """Results may take the bytes of operands."""
        return self.share_memory and "in_place" in self.ways
