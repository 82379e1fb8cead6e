"""Finds what goes wrong between a model and its data, before and after a training.

=====================  ==============================================================
kind                   what is seen
=====================  ==============================================================
unlike_features        the columns of an input differ in their range by more than 100
far_from_unit_scale    the values of an input are large, or all of them tiny
missing_classes        validation data have classes that training data have not
diverged               the loss is far above that of a model that predicts nothing
statistics_lag         moving statistics of batch normalization are not those of the
                       weights yet, and evaluation is far worse than training
=====================  ==============================================================

Inputs that the model standardizes or normalizes itself get no hint, nor do ids and
masks. At most `_MOST_SAMPLES` samples are looked at, evenly spaced.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.wording import listed
from arena_ckpt.data.samples import Samples, missing_classes
from arena_ckpt.data.standardization import CHANNEL
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.features import feature_axes
from arena_ckpt.graph.hints import Hint
from arena_ckpt.layers.loss import Loss, MeanSquaredError
from arena_ckpt.layers.normalization import BatchNormalization, LayerNormalization
from arena_ckpt.training.records import History

if TYPE_CHECKING:
    from arena_ckpt.engine.session import Session

UNLIKE = 100.0
"""Ratio of ranges above which features are called unlike."""

LARGE, TINY = 100.0, 0.01
"""Largest absolute values above and below which an input is far from unit scale."""

FAR = 10.0
"""Multiple of the loss of a model that predicts nothing, above which one diverged."""

LAG = 10.0
"""Number of time constants of moving statistics after which they follow the weights."""

_FEWEST = 50
"""Number of iterations below which a training has hardly begun."""
_FEWEST_ROWS = 8
"""Number of samples below which the range of a column is chance, as in a batch."""
_MOST_SAMPLES = 4096
_TABLE_COLUMNS = 64
_MOST_IN_FULL = 1e6
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_WAY_OUT = (
    "call model.standardize(training_data) before the training (--standardize), or "
    "scale the data"
)


def scale_hints(graph: Graph, samples: Samples) -> list[Hint]:
    """Return the hints about the values of inputs, before a training.

    Notes
    -----
    O(values of `_MOST_SAMPLES` samples).
    """
    normalized = _normalized(graph)
    shapes = {n.name: n.spec.output_shapes[0] for n in graph.nodes if n.is_data}
    found = []
    for name, axis in feature_axes(graph).items():
        if name in samples.scaling or name in normalized:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            values = _some(samples.inputs[name]).astype(np.float32)
        values = values.reshape(-1, *shapes[name])
        hint = _scale_hint(name, axis, values)
        if hint is not None:
            found.append(hint)
    return found


def _scale_hint(name: str, axis: str, values: npt.NDArray[np.float32]) -> Hint | None:
    others = (0, 2, 3) if axis == CHANNEL else (0, 1, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        least, most = values.min(axis=others), values.max(axis=others)
        ranges = most.astype(np.float64) - least
    largest = float(np.maximum(np.abs(least), np.abs(most)).max())
    if not math.isfinite(largest):
        return None  # an error of its own
    # Pixels and places of a series are alike, and some of them hardly change.
    is_table = len(ranges) <= _TABLE_COLUMNS or largest > LARGE
    changing = ranges[ranges > 0]
    if is_table and len(changing) and len(values) >= _FEWEST_ROWS:
        wide, narrow = (
            int(ranges.argmax()),
            int(np.where(ranges > 0, ranges, np.inf).argmin()),
        )
        n_narrow = np.count_nonzero(changing < ranges[wide] / UNLIKE)
        is_lone = ranges[wide] > UNLIKE * np.median(changing)
        if n_narrow and (is_lone or n_narrow >= 0.1 * len(changing)):
            return Hint(
                "unlike_features",
                (name,),
                f"the {axis}s of the input {name!r} have unlike ranges: {axis} {wide} "
                f"goes from {least[wide]:g} to {most[wide]:g}, {axis} {narrow} from "
                f"{least[narrow]:g} to {most[narrow]:g}, "
                f"{ranges[wide] / ranges[narrow]:,.0f} times less; {_WAY_OUT}",
            )
    rms = float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
    if largest > LARGE and rms > LARGE / 10:
        size = f"reach {largest:g}"
    elif 0 < largest < TINY:
        size = f"are at most {largest:g}"
    else:
        return None
    return Hint(
        "far_from_unit_scale",
        (name,),
        f"the values of the input {name!r} {size}, and initial weights are meant for "
        f"values of about 1; {_WAY_OUT}",
    )


def _normalized(graph: Graph) -> set[str]:
    """Return the inputs that only layers of normalization read."""
    kinds = (BatchNormalization, LayerNormalization)
    readers: dict[str, list[bool]] = {}
    for node in graph.nodes:
        for source in node.sources:
            readers.setdefault(source, []).append(isinstance(node.layer, kinds))
    return {
        node.name
        for node in graph.nodes
        if node.is_data and all(readers.get(node.outputs[0], [False]))
    }


def class_hints(training: Samples, validation: Samples) -> list[Hint]:
    """Return the hint about classes of which the training data have no sample."""
    missing = missing_classes(training, validation)
    if not missing:
        return []
    known = training.classes
    names = [f"{n} ({known[n]})" if known else str(n) for n in missing]
    return [
        Hint(
            "missing_classes",
            (),
            f"the validation data have samples of {listed(names)}, and the training "
            "data have none of "
            + ("this class" if len(missing) == 1 else "these classes")
            + "; data that are sorted by class are split with stratify=True "
            "(--split stratified)",
        )
    ]


def ended_hints(
    session: Session,
    samples: Samples | None,
    history: History,
    *,
    is_whole: bool = True,
) -> list[Hint]:
    """Return the hints about how a training has ended.

    Parameters
    ----------
    session : Session
    samples : Samples or None
        What was trained on; None where it is not known.
    history : History
    is_whole : bool
        False where the samples are only the first of the batches that were drawn.

    Notes
    -----
    The training data are evaluated where moving statistics may lag, which is after few
    iterations only.
    """
    if not history.epochs:
        return []
    loss, first = history.epochs[-1].loss, history.epochs[0].loss
    diverged = diverged_hint(session, samples, loss, first)
    if diverged is not None:
        return [diverged]
    if samples is None or not is_whole:
        return []
    lag = _lag_hint(session, samples, loss)
    return [] if lag is None else [lag]


def diverged_hint(
    session: Session, samples: Samples | None, loss: float, first: float
) -> Hint | None:
    """Return the hint about a training that has ended with such a loss.

    Parameters
    ----------
    session : Session
    samples : Samples or None
        What was trained on.
    loss, first : float
        At the end, and of the first epoch.
    """
    nothing = None if samples is None else _total_of_nothing(session, samples)
    is_far = nothing is not None and (
        loss > FAR * nothing and (loss >= first or loss > 100 * FAR * nothing)
    )
    if not (is_far or loss > _LARGEST_FLOAT):
        return None
    beside = "beyond float32"
    if nothing is not None and is_far:
        ratio = loss / nothing
        beside = (
            f"{ratio:,.0f}" if ratio < _MOST_IN_FULL else f"{ratio:.3g}"
        ) + f" times that of a model that predicts nothing, about {nothing:.3g}"
    return Hint(
        "diverged",
        (),
        f"the training has ended with a loss of {loss:.3g}, {beside}: it has "
        "diverged, and the weights are of no use. Standardize the inputs "
        "(--standardize) and targets, lower the learning rate, or set "
        "clip_grad_by_norm",
    )


def trained_statistics(graph: Graph) -> list[tuple[float, str]]:
    """Return momentum and name of batch normalization whose statistics move."""
    return [
        (float(node.layer["momentum"]), node.name)
        for node in graph.nodes
        if isinstance(node.layer, BatchNormalization) and node.layer["trainable"]
    ]


def _total_of_nothing(session: Session, samples: Samples) -> float | None:
    """Return about the sum of the losses of outputs that are 0, by their weights."""
    total = 0.0
    for head in session.heads.all:
        loss = _loss_of_nothing(head.loss, head.samples(samples))
        if loss is None:
            return None
        total += head.loss.weight * loss
    return total or None


def _loss_of_nothing(loss: Loss, samples: Samples) -> float | None:
    """Return about the loss of outputs that are 0; None for losses of one's own."""
    labels = samples.labels
    if isinstance(loss, MeanSquaredError):
        assert labels is not None
        targets = _some(labels).astype(np.float64)
        return float(np.square(targets).mean()) or None
    if loss.takes_probabilities or loss.takes_class_numbers:
        n_classes = samples.n_classes or 2
        return max(1.0, math.log(n_classes))
    return None


def _lag_hint(session: Session, samples: Samples, loss: float) -> Hint | None:
    slow = trained_statistics(session.graph)
    if not slow:
        return None
    momentum, name = max(slow)
    n_iterations = session.iteration
    followed = n_iterations * (1 - momentum)
    if n_iterations < _FEWEST or followed >= LAG:
        return None
    evaluated = session.evaluate(samples).loss
    if not evaluated > max(1.5 * loss, loss + 0.1):
        return None
    return Hint(
        "statistics_lag",
        (name,),
        f"evaluated on its training data the model has a loss of {evaluated:.4g}, and "
        f"in its last epoch {loss:.4g}: the moving statistics of {name!r} (momentum "
        f"{momentum:g}) follow the weights too slowly for {n_iterations:,} iterations; "
        "set momentum=0.9 at its layers of batch_normalization, or train for longer",
    )


def _some(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return at most `_MOST_SAMPLES` rows, evenly spaced."""
    return array[:: -(-len(array) // _MOST_SAMPLES)]
