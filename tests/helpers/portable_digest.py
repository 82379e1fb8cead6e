"""What portable kernels compute for some sizes, as a digest."""

from __future__ import annotations

import hashlib

import numpy as np

from arena_ckpt.kernels import chains, direct, direct_depthwise
from arena_ckpt.operations.convolution import Convolution


def normal(generator: np.random.Generator, n: int) -> np.ndarray:
    return generator.normal(size=n).astype(np.float32)


def digest() -> str:
    """Return a digest of products and convolutions of many sizes."""
    generator = np.random.default_rng(4)
    found = hashlib.sha256()
    for m, n, k in ((1, 1, 1), (3, 10, 17), (8, 16, 5), (13, 70, 300), (4, 49, 129)):
        a, b, c = (normal(generator, size) for size in (m * k, k * n, m * n))
        sizes = (m, n, k)
        for transposed in (0, 1):
            width = k if transposed else n
            chains.chain_windows(
                0, transposed, *sizes, a, 0, k, b, 0, width, float(transposed), c, 0, n
            )
            found.update(c.tobytes())
    for channels, side, filters, kernel, stride in (
        *((1, 8, 3, 3, 1), (5, 13, 20, 3, 2), (17, 6, 9, 1, 2), (40, 9, 33, 5, 1)),
        (3, 70, 4, 3, 3),
    ):
        pads = (kernel // 2,) * 4
        shape = (channels, side, side + 2)
        for depthwise in (False, True):
            outputs = channels if depthwise else filters
            geometry = Convolution(
                *shape, outputs, (kernel, kernel), (stride, 1), (1, 1), pads
            )
            numbers = (3, *geometry.numbers)
            x = normal(generator, 3 * channels * side * (side + 2))
            n_weights = outputs * kernel**2 * (1 if depthwise else channels)
            weight, bias = normal(generator, n_weights), normal(generator, outputs)
            out = 3 * outputs * geometry.out_height * geometry.out_width
            y, dy, dx = normal(generator, out), normal(generator, out), x.copy()
            dw = weight.copy()
            if depthwise:
                family, stem = direct_depthwise, "direct_depthwise"
                given = (dy, weight, dx)
            else:
                family, stem = direct, "direct"
                given = (dy, weight, bias, 0, dx)
            getattr(family, f"{stem}_forward")(x, weight, bias, 1, y, *numbers)
            getattr(family, f"{stem}_derivative")(*given, *numbers)
            getattr(family, f"{stem}_gradient")(x, dy, 1.0, dw, *numbers)
            for array in (y, dx, dw):
                found.update(array.tobytes())
    return found.hexdigest()
