"""Choosing what to recompute: chains of stages, and the best schedules for them."""
