"""Random graphs whose tensors are all of one size, so that any two could share bytes.

Nothing is compiled for them: they are planned, and their plans are walked.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from arena_ckpt import Model
from arena_ckpt.graph.build import Graph
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.planner import make_plan
from arena_ckpt.planning.recompute import Rerun, Reruns, block_reruns, saved_tensors
from arena_ckpt.planning.settings import DEFAULT_WAYS
from arena_ckpt.verification.dataflow import check_dataflow

FUNCTIONS = ("relu", "gelu", "sigmoid", "softmax", "none")
PAIRS = ("subtract", "subtract", "multiply", "divide", "swiglu", "add")
NORMS = ("layer_normalization", "rms_norm", "batch_normalization")


class _Growing:
    """A graph under construction, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.model = Model()
        self.model.add_layer("input", name="in", input_shape="1:1:4")
        self.outputs = ["in"]
        self.unread = {"in": None}

    def add(self, kind: str, sources: Sequence[str], **values: Any) -> None:
        """Add a layer; its further outputs are called ``name(1)``, ``name(2)``."""
        name = f"n{len(self.model.layers)}"
        self.model.add_layer(kind, name=name, input_layers=list(sources), **values)
        for source in sources:
            self.unread.pop(source, None)
        n_outputs = len(sources) if kind == "identity" else 1
        for output in (f"{name}({k})" if k else name for k in range(n_outputs)):
            self.outputs.append(output)
            self.unread[output] = None

    def source(self) -> str:
        """Return an output, of the latest ones more often than of others."""
        late = self.random.random() < 0.7
        return self.random.choice(self.outputs[-3:] if late else self.outputs)

    def grow(self) -> None:
        kind = self.random.randrange(9)
        first, second = self.source(), self.source()
        if kind <= 1:
            trains = self.random.random() < 0.6
            self.add("fully_connected", [first], unit=4, trainable=trains)
        elif kind <= 3:
            function = self.random.choice(FUNCTIONS)
            self.add("activation", [first], activation=function)
        elif kind == 4:
            more = [self.source() for _ in range(self.random.randrange(4))]
            self.add("addition", [first, *more])
        elif kind <= 6:
            self.add(self.random.choice(PAIRS), [first, second])
        elif kind == 7:
            self.add(*self.random.choice((("flatten", [first]), self.copies(first))))
        else:
            one = self.random.choice((*NORMS, "negative", "dropout"))
            values = {"layer_normalization": {"axis": 3}, "dropout": {}}.get(one, {})
            if one == "dropout":
                values = {"dropout_rate": self.random.choice((0.0, 0.25))}
            self.add(one, [first], **values)

    def copies(self, first: str) -> tuple[str, list[str]]:
        return "identity", [first, *(self.source() for _ in range(2))]

    def done(self) -> Model:
        """Bring together what nobody reads; add loss, blocks and settings."""
        model, choose = self.model, self.random.choice
        self.add("addition", list(self.unread))
        self.add("fully_connected", self.outputs[-1:], unit=4)
        self.add(choose(("mse", "cross_softmax", "cross_sigmoid")), self.outputs[-1:])
        names = [node.name for node in model.compile().nodes]
        for start, stop in self.cuts(len(names) - 1):
            model.add_checkpoint_block(names[start:stop])
        model.set_property(batch_size=4, micro_batches=choose((1, 1, 2)))
        if self.random.random() < 0.2:
            model.set_property(clip_grad_by_norm=1.0)
        if self.random.random() < 0.5:
            model.set_optimizer("sgd", momentum=0.9)
        return model

    def cuts(self, n_names: int) -> list[tuple[int, int]]:
        """Return up to three stretches of at least two layers."""
        n_cuts = self.random.randrange(5)
        places = sorted(self.random.sample(range(n_names), min(n_cuts, n_names)))
        pairs = itertools.pairwise(places)
        return [(start, stop) for start, stop in pairs if stop - start >= 2]


def sharing_model(seed: int) -> Model:
    """Return a random model of up to twelve layers and its checkpoint blocks."""
    graph = _Growing(seed)
    for _ in range(graph.random.randrange(2, 11)):
        graph.grow()
    return graph.done()


def random_reruns(graph: Graph, seed: int) -> Reruns:
    """Return reruns of some layers at random places, also of one layer twice."""
    chosen = random.Random(seed)
    found: dict[int, list[Rerun]] = {}
    runnable = [
        (place, node)
        for place, node in enumerate(graph.nodes)
        if node.inputs and node.outputs and not node.layer.is_loss
    ]
    for _ in range(chosen.randrange(1, 5)):
        place, node = chosen.choice(runnable)
        before = chosen.randrange(place, len(graph.nodes))
        made = [*node.outputs, *saved_tensors(node)]
        tensors = tuple(sorted(chosen.sample(made, chosen.randint(1, len(made)))))
        rerun = Rerun(graph.nodes[before].name, node.name, tensors)
        found.setdefault(before, []).append(rerun)
    return tuple(rerun for before in sorted(found) for rerun in found[before])


def check_sharing(seed: int) -> int:
    """Plan a random model in three ways and walk its plans; return the sharers.

    Raises
    ------
    DataflowError
        A step finds bytes that another has written over.
    """
    model = sharing_model(seed)
    graph = model.compile()
    n_sharers = 0
    for reruns, ways in (
        (block_reruns(graph, graph.blocks), DEFAULT_WAYS),
        (random_reruns(graph, seed), DEFAULT_WAYS),
        ((), DEFAULT_WAYS - {"layerwise_update"}),
    ):
        settings = replace(ModelPlans(model).settings(), ways=ways)
        plan = make_plan(graph, settings, reruns, layout_nodes=1)
        check_dataflow(plan, graph)
        n_sharers += sum(len(buffer.tensors) - 1 for buffer in plan.buffers)
    return n_sharers
