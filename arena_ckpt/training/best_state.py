"""The state after the best epoch of a training, kept beside the arena."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from arena_ckpt.engine.session import Session


class BestState:
    """Copies the state of a session, and puts the copy back.

    Parameters
    ----------
    session : Session

    Attributes
    ----------
    epoch : int or None
        After which the copy was made; None before there is one.
    """

    def __init__(self, session: Session) -> None:
        self.epoch: int | None = None
        self._session = session
        self._iteration = 0
        self._arrays: dict[str, npt.NDArray[Any]] = {}

    def take(self, epoch: int) -> None:
        """Copy the state of the session as it is after an epoch."""

        def copy() -> None:
            for name, view in self._session.persistent().items():
                if name in self._arrays:
                    np.copyto(self._arrays[name], view)
                else:
                    self._arrays[name] = view.copy()
            self._iteration, self.epoch = self._session.iteration, epoch

        self._session.in_turn(copy)

    def take_from(
        self, arrays: Mapping[str, npt.NDArray[Any]], iteration: int, epoch: int
    ) -> None:
        """Take over the state after an epoch that was saved."""
        self._arrays = {name: array.copy() for name, array in arrays.items()}
        self._iteration, self.epoch = iteration, epoch

    def put_back(self) -> None:
        """Give the session the state that was kept, if there is one."""
        if self.epoch is not None:
            self._session.restore(self._arrays, self._iteration)
