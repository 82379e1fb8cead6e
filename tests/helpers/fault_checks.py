"""The checks of `verify` on a plan of a small net, up to the first that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.verification.batches import Batch, make_batches
from arena_ckpt.verification.check_runner import Check, run_check
from arena_ckpt.verification.checks import Checks
from helpers.plan_surgery import NETS, plan_of


@cache
def batches_of_net(net: str) -> tuple[Batch, ...]:
    model = NETS[net].model()
    return tuple(make_batches(model.compile(), NETS[net].batch_size, 3))


def checks_of(
    net: str,
    plan: MemoryPlan | None = None,
    replan: Callable[[], MemoryPlan] | None = None,
) -> Checks:
    model = NETS[net].model()
    return Checks(
        model,
        plan or plan_of(net),
        list(batches_of_net(net)),
        replan=replan,
    )


def first_defect(checks: Checks) -> Iterator[Check]:
    """Yield the first check that fails; other processes are not asked."""
    for name, check in checks.all():
        if name == "processes":
            continue
        done = run_check(name, check)
        if done.passed is False:
            yield done
            return


def names_a_tensor(finding: str, plan: MemoryPlan) -> bool:
    """Tell whether a tensor, or a weight by its gradient, is named."""
    return any(tensor.name in finding for tensor in plan.tensors)
