"""Facts and helpers for every folder: units, names, dtypes, phases, properties."""
