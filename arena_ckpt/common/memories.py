"""The names of the memories that every plan can have."""

ARENA = "arena"
"""The RAM that a plan lays out where it names none."""

CONSTANTS = "constants"
"""The read-only memory of what no step writes."""
