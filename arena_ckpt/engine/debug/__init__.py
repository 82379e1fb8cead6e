"""Runs that look at every step: at the values it wrote, and at the memory around them.

`runner` runs the steps one by one and goes back where somebody objects; `values` looks
for NaN and infinity, `memory` guards live bytes and poisons dead ones, `reads` runs
each step in `shadows` of the arena as well, where all that is foreign to it holds other
bytes, and `culprits` finds out which of them it has read.
"""
