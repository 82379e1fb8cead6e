"""``src/NAME_weights.c``: the weights that a model begins with, and its constants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from arena_ckpt.c_export.exported_model import ExportedModel, FloatArray
from arena_ckpt.c_export.literals import float_rows
from arena_ckpt.common.c_identifiers import escaped, unique_identifiers
from arena_ckpt.common.memories import CONSTANTS
from arena_ckpt.common.names import tensor_name
from arena_ckpt.errors import CExportError
from arena_ckpt.lowering.tensor_regions import TensorRegions
from arena_ckpt.operations.regions import Region


@dataclass(frozen=True, slots=True, eq=False)
class InitialWeight:
    """A weight as it is before the first step.

    Attributes
    ----------
    name : str
        ``"fc1:weight"``.
    array : str
        The C array that holds it.
    region : Region
        Where it lies.
    values : float32 array
    fill : float or None
        The value of all its elements, where they have the same bits: it needs no array.
    """

    name: str
    array: str
    region: Region
    values: FloatArray
    fill: float | None


class InitialWeights:
    """The weights of a model in C.

    Parameters
    ----------
    model : ExportedModel
    prefix : str

    Attributes
    ----------
    in_ram : list of InitialWeight
        Those that are copied into the arena.
    constants : list of InitialWeight
        Those that stay in flash.
    statistics : tuple of Region
        Weights that training changes without a gradient.

    Raises
    ------
    CExportError
        Weights that are NaN or infinite.
    """

    def __init__(self, model: ExportedModel, prefix: str) -> None:
        self._prefix = prefix
        self._constant_bytes = model.plan.constant_bytes
        regions = TensorRegions(model.plan)
        specs = [
            (tensor_name(node.name, weight.name), weight)
            for node in model.graph.nodes
            for weight in node.own_weights
        ]
        names = unique_identifiers(["constants", *(name for name, _ in specs)])[1:]
        every = [
            _initial(name, f"{prefix}_{array.lower()}", regions.named(name), values)
            for (name, _), array in zip(specs, names, strict=True)
            for values in [np.asarray(model.weights[name], np.float32)]
        ]
        broken = [weight for weight in every if not np.isfinite(weight.values).all()]
        if broken:
            raise CExportError(
                f"{', '.join(weight.name for weight in broken)} have values that are "
                "NaN or infinite; nothing was written. Set these weights anew",
                layers=tuple(weight.name for weight in broken),
                kernels=(),
            )
        self.constants = [w for w in every if w.region.memory == CONSTANTS]
        self.in_ram = [w for w in every if w.region.memory != CONSTANTS]
        trained = {name for name, weight in specs if weight.is_trained}
        self.statistics = tuple(w.region for w in self.in_ram if w.name not in trained)

    def declarations(self) -> Iterator[str]:
        """Yield what stands in the header."""
        if self._constant_bytes:
            n = self._constant_bytes // 4
            yield "/* What no step writes: it stays where it is. */"
            yield f"extern const float {self._prefix}_constants[{n}];"
        arrays = [weight for weight in self.in_ram if weight.fill is None]
        if arrays:
            yield "/* The weights of the first step. */"
        for weight in arrays:
            yield f"extern const float {weight.array}[{weight.region.size}];"

    def source(self) -> str:
        """Return the text of the file."""
        lines = [
            "/* The weights before the first step; those of one value are not here. */",
            f'#include "{self._prefix}.h"',
            "",
            "typedef char float_has_4_bytes[sizeof(float) == 4 ? 1 : -1];",
        ]
        if self._constant_bytes:
            lines += self._constant_lines()
        for weight in self.in_ram:
            if weight.fill is None:
                lines += [
                    "",
                    f"/* {escaped(weight.name)} */",
                    f"const float {weight.array}[{weight.region.size}] = {{",
                    *float_rows(weight.values),
                    "};",
                ]
        return "\n".join(lines) + "\n"

    def _constant_lines(self) -> Iterator[str]:
        """Yield the constants at their offsets, with zeros in the gaps between."""
        n = self._constant_bytes // 4
        yield ""
        yield f"const float {self._prefix}_constants[{n}] = {{"
        place = 0
        for weight in sorted(self.constants, key=lambda w: w.region.offset_bytes):
            start = weight.region.offset_bytes // 4
            assert start >= place, f"{weight.name} overlaps another constant"
            yield from float_rows(np.zeros(start - place, np.float32))
            yield f"    /* {weight.region.offset_bytes}: {escaped(weight.name)} */"
            yield from float_rows(weight.values)
            place = start + weight.region.size
        yield from float_rows(np.zeros(n - place, np.float32))
        yield "};"


def _initial(
    name: str, array: str, region: Region, values: FloatArray
) -> InitialWeight:
    bits = np.ascontiguousarray(values).reshape(-1).view(np.uint32)
    is_even = bool((bits == bits[0]).all())
    fill = float(values.reshape(-1)[0]) if is_even else None
    return InitialWeight(name, array, region, values, fill)
