"""No floating-point flag that another library sets decides our bits, or is lost."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from helpers import TESTS
from helpers.float_environment import (
    CONTROL,
    FLUSH,
    UPWARD,
    clear_exceptions,
    exceptions,
    flags,
    having,
    needs_glibc,
)
from helpers.kernel_calls import run_entry
from helpers.strategies import chain
from llvmlite import binding, ir

from arena_ckpt import Model
from arena_ckpt.engine.locks import GATE
from arena_ckpt.errors import ArenaError
from arena_ckpt.kernels import elementwise, registers, updates
from arena_ckpt.kernels.flags import default_flags, run_by_default
from arena_ckpt.planning.tensors import TensorKind

pytestmark = needs_glibc

TINY = float(np.float32(1e-40))
"""Subnormal in float32: half of it, and so on, is 0 where results are flushed."""

# -- other processes -------------------------------------------------------------------

TRAINING = """
import hashlib, os, sys
sys.path.insert(0, sys.argv[1])
from helpers import float_environment as environment

def set_foreign():
    if sys.argv[2] == "flush":
        environment.set_flags(environment.flags() | environment.FLUSH)
    elif sys.argv[2] == "upward":
        environment.set_flags(environment.flags() | environment.UPWARD)
    elif sys.argv[2] == "torch":
        import torch
        assert torch.set_flush_denormal(True)

when = sys.argv[3]
if when == "first":  # before anything is loaded that could start a thread
    set_foreign()
import numpy as np
import arena_ckpt as ac
model = ac.Model(seed=0)
model.add_layer("input", name="in", input_shape=(1, 1, 450))
model.add_layer("fully_connected", name="fc1", unit=450, disable_bias=True)
model.add_layer("fully_connected", name="fc2", unit=450, disable_bias=True)
model.add_layer("mse", name="loss")
model.set_property(batch_size=16, threads=2)
model.set_optimizer("sgd", learning_rate=1.0)
if when == "then":
    set_foreign()

def train():
    before = environment.flags() & environment.CONTROL
    seen = hashlib.sha256()
    for point in model.pareto():
        seen.update(point.plan.to_json().encode())
    model.initialize()
    generator = np.random.default_rng(0)
    draw = lambda *shape: generator.normal(size=shape)
    for weight in model.weights().values():
        seen.update(weight.tobytes())
    first, second = 1e-20 * draw(450, 450), 0.1 * draw(450, 450)
    first[::2] = 1e-40
    model.set_weights({"fc1:weight": first, "fc2:weight": second})
    x, y = 1e-20 * draw(16, 450), 1e-18 * draw(16, 450)
    x[:, ::3], y[:, ::2] = 1e-40, 1e-39
    for _ in range(3):
        loss, gradients = model.compute_gradients(x, y)
        figures = [loss, model.train_step(x, y), model.evaluate((x, y)).metric]
        for array in (model.predict(x), *gradients.values(), np.array(figures)):
            seen.update(array.tobytes())
    for weight in model.weights().values():
        seen.update(weight.tobytes())
    # Without numbers that a flush would change all of this would prove nothing.
    least = np.finfo(np.float32).tiny
    for array in (model.predict(x), gradients["fc1:weight"]):
        size = abs(array.view(np.uint32).astype(np.int64) & 0x7FFFFFFF)
        share = np.count_nonzero((0 < size) & (size < 0x00800000)) / size.size
        print("subnormal" if share > 0.3 else f"only {share:.0%} subnormal")
    after = environment.flags() & environment.CONTROL
    print("flags kept" if after == before else f"{before:x} became {after:x}")
    print(seen.hexdigest())

if when != "forked":
    train()
else:
    set_foreign()
    model.compile()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        train()
        sys.stdout.flush()
        os._exit(0)
    sys.exit(os.waitpid(child, 0)[1])
"""


@cache
def trained(foreign: str, when: str = "first") -> list[str]:
    """Return what a process says that has set flags, before or after it loads ours."""
    here = str(TESTS)
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAINING, here, foreign, when],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split("\n")


@pytest.mark.parametrize(
    ("foreign", "when"),
    [("flush", "first"), ("flush", "then"), ("upward", "then"), ("flush", "forked")],
)
def test_training_in_two_threads_has_the_same_bits(foreign: str, when: str) -> None:
    expected = trained("none")
    assert expected[:3] == ["subnormal", "subnormal", "flags kept"]
    assert trained(foreign, when) == expected


def test_pytorch_does_not_decide_our_bits() -> None:
    pytest.importorskip("torch", reason="PyTorch sets the flags of our thread")
    assert trained("torch") == trained("none")


# -- this process ----------------------------------------------------------------------

SPEC = chain(4, "tanh", 2, batch_size=4)
X, Y = SPEC.batch(4)
BROKEN = {"in": np.full((4, 6), np.nan, np.float32)}


@pytest.fixture(scope="module")
def model() -> Model:
    return SPEC.initialized()


CALLS: dict[str, Callable[[Model], object]] = {
    "train_step": lambda m: m.train_step(X, Y),
    "compute_gradients": lambda m: m.compute_gradients(X, Y),
    "predict": lambda m: m.predict(X),
    "evaluate": lambda m: m.evaluate((X, Y)),
    "train": lambda m: m.train((X, Y), progress=False),
    "initialize": lambda m: SPEC.initialized(),
    "set_weights": lambda m: m.set_weights(m.weights()),
}
RAISING: dict[str, Callable[[Model], object]] = {
    "train_step": lambda m: m.train_step(BROKEN, Y),
    "compute_gradients": lambda m: m.compute_gradients(BROKEN, Y),
    "predict": lambda m: m.predict({"in": X["in"][:, :3]}),
    "evaluate": lambda m: m.evaluate((BROKEN, Y)),
    "train": lambda m: m.train((BROKEN, Y), progress=False),
    "set_weights": lambda m: m.set_weights({"fc1:weight": np.full((6, 4), np.inf)}),
}


@pytest.mark.parametrize("added", [FLUSH, UPWARD, FLUSH | UPWARD])
@pytest.mark.parametrize("name", CALLS)
def test_the_flags_are_again_what_they_were(
    name: str, added: int, model: Model
) -> None:
    with having(added):
        before = flags() & CONTROL
        CALLS[name](model)
        after = flags() & CONTROL
    assert before & added == added
    assert after == before


@pytest.mark.parametrize("name", RAISING)
def test_also_where_a_call_fails(name: str, model: Model) -> None:
    with having(FLUSH | UPWARD):
        before = flags() & CONTROL
        try:
            RAISING[name](model)
        except ArenaError:
            failed = True
        else:
            failed = False
        after = flags() & CONTROL
    assert failed
    assert after == before


def test_callbacks_see_the_flags_of_their_caller(model: Model) -> None:
    seen: list[int] = []
    with having(FLUSH):
        before = flags() & CONTROL
        model.train((X, Y), progress=False, on_epoch=lambda r: seen.append(flags()))
    assert [value & CONTROL for value in seen] == [before]


def test_a_walk_sets_its_flags_itself() -> None:
    """Also where nobody has done so in Python, as in a thread that only measures."""

    tiny = np.full(9, TINY, np.float32)
    gradient, hyper = np.linspace(0.1, 0.9, 9, dtype=np.float32), np.array([0.3, 1.0])

    def walk() -> tuple[bytes, bytes]:
        total, w = tiny.copy(), np.ones(9, np.float32)
        run_entry(elementwise.add_to, tiny, total)
        run_entry(updates.sgd, w, gradient, 0.1, hyper)
        return total.tobytes(), w.tobytes()

    expected = walk()
    for added in (FLUSH, UPWARD):
        with having(added):
            found = walk()
        assert found == expected
    assert np.frombuffer(expected[0], np.uint32).tolist() == [2 * 71362] * 9


def test_steps_run_by_default_and_leave_no_exception_behind(model: Model) -> None:
    """A loss rounds; whoever looks for inexact results must not find that of ours."""
    session: Any = model._session
    program = next(iter(session._passes.values())).program
    inside: list[int] = []
    for tensor in session.plan.tensors:
        if tensor.kind is TensorKind.DATA:
            session.views.named(tensor.name).fill(0.5)
    with having(FLUSH | UPWARD):
        GATE.run(lambda: inside.append(flags()))
        session._begin([0.3])
        clear_exceptions()
        program.run(0, session.plan.n_forward)
        found = exceptions()
    assert inside[0] & (FLUSH | UPWARD) == 0
    assert found == 0
    assert session._control[0] >= 0


def test_exceptions_that_have_happened_are_not_lost(model: Model) -> None:
    session: Any = model._session
    program = next(iter(session._passes.values())).program
    clear_exceptions()
    with np.errstate(all="ignore"):
        np.float32(1.0) / np.float32(3.0)
    before = exceptions()
    program.run(0, session.plan.n_forward)
    assert exceptions() == before != 0
    clear_exceptions()


def test_each_python_thread_has_its_own_flags(model: Model) -> None:
    expected = model.predict(X).tobytes()
    found: list[bytes] = []

    def predict() -> None:
        with having(UPWARD):
            found.append(model.predict(X).tobytes())

    thread = threading.Thread(target=predict)
    thread.start()
    thread.join()
    assert found == [expected]


def test_python_numbers_of_an_iteration_are_rounded_to_nearest() -> None:
    """Such as Adam's corrections and learning rates, which Python computes."""

    def third(one: float) -> float:
        return one / 3

    expected = third(1.0)
    with having(UPWARD):
        upward, found = third(1.0), GATE.run(third, 1.0)
    assert found == expected != upward


def test_threads_that_share_calls_compute_by_default() -> None:
    """They are started here, under a foreign flush, and leave subnormal results."""
    from arena_ckpt.kernels import arithmetic
    from arena_ckpt.kernels.pool import run_groups

    x = np.full((64, 1 << 12), 1e-20, np.float32)
    small, y = np.full_like(x, 1e-22), np.zeros_like(x)
    calls = list(zip(x, small, y, strict=True))
    blocks = [np.array(arithmetic.multiply.pack(call)) for call in calls]
    entry = arithmetic.multiply.entry(calls[0])
    table = np.array([[entry, block.ctypes.data] for block in blocks])
    groups = np.array([len(calls)] + [1] * (len(calls) - 1))
    with having(FLUSH):
        # Of a number that no other test has: a new thread inherits the flush.
        run_groups(table.ctypes.data, groups.ctypes.data, len(calls), 7)
    assert len(np.unique(y)) == 1
    assert y[0, 0] > 0


@pytest.fixture
def flushing() -> Iterator[None]:
    with having(FLUSH):
        yield


def test_data_keep_their_subnormal_numbers(flushing: None) -> None:
    """A cast to float32 can flush as well."""
    from arena_ckpt.data.arrays import to_finite_float32

    values = np.array([TINY, -TINY, 1.0])
    cast = to_finite_float32(values, "x").view(np.uint32)
    assert cast.tolist() == [71362, 71362 | 1 << 31, 0x3F800000]


CAST = """
import sys
sys.path.insert(0, sys.argv[1])
from helpers.float_environment import CONTROL, flags, having
import numpy as np
from arena_ckpt.data.arrays import to_finite_float32

values = np.array([1e-40, -1e-40, 1 + 2**-26, 1 + 3 * 2**-25, -0.1])
expected, added = values.astype(np.float32).tobytes(), int(sys.argv[2])
with having(added):
    before = flags() & CONTROL
    found = to_finite_float32(values, "x").tobytes()
    assert flags() & CONTROL == before
assert found == expected
print("numba" in sys.modules)
"""
FLAGS_OF_RESULTS = {
    "x86_64": (0x8000, 0x0040, 0x2000, 0x4000, 0x6000),
    "aarch64": (1 << 24, 1 << 22, 2 << 22, 3 << 22),
}.get(platform.machine(), ())
"""Flushing results, then operands; rounding down, up and to 0."""


@pytest.mark.parametrize("added", [0, *FLAGS_OF_RESULTS])
def test_data_are_cast_by_default_also_before_numba_is_loaded(added: int) -> None:
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", CAST, str(TESTS), str(added)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert process.stderr == ""
    assert process.stdout == f"{added != 0}\n", "flags cost Numba; nothing else does"


def test_default_flags_hold_as_long_as_they_should() -> None:
    with having(FLUSH):
        before = flags()
        with default_flags():
            assert flags() & FLUSH == 0
        with pytest.raises(ZeroDivisionError), default_flags():
            raise ZeroDivisionError
        assert flags() & CONTROL == before & CONTROL
        assert run_by_default(lambda a, b: (a, b, flags() & FLUSH), 1, 2) == (1, 2, 0)
        assert flags() & CONTROL == before & CONTROL
    assert run_by_default(flags) & FLUSH == 0


# -- other processors ------------------------------------------------------------------


def assembly_of(kind: registers.Registers, triple: str) -> str:
    """Return what LLVM makes, for any processor, of reading flags and setting them."""
    module = ir.Module()
    module.triple = triple
    of_type = ir.FunctionType(ir.IntType(64), [ir.IntType(64)])
    function = ir.Function(module, of_type, "swap")
    builder = ir.IRBuilder(function.append_basic_block())
    before = kind.read(builder)
    kind.write(builder, function.args[0])
    builder.ret(before)
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine(opt=2)
    return str(machine.emit_assembly(binding.parse_assembly(str(module)))).lower()


@pytest.mark.parametrize(
    ("machine", "triple", "expected"),
    [
        ("x86_64", "x86_64-unknown-linux-gnu", ["stmxcsr", "ldmxcsr"]),
        ("AMD64", "x86_64-pc-windows-msvc", ["stmxcsr", "ldmxcsr"]),
        (
            "aarch64",
            "aarch64-unknown-linux-gnu",
            ["mrs x8, fpcr", "mrs x9, fpsr", "msr fpcr", "msr fpsr"],
        ),
        ("arm64", "arm64-apple-darwin", ["fpcr", "fpsr", "msr fpcr", "msr fpsr"]),
        ("riscv64", "x86_64-unknown-linux-gnu", []),
    ],
)
def test_the_registers_of_each_processor(
    machine: str, triple: str, expected: list[str]
) -> None:
    kind = registers.registers_of(machine)
    text = " ".join(assembly_of(kind, triple).split())
    places = [text.find(instruction) for instruction in expected]
    assert -1 not in places
    assert places == sorted(places)
    if not expected:
        assert "mxcsr" not in text
        assert kind.default == kind.flags == 0
