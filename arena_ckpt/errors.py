"""One class per failure, all under `ArenaError` and a fitting builtin.

A message says what is wrong, where, the numbers, and what to do next; the same
facts hang on the exception as attributes, given as keyword arguments.
"""

from __future__ import annotations

import pickle
from typing import Any

TRACEBACK_VARIABLE = "ARENA_CKPT_TRACEBACK"
"""Environment variable: 1 shows what is behind an error, such as all Numba says."""


class ArenaError(Exception):
    """Root of every error this package raises.

    Parameters
    ----------
    message : str
        What, where, the numbers, and what to do next.
    **facts
        The data behind the message; each becomes an attribute.
    """

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        for name, value in facts.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        """Bring message and facts whole to another process."""
        facts = dict(self.__dict__)
        for name in ("errno", "strerror", "filename"):  # kept apart by OSError
            if getattr(self, name, None) is not None:
                facts[name] = getattr(self, name)
        return type(self), self.args, {n: _portable(v) for n, v in facts.items()}


def _portable(fact: object) -> object:
    """Return a fact, or how it prints where it cannot be pickled."""
    try:
        pickle.dumps(fact)
    except Exception:  # whatever an object of the user raises
        return repr(fact)
    return fact


class ArenaWarning(UserWarning):
    """Something that did not stop the work, but that should be known."""


class ModelWarning(UserWarning):
    """Issued for a model that can be trained but hardly means what it says."""


class InvalidParameterError(ArenaError, ValueError):
    """A name or value given by the user cannot be used."""


class ArgumentError(InvalidParameterError, TypeError):
    """A call of other arguments than it has: one unknown, missing, or given twice.

    `call` names what was called, `argument` is the one at fault or None, `known` are
    those that there are.
    """


class UnknownPropertyError(InvalidParameterError, TypeError, KeyError):
    """A property name that the layer, optimizer or model does not have.

    It is a TypeError, as in ``create_layer("input", nmae="in")``, and a KeyError, as in
    ``layer["nmae"]``.
    """


class UnknownTypeError(InvalidParameterError):
    """A layer, optimizer, scheduler or example type that does not exist."""


class UnknownFormatError(InvalidParameterError):
    """A file format that does not exist: `format`, and the `known` ones."""


class UnwritableFileError(InvalidParameterError, OSError):
    """A file that cannot be written where it was asked for: `path`."""


class DuplicateNameError(InvalidParameterError):
    """Two layers with one name."""


class UnknownLayerError(InvalidParameterError):
    """A layer is named that the model does not have."""


class AfterInitializationError(InvalidParameterError):
    """A change that is only possible before `initialize()`."""


class CheckpointBlockError(InvalidParameterError):
    """A checkpoint block that cannot be."""


class BlockTooSmallError(CheckpointBlockError):
    """A checkpoint block of fewer than two layers."""


class UnknownBlockLayerError(CheckpointBlockError, UnknownLayerError):
    """A checkpoint block names a layer that the model does not have."""


class DuplicateBlockLayerError(CheckpointBlockError):
    """A checkpoint block names a layer twice."""


class NonConsecutiveBlockError(CheckpointBlockError):
    """The layers of a checkpoint block do not follow each other."""


class ReversedBlockError(NonConsecutiveBlockError):
    """The layers of a checkpoint block are not in forward order."""


class OverlappingBlocksError(CheckpointBlockError):
    """A layer in two checkpoint blocks."""


class GraphError(InvalidParameterError):
    """The layers do not form a trainable graph."""


class CycleError(GraphError):
    """Layers that feed each other in a circle."""


class LossError(GraphError):
    """No loss layer, or more than one."""


class DanglingOutputError(GraphError):
    """A layer whose output nobody reads."""


class ShapeMismatchError(GraphError):
    """Shapes that do not fit together."""


class SharedWeightsError(GraphError):
    """A layer cannot use the weights of another: `layer`, `shared_from`."""


class BatchStatisticsError(InvalidParameterError):
    """Statistics over a batch that would be taken of a single value.

    `layer` takes them, `values_per_channel` is how many values it would have;
    `batch_size` and `micro_batches` are those of the plan, `n_samples` the samples of
    the batch in question.
    """


class OwnLayerError(InvalidParameterError):
    """The code of a layer cannot be used: `layer`, `type_name`, `hook` say whose.

    A hook is a method that the package calls, such as `infer` or `forward`.
    """


class LayerHookError(OwnLayerError, RuntimeError):
    """A hook of a layer raised an error, which is the `__cause__`: `file`, `line`."""


class LayerResultError(OwnLayerError, TypeError):
    """A hook of a layer returned what cannot be used: `found`."""


class TensorDtypeError(OwnLayerError, TypeError):
    """A layer's tensor is of a dtype that cannot be planned, or is read as another.

    `tensor` names it, `dtype` is its dtype, `known` are those that there are.
    """


class UnknownRoleError(OwnLayerError, LookupError):
    """A hook asks for a tensor that its step does not have: `role`, `known`."""


class RegionError(OwnLayerError, TypeError):
    """A tensor is read as an array that it cannot be: `shape`."""


class KernelError(OwnLayerError, TypeError):
    """A kernel that cannot be used: `kernel`, `file`, `line`."""


class KernelSignatureError(KernelError):
    """A function that cannot be a kernel: `parameters` are those at fault."""


class KernelArgumentError(KernelError):
    """A kernel is given other arguments than it takes: `parameter`, `expected`."""


class KernelCompileError(KernelError):
    """Numba cannot compile a kernel: `reason`."""


class StateError(ArenaError, RuntimeError):
    """A call that comes too early or too late."""


class NotInitializedError(StateError):
    """A call that needs `initialize()` first."""


class ArenaTooLargeError(ArenaError, MemoryError):
    """The arena does not fit in the memory of this machine."""


class LayoutError(ArenaError, AssertionError):
    """A memory layout breaks a rule; `rule` names it, `buffers` who breaks it."""


class DataflowError(ArenaError, AssertionError):
    """A step of a plan finds other bytes than it needs, or writes where it must not.

    `rule` names what is broken (see `arena_ckpt.verification.dataflow`), `tensor`,
    `step` and `layer` say where; `layer` is None where no step is at fault.
    """


class InvalidBufferError(InvalidParameterError):
    """A buffer that cannot be placed anywhere: its numbers make no sense.

    `buffers` holds the indexes of those at fault.
    """


class CapacityError(ArenaError, MemoryError):
    """It is proved that the buffers do not fit.

    `proof` names the kind of proof, `conflict` holds the indexes of buffers that do
    not fit even alone, `capacity_bytes` and `lower_bound_bytes` the numbers. With pools
    it is proved over all choices of which buffer goes into which, `pools` holds their
    sizes and `capacity_bytes` their sum.
    """


class TimeLimitError(ArenaError, TimeoutError):
    """The search ended before it knew whether the buffers fit.

    `layout` is the best one found, higher than `capacity_bytes`. With pools it is the
    last, number `pool` of `pools`, that is too high; `buffers` lists what lies there.
    """


class PlanFormatError(ArenaError, ValueError):
    """A text that is no memory plan of this version."""


class PlanMismatchError(InvalidParameterError):
    """A memory plan that was made for another model; `what` names the difference."""


class BudgetError(ArenaError, MemoryError):
    """No plan of the model that was found is as small, or as fast, as asked.

    `budget_bytes` is what was asked, `least_bytes` the smallest arena found,
    `lower_bound_bytes` what no plan can be smaller than, `step` and `tensors` say what
    binds there.
    """


class BoardError(InvalidParameterError):
    """A board that does not exist, or a file that does not describe one."""


class BoardFileNotFoundError(BoardError, FileNotFoundError):
    """A file of a board that does not exist."""


class GoldenFileError(ArenaError, ValueError):
    """A golden file that is missing, damaged or of another version: `path`."""


class GoldenMismatchError(ArenaError, AssertionError):
    """What was computed is not what a golden file pins: `path`, `differences`."""


class CanaryError(ArenaError, AssertionError):
    """A kernel wrote outside its buffer (found in debug mode): `step`, `tensor`."""


class ForeignReadError(ArenaError, AssertionError):
    """A step's result depends on bytes that are no operand of it (in debug mode).

    `layer`, `phase` and `step` say which step, `tensor` which result; `n_elems` of its
    elements come out otherwise, the first at `index`, as `values`. `read` is the tensor
    whose bytes were read, and `byte` the first of them in the arena, where that is
    known.
    """


class CrashError(ArenaError, RuntimeError):
    """A kernel crashed, or did not end, in the process that `verify` ran it in.

    `step` is that of its plan, or None where none was under way, and `signal` the name
    of what ended the process, or None.
    """


class NonFiniteError(ArenaError, ArithmeticError):
    """NaN or infinity in the loss or, in debug mode, in a tensor.

    With ``check="all"`` or in debug mode `layer`, `phase`, `step` and `tensor` say
    where, `recomputed` which layers had run again by then in this pass, and, where the
    step is a recompute itself, `backward_of` for the backward pass of which layer.
    """


class DataError(ArenaError, ValueError):
    """Data that cannot be trained on."""


class DataShapeError(DataError):
    """An array whose shape does not fit the model."""


class DataTypeError(DataError, TypeError):
    """An array whose dtype does not fit."""


class EmptyDataError(DataError):
    """No samples."""


class NonFiniteDataError(DataError):
    """NaN or infinity in the data."""


class LabelRangeError(DataError):
    """A label outside the classes of the model."""


class IdRangeError(DataError):
    """Raised when a layer reads an id that is out of range, as no row of an embedding.

    `layer` is the layer that reads it, `n_ids` its number of ids (the same under the
    name of the property that sets it: `in_dim` of an embedding), `sample` and `place`
    say where the first such id is, `value` what it is.
    """


class CorruptFileError(DataError):
    """A file that is truncated, damaged or of another format."""


class DataFileNotFoundError(DataError, FileNotFoundError):
    """A data file that does not exist."""


class SavedStateError(ArenaError, ValueError):
    """A saved state of a model that cannot be used: `path`."""


class SavedStateNotFoundError(SavedStateError, FileNotFoundError):
    """There is no saved state where one was named."""


class CorruptSavedStateError(SavedStateError):
    """A saved state that is cut short, altered or of another format."""


class SavedStateVersionError(SavedStateError):
    """A saved state of a version that this package does not read: `version`."""


class SavedStateMismatchError(SavedStateError):
    """A saved state of another model, run or data; `what` names the difference."""


class SavedStateExistsError(SavedStateError, FileExistsError):
    """A folder that has saved states of another run: `path`, `iteration`."""


class BufferFileError(DataError):
    """A CSV of buffers that cannot be used.

    `path` names the file, `row` the line at fault as editors count, or None.
    """


class IniError(InvalidParameterError):
    """An INI file that does not describe a model."""


class IniFileNotFoundError(IniError, FileNotFoundError):
    """An INI file that does not exist."""
