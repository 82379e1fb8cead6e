"""Numba kernels: one operator family per file; arrays in, arrays out.

A kernel takes contiguous views and sizes, writes its results in place, allocates
nothing, raises nothing and knows nothing of graphs. Every helper a kernel calls
stands in the same file, because Numba's disk cache does not notice an edit in a
helper that lives elsewhere.
"""
