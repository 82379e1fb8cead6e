"""The C statements that count the labels which the mean of a loss divides by."""

from __future__ import annotations

from arena_ckpt.c_export.literals import double_literal, float_literal
from arena_ckpt.layers.class_weights import classes_of
from arena_ckpt.layers.loss import Loss
from arena_ckpt.layers.spec import Shape


def count_terms(
    loss: Loss, shape: Shape, label: str, n_elems: int, scale: str = "SCALE"
) -> str:
    """Return a block that sets the scale of the loss; empty where it is fixed.

    Parameters
    ----------
    loss : Loss
    shape : Shape
        Shape of one sample of the output.
    label : str
        Pointer to the labels of the `n` samples of a batch.
    n_elems : int
        Number of values of the label of one sample.
    scale : str
        Place of the scale in the control tensor.
    """
    if loss.class_weights is not None:
        return _count_weights(loss, loss.class_weights, shape, label, n_elems, scale)
    if loss.ignored_label is None:
        return ""
    return (
        "    {\n"
        "        int32_t i, terms = 0;\n"
        f"        for (i = 0; i < n * {n_elems}; i++) {{\n"
        f"            terms += {label}[i] != {float_literal(loss.ignored_label)};\n"
        "        }\n"
        f"        CONTROL[{scale}] = terms ? 1.0 / terms : 0.0;\n"
        "    }"
    )


def _count_weights(
    loss: Loss,
    weights: tuple[float, ...],
    shape: Shape,
    label: str,
    n_elems: int,
    scale: str,
) -> str:
    """Return a block that adds up the weights of the labels.

    It adds in the order of `data.class_terms`.
    """
    n_classes, inner = classes_of(shape, loss.class_axis)
    if loss.ignored_label is None:
        step = f"terms += (double){label}[i] * weights[i / {inner} % {n_classes}];"
    else:
        step = (
            f"if ({label}[i] != {float_literal(loss.ignored_label)}) {{\n"
            f"                terms += weights[(int32_t){label}[i]];\n"
            "            }"
        )
    rows = double_literal(loss.term_scale(shape, 1.0))
    return (
        "    {\n"
        f"        static const double weights[{n_classes}] = {{\n"
        + "".join(f"            {double_literal(weight)},\n" for weight in weights)
        + "        };\n"
        "        double terms = 0.0;\n"
        "        int32_t i;\n"
        f"        for (i = 0; i < n * {n_elems}; i++) {{\n"
        f"            {step}\n"
        "        }\n"
        f"        CONTROL[{scale}] = terms > 0.0 ? {rows} / terms : 0.0;\n"
        "    }"
    )
