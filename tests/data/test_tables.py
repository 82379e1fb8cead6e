"""Tables as people have them: dialects, headers, labels, an index, missing cells."""

import csv
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arena_ckpt as ac
from arena_ckpt.data.loaders import open_data
from arena_ckpt.errors import (
    AmbiguousTableError,
    ArenaError,
    ArenaWarning,
    CorruptFileError,
    DataShapeError,
    EmptyDataError,
    InvalidParameterError,
    MissingValueError,
    NonFiniteDataError,
    UnknownClassError,
)

FLOWERS = "5.1,3.5,setosa\n7.0,3.2,versicolor\n4.9,3.0,setosa\n6.3,3.3,virginica\n"
X = [[5.1, 3.5], [7.0, 3.2], [4.9, 3.0], [6.3, 3.3]]
NAMES = ("setosa", "versicolor", "virginica")


def load(folder: Path, text: str, **options: Any) -> ac.Dataset:
    path = folder / "t.csv"
    path.write_text(text, encoding="utf-8")
    return ac.load_csv(path, **options)


def refused(folder: Path, text: str, **options: Any) -> str:
    with pytest.raises(ArenaError) as caught:
        load(folder, text, **options)
    return str(caught.value)


def same(data: ac.Dataset, x: object, y: object) -> None:
    assert data.x.tolist() == np.float32(x).tolist()
    assert (None if data.y is None else data.y.tolist()) == y


# -- headers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first", ["0,1,2", "0,1,2,3", "4,5,6,7", ",0,1", "001,002,003,004"]
)
def test_a_first_line_of_consecutive_numbers_is_asked_about(
    tmp_path: Path, first: str
) -> None:
    rows = [",".join("95431"[: first.count(",") + 1]) for _ in range(3)]
    text = "\n".join([first, *rows]) + "\n"
    with pytest.raises(AmbiguousTableError, match=r"--header or --no-header") as caught:
        load(tmp_path, text)
    assert "consecutive whole numbers" in str(caught.value)
    assert load(tmp_path, text, header=True, index_column="none").n_samples == 3
    if not first.startswith(","):
        assert load(tmp_path, text, header=False).n_samples == 4


def test_whole_numbers_above_fractions_are_asked_about(tmp_path: Path) -> None:
    text = "900,910,930,1\n0.5,0.25,1.5,0\n0.1,0.2,0.3,1\n0.1,0.2,0.4,1\n"
    assert "the lines below it have fractions" in refused(tmp_path, text)
    same(load(tmp_path, text, header=True).take([0]), [[0.5, 0.25, 1.5]], [0])
    plain = text.replace("900,910,930", "9,9,9")  # names differ from each other
    assert load(tmp_path, plain).n_samples == 4


@pytest.mark.parametrize(
    ("first", "row", "why"),
    [
        ("0,1,kind", "5,7,a", "consecutive whole numbers"),
        ("0,1,2,kind", "1.5,2.5,3.5,a", "consecutive whole numbers"),
        (",0,1,kind", "4,2.5,3.5,a", "consecutive whole numbers"),
        ("10,20,40,kind", "1.5,2.5,3.5,a", "'kind' stands in no line below it"),
        ("1990,kind", "7,a", "'kind' stands in no line below it"),
        ("10,20,40,a", "1.5,2.5,3.5,a", "the lines below it have fractions"),
    ],
)
def test_numbers_beside_a_text_are_asked_about(
    tmp_path: Path, first: str, row: str, why: str
) -> None:
    """As pandas writes classes beside columns that have no names."""
    text = "\n".join([first, *[row] * 4]) + "\n"
    assert why in refused(tmp_path, text)
    named = load(tmp_path, text, header=True, index_column="none")
    assert (named.n_samples, named.classes) == (4, ("a",))
    sample = text.replace("kind", "b").replace(f"{first[:1]}", "0.5", 1)
    if first[0].isdigit():  # a fraction is no name
        assert load(tmp_path, sample).n_samples == 5


@pytest.mark.parametrize(
    "text", ["1,2,b\n3,4,a\n5,6,a\n", "1,2,b\n3,4,a\n5,6,c\n7,8,a\n9,9,d\n"]
)
def test_a_class_of_one_sample_may_stand_first(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text).n_samples == text.count("\n")


def test_texts_above_numbers_are_asked_about(tmp_path: Path) -> None:
    """As in the files of scikit-learn: a count of samples, and the classes."""
    text = "4,2,setosa\n" + "5.1,3.5,0\n7.0,3.2,1\n4.9,3.0,0\n6.3,3.3,2\n"
    message = refused(tmp_path, text)
    assert "line 1, column 3 is 'setosa', above numbers" in message
    assert "--skip-rows 1" in message
    for options in ({"header": True}, {"skip_rows": 1}):
        same(load(tmp_path, text, **options), X, [0, 1, 0, 2])
    # a first line of another length
    text = "4,2,setosa,versicolor,virginica\n" + text.partition("\n")[2]
    assert "--skip-rows N" in refused(tmp_path, text)
    same(load(tmp_path, text, skip_rows=1), X, [0, 1, 0, 2])


def test_a_header_that_is_denied_is_a_sample_that_is_none(tmp_path: Path) -> None:
    message = refused(tmp_path, "a,b\n1,2\n3,4\n", header=False)
    assert "line 1, column 2 is 'b', which is no number" in message
    same(load(tmp_path, "1,2\n3,4\n", header=True), [[3]], [4])


@pytest.mark.parametrize(
    "option",
    [
        {"header": 1},
        {"header": "yes"},
        {"skip_rows": -1},
        {"skip_rows": True},
        {"separator": "pipe"},
        {"separator": ","} | {"decimal": ","},
        {"decimal": ";"},
        {"missing": "zero"},
        {"targets": 0},
        {"targets": 1, "label_column": "first"},
        {"label_names": 1},
        {"index_column": 9},
        {"index_column": 2},
    ],
    ids=str,
)
def test_options_that_cannot_be_are_named(
    tmp_path: Path, option: dict[str, object]
) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        load(tmp_path, "1,2,3\n4,5,6\n", **option)
    assert next(iter(option)).split("_")[0] in str(caught.value)


# -- labels ----------------------------------------------------------------------------


def test_texts_in_the_label_column_become_classes(tmp_path: Path) -> None:
    data = load(tmp_path, FLOWERS)
    same(data, X, [0, 1, 0, 2])
    assert data.classes == NAMES
    assert data.y.dtype == np.int64
    assert data.take([1]).classes == NAMES


@pytest.mark.parametrize("column", ["species", "0", 0, "-3", -3, "first"])
def test_the_label_column_has_a_name_or_a_number(
    tmp_path: Path, column: str | int
) -> None:
    rows = [f"{c},{a},{b}" for a, b, c in csv.reader(io.StringIO(FLOWERS))]
    text = "species,length,width\n" + "\n".join(rows) + "\n"
    data = load(tmp_path, text, label_column=column)
    same(data, X, [0, 1, 0, 2])
    assert data.classes == NAMES


def test_a_name_in_the_header_comes_before_a_number(tmp_path: Path) -> None:
    same(
        load(tmp_path, "1,0\n5,6\n7,8\n", header=True, label_column="0"),
        [[5], [7]],
        [6, 8],
    )
    message = refused(tmp_path, "a,b\n1,2\n", label_column="c")
    assert "label_column='c' (--label-column)" in message
    assert "'a', 'b'" in message
    assert "2 columns have the name 'a'" in refused(
        tmp_path, "a,a,b\n1,2,3\n", label_column="a"
    )


def test_labels_of_ucr_stand_first(tmp_path: Path) -> None:
    path = tmp_path / "Coffee_TRAIN.tsv"
    path.write_text("1\t-0.5\t0.25\n2\t1.5\t-2\n1\t1e-3\t4\n")
    data = ac.load_csv(path, "first")
    same(data, [[-0.5, 0.25], [1.5, -2], [1e-3, 4]], [1, 2, 1])
    named = ac.load_csv(path, "first", label_names=True)
    same(named, [[-0.5, 0.25], [1.5, -2], [1e-3, 4]], [0, 1, 0])
    assert named.classes == ("1", "2")


def test_names_of_classes_may_be_numbers_and_are_sorted_by_value(
    tmp_path: Path,
) -> None:
    text = "0.5,10\n1.5,9\n2.5,-1\n"
    data = load(tmp_path, text, label_names=True)
    assert (data.classes, data.y.tolist()) == (("-1", "9", "10"), [2, 1, 0])
    mixed = "0.5,7\n1.5,A\n2.5,7\n"
    message = refused(tmp_path, mixed)
    assert "line 2, column 2 is 'A', which is no number, as 2 other labels" in message
    assert "--label-names" in message
    assert load(tmp_path, mixed, label_names=True).classes == ("7", "A")


def test_truth_values_are_numbers_and_names_of_classes(tmp_path: Path) -> None:
    data = load(tmp_path, "a,b,c\nTRUE,1.5,FALSE\nFalse,2,TRUE\n")
    same(data, [[1, 1.5], [0, 2]], [0, 1])
    assert data.classes == ("FALSE", "TRUE")


def test_the_last_columns_can_be_targets(tmp_path: Path) -> None:
    text = "a,b,c,d\n1,2,3,4\n5,6,7,8\n"
    data = load(tmp_path, text, targets=2)
    same(data, [[1, 2], [5, 6]], [[3, 4], [7, 8]])
    assert data.y.dtype == np.float32
    assert "targets=4 (--targets)" in refused(tmp_path, text, targets=4)
    same(load(tmp_path, "1,2\n3,4\n", targets=1), [[1], [3]], [[2], [4]])


def test_texts_among_samples_are_refused_by_their_place(tmp_path: Path) -> None:
    message = refused(tmp_path, "a,b,c\n1,red,0\n2,blue,1\n")
    assert "line 2, column 2 ('b') is 'red', which is no number" in message
    assert "--index-column" in message


# -- dialects --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "1.5 2 0\n2.5 3 1\n",
        "  1.5   2\t0\n2.5 3   1  \n",
        "a b c\n1,5 2 0\n2,5 3 1\n",
        "a;b;c\n1,5;2;0\n2,5;3;1\n",
        "1,5\t2\t0\n2,5\t3\t1\n",
        '"1,5","2","0"\n"2,5","3","1"\n',
        "# made by hand\n\n1.5,2,0\n2.5,3,1\n",
        "1.50,2.0,+0\n2.5e0,3,1\n",
    ],
)
def test_dialects_are_found_out(tmp_path: Path, text: str) -> None:
    skip = 2 if text.startswith("#") else 0
    same(load(tmp_path, text, skip_rows=skip), [[1.5, 2], [2.5, 3]], [0, 1])


def test_commas_that_may_group_thousands_are_asked_about(tmp_path: Path) -> None:
    text = "1,234;5\n2,500;6\n"
    message = refused(tmp_path, text)
    assert "'1,234' can be 1.234 or 1234" in message
    assert "--decimal comma" in message
    same(load(tmp_path, text, decimal="comma"), [[1.234], [2.5]], [5, 6])
    assert "--decimal point" in refused(tmp_path, "1,5;2.5\n1,25;3\n")


def test_a_later_number_in_another_way_is_refused(tmp_path: Path) -> None:
    rows = ["1;2"] * 80 + ["1,5;2"]
    assert "line 81, column 1 is '1,5'" in refused(tmp_path, "\n".join(rows))
    rows = ["1,5;2"] * 80 + ["1.5;2"]
    assert "line 81, column 1 is '1.5'" in refused(tmp_path, "\n".join(rows))


# -- index columns ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "index"),
    [
        ('""', ["1", "2", "3"]),
        ("", ["0", "1", "2"]),
        ("", ["17", "3", "9"]),
        ('"rownames"', ['"Alabama"', '"Alaska"', '"Maine"']),
        ("Unnamed: 0", ["5", "4", "2"]),
        ("Id", ["1", "2", "3"]),
    ],
)
def test_an_index_column_is_left_out_with_a_word(
    tmp_path: Path, header: str, index: list[str]
) -> None:
    rows = [f"{i},0.5,{n},{n % 2}" for n, i in enumerate(index)]
    text = "\n".join([f"{header},a,b,y", *rows]) + "\n"
    with pytest.warns(ArenaWarning, match=r"--index-column 0\) says so"):
        data = load(tmp_path, text)
    same(data, [[0.5, 0], [0.5, 1], [0.5, 2]], [0, 1, 0])
    same(load(tmp_path, text, index_column=0), data.x, [0, 1, 0])
    if index[0].isdigit():
        kept = load(tmp_path, text, index_column="none")
        assert kept.x.shape == (3, 3)


@pytest.mark.parametrize("text", ["id,a,y\n1,5,0\n3,6,1\n", "n,a,y\n1,5,0\n2,6,1\n"])
def test_other_first_columns_are_kept(tmp_path: Path, text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tmp_path, text).x.shape == (2, 2)


# -- missing cells ---------------------------------------------------------------------

GAPS = "a,b,y\n1,2,0\nNA,4,1\n3,,0\n5,?,1\n"


def test_missing_cells_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingValueError) as caught:
        load(tmp_path, GAPS)
    assert isinstance(caught.value, CorruptFileError | NonFiniteDataError)
    message, facts = str(caught.value), vars(caught.value)
    assert "line 3, column 1 ('a') is empty or NA, the first of 3 cells" in message
    assert "--missing drop" in message
    assert (facts["count"], facts["line"], facts["column"]) == (3, 3, 1)


def test_missing_cells_are_left_out_or_filled_in(tmp_path: Path) -> None:
    same(load(tmp_path, GAPS, missing="drop"), [[1, 2]], [0])
    filled = load(tmp_path, GAPS, missing="mean")
    same(filled, [[1, 2], [3, 4], [3, 3], [5, 3]], [0, 1, 0, 1])


def test_a_header_alone_is_no_table(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EmptyDataError, match="no line of numbers"):
            load(tmp_path, "a,b,y\n")


def test_labels_are_not_filled_in(tmp_path: Path) -> None:
    for text in ("1,0\n2,\n3,1\n", "1,a\n2,\n3,b\n"):
        message = refused(tmp_path, text, missing="mean")
        assert "line 2, column 2 is empty or NA" in message
        assert "--missing drop" in message
        same(load(tmp_path, text, missing="drop"), [[1], [3]], [0, 1])


def test_columns_and_tables_without_values_are_refused(tmp_path: Path) -> None:
    text = "a,b,y\n1,NA,0\n2,NA,1\n"
    assert "column 2 has no value at all" in refused(tmp_path, text, missing="mean")
    with pytest.raises(EmptyDataError, match="leaves out all 2 rows"):
        load(tmp_path, text, missing="drop")
    same(load(tmp_path, text, index_column="b"), [[1], [2]], [0, 1])
    with pytest.raises(DataShapeError, match="only one column"):
        load(tmp_path, "1\n2\n")


# -- by name ---------------------------------------------------------------------------


def test_options_of_tables_are_for_tables(tmp_path: Path) -> None:
    (tmp_path / "t.data").write_text("1 2\n3 4\n")
    data = open_data(tmp_path / "t.data", {"label_column": "first"})
    same(data, [[2], [4]], [1, 3])
    with pytest.raises(InvalidParameterError, match="'digits' is no table"):
        open_data("digits", {"header": True})


def test_classes_of_other_data_are_numbered_alike(tmp_path: Path) -> None:
    data = load(tmp_path, "1,virginica\n2,setosa\n")
    assert data.y.tolist() == [1, 0]
    again = data.with_classes(NAMES)
    assert (again.y.tolist(), again.classes) == ([2, 0], NAMES)
    with pytest.raises(UnknownClassError, match=r"sample 0 .*'virginica'") as caught:
        data.with_classes(("setosa", "virginicum"))
    assert vars(caught.value)["unknown"] == ("virginica",)
    with pytest.raises(InvalidParameterError, match="no names"):
        ac.Dataset("d", [[1.0]], [0]).with_classes(NAMES)


# -- any table -------------------------------------------------------------------------

_values = st.floats(-1e6, 1e6, allow_nan=False, width=32).map(lambda v: round(v, 3))
_labels = st.sampled_from(["red", "dark blue", "Grün", "a,b", 'say "x"', "7a", "-"])


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, dict[str, Any], list[list[float]], list[str]]:
    """Draw a table in some dialect, how to read it, and what it holds."""
    n_rows, n_columns = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    x = [[draw(_values) for _ in range(n_columns)] for _ in range(n_rows)]
    y = [draw(_labels) for _ in range(n_rows)]
    separator = draw(st.sampled_from([",", "\t", ";", " "]))
    decimal = draw(st.sampled_from(["."] if separator == "," else [".", ","]))
    column = draw(st.integers(0, n_columns))
    rows = []
    for values, label in zip(x, y, strict=True):
        cells = [repr(v).replace(".", decimal) for v in values]
        cells.insert(column, label)
        rows.append(cells)
    header = draw(st.booleans())
    if header:
        rows.insert(0, [f"column {i}" for i in range(n_columns + 1)])
    if draw(st.booleans()):  # an index in front of all
        for i, row in enumerate(rows):
            row.insert(0, "i" if header and i == 0 else str(i + 3))
        column += 1
        index: int | str = 0
    else:
        index = "none"
    skip = draw(st.integers(0, 2))
    out = io.StringIO()
    out.write("anything, at; all\n" * skip)
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=end).writerows(
        rows
    )
    options = {
        "label_column": column,
        "index_column": index,
        "header": header,
        "skip_rows": skip,
        "separator": separator,
        "decimal": decimal,
    }
    return out.getvalue(), options, x, y


@settings(max_examples=300, deadline=None)
@given(tables(), st.data())
def test_any_table_is_read_as_it_was_written(
    table: tuple[str, dict[str, Any], list[list[float]], list[str]], data: st.DataObject
) -> None:
    text, options, x, y = table
    with tempfile.TemporaryDirectory() as folder:
        read = load(Path(folder), text, **options)
        assert read.x.tolist() == np.float32(x).tolist()
        assert read.classes == tuple(sorted({*y}))
        assert [read.classes[n] for n in read.y] == y
        # with less said it is the same, or asked about; never another kind of failure
        for name in data.draw(st.sets(st.sampled_from(sorted(options)))):
            options.pop(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ArenaWarning)
            try:
                found = load(Path(folder), text, **options)
            except ArenaError:
                return
        if {"label_column", "index_column", "header", "skip_rows"} <= options.keys():
            assert found.x.tolist() == read.x.tolist()
            assert found.classes == read.classes


_anything = st.text(st.sampled_from("01.,;\t \n\"aN-e'?"), max_size=40)


@settings(max_examples=400, deadline=None)
@given(
    _anything,
    st.fixed_dictionaries(
        {},
        optional={
            "header": st.booleans(),
            "label_column": st.integers(-3, 3) | st.sampled_from(["a", "none", "0"]),
            "targets": st.integers(0, 3),
            "skip_rows": st.integers(0, 3),
            "separator": st.sampled_from([",", ";", "tab", "space", "x"]),
            "decimal": st.sampled_from([".", "comma"]),
            "index_column": st.integers(-3, 3) | st.sampled_from(["a", "none"]),
            "missing": st.sampled_from(["drop", "mean"]),
            "label_names": st.booleans(),
        },
    ),
)
def test_any_text_is_read_or_refused_by_an_error_of_ours(
    text: str, options: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ArenaWarning)
        try:
            data = load(Path(folder), text, **options)
        except ArenaError:
            return
        assert np.isfinite(data.x).all()
        assert data.y is None or len(data.y) == len(data.x)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(
            st.floats(allow_nan=False, allow_infinity=False, width=32)
            | st.integers(-(2**60), 2**60).map(float),
            min_size=3,
            max_size=3,
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["{!r}", "{:.17e}", "{:g}", "{:.3f}"]),
)
def test_both_ways_of_reading_give_the_same_bits(
    rows: list[list[float]], form: str
) -> None:
    lines = [",".join(form.format(v) for v in row) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        fast = load(
            Path(folder), "\n".join(lines) + "\n", header=False, label_column="none"
        )
        # quotes are what NumPy's parser is not asked about
        quoted = "\n".join(
            f'"{line.replace(",", chr(34) + "," + chr(34))}"' for line in lines
        )
        slow = load(Path(folder), quoted + "\n", header=False, label_column="none")
    assert fast.x.tobytes() == slow.x.tobytes()


def test_to_skip_more_rows_than_there_are_ends_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("1,2\n3,4\n")
    with pytest.raises(ac.EmptyDataError):
        ac.load_csv(path, skip_rows=2**64)
