"""Train neural networks inside one preallocated, planned block of memory.

The public names stand in ``__init__.pyi``. They are imported at their first use, so
that ``arena-ckpt --help`` need not wait for Numba.
"""

import lazy_loader

from arena_ckpt.common.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
