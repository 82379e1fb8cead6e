"""Names of golden files: two models never share one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from arena_ckpt.errors import GoldenFileError

PLAN_SUFFIX = ".plan"


def stems(spec: str) -> list[str]:
    """Return the names that files of a model may begin with, the shortest first.

    ``net.py:build`` gives ``build`` and ``net.build``; ``a/net.ini`` gives ``net`` and
    ``a.net``.
    """
    file, _, function = spec.rpartition(":") if ".py:" in spec else (spec, "", "")
    path = Path(file)
    names = [function] if function else []
    names.append(".".join(filter(None, (path.stem, function))))
    if path.parent.name:
        names.append(f"{path.parent.name}.{names[-1]}")
    return names


def free_stem(
    folder: Path,
    spec: str,
    sizes: str,
    variants: Mapping[str, object],
    pinned: Mapping[str, tuple[str, str] | None],
) -> str:
    """Return what the names of the files of a model begin with.

    Parameters
    ----------
    folder : Path
    spec, sizes : str
        The model, as a golden file states it.
    variants : mapping with str as keys
        What is to be pinned.
    pinned : mapping from str to (str, str) or None
        Model and sizes of each file in the folder, by its name; None for a file that a
        test wrote.

    Raises
    ------
    GoldenFileError
        Other models have all names.
    """
    own = (os.path.normpath(spec), sizes)
    taken = ""
    for stem in stems(spec):
        names = [f"{stem}.{variant}{PLAN_SUFFIX}" for variant in variants]
        others = [n for n in names if n in pinned and not _is_of(pinned[n], own)]
        if not others:
            return stem
        taken = taken or others[0]
    model, of_size = pinned[taken] or ("the plan of a test", "{}")
    what = model if of_size in ("{}", sizes) else f"{model} with sizes {of_size}"
    raise GoldenFileError(
        f"{folder / taken} pins {what} already, not {spec}"
        f"{'' if sizes == '{}' else f' with sizes {sizes}'}; pin this model in another "
        "folder",
        path=str(folder / taken),
    )


def _is_of(pinned: tuple[str, str] | None, own: tuple[str, str]) -> bool:
    return pinned is not None and (os.path.normpath(pinned[0]), pinned[1]) == own
