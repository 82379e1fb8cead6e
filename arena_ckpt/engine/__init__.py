"""The Numba engine: an arena, linked kernel calls, sessions, debug mode."""
