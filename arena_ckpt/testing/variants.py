"""The plans of a model that golden files pin, each under a name."""

from __future__ import annotations

from collections.abc import Callable

from arena_ckpt.errors import GoldenFileError
from arena_ckpt.model import Model, without_blocks
from arena_ckpt.plan import MemoryPlan


def golden_variants(model: Model) -> dict[str, Callable[[], MemoryPlan]]:
    """Return what makes each plan of a model that is pinned.

    This is the one place that lists them.
    """
    variants = {"no-blocks": lambda: without_blocks(model).make_plan()}
    if model.blocks:
        variants["named-blocks"] = model.make_plan
    return variants


def make_variant(model: Model, variant: str, where: str) -> MemoryPlan:
    """Make the plan that a golden file pins.

    Raises
    ------
    GoldenFileError
        The model has no such variant, for example no blocks any more.
    """
    variants = golden_variants(model)
    if variant not in variants:
        raise GoldenFileError(
            f"{where} pins the variant {variant!r}, but the model only has "
            f"{', '.join(variants)}; remove the file",
            path=where,
            variant=variant,
        )
    return variants[variant]()
