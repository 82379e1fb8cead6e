"""Losses: the last layer of a model, where the derivatives begin.

``out0`` of a loss is the model's prediction, as `predict` returns it: the input
itself for `mse`, probabilities for the cross entropies.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.properties import (
    BOOLEAN,
    FRACTION,
    NONNEGATIVE_REAL,
    Property,
    whole,
)
from arena_ckpt.layers.base import COMMON_PROPERTIES, Binding, Call, Layer
from arena_ckpt.layers.class_weights import (
    AXIS,
    as_float32,
    classes_of,
    fill_weights,
    require_weights,
    weights_property,
    with_weights,
)
from arena_ckpt.layers.shape import copy_unless_same
from arena_ckpt.layers.spec import InPlace, LayerSpec, Shape, n_elems
from arena_ckpt.operations.activations import ACTIVATIONS
from arena_ckpt.operations.families import class_losses, losses
from arena_ckpt.operations.kernel_names import KernelName

LARGEST_LABEL = 2**24
"""Largest class number: labels are float32, exact for whole numbers up to here."""


LOSS_PROPERTIES = (
    Property(
        "weight",
        NONNEGATIVE_REAL,
        1.0,
        "factor of the loss in the sum of all losses, which is trained",
    ),
)
"""Properties that every loss has beside those of all layers."""


class Loss(Layer):
    """Base class of losses: layers that compare their input with a label.

    `forward` writes the prediction to ``out0`` and adds ``scale[0]`` times the sum of
    its terms to ``loss[0]``, in float64. `calc_derivative` writes ``scale[0]`` times
    the derivative of each term to ``in0:grad``, from ``out0`` and ``label``. Both may
    run on a part of the batch; a prediction without labels runs `forward` with a label
    of zeros and a scale of 0. A plan of inference alone has no label: there the
    prediction is the input, or what `predict` makes.

    Attributes
    ----------
    prediction_is_view : bool
        True where the prediction is the input itself, so that both share memory;
        `forward` then begins with ``copy_unless_same(tensors, "in0", "out0")``.
    takes_probabilities : bool
        True where a label outside [0, 1] would leave the loss without a lower bound;
        such labels are refused.
    rows_are_distributions : bool
        True where the values of each row of a label add up to 1; false where each value
        stands for itself. `verify` makes up labels by this.
    takes_class_numbers : bool
        True where a class number for each sample may be given instead of a one-hot row.
    takes_label : bool
        False where the input alone is the loss: there is no role ``label`` then.
    """

    is_loss = True
    n_inputs = range(1, 3)
    properties: ClassVar[tuple[Property, ...]] = (*COMMON_PROPERTIES, *LOSS_PROPERTIES)
    prediction_is_view: ClassVar[bool] = False
    takes_probabilities: ClassVar[bool] = False
    rows_are_distributions: ClassVar[bool] = True
    takes_class_numbers: ClassVar[bool] = False
    takes_label: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give losses that list properties of their own those of every loss."""
        super().__init_subclass__(**kwargs)
        if isinstance(cls.properties, tuple):  # else `register_layer` refuses it
            named = {getattr(one, "name", None) for one in cls.properties}
            more = tuple(one for one in LOSS_PROPERTIES if one.name not in named)
            cls.properties = (*cls.properties, *more)

    @property
    def weight(self) -> float:
        """Factor of the loss in the sum of all losses, which is trained."""
        return float(self["weight"])

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input; the derivative needs the prediction."""
        return LayerSpec(
            output_shapes=input_shapes[:1],
            flops=Flops(
                (3 if self.prediction_is_view else 12) * n_elems(input_shapes[0]),
                0,
                2 * n_elems(input_shapes[0]),
            ),
            output_lifespan=TensorLifespan.CALC_DERIVATIVE,
            in_place=(
                InPlace(Phase.FORWARD, "out0", ("in0",), self.prediction_is_view),
                InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0",)),
            ),
        )

    @property
    def ignored_label(self) -> int | None:
        """Label of the rows that do not count; None where labels are dense.

        A loss that has one takes a class number for each row, and its mean is over the
        rows that count.
        """
        return None

    @property
    def class_axis(self) -> int:
        """Axis along which the classes are: 1 (channel), 2 (height) or 3 (width)."""
        return 3

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """How much a label of each class counts in the mean; None where all count 1.

        The mean of a loss that has some is over the weights of the labels: `term_scale`
        gets their sum.
        """
        return None

    @property
    def counts_labels(self) -> bool:
        """Whether the mean depends on the labels."""
        return self.ignored_label is not None or self.class_weights is not None

    def predict(self, tensors: Binding) -> list[Call]:
        """Return the kernel calls that make the prediction where there is no label.

        They make the bits that `forward` makes. A loss that has no such method, and
        whose prediction is not its input, has a label of zeros in inference as well.
        """
        return copy_unless_same(tensors, "in0", "out0")

    @property
    def needs_label_to_predict(self) -> bool:
        """Whether inference has to run `forward`, with labels of zeros if it takes any.

        So it has where `predict` is missing, or older than the `forward` of a subclass.
        """
        if self.prediction_is_view:
            return False
        forward, predict = (
            next(made for made in type(self).__mro__ if name in vars(made))
            for name in ("forward", "predict")
        )
        return predict is Loss or not issubclass(predict, forward)

    def label_shape(self, output_shape: Shape) -> Shape:
        """Return the shape of the label of one sample.

        Parameters
        ----------
        output_shape : Shape
            Shape of one sample of the output.
        """
        return output_shape

    @abstractmethod
    def term_scale(self, shape: Shape, n_terms: float) -> float:
        """Return the factor of each term of the loss: ``1 / n_terms`` for a mean.

        Parameters
        ----------
        shape : Shape
            Shape of one sample of the output.
        n_terms : float
            Number of samples of the batch; where labels can be ignored, the number of
            its rows that count; where classes have weights, the sum of those of its
            labels.
        """


class MeanSquaredError(Loss):
    """Mean over all elements of the squared difference to the label."""

    type_name = "mse"
    prediction_is_view = True

    def term_scale(self, shape: Shape, n_terms: float) -> float:
        """Return 1 / (number of elements of the batch)."""
        return 1.0 / (n_terms * n_elems(shape))

    def forward(self, tensors: Binding) -> list[Call]:
        """Add up the squared differences."""
        prediction = tensors.vector("out0")
        arguments = (prediction, tensors.vector("label"), tensors.scale, tensors.loss)
        return [
            *copy_unless_same(tensors, "in0", "out0"),
            Call(losses.mse_loss, arguments),
        ]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Write twice the difference, scaled."""
        arguments = (
            tensors.vector("out0"),
            tensors.vector("label"),
            tensors.scale,
            tensors.vector("in0:grad"),
        )
        return [Call(losses.mse_derivative, arguments)]


class CrossEntropy(Loss):
    """Cross entropy after a function that turns the input into probabilities.

    The mean is over samples, unless a loss says otherwise.

    Attributes
    ----------
    kernels : tuple of KernelName
        Kernels of the loss and of its derivative.
    by_row : bool
        True where the kernels work on rows, false where they work on single elements.
    """

    takes_probabilities = True
    kernels: ClassVar[tuple[KernelName, KernelName]]
    by_row: ClassVar[bool]

    def term_scale(self, shape: Shape, n_terms: float) -> float:
        """Return 1 / (number of samples)."""
        return 1.0 / n_terms

    def _arrays(self, tensors: Binding, *roles: str) -> list[Any]:
        return [(tensors.matrix if self.by_row else tensors.vector)(r) for r in roles]

    def forward(self, tensors: Binding) -> list[Call]:
        """Turn logits into probabilities and add up the loss."""
        arrays = self._arrays(tensors, "in0", "label", "out0")
        return [Call(self.kernels[0], (*arrays, tensors.scale, tensors.loss))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Write probabilities minus label, scaled."""
        out, label, d_in = self._arrays(tensors, "out0", "label", "in0:grad")
        return [Call(self.kernels[1], (out, label, tensors.scale, d_in))]


class CrossEntropySoftmax(CrossEntropy):
    """Cross entropy after a softmax over the classes, which are along the last axis.

    With ``per_token=true`` the label is one class number a row, (channel, height, 1),
    and the mean is over the rows whose number is not ``ignore_label``, as in PyTorch's
    ``cross_entropy(ignore_index=…)``. With ``axis=1`` the classes are the channels, and
    a row is a pixel. With ``class_weight`` each label counts as much as its class.
    """

    type_name = "cross_softmax"
    takes_class_numbers = True
    kernels = (losses.cross_softmax_loss, losses.cross_softmax_derivative)
    by_row = True
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        Property(
            "per_token",
            BOOLEAN,
            False,
            "true takes one class number for each row; the mean is over rows",
        ),
        Property(
            "ignore_label",
            whole(-LARGEST_LABEL, LARGEST_LABEL),
            -100,
            "with per_token: rows of this label do not count",
        ),
        AXIS,
        weights_property(
            "class_weight",
            "how much each class counts; the mean divides by the weights of the labels",
        ),
        Property(
            "label_smoothing",
            FRACTION,
            0.0,
            "share of a label that is spread over all classes",
        ),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input, with room for the weights of the classes."""
        spec, shape = super().infer(input_shapes), input_shapes[0]
        if self.class_weights is not None:
            require_weights(self, "class_weight", self.class_weights, shape)
        if self._is_plain:
            return spec
        n_classes, _ = classes_of(shape, self.class_axis)
        flops = Flops(18 * n_elems(shape), 0, 10 * n_elems(shape))
        return replace(with_weights(spec, "class_weight", n_classes), flops=flops)

    @property
    def class_axis(self) -> int:
        """The value of ``axis``."""
        return int(self["axis"])

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """The values of ``class_weight``, as float32."""
        given = self["class_weight"]
        return None if given is None else as_float32(given)

    @property
    def _is_plain(self) -> bool:
        """Whether the kernels for rows of labels that all count 1 are enough."""
        is_weighted = self.class_weights is not None or self["label_smoothing"] > 0
        return self.class_axis == 3 and not is_weighted

    @property
    def ignored_label(self) -> int | None:
        """The value of ``ignore_label`` where ``per_token`` is true."""
        return int(self["ignore_label"]) if self["per_token"] else None

    def label_shape(self, output_shape: Shape) -> Shape:
        """Return one class number for each row, or the shape of the output."""
        if self.ignored_label is None:
            return output_shape
        sizes = list(output_shape)
        sizes[self.class_axis - 1] = 1
        channel, height, width = sizes
        return channel, height, width

    def term_scale(self, shape: Shape, n_terms: float) -> float:
        """Return 1 / (number of samples, or of rows that count); 0 where none does.

        With weights of classes it is the number of rows that are a term together, by
        the sum of the weights.
        """
        rows = 1.0
        if self.class_weights is not None and self.ignored_label is None:
            rows = n_elems(shape) / shape[self.class_axis - 1]
        return rows / n_terms if n_terms else 0.0

    def _weighted(
        self, tensors: Binding, first: str
    ) -> tuple[list[Call], list[Any], tuple[int, int]]:
        """Return the calls that write weights, what kernels take, and the classes."""
        n_classes, inner = classes_of(tensors.output_shapes[0], self.class_axis)
        weights = self.class_weights or (1.0,) * n_classes
        table, calls = fill_weights(tensors, "class_weight", weights)
        smoothing, ignored = self["label_smoothing"], self.ignored_label
        arguments = [
            *(tensors.vector(first), tensors.vector("label")),
            *(int(ignored is not None), float(ignored or 0), table),
            *(1.0 - smoothing, smoothing / n_classes),
        ]
        return calls, arguments, (n_classes, inner)

    def forward(self, tensors: Binding) -> list[Call]:
        """Turn logits into probabilities and add up the loss."""
        if not self._is_plain:
            calls, arguments, classes = self._weighted(tensors, "in0")
            arguments += [tensors.vector("out0"), tensors.scale, tensors.loss, *classes]
            return [*calls, Call(class_losses.weighted_softmax_loss, tuple(arguments))]
        if self.ignored_label is None:
            return super().forward(tensors)
        x, p = self._arrays(tensors, "in0", "out0")
        label, ignored = tensors.vector("label"), float(self.ignored_label)
        arguments_of_rows = (x, label, ignored, p, tensors.scale, tensors.loss)
        return [Call(losses.class_softmax_loss, arguments_of_rows)]

    def predict(self, tensors: Binding) -> list[Call]:
        """Turn logits into probabilities.

        A kernel that rounds as that of the loss does it, as the softmax of an
        activation rounds otherwise.
        """
        if not self._is_plain:
            classes = classes_of(tensors.output_shapes[0], self.class_axis)
            arrays = tensors.vector("in0"), tensors.vector("out0")
            return [Call(class_losses.class_probabilities, (*arrays, *classes))]
        # Of the label the probabilities do not depend: the logits stand in.
        logits, probabilities = self._arrays(tensors, "in0", "out0")
        arguments = (logits, logits, probabilities, tensors.scale, tensors.loss)
        return [Call(losses.cross_softmax_loss, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Write probabilities minus label, scaled; 0 in rows that do not count."""
        if not self._is_plain:
            _, arguments, classes = self._weighted(tensors, "out0")
            arguments += [tensors.scale, tensors.vector("in0:grad"), *classes]
            return [Call(class_losses.weighted_softmax_derivative, tuple(arguments))]
        if self.ignored_label is None:
            return super().calc_derivative(tensors)
        p, dx = self._arrays(tensors, "out0", "in0:grad")
        label, ignored = tensors.vector("label"), float(self.ignored_label)
        arguments_of_rows = (p, label, ignored, tensors.scale, dx)
        return [Call(losses.class_softmax_derivative, arguments_of_rows)]


class CrossEntropySigmoid(CrossEntropy):
    """Binary cross entropy after a sigmoid; the mean over all elements.

    As in NNTrainer, and in PyTorch's ``binary_cross_entropy_with_logits``.
    """

    type_name = "cross_sigmoid"
    rows_are_distributions = False
    kernels = (losses.cross_sigmoid_loss, losses.cross_sigmoid_derivative)
    by_row = False
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        AXIS,
        weights_property(
            "pos_weight",
            "factor of what is positive: one number, or one for each class",
        ),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input, with room for the positive weights."""
        spec, weights = super().infer(input_shapes), self["pos_weight"]
        if weights is None:
            return spec
        if len(weights) > 1:
            require_weights(self, "pos_weight", weights, input_shapes[0])
        return with_weights(spec, "pos_weight", len(weights))

    def _weighted(self, tensors: Binding) -> tuple[list[Call], Any, int]:
        """Return the calls that write weights, the weights, and elements of a class."""
        weights, shape = as_float32(self["pos_weight"]), tensors.output_shapes[0]
        table, calls = fill_weights(tensors, "pos_weight", weights)
        inner = n_elems(shape)
        if len(weights) > 1:
            _, inner = classes_of(shape, self["axis"])
        return calls, table, inner

    def forward(self, tensors: Binding) -> list[Call]:
        """Turn logits into probabilities and add up the loss."""
        if self["pos_weight"] is None:
            return super().forward(tensors)
        calls, table, inner = self._weighted(tensors)
        x, label, p = self._arrays(tensors, "in0", "label", "out0")
        arguments = (x, label, table, p, tensors.scale, tensors.loss, inner)
        return [*calls, Call(class_losses.weighted_sigmoid_loss, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Write the derivatives, scaled."""
        if self["pos_weight"] is None:
            return super().calc_derivative(tensors)
        _, table, inner = self._weighted(tensors)
        p, label, dx = self._arrays(tensors, "out0", "label", "in0:grad")
        arguments = (p, label, table, tensors.scale, dx, inner)
        return [Call(class_losses.weighted_sigmoid_derivative, arguments)]

    def term_scale(self, shape: Shape, n_terms: float) -> float:
        """Return 1 / (number of elements of the batch)."""
        return 1.0 / (n_terms * n_elems(shape))

    def predict(self, tensors: Binding) -> list[Call]:
        """Turn logits into probabilities."""
        arrays = self._arrays(tensors, "in0", "out0")
        return [Call(ACTIVATIONS["sigmoid"].forward, tuple(arrays))]


class KullbackLeibler(Loss):
    """Kullback-Leibler divergence Σ label · log(label / prediction), mean over samples.

    Prediction and label are distributions. The terms are NNTrainer's, except that a
    label of 0 gives 0; NNTrainer adds them up over the batch.
    """

    type_name = "kld"
    takes_probabilities = True
    prediction_is_view = True

    def term_scale(self, shape: Shape, n_terms: float) -> float:
        """Return 1 / (number of samples)."""
        return 1.0 / n_terms

    def forward(self, tensors: Binding) -> list[Call]:
        """Add up the terms."""
        prediction, label = tensors.vector("out0"), tensors.vector("label")
        arguments = (prediction, label, tensors.scale, tensors.loss)
        return [
            *copy_unless_same(tensors, "in0", "out0"),
            Call(losses.kld_loss, arguments),
        ]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Write ``-label / prediction``, scaled."""
        prediction, label = tensors.vector("out0"), tensors.vector("label")
        arguments = (prediction, label, tensors.scale, tensors.vector("in0:grad"))
        return [Call(losses.kld_derivative, arguments)]
