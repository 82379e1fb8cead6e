"""Writes memory plans in the formats of other tools, one module per format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.wording import nearest, quoted, shown
from arena_ckpt.errors import InvalidParameterError, UnknownFormatError
from arena_ckpt.planning.plan import MemoryPlan, require_plan
from arena_ckpt.report.durations import TimedCall
from arena_ckpt.report.export.c_header import c_header_bytes
from arena_ckpt.report.export.chrome_trace import chrome_trace_bytes
from arena_ckpt.report.export.dot import dot_bytes
from arena_ckpt.report.export.json_plan import json_bytes, plan_schema
from arena_ckpt.report.export.tables_csv import csv_bytes, minimalloc_bytes
from arena_ckpt.report.export.torch_snapshot import torch_snapshot_bytes

__all__ = ["FORMATS", "ExportFormat", "export_plan", "find_format", "plan_schema"]


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A format that plans can be exported to.

    Attributes
    ----------
    description : str
    write : callable
        Turns a plan into the bytes of a file.
    is_text : bool
        A terminal can show it.
    """

    description: str
    write: Callable[[MemoryPlan], bytes]
    is_text: bool = True


FORMATS: dict[str, ExportFormat] = {
    "json": ExportFormat("the whole plan; a JSON schema comes with it", json_bytes),
    "minimalloc-csv": ExportFormat(
        "live ranges and offsets as google/minimalloc reads them", minimalloc_bytes
    ),
    "csv": ExportFormat("a row for each buffer with all that is known", csv_bytes),
    "chrome-trace": ExportFormat(
        "live bytes by kind and layers over time, for ui.perfetto.dev",
        chrome_trace_bytes,
    ),
    "torch-snapshot": ExportFormat(
        "a pickle for pytorch.org/memory_viz", torch_snapshot_bytes, is_text=False
    ),
    "dot": ExportFormat("the graph and its checkpoint blocks, for Graphviz", dot_bytes),
    "c-header": ExportFormat(
        "offsets, sizes and execution orders as C99 constants", c_header_bytes
    ),
}
"""The formats by the name that stands behind ``--to``."""


def find_format(name: str) -> ExportFormat:
    """Return a format by its name.

    Raises
    ------
    UnknownFormatError
        No such format; the nearest one is named.
    """
    if not isinstance(name, str) or name not in FORMATS:
        raise UnknownFormatError(
            f"there is no format {quoted(name)}{nearest(shown(name), FORMATS)}; plans "
            f"can be exported to {', '.join(FORMATS)}",
            format=name,
            known=tuple(FORMATS),
        )
    return FORMATS[name]


@public_call
def export_plan(
    plan: MemoryPlan,
    to: str,
    *,
    name: str = "arena",
    step_seconds: Sequence[float] | None = None,
    timed_calls: Sequence[TimedCall] | None = None,
) -> bytes:
    """Return a plan in one of the `FORMATS`, as bytes.

    Parameters
    ----------
    plan : MemoryPlan
    to : str
        A key of `FORMATS`.
    name : str
        Name of the model, with which identifiers in a C header begin.
    step_seconds : sequence of float, length of `plan.steps`, optional
        Measured durations for a Chrome trace.
    timed_calls : sequence of ProfiledCall, optional
        The calls of a profile of this plan, for a Chrome trace with its kernels.

    Returns
    -------
    bytes
        The same for equal plans, in every process.

    Raises
    ------
    UnknownFormatError
        No such format; the nearest one is named.
    InvalidParameterError
        Durations for a format that has no time, or that do not fit the plan.
    """
    require_plan(plan)
    chosen = find_format(to)
    has_durations = step_seconds is not None or timed_calls is not None
    if has_durations and to != "chrome-trace":
        raise InvalidParameterError(
            f"{to} shows no durations; leave them out, or export to chrome-trace",
            format=to,
        )
    if to == "chrome-trace":
        return chrome_trace_bytes(plan, step_seconds, timed_calls)
    if to == "c-header":
        return c_header_bytes(plan, name)
    return chosen.write(plan)
