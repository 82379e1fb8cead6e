"""Predictions of a model of several losses, each by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from arena_ckpt.cli.predictions import Predictions, class_axis, has_classes
from arena_ckpt.common.wording import quoted
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.graph.build import Graph


@dataclass(frozen=True, eq=False)
class PredictionsByLoss:
    """What a model predicts for samples, by the names of its losses.

    Attributes
    ----------
    by_loss : dict from str to Predictions
        Of one loss, or of a model without, they have the name ``""``.
    """

    by_loss: dict[str, Predictions]

    @classmethod
    def of(
        cls,
        graph: Graph,
        outputs: npt.NDArray[np.float32] | Mapping[str, npt.NDArray[np.float32]],
        names: tuple[str, ...] | None = None,
    ) -> PredictionsByLoss:
        """Return what `Model.predict` has returned.

        Names of classes are those of a single loss; data of several have none.
        """
        if not isinstance(outputs, Mapping):
            last = graph.nodes[-1]
            axis = class_axis(last)
            return cls({"": Predictions(outputs, has_classes(last), names, axis)})
        return cls(
            {
                name: Predictions(
                    values, has_classes(node), class_axis=class_axis(node)
                )
                for name, values in outputs.items()
                for node in (graph.node(name),)
            }
        )

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return next(iter(self.by_loss.values())).n_samples

    @property
    def alone(self) -> Predictions | None:
        """The predictions of one loss, or of a model without; None of several."""
        return self.by_loss.get("")

    def tables(self, n_lines: int) -> Iterator[Table]:
        """Yield a table of the first lines, of several losses one for each."""
        for name, one in self.by_loss.items():
            table = one.table(n_lines)
            if name:
                table.title = f"Predictions of {name}"
            yield table

    @property
    def extent(self) -> tuple[int, str]:
        """How many lines the longest table has, and what a line is."""
        longest = max(self.by_loss.values(), key=lambda one: one.n_lines)
        return longest.n_lines, "rows" if longest.n_rows > 1 else "samples"

    def document(self, *, with_values: bool) -> dict[str, Any]:
        """Return plain values; ``docs/cli.md`` lists the keys."""
        if self.alone is not None:
            return self.alone.document(with_values=with_values)
        return {
            "n_samples": self.n_samples,
            "losses": {
                name: one.document(with_values=with_values)
                for name, one in self.by_loss.items()
            },
        }

    def require_suffix(self, path: Path) -> None:
        """Refuse a file that cannot hold the predictions of several losses.

        Raises
        ------
        InvalidParameterError
        """
        if self.alone is None and path.suffix.lower() != ".npz":
            raise InvalidParameterError(
                f"{quoted(str(path))} holds the predictions of one loss, and the model "
                f"has {len(self.by_loss)}; end it with .npz, which has an array for "
                "each",
                path=str(path),
            )

    def write(self, path: Path) -> None:
        """Write all predictions; see `Predictions.write`.

        Of several losses an .npz has arrays such as ``prediction:digit``.
        """
        if self.alone is not None:
            self.alone.write(path)
            return
        self.require_suffix(path)
        arrays: dict[str, Any] = {
            f"{kind}:{name}": array
            for name, one in self.by_loss.items()
            for kind, array in one.arrays().items()
        }
        write_whole(path, lambda file: np.savez(file, **arrays))
