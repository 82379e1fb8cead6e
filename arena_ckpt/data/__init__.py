"""Data sets: checked arrays, samples that a model can read, loaders of files."""
