"""Requests of golden plans: what a file asks for, beside the variants of a model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arena_ckpt.boards import load_board
from arena_ckpt.common.wording import nearest, quote, quoted, shown
from arena_ckpt.errors import BoardFitError, InvalidParameterError
from arena_ckpt.model import Model, copy_of
from arena_ckpt.planning.plan import MemoryPlan

PROPERTIES = ("batch_size", "arithmetic")
"""What of a request is set on the model; the rest is asked of its plan."""

REQUEST = (
    *PROPERTIES,
    *("budget", "max_overhead", "allow", "levels", "keep", "drop"),
    *("constants", "memories", "pin", "mode", "board"),
)
"""What a golden file can request, in the order in which its name says it."""

LONGEST_NAME = 80
"""Maximum number of characters of a request in the name of a file."""


def make_requested(model: Model, request: Mapping[str, object]) -> MemoryPlan:
    """Make the plan that a request in a golden file asks for.

    Parameters
    ----------
    model : Model
        Its batch size and arithmetic are set, where the request has them.
    request : mapping from str to object
    """
    given: dict[str, Any] = {
        name: request[name] for name in PROPERTIES if name in request
    }
    asked: dict[str, Any] = {
        name: value
        for name, value in request.items()
        if name not in (*PROPERTIES, "board")
    }
    if isinstance(pins := asked.get("pin"), dict):  # JSON has lists for tuples
        asked["pin"] = {
            name: tuple(place) if isinstance(place, list) else place
            for name, place in pins.items()
        }
    copy = copy_of(model)
    copy.set_property(**given)
    return copy.make_plan(**asked)


def require_on_board(plan: MemoryPlan, request: Mapping[str, object]) -> None:
    """Refuse a plan that does not fit on the board of its request.

    Raises
    ------
    BoardFitError
    """
    if "board" not in request:
        return
    fit = load_board(str(request["board"])).check(plan)
    if not fit.fits:
        raise BoardFitError(
            f"{' '.join(fit.sentences())} A golden plan for a board has to fit there: "
            "ask for a smaller one, for example --budget board",
            board=fit.board.name,
            fit=fit,
        )


def written_request(request: Mapping[str, object]) -> str:
    """Return a request as the text that a golden file holds.

    Raises
    ------
    InvalidParameterError
        Something that no file can ask for again.
    """
    if "measure" in request:
        raise InvalidParameterError(
            "measure=True times kernels on this machine, and a golden plan has to be "
            "the same on every machine; leave it out",
            request="measure",
        )
    for name in request:
        if name not in REQUEST:
            raise InvalidParameterError(
                f"{quoted(name)} is nothing that a golden plan can ask for"
                f"{nearest(shown(name), REQUEST)}; it can ask for {quote(REQUEST)}",
                request=name,
            )
    try:
        return json.dumps({n: request[n] for n in REQUEST if n in request})
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidParameterError(
            f"request={quoted(request)} cannot be written into a file: {error}; give "
            "numbers, texts, lists and dicts of them",
            request=request,
        ) from None


def parse_golden_request(text: str | None) -> dict[str, Any] | None:
    """Return the request that a golden file holds, or None if it pins a variant.

    Raises
    ------
    ValueError
        It is none that `written_request` writes.
    """
    if text is None:
        return None
    request = json.loads(text)
    if not isinstance(request, dict) or not request or not request.keys() <= {*REQUEST}:
        raise ValueError(f"request is {shown(request)}")
    return request


def request_name(request: Mapping[str, object]) -> str:
    """Return the part of a file's name that says a request: ``"budget-64KiB"``."""
    parts = []
    for name in REQUEST:
        if name not in request:
            continue
        if name == "mode":
            parts.append(str(request[name]))
            continue
        label = name.removesuffix("_size").replace("_", "-")
        value = Path(str(request[name])).stem if name == "board" else request[name]
        parts.append(f"{label}-{_plain(value)}")
    whole = ".".join(parts)
    if len(whole) <= LONGEST_NAME:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{whole[: LONGEST_NAME - 9].rstrip('.-')}-{digest}"


def _plain(value: object) -> str:
    """Return a value in characters that every file system takes."""
    if isinstance(value, dict):
        value = "-".join(f"{name}-{size}" for name, size in value.items())
    elif isinstance(value, list | tuple):
        value = "-".join(map(str, value))
    return re.sub(r"[^A-Za-z0-9%_]+", "-", str(value)).strip("-")
