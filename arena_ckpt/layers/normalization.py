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
from arena_ckpt.operations.families import normalization


def _parse_share(value: object) -> float:
    """Read a number from 0 to 1."""
    number = float(NONNEGATIVE_REAL.parse(value))
    if number > 1:
        raise ValueError
    return number


_FORWARD = TensorLifespan.FORWARD
_GRADIENT = TensorLifespan.CALC_GRADIENT
_DERIVATIVE = TensorLifespan.CALC_DERIVATIVE
_SAVED = TensorLifespan.FORWARD_GRAD_DERIV
_IN_PLACE = (
    InPlace(Phase.FORWARD, "out0", ("in0",)),
    InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0:grad",)),
)

_EPSILON = Property("epsilon", POSITIVE_REAL, 1e-3, "added to the variance")
_GAMMA = Property("gamma_initializer", INITIALIZER, "ones", "how gamma starts")
_BETA = Property("beta_initializer", INITIALIZER, "zeros", "how beta starts")
_TRAINABLE = Property("trainable", BOOLEAN, True, "false freezes the weights")
_GAMMA_DECAY = Property(
    "weight_decay",
    NONNEGATIVE_REAL,
    0.0,
    "adds this times gamma to its gradient at each update",
)
_BETA_DECAY = Property("bias_decay", NONNEGATIVE_REAL, 0.0, "the same for beta")


def _vector(
    name: str,
    length: int,
    initializer: str,
    lifespan: TensorLifespan,
    *,
    decay: float = 0.0,
    is_trained: bool = True,
) -> WeightSpec:
    """Return a weight of one axis, with one element for each of `length` features."""
    return WeightSpec(
        name,
        (length,),
        initializer,
        fan_in=length,
        fan_out=length,
        lifespan=lifespan,
        decay=decay,
        is_trained=is_trained,
    )


def _gamma(layer: Layer, length: int) -> WeightSpec:
    """Return the factors of what is normalized."""
    initializer, decay = layer["gamma_initializer"], layer["weight_decay"]
    return _vector("gamma", length, initializer, _FORWARD | _DERIVATIVE, decay=decay)


def _gamma_beta(layer: Layer, length: int) -> tuple[WeightSpec, WeightSpec]:
    """Return the factors of what is normalized, and what is added to it."""
    initializer, decay = layer["beta_initializer"], layer["bias_decay"]
    beta = _vector("beta", length, initializer, _FORWARD, decay=decay)
    return _gamma(layer, length), beta


class LayerNormalization(Layer):
    """``gamma (x - mean) / sqrt(variance + epsilon) + beta``, over axes of a sample."""

    type_name = "layer_normalization"
    keeps_axes = True
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property(
            "axis",
            COUNTS,
            (3,),
            "what is normalized together: 1 (channel), 2 (height), 3 (width)",
        ),
        _EPSILON,
        _GAMMA,
        _BETA,
        _TRAINABLE,
        _GAMMA_DECAY,
        _BETA_DECAY,
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
            weights=_gamma_beta(self, together),
            tensors=(
                TensorSpec("mean", (apart,), _SAVED),
                TensorSpec("inv_std_dev", (apart,), _SAVED),
            ),
            input_lifespan=_SAVED,
            in_place=_IN_PLACE,
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
        self, tensors: Binding, strides: Any, names: Sequence[str | float]
    ) -> tuple[Any, ...]:
        """Return the arguments of a kernel, by role or as numbers.

        Where `strides` is None, inputs and outputs are matrices with one row for each
        group of elements that are normalized together.
        """
        n_rows = tensors.vector("mean").size
        arguments: list[Any] = []
        for name in names:
            if isinstance(name, float):
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
        names = ("in0", "gamma", "beta", epsilon, "mean", "inv_std_dev", "out0")
        return [Call(kernel, self._kernel_arguments(tensors, strides, names))]

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Sum ``out0:grad`` and ``out0:grad * x̂`` over all other axes and samples."""
        strides = self._strides(tensors)
        kernel = (
            normalization.layer_norm_gradient
            if strides is None
            else normalization.strided_norm_gradient
        )
        keep = beta_of(tensors)
        saved = ("in0", "out0:grad", "mean", "inv_std_dev")
        names = (*saved, keep, "gamma:grad", "beta:grad")
        return [Call(kernel, self._kernel_arguments(tensors, strides, names))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Differentiate the normalization, statistics included."""
        strides = self._strides(tensors)
        kernel = (
            normalization.layer_norm_derivative
            if strides is None
            else normalization.strided_norm_derivative
        )
        names = ("in0", "gamma", "out0:grad", "mean", "inv_std_dev", "in0:grad")
        return [Call(kernel, self._kernel_arguments(tensors, strides, names))]


class RMSNorm(Layer):
    """``gamma x / sqrt(mean(x²) + epsilon)``, over the last axis."""

    type_name = "rms_norm"
    keeps_axes = True
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        _EPSILON,
        _GAMMA,
        _TRAINABLE,
        _GAMMA_DECAY,
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return gamma, and the inverse root mean square of each row to save."""
        shape = input_shapes[0]
        channel, height, width = shape
        n = n_elems(shape)
        return LayerSpec(
            output_shapes=(shape,),
            weights=(_gamma(self, width),),
            tensors=(TensorSpec("inv_rms", (channel * height,), _SAVED),),
            input_lifespan=_SAVED,
            in_place=_IN_PLACE,
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

    In prediction, and where ``trainable=false``, the moving statistics take the place
    of those of the batch.
    """

    type_name = "batch_normalization"
    keeps_axes = True
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        _EPSILON,
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
        _GAMMA,
        _BETA,
        _TRAINABLE,
        _GAMMA_DECAY,
        _BETA_DECAY,
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return gamma and beta, the moving statistics and those of the batch."""
        shape = input_shapes[0]
        channels = shape[0] if shape[0] > 1 else shape[2]
        n = n_elems(shape)
        return LayerSpec(
            output_shapes=(shape,),
            weights=(*self._moving_statistics(channels), *_gamma_beta(self, channels)),
            tensors=self._batch_statistics(channels),
            input_lifespan=_SAVED if self.is_trainable else _FORWARD,
            in_place=_IN_PLACE,
            forward_skips_unwanted=True,
            flops=Flops(7 * n, 4 * n, 5 * n),
            batch_values=n // channels if self.is_trainable else None,
        )

    def _moving_statistics(self, channels: int) -> Iterator[WeightSpec]:
        """Yield the mean and variance that training moves and prediction reads."""
        lifespan = _FORWARD | _GRADIENT if self.is_trainable else _FORWARD
        for name in ("moving_mean", "moving_variance"):
            initializer = self[f"{name}_initializer"]
            yield _vector(name, channels, initializer, lifespan, is_trained=False)

    def _batch_statistics(self, channels: int) -> tuple[TensorSpec, ...]:
        """Return the statistics of the pass, and sums that its gradients share."""
        tensors = {"mean": ((channels,), _SAVED), "inv_std_dev": ((channels,), _SAVED)}
        if self.is_trainable:
            tensors["sums"] = ((2 * channels,), TensorLifespan.CALC_GRAD_DERIV)
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
        size, epsilon = self._size(tensors), float(self["epsilon"])
        mean, inverse = self._statistics(tensors)
        x = tensors.vector("in0")
        if tensors.training and self.is_trainable:
            first = Call(
                normalization.batch_norm_statistics, (x, epsilon, mean, inverse, size)
            )
        else:
            moving = tensors.vector("moving_mean"), tensors.vector("moving_variance")
            first = Call(
                normalization.moving_statistics, (*moving, epsilon, mean, inverse)
            )
        if not tensors.is_wanted("out0"):  # backward reads the statistics only
            return [first]
        weights = tensors.vector("gamma"), tensors.vector("beta")
        arguments = (x, *weights, mean, inverse, tensors.vector("out0"), size)
        return [first, Call(normalization.batch_norm_forward, arguments)]

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Make the sums that gradients and derivative need; move the statistics."""
        size = self._size(tensors)
        statistics, sums = self._statistics(tensors), tensors.vector("sums")
        tensors_of_sums = tensors.vector("in0"), tensors.vector("out0:grad")
        gradients = tensors.vector("gamma:grad"), tensors.vector("beta:grad")
        keep = beta_of(tensors)
        calls = [
            Call(
                normalization.batch_norm_sums,
                (*tensors_of_sums, *statistics, sums, size),
            ),
            Call(normalization.batch_norm_gradient, (sums, keep, *gradients)),
        ]
        if tensors.updates_state:
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
        if not self.is_trainable:
            constant = (gamma, d_out, statistics[1], d_in, size)
            return [Call(normalization.scale_channels, constant)]
        x, sums = tensors.vector("in0"), tensors.vector("sums")
        arguments = (x, gamma, d_out, *statistics, sums, d_in, size)
        return [Call(normalization.batch_norm_derivative, arguments)]
