"""Checks the `LayerSpec` that a layer of one's own returns, field by field.

Planner and engine take for granted that names, shapes, dtypes and lifespans are
possible, so each spec is checked once, when its layer is inferred.
"""

from __future__ import annotations

import math
from typing import Any

from arena_ckpt.common.dtypes import DTYPES
from arena_ckpt.common.flops import Flops
from arena_ckpt.common.names import (
    CONTROL,
    gradient_of,
    input_role,
    is_own_name,
    is_reserved,
    output_role,
    split_first,
    tensor_name,
)
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.wording import quote, quoted
from arena_ckpt.errors import LayerResultError, TensorDtypeError
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.spec import (
    INITIALIZERS,
    LARGEST_ID,
    IdInput,
    InPlace,
    LayerSpec,
    TensorSpec,
    WeightSpec,
    n_elems,
)


def check_spec(layer: Layer, spec: LayerSpec, n_inputs: int) -> None:
    """Refuse a spec with a value that is not possible.

    Parameters
    ----------
    layer : Layer
        The layer whose `infer` returned `spec`.
    spec : LayerSpec
    n_inputs : int
        Number of inputs of the layer.

    Raises
    ------
    TensorDtypeError
        A tensor of a dtype that cannot be planned.
    LayerResultError
        Anything else; the message names the field.
    """
    _SpecCheck(layer).run(spec, n_inputs)


class _SpecCheck:
    def __init__(self, layer: Layer) -> None:
        self.layer = layer

    def run(self, spec: LayerSpec, n_inputs: int) -> None:
        for field, kind in (
            ("weights", WeightSpec),
            ("tensors", TensorSpec),
            ("in_place", InPlace),
        ):
            items = getattr(spec, field)
            if not _is_list_of(items, kind):
                raise self.error(field, items, f"a tuple of {kind.__name__}s")
        if not _is_list_of(spec.output_shapes, (tuple, list)):
            expected = "a tuple of shapes (channel, height, width)"
            raise self.error("output_shapes", spec.output_shapes, expected)
        for shape in spec.output_shapes:
            self._sizes("output_shapes", shape, n_axes=3)
        self._lifespans(spec, n_inputs)
        for weight in spec.weights:
            self._weight(weight)
        self._table(spec)
        for tensor in spec.tensors:
            self._tensor(tensor)
        self._roles(spec, n_inputs)
        self._inputs(spec, n_inputs)
        self._flops(spec.flops)

    def _inputs(self, spec: LayerSpec, n_inputs: int) -> None:
        def is_input(index: object) -> bool:
            return type(index) is int and 0 <= index < n_inputs

        for field in ("fixed_inputs", "table_inputs"):
            numbers = getattr(spec, field)
            if not isinstance(numbers, frozenset | set | tuple | list) or not all(
                map(is_input, numbers)
            ):
                expected = f"a frozenset of numbers of inputs, from 0 to {n_inputs - 1}"
                raise self.error(field, numbers, expected)
        places = range(len(spec.output_shapes))
        optional = spec.optional_outputs
        if not isinstance(optional, frozenset | set | tuple | list) or not all(
            type(index) is int and index in places for index in optional
        ):
            expected = f"a frozenset of numbers of outputs, from 0 to {len(places) - 1}"
            raise self.error("optional_outputs", optional, expected)
        if not _is_list_of(spec.id_inputs, IdInput):
            raise self.error("id_inputs", spec.id_inputs, "a tuple of IdInputs")
        for ids in spec.id_inputs:
            if not is_input(ids.index):
                expected = f"the number of an input, from 0 to {n_inputs - 1}"
                raise self.error("id_inputs: index", ids.index, expected)
            if type(ids.n_ids) is not int or not 0 < ids.n_ids <= LARGEST_ID:
                expected = f"a whole number (int) from 1 to {LARGEST_ID:,}"
                raise self.error("id_inputs: n_ids", ids.n_ids, expected)
            if type(ids.least) is not int or not 0 <= ids.least < ids.n_ids:
                expected = f"a whole number (int) from 0 to {ids.n_ids - 1}"
                raise self.error("id_inputs: least", ids.least, expected)
            if not isinstance(ids.called, str) or not ids.called:
                raise self.error("id_inputs: called", ids.called, "a text, as 'ids'")
            known = {declared.name for declared in self.layer.properties}
            if not isinstance(ids.set_by, str) or ids.set_by not in {"", *known}:
                expected = "the name of a property of the layer, or ''"
                raise self.error("id_inputs: set_by", ids.set_by, expected)

    def _flops(self, flops: object) -> None:
        if not isinstance(flops, Flops) or not all(
            type(n) is int and n >= 0
            for n in (
                flops.forward,
                flops.calc_gradient,
                flops.calc_derivative,
                flops.output,
            )
        ):
            raise self.error("flops", flops, "Flops(…) of whole numbers of at least 0")

    def _lifespans(self, spec: LayerSpec, n_inputs: int) -> None:
        given = spec.input_lifespan
        each = given if isinstance(given, tuple) else (given,) * n_inputs
        if len(each) != n_inputs or not _is_list_of(each, TensorLifespan):
            expected = f"a TensorLifespan, or a tuple of {n_inputs}, one an input"
            raise self.error("input_lifespan", given, expected)
        if not isinstance(spec.output_lifespan, TensorLifespan):
            expected = "a TensorLifespan"
            raise self.error("output_lifespan", spec.output_lifespan, expected)

    def _weight(self, weight: WeightSpec) -> None:
        what = f"the weight {quoted(weight.name)}"
        self._sizes(f"{what}: shape", weight.shape)
        if not isinstance(weight.lifespan, TensorLifespan):
            raise self.error(f"{what}: lifespan", weight.lifespan, "a TensorLifespan")
        if weight.initializer not in INITIALIZERS:
            expected = f"one of {quote(INITIALIZERS)}"
            raise self.error(f"{what}: initializer", weight.initializer, expected)
        for field in ("fan_in", "fan_out"):
            value = getattr(weight, field)
            if type(value) is not int or value < 1:
                expected = "a whole number (int) above 0"
                raise self.error(f"{what}: {field}", value, expected)
        for field in ("decay", "regularizer_constant"):
            value = getattr(weight, field)
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise self.error(f"{what}: {field}", value, "a number of at least 0")
        for field in ("is_trained", "is_frozen"):
            if not isinstance(getattr(weight, field), bool):
                found = getattr(weight, field)
                raise self.error(f"{what}: {field}", found, "True or False")
        touched = weight.touched_rows
        if touched is not None and (
            type(touched) is not int or touched < 1 or len(weight.shape) != 2
        ):
            expected = "a whole number (int) above 0, of a matrix, or None"
            raise self.error(f"{what}: touched_rows", touched, expected)
        factors = weight.gradient_factors
        if factors and not (_is_list_of(factors, str) and len(factors) == 2):
            expected = "two roles, or None"
            raise self.error(f"{what}: gradient_factors", factors, expected)
        if weight.values is not None and (
            not isinstance(weight.values, bytes)
            or len(weight.values) != 4 * n_elems(weight.shape)
        ):
            expected = f"bytes of {n_elems(weight.shape)} float32 numbers, or None"
            raise self.error(f"{what}: values", weight.values, expected)
        row = weight.zero_row
        if row is not None and not (type(row) is int and 0 <= row < weight.shape[0]):
            expected = f"a row from 0 to {weight.shape[0] - 1}, or None"
            raise self.error(f"{what}: zero_row", row, expected)

    def _table(self, spec: LayerSpec) -> None:
        """Refuse a table whose output is not its one weight."""
        shapes = tuple(weight.shape for weight in spec.weights)
        if self.layer.is_table and shapes != tuple(map(tuple, spec.output_shapes)):
            expected = f"one weight of the shape of the output, {spec.output_shapes}"
            raise self.error("weights", shapes, expected)

    def _tensor(self, tensor: TensorSpec) -> None:
        what = f"the tensor {quoted(tensor.name)}"
        if not isinstance(tensor.dtype, str) or tensor.dtype not in DTYPES:
            raise TensorDtypeError(
                f"{described(self.layer)}: {what} is of the dtype "
                f"{quoted(tensor.dtype)}, which cannot be planned; there are "
                f"{quote(DTYPES)}",
                tensor=tensor.name,
                dtype=tensor.dtype,
                known=tuple(DTYPES),
                **facts_of(self.layer, "infer"),
            )
        self._sizes(f"{what}: shape", tensor.shape)
        if not isinstance(tensor.per_sample, bool):
            raise self.error(f"{what}: per_sample", tensor.per_sample, "True or False")
        lifespan = tensor.lifespan
        if not isinstance(lifespan, TensorLifespan) or not lifespan:
            expected = "a TensorLifespan of at least one phase"
            raise self.error(f"{what}: lifespan", lifespan, expected)

    def _sizes(self, what: str, shape: Any, n_axes: int | None = None) -> None:
        is_shape = isinstance(shape, tuple | list) and all(
            type(size) is int and size > 0 for size in shape
        )
        if not is_shape or n_axes not in (None, len(shape)):
            axes = "" if n_axes is None else f"{n_axes} "
            expected = f"a tuple of {axes}whole numbers (int) above 0"
            raise self.error(what, shape, expected)

    def _roles(self, spec: LayerSpec, n_inputs: int) -> None:
        """Refuse names that are taken, and in-place results that there are not."""
        names = self._own_names(spec)
        inputs = [input_role(i) for i in range(n_inputs)]
        outputs = [output_role(i) for i in range(len(spec.output_shapes))]
        roles = {*names, *inputs, *outputs}
        # A frozen layer makes no gradients, so it may leave out what they are made of.
        for weight in spec.weights if self.layer.is_trainable else ():
            for role in weight.gradient_factors or ():
                if role not in roles and role not in map(gradient_of, roles):
                    expected = f"roles of the layer: {quote(sorted(roles))}"
                    raise self.error("gradient_factors", role, expected)
        for item in spec.in_place:
            if item.phase not in (Phase.FORWARD, Phase.CALC_DERIVATIVE):
                expected = "Phase.FORWARD or Phase.CALC_DERIVATIVE"
                raise self.error("in_place: phase", item.phase, expected)
            if not isinstance(item.operands, tuple | list):
                expected = "a tuple of roles"
                raise self.error("in_place: operands", item.operands, expected)
            for role in (item.result, *item.operands):
                if not isinstance(role, str) or split_first(role)[0] not in roles:
                    expected = f"a role of the layer: {quote(sorted(roles))}"
                    raise self.error("in_place", role, expected)

    def _own_names(self, spec: LayerSpec) -> list[str]:
        """Return the names of weights and tensors; refuse those that collide."""
        names: list[str] = []
        items: tuple[WeightSpec | TensorSpec, ...] = (*spec.weights, *spec.tensors)
        for item in items:
            name = item.name
            if not is_own_name(name):
                expected = "a text that can be printed, without ':', '/' and '#'"
                raise self.error("a name", name, expected)
            taken = is_reserved(name) or tensor_name(self.layer.name, name) == CONTROL
            if taken or name in names:
                raise self.error("a name", name, "one that no other tensor has")
            names.append(name)
        return names

    def error(self, what: str, found: object, expected: str) -> LayerResultError:
        """Return the error of a field with a value that is not possible."""
        return LayerResultError(
            f"{described(self.layer)}: infer states {what} as {quoted(found)}; "
            f"expected {expected}",
            found=found,
            **facts_of(self.layer, "infer"),
        )


def _is_list_of(items: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(items, tuple | list) and all(isinstance(i, kind) for i in items)


def described(layer: Layer) -> str:
    """Return a layer as messages name it: ``"layer 'fc' (fully_connected)"``."""
    return f"layer {layer.name!r} ({layer.type_name})"


def facts_of(layer: Layer, hook: str) -> dict[str, Any]:
    """Return the attributes that every error of a hook has."""
    return {"layer": layer.name, "type_name": layer.type_name, "hook": hook}
