"""Time of one training step in exported C beside the engine, interleaved.

Both train the same model in portable arithmetic, on the same batch, in processes of
their own that take turns. C is built with ``-O3 -march=native``. Shown are medians over
the rounds, in microseconds of wall time a step, and C's share of the engine's time.

    python tools/bench/c_speed.py [--compiler gcc] [--rounds 15]
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from interleaved import Step, measure

CASES = {"digits_mlp": 20, "small_cnn": 20, "digits_cnn": 4}
"""Steps of a round, by model; `small_cnn` is that of the tutorial, in 256 KiB."""

FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-strict-aliasing")
_COMPILER = "C_SPEED_COMPILER"

FEED = """
#include "net.h"

static const float *samples, *labels;

static int feed(void *context, int32_t first, int32_t n)
{
    static const int32_t elements[NET_INPUTS] = NET_INPUT_ELEMENTS;
    int32_t i;
    (void)context;
    for (i = 0; i < n * elements[0]; i++) {
        net_input(0)[i] = samples[first * elements[0] + i];
    }
    for (i = 0; i < n * NET_LABEL_ELEMENTS; i++) {
        net_label()[i] = labels[first * NET_LABEL_ELEMENTS + i];
    }
    return 0;
}

double bench_steps(const float *x, const float *y, int32_t n)
{
    samples = x;
    labels = y;
    return net_train(n, feed, 0) == NET_OK ? net_loss() : -1.0;
}
"""
"""C that feeds the same batch again and again."""


def model_of(case: str) -> tuple[Any, dict[str, Any]]:
    """Return a model in portable arithmetic, and what its plan is asked for."""
    import arena_ckpt as ac
    from arena_ckpt.examples.networks import digits_cnn
    from arena_ckpt.importers.ini import load_ini

    request: dict[str, Any] = {}
    if case == "digits_mlp":
        model = load_ini(str(resources.files("arena_ckpt.examples") / "digits_mlp.ini"))
    elif case == "digits_cnn":
        model = digits_cnn()
    else:
        request["budget"] = "256KiB"
        model = ac.Model(seed=0)
        model.add_layer("input", name="in", input_shape="1:8:8")
        for i, stride in ((1, "1,1"), (2, "1,1"), (3, "2,2")):
            model.add_layer(
                "conv2d",
                name=f"conv{i}",
                filters=8,
                kernel_size="3,3",
                stride=stride,
                padding="same",
            )
            model.add_layer("activation", name=f"act{i}", activation="gelu")
        model.add_layer("flatten", name="flat")
        model.add_layer("fully_connected", name="logits", unit=10)
        model.add_layer("cross_softmax", name="loss")
        model.set_property(batch_size=32)
        model.set_optimizer("adam", learning_rate=0.003)
    model.set_property(arithmetic="portable")
    return model, request


def batch_of(model: Any) -> tuple[Any, Any]:
    """Return samples of digits, and one-hot labels."""
    import numpy as np

    import arena_ckpt as ac

    digits = ac.load_digits()
    n = model.get_property("batch_size")
    label = np.zeros((n, 10), np.float32)
    label[np.arange(n), digits.y[:n]] = 1
    return np.ascontiguousarray(digits.x[:n], np.float32), label


def engine(case: str, threads: int) -> tuple[Step, dict[str, object]]:
    """Set up the engine."""
    model, request = model_of(case)
    model.set_property(threads=threads)
    model.initialize(**request)
    x, y = batch_of(model)
    return lambda: model.train_step(x, y), {"loss": model.train_step(x, y)}


def exported(case: str, threads: int) -> tuple[Step, dict[str, object]]:
    """Export, build and load the C project."""
    from arena_ckpt.device.export_c import export_c

    model, request = model_of(case)
    x, y = batch_of(model)
    folder = Path(tempfile.mkdtemp(prefix="c_speed"))
    export_c(model, folder, name="net", steps=1, **request)
    (folder / "feed.c").write_text(FEED, "utf-8")
    sources = [*sorted(folder.glob("src/*.c")), folder / "feed.c"]
    subprocess.run(
        [
            *(os.environ[_COMPILER], *FLAGS, "-std=c99", f"-I{folder / 'src'}"),
            *("-shared", "-fPIC", "-o", str(folder / "net.so"), *map(str, sources)),
        ],
        check=True,
    )
    library = ctypes.CDLL(str(folder / "net.so"))
    library.bench_steps.restype = ctypes.c_double
    library.net_init()
    given = (ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data), 1)
    step: Callable[[], Any] = lambda: library.bench_steps(*given)  # noqa: E731
    return step, {"loss": step(), "keep": (x, y)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", default="gcc")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    os.environ[_COMPILER] = options.compiler
    print(f"{'':12} {'engine':>10} {'C':>10}  C / engine")
    for case, n_steps in CASES.items():
        found = measure(
            {"engine": engine, "C": exported},
            case,
            threads=1,
            rounds=options.rounds,
            n_steps=n_steps,
        )
        ours, c = found["engine"], found["C"]
        same = "" if ours.facts["loss"] == c.facts["loss"] else "  the losses DIFFER"
        print(
            f"{case:12} {ours.wall:10.0f} {c.wall:10.0f} {c.wall / ours.wall:11.2f}"
            f"{same}",
            flush=True,
        )


if __name__ == "__main__":
    main()
