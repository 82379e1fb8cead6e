r"""The state of a training as a device saves it: what lasts, in a fixed order of bytes.

All numbers are little-endian::

    8    magic, "ACSTATE\0"
    4    version of the format
    4    bytes of the whole
    32   SHA-256 of the plan
    8    iterations made so far
    ...  tensors, each as its bytes in the arena, without gaps
    4    CRC-32 of all before
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.errors import SavedStateMismatchError
from arena_ckpt.files.tensor_file import corrupt
from arena_ckpt.lowering.tensor_regions import TensorRegions
from arena_ckpt.operations.regions import Region
from arena_ckpt.planning.memory_use import constant_tensors
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import PERSISTENT

MAGIC = b"ACSTATE\0"
VERSION = 1
HEADER = struct.Struct("<8sII32sQ")
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What of a plan lasts from one iteration to the next, and changes.

    Attributes
    ----------
    plan_digest : bytes
        SHA-256 of the plan.
    tensors : dict from str to Region
        Trained weights, moving statistics and states of the optimizer, in the order in
        which they stand in a saved state.
    """

    plan_digest: bytes
    tensors: dict[str, Region]

    @classmethod
    def of(cls, plan: MemoryPlan) -> DeviceState:
        """Return what lasts in a plan."""
        constant = constant_tensors(plan.tensors, plan.executions)
        regions = TensorRegions(plan)
        tensors = {
            tensor.name: regions.region(index)
            for index, tensor in enumerate(plan.tensors)
            if tensor.kind in PERSISTENT and index not in constant
        }
        return cls(bytes.fromhex(plan.checksum.removeprefix("sha256:")), tensors)

    @property
    def n_bytes(self) -> int:
        """Bytes of a saved state."""
        of_tensors = sum(region.nbytes for region in self.tensors.values())
        return HEADER.size + of_tensors + _CRC.size

    def header(self, iteration: int) -> bytes:
        """Return what stands before the tensors."""
        return HEADER.pack(MAGIC, VERSION, self.n_bytes, self.plan_digest, iteration)

    def encode(self, iteration: int, arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
        """Return a saved state.

        Parameters
        ----------
        iteration : int
            Iterations made so far.
        arrays : mapping from str to array
            The tensors by name; others are left out.
        """
        parts = [self.header(iteration)]
        for name, region in self.tensors.items():
            dtype = np.dtype(region.dtype).newbyteorder("<")
            parts.append(np.ascontiguousarray(arrays[name], dtype).tobytes())
        blob = b"".join(parts)
        assert len(blob) + _CRC.size == self.n_bytes
        return blob + _CRC.pack(zlib.crc32(blob))

    def checksum(self, iteration: int, arrays: Mapping[str, npt.NDArray[Any]]) -> int:
        """Return the CRC-32 with which a saved state ends."""
        (crc,) = _CRC.unpack(self.encode(iteration, arrays)[-_CRC.size :])
        return int(crc)

    def decode(self, blob: bytes, path: str) -> tuple[int, dict[str, npt.NDArray[Any]]]:
        """Return the iteration and the tensors of a saved state.

        Parameters
        ----------
        blob : bytes
        path : str
            What messages call it.

        Raises
        ------
        CorruptSavedStateError
            It is no state of a device, or damaged.
        SavedStateMismatchError
            It is whole, but of another plan.
        """
        least = HEADER.size + _CRC.size
        if len(blob) < least or not blob.startswith(MAGIC):
            raise corrupt(path, "it does not begin like the state of a device")
        _, version, n_bytes, digest, iteration = HEADER.unpack_from(blob)
        if version != VERSION or n_bytes != len(blob):
            raise corrupt(
                path,
                f"it has version {version} and {len(blob):,} of {n_bytes:,} bytes",
            )
        if _CRC.unpack(blob[-_CRC.size :])[0] != zlib.crc32(blob[: -_CRC.size]):
            raise corrupt(path, "its CRC-32 differs from that of its content")
        if digest != self.plan_digest or n_bytes != self.n_bytes:
            raise SavedStateMismatchError(
                f"{path} was saved by a device that trains by another plan; initialize "
                "the model with the plan that was exported, in portable arithmetic",
                path=path,
                what="plan",
            )
        arrays: dict[str, npt.NDArray[Any]] = {}
        place = HEADER.size
        for name, region in self.tensors.items():
            dtype = np.dtype(region.dtype).newbyteorder("<")
            array = np.frombuffer(blob, dtype, region.size, place)
            arrays[name] = array.astype(region.dtype).reshape(region.shape)
            place += region.nbytes
        return iteration, arrays
