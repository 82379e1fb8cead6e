"""Good inputs made bad: bytes, JSON documents, and values of any kind."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

HUGE = (2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64)
NUMBERS = (*HUGE, *(-n for n in HUGE), 2**70, 10**30, -1, 0, 1, 2, 255, 256)
"""Where the sizes of integers end."""

unprintable = st.builds(pow, st.just(10), st.just(5000))
"""An integer that Python refuses to write."""

_PACKED = tuple(
    struct.pack(order + code, number)
    for order in "<>"
    for code, numbers in (
        ("H", (0, 1, 0x7FFF, 0x8000, 0xFFFF)),
        ("I", (0, 1, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)),
        ("Q", (0, 1, 2**32, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)),
    )
    for number in numbers
)
_WORDS = (
    *(b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\n", b"\x1a", b"\xed\xa0\x80"),
    *(b"-1", b"1e999", b"nan", b"inf", b"9" * 5000, b"1_0", b"0x10", b"\xc2\xa0"),
    *(str(number).encode() for number in HUGE),
    *("\u00e9", "e\u0301", "😀", "\u202e", "\u2028", "١٢", "İ"),
)
WORDS = tuple(w if isinstance(w, bytes) else w.encode() for w in _WORDS)


class Short(tuple[Any, ...]):
    """A tuple that hypothesis does not write out."""

    def __repr__(self) -> str:
        return f"({len(self)} of them)"


def mutated(
    seeds: Sequence[bytes], words: Sequence[bytes] = ()
) -> st.SearchStrategy[bytes]:
    """Return one of `seeds` with some changes.

    Parameters
    ----------
    seeds : sequence of bytes
    words : sequence of bytes
        That the format knows.
    """
    return _mutated(Short(seeds), Short(words))


@st.composite
def _mutated(draw: st.DrawFn, seeds: Short, words: Short) -> bytes:
    data = bytearray(draw(st.sampled_from(seeds)))
    known = (*words, *words, *WORDS, *_PACKED)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        n = draw(st.sampled_from((0, 1, 2, 4, 8, 30, 200)))
        match draw(st.integers(0, 8)):
            case 0:
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1 | 2:
                word = draw(st.sampled_from(known))
                data[at : at + len(word)] = word
            case 3 | 4:
                data[at:at] = draw(st.sampled_from(known))
            case 5:
                del data[at : at + n]
            case 6:
                data[at:at] = data[at : at + n] * draw(st.sampled_from((1, 2, 50)))
            case 7:
                other = draw(st.sampled_from(seeds))
                data[at:] = other[min(at, len(other)) :]
            case _:
                del data[at:]
    return bytes(data)


def lines(
    texts: st.SearchStrategy[str], most: int = 12, ends: Sequence[str] = ("\n",)
) -> st.SearchStrategy[bytes]:
    """Return texts as lines in UTF-8."""
    return st.builds(
        lambda parts, end: end.join(parts).encode("utf-8", "surrogatepass"),
        st.lists(texts, max_size=most),
        st.sampled_from(ends),
    )


texts = st.text(max_size=6) | st.sampled_from(
    (
        "",
        " ",
        "\0",
        "a" * 300,
        "\u00e9",
        "e\u0301",
        "😀",
        "\u202e",
        "\ud800",
        "../x",
        "%s{0}",
        "_",
    )
)

# -- JSON ------------------------------------------------------------------------------

_scalars = (
    st.sampled_from((None, True, False, "", [], {}, 0.0, -0.5, 1e308, float("nan")))
    | st.sampled_from(NUMBERS)
    | texts
    | st.integers(-3, 40)
)

json_values = _scalars | st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=6,
)


def deep(levels: int, opening: str = "[", closing: str = "]") -> str:
    """Return JSON that is nested many times."""
    return opening * levels + closing * levels


def changed_json(documents: Sequence[Any]) -> st.SearchStrategy[Any]:
    """Return one of `documents` in which some values were replaced or removed.

    Values are first chosen by kind, for example ``tensors, *, shape``, so that those
    of long lists are not all that is changed.
    """
    return _changed_json(Short(documents))


@st.composite
def _changed_json(draw: st.DrawFn, documents: Short) -> Any:
    document = json.loads(json.dumps(draw(st.sampled_from(documents))))
    for _ in range(draw(st.integers(1, 3))):
        kinds: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
        for path in _paths(document):
            kind = tuple("*" if isinstance(key, int) else key for key in path)
            kinds.setdefault(kind, []).append(path)
        if not kinds:
            break
        path = draw(st.sampled_from(kinds[draw(st.sampled_from(sorted(kinds)))]))
        place = document
        for key in path[:-1]:
            place = place[key]
        key, value = path[-1], place[path[-1]]
        match draw(st.integers(0, 6)):
            case 0:
                del place[key]
            case 1 if isinstance(value, list) and value:
                value.append(value[draw(st.integers(0, len(value) - 1))])
            case 2 if isinstance(value, list) and len(value) > 1:
                value.reverse()
            case 3 if isinstance(value, int):
                place[key] = value + draw(st.sampled_from((-64, -1, 1, 64, 2**62)))
            case 4 if isinstance(place, dict):
                place[draw(texts)] = place.pop(key)
            case _:
                place[key] = draw(json_values)
    return document


def _paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in pairs:
        yield (*before, key)
        yield from _paths(item, (*before, key))


# -- any value -------------------------------------------------------------------------


class Raising:
    """Looks like an array, has a length and a text, and gives none of them."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise KeyError("no array")

    def __len__(self) -> int:
        raise OSError("no length")

    def __repr__(self) -> str:
        return "Raising()"


_ARRAYS = (
    np.zeros(3),
    np.arange(6).reshape(2, 3),
    np.array(["a", "b"]),
    np.array([None, 1], dtype=object),
    np.array([2**63], np.uint64),
    np.array([np.nan, np.inf]),
    np.array(3),
    np.zeros((0, 4)),
    np.zeros(2, "M8[s]"),
    np.zeros(2, "c8"),
    np.zeros(2, [("a", "f4")]),
    np.ma.masked_array([1, 2], [True, False]),
    np.broadcast_to(np.float32(0), (2**40, 6)),
    np.broadcast_to(np.int64(1), (2**40,)),
)
anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.sampled_from(NUMBERS)
    | unprintable
    | st.floats()
    | texts
    | st.text("ab1:,=-.[]# \n\0é", max_size=6)
    | st.sampled_from(("relu", "true", "1:1:4", "1, 2", "1e-3", "inf", "-0", "20%"))
    | st.binary(max_size=3)
    | st.complex_numbers()
    | st.sampled_from((Raising(), object, len, ..., np.float32(2), np.int8(-1)))
    | st.sampled_from(_ARRAYS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2) | st.integers(), inner, max_size=2)
    ),
    max_leaves=4,
)
