"""What a person sees in a terminal while something runs, and afterwards."""

import re
import sys
from pathlib import Path

import pytest
from helpers.terminal import CTRL_C, Session, arena_ckpt, run_in_terminal

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the pseudo-terminals are Linux's"
)

EPOCH = re.compile(
    r"epoch +(\d+)/\d+  loss [\d.e-]+  "
    r"validation: loss [\d.e-]+, accuracy \d+\.\d\d %  \(\d+\.\d{3} s\)"
)

OF_COLORAMA = b"\x1b[0m"
"""What Numba's colours leave at the end of a process, whatever the terminal."""

SLOW = """
import sys, time, warnings
import numpy as np
import arena_ckpt as ac
from arena_ckpt.common.progress import progress_bar, status_line

def train(**options):
    model = ac.Model()
    model.add_layer(ac.create_layer("input", name="in", input_shape="1:1:8"))
    model.add_layer(ac.create_layer("fully_connected", name="fc", unit=1))
    model.add_layer(ac.create_layer("mse", name="loss"))
    model.set_optimizer(ac.create_optimizer("sgd", learning_rate=0.01))
    model.set_property(batch_size=4)
    model.compile()
    model.initialize()
    x = np.ones((16, 8), np.float32)
    y = np.ones((16, 1), np.float32)
    return model.train((x, y), validation=(x, y), **options)
"""
"""Pieces of scripts; `train` makes 4 iterations an epoch."""


def script(body: str) -> list[str]:
    return [sys.executable, "-c", SLOW + body]


def epochs(lines: list[str]) -> list[int]:
    """Return the numbers of the epochs whose lines are whole."""
    found = (EPOCH.fullmatch(line) for line in lines)
    return [int(match[1]) for match in found if match]


def require_clean(session: Session) -> None:
    """Require that nothing of a bar is left, and a cursor to see."""
    assert session.status == 0, session.lines
    left = session.bars_at_the_end
    assert not left, "\n".join(session.lines)
    assert not session.is_cursor_hidden


@pytest.fixture(scope="module")
def long_run() -> Session:
    return run_in_terminal(arena_ckpt("train", "digits_mlp", "--epochs", "120"))


def test_epochs_stand_above_the_bar_each_on_its_own_line(long_run: Session) -> None:
    seen = long_run

    require_clean(seen)
    assert epochs(seen.lines) == list(range(1, 121))
    assert [line for line in seen.lines if "epoch" in line] == [
        line for line in seen.lines if EPOCH.fullmatch(line)
    ] + [seen.lines[-5], "trained 120 epochs (1,440 iterations)"]
    assert re.fullmatch(r" +epoch 1 +epoch 120", seen.lines[-5])  # below the curve
    assert seen.lines[-1].startswith("validation data: loss ")


def test_at_each_moment_there_is_one_bar_below_whole_lines(long_run: Session) -> None:
    with_bar = [
        lines
        for lines in long_run.moments
        if any(line.startswith("training ") and "━" in line for line in lines)
    ]
    assert len(with_bar) > 3
    for lines in with_bar:
        *above, bar = lines
        assert re.fullmatch(
            r"training [━╸╺]+ [\d,]+/1,440 0:0\d epoch \d+, loss [\d.e-]+", bar
        )
        done = epochs(above)
        assert done == list(range(1, len(done) + 1))
        assert not [x for x in above if x.startswith("epoch") and not EPOCH.match(x)]


def test_three_epochs_leave_three_lines_and_the_result() -> None:
    seen = run_in_terminal(arena_ckpt("train", "digits_mlp", "--epochs", "3"))

    require_clean(seen)
    assert epochs(seen.lines) == [1, 2, 3]
    at = seen.lines.index("trained 3 epochs (36 iterations)")
    curve = seen.lines.index("      loss")
    assert epochs(seen.lines[curve - 3 : curve]) == [1, 2, 3]
    assert len(seen.lines[curve:at]) == 8
    assert [line[:16] for line in seen.lines[at + 1 :]] == [
        "training data:  ",
        "validation data:",
    ]


def test_in_40_columns_the_bar_fits_on_one_line() -> None:
    command = arena_ckpt("train", "digits_mlp", "--epochs", "60")
    seen = run_in_terminal(command, columns=40)

    assert seen.status == 0
    bars = [line for lines in seen.bars for line in lines]
    assert any(line.startswith("training ") for line in bars)
    assert max(map(len, bars)) <= 36  # room for ^C
    assert all(len(lines) == 1 for lines in seen.bars)
    assert not seen.bars_at_the_end
    whole = "\n".join(seen.lines)
    assert [int(n) for n in re.findall(r"^epoch +(\d+)/60", whole, re.M)] == [
        *range(1, 61)
    ]


def test_standard_output_in_a_file_is_the_same_bytes(tmp_path: Path) -> None:
    command = arena_ckpt("train", "digits_mlp", "--epochs", "60")
    shown, alone = tmp_path / "shown", tmp_path / "alone"
    seen = run_in_terminal(command, stdout=shown)
    run_in_terminal(command, stdout=alone, stderr=tmp_path / "stderr")

    require_clean(seen)
    assert seen.lines[0].startswith("warning: the cosine schedule starts again")
    assert not [line for line in seen.lines if "epoch" in line]
    assert seen.bars
    times = re.compile(r"\d+\.\d{3} s")
    assert times.sub("", shown.read_text()) == times.sub("", alone.read_text())
    assert epochs(shown.read_text().splitlines()) == [*range(1, 61)]
    assert "\x1b" not in (tmp_path / "stderr").read_text()


def test_without_a_terminal_on_standard_error_there_is_no_bar(tmp_path: Path) -> None:
    command = arena_ckpt("train", "digits_mlp", "--epochs", "60")
    seen = run_in_terminal(command, stderr=tmp_path / "stderr")

    assert not seen.bars
    assert b"\x1b" not in seen.raw.removesuffix(OF_COLORAMA)
    assert epochs(seen.lines) == [*range(1, 61)]
    assert (tmp_path / "stderr").read_text().count("\n") == 1  # a warning


def test_lines_through_a_pipe_to_the_terminal_are_whole() -> None:
    shell = " ".join(arena_ckpt("train", "digits_mlp", "--epochs", "60"))
    seen = run_in_terminal(["/bin/sh", "-c", f"{shell} | cat"])

    require_clean(seen)
    assert epochs(seen.lines) == [*range(1, 61)]


def test_a_dumb_terminal_gets_lines_alone() -> None:
    command = arena_ckpt("train", "digits_mlp", "--epochs", "60")
    seen = run_in_terminal(command, env={"TERM": "dumb"})

    assert not seen.bars
    assert b"\x1b" not in seen.raw.removesuffix(OF_COLORAMA)
    assert epochs(seen.lines) == [*range(1, 61)]


def test_no_color_means_no_colour() -> None:
    command = arena_ckpt("train", "digits_mlp", "--epochs", "60")
    seen = run_in_terminal(command, env={"NO_COLOR": "1"})

    require_clean(seen)
    assert seen.bars
    assert not re.search(rb"\x1b\[[\d;]*[34][\d;]*m", seen.raw)


def test_ctrl_c_ends_the_training_and_leaves_a_clean_screen() -> None:
    typed: list[bytes] = []

    def keys(lines: list[str]) -> bytes:
        if typed or len(epochs(lines)) < 20 or not lines[-1].startswith("training "):
            return b""
        typed.append(CTRL_C)
        return CTRL_C

    seen = run_in_terminal(
        arena_ckpt("train", "digits_mlp", "--epochs", "5000"), keys=keys
    )

    assert seen.status == 130
    assert not seen.is_cursor_hidden
    assert not seen.bars_at_the_end, seen.lines[-6:]
    done = epochs(seen.lines)
    assert done == [*range(1, len(done) + 1)]
    interrupted = f"interrupted after {len(done)} whole epochs of 5000"
    assert any(line.startswith(interrupted) for line in seen.lines[-4:])


def test_ctrl_c_while_kernels_are_loaded_leaves_one_line(tmp_path: Path) -> None:
    typed: list[bytes] = []

    def keys(lines: list[str]) -> bytes:
        """Type it again if Python says that it has ignored one, as in a destructor."""
        n_ignored = sum(x.startswith("Exception ignored") for x in lines)
        is_loading = any(x.startswith("loading kernels") for x in lines)
        if len(typed) > n_ignored or not is_loading:
            return b""
        typed.append(CTRL_C)
        return CTRL_C

    seen = run_in_terminal(
        arena_ckpt("train", "digits_mlp"),
        env={"NUMBA_CACHE_DIR": str(tmp_path)},
        keys=keys,
    )

    assert seen.status == 130
    assert typed
    assert not seen.is_cursor_hidden
    assert seen.lines[-1] == "error: interrupted"
    assert not seen.bars_at_the_end


def test_warnings_stand_above_the_bar() -> None:
    seen = run_in_terminal(
        script(
            """
def note(record):
    time.sleep(0.03)
    warnings.warn(f"epoch {record.epoch} was slow", stacklevel=2)
    print(f"{record.epoch} on standard error", file=sys.stderr)

warnings.simplefilter("always")
train(epochs=15, on_epoch=note)
"""
        )
    )

    require_clean(seen)
    assert any(line.startswith("training ") for lines in seen.bars for line in lines)
    for epoch in range(1, 16):
        assert f"{epoch} on standard error" in seen.lines
        assert any(
            line.endswith(f"UserWarning: epoch {epoch} was slow") for line in seen.lines
        )


def test_what_is_printed_in_pieces_and_by_click_comes_in_order() -> None:
    seen = run_in_terminal(
        script(
            """
import click
with status_line("placing", None):
    time.sleep(0.3)
    for part in "one", " two", " three":
        print(part, end="", flush=True)
        time.sleep(0.15)
    print()
    time.sleep(0.3)
    click.echo("warning: four", err=True)
    click.echo("five")
    time.sleep(0.3)
    print("a line of \\x1b[31mred\\x1b[0m and " + "w" * 60)
    print("rest", end="")
    time.sleep(0.3)
print(" and end")
"""
        ),
        columns=50,
    )

    require_clean(seen)
    assert ["one two"] in seen.moments  # an unfinished line stands alone
    assert all(line.startswith("placing") for lines in seen.bars for line in lines)
    assert seen.bars
    at = seen.lines.index("five")
    assert any(lines[at + 1 :] == ["placing 0:01"] for lines in seen.moments)
    assert seen.lines == [
        "one two three",
        "warning: four",
        "five",
        "a line of red and " + "w" * 32,
        "w" * 28,
        "rest and end",
    ]


def test_ctrl_c_ends_a_search_and_leaves_what_it_found() -> None:
    typed: list[bytes] = []

    def keys(lines: list[str]) -> bytes:
        if typed or not any(line.startswith("placing: best ") for line in lines):
            return b""
        typed.append(CTRL_C)
        return CTRL_C

    seen = run_in_terminal(
        script(
            """
with status_line("placing", None) as report:
    try:
        for n in range(6000):
            report(f"best {n} B" + " and more" * 20)
            time.sleep(0.01)
    except KeyboardInterrupt:
        pass
print("found")
"""
        ),
        keys=keys,
    )

    require_clean(seen)
    assert typed
    assert seen.lines == ["found"]
    for bars in seen.bars:
        assert len(bars) == 1
        assert re.search(r"… 0:\d\d(\^C)?$", bars[0])


def test_two_trainings_share_the_bottom_of_the_terminal() -> None:
    seen = run_in_terminal(
        script(
            """
import threading
def slow(record):
    time.sleep(0.05)
    print(f"epoch {record.epoch}\\n", end="")  # at once: threads do not meet within
def work():
    train(epochs=12, on_epoch=slow)
both = [threading.Thread(target=work) for _ in range(2)]
for one in both: one.start()
for one in both: one.join()
"""
        )
    )

    require_clean(seen)
    pairs = [
        lines
        for lines in seen.moments
        if len([line for line in lines if line.startswith("training ")]) == 2
    ]
    assert pairs
    assert all(line.startswith("training ") for lines in pairs for line in lines[-2:])
    assert sorted(seen.lines) == sorted(2 * [f"epoch {n}" for n in range(1, 13)])


def test_true_prints_epochs_above_the_bar() -> None:
    seen = run_in_terminal(
        script(
            "train(epochs=15, progress=True, on_epoch=lambda record: time.sleep(0.03))"
        )
    )

    require_clean(seen)
    assert any(line.startswith("training ") for lines in seen.bars for line in lines)
    assert [line.partition("  loss ")[0] for line in seen.lines] == [
        f"epoch {n:2}/15" for n in range(1, 16)
    ]


def test_a_short_piece_of_work_writes_nothing() -> None:
    seen = run_in_terminal(
        script("with progress_bar('training', None) as update: update(1, 2, '')")
    )

    assert seen.raw == b""


def test_an_error_leaves_no_bar() -> None:
    seen = run_in_terminal(
        script(
            """
with progress_bar("training", None) as update:
    update(1, 2, "")
    time.sleep(0.3)
    raise SystemExit("no more")
"""
        )
    )

    assert seen.status == 1
    assert seen.bars
    assert seen.lines == ["no more"]
    assert not seen.is_cursor_hidden


def test_a_forked_child_leaves_the_bar_to_its_parent() -> None:
    seen = run_in_terminal(
        script(
            """
import os, signal, threading
from arena_ckpt.common.live_display import DISPLAY
held, forked = threading.Event(), threading.Event()
def draw():
    with DISPLAY._lock:
        held.set()
        forked.wait()
with progress_bar("training", None) as update:
    update(1, 2, "")
    time.sleep(0.3)
    threading.Thread(target=draw).start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        sys.stderr.write("")
        with progress_bar("placing", None):
            os._exit(0)
    forked.set()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("child ended with", code)
    time.sleep(0.3)
"""
        )
    )

    require_clean(seen)
    assert seen.lines == ["child ended with 0"]
    assert any(
        lines[:-1] == seen.lines and lines[-1].startswith("training ")
        for lines in seen.moments
    )


def test_the_screen_after_measured_costs_is_clean(tmp_path: Path) -> None:
    seen = run_in_terminal(
        arena_ckpt("plan", "resnet8", "--measure", "--max-overhead", "0.1"),
        env={"XDG_CACHE_HOME": str(tmp_path)},
    )

    require_clean(seen)
    assert seen.bars
    assert seen.lines[0].startswith("resnet8: 36 layers")


def test_checks_of_verify_stand_on_lines_of_their_own() -> None:
    seen = run_in_terminal(arena_ckpt("verify", "digits_mlp"), columns=400)

    require_clean(seen)
    assert any(x.startswith("checking: ") for lines in seen.bars for x in lines)
    head, *checks, verdict = seen.lines
    assert head.startswith("digits_mlp: ")
    assert verdict.startswith("verified: 11 checks passed")
    assert len(checks) == 11
    assert all(line.startswith("passed    ") for line in checks)


def test_a_child_that_crashes_leaves_no_bar() -> None:
    seen = run_in_terminal(
        script(
            """
import os, signal
from arena_ckpt.errors import CrashError
from arena_ckpt.verification.child_process import call_apart
def crash():
    with progress_bar("loading kernels", None) as update:
        update(1, 2, "")
        time.sleep(0.6)
        os.kill(os.getpid(), signal.SIGSEGV)
try:
    call_apart(crash)
except CrashError:
    print("crashed")
"""
        )
    )

    require_clean(seen)
    assert any("loading kernels 0:00" in bars for bars in seen.bars)
    assert seen.lines == ["crashed"]
