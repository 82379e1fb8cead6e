"""Bad input by the thousand: one definition of each target, for two fuzzers.

A target (`target`) takes bytes or what a hypothesis strategy draws, and calls one
public entry. `guard` watches the call: nothing but our errors may come out, in limited
time and memory, and no file may be left behind or changed. One target takes good
input: `models` draws networks and holds their numbers against PyTorch's and against
those of other plans. `tools/fuzz.py` runs many
inputs, `tests/model/test_fuzz.py` a few, `guided` runs targets under atheris.
"""
