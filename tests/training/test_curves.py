"""Curves of losses in files and in terminals."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from arena_ckpt.engine.evaluation import Evaluation
from arena_ckpt.errors import (
    EmptyDataError,
    InvalidParameterError,
    UnwritableFileError,
)
from arena_ckpt.training.curve import curve_lines
from arena_ckpt.training.records import EpochRecord, History


def history_of(n_epochs: int) -> History:
    records = tuple(
        EpochRecord(
            epoch,
            2.0 / epoch,
            Evaluation(3.0 / epoch, "accuracy", 0.5, 10),
            0.1,
            0.2,
        )
        for epoch in range(1, n_epochs + 1)
    )
    return History(records, 10 * n_epochs, False)


def test_a_history_is_drawn_into_files(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    history = history_of(8)
    assert history.plot(tmp_path / "curve.svg") is None
    root = ET.parse(tmp_path / "curve.svg").getroot()
    assert root.attrib["aria-label"] == "loss and validation loss by epoch, from 1 to 8"
    texts = [element.text for element in root.iter() if element.text]
    assert {"epoch 1", "epoch 8", "3", "0.25", "validation loss"} <= {*texts}
    history.plot(str(tmp_path / "curve.PNG"))
    shown = history.plot()
    with image.open(tmp_path / "curve.PNG") as saved:
        assert saved.size == shown.size == (920, 380)
        assert saved.tobytes() == shown.tobytes()
    # the first loss of the training stands at two thirds of the height of the axis
    colours = {colour for _, colour in shown.getcolors(10**6)}
    assert {(255, 255, 255), (0x3B, 0x82, 0xF6), (0xD9, 0x77, 0x06)} <= colours
    history.plot(tmp_path / "curve.pdf")
    assert (tmp_path / "curve.pdf").read_bytes().startswith(b"%PDF")


def test_what_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    with pytest.raises(EmptyDataError, match="1 epochs were completed"):
        history_of(1).plot(tmp_path / "curve.svg")
    with pytest.raises(InvalidParameterError, match=r"'.gif' says no format"):
        history_of(2).plot(tmp_path / "curve.gif")
    with pytest.raises(UnwritableFileError):
        history_of(2).plot(tmp_path / "missing" / "curve.svg")
    assert not [*tmp_path.iterdir()]


def test_a_terminal_gets_a_curve_of_dots() -> None:
    lines = curve_lines([1, 2, 3], [3.0, 2.0, 1.0])
    head, *rows, foot = lines
    assert head.strip() == "loss"
    assert rows[0].startswith("3 │⠉")  # falls from the upper left corner …
    assert rows[-1].startswith("1 │⠀")
    assert len(rows[-1]) == len("1 │") + 48  # … to the lower right one
    assert foot.split() == ["epoch", "1", "epoch", "3"]
    assert len(foot) == len(rows[-1])
    # a line that falls has dots in every column
    columns = {i for row in rows for i, dot in enumerate(row[3:]) if dot != "⠀"}
    assert columns == {*range(48)}


@pytest.mark.parametrize("width", [40, 30, 80, 200])
def test_a_curve_fits_its_terminal(width: int) -> None:
    lines = curve_lines([1, 2, 3, 4], [123.4, 2.0, 1.0, 0.00012345], width=width)
    assert max(map(len, lines)) < width
    assert len({len(line) for line in lines[-2:]}) == 1


@pytest.mark.parametrize("losses", [[], [1.0], [math.nan, math.inf]])
def test_a_terminal_gets_nothing_without_two_epochs(losses: list[float]) -> None:
    assert curve_lines(range(1, len(losses) + 1), losses) == []


def test_losses_far_apart_are_logarithmic_in_a_terminal() -> None:
    head, *rows, _ = curve_lines([1, 2, 3], [100.0, 1.0, 0.01])
    assert head.strip() == "loss (logarithmic)"
    assert rows[0].startswith(" 100 │")
    assert rows[-1].startswith("0.01 │")
