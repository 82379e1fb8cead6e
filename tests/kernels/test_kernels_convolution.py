"""Kernels of convolution and pooling against formulas, slopes and their own text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.kernel_calls import assert_same_bits, normal, poison, run_entry, run_python
from helpers.scale import how_many
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arena_ckpt.kernels import convolution, depthwise, pooling
from arena_ckpt.kernels.kernel import Kernel
from arena_ckpt.operations.convolution import Convolution, Workspace

Array = npt.NDArray[Any]


def workspace(needed: Workspace) -> tuple[Array, Array]:
    """As a step finds it: nothing in it means anything."""
    return poison(needed.elems), np.full(needed.table_elems, 1 << 30, np.int32)


def reference(x: Array, w: Array, sizes: Convolution, *, depthwise: bool) -> Array:
    """The sums as formulas write them, in the type of x."""
    top, bottom, left, right = sizes.padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    y = np.zeros((len(x), sizes.filters, sizes.out_height, sizes.out_width), x.dtype)
    (down, aside), (apart, beside) = sizes.stride, sizes.dilation
    for i in range(sizes.kernel[0]):
        for j in range(sizes.kernel[1]):
            rows = x[:, :, i * apart :][:, :, : (sizes.out_height - 1) * down + 1]
            part = rows[:, :, ::down, j * beside :]
            part = part[..., : (sizes.out_width - 1) * aside + 1][..., ::aside]
            if depthwise:
                y += part * w[:, 0, i, j, None, None]
            else:
                y += np.einsum("nchw,fc->nfhw", part, w[:, :, i, j])
    return y


def gradients(
    x: Array, w: Array, dy: Array, sizes: Convolution, *, depthwise: bool
) -> tuple[Array, Array]:
    """Slopes of Σ dy · y for x and w, exact because y is linear in each."""

    def linear(function: Any, shape: tuple[int, ...]) -> Array:
        result = np.zeros(shape)
        for index in np.ndindex(shape):
            unit = np.zeros(shape)
            unit[index] = 1
            result[index] = (function(unit) * dy).sum()
        return result

    x, w = x.astype(np.float64), w.astype(np.float64)
    return (
        linear(lambda u: reference(u, w, sizes, depthwise=depthwise), x.shape),
        linear(lambda u: reference(x, u, sizes, depthwise=depthwise), w.shape),
    )


def assert_near(found: Array, expected: Array, what: str) -> None:
    largest = max(1e-3, float(np.abs(expected).max(initial=0)))
    assert np.abs(found - expected).max(initial=0) <= 3e-6 * largest, what


def forward(x: Array, w: Array, b: Array | None, sizes: Convolution) -> Array:
    needed = sizes.forward_workspace()
    y = poison(len(x), sizes.filters, sizes.out_height, sizes.out_width)
    run_entry(
        convolution.conv_forward,
        *(x.ravel(), w.ravel(), w.ravel() if b is None else b, int(b is not None)),
        *(*workspace(needed), y.ravel(), len(x), *sizes.numbers),
        *(needed.samples, needed.group),
    )
    return y


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    def pair(least: int, most: int) -> tuple[int, int]:
        return draw(st.integers(least, most)), draw(st.integers(least, most))

    sizes = Convolution(
        draw(st.integers(1, 9)),
        *pair(1, 10),
        draw(st.integers(1, 6)),
        pair(1, 3),
        pair(1, 3),
        pair(1, 2),
        (*pair(0, 3), *pair(0, 3)),
    )
    assume(sizes.out_height > 0 and sizes.out_width > 0)
    assume(sizes.reach[0] < sizes.height + sum(sizes.padding[:2]))
    assume(sizes.reach[1] < sizes.width + sum(sizes.padding[2:]))
    return sizes


def derivative_and_gradient(
    x: Array, w: Array, dy: Array, sizes: Convolution, beta: float
) -> tuple[Array, Array]:
    """Run both kernels; with a beta of 1 the gradient is added to ones."""
    needed = sizes.derivative_workspace()
    dx = poison(*x.shape)
    run_entry(
        convolution.conv_derivative,
        *(dy.ravel(), w.ravel(), w.ravel(), 0, *workspace(needed), dx.ravel(), len(x)),
        *(*sizes.numbers, needed.samples, needed.group),
    )
    needed = sizes.gradient_workspace()
    dw = np.full(w.shape, 1.0 if beta else np.nan, np.float32)
    run_entry(
        convolution.conv_gradient,
        *(x.ravel(), dy.ravel(), beta, *workspace(needed), dw.ravel(), len(x)),
        *(*sizes.numbers, needed.group, 0, sizes.filters),
    )
    return dx, dw


@settings(derandomize=True, deadline=None, max_examples=60)
@given(convolutions(), st.integers(1, 9), st.booleans())
def test_sums_are_those_of_the_formula(sizes: Convolution, n: int, bias: bool) -> None:
    x = normal(n, sizes.channels, sizes.height, sizes.width)
    w = normal(sizes.filters, sizes.channels, *sizes.kernel, seed=1)
    b = normal(sizes.filters, seed=2) if bias else None
    y = reference(x.astype(np.float64), w.astype(np.float64), sizes, depthwise=False)
    if b is not None:
        y += b[:, None, None]
    assert_near(forward(x, w, b, sizes), y, "forward")


@settings(derandomize=True, deadline=None, max_examples=30)
@given(convolutions(), st.integers(1, 3), st.sampled_from([0.0, 1.0]))
def test_derivative_and_gradient_are_slopes(
    sizes: Convolution, n: int, beta: float
) -> None:
    sizes = replace(sizes, channels=min(sizes.channels, 3))
    x = normal(n, sizes.channels, sizes.height, sizes.width)
    w = normal(sizes.filters, sizes.channels, *sizes.kernel, seed=1)
    dy = normal(n, sizes.filters, sizes.out_height, sizes.out_width, seed=3)
    expected_dx, expected_dw = gradients(x, w, dy, sizes, depthwise=False)

    dx, dw = derivative_and_gradient(x, w, dy, sizes, beta)
    assert_near(dx, expected_dx, "derivative")
    assert_near(dw - beta, expected_dw, "gradient")

    db = np.full(sizes.filters, 1.0 if beta else np.nan, np.float32)
    plane = sizes.out_height * sizes.out_width
    run_entry(convolution.conv_bias_gradient, dy.ravel(), beta, db, n, plane)
    expected_db = dy.sum(axis=(0, 2, 3), dtype=np.float64)
    assert_near(db - beta, expected_db, "gradient of the bias")


def depthwise_results(
    x: Array, w: Array, b: Array, dy: Array, sizes: Convolution, beta: float = 0.0
) -> tuple[Array, Array, Array]:
    """Return y, dx and dw; dw is added to ones where beta is 1."""
    n, needed = len(x), sizes.depthwise_workspaces()
    y, dx = poison(*dy.shape), poison(*x.shape)
    dw = np.full(w.shape, 1.0 if beta else np.nan, np.float32)
    run_entry(
        depthwise.depthwise_forward,
        *(x.ravel(), w.ravel(), b, 1, *workspace(needed[0]), y.ravel(), n),
        *sizes.numbers,
    )
    run_entry(
        depthwise.depthwise_gradient,
        *(x.ravel(), dy.ravel(), beta, *workspace(needed[1]), dw.ravel(), n),
        *(*sizes.numbers, 0, sizes.channels),
    )
    run_entry(
        depthwise.depthwise_derivative,
        *(dy.ravel(), w.ravel(), *workspace(needed[2]), dx.ravel(), n),
        *sizes.numbers,
    )
    return y, dx, dw


@settings(derandomize=True, deadline=None, max_examples=30)
@given(convolutions(), st.integers(1, 3), st.sampled_from([0.0, 1.0]))
def test_depthwise_sums_and_slopes(sizes: Convolution, n: int, beta: float) -> None:
    channels = min(sizes.channels, 3)
    sizes = replace(sizes, channels=channels, filters=channels)
    x = normal(n, channels, sizes.height, sizes.width)
    w, b = normal(channels, 1, *sizes.kernel, seed=1), normal(channels, seed=2)
    dy = normal(n, channels, sizes.out_height, sizes.out_width, seed=3)
    expected_dx, expected_dw = gradients(x, w, dy, sizes, depthwise=True)
    y, dx, dw = depthwise_results(x, w, b, dy, sizes, beta)
    expected = reference(x, w, sizes, depthwise=True) + b[:, None, None]
    assert_near(y, expected, "forward")
    assert_near(dx, expected_dx, "derivative")
    assert_near(dw - beta, expected_dw, "gradient")


def same(size: tuple[int, int], kernel: int, stride: int) -> Convolution:
    """A depthwise convolution with the padding ``same``."""
    outs = [-(-n // stride) for n in size]
    rest = [
        max(0, (o - 1) * stride + kernel - n) for o, n in zip(outs, size, strict=True)
    ]
    padding = (rest[0] // 2, -(-rest[0] // 2), rest[1] // 2, -(-rest[1] // 2))
    return Convolution(2, *size, 2, (kernel,) * 2, (stride,) * 2, (1, 1), padding)


UNEVEN = [
    *(same((9, 9), 5, 2), same((7, 7), 4, 2), same((7, 7), 3, 2), same((5, 5), 3, 2)),
    *(same((28, 28), 5, 2), same((14, 14), 5, 2), same((7, 7), 5, 2)),
    *(same((1, 1), 3, 2), same((1, 17), 3, 4), same((11, 2), 3, 3)),
]
"""Widths in which some phases of the stride have fewer columns, and some even ones."""


def random_convolutions(n: int, seed: int = 0) -> list[Convolution]:
    """Sizes of 1, strides above the kernel, dilation, padding on one side."""
    generator = np.random.default_rng(seed)

    def pair(least: int, most: int) -> tuple[int, int]:
        a, b = generator.integers(least, most + 1, 2)
        return int(a), int(b)

    found: list[Convolution] = []
    while len(found) < n:
        channels, most = (
            int(generator.integers(1, 4)),
            int(generator.choice([4, 12, 40])),
        )
        padding = tuple(
            int(p) if generator.random() < 0.5 else 0
            for p in generator.integers(0, 5, 4)
        )
        sizes = Convolution(
            *(channels, *pair(1, most), channels, pair(1, 6), pair(1, 5), pair(1, 3)),
            (padding[0], padding[1], padding[2], padding[3]),
        )
        if sizes.out_height > 0 and sizes.out_width > 0:
            found.append(sizes)
    return found


def judged(
    x: Array, w: Array, b: Array, dy: Array, sizes: Convolution, groups: int
) -> tuple[Array, Array, Array]:
    """Return outputs and both derivatives by PyTorch, in float64."""
    torch = pytest.importorskip("torch")
    given = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (x, w)]
    top, bottom, left, right = sizes.padding
    bordered = torch.nn.functional.pad(given[0], (left, right, top, bottom))
    y = torch.conv2d(
        *(bordered, given[1], torch.tensor(b, dtype=torch.float64)),
        *(sizes.stride, 0, sizes.dilation, groups),
    )
    y.backward(torch.tensor(dy, dtype=torch.float64))
    return y.detach().numpy(), given[0].grad.numpy(), given[1].grad.numpy()


def assert_judged(
    found: tuple[Array, ...], expected: tuple[Array, ...], sizes: Convolution
) -> None:
    names = ("forward", "derivative", "gradient")
    for value, right, what in zip(found, expected, names, strict=True):
        assert_near(value, right, f"{what} of {sizes}")


def test_depthwise_convolutions_are_those_of_pytorch() -> None:
    """Where the phases of a stride differ in width, too."""
    for sizes in (*UNEVEN, *random_convolutions(how_many(60, 2000))):
        n, channels, plane = 2, sizes.channels, (sizes.out_height, sizes.out_width)
        x = normal(n, channels, sizes.height, sizes.width)
        w, b = normal(channels, 1, *sizes.kernel, seed=1), normal(channels, seed=2)
        dy = normal(n, channels, *plane, seed=3)
        found = depthwise_results(x, w, b, dy, sizes)
        assert_judged(found, judged(x, w, b, dy, sizes, channels), sizes)


SMALL = [
    Convolution(channels, *size, channels, (3, 3), stride, (1, 1), padding)
    for channels, size, stride, padding in (
        (12, (3, 3), (1, 1), (1, 1, 1, 1)),
        (8, (6, 6), (2, 2), (0, 1, 0, 1)),
        (17, (2, 2), (1, 1), (1, 1, 1, 1)),
        (9, (5, 7), (2, 1), (1, 1, 1, 1)),
        (8, (1, 4), (2, 2), (1, 1, 1, 1)),
    )
]
"""Planes of which channels are the lanes of vectors, also of those before."""


def test_depthwise_convolutions_of_small_planes_are_those_of_pytorch() -> None:
    for sizes in SMALL:
        n, channels, plane = 3, sizes.channels, (sizes.out_height, sizes.out_width)
        x = normal(n, channels, sizes.height, sizes.width)
        w, b = normal(channels, 1, *sizes.kernel, seed=1), normal(channels, seed=2)
        dy = normal(n, channels, *plane, seed=3)
        y, dx, dw = depthwise_results(x, w, b, dy, sizes, 1.0)
        expected = judged(x, w, b, dy, sizes, channels)
        assert_judged((y, dx, dw - 1), expected, sizes)
        parts = np.ones_like(dw)
        for begin, end in ((0, 5), (5, channels)):  # as by two threads
            run_entry(
                depthwise.depthwise_gradient,
                *(x.ravel(), dy.ravel(), 1.0),
                *workspace(sizes.depthwise_workspaces()[1]),
                *(parts.ravel(), n, *sizes.numbers, begin, end),
            )
        assert_same_bits(parts, dw)


WHOLE_BLOCKS = [
    Convolution(channels, *size, filters, kernel, stride, (1, 1), padding)
    for channels, size, filters, kernel, stride, padding in (
        (16, (6, 8), 12, (3, 3), (1, 1), (1, 1, 1, 1)),
        (16, (5, 19), 9, (3, 3), (1, 1), (1, 1, 1, 1)),
        (20, (4, 4), 13, (3, 3), (1, 1), (1, 1, 1, 1)),
        (32, (6, 16), 8, (3, 3), (2, 2), (1, 0, 1, 0)),
        (24, (3, 9), 21, (1, 1), (1, 1), (0, 0, 0, 0)),
        (9, (8, 8), 17, (1, 1), (2, 2), (0, 0, 0, 0)),
        (16, (1, 33), 16, (1, 9), (1, 1), (0, 0, 4, 4)),
    )
]
"""Filters and channels of which tiles take eight at a time, and rests of them."""


def test_convolutions_of_many_filters_are_those_of_pytorch() -> None:
    for sizes in WHOLE_BLOCKS:
        n = 3
        x = normal(n, sizes.channels, sizes.height, sizes.width)
        w = normal(sizes.filters, sizes.channels, *sizes.kernel, seed=1)
        b = normal(sizes.filters, seed=2)
        dy = normal(n, sizes.filters, sizes.out_height, sizes.out_width, seed=3)
        dx, dw = derivative_and_gradient(x, w, dy, sizes, 1.0)
        found = forward(x, w, b, sizes), dx, dw - 1
        assert_judged(found, judged(x, w, b, dy, sizes, 1), sizes)


def test_a_phase_of_fewer_columns_takes_nothing_from_its_workspace() -> None:
    """3 outputs of 5 inputs: of each filter, dx is what its taps reach."""
    sizes = same((1, 5), 3, 2)
    sizes = replace(sizes, channels=1, filters=1, kernel=(1, 3), padding=(0, 0, 1, 1))
    x, w = np.zeros((1, 1, 1, 5), np.float32), np.array([1, 10, 100], np.float32)
    dy = np.array([1, 2, 3], np.float32).reshape(1, 1, 1, 3)
    _, dx, _ = depthwise_results(x, w, np.zeros(1, np.float32), dy, sizes)
    assert dx.ravel().tolist() == [10, 102, 20, 203, 30]


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7, 8, 9, 17])
def test_a_sample_has_the_same_bits_alone_and_among_others(width: int) -> None:
    sizes = Convolution(5, 3, width, 6, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    x, w = normal(11, 5, 3, width), normal(6, 5, 3, 3, seed=1)
    together = forward(x, w, None, sizes)
    for i in range(11):
        assert_same_bits(forward(x[i : i + 1], w, None, sizes)[0], together[i])


def pool_arguments(kernel: Kernel) -> tuple[Any, ...]:
    x, dy = normal(2 * 9 * 7), normal(2 * 4 * 3, seed=1)
    places = np.zeros(2 * 4 * 3, np.int32)
    sizes = (2, 9, 7, 3, 3, 2, 2, 0, 0, 4, 3)
    if kernel is pooling.average_derivative:
        return (dy, poison(3), x, *sizes)
    if kernel is pooling.average_forward:
        return (x, dy, *sizes)
    if kernel is pooling.max_derivative:
        return (dy, places, x, *sizes)
    return (x, dy, places, *sizes)


@pytest.mark.parametrize(
    "kernel",
    [
        pooling.max_forward,
        pooling.max_forward_wide,
        pooling.max_derivative,
        pooling.average_forward,
        pooling.average_derivative,
    ],
    ids=lambda k: k.name,
)
def test_the_python_text_of_pooling_gives_the_same_bits(kernel: Kernel) -> None:
    def copies() -> list[Any]:
        given = pool_arguments(kernel)
        return [v.copy() if isinstance(v, np.ndarray) else v for v in given]

    by_hand, compiled = copies(), copies()
    run_python(kernel, *by_hand)
    run_entry(kernel, *compiled)
    for ours, theirs in zip(by_hand, compiled, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("height", "width"), [(4, 16), (5, 23), (2, 6), (7, 40)])
def test_squares_keep_the_greatest_and_give_it_all(height: int, width: int) -> None:
    rows, columns = height // 2, width // 2
    x = np.random.default_rng(0).integers(-2, 3, (2, height, width)).astype("f")
    x[0, 0, :4] = np.nan, 1, -np.inf, np.nan
    dy, places = normal(2 * rows * columns), np.zeros(2 * rows * columns, np.int32)
    sizes = (2, height, width, 2, 2, 2, 2, 0, 0, rows, columns)
    found = []
    for run in (run_python, run_entry):
        y, dx = poison(dy.size), poison(x.size)
        run(pooling.max_forward, x.ravel(), y, places, *sizes)
        run(pooling.max_derivative, dy, places, dx, *sizes)
        found.append((y, dx))
    for ours, theirs in zip(*found, strict=True):
        assert_same_bits(ours, theirs)
    squares = x[:, : 2 * rows, : 2 * columns].reshape(2, rows, 2, columns, 2)
    squares = squares.transpose(0, 1, 3, 2, 4).reshape(-1, 4)
    expected = np.zeros((dy.size, 4), np.float32)
    first = np.argmax(squares, axis=1)  # NaN is greater than everything there too
    expected[np.arange(dy.size), first] = dy
    dx = found[0][1].reshape(2, height, width)
    dx = dx[:, : 2 * rows, : 2 * columns].reshape(2, rows, 2, columns, 2)
    assert_same_bits(dx.transpose(0, 1, 3, 2, 4).reshape(-1, 4), expected)
    assert_same_bits(found[1][0], squares.max(axis=1))


def test_the_python_text_of_a_convolution_gives_the_same_sums() -> None:
    sizes = Convolution(3, 4, 5, 4, (2, 3), (2, 1), (1, 1), (1, 0, 1, 1))
    x, w = normal(3, 3, 4, 5), normal(4, 3, 2, 3, seed=1)
    needed = sizes.forward_workspace()
    y = poison(3, 4, sizes.out_height, sizes.out_width)
    arguments = (x.ravel(), w.ravel(), w.ravel(), 0, *workspace(needed), y.ravel(), 3)
    sized = (*sizes.numbers, needed.samples, needed.group)
    run_python(convolution.conv_forward, *arguments, *sized)
    assert_near(forward(x, w, None, sizes), y, "forward")


def test_bilinear_upsampling_has_the_slopes_of_its_sums() -> None:
    dy, dx = normal(4 * 9, seed=1), poison(6)
    run_entry(pooling.bilinear_derivative, dy, dx, 1, 2, 3, 2, 3)

    def total(x: Array) -> Array:
        y = poison(4 * 9)
        pooling.bilinear_forward(x.astype(np.float32), y, 1, 2, 3, 2, 3)
        return y.astype(np.float64) * dy

    units = [total(unit).sum() for unit in np.eye(6, dtype=np.float32)]
    assert_near(dx, np.array(units), "slopes")
