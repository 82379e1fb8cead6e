"""The list of the models of the zoo, and how one is built."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is absent")
torch.set_num_threads(1)  # what is small here, several would only wait for


class Built(NamedTuple):
    """A module in training mode, and what an import of it is told."""

    module: Any
    example_inputs: tuple[Any, ...]
    loss: Any
    """A type, (type, properties), "output", or a list with one of them per output."""


_BUILDERS: dict[str, Callable[[], Built]] = {}

FAMILIES: dict[str, str] = {}
"""The family of each model: the name of the file that builds it."""


def model(name: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Enter a function that returns (module, example inputs, loss)."""

    def enter(build: Callable[[], Any]) -> Callable[[], Any]:
        assert name not in _BUILDERS, name
        _BUILDERS[name] = build
        FAMILIES[name] = build.__module__.rpartition(".")[2]
        return build

    return enter


def names() -> list[str]:
    """Return the names of all models, family by family."""
    return list(_BUILDERS)


def build(name: str) -> Built:
    """Build a model: always the same weights, statistics and inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(name.encode()))
        module, inputs, loss = _BUILDERS[name]()
        _leave_the_beginning(module)
    return Built(module, inputs, loss)


@torch.no_grad()
def _leave_the_beginning(module: Any) -> None:
    """Move what begins at 0 or 1 a little, as training does.

    A gamma that is 1 and a beta that is 0 hide that they were taken for each other, or
    forgotten; so do a mean of 0 and a variance of 1.
    """
    for name, weight in module.named_parameters():
        if weight.dim() < 2 or (weight == weight.flatten()[0]).all():
            weight.add_(0.1 * torch.randn_like(weight))
        assert weight.isfinite().all(), name
    for name, value in module.named_buffers():
        if name.endswith("running_mean"):
            value.add_(0.1 * torch.randn_like(value))
        if name.endswith("running_var"):
            value.mul_(0.8 + 0.4 * torch.rand_like(value))
