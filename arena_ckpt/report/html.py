"""The viewer: a memory plan as one HTML page that opens offline.

The page is put together from the files in ``viewer/``, in which nothing refers to
anything outside. Plans are columns of integers, gzipped, in base64; the page's script
reads them with the browser's ``DecompressionStream`` and paints the map into pixels.
Names are only ever set as text.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from arena_ckpt.common.arguments import public_call
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.planning.plan import MemoryPlan, require_plan, require_title
from arena_ckpt.report.columns import plan_columns, vocabulary
from arena_ckpt.report.durations import require_durations
from arena_ckpt.report.explain import explain
from arena_ckpt.report.front_facts import FrontPoint, front_document, points_of
from arena_ckpt.report.palette import THEMES, Theme

SCRIPTS = (
    "decode.js",
    "format.js",
    "axis.js",
    "fold.js",
    "paint.js",
    "pens.js",
    "chart.js",
    "memories.js",
    "inspect.js",
    "compare.js",
    "front.js",
    "frame.js",
    "export.js",
    "search.js",
    "clipboard.js",
    "rows.js",
    "table.js",
    "layering.js",
    "graph.js",
    "links.js",
    "app.js",
)
"""Names of the scripts of the page, in the order in which they are joined."""


@public_call
def plan_html(
    plan: MemoryPlan,
    title: str = "memory plan",
    *,
    before: MemoryPlan | None = None,
    before_title: str = "before",
    same_model: bool = False,
    front: Sequence[FrontPoint] = (),
    budget: str | int | None = None,
    step_seconds: Sequence[float] | None = None,
    before_step_seconds: Sequence[float] | None = None,
) -> str:
    """Return an HTML page that shows a plan.

    Parameters
    ----------
    plan : MemoryPlan
    title : str
        Stands at the head of the page.
    before : MemoryPlan, optional
        Is drawn beside `plan` on the same scales, with what moved the peak.
    before_title : str
        What to call it.
    same_model : bool
        `before` is the plan of the same model that recomputes nothing: the page
        also says what recomputing does.
    front : sequence of FrontPoint
        Plans to choose from, drawn by arena and overhead.
    budget : str or int, optional
        Bytes that are marked on the front, with the fastest plan within them.
    step_seconds, before_step_seconds : sequence of float, optional
        How long each step of `plan` and of `before` takes, as `Model.step_seconds`
        measures it, for the time axis. Without, it has the counted operations.

    Raises
    ------
    InvalidParameterError
        There is not one duration for each step, or one is negative or not finite.

    Returns
    -------
    str
        HTML that refers to nothing outside itself.

    Notes
    -----
    O(n log n) in buffers and operands; some seconds and 1.7 MB for 1e5 buffers.
    """
    require_plan(plan)
    require_title("title", title)
    if before is not None:
        require_plan(before)
        require_title("before_title", before_title)
    points_of(front)
    _require_seconds(plan, step_seconds, before, before_step_seconds)
    sentences = explain(plan, before if same_model else None)
    plans = [(title, plan, sentences, step_seconds)]
    if before is not None:
        plans.append((before_title, before, explain(before), before_step_seconds))
    first_of_front = len(plans)
    plans.extend((point.label, point.plan, [], None) for point in front)
    documents, blobs = [], []
    for name, each, said, seconds in plans:
        document, blob = plan_columns(each, seconds)
        documents.append({"title": name, "sentences": said, **document})
        blobs.append(blob)
    page: dict[str, Any] = {
        "title": title,
        "vocabulary": vocabulary(),
        "themes": {name: _colours(theme) for name, theme in THEMES.items()},
        "plans": documents,
        "has_before": before is not None,
        **front_document(front, first_of_front, budget),
    }
    return _filled_template(title, page, blobs)


def _filled_template(title: str, page: dict[str, Any], blobs: Sequence[str]) -> str:
    """Return the page: the template of the viewer with its scripts and data filled in.

    Parameters
    ----------
    title : str
    page : dict
        What the viewer needs to know, but for the columns of the plans.
    blobs : sequence of str
        The packed columns of each plan.
    """
    viewer = files("arena_ckpt.report") / "viewer"
    parts = {
        "TITLE": html.escape(title),
        "STYLE": (viewer / "viewer.css").read_text("utf-8"),
        "PAGE": _in_base64(json.dumps(page)),
        "BLOBS": "\n".join(
            f'<script type="text/plain" id="plan-{index}">{blob}</script>'
            for index, blob in enumerate(blobs)
        ),
        "SCRIPT": "\n".join((viewer / name).read_text("utf-8") for name in SCRIPTS),
    }
    template = (viewer / "viewer.html").read_text("utf-8")
    pieces = template.split("@@")  # text, name, text, name, … text
    return "".join(
        parts[piece] if index % 2 else piece for index, piece in enumerate(pieces)
    )


def _require_seconds(
    plan: MemoryPlan,
    step_seconds: Sequence[float] | None,
    before: MemoryPlan | None,
    before_step_seconds: Sequence[float] | None,
) -> None:
    """Refuse durations that do not belong to a plan."""
    if step_seconds is not None:
        require_durations(plan, step_seconds)
    if before_step_seconds is None:
        return
    if before is None:
        raise InvalidParameterError(
            "before_step_seconds are durations of a plan that is not given; add "
            "before=, or leave them out"
        )
    require_durations(before, before_step_seconds, "steps before")


def notebook_html(plan: MemoryPlan) -> str:
    """Return the page in a frame, as a cell of a notebook shows it.

    The page makes the frame as high as itself (``viewer/frame.js``); the height here is
    for notebooks that let no script of an output run.
    """
    page = html.escape(plan_html(plan), quote=True)
    return (
        f'<iframe title="memory plan" data-fits-page srcdoc="{page}" '
        'style="width:100%;height:46rem;border:0"></iframe>'
    )


def _in_base64(text: str) -> str:
    """Return text in base64, so that no name in it can end a script element."""
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode("ascii")


def _colours(theme: Theme) -> dict[str, Any]:
    return {
        "kinds": [theme.kinds[kind] for kind in theme.kinds],
        "page": theme.page,
        "free": theme.free,
        "ink": theme.ink,
        "paleInk": theme.pale_ink,
        "rule": theme.rule,
        "bound": theme.bound,
        "hatch": theme.hatch,
        "memories": list(theme.memories),
    }
