"""What a person sees of a training in a script and in a notebook."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.notebooks import WatchedNotebook

import arena_ckpt as ac
from arena_ckpt.common import notebook
from arena_ckpt.engine.evaluation import Evaluation
from arena_ckpt.training.curve import curve_svg
from arena_ckpt.training.records import EpochRecord, History

MODEL = """
import time
import numpy as np
import arena_ckpt as ac

def made(scheduled=False):
    model = ac.Model()
    model.add_layer(ac.create_layer("input", name="in", input_shape="1:1:8"))
    model.add_layer(ac.create_layer("fully_connected", name="fc", unit=2))
    model.add_layer(ac.create_layer("cross_softmax", name="loss"))
    model.set_optimizer(ac.create_optimizer("sgd", learning_rate=0.05))
    if scheduled:
        model.set_learning_rate_scheduler(
            ac.create_schedule(
                "step", learning_rate=[0.1, 0.025], iteration=[8]
            )
        )
    model.set_property(batch_size=4)
    model.compile()
    model.initialize()
    return model

x = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
y = (x[:, 0] > 0).astype(np.int64)
"""
"""4 iterations an epoch."""


def output_of(body: str) -> tuple[str, str]:
    """Return what a script writes to standard output and to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", MODEL + body],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "FORCE_COLOR": "1"},
    )
    return done.stdout, done.stderr


# -- scripts ---------------------------------------------------------------------------


def test_true_prints_a_line_for_each_epoch_to_a_log() -> None:
    out, err = output_of(
        "made(scheduled=True).train((x, y), validation=(x, y), epochs=10, "
        "progress=True, on_epoch=lambda record: print('heard', record.epoch))"
    )

    assert out.splitlines() == [f"heard {n}" for n in range(1, 11)]
    lines = err.splitlines()
    assert len(lines) == 10
    for n, line in enumerate(lines, start=1):
        rate = "0.1" if n <= 2 else "0.025"
        assert re.fullmatch(
            rf"epoch {n:2}/10  loss \d\.\d{{4}}  validation: loss \d\.\d{{4}}, "
            rf"accuracy \d+\.\d\d %  learning rate {rate}  \(\d\.\d{{3}} s\)",
            line,
        ), line


def test_lines_leave_out_what_there_is_none_of() -> None:
    _, err = output_of("made().train((x, y), epochs=2, progress=True)")

    pattern = r"epoch 1/2  loss \d\.\d{4}  \(\d\.\d{3} s\)"
    assert re.fullmatch(pattern, err.splitlines()[0])


@pytest.mark.parametrize("progress", [None, False])
def test_a_log_gets_nothing_unless_asked_for(progress: bool | None) -> None:
    assert output_of(f"made().train((x, y), epochs=2, progress={progress})") == ("", "")


def test_a_script_does_not_import_what_notebooks_need() -> None:
    out, _ = output_of(
        "made().train((x, y), epochs=2)\nimport sys\n"
        "print([name for name in ('IPython', 'rich') if name in sys.modules])"
    )

    assert out == "[]\n"


# -- notebooks -------------------------------------------------------------------------

CELLS = [
    MODEL,
    "model = made()",
    "history = model.train((x, y), validation=(x, y), epochs=40, "
    "on_epoch=lambda record: time.sleep(0.02))",
    "history",
    "model.train((x, y), epochs=20)",
    "_ = model.train((x, y), epochs=20, progress=False)",
    "_ = model.train((x, y), epochs=1)",
    "def stop(record):\n    if record.epoch == 3: raise KeyError('mine')\n"
    "try:\n    model.train((x, y), epochs=9, on_epoch=stop)\nexcept KeyError: pass",
    "_ = model.train((x, y), epochs=3, progress=True)",
    "from arena_ckpt.common.progress import compile_progress\n"
    "with compile_progress() as report:\n"
    "    for n in range(1, 31):\n        time.sleep(0.05)\n        report(n, 30)",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> WatchedNotebook:
    made = WatchedNotebook(CELLS)
    made.execute(cwd=str(tmp_path_factory.mktemp("notebook")))
    return made


def only_html(run: WatchedNotebook, cell: int) -> str:
    """Return the HTML that is all that stands below a cell."""
    (output,) = run.outputs(cell)
    return str(output.data["text/html"])


def svg_in(text: str) -> ET.Element:
    """Return the picture in an HTML text, which has to be well-formed."""
    (found,) = re.findall(r"<svg.*</svg>", text)
    return ET.fromstring(found)


def test_a_notebook_gets_no_text_on_its_streams(run: WatchedNotebook) -> None:
    for number in range(len(CELLS)):
        kinds = [output.output_type for output in run.outputs(number)]
        assert "stream" not in kinds, run.outputs(number)


def test_a_training_is_shown_in_one_place_while_it_runs(run: WatchedNotebook) -> None:
    begun, *later = run.shown[2]

    assert not begun.is_replacement
    assert begun.text.startswith("epoch 1 of 40, iteration 1 of 160, loss ")
    assert len(later) > 2
    assert all(shown.is_replacement for shown in later)
    midway = later[:-1]
    assert len(midway) <= 5 * (midway[-1].at - begun.at).total_seconds() + 1
    assert all("<progress " in shown.html for shown in midway)
    curves = ["<svg" in shown.html for shown in (begun, *later)]
    assert curves == sorted(curves)
    assert curves[-2:] == [True, True]


def test_the_finished_curve_stays(run: WatchedNotebook) -> None:
    text = only_html(run, 2)

    assert "<progress" not in text
    assert re.search(
        r"<div>40 epochs, 160 iterations; loss 0\.\d{4}, validation: loss 0\.\d{4}, "
        r"accuracy \d+\.\d\d %</div>$",
        text.replace("</svg>", "</svg><div>"),
    )
    label = svg_in(text).attrib["aria-label"]
    assert label == "loss and validation loss by epoch, from 1 to 40"


def test_a_history_shows_itself(run: WatchedNotebook) -> None:
    (output,) = run.outputs(3)

    assert output.data["text/plain"].startswith("<History: 40 epochs, 160 iterations; ")
    text = output.data["text/html"]
    svg_in(text)
    table = text.partition("validation of the last epoch")[0]
    assert re.findall(r"<th [^>]*>([^<]*)</th>", table) == [
        "epoch",
        "loss",
        "validation loss",
        "accuracy",
        "learning rate",
        "seconds",
    ]
    assert table.count("<tr>") == 14  # with the header and what is left out


def test_a_cell_that_ends_in_its_training_shows_one_curve(run: WatchedNotebook) -> None:
    shown, result = run.outputs(4)

    assert shown.data["text/html"] == ""
    assert "<svg" in result.data["text/html"]
    assert "<table" in result.data["text/html"]


def test_false_shows_nothing_and_one_epoch_a_line(run: WatchedNotebook) -> None:
    assert run.outputs(5) == []
    assert re.fullmatch(
        r"<div>1 epoch, 4 iterations; loss \d\.\d{4}</div>", only_html(run, 6)
    )


def test_a_training_that_fails_says_so(run: WatchedNotebook) -> None:
    text = only_html(run, 7)

    assert "<progress" not in text
    assert re.search(
        r"epoch \d of 9, iteration \d+ of 36, .*; not finished</div>", text
    )


def test_true_shows_the_same_in_a_notebook(run: WatchedNotebook) -> None:
    assert "3 epochs, 12 iterations" in only_html(run, 8)


def test_kernels_that_load_are_counted_in_one_place(run: WatchedNotebook) -> None:
    first, *later = run.shown[9]

    assert re.fullmatch(
        r"loading kernels: \d+ of 30 \(compiled at first use\)", first.text
    )
    assert all(shown.is_replacement for shown in later)
    assert re.fullmatch(r"<div>kernels loaded, \d\.\d s</div>", only_html(run, 9))


def test_a_shell_without_a_kernel_is_no_notebook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class IPython:
        shell: Any = None

        @classmethod
        def get_ipython(cls) -> Any:
            return cls.shell

    monkeypatch.setitem(sys.modules, "IPython", IPython)
    assert not notebook.in_notebook()
    IPython.shell = object()
    assert not notebook.in_notebook()


# -- histories -------------------------------------------------------------------------


def record(epoch: int, accuracy: float | None = 0.5) -> EpochRecord:
    of = None
    if accuracy is not None:
        of = Evaluation(1.0 / epoch + 0.1, "accuracy", accuracy, 10)
    return EpochRecord(epoch, 1.0 / epoch, of, 0.01, 0.25)


def test_a_history_is_short_and_a_table() -> None:
    history = History(tuple(record(n) for n in (1, 2)), 24, True)

    assert repr(history) == (
        "<History: 2 epochs, 24 iterations, interrupted; loss 0.5000, validation: "
        "loss 0.6000, accuracy 50.00 %>"
    )
    assert repr(history.epochs[0]) == (
        "<EpochRecord 1: loss 1.0000, validation: loss 1.1000, accuracy 50.00 %>"
    )
    assert str(history) == (
        "epoch    loss  validation loss  accuracy  learning rate  seconds\n"
        "─────  ──────  ───────────────  ────────  ─────────────  ───────\n"
        "    1  1.0000           1.1000   50.00 %           0.01    0.250\n"
        "    2  0.5000           0.6000   50.00 %           0.01    0.250\n"
        "2 epochs, 24 iterations, interrupted"
    )


def test_a_history_of_no_epoch_says_so() -> None:
    history = History((), 1, True, n_resumed=1)

    says = "0 epochs, 1 iteration, 1 of them before it was resumed, interrupted"
    assert repr(history) == f"<History: {says}>"
    assert str(history) == says
    assert history.to_rows() == []
    assert history._repr_html_() == f"<div><div>{says}</div></div>"


def test_a_long_history_leaves_out_its_middle() -> None:
    lines = str(History(tuple(map(record, range(1, 1001))), 1, False)).splitlines()

    numbers = [line.split()[0] for line in lines[2:-1]]
    assert numbers == [*"123456", "…", "995", "996", "997", "998", "999", "1000"]


def test_rows_are_plain_values() -> None:
    history = History((record(1), record(2, accuracy=None)), 8, False)

    assert history.to_rows() == [
        {
            "epoch": 1,
            "loss": 1.0,
            "validation_loss": 1.1,
            "accuracy": 0.5,
            "learning_rate": 0.01,
            "seconds": 0.25,
        },
        {
            "epoch": 2,
            "loss": 0.5,
            "validation_loss": None,
            "accuracy": None,
            "learning_rate": 0.01,
            "seconds": 0.25,
        },
    ]
    without = History((record(1, accuracy=None),), 4, False).to_rows()
    assert list(without[0]) == ["epoch", "loss", "learning_rate", "seconds"]


def test_pandas_takes_the_rows() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(History((record(1), record(2)), 8, False).to_rows())

    assert list(frame["validation_loss"]) == [1.1, 0.6]


def test_rows_of_a_training_are_numbers_of_python() -> None:
    example = ac.load_example("digits_mlp")
    example.model.initialize()
    history = example.model.train(
        example.data, validation=example.validation, epochs=2, progress=False
    )

    for row in history.to_rows():
        assert {type(value) for value in row.values()} == {int, float}


# -- the curve -------------------------------------------------------------------------


def paths(svg: str, stroke: str) -> list[tuple[float, float]]:
    """Return the points of the line of a colour."""
    (path,) = re.findall(rf'<path d="M([^"hH]*)" fill="none" stroke="{stroke}"', svg)
    return [tuple(map(float, point.split())) for point in path.split("L")]  # type: ignore[misc]


def test_the_curve_goes_through_the_losses() -> None:
    svg = curve_svg([1, 2, 3], {"loss": [4.0, 3.0, 2.0], "other": [2.0, None, 4.0]})

    x = [66.0, 257.0, 448.0]
    assert paths(svg, "#3b82f6") == [(x[0], 24.0), (x[1], 93.0), (x[2], 162.0)]
    assert paths(svg, "#d97706") == [(x[0], 162.0), (x[2], 24.0)]
    texts = [element.text for element in ET.fromstring(svg).iter() if element.text]
    assert texts == ["2", "3", "4", "epoch 1", "epoch 3", "loss", "other"]


def test_losses_far_apart_are_drawn_by_their_logarithms() -> None:
    svg = curve_svg([1, 2, 3], {"loss": [1.0, 0.1, 0.01]})

    assert [y for _, y in paths(svg, "#3b82f6")] == [24.0, 93.0, 162.0]
    assert ">logarithmic<" in svg


@pytest.mark.parametrize(
    "losses", [[], [1.0], [float("nan"), float("inf")], [None, None]]
)
def test_nothing_is_drawn_without_two_epochs(losses: list[float | None]) -> None:
    assert curve_svg(range(1, len(losses) + 1), {"loss": losses}) == ""


def test_equal_losses_are_a_level_line() -> None:
    svg = curve_svg([1, 2], {"loss": [0.0, 0.0]})

    assert [y for _, y in paths(svg, "#3b82f6")] == [162.0, 162.0]


def test_a_long_curve_is_small_and_keeps_its_peaks() -> None:
    losses = np.linspace(2.0, 1.0, 10_000)
    losses[7_777] = 9.0
    svg = curve_svg(range(1, 10_001), {"loss": losses.tolist()})

    points = paths(svg, "#3b82f6")
    assert len(points) == 400
    assert min(y for _, y in points) == 24.0
    assert points == sorted(points)
    assert len(svg) < 10_000


def test_names_in_the_curve_are_escaped() -> None:
    svg = curve_svg([1, 2], {'<b>&"': [1.0, 2.0]})

    label = ET.fromstring(svg).attrib["aria-label"]
    assert label == '<b>&" by epoch, from 1 to 2'


def test_the_curve_can_be_read_on_light_and_on_dark(tmp_path: Path) -> None:
    svg = curve_svg([1, 2], {"loss": [1.0, 2.0], "validation loss": [2.0, 1.0]})

    colours = set(re.findall(r'(?:stroke|fill)="([^"]+)"', svg))
    assert colours == {"none", "currentColor", "#3b82f6", "#d97706"}
    for colour in ("#3b82f6", "#d97706"):
        for page in ("#ffffff", "#111111"):
            assert contrast(colour, page) >= 3.0  # WCAG 2.1, 1.4.11


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, as WCAG defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)
