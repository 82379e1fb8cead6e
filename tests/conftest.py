"""What every test may count on."""

import os
import signal

import pytest
from hypothesis import settings

from arena_ckpt import Model

settings.register_profile("untimed", deadline=None)  # a busy machine is no fault
settings.load_profile("untimed")

# Tests run side by side themselves.
os.environ.setdefault("ARENA_CKPT_COMPILERS", "1")

# What an assertion of a helper compared is shown as in a test.
pytest.register_assert_rewrite("helpers")

pytest_plugins = ["pytester", "arena_ckpt.testing.plugin"]


@pytest.fixture(scope="session", autouse=True)
def _interrupts_arrive() -> None:
    """Hear Ctrl-C, which a shell lets what it starts in the background ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _planner_is_compiled() -> None:
    """Plan once, so that no test waits for the compiler."""
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("fully_connected", name="fc", unit=2)
    model.add_layer("mse", name="loss")
    model.make_plan()
