"""Runs each step on foreign bytes of two kinds, and lets no result depend on them.

What a step may read is what it declares: operands that it reads or updates, gradients
that it adds to, and the scalars of `_SCALARS`. Everything else is foreign to it: other
tensors, the gaps between, what an operand that it only writes held before, and rows
behind the last sample of a smaller batch. Before a step runs it is run in two shadows
of the arena (`shadows`), in which all that is foreign holds one pattern or another; the
results have to have the same bits in both, and in the arena itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.dtypes import DTYPES, FLOAT32, item_bytes
from arena_ckpt.common.names import CONTROL
from arena_ckpt.common.phases import Phase
from arena_ckpt.engine.debug.culprits import (
    Culprit,
    Extent,
    constant_at,
    describe_culprit,
    narrow,
    parts_outside,
)
from arena_ckpt.engine.debug.runner import Moment, Watcher, describe
from arena_ckpt.engine.debug.shadows import (
    MARGIN_BYTES,
    WORD_BYTES,
    Words,
    make_shadows,
)
from arena_ckpt.engine.link import CallTable
from arena_ckpt.engine.program import Program
from arena_ckpt.engine.views import TensorViews
from arena_ckpt.errors import CanaryError, ForeignReadError
from arena_ckpt.lowering.calls import LoweringSettings
from arena_ckpt.lowering.kept_results import NOTHING_KEPT, kept_results
from arena_ckpt.lowering.kernel_call import Mode
from arena_ckpt.planning.loss_places import SHARED, loss_places
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import (
    CONTROL_DTYPE,
    Access,
    Control,
    Execution,
    Operand,
    TensorKind,
)

_FORWARD = (Control.LOSS, Control.SCALE, Control.FRACTION)
_COUNTERS = (Control.ITERATION, Control.FIRST_SAMPLE)
_SCALARS: dict[Phase, tuple[tuple[int, ...], tuple[int, ...]]] = {
    Phase.FORWARD: ((*_FORWARD, *_COUNTERS), ()),
    Phase.RECOMPUTE: ((*_FORWARD, *_COUNTERS), ()),
    Phase.CALC_GRADIENT: ((Control.SCALE, Control.FRACTION, *_COUNTERS), ()),
    Phase.CALC_DERIVATIVE: ((Control.SCALE, *_COUNTERS), ()),
    Phase.CLIP_GRADIENTS: ((), (Control.SQUARE_NORM, Control.HYPER + 1)),
    Phase.APPLY_GRADIENT: (
        (
            *(Control.FRACTION, Control.ITERATION, Control.LEARNING_RATE),
            *range(Control.HYPER, Control.LENGTH),
        ),
        (),
    ),
}
"""By phase, the places of the control tensor that a step may read (and change), and
those that it makes."""

_FOREIGN_SCALARS = ((1.0, 17.25), (-1.0, -5.5))
"""Factor and summand that make of the place of a scalar what it holds in each shadow
where it is foreign: small, as some become integers."""

_OWN = (TensorKind.ACTIVATION, TensorKind.RECOMPUTED, TensorKind.WORKSPACE)


@dataclass(frozen=True, slots=True)
class Result:
    """What a step leaves for others, in the arena and in its shadows.

    Attributes
    ----------
    tensor : int
        Its index in the plan.
    arrays : tuple of array
        In the arena, then in each shadow.
    words : tuple of array of uint32 or uint64
        The same bytes.
    """

    tensor: int
    arrays: tuple[npt.NDArray[Any], ...]
    words: tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """How a step is run in the shadows of its arena.

    Attributes
    ----------
    reads : tuple of Extent
        What it may read, but for scalars.
    touched : tuple of tuple of array
        For each shadow, the rows of the pattern that the step touches.
    integers : tuple of tuple of array
        For each shadow, the operands of integers that the step only writes.
    given : tuple of tuple of array
        What it may read, in the arena and in each shadow.
    results : tuple of Result
    blank : tuple of (int, int, str)
        Offset, bytes and dtype of what it only writes, to be filled with NaN in the
        arena; but what shares bytes with an operand that it reads. Taken for an integer
        NaN is so large that no offset of that size is in memory.
    scalars : list of int
        Places of the control tensor that the step may read.
    outcomes : list of int
        Places that are compared.
    """

    reads: tuple[Extent, ...]
    touched: tuple[tuple[Words, ...], ...]
    integers: tuple[tuple[npt.NDArray[Any], ...], ...]
    given: tuple[tuple[npt.NDArray[Any], ...], ...]
    results: tuple[Result, ...]
    blank: tuple[tuple[int, int, str], ...]
    scalars: list[int]
    outcomes: list[int]


class ForeignReads(Watcher):
    """Lets no result of a step depend on what is foreign to it.

    Takes two more arenas, and for each step two more runs and time in proportion to its
    operands. Where the kernels of a step take foreign bytes for offsets they may crash.

    Parameters
    ----------
    views : TensorViews
        Of a plan with canaries, so that there is something foreign around each operand.

    Attributes
    ----------
    n_steps, n_operands, n_results : int
        What was run and compared so far.

    Raises
    ------
    ArenaTooLargeError
        Two more arenas do not fit in the memory that is free.
    """

    def __init__(self, views: TensorViews) -> None:
        self._views = views
        self._plan = views.plan
        self._shadows = make_shadows(views.arena)
        self._control = next(
            i for i, t in enumerate(self._plan.tensors) if t.name == CONTROL
        )
        shape = self._plan.tensors[self._control].shape
        losses = [layer.name for layer in self._plan.layers if layer.is_loss]
        self._loss_places = loss_places(losses, shape[0])
        self._scalars = tuple(
            place.view(views.offset_bytes(self._control), shape, CONTROL_DTYPE)
            for place in (views.arena, *self._shadows)
        )
        self._begins = _first_gradients(self._plan)
        self._kept = kept_results(self._plan)
        self._tables: WeakKeyDictionary[Program, tuple[CallTable, ...]] = (
            WeakKeyDictionary()
        )
        self._rehearsals: dict[tuple[int, LoweringSettings], Rehearsal] = {}
        self._used: Rehearsal | None = None
        self.n_steps = self.n_operands = self.n_results = 0

    def before(self, moment: Moment) -> None:
        """Run the step in both shadows, then poison what it only writes in the arena.

        Raises
        ------
        ForeignReadError
            Its results differ.
        CanaryError
            It writes to constants.
        """
        self._clear()
        if moment.execution is None or not moment.n_calls:
            return
        used = self._used = self._rehearsal(moment)
        calls = moment.program.calls(moment.step, moment.step + 1)
        for number, table in enumerate(self._tables_of(moment.program)):
            self._prepare(number)
            table.run(*calls)
            self._require_constant(moment, number)
        self.n_steps += 1
        self.n_operands += len(moment.execution.operands)
        self.n_results += len(used.results)
        self._compare(moment, 1, 2)
        for place in used.blank:
            self._views.arena.poison(*place)

    def after(self, moment: Moment) -> None:
        """Compare what the step made in the arena.

        Raises
        ------
        ForeignReadError
            It is not what it made in the shadows.
        """
        if self._used is not None:
            self._compare(moment, 1, 0)

    def _require_constant(self, moment: Moment, number: int) -> None:
        """Refuse a step that has written to constants of a shadow.

        Raises
        ------
        CanaryError
        """
        written = self._first_written_constant(number)
        if written is not None:
            name = constant_at(self._views, written)
            raise CanaryError(
                f"{moment.doer} writes to {self._views.describe_byte(written)}"
                f"{f', of {name}' if name else ''}, which no step may: it can be flash "
                "on a board. This is a defect of that layer's kernels; nothing was "
                "changed",
                step=moment.step,
                tensor=name,
            )

    def _first_written_constant(self, number: int) -> int | None:
        """Return the first byte of constants that changed in a shadow, or None."""
        assert self._used is not None
        arena, used = self._views.arena, self._used
        whole = arena.constants_start, len(arena.span)
        if whole[0] == whole[1]:
            return None
        for (start, _), arrays in zip(used.reads, used.given, strict=True):
            given, there = arrays[0], arrays[1 + number]
            if start >= whole[0] and not np.array_equal(given, there):
                changed = np.flatnonzero(given != there)
                return start + given.itemsize * int(changed[0])
        return self._shadows[number].first_written(whole, used.reads)

    # -- runs --------------------------------------------------------------------------

    def _clear(self) -> None:
        """Let the shadows be foreign throughout again."""
        if self._used is not None:
            for shadow, touched in zip(self._shadows, self._used.touched, strict=True):
                for rows in touched:
                    shadow.clear(rows)
            self._used = None

    def _prepare(self, number: int) -> None:
        """Bring what the step may read into a clear shadow."""
        assert self._used is not None
        for array in self._used.integers[number]:
            self._shadows[number].fill_integers(array)
        for arrays in self._used.given:
            np.copyto(arrays[1 + number], arrays[0])
        scalars, places = self._scalars[1 + number], self._used.scalars
        factor, summand = _FOREIGN_SCALARS[number]
        scalars[...] = factor * np.arange(scalars.size) + summand
        scalars[places] = self._scalars[0][places]

    def _tables_of(self, program: Program) -> tuple[CallTable, ...]:
        tables = self._tables.get(program)
        if tables is None:
            tables = tuple(shadow.moved(program.table) for shadow in self._shadows)
            self._tables[program] = tables
        return tables

    # -- what a step may do ------------------------------------------------------------

    def _rehearsal(self, moment: Moment) -> Rehearsal:
        program = moment.program
        key = moment.step, program.settings
        if key not in self._rehearsals:
            assert moment.execution is not None
            self._rehearsals[key] = self._make(moment.execution, moment)
        return self._rehearsals[key]

    def _make(self, execution: Execution, moment: Moment) -> Rehearsal:
        n = moment.n_samples
        operands = execution.operands
        read = [o for o in operands if self._reads(execution, o, moment.program)]
        blank = [o for o in operands if o not in read]
        kept = self._kept.get(execution.step, NOTHING_KEPT).values()
        given = [*(o.tensor for o in read), *kept]
        whole = [self._extent(i, None) for i in (*(o.tensor for o in operands), *kept)]
        whole.append(self._extent(self._control, None))
        may_read, makes = _SCALARS[execution.phase]
        may_read = (*may_read, *self._of_loss(execution))
        return Rehearsal(
            reads=tuple(self._extent(tensor, n) for tensor in given),
            touched=tuple(
                tuple(shadow.rows(extent) for extent in dict.fromkeys(whole))
                for shadow in self._shadows
            ),
            integers=tuple(
                tuple(
                    self._arrays(o.tensor, None)[number]
                    for o in blank
                    if not DTYPES[self._plan.tensors[o.tensor].dtype].is_float
                )
                for number in (1, 2)
            ),
            given=tuple(_as_words(self._arrays(tensor, n)) for tensor in given),
            results=tuple(self._results(execution, moment)),
            blank=tuple(self._blank(read, blank)),
            scalars=[int(place) for place in may_read],
            outcomes=[int(place) for place in (*may_read, *makes)],
        )

    def _of_loss(self, execution: Execution) -> Sequence[int]:
        """Return the places of a loss that has its own, which its steps may read."""
        places = self._loss_places.get(execution.layer, SHARED)
        if places is SHARED:
            return ()
        is_forward = execution.phase is Phase.FORWARD
        return places[:2] if is_forward else places[2:]

    def _reads(self, execution: Execution, operand: Operand, program: Program) -> bool:
        """Tell whether a step may read what an operand holds before it."""
        kind = self._plan.tensors[operand.tensor].kind
        if operand.access is Access.WRITE:
            return kind is TensorKind.DATA  # loaded before the pass
        if kind is TensorKind.GRADIENT and execution.phase is Phase.CALC_GRADIENT:
            is_begun = self._begins[operand.tensor] < execution.step
            return is_begun or program.settings.add_gradients
        return True

    def _blank(
        self, read: Sequence[Operand], blank: Sequence[Operand]
    ) -> Iterator[tuple[int, int, str]]:
        kept = [self._extent(operand.tensor, None) for operand in read]
        for operand in blank:
            start, stop = self._extent(operand.tensor, None)
            if not any(start < end and begin < stop for begin, end in kept):
                dtype = self._plan.tensors[operand.tensor].dtype
                floats = dtype if DTYPES[dtype].is_float else FLOAT32
                yield start, stop - start, floats

    def _results(self, execution: Execution, moment: Moment) -> Iterator[Result]:
        """Yield what others find: not workspaces that end with the step."""
        predicts = moment.program.settings.mode is Mode.PREDICT
        for operand in execution.operands:
            tensor = self._plan.tensors[operand.tensor]
            is_output = operand.is_output
            if predicts and not is_output:
                continue  # nobody reads what is saved for the backward pass
            # Some layers turn what they have saved into what their derivative needs.
            is_own = tensor.layer == execution.layer and tensor.kind in _OWN
            if not operand.access.writes and not (is_own and not is_output):
                continue
            ends = tensor.stop <= execution.step + 1
            if tensor.kind is TensorKind.WORKSPACE and ends:
                continue
            arrays = self._arrays(operand.tensor, moment.n_samples)
            yield Result(operand.tensor, arrays, _as_words(arrays))

    def _arrays(
        self, tensor: int, n_samples: int | None
    ) -> tuple[npt.NDArray[Any], ...]:
        """Return a tensor in the arena and in each shadow."""
        here = self._views.array(tensor, n_samples)
        offset, dtype = self._views.offset_bytes(tensor), here.dtype.name
        there = (shadow.view(offset, here.shape, dtype) for shadow in self._shadows)
        return here, *there

    def _extent(self, tensor: int, n_samples: int | None) -> Extent:
        start = self._views.offset_bytes(tensor)
        return start, start + self._views.array(tensor, n_samples).nbytes

    # -- who it was --------------------------------------------------------------------

    def _culprit(self, moment: Moment, was_in_arena: bool) -> Culprit | None:
        """Find what the step has read, by giving one shadow parts of the other's bytes.

        Where only the run in the arena had another result, what its operands held
        before is gone: then it is looked for elsewhere only.
        """
        assert moment.execution is not None
        assert self._used is not None
        execution, used = moment.execution, self._used
        first, second = self._shadows
        calls = moment.program.calls(moment.step, moment.step + 1)
        table = self._tables_of(moment.program)[0]
        second.reset()
        self._prepare(1)
        source = self._views.arena if was_in_arena else second

        def outcome(extents: Sequence[Extent]) -> list[bytes]:
            first.reset()
            self._prepare(0)
            for start, stop in extents:
                n = (stop - start) // WORD_BYTES
                new = source.view(start, (n,), "uint32")
                np.copyto(first.view(start, (n,), "uint32"), new)
            table.run(*calls)
            outcomes = self._scalars[1][used.outcomes].tobytes()
            return [outcomes, *(r.words[1].tobytes() for r in used.results)]

        expected = outcome(())
        if outcome(()) != expected:
            return None  # it is not even the same twice
        found = narrow(
            self._foreign(execution, used, was_in_arena),
            lambda extents: outcome(extents) != expected,
            WORD_BYTES,
        )
        if found is not None:
            n = moment.n_samples
            return describe_culprit(self._views, execution, n, found[0])
        if was_in_arena:
            return Culprit("what one that it only writes held before", None, None)
        return None

    def _foreign(
        self, execution: Execution, used: Rehearsal, was_in_arena: bool
    ) -> list[Extent]:
        """Return what is foreign to a step; of the arena, what it does not write."""
        size = len(self._views.arena.span)
        control = self._views.offset_bytes(self._control)
        starts = (control + item_bytes(CONTROL_DTYPE) * p for p in used.scalars)
        taken = [(start, start + item_bytes(CONTROL_DTYPE)) for start in starts]
        if was_in_arena:
            taken += [self._extent(o.tensor, None) for o in execution.operands]
            return parts_outside((0, size), taken)
        return parts_outside(
            (-MARGIN_BYTES, size + MARGIN_BYTES), [*taken, *used.reads]
        )

    # -- comparing ---------------------------------------------------------------------

    def _compare(self, moment: Moment, one: int, other: int) -> None:
        """Compare results of two of the three runs: 0 is that in the arena."""
        assert self._used is not None
        for result in self._used.results:
            if not np.array_equal(result.words[one], result.words[other]):
                name = self._plan.tensors[result.tensor].name
                arrays = result.arrays[one], result.arrays[other]
                self._refuse(moment, name, arrays, other == 0)
        places = self._used.outcomes
        scalars = self._scalars[one][places], self._scalars[other][places]
        if scalars[0].tobytes() != scalars[1].tobytes():
            arrays = self._scalars[one].copy(), self._scalars[other].copy()
            for array in arrays:  # the others need not be the same
                array[[p for p in range(array.size) if p not in places]] = 0
            self._refuse(moment, CONTROL, arrays, other == 0)

    def _refuse(
        self,
        moment: Moment,
        name: str,
        arrays: tuple[npt.NDArray[Any], ...],
        was_in_arena: bool,
    ) -> None:
        """Raise, with what comes out otherwise and what was read.

        Raises
        ------
        ForeignReadError
        """
        assert moment.execution is not None
        found, other = (array.copy() for array in arrays)
        places = np.flatnonzero(_bits(found) != _bits(other))
        index = tuple(int(i) for i in np.unravel_index(places[0], found.shape))
        values = found[index].item(), other[index].item()
        try:
            culprit = self._culprit(moment, was_in_arena)
        finally:
            for shadow in self._shadows:
                shadow.reset()
            self._used = None
        if culprit is None:
            cause = (
                "depends on something else than its operands, such as an array that "
                "its layer keeps outside the arena: "
            )
        else:
            cause = f"reads what is no operand of it, {culprit.text}: "
        raise ForeignReadError(
            f"{describe(moment.execution)} {cause}{name} comes out otherwise when that "
            f"holds something else, in {len(places):,} of {found.size:,} values, the "
            f"first at {list(index)}: {values[0]:.7g} and {values[1]:.7g}; this is a "
            "defect of that layer's kernels, please report it. Weights are as before "
            "the iteration",
            layer=moment.execution.layer,
            phase=moment.execution.phase,
            step=moment.step,
            tensor=name,
            n_elems=len(places),
            index=index,
            values=values,
            read=culprit.tensor if culprit else None,
            byte=culprit.byte if culprit else None,
        )


def _first_gradients(plan: MemoryPlan) -> dict[int, int]:
    """Return the step of a pass that makes each gradient; later ones add to it."""
    first: dict[int, int] = {}
    for execution in plan.executions:
        if execution.phase is Phase.CALC_GRADIENT:
            for operand in execution.operands:
                first.setdefault(operand.tensor, execution.step)
    return first


def _as_words(arrays: tuple[npt.NDArray[Any], ...]) -> tuple[npt.NDArray[Any], ...]:
    """Return the same bytes as integers, as large as they can be."""
    kind = np.uint32 if arrays[0].nbytes % 8 else np.uint64
    return tuple(array.reshape(-1).view(kind) for array in arrays)


def _bits(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.reshape(-1).view(f"u{array.itemsize}")
