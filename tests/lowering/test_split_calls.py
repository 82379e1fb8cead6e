"""Parts of kernel calls, and threads that run them, give the bits of the whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from helpers.kernel_calls import run_entry
from helpers.kernel_geometries import FAMILIES
from helpers.mixed_graphs import MixedSpec, mixed_graphs
from helpers.mixed_outcomes import finite_outcome, outcome
from helpers.scale import how_many
from hypothesis import HealthCheck, given, settings

from arena_ckpt import load_example
from arena_ckpt.kernels.kernel import Kernel
from arena_ckpt.layers.base import Call
from arena_ckpt.lowering import call_parts, product_parts
from arena_ckpt.lowering import split_calls as split
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.operations.kernel_names import KernelName

THREADS = 3
N_CASES = how_many(12, 100)


@pytest.fixture
def splits_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split what is far too small to pay."""
    for name in ("LEAST_BYTES", "LEAST_FLOPS"):
        monkeypatch.setattr(call_parts, name, 0)
    monkeypatch.setattr(product_parts, "PRODUCT_FLOPS", 0)
    monkeypatch.setattr(product_parts, "PRODUCT_UNIT", 1)


OF_ENTRY: dict[str, list[KernelName]] = {}
for name in (*split.RULES, *product_parts.PRODUCTS):
    OF_ENTRY.setdefault(name.entry, []).append(name)


def named(kernel: Kernel | KernelName) -> KernelName | None:
    """Return the name of a kernel that there is a rule for."""
    if isinstance(kernel, KernelName):
        return kernel if kernel in OF_ENTRY.get(kernel.entry, ()) else None
    of_entry = [name for name in OF_ENTRY.get(kernel.name, ()) if not name.variant]
    kinds = [tuple(kind for _, kind in name.parameters) for name in of_entry]
    fitting = [
        n for n, k in zip(of_entry, kinds, strict=True) if k == kernel.parameters
    ]
    return fitting[0] if fitting else None


@dataclass
class Bench:
    """Runs each call whole and in parts, the last part first, and compares."""

    n_split: dict[str, int] = field(default_factory=dict)

    def run(self, call: Call, where: str) -> None:
        name = named(call.kernel)
        if name is not None:
            self._compare(KernelCall(0, name, call.arguments), where)
        run_entry(call.kernel, *call.arguments)

    def _compare(self, call: KernelCall, where: str) -> None:
        names = [name for name, _ in call.kernel.parameters]
        rule = split.RULES.get(call.kernel)
        room = getattr(rule, "room", ())
        room = {room} if isinstance(room, str) else set(room)
        values = dict(zip(names, call.operands, strict=True))
        room = {name for name in room if values[name] is not values.get("out")}
        whole, parted = copies(values), copies(values)
        for name in room:
            each = -(-values[name].size // 16) * 16
            parted[name] = np.full(THREADS * each, 5, values[name].dtype)
        parts = list(
            split.parts_of(KernelCall(0, call.kernel, tuple(parted.values())), THREADS)
        )
        if not parts:
            return
        is_split = len(parts) > 1
        entry = str(call.kernel)
        self.n_split[entry] = self.n_split.get(entry, 0) + is_split
        run_entry(call.kernel, *whole.values())
        for part in reversed(parts):
            run_entry(part.kernel, *part.operands)
        is_exact = call.kernel.family != "blas"
        for name in set(names) - room:
            made, expected = parted[name], whole[name]
            if not isinstance(made, np.ndarray):
                continue
            if is_exact:
                assert made.tobytes() == expected.tobytes(), f"{entry}: {name}, {where}"
            else:
                np.testing.assert_allclose(made, expected, 1e-3, 1e-4, err_msg=where)


def copies(values: dict[str, Any]) -> dict[str, Any]:
    """Copy arrays; what was one memory stays one, and one array stays one."""
    made: dict[int, Any] = {}
    copied = {}
    for name, value in values.items():
        if not isinstance(value, np.ndarray):
            copied[name] = value
            continue
        key = value.ctypes.data if value.size else id(value)
        if key not in made or made[key].size != value.size:
            made[key] = value.copy()
        array = made[key]
        copied[name] = (
            array if array.shape == value.shape else array.reshape(value.shape)
        )
    return copied


@pytest.mark.usefixtures("splits_all")
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_give_the_bits_of_the_whole(family: str) -> None:
    kernels = FAMILIES[family].kernels
    if not any(name in OF_ENTRY for name in kernels):
        return
    bench: Any = Bench()
    for index in range(N_CASES):
        FAMILIES[family].run(bench, family, index)
    assert all(bench.n_split.values()), bench.n_split


@pytest.mark.usefixtures("splits_all")
@settings(
    derandomize=True,
    deadline=None,
    max_examples=how_many(8, 40),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(mixed_graphs())
def test_threads_decide_no_bit_of_any_graph(spec: MixedSpec) -> None:
    expected = finite_outcome(spec)
    for threads in (2, 4):
        found = outcome(spec.with_properties(threads=threads))
        assert not expected.differences(found), threads
    debugged = outcome(spec.with_properties(threads=3), debug=True)
    assert not expected.differences(debugged)


@pytest.mark.parametrize("name", ["resnet8", "char_transformer"])
def test_threads_decide_no_bit_of_an_example(name: str) -> None:
    found = []
    for threads in (1, 2, 4):
        example = load_example(name)
        model = example.model
        model.set_property(batch_size=4, threads=threads)
        model.initialize()
        for _ in range(2):
            loss = model.train_step(example.data.x[:4], example.data.y[:4])
        weights = {name: w.tobytes() for name, w in model.weights().items()}
        found.append((loss, weights))
    assert found[0] == found[1] == found[2]


def test_products_are_split_by_their_sizes_alone() -> None:
    def calls(threads: int) -> list[str]:
        model = load_example("char_transformer", n_layers=1).model
        model.set_property(threads=threads)
        found = model.kernel_calls(model.make_plan())
        return [str(call.kernel) for call in found if call.kernel.family == "windows"]

    assert calls(1) == calls(2) == calls(5) != []


def test_a_workspace_is_planned_for_each_thread() -> None:
    def plan(threads: int) -> Any:
        model = load_example("digits_cnn").model
        model.set_property(threads=threads)
        return model.make_plan()

    one, two = plan(1), plan(2)
    name = "c0b_conv:forward_pictures"
    single, double = (
        next(t.size_bytes for t in made.tensors if t.name == name)
        for made in (one, two)
    )
    assert 2 * single <= double < 2 * single + 2 * 64
