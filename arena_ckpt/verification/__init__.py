"""Checks of a model that share no code with what they check.

`dataflow` walks a plan over the bytes of its arena, `roles` says what each step has to
touch there; `report` puts these and runs of the model together.
"""
