"""From a graph and its plan to kernel calls."""
