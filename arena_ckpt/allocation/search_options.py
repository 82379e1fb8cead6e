"""The options of a search for a layout, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass

from arena_ckpt.allocation.integers import is_whole, shown
from arena_ckpt.errors import InvalidParameterError

ENGINES = ("auto", "greedy", "exact", "large")


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The options of `allocate` beside the buffers and sizes, which describes them.

    Raises
    ------
    InvalidParameterError
        An unknown engine, a negative limit or seed.
    """

    time_limit_seconds: float = 1.0
    node_limit: int | None = None
    engine: str = "auto"
    seed: int = 0
    progress: bool | None = None

    def __post_init__(self) -> None:
        if self.node_limit is not None:
            require_natural("node_limit", self.node_limit)
        require_natural("seed", self.seed)
        if (
            isinstance(self.time_limit_seconds, bool)
            or not isinstance(self.time_limit_seconds, int | float)
            or not self.time_limit_seconds >= 0
        ):
            raise InvalidParameterError(
                f"time_limit_seconds is {shown(self.time_limit_seconds)}; it must be a "
                "number of seconds, at least 0",
                name="time_limit_seconds",
            )
        if not isinstance(self.engine, str) or self.engine not in ENGINES:
            raise InvalidParameterError(
                f"there is no engine {shown(self.engine)}; engines are "
                f"{', '.join(ENGINES)}",
                engine=self.engine,
            )


def require_natural(name: str, value: object) -> None:
    """Refuse a value that is not an integer of at least 0."""
    if not is_whole(value) or value < 0:  # type: ignore[operator]
        raise InvalidParameterError(
            f"{name} is {shown(value)}; it must be an integer, at least 0", name=name
        )
