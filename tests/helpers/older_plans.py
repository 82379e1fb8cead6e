"""Plans as earlier versions of the format stated them."""

from __future__ import annotations

import json

from arena_ckpt.planning.plan import MemoryPlan, checksum

NEW_IN_6 = ("written_by", "arithmetic", "training")


def older_text(plan: MemoryPlan, version: int) -> str:
    """Return the JSON text of a plan in format version 4 or 5."""
    document = json.loads(plan.to_json()) | {"version": version}
    for key in NEW_IN_6:
        document.pop(key, None)
    for layer in document["layers"]:
        layer.pop("properties", None)
    document["checksum"] = checksum(document)
    return json.dumps(document, indent=1) + "\n"
