"""Train neural networks inside one preallocated, planned block of memory."""

from arena_ckpt.errors import ArenaError, InvalidParameterError
from arena_ckpt.lifespan import Phase, TensorLifespan

__version__ = "0.1.0"

__all__ = ["ArenaError", "InvalidParameterError", "Phase", "TensorLifespan"]
