"""The decorator that makes a function a kernel of an own layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, cast

from arena_ckpt.operations import own
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.signatures import place_of, read_signature


@dataclass(frozen=True, slots=True, repr=False)
class OwnKernel(KernelName):
    """The name of a kernel that is a function of the user's."""

    @property
    def name(self) -> str:
        """The name of the function."""
        return own.FUNCTIONS[self.entry].__name__

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return own.FUNCTIONS[self.entry].__doc__

    def facts(self) -> dict[str, Any]:
        """Return what an error says of the kernel: name, file and line."""
        return place_of(own.FUNCTIONS[self.entry])

    def __call__(self, *arguments: object) -> None:
        """Run on arrays and numbers, compiled, as the engine does.

        Raises
        ------
        KernelArgumentError, KernelCompileError
        """
        from arena_ckpt.kernels.kernel import kernel_of

        kernel_of(self)(*arguments)


def kernel(function: Callable[..., None]) -> OwnKernel:
    """Make a kernel of a function; nothing is compiled before its first use.

    Parameters
    ----------
    function : callable
        Loops over contiguous arrays, each parameter annotated with ``Vector``,
        ``Matrix``, ``Doubles``, ``Integers``, ``Indexes``, ``int`` or ``float``; writes
        its results in place, allocates nothing, raises nothing.

    Returns
    -------
    OwnKernel
        Registered under the module and the name of the function.

    Raises
    ------
    KernelSignatureError
        A parameter without such an annotation, or a function that can raise.
    """
    signature = read_signature(function)
    name = own.register(cast(FunctionType, function))
    return OwnKernel(own.FAMILY, name, tuple(signature.items()))
