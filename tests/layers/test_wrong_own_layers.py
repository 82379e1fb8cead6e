"""Layers of one's own that are wrong: each is refused in words that say where."""

from __future__ import annotations

import linecache
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import arena_ckpt as ac
from arena_ckpt.common.dtypes import DTYPES, item_bytes
from arena_ckpt.errors import ArenaError
from arena_ckpt.kernels.kernel import kernel_of
from arena_ckpt.layers import (
    COMMON_PROPERTIES,
    INITIALIZERS,
    LAYER_TYPES,
    Binding,
    Call,
    Flops,
    IdInput,
    InPlace,
    Integers,
    InvalidParameterError,
    KernelArgumentError,
    KernelCompileError,
    KernelError,
    KernelSignatureError,
    Layer,
    LayerHookError,
    LayerResultError,
    LayerSpec,
    Loss,
    Matrix,
    OwnLayerError,
    Phase,
    Property,
    Shape,
    TensorDtypeError,
    TensorSpec,
    UnknownPropertyError,
    UnknownRoleError,
    Vector,
    WeightSpec,
    families,
    kernel,
)
from arena_ckpt.layers import TensorLifespan as T
from arena_ckpt.planning.plan import MemoryPlan

Hook = Callable[..., Any]


def saved(**values: Any) -> TensorSpec:
    given = {"name": "note", "shape": (6,), "lifespan": T.FORWARD_DERIV} | values
    return TensorSpec(**given)


copy = families.elementwise.copy


class Copying(Layer):
    """The identity; hooks of a test take the place of its own."""

    type_name = "copying"
    hooks: ClassVar[dict[str, Hook]] = {}
    spec: ClassVar[dict[str, Any]] = {}

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        if "infer" in self.hooks:
            return self.hooks["infer"](self, input_shapes)
        return LayerSpec(**({"output_shapes": input_shapes} | self.spec))

    def expand(self, input_shapes: tuple[Shape, ...]) -> tuple[Layer, ...]:
        return self.hooks.get("expand", lambda layer, shapes: (layer,))(
            self, input_shapes
        )

    def forward(self, tensors: Binding) -> list[Call]:
        return self.hooks.get("forward", _forward)(self, tensors)

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        return self.hooks.get("calc_derivative", _derivative)(self, tensors)


def _forward(layer: Layer, t: Binding) -> list[Call]:
    return [Call(copy, (t.vector("in0"), t.vector("out0")))]


def _derivative(layer: Layer, t: Binding) -> list[Call]:
    return [Call(copy, (t.vector("out0:grad"), t.vector("in0:grad")))]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYER_TYPES, "copying", Copying)


def model_with(
    monkeypatch: pytest.MonkeyPatch,
    hooks: dict[str, Hook] | None = None,
    **spec: Any,
) -> ac.Model:
    monkeypatch.setattr(Copying, "hooks", hooks or {})
    monkeypatch.setattr(Copying, "spec", spec)
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="fc", unit=6)
    model.add_layer("copying", name="it")
    model.add_layer("fully_connected", name="last", unit=6)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=2)
    return model


# -- what infer states -----------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["int64", "float16", "int8", "f4", "float", "", None, np.float32, 4]
)
def test_a_dtype_that_cannot_be_planned_is_refused_when_inferred(
    dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_with(monkeypatch, tensors=(saved(dtype=dtype),))
    for call in (model.compile, model.make_plan, model.initialize):
        with pytest.raises(
            TensorDtypeError,
            match=r"layer 'it' \(copying\): the tensor 'note' .* cannot be planned; "
            "there are 'float32', 'float64', 'int32'",
        ) as e:
            call()
        assert e.value.layer == "it"  # type: ignore[attr-defined]
        assert e.value.tensor == "note"  # type: ignore[attr-defined]
        assert e.value.dtype is dtype  # type: ignore[attr-defined]
        assert isinstance(e.value, TypeError)
    assert not model.is_initialized


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_dtype_that_can_be_planned_has_its_size_everywhere(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In liveness, in the plan's own check, in the arena, and what hooks read it by."""
    model = model_with(monkeypatch, tensors=(saved(dtype=dtype),))
    plan = model.make_plan()
    (tensor,) = (t for t in plan.tensors if t.name == "it:note")
    assert tensor.size_bytes == 2 * 6 * np.dtype(dtype).itemsize
    assert item_bytes(dtype) == np.dtype(dtype).itemsize
    assert DTYPES[dtype].is_float == np.issubdtype(dtype, np.floating)
    assert MemoryPlan.from_json(plan.to_json()) == plan
    assert DTYPES[dtype].read_by


def test_the_dtypes_that_hooks_read_are_those_that_can_be_planned() -> None:
    methods = [name for dtype in DTYPES.values() for name in dtype.read_by]
    returned = {"vector", "matrix", "indexes", "doubles"}
    assert set(methods) == returned <= set(vars(Binding))
    assert len(methods) == len(returned)


def weight(**values: Any) -> WeightSpec:
    given: dict[str, Any] = {
        **{"name": "w", "shape": (6,), "initializer": "ones", "fan_in": 1},
        **{"fan_out": 1, "lifespan": T.FORWARD},
    }
    return WeightSpec(**(given | values))


WRONG_SPECS: dict[str, tuple[dict[str, Any], str]] = {
    "a shape of two": ({"output_shapes": ((1, 6),)}, r"output_shapes as \(1, 6\).* 3 "),
    "one shape": ({"output_shapes": (1, 1, 6)}, "output_shapes.*tuple of shapes"),
    "no height": ({"output_shapes": ((1, 0, 6),)}, "whole numbers .int. above 0"),
    "half a height": ({"output_shapes": ((1, 0.5, 6),)}, "whole numbers"),
    "a size of NumPy": ({"output_shapes": ((1, 1, np.int64(6)),)}, r"numbers \(int\)"),
    "a set of shapes": ({"output_shapes": {(1, 1, 6)}}, "output_shapes"),
    "one tensor": ({"tensors": saved()}, "tensors .*a tuple of TensorSpecs"),
    "a name for a tensor": ({"tensors": ("note",)}, "a tuple of TensorSpecs"),
    "a tensor for a weight": ({"weights": (saved(),)}, "a tuple of WeightSpecs"),
    "shape of a tensor": ({"tensors": (saved(shape=6),)}, "'note': shape as 6"),
    "lifespan in words": (
        {"tensors": (saved(lifespan="FORWARD"),)},
        "'note': lifespan as 'FORWARD'; expected a TensorLifespan",
    ),
    "no lifespan": ({"tensors": (saved(lifespan=T.UNMANAGED),)}, "at least one phase"),
    "one name twice": ({"tensors": (saved(), saved())}, "name as 'note'.*no other"),
    "name of a weight": (
        {"tensors": (saved(name="w"),), "weights": (weight(),)}, "name as 'w'"
    ),
    "name of an input": ({"tensors": (saved(name="in0"),)}, "'in0'; expected one"),
    "name of a role": ({"tensors": (saved(name="a:grad"),)}, "without ':'"),
    "no name": ({"tensors": (saved(name=None),)}, "a name as None; expected a text"),
    "lifespan of a phase": ({"input_lifespan": Phase.FORWARD}, "input_lifespan"),
    "two lifespans": ({"input_lifespan": (T.FORWARD,) * 2}, "a tuple of 1, one an"),
    "output lifespan": ({"output_lifespan": None}, "output_lifespan as None"),
    "initializer": (
        {"weights": (weight(initializer="xavier"),)},
        "'w': initializer as 'xavier'; expected one of 'zeros', .*'xavier_normal'",
    ),
    "one factor": ({"weights": (weight(gradient_factors="in0"),)}, "two roles"),
    "in place of nothing": (
        {"in_place": (InPlace(Phase.FORWARD, "out0", ("in3",)),)},
        "in_place as 'in3'; expected a role of the layer: 'in0', 'out0'",
    ),
    "in place, one text": (
        {"in_place": (InPlace(Phase.FORWARD, "out0", "in0"),)},  # type: ignore[arg-type]
        "operands as 'in0'; expected a tuple of roles",
    ),
    "in place in a gradient": (
        {"in_place": (InPlace(Phase.CALC_GRADIENT, "out0", ("in0",)),)},
        "phase as Phase.CALC_GRADIENT; expected Phase.FORWARD or",
    ),
    "fan": ({"weights": (weight(fan_in=0),)}, "'w': fan_in as 0; expected a whole"),
    "fan of NumPy": ({"weights": (weight(fan_out=np.int64(3)),)}, "fan_out as 3"),
    "decay": ({"weights": (weight(decay="x"),)}, "decay as 'x'; expected a number"),
    "penalty": ({"weights": (weight(regularizer_constant=-1),)}, "_constant as -1"),
    "touched": ({"weights": (weight(touched_rows=0),)}, "touched_rows as 0"),
    "frozen": ({"weights": (weight(is_frozen=1),)}, "is_frozen as 1"),
    "trained": ({"weights": (weight(is_trained="no"),)}, "is_trained as 'no'"),
    "factors": (
        {"weights": (weight(gradient_factors=("in0", "out3:grad")),)},
        "gradient_factors as 'out3:grad'; expected roles of the layer: 'in0', 'out0'",
    ),
    "samples": ({"tensors": (saved(per_sample="no"),)}, "per_sample as 'no'"),
    "an input": ({"fixed_inputs": 0}, "fixed_inputs as 0; expected a frozenset"),
    "flops in words": ({"flops": Flops("many")}, "flops as .*of whole numbers"),
    "flops below 0": ({"flops": Flops(3, -1)}, "flops as .*of at least 0"),
    "fixed input": ({"fixed_inputs": frozenset([1])}, "fixed_inputs .*from 0 to 0"),
    "optional outputs": ({"optional_outputs": {1}}, "optional_outputs as .1.; .* to 0"),
    "ids": ({"id_inputs": 0}, "id_inputs as 0; expected a tuple of IdInputs"),
    "ids of an input": ({"id_inputs": (IdInput(1, 5),)}, "id_inputs: index as 1; .*0$"),
    "no ids": ({"id_inputs": (IdInput(0, 0),)}, "id_inputs: n_ids as 0; expected a"),
    "too many ids": ({"id_inputs": (IdInput(0, 2**24 + 1),)}, "from 1 to 16,777,216"),
    "ids set by": (
        {"id_inputs": (IdInput(0, 5, set_by="rows"),)}, "set_by as 'rows'; expected"
    ),
    "flops": ({"flops": 12}, r"flops as 12; expected Flops\(…\)"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_SPECS)
def test_a_spec_that_cannot_be_is_refused(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, message = WRONG_SPECS[what]
    with pytest.raises(LayerResultError, match=message) as e:
        model_with(monkeypatch, **spec).compile()
    assert str(e.value).startswith("layer 'it' (copying): infer states ")
    assert isinstance(e.value, TypeError)


@pytest.mark.parametrize("hook", ["forward", "calc_gradient", "calc_derivative"])
def test_a_hook_that_is_missing_where_a_step_needs_it(
    hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it would make would be whatever stood in the arena before."""
    if hook != "calc_gradient":
        monkeypatch.delattr(Copying, hook)
    weights = (weight(),) if hook == "calc_gradient" else ()
    model = model_with(monkeypatch, weights=weights)
    model.make_plan()
    with pytest.raises(
        LayerResultError, match=rf"layer 'it' \(copying\) has no {hook}, which a step"
    ) as e:
        model.initialize()
    assert e.value.hook == hook  # type: ignore[attr-defined]


def test_lists_in_a_spec_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_with(
        monkeypatch, output_shapes=[[1, 1, 6]], tensors=[saved()], weights=[]
    )
    spec = model.compile().node("it").spec
    assert (spec.output_shapes, spec.tensors) == (((1, 1, 6),), (saved(),))


def test_initializers_are_those_that_there_are() -> None:
    from arena_ckpt.engine.initializers import initialize_weight

    for name in INITIALIZERS:
        array = np.full(6, np.nan, np.float32)
        initialize_weight(array, weight(initializer=name), "w", 0)
        assert np.isfinite(array).all()


# -- what hooks return and raise -------------------------------------------------------


@kernel
def twice(x: Matrix, factor: float, count: int, out: Matrix) -> None:
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] * factor * count


def returning(value: object) -> Hook:
    return lambda layer, given: value


def call_of(*arguments: str) -> Hook:
    """Return a hook that calls `twice` with what these expressions are."""
    return lambda layer, t: [
        Call(twice, tuple(eval(a, {"t": t, "np": np}) for a in arguments))
    ]


IN, OUT = 't.matrix("in0")', 't.matrix("out0")'

WRONG_HOOKS: dict[str, tuple[str, Hook, type[ArenaError], str]] = {
    # what is returned
    "no spec": ("infer", returning(None), LayerResultError, "infer returned None; "
        "return a LayerSpec"),
    "shapes": ("infer", returning(((1, 1, 6),)), LayerResultError, "returned a tuple"),
    "no part": ("expand", returning(None), LayerResultError, "a tuple of layers"),
    "a name for a part": ("expand", returning(("it",)), LayerResultError,
        "expand returned a list with a str in it"),
    "no calls": ("forward", returning(None), LayerResultError,
        r"forward returned None; return a list of Call\(kernel, \(argument, …\)\)"),
    "a call": ("forward", lambda layer, t: _forward(layer, t)[0], LayerResultError,
        "forward returned a Call; return a list"),
    "a kernel": ("forward", returning([copy]), LayerResultError, "a KernelName in it"),
    "a function": ("forward", returning([Call(len, ())]), LayerResultError,  # type: ignore[arg-type]
        "made with @kernel"),
    "one argument": ("forward", lambda layer, t: [Call(copy, t.vector("in0"))],
        LayerResultError, r"returned Call\(copy, .*return a tuple of arguments"),
    "a generator": ("calc_derivative", lambda layer, t: (c for c in ()),
        LayerResultError, "calc_derivative returned a generator"),
    # what is raised
    "a typo": ("infer", lambda layer, shapes: shapes[0].hight, LayerHookError,
        r"infer raised AttributeError: .*hight.* \(.*test_wrong_own_layers.py, line"),
    "an index": ("infer", lambda layer, shapes: shapes[1], LayerHookError,
        "infer raised IndexError"),
    "a property": ("infer", lambda layer, shapes: layer["unitt"],
        UnknownPropertyError, "unknown property 'unitt'.*known are input_layers"),
    "a wrong call": ("infer", lambda layer, shapes: TensorSpec("a", (1,), dtpye=1),  # type: ignore[call-arg]
        LayerHookError, r"TensorSpec has no argument 'dtpye' \(did you mean 'dtype'"),
    "a call of arrays": ("forward", lambda layer, t: [
        Call(copy, t.vector("in0"), t.vector("out0"))], LayerHookError,  # type: ignore[call-arg]
        r"Call takes 2 .* is given 3; .*Call\(kernel, \(x, out\)\)"),
    "nothing in a part": ("expand", lambda layer, shapes: {}["a"], LayerHookError,
        "expand raised KeyError: 'a'"),
    "nothing in backward": ("calc_derivative", lambda layer, t: 1 // 0,
        LayerHookError, "calc_derivative raised ZeroDivisionError"),
    "its own": ("infer", lambda layer, shapes: (_ for _ in ()).throw(
        layer.mismatch("is odd")), ac.InvalidParameterError, "it.*is odd$"),
    # roles
    "a misspelt role": ("forward", lambda layer, t: [Call(copy, (t.vector("in_0"),))],
        UnknownRoleError, r"forward asks for 'in_0', which its step does not have "
        r"\(did you mean 'in0'\?\); it has 'in0', 'out0'"),
    "an input in backward": ("calc_derivative",
        lambda layer, t: [Call(copy, (t.vector("in0"),))], UnknownRoleError,
        "'in0', .*add CALC_DERIVATIVE to input_lifespan"),
    "an output in backward": ("calc_derivative", lambda layer, t: t.matrix("out0"),
        UnknownRoleError, "add CALC_DERIVATIVE to output_lifespan"),
    "a gradient of no weight": ("calc_derivative", lambda layer, t: t.matrix("w:grad"),
        UnknownRoleError, r"'w:grad'.*is_wanted\(\)"),
    "whether it is an unknown": ("forward", lambda layer, t: t.is_same("in0", "in"),
        UnknownRoleError, "forward asks for 'in'"),
    "no role": ("forward", lambda layer, t: t.vector(None), UnknownRoleError, "None"),  # type: ignore[arg-type]
    # arguments
    "too few": ("forward", call_of(IN, OUT), KernelArgumentError,
        r"forward: kernel twice\(x: Matrix, factor: float, count: int, out: Matrix\) "
        "takes 4 arguments and is given 2"),
    "a vector for a matrix": ("forward", call_of('t.vector("in0")', "2.0", "1", OUT),
        KernelArgumentError, r"a float32 array of shape \(12,\) for 'x'; expected a "
        r"C-contiguous float32 array of 2 dimensions \(Matrix\)"),
    "every other column": ("forward",
        call_of("np.ones((2, 6), np.float32)[:, ::2]", "2.0", "1", OUT),
        KernelArgumentError, r"\(2, 3\), not C-contiguous for 'x'"),
    "doubles": ("forward", call_of("np.ones((2, 6))", "2.0", "1", OUT),
        KernelArgumentError, "a float64 array"),
    "swapped bytes": ("forward", call_of("np.ones((2, 6), '>f4')", "2.0", "1", OUT),
        KernelArgumentError, "a >f4 array"),
    "every other column of a tensor": ("forward",
        call_of(f"{IN}[:, ::2]", "2.0", "1", OUT), LayerHookError,
        r"take a contiguous part, tensor\[start:stop\]"),
    "elements that do not fill a shape": ("forward",
        call_of(f"{IN}.reshape(5, -1)", "2.0", "1", OUT), LayerHookError,
        r"12 elements cannot be read as an array of shape \(5, -1\)"),
    "a fraction": ("forward", call_of(IN, "2.0", "1.5", OUT), KernelArgumentError,
        r"a float for 'count'; expected a whole number \(int\)"),
    "a text": ("forward", call_of(IN, "'2'", "1", OUT), KernelArgumentError,
        r"a str for 'factor'; expected a number \(float\)"),
    "a list": ("forward", call_of("[1.0]", "2.0", "1", OUT), KernelArgumentError,
        "given a list for 'x'"),
    "nothing": ("forward", call_of(IN, "2.0", "1", "None"), KernelArgumentError,
        "given None for 'out'"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_HOOKS)
def test_a_hook_that_is_wrong_is_refused(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook, wrong, error, message = WRONG_HOOKS[what]
    model = model_with(monkeypatch, {hook: wrong})
    before = model.layers, model.properties
    with pytest.raises(error, match=message) as e:
        model.initialize()
    assert (model.layers, model.properties) == before
    assert not model.is_initialized
    if isinstance(e.value, OwnLayerError):
        assert str(e.value).startswith(f"layer 'it' (copying): {hook}")
        assert (
            vars(e.value).items()
            >= {
                "layer": "it",
                "type_name": "copying",
                "hook": hook,
            }.items()
        )
    if isinstance(e.value, LayerHookError):
        assert e.value.file == __file__  # type: ignore[attr-defined]
        assert linecache.getline(__file__, e.value.line).strip()  # type: ignore[attr-defined]
        assert e.value.__cause__ is not None
    monkeypatch.setattr(Copying, "hooks", {})
    model.initialize()  # the class corrected, the model works


def test_a_role_of_another_phase_is_told_from_an_unknown_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    note = saved(lifespan=T.FORWARD)
    derivative: Hook = lambda layer, t: [Call(copy, (t.vector("note"),))]  # noqa: E731
    model = model_with(monkeypatch, {"calc_derivative": derivative}, tensors=(note,))
    with pytest.raises(
        UnknownRoleError,
        match=r"'note', .*add CALC_DERIVATIVE to its lifespan, which is FORWARD$",
    ):
        model.initialize()


@pytest.mark.parametrize(
    ("dtype", "method", "says"),
    [
        ("int32", "vector", r"it is int32: use indexes\(\)"),
        ("int32", "doubles", r"it is int32: use indexes\(\)"),
        ("float64", "matrix", r"it is float64: use doubles\(\)"),
        ("float32", "indexes", r"it is float32: use vector\(\) or matrix\(\)"),
    ],
)
def test_a_tensor_is_read_as_what_it_is(
    dtype: str, method: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward: Hook = lambda layer, t: getattr(t, method)("note")  # noqa: E731
    model = model_with(monkeypatch, {"forward": forward}, tensors=(saved(dtype=dtype),))
    with pytest.raises(TensorDtypeError, match=f"forward asks for 'note' .*{says}"):
        model.initialize()


def test_memory_that_runs_out_in_a_hook_is_no_mistake_of_the_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def infer(layer: Layer, shapes: object) -> None:
        raise MemoryError("no more")

    with pytest.raises(MemoryError, match=r"^no more$"):
        model_with(monkeypatch, {"infer": infer}).compile()


# -- classes ---------------------------------------------------------------------------


def class_of(**body: Any) -> type[Layer]:
    given: dict[str, Any] = {"type_name": "mine", "infer": Copying.infer}
    return type("Mine", (Layer,), {k: v for k, v in (given | body).items() if v})


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"infer": None}, r"Mine \(mine\) has no 'infer'; write infer\(self, input_s"),
        ({"infer": lambda self: None}, r"infer is called with \(self, input_shapes\)"),
        ({"forward": lambda: []}, r"forward is called with \(self, tensors\)"),
        ({"calc_gradient": lambda self, t, u: []}, r"calc_gradient is called with"),
        ({"properties": COMMON_PROPERTIES[:2]}, "lack 'input_shape'; begin them with"),
        ({"properties": "name"}, "properties is 'name'; expected a tuple of Property"),
        ({"properties": COMMON_PROPERTIES * 2}, "properties name one twice"),
        ({"__init__": lambda self, a, b: None}, r"__init__ is called with \(self, giv"),
        (
            {"properties": (*COMMON_PROPERTIES, Property("a", int, 1, ""))},
            "the property 'a' is of the kind .*int.*such as POSITIVE_INT",
        ),
        ({"n_inputs": "two"}, "n_inputs is 'two'; expected a whole number"),
        (
            {"is_loss": True},
            "is_loss is True; derive losses, .*layers.Loss",
        ),
        ({"is_alias": "no"}, "is_alias is 'no'; expected True or False"),
        ({"keeps_axes": 1}, "keeps_axes is 1; expected True or False"),
        ({"reads": "pictures!"}, "reads is 'pictures!'; expected 'pictures', 'sequenc"),
    ],
)
def test_a_class_that_cannot_be_used_is_not_registered(
    body: dict[str, Any], says: str
) -> None:
    before = dict(LAYER_TYPES)
    with pytest.raises(InvalidParameterError, match=says):
        ac.register_layer(class_of(**body))
    assert before == LAYER_TYPES


def test_a_loss_without_a_scale_is_not_registered() -> None:
    mine = type("Mine", (Loss,), {"type_name": "mine"})
    with pytest.raises(InvalidParameterError, match=r"write term_scale\(self, shape"):
        ac.register_layer(mine)


def test_all_layers_of_the_package_could_be_registered() -> None:
    for layer in [*LAYER_TYPES.values()]:
        if layer is not Copying:
            assert ac.register_layer(layer) is layer


def test_a_property_that_a_layer_does_not_have_is_a_key_that_it_lacks() -> None:
    layer = ac.create_layer("fully_connected", unit=2)
    for thing in (layer, ac.create_optimizer("adam")):
        with pytest.raises(KeyError, match="unknown property 'unti'") as e:
            thing["unti"]
        assert isinstance(e.value, InvalidParameterError)


# -- kernels ---------------------------------------------------------------------------


def without_annotation(x: Matrix, out) -> None:  # type: ignore[no-untyped-def]
    out[0, 0] = x[0, 0]


def of_another_type(x: Matrix, n: "np.ndarray") -> None: ...  # noqa: UP037


def of_any_number(*x: Matrix) -> None: ...


def of_a_name(x: Matrix, *, out: Matrix) -> None: ...


def raising(x: Matrix) -> None:
    for i in range(x.shape[0]):
        if x[i, 0] < 0:
            raise ValueError("negative")


def asserting(x: Matrix) -> None:
    assert x.shape[0] > 0


@pytest.mark.parametrize(
    ("function", "parameters", "says"),
    [
        (
            without_annotation,
            ("out",),
            r"annotate each parameter \(here out\) with",
        ),
        (of_another_type, ("n",), r"here n\) .*Vector, Matrix, Doubles, Integers"),
        (of_any_number, ("x",), "here x"),
        (of_a_name, ("out",), "here out"),
        (raising, (), r"raising can raise an error \(.*py, line \d+\), which nothing"),
        (asserting, (), "asserting can raise"),
        (len, (), "cannot be a kernel; decorate a function"),
        ("copy", (), "'copy' cannot be a kernel"),
    ],
)
def test_a_function_that_cannot_be_a_kernel_is_refused(
    function: Any, parameters: tuple[str, ...], says: str
) -> None:
    with pytest.raises(KernelSignatureError, match=says) as e:
        kernel(function)
    assert e.value.parameters == parameters  # type: ignore[attr-defined]
    assert isinstance(e.value, TypeError)
    if says.endswith("which nothing"):
        line = linecache.getline(__file__, e.value.line)  # type: ignore[attr-defined]
        assert line.strip() == 'raise ValueError("negative")'


@kernel
def misspelt(x: Vector, out: Vector) -> None:
    for i in range(x.size):
        out[i] = x[i] + bais[i]  # type: ignore[name-defined]  # noqa: F821


@kernel
def of_other_types(x: Matrix, out: Vector) -> None:
    for i in range(out.size):
        out[i] = x[i]


@kernel
def unsupported(x: Vector, out: Vector) -> None:
    with open("x") as file:
        out[0] = len(file.name)


@kernel
def missing_function(x: Vector, out: Vector) -> None:
    out[0] = np.linalg.nrom(x)  # type: ignore[attr-defined]


V, M = np.zeros(4, np.float32), np.zeros((2, 2), np.float32)
COMPILE_ERRORS = {
    misspelt: (V, "NameError: name 'bais' is not defined", "bais"),
    of_other_types: (M, "No implementation of function .*setitem.*: setitem", "out[i]"),
    unsupported: (V, "The 'with .*' construct is not supported", "@kernel"),
    missing_function: (V, "AttributeError: .*no attribute 'nrom'", "@kernel"),
}


@pytest.mark.parametrize("wrong", COMPILE_ERRORS, ids=lambda wrong: wrong.name)
def test_a_kernel_that_cannot_be_compiled_is_named_with_its_line(
    wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, reason, text = COMPILE_ERRORS[wrong]
    for call in (wrong, lambda *arguments: kernel_of(wrong).entry(arguments)):
        with pytest.raises(KernelCompileError, match=reason) as e:
            call(first, V.copy())
        message = str(e.value)
        assert message.startswith(f"kernel {wrong.name} cannot be compiled: ")
        assert "\n" not in message
        assert len(message) < 400
        assert f"{__file__}, line {e.value.line}" in message  # type: ignore[attr-defined]
        assert text in linecache.getline(__file__, e.value.line)  # type: ignore[attr-defined]
        assert e.value.kernel == wrong.name  # type: ignore[attr-defined]
        assert e.value.__suppress_context__
        assert e.value.__cause__ is None
    monkeypatch.setenv("ARENA_CKPT_TRACEBACK", "1")
    with pytest.raises(KernelCompileError) as e:
        wrong(first, V.copy())
    assert e.value.__cause__ is not None


def test_a_kernel_that_is_called_from_python_checks_what_numba_refuses() -> None:
    with pytest.raises(KernelArgumentError, match="takes 2 arguments and is given 1"):
        kernel_of(copy)(V)
    with pytest.raises(KernelArgumentError, match="given None for 'x'"):
        kernel_of(families.elementwise.add_to)(None, V)
    with pytest.raises(KernelError):
        kernel(without_annotation)


def test_a_fraction_or_another_dtype_never_reaches_a_block() -> None:
    """They would be cut off, or read as other numbers."""

    @kernel
    def counting(n: int, table: Integers, x: Vector) -> None:
        table[0] = n

    table = np.zeros(1, np.int64)
    assert len(kernel_of(counting).pack((True, table, V))) == 5
    assert len(kernel_of(counting).pack((np.int32(3), table, V))) == 5
    for wrong in ((2.0, table, V), (1, table.astype(np.int32), V), (1, table, M)):
        with pytest.raises(KernelArgumentError):
            kernel_of(counting).pack(wrong)


SCRIPT = """
    from __future__ import annotations
    import arena_ckpt as ac
    from arena_ckpt.layers import Call, Layer, LayerSpec, Vector, kernel

    @kernel
    def forward(x: Vector, out: Vector) -> None:
        for i in range(x.size):
            out[i] = x[i] * facotr

    @ac.register_layer
    class Mine(Layer):
        type_name = "mine"
        def infer(self, input_shapes):
            return LayerSpec(input_shapes)
        def forward(self, t):
            return [Call(forward, (t.vector("in0"), t.vector("out0")))]

    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("mine", name="it")
    model.add_layer("mse", name="loss")
    model.initialize()
"""


@pytest.mark.parametrize("shown", ["0", "1"])
def test_what_numba_says_is_shown_on_demand(shown: str, tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"ARENA_CKPT_TRACEBACK": shown},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "kernel forward cannot be compiled: NameError: name 'facotr'" in last
    assert f"{script}, line 9" in last
    assert ("TypingError" in done.stderr) is (shown == "1")
    assert ("numba/core" in done.stderr) is (shown == "1")
