"""Tables of data with every option of `load_csv`, and what becomes of what is read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

import arena_ckpt as ac
from fuzzing.guard import LIMITS, Finding, guarded
from fuzzing.mutate import HUGE, mutated, texts
from fuzzing.readers import packed
from fuzzing.target import Target

_SEEDS = (
    b"a,b,label\n1,2.5,0\n3,-4e3,1\n\n5,6,2\n",
    b"\xef\xbb\xbf1\t2\n3\t0.5\n4\tNaN\n",
    b'"","a","label"\n"1",NA,"x"\n"2",1,"y"\n"3",2,"x"\n',
    b"a;b;c\n1,5;TRUE;red\n2,5;FALSE;blue\n;TRUE;red\n",
    b"3 4 7\n  5   6  8\n",
    b"4,2,ant,bee\n1,2,0,1\n3,,1,1\n",
    b"# note\n\nx,y\n?,1\n2,0\n",
    b"1\t0.5\t0.25\n2\t0.5\t-1\n1\t0\t0\n",
)
_WORDS = (
    *(b"NA", b"nan", b"TRUE", b"F", b"?", b"inf", b"1e999", b"-", b'"', b";", b"\t"),
    *(b",", b" ", b"\n", b"\r\n", b"#", b"1,5", b"id", b"Unnamed: 0", b"ant", b"\0"),
)
_CELLS = st.sampled_from(
    ("1", "0", "-2.5", "1,5", "NA", "", "TRUE", "false", "ant", "bee", "1e40", '"a"')
)


def _written(rows: list[list[str]], separator: str) -> bytes:
    text = "\n".join(separator.join(row) for row in rows)
    return text.encode("utf-8", "surrogatepass")


def _tables(width: int) -> st.SearchStrategy[bytes]:
    row = st.lists(_CELLS | texts, min_size=width, max_size=width)
    return st.builds(
        _written, st.lists(row, max_size=7), st.sampled_from((",", "\t", ";", " "))
    )


_numbers = st.integers(-3, 4) | st.sampled_from((*HUGE, 0.5, True))
_odd = st.none() | texts | st.sampled_from(((), {}, b"1", 1.5, float("nan")))
_columns = st.sampled_from(("first", "last", "none", "a", "label", "")) | _numbers
_means = st.lists(st.integers(-2, 2) | st.sampled_from((1e300, float("nan"), "x")))
_OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "label_column": _columns,
    "header": st.booleans(),
    "targets": _numbers,
    "skip_rows": _numbers,
    "separator": st.sampled_from(("comma", "tab", "semicolon", "space", ",", ";", "x")),
    "decimal": st.sampled_from(("point", "comma", ".", ",", "x")),
    "index_column": _columns,
    "missing": st.sampled_from(("drop", "mean", "mean", "x")) | _means,
    "label_names": st.booleans(),
}


@st.composite
def _reads(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes of a table, and some options."""
    made = st.integers(1, 4).flatmap(_tables)
    data = draw(packed(mutated(_SEEDS, _WORDS) | made))
    options = {}
    for name in draw(st.lists(st.sampled_from(sorted(_OPTIONS)), max_size=4)):
        is_odd = draw(st.integers(0, 9)) == 0
        options[name] = draw(_odd if is_odd else _OPTIONS[name])
    return data, options


def _read(value: tuple[bytes, dict[str, Any]], folder: Path) -> None:
    data, options = value
    path = folder / "table.csv"
    path.write_bytes(data)
    try:
        with guarded(LIMITS, folder), warnings.catch_warnings():
            warnings.simplefilter("ignore", ac.ArenaWarning)
            found = ac.load_csv(path, **options)
            _judge(found, options)
    finally:
        path.unlink(missing_ok=True)


def _judge(found: ac.Dataset, options: dict[str, Any]) -> None:
    """Look at what was read, and at what is made of it."""
    _require_sound(found)
    if (options.get("missing") or "drop") == "drop" and found.gaps is not None:
        raise Finding("cells are filled in although nobody asked for it")
    if found.classes and found.with_classes(found.classes[::-1]).n_samples < 1:
        raise Finding("no samples are left")
    if found.n_samples > 1:
        for part in found.split(0.5, seed=0):
            _require_sound(part)


def _require_sound(data: ac.Dataset) -> None:
    if not data.n_samples or not np.isfinite(data.x).all():
        raise Finding(f"{data.n_samples} samples, or some that are not finite")
    if data.y is not None and len(data.y) != data.n_samples:
        raise Finding(f"{len(data.y)} labels of {data.n_samples} samples")
    if data.gaps is None:
        return
    expected = np.broadcast_to(np.float32(data.gaps.means), data.x.shape)
    if not np.array_equal(data.x[data.gaps.cells], expected[data.gaps.cells]):
        raise Finding("what stands in a gap is not the mean")


TABLES = (
    Target("table_options", _reads(), _read, show=lambda value: f"options {value[1]}"),
)
