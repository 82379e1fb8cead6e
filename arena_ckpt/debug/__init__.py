"""Runs that look at every step: at the values it wrote, and at the memory around them.

`runner` runs the steps one by one and goes back where somebody objects; `values` looks
for NaN and infinity, `memory` guards live bytes and poisons dead ones.
"""
