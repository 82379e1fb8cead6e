"""Kernels of recurrent layers against NumPy formulas, central differences, PyTorch."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.compiled_code import compiled_anew
from helpers.kernel_calls import normal, poison, run_entry
from helpers.reference import elu, selu, sigmoid
from helpers.stack_escapes import all_escapes

from arena_ckpt.kernels import blas
from arena_ckpt.kernels.gru import gru_kernels
from arena_ckpt.kernels.kernel import Kernel
from arena_ckpt.kernels.lstm import lstm_kernels
from arena_ckpt.kernels.rnn import rnn_kernels, rnn_previous
from arena_ckpt.kernels.steps import (
    STEP_ACTIVATIONS,
    UNITS,
    bias_from_sums,
    join_biases,
)
from arena_ckpt.kernels.windows import matmul_windows

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
COUNTERS = np.array([3.0, 5.0])
KEY = 0x1234567890ABCDEF

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": elu,
    "selu": selu,
}


class Case:
    """One layer of one kind on one batch, run by kernels and by formulas."""

    def __init__(
        self,
        kind: str,
        *,
        n: int = 3,
        steps: int = 4,
        width: int = 5,
        unit: int = 6,
        hidden: str = "tanh",
        recurrent: str = "sigmoid",
        reset_after: bool = True,
        has_state: bool = False,
        is_reverse: bool = False,
        keeps_all: bool = True,
        rate: float = 0.0,
    ) -> None:
        self.kind, self.n, self.steps, self.width, self.unit = (
            *(kind, n, steps, width, unit),
        )
        self.hidden, self.recurrent = hidden, recurrent
        self.reset_after, self.has_state = reset_after, has_state
        self.is_reverse, self.keeps_all, self.rate = is_reverse, keeps_all, rate
        gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind] * unit
        self.gates, spread = gates, 1 / np.sqrt(unit)
        self.given: Arrays = {
            "x": normal(n, steps, width, spread=1),
            "weight_ih": normal(width, gates, seed=1, spread=spread),
            "weight_hh": normal(unit, gates, seed=2, spread=spread),
            "bias_ih": normal(gates, seed=3, spread=0.3),
            "bias_hh": normal(gates, seed=4, spread=0.3),
        }
        if has_state:
            self.given["h0"] = normal(n, unit, seed=5, spread=0.5)
            if kind == "lstm":
                self.given["c0"] = normal(n, unit, seed=6, spread=0.5)
        self.d_out = normal(n, steps if keeps_all else 1, unit, seed=7, spread=1)
        self.d_c = normal(n, unit, seed=8, spread=1)  # of the last cell state
        self.d_h = normal(n, unit, seed=9, spread=1)  # of the last hidden state

    # -- formulas ----------------------------------------------------------------------

    def outputs(
        self, given: Arrays, mask: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Hidden states that are kept, the last one, and the last cell, in float64."""
        g = {name: value.astype(np.float64) for name, value in given.items()}
        act, gate = FUNCTIONS[self.hidden], FUNCTIONS[self.recurrent]
        u, out = self.unit, np.zeros((self.n, self.steps, self.unit))
        h = g.get("h0", np.zeros((self.n, u)))
        c = g.get("c0", np.zeros((self.n, u)))
        times = range(self.steps)
        for t in reversed(times) if self.is_reverse else times:
            x = g["x"][:, t] @ g["weight_ih"] + g["bias_ih"]
            a = h @ g["weight_hh"]
            if self.kind == "lstm":
                a = a + x + g["bias_hh"]
                i, f, o = gate(a[:, :u]), gate(a[:, u : 2 * u]), gate(a[:, 3 * u :])
                c = f * c + i * act(a[:, 2 * u : 3 * u])
                h = o * act(c)
            elif self.kind == "gru":
                z = gate((x + a + g["bias_hh"])[:, :u])
                r = gate((x + a + g["bias_hh"])[:, u : 2 * u])
                if self.reset_after:
                    a = r * (a + g["bias_hh"])[:, 2 * u :]
                else:
                    a = (r * h) @ g["weight_hh"][:, 2 * u :] + g["bias_hh"][2 * u :]
                h = z * h + (1 - z) * act(x[:, 2 * u :] + a)
            else:
                h = act(x + a + g["bias_hh"])
            if mask is not None:
                h = h * mask[:, t]
            out[:, t] = h
        return (out if self.keeps_all else out[:, -1:]), h, c

    def objective(self, given: Arrays, mask: Array | None = None) -> float:
        out, h, c = self.outputs(given, mask)
        total = (out * self.d_out).sum() + (h * self.d_h).sum()
        return float(total + (c * self.d_c).sum() * (self.kind == "lstm"))

    def slope(self, name: str, index: tuple[int, ...], mask: Array | None) -> float:
        values = []
        for sign in (1, -1):
            moved = self.given[name].astype(np.float64)
            moved[index] += sign * 1e-5
            values.append(self.objective(self.given | {name: moved}, mask))
        return (values[0] - values[1]) / 2e-5

    # -- kernels -----------------------------------------------------------------------

    def run(self) -> Arrays:
        """Outputs and all gradients, by the kernels."""
        n, steps, unit, gates = self.n, self.steps, self.unit, self.gates
        g = self.given
        flat = {name: value.reshape(-1) for name, value in g.items()}
        h0 = flat.get("h0", np.zeros(0, np.float32))
        c0 = flat.get("c0", np.zeros(0, np.float32))
        x = g["x"].reshape(-1, self.width)
        saved = poison(n * steps, gates)
        out = poison(n * self.d_out.shape[1] * unit)
        d_out = self.d_out.reshape(-1)
        is_apart = self.kind == "gru" and self.reset_after
        bias = poison(gates + unit * is_apart)
        sums = np.full(4 * unit if self.kind == "gru" else gates, np.nan)
        a, h, c = poison(n * gates), poison(n * unit), poison(n * unit)
        dh = self.d_h.reshape(-1).copy()
        product, hidden = poison(n * steps, unit), poison(n * steps, unit)
        small = poison(n * unit)
        d_x, d_ih = poison(n * steps, self.width), poison(self.width, gates)
        d_hh = poison(unit, gates)
        many = (n, steps, unit)
        random = (COUNTERS, KEY, self.rate)
        out_steps = steps if self.keeps_all else 1
        state = int(self.has_state)
        where, reverse = (out_steps, unit, 0), int(self.is_reverse)

        def call(kernel: Kernel, *arguments: Any) -> None:
            run_entry(kernel, *arguments)

        apart = unit if is_apart else 0
        call(join_biases, flat["bias_ih"], flat["bias_hh"], 2, apart, bias)
        call(blas.matmul, x, g["weight_ih"], saved)
        s, w = saved.reshape(-1), flat["weight_hh"]
        results: Arrays = {}
        if self.kind == "lstm":
            k = lstm_kernels(self.hidden, self.recurrent)
            states = (h0, c0, 2 * state)
            call(
                k.forward,
                *(s, w, bias, *states, a, h, c, out, *where, reverse, *many, *random),
            )
            results["c"] = c.copy()
            cells, d_c = poison(n * steps * unit), self.d_c.reshape(-1).copy()
            flat_hidden = hidden.reshape(-1)
            call(k.states, s, *states, cells, flat_hidden, reverse, *many, *random)
            call(
                k.backward,
                *(s, w, cells, dh, d_c, d_out, *where, sums, reverse),
                *(*many, *random),
            )
            results["d_c0"] = d_c
        elif self.kind == "gru":
            g_k = gru_kernels(self.hidden, self.recurrent)
            after = (int(self.reset_after), reverse)
            call(
                g_k.forward,
                *(s, w, bias, h0, state, a, h, small, out, *where, *after),
                *(*many, *random),
            )
            flat_hidden, flat_product = hidden.reshape(-1), product.reshape(-1)
            call(
                g_k.states,
                *(s, h0, state, flat_hidden, flat_product, *after, *many, *random),
            )
            if self.reset_after:
                self._window(
                    False, False, (n * steps, unit, unit), (hidden, 0),
                    (g["weight_hh"], 2 * unit), (product, 0),
                )  # fmt: skip
            call(
                g_k.backward,
                *(s, w, bias, flat_hidden, flat_product, a, dh, small, d_out),
                *(*where, sums, state, *after, *many, *random),
            )
            results["d_h0"] = dh
        else:
            r_k = rnn_kernels(self.hidden)
            call(
                r_k.forward,
                *(s, w, bias, h0, state, a, h, out, *where, reverse, *many, *random),
            )
            call(rnn_previous, s, h0, state, hidden.reshape(-1), reverse, *many)
            call(
                r_k.backward,
                *(s, w, s, a, dh, d_out, *where, sums, reverse, *many, *random),
            )
        call(blas.matmul_transposed_a, x, saved, 0.0, d_ih)
        call(blas.matmul_transposed_b, saved, g["weight_ih"], d_x)
        call(blas.matmul_transposed_a, hidden, saved, 0.0, d_hh)
        d_bias, d_bias_hh = poison(gates), poison(gates)
        call(bias_from_sums, sums[:gates], 0.0, d_bias)
        d_bias_hh[:] = d_bias
        if self.kind == "gru":
            call(bias_from_sums, sums[gates:], 0.0, d_bias_hh[2 * unit :])
            left, right = (
                ((hidden, 0), (product, 0))
                if self.reset_after
                else ((product, 0), (saved, 2 * unit))
            )
            self._window(
                True, False, (unit, unit, n * steps), left, right, (d_hh, 2 * unit)
            )
        if self.kind != "gru" and self.has_state:
            first = saved.reshape(n, steps, gates)[:, -1 if self.is_reverse else 0]
            d_h0 = poison(n, unit)
            call(
                blas.matmul_transposed_b,
                *(np.ascontiguousarray(first), g["weight_hh"], d_h0),
            )
            results["d_h0"] = d_h0
        return results | {
            "h": h,
            "out": out.reshape(self.d_out.shape),
            "d_x": d_x,
            "d_weight_ih": d_ih,
            "d_weight_hh": d_hh,
            "d_bias_ih": d_bias,
            "d_bias_hh": d_bias_hh,
        }

    @staticmethod
    def _window(
        transpose_a: bool,
        transpose_b: bool,
        sizes: tuple[int, int, int],
        a: tuple[Array, int],
        b: tuple[Array, int],
        c: tuple[Array, int],
    ) -> None:
        arguments: list[Any] = [int(transpose_a), int(transpose_b), *sizes]
        for array, place in (a, b):
            arguments += [array.reshape(-1), place, array.shape[1]]
        arguments += [0.0, c[0].reshape(-1), c[1], c[0].shape[1]]
        run_entry(matmul_windows, *arguments)


def assert_near(
    found: Array, expected: Any, what: str, tolerance: float = 1e-5
) -> None:
    expected = np.asarray(expected, np.float64).reshape(found.shape)
    scale = max(1e-3, float(np.abs(expected).max()))
    assert np.abs(found - expected).max() <= tolerance * scale, what


def assert_follows_formulas(case: Case, mask: Array | None = None) -> None:
    found = case.run()
    out, h, c = case.outputs(case.given, mask)
    assert_near(found["out"], out, "out")
    assert_near(found["h"], h, "h")
    if case.kind == "lstm":
        assert_near(found["c"], c, "c")
    for name, value in case.given.items():
        slopes = np.zeros(value.shape)
        for index in np.ndindex(value.shape):
            slopes[index] = case.slope(name, index, mask)
        assert_near(found[f"d_{name}"], slopes, name, 2e-5)


KINDS = [
    ("rnn", {}),
    ("rnn", {"is_reverse": True}),
    ("lstm", {}),
    ("lstm", {"is_reverse": True}),
    ("gru", {"reset_after": True}),
    ("gru", {"reset_after": True, "is_reverse": True}),
    ("gru", {"reset_after": False}),
    ("gru", {"reset_after": False, "is_reverse": True}),
]


@pytest.mark.parametrize("has_state", [False, True])
@pytest.mark.parametrize("keeps_all", [True, False])
@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_formulas_and_slopes(
    kind: str, options: dict[str, Any], keeps_all: bool, has_state: bool
) -> None:
    case = Case(kind, keeps_all=keeps_all, has_state=has_state, **options)
    assert_follows_formulas(case)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_short_sequences(kind: str, options: dict[str, Any], steps: int) -> None:
    assert_follows_formulas(Case(kind, steps=steps, has_state=True, **options))


@pytest.mark.parametrize(
    ("kind", "hidden", "recurrent"),
    [
        *(("rnn", name, "sigmoid") for name in STEP_ACTIVATIONS if name != "tanh"),
        ("lstm", "elu", "tanh"),
        ("gru", "selu", "elu"),
    ],
)
def test_other_activations(kind: str, hidden: str, recurrent: str) -> None:
    assert set(STEP_ACTIVATIONS) == set(FUNCTIONS)
    assert_follows_formulas(Case(kind, hidden=hidden, recurrent=recurrent))


@pytest.mark.parametrize("keeps_all", [True, False])
@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_dropout(kind: str, options: dict[str, Any], keeps_all: bool) -> None:
    """The mask shows where an output is 0; the same mask must rule the backward."""
    shape = {"n": 3, "steps": 3, "unit": 5}
    shown = Case(kind, rate=0.4, **shape, **options).run()["out"]
    mask = np.where(shown == 0, 0, 1 / 0.6)
    assert 0 < (mask == 0).sum() < mask.size
    case = Case(kind, rate=0.4, keeps_all=keeps_all, **shape, **options)
    assert_follows_formulas(case, mask)


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_more_units_than_a_part_holds(kind: str, options: dict[str, Any]) -> None:
    case = Case(kind, n=2, steps=3, unit=UNITS + 37, width=3, **options)
    found = case.run()
    out, _, _ = case.outputs(case.given)
    assert_near(found["out"], out, "out")
    for name in ("x", "bias_ih", "bias_hh"):
        last = tuple(size - 1 for size in case.given[name].shape)
        expected = case.slope(name, last, None)
        assert found[f"d_{name}"].reshape(-1)[-1] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("has_state", [False, True])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_pytorch_agrees(kind: str, has_state: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the outside judge")
    case = Case(kind, n=7, steps=19, width=12, unit=40, has_state=has_state)
    u, unit = case.unit, case.unit
    order = np.arange(case.gates)
    if kind == "gru":  # PyTorch's order is reset, update, memory cell
        order = np.r_[u : 2 * u, :u, 2 * u : 3 * u]
    judge = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](
        case.width, unit, batch_first=True
    )
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    with torch.no_grad():
        for name in names:
            value = case.given[name][..., order].T
            getattr(judge, f"{name}_l0").copy_(torch.from_numpy(value.copy()))
    inputs = {
        name: torch.from_numpy(case.given[name].copy()).requires_grad_()
        for name in ("x", "h0", "c0")
        if name in case.given
    }
    states = tuple(value[None] for name, value in inputs.items() if name != "x")
    given = [] if not states else [states if kind == "lstm" else states[0]]
    out, last = judge(inputs["x"], *given)
    total = (out * torch.from_numpy(case.d_out)).sum()
    last_h = last[0][0] if kind == "lstm" else last[0]
    total = total + (last_h * torch.from_numpy(case.d_h)).sum()
    if kind == "lstm":
        total = total + (last[1][0] * torch.from_numpy(case.d_c)).sum()
    total.backward()
    found = case.run()
    assert_near(found["out"], out.detach().numpy(), "out")
    for name, value in inputs.items():
        assert_near(found[f"d_{name}"], value.grad.numpy(), name)
    for name in names:
        theirs = getattr(judge, f"{name}_l0").grad.numpy().T
        assert_near(found[f"d_{name}"][..., order], theirs, name)


def test_the_same_bits_every_time() -> None:
    for kind, options in KINDS:
        first, second = (Case(kind, rate=0.2, **options).run() for _ in range(2))
        for name, value in first.items():
            assert value.tobytes() == second[name].tobytes(), (kind, name)


@pytest.mark.parametrize(
    "kernel",
    [
        *lstm_kernels("tanh", "sigmoid"),
        *gru_kernels("tanh", "sigmoid"),
        *rnn_kernels("tanh"),
    ],
    ids=lambda k: k.name,
)
def test_the_loops_are_vectorized_and_no_part_hands_out_its_stack(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = tuple(range(len(kernel.parameters)))
    operation = "fdiv" if "forward" in kernel.name else "fmul"
    entry = compiled_anew(kernel, pattern, monkeypatch)
    assert re.search(rf"= {operation} <\d+ x float>", str(entry.inspect_llvm()))
    assert all_escapes(entry._library) == []
