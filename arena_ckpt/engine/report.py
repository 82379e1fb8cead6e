"""A report of an evaluation: its values by class or by output, as data and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.text_table import Column, html_table, text_table
from arena_ckpt.common.wording import shown
from arena_ckpt.engine.metric_names import metric_text

Row: TypeAlias = dict[str, str | int | float | None]

MOST_PARTS = 100
"""Maximum number of classes or outputs that a report has a row for."""

_MOST_LINES = 20
"""Maximum number of rows of a table in a text."""

_MOST_IN_MATRIX = 12
"""Maximum number of classes whose confusion matrix is shown whole."""

_MOST_CONFUSIONS = 5
"""Maximum number of confusions that are named where the matrix is larger."""


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """How well a model does, class by class or output by output.

    Attributes
    ----------
    task : {"classes", "binary", "values"}
    unit : {"sample", "row", "value"}
        What is counted: samples, rows of samples with a label each (tokens, pixels), or
        single values.
    n_counted : int
        Number of these, without ignored labels.
    rows : tuple of dict
        For each class ``class``, ``count``, ``precision``, ``recall``, ``f1``; for each
        binary output ``output``, ``count`` of ones, the same and ``auc``; for each
        value ``output``, ``mean_absolute_error``, ``root_mean_squared_error``,
        ``error_of_mean`` and ``r2``. None where a value is not defined. Of more than
        100 the most frequent classes, or the outputs with the largest errors.
    n_parts : int
        Number of classes or outputs.
    confusion : tuple of tuple of int, or None
        ``confusion[i][j]`` is the number of labels `i` that were predicted as `j`, by
        the number of the class; up to 100 classes.
    names : tuple of str
        Names of the classes, for `confusion`.
    majority : str or None
        Name of the most frequent class.
    """

    task: str
    unit: str
    n_counted: int
    rows: tuple[Row, ...]
    n_parts: int
    confusion: tuple[tuple[int, ...], ...] | None = None
    names: tuple[str, ...] = ()
    majority: str | None = None

    def __repr__(self) -> str:
        parts = counted(self.n_parts, *_PARTS[self._part])
        return short_repr(self, self.task, parts, counted(self.n_counted, self.unit))

    def __str__(self) -> str:
        lines = text_table(*self._cells()) if self.rows else []
        left_out = self.n_parts - min(len(self.rows), _MOST_LINES)
        if left_out > 0:
            lines.append(f"… {left_out:,} more")
        if self.majority is not None:
            lines.append(self._majority_text())
        if self.confusion is not None:
            lines += ["", *self._confusion_lines()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        foot = [self._majority_text()] if self.majority is not None else []
        left_out = self.n_parts - min(len(self.rows), _MOST_LINES)
        if left_out > 0:
            foot.insert(0, f"… {left_out:,} more")
        table = html_table(*self._cells(), foot=foot) if self.rows else ""
        if self.confusion is None:
            return f"<div>{table}</div>"
        if len(self.confusion) <= _MOST_IN_MATRIX:
            columns, rows = self._matrix_cells()
            return f"<div>{table}{html_table(columns, rows, caption=_MATRIX)}</div>"
        return f"<div>{table}{html_table([Column(_WORST)], self._worst())}</div>"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        confusion = self.confusion
        return {
            "task": self.task,
            "unit": self.unit,
            "n_counted": self.n_counted,
            "n_parts": self.n_parts,
            "majority": self.majority,
            "rows": [dict(row) for row in self.rows],
            "names": list(self.names) if confusion is not None else None,
            "confusion": None
            if confusion is None
            else [list(row) for row in confusion],
        }

    @property
    def _part(self) -> str:
        return next(iter(self.rows[0])) if self.rows else "output"

    def _majority_text(self) -> str:
        return f"most frequent: {shown(self.majority)}"

    def _cells(self) -> tuple[list[Column], list[list[str]]]:
        names = list(self.rows[0])
        cells = [
            [
                value
                if isinstance(value, str)
                else f"{value:,}"
                if isinstance(value, int)
                else metric_text(name, value)
                for name, value in row.items()
            ]
            for row in self.rows[:_MOST_LINES]
        ]
        heads = [name.replace("_", " ") for name in names]
        return [Column(h, is_number=i > 0) for i, h in enumerate(heads)], cells

    def _confusion_lines(self) -> list[str]:
        assert self.confusion is not None
        if len(self.confusion) > _MOST_IN_MATRIX:
            worst = [f"  {line}" for (line,) in self._worst()]
            return [f"{_WORST}:", *(worst or ["  none"])]
        return [_MATRIX, *text_table(*self._matrix_cells())]

    def _matrix_cells(self) -> tuple[list[Column], list[list[str]]]:
        assert self.confusion is not None
        columns = [Column("label"), *(Column(shown(n), True) for n in self.names)]
        rows = [
            [shown(name), *(f"{count:,}" for count in row)]
            for name, row in zip(self.names, self.confusion, strict=True)
        ]
        return columns, rows

    def _worst(self) -> list[list[str]]:
        """Return lines for the confusions that occur most often."""
        assert self.confusion is not None
        wrong = sorted(
            (-count, true, guess)
            for true, row in enumerate(self.confusion)
            for guess, count in enumerate(row)
            if count and true != guess
        )
        return [
            [f"{shown(self.names[t])} taken for {shown(self.names[g])}: {-count:,}"]
            for count, t, g in wrong[:_MOST_CONFUSIONS]
        ]


_MATRIX = "confusion matrix: rows are labels, columns are predictions"
_WORST = "most frequent confusions"
_PARTS = {"class": ("class", "classes"), "output": ("output",), "channel": ("channel",)}
