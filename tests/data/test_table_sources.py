"""Files as well-known sources write them load by the command line with two options.

The rows are made; first lines, quotes, separators and line ends are as they are there.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

import arena_ckpt as ac
from arena_ckpt.cli.data_options import data_options, given_data_options, load_data
from arena_ckpt.errors import ArenaWarning, CorruptFileError, DataError

X = ((5.1, 3.5), (4.9, 3.0), (7.0, 3.2), (6.3, 2.9))
KINDS = ("setosa", "virginica")


@dataclass(frozen=True)
class Source:
    """A file, the options that it is loaded with, and what it holds."""

    text: str
    options: str = ""
    x: Any = X
    y: Any = (0, 0, 1, 1)
    classes: tuple[str, ...] | None = None
    suffix: str = "csv"
    has_index: bool = False
    refused: str | None = None
    """What the refusal without the options says."""


SOURCES = {
    "scikit-learn: iris.csv": Source(
        "3,4,setosa,versicolor,virginica\n5.1,3.5,1.4,0.2,0\n7.0,3.2,4.7,1.4,1\n"
        "6.3,3.3,6.0,2.5,2\n",
        "--header",
        [[5.1, 3.5, 1.4, 0.2], [7.0, 3.2, 4.7, 1.4], [6.3, 3.3, 6.0, 2.5]],
        (0, 1, 2),
        refused="say --header or --no-header",
    ),
    "scikit-learn: wine_data.csv": Source(
        "3,5,class_0,class_1,class_2\n14.23,1.71,2.43,15.6,1065,0\n"
        "12.37,.94,1.36,10.6,520,1\n12.86,1.35,2.32,18,630,2\n",
        "--skip-rows 1",
        [
            [14.23, 1.71, 2.43, 15.6, 1065],
            [12.37, 0.94, 1.36, 10.6, 520],
            [12.86, 1.35, 2.32, 18, 630],
        ],
        (0, 1, 2),
        refused="--skip-rows N",
    ),
    "scikit-learn: linnerud, three targets": Source(
        "Chins Situps Jumps Pulse\n5 162 60 50\n2 110 60 52\n12 101 101 58\n",
        "--targets 3",
        [[5], [2], [12]],
        [[162, 60, 50], [110, 60, 52], [101, 101, 58]],
    ),
    "UCR: labels 1 and 2": Source(
        "1\t5.1\t3.5\n1\t4.9\t3.0\n2\t7.0\t3.2\n2\t6.3\t2.9\n",
        "--label-column first --label-names",
        classes=("1", "2"),
        suffix="tsv",
    ),
    "UCR: labels -1 and 1, old files": Source(
        "  -1.0000000e+00   5.1e+00   3.5e+00\n  -1.0000000e+00   4.9e+00   3.0e+00\n"
        "   1.0000000e+00   7.0e+00   3.2e+00\n   1.0000000e+00   6.3e+00   2.9e+00\n",
        "--label-column first --label-names",
        classes=("-1.0000000e+00", "1.0000000e+00"),
        suffix="txt",
    ),
    "statsmodels: sunspots.csv": Source(
        '"YEAR","SUNACTIVITY"\n1700,5\n1701,11\n1702,16\n1703,23.5\n',
        "",
        [[1700], [1701], [1702], [1703]],
        [[5], [11], [16], [23.5]],
    ),
    "statsmodels: sunspots.csv, without the years": Source(
        '"YEAR","SUNACTIVITY"\n1700,5\n1701,11\n1702,16\n1703,23.5\n',
        "--index-column YEAR --label-column none",
        [[5], [11], [16], [23.5]],
        None,
    ),
    "statsmodels: spector.csv": Source(
        '"OBS","GPA","TUCE","PSI","GRADE"\n1,2.66,20,0,0\n2,2.89,22,0,0\n'
        "3,3.28,24,0,1\n",
        "",
        [[2.66, 20, 0], [2.89, 22, 0], [3.28, 24, 0]],
        (0, 0, 1),
        has_index=True,
    ),
    "statsmodels: co2.csv": Source(
        'date,co2\n"19580329",316.1\n"19580405",317.3\n"19580412",""\n'
        '"19580419",317.5\n',
        "--missing drop",
        [[19580329], [19580405], [19580419]],
        [[316.1], [317.3], [317.5]],
        refused="--missing drop",
    ),
    "statsmodels: a label in the middle": Source(
        '"time","status","age"\n15,1,54.3\n3,0,40.4\n624,1,51\n',
        "--label-column status",
        [[15, 54.3], [3, 40.4], [624, 51]],
        (1, 0, 1),
    ),
    "pandas: numbers for names": Source(
        "0,1,2\n5.1,3.5,0\n4.9,3.0,0\n7.0,3.2,1\n6.3,2.9,1\n",
        "--header",
        refused="it has consecutive whole numbers; say --header or --no-header",
    ),
    "pandas: numbers for names, and an index": Source(
        ",0,1,2\n0,5.1,3.5,0\n1,4.9,3.0,0\n2,7.0,3.2,1\n3,6.3,2.9,1\n",
        "--header",
        has_index=True,
        refused="say --header or --no-header",
    ),
    "pandas: rows that were drawn": Source(
        ",a,b,kind\n7,5.1,3.5,setosa\n2,4.9,3.0,setosa\n9,7.0,3.2,virginica\n"
        "0,6.3,2.9,virginica\n",
        classes=KINDS,
        has_index=True,
    ),
    "pandas: True and False": Source(
        "a,b,sick\n5.1,3.5,False\n4.9,3.0,False\n7.0,3.2,True\n6.3,2.9,True\n",
        classes=("False", "True"),
    ),
    "R: write.table": Source(
        '"Sepal.Length" "Sepal.Width" "Species"\n"1" 5.1 3.5 "setosa"\n'
        '"2" 4.9 3 "setosa"\n"101" 7 3.2 "virginica"\n"117" 6.3 2.9 "virginica"\n',
        classes=KINDS,
        suffix="txt",
        has_index=True,
    ),
    "R: write.table, without quotes, with row names": Source(
        "mpg wt am\nMazda 5.1 3.5 0\nMerc240D 4.9 3 0\nFiat128 7 3.2 1\n"
        "Volvo 6.3 2.9 1\n",
        suffix="txt",
        has_index=True,
    ),
    "R: write.table, sep=','": Source(
        '"a","b","y"\n"1",5.1,3.5,FALSE\n"2",4.9,3,FALSE\n"3",7,3.2,TRUE\n'
        '"4",6.3,2.9,TRUE\n',
        classes=("FALSE", "TRUE"),
        has_index=True,
    ),
    "R: write.csv": Source(
        '"","a","b","y"\n"1",5.1,3.5,0\n"2",4.9,3,0\n"3",NA,1,1\n"4",7,3.2,1\n'
        '"5",6.3,2.9,1\n',
        "--missing drop",
        has_index=True,
        refused="line 4, column 2 ('a') is empty or NA",
    ),
    "R: write.csv2": Source(
        '"";"a";"b";"kind"\n"1";5,1;3,5;"setosa"\n"2";4,9;3;"setosa"\n'
        '"3";7;3,2;"virginica"\n"4";6,3;2,9;"virginica"\n',
        classes=KINDS,
        has_index=True,
    ),
    "Excel: CSV UTF-8": Source(
        "\ufefflength,width,kind\r\n5.1,3.5,setosa\r\n4.9,3,setosa\r\n"
        "7,3.2,virginica\r\n6.3,2.9,virginica\r\n",
        classes=KINDS,
    ),
    "Excel: with decimal commas": Source(
        "\ufeffLänge;Breite;Art\r\n5,1;3,5;setosa\r\n4,9;3;setosa\r\n"
        "7;3,2;virginica\r\n6,3;2,9;virginica\r\n",
        "--label-column Art",
        classes=KINDS,
    ),
    "Excel: its line for separators": Source(
        "sep=;\r\na;b;kind\r\n5,1;3,5;setosa\r\n4,9;3;setosa\r\n7;3,2;virginica\r\n"
        "6,3;2,9;virginica\r\n",
        "--skip-rows 1",
        classes=KINDS,
        refused="--skip-rows N",
    ),
    "Excel: empty rows and an empty column": Source(
        "a,b,kind,\r\n5.1,3.5,setosa,\r\n4.9,3,setosa,\r\n7,3.2,virginica,\r\n"
        "6.3,2.9,virginica,\r\n",
        "--label-column kind --index-column -1",
        classes=KINDS,
        refused="--label-column",
    ),
    "UCI: iris.data": Source(
        "5.1,3.5,setosa\n4.9,3.0,setosa\n7.0,3.2,virginica\n6.3,2.9,virginica\n\n",
        classes=KINDS,
        suffix="data",
    ),
    "UCI: car names behind a tab": Source(
        '5.1   3.5\t"setosa"\n4.9   3.0\t"setosa"\n?   1.0\t"ford  pinto"\n'
        '7.0   3.2\t"virginica"\n6.3   2.9\t"virginica"\n',
        "--missing drop",
        classes=KINDS,
        suffix="data",
        refused="line 3, column 1 is empty or NA",
    ),
}


def load(path: Path, options: str) -> ac.Dataset:
    """Load data as a command does that has these options."""
    loaded: list[ac.Dataset] = []

    @click.command()
    @data_options
    def command(**values: Any) -> None:
        given = given_data_options(values, str(path))
        loaded.append(load_data(str(path), given))

    CliRunner().invoke(command, options.split(), catch_exceptions=False)
    return loaded[0]


def write(folder: Path, source: Source) -> Path:
    path = folder / f"t.{source.suffix}"
    path.write_bytes(source.text.encode())
    return path


@pytest.mark.parametrize("name", SOURCES)
def test_a_known_source_loads_with_at_most_two_options(
    name: str, tmp_path: Path
) -> None:
    source = SOURCES[name]
    assert source.options.count("--") <= 2
    path = write(tmp_path, source)
    if source.has_index:
        with pytest.warns(ArenaWarning, match="is left out"):
            data = load(path, source.options)
    else:
        data = load(path, source.options)
    assert data.x == pytest.approx(np.float32(source.x))
    assert (data.y is None) == (source.y is None)
    if data.y is not None:
        assert data.y == pytest.approx(np.float32(source.y))
    assert data.classes == source.classes


@pytest.mark.parametrize("name", [n for n, s in SOURCES.items() if s.refused])
def test_without_them_the_refusal_names_an_option(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, SOURCES[name])
    warnings.simplefilter("ignore", ArenaWarning)
    with pytest.raises(DataError) as caught:
        load(path, "")
    assert str(SOURCES[name].refused) in str(caught.value)


def test_a_header_without_a_name_for_the_rows_is_all_texts(tmp_path: Path) -> None:
    """Lines that are one cell longer for another reason stay refused."""
    path = tmp_path / "t.csv"
    for text in (
        "a,b,y\n1,2,0,\n3,4,1,\n",  # a separator at the end of each row
        "4,2,y\n1,5.1,3.5,0\n2,4.9,3,1\n",
        "a,b,y\n1,5.1,3.5,0\n2,4.9,3\n",
    ):
        path.write_text(text)
        with pytest.raises(CorruptFileError, match="has 4 cells, the first line has 3"):
            ac.load_csv(path)
    path.write_text("a,b,y\n1,5.1,3.5,0\n2,4.9,3,1\n")
    with pytest.raises(CorruptFileError, match="has 4 cells, the first line has 3"):
        ac.load_csv(path, header=False)
    assert ac.load_csv(path, index_column="none").x.shape == (2, 3)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_text_in_another_encoding_is_told_what_to_do(
    tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("Länge;Art\n5,1;süß\n".encode(encoding))
    with pytest.raises(CorruptFileError, match=r"text in UTF-8.*'CSV UTF-8'"):
        ac.load_csv(path)
