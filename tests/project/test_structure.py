"""The road of folders (docs/architecture.md): imports point left, without a circle.

Every module has a place in `ROAD`; it may import from places to its left and from its
own place. Imports inside functions and under TYPE_CHECKING count as well, and so do
those through `importlib` and through the stubs of lazy names.
"""

import ast
import re
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "arena_ckpt"
ROAD: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("common",),
    ("operations",),
    ("kernels",),
    ("files",),
    ("allocation", "optim"),
    ("layers",),
    ("data",),
    ("graph",),
    ("definition", "planning"),
    ("checkpoint",),
    ("lowering",),
    ("engine", "c_export"),
    ("training",),
    ("model_plans",),
    ("model",),
    ("importers", "report", "boards"),
    ("verification",),
    ("device",),
    ("examples",),
    ("testing",),
    ("",),  # the public names
    ("cli",),
    ("__main__",),
)
"""From left to right: the folders of the package, which itself is ``""``."""

AT_MOST: dict[str, str] = {"report": "planning", "boards": "planning"}
"""Folders that stand on the right and may only look at a part of the road."""

EXCEPTIONS: dict[tuple[str, str], str] = {
    (
        "arena_ckpt.checkpoint.pareto_front",
        "arena_ckpt.report.front_table",
    ): "a front shows itself",
    (
        "arena_ckpt.checkpoint.pareto_front",
        "arena_ckpt.report.front_facts",
    ): "and as rows",
    ("arena_ckpt.planning.plan", "arena_ckpt.report.html"): "a plan shows itself",
    ("arena_ckpt.planning.plan", "arena_ckpt.report.plan_text"): "when it is printed",
    ("arena_ckpt.planning.plan", "arena_ckpt.report.summary"): "and as rows",
    (
        "arena_ckpt.training.records",
        "arena_ckpt.report.curve_picture",
    ): "a history draws itself",
}
"""The arrows that point right all the same, and why."""

PLACE = {name: place for place, names in enumerate(ROAD) for name in names}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_files() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    return {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def imports(source: str, modules: frozenset[str], package: str = PACKAGE) -> set[str]:
    """Return the modules of ours that a source text imports, wherever it does so."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in modules else node.module)
        elif isinstance(node, ast.Call) and is_import_call(node.func):
            found.add(imported_by_call(node, package))
    return {name for name in found if name.partition(".")[0] == PACKAGE}


def is_import_call(function: ast.expr) -> bool:
    name = getattr(function, "attr", getattr(function, "id", ""))
    return name in ("import_module", "__import__")


def imported_by_call(call: ast.Call, package: str) -> str:
    """Return what is imported: a module, or some one of the package, ``package.*``."""
    (name,) = call.args
    if isinstance(name, ast.Constant) and isinstance(name.value, str):
        return name.value
    text = ast.unparse(name)
    assert text.startswith("f'{__package__}."), f"cannot tell what {text} imports"
    return f"{package}.*"


def stub_imports(source: str, package: str) -> set[str]:
    """Return the modules that the lazy names of a package come from."""
    return {
        f"{package}.{node.module}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.level == 1
    }


def import_graph() -> dict[str, set[str]]:
    """Return the modules that each module imports, but for the exceptions."""
    files = package_files()
    modules = frozenset(files)
    graph = {}
    for name, path in files.items():
        is_package = path.stem == "__init__"
        package = name if is_package else name.rpartition(".")[0]
        graph[name] = imports(path.read_text(), modules, package)
        stub = path.with_suffix(".pyi")
        if stub.exists():
            graph[name] |= stub_imports(stub.read_text(), name)
    for name, target in EXCEPTIONS:
        graph[name].remove(target)  # a KeyError: it is no exception any more
    return graph


def stretch(module: str) -> str:
    """Return the module or subpackage of the road that a dotted name belongs to."""
    return module.split(".")[1] if "." in module else ""


GRAPH = import_graph()


def test_imports_are_found_wherever_they_stand() -> None:
    source = (
        "import numpy, arena_ckpt.a\n"
        "from arena_ckpt import b, C\n"
        "from arena_ckpt.d import E\n"
        "def f():\n    from arena_ckpt.g import h\n"
        "    importlib.import_module('arena_ckpt.i')\n"
        "    import_module(f'{__package__}.{name}')\n"
        "    __import__('arena_ckpt.j')\n"
    )
    modules = frozenset({"arena_ckpt.b", "arena_ckpt.g.h"})

    assert imports(source, modules, "arena_ckpt.own") == {
        "arena_ckpt",
        "arena_ckpt.a",
        "arena_ckpt.b",
        "arena_ckpt.d",
        "arena_ckpt.g.h",
        "arena_ckpt.i",
        "arena_ckpt.own.*",
        "arena_ckpt.j",
    }
    with pytest.raises(AssertionError, match="cannot tell"):
        imports("importlib.import_module(name)", modules)
    stub = "from .a.b import C as C\nfrom .d import E as E\n"
    assert stub_imports(stub, "arena_ckpt") == {"arena_ckpt.a.b", "arena_ckpt.d"}


def test_every_module_has_its_place() -> None:
    assert len(GRAPH) > 30
    strays = {stretch(name) for name in GRAPH} - set(PLACE)
    assert not strays, f"give these a place in ROAD: {sorted(strays)}"


def test_the_page_shows_the_road() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    table = page.partition("## The road\n")[2].partition("\n## ")[0]
    rows = [row for row in table.splitlines() if row.startswith("| `")]
    shown = [tuple(re.findall(r"`(\w+)`", row.split("|")[1])) for row in rows]
    road = [tuple(name or PACKAGE for name in names) for names in ROAD]
    assert shown == road, "docs/architecture.md shows another road than ROAD"
    report = f"only up to `{AT_MOST['report']}`"
    assert report in table
    assert set(AT_MOST.values()) == {AT_MOST["report"]}


def test_no_module_imports_in_a_circle() -> None:
    graph = nx.DiGraph(
        (name, target) for name, targets in GRAPH.items() for target in targets
    )
    circles = [sorted(part) for part in nx.strongly_connected_components(graph)]
    assert [part for part in circles if len(part) > 1] == []
    assert list(nx.selfloop_edges(graph)) == []


def test_no_import_points_right() -> None:
    arrows = [
        f"{name} -> {target}"
        for name, targets in GRAPH.items()
        for target in sorted(targets)
        if stretch(name) in PLACE
        and stretch(target) != stretch(name)
        and PLACE.get(stretch(target), len(ROAD)) > PLACE[stretch(name)]
    ]
    assert arrows == []


def test_neighbours_in_one_place_do_not_feed_each_other_back() -> None:
    graph = nx.DiGraph(
        (stretch(name), stretch(target))
        for name, targets in GRAPH.items()
        for target in targets
        if stretch(name) != stretch(target)
    )
    circles = [sorted(part) for part in nx.strongly_connected_components(graph)]
    assert [part for part in circles if len(part) > 1] == []


@pytest.mark.parametrize("package", AT_MOST)
def test_a_package_looks_only_at_its_part_of_the_road(package: str) -> None:
    last = AT_MOST[package]
    arrows = [
        f"{name} -> {target}"
        for name, targets in GRAPH.items()
        for target in sorted(targets)
        if stretch(name) == package
        and stretch(target) != package
        and PLACE[stretch(target)] > PLACE[last]
    ]
    assert arrows == [], f"{package} reads a {last} and what is left of it"


def test_kernels_import_nothing_of_ours_but_errors_and_operations() -> None:
    """A kernel of one's own that cannot be used is refused where it is written."""
    foreign = {
        f"{name} -> {target}"
        for name, targets in GRAPH.items()
        for target in targets
        if stretch(name) == "kernels"
        and stretch(target) not in ("kernels", "operations", "errors")
    }
    assert foreign == set()


def test_the_ground_carries_no_part_of_the_road() -> None:
    ground = {name for names in ROAD[:5] for name in names}
    arrows = {
        f"{name} -> {target}"
        for name, targets in GRAPH.items()
        for target in targets
        if stretch(name) in ground and stretch(target) not in ground
    }
    assert arrows == set()


OF_ONE_FAMILY = frozenset({"operations", "kernels", "layers", "lowering"})
"""Places whose modules of one name are about one family of operations."""


def test_no_module_name_stands_twice_with_different_meanings() -> None:
    """Commands bear the names of what they call."""
    places: dict[str, set[str]] = {}
    for name, path in package_files().items():
        if path.name != "__init__.py" and ".commands." not in name:
            places.setdefault(path.stem, set()).add(stretch(name))
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert {n: found for n, found in twice.items() if not found <= OF_ONE_FAMILY} == {}
