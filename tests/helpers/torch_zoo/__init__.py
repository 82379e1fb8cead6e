"""Small models as people write them in PyTorch: what an importer has to take.

Each family is a file of functions that return (module, example inputs, loss). The
modules are those of the papers and of well-known libraries with fewer and narrower
layers, in the idioms that people use: functional calls, views, in-place operators.
Random operators are those of `nn.Dropout` alone.
"""

from helpers.torch_zoo import (  # each enters its models
    classic,
    detectors,
    generative,
    keyword_spotting,
    mobile,
    patches,
    pictures,
    recommenders,
    recurrent,
    residual,
    sequences,
    sets_and_graphs,
    tables,
    transformers,
    two_heads,
    windows,
)
from helpers.torch_zoo.registry import FAMILIES, Built, build, names

__all__ = [
    "FAMILIES",
    "Built",
    "build",
    "classic",
    "detectors",
    "generative",
    "keyword_spotting",
    "mobile",
    "names",
    "patches",
    "pictures",
    "recommenders",
    "recurrent",
    "residual",
    "sequences",
    "sets_and_graphs",
    "tables",
    "transformers",
    "two_heads",
    "windows",
]
