"""Checks of a model, which share no code with what they check.

`dataflow` walks a plan over the bytes of its arena, `roles` says what each step has to
touch there; `checks` has these checks and those that run the model. `check_runner` runs
them in a child process, which may crash, and `verify` returns what they found.
"""
