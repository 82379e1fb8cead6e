"""Loads models from Python files, such as ``model.py:build`` on the command line."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arena_ckpt.common.wording import nearest
from arena_ckpt.data.dataset import Dataset
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.model import Model

if TYPE_CHECKING:
    from arena_ckpt.importers.torch_import import Imported

Built = tuple[Model, Dataset | None, Dataset | None]
"""A model, its training data and its validation data."""

_RETURNS = (
    "a Model, (Model, data) or (Model, data, data), where data are a Dataset or (x, "
    "y); or a PyTorch module as (module, inputs) or (module, inputs, loss)"
)


def load_script(path: Path, function: str, *, check: bool = False) -> Built | Imported:
    """Run a Python file and let one of its functions build a model.

    Parameters
    ----------
    path : Path
        The folder of the file can be imported from, as with ``python path``. What the
        file prints goes to standard error.
    function : str
        Takes no parameters; returns a Model, (Model, data) or (Model, data, data), the
        second for validation; data are a Dataset or (x, y). Or it returns a PyTorch
        module with example inputs and a loss.
    check : bool
        Compare an imported module with PyTorch.

    Returns
    -------
    (Model, Dataset or None, Dataset or None) or Imported

    Raises
    ------
    InvalidParameterError
        The file or function does not exist, raises (type, message and line are in the
        message) or returns something else.
    """
    where = f"{path}:{function}"
    with _folder_importable(path), contextlib.redirect_stdout(sys.stderr):
        with _failures_named(path, f"{path} cannot be run"):
            spec = importlib.util.spec_from_file_location(
                "arena_ckpt_script", path.absolute()
            )
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # dataclasses look their module up
            spec.loader.exec_module(module)
        build = _function(module, path, function)
        with _failures_named(path, f"{where} failed"):
            _seed_torch()
            made = build()
    if is_module(made[0] if isinstance(made, tuple) and made else made):
        from arena_ckpt.cli.torch_models import imported_from

        return imported_from(made, where, check=check)
    match made if isinstance(made, tuple) else (made,):
        case (Model() as model, *data) if len(data) <= 2 and all(map(_is_data, data)):
            parts = [
                _as_dataset(f"{function}{part}", given)
                for part, given in zip(("", " (validation)"), data, strict=False)
            ]
            training, validation, *_ = (*parts, None, None)
            return model, training, validation
    found = type(made).__name__
    if isinstance(made, tuple):
        found = f"({', '.join(type(part).__name__ for part in made)})"
    raise InvalidParameterError(
        f"{where} returned {found}; expected {_RETURNS}", path=str(path)
    )


def _seed_torch() -> None:
    """Let a module begin with the same weights in each process."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)


def is_module(made: object) -> bool:
    """Return whether an object is a PyTorch module, without loading PyTorch."""
    torch = sys.modules.get("torch")  # who has made a module has it loaded
    return torch is not None and isinstance(made, torch.nn.Module)


def _is_data(given: object) -> bool:
    is_pair = isinstance(given, tuple) and len(given) == 2
    return given is None or isinstance(given, Dataset) or is_pair


def _as_dataset(name: str, given: Any) -> Dataset | None:
    """Return what a function gives as data; a pair gets the name of the function."""
    return Dataset(name, *given) if isinstance(given, tuple) else given


def functions_in(path: Path) -> tuple[str, ...]:
    """Return the names of the functions at the top of a file, without running it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return ()
    return tuple(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    )


def _function(module: Any, path: Path, name: str) -> Callable[[], Any]:
    build = getattr(module, name, None)
    if not callable(build):
        known = functions_in(path)
        raise InvalidParameterError(
            f"{path} has no function {name!r}{nearest(name, known)}; it has "
            f"{', '.join(known) or 'no functions'}",
            path=str(path),
            function=name,
        )
    try:
        inspect.signature(build).bind()
    except TypeError as error:
        raise InvalidParameterError(
            f"{path}:{name} cannot be called without arguments ({error}); give its "
            "parameters defaults",
            path=str(path),
            function=name,
        ) from None
    return build  # type: ignore[no-any-return]


@contextlib.contextmanager
def _failures_named(path: Path, what: str) -> Iterator[None]:
    """Turn every exception of the file into one message that names its line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        line = _line_of(error, path)
        at = f" (line {line})" if line is not None else ""
        raise InvalidParameterError(
            f"{what}{at}: {type(error).__name__}: {error}", path=str(path), line=line
        ) from error


def _line_of(error: BaseException, path: Path) -> int | None:
    """Return the last line of the file that an exception passed."""
    name = str(path.absolute())  # what the import machinery calls the file
    if isinstance(error, SyntaxError) and error.filename == name:
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == name]
    return lines[-1] if lines else None


@contextlib.contextmanager
def _folder_importable(path: Path) -> Iterator[None]:
    folder = str(path.parent.resolve())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
