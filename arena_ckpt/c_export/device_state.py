r"""The state of a training as a device saves it: what lasts, in a fixed order of bytes.

All numbers are little-endian::

    8    magic, "ACSTATE\0"
    4    version of the format
    4    bytes of the whole
    32   SHA-256 of the program: the plan's memory, kernel calls and the constants
    8    iterations made so far
    ...  tensors, each as its bytes in the arena, without gaps
    4    CRC-32 of all before
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.lowering.tensor_regions import TensorRegions
from arena_ckpt.operations.regions import Region
from arena_ckpt.planning.memory_use import constant_tensors
from arena_ckpt.planning.plan import MemoryPlan, memory_checksum
from arena_ckpt.planning.tensors import PERSISTENT

MAGIC = b"ACSTATE\0"
VERSION = 1
HEADER = struct.Struct("<8sII32sQ")
CRC = struct.Struct("<I")
MOST_ITERATIONS = 2**32
"""Iterations are fewer: a device counts them in 32 bits."""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What of a plan lasts from one iteration to the next, and changes.

    Attributes
    ----------
    digest : bytes
        SHA-256 of the program: of the plan's steps, tensors and offsets, of the kernel
        calls, and of the constants that they read. What it leaves out may change while
        a training goes on: learning rates and the other numbers of an optimizer.
    tensors : dict from str to Region
        Trained weights, moving statistics and states of the optimizer, in the order in
        which they stand in a saved state.
    """

    digest: bytes
    tensors: dict[str, Region]

    @classmethod
    def of(
        cls,
        plan: MemoryPlan,
        calls: Iterable[KernelCall],
        weights: Mapping[str, npt.NDArray[Any]],
    ) -> DeviceState:
        """Return what lasts in a program.

        Parameters
        ----------
        plan : MemoryPlan
        calls : iterable of KernelCall
            What the program runs.
        weights : mapping from str to array
            Of these, the constants are part of the program.
        """
        constant = constant_tensors(plan.tensors, plan.executions)
        regions = TensorRegions(plan)
        tensors = {
            tensor.name: regions.region(index)
            for index, tensor in enumerate(plan.tensors)
            if tensor.kind in PERSISTENT and index not in constant
        }
        digest = hashlib.sha256(memory_checksum(plan).encode())
        for call in calls:
            operands = ", ".join(map(repr, call.operands))
            digest.update(f"{call.step} {call.kernel}({operands})\n".encode())
        for index in sorted(constant):
            name = plan.tensors[index].name
            if name in weights:
                digest.update(f"{name}\n".encode())
                digest.update(np.ascontiguousarray(weights[name], "<f4").tobytes())
        return cls(digest.digest(), tensors)

    @property
    def n_bytes(self) -> int:
        """Bytes of a saved state."""
        of_tensors = sum(region.nbytes for region in self.tensors.values())
        return HEADER.size + of_tensors + CRC.size

    def header(self, iteration: int) -> bytes:
        """Return what stands before the tensors."""
        return HEADER.pack(MAGIC, VERSION, self.n_bytes, self.digest, iteration)

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
        assert len(blob) + CRC.size == self.n_bytes
        return blob + CRC.pack(zlib.crc32(blob))

    def checksum(self, iteration: int, arrays: Mapping[str, npt.NDArray[Any]]) -> int:
        """Return the CRC-32 with which a saved state ends."""
        (crc,) = CRC.unpack(self.encode(iteration, arrays)[-CRC.size :])
        return int(crc)
