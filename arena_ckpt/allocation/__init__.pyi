"""What other folders call of this one."""

from .allocator import allocate as allocate
from .layout import Layout as Layout

__all__: list[str]
