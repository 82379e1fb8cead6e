"""Names of kernels, with the parameters that each declares.

Layers and optimizers name kernels; an engine finds its own code for a name when it
links calls. So nothing is compiled, nor Numba loaded, before something is to run.

==========  =============================
kind        argument
==========  =============================
Vector      float32 array, one dimension
Matrix      float32 array, rows × columns
Doubles     float64 array, one dimension
Integers    int64 array, one dimension
Indexes     int32 array, one dimension
int         whole number, int64
float       number, float64
==========  =============================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from arena_ckpt.operations.signatures import check_arguments


@dataclass(frozen=True, slots=True)
class KernelName:
    """What a kernel is called in every engine.

    Attributes
    ----------
    family : str
        The module of kernels: ``"blas"``.
    entry : str
        The kernel in it: ``"matmul"``.
    parameters : tuple of (str, str)
        Name and kind of each parameter.
    variant : tuple of str
        The functions it is made for, where it is made for some: ``("tanh",)``.
    """

    family: str
    entry: str
    parameters: tuple[tuple[str, str], ...]
    variant: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name without the family, as messages show it."""
        return self.entry

    def __str__(self) -> str:
        variant = f"[{','.join(self.variant)}]" if self.variant else ""
        return f"{self.family}.{self.entry}{variant}"

    def __repr__(self) -> str:
        kinds = ", ".join(kind for _, kind in self.parameters)
        return f"<kernel {self}({kinds})>"

    def facts(self) -> dict[str, Any]:
        """Return what an error says of the kernel: name, file and line."""
        return {"kernel": self.name, "file": None, "line": None}

    def check(self, arguments: Sequence[Any]) -> None:
        """Refuse arguments that the declared parameters do not allow.

        Raises
        ------
        KernelArgumentError
        """
        check_arguments(self.name, dict(self.parameters), arguments, self.facts())


def parse_parameters(text: str) -> tuple[tuple[str, str], ...]:
    """Return name and kind of each parameter of ``"x: Vector, n: int"``."""
    pairs = (part.split(": ") for part in text.split(", "))
    return tuple((name, kind) for name, kind in pairs)


class Family:
    """The kernels of one module, each an attribute.

    Parameters
    ----------
    name : str
    entries : str
        The parameters of each kernel: ``matmul="a: Matrix, b: Matrix, c: Matrix"``.
    """

    def __init__(self, name: str, /, **entries: str) -> None:
        self.name = name
        self._kernels = {
            entry: KernelName(name, entry, parse_parameters(text))
            for entry, text in entries.items()
        }

    def __getattr__(self, entry: str) -> KernelName:
        kernels: dict[str, KernelName] = self.__dict__.get("_kernels", {})
        if entry not in kernels:
            raise AttributeError(f"the kernels of {self.name!r} have no {entry!r}")
        return kernels[entry]

    def __iter__(self) -> Iterator[KernelName]:
        return iter(self._kernels.values())

    def __repr__(self) -> str:
        return f"<kernels {self.name}: {', '.join(self._kernels)}>"
