"""Checks of a model that share no code with what they check.

`dataflow` walks a plan over the bytes of its arena, `roles` says what each step has to
touch there; `checks` has these and runs of the model. `course` runs the checks `apart`,
in a child process that may crash, and `report` says what came out.
"""
