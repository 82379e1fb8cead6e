"""Reads files into NumPy arrays and writes files, one format per module.

Nothing here knows of models. What is written is there whole or not at all
(`files.whole`). A file that is read is material from outside: sizes that its header
states are compared with the size the file really has before memory is taken, pickles
are never opened, and whatever is wrong is named with its place in the file.
"""

from arena_ckpt.files.idx import read_idx
from arena_ckpt.files.npz import read_npz
from arena_ckpt.files.table import read_table

__all__ = ["read_idx", "read_npz", "read_table"]
