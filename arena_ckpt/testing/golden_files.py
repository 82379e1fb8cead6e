"""Golden plans in files: compares and writes them, one file or a folder at a time."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from arena_ckpt.common.arguments import public_call, require_value
from arena_ckpt.common.wording import quoted
from arena_ckpt.errors import (
    BudgetError,
    DataError,
    DataFileNotFoundError,
    GoldenFileError,
    GoldenMismatchError,
    InvalidParameterError,
    UnwritableFileError,
)
from arena_ckpt.examples import EXAMPLES, load_example
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.files.source import path_text, read_whole
from arena_ckpt.model import Model
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.report.nntrainer import exe_order_text
from arena_ckpt.testing.golden_diff import MOST_LINES, differences
from arena_ckpt.testing.golden_text import golden_plan, golden_text, parse_golden
from arena_ckpt.testing.sealed import WHAT_TO_RUN, reading
from arena_ckpt.testing.variants import INFERENCE, golden_variants, make_variant

PLAN_SUFFIX, NNTRAINER_SUFFIX = ".plan", ".exegolden"
FORMATS = {"plan": PLAN_SUFFIX, "nntrainer": NNTRAINER_SUFFIX}

LARGEST_FILE_BYTES = 64 * 2**20

_SOURCE = ("model", "sizes", "variant")

updating: ContextVar[bool] = ContextVar("updating", default=False)
"""Whether pytest's ``--update-golden`` is set: golden files are then written, not
compared."""

StrPath = str | PathLike[str]
Load = Callable[[str, dict[str, object]], Model]
"""Makes a model from the name and the sizes that a golden file holds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of comparing or writing one golden file.

    Attributes
    ----------
    path : Path
    state : str
        ``"same"``, ``"differs"``, ``"missing"`` (``"new"`` once it is written),
        ``"damaged"`` (until it was written again), or ``"of a test"``, whose model no
        file names.
    differences : tuple of str
    """

    path: Path
    state: str
    differences: tuple[str, ...] = ()


@public_call
def assert_plan_matches(plan: MemoryPlan, path: StrPath) -> None:
    """Raise `GoldenMismatchError` if a plan differs from the one in a golden file.

    Parameters
    ----------
    plan : MemoryPlan
    path : path-like
        ``x.plan``, or ``x.exegolden`` for NNTrainer's text of execution orders. With
        ``pytest --update-golden`` it is written instead.

    Raises
    ------
    GoldenMismatchError
        The plan is another; the message and `differences` say in what.
    GoldenFileError
        The file is missing, truncated, changed by hand or of another version.
    """
    path = Path(path_text(path))
    if updating.get():
        write_golden(plan, path)
        return
    found = plan_differences(plan, path)
    if found:
        listed = "\n  ".join(found)
        raise GoldenMismatchError(
            f"the plan is not that of {path}:\n  {listed}\nIf that is meant, run "
            "pytest --update-golden, or arena-ckpt golden update",
            path=str(path),
            differences=tuple(found),
        )


@public_call
def plan_differences(plan: MemoryPlan, path: StrPath) -> list[str]:
    """Return the differences of a golden file and a plan, one line each."""
    path = Path(path_text(path))
    text = read_text(path)
    if path.suffix == NNTRAINER_SUFFIX:
        return _order_differences(text, exe_order_text(plan))
    return differences(parse_golden(text, str(path)), golden_plan(plan))


@public_call
def write_golden(
    plan: MemoryPlan,
    path: StrPath,
    source: dict[str, str] | None = None,
) -> None:
    """Write a golden file.

    Parameters
    ----------
    plan : MemoryPlan
    path : path-like
        Missing folders are made.
    source : dict from str to str, optional
        How to make the plan again; by default what the file says so far.
    """
    path = Path(path_text(path))
    if path.suffix == NNTRAINER_SUFFIX:
        text = exe_order_text(plan)
    else:
        text = golden_text(golden_plan(plan, source or _source(path)))
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a file of a golden folder; the folder is made if it does not exist."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnwritableFileError(
            f"{path} cannot be written: {reason}; choose another place",
            path=str(path),
        ) from error
    write_whole(path, lambda file: file.write(text.encode()))


def read_text(path: Path) -> str:
    """Read a file of a golden folder.

    Raises
    ------
    GoldenFileError
        It is missing, too large, or no text.
    """
    try:
        return read_whole(path, LARGEST_FILE_BYTES).decode()
    except DataFileNotFoundError:
        raise GoldenFileError(
            f"there is no golden file {path}; {WHAT_TO_RUN}", path=str(path)
        ) from None
    except (DataError, UnicodeDecodeError) as error:
        raise GoldenFileError(
            f"{path} cannot be read: {error}; {WHAT_TO_RUN}", path=str(path)
        ) from None


def _source(path: Path) -> dict[str, str]:
    """Return how to make a plan again, as far as a file says it."""
    try:
        facts = parse_golden(read_text(path), str(path)).facts
    except GoldenFileError:
        return {}
    return {key: facts[key] for key in _SOURCE if key in facts}


def _order_differences(old: str, new: str) -> list[str]:
    """Return the differences of execution orders, one line per tensor."""
    before, after = (
        dict(line.partition(", ")[::2] for line in text.splitlines() if line.strip())
        for text in (old, new)
    )
    lines = [f"{name}: gone" for name in before if name not in after]
    for name, orders in after.items():
        if name not in before:
            lines.append(f"{name}: new, {orders}")
        elif before[name] != orders:
            lines.append(f"{name}: {before[name]} → {orders}")
    if not lines and list(before) != list(after):
        lines.append("the tensors come in another order")
    more = len(lines) - MOST_LINES
    return lines if more <= 0 else [*lines[:MOST_LINES], f"… and {more:,} more tensors"]


# -- folders ---------------------------------------------------------------------------


@public_call
def check_folder(folder: StrPath, load: Load, form: str = "plan") -> list[Outcome]:
    """Make the plan of each golden file in a folder again, and compare them.

    Parameters
    ----------
    folder : path-like
    load : callable
        Makes the models.
    form : str
        ``"plan"``, or ``"nntrainer"`` for the ``.exegolden`` beside each ``.plan``.

    Raises
    ------
    GoldenFileError
        No golden plans there, or one that cannot be read.
    """
    return list(_each(Path(path_text(folder)), load, form, update=False))


@public_call
def update_folder(folder: StrPath, load: Load, form: str = "plan") -> list[Outcome]:
    """Write each golden file in a folder again; return what has changed.

    Files that are damaged or of another version are made anew. If the rest of such a
    file does not say how it was made, this raises as `check_folder` does.
    """
    return list(_each(Path(path_text(folder)), load, form, update=True))


@public_call
def add_golden(
    folder: StrPath,
    spec: str,
    model: Model,
    sizes: dict[str, object] | None = None,
    *,
    inference: bool = False,
) -> list[Path]:
    """Write a golden file for each variant of a model that has none yet.

    A budget that no plan meets is left out. With `inference` the one variant is that of
    forward steps alone. Returns the paths of the new files.
    """
    fits = isinstance(spec, str)
    require_value("spec", spec, fits=fits, expected="what load() knows the model by")
    try:
        written = json.dumps({} if sizes is None else dict(sizes), sort_keys=True)
    except (TypeError, ValueError):
        expected = "a dict of the sizes that load() makes the model with"
        require_value("sizes", sizes, fits=False, expected=expected)
    stem = spec.rpartition(":")[2] if ".py:" in spec else Path(spec).stem
    paths = []
    variants = (
        golden_variants(model)
        if not inference
        else {INFERENCE: lambda: make_variant(model, INFERENCE, spec)}
    )
    for variant, make in variants.items():
        path = Path(path_text(folder)) / f"{stem}.{variant}{PLAN_SUFFIX}"
        if os.path.exists(path):
            continue
        try:
            plan = make()
        except BudgetError:
            continue
        source = {
            "model": spec,
            "sizes": written,
            "variant": variant,
        }
        write_golden(plan, path, source)
        paths.append(path)
    return paths


def load_bundled(name: str, sizes: dict[str, object]) -> Model:
    """Load a bundled example, for `check_folder` and `update_folder`."""
    return load_example(name, **sizes).model


def _each(folder: Path, load: Load, form: str, *, update: bool) -> Iterator[Outcome]:
    if not callable(load):
        raise InvalidParameterError(
            f"load={quoted(load)} cannot be called; give a function that makes a model "
            "of a name and sizes, such as load_bundled",
            load=load,
        )
    if form not in FORMATS:
        raise InvalidParameterError(
            f"there is no format {quoted(form)}; golden files are "
            f"{' or '.join(FORMATS)}",
            format=form,
        )
    try:
        plans = sorted(folder.glob(f"*{PLAN_SUFFIX}"))
    except (OSError, ValueError) as error:
        raise GoldenFileError(
            f"the folder {folder} cannot be read ({error}); check the path",
            path=str(folder),
        ) from error
    if not plans:
        raise GoldenFileError(
            f"there are no golden plans in {folder}; make some with arena-ckpt golden "
            f"update {folder} --add MODEL, for example --add {next(iter(EXAMPLES))}",
            path=str(folder),
        )
    for plan_path in plans:
        facts, is_damaged = _facts(plan_path, salvage=update)
        path = plan_path.with_suffix(FORMATS[form])
        if "model" not in facts:
            yield Outcome(path, "of a test")
            continue
        with reading(str(plan_path)):
            sizes = json.loads(facts["sizes"])
            spec, variant = facts["model"], facts["variant"]
            if not isinstance(sizes, dict):
                raise ValueError(f"sizes is {sizes!r}")
        plan = make_variant(load(spec, sizes), variant, str(plan_path))
        if is_damaged:
            source = {key: facts[key] for key in _SOURCE}
            write_golden(plan, plan_path, source)
            yield Outcome(plan_path, "damaged")
        elif os.path.exists(path):
            found = tuple(plan_differences(plan, path))
            yield Outcome(path, "differs" if found else "same", found)
        else:
            yield Outcome(path, "new" if update else "missing")
        if update:
            write_golden(plan, path)


def _facts(path: Path, *, salvage: bool) -> tuple[dict[str, str], bool]:
    """Return the facts of a golden plan, and whether the file is damaged.

    For a damaged file they are those that say how to make it again, if these are found.
    """
    text = read_text(path)
    try:
        return parse_golden(text, str(path)).facts, False
    except GoldenFileError as error:
        facts = dict(re.findall(r"^([a-z_]+): (.*?)\r?$", text, re.MULTILINE))
        if not salvage:
            raise
        if not facts.keys() >= set(_SOURCE):
            raise GoldenFileError(
                f"{error}. It does not say any more how it was made: remove it, and "
                f"run arena-ckpt golden update {path.parent} --add MODEL",
                path=str(path),
            ) from None
        return facts, True
