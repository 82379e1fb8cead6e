"""Models of random architecture and sizes, and what `soak` does with them.

All is drawn from the generator that is passed in, so a model can come again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np

import arena_ckpt as ac
from arena_ckpt.examples import networks
from arena_ckpt.model import without_blocks
from arena_ckpt.planning.batch_statistics import can_train_on

# -- architectures ---------------------------------------------------------------------


def _mlp(drawn: random.Random) -> ac.Model:
    model = ac.Model(drawn.randrange(2**32))
    model.add_layer("input", name="in", input_shape=(1, 1, drawn.randint(1, 300)))
    names: list[str] = []
    for i in range(drawn.randint(1, 8)):
        names.append(f"fc{i}")
        activation = drawn.choice((None, "relu", "gelu", "tanh", "sigmoid"))
        values = {} if activation is None else {"activation": activation}
        model.add_layer(
            "fully_connected", name=names[-1], unit=drawn.randint(1, 200), **values
        )
    if len(names) > 2 and drawn.random() < 0.5:
        cut = drawn.randint(2, len(names))
        model.add_checkpoint_block(names[:cut])
    if drawn.random() < 0.5:
        model.add_layer("mse", name="loss")
    else:
        model.add_layer("cross_softmax", name="loss")
    return model


def _convolutions(drawn: random.Random) -> ac.Model:
    stages = [(drawn.randint(2, 8), 1)]
    if drawn.random() < 0.5:
        stages.append((drawn.randint(2, 12), 1))
    return networks.resnet(
        tuple(stages),
        shape=(drawn.randint(1, 3), 8, drawn.choice((8, 12))),
        classes=drawn.randint(2, 10),
        checkpoint=drawn.random() < 0.5,
        seed=drawn.randrange(2**32),
    )


def _transformer(drawn: random.Random) -> ac.Model:
    heads = drawn.choice((1, 2, 4))
    return networks.transformer(
        n_layers=drawn.randint(1, 3),
        d=heads * drawn.randint(2, 10),
        heads=heads,
        ff=drawn.randint(4, 80),
        length=drawn.randint(1, 20),
        is_causal=drawn.random() < 0.5,
        checkpoint=drawn.random() < 0.5,
        seed=drawn.randrange(2**32),
    )


def _gpt(drawn: random.Random) -> ac.Model:
    heads = drawn.choice((1, 2))
    return networks.gpt(
        n_layers=drawn.randint(1, 2),
        d=heads * drawn.randint(2, 12),
        heads=heads,
        ff=drawn.randint(4, 40),
        length=drawn.randint(2, 16),
        vocabulary=drawn.randint(8, 40),
        dropout=drawn.choice((0.0, 0.25)),
        checkpoint=drawn.random() < 0.5,
        seed=drawn.randrange(2**32),
    )


def _gru(drawn: random.Random) -> ac.Model:
    return networks.keyword_gru(
        unit=drawn.randint(1, 40),
        steps=drawn.randint(1, 12),
        features=drawn.randint(1, 12),
        classes=drawn.randint(2, 12),
        unroll=drawn.random() < 0.3,
        seed=drawn.randrange(2**32),
    )


def _autoencoder(drawn: random.Random) -> ac.Model:
    return networks.autoencoder(
        width=drawn.randint(2, 300),
        hidden=drawn.randint(2, 100),
        code=drawn.randint(1, 8),
        checkpoint=drawn.random() < 0.5,
        seed=drawn.randrange(2**32),
    )


BUILDERS: tuple[Callable[[random.Random], ac.Model], ...] = (
    *(_mlp, _mlp, _autoencoder, _convolutions, _transformer, _gpt, _gru),
)
"""Some more often than others."""


# -- settings, data -------------------------------------------------------------------


def change(model: ac.Model, drawn: random.Random) -> None:
    """Give a model another optimizer and other properties."""
    batch_size = drawn.randint(1, 12)
    model.set_property(
        batch_size=batch_size,
        micro_batches=drawn.randint(1, min(3, batch_size)),
        threads=drawn.choice((1, 1, 2)),
        drop_last=drawn.random() < 0.3,
        memory_optimization=drawn.random() < 0.9,
    )
    micro_batches = model.get_property("micro_batches")
    if not can_train_on(model.compile(), batch_size, -(-batch_size // micro_batches)):
        model.set_property(batch_size=max(batch_size, 2), micro_batches=1)
    if drawn.random() < 0.3:
        model.set_property(clip_grad_by_norm=1.0)
    model.set_learning_rate_scheduler(None)
    model.set_optimizer(
        drawn.choice(("sgd", "adam", "adamw")),
        learning_rate=10.0 ** -drawn.randint(3, 5),
    )


def request_for(model: ac.Model, drawn: random.Random) -> dict[str, Any]:
    """Return how to choose a plan: most often with a budget or a time."""
    if not model.get_property("memory_optimization") or drawn.random() < 0.4:
        return {}
    if drawn.random() < 0.3:
        return {"max_overhead": drawn.choice((0.1, 0.5))}
    plain = without_blocks(model).make_plan()
    most, least = plain.arena_bytes, plain.local_lower_bound_bytes
    share = drawn.choice((0.0, 0.3, 0.6, 0.9, 1.1))
    request: dict[str, Any] = {"budget": most - int(share * (most - least))}
    if drawn.random() < 0.3:
        request["allow"] = ["recompute", "in_place", "layerwise_update", "micro_batch"]
    return request


def data_for(session: Any, generator: np.random.Generator, n: int) -> tuple[Any, Any]:
    """Make samples for every input, and labels."""
    x = {}
    for name, shape in session.inputs.items():
        if _is_ids(session, name):
            values = generator.integers(0, 8, (n, math.prod(shape)))
        else:
            values = generator.normal(size=(n, math.prod(shape)))
        x[name] = values.astype(np.float32)
    _, rows, width = session.output_shape
    elems = math.prod(session.output_shape)
    loss = session.loss_layer
    if loss.type_name != "cross_softmax":
        return x, generator.normal(size=(n, elems)).astype(np.float32)
    if loss["per_token"]:
        return x, generator.integers(0, width, (n, rows))
    return x, generator.integers(0, elems, n)


def _is_ids(session: Any, name: str) -> bool:
    return any(
        node.layer.type_name == "embedding" and node.sources == (f"{name}:out0",)
        for node in session.graph.nodes
    )


def rows(x: dict[str, Any], n: int) -> dict[str, Any]:
    """Return the first `n` samples."""
    return {name: values[:n] for name, values in x.items()}
