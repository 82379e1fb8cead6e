"""Execution orders of tensors as text, as NNTrainer records them.

For comparing plans with NNTrainer's own ``*.exegolden`` files, line by line.
"""

from __future__ import annotations

from arena_ckpt.common.names import gradient_of, output_role, tensor_name
from arena_ckpt.planning.plan import MemoryPlan, PlanLayer

PAST_THE_END = 2**32 - 2
"""Number that NNTrainer writes for an order that the iteration never reaches."""


def exe_order_text(plan: MemoryPlan) -> str:
    """Return the execution orders at which each tensor is used, one line per tensor.

    Parameters
    ----------
    plan : MemoryPlan

    Returns
    -------
    str
        Lines ``name, order, order, …`` with ascending orders: layers in forward order,
        the tensors of each by name, then those of the next.

    Notes
    -----
    The orders are those of NNTrainer's rules, not of this plan's executions, which can
    need a tensor less often:

    ==================  =============================================================
    output              forward of the owner, of an activation also calc_derivative;
                        forward of each reader, its calc_gradient where that is a
                        trained fully connected layer, its calc_derivative where that
                        is the loss
    output's gradient   calc_gradient and calc_derivative of the owner, calc_derivative
                        of each reader; nothing for the loss
    weight              forward, calc_derivative and, where trained, calc_gradient and
                        apply_gradient; before the first trained layer, calc_derivative
                        is past the end
    weight's gradient   calc_gradient and apply_gradient, where trained
    ==================  =============================================================

    The output of a layer with one input that can run in place shares one set with that
    input, and so do their gradients. A plan of inference has the orders of forward
    alone, and no gradients. O(layers + connections), and a sort.

    References
    ----------
    .. [1] NNTrainer, ``test/unittest/unittest_nntrainer_exe_order.cpp``,
       https://github.com/nnstreamer/nntrainer
    """
    orders = _output_orders(plan) | _weight_orders(plan)
    lines = []
    for layer in plan.layers:
        wholes = [_output(layer.name)]
        wholes += [tensor_name(layer.name, weight) for weight in layer.weights]
        names = wholes
        if not plan.is_inference:
            names = [*wholes, *map(gradient_of, wholes)]
        for name in sorted(name for name in names if name in orders):
            lines.append(", ".join([name, *map(str, sorted(orders[name]))]))
    return "".join(f"{line}\n" for line in lines)


def _output_orders(plan: MemoryPlan) -> dict[str, set[int]]:
    """Return the orders of outputs and their gradients; views share one set."""
    by_name = {layer.name: layer for layer in plan.layers}
    orders: dict[str, set[int]] = {}
    for layer in plan.layers:
        order = plan.execution_order[layer.name]
        out = _output(layer.name)
        grad = gradient_of(out)
        if _is_view(layer, by_name):
            source = _output(layer.inputs[0])
            orders[out], orders[grad] = orders[source], orders[gradient_of(source)]
        else:
            orders[out], orders[grad] = set(), set()
        orders[out].add(order.forward)
        if layer.type_name == "activation" and not plan.is_inference:
            orders[out].add(order.calc_derivative)
        if not layer.is_loss:
            orders[grad] |= {order.calc_gradient, order.calc_derivative}
        for source in map(_output, layer.inputs):
            read = orders[source]
            read.add(order.forward)
            if plan.is_inference:
                continue
            if layer.type_name == "fully_connected" and layer.is_trainable:
                read.add(order.calc_gradient)
            if layer.is_loss:
                read.add(order.calc_derivative)
            orders[gradient_of(source)].add(order.calc_derivative)
    return orders


def _output(layer: str) -> str:
    return tensor_name(layer, output_role(0))


def _is_view(layer: PlanLayer, by_name: dict[str, PlanLayer]) -> bool:
    """Say whether NNTrainer lets the output be a view of the one input.

    The output of a loss is none, nor is one that would overwrite the data of an input
    layer.
    """
    return (
        layer.in_place
        and not layer.is_loss
        and len(layer.inputs) == 1
        and bool(by_name[layer.inputs[0]].inputs)
    )


def _weight_orders(plan: MemoryPlan) -> dict[str, set[int]]:
    """Return the execution orders of weights and their gradients."""
    orders: dict[str, set[int]] = {}
    seen_trained = False
    for layer in plan.layers:
        order = plan.execution_order[layer.name]
        trained = layer.is_trainable and bool(layer.weights)
        seen_trained = seen_trained or trained
        derivative = order.calc_derivative if seen_trained else PAST_THE_END
        for weight in layer.weights:
            name = tensor_name(layer.name, weight)
            used = orders[name] = {order.forward}
            if not plan.is_inference:
                used.add(derivative)
            if trained and not plan.is_inference:
                used |= {order.calc_gradient, order.apply_gradient}
                orders[gradient_of(name)] = {order.calc_gradient, order.apply_gradient}
    return orders
