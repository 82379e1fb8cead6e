"""A plugin for pytest: the option ``--update-golden`` and the fixture `golden_plan`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from arena_ckpt.planning.plan import MemoryPlan


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--update-golden``."""
    parser.getgroup("arena_ckpt").addoption(
        "--update-golden",
        action="store_true",
        help="write golden plans instead of comparing with them",
    )


@pytest.fixture(autouse=True)
def _update_golden(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let `assert_plan_matches` write files if ``--update-golden`` is given."""
    if not request.config.getoption("--update-golden"):
        yield
        return
    from arena_ckpt.testing.golden_files import updating

    token = updating.set(True)
    yield
    updating.reset(token)


@pytest.fixture
def golden_plan(request: pytest.FixtureRequest) -> Callable[[MemoryPlan, str], None]:
    """Compare a plan with ``golden/NAME`` beside the file of the test.

    ``golden_plan(plan, "x.plan")``; see `assert_plan_matches`.
    """
    folder = Path(request.path).parent / "golden"

    def check(plan: MemoryPlan, name: str) -> None:
        __tracebackhide__ = True
        from arena_ckpt.testing import assert_plan_matches

        assert_plan_matches(plan, folder / name)

    return check
