"""The targets under atheris: libFuzzer looks for inputs that reach new code.

What reads bytes is given bytes; all else is drawn by hypothesis from the bytes. Kernels
are not instrumented, because Numba compiles their bytecode.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

INSTRUMENTED = (
    "arena_ckpt.allocation.csv_cells",
    "arena_ckpt.allocation.minimalloc_csv",
    "arena_ckpt.boards",
    "arena_ckpt.codec",
    "arena_ckpt.data",
    "arena_ckpt.definition",
    "arena_ckpt.files",
    "arena_ckpt.frontends",
    "arena_ckpt.graph",
    "arena_ckpt.ini_text",
    "arena_ckpt.loading",
    "arena_ckpt.plan",
    "arena_ckpt.properties",
    "arena_ckpt.saved_state",
    "arena_ckpt.testing",
    "arena_ckpt.units",
    "configparser",
    "csv",
    "gzip",
    "json",
    "numpy.lib._format_impl",
    "tomllib",
    "zipfile",
)
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

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
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
