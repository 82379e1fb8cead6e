"""The variants of a model whose plans golden files pin, each under a name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction

from arena_ckpt.common.arguments import public_call, require_value
from arena_ckpt.errors import GoldenFileError
from arena_ckpt.model import Model, without_blocks
from arena_ckpt.planning.plan import MemoryPlan

BUDGETS = {"budget-3-4": Fraction(3, 4), "budget-1-2": Fraction(1, 2)}
"""Budgets of variants: the share of the bytes between the local lower bound and the
arena without blocks that the arena may keep."""


NO_BLOCKS, NAMED_BLOCKS = "no-blocks", "named-blocks"

INFERENCE = "inference"
"""The variant of forward steps alone, which is pinned on demand."""


@public_call
def golden_variants(model: Model) -> dict[str, Callable[[], MemoryPlan]]:
    """Return a function for each pinned plan of a model, by the plan's name.

    This is the one place that lists them. If recomputing can save bytes, there are two
    budgets between the arena without blocks and its local lower bound; whether either
    can be met shows only when it is tried.
    """
    is_model = isinstance(model, Model)
    require_value("model", model, fits=is_model, expected="a Model")
    plain = without_blocks(model)
    variants: dict[str, Callable[[], MemoryPlan]] = {NO_BLOCKS: plain.make_plan}
    if model.blocks:
        variants[NAMED_BLOCKS] = model.make_plan
    plan = plain.make_plan()
    most, least = plan.arena_bytes, plan.local_lower_bound_bytes
    for name, share in BUDGETS.items() if most > least else ():
        budget = least + int(share * (most - least))
        variants[name] = functools.partial(plain.make_plan, budget=budget)
    return variants


def make_variant(
    model: Model, variant: str, where: str, *, to_compare: bool = False
) -> MemoryPlan:
    """Make the plan that a golden file pins.

    With `to_compare` a model that has no blocks any more gives its plan without them,
    so that the difference names the blocks that were removed.

    Raises
    ------
    GoldenFileError
        The model has no such variant, for example no blocks any more.
    """
    if variant == INFERENCE:
        return model.make_plan(mode="inference")
    variants = golden_variants(model)
    if variant == NAMED_BLOCKS and variant not in variants and to_compare:
        return variants[NO_BLOCKS]()
    if variant not in variants:
        raise GoldenFileError(
            f"{where} pins the variant {variant!r}, but the model only has "
            f"{', '.join(variants)}; remove the file",
            path=where,
            variant=variant,
        )
    return variants[variant]()
