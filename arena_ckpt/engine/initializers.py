"""How weights start.

Every tensor draws from a counter-based generator of its own, keyed by the seed of the
model and the tensor's name, so neither the order of layers nor checkpoint blocks
change it.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

from arena_ckpt.layers.spec import WeightSpec


def initialize_weight(
    weight: npt.NDArray[np.float32], spec: WeightSpec, name: str, seed: int
) -> None:
    """Fill `weight` with the values of `spec`, or from its distribution.

    Parameters
    ----------
    weight : float32 array of the shape of `spec`
        Written in place.
    spec : WeightSpec
    name : str
        ``"fc1:weight"``: with the seed it decides the numbers drawn.
    seed : int

    Notes
    -----
    Normal distributions have standard deviation s, uniform ones the range ±s√3 for
    xavier and he (the same variance) and ±s for lecun, as in NNTrainer; s² is
    1/fan_in (lecun), 2/(fan_in + fan_out) (xavier) or 2/fan_in (he).

    References
    ----------
    LeCun et al., "Efficient BackProp", 1998; Glorot and Bengio, AISTATS 2010; He et
    al., ICCV 2015.
    """
    if spec.values is not None:
        weight[...] = np.frombuffer(spec.values, dtype="<f4").reshape(weight.shape)
    else:
        _draw(weight, spec, name, seed)
    if spec.zero_row is not None:
        weight[spec.zero_row] = 0


def _draw(
    weight: npt.NDArray[np.float32], spec: WeightSpec, name: str, seed: int
) -> None:
    if spec.initializer in ("zeros", "ones"):
        weight.fill(spec.initializer == "ones")
        return
    family, distribution = spec.initializer.split("_")
    variance = {
        "lecun": 1 / spec.fan_in,
        "xavier": 2 / (spec.fan_in + spec.fan_out),
        "he": 2 / spec.fan_in,
    }[family]
    key = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=16).digest()
    generator = np.random.Generator(
        np.random.Philox(key=np.frombuffer(key, dtype="<u8"))
    )
    if distribution == "normal":
        generator.standard_normal(out=weight, dtype=np.float32)
        weight *= np.float32(math.sqrt(variance))
    else:
        limit = math.sqrt(variance if family == "lecun" else 3 * variance)
        generator.random(out=weight, dtype=np.float32)
        weight *= np.float32(2 * limit)
        weight -= np.float32(limit)
