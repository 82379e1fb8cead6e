"""The errors of the package: one class per failure, under `ArenaError` and a builtin.

A message says what is wrong, where, the numbers, and what to do next; the same
facts hang on the exception as attributes, given as keyword arguments.
"""

from __future__ import annotations

import pickle
from typing import Any

TRACEBACK_VARIABLE = "ARENA_CKPT_TRACEBACK"
"""Name of an environment variable; 1 shows the causes of errors, such as all that Numba
says."""


class ArenaError(Exception):
    """Base class of all errors that this package raises.

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
        """Let pickle keep the message and all facts."""
        facts = dict(self.__dict__)
        for name in ("errno", "strerror", "filename"):  # kept apart by OSError
            if getattr(self, name, None) is not None:
                facts[name] = getattr(self, name)
        return type(self), self.args, {n: _portable(v) for n, v in facts.items()}


def _portable(fact: object) -> object:
    """Return a fact, or its text if the fact cannot be pickled."""
    try:
        pickle.dumps(fact)
    except Exception:  # whatever an object of the user raises
        return repr(fact)
    return fact


class ArenaWarning(UserWarning):
    """Issued for a problem that does not stop the work but should be known."""


class ModelWarning(UserWarning):
    """Issued for a model that can be trained but probably is not what was meant."""


class InvalidParameterError(ArenaError, ValueError):
    """Raised if a name or a value that the user gave cannot be used."""


class ArgumentError(InvalidParameterError, TypeError):
    """Raised if the arguments of a call do not match its parameters.

    An argument is unknown, missing or given twice.

    `call` names what was called, `argument` is the one at fault or None, `known` are
    those that there are.
    """


class UnknownPropertyError(InvalidParameterError, TypeError, KeyError):
    """Raised for a property that the layer, optimizer or model does not have.

    It is a TypeError, as in ``create_layer("input", nmae="in")``, and a KeyError, as in
    ``layer["nmae"]``.
    """


class UnknownTypeError(InvalidParameterError):
    """Raised for an unknown type of layer, optimizer, scheduler or example."""


class UnsupportedModelError(ArenaError, ValueError):
    """Raised if a model of another framework cannot be imported.

    The message lists all that stands in the way; `gaps` has it as data.
    """


class ImportCheckError(ArenaError, AssertionError):
    """Raised if an imported model differs from the one that it was imported from.

    `check` holds all that was compared.
    """


class UnknownFormatError(InvalidParameterError):
    """Raised for a file format that does not exist: `format`, and the `known` ones."""


class CExportError(ArenaError, ValueError):
    """Raised if a model cannot be exported as C: nothing is written.

    `layers` names the layers at fault, `kernels` what they need that is not there in C.
    """


class UnwritableFileError(InvalidParameterError, OSError):
    """Raised if a file cannot be written at its `path`."""


class DuplicateNameError(InvalidParameterError):
    """Raised if two layers have one name."""


class UnknownLayerError(InvalidParameterError):
    """Raised if the model does not have a layer that is named."""


class AfterInitializationError(InvalidParameterError):
    """Raised for a change that is only possible before `initialize()`."""


class CheckpointBlockError(InvalidParameterError):
    """Raised if layers named for a checkpoint block cannot form one."""


class BlockTooSmallError(CheckpointBlockError):
    """Raised for a checkpoint block of fewer than two layers."""


class UnknownBlockLayerError(CheckpointBlockError, UnknownLayerError):
    """Raised if a checkpoint block names a layer that the model does not have."""


class DuplicateBlockLayerError(CheckpointBlockError):
    """Raised if a checkpoint block names a layer twice."""


class NonConsecutiveBlockError(CheckpointBlockError):
    """Raised if the layers of a checkpoint block do not follow each other."""


class ReversedBlockError(NonConsecutiveBlockError):
    """Raised if the layers of a checkpoint block are not in forward order."""


class OverlappingBlocksError(CheckpointBlockError):
    """Raised if a layer is in two checkpoint blocks."""


class GraphError(InvalidParameterError):
    """Raised if the layers do not form a graph that can be trained."""


class CycleError(GraphError):
    """Raised if layers feed each other in a cycle."""


class LossError(GraphError):
    """Raised if a model has no loss layer, or more than one."""


class DanglingOutputError(GraphError):
    """Raised if no layer reads the output of a layer."""


class ShapeMismatchError(GraphError):
    """Raised if shapes do not fit together."""


class SharedWeightsError(GraphError):
    """Raised if a layer cannot use the weights of another: `layer`, `shared_from`."""


class BatchStatisticsError(InvalidParameterError):
    """Raised if statistics over a batch would be computed from a single value.

    `layer` takes them, `values_per_channel` is how many values it would have;
    `batch_size` and `micro_batches` are those of the plan, `n_samples` the samples of
    the batch in question.
    """


class OwnLayerError(InvalidParameterError):
    """Raised if the code of a layer cannot be used: `layer`, `type_name`, `hook`.

    A hook is a method that the package calls, such as `infer` or `forward`.
    """


class LayerHookError(OwnLayerError, RuntimeError):
    """Raised if a hook of a layer raised an error, its `__cause__`: `file`, `line`."""


class LayerResultError(OwnLayerError, TypeError):
    """Raised if the result of a layer's hook cannot be used: `found`."""


class TensorDtypeError(OwnLayerError, TypeError):
    """Raised if a tensor's dtype cannot be planned, or differs from how it is read.

    `tensor` names it, `dtype` is its dtype, `known` are those that there are.
    """


class UnknownRoleError(OwnLayerError, LookupError):
    """Raised if a hook asks for a tensor that its step has not: `role`, `known`."""


class RegionError(OwnLayerError, TypeError):
    """A tensor is read as an array that it cannot be: `shape`."""


class KernelError(OwnLayerError, TypeError):
    """Raised if a kernel cannot be used: `kernel`, `file`, `line`."""


class KernelSignatureError(KernelError):
    """Raised if a function cannot be a kernel; `parameters` are those at fault."""


class KernelArgumentError(KernelError):
    """Raised if an argument does not match a kernel's `parameter`: `expected`."""


class KernelCompileError(KernelError):
    """Raised if Numba cannot compile a kernel: `reason`."""


class StateError(ArenaError, RuntimeError):
    """Raised if a call comes too early or too late."""


class NotInitializedError(StateError):
    """Raised if a call needs `initialize()` first."""


class InferenceOnlyError(StateError):
    """Raised if a model that is initialized for inference is asked to train: `what`."""


class ArenaTooLargeError(ArenaError, MemoryError):
    """Raised if the arena does not fit in the memory of this machine."""


class LayoutError(ArenaError, AssertionError):
    """Raised if a memory layout breaks a rule: `rule`, `buffers`."""


class DataflowError(ArenaError, AssertionError):
    """Raised if a step of a plan reads other bytes than it needs, or writes wrong ones.

    `rule` names what is broken (see `arena_ckpt.verification.dataflow`), `tensor`,
    `step` and `layer` say where; `layer` is None where no step is at fault.
    """


class InvalidBufferError(InvalidParameterError):
    """Raised if the numbers of a buffer make no sense, so that it cannot be placed.

    `buffers` holds the indexes of those at fault.
    """


class CapacityError(ArenaError, MemoryError):
    """Raised if it is proved that the buffers do not fit.

    `proof` names the kind of proof, `conflict` holds the indexes of buffers that do
    not fit even alone, `capacity_bytes` and `lower_bound_bytes` the numbers. With pools
    it is proved over all choices of which buffer goes into which of those allowed for
    it, `pools` holds the sizes, or those of the pools that the proof is about, and
    `capacity_bytes` their sum.
    """


class TimeLimitError(ArenaError, TimeoutError):
    """Raised if a search ended before it knew whether the buffers fit.

    `layout` is the best one found, higher than `capacity_bytes`. With pools it is
    number `pool` of `pools` that is too high; `buffers` lists what lies there.
    """


class PlanFormatError(ArenaError, ValueError):
    """Raised if a text is not a memory plan of this version."""


class PlanMismatchError(InvalidParameterError):
    """Raised if a plan was made for another model; `what` names the difference."""


class BudgetError(ArenaError, MemoryError):
    """Raised if no plan was found that is as small, or as fast, as requested.

    `budget_bytes` is what was asked, `least_bytes` the smallest arena found,
    `lower_bound_bytes` what no plan can be smaller than, `step` and `tensors` say what
    binds there.
    """


class PolicyError(InvalidParameterError):
    """Raised if layers cannot be kept or dropped as was asked: `layers`."""


class BoardError(InvalidParameterError):
    """Raised if a board does not exist, or a file does not describe one."""


class BoardFitError(ArenaError, MemoryError):
    """Raised if a plan does not fit on the board that it was exported for.

    `board` is its name, `fit` an `arena_ckpt.boards.BoardFit` with all numbers.
    """


class BoardFileNotFoundError(BoardError, FileNotFoundError):
    """Raised if the file of a board does not exist."""


class GoldenFileError(ArenaError, ValueError):
    """Raised if a golden file is missing, damaged or of another version: `path`."""


class GoldenMismatchError(ArenaError, AssertionError):
    """Raised if results differ from a golden file: `path`, `differences`, `diff`."""


class CanaryError(ArenaError, AssertionError):
    """Raised in debug mode if a kernel wrote outside its buffer: `step`, `tensor`."""


class ForeignReadError(ArenaError, AssertionError):
    """Raised in debug mode if a step's result depends on bytes that are no operand.

    `layer`, `phase` and `step` say which step, `tensor` which result; `n_elems` of its
    elements come out otherwise, the first at `index`, as `values`. `read` is the tensor
    whose bytes were read, and `byte` the first of them in the arena, where that is
    known.
    """


class CrashError(ArenaError, RuntimeError):
    """Raised if a kernel crashed, or hung, in the process in which `verify` ran it.

    `step` is that of its plan, or None where none was under way, and `signal` the name
    of what ended the process, or None.
    """


class NonFiniteError(ArenaError, ArithmeticError):
    """Raised for NaN or infinity in the loss or, in debug mode, in a tensor.

    With ``check="all"`` or in debug mode `layer`, `phase`, `step` and `tensor` say
    where, `recomputed` which layers had run again by then in this pass, and, where the
    step is a recompute itself, `backward_of` for the backward pass of which layer.
    """


class DataError(ArenaError, ValueError):
    """Raised if data cannot be trained on."""


class DataShapeError(DataError):
    """Raised if the shape of an array does not fit the model."""


class DataTypeError(DataError, TypeError):
    """Raised if the dtype of an array does not fit."""


class EmptyDataError(DataError):
    """Raised if data have no samples."""


class NonFiniteDataError(DataError):
    """Raised if data hold NaN or infinity."""


class LabelRangeError(DataError):
    """Raised if a label is outside the classes of the model."""


class IdRangeError(DataError):
    """Raised if a layer reads an id that is out of range, as no row of an embedding.

    A length of a sequence is an id too, from 1 to the number of steps. `layer` is the
    layer that reads it, `n_ids` its number of ids (the same under the name of the
    property that sets it: `in_dim` of an embedding), `least` the smallest one, `sample`
    and `place` say where the first such id is, `value` what it is.
    """


class CorruptFileError(DataError):
    """Raised if a file is truncated, damaged or of another format."""


class AmbiguousTableError(CorruptFileError):
    """Raised if a table can be read in several ways: `options` decide."""


class MissingValueError(CorruptFileError, NonFiniteDataError):
    """Raised if cells of a table have no value.

    `count` is the number of them, `line` and `column` say where the first is.
    """


class UnknownClassError(LabelRangeError):
    """Raised if a label names a class that is not known.

    `unknown` are the names that are not, `classes` those that are known.
    """


class UnevenBatchesError(DataError):
    """Raised if batches that are drawn one by one end early, or cannot be used.

    `epoch` and `batch` count from 1, `n_iterations` is the number of batches that the
    model was trained on before, whose updates are kept.
    """


class DataFileNotFoundError(DataError, FileNotFoundError):
    """Raised if a data file does not exist."""


class SavedStateError(ArenaError, ValueError):
    """Raised if a saved state of a model cannot be used: `path`."""


class SavedStateNotFoundError(SavedStateError, FileNotFoundError):
    """Raised if there is no saved state where one was named."""


class CorruptSavedStateError(SavedStateError):
    """Raised if a saved state is truncated, altered or of another format."""


class SavedStateVersionError(SavedStateError):
    """Raised if a saved state has a version that cannot be read: `version`."""


class SavedStateMismatchError(SavedStateError):
    """Raised if a saved state belongs to another model, run or data set: `what`."""


class SavedStateExistsError(SavedStateError, FileExistsError):
    """Raised if a folder holds saved states of another run: `path`, `iteration`."""


class BufferFileError(DataError):
    """Raised if a CSV of buffers cannot be used.

    `path` names the file, `row` the line at fault as editors count, or None.
    """


class IniError(InvalidParameterError):
    """Raised if an INI file does not describe a model."""


class IniFileNotFoundError(IniError, FileNotFoundError):
    """Raised if an INI file does not exist."""


class OnnxError(InvalidParameterError):
    """Raised if an ONNX file cannot be read or written: `path`."""


class OnnxFileNotFoundError(OnnxError, FileNotFoundError):
    """Raised if an ONNX file does not exist."""
