"""Assigns offsets in one block of memory to buffers with live ranges.

`allocator` is the entry. `buffers` holds the buffers to place, and `bodies` the form of
them that the engines place. `greedy`, `exact` and `disjunctive` are the engines, and
`bounds` computes lower bounds on every layout. `pools` spreads buffers over several
memories by the rules in `pool_rules`. `validate` checks every layout and shares no code
with the others.

The names of this folder stand in ``__init__.pyi`` and are imported at their first use:
a plan that is read is validated, but nothing of it is placed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
