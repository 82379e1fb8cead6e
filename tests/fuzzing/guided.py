"""The targets under atheris: libFuzzer looks for inputs that reach new code.

What reads bytes is given bytes; all else is drawn by hypothesis from the bytes. Kernels
are not instrumented, because Numba compiles their bytecode.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from pathlib import Path

PACKAGES = ("arena_ckpt", "configparser", "csv", "gzip", "json", "tomllib", "zipfile")
"""What is instrumented: our readers, and those of the standard library below them."""

LONGEST_INPUT = 1 << 16


def run_guided(name: str, seconds: int, number: int) -> None:
    """Fuzz a target for some seconds, and end the process.

    Parameters
    ----------
    name : str
    seconds : int
    number : int
        Where libFuzzer's own random numbers begin.
    """
    import atheris

    with atheris.instrument_imports(list(PACKAGES), _compiled_modules()):
        from fuzzing.target import fuzz_bytes
        from fuzzing.targets import TARGETS

    target = TARGETS[name]
    target.warm_up()
    with tempfile.TemporaryDirectory(prefix="arena_ckpt_fuzz_") as work:
        seeds = Path(work, "seeds")
        folder = Path(work, "folder")
        seeds.mkdir()
        folder.mkdir()
        for index, data in enumerate(target.seeds):
            (seeds / str(index)).write_bytes(data)
        os.chdir(folder)
        with contextlib.suppress(SystemExit):
            atheris.Setup(
                [
                    *(sys.argv[0], str(seeds), f"-max_total_time={seconds}"),
                    *(f"-seed={number + 1}", f"-max_len={LONGEST_INPUT}"),
                    *("-timeout=30", "-rss_limit_mb=4096", "-print_final_stats=1"),
                    f"-artifact_prefix={work}/",
                ],
                fuzz_bytes(target, folder),
            )
            atheris.Fuzz()


def _compiled_modules() -> list[str]:
    """Return the modules of ours that Numba compiles functions of."""
    root = Path(__file__).parents[2]
    found = []
    for path in sorted((root / "arena_ckpt").rglob("*.py")):
        text = path.read_text("utf-8")
        if path.parent.name == "kernels" or re.search(
            r"^@(compiled|routine)$", text, re.MULTILINE
        ):
            parts = path.relative_to(root).with_suffix("").parts
            found.append(".".join(part for part in parts if part != "__init__"))
    return found
