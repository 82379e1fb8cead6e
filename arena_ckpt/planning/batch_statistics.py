"""Refuses passes with too few samples for the statistics that a layer takes over them.

Batch normalization in training subtracts the mean of a channel over all values of it in
a pass. Of a single value the mean is the value itself: the layer puts out `beta`
whatever it reads, all gradients before it are 0, and its running statistics lose the
variance. That is where a pass has one sample and the layer one value a channel of it,
as after a dense layer. Such passes are refused before any weight moves.

An iteration of n samples goes in passes of p samples; what is left makes the last one.
"""

from __future__ import annotations

from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.errors import BatchStatisticsError
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.nodes import Node
from arena_ckpt.planning.settings import PlanSettings

_WAY_OUT = (
    "or normalize by the moving statistics with statistics=moving, or with "
    "trainable=false. predict and evaluate use "
    "the moving statistics and take any number of samples"
)


def single_valued(graph: Graph) -> Node | None:
    """Return the first layer that has one value a channel in a pass of one sample."""
    return next((n for n in graph.nodes if n.spec.batch_values == 1), None)


def depends_on_split(node: Node) -> bool:
    """Tell whether the results of a layer depend on how a batch is split into passes.

    So they do where it takes statistics over the samples of a pass, or keeps a state
    that each pass changes.
    """
    changes_state = node.layer.is_trainable and any(
        not weight.is_trained and weight.lifespan & TensorLifespan.CALC_GRADIENT
        for weight in node.spec.weights
    )
    return node.spec.batch_values is not None or changes_state


def least_samples(graph: Graph) -> int:
    """Return the least number of samples that the model can be trained on at once."""
    return 1 if single_valued(graph) is None else 2


def ends_in_one(n_samples: int, pass_samples: int) -> bool:
    """Tell whether an iteration of `n_samples` has a pass of a single sample."""
    return (n_samples - 1) % pass_samples == 0


def can_train_on(graph: Graph, n_samples: int, pass_samples: int) -> bool:
    """Tell whether no pass of a batch is too small for the model's statistics."""
    return not ends_in_one(n_samples, pass_samples) or single_valued(graph) is None


def require_trainable(graph: Graph, settings: PlanSettings) -> None:
    """Refuse settings by which every full batch has a pass of a single value.

    Raises
    ------
    BatchStatisticsError
    """
    node = single_valued(graph)
    batch, size = settings.batch_size, settings.pass_samples
    if node is None or not ends_in_one(batch, size):
        return
    if settings.micro_batches == 1:
        where, advice = f"with batch_size={batch}", "set batch_size to at least 2"
    else:
        sizes = [min(size, batch - start) for start in range(0, batch, size)]
        where = (
            f"with batch_size={batch} and micro_batches={settings.micro_batches}, "
            f"which makes passes of {_listed(sizes)} samples,"
        )
        advice = "set fewer micro_batches or a larger batch_size"
    raise _error(
        node,
        f"{where} a pass has one sample",
        f"{advice}, {_WAY_OUT}",
        batch_size=batch,
        micro_batches=settings.micro_batches,
        n_samples=batch,
    )


def require_batch(
    graph: Graph, n_samples: int, *, batch_size: int, pass_samples: int
) -> None:
    """Refuse to train on a batch with a pass of a single value.

    Raises
    ------
    BatchStatisticsError
        No weight was changed.
    """
    node = single_valued(graph)
    if node is None or not ends_in_one(n_samples, pass_samples):
        return
    raise _error(
        node,
        f"{_batch_text(n_samples, pass_samples, 'this batch')} a pass of one sample",
        f"Give another number of samples, {_WAY_OUT}. No weight was changed",
        batch_size=batch_size,
        micro_batches=-(-batch_size // pass_samples),
        n_samples=n_samples,
    )


def require_epoch(
    graph: Graph,
    n_samples: int,
    *,
    batch_size: int,
    pass_samples: int,
    drop_last: bool,
) -> None:
    """Refuse a training whose last batch has a pass of a single value.

    Raises
    ------
    BatchStatisticsError
        No weight was changed.
    """
    node, left = single_valued(graph), n_samples % batch_size
    if node is None or not left or drop_last or not ends_in_one(left, pass_samples):
        return
    last = _batch_text(left, pass_samples, "the last batch")
    out = f"set drop_last=true, which leaves the last {left} of an epoch out, "
    raise _error(
        node,
        f"of {n_samples:,} samples in batches of {batch_size}, {last} a pass of one "
        "sample",
        (out if n_samples > batch_size else "")
        + f"choose another batch_size, {_WAY_OUT}. No weight was changed",
        batch_size=batch_size,
        micro_batches=-(-batch_size // pass_samples),
        n_samples=left,
    )


def _batch_text(n_samples: int, pass_samples: int, what: str) -> str:
    count = "1 sample" if n_samples == 1 else f"{n_samples} samples"
    in_passes = f", in passes of {pass_samples}," if n_samples > pass_samples else ""
    return f"{what} of {count}{in_passes} has"


def _error(node: Node, where: str, advice: str, **facts: int) -> BatchStatisticsError:
    values = node.spec.batch_values
    return BatchStatisticsError(
        f"layer {node.name!r} ({node.layer.type_name}) normalizes each channel over "
        f"the samples of a pass; {where}, so it has {values} value a channel and would "
        f"put out its beta alone, with gradients of 0 before it: {advice}",
        layer=node.name,
        values_per_channel=values,
        **facts,
    )


def _listed(sizes: list[int]) -> str:
    """Write ``3, 3, 3 and 1``, the middle of many left out."""
    if len(sizes) > 6:
        return f"{', '.join(map(str, sizes[:3]))}, … and {sizes[-1]}"
    return f"{', '.join(map(str, sizes[:-1]))} and {sizes[-1]}"
