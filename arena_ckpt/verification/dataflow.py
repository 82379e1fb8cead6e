"""Walks a plan over the bytes of its arena; shares no code with the planner.

In stages:

1. Every live range of a tensor lies in one buffer that is as large and lives as long,
   and every buffer lies in its memory, aligned.
2. The steps of an iteration are walked in order, with two passes where it has
   micro-batches. For every byte it is known which value was written there last. A
   write makes a new value; a view, which the layer has to offer, hands the value on. A
   read has to find all bytes of its tensor with the value that the tensor has now, so
   an overlap, a wrong offset, or a missing or late recompute shows at its first reader.
3. With a graph, each step is compared with what its layer needs (`roles`): the tensor
   in every role, gradients and derivatives with all their parts, weights before their
   update, running statistics changed once in a pass, no step missing or twice.

Rules, as `DataflowError.rule` names them:

==============  ======================================================================
``size``        a tensor is not in exactly one buffer, or larger than it
``arena``       a buffer begins before the arena or ends behind it
``alignment``   an offset is no multiple of the alignment
``life``        a step touches a tensor outside its live range, or its buffer's
``unwritten``   a step reads what nobody has written
``stale``       a step reads bytes that hold something else
``in_place``    a step overwrites an operand that its layer does not offer for that
``schedule``    a step is missing, there twice, or in the wrong part of the iteration
``operand``     a role is empty, or another tensor stands in it
``version``     a weight is read after its update, updated not exactly once, a statistic
                moved more or less than once, a gradient read without all its parts
``constant``    a step writes to what lies among the constants
``kept``        a prediction, weight or state is overwritten before it is read
==============  ======================================================================

Takes O(n log n) for n operands, but for `ByteMap`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from arena_ckpt.common.memories import ARENA, CONSTANTS
from arena_ckpt.common.names import CONTROL, output_role, tensor_name
from arena_ckpt.common.phases import Phase
from arena_ckpt.graph.build import Graph
from arena_ckpt.planning.plan import Buffer, MemoryPlan
from arena_ckpt.planning.tensors import (
    PERSISTENT,
    Access,
    Execution,
    Operand,
    TensorKind,
)
from arena_ckpt.verification.byte_map import NOTHING, ByteMap
from arena_ckpt.verification.findings import broken
from arena_ckpt.verification.step_order import StepOrder


@dataclass(frozen=True, slots=True)
class Dataflow:
    """The numbers of tensors, steps, passes, reads and writes that were checked.

    Attributes
    ----------
    n_tensors, n_steps, n_passes : int
    n_reads, n_writes : int
        Operands, over all passes.
    """

    n_tensors: int
    n_steps: int
    n_passes: int
    n_reads: int
    n_writes: int


def check_dataflow(plan: MemoryPlan, graph: Graph | None = None) -> Dataflow:
    """Raise `DataflowError` if a step of a plan reads or writes wrong bytes.

    Parameters
    ----------
    plan : MemoryPlan
    graph : Graph, optional
        Graph that the plan is for. Without it no layer is known to make views, and the
        roles in the plan are not checked.

    Returns
    -------
    Dataflow

    Raises
    ------
    DataflowError
        A rule of the module is broken; the error names it with tensor, step and layer.
    """
    walk = _Walk(plan, graph)
    return walk.run()


class _Walk:
    def __init__(self, plan: MemoryPlan, graph: Graph | None) -> None:
        self.plan = plan
        self.step_order = StepOrder(plan, graph)
        self.buffer_of = _buffers_of_tensors(plan)
        self.starts, size_bytes = _side_by_side(plan)
        self.bytes = ByteMap(size_bytes)
        self.value_of = [NOTHING] * len(plan.tensors)
        self.writers: list[tuple[str, int]] = [("", 0)]  # of each value: when, tensor
        self.views = _views(graph)
        self.n_reads = self.n_writes = 0

    def run(self) -> Dataflow:
        plan = self.plan
        n_passes = min(plan.micro_batches, 2)
        last_reads = [
            (index, "the next iteration")
            for index, tensor in enumerate(plan.tensors)
            if tensor.kind in PERSISTENT or tensor.name == CONTROL
        ]
        for index, _ in last_reads:
            self.require_life(index, 0, len(plan.steps))
            self.write(index, "whatever was before the iteration")
        in_pass = [e for e in plan.executions if e.step < plan.n_pass]
        forward = [e for e in in_pass if e.step < plan.n_forward]
        backward = [e for e in in_pass if e.step >= plan.n_forward]
        for number in range(n_passes):
            self.step_order.begin_pass()
            self.load_data()
            self.execute(forward, is_first=number == 0)
            self.require_prediction()
            self.execute(backward, is_first=number == 0)
        self.execute([e for e in plan.executions if e.step >= plan.n_pass])
        for index, reader in last_reads:
            self.require_kept(index, reader)
        self.step_order.finish(n_passes)
        return Dataflow(
            len(plan.tensors), len(plan.steps), n_passes, self.n_reads, self.n_writes
        )

    # -- bytes -------------------------------------------------------------------------

    def extent(self, tensor: int) -> tuple[int, int]:
        buffer = self.buffer_of[tensor]
        start = self.starts[buffer.memory] + buffer.offset_bytes
        return start, start + self.plan.tensors[tensor].size_bytes

    def write(self, tensor: int, when: str) -> None:
        value = len(self.writers)
        self.writers.append((when, tensor))
        self.bytes.fill(*self.extent(tensor), value)
        self.value_of[tensor] = value

    def load_data(self) -> None:
        """Write the labels and samples, which each pass begins with."""
        for index, tensor in enumerate(self.plan.tensors):
            if tensor.kind is TensorKind.DATA:
                self.require_life(index, 0, 1)
                self.write(index, "the load of the batch")

    def require_life(self, tensor: int, start: int, stop: int) -> None:
        live, buffer = self.plan.tensors[tensor], self.buffer_of[tensor]
        found = max(live.start, buffer.start), min(live.stop, buffer.stop)
        if found[0] > start or found[1] < stop:
            problem = (
                f"{live.name} is needed in steps [{start}, {stop}) and its bytes live "
                f"in [{found[0]}, {found[1]})"
            )
            self.refuse("life", tensor, None, problem)

    def require_prediction(self) -> None:
        """Check that predictions can be read when the forward pass ends."""
        graph, layers = self.step_order.graph, self.plan.layers
        losses = [layer for layer in layers if layer.is_loss]
        last = losses if len(losses) > 1 else layers[-1:]
        names = (
            graph.predictions
            if graph
            else tuple(tensor_name(layer.name, output_role(0)) for layer in last)
        )
        for index, tensor in enumerate(self.plan.tensors):
            if tensor.name in names and tensor.life == 0:
                self.require_life(index, self.plan.n_forward - 1, self.plan.n_forward)
                self.require_kept(index, "whoever asks for the prediction")

    def require_kept(self, tensor: int, reader: str) -> None:
        found = self.bytes.first_other(*self.extent(tensor), self.value_of[tensor])
        if found is not None:
            name = self.plan.tensors[tensor].name
            self.refuse(
                "kept", tensor, None, f"{reader} finds {self.held(found, name)}"
            )

    def held(self, found: tuple[int, int], name: str) -> str:
        """Describe bytes that hold something else than the tensor `name`."""
        place, value = found
        if value == NOTHING:
            return f"byte {place}, of {name}, never written"
        when, tensor = self.writers[value]
        owner = self.plan.tensors[tensor]
        what = f"an earlier value of {name}" if owner.name == name else owner.name
        return f"byte {place}, of {name}, with {what}, written by {when}"

    # -- steps -------------------------------------------------------------------------

    def execute(self, executions: list[Execution], is_first: bool = True) -> None:
        for execution in executions:
            self.step_order.check(execution)
            made: set[int] = set()  # by this step, which may then add to it
            for operand in execution.operands:
                self.check_life(execution, operand)
                if operand.tensor not in made and self.reads(
                    execution, operand, is_first
                ):
                    self.check_read(execution, operand)
                if operand.access is Access.WRITE:
                    made.add(operand.tensor)
            self.check_overwriting(execution)
            for operand in execution.operands:
                if operand.access.writes:
                    self.check_writable(execution, operand)
                    self.write_result(execution, operand)
            self.step_order.count(execution)

    def reads(self, execution: Execution, operand: Operand, is_first: bool) -> bool:
        tensor = self.plan.tensors[operand.tensor]
        if operand.access is Access.WRITE:
            # Samples are there before the layer that brings them in has its step.
            return tensor.kind is TensorKind.DATA
        # The first pass writes the gradients that later ones add to.
        is_accumulated = self.plan.micro_batches > 1 and is_first
        begins = tensor.kind is TensorKind.GRADIENT and is_accumulated
        return not (begins and self.value_of[operand.tensor] == NOTHING)

    def check_life(self, execution: Execution, operand: Operand) -> None:
        tensor = self.plan.tensors[operand.tensor]
        buffer, step = self.buffer_of[operand.tensor], execution.step
        for what, start, stop in (
            ("it", tensor.start, tensor.stop),
            ("its buffer", buffer.start, buffer.stop),
        ):
            if not start <= step < stop:
                does = "writes" if operand.access.writes else "reads"
                problem = (
                    f"{does} {tensor.name} in role {operand.role}, but {what} lives in "
                    f"steps [{start}, {stop})"
                )
                self.refuse("life", operand.tensor, execution, problem)

    def check_read(self, execution: Execution, operand: Operand) -> None:
        tensor, value = operand.tensor, self.value_of[operand.tensor]
        name = self.plan.tensors[tensor].name
        self.n_reads += 1
        if value == NOTHING:
            problem = f"reads {name} in role {operand.role}, which nobody has written"
            self.refuse("unwritten", tensor, execution, problem)
        found = self.bytes.first_other(*self.extent(tensor), value)
        if found is not None:
            held = self.held(found, name)
            problem = f"reads {name} in role {operand.role} and finds {held}"
            self.refuse("stale", tensor, execution, problem)

    def check_writable(self, execution: Execution, operand: Operand) -> None:
        if self.buffer_of[operand.tensor].memory == CONSTANTS:
            name = self.plan.tensors[operand.tensor].name
            problem = (
                f"writes {name} in role {operand.role}, which lies among the constants"
            )
            self.refuse("constant", operand.tensor, execution, problem)

    def check_overwriting(self, execution: Execution) -> None:
        """Check that results overwrite only operands that the layer allows."""
        results = [o for o in execution.operands if o.access.writes]
        if len(execution.operands) < 2 or not results:
            return
        others = [(o, self.extent(o.tensor)) for o in execution.operands]
        for result in results:
            start, stop = self.extent(result.tensor)
            n_replaced = 0
            for other, (low, high) in others:
                if other.tensor == result.tensor or high <= start or stop <= low:
                    continue
                if self.leaves_bytes(execution, result, other):
                    continue
                n_replaced += 1  # another kernel may still read a second one
                if n_replaced == 1 and self.is_offered(execution, result, other):
                    continue
                names = self.plan.tensors
                problem = (
                    f"writes {names[result.tensor].name} (role {result.role}) over "
                    f"{names[other.tensor].name} (role {other.role}), which the layer "
                    "does not offer"
                )
                self.refuse("in_place", other.tensor, execution, problem)

    def leaves_bytes(
        self, execution: Execution, result: Operand, other: Operand
    ) -> bool:
        """Say whether a result is a view, as all that is written there is."""
        if self.extent(result.tensor) != self.extent(other.tensor):
            return False
        if not self.shown_by(execution, result):
            return False
        return not other.access.writes or bool(self.shown_by(execution, other))

    def is_offered(self, execution: Execution, result: Operand, other: Operand) -> bool:
        if self.extent(result.tensor) != self.extent(other.tensor):
            return False
        if other.access.writes:
            return False
        if self.step_order.graph is None:
            return self.buffer_of[result.tensor] is self.buffer_of[other.tensor]
        phase = _offered(execution.phase)
        return any(
            offer.phase is phase
            and offer.result == result.role
            and other.role in offer.operands
            for offer in self.step_order.graph.node(execution.layer).spec.in_place
        )

    def write_result(self, execution: Execution, operand: Operand) -> None:
        tensor = operand.tensor
        self.n_writes += 1
        if self.plan.tensors[tensor].kind is TensorKind.DATA:
            return  # loaded before the pass
        for shown in sorted(self.shown_by(execution, operand)):
            if self.bytes.holds(*self.extent(tensor), self.value_of[shown]):
                self.value_of[tensor] = self.value_of[shown]
                return
        self.write(tensor, self.plan.describe_step(execution.step))

    def shown_by(self, execution: Execution, result: Operand) -> set[int]:
        """Return the operands at the same bytes that a result may be a view of."""
        phase = _offered(execution.phase)
        roles = self.views.get((execution.layer, phase, result.role), ())
        return {
            operand.tensor
            for operand in execution.operands
            if operand.role in roles
            and self.extent(operand.tensor) == self.extent(result.tensor)
        }

    def refuse(
        self, rule: str, tensor: int, execution: Execution | None, problem: str
    ) -> None:
        raise broken(
            self.plan, rule, self.plan.tensors[tensor].name, execution, problem
        )


def _offered(phase: Phase) -> Phase:
    return Phase.FORWARD if phase is Phase.RECOMPUTE else phase


def _views(graph: Graph | None) -> dict[tuple[str, Phase, str], tuple[str, ...]]:
    """Return the roles that each result may be a view of, by layer, phase and role."""
    return {
        (node.name, offer.phase, offer.result): offer.operands
        for node in (graph.nodes if graph else ())
        for offer in node.spec.in_place
        if offer.is_view
    }


def _side_by_side(plan: MemoryPlan) -> tuple[dict[str, int], int]:
    """Return where the memories begin if they lie side by side, and their bytes."""
    starts: dict[str, int] = {}
    end = 0
    for name, size_bytes in memory_sizes(plan).items():
        starts[name] = end
        end += size_bytes
    return starts, end


def memory_sizes(plan: MemoryPlan) -> dict[str, int]:
    """Return the bytes of each memory of a plan: no buffer may end behind them."""
    if plan.rams:
        sizes = {ram.name: ram.size_bytes for ram in plan.rams}
    else:
        sizes = {ARENA: plan.arena_bytes}
    return {**sizes, CONSTANTS: plan.constant_bytes}


def _buffers_of_tensors(plan: MemoryPlan) -> list[Buffer]:
    """Return the buffer of each live range; check the rules that need no steps."""
    found: list[Buffer | None] = [None] * len(plan.tensors)
    sizes = memory_sizes(plan)
    for buffer in plan.buffers:
        end = buffer.offset_bytes + plan.taken_bytes(buffer.size_bytes)
        size = sizes.get(buffer.memory)
        if size is None or buffer.offset_bytes < 0 or end > size:
            what = "an arena" if buffer.memory == ARENA else repr(buffer.memory)
            problem = (
                f"{buffer.tensor} takes bytes [{buffer.offset_bytes}, {end}) of {what} "
                f"of {size or 0}"
            )
            raise broken(plan, "arena", buffer.tensor, None, problem)
        if buffer.offset_bytes % plan.alignment_bytes:
            problem = (
                f"{buffer.tensor} begins at {buffer.offset_bytes}, no multiple of "
                f"{plan.alignment_bytes}"
            )
            raise broken(plan, "alignment", buffer.tensor, None, problem)
        for index in buffer.tensors:
            name = plan.tensors[index].name
            if found[index] is not None:
                problem = f"{name} (life {index}) is in two buffers"
                raise broken(plan, "size", name, None, problem)
            found[index] = buffer
    result = []
    for tensor, own in zip(plan.tensors, found, strict=True):
        # NumPy is asked, as the planner asks the table of dtypes.
        exact = math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
        if own is None:
            problem = f"{tensor.name} (life {tensor.life}) is in no buffer"
        elif exact != tensor.size_bytes or exact > own.size_bytes:
            problem = (
                f"{tensor.name} has {exact} bytes, is planned with "
                f"{tensor.size_bytes}, and its buffer has {own.size_bytes}"
            )
        else:
            result.append(own)
            continue
        raise broken(plan, "size", tensor.name, None, problem)
    return result
