"""The pages of the reference, from the public names and what their functions return.

Griffe reads the sources, ``__init__.pyi`` among them, and runs nothing. A name that
becomes public, or a class that a public function returns, has its place by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import griffe

PACKAGE = "arena_ckpt"
FOLDERS = {
    "layers": "What a layer of your own imports: "
    "[a layer of your own](../own_layer.md) shows how.",
    "allocation": "Live ranges of any kind, placed in memory: "
    "[placing buffers](../allocation.md).",
    "testing": "Golden plans in tests of your own: [golden plans](../golden.md).",
}
"""Folders of the package that others import from, and what a page says of each."""


@functools.cache
def make_pages(root: Path) -> dict[str, tuple[str, str]]:
    """Return title and Markdown of each page by its path, in the order of navigation.

    Parameters
    ----------
    root : Path
        Where the repository is.
    """
    import griffe

    package: Any = griffe.load(
        PACKAGE, search_paths=[str(root)], docstring_parser="numpy"
    )
    public = {name: package[name] for name in sorted(_exports(package), key=str.lower)}
    errors = {
        value.canonical_path: f"{PACKAGE}.{name}" if name in public else value.path
        for name, value in package["errors"].members.items()
        if not value.is_alias and value.is_class and not name.startswith("_")
    }
    functions = [n for n, value in public.items() if value.is_function]
    classes = [
        name
        for name, value in public.items()
        if value.is_class and value.canonical_path not in errors
    ]
    other = [
        name
        for name, value in public.items()
        if name not in {*functions, *classes} and value.canonical_path not in errors
    ]

    pages = {"functions": ("Functions", _objects(PACKAGE, [*functions, *other]))}
    pages |= {
        name: (name, _objects(PACKAGE, [name], heading_level=1)) for name in classes
    }
    shown = {value.canonical_path for value in public.values()} | set(errors)
    for folder in FOLDERS:
        shown |= {
            value.canonical_path
            for value in (package[folder][n] for n in _exports(package[folder]))
        }
    results = _returned(package, [public[n] for n in (*functions, *classes)], shown)
    text = "Objects that functions and methods return. They are not made by hand.\n\n"
    pages["results"] = ("Results", text + _objects("", results))
    text = (
        "Errors are classes under `ArenaError` and a builtin. Those that are not "
        f"public names are imported from `{PACKAGE}.errors`.\n\n"
    )
    text += _objects(
        "", [*errors.values()], inherited_members="false", show_bases="true"
    )
    pages["errors"] = ("Errors and warnings", text)
    for folder, text in FOLDERS.items():
        module = f"{PACKAGE}.{folder}"
        names = sorted(_exports(package[folder]), key=str.lower)
        pages[folder] = (module, f"{text}\n\n{_objects(module, names)}")
    return {
        f"reference/{name.lower()}.md": (
            title,
            text if name in classes else f"# {title}\n\n{text}",
        )
        for name, (title, text) in pages.items()
    }


def _exports(module: griffe.Module) -> list[str]:
    """Return what the stub of a folder re-exports."""
    stub = Path(str(module.filepath)).with_suffix(".pyi").read_text("utf-8")
    named = (line.partition(" as ")[2] for line in stub.splitlines())
    return [name for name in named if name]


def _objects(module: str, names: list[str], **options: object) -> str:
    """Return the directives of mkdocstrings for some objects."""
    lines = "".join(f"\n      {name}: {value}" for name, value in options.items())
    said = f"\n    options:{lines}" if lines else ""
    dot = "." if module else ""
    return "\n\n".join(f"::: {module}{dot}{name}{said}" for name in names)


def _returned(package: griffe.Module, objects: list[Any], shown: set[str]) -> list[str]:
    """Return the paths of the classes that are met on the way from some objects.

    These are the classes that functions and methods return or attributes have, and
    again those of these classes; what is shown elsewhere is left out.
    """
    found: list[str] = []
    ahead = list(objects)
    while ahead:
        for path in dict.fromkeys(_classes_of(ahead.pop(0))):
            if not path.startswith(f"{PACKAGE}.") or path in shown:
                continue
            try:
                value = package[path.removeprefix(f"{PACKAGE}.")]
            except KeyError:  # a type variable of a class, say
                continue
            if value.is_class and value.canonical_path not in {*shown, *found}:
                found.append(value.canonical_path)
                ahead.append(value)
    return sorted(found, key=lambda path: path.rpartition(".")[2].lower())


def _classes_of(value: Any) -> Iterator[str]:
    """Yield the paths of what a function returns, or an attribute or a class has."""
    if value.is_alias:
        value = value.final_target
    if value.is_class:
        for name, member in value.all_members.items():
            if not name.startswith("_"):
                yield from _classes_of(member)
        return
    said = value.returns if value.is_function else None
    said = value.annotation if value.is_attribute else said
    if said is not None and not isinstance(said, str):
        for part in said.iterate(flat=True):
            if hasattr(part, "canonical_path"):
                yield part.canonical_path
