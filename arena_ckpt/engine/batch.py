"""A batch: the samples of one iteration, and which of them can be trained on."""

from __future__ import annotations

from typing import NamedTuple

from arena_ckpt.data.samples import Rows, Samples
from arena_ckpt.errors import DataShapeError, EmptyDataError
from arena_ckpt.graph.build import Graph
from arena_ckpt.planning import batch_statistics
from arena_ckpt.planning.plan import MemoryPlan


class Batch(NamedTuple):
    """Some of the samples of a data set, which passes take in their order.

    Attributes
    ----------
    samples : Samples
        The data set.
    n_samples : int
        Number of samples in the batch.
    rows : int64 array, shape (n_samples,), or None
        Numbers of the samples that the batch has; None for all.
    is_checked : bool
        Whether each pass looks for NaN and infinity in its data before it runs.
    """

    samples: Samples
    n_samples: int
    rows: Rows = None
    is_checked: bool = False


def require_batch(graph: Graph, plan: MemoryPlan, samples: Samples) -> Batch:
    """Return samples as a batch that a plan can train on.

    Raises
    ------
    DataShapeError
        There are more of them than the plan has room for.
    BatchStatisticsError
        A pass would leave batch normalization one value a channel.
    """
    n_samples, batch_size = samples.n_samples, plan.batch_size
    if n_samples > batch_size:
        raise DataShapeError(
            f"a batch of {n_samples} samples does not fit the arena, which is "
            f"planned for batch_size={batch_size}; pass fewer, or set batch_size "
            "before initialize()",
            expected=batch_size,
            found=n_samples,
        )
    batch_statistics.require_batch(
        graph, n_samples, batch_size=batch_size, pass_samples=plan.pass_samples
    )
    return Batch(samples, n_samples, is_checked=True)


def require_epoch(
    graph: Graph, plan: MemoryPlan, samples: Samples, drop_last: bool
) -> None:
    """Refuse samples that an epoch cannot be trained on, before any weight moves.

    Raises
    ------
    EmptyDataError
        `drop_last` leaves no batch.
    BatchStatisticsError
        A smaller last batch would leave batch normalization one value a channel.
    """
    n_samples, batch_size = samples.n_samples, plan.batch_size
    if drop_last and n_samples < batch_size:
        raise EmptyDataError(
            f"drop_last leaves out all {n_samples:,} samples, because they fill no "
            f"batch of batch_size={batch_size}; make batch_size smaller, or set "
            "drop_last=false",
            n_samples=n_samples,
            batch_size=batch_size,
        )
    batch_statistics.require_epoch(
        graph,
        n_samples,
        batch_size=batch_size,
        pass_samples=plan.pass_samples,
        drop_last=drop_last,
    )
