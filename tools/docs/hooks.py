"""What tools/docs.sh adds to docs/ to make a site; MkDocs calls the `on_` functions.

- README.md, CONTRIBUTING.md and CHANGELOG.md become pages.
- Links that lead out of docs/ lead to the repository, those back lead to the page.
- Fences keep the name of their file (``python net.py``) as a title.
- The reference is made from the public names (reference.py).
- A notebook is run in a folder of its own, and shows what its cells show.
- A page says where a real report is shown: ``<!-- live report: MODEL OPTIONS -->``.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import reference
from nbclient import NotebookClient

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
HOME = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"][
    "Source"
]
TOP_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files at the top of the repository, and the pages that they become."""

SEARCH_IN_FILES = "assets/search_in_files.js"
"""A script that search needs where pages are opened as files; written at the end."""

_FENCE = re.compile(r"^```(\w+) (\S+)$", re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_CODE = re.compile(r"^```.*?^```$|``.+?``|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_CODE_IN_CELL = re.compile(r"(?<=[ |])`[^`\n]*\\\|[^`\n]*`(?=.*\|$)", re.MULTILINE)
_RUNS_NOTEBOOKS = os.environ.get("RUN_NOTEBOOKS") != "0" and bool(shutil.which("cc"))
"""Whether notebooks are run, which takes a minute and a C compiler."""

_WRITTEN = tempfile.TemporaryDirectory()
"""Where notebooks run."""

_LIVE = re.compile(
    r"^<!-- live report: (?P<model>\w+)(?P<options>.*?) -->$", re.MULTILINE
)


def github_anchor(heading: str, separator: str) -> str:
    """Return the anchor that GitHub gives a heading: links hold in both places."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of the reference into the navigation."""
    config.extra["polyfills"] = [SEARCH_IN_FILES]
    config.mdx_configs["toc"]["slugify"] = github_anchor
    pages: list[Any] = [
        {title: path} for path, (title, _) in reference.make_pages(ROOT).items()
    ]
    sections = _sections(config.nav or [])
    sections["Reference"][:] = pages


def _sections(nav: list[Any]) -> dict[str, list[Any]]:
    """Return the entries of each section of the navigation by its title."""
    found = {}
    for entry in nav:
        for title, inner in entry.items() if isinstance(entry, dict) else ():
            if isinstance(inner, list):
                found |= {title: inner, **_sections(inner)}
    return found


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages and files that docs/ does not hold."""
    from mkdocs.structure.files import File

    for file in list(files):
        if file.src_uri.endswith(".ipynb") and _RUNS_NOTEBOOKS:
            _run_notebook(Path(str(file.abs_src_path)))
            files.remove(file)
            files.append(File(file.src_uri, _WRITTEN.name, config.site_dir, False))

    def add(path: str, content: str) -> None:
        files.append(File.generated(config, path, content=content))

    for source, path in TOP_PAGES.items():
        add(path, (ROOT / source).read_text("utf-8"))
    for path, (_, content) in reference.make_pages(ROOT).items():
        add(path, content)
    for name in ("site.css", "site.js"):
        add(f"assets/{name}", (HERE / name).read_text("utf-8"))
    for page in files.documentation_pages():
        for match in _LIVE.finditer(page.content_string):
            add(_report_path(match), _report(match["model"], match["options"].split()))


# What mkdocs.plugins.event_priority sets: before the plugin that shows notebooks.
on_files.mkdocs_priority = 100  # type: ignore[attr-defined]


def on_page_markdown(
    markdown: str, *, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Turn what GitHub understands into what the site does."""
    path = page.file.src_uri
    where = {made: source for source, made in TOP_PAGES.items()}
    source = where.get(path, f"docs/{path}")

    def frame(match: re.Match[str]) -> str:
        link = posixpath.relpath(_report_path(match), posixpath.dirname(path) or ".")
        return (
            f'<iframe class="report" title="memory plan of {match["model"]}" '
            f'src="{link}"></iframe>\n\n<p><a href="{link}">The same report on a page '
            "of its own</a></p>"
        )

    def outside_code(text: str) -> str:
        return _LINK.sub(lambda link: _site_link(link[0], source, path), text)

    markdown = _FENCE.sub(r'```\1 title="\2"', markdown)
    if _LIVE.search(markdown):
        page.meta["hide"] = ["toc"]  # a report takes what width there is
    markdown = _LIVE.sub(frame, markdown)
    markdown = _CODE_IN_CELL.sub(lambda code: code[0].replace(r"\|", "|"), markdown)
    pieces, last = [], 0
    for code in _CODE.finditer(markdown):
        pieces += [outside_code(markdown[last : code.start()]), code[0]]
        last = code.end()
    return "".join([*pieces, outside_code(markdown[last:])])


def on_post_build(config: MkDocsConfig) -> None:
    """Let search work where pages are opened as files; remove what notebooks wrote."""
    _WRITTEN.cleanup()
    site = Path(config.site_dir)
    index = (site / "search/search_index.json").read_text("utf-8")
    (site / "search/search_index.js").write_text(f"var __index = {index}", "utf-8")
    (worker,) = (site / "assets/javascripts/workers").glob("search.*.min.js")
    script = (HERE / "search_in_files.js").read_text("utf-8")
    script = script.replace("@@WORKER@@", json.dumps(worker.read_text("utf-8")))
    (site / SEARCH_IN_FILES).write_text(script, "utf-8")


def _site_link(link: str, source: str, page: str) -> str:
    """Return where a link of a file of the repository leads on the site.

    Parameters
    ----------
    link : str
        As it stands in the file.
    source : str
        The file, from the root of the repository.
    page : str
        The page that is made of the file, from the root of the site.
    """
    target, hash_sign, anchor = link.partition("#")
    ours = re.fullmatch(rf"{re.escape(HOME)}/(?:blob|tree|raw)/main/(.+)", target)
    if ours:
        target = ours[1]
    elif not target or re.match(r"\w+:", target):
        return link
    else:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    there = ROOT / target
    if there.is_dir() and (there / "README.md").exists():
        target, there = f"{target}/README.md", there / "README.md"
    if target in TOP_PAGES:
        made = TOP_PAGES[target]
    elif target.startswith("docs/") and there.is_file():
        made = target.removeprefix("docs/")
    else:
        kind = "tree" if there.is_dir() else "blob"
        return f"{HOME}/{kind}/main/{target}{hash_sign}{anchor}"
    relative = posixpath.relpath(made, posixpath.dirname(page) or ".")
    return f"{relative}{hash_sign}{anchor}"


def _run_notebook(notebook: Path) -> None:
    """Run a notebook; write a copy of it with what its cells show."""
    document = nbformat.read(notebook, as_version=4)
    folder = Path(_WRITTEN.name)
    client = NotebookClient(
        document,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    kernel = client.create_kernel_manager()
    kernel.transport = "ipc"  # no port is opened
    kernel.ip = str(folder / "kernel")  # where sockets lie, for both sides
    client.execute()
    first = document.cells[0]
    first.source += f"\n\n[Download the notebook]({notebook.name})"
    nbformat.write(document, folder / notebook.name)


def _report_path(match: re.Match[str]) -> str:
    return f"reports/{match['model']}.html"


def _report(model: str, options: list[str]) -> str:
    """Return the page that ``arena-ckpt report`` writes, which says how high it is."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        command = [sys.executable, "-m", "arena_ckpt", "report", model, *options]
        subprocess.run(
            [*command, "-o", str(file)],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        page = file.read_text("utf-8")
    script = (HERE / "framed.js").read_text("utf-8")
    return page.replace("</body>", f"<script>\n{script}</script>\n</body>")
