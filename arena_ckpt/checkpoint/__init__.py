"""Chooses what to recompute: chains of stages, and recompute schedules for them."""
