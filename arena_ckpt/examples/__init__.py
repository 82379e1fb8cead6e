"""Models that come with the package, each with data to train it on at once."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from arena_ckpt.data import Dataset, load_digits
from arena_ckpt.errors import UnknownTypeError
from arena_ckpt.frontends.ini import load_ini
from arena_ckpt.model import Model
from arena_ckpt.properties import nearest

__all__ = ["EXAMPLES", "Example", "load_example"]

EXAMPLES: dict[str, str] = {
    "digits_mlp": (
        "handwritten digits of 8 × 8 pixels, six hidden layers of 64, gelu, adam and "
        "three checkpoint blocks; reaches more than 95 % in a second"
    ),
    "nine_layer_mlp": (
        "784-512-256-128-10 with relu, mse and one checkpoint block, on made-up data"
    ),
}
"""What each example is, by name."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A model and data that fit it.

    Attributes
    ----------
    name : str
        A key of `EXAMPLES`.
    description : str
    model : Model
        Not initialized yet.
    data : Dataset
        To train on.
    validation : Dataset or None
        None where the data are made up and nothing could be learned from it.
    """

    name: str
    description: str
    model: Model
    data: Dataset
    validation: Dataset | None


def load_example(name: str) -> Example:
    """Make a new model of an example, and load or make its data.

    Parameters
    ----------
    name : str
        A key of `EXAMPLES`.

    Returns
    -------
    Example
        The same numbers at every call.

    Raises
    ------
    UnknownTypeError
        No such example; the nearest one is named.
    """
    if name not in EXAMPLES:
        raise UnknownTypeError(
            f"unknown example {name!r}{nearest(name, EXAMPLES)}; known are "
            f"{', '.join(EXAMPLES)}",
            type_name=name,
            known=tuple(EXAMPLES),
        )
    packed = importlib.resources.files("arena_ckpt.examples") / f"{name}.ini"
    with importlib.resources.as_file(packed) as path:
        model = load_ini(path)
    return Example(name, EXAMPLES[name], model, *_DATA[name]())


def _digits() -> tuple[Dataset, Dataset | None]:
    return load_digits().split(0.2, seed=0)


def _noisy_prototypes() -> tuple[Dataset, Dataset | None]:
    """Make 512 samples around a random point for each of 10 classes, one-hot labels."""
    generator = np.random.default_rng(0)
    prototypes = generator.random((10, 784), dtype=np.float32)
    classes = np.arange(512) % 10
    noise = generator.standard_normal((512, 784), dtype=np.float32)
    x = prototypes[classes] + np.float32(0.2) * noise
    return Dataset("noisy prototypes", x, np.eye(10, dtype=np.float32)[classes]), None


_DATA: dict[str, Callable[[], tuple[Dataset, Dataset | None]]] = {
    "digits_mlp": _digits,
    "nine_layer_mlp": _noisy_prototypes,
}
