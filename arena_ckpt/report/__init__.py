"""Memory plans as tables, sentences and plain dicts."""

from arena_ckpt.report.explain import explain
from arena_ckpt.report.tables import (
    biggest_table,
    comparison_table,
    execution_order_table,
    front_table,
    kind_table,
    plan_summary,
    recomputed_layers,
    totals_table,
)

__all__ = [
    "biggest_table",
    "comparison_table",
    "execution_order_table",
    "explain",
    "front_table",
    "kind_table",
    "plan_summary",
    "recomputed_layers",
    "totals_table",
]
