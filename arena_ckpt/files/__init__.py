"""Reads files into NumPy arrays and writes files, one format per module.

Nothing here knows of models. Files are written atomically (`files.atomic_write`). Files
that are read are not trusted: the sizes in a header are compared with the real size of
the file before memory is allocated, pickles are never opened, and errors name the place
in the file.
"""

from arena_ckpt.files.idx import read_idx
from arena_ckpt.files.npz import read_npz
from arena_ckpt.files.table import Table, column_of
from arena_ckpt.files.table_reader import TableForm, read_columns, read_table

__all__ = [
    "Table",
    "TableForm",
    "column_of",
    "read_columns",
    "read_idx",
    "read_npz",
    "read_table",
]
