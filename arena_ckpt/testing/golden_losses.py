"""Golden losses: the losses of the first steps of each bundled example.

In fast arithmetic losses do not have the same bits on every processor, so the file
states how far they may differ. In portable arithmetic they have: another file holds
them to the last bit. Texts are replaced by made-up ones, because the sources of
Python's library change with its version.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from arena_ckpt.common.arithmetics import FAST, PORTABLE
from arena_ckpt.errors import GoldenFileError
from arena_ckpt.examples import EXAMPLES, load_example
from arena_ckpt.examples.material import VOCABULARY
from arena_ckpt.testing.golden_files import read_text, write_text
from arena_ckpt.testing.sealed import WHAT_TO_RUN, reading, seal, unseal

LOSSES_FILES = {FAST: "losses.golden", PORTABLE: "losses.portable.golden"}
"""The file of each arithmetic."""

LOSSES_VERSION = 1
TITLE = "arena-ckpt golden losses"
N_STEPS = 20

TOLERANCES: dict[str, float] = {
    "resnet8": 1e-2,
    "autoencoder": 2e-2,
    "resnet18": 1e-3,
    "mobilenet_v2": 1e-3,
    "mobilenet_v3_small": 1e-3,
    "unet": 1e-2,
}
"""Relative tolerances of losses for examples with batch normalization, which amplifies
rounding; other examples have `TOLERANCE`. BLAS kernels of other processors differed by
at most a sixth of it."""

TOLERANCE = 1e-4

SIZES: dict[str, dict[str, Any]] = {
    "transformer": {"n_layers": 1, "d": 64, "ff": 128},
    "char_transformer": {"n_layers": 1, "d": 32, "heads": 2},
    "gpt": {"n_layers": 2, "d": 32, "heads": 4, "ff": 64, "length": 16},
    "llama_tiny": {"n_layers": 1, "d": 32, "ff": 64, "length": 16},
    "resnet18": {"batch_size": 4},
    "mobilenet_v2": {"batch_size": 8},
    "mobilenet_v3_small": {"batch_size": 8, "size": 64},
    "unet": {"filters": 4, "depth": 2, "shape": (1, 24, 24)},
    "lstm_har": {"steps": 32},
}
"""Sizes with which large examples are trained here."""

LEARNING_RATES: dict[str, float] = {
    "resnet18": 1e-5,
    "mobilenet_v2": 1e-5,
    "mobilenet_v3_small": 1e-5,
}
"""Plain SGD at this rate instead of the example's own optimizer, under which rounding
of the last bit grows to whole units within 20 steps."""

_COMMENT = (
    "# Losses of the first steps; written by tools/golden.py, not by hand.",
    "# An example's line has the tolerance, relative to the loss, and its settings.",
)


def first_losses(
    name: str, n_steps: int = N_STEPS, arithmetic: str = FAST
) -> list[float]:
    """Train an example for some steps, one batch after the other; return the losses."""
    example = load_example(name, **SIZES.get(name, {}))
    x, y = example.data.x, example.data.y
    if example.data.name == "Python's standard library":
        generator = np.random.default_rng(0)
        shape = (64, x.shape[1] + 1)
        ids = generator.integers(len(VOCABULARY), size=shape).astype(np.float32)
        x, y = ids[:, :-1].copy(), ids[:, 1:].copy()
    assert y is not None
    model = example.model
    if name in LEARNING_RATES:
        model.set_learning_rate_scheduler(None)
        model.set_optimizer("sgd", learning_rate=LEARNING_RATES[name])
    n = model.get_property("batch_size")
    model.set_property(arithmetic=arithmetic)
    model.initialize()
    batches = len(x) // n
    starts = [n * (step % batches) for step in range(n_steps)]

    def labels(rows: slice) -> Any:
        if isinstance(y, dict):
            return {loss: array[rows] for loss, array in y.items()}
        return y[rows]

    return [model.train_step(x[i : i + n], labels(slice(i, i + n))) for i in starts]


def losses_text(losses: dict[str, list[float]], arithmetic: str = FAST) -> str:
    """Return the text of the file, one loss per line."""
    is_exact = arithmetic == PORTABLE
    lines = list(_COMMENT)
    for name, values in losses.items():
        settings = dict(SIZES.get(name, {}))
        if name in LEARNING_RATES:
            settings["learning_rate"] = LEARNING_RATES[name]
        tolerance = 0.0 if is_exact else TOLERANCES.get(name, TOLERANCE)
        lines.append(f"[{name}] {tolerance:g} {json.dumps(settings, sort_keys=True)}")
        lines += [repr(value) if is_exact else f"{value:.7g}" for value in values]
    return seal(TITLE, LOSSES_VERSION, lines)


def parse_losses(text: str, where: str) -> dict[str, tuple[float, list[float]]]:
    """Return the tolerance and the losses of each example.

    It raises what `unseal` does.
    """
    found: dict[str, tuple[float, list[float]]] = {}
    values: list[float] = []
    lines = unseal(text, where, TITLE, LOSSES_VERSION)
    with reading(where):
        for line in lines:
            if line.startswith("["):
                name, tolerance, _ = line.split(" ", 2)
                values = []
                found[name.strip("[]")] = (float(tolerance), values)
            elif not line.startswith("#"):
                values.append(float(line))
    return found


def loss_differences(
    name: str, pinned: tuple[float, list[float]], losses: list[float]
) -> list[str]:
    """Return a line for the first loss beyond the tolerance; empty if there is none."""
    tolerance, expected = pinned
    if len(expected) != len(losses):
        return [f"{name}: {len(expected)} losses are pinned, {len(losses)} were made"]
    for step, (loss, wanted) in enumerate(zip(losses, expected, strict=True)):
        if not math.isclose(loss, wanted, rel_tol=tolerance):
            off = abs(loss - wanted) / abs(wanted) if wanted else math.inf
            return [
                f"{name}: loss of step {step} is {loss:.9g} instead of {wanted:.9g}, "
                f"off by {off:.2g}; {tolerance:g} is allowed"
            ]
    return []


def check_losses(path: Path, arithmetic: str = FAST) -> dict[str, list[str]]:
    """Train every bundled example again; return what differs, by example.

    Raises
    ------
    GoldenFileError
        The file is missing, damaged, or pins other examples.
    """
    if not path.is_file():
        raise GoldenFileError(
            f"there is no golden file {path}; run tools/golden.py", path=str(path)
        )
    pinned = parse_losses(read_text(path), str(path))
    if list(pinned) != list(EXAMPLES):
        raise GoldenFileError(
            f"{path} pins {', '.join(pinned)}; the examples are "
            f"{', '.join(EXAMPLES)}; {WHAT_TO_RUN}",
            path=str(path),
        )
    return {
        name: loss_differences(
            name, pinned[name], first_losses(name, arithmetic=arithmetic)
        )
        for name in EXAMPLES
    }


def update_losses(path: Path, arithmetic: str = FAST) -> None:
    """Train every bundled example and write the losses to the file.

    Losses that agree with those that stand there, within their tolerance, stay as they
    are: processors differ in the last digits.
    """
    losses = {name: first_losses(name, arithmetic=arithmetic) for name in EXAMPLES}
    write_text(path, losses_text(_kept(path, losses), arithmetic))


def _kept(path: Path, losses: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return losses, with those of a file where they agree with these."""
    try:
        pinned = parse_losses(read_text(path), str(path))
    except GoldenFileError:
        return losses
    return {
        name: pinned[name][1]
        if name in pinned and not loss_differences(name, pinned[name], made)
        else made
        for name, made in losses.items()
    }
