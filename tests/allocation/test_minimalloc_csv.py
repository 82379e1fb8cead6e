"""Reading and writing minimalloc's CSV: cases to see, bad files, round trips."""

from __future__ import annotations

import gzip
import io
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from arena_ckpt.allocation.buffers import FREE, Buffers, Gap
from arena_ckpt.allocation.csv_cells import (
    _whole,
    _whole_or_none,
    _wholes,
    _wholes_or_none,
)
from arena_ckpt.allocation.minimalloc_csv import (
    ROWS_AT_ONCE,
    BufferTable,
    read_buffers,
    write_layout,
)
from arena_ckpt.errors import (
    BufferFileError,
    DataError,
    DataFileNotFoundError,
    InvalidParameterError,
)

INSTANCES = Path(__file__).parents[3] / "shared/data/allocation"
HEADER = "id,lower,upper,size\n"

seeded = settings(derandomize=True, deadline=None)


def read(folder: Path, text: str | bytes, *, fixed: bool = True) -> BufferTable:
    path = folder / "buffers.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_buffers(path, fixed=fixed)


def written(table: BufferTable, offset: Any, pool: Any = None) -> str:
    file = io.StringIO(newline="")
    write_layout(file, table, offset, pool)
    return file.getvalue()


def ranges(table: BufferTable) -> list[tuple[int, int, int]]:
    b = table.buffers
    return list(zip(b.lower.tolist(), b.upper.tolist(), b.size.tolist(), strict=True))


def arrays(buffers: Buffers) -> dict[str, list[int]]:
    return {name: getattr(buffers, name).tolist() for name in Buffers.__slots__}


# -- what is read ----------------------------------------------------------------------


def test_four_columns_are_enough(tmp_path: Path) -> None:
    table = read(tmp_path, "id,lower,upper,size\nb1,0,3,4\nb2,-3,9,8\n")
    assert table.ids == ("b1", "b2")
    assert ranges(table) == [(0, 3, 4), (-3, 9, 8)]
    assert table.buffers.alignment.tolist() == [1, 1]
    assert table.buffers.is_plain
    assert (table.hint, table.group, table.offset, table.pool) == (None,) * 4
    assert table.columns == ("id", "lower", "upper", "size")
    assert table.rows.tolist() == [2, 3]
    assert table.label(1) == "row 3 (id 'b2')"
    assert len(table) == 2


def test_every_column_is_read_in_any_order(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "pool,group,size,offset,gaps,id,hint,alignment,upper,lower\n"
        "1,left,64,128,2-4 5-6@0:16,a,7,32,9,0\n"
        ",left,32,,,b,-1,8,3,1\n"
        "0,,16,0, ,c,-1,1,3,1\n",
    )
    assert table.ids == ("a", "b", "c")
    assert ranges(table) == [(0, 9, 64), (1, 3, 32), (1, 3, 16)]
    assert table.buffers.alignment.tolist() == [32, 8, 1]
    assert table.buffers.fixed_offset.tolist() == [128, FREE, 0]
    assert table.buffers.group.tolist() == [0, 0, FREE]
    assert table.buffers.gaps_of(0) == [(2, 4), (5, 6, 0, 16)]
    assert table.buffers.gaps_of(1) == table.buffers.gaps_of(2) == []
    assert table.hint == (7, -1, -1)
    assert table.group == ("left", "left", None)
    assert table.offset == (128, None, 0)
    assert table.pool == (1, None, 0)
    assert (table.pools, table.weight) == (None, None)


def test_allowed_pools_and_weights_are_read_and_written(tmp_path: Path) -> None:
    text = (
        "id,lower,upper,size,pools,weight\n"
        "a,0,9,64,dtcm sram,3\n"
        "b,1,3,32, ,.5\n"
        "c,1,3,16, 0  2 ,1e3\n"
    )
    table = read(tmp_path, text)
    assert table.pools == (("dtcm", "sram"), None, ("0", "2"))
    assert table.weight == (3, 0.5, 1000.0)
    assert isinstance(table.weight[0], int)
    assert written(table, [0, 1, 2], [1, 0, 2]) == (
        "id,lower,upper,size,pools,weight,offset,pool\n"
        "a,0,9,64,dtcm sram,3,0,1\n"
        "b,1,3,32,,0.5,1,0\n"
        "c,1,3,16,0 2,1000.0,2,2\n"
    )
    again = read(tmp_path, written(table, [None] * 3))
    assert (again.pools, again.weight) == (table.pools, table.weight)


@pytest.mark.parametrize(
    "weight", ["", "-1", "nan", "inf", "1e999", "1_0", "x", "4611686018427387904"]
)
def test_weights_in_cells_are_numbers_of_at_least_0(
    tmp_path: Path, weight: str
) -> None:
    text = f"id,lower,upper,size,weight\na,0,3,4,{weight}\n"
    with pytest.raises(BufferFileError, match=r"row 2 .*weight") as caught:
        read(tmp_path, text)
    assert "a number of at least 0 and below 2**62" in str(caught.value)


@pytest.mark.parametrize("buffer_id", ["id", "buffer", "buffer_id"])
@pytest.mark.parametrize("lower", ["lower", "begin", "start"])
def test_older_names_are_known(tmp_path: Path, buffer_id: str, lower: str) -> None:
    table = read(tmp_path, f"{buffer_id},{lower},upper,size\nb1,0,3,4\n")
    assert table.ids == ("b1",)
    assert ranges(table) == [(0, 3, 4)]
    assert table.columns == ("id", "lower", "upper", "size")


def test_end_is_the_last_step_of_lives_and_gaps(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "buffer_id,start,end,size,gaps\nb1,0,9,4,2-3 4-4@0:2\nb2,5,5,4,\n",
    )
    assert ranges(table) == [(0, 10, 4), (5, 6, 4)]
    assert table.buffers.gaps_of(0) == [(2, 4), (4, 5, 0, 2)]


def test_gaps_may_lie_before_step_0(tmp_path: Path) -> None:
    table = read(tmp_path, "id,lower,upper,size,gaps\na,-9,9,4,-8--5 -3-2@1:2\n")
    assert table.buffers.gaps_of(0) == [(-8, -5), (-3, 2, 1, 2)]


def test_offsets_are_fixed_or_an_answer(tmp_path: Path) -> None:
    text = "id,lower,upper,size,alignment,offset\na,0,3,4,4,8\nb,0,3,4,4,\n"
    fixed = read(tmp_path, text)
    assert fixed.buffers.fixed_offset.tolist() == [8, FREE]
    answer = read(tmp_path, text, fixed=False)
    assert answer.buffers.fixed_offset.tolist() == [FREE, FREE]
    assert fixed.offset == answer.offset == (8, None)


def test_a_wrong_answer_is_left_to_the_validator(tmp_path: Path) -> None:
    text = "id,lower,upper,size,alignment,offset\na,0,3,4,4,7\nb,0,3,4,4,-4\n"
    assert read(tmp_path, text, fixed=False).offset == (7, -4)
    with pytest.raises(BufferFileError):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "id,lower,upper,size\r\nb1,0,3,4\r\nb2,3,9,8\r\n",
        "id,lower,upper,size\nb1,0,3,4\nb2,3,9,8",
        "id,lower,upper,size\rb1,0,3,4\rb2,3,9,8",
        "\ufeffid,lower,upper,size\nb1,0,3,4\nb2,3,9,8\n",
        "\ufeffid,lower,upper,size\r\nb1,0,3,4\r\nb2,3,9,8\r\n\r\n",
        "id,lower,upper,size\nb1,0,3,4\nb2,3,9,8\n\n\n   \n",
        " id , lower,upper , size \n b1 , 0,\t3 ,4\nb2 ,3 , 9,8 \n",
        '"id","lower","upper","size"\n"b1","0","3","4"\nb2, "3","9",8\n',
        "id,lower,upper,size\nb1,+0,03,4\nb2,3,9,08\n",
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_texts_of_other_programs_are_read(
    tmp_path: Path, text: str, pack: type[bytes]
) -> None:
    table = read(tmp_path, pack(text.encode()))
    assert table.ids == ("b1", "b2")
    assert ranges(table) == [(0, 3, 4), (3, 9, 8)]
    assert table.rows.tolist() == [2, 3]


def test_rows_are_the_lines_of_an_editor(tmp_path: Path) -> None:
    table = read(
        tmp_path, '\nid,lower,upper,size\n\na,0,3,4\n"b\nc",0,3,4\n\nd,0,3,4\n'
    )
    assert table.ids == ("a", "b\nc", "d")
    assert table.rows.tolist() == [4, 5, 8]


@pytest.mark.parametrize("n", [ROWS_AT_ONCE - 1, ROWS_AT_ONCE, 2 * ROWS_AT_ONCE + 1])
def test_tables_of_several_chunks(tmp_path: Path, n: int) -> None:
    table = read(
        tmp_path, HEADER + "".join(f"{i},{i},{2 * i + 1},{i + 7}\n" for i in range(n))
    )
    assert table.ids == tuple(map(str, range(n)))
    assert ranges(table) == [(i, 2 * i + 1, i + 7) for i in range(n)]
    assert table.rows.tolist() == list(range(2, n + 2))


@pytest.mark.skipif(
    not INSTANCES.is_dir(), reason=f"the allocation instances are absent: {INSTANCES}"
)
def test_the_instances_are_read_and_written_back(tmp_path: Path) -> None:
    paths = sorted(INSTANCES.glob("*/*.csv"))
    assert len(paths) >= 12
    for path in paths:
        table = read_buffers(path)
        lines = path.read_text().splitlines()
        assert len(table) == len(lines) - 1
        offsets = range(len(table))
        text = written(table, offsets)
        assert text.splitlines()[1:] == [
            f"{line},{offset}" for line, offset in zip(lines[1:], offsets, strict=True)
        ]
        again = read(tmp_path, text, fixed=False)
        assert again.ids == table.ids
        assert again.offset == tuple(offsets)
        assert arrays(again.buffers) == arrays(table.buffers)


# -- what is written -------------------------------------------------------------------


def test_an_answer_is_the_table_with_a_column_more(tmp_path: Path) -> None:
    table = read(tmp_path, "id,lower,upper,size\nb1,0,3,4\nb2,3,9,8\n")
    assert written(table, [0, 4]) == (
        "id,lower,upper,size,offset\nb1,0,3,4,0\nb2,3,9,8,4\n"
    )
    assert written(table, np.array([0, 4]), (1, 0)) == (
        "id,lower,upper,size,offset,pool\nb1,0,3,4,0,1\nb2,3,9,8,4,0\n"
    )
    assert written(table, [None, 4]) == (
        "id,lower,upper,size,offset\nb1,0,3,4,\nb2,3,9,8,4\n"
    )


def test_columns_keep_their_order_and_get_their_newer_names(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "offset,gaps,size,end,begin,buffer,hint,group\n"
        "0,2-3  5-5@0:2 7-7@1:1,4,9,0,b1,3,g\n,,8,12,10,b2,-1,\n",
    )
    assert written(table, [8, 16]) == (
        "offset,gaps,size,upper,lower,id,hint,group\n"
        "8,2-4 5-6@0:2 7-8,4,10,0,b1,3,g\n"
        "16,,8,13,10,b2,-1,\n"
    )


def test_pools_of_an_older_answer_are_not_written(tmp_path: Path) -> None:
    table = read(tmp_path, "pool,id,lower,upper,size,offset\n1,a,0,3,4,8\n")
    assert written(table, [0]) == "id,lower,upper,size,offset\na,0,3,4,0\n"
    assert written(table, [0], [2]) == (
        "pool,id,lower,upper,size,offset\n2,a,0,3,4,0\n"
    )


def test_ids_with_commas_and_quotes_are_quoted(tmp_path: Path) -> None:
    text = 'id,lower,upper,size,offset\n"a,b",0,3,4,0\n"""c",0,3,4,4\n'
    table = read(tmp_path, text)
    assert table.ids == ("a,b", '"c')
    assert written(table, [0, 4]) == text


@pytest.mark.parametrize(
    ("offset", "pool", "error"),
    [
        ([0], None, InvalidParameterError),
        ([0, 4, 8], None, InvalidParameterError),
        ([0, 4], [0], InvalidParameterError),
        ([0, 4.0], None, TypeError),
        ([0, 4], ["0", "1"], TypeError),
    ],
)
def test_nothing_is_written_on_failure(
    tmp_path: Path, offset: Any, pool: Any, error: type[Exception]
) -> None:
    table = read(tmp_path, "id,lower,upper,size\nb1,0,3,4\nb2,3,9,8\n")
    file = io.StringIO()
    with pytest.raises(error):
        write_layout(file, table, offset, pool)
    assert file.getvalue() == ""


# -- bad files -------------------------------------------------------------------------

NUMBER = r"it must be a whole number between -2\*\*62 and 2\*\*62$"

BAD: dict[str, tuple[str | bytes, int | None, str]] = {
    # the file
    "empty": ("", None, "is empty; it must begin with the header id,lower,upper,size"),
    "blank": ("\n  \n\n", None, "is empty"),
    "BOM only": ("\ufeff", None, "is empty"),
    "header only": (HEADER, 1, "no buffers, only the header on row 1"),
    "header and blanks": ("\n" + HEADER + "\n\n", 2, "no buffers.*on row 2"),
    "not UTF-8": (HEADER.encode() + b"a,0,3,4\n\xe9,0,3,4\n", 3, "row 3.*0xe9.*UTF-8"),
    "cut UTF-8": (HEADER.encode() + b"\xc3", 2, "row 2.*0xc3.*UTF-8"),
    "UTF-16": (HEADER.encode("utf-16"), 1, "row 1 has the byte 0xff.*in UTF-8"),
    "open quote": (HEADER + 'a,0,3,4\n"b,0,3,4\n', 3, "row 3 cannot be split"),
    "quote inside": (HEADER + '"a"b,0,3,4\n', 2, "row 2 cannot be split"),
    "long cell": (HEADER + "a" * 200_000 + ",0,3,4\n", 2, "up to 131,072 characters"),
    # the header
    "no header": ("b1,0,3,4\n", 1, "row 1, the header, has the unknown column 'b1'"),
    "semicolons": ("id;lower;upper;size\na;0;3;4\n", 1, "with commas between them"),
    "unknown column": (
        "id,lower,uper,size\na,0,3,4\n",
        1,
        r"'uper' \(did you mean 'upper'\?\) in 'id,lower,uper,size'; it must name id, "
        "lower, upper, size and may name alignment, hint, gaps, offset, group, pool",
    ),
    "capitals": ("ID,lower,upper,size\na,0,3,4\n", 1, r"'ID' \(did you mean 'id'"),
    "unnamed column": ("id,lower,upper,size,\na,0,3,4,\n", 1, "unknown column ''"),
    "missing columns": (
        "id,lower,offset\na,0,3\n",
        1,
        "lacks upper, size in 'id,lower,offset'; it must name",
    ),
    "column twice": (
        "id,lower,upper,size,size\na,0,3,4,4\n",
        1,
        "'size' and 'size' in .* one column, size; keep one",
    ),
    "column under two names": (
        "id,lower,end,size,upper\na,0,3,4,4\n",
        1,
        "has 'end' and 'upper' in .* one column, upper",
    ),
    # the number of cells
    "few cells": (
        HEADER + "a,0,3,4\nb,0,3\n",
        3,
        r"row 3 \(id 'b'\) has 3 cells, the header has 4 \(id, lower, upper, size\)",
    ),
    "many cells": (HEADER + "a,0,3,4,5\n", 2, r"row 2 \(id 'a'\) has 5 cells.*has 4"),
    "all rows too long": (HEADER + "a,0,3,4,\nb,0,3,4,\n", 2, "row 2.*has 5 cells"),
    "a lone cell": (HEADER + "a,0,3,4\n\nend\n", 4, r"row 4 \(id 'end'\) has 1 cells"),
    # integers
    **{
        f"{column} {cell!r}": (
            f"id,lower,upper,size,alignment,hint\n"
            f"a,0,3,4,1,-1\nb3,{row}\nc,nan,,x,1,1\n",
            3,
            rf"row 3 \(id 'b3'\) has {column} {re.escape(repr(cell))}; {NUMBER}",
        )
        for cell in (
            "nan",
            "NaN",
            "inf",
            "1.5",
            "1.0",
            "1e3",
            "1_000",
            "0x10",
            "٣",
            "1 000",
            "--1",
            "four",
            str(2**62),
            str(-(2**62)),
            str(2**63),
            str(2**64 + 5),
        )
        for column, row in (
            ("lower", f"{cell},3,4,1,-1"),
            ("upper", f"0,{cell},4,1,-1"),
            ("size", f"0,3,{cell},1,-1"),
            ("alignment", f"0,3,4,{cell},-1"),
            ("hint", f"0,3,4,1,{cell}"),
        )
    },
    "5000 digits": (HEADER + f"a,0,3,{'9' * 5000}\n", 2, "has size '9{60}…'; it must"),
    "empty size": (HEADER + "a,0,3, \n", 2, rf"row 2 \(id 'a'\) has no size; {NUMBER}"),
    "empty hint": ("id,lower,upper,size,hint\na,0,3,4,\n", 2, "has no hint"),
    "end": ("id,lower,end,size\na,0,x,4\n", 2, "has end 'x'"),
    "end beyond": (f"id,lower,end,size\na,0,{2**62 - 1},4\n", 2, "steps must be with"),
    "offset": (
        "id,lower,upper,size,offset\na,0,3,4,\nb,0,3,4,free\n",
        3,
        "has offset 'free'; it must be empty or a whole number",
    ),
    "pool": ("id,lower,upper,size,pool\na,0,3,4,1.0\n", 2, "has pool '1.0'; it must"),
    # ids
    "empty id": (HEADER + "a,0,3,4\n ,0,3,4\n", 3, "row 3 has no id; it must be a na"),
    "only commas": (HEADER + "a,0,3,4\n,,,\n", 3, "row 3 has no id"),
    "same id": (
        HEADER + "a,0,3,4\nb,0,3,4\n\na ,1,3,4\n",
        5,
        r"row 5 \(id 'a'\) has the id of row 2; ids must differ",
    ),
    # gaps
    **{
        f"gaps {cell!r}": (
            f"id,lower,upper,size,gaps\na,0,9,4,1-2\nb,0,9,4,{cell}\n",
            3,
            rf"row 3 \(id 'b'\) has gaps {re.escape(repr(cell))}; it must be empty or "
            "gaps with spaces between them, each lower-upper or lower-upper@",
        )
        for cell in (
            "3",
            "3-",
            "-5",
            "3-5-7",
            "3-5;7-8",
            "3..5",
            "3-5@",
            "3-5@2",
            "3-5@2:",
            "3-5@0:1:2",
            "3-5@0-1",
            "3-5 @0:1",
            "3 - 5",
            "1.5-2",
            "nan-5",
            "(3-5)",
        )
    },
    "gap of 5000 digits": (
        f"id,lower,upper,size,gaps\na,0,9,4,1-{'9' * 5000}\n",
        2,
        "has gaps '1-9{58}…'; it must be",
    ),
    # what make_buffers refuses
    "size 0": (HEADER + "a,0,3,4\nb,0,3,0\n", 3, r"row 3 \(id 'b'\) has a size of 0"),
    "size -4": (HEADER + "a,0,3,-4\n", 2, r"row 2 \(id 'a'\) has a size of -4 bytes"),
    "no steps": (HEADER + "a,3,3,4\n", 2, r"row 2 \(id 'a'\) lives in \[3, 3\)"),
    "backwards": (HEADER + "\na,3,1,4\n", 3, r"row 3 \(id 'a'\) lives in \[3, 1\)"),
    "end before start": (
        "id,start,end,size\na,3,2,4\n",
        2,
        r"row 2 \(id 'a'\) lives in \[3, 3\), which is empty",
    ),
    "alignment 0": (
        "id,lower,upper,size,alignment\na,0,3,4,0\n",
        2,
        r"row 2 \(id 'a'\) has an alignment of 0 bytes",
    ),
    "sum": (
        HEADER + f"a,0,3,{2**61}\nb,0,3,{2**61}\n",
        2,
        r"add up to \d+ bytes.*below 2\*\*62.*row 2 \(id 'a'\)",
    ),
    "gaps unsorted": (
        "id,lower,upper,size,gaps\na,0,9,4,5-6 2-3\n",
        2,
        r"row 2 \(id 'a'\) has the gap \[2, 3\), which begins before 6",
    ),
    "gap empty": (
        "id,lower,upper,size,gaps\na,0,9,4,5-5\n",
        2,
        r"has the gap \[5, 5\), which is empty",
    ),
    "gap outside": (
        "id,lower,upper,size,gaps\na,0,9,4,5-10\n",
        2,
        r"has the gap \[5, 10\), which ends after the buffer does, at 9",
    ),
    "window outside": (
        "id,lower,upper,size,gaps\na,0,9,4,5-6@2:5\n",
        2,
        r"window \[2, 5\), which does not lie in its 4 bytes",
    ),
    "huge gap": (
        f"id,lower,upper,size,gaps\na,0,9,4,5-{2**70}\n",
        2,
        "which ends after the buffer does",
    ),
    "offset misaligned": (
        "id,lower,upper,size,alignment,offset\na,0,3,4,8,8\nb,0,3,4,8,12\n",
        3,
        r"row 3 \(id 'b'\) has the fixed offset 12, which is no multiple of its al.* 8",
    ),
    "offset -1": (
        "id,lower,upper,size,offset\na,0,3,4,-1\n",
        2,
        r"row 2 \(id 'a'\) has the fixed offset -1; it must be at least 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_with_the_place(tmp_path: Path, case: str) -> None:
    text, row, words = BAD[case]
    with pytest.raises(BufferFileError, match=words) as caught:
        read(tmp_path, text)
    path = str(tmp_path / "buffers.csv")
    assert str(caught.value).startswith(path)
    assert vars(caught.value)["path"] == path
    assert vars(caught.value)["row"] == row
    assert len(str(caught.value)) < len(path) + 400


def test_the_facts_hang_on_the_error(tmp_path: Path) -> None:
    with pytest.raises(BufferFileError) as caught:
        read(tmp_path, HEADER + "a,0,3,4\nb,0,3,nan\n")
    assert vars(caught.value) == {
        "path": str(tmp_path / "buffers.csv"),
        "row": 3,
        "id": "b",
        "column": "size",
        "value": "nan",
    }
    with pytest.raises(BufferFileError) as caught:
        read(tmp_path, HEADER + "a,0,3,4\na,0,3,4\n")
    assert vars(caught.value)["first_row"] == 2
    with pytest.raises(BufferFileError) as caught:
        read(tmp_path, "id,size\n")
    assert vars(caught.value)["missing"] == ("lower", "upper")


def test_the_first_of_several_faults_is_named(tmp_path: Path) -> None:
    rows = ["a,0,3,4", "b,0,x,4", "c,y,3,4", "d,0,3", "d,0,3,0"]
    with pytest.raises(BufferFileError, match=r"row 3 \(id 'b'\) has upper 'x'"):
        read(tmp_path, HEADER + "\n".join(rows))


def test_one_bad_line_in_a_million_is_found(tmp_path: Path) -> None:
    rows = [f"{i},0,3,4\n" for i in range(10**6)]
    rows[777_777] = "777777,0,3,4.5\n"
    with pytest.raises(BufferFileError, match=r"row 777779 .*has size '4\.5'"):
        read(tmp_path, HEADER + "".join(rows))


def test_a_missing_file_is_met_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "A.1048576.csv").write_text(HEADER)
    with pytest.raises(DataFileNotFoundError, match=r"did you mean '.*A\.1048576\.csv"):
        read_buffers(tmp_path / "A.104876.csv")
    with pytest.raises(DataError, match="a folder"):
        read_buffers(tmp_path)


# -- anything at all -------------------------------------------------------------------

INTACT = (
    b"id,lower,upper,size,alignment,hint,gaps,offset,group,pool,pools,weight\n"
    b"a,0,9,64,8,-1,1-2 3-4@0:8,16,g,0,x 1,1.5e3\n"
    b'"b",-3,9,8,4,2,,,,,,2\n'
)


@seeded
@given(damage=st.data())
def test_damaged_files_are_refused_or_read(damage: st.DataObject) -> None:
    data = bytearray(INTACT)
    places = st.integers(0, len(data) - 1)
    bytes_ = st.sampled_from(b'0189,-@:"\n\r .ex\xff\xc3\0') | st.integers(0, 255)
    for place, byte in damage.draw(st.lists(st.tuples(places, bytes_), max_size=4)):
        data[place] = byte
    del data[damage.draw(st.just(len(data)) | places) :]
    with tempfile.TemporaryDirectory() as folder:
        try:
            table = read(Path(folder), bytes(data))
        except DataError as error:
            message = str(error)
        else:
            message = folder
            again = read(Path(folder), written(table, table.offset or [0] * len(table)))
            assert again.ids == table.ids
        assert folder in message


@seeded
@given(
    st.lists(
        st.integers().map(str)
        | st.integers(-(2**62) - 1, -(2**62) + 1).map(str)
        | st.text("0123+-_ .e\t٣\xa0\x1f\0", max_size=4)
    )
)
@example([])
@example(["\xa05"])
def test_columns_are_parsed_as_their_cells_are(cells: list[str]) -> None:
    def outcome(parse: Any) -> object:
        try:
            return list(parse())
        except ValueError:
            return None

    assert outcome(lambda: _wholes_or_none(cells)) == outcome(
        lambda: map(_whole_or_none, cells)
    )
    if cells:
        assert outcome(lambda: _wholes(cells)) == outcome(lambda: map(_whole, cells))


# -- round trips -----------------------------------------------------------------------

steps = st.integers(-(2**62) + 1, 2**62 - 1) | st.integers(-20, 20)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4).map(
    str.strip
)
words = st.text("abz_09=-é", min_size=1, max_size=4)


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """Return a row of the newer names, its gaps as tuples."""
    times = sorted(draw(st.lists(steps, min_size=2, max_size=6, unique=True)))
    size = draw(st.integers(1, 2**40))
    alignment = draw(st.sampled_from((1, 3, 64)))
    gaps: list[Gap] = []
    for lower, upper in zip(times[::2], times[1::2], strict=False):
        low, high = sorted(draw(st.tuples(*[st.integers(0, size)] * 2)))
        windowed = draw(st.booleans()) and low < high
        gaps.append((lower, upper, low, high) if windowed else (lower, upper))
    offset = st.integers(0, 2**40).map(lambda multiple: multiple * alignment)
    return {
        "lower": times[0],
        "upper": times[-1],
        "size": size,
        "alignment": alignment,
        "hint": draw(st.integers(-1, 2**62 - 1)),
        "gaps": gaps,
        "offset": draw(st.none() | offset),
        "group": draw(st.none() | names) or None,
        "pool": draw(st.none() | st.integers(0, 9)),
        "pools": draw(st.none() | st.lists(words, min_size=1, max_size=3).map(tuple)),
        "weight": draw(st.integers(0, 2**62 - 1) | st.floats(0, 1e18)),
    }


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[dict[str, Any]]]:
    """Return columns in some order, and rows."""
    optional = (
        *("alignment", "hint", "gaps", "offset", "group", "pool", "pools", "weight"),
    )
    chosen = draw(st.sets(st.sampled_from(optional)))
    if "offset" in chosen:  # they are multiples of the alignment
        chosen.add("alignment")
    columns = draw(st.permutations(["id", "lower", "upper", "size", *sorted(chosen)]))
    ids = draw(st.lists(names.filter(bool), min_size=1, max_size=6, unique=True))
    return columns, [{"id": each, **draw(rows())} for each in ids]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def cell(column: str, value: Any, end: int) -> str:
    if value is None:
        return ""
    if column in ("id", "group"):
        return quoted(value)
    if column == "pools":
        return " ".join(value)
    if column == "gaps":
        return " ".join(
            f"{gap[0]}-{gap[1] - end}" + ("@{}:{}".format(*gap[2:]) if gap[2:] else "")
            for gap in value
        )
    return str(value - end if column == "upper" else value)


def text_of(
    columns: list[str], table: list[dict[str, Any]], *, old: bool, newline: str
) -> str:
    header = ",".join(columns)
    if old:
        header = header.replace("upper", "end").replace("lower", "start")
    lines = [",".join(cell(c, row[c], int(old)) for c in columns) for row in table]
    return "".join(line + newline for line in (header, *lines))


@seeded
@given(
    tables(),
    st.booleans(),
    st.sampled_from(("\n", "\r\n")),
    st.sampled_from(("", "\ufeff")),
)
def test_tables_survive_reading_and_writing(
    table: tuple[list[str], list[dict[str, Any]]], old: bool, newline: str, mark: str
) -> None:
    columns, given_rows = table
    text = mark + text_of(columns, given_rows, old=old, newline=newline)
    with tempfile.TemporaryDirectory() as folder:
        first = read(Path(folder), text)
        values = {c: tuple(row[c] for row in given_rows) for c in columns}
        n = len(given_rows)
        assert first.columns == tuple(columns)
        assert first.ids == values["id"]
        assert ranges(first) == list(
            zip(values["lower"], values["upper"], values["size"], strict=True)
        )
        assert first.buffers.alignment.tolist() == list(
            values.get("alignment", (1,) * n)
        )
        assert [first.buffers.gaps_of(i) for i in range(n)] == list(
            values.get("gaps", ([],) * n)
        )
        assert first.buffers.fixed_offset.tolist() == [
            FREE if each is None else each for each in values.get("offset", (None,) * n)
        ]
        for name in ("hint", "offset", "group", "pool", "pools", "weight"):
            assert getattr(first, name) == values.get(name)

        answer = first.offset or (None,) * n
        output = written(first, answer, first.pool)
        second = read(Path(folder), output)
        assert arrays(second.buffers) == arrays(first.buffers)
        assert (second.ids, second.hint, second.group, second.pool) == (
            first.ids,
            first.hint,
            first.group,
            first.pool,
        )
        assert (second.pools, second.weight) == (first.pools, first.weight)
        assert second.offset == answer
        assert written(second, answer, second.pool) == output


def test_separators_of_ascii_around_numbers_are_spaces(tmp_path: Path) -> None:
    path = tmp_path / "buffers.csv"
    path.write_text("id,lower,upper,size\na,0,3,\x1d4\nb,\x1c\x1f1,5,6\n")
    table = read_buffers(path)
    assert table.buffers.lower.tolist() == [0, 1]
    assert table.buffers.size.tolist() == [4, 6]
