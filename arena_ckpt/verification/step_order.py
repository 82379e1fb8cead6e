"""Checks that every step is there, in its place, with the right versions of tensors.

This is the part of `dataflow` that compares steps with the layers of a graph; without a
graph it compares nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from arena_ckpt.common.names import (
    gradient_of,
    input_role,
    role_of,
    tensor_name,
    total_of,
    weight_of,
)
from arena_ckpt.common.phases import Phase
from arena_ckpt.errors import DataflowError
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.nodes import Node
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import (
    PERSISTENT,
    Access,
    Execution,
    Operand,
    TensorKind,
)
from arena_ckpt.verification.findings import broken
from arena_ckpt.verification.roles import (
    Need,
    n_contributions,
    needs_of,
    state_moves,
)

_ONCE = (Phase.FORWARD, Phase.CALC_GRADIENT, Phase.CALC_DERIVATIVE)


class StepOrder:
    """Follows the steps of one iteration and checks their order.

    Parameters
    ----------
    plan : MemoryPlan
    graph : Graph or None
    """

    def __init__(self, plan: MemoryPlan, graph: Graph | None) -> None:
        self.plan = plan
        self.graph = graph
        self._seen: set[tuple[Phase, str]] = set()
        self._parts: Counter[str] = Counter()  # of derivatives, in this pass
        self._added: Counter[str] = Counter()  # of weight gradients, in all passes
        self._updates: Counter[str] = Counter()  # of weights, states and statistics
        self._n_passes = 0
        if graph is None:
            return
        trains = not plan.is_inference
        self._contributions = n_contributions(graph) if trains else {}
        self._moves = state_moves(graph) if trains else {}
        self._tiled = {
            tensor_name(e.layer, gradient_of(w.name))
            for e in plan.executions
            if e.phase is Phase.APPLY_GRADIENT
            for w in graph.node(e.layer).spec.trained_weights
            if w.gradient_factors and e.operand(gradient_of(w.name)) is None
        }
        self._states: dict[str, list[str]] = {}
        for tensor in plan.tensors:
            if tensor.kind is TensorKind.OPTIMIZER_STATE:
                weight = weight_of(tensor.name)
                self._states.setdefault(weight, []).append(tensor.name)

    def begin_pass(self) -> None:
        """Forget what every pass does again."""
        self._seen.clear()
        self._parts.clear()
        self._n_passes += 1

    def check(self, execution: Execution) -> None:
        """Check a step before it runs.

        Raises
        ------
        DataflowError
        """
        if self.graph is None:
            return
        self._check_place(execution)
        if execution.phase is Phase.CLIP_GRADIENTS:
            needs = [n for node in self.graph.nodes for n in self._applied(node)]
            self._check_operands(execution, needs)
        else:
            node = self.graph.node(execution.layer)
            is_inference = self.plan.is_inference
            needs = needs_of(
                self.graph, node, execution.phase, is_inference=is_inference
            )
            needs += self._gradient_needs(execution, node)
            self._check_operands(execution, needs)
        for operand in execution.operands:
            self._check_version(execution, operand)

    def count(self, execution: Execution) -> None:
        """Record what a step has changed."""
        if self.graph is None:
            return
        for operand in execution.operands:
            tensor = self.plan.tensors[operand.tensor]
            if not operand.access.writes:
                continue
            if tensor.kind is TensorKind.DERIVATIVE:
                self._add(self._parts, tensor.name, operand)
            elif tensor.kind is TensorKind.GRADIENT:
                self._add(self._added, tensor.name, operand)
            elif tensor.kind in PERSISTENT:
                self._updates[tensor.name] += 1
        self._seen.add((execution.phase, execution.layer))

    def finish(self, n_passes: int) -> None:
        """Check that no step is missing when the iteration ends.

        Raises
        ------
        DataflowError
        """
        if self.graph is None:
            return
        phases = (*_ONCE, Phase.APPLY_GRADIENT)
        for node in self.graph.nodes:
            for phase in phases[:1] if self.plan.is_inference else phases:
                if node.runs(phase) and (phase, node.name) not in self._seen:
                    raise self._missing(node, phase)
            for weight in node.own_weights:
                name = tensor_name(node.name, weight.name)
                self._check_updates(node, name, n_passes)

    def _missing(self, node: Node, phase: Phase) -> DataflowError:
        if phase is Phase.FORWARD:
            tensor = node.outputs[0]
        elif phase is Phase.CALC_DERIVATIVE:
            tensor = gradient_of(node.sources[node.derived_inputs[0]])
        else:
            weight = tensor_name(node.weights_of, node.spec.trained_weights[0].name)
            tensor = weight if phase is Phase.APPLY_GRADIENT else gradient_of(weight)
        problem = f"the {phase.value} of {node.name} is missing, which makes {tensor}"
        return broken(self.plan, "schedule", tensor, None, problem, layer=node.name)

    # -- places ------------------------------------------------------------------------

    def _check_place(self, execution: Execution) -> None:
        plan, phase = self.plan, execution.phase
        tensor = next(
            (
                plan.tensors[o.tensor].name
                for o in execution.operands
                if o.access.writes
            ),
            execution.layer,
        )
        problem = None
        if phase in (*_ONCE, Phase.APPLY_GRADIENT):
            if (phase, execution.layer) in self._seen:
                problem = "runs a second time"
        if phase is Phase.RECOMPUTE:
            assert self.graph is not None
            if self.graph.node(execution.layer).layer.is_loss:
                problem = "adds the loss a second time"
        in_forward = execution.step < plan.n_forward
        if (phase is Phase.FORWARD) is not in_forward:
            problem = f"is in the wrong part: the forward pass ends at {plan.n_forward}"
        after_passes = execution.step >= plan.n_pass
        if after_passes and phase not in (Phase.APPLY_GRADIENT, Phase.CLIP_GRADIENTS):
            problem = f"runs after the pass, which ends at {plan.n_pass}"
        if plan.micro_batches > 1 and not after_passes:
            if phase in (Phase.APPLY_GRADIENT, Phase.CLIP_GRADIENTS):
                problem = "runs in each micro-batch, before the gradients are whole"
        if problem:
            problem = f"(it writes {tensor}) {problem}"
            raise broken(plan, "schedule", tensor, execution, problem)

    # -- roles -------------------------------------------------------------------------

    def _gradient_needs(self, execution: Execution, node: Node) -> Iterator[Need]:
        """Yield the operands that depend on other layers adding to the same tensor."""
        if execution.phase is Phase.CALC_GRADIENT:
            for weight in node.spec.trained_weights:
                name = tensor_name(node.weights_of, weight.name)
                gradient = gradient_of(name)
                if gradient not in self._tiled:
                    yield Need(gradient_of(weight.name), (gradient,), False, True)
                    if weight.regularizer_constant and node.own_weights:
                        yield Need(weight.name, (name,))
        elif execution.phase is Phase.CALC_DERIVATIVE:
            for place in node.derived_inputs:
                role = gradient_of(input_role(place))
                total = gradient_of(node.sources[place])
                if execution.operand(total_of(role)):
                    yield Need(role, (tensor_name(node.name, role),), False, True)
                    yield Need(total_of(role), (total,), True, True)
                else:
                    yield Need(role, (total,), False, True)
        elif execution.phase is Phase.APPLY_GRADIENT:
            yield from self._applied(node, own_roles=True)
            for weight in node.spec.trained_weights:
                name = tensor_name(node.weights_of, weight.name)
                yield Need(weight.name, (name,), True, True)
                for state in self._states.get(name, ()):
                    yield Need(role_of(state), (state,), True, True)
                if gradient_of(name) in self._tiled:
                    for factor in weight.gradient_factors or ():
                        yield Need(factor, (node.tensor_in(factor),))

    def _applied(self, node: Node, *, own_roles: bool = False) -> Iterator[Need]:
        """Yield the weight gradients that the update of a layer reads."""
        for weight in node.spec.trained_weights if node.updates else ():
            role = gradient_of(weight.name)
            name = tensor_name(node.weights_of, role)
            if name not in self._tiled:
                yield Need(role if own_roles else name, (name,))

    def _check_operands(self, execution: Execution, needs: list[Need]) -> None:
        tensors = self.plan.tensors
        known: dict[str, list[str]] = {}
        for need in needs:
            known.setdefault(need.role, []).extend(need.tensors)
            if not any(
                o.role == need.role
                and tensors[o.tensor].name in need.tensors
                and (o.access is not Access.WRITE or not need.reads)
                and (o.access.writes or not need.writes)
                for o in execution.operands
            ):
                does = _does(need)
                has = execution.operand(need.role)
                found = "nothing" if has is None else tensors[has.tensor].name
                if has is not None and found in need.tensors:
                    found = f"a {has.access.value} of it"
                problem = (
                    f"{does} {need.tensors[0]} in role {need.role}, where the plan has "
                    f"{found}"
                )
                raise broken(self.plan, "operand", need.tensors[0], execution, problem)
        for operand in execution.operands:
            tensor = tensors[operand.tensor]
            if tensor.name in known.get(operand.role, ()):
                continue
            if tensor.kind is TensorKind.WORKSPACE or self._is_remade(
                execution, tensor.name
            ):
                continue
            problem = (
                f"has no use for {tensor.name} in role {operand.role}, where the plan "
                "has it"
            )
            raise broken(self.plan, "operand", tensor.name, execution, problem)

    def _is_remade(self, execution: Execution, name: str) -> bool:
        """Say whether a recompute makes an output that it could leave out."""
        assert self.graph is not None
        if execution.phase is not Phase.RECOMPUTE:
            return False
        return name in self.graph.node(execution.layer).outputs

    # -- versions ----------------------------------------------------------------------

    def _check_version(self, execution: Execution, operand: Operand) -> None:
        tensor = self.plan.tensors[operand.tensor]
        name, kind = tensor.name, tensor.kind
        problem = None
        if kind is TensorKind.WEIGHT and name not in self._moves:
            if self._updates[name]:
                again = "updates" if operand.access.writes else "reads"
                problem = f"{again} {name} after its update in this iteration"
        elif operand.access is not Access.READ:
            return
        elif kind is TensorKind.DERIVATIVE and name in self._contributions:
            if self._parts[name] != self._contributions[name]:
                problem = (
                    f"reads {name} with {self._parts[name]} of its "
                    f"{self._contributions[name]} parts"
                )
        elif kind is TensorKind.GRADIENT:
            expected = self._n_passes * self._contributions.get(name, 0)
            if self._added[name] != expected:
                problem = (
                    f"reads {name} with {self._added[name]} of its {expected} parts, "
                    f"from {self._n_passes} passes"
                )
        if problem:
            raise broken(self.plan, "version", name, execution, problem)

    def _add(self, counts: Counter[str], name: str, operand: Operand) -> None:
        counts[name] = 1 if operand.access is Access.WRITE else counts[name] + 1

    def _check_updates(self, node: Node, weight: str, n_passes: int) -> None:
        assert self.graph is not None
        moves = self._moves.get(weight, 0) * n_passes
        trained = {tensor_name(node.name, w.name) for w in node.spec.trained_weights}
        is_trained = weight in trained and gradient_of(weight) in self._contributions
        for name in (weight, *self._states.get(weight, ())):
            expected = 1 if is_trained else moves
            if self._updates[name] != expected:
                raise broken(
                    self.plan,
                    "version",
                    name,
                    None,
                    f"{name} changes {self._updates[name]} times in an iteration of "
                    f"{n_passes} passes; expected {expected}",
                    layer=node.name,
                )


def _does(need: Need) -> str:
    if need.reads and need.writes:
        return "has to update"
    return "has to write" if need.writes else "has to read"
