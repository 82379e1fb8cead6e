"""No compiled function of the kernels hands out memory of its own stack frame.

Such memory is another's as soon as the function returns. What LLVM inlines survives,
and what it inlines is up to its release: so every function that is compiled on its own
is looked at, in the code that LLVM made of it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from helpers.compiled_code import compiled_anew
from helpers.every_kernel import all_kernels
from helpers.scale import how_many
from helpers.stack_escapes import all_escapes
from numba import carray, types

import arena_ckpt.kernels
from arena_ckpt.kernels import lanes, steps
from arena_ckpt.kernels.compiling import routine
from arena_ckpt.kernels.kernel import Kernel, kernel
from arena_ckpt.operations.array_types import Doubles, Integers, Vector

FOLDER = Path(arena_ckpt.kernels.__file__).parent


def escapes_when_compiled(
    made: Kernel, pattern: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    return all_escapes(compiled_anew(made, pattern, monkeypatch)._library)


USE_MOST = ("batch_norm_sums", "plain_forward", "max_forward")
"""Of CI: made of lanes, routines, intrinsics. `test_kernels_recurrent` does its own."""


@pytest.mark.parametrize("name", sorted(all_kernels()) if how_many(0, 1) else USE_MOST)
def test_no_compiled_function_hands_out_its_own_stack(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = all_kernels()[name]
    pattern = tuple(range(len(made.parameters)))
    assert escapes_when_compiled(made, pattern, monkeypatch) == []


_numbers_on_stack = lanes.on_stack(types.float32, lanes.ir.FloatType(), 64)


@routine
def handed_out():
    return carray(_numbers_on_stack(), 64)


@routine
def handed_out_in_part(x):
    own = carray(_numbers_on_stack(), 64)
    own[0] = x[0]
    return own[8:16] if x[0] > 0 else x[8:16]


@routine
def kept_elsewhere(x, to):
    own = carray(_numbers_on_stack(), 64)
    to[0] = own.ctypes.data
    return x[0]


def test_stack_memory_that_is_handed_out_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @kernel
    def whole(x: Vector) -> None:
        x[0] = handed_out()[0]

    @kernel
    def part(x: Vector) -> None:
        x[0] = handed_out_in_part(x)[0]

    @kernel
    def address(x: Vector, to: Integers) -> None:
        x[0] = kept_elsewhere(x, to)

    for made, pattern in ((whole, (0,)), (part, (0,)), (address, (0, 1))):
        assert escapes_when_compiled(made, pattern, monkeypatch), made


STEP = """
@part
def scaled_part(x, width):
    lane = unit_lanes()
    for j in range(width):
        lane[j] = 2 * x[j]
    copy_part(lane, x, width)


def {name}_forward(x: Vector) -> None:
    scaled_part(x, x.size)
"""


def test_units_as_a_function_of_their_own_are_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As they were: Numba 0.60 and 0.61 computed recurrent layers wrong with them."""

    def found() -> list[str]:
        functions = ("tanh", "tanh")
        made = steps.make_kernels("<step>", __name__, STEP, "doubled", functions)
        return escapes_when_compiled(made["forward"], (0,), monkeypatch)

    assert found() == []
    apart = steps.part(lambda: carray(_numbers_on_stack(), 64))
    monkeypatch.setitem(steps._NAMES, "unit_lanes", apart)
    assert found()


def test_lanes_of_the_frame_that_uses_them_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @kernel
    def total(x: Vector, y: Doubles) -> None:
        own = lanes.double_lanes()
        lanes.clear(own)
        own[0] += x[0]
        y[0] = lanes.folded(own)

    assert escapes_when_compiled(total, (0, 1), monkeypatch) == []


def test_stack_memory_is_allocated_only_where_it_is_pasted_into_its_user() -> None:
    """That is: by `lanes.on_stack`, in overloads that Numba inlines.

    What reads or writes registers passes them through memory of the same frame.
    """
    for path in sorted(FOLDER.glob("*.py")):
        tree = ast.parse(path.read_text())
        makers = {
            target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func).endswith("on_stack")
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef):
                continue
            body = ast.unparse(node.body)
            where = f"{path.name}: {node.name}"
            if re.search(r"\balloca(_once)?\(", body):
                assert (path.name, node.name) in (
                    ("lanes.py", "on_stack"), ("lanes.py", "room_on_stack"),
                    ("lanes.py", "allocate"), ("lanes.py", "codegen"),
                    ("registers.py", "_read_x86"), ("registers.py", "_write_x86"),
                ), where  # fmt: skip
            if any(f"{maker}()" in body for maker in makers):
                (decorator,) = node.decorator_list
                said = ast.unparse(decorator)
                assert said.startswith("overload("), where
                assert said.endswith("inline='always')"), where
        for text in (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)):
            if isinstance(text, str) and "@part" in text:
                assert not any(f"{maker}()" in text for maker in makers), path
