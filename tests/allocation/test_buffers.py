"""What `make_buffers` takes, and how it refuses the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt.allocation.buffers import FREE, Buffers, make_buffers
from arena_ckpt.errors import InvalidBufferError, InvalidParameterError

INTEGER_TYPES = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4", ">u8")

seeded = settings(derandomize=True, deadline=None)


def two(**given_: Any) -> Buffers:
    """Return buffers of 64 and 32 bytes in [0, 9) and [2, 9), or what is given."""
    columns: dict[str, Any] = {"lower": [0, 2], "upper": [9, 9], "size": [64, 32]}
    return make_buffers(**{**columns, **given_})


def arrays(buffers: Buffers) -> dict[str, list[int]]:
    return {name: getattr(buffers, name).tolist() for name in Buffers.__slots__}


# -- what is taken ---------------------------------------------------------------------


def test_three_columns_are_enough() -> None:
    buffers = two()
    assert arrays(buffers) == {
        "lower": [0, 2],
        "upper": [9, 9],
        "size": [64, 32],
        "alignment": [1, 1],
        "fixed_offset": [FREE, FREE],
        "group": [FREE, FREE],
        "gap_owner": [],
        "gap_lower": [],
        "gap_upper": [],
        "window_lower": [],
        "window_upper": [],
    }
    assert len(buffers) == 2
    assert buffers.is_plain


def test_no_buffers_are_taken() -> None:
    buffers = make_buffers([], [], [], fixed_offset=[], gaps=[], group=[])
    assert len(buffers) == 0
    assert buffers.is_plain
    assert all(getattr(buffers, name).dtype == np.int64 for name in Buffers.__slots__)


def test_alignment_is_one_for_all_or_one_for_each() -> None:
    assert two(alignment=16).alignment.tolist() == [16, 16]
    assert two(alignment=np.uint8(16)).alignment.tolist() == [16, 16]
    assert two(alignment=(3, 8)).alignment.tolist() == [3, 8]


@pytest.mark.parametrize("dtype", INTEGER_TYPES)
def test_integers_of_every_width_are_taken(dtype: str) -> None:
    buffers = two(
        lower=np.array([0, 2], dtype),
        upper=np.array([9, 9], dtype),
        size=np.array([64, 32], dtype),
        alignment=np.array([16, 8], dtype),
        fixed_offset=np.array([16, 8], dtype),
        gaps=[[tuple(np.array([2, 4, 0, 8], dtype))], None],
    )
    assert arrays(buffers) == arrays(
        two(alignment=[16, 8], fixed_offset=[16, 8], gaps=[[(2, 4, 0, 8)], None])
    )
    assert all(getattr(buffers, name).dtype == np.int64 for name in Buffers.__slots__)


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda v: np.array(v, object)])
def test_sequences_of_every_kind_are_taken(kind: Callable[[list[int]], Any]) -> None:
    buffers = two(lower=kind([0, 2]), upper=kind([9, 9]), size=kind([64, 32]))
    assert arrays(buffers) == arrays(two())


def test_ranges_and_views_are_taken() -> None:
    table = np.array([[0, 9, 64], [2, 9, 32]])
    lower, upper, size = table.T
    assert arrays(two(lower=lower, upper=upper, size=size)) == arrays(two())
    assert two(lower=range(0, 4, 2)).lower.tolist() == [0, 2]


def test_steps_may_be_negative_or_huge() -> None:
    buffers = two(lower=[-(2**62) + 1, -5], upper=[2**62 - 1, -4])
    assert buffers.lower.tolist() == [-(2**62) + 1, -5]
    assert buffers.upper.tolist() == [2**62 - 1, -4]


def test_sizes_may_add_up_to_just_below_the_limit() -> None:
    sizes = [2**61, 2**61 - 3]  # and an alignment of 1 for each
    assert two(size=sizes).size.tolist() == sizes


def test_fixed_offsets_are_multiples_or_free() -> None:
    buffers = two(alignment=[16, 3], fixed_offset=[None, 6])
    assert buffers.fixed_offset.tolist() == [FREE, 6]
    assert not buffers.is_plain
    assert two(fixed_offset=[0, 2**62 - 1]).fixed_offset.tolist() == [0, 2**62 - 1]
    assert two(fixed_offset=[None, None]).is_plain


def test_gaps_are_laid_out_by_owner_and_step() -> None:
    buffers = two(gaps=[[(0, 2), (2, 4, 8, 16), (7, 9, 0, 64)], [(3, 4, 5, 5)]])
    assert buffers.gap_owner.tolist() == [0, 0, 0, 1]
    assert buffers.gap_lower.tolist() == [0, 2, 7, 3]
    assert buffers.gap_upper.tolist() == [2, 4, 9, 4]
    assert buffers.window_lower.tolist() == [0, 8, 0, 5]
    assert buffers.window_upper.tolist() == [0, 16, 64, 5]
    assert buffers.gaps_of(0) == [(0, 2), (2, 4, 8, 16), (7, 9, 0, 64)]
    assert buffers.gaps_of(1) == [(3, 4)]  # an empty window is none
    assert not buffers.is_plain


@pytest.mark.parametrize(
    "gaps",
    [
        [None, [(3, 4)]],
        [(), ((3, 4),)],
        [[], [[3, 4]]],
        [[], iter([(3, 4)])],
        [[], [np.array([3, 4])]],
    ],
)
def test_gaps_come_in_any_iterable(gaps: Any) -> None:
    buffers = two(gaps=gaps)
    assert buffers.gaps_of(0) == []
    assert buffers.gaps_of(1) == [(3, 4)]


def test_a_gap_may_be_the_whole_life() -> None:
    assert two(gaps=[[(0, 9)], None]).gaps_of(0) == [(0, 9)]


def test_groups_are_numbered_in_the_order_of_their_first_members() -> None:
    buffers = make_buffers(
        [0] * 7, [1] * 7, [8] * 7, group=["b", None, "a", "alone", "b", ("a",), "a"]
    )
    assert buffers.group.tolist() == [0, FREE, 1, FREE, 0, FREE, 1]
    assert not buffers.is_plain
    assert two(group=["a", "b"]).is_plain  # one member alone is no group
    assert two(group=np.array([7, 7])).group.tolist() == [0, 0]


def test_arrays_are_never_shared_with_the_user() -> None:
    given_ = {
        name: np.array(values)
        for name, values in {
            "lower": [0, 2],
            "upper": [9, 9],
            "size": [64, 32],
            "alignment": [16, 8],
            "fixed_offset": [16, 8],
            "group": [1, 1],
        }.items()
    }
    buffers = make_buffers(**given_, gaps=[[(1, 2)], None])
    before = arrays(buffers)
    for name, array in given_.items():
        assert not np.shares_memory(array, getattr(buffers, name))
        array[:] = 99
    assert arrays(buffers) == before


def test_what_is_given_stays_as_it_was() -> None:
    gaps = [[[1, 2], [3, 4, 0, 8]], None]
    size = [64, 32]
    two(size=size, gaps=gaps, group=["a", "a"], fixed_offset=[0, None])
    assert (size, gaps) == ([64, 32], [[[1, 2], [3, 4, 0, 8]], None])


# -- what is refused -------------------------------------------------------------------

Refusal = tuple[dict[str, Any], tuple[int, ...], str]
"""What is given, the buffers at fault, words of the message."""

NAN = float("nan")

REFUSED: dict[str, Refusal] = {
    # columns
    **{
        f"{name} of another length": (
            {name: values},
            (),
            f"there are 2 sizes but 3 values of {name}; give one for each buffer",
        )
        for name, values in {
            "lower": [0, 1, 2],
            "upper": [9, 9, 9],
            "alignment": [1, 1, 1],
            "fixed_offset": [None] * 3,
            "gaps": [None] * 3,
            "group": [None] * 3,
        }.items()
    },
    "fewer sizes": ({"size": [4]}, (), "1 sizes but 2 values of lower"),
    **{
        f"{name} of two dimensions": (
            {name: [[1, 2], [3, 4]]},
            (),
            rf"{name} has the shape \(2, 2\); it must have one dimension",
        )
        for name in ("lower", "upper", "size", "alignment")
    },
    **{
        f"lower {type(value).__name__}": (
            {"lower": value},
            (),
            r"lower has the shape \(\); it must have one dimension",
        )
        for value in (None, 3, "01", {0, 2}, {0: 1, 2: 3}, b"01", iter([0, 2]))
    },
    "ragged": ({"lower": [[1, 2], [3]]}, (0,), r"buffer 0 has lower \[1, 2\]; it must"),
    # integers
    **{
        f"{name} {value!r}": (
            {name: [value, value]},
            (0,),
            f"buffer 0 has {name} .*; it must be an integer",
        )
        for name in ("lower", "upper", "size", "alignment")
        for value in (1.0, 1.5, NAN, True, None, "4", b"4", 1j, np.datetime64(1, "s"))
    },
    "second of objects": (
        {"size": np.array([4, 1.5], object)},
        (1,),
        "buffer 1 has size 1.5; it must be an integer",
    ),
    "records": ({"size": np.zeros(2, [("a", int)])}, (0,), "must be an integer"),
    **{
        f"{name} beyond int64": (
            {name: [2**63] * 2},
            (0,),
            rf"buffer 0 has {name} 9223372036854775808; it must be below 2\*\*62",
        )
        for name in ("lower", "upper", "size", "alignment")
    },
    "size beyond uint64": ({"size": [4, 10**30]}, (1,), "buffer 1 has size 10{30}; it"),
    "uint64": ({"size": np.array([4, 2**62], "u8")}, (1,), "4611686018427387904"),
    "lower -2**62": ({"lower": [0, -(2**62)]}, (1,), r"buffer 1 has lower -461.*±2\*"),
    "upper 2**62": ({"upper": [9, 2**62]}, (1,), r"buffer 1 has upper 461.*within ±2"),
    **{
        f"one alignment {value!r}": (
            {"alignment": value},
            (),
            "alignment is .*; it must be an integer",
        )
        for value in (None, 1.0, True, "16", NAN)
    },
    # sizes, ranges, alignments
    "size 0": ({"size": [4, 0]}, (1,), "buffer 1 has a size of 0 bytes; it must be po"),
    "size -4": ({"size": [-4, 4]}, (0,), "buffer 0 has a size of -4 bytes; it must be"),
    "empty range": (
        {"lower": [0, 9]},
        (1,),
        r"buffer 1 lives in \[9, 9\), which is empty; upper must be greater than lower",
    ),
    "range backwards": (
        {"lower": [10, 2]},
        (0,),
        r"buffer 0 lives in \[10, 9\), which",
    ),
    "alignment 0": (
        {"alignment": [8, 0]},
        (1,),
        "buffer 1 has an alignment of 0 bytes",
    ),
    "one alignment -8": (
        {"alignment": -8},
        (0,),
        "an alignment of -8 bytes; it must be",
    ),
    "sum of sizes": (
        {"size": [2**61, 2**61 + 1]},
        (1,),
        rf"add up to {2**62 + 3} bytes, which must stay below 2\*\*62; the largest is "
        rf"the size of buffer 1, {2**61 + 1} bytes",
    ),
    "sum just too large": (
        {"size": [2**61, 2**61 - 2]},
        (0,),
        f"add up to {2**62} byte",
    ),
    "sum beyond int64": ({"size": [2**63 - 1] * 2}, (0,), f"add up to {2**64} bytes"),
    "sum with alignments": (
        {"alignment": 2**61},
        (0,),
        f"add up to {2**62 + 96} bytes.* is the alignment of buffer 0, {2**61} bytes",
    ),
    "sum by one alignment": (
        {"alignment": [1, 2**62 - 1]},
        (1,),
        f"the largest is the alignment of buffer 1, {2**62 - 1} bytes",
    ),
    # fixed offsets
    "offset misaligned": (
        {"alignment": 8, "fixed_offset": [None, 12]},
        (1,),
        "buffer 1 has the fixed offset 12, which is no multiple of its alignment of 8",
    ),
    **{
        f"offset {value}": (
            {"fixed_offset": [None, value]},
            (1,),
            f"buffer 1 has the fixed offset {value}; it must be at least 0 and below",
        )
        for value in (-1, -8, 2**62, 2**63, 10**30)
    },
    **{
        f"offset {value!r}": (
            {"fixed_offset": [8, value]},
            (1,),
            "buffer 1 has the fixed offset .*; it must be an integer or None",
        )
        for value in (8.0, NAN, True, "8", [8])
    },
    # gaps
    **{
        f"gap {gap!r}": (
            {"gaps": [None, [gap]]},
            (1,),
            r"buffer 1 has the gap .*; it must be \(lower, upper\) or \(lower",
        )
        for gap in (
            3,
            None,
            (),
            (3,),
            (3, 4, 0),
            (3, 4, 0, 8, 9),
            (3.0, 4),
            (3, NAN),
            (True, 4),
            (3, None),
            (3, 4, 0, "8"),
            "34",
        )
    },
    "empty gap": (
        {"gaps": [[(4, 4)], None]},
        (0,),
        r"buffer 0 has the gap \[4, 4\), wh",
    ),
    "gap backwards": (
        {"gaps": [[(5, 4)], None]},
        (0,),
        r"the gap \[5, 4\), which is em",
    ),
    "gap before the life": (
        {"gaps": [None, [(1, 4)]]},
        (1,),
        r"buffer 1 has the gap \[1, 4\), which begins before 2: gaps lie inside \[2",
    ),
    "gap after the life": (
        {"gaps": [None, [(4, 10)]]},
        (1,),
        r"buffer 1 has the gap \[4, 10\), which ends after the buffer does, at 9",
    ),
    "gaps unsorted": (
        {"gaps": [[(5, 6), (2, 3)], None]},
        (0,),
        r"\[2, 3\), which begins before 6: gaps lie .* in ascending order and apart",
    ),
    "gaps overlapping": (
        {"gaps": [[(2, 5), (4, 6)], None]},
        (0,),
        r"\[4, 6\), which begins before 5",
    ),
    "gap twice": ({"gaps": [[(2, 5), (2, 5)], None]}, (0,), "begins before 5"),
    "huge gap": ({"gaps": [[(-(2**70), 5)], None]}, (0,), "begins before 0"),
    **{
        f"window {window}": (
            {"gaps": [None, [(3, 4, *window)]]},
            (1,),
            rf"buffer 1 has a gap with the window \[{window[0]}, {window[1]}\), which "
            "does not lie in its 32 bytes",
        )
        for window in ((0, 33), (-1, 4), (8, 4), (33, 33), (0, 2**70))
    },
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_by_name(case: str) -> None:
    given_, at_fault, words = REFUSED[case]
    with pytest.raises(InvalidBufferError, match=words) as caught:
        two(**given_)
    assert vars(caught.value)["buffers"] == at_fault
    assert isinstance(caught.value, InvalidParameterError)
    assert isinstance(caught.value, ValueError)


def test_the_sum_hangs_on_the_error() -> None:
    with pytest.raises(InvalidBufferError) as caught:
        two(size=[2**61, 2**61])
    assert vars(caught.value)["total_bytes"] == 2**62 + 2


@pytest.mark.parametrize(
    "given_",
    [
        {"lower": [0, 1.5]},
        {"lower": np.array([0, None], object)},
        {"size": [4, 0]},
        {"lower": [0, 9]},
        {"upper": [9, 2**62]},
        {"size": [1, 2**62 - 1]},
        {"alignment": [1, 0]},
        {"fixed_offset": [None, -1]},
        {"fixed_offset": [None, 0.5]},
        {"alignment": 8, "fixed_offset": [None, 4]},
        {"gaps": [None, [3]]},
        {"gaps": [None, [(3, 3)]]},
        {"gaps": [None, [(1, 3)]]},
        {"gaps": [None, [(3, 10)]]},
        {"gaps": [None, [(3, 4, 0, 33)]]},
    ],
)
def test_every_message_calls_buffers_by_their_label(given_: dict[str, Any]) -> None:
    with pytest.raises(InvalidBufferError, match=r"row [23]"):
        two(**given_, label=lambda index: f"row {index + 2}")


ODD: dict[str, Refusal] = {
    "lower of the least int64": (
        {"lower": [0, -(2**63)]},
        (1,),
        "buffer 1 has lower -9223372036854775808; steps must be within",
    ),
    "one huge alignment": ({"alignment": 2**63}, (), "alignment is 92.*below 2"),
    "a float after an int": ({"size": [4, 1.5]}, (1,), "buffer 1 has size 1.5"),
    "2**63 after -1": ({"lower": [-1, 2**63]}, (1,), "buffer 1 has lower 922"),
    "a bool beside an int": ({"size": [True, 4]}, (0,), "buffer 0 has size True"),
    "masked": (
        {"lower": np.ma.array([0, 2], mask=[False, True])},
        (1,),
        "buffer 1 has lower",
    ),
    "masked in a list": ({"size": [4, np.ma.masked]}, (1,), "buffer 1 has size masked"),
    "masked offset": (
        {"fixed_offset": np.ma.array([0, 2], mask=[False, True])},
        (1,),
        "buffer 1 has the fixed offset masked",
    ),
    "masked gap": (
        {"gaps": [None, np.ma.array([[3, 4]], mask=[[False, True]])]},
        (1,),
        "buffer 1 has the gap",
    ),
    "masked group": (
        {"group": np.ma.array([0, 0], mask=[False, True])},
        (1,),
        "buffer 1 has the group masked",
    ),
    "ragged alignments": (
        {"alignment": [[1], [1, 2]]},
        (0,),
        r"buffer 0 has alignment \[1\]; it must be an integer",
    ),
    **{
        f"{name} {type(value).__name__}": (
            {name: value},
            (),
            f"{name} is a {type(value).__name__}; it must be a sequence of",
        )
        for name in ("fixed_offset", "gaps", "group")
        for value in (set(), frozenset({0, 8}), {0: 1, 1: 2})
    },
    "fixed_offset int": ({"fixed_offset": 8}, (), "fixed_offset"),
    "fixed_offset iterator": ({"fixed_offset": iter([8, 8])}, (), "fixed_offset"),
    "gaps int": ({"gaps": 8}, (), "gaps"),
    "gaps of ints": ({"gaps": [3, 4]}, (0,), "buffer 0"),
    "group int": ({"group": 8}, (), "group"),
    "group of lists": ({"group": [["a"], ["a"]]}, (0,), "buffer 0"),
    "size of 5000 digits": ({"size": [4, 10**5000]}, (1,), "buffer 1 has"),
    "offset of 5000 digits": ({"fixed_offset": [0, 10**5000]}, (1,), "buffer 1 has"),
    "gap of 5000 digits": ({"gaps": [None, [(3, 10**5000)]]}, (1,), "buffer 1 has"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_values_are_refused_by_name(case: str) -> None:
    given_, at_fault, words = ODD[case]
    with pytest.raises(InvalidBufferError, match=words) as caught:
        two(**given_)
    assert vars(caught.value)["buffers"] == at_fault


@pytest.mark.parametrize("pairs", [np.zeros((0, 2), int), np.array([[3, 4], [5, 6]])])
def test_gaps_as_rows_of_an_array(pairs: Any) -> None:
    assert two(gaps=[None, pairs]).gap_lower.tolist() == pairs[:, 0].tolist()


# -- anything near it ------------------------------------------------------------------

near = st.integers(-3, 9) | st.sampled_from((2**31, 2**61, 2**62 - 1, 2**62, -(2**62)))
triples = st.lists(st.tuples(near, near, near), max_size=4)


@seeded
@given(triples, st.sampled_from((1, 2, 8)))
def test_buffers_are_refused_exactly_where_a_rule_is_broken(
    columns: list[tuple[int, int, int]], alignment: int
) -> None:
    lower, upper, size = zip(*columns, strict=True) if columns else ((), (), ())
    sound = (
        all(
            -(2**62) < low < high < 2**62 and nbytes > 0
            for low, high, nbytes in columns
        )
        and sum(size) + len(size) * alignment < 2**62
    )
    try:
        buffers = make_buffers(lower, upper, size, alignment=alignment)
    except InvalidBufferError:
        buffers = None
    assert (buffers is not None) == sound
    if buffers is not None:
        assert (buffers.lower.tolist(), buffers.upper.tolist()) == (
            list(lower),
            list(upper),
        )
        assert buffers.size.tolist() == list(size)


@seeded
@given(st.lists(st.tuples(st.integers(-1, 10), st.integers(-1, 10)), max_size=4))
def test_gaps_are_taken_exactly_where_they_ascend_inside_the_life(
    gaps: list[tuple[int, int]],
) -> None:
    ends = [0, *(step for gap in gaps for step in gap), 9]
    sound = ends == sorted(ends) and all(low < high for low, high in gaps)
    try:
        taken = two(gaps=[gaps, None]).gaps_of(0)
    except InvalidBufferError:
        taken = None
    assert taken == (gaps if sound else None)
