"""Normalization of groups of channels of one sample, or of each channel."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.properties import POSITIVE_INT, Property
from arena_ckpt.layers.affine import (
    AFFINE,
    GAMMA_BETA_PROPERTIES,
    affine_gradients,
    derivative_gamma,
    forward_affine,
    gamma_beta_specs,
    left_out_specs,
    reads_for_gamma,
    unit_specs,
)
from arena_ckpt.layers.base import Binding, Call, Layer, beta_of
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.normalization import DERIVED, EPSILON, IN_PLACE, SAVED
from arena_ckpt.layers.spec import LayerSpec, Shape, TensorSpec, format_shape, n_elems
from arena_ckpt.operations.families import group_norm, normalization


class _OverGroups(Layer):
    """Base class of norms over groups of channels, with gamma and beta of channels."""

    keeps_axes = True
    trains_by_weight = True

    @abstractmethod
    def _sizes(self, shape: Shape) -> tuple[int, int, int]:
        """Return the channels, the elements of each, and the number of groups."""

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return gamma and beta of the channels, and the statistics to save."""
        shape = input_shapes[0]
        channels, _, groups = self._sizes(shape)
        n = n_elems(shape)
        if n == groups:
            raise self.mismatch(
                f"normalizes groups of one value of {format_shape(shape)}, so it would "
                "put out its beta alone; normalize more values together",
                shape=shape,
            )
        return LayerSpec(
            output_shapes=(shape,),
            weights=gamma_beta_specs(self, channels),
            tensors=(
                TensorSpec("mean", (groups,), SAVED),
                TensorSpec("inv_std_dev", (groups,), SAVED),
                *unit_specs(self, channels),
                *left_out_specs(self, channels),
            ),
            input_lifespan=SAVED if reads_for_gamma(self) else DERIVED,
            in_place=IN_PLACE,
            forward_skips_unwanted=True,
            flops=Flops(7 * n, 4 * n, 9 * n),
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Compute the statistics of each group, then normalize."""
        _, size, _ = self._sizes(tensors.input_shapes[0])
        x = tensors.vector("in0")
        mean, inverse = tensors.vector("mean"), tensors.vector("inv_std_dev")
        # Groups of samples that follow one another are channels of a single sample.
        statistics = (x, float(self["epsilon"]), mean, inverse, x.size // mean.size)
        whole = (*statistics, 0, mean.size)
        calls = [Call(normalization.batch_norm_statistics, whole)]
        if not tensors.is_wanted("out0"):
            return calls
        made, gamma, beta = forward_affine(self, tensors)
        normalized = (x, gamma, beta, mean, inverse, tensors.vector("out0"), size)
        return [*calls, *made, Call(group_norm.group_norm_forward, normalized)]

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Sum ``out0:grad`` and ``out0:grad * x̂`` of each channel."""
        if not self["affine"]:
            return []
        _, size, _ = self._sizes(tensors.input_shapes[0])
        made, source, gradients = affine_gradients(self, tensors)
        arguments = (
            tensors.vector(source),
            tensors.vector("out0:grad"),
            tensors.vector("mean"),
            tensors.vector("inv_std_dev"),
            beta_of(tensors),
            *gradients,
            size,
        )
        return [*made, Call(group_norm.group_norm_gradient, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Differentiate the normalization, statistics included."""
        _, size, _ = self._sizes(tensors.input_shapes[0])
        made, gamma = derivative_gamma(self, tensors)
        arguments = (
            tensors.vector("in0"),
            gamma,
            tensors.vector("out0:grad"),
            tensors.vector("mean"),
            tensors.vector("inv_std_dev"),
            tensors.vector("in0:grad"),
            size,
        )
        return [*made, Call(group_norm.group_norm_derivative, arguments)]


class GroupNormalization(_OverGroups):
    """Normalize each group of channels; of a row 1:1:width, groups of columns."""

    type_name = "group_normalization"
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property(
            "num_groups",
            POSITIVE_INT,
            None,
            "groups of as many channels each (required)",
        ),
        EPSILON,
        AFFINE,
        *GAMMA_BETA_PROPERTIES,
    )

    def _sizes(self, shape: Shape) -> tuple[int, int, int]:
        groups = self["num_groups"]
        if groups is None:
            raise self.mismatch("has no num_groups; set it, for example num_groups=4")
        is_row = shape[:2] == (1, 1)
        channels, size = (shape[2], 1) if is_row else (shape[0], shape[1] * shape[2])
        if channels % groups:
            raise self.mismatch(
                f"has num_groups={groups}, which do not divide its {channels} "
                f"{'columns' if is_row else 'channels'}; set num_groups to a divisor",
                num_groups=groups,
                channels=channels,
            )
        return channels, size, groups


class InstanceNormalization(_OverGroups):
    """Normalize each channel of each sample over its height and width."""

    type_name = "instance_normalization"
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        EPSILON,
        AFFINE,
        *GAMMA_BETA_PROPERTIES,
    )

    def _sizes(self, shape: Shape) -> tuple[int, int, int]:
        return shape[0], shape[1] * shape[2], shape[0]
