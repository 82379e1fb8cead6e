"""What a model is before it is compiled, and the texts in which it is written."""
