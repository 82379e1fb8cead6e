"""Write the JSON schema of memory plans from the annotations of `MemoryPlan`.

    python tools/plan_schema.py
    python tools/plan_schema.py --check   # writes nothing; exit code 1 if it differs

Run it whenever a field changes; a test compares the file with what this returns.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

from arena_ckpt.common.json_codec import is_optional
from arena_ckpt.planning.plan import PLAN_FORMAT, PLAN_VERSION, MemoryPlan

PATH = Path(__file__).parents[1] / "arena_ckpt/report/export/plan.schema.json"


def make_schema() -> dict[str, Any]:
    """Return the schema, draft 2020-12, of what `MemoryPlan.to_json` writes."""
    definitions: dict[str, Any] = {}
    reference = _schema_of(MemoryPlan, definitions)["$ref"]
    plan = definitions.pop(reference.rpartition("/")[2])
    head = {
        "format": {"const": PLAN_FORMAT},
        "version": {"const": PLAN_VERSION},
    }
    tail = {
        "proved_optimal": {"type": "boolean"},
        "written_by": {"type": "string"},
        "checksum": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
    }
    properties = head | plan["properties"] | tail
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Memory plan of arena_ckpt",
        "description": "Times are steps, ranges half-open, sizes bytes.",
        **plan,
        "properties": properties,
        "required": [*head, *plan["required"], *tail],
        "$defs": dict(sorted(definitions.items())),
    }


def _schema_of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        options = [_schema_of(option, definitions) for option in arguments]
        return {"anyOf": options}
    if kind is type(None):
        return {"type": "null"}
    if origin is dict:
        values = _schema_of(arguments[1], definitions)
        return {"type": "object", "additionalProperties": values}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": _schema_of(arguments[0], definitions)}
    if origin is tuple:
        return _row([_schema_of(item, definitions) for item in arguments])
    if dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}  # met again within itself
            definitions[kind.__name__] = _record(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if issubclass(kind, enum.Flag):
        return {"type": "integer", "minimum": 0}
    if issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": names[kind]}


def _row(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "array",
        "prefixItems": items,
        "minItems": len(items),
        "maxItems": len(items),
    }


def _record(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return an object for a dataclass, an array for a named tuple."""
    what = {"description": (kind.__doc__ or "").partition("\n")[0]}
    hints = typing.get_type_hints(kind)
    fields = {n: _schema_of(hint, definitions) for n, hint in hints.items()}
    if hasattr(kind, "_fields"):
        titled = [{"title": name, **schema} for name, schema in fields.items()]
        return what | _row(titled)
    return what | {
        "type": "object",
        "properties": fields,
        "required": [n for n in fields if n not in _optional(kind)],
        "additionalProperties": False,
    }


def _optional(kind: Any) -> set[str]:
    """Return the names of the fields that JSON may lack."""
    return {field.name for field in dataclasses.fields(kind) if is_optional(field)}


def main() -> int:
    """Run the tool; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    text = json.dumps(make_schema(), indent=1) + "\n"
    if not parser.parse_args().check:
        PATH.write_text(text, "utf-8")
    elif text != PATH.read_text("utf-8"):
        print(f"{PATH.name} differs from the annotations: run tools/plan_schema.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
