"""What a model is before it is compiled, and the texts it is written to."""
