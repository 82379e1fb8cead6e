"""The graph of a model: connections, checkpoint blocks, shared weights, validation."""
