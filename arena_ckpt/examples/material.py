"""Data for the examples: real data if the machine has some, otherwise made up."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np

from arena_ckpt.data.dataset import Dataset
from arena_ckpt.data.loaders import load_digits
from arena_ckpt.errors import EmptyDataError

Split = tuple[Dataset, Dataset | None]

VOCABULARY = "\n" + "".join(map(chr, range(32, 127)))
"""The characters of texts; every other character counts as a question mark."""


def digits() -> Split:
    """Load the pictures that come with the package."""
    return load_digits().split(0.2, seed=0)


def digits_and_ink() -> Split:
    """Load the same pictures, with two labels: the digit, and how dark it is."""
    loaded = load_digits()
    pixels = loaded.x.reshape(loaded.n_samples, -1)
    ink = pixels.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    labels = {"digit": loaded.y, "ink": ink}
    return Dataset(loaded.name, loaded.x, labels).split(0.2, seed=0)


def noisy_prototypes() -> Split:
    """Make 512 samples around a random point for each of 10 classes, one-hot labels."""
    generator = np.random.default_rng(0)
    prototypes = generator.random((10, 784), dtype=np.float32)
    classes = np.arange(512) % 10
    noise = generator.standard_normal((512, 784), dtype=np.float32)
    x = prototypes[classes] + np.float32(0.2) * noise
    return Dataset("noisy prototypes", x, np.eye(10, dtype=np.float32)[classes]), None


def noisy_classes(n: int, elems: int, classes: int) -> Split:
    """Make samples around a random point for each class, with class numbers."""
    generator = np.random.default_rng(0)
    prototypes = generator.standard_normal((classes, elems), dtype=np.float32)
    numbers = np.arange(n) % classes
    noise = generator.standard_normal((n, elems), dtype=np.float32)
    return Dataset("noisy classes", prototypes[numbers] + noise, numbers), None


def movements(n: int, shape: tuple[int, int, int], classes: int) -> Split:
    """Make noisy oscillations of sensors, faster the higher the class.

    Parameters
    ----------
    n : int
        Samples.
    shape : tuple of int
        1, steps and sensors.
    classes : int
    """
    generator = np.random.default_rng(0)
    _, steps, sensors = shape
    numbers = np.arange(n) % classes
    speed = (1 + numbers.reshape(n, 1, 1)) * np.arange(steps).reshape(1, steps, 1)
    phase = generator.uniform(0, 2 * np.pi, (n, 1, sensors))
    x = np.sin(2 * np.pi * speed / steps + phase) * (1 + np.arange(sensors) / sensors)
    x += 0.3 * generator.standard_normal(x.shape)
    return Dataset("movements", x.astype(np.float32), numbers), None


def discs(n: int, shape: tuple[int, int, int], classes: int) -> Split:
    """Make noisy pictures of discs; the label of a pixel is the class of its disc.

    Pixels beside the disc are of class 0, and the others the brighter the higher their
    class.

    Parameters
    ----------
    n : int
        Samples.
    shape : tuple of int
        Channels, height and width.
    classes : int
        At least 2.
    """
    generator = np.random.default_rng(0)
    channels, height, width = shape
    rows, columns = np.mgrid[:height, :width]
    middles = generator.uniform(0.25, 0.75, (n, 2, 1, 1)) * [[[height]], [[width]]]
    radius = generator.uniform(0.15, 0.3, (n, 1, 1)) * min(height, width)
    kinds = 1 + np.arange(n).reshape(n, 1, 1) % max(1, classes - 1)
    squares = (rows - middles[:, 0]) ** 2 + (columns - middles[:, 1]) ** 2
    labels = np.where(squares <= radius**2, kinds, 0)
    x = generator.standard_normal((n, channels, height, width), dtype=np.float32)
    x += 2 * labels[:, None].astype(np.float32)
    return Dataset("discs", x, labels.reshape(n, -1).astype(np.float32)), None


def noise(n: int, elems: int, *, to_itself: bool = False) -> Split:
    """Make random samples, and random values to learn, or the samples themselves."""
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((2, n, elems), dtype=np.float32)
    return Dataset("noise", x, x.copy() if to_itself else y), None


def python_sources(length: int, most_characters: int) -> Split:
    """Cut sources of Python's standard library into windows of `length` characters.

    Parameters
    ----------
    length : int
        Characters of a sample; its label is the same window, one character later.
    most_characters : int
        How much is read, file by file in alphabetical order.

    Returns
    -------
    Dataset
        x and y of shape (n, length): places in `VOCABULARY`.
    Dataset
        The last twentieth of the windows, which is never trained on.

    Raises
    ------
    EmptyDataError
        This Python has no sources of its library.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    texts, n = [], 0
    for path in sorted(folder.glob("*.py")):
        texts.append(path.read_text("utf-8", errors="replace"))
        n += len(texts[-1])
        if n >= most_characters:
            break
    places = np.full(256, VOCABULARY.index("?"), dtype=np.uint8)
    for place, character in enumerate(VOCABULARY):
        places[ord(character)] = place
    raw = np.frombuffer("".join(texts).encode("latin-1", errors="replace"), np.uint8)
    ids = places[raw[:most_characters]].astype(np.float32)
    n_windows = (len(ids) - 1) // length
    if n_windows < 20:
        raise EmptyDataError(
            f"{folder} holds {len(ids):,} characters of Python sources, too few for "
            f"windows of {length}; this Python came without its library's sources",
            name=str(folder),
        )
    x = ids[: n_windows * length].reshape(n_windows, length)
    y = ids[1 : n_windows * length + 1].reshape(n_windows, length)
    cut = n_windows - n_windows // 20
    whole = Dataset("Python's standard library", x.copy(), y.copy())
    return whole.take(np.arange(cut)), whole.take(np.arange(cut, n_windows))
