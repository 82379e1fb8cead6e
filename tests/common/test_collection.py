"""The garbage collector rests while plans are made, and is as it was afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from arena_ckpt.common.collection import without_collection


@pytest.fixture(autouse=True)
def _enabled_again() -> Iterator[None]:
    yield
    gc.enable()


@pytest.mark.parametrize("before", [True, False])
def test_the_collector_is_afterwards_as_it_was(before: bool) -> None:
    (gc.enable if before else gc.disable)()

    @without_collection
    def inner() -> None:
        assert not gc.isenabled()

    @without_collection
    def outer() -> None:
        inner()
        assert not gc.isenabled()

    outer()
    assert gc.isenabled() is before


def test_an_error_lets_the_collector_work_again() -> None:
    @without_collection
    def refuse() -> None:
        assert not gc.isenabled()
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        refuse()
    assert gc.isenabled()
