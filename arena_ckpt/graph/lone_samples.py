"""Samples of a model whose losses take no labels stand alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from arena_ckpt.data.dataset import Dataset
from arena_ckpt.graph.build import Graph


def with_absent_labels(graph: Graph, data: Any) -> Any:
    """Return ``(x, None)`` for samples alone, where no loss takes labels.

    The labels of a data set are left out there: its samples are what is asked for.
    Other data are returned as they are.
    """
    if graph.takes_labels:
        return data
    if isinstance(data, Dataset):
        return data.x, None
    return (data, None) if isinstance(data, np.ndarray | Mapping) else data
