"""Models of which only the last layers with weights are trained."""

from __future__ import annotations

from arena_ckpt import Model


def head_only(model: Model, n_trained: int = 1, **properties: object) -> Model:
    """Return a copy in which all but the last layers with weights are frozen.

    Layers that share a weight are frozen together, or not at all.

    Parameters
    ----------
    model : Model
        Not initialized; its checkpoint blocks are left out.
    n_trained : int
        Number of layers with weights that are trained.
    **properties
        Of the model, for example ``batch_size=1``.
    """
    owners = {
        node.name: node.weights_of
        for node in model.compile().nodes
        if node.spec.weights
    }
    trained = list(owners.values())[len(owners) - n_trained :]
    copy = Model(model.seed)
    for layer in model.layers:
        frozen = layer.name in owners and owners[layer.name] not in trained
        copy.add_layer(layer.with_values(trainable=False) if frozen else layer)
    copy.set_property(**{**model.properties, **properties})
    copy.set_optimizer(model.optimizer)
    if model.schedule is not None:
        copy.set_learning_rate_scheduler(model.schedule)
    return copy
