"""Targets that are given as words: the command line, and paths of files."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

import arena_ckpt as ac
from arena_ckpt.allocation.minimalloc_csv import read_buffers
from arena_ckpt.boards import load_board
from arena_ckpt.cli import main
from arena_ckpt.data.loaders import open_data
from arena_ckpt.testing.golden_files import (
    check_folder,
    load_bundled,
    plan_differences,
    write_golden,
)
from fuzzing.guard import Finding, Limits, guarded, snapshot
from fuzzing.mutate import HUGE, texts
from fuzzing.readers import INI, npz_bytes, small_model
from fuzzing.states import SAVED
from fuzzing.target import Target, empty_folder

_LIMITS = Limits(cpu_seconds=10, grown_bytes=2**28)
"""Pictures of 1600 × 900 pixels take more than 64 MiB to draw."""

CODES = (0, 1, 2, 3)

# -- the command line ------------------------------------------------------------------

_X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
_SCRIPT = b"""
from arena_ckpt import Model
def build():
    model = Model()
    model.add_layer("input", input_shape=6)
    model.add_layer("fully_connected", unit=3)
    model.add_layer("cross_softmax")
    return model
def fails(): raise SystemExit(7)
def recurses(): return recurses()
def returns(): return 3
def wants(x): return x
"""
_PLAN = small_model().make_plan()
_TRAINED = small_model()
_TRAINED.initialize()
FILES: dict[str, bytes] = {
    "good.ini": INI[0].replace(
        b"batch_size = 4\nepochs=2", b"batch_size = 4\nepochs=1"
    ),
    "bad.ini": b"[Model]\n[x",
    "plan.json": _PLAN.to_json().encode(),
    "bad.json": b"{}",
    "buffers.csv": b"id,lower,upper,size\na,0,3,4\nb,1,5,6\n",
    "layout.csv": b"id,lower,upper,size,offset\na,0,3,4,0\nb,1,5,6,4\n",
    "x.npz": npz_bytes(x=_X, y=np.array([0, 1, 2, 1])),
    "data.csv": b"1,2,3,4,5,6,0\n6,5,4,3,2,1,2\n",
    "text.csv": b"a,b,c,d,e,f,y\n1,2,3,4,5,NA,ant\n6,5,4,3,2,1,bee\n0,0,1,,1,1,bee\n",
    "board.toml": b'[b]\n[[b.ram]]\nname="r"\nsize="64KiB"\nrole="arena"\n',
    "model.py": _SCRIPT,
    "broken.py": b"def build(:\n",
    "m.safetensors": SAVED,
    "short.safetensors": SAVED[:-9],
    "w.npz": npz_bytes(**_TRAINED.weights()),
}
_MODELS = (
    *(
        "good.ini",
        "good.ini",
        "model.py:build",
        "bad.ini",
        "model.py",
        "model.py:fails",
    ),
    *("model.py:recurses", "model.py:returns", "model.py:wants", "model.py:nothing"),
    *("broken.py:build", "plan.json", "bad.json", "nothing.ini", "nine_layer_mlp", ""),
    *("-", ".", "good.ini:x", "digits_mpl", "\udcff.ini", "😀.ini"),
    *("m.safetensors", "m.safetensors", "short.safetensors", "x.npz"),
)
_OUT = (
    "out",
    "out.png",
    "out.csv",
    "out.npy",
    "-",
    "nodir/out",
    ".",
    "",
    "ö ü.out",
    "\udcff",
    "x" * 250,
)
_COUNTS = ("1", "2", "0", "-1", "x", "1.5", "٣", "1e3", "", *map(str, HUGE))
_ANSWERS: dict[str, tuple[str, ...]] = {
    "--budget": (
        "1KiB",
        "2 KiB",
        "4096",
        "1GiB",
        "0",
        "-1",
        "x",
        "9" * 400,
        "60%",
        "0%",
    ),
    "--max-overhead": ("10%", "0.5", "0", "-1", "nan", "inf", "x", "%", "1e999%"),
    "--allow": ("recompute", "in_place,recompute", "x", "", ",", "tiled_update"),
    "--levels": ("1", "2", "x", ""),
    "--batch-size": (*_COUNTS, "auto", "auto"),
    "--keep": ("fc*", "in", "*", "loss", "x", ""),
    "--drop": ("act*", "in", "*", "loss", "x", "["),
    "--top": _COUNTS,
    "--every": _COUNTS,
    "--node-limit": _COUNTS,
    "--seed": _COUNTS,
    "--epochs": ("1", "2", "0", "-1", "x", str(2**41), str(2**63)),
    "--time-limit": ("0", "0.01", "-1", "nan", "inf", "x"),
    "--validation-split": ("0.25", "0", "1", "nan", "inf", "-1", "x", "1e-9"),
    "--engine": ("auto", "greedy", "exact", "large", "x", ""),
    "--capacity": ("1KiB", "10", "5", "0", "-1", "x", "9" * 400),
    "--pools": (
        *("10,unlimited", "a=10,b=1KiB", "a=5,5", "a=5,a=5", "=1", "a=", ",", "x"),
        *("unlimited,1", "a=unlimited", "9" * 400),
    ),
    "--data": (
        "x.npz",
        "data.csv",
        "text.csv",
        "digits",
        "good.ini",
        "x.npz,data.csv",
        "",
        "x",
    ),
    "--validation": ("x.npz", "data.csv", "text.csv", "digits", "a,b", ""),
    "--init": ("w.npz", "m.safetensors", "x.npz", "nothing.npz", ""),
    "--freeze": ("fc*", "*", "x", ""),
    "--metrics": ("f1", "accuracy,auc", "r2", "x", ",", ""),
    "--early-stopping": _COUNTS,
    "--reduce-on-plateau": _COUNTS,
    "--label-column": ("0", "-1", "first", "none", "x", "", "9" * 400),
    "--index-column": ("0", "-1", "none", "x", ""),
    "--targets": ("1", "6", "7", "0", "x", str(2**63)),
    "--skip-rows": ("0", "1", "-1", "x", str(2**63)),
    "--separator": ("comma", "space", "x", ""),
    "--decimal": ("point", "comma", "x"),
    "--missing": ("drop", "mean", "mean", "x"),
    "--split": ("random", "stratified", "last", "x"),
    "--board": ("all", "board.toml", "rp2350", "x", "nothing.toml", "", "."),
    "--compare": _MODELS,
    "--to": (
        *("json", "csv", "dot", "c-header", "torch-snapshot", "minimalloc-csv"),
        *("chrome-trace", "x", ""),
    ),
    "--weights": ("w.npz", "w.npz", "x.npz", "m.safetensors", "bad.ini", "", "x"),
    "--rows": _COUNTS,
    "--format": ("plan", "nntrainer", "x", ""),
    "--add": ("good.ini", "x", ""),
    "--checkpoint": ("run", "good.ini", "nodir/run", "", "x" * 300),
    **dict.fromkeys(("-o", "--output", "--png", "--svg", "--save"), _OUT),
    "--save-weights": _OUT,
}
_FLAGS = (
    *("--json", "--json", "--brief", "--pareto", "--emit-blocks", "--execution-order"),
    *("--no-blocks", "--debug", "--quiet", "--resume", "--ascii", "--compare-blocks"),
    *("--header", "--no-header", "--label-names", "--standardize", "--strict"),
    *("--check", "--help", "--version", "--", "-x", "--nonsense", "--js", "-"),
)
_FIRST: dict[str, tuple[str, ...]] = {
    "plan": _MODELS,
    "train": _MODELS,
    "report": _MODELS,
    "export": _MODELS,
    "evaluate": _MODELS,
    "predict": _MODELS,
    "boards": ("board.toml", "rp2350", "x", "bad.ini", "nothing.toml", ""),
    "allocate": (
        "buffers.csv",
        "layout.csv",
        "data.csv",
        "x.npz",
        "nothing.csv",
        ".",
        "",
    ),
    "examples": ("", "x"),
    "golden": ("check", "update", "x"),
    "": ("",),
    "plna": ("good.ini",),
}


@st.composite
def _words(draw: st.DrawFn) -> list[str]:
    command = draw(st.sampled_from(sorted(_FIRST)))
    words = [command, draw(st.sampled_from(_FIRST[command]))]
    known = _OPTIONS_OF.get(command, ())
    for _ in range(draw(st.integers(0, 4))):
        option = draw(st.sampled_from(known or sorted(_ANSWERS)))
        if draw(st.integers(0, 9)) == 0:
            option = draw(st.sampled_from(sorted(_ANSWERS)))
        if option not in _ANSWERS or draw(st.integers(0, 9)) == 0:
            words.append(option if option else draw(st.sampled_from(_FLAGS)))
        else:
            answers = st.sampled_from(_ANSWERS[option])
            words += [option, draw(answers | _argv_texts)]
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(words)))
        words.insert(at, draw(st.sampled_from(_FLAGS) | _argv_texts))
    return words


_argv_texts = texts.map(lambda text: text.replace("\0", "")).map(
    lambda text: text.encode("utf-8", "surrogatepass").decode(
        "utf-8", "surrogateescape"
    )
)
"""What can be an argument: no NUL, and only the surrogates that stand for bytes."""

_OPTIONS_OF: dict[str, list[str]] = {
    name: [option for parameter in command.params for option in parameter.opts[:1]]
    for name, command in main.commands.items()
}


def _run_words(words: list[str], folder: Path) -> None:
    """Run a command in a folder of files, which it may not change."""
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    before = snapshot(folder)
    code: Any = None
    out, err = _stream(), _stream("backslashreplace")
    with empty_folder() as watched, guarded(_LIMITS, watched):
        os.chdir(folder)
        with redirect_stdout(out), redirect_stderr(err):
            code = main.main(list(words), "arena-ckpt", standalone_mode=False)
    texts = [stream.buffer.getvalue().decode("utf-8") for stream in (out, err)]  # type: ignore[attr-defined]
    try:
        _require_good_end(words, code, *texts)
        _require_whole_files(words, code, folder, before)
    finally:
        for entry in folder.iterdir():
            _remove(entry)


def _stream(errors: str = "strict") -> io.TextIOWrapper:
    """Return what Python opens for output, or with ``backslashreplace`` for errors."""
    return io.TextIOWrapper(io.BytesIO(), "utf-8", errors, write_through=True)


def _require_good_end(words: list[str], code: Any, out: str, err: str) -> None:
    if code not in CODES:
        raise Finding(f"the exit code is {code!r}")
    if code and not (out + err).strip():
        raise Finding(f"exit code {code} without a word")
    if code == 2 and not err.startswith("error: ") and "\nerror: " not in err:
        raise Finding(f"exit code 2 without a message: {err[:200]!r}")
    if "Traceback" in err:
        raise Finding(f"a traceback: {err}")
    if code == 2 and "--json" in words and "--" not in words:
        json.loads(out)


def _require_whole_files(
    words: list[str], code: int, folder: Path, before: dict[str, Any]
) -> None:
    after = snapshot(folder)
    changed = {name for name in before if before[name] != after.get(name)}
    named = {word for word in words if word in before}
    if changed - named:
        raise Finding(f"{sorted(changed)} changed, and nobody named them")
    for name in after.keys() - before.keys():
        if name == "__pycache__":
            continue
        if name.endswith((".part", ".tmp")) or name.startswith("."):
            raise Finding(f"{name} was left behind")
        if name not in (*words, "report.html", "golden", "run") and not any(
            Path(word).parts[:1] == (name,) for word in words
        ):
            raise Finding(f"{name} was made, and nobody named it")


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        for inner in entry.iterdir():
            _remove(inner)
        entry.rmdir()
    else:
        entry.unlink()


def _warm_up_commands() -> None:
    for words in (
        ["train", "good.ini", "--data", "x.npz", "--debug", "--quiet"],
        ["train", "model.py:build", "--data", "x.npz", "--debug", "--quiet"],
        ["predict", "m.safetensors", "--data", "x.npz", "--debug"],
        ["evaluate", "good.ini", "--weights", "w.npz", "--data", "x.npz"],
        ["plan", "good.ini", "--pareto"],
        ["allocate", "buffers.csv", "--png", "x.png"],
        ["report", "good.ini", "--png", "x.png"],
        ["export", "good.ini", "--to", "chrome-trace", "--measured"],
    ):
        with empty_folder() as folder:
            for name, data in FILES.items():
                (folder / name).write_bytes(data)
            with redirect_stdout(_stream()), redirect_stderr(_stream()):
                main.main(words, "arena-ckpt", standalone_mode=False)


# -- paths -----------------------------------------------------------------------------

_NAMES = (
    *(
        "a b",
        " lead",
        "trail ",
        "\u00e9",
        "e\u0301",
        "😀",
        "\u202egnp",
        "%s{0}",
        "-o",
        "~",
        "$HOME",
    ),
    *(
        "a\nb",
        "a\tb",
        "'",
        '"',
        "\\",
        "*",
        "$HOME",
        "x" * 250,
        "x" * 300,
        "\udcff",
        "\ud800",
    ),
    *("", ".", "..", "a\0b", "\0", "nodir/a", "../up", "sub/../a", "sub/", "/", "//a"),
    *("x/" * 600, "/dev/null", "/dev/zero", "/dev/full", "/proc/self/mem", "con"),
    *("folder", "fifo", "broken", "loop", "zero", "to_file", "sub/a", "file/a"),
)
_SUFFIXES = (
    "",
    ".ini",
    ".csv",
    ".npz",
    ".toml",
    ".json",
    ".plan",
    "-images-idx3-ubyte",
)
_BUFFERS_CSV, _BOARD = FILES["buffers.csv"], FILES["board.toml"]
Entry = Callable[[str], object]


def _cli(*words: str) -> Entry:
    """Return a call of a command with a path where ``@`` stands."""

    def run(path: str) -> object:
        out, err = _stream(), _stream("backslashreplace")
        with redirect_stdout(out), redirect_stderr(err):
            given = [path if word == "@" else word for word in words]
            code = main.main(given, "arena-ckpt", standalone_mode=False)
        if code not in CODES:
            raise Finding(f"the exit code is {code!r}")
        return code

    return run


def _made() -> ac.Model:
    return small_model()


READ: dict[str, Entry] = {
    "load_ini": ac.load_ini,
    "load_csv": ac.load_csv,
    "load_npz": ac.load_npz,
    "load_idx": lambda path: ac.load_idx(path, path),
    "open_data": open_data,
    "load": ac.load,
    "load_board": load_board,
    "read_buffers": lambda path: read_buffers(Path(path)),
    "plan_differences": lambda path: plan_differences(_PLAN, path),
    "check_folder": lambda path: check_folder(Path(path), load_bundled),
    "plan MODEL": _cli("plan", "@"),
    "boards": _cli("boards", "@"),
    "evaluate MODEL": _cli("evaluate", "@", "--data", "x.npz"),
    "predict --weights": _cli("predict", "good.ini", "--weights", "@"),
    "predict --data": _cli("predict", "m.safetensors", "--data", "@"),
    "plan MODEL --board": _cli("plan", "good.ini", "--board", "@"),
    "report PLAN": _cli("report", "@", "--ascii"),
    "train --data": _cli("train", "good.ini", "--data", "@", "--quiet"),
    "allocate FILE": _cli("allocate", "@", "--node-limit", "10"),
    "golden check": _cli("golden", "check", "@"),
}
WRITE: dict[str, Entry] = {
    "save_ini": lambda path: _MODEL.save_ini(path),
    "save": lambda path: _MODEL.save(path),
    "write_golden": lambda path: write_golden(_PLAN, path),
    "plan -o": _cli("plan", "good.ini", "--brief", "-o", "@"),
    "plan --save": _cli("plan", "good.ini", "--pareto", "--save", "@"),
    "predict -o": _cli("predict", "m.safetensors", "--data", "x.npz", "-o", "@"),
    "report -o": _cli("report", "good.ini", "-o", "@"),
    "report --svg": _cli("report", "good.ini", "--svg", "@"),
    "export -o": _cli("export", "good.ini", "--to", "json", "-o", "@"),
    "allocate -o": _cli("allocate", "buffers.csv", "--node-limit", "10", "-o", "@"),
    "train --save-weights": _cli(
        *("train", "good.ini", "--data", "x.npz", "--quiet", "--save-weights", "@")
    ),
    "train --save": _cli(
        *("train", "good.ini", "--data", "x.npz", "--quiet", "--save", "@")
    ),
    "train --checkpoint": _cli(
        *("train", "good.ini", "--data", "x.npz", "--quiet", "--checkpoint", "@")
    ),
}
_MODEL = _made()
_MODEL.initialize()


def _furnish(folder: Path) -> None:
    """Put files, folders, links and a pipe into a folder."""
    for name in ("good.ini", "buffers.csv", "x.npz"):
        (folder / name).write_bytes(FILES[name])
    for suffix in _SUFFIXES:
        (folder / f"folder{suffix}").mkdir()
        os.mkfifo(folder / f"fifo{suffix}")
        (folder / f"broken{suffix}").symlink_to("nowhere")
        (folder / f"loop{suffix}").symlink_to(f"loop{suffix}")
        (folder / f"zero{suffix}").symlink_to("/dev/zero")
        (folder / f"to_file{suffix}").symlink_to("good.ini")
    (folder / "sub").mkdir()
    (folder / "file").write_bytes(b"a file")


def _use_path(drawn: tuple[str, str, str], outer: Path) -> None:
    """Read and write under a name, in a folder of its own."""
    entry, name, suffix = drawn
    home = outer / "home"
    folder = home / "in"
    if not home.exists():
        folder.mkdir(parents=True)
        _furnish(folder)
    path = name + suffix if not name.startswith("/dev") else name
    before = _tree(home)
    done = False
    try:
        with empty_folder() as watched, guarded(_LIMITS, watched):
            os.chdir(folder)
            code = (READ | WRITE)[entry](path)
            done = not isinstance(code, int) or code == 0
        after = _tree(home)
        if entry in READ and after != before:
            raise Finding(f"{entry} changed {_changed(before, after)}")
        made = after.keys() - before.keys()
        if entry in WRITE and not done and not _only_folders(made, before, after):
            raise Finding(f"{entry} failed and changed {_changed(before, after)}")
        parts = [n for n in after if n.endswith((".part", ".tmp"))]
        if parts:
            raise Finding(f"{entry} left {parts}")
    finally:
        os.chdir(outer)
        if _tree(home) != before:
            _remove(home)


def _tree(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return what lies in a folder and below, with its content."""
    found: dict[str, tuple[Any, ...]] = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            facts = os.lstat(path)
            content = b""
            if stat.S_ISREG(facts.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            found[path] = (facts.st_mode, content)
    return found


def _only_folders(
    made: set[str], before: dict[str, Any], after: dict[str, Any]
) -> bool:
    """Tell whether nothing but empty folders is new."""
    kept = all(after.get(name) == facts for name, facts in before.items())
    return kept and all(stat.S_ISDIR(after[name][0]) for name in made)


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [n for n in before.keys() | after.keys() if before.get(n) != after.get(n)]


_path_names = st.sampled_from(_NAMES) | st.text(max_size=12)

COMMANDS = (
    Target("command_line", _words(), _run_words, warm_up=_warm_up_commands),
    Target(
        "paths",
        st.tuples(
            st.sampled_from((*READ, *WRITE)), _path_names, st.sampled_from(_SUFFIXES)
        ),
        _use_path,
        warm_up=_warm_up_commands,
    ),
)
