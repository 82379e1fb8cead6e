"""What the hooks of a layer see of one execution: its tensors by role, as regions."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from arena_ckpt.common.dtypes import FLOAT32, FLOAT64, INT32
from arena_ckpt.common.phases import Phase
from arena_ckpt.graph.nodes import Node
from arena_ckpt.layers.hooks import unknown_role, wrong_dtype
from arena_ckpt.layers.spec import Shape
from arena_ckpt.lowering.kept_results import NOTHING_KEPT
from arena_ckpt.lowering.kernel_call import Mode
from arena_ckpt.lowering.tensor_regions import TensorRegions
from arena_ckpt.operations.regions import Region
from arena_ckpt.planning.loss_places import SHARED, LossPlaces
from arena_ckpt.planning.tensors import Control, Execution


def random_key(seed: int, layer: str) -> int:
    """Return what random numbers of a layer are keyed by, from 0 to 2⁶³ - 1."""
    digest = hashlib.blake2b(f"{seed}:{layer}:random".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True, eq=False)
class RoleRegions:
    """The regions of one execution, by role: the protocol `layers.base.Binding`.

    Attributes
    ----------
    regions : TensorRegions
    node : Node
        The layer in its graph.
    execution : Execution
    mode : Mode
    n_samples : int
        Samples of the pass.
    accumulate : bool
        Weight gradients are added to what stands there already.
    random_key : int
    arithmetic : str
        That of the graph.
    places : LossPlaces
        Of the loss, if the layer is one.
    tables : collection of str
        Tensors without an axis of samples that layers read like outputs.
    made_before : mapping from str to int
        Tensors by role that a recompute makes once more: see `kept_results`.
    """

    regions: TensorRegions = field(repr=False)
    node: Node
    execution: Execution
    mode: Mode
    n_samples: int
    accumulate: bool
    random_key: int
    arithmetic: str
    places: LossPlaces = SHARED
    tables: Collection[str] = ()
    made_before: Mapping[str, int] = field(default_factory=lambda: NOTHING_KEPT)

    @property
    def training(self) -> bool:
        """Whether the model is trained, or only predicts."""
        return self.mode is not Mode.PREDICT

    @property
    def updates_state(self) -> bool:
        """Whether weights that are not trained may change in `calc_gradient`."""
        return self.mode is Mode.TRAIN

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the inputs of one sample, whether the step reads them or not."""
        return self.node.input_shapes

    @property
    def output_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the outputs of one sample."""
        return self.node.spec.output_shapes

    @property
    def scale(self) -> Region:
        """Factor of each term of the loss (one element)."""
        is_forward = self.execution.phase in (Phase.FORWARD, Phase.RECOMPUTE)
        places = self.places
        return self.regions.control(
            places.scale if is_forward else places.derivative_scale
        )

    @property
    def loss(self) -> Region:
        """Sum of the losses so far (one element)."""
        return self.regions.control(self.places.loss)

    @property
    def counters(self) -> Region:
        """The iteration, and the place in the batch of the first sample of the pass."""
        n_counters = Control.FIRST_SAMPLE + 1 - Control.ITERATION
        return self.regions.control(Control.ITERATION, n_counters)

    def vector(self, role: str) -> Region:
        """Return a float32 tensor, flat."""
        return self._region(role, FLOAT32).reshape(-1)

    def matrix(self, role: str) -> Region:
        """Return a float32 tensor with its last axis as columns, all else as rows."""
        region = self._region(role, FLOAT32)
        return region.reshape(-1, region.shape[-1])

    def indexes(self, role: str) -> Region:
        """Return an int32 tensor, flat."""
        return self._region(role, INT32).reshape(-1)

    def doubles(self, role: str) -> Region:
        """Return a float64 tensor, flat."""
        return self._region(role, FLOAT64).reshape(-1)

    def is_wanted(self, role: str) -> bool:
        """Tell whether the execution has a tensor in a role."""
        return self.execution.operand(role) is not None

    def kept(self, role: str) -> Region | None:
        """Return what the forward pass has kept of a saved tensor, flat, or None."""
        tensor = self.made_before.get(role)
        if tensor is None:
            return None
        return self.regions.region(tensor, self.n_samples).reshape(-1)

    def is_same(self, role: str, other: str) -> bool:
        """Tell whether two roles stand for the same bytes."""
        first, second = self._tensor(role), self._tensor(other)
        return self.regions.place(first) == self.regions.place(second)

    def is_table(self, index: int) -> bool:
        """Tell whether an input is a table, which has no axis of samples."""
        return self.node.sources[index] in self.tables

    def _tensor(self, role: str) -> int:
        operand = self.execution.operand(role)
        if operand is None:
            known = tuple(operand.role for operand in self.execution.operands)
            node, phase = self.node, self.execution.phase
            raise unknown_role(node.layer, node.spec, phase, role, known)
        return operand.tensor

    def _region(self, role: str, dtype: str) -> Region:
        region = self.regions.region(self._tensor(role), self.n_samples)
        if region.dtype != dtype:
            phase = self.execution.phase
            raise wrong_dtype(self.node.layer, phase, role, region.dtype)
        return region
