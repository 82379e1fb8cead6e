import pytest

from arena_ckpt.common.units import align_up, format_bytes, format_percent, parse_bytes
from arena_ckpt.errors import InvalidParameterError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1024", 1024),
        (1024, 1024),
        ("256KiB", 262144),
        ("64 MB", 64_000_000),
        ("1.5k", 1536),
        ("9007199254740993", 2**53 + 1),  # no float on the way
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_sizes_are_read(text: str | int, value: int) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "-1", "0", "12 parsecs", "KiB", "1e3", "9" * 400, "9" * 5000),
        *(2**63, 10**400, "8589934592 GiB", 0, -1),
    ],
    ids=lambda text: f"{str(text)[:20]}",
)
def test_what_is_no_size_is_named(text: str | int) -> None:
    with pytest.raises(InvalidParameterError, match="256KiB"):
        parse_bytes(text)


def test_alignment_rounds_up() -> None:
    assert [align_up(v) for v in (0, 1, 64, 65)] == [0, 64, 64, 128]


def test_sizes_are_written_in_a_unit_and_exactly() -> None:
    assert format_bytes(40) == "40 B"
    assert format_bytes(2560) == "2.50 KiB (2,560 B)"
    assert format_bytes(1023) == "1,023 B"
    assert format_bytes(1024) == "1.00 KiB (1,024 B)"
    assert format_bytes(2**20) == "1.00 MiB (1,048,576 B)"
    assert format_bytes(-(2**30)) == "-1.00 GiB (-1,073,741,824 B)"


def test_shares_are_written_with_a_digit_behind_the_point() -> None:
    assert format_percent(0.125) == "12.5 %"
    assert format_percent(1.0) == "100.0 %"
