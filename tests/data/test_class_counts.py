"""How many samples each class has is seen before a training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arena_ckpt as ac


def dataset(y: Any, classes: Any = None) -> ac.Dataset:
    return ac.Dataset("d", np.zeros((len(y), 2), np.float32), y, classes)


RARE = np.repeat([0, 1], [291, 9])


@pytest.mark.parametrize(
    ("y", "classes", "counts", "said"),
    [
        (RARE, None, {"0": 291, "1": 9}, "2 classes: 0 (291), 1 (9)"),
        (RARE, ("no", "yes"), {"no": 291, "yes": 9}, "2 classes: no (291), yes (9)"),
        (RARE[:5], ("no", "yes"), {"no": 5, "yes": 0}, "2 classes: no (5), yes (0)"),
        (RARE * 1.0, None, {"0": 291, "1": 9}, "2 classes: 0 (291), 1 (9)"),
        ([2, 2, -1], None, {"-1": 1, "2": 2}, "2 classes: -1 (1), 2 (2)"),
        ([2**40], None, {str(2**40): 1}, f"1 class: {2**40} (1)"),
        (RARE * 0.5, None, None, "values (300, 1)"),
        (np.eye(3), None, None, "values (3, 3)"),
        (np.arange(40) // 2, None, ..., "20 classes of 2 samples"),
        (np.arange(40) // 3, None, ..., "14 classes of 1 to 3 samples"),
    ],
    ids=str,
)
def test_counts_are_in_its_line(y: Any, classes: Any, counts: Any, said: str) -> None:
    data = dataset(y, classes)
    if counts is not ...:
        assert data.class_counts == counts
        assert list(data.class_counts or ()) == list(counts or ())
    assert repr(data).endswith(f", {said}>")


def test_without_labels_there_are_none() -> None:
    data = ac.Dataset("d", np.zeros((2, 2)), None)
    assert data.class_counts is None
    assert repr(data).endswith(", no labels>")
