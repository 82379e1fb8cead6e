"""Models on devices: a model becomes a C project that trains it to the same bits."""
