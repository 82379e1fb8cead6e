"""Names of tensors and roles: what is made can be taken apart again."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import arena_ckpt
from arena_ckpt.common.names import (
    NOT_IN_NAMES,
    discarded,
    gradient_of,
    input_index,
    input_role,
    is_reserved,
    layer_of,
    output_index,
    output_role,
    role_of,
    share_of,
    split_first,
    split_last,
    state_of,
    tensor_name,
    total_of,
    weight_of,
)

WORDS = st.text(min_size=1).filter(lambda text: not {*text} & {*NOT_IN_NAMES})


def test_names_are_as_the_reports_show_them() -> None:
    out = tensor_name("fc1", output_role(0))

    assert (out, gradient_of(out)) == ("fc1:out0", "fc1:out0:grad")
    assert discarded(out) == "fc1:out0:discarded"
    assert total_of(gradient_of(input_role(2))) == "in2:grad:total"
    assert state_of("fc1:weight", "velocity") == "fc1:weight:velocity"


@given(WORDS, WORDS, WORDS)
def test_what_was_put_together_is_taken_apart(layer: str, own: str, state: str) -> None:
    weight = tensor_name(layer, own)

    assert (layer_of(weight), role_of(weight)) == (layer, own)
    for part in (gradient_of(weight), state_of(weight, state)):
        assert (weight_of(part), layer_of(part)) == (weight, layer)
        assert split_first(part) == (layer, role_of(part))
        assert split_last(part) == (weight, part[len(weight) + 1 :])
        assert role_of(part).startswith(own)


@pytest.mark.parametrize("index", [0, 1, 12])
def test_a_numbered_role_says_its_number(index: int) -> None:
    assert input_index(input_role(index)) == output_index(output_role(index)) == index
    assert output_index(input_role(index)) is input_index(output_role(index)) is None
    assert output_index(gradient_of(output_role(index))) is None


@pytest.mark.parametrize(
    "own", ["outer", "out", "in", "in2x", "out_0", "xout0", "out0 ", "inner", "labels"]
)
def test_a_name_that_only_begins_like_a_role_is_none(own: str) -> None:
    assert input_index(own) is output_index(own) is None
    assert not is_reserved(own)


@pytest.mark.parametrize("role", ["in0", "out0", "out17", "label", "gradient_tile"])
def test_roles_of_every_layer_are_reserved(role: str) -> None:
    assert is_reserved(role)


def test_the_share_of_a_sum_is_found_by_its_last_part() -> None:
    role = gradient_of(input_role(1))

    assert share_of(total_of(role)) == role
    assert share_of(role) is share_of("total") is share_of("in0:grad:subtotal") is None


PARTS = re.compile(r":(grad|total|label|discarded)\b|:(in|out)$")
SPELLED = {
    "common/names.py",  # here
    "layers",  # hooks ask for roles as an own layer does
    "kernels",  # import nothing of ours
}
"""Where parts of names may be spelled out."""


def test_names_are_put_together_nowhere_else() -> None:
    """A name is made and taken apart by functions; docstrings may show one."""
    root = Path(arena_ckpt.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        if {str(place), place.parts[0]} & SPELLED:
            continue
        tree = ast.parse(path.read_text())
        prose = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        found += [
            f"{place}:{node.lineno}: {node.value!r}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in prose
            and PARTS.search(node.value)
        ]
    assert found == []
