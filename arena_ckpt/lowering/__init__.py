"""Lowering: from a graph and its plan to the kernel calls of an iteration.

What an engine runs is made here, as data: names of kernels, offsets and numbers. There
need be no arena, nothing is compiled, and every process makes the same calls.
"""
