"""Calls the hooks of a layer, and checks what they return and raise.

A hook is a method that the package calls: `expand`, `infer`, `forward`,
`calc_gradient`, `calc_derivative`, and `predict` of a loss. The check happens once,
when the model is compiled or its kernel calls are bound; planner and engine rely on it.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from arena_ckpt.common.dtypes import DTYPES
from arena_ckpt.common.names import input_index, output_index
from arena_ckpt.common.phases import Phase
from arena_ckpt.common.wording import nearest, quote, quoted, shown
from arena_ckpt.errors import (
    ArenaError,
    ArgumentError,
    KernelArgumentError,
    LayerHookError,
    LayerResultError,
    RegionError,
    TensorDtypeError,
    UnknownRoleError,
)
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.layers.partial import with_part
from arena_ckpt.layers.sample_weights import with_sample_weights
from arena_ckpt.layers.spec import LayerSpec, Shape, TensorSpec, WeightSpec
from arena_ckpt.layers.spec_check import check_spec, described, facts_of
from arena_ckpt.operations.kernel_names import KernelName

_MAKES = {
    "forward": "it makes the outputs",
    "calc_gradient": "it makes the gradients of the trained weights, unless "
    "is_trained=False says that they are not trained",
    "calc_derivative": "it makes the derivatives of the inputs, unless fixed_inputs "
    "says that they have none",
}
"""What is missing where a layer does not have the hook."""


def expand_layer(layer: Layer, input_shapes: tuple[Shape, ...]) -> tuple[Layer, ...]:
    """Return the layers that `Layer.expand` returns, checked.

    Raises
    ------
    LayerHookError, LayerResultError
    """
    with _running(layer, "expand"):
        parts = layer.expand(input_shapes)
    return tuple(_items(layer, "expand", parts, Layer, "a tuple of layers"))


def infer_spec(layer: Layer, input_shapes: tuple[Shape, ...]) -> LayerSpec:
    """Return the spec that `Layer.infer` returns, checked.

    Raises
    ------
    TensorDtypeError
        A tensor of a dtype that cannot be planned.
    LayerHookError, LayerResultError
    """
    has_weights = layer.is_loss and len(input_shapes) == 2
    shapes = input_shapes[:1] if has_weights else input_shapes
    with _running(layer, "infer"):
        spec = layer.infer(shapes)
    if not isinstance(spec, LayerSpec):
        raise _result_error(layer, "infer", spec, "a LayerSpec")
    check_spec(layer, spec, len(shapes))
    spec = with_part(layer, spec)
    spec = replace(
        spec,
        output_shapes=tuple(tuple(s) for s in spec.output_shapes),  # type: ignore[misc]
        weights=tuple(spec.weights),
        tensors=tuple(spec.tensors),
        in_place=tuple(spec.in_place),
        id_inputs=tuple(spec.id_inputs),
        fixed_inputs=frozenset(spec.fixed_inputs) | {i.index for i in spec.id_inputs},
        table_inputs=frozenset(spec.table_inputs),
        optional_outputs=frozenset(spec.optional_outputs),
    )
    return with_sample_weights(layer, spec, input_shapes[1]) if has_weights else spec


def hook_calls(
    layer: Layer, phase: Phase, tensors: Binding, hook: str = ""
) -> list[Call]:
    """Return the kernel calls that the hook of a phase returns, checked.

    Parameters
    ----------
    layer : Layer
    phase : Phase
        FORWARD, RECOMPUTE, CALC_GRADIENT or CALC_DERIVATIVE.
    tensors : Binding
    hook : str
        Another hook to ask in that phase: ``"predict"`` of a loss.

    Raises
    ------
    KernelArgumentError
        Arguments that a kernel does not take.
    LayerHookError, LayerResultError, UnknownRoleError, TensorDtypeError
    """
    hook = hook or hook_of(phase)
    base = getattr(Layer, hook, None)
    if layer.n_inputs != 0 and getattr(type(layer), hook) is base:
        raise LayerResultError(
            f"{described(layer)} has no {hook}, which a step of the model needs: "
            f"{_MAKES[hook]}; write it",
            found=None,
            **facts_of(layer, hook),
        )
    with _running(layer, hook):
        calls = getattr(layer, hook)(tensors)
    expected = "a list of Call(kernel, (argument, …))"
    calls = _items(layer, hook, calls, Call, expected)
    for call in calls:
        if not isinstance(call.kernel, KernelName):
            found = f"Call({quoted(call.kernel)}, …)"
            raise _result_error(
                layer, hook, call.kernel, "a kernel made with @kernel", found
            )
        if not isinstance(call.arguments, tuple | list):
            found = f"Call({call.kernel.name}, {quoted(call.arguments)})"
            raise _result_error(
                layer, hook, call.arguments, "a tuple of arguments", found
            )
        try:
            call.kernel.check(call.arguments)
        except KernelArgumentError as error:
            facts = vars(error) | facts_of(layer, hook)
            raise KernelArgumentError(
                f"{described(layer)}: {hook}: {error}", **facts
            ) from None
    return list(calls)


def unknown_role(
    layer: Layer, spec: LayerSpec, phase: Phase, role: object, known: tuple[str, ...]
) -> UnknownRoleError:
    """Return the error of a hook that asks for a tensor that its step does not have.

    Parameters
    ----------
    layer, spec : Layer and LayerSpec
    phase : Phase
        Of the step.
    role : object
        What was asked for.
    known : tuple of str
        The roles that the step has.
    """
    hook = hook_of(phase)
    declared = _declared_at(spec, shown(role))
    if declared:
        advice = f"add {hook.upper()} to {declared}"
    elif ":" in shown(role):
        advice = "ask is_wanted() before for what is not always made"
    else:
        advice = "state in infer what else it needs, and in which phases"
    return UnknownRoleError(
        f"{described(layer)}: {hook} asks for {quoted(role)}, which its step does not "
        f"have{nearest(shown(role), known)}; it has {quote(known)}: {advice}",
        role=role,
        known=known,
        **facts_of(layer, hook),
    )


def _declared_at(spec: LayerSpec, role: str) -> str:
    """Return the lifespan that states when a layer needs a tensor, if there is one."""
    items: tuple[TensorSpec | WeightSpec, ...] = (*spec.tensors, *spec.weights)
    for item in items:
        if item.name == role:
            return f"its lifespan, which is {item.lifespan.name}"
    if input_index(role) is not None:
        return "input_lifespan"
    if output_index(role) is not None:
        return "output_lifespan"
    return ""


def wrong_dtype(layer: Layer, phase: Phase, role: str, dtype: str) -> TensorDtypeError:
    """Return the error of a hook that takes a tensor for one of another dtype."""
    hook = hook_of(phase)
    methods = " or ".join(f"{name}()" for name in DTYPES[dtype].read_by)
    return TensorDtypeError(
        f"{described(layer)}: {hook} asks for {role!r} as another dtype than it has; "
        f"it is {dtype}: use {methods}",
        tensor=role,
        dtype=dtype,
        known=tuple(DTYPES),
        **facts_of(layer, hook),
    )


def hook_of(phase: Phase) -> str:
    """Return the name of the hook that makes the kernel calls of a phase."""
    return "forward" if phase is Phase.RECOMPUTE else phase.value


@contextmanager
def _running(layer: Layer, hook: str) -> Iterator[None]:
    """Turn what a hook raises by mistake into an error that names layer and line."""
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or (
            isinstance(error, ArenaError)
            and not isinstance(error, ArgumentError | RegionError)
        ):
            raise
        file, line = _place_of(error, layer, hook)
        raise LayerHookError(
            f"{described(layer)}: {hook} raised {type(error).__name__}: "
            f"{shown(error)} ({file}, line {line})",
            file=file,
            line=line,
            **facts_of(layer, hook),
        ) from error


def _place_of(error: Exception, layer: Layer, hook: str) -> tuple[str, int | None]:
    """Return the file and line of the layer's code where an error passed last."""
    own = getattr(type(layer), hook).__code__.co_filename
    frames = traceback.extract_tb(error.__traceback__)
    at = next((f for f in reversed(frames) if f.filename == own), frames[-1])
    return at.filename, at.lineno


def _items(layer: Layer, hook: str, found: Any, kind: type, expected: str) -> Any:
    """Return what a hook returned; refuse it if it is no list of things of one kind."""
    if not isinstance(found, tuple | list) or isinstance(found, Call):
        raise _result_error(layer, hook, found, expected)
    for item in found:
        if not isinstance(item, kind):
            raise _result_error(
                layer, hook, item, expected, f"a list with {_a(item)} in it"
            )
    return found


def _result_error(
    layer: Layer, hook: str, found: object, expected: str, written: str = ""
) -> LayerResultError:
    return LayerResultError(
        f"{described(layer)}: {hook} returned {written or _a(found)}; return "
        f"{expected}",
        found=found,
        **facts_of(layer, hook),
    )


def _a(found: object) -> str:
    return "None" if found is None else f"a {type(found).__name__}"
