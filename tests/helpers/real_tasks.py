"""Tasks as users have them, in small: files like well-known ones, from a seed.

Each task goes the way of a user: a file as others write it, read with the options that
it needs, split, perhaps standardized by the training part, and a model that suits it.
The data are made alike by a formula; of the real ones they have what decides how they
are read and trained on: columns of unlike scale, names of classes, rare classes, gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import arena_ckpt as ac

SEED = 5


@dataclass(frozen=True)
class RealTask:
    """A model that is not initialized yet, its data, and what it has to reach.

    Attributes
    ----------
    model : Model
    training, validation : Dataset
        Raw, as they were read.
    is_standardized : bool
        Whether the user standardizes the inputs.
    reaches : dict from str to float
        The least value of metrics of the validation at the end.
    start : path, optional
        Saved model whose weights the training begins with.
    """

    model: ac.Model
    training: ac.Dataset
    validation: ac.Dataset
    is_standardized: bool = True
    reaches: dict[str, float] = field(default_factory=dict)
    start: Path | None = None


def started(task: RealTask) -> ac.Model:
    """Return the model as it is right before its training."""
    model = task.model
    if task.is_standardized:
        model.standardize(task.training)
    model.initialize()
    if task.start is not None:
        model.take_weights(task.start)
    return model


# -- tables


def wine(folder: Path) -> RealTask:
    """As scikit-learn's wine_data.csv: a first line of counts, 13 unlike columns."""
    generator, path = np.random.default_rng(1), folder / "wine_data.csv"
    y = np.repeat([0, 1, 2], [20, 24, 16])
    scale = 10.0 ** generator.integers(-1, 4, 13)
    kinds = generator.normal(size=(3, 13))
    x = scale * (5 + kinds[y] + 0.7 * generator.normal(size=(60, 13)))
    rows = [*(f"{_cells(a)},{label}" for a, label in zip(x, y, strict=True))]
    _write(path, ["60,13,class_0,class_1,class_2", *rows])
    data = ac.load_csv(path, skip_rows=1)
    return RealTask(
        _model(13, [_fc("hidden", 16, "relu"), _fc("out", 3)], "cross_softmax"),
        *data.split(0.25, SEED, stratify=True),
        reaches={"accuracy": 0.8},
    )


def diabetes(folder: Path) -> RealTask:
    """As scikit-learn's diabetes: whole numbers to predict, not classes."""
    generator, path = np.random.default_rng(2), folder / "diabetes.tsv"
    names = "AGE SEX BMI BP S1 S2 S3 S4 S5 S6 Y".split()
    z = generator.normal(size=(80, 10))
    means = np.array([48, 1.5, 26, 95, 189, 115, 50, 4, 4.6, 91])
    x = means + z * np.array([13, 0.5, 4.4, 14, 35, 30, 13, 1.3, 0.5, 11])
    weights = np.array([0, -11, 25, 15, -20, 10, 2, 8, 32, 3])
    y = np.rint(152 + z @ weights + 15 * generator.normal(size=80)).astype(int)
    rows = [f"{_cells(a, sep=chr(9))}\t{b}" for a, b in zip(x, y, strict=True)]
    _write(path, ["\t".join(names), *rows])
    data = ac.load_csv(path, targets=1)
    return RealTask(
        _model(10, [_fc("out", 1)], "mse", optimizer=("sgd", {"learning_rate": 0.1})),
        *data.split(0.2, SEED),
        reaches={"r2": 0.7},
    )


def health(folder: Path) -> RealTask:
    """As health records: an index, gaps, TRUE and FALSE, and 3 % of positives."""
    generator, path = np.random.default_rng(3), folder / "health.csv"
    n, ill = 300, 9
    is_ill = np.arange(n) % (n // ill) == 7
    age = np.where(is_ill, 72, 50) + 12 * generator.normal(size=n)
    glucose = np.where(is_ill, 165, 105) + 25 * generator.normal(size=n)
    smokes = generator.random(n) < np.where(is_ill, 0.8, 0.3)
    lines = [",age,glucose,smokes,stroke"]
    for i in range(n):
        sugar = "NA" if i % 40 == 3 else f"{glucose[i]:.1f}"
        label = "yes" if is_ill[i] else "no"
        lines.append(f"{i},{age[i]:.0f},{sugar},{str(bool(smokes[i])).upper()},{label}")
    _write(path, lines)
    data = ac.load_csv(path, "stroke", index_column=0, missing="mean")
    return RealTask(
        _model(
            3,
            [_fc("hidden", 8, "tanh"), _fc("out", 1)],
            "cross_sigmoid",
            optimizer=("adamw", {"learning_rate": 0.05, "weight_decay": 0.01}),
            batch_size=25,
        ),
        *data.split(0.33, SEED, stratify=True),
        reaches={"auc": 0.95, "recall": 0.6},
    )


# -- series


def sunspots(folder: Path) -> RealTask:
    """As statsmodels' sunspots: one series, cut into windows by the user."""
    generator, path = np.random.default_rng(4), folder / "sunspots.csv"
    years = np.arange(1850, 2000)
    wave = np.sin(np.pi * (years - 1850) / 11) ** 2
    spots = np.abs(110 * wave + 8 * generator.normal(size=len(years)))
    rows = [f"{year},{value:.1f}" for year, value in zip(years, spots, strict=True)]
    _write(path, ['"YEAR","SUNACTIVITY"', *rows])
    series = ac.load_csv(path, "none", index_column="YEAR").x[:, 0]
    windows = np.lib.stride_tricks.sliding_window_view(series[:-1], 12)
    data = ac.Dataset("sunspots", windows, series[12:] / 100)
    return RealTask(
        _model(
            (1, 12, 1), [("lstm", {"name": "lstm", "unit": 8}), _fc("out", 1)], "mse"
        ),
        *data.split(0.25, shuffle=False),
        reaches={"r2": 0.7},
    )


def gun_point(folder: Path) -> RealTask:
    """As UCR's GunPoint: the class 1 or 2 stands first; two files, no header."""
    time = np.linspace(-1, 1, 40)

    def shape(label: int, generator: np.random.Generator) -> Any:
        flank = 1 / (1 + np.exp(-20 * (0.5 + 0.1 * generator.normal() - np.abs(time))))
        dip = 0.8 * np.exp(-(((np.abs(time) - 0.75) / 0.1) ** 2))
        return flank - dip * (label == 1) + 0.03 * generator.normal(size=40)

    layers = [
        ("conv1d", _filters(6, kernel_size=7, padding="same")),
        _batch_norm("bn"),
        ("activation", {"name": "relu", "activation": "relu"}),
        ("pooling2d", {"name": "pool", "pooling": "global_average"}),
        ("flatten", {"name": "flat"}),
        _fc("out", 2),
    ]
    return RealTask(
        _model(40, layers, "cross_softmax", rate=0.03, epochs=15),
        *_ucr(folder, "GunPoint", shape, (1, 2), (48, 40)),
        is_standardized=False,
        reaches={"accuracy": 0.9},
    )


def ecg(folder: Path) -> RealTask:
    """As UCR's ECG200: classes -1 and 1, twice as many of one; read step by step."""
    time = np.arange(24)

    def shape(label: int, generator: np.random.Generator) -> Any:
        beat = np.exp(-(((time - 6 - generator.normal()) / 1.5) ** 2))
        slope = np.exp(-(((time - 15) / 4.0) ** 2)) * (0.8 if label == 1 else -0.5)
        return 2 * beat + slope + 0.15 * generator.normal(size=24)

    layers = [("gru", {"name": "gru", "unit": 6}), _fc("out", 2)]
    return RealTask(
        _model((1, 24, 1), layers, "cross_softmax", rate=0.03),
        *_ucr(folder, "ECG200", shape, (-1, 1, 1), (45, 45)),
        reaches={"accuracy": 0.9},
    )


def power_demand(folder: Path) -> RealTask:
    """As UCR's ItalyPowerDemand: days of 24 hours, by a step with momentum."""
    hours = np.arange(24)

    def shape(label: int, generator: np.random.Generator) -> Any:
        day = np.sin((hours - 9) / 24 * 2 * np.pi)
        evening = np.exp(-(((hours - 19) / 2.0) ** 2)) * (1.2 if label == 1 else 0.4)
        return day + evening + 0.2 * generator.normal(size=24)

    momentum = {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}
    return RealTask(
        _model(
            24,
            [_fc("hidden", 12, "sigmoid"), _fc("out", 2)],
            "cross_softmax",
            optimizer=("sgd", momentum),
        ),
        *_ucr(folder, "ItalyPowerDemand", shape, (1, 2), (40, 60)),
        reaches={"accuracy": 0.85},
    )


def basic_motions(folder: Path, kind: str = "lstm") -> RealTask:
    """As UEA's BasicMotions: six sensors of a watch at once, four motions, one .npz."""
    generator, path = np.random.default_rng(6), folder / "BasicMotions.npz"
    y = np.arange(72) % 4
    phase = generator.uniform(0, 2 * np.pi, (72, 1, 1))
    rate = np.array([0.05, 0.4, 0.9, 1.6])[y][:, None, None]
    height = np.array([[0.1], [0.6], [1.5], [3]]) * np.array([9.8, 9.8, 5, 2, 2, 1])
    x = np.sin(rate * np.arange(16)[:, None] + phase) * height[y][:, None]
    np.savez(path, x=x + 0.5 * generator.normal(size=x.shape), y=y)
    layers = [(kind, {"name": kind, "unit": 8}), _fc("out", 4)]
    momentum = {"learning_rate": 0.1, "momentum": 0.9}
    return RealTask(
        _model(
            (1, 16, 6),
            layers,
            "cross_softmax",
            optimizer=("sgd", momentum),
            batch_size=12,
            epochs=20,
        ),
        *ac.load_npz(path).split(0.33, SEED, stratify=True),
        reaches={"accuracy": 0.75},
    )


def basic_motions_gru(folder: Path) -> RealTask:
    """Return the same for another layer."""
    return basic_motions(folder, "gru")


# -- pictures and text


def pictures(folder: Path) -> RealTask:
    """As small photographs: bytes of three colours; bars that lie, stand or cross."""
    generator, path = np.random.default_rng(7), folder / "pictures.npz"
    y = np.arange(72) % 3
    x = generator.integers(0, 60, (72, 3, 10, 10))
    for picture, label in zip(x, y, strict=True):
        at = generator.integers(1, 8, 2)
        colour = generator.integers(120, 255, (3, 1, 1))
        if label != 1:
            picture[:, at[0] : at[0] + 2] = colour
        if label != 0:
            picture[:, :, at[1] : at[1] + 2] = colour
    np.savez(path, images=x.astype(np.uint8), labels=y)
    layers = [
        ("conv2d", _filters(8, kernel_size="3,3")),
        _batch_norm("bn"),
        ("activation", {"name": "relu", "activation": "relu"}),
        (
            "pooling2d",
            {"name": "pool", "pooling": "max", "pool_size": "2,2", "stride": "2,2"},
        ),
        ("flatten", {"name": "flat"}),
        _fc("out", 3),
    ]
    return RealTask(
        _model((3, 10, 10), layers, "cross_softmax"),
        *ac.load_npz(path).split(0.33, SEED, stratify=True),
        reaches={"accuracy": 0.8},
    )


def text(folder: Path) -> RealTask:
    """As reviews: the numbers of their words, of which some praise and some blame."""
    generator, path = np.random.default_rng(8), folder / "reviews.csv"
    lines = [",".join([*(f"word{i}" for i in range(8)), "opinion"])]
    for i in range(90):
        words = generator.integers(20, 60, 8)
        where = generator.permutation(8)[:4]
        words[where] = generator.integers(0, 10, 4) + (10 if i % 2 else 0)
        lines.append(f"{_cells(words, 'd')},{'good' if i % 2 else 'bad'}")
    _write(path, lines)
    layers = [
        ("embedding", {"name": "words", "in_dim": 60, "out_dim": 6}),
        ("reduce_mean", {"name": "mean", "axis": 2}),
        _fc("out", 2),
    ]
    data = ac.load_csv(path, "opinion")
    return RealTask(
        _model((1, 1, 8), layers, "cross_softmax", rate=0.05),
        *data.split(0.33, SEED, stratify=True),
        is_standardized=False,
        reaches={"accuracy": 0.8},
    )


def turned_digits(folder: Path) -> RealTask:
    """Go on from a network that knows upright digits, with a new head for turned."""
    digits = ac.load_digits().take(np.arange(200))
    layers = [
        ("conv2d", _filters(6, kernel_size="3,3")),
        _batch_norm("bn"),
        ("activation", {"name": "relu", "activation": "relu"}),
        ("flatten", {"name": "flat"}),
        _fc("head", 10),
    ]
    upright = _model((1, 8, 8), layers, "cross_softmax", epochs=5)
    upright.initialize()
    upright.train(digits, progress=False)
    path = folder / "upright.safetensors"
    upright.save(path)
    turned = np.rot90(digits.x.reshape(-1, 8, 8), axes=(1, 2))
    np.savez(folder / "turned.npz", x=turned[:, None], y=digits.y)
    model = ac.load(path, initialize=False)
    model.freeze(["conv*", "bn*"])
    model.replace_layer("head", unit=10)
    return RealTask(
        model,
        *ac.load_npz(folder / "turned.npz").split(0.3, SEED, stratify=True),
        is_standardized=False,
        reaches={"accuracy": 0.75},
        start=path,
    )


TASKS: dict[str, Callable[[Path], RealTask]] = {
    task.__name__: task
    for task in (
        *(wine, diabetes, health, sunspots),
        *(gun_point, ecg, power_demand, basic_motions, basic_motions_gru),
        *(pictures, text, turned_digits),
    )
}


# -- models and files

Layer = tuple[str, dict[str, Any]]


def _fc(name: str, unit: int, activation: str | None = None) -> Layer:
    active = {} if activation is None else {"activation": activation}
    return "fully_connected", {"name": name, "unit": unit, **active}


def _filters(filters: int, **properties: Any) -> dict[str, Any]:
    """Return a convolution without bias, which batch normalization would take away.

    Its gradient is rounding alone, of which Adam would make whole steps.
    """
    return {"name": "conv", "filters": filters, "disable_bias": True, **properties}


def _batch_norm(name: str) -> Layer:
    """Return a layer with the momentum and the statistics of PyTorch's default."""
    return "batch_normalization", {
        "name": name,
        "momentum": 0.9,
        "epsilon": 1e-5,
        "unbiased_variance": True,
    }


def _model(
    shape: int | tuple[int, int, int],
    layers: Sequence[Layer],
    loss: str,
    *,
    optimizer: tuple[str, dict[str, Any]] | None = None,
    rate: float = 0.02,
    batch_size: int = 16,
    epochs: int = 10,
) -> ac.Model:
    model = ac.Model(seed=SEED)
    sizes = (1, 1, shape) if isinstance(shape, int) else shape
    model.add_layer("input", name="in", input_shape=":".join(map(str, sizes)))
    for kind, properties in layers:
        model.add_layer(kind, **properties)
    model.add_layer(loss, name="loss")
    model.set_property(batch_size=batch_size, epochs=epochs)
    name, values = optimizer or ("adam", {"learning_rate": rate, "epsilon": 1e-8})
    model.set_optimizer(name, **values)
    return model


def _ucr(
    folder: Path,
    name: str,
    shape: Callable[[int, np.random.Generator], Any],
    labels: Sequence[int],
    sizes: tuple[int, int],
) -> Iterable[ac.Dataset]:
    """Write and read two files of series in turn of `labels`, training and test."""
    for part, n in zip(("TRAIN", "TEST"), sizes, strict=True):
        generator = np.random.default_rng([n, len(part)])
        path = folder / f"{name}_{part}.tsv"
        lines = []
        for i in range(n):
            label = labels[i % len(labels)]
            lines.append(f"{label}\t{_cells(shape(label, generator), sep=chr(9))}")
        _write(path, lines)
        yield ac.load_csv(path, "first", label_names=True)


def _cells(values: Any, form: str = ".5g", sep: str = ",") -> str:
    return sep.join(format(value, form) for value in values)


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
