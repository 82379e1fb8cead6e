"""The notebook of the documentation, run from top to bottom as a reader runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[NotebookNode]]:
    """Return the outputs of each cell of code, by its id."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler: the notebook builds C")
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    return {c.id: c.outputs for c in notebook.cells if c.cell_type == "code"}


def shown(outputs: list[NotebookNode], kind: str) -> str:
    """Return what a cell shows of one kind; streams are text."""
    if kind == "printed":
        return "".join(o.text for o in outputs if o.output_type == "stream")
    return "".join(o.data.get(kind, "") for o in outputs if "data" in o)


def test_it_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)


def test_nothing_goes_to_standard_error(
    outputs: dict[str, list[NotebookNode]],
) -> None:
    every = [output for each in outputs.values() for output in each]
    assert not [o.text for o in every if o.get("name") == "stderr"]


def test_objects_show_themselves(outputs: dict[str, list[NotebookNode]]) -> None:
    assert "<table" in shown(outputs["model"], "text/html")
    assert "<iframe" in shown(outputs["plan"], "text/html")
    assert "<svg" in shown(outputs["front"], "text/html")
    assert "<svg" in shown(outputs["train"], "text/html")
    assert len(shown(outputs["predict"], "image/png")) > 500


def test_the_story_comes_to_its_end(outputs: dict[str, list[NotebookNode]]) -> None:
    assert "340,608 → 238,208 B, 8.7% more" in shown(outputs["budget"], "printed")
    assert "no plan fits in 150.00 KiB" in shown(outputs["too-small"], "printed")
    assert shown(outputs["bits"], "printed").startswith("True in 340,608 B")
    assert "fits on RP2040" in shown(outputs["board"], "printed")
    assert "240 steps, then status 4" in shown(outputs["build-and-run"], "printed")
    before = shown(outputs["samples"], "printed")
    *_, bits, after = shown(outputs["back"], "printed").splitlines()
    assert bits == "the same bits: True"
    assert share(before) < 0.3
    assert share(after) > 0.8


def share(sentence: str) -> float:
    """Return the share that a sentence begins with, in percent."""
    return float(sentence.partition("%")[0]) / 100
