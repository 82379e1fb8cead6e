"""Recomputes at random, which any plan has to bear."""

from __future__ import annotations

import random

from arena_ckpt import Model
from arena_ckpt.planning.recompute import Rerun, Reruns, saved_tensors


def random_reruns(model: Model, n: int, seed: int) -> Reruns:
    """Any layers before the backward pass of any later one, making any tensors."""
    generator = random.Random(seed)
    nodes = model.compile().nodes
    makers = [
        node
        for node in nodes
        if node.inputs and not node.layer.is_alias and not node.layer.is_loss
    ]
    found = []
    for _ in range(n):
        node = generator.choice(makers)
        tensors = [*node.outputs, *saved_tensors(node)]
        if not tensors:
            continue
        made = generator.sample(tensors, generator.randint(1, len(tensors)))
        before = generator.choice(nodes[nodes.index(node) :]).name
        found.append(Rerun(before, node.name, tuple(sorted(made))))
    return tuple(found)
