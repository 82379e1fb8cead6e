"""Gradient check: compares gradients with finite differences of the loss.

The slope is that of a central difference over 2h. Losses come from float32 values, so
it has an error of about noise / h beside one in h² from curvature, and kinks (relu, max
pooling) let it stay off for any h larger than their distance: no h suits all weights.
The noise is measured: the spread of the loss when all weights move by some units in the
last place. Then slopes are taken at several h, each a quarter of another. The gradient
is

- right if a slope agrees within `TOLERANCE` and its noise, which is below
  `LEAST_NOISE` of it;
- wrong if none with a noise below `MOST_NOISE` does, and those of the three smallest
  such h are settled: the gradient is outside what the slopes to the left and to the
  right say, by more than four times what the three differ by and five times the noise;
- flat if at no h the slope stands out of the noise: the loss does not depend on what
  was moved, or float32 cannot tell;
- else undecided: the slope still bends, or has a kink. Flat and undecided are counted.

So a gradient that is right is not called wrong by a kink, and one that is wrong by more
than slopes at different h differ among themselves is found. Weights move to float32
neighbours: h is what they really moved by.

Of each weight tensor is moved: the whole along its gradient, where the slope is the
norm of the gradient, the largest signal there is; the whole along random signs, which
also sees what the gradient lacks; the element of the largest gradient; a random one.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from arena_ckpt.engine.session import Session
from arena_ckpt.engine.weights import FloatArray
from arena_ckpt.verification.batches import Batch

TOLERANCE = 0.02
"""Share by which a gradient may differ from a slope, beyond the noise. Defects differ
by more: a missing part, a factor, a sign, a stale operand."""

LEAST_NOISE, MOST_NOISE = 0.02, 0.1
"""Maximum noise as a share of a slope: with at most the first, a slope that agrees
proves the gradient; with more than the second, a slope says nothing."""

STEPS = tuple(2.0**-power for power in (9, 7, 11, 5, 13, 15, 3, 17))
"""Lengths h by which weights are moved, as multiples of the root mean square of the
weights."""

_N_NEAREST = 3
"""Number of slopes, of the smallest h, that must agree against a gradient."""

_SPREADS = 8

_LEAST_SIZE = 1e-3
"""Minimum root mean square that is assumed of weights. Some weights, such as a bias
before a normalization, do not change the loss and stay near 0."""

Floats = npt.NDArray[np.float64]


class Verdict(enum.Enum):
    """The outcome of comparing a slope with a gradient."""

    RIGHT = "right"
    WRONG = "wrong"
    FLAT = "flat"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Slope:
    """A slope of the loss beside the value that the gradients predict.

    Attributes
    ----------
    weight : str
    direction : str
        What was moved.
    slope, claimed : float
        Slope of the loss, and the slope that the gradient claims.
    noise : float
        How far the slope can be off by rounding.
    outside : float
        How far the claim is from what the slopes to the left and to the right span.
    verdict : Verdict
    """

    weight: str
    direction: str
    slope: float
    claimed: float
    noise: float
    outside: float = 0.0
    verdict: Verdict = Verdict.UNDECIDED

    @property
    def size(self) -> float:
        """Larger of the absolute values of slope and prediction."""
        return max(abs(self.slope), abs(self.claimed), 1e-300)

    @property
    def miss(self) -> float:
        """Difference of slope and prediction beyond the noise, as share of the size."""
        gap = abs(self.slope - self.claimed) - self.noise
        return max(gap, 0.0) / self.size

    def __str__(self) -> str:
        return (
            f"the gradient of {self.weight} says {self.claimed:.6g} along "
            f"{self.direction}, the loss {self.slope:.6g} ± {self.noise:.2g}"
        )


def measure_slopes(session: Session, batch: Batch, most_weights: int) -> list[Slope]:
    """Compare the gradients of a session with slopes; the weights are restored.

    Parameters
    ----------
    session : Session
    batch : (x, y)
    most_weights : int
        Weight tensors to look at; of more, some spread evenly.

    Returns
    -------
    list of Slope
        Four for each weight tensor.

    Notes
    -----
    Two forward passes for a slope that agrees at once, else up to sixteen.
    """
    loss, gradients = session.compute_gradients(*batch)
    names = list(gradients)
    if len(names) > most_weights:
        places = np.linspace(0, len(names) - 1, most_weights).round().astype(int)
        names = [names[place] for place in places]
    generator = np.random.default_rng(0)
    noise = _measure_noise(session, batch, list(gradients), generator)
    slopes = []
    for name in names:
        weight = _Weight(session, batch, name, gradients[name], loss, noise)
        try:
            slopes += [weight.slope(*one) for one in weight.directions(generator)]
        finally:
            weight.restore()
    return slopes


def _measure_noise(
    session: Session, batch: Batch, names: list[str], generator: np.random.Generator
) -> float:
    """Return the spread of the loss when weights move by units in the last place."""
    views = [session.views.named(name) for name in names]
    starts = [view.copy() for view in views]
    losses = []
    try:
        for _ in range(_SPREADS):
            for view, start in zip(views, starts, strict=True):
                units = generator.integers(-2, 3, view.shape)
                view[...] = start + units * np.spacing(np.abs(start))
            losses.append(session.training_loss(*batch))
    finally:
        for view, start in zip(views, starts, strict=True):
            view[...] = start
    return float(np.ptp(losses)) + 2.0**-24 * abs(losses[0])


class _Weight:
    """A weight that is moved to measure slopes."""

    def __init__(
        self,
        session: Session,
        batch: Batch,
        name: str,
        gradient: FloatArray,
        loss: float,
        noise: float,
    ) -> None:
        self._session = session
        self._batch = batch
        self._name = name
        self._view = session.views.named(name).reshape(-1)
        self._start = self._view.copy()
        self._gradient = gradient.astype(np.float64).reshape(-1)
        squares = self._start.astype(np.float64) ** 2
        self._size = max(float(np.sqrt(squares.mean())), _LEAST_SIZE)
        self._loss = loss
        self._noise = noise

    def restore(self) -> None:
        self._view[...] = self._start

    def directions(
        self, generator: np.random.Generator
    ) -> Iterator[tuple[str, Floats, float]]:
        """Yield the elements to move, how far each moves, and a factor."""
        gradient = self._gradient
        norm = float(np.linalg.norm(gradient))
        if norm > 0:
            yield "itself", gradient * (np.sqrt(gradient.size) / norm), 1.0
        yield "random signs", generator.choice([-1.0, 1.0], gradient.size), 1.0
        largest, other = np.abs(gradient).argmax(), generator.integers(gradient.size)
        for place in (int(largest), int(other)):
            one = np.zeros(gradient.size)
            one[place] = 1.0
            yield f"element {place}", one, 16.0

    def slope(self, what: str, direction: Floats, factor: float) -> Slope:
        """Return the first slope that agrees, or the one of the smallest usable h."""
        counted: dict[float, Slope] = {}
        any_agrees = False
        for step in STEPS:
            slope = self._try(what, step * factor * self._size * direction)
            if slope.noise > MOST_NOISE * slope.size:
                continue
            counted[step] = slope
            agrees = slope.miss <= TOLERANCE
            any_agrees |= agrees
            if agrees and slope.noise <= LEAST_NOISE * slope.size:
                return replace(slope, verdict=Verdict.RIGHT)
        if not counted:
            return replace(slope, verdict=Verdict.FLAT)
        nearest = [counted[step] for step in sorted(counted)[:_N_NEAREST]]
        spread = float(np.ptp([slope.slope for slope in nearest]))
        is_wrong = (
            not any_agrees
            and len(nearest) == _N_NEAREST
            and all(s.outside > max(4 * spread, 5 * s.noise) for s in nearest[1:])
        )
        verdict = Verdict.WRONG if is_wrong else Verdict.UNDECIDED
        return replace(nearest[-1], verdict=verdict)

    def _try(self, what: str, move: Floats) -> Slope:
        """Return the slope along one move."""
        plus, up = self._loss_at(move), self._view.astype(np.float64)
        minus, down = self._loss_at(-move), self._view.astype(np.float64)
        length = float(np.linalg.norm(up - down)) or math.inf
        slope = (plus - minus) / length
        claimed = float(self._gradient @ (up - down)) / length
        sides = (2 * (plus - self._loss) / length, 2 * (self._loss - minus) / length)
        outside = max(min(sides) - claimed, claimed - max(sides), 0.0)
        noise = self._noise / length
        return Slope(self._name, what, slope, claimed, noise, outside)

    def _loss_at(self, move: Floats) -> float:
        self._view[...] = self._start + move
        return self._session.training_loss(*self._batch)
