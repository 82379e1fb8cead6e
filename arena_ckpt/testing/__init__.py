"""Pins memory plans in regression tests.

The public names stand in ``__init__.pyi``, imported at their first use, so that pytest
does not wait for Numba where no test needs a plan.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
