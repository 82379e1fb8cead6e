"""Which part of a foreign weight is which of ours, as importers note it."""

from arena_ckpt.definition.weight_links import Step as Step
from arena_ckpt.definition.weight_links import WeightLink as WeightLink
from arena_ckpt.definition.weight_links import run_steps as run_steps
from arena_ckpt.definition.weight_links import to_foreign as to_foreign
from arena_ckpt.definition.weight_links import used_twice as used_twice
