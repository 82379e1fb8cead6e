"""A whole project in C99, as files in memory and on disk."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from arena_ckpt.c_export.exported_model import ExportedModel, Reference
from arena_ckpt.c_export.kernels_text import kernel_files
from arena_ckpt.c_export.linker_text import Target, linker_text, rest_lines
from arena_ckpt.c_export.packages import (
    component_text,
    package_files,
    package_paths,
    package_usage,
    require_package,
    sample_lines,
)
from arena_ckpt.c_export.parity_test import test_files
from arena_ckpt.c_export.program_text import ProgramText
from arena_ckpt.c_export.schedule_code import functions_used
from arena_ckpt.c_export.templates_of import filled
from arena_ckpt.common.c_identifiers import identifier
from arena_ckpt.common.wording import listed, quoted
from arena_ckpt.errors import CExportError, UnwritableFileError
from arena_ckpt.files.atomic_write import make_folder, write_whole

_STEP_USAGE = """\
Where samples and labels lie in place already, `{name}_step(&loss)` takes them
without a feed.
"""

_BUILT = "build"
"""Folder that the Makefile of a project builds in."""


@dataclass(frozen=True, slots=True)
class CProject:
    """The files of a project.

    Attributes
    ----------
    name : str
        With which its functions begin.
    files : dict from str to bytes
        Content by path in the project, ``"src/net.c"``.
    """

    name: str
    files: dict[str, bytes]


def make_project(
    model: ExportedModel,
    name: str,
    reference: Reference,
    *,
    package: str | None = None,
    target: Target | None = None,
) -> CProject:
    """Return the project that trains a model in C.

    Parameters
    ----------
    model : ExportedModel
    name : str
        What it is called; functions begin with it, in small letters.
    reference : Reference
        What its test is to find.
    package : str, optional
        One of `PACKAGES`, to make the project a package of.
    target : Target, optional
        A board that the plan fits on, for which a linker script is written.

    Returns
    -------
    CProject
        Equal for equal models and references.

    Raises
    ------
    CExportError
        A kernel or a size that is not there in C, or a plan for debug mode.
    """
    require_package(package)
    prefix = identifier(name).lower()
    if prefix.startswith("ac_"):
        raise CExportError(
            f"name={quoted(name)} is not possible: names of kernels begin with ac_; "
            "give another name",
            layers=(),
            kernels=(),
        )
    if model.plan.canary_bytes:
        raise CExportError(
            "the plan has room for canaries, which guard buffers in debug mode here; "
            "export a plan that was made without debug",
            layers=(),
            kernels=(),
        )
    program = ProgramText(model, prefix)
    others = functions_used(model.optimizer, model.schedule) if program.trains else ()
    files = {
        **_in("src", _own_sources(program)),
        **_in("src", kernel_files((c.kernel for c in program.calls), others, prefix)),
        **_in("test", test_files(program, reference)),
        **_others(program, len(reference.losses), package, target),
        **package_files(program, package),
    }
    if target is not None:
        files[target.path] = linker_text(target, program.places, prefix)
    return CProject(prefix, {path: text.encode() for path, text in files.items()})


def _own_sources(program: ProgramText) -> dict[str, str]:
    return {
        f"{program.name}.h": program.header(),
        f"{program.name}.c": program.source(),
        f"{program.name}_weights.c": program.weights.source(),
    }


def _in(folder: str, files: dict[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files.items()}


def _others(
    program: ProgramText, n_steps: int, package: str | None, target: Target | None
) -> dict[str, str]:
    """Return the files around the sources: how to build them, and how to use them."""
    name, plan = program.name, program.plan
    memories = [(m.name, m.height_bytes) for m in plan.memories.values()]
    usage = filled("usage_predict.md", name=name)
    run = example_train = ""
    if program.trains:
        usage = (
            filled(
                "usage_train.md",
                name=name,
                and_labels=program.losses.and_labels(),
                whose="a batch"
                if plan.micro_batches == 1
                else (f"one of the {plan.micro_batches} micro-batches of a step"),
                step_usage=_STEP_USAGE.format(name=name)
                if plan.micro_batches == 1
                else "",
                state_bytes=f"{program.state.n_bytes:,}",
            )
            + "\n"
            + usage
        )
        example_train = filled(
            "example_train.c", name=name, fill_labels=program.losses.fill_lines()
        )
        run = filled("example_run.c", name=name)
    more_usage = package_usage(program, package)
    if target is not None:
        more_usage += ("\n" if more_usage else "") + filled(
            "usage_board.md",
            board=target.file_stem,
            title=target.title,
            spec=target.spec,
            rest=rest_lines(target, program.places),
        )
    return {
        "README.md": filled(
            "README.md",
            name=name,
            does="trains a model" if program.trains else "predicts",
            memory_rows="\n".join(
                f"| {memory}{' (flash)' if memory == 'constants' else ''} | {n:,} |"
                for memory, n in memories
            ),
            usage=usage,
            more_rows=_more_rows(program, package, target),
            more_usage=more_usage,
        ),
        "Makefile": filled("Makefile", name=name, n_steps=n_steps),
        "CMakeLists.txt": filled(
            "CMakeLists.txt", name=name, component=component_text(program, package)
        ),
        "example/main.c": filled(
            "example.c",
            name=name,
            make_samples="\n".join(sample_lines(program)),
            example_train=example_train,
            example_run=run,
        ),
    }


def _more_rows(program: ProgramText, package: str | None, target: Target | None) -> str:
    rows = [
        f"| `{path}` | of the package |" for path in package_files(program, package)
    ]
    if target is not None:
        rows.append(f"| `{target.path}` | where the memory lies, for the linker |")
    return "\n".join(rows)


def write_project(project: CProject, folder: str | os.PathLike[str]) -> None:
    """Write a project into a folder, whole or not at all.

    Parameters
    ----------
    project : CProject
    folder : path
        Made where it is missing. A project that was written there before, under the
        same name, is replaced.

    Raises
    ------
    UnwritableFileError
        The folder holds other files, or cannot be written.
    """
    target = Path(os.path.realpath(folder))
    _require_own(project, target)
    mark = secrets.token_hex(8)
    part = target.with_name(f".{target.name[:40]}.{mark}.part")
    old = target.with_name(f".{target.name[:40]}.{mark}.old")
    try:
        make_folder(target.parent)
        try:
            for path, content in project.files.items():
                file = part / path
                make_folder(file.parent)
                write_whole(file, partial(_write, content))
            if target.exists():
                os.rename(target, old)
            try:
                os.rename(part, target)
            except OSError:
                if old.exists():
                    os.rename(old, target)
                raise
        finally:
            with suppress(OSError):
                shutil.rmtree(part)
            with suppress(OSError):
                shutil.rmtree(old)
    except UnwritableFileError:
        raise
    except OSError as error:
        raise UnwritableFileError(
            f"{folder} cannot be written ({error.strerror}); check the path and its "
            "rights, or choose another folder. What was there is as it was",
            path=os.fspath(folder),
            free_bytes=None,
        ) from error


def _write(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _require_own(project: CProject, target: Path) -> None:
    """Refuse a folder with files that are not of a project of this name."""
    if target.exists() and not target.is_dir():
        raise UnwritableFileError(
            f"{target} is no folder; choose another one for the project",
            path=str(target),
            free_bytes=None,
        )
    found = sorted(
        path.relative_to(target).as_posix()
        for path in target.rglob("*")
        if not path.is_dir()
    )
    strange = [
        path
        for path in found
        if path not in project.files
        and path not in package_paths(project.name)
        and not re.fullmatch(rf"{_BUILT}/.*|board/\w+\.ld", path)
    ]
    if strange:
        raise UnwritableFileError(
            f"{target} holds files that are not of a project called {project.name!r}: "
            f"{listed(strange[:5])}; choose another folder, or empty this one. Nothing "
            "was written",
            path=str(target),
            free_bytes=None,
        )
