"""Numba kernels: one operator family per file; arrays in, arrays out.

A kernel takes contiguous views and sizes, writes its results in place, allocates
nothing, raises nothing and knows nothing of graphs. Numba's disk cache is keyed by all
sources of this package (see `compiling`): kernels of several files may share helpers.
"""
