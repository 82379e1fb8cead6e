"""Normalization over axes of a sample, or over the samples of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.properties import (
    BOOLEAN,
    COUNTS,
    NONNEGATIVE_REAL,
    POSITIVE_REAL,
    Kind,
    Property,
    choice,
)
from arena_ckpt.layers.affine import (
    AFFINE,
    GAMMA_BETA_PROPERTIES,
    GAMMA_PROPERTIES,
    affine_gradients,
    derivative_gamma,
    feature_vector,
    forward_affine,
    gamma_beta_specs,
    gamma_spec,
    left_out_specs,
    reads_for_gamma,
    unit_specs,
)
from arena_ckpt.layers.base import Binding, Call, Layer, beta_of
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.spec import (
    InPlace,
    LayerSpec,
    Shape,
    TensorSpec,
    WeightSpec,
    n_elems,
)
from arena_ckpt.layers.weighted import INITIALIZER
from arena_ckpt.operations.families import elementwise, normalization
from arena_ckpt.operations.regions import Region


def _parse_share(value: object) -> float:
    """Read a number from 0 to 1."""
    number = float(NONNEGATIVE_REAL.parse(value))
    if number > 1:
        raise ValueError
    return number


_FORWARD = TensorLifespan.FORWARD
_GRADIENT = TensorLifespan.CALC_GRADIENT
SAVED = TensorLifespan.FORWARD_GRAD_DERIV
DERIVED = TensorLifespan.FORWARD_DERIV
IN_PLACE = (
    InPlace(Phase.FORWARD, "out0", ("in0",)),
    InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0:grad",)),
)

EPSILON = Property("epsilon", POSITIVE_REAL, 1e-3, "added to the variance")


class LayerNormalization(Layer):
    """``gamma (x - mean) / sqrt(variance + epsilon) + beta``, over axes of a sample."""

    type_name = "layer_normalization"
    keeps_axes = True
    trains_by_weight = True
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property(
            "axis",
            COUNTS,
            (3,),
            "what is normalized together: 1 (channel), 2 (height), 3 (width)",
        ),
        EPSILON,
        AFFINE,
        *GAMMA_BETA_PROPERTIES,
    )

    @property
    def axes(self) -> tuple[int, ...]:
        """Numbers of the axes that are normalized together, each once, in order."""
        return tuple(sorted(set(self["axis"])))

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return gamma and beta over the axes, and the statistics to save."""
        shape, axes = input_shapes[0], self.axes
        if not set(axes) <= {1, 2, 3}:
            raise self.mismatch(
                f"cannot normalize over axis {', '.join(map(str, self['axis']))}; "
                "expected some of 1 (channel), 2 (height) and 3 (width)",
                axis=self["axis"],
            )
        together = n_elems(tuple(shape[axis - 1] for axis in axes))
        apart = n_elems(shape) // together
        n = n_elems(shape)
        return LayerSpec(
            output_shapes=(shape,),
            weights=gamma_beta_specs(self, together),
            tensors=(
                TensorSpec("mean", (apart,), SAVED),
                TensorSpec("inv_std_dev", (apart,), SAVED),
                *unit_specs(self, together),
                *left_out_specs(self, together),
            ),
            input_lifespan=SAVED if reads_for_gamma(self) else DERIVED,
            in_place=IN_PLACE,
            flops=Flops(8 * n, 5 * n, 9 * n),
        )

    def _strides(self, tensors: Binding) -> tuple[int, int, int] | None:
        """Return the sizes p, b and q of the strided kernels; None for whole rows."""
        axes = self.axes
        if axes == tuple(range(4 - len(axes), 4)):
            return None
        channel, height, width = tensors.input_shapes[0]
        if axes == (1, 3):
            return channel, height, width
        if axes == (1,):
            return channel, height * width, 1
        return (height if axes == (2,) else channel * height), width, 1

    def _kernel_arguments(
        self, tensors: Binding, strides: Any, names: Sequence[str | float | Region]
    ) -> tuple[Any, ...]:
        """Return the arguments of a kernel, by role or as they are.

        Where `strides` is None, inputs and outputs are matrices with one row for each
        group of elements that are normalized together.
        """
        n_rows = tensors.vector("mean").size
        arguments: list[Any] = []
        for name in names:
            if not isinstance(name, str):
                arguments.append(name)
            elif strides is None and name in ("in0", "out0", "in0:grad", "out0:grad"):
                arguments.append(tensors.vector(name).reshape(n_rows, -1))
            else:
                arguments.append(tensors.vector(name))
        return (*arguments, *(strides or ()))

    def forward(self, tensors: Binding) -> list[Call]:
        """Compute the statistics, then normalize."""
        strides = self._strides(tensors)
        kernel = (
            normalization.layer_norm_forward
            if strides is None
            else normalization.strided_norm_forward
        )
        epsilon = float(self["epsilon"])
        made, gamma, beta = forward_affine(self, tensors)
        names = ("in0", gamma, beta, epsilon, "mean", "inv_std_dev", "out0")
        return [*made, Call(kernel, self._kernel_arguments(tensors, strides, names))]

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Sum ``out0:grad`` and ``out0:grad * x̂`` over all other axes and samples."""
        if not self["affine"]:
            return []
        strides = self._strides(tensors)
        kernel = (
            normalization.layer_norm_gradient
            if strides is None
            else normalization.strided_norm_gradient
        )
        keep = beta_of(tensors)
        made, source, gradients = affine_gradients(self, tensors)
        names = (source, "out0:grad", "mean", "inv_std_dev", keep, *gradients)
        return [*made, Call(kernel, self._kernel_arguments(tensors, strides, names))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Differentiate the normalization, statistics included."""
        strides = self._strides(tensors)
        kernel = (
            normalization.layer_norm_derivative
            if strides is None
            else normalization.strided_norm_derivative
        )
        made, gamma = derivative_gamma(self, tensors)
        names = ("in0", gamma, "out0:grad", "mean", "inv_std_dev", "in0:grad")
        return [*made, Call(kernel, self._kernel_arguments(tensors, strides, names))]


class RMSNorm(Layer):
    """``gamma x / sqrt(mean(x²) + epsilon)``, over the last axis."""

    type_name = "rms_norm"
    keeps_axes = True
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        EPSILON,
        *GAMMA_PROPERTIES,
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return gamma, and the inverse root mean square of each row to save."""
        shape = input_shapes[0]
        channel, height, width = shape
        n = n_elems(shape)
        return LayerSpec(
            output_shapes=(shape,),
            weights=(gamma_spec(self, width),),
            tensors=(TensorSpec("inv_rms", (channel * height,), SAVED),),
            input_lifespan=SAVED,
            in_place=IN_PLACE,
            flops=Flops(4 * n, 3 * n, 7 * n),
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Divide each row by its root mean square."""
        arguments = (
            tensors.matrix("in0"),
            tensors.vector("gamma"),
            float(self["epsilon"]),
            tensors.vector("inv_rms"),
            tensors.matrix("out0"),
        )
        return [Call(normalization.rms_norm_forward, arguments)]

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Sum ``out0:grad * x̂`` over the rows."""
        arguments = (
            tensors.matrix("in0"),
            tensors.matrix("out0:grad"),
            tensors.vector("inv_rms"),
            beta_of(tensors),
            tensors.vector("gamma:grad"),
        )
        return [Call(normalization.rms_norm_gradient, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Differentiate the normalization, the root mean square included."""
        arguments = (
            tensors.matrix("in0"),
            tensors.vector("gamma"),
            tensors.matrix("out0:grad"),
            tensors.vector("inv_rms"),
            tensors.matrix("in0:grad"),
        )
        return [Call(normalization.rms_norm_derivative, arguments)]


class BatchNormalization(Layer):
    """Normalize each channel over the batch; each column where there is one channel.

    In prediction, and in training with ``statistics=moving`` or ``trainable=false``,
    the moving statistics take the place of those of the batch.
    """

    type_name = "batch_normalization"
    keeps_axes = True
    trains_by_weight = True
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        EPSILON,
        Property(
            "momentum",
            Kind("a number from 0 to 1", _parse_share, repr),
            0.99,
            "share of the moving statistics that a training step keeps",
        ),
        Property(
            "unbiased_variance",
            BOOLEAN,
            False,
            "true divides by n - 1 for the moving variance, as PyTorch; false by n, "
            "as NNTrainer and Keras",
        ),
        Property(
            "moving_mean_initializer", INITIALIZER, "zeros", "how the mean starts"
        ),
        Property(
            "moving_variance_initializer",
            INITIALIZER,
            "ones",
            "how the variance starts",
        ),
        Property(
            "statistics",
            choice("batch", "moving"),
            None,
            "what training normalizes by; where absent, batch where the layer is "
            "trainable, else moving",
        ),
        *GAMMA_BETA_PROPERTIES,
    )

    @property
    def _takes_batch(self) -> bool:
        """Whether training normalizes by the statistics of the batch."""
        given = self["statistics"]
        return self.is_trainable if given is None else bool(given == "batch")

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return gamma and beta, the moving statistics and those of the batch."""
        if self._takes_batch and not self.is_trainable:
            raise self.mismatch(
                "has statistics=batch and trainable=false, but what is frozen is "
                "normalized by the moving statistics; leave statistics out, or set "
                "trainable=true",
                statistics="batch",
            )
        shape = input_shapes[0]
        channels = shape[0] if shape[0] > 1 else shape[2]
        n = n_elems(shape)
        return LayerSpec(
            output_shapes=(shape,),
            weights=(
                *self._moving_statistics(channels),
                *gamma_beta_specs(self, channels),
            ),
            tensors=(
                *self._batch_statistics(channels),
                *left_out_specs(self, channels),
            ),
            input_lifespan=self._input_lifespan(),
            in_place=IN_PLACE,
            forward_skips_unwanted=True,
            flops=Flops(7 * n, 4 * n, 5 * n),
            batch_values=n // channels if self._takes_batch else None,
        )

    def _input_lifespan(self) -> TensorLifespan:
        """Return the phases that read the input: those that use deviations from it."""
        if self._takes_batch:
            return SAVED
        reads = self.is_trainable and reads_for_gamma(self)
        return TensorLifespan.FORWARD_GRAD if reads else _FORWARD

    def _moving_statistics(self, channels: int) -> Iterator[WeightSpec]:
        """Yield the mean and variance that training moves and prediction reads."""
        lifespan = _FORWARD | _GRADIENT if self._takes_batch else _FORWARD
        for name in ("moving_mean", "moving_variance"):
            initializer = self[f"{name}_initializer"]
            yield feature_vector(
                name, channels, initializer, lifespan, is_trained=False
            )

    def _batch_statistics(self, channels: int) -> tuple[TensorSpec, ...]:
        """Return the statistics of the pass, and sums that its gradients share."""
        tensors = {"mean": ((channels,), SAVED), "inv_std_dev": ((channels,), SAVED)}
        if self.is_trainable:
            backward = TensorLifespan.CALC_GRAD_DERIV
            lifespan = backward if self._takes_batch else _GRADIENT
            tensors["sums"] = ((2 * channels,), lifespan)
        return tuple(
            TensorSpec(name, shape, lifespan, per_sample=False)
            for name, (shape, lifespan) in tensors.items()
        )

    def _correction(self, tensors: Binding) -> float:
        """Return the factor of the biased variance when it moves the moving variance.

        n / (n - 1) for n values of each channel with ``unbiased_variance``, else 1.
        """
        if not self["unbiased_variance"]:
            return 1.0
        n = tensors.vector("in0").size // tensors.vector("mean").size
        return n / max(n - 1, 1)

    @staticmethod
    def _size(tensors: Binding) -> int:
        """Return the number of contiguous elements of one channel of one sample."""
        channel, height, width = tensors.input_shapes[0]
        return height * width if channel > 1 else 1

    def _statistics(self, tensors: Binding) -> tuple[Any, Any]:
        return tensors.vector("mean"), tensors.vector("inv_std_dev")

    def forward(self, tensors: Binding) -> list[Call]:
        """Take the statistics of the batch, or the moving ones, then normalize."""
        calls = self._take_statistics(tensors)
        if not tensors.is_wanted("out0"):  # backward reads the statistics only
            return calls
        x, out = tensors.vector("in0"), tensors.vector("out0")
        weights = tensors.vector("gamma"), tensors.vector("beta")
        arguments = (x, *weights, *self._statistics(tensors), out, self._size(tensors))
        return [*calls, Call(normalization.batch_norm_forward, arguments)]

    def _take_statistics(self, tensors: Binding) -> list[Call]:
        """Return the calls that make the statistics, or copy those that were kept."""
        mean, inverse = self._statistics(tensors)
        kept = tensors.kept("mean"), tensors.kept("inv_std_dev")
        if kept[0] is not None and kept[1] is not None:
            pairs = zip(kept, (mean, inverse), strict=True)
            return [Call(elementwise.copy, pair) for pair in pairs]
        epsilon = float(self["epsilon"])
        if tensors.training and self._takes_batch:
            x, size = tensors.vector("in0"), self._size(tensors)
            arguments: tuple[Any, ...] = (x, epsilon, mean, inverse, size, 0, mean.size)
            return [Call(normalization.batch_norm_statistics, arguments)]
        moving = tensors.vector("moving_mean"), tensors.vector("moving_variance")
        arguments = (*moving, epsilon, mean, inverse)
        return [Call(normalization.moving_statistics, arguments)]

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Make the sums that gradients and derivative need; move the statistics."""
        size = self._size(tensors)
        statistics, sums = self._statistics(tensors), tensors.vector("sums")
        made, source, gradients = affine_gradients(self, tensors)
        if self._takes_batch:
            source = "in0"  # the derivative of what is normalized needs both sums
        tensors_of_sums = tensors.vector(source), tensors.vector("out0:grad")
        keep = beta_of(tensors)
        calls = [
            *made,
            Call(
                normalization.batch_norm_sums,
                (*tensors_of_sums, *statistics, sums, size, 0, statistics[0].size),
            ),
            Call(normalization.batch_norm_gradient, (sums, keep, *gradients)),
        ]
        if tensors.updates_state and self._takes_batch:
            moving = tensors.vector("moving_mean"), tensors.vector("moving_variance")
            numbers = float(self["epsilon"]), float(self["momentum"])
            arguments = (*statistics, *numbers, self._correction(tensors), *moving)
            calls.append(Call(normalization.move_statistics, arguments))
        return calls

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Differentiate the normalization; moving statistics are constants."""
        size = self._size(tensors)
        statistics, gamma = self._statistics(tensors), tensors.vector("gamma")
        d_out, d_in = tensors.vector("out0:grad"), tensors.vector("in0:grad")
        if not self._takes_batch:
            constant = (gamma, d_out, statistics[1], d_in, size)
            return [Call(normalization.scale_channels, constant)]
        x, sums = tensors.vector("in0"), tensors.vector("sums")
        count = x.size // gamma.size
        arguments = (x, gamma, d_out, *statistics, sums, d_in, size, count)
        return [Call(normalization.batch_norm_derivative, arguments)]
