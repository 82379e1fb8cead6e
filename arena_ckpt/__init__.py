"""Train neural networks inside one preallocated, planned block of memory."""

from arena_ckpt.data import Dataset, load_csv, load_digits, load_idx, load_npz
from arena_ckpt.errors import ArenaError, InvalidParameterError
from arena_ckpt.frontends.ini import load_ini
from arena_ckpt.graph import CheckpointBlock
from arena_ckpt.layers import create_layer
from arena_ckpt.lifespan import Phase, TensorLifespan
from arena_ckpt.model import Model
from arena_ckpt.optimizers import create_optimizer
from arena_ckpt.plan import MemoryPlan
from arena_ckpt.schedules import create_schedule
from arena_ckpt.timeline import ExecutionOrder

__version__ = "0.1.0"

__all__ = [
    "ArenaError",
    "CheckpointBlock",
    "Dataset",
    "ExecutionOrder",
    "InvalidParameterError",
    "MemoryPlan",
    "Model",
    "Phase",
    "TensorLifespan",
    "create_layer",
    "create_optimizer",
    "create_schedule",
    "load_csv",
    "load_digits",
    "load_idx",
    "load_ini",
    "load_npz",
]
