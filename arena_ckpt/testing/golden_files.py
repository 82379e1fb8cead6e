"""Golden plans in files: compares and writes them, one file or a folder at a time."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from arena_ckpt.common.arguments import public_call, require_value
from arena_ckpt.common.wording import quoted
from arena_ckpt.errors import (
    ArenaError,
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
from arena_ckpt.testing.diff_text import diff_lines
from arena_ckpt.testing.golden_changes import GoldenDiff
from arena_ckpt.testing.golden_diff import compare
from arena_ckpt.testing.golden_names import PLAN_SUFFIX, free_stem
from arena_ckpt.testing.golden_requests import (
    make_requested,
    parse_golden_request,
    request_name,
    require_on_board,
    written_request,
)
from arena_ckpt.testing.golden_text import (
    GOLDEN_VERSION,
    SOURCE,
    WRITTEN_BY,
    golden_plan,
    golden_text,
    parse_golden,
)
from arena_ckpt.testing.sealed import WHAT_TO_RUN, reading
from arena_ckpt.testing.variants import INFERENCE, golden_variants, make_variant

NNTRAINER_SUFFIX = ".exegolden"
FORMATS = {"plan": PLAN_SUFFIX, "nntrainer": NNTRAINER_SUFFIX}

UNREADABLE, NOT_MADE = "unreadable", "not made"

LARGEST_FILE_BYTES = 64 * 2**20

MOST_LINES = 20
"""Maximum number of lines on tensors of NNTrainer's text."""

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
        ``"damaged"`` (until it was written again), ``"unreadable"``, ``"not made"``
        (the model that it names cannot be loaded or planned any more), or
        ``"of a test"``, whose model no file names.
    differences : tuple of str
        The differences in lines, causes first; changes of one kind share a line. Of a
        file that is unreadable or not made, the message that says why.
    diff : GoldenDiff or None
        Each difference of its own; None where there is no plan to compare with, or the
        file is NNTrainer's text.
    every_line : tuple of str
        `differences` of NNTrainer's text, none left out.
    """

    path: Path
    state: str
    differences: tuple[str, ...] = ()
    diff: GoldenDiff | None = None
    every_line: tuple[str, ...] = ()

    @property
    def old_format(self) -> int | None:
        """Format of a file that pins no properties; None for all others."""
        return None if self.diff is None else self.diff.old_format

    def document(self) -> dict[str, Any]:
        """Return the outcome as a JSON object; nothing is left out."""
        document: dict[str, Any] = {
            "file": str(self.path),
            "state": self.state,
            "differences": list(self.every_line or self.differences),
        }
        if self.diff is not None:
            document["format"] = self.old_format or GOLDEN_VERSION
            document |= self.diff.document()
        return document


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
        The plan is another; the message and `differences` say in what, the causes
        first, and `diff` has each change.
    GoldenFileError
        The file is missing, truncated, changed by hand or of another version.
    """
    __tracebackhide__ = True  # pytest shows the line of the test, and the message
    try:
        _require_match(plan, path)
    except ArenaError as error:
        raise error.with_traceback(None) from None


def _require_match(plan: MemoryPlan, path: StrPath) -> None:
    path = Path(path_text(path))
    if updating.get():
        write_golden(plan, path)
        return
    outcome = _compared(plan, path)
    if not outcome.differences:
        return
    listed = "\n  ".join(outcome.differences)
    message = (
        f"the plan is not that of {path}:\n  {listed}\nIf that is meant, run pytest "
        "--update-golden, or arena-ckpt golden update"
    )
    if outcome.old_format:
        message += f". {of_old_format(1, outcome.old_format)}"
    raise GoldenMismatchError(
        message,
        path=str(path),
        differences=outcome.differences,
        diff=outcome.diff,
    )


def of_old_format(n_files: int, version: int) -> str:
    """Return a sentence about files that pin less than this package can."""
    files = "The file has" if n_files == 1 else f"{n_files} files have"
    return (
        f"{files} format {version}, in which no properties of layers and no optimizer "
        "are pinned; an update pins them too"
    )


@public_call
def plan_differences(plan: MemoryPlan, path: StrPath) -> list[str]:
    """Return the differences of a golden file and a plan in lines, causes first.

    Changes of one kind share a line; the list is empty if there is no difference.
    """
    return list(_compared(plan, Path(path_text(path))).differences)


def _compared(plan: MemoryPlan, path: Path) -> Outcome:
    """Return the outcome of comparing a plan with a file."""
    text = read_text(path)
    if path.suffix == NNTRAINER_SUFFIX:
        lines = _order_differences(text, exe_order_text(plan))
        found, every_line, diff = _cut(lines), tuple(lines), None
    else:
        diff = compare(parse_golden(text, str(path)), golden_plan(plan))
        found, every_line = tuple(diff_lines(diff)), ()
    return Outcome(path, "differs" if found else "same", found, diff, every_line)


@public_call
def write_golden(
    plan: MemoryPlan,
    path: StrPath,
    source: dict[str, str] | None = None,
) -> None:
    """Write a golden file, unless it says the same already.

    The version of the package that wrote it is no reason to write it again.

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
        write_text(path, exe_order_text(plan))
        return
    before = _facts_of(path)
    kept = {key: before[key] for key in SOURCE if key in before}
    golden = golden_plan(plan, source or kept)
    if WRITTEN_BY in before:
        facts = golden.facts | {WRITTEN_BY: before[WRITTEN_BY]}
        if golden_text(replace(golden, facts=facts)) == read_text(path):
            return
    write_text(path, golden_text(golden))


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


def _facts_of(path: Path) -> dict[str, str]:
    """Return the facts of a file; none if it cannot be read."""
    try:
        return parse_golden(read_text(path), str(path)).facts
    except GoldenFileError:
        return {}


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
    return lines


def _cut(lines: list[str]) -> tuple[str, ...]:
    more = len(lines) - MOST_LINES
    if more <= 0:
        return tuple(lines)
    return (*lines[:MOST_LINES], f"… and {more:,} more tensors")


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

    Returns
    -------
    list of Outcome
        One per file. A file that cannot be read, or whose model cannot be made, does
        not hide the others.

    Raises
    ------
    GoldenFileError
        No golden plans there.
    """
    outcomes = []
    for path in _to_make(Path(path_text(folder)), load, form):
        try:
            outcomes.append(_outcome(path, load, form, update=False))
        except ArenaError as error:
            is_file = isinstance(error, GoldenFileError)
            state = UNREADABLE if is_file else NOT_MADE
            outcomes.append(Outcome(path, state, (str(error),)))
    return outcomes


@public_call
def update_folder(folder: StrPath, load: Load, form: str = "plan") -> list[Outcome]:
    """Write each golden file in a folder again; return what has changed.

    Files that are damaged or of another version are made anew.

    Raises
    ------
    GoldenFileError
        No golden plans there, or a damaged one that does not say any more how it was
        made. Files whose names come before it are written then.
    """
    plans = _to_make(Path(path_text(folder)), load, form)
    return [_outcome(path, load, form, update=True) for path in plans]


@public_call
def add_golden(
    folder: StrPath,
    spec: str,
    model: Model,
    sizes: dict[str, object] | None = None,
    *,
    inference: bool = False,
    request: Mapping[str, object] | None = None,
) -> list[Path]:
    """Write a golden file for each variant of a model that has none yet.

    A budget that no plan meets is left out. With `inference` the one variant is that of
    forward steps alone. Names of files begin with that of the model, and where another
    model has it, with those of its file or folder too.

    Parameters
    ----------
    folder : path-like
    spec : str
        What `load` knows the model by.
    model : Model
    sizes : dict, optional
        With which `load` makes the model.
    inference : bool
    request : mapping from str to object, optional
        The one plan to pin instead of the variants: ``batch_size``, ``arithmetic`` and
        ``board``, and arguments of `Model.make_plan`. It stands in the file.

    Returns
    -------
    list of Path
        The new files.

    Raises
    ------
    InvalidParameterError
        A request that cannot be made again from a file.
    BudgetError, BoardFitError
        The plan that is requested does not exist, or does not fit on its board.
    GoldenFileError
        Files of other models have all names that those of this one could have.
    """
    fits = isinstance(spec, str)
    require_value("spec", spec, fits=fits, expected="what load() knows the model by")
    try:
        written = json.dumps({} if sizes is None else dict(sizes), sort_keys=True)
    except (TypeError, ValueError):
        expected = "a dict of the sizes that load() makes the model with"
        require_value("sizes", sizes, fits=False, expected=expected)
    paths = []
    more: dict[str, str] = {}
    variants: Mapping[str, Callable[[], MemoryPlan]]
    if request:
        asked = dict(request) | ({"mode": INFERENCE} if inference else {})
        more["request"] = written_request(asked)
        variants = {request_name(asked): lambda: make_requested(model, asked)}
    elif inference:
        variants = {INFERENCE: lambda: make_variant(model, INFERENCE, spec)}
    else:
        variants = golden_variants(model)
    at = Path(path_text(folder))
    stem = free_stem(at, spec, written, variants, _pinned_in(at))
    for variant, make in variants.items():
        path = at / f"{stem}.{variant}{PLAN_SUFFIX}"
        if os.path.exists(path):
            continue
        try:
            plan = make()
        except BudgetError:
            if request:
                raise
            continue
        require_on_board(plan, request or {})
        source = {"model": spec, "sizes": written, "variant": variant, **more}
        write_golden(plan, path, source)
        paths.append(path)
    return paths


def _pinned_in(folder: Path) -> dict[str, tuple[str, str] | None]:
    """Return model and sizes of each plan in a folder that can be read, by its name."""
    pinned: dict[str, tuple[str, str] | None] = {}
    for path in _plans_in(folder):
        try:
            facts, _ = _facts(path, salvage=True)
        except GoldenFileError:
            continue  # the update of the folder says what is wrong with it
        is_of_test = "model" not in facts
        pinned[path.name] = None if is_of_test else (facts["model"], facts["sizes"])
    return pinned


def _plans_in(folder: Path) -> list[Path]:
    """Return the golden plans in a folder, sorted by name."""
    try:
        return sorted(folder.glob(f"*{PLAN_SUFFIX}"))
    except (OSError, ValueError) as error:
        raise GoldenFileError(
            f"the folder {folder} cannot be read ({error}); check the path",
            path=str(folder),
        ) from error


def load_bundled(name: str, sizes: dict[str, object]) -> Model:
    """Load a bundled example, for `check_folder` and `update_folder`."""
    return load_example(name, **sizes).model


def _to_make(folder: Path, load: Load, form: str) -> list[Path]:
    """Return the golden plans in a folder, of which there is at least one."""
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
    plans = _plans_in(folder)
    if not plans:
        raise GoldenFileError(
            f"there are no golden plans in {folder}; make some with arena-ckpt golden "
            f"update {folder} --add MODEL, for example --add {next(iter(EXAMPLES))}",
            path=str(folder),
        )
    return plans


def _outcome(plan_path: Path, load: Load, form: str, *, update: bool) -> Outcome:
    """Make the plan of a golden file again; compare it, and write it if asked to."""
    facts, is_damaged = _facts(plan_path, salvage=update)
    path = plan_path.with_suffix(FORMATS[form])
    if "model" not in facts:
        return Outcome(path, "of a test")
    with reading(str(plan_path)):
        sizes = json.loads(facts["sizes"])
        spec, variant = facts["model"], facts["variant"]
        if not isinstance(sizes, dict):
            raise ValueError(f"sizes is {sizes!r}")
        request = parse_golden_request(facts.get("request"))
    model = load(spec, sizes)
    plan = (
        make_requested(model, request)
        if request
        else make_variant(model, variant, str(plan_path), to_compare=not update)
    )
    if is_damaged:
        source = {key: facts[key] for key in SOURCE if key in facts}
        write_golden(plan, plan_path, source)
        outcome = Outcome(plan_path, "damaged")
    elif os.path.exists(path):
        outcome = _compared(plan, path)
    else:
        outcome = Outcome(path, "new" if update else "missing")
    if update:
        write_golden(plan, path)
    return outcome


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
        if not facts.keys() >= {"model", "sizes", "variant"}:
            raise GoldenFileError(
                f"{error}. It does not say any more how it was made: remove it, and "
                f"run arena-ckpt golden update {path.parent} --add MODEL",
                path=str(path),
            ) from None
        return facts, True
