"""Execution orders of tensors as text, as NNTrainer records them.

For comparing plans with NNTrainer's own ``*.exegolden`` files, line by line.
"""

from __future__ import annotations

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
    input, and so do their gradients. O(layers + connections), and a sort.

    References
    ----------
    .. [1] NNTrainer, ``test/unittest/unittest_nntrainer_exe_order.cpp``,
       https://github.com/nnstreamer/nntrainer
    """
    orders = _output_orders(plan) | _weight_orders(plan)
    lines = []
    for layer in plan.layers:
        names = [f"{layer.name}:out0", f"{layer.name}:out0:grad"]
        names += [f"{layer.name}:{weight}" for weight in layer.weights]
        names += [f"{layer.name}:{weight}:grad" for weight in layer.weights]
        for name in sorted(name for name in names if name in orders):
            lines.append(", ".join([name, *map(str, sorted(orders[name]))]))
    return "".join(f"{line}\n" for line in lines)


def _output_orders(plan: MemoryPlan) -> dict[str, set[int]]:
    """Return the orders of outputs and their gradients; views share one set."""
    by_name = {layer.name: layer for layer in plan.layers}
    orders: dict[str, set[int]] = {}
    for layer in plan.layers:
        order = plan.execution_order[layer.name]
        out, grad = f"{layer.name}:out0", f"{layer.name}:out0:grad"
        if _is_view(layer, by_name):
            orders[out] = orders[f"{layer.inputs[0]}:out0"]
            orders[grad] = orders[f"{layer.inputs[0]}:out0:grad"]
        else:
            orders[out], orders[grad] = set(), set()
        orders[out].add(order.forward)
        if layer.type_name == "activation":
            orders[out].add(order.calc_derivative)
        if not layer.is_loss:
            orders[grad] |= {order.calc_gradient, order.calc_derivative}
        for source in layer.inputs:
            read = orders[f"{source}:out0"]
            read.add(order.forward)
            if layer.type_name == "fully_connected" and layer.is_trainable:
                read.add(order.calc_gradient)
            if layer.is_loss:
                read.add(order.calc_derivative)
            orders[f"{source}:out0:grad"].add(order.calc_derivative)
    return orders


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
            used = orders[f"{layer.name}:{weight}"] = {order.forward, derivative}
            if trained:
                used |= {order.calc_gradient, order.apply_gradient}
                orders[f"{layer.name}:{weight}:grad"] = {
                    order.calc_gradient,
                    order.apply_gradient,
                }
    return orders
