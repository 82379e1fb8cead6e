"""The losses of a model in C: their labels, scalars and checks, and what is called.

A model of one loss has ``NAME_label()``; of several losses each has a number, in
forward order, and ``NAME_label(i)``. Where no loss takes labels there is neither. The
predictions of several stand one after another in what ``NAME_predict`` fills.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from arena_ckpt.c_export.literals import double_literal, float_literal
from arena_ckpt.c_export.terms_code import count_terms
from arena_ckpt.common.names import LABEL, tensor_name
from arena_ckpt.errors import CExportError
from arena_ckpt.graph.build import Graph, loss_of
from arena_ckpt.layers.loss import Loss
from arena_ckpt.layers.spec import Shape, n_elems
from arena_ckpt.lowering.tensor_regions import TensorRegions
from arena_ckpt.operations.regions import Region
from arena_ckpt.planning.loss_places import (
    SHARED,
    LossPlaces,
    control_length,
    loss_places,
)
from arena_ckpt.planning.plan import MemoryPlan

_TRAINED_LOSS = """
/* The sum of the losses, each times its weight, and of the penalties. */
static double trained_loss(void)
{{
    double total = CONTROL[LOSS];
{terms}
    return total;
}}
"""


@dataclass(frozen=True, slots=True)
class _Head:
    """One loss, where its labels lie (None: nowhere), and its scalars."""

    loss: Loss
    shape: Shape
    label: Region | None
    places: LossPlaces

    @property
    def label_elements(self) -> int:
        return 0 if self.label is None else self.label.size // self.label.shape[0]


class LossText:
    """Makes what a program says of its losses.

    Parameters
    ----------
    graph : Graph
    plan : MemoryPlan
    name : str
        With which functions begin, in small letters.
    pointer : callable
        Returns a pointer to a region.
    """

    def __init__(
        self,
        graph: Graph,
        plan: MemoryPlan,
        name: str,
        pointer: Callable[[Region], str],
    ) -> None:
        self._plan = plan
        self._name, self._upper = name, name.upper()
        self._pointer = pointer
        regions = TensorRegions(plan)
        there = {tensor.name for tensor in plan.tensors}
        places = loss_places([n.name for n in graph.losses], control_length(graph))
        self._heads = [
            _Head(
                loss_of(node),
                node.spec.output_shapes[0],
                regions.named(label) if label in there else None,
                places[node.name],
            )
            for node in graph.losses
            for label in (tensor_name(node.name, LABEL),)
        ]
        shapes = [head.shape for head in self._heads]
        self.output_elements = sum(map(n_elems, shapes or [graph.prediction_shape]))
        self._has_own_places = any(head.places != SHARED for head in self._heads)

    @property
    def are_several(self) -> bool:
        """Whether labels are by the number of a loss."""
        return len(self._heads) > 1

    @property
    def label_elements(self) -> list[int]:
        """Number of values of the label of one sample, by loss."""
        return [head.label_elements for head in self._heads]

    @property
    def _take_labels(self) -> bool:
        return any(head.loss.takes_label for head in self._heads)

    # -- scalars -----------------------------------------------------------------------

    def require_countable_terms(self, n_passes: int) -> None:
        """Refuse a mean over rows that cannot be counted before the first pass.

        Raises
        ------
        CExportError
        """
        for head in self._heads if n_passes > 1 else ():
            loss = head.loss
            if not loss.counts_labels:
                continue
            over = (
                "over the labels that are not ignored"
                if loss.class_weights is None
                else "by the weights of the classes of all labels"
            )
            raise CExportError(
                f"layer {loss.name!r} takes the mean {over}, of all micro-batches, "
                "which a device has not seen when the first begins; leave "
                "micro_batches out",
                layers=(loss.name,),
                kernels=(),
            )

    def begin_lines(self) -> Iterator[str]:
        """Yield the lines that set sums to 0, and the factors known beforehand."""
        yield "    CONTROL[LOSS] = 0.0;"
        for head in self._heads:
            loss, places = head.loss, head.places
            scale = 0.0
            if not loss.counts_labels:
                scale = loss.term_scale(head.shape, self._plan.batch_size)
            if places == SHARED:
                yield f"    CONTROL[SCALE] = {double_literal(scale)};"
                continue
            yield f"    CONTROL[{places.loss}] = 0.0;"
            yield f"    CONTROL[{places.scale}] = {double_literal(scale)};"
            derivative = double_literal(scale * loss.weight)
            yield f"    CONTROL[{places.derivative_scale}] = {derivative};"

    def clear_lines(self) -> Iterator[str]:
        """Yield the lines that set the sums and factors of a prediction to 0."""
        yield "    CONTROL[LOSS] = 0.0;"
        yield "    CONTROL[SCALE] = 0.0;"
        for head in self._heads:
            for place in head.places if head.places != SHARED else ():
                yield f"    CONTROL[{place}] = 0.0;"

    def clear_label_lines(self) -> Iterator[str]:
        """Yield the lines that set the labels of a prediction to 0."""
        for head in self._heads:
            if head.label is not None:
                n = self._plan.pass_samples * head.label_elements
                yield f"    fill(0.0f, {self._pointer(head.label)}, {n});"

    def count_lines(self) -> Iterator[str]:
        """Yield the lines that count the rows that a mean is over."""
        for head in self._heads:
            loss, label, places = head.loss, head.label, head.places
            if not loss.counts_labels or label is None:
                continue
            scale = "SCALE" if places == SHARED else str(int(places.scale))
            at, n = self._pointer(label), head.label_elements
            yield count_terms(loss, head.shape, at, n, scale)
            if places != SHARED:
                weight = double_literal(loss.weight)
                to = f"CONTROL[{places.derivative_scale}]"
                yield f"    {to} = CONTROL[{scale}] * {weight};"

    @property
    def trained_loss(self) -> str:
        """An expression of the loss that is trained."""
        return "trained_loss()" if self._has_own_places else "CONTROL[LOSS]"

    def functions(self) -> str:
        """Return the function behind `trained_loss`, and where labels go."""
        text = ""
        if self._has_own_places:
            terms = (
                f"    total += {double_literal(head.loss.weight)} * "
                f"CONTROL[{head.places.loss}];"
                for head in self._heads
            )
            text += _TRAINED_LOSS.format(terms="\n".join(terms))
        if not self.are_several:
            (head,) = self._heads
            if head.label is None:
                return text
            at = self._pointer(head.label)
            return (
                f"{text}\nfloat *{self._name}_label(void)\n{{\n    return {at};\n}}\n"
            )
        if not self._take_labels:
            return text
        cases = "\n".join(
            f"    case {number}: return {self._pointer(head.label)};"
            for number, head in enumerate(self._heads)
            if head.label is not None
        )
        return (
            f"{text}\nfloat *{self._name}_label(int32_t i)\n{{\n    switch (i) {{\n"
            f"{cases}\n    default: return 0;\n    }}\n}}\n"
        )

    # -- labels ------------------------------------------------------------------------

    def label_checks(self) -> tuple[list[str], bool, bool]:
        """Return the checks of labels, and whether they are of numbers or shares."""
        lines: list[str] = []
        uses_numbers = uses_shares = False
        for head in self._heads:
            if head.label is None:
                continue
            loss, at, n = head.loss, self._pointer(head.label), head.label_elements
            lines += self._unless(f"are_finite({at}, n * {n}, 0)", "NONFINITE_INPUT")
            if loss.ignored_label is not None:
                width = float_literal(head.shape[loss.class_axis - 1])
                ignored = float_literal(loss.ignored_label)
                check = f"are_numbers({at}, n * {n}, 0.0f, {width}, {ignored})"
                lines += self._unless(check, "BAD_ID")
                uses_numbers = True
            elif loss.takes_probabilities:
                check = f"are_probabilities({at}, n * {n})"
                lines += self._unless(check, "BAD_ID")
                uses_shares = True
        return lines, uses_numbers, uses_shares

    def _unless(self, check: str, status: str) -> list[str]:
        status = f"{self._upper}_{status}"
        return [f"    if (!{check}) {{", f"        return {status};", "    }"]

    def element_macro(self) -> str:
        """Return the macro with the number of values of a label, by loss."""
        name, counts = f"{self._upper}_LABEL_ELEMENTS", self.label_elements
        if not self._take_labels:
            of_losses = f"#define {self._upper}_LOSSES {len(counts)}\n"
            none = "/* No loss takes labels. */"
            return f"{of_losses}{none}" if self.are_several else none
        if not self.are_several:
            return f"#define {name} {counts[0]} /* of one sample */"
        listed = ", ".join(map(str, counts))
        return (
            f"#define {self._upper}_LOSSES {len(counts)}\n"
            f"#define {name} {{{listed}}} /* of one sample, by loss */"
        )

    def declaration(self) -> str:
        """Return the declaration of where labels go."""
        name = f"{self._name}_label"
        if not self._take_labels:
            return "/* There are no labels: what the model computes is its loss. */"
        if not self.are_several:
            return (
                "/* Where the labels of the samples go: "
                f"{_help_of(self._heads[0].loss)}. */\nfloat *{name}(void);"
            )
        lines = [
            f" * {number}, {head.loss.name}: {_help_of(head.loss)}"
            for number, head in enumerate(self._heads)
        ]
        return (
            "/* Where the labels of the samples for a loss go; 0 where there is no "
            "such loss.\n" + ";\n".join(lines) + f". */\nfloat *{name}(int32_t i);"
        )

    def label_words(self) -> str:
        """Return how a comment names where labels go."""
        if not self._take_labels:
            return "no labels"
        return f"{self._name}_label({'i' if self.are_several else ''})"

    def and_labels(self) -> str:
        """Return what a feed brings beside samples, behind a comma."""
        if not self._take_labels:
            return ""
        return f", and their labels into {self.label_words()}"

    def fill_lines(self) -> str:
        """Return the lines that fill the labels of n samples with zeros."""
        stem = f"    fill({self._name}_label"
        if not self._take_labels:
            return ""
        if not self.are_several:
            return f"{stem}(), n * {self._upper}_LABEL_ELEMENTS, 0);"
        return "\n".join(
            f"{stem}({number}), n * {n}, 0);"
            for number, n in enumerate(self.label_elements)
            if n
        )

    def test_lines(self) -> str:
        """Return the lines that copy labels of the test to where they go."""
        macro, batch = f"{self._upper}_LABEL_ELEMENTS", f"{self._upper}_BATCH"
        if not self._take_labels:
            return ""
        if not self.are_several:
            places = [("", "", macro)]
        else:
            places = [
                (str(i), str(i), str(n)) for i, n in enumerate(self.label_elements) if n
            ]
        return "\n".join(
            f"    copy_bytes({self._name}_label({number}),\n"
            f"        test_label{tail} + (batch_number * {batch} + first) * {n},\n"
            f"        4u * (uint32_t)n * {n});"
            for number, tail, n in places
        )

    # -- predictions -------------------------------------------------------------------

    def output_help(self) -> str:
        """Return where the predictions of several losses stand; empty for one."""
        if not self.are_several:
            return ""
        listed = ", ".join(
            f"{n_elems(head.shape)} of {head.loss.name}" for head in self._heads
        )
        return (
            ".\n * The predictions of each loss for all samples stand one after "
            f"another: of a sample\n * {listed}"
        )


def _help_of(loss: Loss) -> str:
    if not loss.takes_label:
        return "none, 0 is returned"
    if loss.ignored_label is not None:
        return (
            f"a class number for each row,\n * {loss.ignored_label} for rows that "
            "do not count"
        )
    if loss.takes_class_numbers:
        return "1 for the class of each, 0 for the others"
    return "values like those of the output"
