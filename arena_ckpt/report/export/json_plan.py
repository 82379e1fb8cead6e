"""Exports a plan as JSON, and the schema that describes the JSON."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

from arena_ckpt.planning.plan import MemoryPlan


def json_bytes(plan: MemoryPlan) -> bytes:
    """Return a plan as JSON, which `MemoryPlan.from_json` reads."""
    return plan.to_json().encode()


def plan_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of what `json_bytes` writes."""
    packed = importlib.resources.files(__package__) / "plan.schema.json"
    schema: dict[str, Any] = json.loads(packed.read_text("utf-8"))
    return schema
