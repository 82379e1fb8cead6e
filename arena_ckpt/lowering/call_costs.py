"""Counts what kernel calls compute and move: floating-point operations and bytes.

Operations are those that the layers of the plan state for a step. A matrix product
takes as many of them as its operands say; what is left is shared among the other calls
of the step by the bytes that they move. An activation whose function the pass before it
applies has no call, and that pass has its operations. Bytes are those of the operands:
one that is read or written counts once, one that an execution updates twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import Phase
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.lowering.tensor_regions import TensorRegions
from arena_ckpt.operations.activations import ACTIVATIONS
from arena_ckpt.operations.families import blas, chains, updates, windows
from arena_ckpt.operations.regions import Region
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import Access, Execution

_PRODUCTS = {*blas, *chains, updates.sgd_product, windows.matmul_windows}
"""Kernels that are one matrix product, or several of one size."""

_APPLYING = {activation.bias_forward for activation in ACTIVATIONS.values()}
"""Kernels that add a bias and apply the activation that comes next."""


@dataclass(frozen=True, slots=True)
class CallCost:
    """What one kernel call computes and moves.

    Attributes
    ----------
    n_flops : int
        Floating-point operations; a multiply-add counts two.
    n_bytes : int
        Bytes that are read and written.
    """

    n_flops: int
    n_bytes: int


def call_costs(
    plan: MemoryPlan, calls: Sequence[KernelCall], n_samples: int
) -> list[CallCost]:
    """Return the cost of each kernel call of a pass.

    Parameters
    ----------
    plan : MemoryPlan
        The plan that the calls were lowered from.
    calls : sequence of KernelCall
        By ascending step.
    n_samples : int
        Samples of the pass.

    Notes
    -----
    O(calls × operands of their executions).
    """
    regions = TensorRegions(plan)
    flops = {layer.name: layer.flops for layer in plan.layers}
    by_step = {step: [*of] for step, of in groupby(calls, key=lambda call: call.step)}
    costs: list[CallCost] = []
    last: KernelCall | None = None
    for execution in plan.executions:
        counted = n_samples * _counted_flops(execution, flops)
        of_step = by_step.get(execution.step, [])
        if not of_step:
            if last is not None and last.kernel in _APPLYING:
                fused = costs[-1]
                costs[-1] = CallCost(fused.n_flops + counted, fused.n_bytes)
            continue
        last = of_step[-1]
        updated = [*_updated(execution, regions)]
        n_bytes = [*_bytes_of_each(of_step, updated)]
        n_flops = _shared_flops(of_step, n_bytes, counted)
        costs += map(CallCost, n_flops, n_bytes)
    return costs


def _counted_flops(execution: Execution, flops: Mapping[str, Flops]) -> int:
    """Return the operations of an execution for a sample, as its layer states them."""
    of_layer, phase = flops.get(execution.layer, Flops()), execution.phase
    if phase is Phase.FORWARD:
        return of_layer.forward
    if phase is Phase.RECOMPUTE:
        makes_outputs = any(o.is_output and o.access.writes for o in execution.operands)
        return of_layer.forward - (0 if makes_outputs else of_layer.output)
    if phase is Phase.CALC_GRADIENT:
        return of_layer.calc_gradient
    return of_layer.calc_derivative if phase is Phase.CALC_DERIVATIVE else 0


def _shared_flops(
    calls: Sequence[KernelCall], n_bytes: Sequence[int], counted: int
) -> list[int]:
    """Return the operations of each call of a step, which has `counted` of them."""
    shares = [_product_flops(call) for call in calls]
    others = [k for k, share in enumerate(shares) if share is None]
    found = [share or 0 for share in shares]
    rest = max(0, counted - sum(found))
    left_bytes = sum(n_bytes[k] for k in others)
    for k in others:
        part = rest * n_bytes[k] // left_bytes if left_bytes else rest // len(others)
        rest, left_bytes = rest - part, left_bytes - n_bytes[k]
        found[k] = part
    return found


def _product_flops(call: KernelCall) -> int | None:
    """Return the operations of a matrix product; None for any other kernel."""
    if call.kernel not in _PRODUCTS:
        return None
    given = {
        name: operand
        for (name, _), operand in zip(
            call.kernel.parameters, call.operands, strict=True
        )
    }
    sizes = [given.get(name) for name in ("n", "rows", "inner", "columns")]
    if None in sizes:
        sizes = [given.get(name) for name in ("m", "n", "k")]
    if None not in sizes:
        return 2 * math.prod(size for size in sizes if isinstance(size, int))
    matrices = [
        operand.size
        for (_, kind), operand in zip(
            call.kernel.parameters, call.operands, strict=True
        )
        if kind == "Matrix" and isinstance(operand, Region | np.ndarray)
    ]
    # The matrices m × k, k × n and m × n have (m k n)² elements multiplied.
    return 2 * math.isqrt(math.prod(matrices))


def _updated(
    execution: Execution, regions: TensorRegions
) -> Iterator[tuple[str, int, int]]:
    """Yield memory, start and stop of what an execution both reads and writes."""
    for operand in execution.operands:
        if operand.access is Access.UPDATE:
            region = regions.region(operand.tensor)
            start = region.offset_bytes
            yield region.memory, start, start + region.nbytes


def _bytes_of_each(
    calls: Sequence[KernelCall], updated: Sequence[tuple[str, int, int]]
) -> Iterator[int]:
    """Yield the bytes of calls; what parts of one call share is divided among them."""
    place = 0
    while place < len(calls):
        n_parts = calls[place].beside
        parts = calls[place : place + n_parts]
        readers = Counter(
            region
            for part in parts
            for region in {o for o in part.operands if isinstance(o, Region)}
        )
        for part in parts:
            shared = sum(
                region.nbytes * (readers[region] - 1) // readers[region]
                for region in {o for o in part.operands if isinstance(o, Region)}
            )
            yield _bytes_of(part, updated) - shared
        place += n_parts


def _bytes_of(call: KernelCall, updated: Sequence[tuple[str, int, int]]) -> int:
    regions = [operand for operand in call.operands if isinstance(operand, Region)]
    n_bytes = sum(o.nbytes for o in call.operands if isinstance(o, np.ndarray))
    for region in regions:
        is_updated = any(
            memory == region.memory and start <= region.offset_bytes < stop
            for memory, start, stop in updated
        )
        # One in place is there twice already: once to be read and once written.
        is_named_once = regions.count(region) == 1
        n_bytes += region.nbytes * (2 if is_updated and is_named_once else 1)
    return n_bytes
