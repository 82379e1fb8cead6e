"""Importers of models, one module per format; each only builds a `Model`."""
