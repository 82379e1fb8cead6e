"""The losses of a model at work: their labels, predictions, and scalars in the arena.

A model of several losses has a head for each. What is trained is the sum of the losses,
each times its weight, and of the penalties of regularization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.names import LABEL, tensor_name
from arena_ckpt.data.loss_labels import LabelKind
from arena_ckpt.data.samples import Samples
from arena_ckpt.engine.batch import Batch
from arena_ckpt.graph.build import Graph, loss_of
from arena_ckpt.graph.hints import reading_of_rows
from arena_ckpt.layers.loss import Loss
from arena_ckpt.layers.spec import Shape
from arena_ckpt.planning.loss_places import (
    SHARED,
    LossPlaces,
    control_length,
    loss_places,
)
from arena_ckpt.planning.tensors import Control

Scalars = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Head:
    """One loss of a model.

    Attributes
    ----------
    name : str
    loss : Loss
    output_shape : Shape
        Of one sample of its prediction.
    prediction : str
        The tensor that holds it.
    places : LossPlaces
        Of its scalars in the control tensor.
    reading : str or None
        How it reads several rows of a sample; see `reading_of_rows`.
    """

    name: str
    loss: Loss
    output_shape: Shape
    prediction: str
    places: LossPlaces
    reading: str | None

    @property
    def label(self) -> str:
        """The tensor of the labels, where the plan has any."""
        return tensor_name(self.name, LABEL)

    @property
    def kind(self) -> LabelKind:
        """What labels it takes."""
        return LabelKind(self.loss, self.output_shape, self.reading)

    def samples(self, samples: Samples) -> Samples:
        """Return the samples with the labels of this loss."""
        return samples.by_loss.get(self.name, samples)

    def n_terms(self, batch: Batch) -> float:
        """Return what the sum of the terms is divided by in the mean of a batch."""
        return self.samples(batch.samples).n_terms(batch.rows)

    def scale(self, batch: Batch) -> float:
        """Return the factor of each term of the loss, without its weight."""
        return self.loss.term_scale(self.output_shape, self.n_terms(batch))


class Heads:
    """All losses of a model, and their scalars.

    Parameters
    ----------
    graph : Graph
        Without a loss there are no heads.

    Attributes
    ----------
    all : tuple of Head
        In forward order.
    """

    def __init__(self, graph: Graph) -> None:
        nodes = graph.losses
        names = [node.name for node in nodes]
        places = loss_places(names, control_length(graph))
        self.all = tuple(
            Head(
                node.name,
                loss_of(node),
                node.spec.output_shapes[0],
                node.outputs[0],
                places[node.name],
                reading_of_rows(graph, node),
            )
            for node in nodes
        )
        self._has_own_places = any(head.places is not SHARED for head in self.all)

    @property
    def are_several(self) -> bool:
        """Whether labels and predictions come by the names of losses."""
        return len(self.all) > 1

    @property
    def kinds(self) -> dict[str, LabelKind]:
        """What labels each loss takes."""
        return {head.name: head.kind for head in self.all}

    def check(
        self,
        x: Any,
        y: Any,
        *,
        inputs: Mapping[str, Shape],
        masks: frozenset[str],
        look_for_nonfinite: bool,
    ) -> Samples:
        """Check samples and labels; see `Samples`."""
        if self.are_several:
            return Samples.check_by_loss(
                x,
                y,
                inputs=inputs,
                kinds=self.kinds,
                masks=masks,
                look_for_nonfinite=look_for_nonfinite,
            )
        kind = self.all[0].kind if self.all else None
        return Samples.check(
            x,
            y,
            inputs=inputs,
            output_shape=kind.output_shape if kind else (1, 1, 1),
            loss=kind.loss if kind else None,
            reading=kind.reading if kind else None,
            masks=masks,
            look_for_nonfinite=look_for_nonfinite,
        )

    def begin(self, control: Scalars, scales: Sequence[float]) -> None:
        """Set the sums to 0 and the factors of terms: one for each loss, or 0s."""
        control[Control.LOSS] = 0.0
        control[Control.SCALE] = scales[0] if scales else 0.0
        if not self._has_own_places:
            return
        for head, scale in zip(self.all, scales, strict=True):
            places = head.places
            control[places.loss] = 0.0
            control[places.scale] = scale
            control[places.derivative_scale] = scale * head.loss.weight

    def clear_sums(self, control: Scalars) -> None:
        """Set the sums to 0 again."""
        control[Control.LOSS] = 0.0
        for head in self.all:
            control[head.places.loss] = 0.0

    def scales(self, batch: Batch) -> list[float]:
        """Return the factor of the terms of each loss, for the mean over a batch."""
        return [head.scale(batch) for head in self.all]

    def no_scales(self) -> list[float]:
        """Return factors of 0, where nobody asks for a loss."""
        return [0.0] * len(self.all)

    def sums(self, control: Scalars) -> list[float]:
        """Return what each loss has added up, without its weight."""
        return [float(control[head.places.loss]) for head in self.all]

    def penalty(self, control: Scalars) -> float:
        """Return the sum of the penalties, where no loss adds to it in its place.

        Ids that are out of range make it NaN, also where there is no loss.
        """
        is_apart = self._has_own_places or not self.all
        return float(control[Control.LOSS]) if is_apart else 0.0

    def total(self, penalty: float, sums: Sequence[float]) -> float:
        """Return the loss that is trained.

        Exported C adds in the same order.
        """
        if not self._has_own_places:
            return sums[0] if sums else penalty
        total = penalty
        for head, value in zip(self.all, sums, strict=True):
            total += head.loss.weight * value
        return total

    def loss(self, control: Scalars) -> float:
        """Return the loss that is trained, of the steps that have run."""
        return self.total(self.penalty(control), self.sums(control))

    def by_name(self, values: Sequence[float]) -> dict[str, float]:
        """Return a value for each of several losses by name; empty for one."""
        if not self.are_several:
            return {}
        names = [head.name for head in self.all]
        return dict(zip(names, values, strict=True))
