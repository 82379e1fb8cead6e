"""What README.md and docs/ show works as shown."""

import io
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import pytest
from helpers.pages import PAGES, ROOT, Block, read_page, run_page

import arena_ckpt as ac
from arena_ckpt import errors
from arena_ckpt.cli import main
from arena_ckpt.layers import LAYER_TYPES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
HOME: str = PROJECT["urls"]["Source"]

RUN = [p for p in PAGES if read_page(p)]
LEFT_OUT = [block for page in RUN for block in read_page(page) if block.why_not]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    before, types = set(sys.modules), dict(LAYER_TYPES)
    try:
        run_page(page)
    finally:
        for name in set(sys.modules) - before:
            if is_within(sys.modules[name], tmp_path):
                del sys.modules[name]
        LAYER_TYPES.clear()
        LAYER_TYPES.update(types)


def is_within(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)


@pytest.mark.parametrize("block", LEFT_OUT, ids=str)
def test_left_out(block: Block) -> None:
    pytest.skip(f"{block}: {block.why_not}")


def test_the_first_commands_are_scripts_that_can_run() -> None:
    first = read_page(ROOT / "README.md")[0].code
    scripts = re.findall(r"^(tools/\S+\.sh)", first, re.MULTILINE)
    assert scripts == ["tools/demo.sh", "tools/test.sh"]
    assert all((ROOT / script).stat().st_mode & 0o111 for script in scripts)


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in links(page):
            if link.startswith(HOME):
                target, anchor = in_checkout(link)
            elif link.startswith("http"):
                continue
            else:
                path, _, anchor = link.partition("#")
                target = page.parent / path if path else page
            assert target.exists(), (page.name, link)
            if anchor:
                assert anchor in anchors(target), (page.name, link)


def links(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    return re.findall(r"\]\(([^)]*)\)", text)


def in_checkout(link: str) -> tuple[Path, str]:
    """Return the file and the anchor that a link to the project's home stands for.

    Pictures are raw, files blobs and folders trees: another kind leads nowhere there.
    """
    kind, path, anchor = re.fullmatch(
        rf"{HOME}/(raw|blob|tree)/main/([^#]+)#?(.*)", link
    ).groups()  # type: ignore[union-attr]
    target = ROOT / path
    is_picture = target.suffix == ".png"
    assert kind == ("tree" if target.is_dir() else "raw" if is_picture else "blob"), (
        link
    )
    return target, anchor


def test_links_of_the_readme_hold_on_an_index_page() -> None:
    """An index shows README.md alone, so that a relative link leads nowhere there."""
    urls = PROJECT["urls"]
    assert all(url.startswith(HOME) for url in urls.values())
    found = links(ROOT / "README.md")
    assert len(found) > 30
    assert not [link for link in found if not link.startswith("https://")]
    of_others = {link for link in found if not link.startswith(f"{HOME}/")}
    assert of_others == {"https://github.com/nntrainer/nntrainer"}


def test_numbers_of_the_readme_are_those_of_the_tutorial() -> None:
    story = (ROOT / "README.md").read_text("utf-8").partition("## Quick start")[0]
    tutorial = (ROOT / "docs/tutorial.md").read_text("utf-8")
    numbers = re.findall(r"\d+\.\d+ (?:KiB|%)", story)
    assert len(numbers) == 6
    assert not [number for number in numbers if number not in tutorial]


def test_the_metadata_claims_what_was_tested() -> None:
    tested = (ROOT / "docs/platforms.md").read_text("utf-8").partition("## Not")[0]
    table = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", tested, re.MULTILINE))
    claimed = PROJECT["classifiers"]
    assert [c.split(" :: ")[-1] for c in claimed if re.search(r"\d\.\d", c)] == [
        table["Python"]
    ]
    systems = [c for c in claimed if c.startswith("Operating System")]
    assert systems == ["Operating System :: POSIX :: Linux"]
    assert table["system"].startswith("Linux")
    assert "Typing :: Typed" in claimed
    assert (ROOT / "arena_ckpt/py.typed").exists()


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def test_pictures_are_what_the_tool_draws() -> None:
    pytest.importorskip("PIL", reason="pictures need Pillow")
    from PIL import Image

    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import pictures
    finally:
        sys.path.remove(str(ROOT / "tools"))
    drawn = pictures.make_pictures()
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert sorted(drawn) == sorted(path.name for path in pictures.FOLDER.iterdir())
    for name, content in drawn.items():
        assert f"pictures/{name})" in text
        files = io.BytesIO(content), pictures.FOLDER / name
        new, old = (np.asarray(Image.open(f).convert("RGB"), float) for f in files)
        assert new.shape == old.shape
        # Letters may be drawn otherwise by another version of Pillow.
        assert np.abs(new - old).mean() < 1, f"{name}: run tools/pictures.py"


def named_in(page: Path) -> Iterator[str]:
    """Yield the words of all code in a page: blocks, indented lines, backticks."""
    text = page.read_text("utf-8")
    for block, line, code in re.findall(
        r"^```.*?\n(.*?)^```|^ {4,}([^\n]*)$|`([^`\n]+)`",
        text,
        re.DOTALL | re.MULTILINE,
    ):
        yield from re.split(r"[\s\"'()=,]+", block or line or code)


def is_path(word: str) -> bool:
    """Tell whether a word looks like a path; ``.cpp`` are those of NNTrainer."""
    looks = re.fullmatch(r"[.\w]+(?:/[\w*.-]+)*/[\w*.-]*(?:::\w+)?", word)
    return bool(looks) and not word.endswith(".cpp")


def test_paths_of_this_repository_exist() -> None:
    """A path is one from the root, from the package, or from the tests."""
    places = (ROOT, ROOT / "arena_ckpt", ROOT / "tests")
    first = {p.name for place in places for p in place.iterdir() if p.is_dir()}
    first -= {"golden", "shared", "build"}  # of a reader, beside some clones, made
    found: dict[str, Path] = {}
    for page in PAGES:
        for word in (w.rstrip(".:;") for w in named_in(page)):
            if is_path(word) and word.partition("/")[0] in first:
                found[word] = page
    assert len(found) > 90
    for word, page in found.items():
        path, _, test = word.partition("::")
        there = [p for place in places for p in place.glob(path)]
        assert there, (page.name, word)
        assert not test or f"\ndef {test}(" in there[0].read_text("utf-8"), word


def test_the_architecture_names_what_there_is() -> None:
    sources = [
        *(ROOT / "arena_ckpt").rglob("*.py"),
        *Path(__file__).parent.glob("*.py"),
    ]
    known = {w for p in sources for w in re.findall(r"\w+", p.read_text("utf-8"))}
    words = {w for w in named_in(ROOT / "docs/architecture.md") if w.isidentifier()}
    assert len(words) > 50
    unknown = words - known - {path.name for path in ROOT.iterdir()}
    assert not unknown


def test_tools_have_the_options_that_pages_give_them() -> None:
    found = set()
    for page in PAGES:
        for tool, rest in re.findall(
            r"(tools/[\w/]+\.(?:py|sh))((?: +[^\s`|#]+)*)", page.read_text("utf-8")
        ):
            options = re.findall(r"(?<= )--[\w-]+", rest)
            found |= {(page.name, tool, option) for option in options}
    assert len(found) > 15
    for page_name, tool, option in sorted(found):
        assert option in (ROOT / tool).read_text("utf-8"), (page_name, tool, option)


def test_commands_have_the_options_that_pages_give_them() -> None:
    assert isinstance(main, click.Group)
    known = {
        name: {option for inner in commands(command) for option in long_options(inner)}
        for name, command in main.commands.items()
    }
    found = set()
    for page in PAGES:
        text = page.read_text("utf-8").replace("\\\n", " ")
        called = re.findall(r"arena-ckpt ([a-z]+(?:-[a-z]+)?)([^\n`#|]*)", text)
        for name, rest in called:
            options = re.findall(r"(?<![\w-])--[\w-]+", rest)
            found |= {(page.name, name, option) for option in options}
    assert len(found) > 50
    for page_name, name, option in sorted(found):
        assert option in known[name] | {"--help"}, (page_name, name, option)


def test_every_guarantee_names_tests_that_exist() -> None:
    rows = (ROOT / "docs/guarantees.md").read_text("utf-8").splitlines()
    promises = [row for row in rows if row.startswith("| **")]
    assert len(promises) > 15
    for promise in promises:
        names = re.findall(r"`(\w+/test_\w+\.py)(?:::(test_\w+))?`", promise)
        assert names, promise
        for file, test in names:
            source = (ROOT / "tests" / file).read_text("utf-8")
            assert not test or f"\ndef {test}(" in source, (file, test)


def test_every_public_name_is_documented() -> None:
    text = (ROOT / "docs/model-api.md").read_text("utf-8")
    words = set(re.findall(r"\w+", text))
    of_models = {n for n in dir(ac.Model) if not n.startswith("_")}
    of_plans = {n for n in dir(ac.MemoryPlan) if not n.startswith("_")}
    of_data = {n for n in dir(ac.Dataset) if not n.startswith("_")}
    missing = (set(ac.__all__) | of_models | of_plans | of_data) - words
    assert not missing


def test_every_option_is_documented() -> None:
    text = (ROOT / "docs/cli.md").read_text("utf-8")
    options = {name for command in commands(main) for name in long_options(command)}
    assert not {name for name in options if name not in text}


def commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from commands(inner)


def long_options(command: click.Command) -> set[str]:
    names = (name for parameter in command.params for name in parameter.opts)
    return {name for name in names if name.startswith("--")}


def test_every_error_is_documented() -> None:
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.ArenaError)
    }
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert not classes - set(re.findall(r"\w+", text))
