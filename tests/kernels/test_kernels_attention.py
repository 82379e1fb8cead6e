from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.kernel_calls import (
    assert_same_bits,
    normal,
    poison,
    run_entry,
    run_python,
    slope,
)

from arena_ckpt.kernels import attention
from arena_ckpt.operations.sizes import attention_work_elems

Array = npt.NDArray[Any]
CONTROL = np.array([3.0, 5.0])  # iteration, first sample
KEY = 0x1234_5678_9ABC


class Case:
    """Arrays of one attention, and how to run ours and a reference on them."""

    def __init__(
        self,
        n: int = 2,
        heads: int = 2,
        t: int = 7,
        s: int = 7,
        dk: int = 4,
        dv: int = 4,
        *,
        mask_heads: int = 0,
        causal: bool = False,
        rate: float = 0.0,
        rows: int = 4,
        columns: int = 3,
        plain: bool = False,
        units: int = 5,
    ) -> None:
        self.n, self.heads, self.t, self.s, self.dk, self.dv = n, heads, t, s, dk, dv
        self.mask_heads, self.causal, self.rate = mask_heads, causal, rate
        self.rows, self.columns, self.plain = rows, columns, plain
        self.q = normal(n * t * heads * dk, seed=1)
        self.k = normal(n * s * heads * dk, seed=2)
        self.v = normal(n * s * heads * dv, seed=3)
        self.mask = normal(n * max(1, mask_heads) * t * s, seed=4)
        self.d_output = normal(n * t * units, seed=5)
        self.weight = normal(heads * dv * units, seed=6)

    def run(self, run: Any = run_entry) -> list[Array]:
        """Return out, dq, dk, dv."""
        n, heads, t, s = self.n, self.heads, self.t, self.s
        q, k, v = self.q.copy(), self.k.copy(), self.v.copy()
        out = poison(n * t * heads * self.dv)
        saved = poison(n * heads * t * (s if self.plain else 2))
        columns = s if self.plain else self.columns
        tile = poison(self.rows * columns + self.rows)
        sizes = (heads, t, s, self.dk, self.dv)
        dropout = (CONTROL, KEY, self.rate)
        masked = (self.mask_heads, int(self.causal), self.rows)
        if self.plain:
            forward, backward = attention.plain_forward, attention.plain_backward
        else:
            forward, backward = attention.tiled_forward, attention.tiled_backward
            masked = (*masked, columns)
        run(forward, q, k, v, self.mask, out, saved, tile, *dropout, *sizes, *masked)
        result = [out.copy()]
        work = poison(
            attention_work_elems(
                t,
                s,
                heads,
                self.dk,
                self.dv,
                self.rows,
                None if self.plain else columns,
            )
        )
        mask = () if self.plain else (self.mask,)
        masked = masked[1:] if self.plain else masked
        ends = (out, saved, self.d_output, self.weight, work)
        run(backward, q, k, v, *mask, *ends, *dropout, *sizes, *masked)
        return [*result, q, k, v]

    def kept(self) -> Array:
        """Return the factors of dropout, seen through a forward with values 1."""
        if self.rate == 0:
            return np.ones((self.n, self.heads, self.t, self.s))
        ones = Case(self.n, self.heads, self.t, self.s, 1, self.s, rate=self.rate)
        ones.q[:] = ones.k[:] = 0
        eye = np.eye(self.s, dtype=np.float32)
        ones.v = np.tile(eye[:, None], (self.n, 1, self.heads, 1)).reshape(-1)
        out = ones.run()[0].reshape(self.n, self.t, self.heads, self.s)
        return out.transpose(0, 2, 1, 3).astype(np.float64) * self.s

    def reference(self) -> list[Array]:
        def split(x: Array, length: int) -> Array:
            parts = x.reshape(self.n, length, self.heads, -1)
            return parts.transpose(0, 2, 1, 3).astype(np.float64)

        def join(x: Array) -> Array:
            return x.transpose(0, 2, 1, 3).reshape(-1)

        q, k, v = split(self.q, self.t), split(self.k, self.s), split(self.v, self.s)
        z = q @ k.swapaxes(2, 3) / np.sqrt(self.dk)
        if self.mask_heads:
            z = z + self.mask.reshape(self.n, self.mask_heads, self.t, self.s)
        if self.causal:
            z = np.where(np.tri(self.t, self.s, dtype=bool), z, -np.inf)
        with np.errstate(all="ignore"):
            p = np.exp(z - z.max(axis=-1, keepdims=True))
            p = np.nan_to_num(p / p.sum(axis=-1, keepdims=True))
        kept = self.kept()
        out = (p * kept) @ v
        d_out = self.d_output.reshape(self.n * self.t, -1).astype(np.float64)
        d_out = d_out @ self.weight.reshape(-1, d_out.shape[1]).T
        d_out = split(d_out.reshape(-1), self.t)
        dp = (d_out @ v.swapaxes(2, 3)) * kept
        dz = p * (dp - (dp * p).sum(axis=-1, keepdims=True)) / np.sqrt(self.dk)
        d_v = (p * kept).swapaxes(2, 3) @ d_out
        return [join(x) for x in (out, dz @ k, dz.swapaxes(2, 3) @ q, d_v)]


def torch_gradients(case: Case, dtype: str) -> list[Array]:
    """Return dq, dk, dv by PyTorch's operations, one after another."""
    torch = pytest.importorskip("torch", reason="PyTorch is the outside judge")

    def leaf(x: Array, length: int) -> Any:
        given = torch.tensor(x, dtype=getattr(torch, dtype), requires_grad=True)
        parts = given.reshape(case.n, length, case.heads, -1).transpose(1, 2)
        return given, parts

    (q, q_parts), (k, k_parts) = leaf(case.q, case.t), leaf(case.k, case.s)
    v, v_parts = leaf(case.v, case.s)
    scores = q_parts @ k_parts.transpose(2, 3) / case.dk**0.5
    if case.mask_heads:
        shape = (case.n, case.mask_heads, case.t, case.s)
        scores = scores + torch.tensor(case.mask).reshape(shape)
    if case.causal:
        hidden = ~torch.ones(case.t, case.s).tril().bool()
        scores = scores.masked_fill(hidden, -torch.inf)
    kept = torch.tensor(case.kept(), dtype=q.dtype)
    out = (torch.softmax(scores, -1) * kept) @ v_parts
    weight = torch.tensor(case.weight, dtype=q.dtype).reshape(case.heads * case.dv, -1)
    joined = out.transpose(1, 2).reshape(case.n * case.t, -1)
    (joined @ weight).backward(torch.tensor(case.d_output).reshape(len(joined), -1))
    return [x.grad.double().numpy() for x in (q, k, v)]


def assert_near(case: Case) -> None:
    for name, ours, exact in zip(
        ("out", "dq", "dk", "dv"), case.run(), case.reference(), strict=True
    ):
        scale = np.abs(exact).max() + 1e-30
        assert np.abs(ours - exact).max() <= 1e-5 * scale, name


@pytest.mark.parametrize("plain", [False, True], ids=["tiled", "plain"])
@pytest.mark.parametrize("least", [-1e9, np.finfo(np.float32).min])
def test_rows_that_are_masked_by_large_numbers(least: float, plain: bool) -> None:
    """All keys count the same then; tiled once took each probability for 1 backward.

    The sum of 1e9 and the logarithm of a sum is 1e9 in float32.
    """
    case = Case(mask_heads=1, plain=plain)
    case.q[:] = 0  # scores beside such a mask would be lost in float32 anyway
    mask = case.mask.reshape(case.n, case.t, case.s)
    mask[:, 2] = least
    mask[:, 4, 1:] = least
    assert_near(case)


@pytest.mark.parametrize("plain", [False, True], ids=["tiled", "plain"])
def test_derivatives_are_slopes(plain: bool) -> None:
    case = Case(1, 2, 3, 4, 2, 3, mask_heads=1, rate=0.2, plain=plain)
    d_output = case.d_output.reshape(3, -1)
    weight = case.weight.reshape(6, -1).astype(np.float64)
    for name, ours in zip("qkv", case.run()[1:], strict=True):
        given = getattr(case, name)

        def value(x: Array, name: str = name) -> Array:
            setattr(case, name, x)
            return (case.reference()[0].reshape(3, 6) @ weight) * d_output

        slopes = slope(value, given)
        setattr(case, name, given)
        assert np.abs(ours - slopes).max() <= 1e-5 * np.abs(slopes).max(), name


SHAPES: list[dict[str, Any]] = [
    {},
    {"n": 1, "heads": 1, "t": 1, "s": 1, "dk": 1, "dv": 1},
    {"t": 5, "s": 9},
    {"t": 9, "s": 5, "dk": 3, "dv": 6},
    {"t": 70, "s": 70, "rows": 32, "columns": 33},
    {"t": 40, "s": 100, "dk": 33, "dv": 35, "rows": 64, "columns": 256},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("plain", [False, True], ids=["tiled", "plain"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("masked", [0, 1, 2])
def test_attention(
    shape: dict[str, Any], plain: bool, causal: bool, masked: int
) -> None:
    heads = shape.get("heads", 2)
    mask_heads = heads if masked == 2 else masked
    assert_near(Case(**shape, plain=plain, causal=causal, mask_heads=mask_heads))


@pytest.mark.parametrize("plain", [False, True], ids=["tiled", "plain"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_dropout_is_the_same_in_both_directions_and_any_tiling(
    plain: bool, causal: bool
) -> None:
    for shape in ({}, {"t": 40, "s": 70, "rows": 16, "columns": 32}):
        assert_near(Case(**shape, plain=plain, causal=causal, rate=0.3, mask_heads=1))


@pytest.mark.parametrize("plain", [False, True], ids=["tiled", "plain"])
def test_minus_infinity_in_a_mask_forbids(plain: bool) -> None:
    case = Case(mask_heads=1, plain=plain, t=6, s=6)
    mask = case.mask.reshape(2, 6, 6)
    mask[:] = np.where(np.tri(6, dtype=bool), mask, -np.inf)  # first tile or last
    mask[1, 2] = mask[0, 0] = -np.inf  # whole rows
    mask[0, 4, :4] = -np.inf
    assert_near(case)
    out = case.run()[0].reshape(2, 6, -1)
    assert (out[1, 2] == 0).all()
    case.mask[:] = -1e9  # a row of equal scores, however small, is even
    assert np.isfinite(np.concatenate(case.run())).all()


@pytest.mark.parametrize("plain", [False, True], ids=["tiled", "plain"])
def test_nan_reaches_its_row_only_and_large_scores_stay_finite(plain: bool) -> None:
    case = Case(n=1, heads=1, causal=True, plain=plain)
    case.q[5 * case.dk] = np.nan
    out = case.run()[0].reshape(case.t, -1)
    assert np.isnan(out[5]).all()
    assert np.isfinite(np.delete(out, 5, axis=0)).all()
    case = Case(plain=plain)
    case.q *= 1e4
    assert np.isfinite(case.run()[0]).all()


@pytest.mark.parametrize("plain", [False, True], ids=["tiled", "plain"])
def test_the_python_text_gives_the_same_bits(plain: bool) -> None:
    for given in ({"causal": True}, {"mask_heads": 2, "rate": 0.2, "s": 5}):
        case = Case(**given, plain=plain)
        for ours, theirs in zip(case.run(), case.run(run_python), strict=True):
            assert_same_bits(ours, theirs)


@pytest.mark.parametrize("plain", [False, True], ids=["tiled", "plain"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("masked", [False, True])
def test_pytorch_agrees(plain: bool, causal: bool, masked: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the outside judge")
    case = Case(3, 4, 50, 50, 8, 8, plain=plain, causal=causal, mask_heads=int(masked))
    q, k, v = (
        torch.tensor(x).reshape(3, 50, 4, 8).transpose(1, 2).requires_grad_()
        for x in (case.q, case.k, case.v)
    )
    mask = torch.tensor(case.mask).reshape(3, 1, 50, 50) if masked else None
    if masked and causal:
        mask = mask.masked_fill(~torch.ones(50, 50).tril().bool(), -torch.inf)
    y = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, mask, is_causal=causal and not masked
    )
    weight = torch.tensor(case.weight).reshape(32, -1)
    joined = y.transpose(1, 2).reshape(150, 32)
    (joined @ weight).backward(torch.tensor(case.d_output).reshape(150, -1))
    theirs = [joined.detach().reshape(3, 50, 4, 8).transpose(1, 2)]
    theirs += [q.grad, k.grad, v.grad]
    for ours, judge in zip(case.run(), theirs, strict=True):
        judge = judge.transpose(1, 2).numpy().reshape(-1)
        assert np.abs(ours - judge).max() <= 1e-5 * np.abs(judge).max()


SEES_ONE = np.s_[:, ::2]
"""Queries of `huge_keys` to whom one key counts for everything."""


def huge_keys(**given: Any) -> Case:
    """Return a case of keys of 1e6, and of small queries in every second row."""
    case = Case(**given)
    case.k *= 1e6
    q = case.q.reshape(case.n, case.t, -1)
    q *= 1e-6
    q[SEES_ONE] *= 1e6
    return case


@pytest.mark.parametrize(
    "given",
    [{"plain": True}, {"columns": 7}, {"columns": 3}, {"t": 3, "columns": 4}],
    ids=["plain", "one tile", "several tiles", "more keys than queries"],
)
@pytest.mark.parametrize(
    "options",
    [{}, {"causal": True}, {"mask_heads": 2}, {"rate": 0.3}, {"dk": 40, "dv": 33}],
    ids=["full", "causal", "mask", "dropout", "wide"],
)
def test_one_key_that_counts_for_everything_leaves_no_derivative_of_scores(
    given: dict[str, Any], options: dict[str, Any]
) -> None:
    """Rounding left eps · |dp| · |k| there: 1 where the truth is 0."""
    case = huge_keys(n=8, **given, **options)
    if case.mask_heads:
        case.mask.reshape(-1, case.s)[::3, 1:] = -np.inf
    exact, theirs = (torch_gradients(case, name) for name in ("float64", "float32"))
    d_query = case.run()[1].reshape(case.n, case.t, -1)
    assert (theirs[0].reshape(d_query.shape)[SEES_ONE] == 0).all()
    assert (d_query[SEES_ONE] == 0).all()
    assert np.abs(d_query).max() > 0
    for ours, judge, truth in zip(case.run()[1:], theirs, exact, strict=True):
        error = np.abs(judge - truth).max() + 1e-7 * np.abs(truth).max()
        assert np.abs(ours - truth).max() <= 4 * error


def test_keys_of_several_tiles_that_share_a_row_leave_rounding_times_the_keys() -> None:
    """docs/layers/attention.md says so: no query sees one key alone here."""
    case = Case(columns=4, s=8)
    for given in (case.k, case.v):  # each key stands in both tiles
        parts = given.reshape(case.n, 2, -1)
        parts[:, 1] = parts[:, 0]
    case.k *= 1e6
    exact = torch_gradients(case, "float64")
    d_out = case.d_output.reshape(-1, 5) @ case.weight.reshape(-1, 5).T
    rounding = 1e-6 * np.abs(d_out).max() * np.abs(case.v).max() * case.dv
    for ours, truth, factor in zip(
        case.run()[1:3], exact, (case.k, case.q), strict=False
    ):
        assert np.abs(ours - truth).max() <= rounding * np.abs(factor).max()
