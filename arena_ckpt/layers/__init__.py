"""Layers, one file per family, and the face that a layer of one's own imports from.

The names of the face stand in ``__init__.pyi``. They are imported at their first use,
so that reading one module of this folder loads neither all layer types nor Numba.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
