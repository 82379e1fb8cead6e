"""Offsets for live ranges in one block of memory.

`allocator` is the entry; `buffers` describes what is to be placed and `bodies` what the
engines see of it; `greedy`, `exact` and `disjunctive` are the engines, `bounds` what
none can beat; `validate` checks every layout and shares no code with them.

The names of this folder stand in ``__init__.pyi`` and are imported at their first use:
a plan that is read is validated, but nothing of it is placed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
