"""Where models come from, one module per format; each only builds a `Model`."""
