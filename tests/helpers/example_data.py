"""Data of the bundled examples, and their predictions, whatever losses they have."""

from __future__ import annotations

from typing import Any

import numpy as np

from arena_ckpt.examples import Example


def first_batch(example: Example, n: int) -> tuple[Any, Any]:
    """Return the first samples of an example with their labels."""
    taken = example.data.take(np.arange(n))
    return taken.x, taken.y


def prediction_bytes(prediction: Any) -> bytes:
    """Return predictions as bytes; of several losses those of all."""
    of_losses = prediction.values() if isinstance(prediction, dict) else [prediction]
    return b"".join(array.tobytes() for array in of_losses)
