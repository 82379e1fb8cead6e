"""Predictions as a table, as plain values and as files."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from arena_ckpt.common.wording import quoted, shown
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.graph.nodes import Node
from arena_ckpt.layers.loss import CrossEntropySigmoid, CrossEntropySoftmax, Loss
from arena_ckpt.report.tables import add_row, make_table

SUFFIXES = (".npz", ".npy", ".csv")
"""Suffixes of the files that `Predictions.write` writes."""

_MOST_SHOWN = 6
"""Maximum number of values of a prediction that a table shows."""

_EXACT = "%.9g"  # nine digits give a float32 back, bit for bit


def require_suffix(path: Path) -> None:
    """Refuse a file of a format that predictions are not written in."""
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidParameterError(
            f"{quoted(str(path))} names no format of predictions; end it with .npz, "
            ".npy or .csv",
            path=str(path),
        )


def has_classes(node: Node) -> bool:
    """Tell whether a last layer predicts classes, of which one is right."""
    last = node.layer
    if isinstance(last, CrossEntropySigmoid):
        return math.prod(node.spec.output_shapes[0]) == 1
    if last.is_loss:
        return isinstance(last, CrossEntropySoftmax)
    return last.type_name == "activation" and last["activation"] == "softmax"


def class_axis(node: Node) -> int:
    """Return the axis of what a last layer predicts along which the classes are."""
    return node.layer.class_axis if isinstance(node.layer, Loss) else 3


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model predicts for samples.

    Attributes
    ----------
    values : float32 array (n, channel, height, width)
        The output of the model.
    are_classes : bool
        Each row of it has the probabilities of classes.
    names : tuple of str or None
        Names of the classes, by their numbers, where the model knows them.
    class_axis : int
        Axis along which rows are: 3 is the last.
    """

    values: npt.NDArray[np.float32]
    are_classes: bool
    names: tuple[str, ...] | None = None
    class_axis: int = 3

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.values)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one prediction."""
        return self.values.shape[1:]

    @property
    def n_rows(self) -> int:
        """Number of rows of a sample that have a class each; 1 without classes."""
        if not self.are_classes:
            return 1
        return math.prod(self.sample_shape) // int(self.values.shape[self.class_axis])

    @cached_property
    def _by_row(self) -> npt.NDArray[np.float32]:
        rows = self.values
        if self.are_classes:
            rows = np.moveaxis(rows, self.class_axis, -1)
        return rows.reshape(self.n_samples * self.n_rows, -1)

    @cached_property
    def classes(self) -> npt.NDArray[np.int64] | None:
        """The class of each row, ``(n, rows)``; ``(n,)`` where a sample is one row."""
        if not self.are_classes:
            return None
        rows = self._by_row
        found = rows[:, 0] > 0.5 if rows.shape[1] == 1 else rows.argmax(axis=1)
        return found.astype(np.int64).reshape(self._class_shape)

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float32] | None:
        """The probability of each of `classes`."""
        if self.classes is None:
            return None
        rows, classes = self._by_row, self.classes.reshape(-1)
        if rows.shape[1] == 1:
            found = np.where(classes == 1, rows[:, 0], 1 - rows[:, 0])
        else:
            found = rows[np.arange(len(rows)), classes]
        return found.reshape(self._class_shape)

    @cached_property
    def class_names(self) -> npt.NDArray[np.str_] | None:
        """The name of each of `classes`, where there are names; empty without one."""
        if self.classes is None or not self.names:
            return None
        n_unnamed = max(int(self.classes.max(initial=0)) + 1 - len(self.names), 0)
        return np.array([*self.names, *[""] * n_unnamed])[self.classes]

    @property
    def _class_shape(self) -> tuple[int, ...]:
        n_rows = self.n_rows
        return (self.n_samples, n_rows) if n_rows > 1 else (self.n_samples,)

    # -- for people ------------------------------------------------------------

    def table(self, n_lines: int) -> Table:
        """Return a table of the first lines: a line for each sample, or row of one."""
        columns = [("sample", "right")]
        if self.n_rows > 1:
            columns.append(("row", "right"))
        if self.are_classes:
            columns.append(("class", "right"))
            if self.names:
                columns.append(("name", "left"))
            columns.append(("probability", "right"))
        columns.append(("output", "left"))
        table = make_table("Predictions", *columns)
        for line in range(min(n_lines, self.n_lines)):
            add_row(table, *self._cells(line))
        return table

    @property
    def n_lines(self) -> int:
        """Number of lines of a whole table."""
        return len(self._by_row)

    def _cells(self, line: int) -> list[str]:
        sample, row = divmod(line, self.n_rows)
        cells = [str(sample)]
        if self.n_rows > 1:
            cells.append(str(row))
        if self.classes is not None and self.probabilities is not None:
            cells.append(str(self.classes.flat[line]))
            if self.class_names is not None:
                cells.append(shown(str(self.class_names.flat[line])))
            cells.append(f"{self.probabilities.flat[line]:.4f}")
        values = self._by_row[line]
        text = "  ".join(f"{value:.4g}" for value in values[:_MOST_SHOWN])
        more = len(values) - _MOST_SHOWN
        return [*cells, f"{text}  … {more:,} more" if more > 0 else text]

    # -- for programs ----------------------------------------------------------

    def document(self, *, with_values: bool) -> dict[str, Any]:
        """Return plain values; ``docs/cli.md`` lists the keys.

        Parameters
        ----------
        with_values : bool
            False leaves out what stands in a file.
        """
        found = {
            "classes": self.classes,
            "class_names": self.class_names,
            "probabilities": self.probabilities,
            "predictions": self.values,
        }
        return {
            "n_samples": self.n_samples,
            "output_shape": list(self.sample_shape),
            **{
                name: _plain(array) if with_values and array is not None else None
                for name, array in found.items()
            },
        }

    def write(self, path: Path) -> None:
        """Write all predictions; the suffix of the file says in which format.

        ``.npz`` has ``prediction`` and, of classes, ``class`` and ``probability``, and
        ``class_name`` where the model knows their names;
        ``.npy`` has the predictions alone; ``.csv`` a line for each sample, or for each
        row that has a class, with as many digits as float32 needs.
        """
        match path.suffix.lower():
            case ".npz":
                write_whole(path, lambda file: np.savez(file, **self.arrays()))
            case ".npy":
                write_whole(path, lambda file: np.save(file, self.values))
            case ".csv":
                content = self._csv()
                write_whole(path, lambda file: file.write(content))

    def arrays(self) -> dict[str, Any]:
        """Return what an .npz has, by name."""
        arrays: dict[str, Any] = {"prediction": self.values}
        if self.classes is not None and self.probabilities is not None:
            arrays |= {"class": self.classes, "probability": self.probabilities}
        if self.class_names is not None:
            arrays["class_name"] = self.class_names
        return arrays

    def _csv(self) -> bytes:
        rows = self._by_row
        lines = np.arange(len(rows))
        names = ["sample"]
        places: list[npt.NDArray[Any]] = [lines // self.n_rows]
        if self.n_rows > 1:
            names.append("row")
            places.append(lines % self.n_rows)
        values = rows
        if self.classes is not None and self.probabilities is not None:
            names.append("class")
            places.append(self.classes.reshape(-1))
            if self.class_names is not None:
                names.append("class_name")
            names.append("probability")
            values = np.column_stack([self.probabilities.reshape(-1), rows])
        names += [f"output{i}" for i in range(rows.shape[1])]
        parts = [_lines(np.column_stack(places), "%d")]
        if self.class_names is not None:
            parts.append([_cell(str(name)) for name in self.class_names.reshape(-1)])
        parts.append(_lines(values, _EXACT))
        text = "\n".join([",".join(names), *map(",".join, zip(*parts, strict=True))])
        return f"{text}\n".encode()


def _lines(table: npt.NDArray[Any], number_format: str) -> list[str]:
    out = io.StringIO()
    np.savetxt(out, table, number_format, ",")
    return out.getvalue().splitlines()


def _cell(text: str) -> str:
    """Return a text as one cell of a CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([text])
    return out.getvalue()


def _plain(array: npt.NDArray[Any]) -> Any:
    """Return an array as lists; None for what JSON has no number for."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array.tolist()
    values = array.astype(object)
    values[~np.isfinite(array)] = None
    return values.tolist()
