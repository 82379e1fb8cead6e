"""A profile: where the time of a training step, or of a prediction, goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.phases import Phase
from arena_ckpt.common.short_repr import brief_repr, counted, short_repr
from arena_ckpt.common.text_table import Column, html_table, text_table
from arena_ckpt.common.units import format_percent
from arena_ckpt.common.wording import quote, quoted
from arena_ckpt.errors import InvalidParameterError

FORMAT_VERSION = 1
"""The version of what `Profile.to_dict` returns."""

VIEWS = ("layer", "phase", "kernel")
"""What calls can be grouped by."""

COLUMNS = 80
"""Number of columns of a table in a text."""

ALL_LAYERS = "(all layers)"
"""Stands for the layer where a step is of none: gradients are clipped together."""

OUTSIDE = "outside kernels"
"""Stands in tables for the time in which no kernel runs."""


@dataclass(frozen=True, slots=True)
class MachineSpeed:
    """What a machine reaches, measured in the same run.

    Attributes
    ----------
    threads : int
    flops_per_second : float
        Of a matrix product by BLAS, of 512 × 512 × 512.
    bytes_per_second : float
        Read and written by a large copy in memory.
    """

    threads: int
    flops_per_second: float
    bytes_per_second: float

    def least_seconds(self, n_flops: int, n_bytes: int) -> float:
        """Return the time that arithmetic or memory takes at the least, the longer."""
        return max(n_flops / self.flops_per_second, n_bytes / self.bytes_per_second)

    def to_dict(self) -> dict[str, Any]:
        """Return the speeds as plain values, for JSON."""
        return {
            "threads": self.threads,
            "flops_per_second": self.flops_per_second,
            "bytes_per_second": self.bytes_per_second,
        }


@dataclass(frozen=True, slots=True)
class ProfiledCall:
    """A kernel call, with what it takes in a step of training or in a prediction.

    Attributes
    ----------
    step : int
        Of the plan.
    layer : str or None
        None where the call is for all layers, as clipping is.
    phase : Phase
    kernel : str
        ``"blas.matmul"``.
    seconds : float
        Median over the rounds, of all runs together.
    runs : int
        Number of runs: one for each micro-batch.
    n_flops : int
        Floating-point operations of all runs, as far as layers state them; a
        multiply-add counts two.
    n_bytes : int
        Bytes of the operands that all runs read and write.
    least_seconds : float
        What the machine would take at its measured speeds, and not more than `seconds`:
        operands that lie in a cache move faster than the machine's copy.
    """

    step: int
    layer: str | None
    phase: Phase
    kernel: str
    seconds: float
    runs: int
    n_flops: int
    n_bytes: int
    least_seconds: float

    __repr__ = brief_repr

    def to_dict(self) -> dict[str, Any]:
        """Return the call as plain values, for JSON."""
        return {
            "step": self.step,
            "layer": self.layer,
            "phase": self.phase.value,
            "kernel": self.kernel,
            "seconds": self.seconds,
            "runs": self.runs,
            "flops": self.n_flops,
            "bytes": self.n_bytes,
        }


@dataclass(frozen=True, slots=True)
class ProfileGroup:
    """The calls of a layer, of a phase or of a kernel together.

    Attributes
    ----------
    name : str
        Of the layer or the kernel, or the value of the phase.
    seconds : float
    share : float
        Part of the whole step, from 0 to 1.
    runs, n_flops, n_bytes : int
    least_seconds : float
        What the machine would take for these calls, one by one.
    """

    name: str
    seconds: float
    share: float
    runs: int
    n_flops: int
    n_bytes: int
    least_seconds: float

    __repr__ = brief_repr

    @property
    def flops_per_second(self) -> float:
        """Floating-point operations a second; 0 where none are known."""
        return self.n_flops / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Bytes read and written a second."""
        return self.n_bytes / self.seconds if self.seconds else 0.0

    @property
    def machine_share(self) -> float:
        """What the machine would take at the least, as a part of what was taken."""
        return self.least_seconds / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the group as plain values, for JSON."""
        return {
            "name": self.name,
            "seconds": self.seconds,
            "share": self.share,
            "runs": self.runs,
            "flops": self.n_flops,
            "bytes": self.n_bytes,
            "flops_per_second": self.flops_per_second,
            "bytes_per_second": self.bytes_per_second,
            "machine_share": self.machine_share,
        }

    def cells(self) -> list[str]:
        """Return the texts of a row of a table."""
        return [
            self.name,
            f"{self.runs:,}",
            milliseconds(self.seconds),
            format_percent(self.share),
            f"{self.flops_per_second / 1e9:.1f}" if self.n_flops else "",
            f"{self.bytes_per_second / 1e9:.1f}" if self.n_bytes else "",
            f"{100 * self.machine_share:.0f} %" if self.least_seconds else "",
        ]


@public_call
@dataclass(frozen=True, slots=True, repr=False)
class Profile:
    """Where the time of a training step goes, or that of a prediction of a batch.

    Attributes
    ----------
    calls : tuple of ProfiledCall
        Each kernel call of the plan once, by ascending step.
    outside_seconds : float
        Time of a whole step in which no kernel runs: a batch is loaded, the learning
        rate is set, the loss is looked at.
    n_steps : int
        Number of steps of the plan.
    batch_size, micro_batches : int
    mode : {"train", "inference"}
    arithmetic : {"fast", "portable"}
    rounds : int
        Number of times that all was run; medians count.
    clock_seconds : float
        What a reading of the clock takes, and is left out of each call.
    machine : MachineSpeed
        With as many threads as the model has.
    machine_one_thread : MachineSpeed
    """

    calls: tuple[ProfiledCall, ...]
    outside_seconds: float
    n_steps: int
    batch_size: int
    micro_batches: int
    mode: str
    arithmetic: str
    rounds: int
    clock_seconds: float
    machine: MachineSpeed
    machine_one_thread: MachineSpeed

    def __repr__(self) -> str:
        return short_repr(
            self,
            self.mode,
            f"{milliseconds(self.seconds)} ms a step",
            counted(len(self.calls), "kernel call"),
            f"recomputing {format_percent(self.recompute_share)}",
            f"batch size {self.batch_size:,}",
        )

    # -- totals ----------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Seconds of a whole step: kernels and what is outside of them."""
        return self.kernel_seconds + self.outside_seconds

    @property
    def kernel_seconds(self) -> float:
        """Seconds in which kernels run."""
        return sum(call.seconds for call in self.calls)

    @property
    def recompute_seconds(self) -> float:
        """Seconds in which results are made again that were not kept."""
        return sum(c.seconds for c in self.calls if c.phase is Phase.RECOMPUTE)

    @property
    def recompute_share(self) -> float:
        """Part of the whole step that recomputing takes, from 0 to 1."""
        return self._share(self.recompute_seconds)

    @property
    def step_seconds(self) -> list[float]:
        """Seconds of each step of the plan, 0 where no kernel runs."""
        seconds = [0.0] * self.n_steps
        for call in self.calls:
            seconds[call.step] += call.seconds
        return seconds

    # -- views -----------------------------------------------------------------

    @public_call
    def by_layer(self) -> tuple[ProfileGroup, ...]:
        """Return the calls of each layer together, the slowest layer first."""
        return self._grouped(lambda call: call.layer or ALL_LAYERS)

    @public_call
    def by_phase(self) -> tuple[ProfileGroup, ...]:
        """Return the calls of each phase together, the slowest phase first."""
        return self._grouped(lambda call: call.phase.value)

    @public_call
    def by_kernel(self) -> tuple[ProfileGroup, ...]:
        """Return the calls of each kernel together, the slowest kernel first."""
        return self._grouped(lambda call: call.kernel)

    @public_call
    def by(self, view: str) -> tuple[ProfileGroup, ...]:
        """Return the groups of a view: ``"layer"``, ``"phase"`` or ``"kernel"``.

        Raises
        ------
        InvalidParameterError
        """
        views = dict(
            zip(VIEWS, (self.by_layer, self.by_phase, self.by_kernel), strict=True)
        )
        if not isinstance(view, str) or view not in views:
            raise InvalidParameterError(
                f"by={quoted(view)} is not possible; expected {quote(VIEWS)}", by=view
            )
        return views[view]()

    def _grouped(
        self, name_of: Callable[[ProfiledCall], str]
    ) -> tuple[ProfileGroup, ...]:
        groups: dict[str, list[ProfiledCall]] = {}
        for call in self.calls:
            groups.setdefault(name_of(call), []).append(call)
        found = [self._group(name, calls) for name, calls in groups.items()]
        return tuple(sorted(found, key=lambda group: -group.seconds))

    def _group(self, name: str, calls: Iterable[ProfiledCall]) -> ProfileGroup:
        calls = [*calls]
        seconds = sum(call.seconds for call in calls)
        return ProfileGroup(
            name,
            seconds,
            self._share(seconds),
            sum(call.runs for call in calls),
            sum(call.n_flops for call in calls),
            sum(call.n_bytes for call in calls),
            sum(call.least_seconds for call in calls),
        )

    def _share(self, seconds: float) -> float:
        return seconds / self.seconds if self.seconds else 0.0

    # -- as text and as data ---------------------------------------------------

    @public_call
    def cells(
        self, by: str = "layer", top: int | None = None
    ) -> tuple[list[Column], list[list[str]]]:
        """Return the columns of a table, and a row of texts for each group.

        Parameters
        ----------
        by : {"layer", "phase", "kernel"}
        top : int, optional
            How many groups have a row of their own; the others have one together.
        """
        groups = self.by(by)
        shown = groups if top is None else groups[:top]
        rows = [group.cells() for group in shown]
        if rest := groups[len(shown) :]:
            names = {group.name for group in rest}
            calls = [call for call in self.calls if _name_of(call, by) in names]
            more = f"{len(rest):,} more" if shown else f"all {by}s"
            rows.append(self._group(more, calls).cells())
        outside = format_percent(self._share(self.outside_seconds))
        rows.append(
            [OUTSIDE, "", milliseconds(self.outside_seconds), outside, "", "", ""]
        )
        rows.append(self._total().cells())
        return [Column(by), *_NUMBERS], rows

    @public_call
    def table(self, by: str = "layer", top: int | None = None) -> str:
        """Return a table as plain text of at most 80 columns.

        Parameters
        ----------
        by : {"layer", "phase", "kernel"}
        top : int, optional
            How many of the slowest have a row of their own.

        Raises
        ------
        InvalidParameterError
        """
        if top is not None and not (isinstance(top, int) and top >= 0):
            raise InvalidParameterError(
                f"top={quoted(top)} is not possible; give how many rows to show, a "
                "whole number of at least 0",
                top=top,
            )
        head, rule, *lines = text_table(*self.cells(by, top), most=COLUMNS)
        return "\n".join([head, rule, *lines[:-1], rule, lines[-1]])

    @public_call
    def sentences(self) -> list[str]:
        """Return in words what the machine reaches and what the time goes into."""
        found = [self._machine_sentence()]
        if kernels := self.by_kernel():
            found.append(self._kernel_sentence(kernels[0]))
        return [*found, self._recompute_sentence()]

    def __str__(self) -> str:
        """Return the table by layer and the sentences as lines of plain text."""
        return "\n".join([self.table(), "", *self.sentences()])

    def _repr_html_(self) -> str:
        """Return the table by layer and the sentences as HTML."""
        return html_table(*self.cells(), foot=self.sentences())

    @public_call
    def to_dict(self) -> dict[str, Any]:
        """Return the profile as plain values, for JSON.

        Returns
        -------
        dict
            The totals, the speeds of the `machine`, the groups as `layers`, `phases`
            and `kernels`, each the slowest first, and all `calls`. Times are in
            seconds.
        """
        total = self._total()
        return {
            "version": FORMAT_VERSION,
            "mode": self.mode,
            "batch_size": self.batch_size,
            "micro_batches": self.micro_batches,
            "arithmetic": self.arithmetic,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "kernel_seconds": self.kernel_seconds,
            "outside_seconds": self.outside_seconds,
            "recompute_seconds": self.recompute_seconds,
            "recompute_share": self.recompute_share,
            "clock_seconds": self.clock_seconds,
            "runs": total.runs,
            "flops": total.n_flops,
            "bytes": total.n_bytes,
            "machine": self.machine.to_dict(),
            "machine_one_thread": self.machine_one_thread.to_dict(),
            "layers": [group.to_dict() for group in self.by_layer()],
            "phases": [group.to_dict() for group in self.by_phase()],
            "kernels": [group.to_dict() for group in self.by_kernel()],
            "calls": [call.to_dict() for call in self.calls],
        }

    def _total(self) -> ProfileGroup:
        """Return the whole step, of which kernels take only a part of the time."""
        name = "whole step" if self.mode == "train" else "whole prediction"
        of_kernels = self._group(name, self.calls)
        return ProfileGroup(
            name,
            self.seconds,
            self._share(self.seconds),
            of_kernels.runs,
            of_kernels.n_flops,
            of_kernels.n_bytes,
            of_kernels.least_seconds,
        )

    def _machine_sentence(self) -> str:
        found = [
            f"{speed.flops_per_second / 1e9:.0f} GFLOP/s in a matrix product and "
            f"{speed.bytes_per_second / 1e9:.1f} GB/s in a large copy with "
            f"{counted(speed.threads, 'thread')}"
            for speed in dict.fromkeys((self.machine, self.machine_one_thread))
        ]
        return f"The machine reaches {', and '.join(found)}."

    def _kernel_sentence(self, slowest: ProfileGroup) -> str:
        speed = self.machine
        by_memory = slowest.n_bytes / speed.bytes_per_second
        is_arithmetic = slowest.n_flops / speed.flops_per_second > by_memory
        limit = "arithmetic" if is_arithmetic else "memory"
        text = (
            f"{slowest.name} takes the most of the {self._what}: "
            f"{milliseconds(slowest.seconds)} ms, {format_percent(slowest.share)}"
        )
        if slowest.n_bytes:
            share = f"{100 * slowest.machine_share:.0f} %"
            text += f", at {share} of what the machine's {limit} allows"
        return f"{text}."

    def _recompute_sentence(self) -> str:
        if not any(call.phase is Phase.RECOMPUTE for call in self.calls):
            return "Nothing is recomputed."
        return (
            f"Recomputing takes {milliseconds(self.recompute_seconds)} ms, "
            f"{format_percent(self.recompute_share)} of the {self._what}."
        )

    @property
    def _what(self) -> str:
        return "step" if self.mode == "train" else "prediction"


_NUMBERS = [
    Column(head, is_number=True)
    for head in ("calls", "ms", "share", "GFLOP/s", "GB/s", "of machine")
]


def _name_of(call: ProfiledCall, by: str) -> str:
    if by == "layer":
        return call.layer or ALL_LAYERS
    return call.kernel if by == "kernel" else str(call.phase.value)


def milliseconds(seconds: float) -> str:
    """Return seconds as milliseconds: ``"0.012"``, ``"12.34"``, ``"1,234"``."""
    value = 1000 * seconds
    for limit, form in ((10, ",.3f"), (100, ",.2f"), (1000, ",.1f")):
        if value < limit:
            return format(value, form)
    return format(value, ",.0f")
