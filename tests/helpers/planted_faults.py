"""Kernels with a fault that was put into them, for the test of their harness.

As a program, this runs each until the harness says something, and writes what, as JSON.
"""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import carray, types
from numba.extending import overload

from arena_ckpt.kernels import (
    depthwise,
    elementwise,
    losses,
    pooling,
    rearrange,
    reductions,
    rnn,
    steps,
    tokens,
    windows,
)
from arena_ckpt.kernels.kernel import Kernel, kernel, typed_intrinsic
from arena_ckpt.layers.base import Call
from helpers.kernel_calls import found
from helpers.kernel_geometries import FAMILIES
from helpers.kernel_memory import Bench, survey

FILE = "<planted>"
"""No file, so Numba keeps nothing of it on the disk."""


@dataclass(frozen=True)
class Fault:
    """A piece of a kernel's text, what it becomes, and the operand to be named."""

    kernel: Kernel
    old: str
    new: str
    family: str
    says: str

    def planted(self) -> Kernel:
        """Return the kernel with the fault."""
        python = self.kernel._python
        if python.__module__ == rnn.__name__ and "rnn_tanh" in self.kernel.name:
            assert self.old in rnn._SOURCE
            text = rnn._SOURCE.replace(self.old, self.new)
            functions = ("tanh", "tanh")
            made = steps.make_kernels(FILE, __name__, text, "rnn_tanh", functions)
            return made[self.kernel.name.removeprefix("rnn_tanh_")]
        text = inspect.getsource(python)
        assert self.old in text, self.old
        space = {**python.__globals__, **SPECIAL}
        text = "from __future__ import annotations\n" + text.replace(self.old, self.new)
        exec(compile(text, FILE, "exec"), space)
        planted: Kernel = space[self.kernel.name]
        return planted


@typed_intrinsic
def _unwritten(typing_context: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        with builder.goto_entry_block():
            return builder.alloca(ir.FloatType(), 32)

    return types.CPointer(types.float32)(), codegen


def stale_lanes() -> Any:
    """Array of 32 float32 on the stack that nobody wrote; Numba's own hold zeros."""
    raise NotImplementedError


@overload(stale_lanes, inline="always")
def _compiled_stale_lanes() -> Any:
    return lambda: carray(_unwritten(), 32)


SPECIAL = {"stale_lanes": stale_lanes, "kernel": kernel}

FAULTS: dict[str, Fault] = {
    "an index one too high": Fault(
        losses.mse_derivative,
        "label[i]", "label[i + 1]", "losses",
        "mse_derivative touched what lies behind label",
    ),
    "a row too far": Fault(
        reductions.bias_gradient,
        "range(dy.shape[0])", "range(dy.shape[0] + 1)", "dense",
        "bias_gradient touched what lies behind dy",
    ),
    "a window that begins one in front": Fault(
        windows.matmul_windows,
        "(a, a_place, a_distance)", "(a, a_place - 1, a_distance)", "products",
        "matmul_windows touched what lies in front of a",
    ),
    "a table filled in part": Fault(
        depthwise.depthwise_derivative,
        "of_copies[: kernel_width * size] = -1", "pass", "depthwise",
        "depthwise_derivative went astray by what stood in table",
    ),
    "a result that is not cleared": Fault(
        pooling.plane_max_derivative,
        "dx[:] = ZERO", "pass", "global pooling",
        "of dx of what stood in dx",
    ),
    "a workspace taken for zeros": Fault(
        rnn.rnn_kernels("tanh").forward,
        "        clear_all(a)\n    for step", "        copy_all(a, a)\n    for step",
        "rnn",
        "of what stood in a:",
    ),
    "a gradient that is added where it is to be written": Fault(
        reductions.bias_gradient,
        "if beta == 0.0:", "if beta == 2.0:", "dense",
        "of db of what stood in db",
    ),
    "a last element that is left out": Fault(
        elementwise.copy,
        "range(y.size)", "range(y.size - 1)", "shape",
        "of y of what stood in y",
    ),
    "an operand that is written, though it is only read": Fault(
        elementwise.add_to,
        "y[i] += x[i]", "x[i] += y[i]", "reductions",
        "of x:",
    ),
    "the neighbour of the only element": Fault(
        losses.mse_loss,
        "scale[0]", "scale[1]", "losses", "mse_loss touched what lies behind scale",
    ),
    "a column of the next row": Fault(
        pooling.nearest_forward,
        "= source[i]", "= source[i + 1]", "upsampling",
        "nearest_forward touched what lies behind x",
    ),
    "an id one too high": Fault(
        tokens.embedding_forward,
        "table_row(ids[r], weight.shape[0])", "table_row(ids[r], weight.shape[0] + 1)",
        "tokens", "embedding_forward touched what lies behind weight",
    ),
    "a rest of a tile that is too long": Fault(
        rearrange.transpose,
        "range(done, rows)", "range(done, rows + 1)", "rearranged",
        "transpose touched what lies behind",
    ),
    "a sum that begins with what is there": Fault(
        steps.join_biases,
        "joined[j] = ZERO", "joined[j] += ZERO", "rnn",
        "of joined of what stood in joined",
    ),
    "a loop that begins at 1 and does not end sooner": Fault(
        elementwise.fill_doubles,
        "y[i] = value", "y[i + 1] = value", "reductions",
        "fill_doubles touched what lies behind y",
    ),
    "lanes that nobody wrote": Fault(
        reductions.l2_gradient,
        "factor = np.float32(constant * fraction[0])",
        "lanes = stale_lanes()\n    for i in range(min(weight.size, 9)):\n"
        "        lanes[i] = weight[i]\n    factor = lanes[weight.size % 16]",
        "reductions",
        "of gradient of what stood on the stack",
    ),
}  # fmt: skip


class Planting(Bench):
    """Runs one kernel with its fault in place of the right one, and no other."""

    fault: Fault
    planted: Kernel

    def run(self, call: Call, where: str, facts: Any = None) -> None:
        if found(call.kernel) is self.fault.kernel:
            super().run(Call(self.planted, call.arguments), where, facts)


def finding(fault: Fault) -> list[str]:
    """Return what the harness says, at the first case at which it says something."""
    planted = fault.planted()

    def run(bench: Bench, index: int) -> None:
        bench.__class__ = Planting
        assert isinstance(bench, Planting)
        bench.fault, bench.planted = fault, planted
        FAMILIES[fault.family].run(bench, f"{fault.family}:{index}", index)

    def enough(bench: Bench, n: int) -> bool:
        return bool(bench.findings) or n >= 60

    found: list[str] = survey(run, enough)["findings"]
    return found


if __name__ == "__main__":
    print(json.dumps({name: finding(FAULTS[name]) for name in sys.argv[1:] or FAULTS}))
