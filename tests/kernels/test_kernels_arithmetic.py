from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.kernel_calls import (
    SIZES,
    assert_python_agrees,
    assert_same_bits,
    normal,
    poison,
    run_entry,
    slope,
)

from arena_ckpt.kernels import arithmetic, blas, losses, rearrange
from arena_ckpt.kernels.kernel import Kernel

Array = npt.NDArray[Any]
FULL = (2, 3, 4, 5)
MASKS = list(itertools.product([0, 1], repeat=4))
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
}


def exact(x: Array) -> Array:
    return x.astype(np.float64)


def positive(size: int, seed: int = 0) -> Array:
    return np.abs(normal(size, seed=seed)) + np.float32(0.5)


def steps(shape: tuple[int, ...]) -> list[int]:
    """Elements between neighbours; 0 along axes of size 1."""
    return [
        math.prod(shape[axis + 1 :]) if size > 1 else 0
        for axis, size in enumerate(shape)
    ]


def masked(mask: tuple[int, ...], shape: tuple[int, ...] = FULL) -> tuple[int, ...]:
    return tuple(size if kept else 1 for size, kept in zip(shape, mask, strict=True))


# -- one pass over whole tensors -------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["subtract", "multiply", "divide"])
def test_two_operands(name: str, size: int) -> None:
    a, b, y = normal(size), normal(size, seed=1), poison(size)
    made = getattr(arithmetic, name)
    run_entry(made, a, b, y)
    assert_same_bits(y, BINARY[name](a, b))
    for into in (0, 1):
        pair = [a.copy(), b.copy()]
        run_entry(made, *pair, pair[into])
        assert_same_bits(pair[into], y)
    run_entry(made, a, a, y)
    assert_same_bits(y, BINARY[name](a, a))


@pytest.mark.parametrize("size", SIZES)
def test_derivatives_of_products_and_quotients(size: int) -> None:
    a, b, dy = normal(size), positive(size, 1), normal(size, seed=2)
    da, db = poison(size), poison(size)
    run_entry(arithmetic.multiply_derivatives, a, b, dy, da, db)
    assert_same_bits(da, dy * b)
    assert_same_bits(db, dy * a)
    y = a / b
    run_entry(arithmetic.divide_derivatives, b, y, dy, da, db)
    assert_same_bits(da, dy / b)
    np.testing.assert_allclose(db, -exact(dy) * exact(a) / exact(b) ** 2, rtol=1e-6)
    alone = poison(size)
    run_entry(arithmetic.divisor_derivative, b, y, dy, alone)
    assert_same_bits(alone, db)


@pytest.mark.parametrize("places", list(itertools.permutations(range(3), 2)))
@pytest.mark.parametrize(
    "made", [arithmetic.multiply_derivatives, arithmetic.divide_derivatives]
)
def test_both_derivatives_may_overwrite(made: Kernel, places: tuple[int, int]) -> None:
    given = [normal(100), positive(100, 1), normal(100, seed=2)]
    da, db = poison(100), poison(100)
    run_entry(made, *given, da, db)
    copies = [array.copy() for array in given]
    run_entry(made, *copies, copies[places[0]], copies[places[1]])
    assert_same_bits(copies[places[0]], da)
    assert_same_bits(copies[places[1]], db)


@pytest.mark.parametrize("size", SIZES)
def test_negative_and_square_root(size: int) -> None:
    x, dy, y, dx = positive(size), normal(size, seed=1), poison(size), poison(size)
    run_entry(arithmetic.negative, x, y)
    assert_same_bits(y, -x)
    run_entry(arithmetic.square_root, x, y)
    assert_same_bits(y, np.sqrt(x))
    run_entry(arithmetic.square_root_derivative, y, dy, dx)
    np.testing.assert_allclose(dx, exact(dy) / (2 * np.sqrt(exact(x))), rtol=3e-7)
    for into in (0, 1):
        pair = [y.copy(), dy.copy()]
        run_entry(arithmetic.square_root_derivative, *pair, pair[into])
        assert_same_bits(pair[into], dx)


def test_square_root_of_what_has_none() -> None:
    x, y = np.array([-1, 0, np.inf, np.nan], np.float32), poison(4)
    run_entry(arithmetic.square_root, x, y)
    assert_same_bits(y, np.array([np.nan, 0, np.inf, np.nan], np.float32))


# -- powers ----------------------------------------------------------------------------

EXPONENTS = (0, 1, 2, 3, 0.5, -0.5, -1, -2, 1.7, 5, -3, 0.001, 30, -30)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_power(exponent: float) -> None:
    edges = np.array([0, 1, -1, 1e-40, 1e-20, 3e38, np.inf, np.nan], np.float32)
    whole = exponent == math.floor(exponent)
    x = np.concatenate([normal(500, spread=5.0), edges])
    x = x if whole else np.concatenate([x, [np.float32(-2.5)]])
    y, dy = poison(x.size), normal(x.size, seed=1)
    run_entry(arithmetic.power, x, exponent, y)
    with np.errstate(all="ignore"):
        expected = np.power(exact(x), exponent).astype(np.float32)
        dx_expected = exact(dy) * exponent * np.power(exact(x), exponent - 1)
        dx_expected = dx_expected.astype(np.float32)
    np.testing.assert_allclose(y, expected, rtol=4e-7, atol=1e-45)
    if exponent == 0:
        dx_expected[:] = 0
    with np.errstate(all="ignore"):
        usual = np.isfinite(dx_expected) & (np.abs(dx_expected) > 1e-30)
        usual &= (np.abs(x) > 1e-30) & np.isfinite(x)
    dx = poison(x.size)
    run_entry(arithmetic.power_derivative, x, exponent, dy, dx)
    np.testing.assert_allclose(dx[usual], dx_expected[usual], rtol=6e-7)
    for into in (0, 1):
        pair = [x.copy(), dy.copy()]
        run_entry(arithmetic.power_derivative, pair[0], exponent, pair[1], pair[into])
        assert_same_bits(pair[into], dx)
    run_entry(arithmetic.power, x, exponent, x)
    assert_same_bits(x, y)


@pytest.mark.parametrize("exponent", [2, 3, 0.5, -0.5, -1, 2.3, -1.2])
def test_power_derivative_is_the_slope(exponent: float) -> None:
    x, dx = positive(20), poison(20)
    run_entry(arithmetic.power_derivative, x, exponent, np.ones(20, np.float32), dx)
    np.testing.assert_allclose(dx, slope(lambda v: v**exponent, x), rtol=1e-5)


def test_logarithm_and_exponential_in_float64() -> None:
    from arena_ckpt.kernels.vector_math import exp_double, log_double

    generator = np.random.default_rng(0)
    x = np.concatenate([10 ** generator.uniform(-300, 300, 300), [1, 0.5, 2, 1e-310]])
    for value in x[:-1]:
        assert log_double(value) == pytest.approx(np.log(value), abs=1e-11, rel=1e-11)
    assert log_double(1.0) == 0
    for value in (0.0, -1.0, np.inf, np.nan):
        assert np.isnan(log_double(value))
    for value in [*generator.uniform(-700, 700, 300), 0.0]:
        assert exp_double(value) == pytest.approx(np.exp(value), rel=2e-9)
    assert exp_double(0.0) == 1


# -- broadcasting and sums -------------------------------------------------------------


@pytest.mark.parametrize("name", BINARY)
def test_broadcasting(name: str) -> None:
    made = getattr(arithmetic, f"broadcast_{name}")
    for mask in MASKS:
        a, b = normal(*FULL), normal(*masked(mask), seed=1)
        for left, right in ((a, b), (b, a)):
            y = poison(*FULL)
            run_entry(
                made,
                *(left.ravel(), right.ravel(), y.ravel(), *FULL),
                *(*steps(left.shape), *steps(right.shape)),
            )
            assert_same_bits(y, BINARY[name](left, right))
    # Both are repeated along some axis.
    a, b, y = normal(2, 1, 4, 5), normal(2, 3, 1, 5, seed=1), poison(*FULL)
    run_entry(
        made,
        *(a.ravel(), b.ravel(), y.ravel(), *FULL, *steps(a.shape), *steps(b.shape)),
    )
    assert_same_bits(y, BINARY[name](a, b))


def test_broadcasting_into_the_operand_that_is_whole() -> None:
    a, b = normal(*FULL), normal(2, 1, 4, 1, seed=1)
    expected = a / b
    whole, part = a.ravel(), b.ravel()
    sizes = (*FULL, *steps(FULL), *steps(b.shape))
    run_entry(arithmetic.broadcast_divide, whole, part, whole, *sizes)
    assert_same_bits(whole.reshape(FULL), expected)


def test_repeating() -> None:
    for mask in MASKS:
        x, y = normal(*masked(mask)), poison(*FULL)
        run_entry(arithmetic.repeat, x.ravel(), 0.3, y.ravel(), *FULL, *steps(x.shape))
        assert_same_bits(y, np.broadcast_to(np.float32(0.3) * x, FULL).copy())


def test_sums_over_any_axes() -> None:
    x = normal(*FULL)
    for mask in MASKS:
        axes = tuple(axis for axis in range(4) if not mask[axis])
        y = poison(*masked(mask))
        run_entry(
            arithmetic.sum_plain, x.ravel(), 0.5, y.ravel(), *FULL, *steps(y.shape)
        )
        expected = 0.5 * exact(x).sum(axis=axes, keepdims=True)
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-7)
        # The factor has all axes that are summed; others it may repeat along.
        for other in MASKS:
            z_mask = tuple(int(o or not m) for o, m in zip(other, mask, strict=True))
            z = 1 + np.abs(normal(*masked(z_mask), seed=1))
            for made, term in (
                (arithmetic.sum_products, exact(x) * z),
                (arithmetic.sum_quotients, exact(x) / z),
            ):
                run_entry(
                    made,
                    *(x.ravel(), z.ravel(), 0.5, y.ravel(), *FULL),
                    *(*steps(y.shape), *steps(z.shape)),
                )
                expected = 0.5 * term.sum(axis=axes, keepdims=True)
                np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("width", [1, 31, 32, 33, 255, 256, 257, 1000])
def test_sums_of_wide_rows(width: int) -> None:
    x, z = normal(3, 7, width), normal(3, 7, width, seed=1)
    sizes = (1, 3, 7, width)
    kept, summed = poison(3, width), poison(3, 7)
    over_rows = (0, width, 0, 1 if width > 1 else 0)
    run_entry(
        arithmetic.sum_products,
        *(x.ravel(), z.ravel(), 1.0, kept.ravel(), *sizes),
        *(*over_rows, 0, 7 * width, width, 1),
    )
    expected = (exact(x) * z).sum(axis=1)
    np.testing.assert_allclose(kept, expected, rtol=1e-5, atol=1e-5)
    sizes = (1, 1, 21, width)
    run_entry(arithmetic.sum_plain, x.ravel(), 1.0, summed.ravel(), *sizes, 0, 0, 1, 0)
    np.testing.assert_allclose(summed, exact(x).sum(axis=2), rtol=1e-5, atol=1e-6)


def test_sums_are_rounded_once() -> None:
    x = np.full(10_000, 0.1, np.float32)
    x[0] = 1e6
    y = poison(1)
    run_entry(arithmetic.sum_plain, x, 1.0, y, 1, 1, 1, x.size, 0, 0, 0, 0)
    assert y[0] == np.float32(exact(x).sum())


# -- copies to other places ------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (17, 24), (40, 33), (2, 0)])
def test_transpose(shape: tuple[int, int]) -> None:
    rows, columns = shape
    x, y = normal(2, rows, 3, columns), poison(2, columns, 3, rows)
    run_entry(
        rearrange.transpose,
        *(x.ravel(), y.ravel(), 2, 3, rows, columns),
        *(rows * 3 * columns, columns, 3 * columns),
        *(rows * 3 * columns, rows, 3 * rows),
    )
    assert_same_bits(y, x.transpose(0, 3, 2, 1).copy())


@pytest.mark.parametrize("width", [1, 2, 9, 300])
def test_rows_are_copied_between_steps(width: int) -> None:
    x, y = normal(2, 3, 4, width), poison(2, 4, 3, width)
    run_entry(
        rearrange.copy_rows,
        *(x.ravel(), y.ravel(), 2, 3, 4, width),
        *(0, 12 * width, 4 * width, width),
        *(0, 12 * width, width, 3 * width),
    )
    assert_same_bits(y, x.transpose(0, 2, 1, 3).copy())


@pytest.mark.parametrize(("start", "width"), [(0, 4), (2, 3), (6, 1), (0, 7)])
def test_rows_are_placed_among_zeros(start: int, width: int) -> None:
    x, y = normal(3, width), poison(3, 7)
    run_entry(rearrange.place_rows, x.ravel(), y.ravel(), 3, width, start, 7)
    expected = np.zeros((3, 7), np.float32)
    expected[:, start : start + width] = x
    assert_same_bits(y, expected)


# -- products --------------------------------------------------------------------------


@pytest.mark.parametrize("transposed", list(itertools.product([0, 1], repeat=2)))
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 4, 5), (17, 8, 33)])
def test_matmul_each(sizes: tuple[int, int, int], transposed: tuple[int, int]) -> None:
    rows, inner, columns = sizes
    a, b = normal(4, rows, inner), normal(4, inner, columns, seed=1)
    c = poison(4, rows, columns)
    stored_a = a.transpose(0, 2, 1).ravel() if transposed[0] else a.ravel()
    stored_b = b.transpose(0, 2, 1).ravel() if transposed[1] else b.ravel()
    run_entry(blas.matmul_each, stored_a, stored_b, c.ravel(), 4, *sizes, *transposed)
    np.testing.assert_allclose(c, exact(a) @ exact(b), rtol=1e-5, atol=1e-5)


# -- losses ----------------------------------------------------------------------------


def distribution(*shape: int, seed: int = 0) -> Array:
    p = np.random.default_rng(seed).uniform(0.1, 1, shape).astype(np.float32)
    return p / p.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("size", SIZES)
def test_kld(size: int) -> None:
    q, p = distribution(size), distribution(size, seed=1)
    p[::5] = 0
    loss, dq, scale = np.array([3.0]), poison(size), np.array([0.25])
    run_entry(losses.kld_loss, q, p, scale, loss)
    some = p > 0
    terms = exact(p[some]) * np.log(exact(p[some]) / exact(q[some]))
    np.testing.assert_allclose(loss[0], 3 + 0.25 * terms.sum(), rtol=1e-12)
    run_entry(losses.kld_derivative, q, p, scale, dq)
    np.testing.assert_allclose(dq, -0.25 * exact(p) / q, rtol=1e-6)
    run_entry(losses.kld_derivative, q, p, scale, q)
    assert_same_bits(q, dq)


def test_kld_of_impossible_guesses() -> None:
    loss, scale = np.zeros(1), np.ones(1)
    q, p = np.array([0, 1], np.float32), np.array([0, 1], np.float32)
    run_entry(losses.kld_loss, q, p, scale, loss)
    dq = poison(2)
    run_entry(losses.kld_derivative, q, p, scale, dq)
    assert loss[0] == 0
    assert dq.tolist() == [0, -1]
    for nothing in (0.0, -0.0):
        loss[0] = 0.0
        q[0] = nothing
        run_entry(losses.kld_loss, q, p[::-1].copy(), scale, loss)
        assert loss[0] == np.inf
    q[0], loss[0] = -0.5, 0.0
    run_entry(losses.kld_loss, q, p[::-1].copy(), scale, loss)
    assert np.isnan(loss[0])
    least = np.array([1e-45, 1e-45], np.float32)  # as near to 0 as float32 comes
    loss[0] = 0.0
    run_entry(losses.kld_loss, least, p, scale, loss)
    np.testing.assert_allclose(loss[0], -np.log(np.float64(least[0])), rtol=1e-10)


SHAPES = [(0, 5), (1, 1), (5, 7), (4, 32), (3, 70), (6, 1000)]


def class_labels(rows: int, n: int, ignored: int) -> Array:
    labels = np.random.default_rng(3).integers(0, n, rows)
    labels[1::3] = ignored
    return labels


def class_loss(x: Array, labels: Array, ignored: int) -> Array:
    most = x.max(axis=1, keepdims=True)
    sums = np.log(np.exp(x - most).sum(axis=1)) + most[:, 0]
    counted = labels != ignored
    rows = np.arange(len(labels))[counted]
    return sums[counted] - x[rows, labels[counted]]


@pytest.mark.parametrize("ignored", [-100, 0, -1])
@pytest.mark.parametrize("shape", SHAPES)
def test_class_softmax(shape: tuple[int, int], ignored: int) -> None:
    x, labels = normal(*shape), class_labels(*shape, ignored)
    given, scale = labels.astype(np.float32), np.array([0.25])
    loss, in_place_loss = np.array([3.0]), np.array([3.0])
    p, in_place, dx = poison(*shape), x.copy(), poison(*shape)
    skipped = float(ignored)
    run_entry(losses.class_softmax_loss, x, given, skipped, p, scale, loss)
    run_entry(
        losses.class_softmax_loss,
        *(in_place, given, skipped, in_place, scale, in_place_loss),
    )
    assert_same_bits(in_place, p)
    assert loss[0] == in_place_loss[0]
    run_entry(losses.class_softmax_derivative, p, given, skipped, scale, dx)
    run_entry(
        losses.class_softmax_derivative, in_place, given, skipped, scale, in_place
    )
    assert_same_bits(in_place, dx)
    if x.size == 0:
        return
    expected = 3 + 0.25 * class_loss(exact(x), labels, ignored).sum()
    np.testing.assert_allclose(loss[0], expected, rtol=1e-6)
    e = np.exp(exact(x) - x.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(p, e, rtol=1e-6, atol=1e-7)
    one_hot = labels[:, None] == np.arange(shape[1])
    expected = 0.25 * (e - one_hot) * (labels != ignored)[:, None]
    np.testing.assert_allclose(dx, expected, rtol=1e-5, atol=1e-6)
    if x.size < 50:
        numeric = slope(lambda v: 0.25 * class_loss(v, labels, ignored).sum(), x)
        np.testing.assert_allclose(dx, numeric, rtol=1e-5, atol=1e-6)


def test_class_numbers_of_no_column_count_nothing() -> None:
    x, p, dx = normal(4, 3), poison(4, 3), poison(4, 3)
    label = np.array([3, -1, 1e30, np.nan], np.float32)
    loss = np.zeros(1)
    run_entry(losses.class_softmax_loss, x, label, -100.0, p, np.ones(1), loss)
    run_entry(losses.class_softmax_derivative, p, label, -100.0, np.ones(1), dx)
    assert loss[0] == 0
    assert not dx.any()


def test_pytorch_agrees() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the outside judge")
    functional = torch.nn.functional
    x, labels = normal(6, 11), class_labels(6, 11, -100)
    logits = torch.from_numpy(x.copy()).requires_grad_()
    theirs = functional.cross_entropy(logits, torch.from_numpy(labels))
    theirs.backward()
    scale = np.array([1 / (labels != -100).sum()])
    given, loss = labels.astype(np.float32), np.zeros(1)
    p, dx = poison(6, 11), poison(6, 11)
    run_entry(losses.class_softmax_loss, x, given, -100.0, p, scale, loss)
    run_entry(losses.class_softmax_derivative, p, given, -100.0, scale, dx)
    np.testing.assert_allclose(loss[0], theirs.item(), rtol=1e-6)
    np.testing.assert_allclose(dx, logits.grad.numpy(), rtol=1e-5, atol=1e-7)

    q, p = distribution(6, 11), distribution(6, 11, seed=1)
    guess = torch.from_numpy(q.copy()).requires_grad_()
    theirs = functional.kl_div(guess.log(), torch.from_numpy(p), reduction="batchmean")
    theirs.backward()
    loss, dq, scale = np.zeros(1), poison(66), np.array([1 / 6])
    run_entry(losses.kld_loss, q.ravel(), p.ravel(), scale, loss)
    run_entry(losses.kld_derivative, q.ravel(), p.ravel(), scale, dq)
    np.testing.assert_allclose(loss[0], theirs.item(), rtol=1e-5)
    np.testing.assert_allclose(dq, guess.grad.numpy().ravel(), rtol=1e-6)


# -- the source text -------------------------------------------------------------------


def cases() -> list[tuple[Kernel, tuple[Any, ...]]]:
    a, b, dy = normal(24), positive(24, 1), normal(24, seed=2)
    y, z = normal(24, seed=3), normal(24, seed=4)
    four = (1, 2, 3, 4)
    part = positive(6, 5)
    whole_steps, part_steps = (0, 12, 4, 1), (0, 3, 1, 0)
    matrix, label = normal(2, 12), np.array([3, -100], np.float32)
    quarter = np.array([0.25])
    return [
        (arithmetic.subtract, (a, b, y)),
        (arithmetic.multiply, (a, b, y)),
        (arithmetic.multiply_derivatives, (a, b, dy, y, z)),
        (arithmetic.divide, (a, b, y)),
        (arithmetic.divide_derivatives, (b, a, dy, y, z)),
        (arithmetic.divisor_derivative, (b, a, dy, y)),
        (arithmetic.negative, (a, y)),
        (arithmetic.square_root, (b, y)),
        (arithmetic.square_root_derivative, (b, dy, y)),
        *((arithmetic.power, (b, float(e), y)) for e in EXPONENTS),
        *((arithmetic.power_derivative, (b, float(e), dy, y)) for e in EXPONENTS),
        *(
            (
                getattr(arithmetic, f"broadcast_{name}"),
                (a, part, y, *four, *whole_steps, *part_steps),
            )
            for name in BINARY
        ),
        (arithmetic.repeat, (part, 0.5, y, *four, *part_steps)),
        (arithmetic.sum_plain, (a, 0.5, part, *four, *part_steps)),
        (arithmetic.sum_products, (a, b, 1.0, part, *four, *part_steps, *whole_steps)),
        (arithmetic.sum_quotients, (a, b, 1.0, part, *four, *part_steps, *whole_steps)),
        (rearrange.copy_rows, (a, y, 1, 2, 3, 4, 0, 0, 12, 4, 0, 0, 4, 8)),
        (rearrange.place_rows, (part, y, 3, 2, 1, 8)),
        (rearrange.transpose, (a, y, 1, 1, 3, 8, 0, 0, 8, 0, 0, 3)),
        (losses.kld_loss, (b, b + 1, quarter, np.ones(1))),
        (losses.kld_derivative, (b, b + 1, quarter, y)),
        (
            losses.class_softmax_derivative,
            (matrix, label, -100.0, quarter, matrix.copy()),
        ),
    ]


@pytest.mark.parametrize(
    ("made", "arguments"),
    [pytest.param(*case, id=f"{n}-{case[0].name}") for n, case in enumerate(cases())],
)
def test_the_python_text_gives_the_same_bits(
    made: Kernel, arguments: tuple[Any, ...]
) -> None:
    assert_python_agrees(made, arguments)
