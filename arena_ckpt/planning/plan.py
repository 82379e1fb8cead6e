"""The memory plan: all that is known of a training iteration before it runs.

A plan is frozen data, the same in every process. Reports draw it, golden files hold its
JSON, and engines run it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from arena_ckpt.allocation.bounds import live_bytes
from arena_ckpt.allocation.buffers import make_buffers
from arena_ckpt.allocation.integers import is_whole
from arena_ckpt.allocation.validate import check_layout
from arena_ckpt.common.arguments import public_call, require_value
from arena_ckpt.common.arithmetics import ARITHMETICS
from arena_ckpt.common.collection import without_collection
from arena_ckpt.common.dtypes import DTYPES, size_bytes
from arena_ckpt.common.flops import Flops
from arena_ckpt.common.json_codec import decode, encode, may_be_left_out
from arena_ckpt.common.memories import ARENA, CONSTANTS
from arena_ckpt.common.phases import Phase
from arena_ckpt.common.short_repr import brief_repr, counted, short_repr
from arena_ckpt.common.units import align_up, format_bytes, format_percent
from arena_ckpt.common.version import __version__
from arena_ckpt.common.wording import (
    listed_versions,
    nearest,
    quote,
    quoted,
    shown,
)
from arena_ckpt.errors import (
    InvalidParameterError,
    LayoutError,
    PlanFormatError,
    UnknownLayerError,
)
from arena_ckpt.graph.blocks import CheckpointBlock
from arena_ckpt.planning.costs import Costs, count_costs, other_cost, rerun_cost
from arena_ckpt.planning.memory_use import (
    MemoryUse,
    PlannedRam,
    constant_tensors,
    touched_bytes,
)
from arena_ckpt.planning.settings import INFERENCE, MODES, TRAIN
from arena_ckpt.planning.tensors import Execution, LiveRange, TensorKind
from arena_ckpt.planning.timeline import ExecutionOrder, Step
from arena_ckpt.planning.training_facts import PlanTraining

PLAN_FORMAT = "arena_ckpt memory plan"
PLAN_VERSION = 6

READABLE_VERSIONS = (4, 5, PLAN_VERSION)
"""The versions of plans that are read.

Version 4 knew one memory, the arena; versions 4 and 5 state neither the properties of
layers nor the optimizer, and what they do not state is None.
"""

_MEMORY_VERSION = 5
"""The last version of plans that states steps, tensors and offsets alone."""

_NOT_COUNTED = ("checksum", "written_by")
"""Keys of a plan's document that its checksum does not cover."""


@dataclass(frozen=True, slots=True)
class PlanLayer:
    """A layer as reports and exporters need it.

    Attributes
    ----------
    name, type_name : str
    inputs : tuple of str
        Layers whose outputs it reads.
    weights : tuple of str
        Names within the layer.
    is_trainable : bool
        Not frozen by ``trainable=false``; true for layers without weights.
    is_loss : bool
    output_shapes : tuple of tuple of int
        Channel, height and width of each output of one sample.
    in_place : bool
        The layer can overwrite its input with its output.
    flops : Flops
        Operations for one sample.
    properties : dict from str to str, or None
        The properties of the layer that are not their defaults, as text:
        ``{"unit": "64"}``. Name and inputs have fields of their own. None in a plan
        that was read from a file of version 4 or 5.
    """

    name: str
    type_name: str
    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    is_trainable: bool
    is_loss: bool
    output_shapes: tuple[tuple[int, int, int], ...]
    in_place: bool
    flops: Flops
    properties: dict[str, str] | None = may_be_left_out(None, is_hashed=False)

    __repr__ = brief_repr

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Shape of the first output."""
        return self.output_shapes[0]


@dataclass(frozen=True, slots=True)
class Buffer:
    """A range of bytes in a memory during a range of steps.

    Attributes
    ----------
    tensor : str
        The tensor with the longest live range in the buffer.
    kind : TensorKind
        Kind of that tensor.
    start, stop : int
        Steps, half-open.
    offset_bytes : int
        Offset from the start of the memory; a multiple of the alignment.
    size_bytes : int
        Exact size; the space taken in the memory is rounded up to the alignment.
    tensors : tuple of int
        All live ranges that share the buffer, as indices into `MemoryPlan.tensors`.
    memory : str
        A name of `MemoryPlan.memories`: ``"arena"`` where the plan names no RAM.
    """

    tensor: str
    kind: TensorKind
    start: int
    stop: int
    offset_bytes: int
    size_bytes: int
    tensors: tuple[int, ...]
    memory: str = may_be_left_out(ARENA)

    __repr__ = brief_repr

    @property
    def is_constant(self) -> bool:
        """Whether the buffer lies in the memory that no step writes."""
        return self.memory == CONSTANTS


@public_call
@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Steps, tensors, live ranges and offsets of one iteration, or of inference.

    Attributes
    ----------
    arena_bytes : int
        Size of the arena, which is allocated once; of all RAMs where there are several.
        Constants are not counted.
    live_lower_bound_bytes : int
        Largest number of bytes of RAM alive at one step; no layout of the buffers is
        smaller.
    local_lower_bound_bytes : int
        Bytes of weights and states plus the largest working set of one step; no plan of
        this graph is smaller.
    naive_bytes : int
        Size of an arena in which every tensor but the constants has bytes of its own.
    execution_order : dict from str to ExecutionOrder
        In forward order.
    buffers : tuple of Buffer
    tensors : tuple of LiveRange
    executions : tuple of Execution
        The steps at which kernels run, with the tensor in each role.
    layers : tuple of PlanLayer
        In forward order.
    blocks : tuple of CheckpointBlock
    steps : tuple of Step or None
    n_forward, n_pass : int
        Step at which the backward pass begins, and number of steps of a micro-batch.
        In inference both are the number of all steps.
    batch_size, micro_batches : int
        Number of samples of one iteration, and of passes into which they are split.
    ways : tuple of str
        Ways to save bytes beside reuse; see `arena_ckpt.planning.settings.WAYS`.
    alignment_bytes, canary_bytes : int
        A canary stands behind each buffer in debug mode; otherwise it has 0 bytes.
    allocator : str
        Name of the method that found the layout.
    constant_bytes : int
        Size of the read-only memory of constants: the tensors that no step writes, such
        as frozen weights. 0 where there are none, or where they lie in the arena.
    rams : tuple of PlannedRam
        The RAMs that were asked for, the fastest first; empty for one without a limit,
        the arena.
    mode : str
        ``"train"``, or ``"inference"`` for a plan of forward steps alone.
    arithmetic : str or None
        ``"fast"`` or ``"portable"``, as the model says; None in a plan that was read
        from a file of version 4 or 5.
    training : PlanTraining or None
        Optimizer, learning-rate schedule and clipping; None in inference, and in a plan
        of version 4 or 5.
    """

    arena_bytes: int
    live_lower_bound_bytes: int
    local_lower_bound_bytes: int
    naive_bytes: int
    execution_order: dict[str, ExecutionOrder]
    buffers: tuple[Buffer, ...]
    tensors: tuple[LiveRange, ...]
    executions: tuple[Execution, ...]
    layers: tuple[PlanLayer, ...]
    blocks: tuple[CheckpointBlock, ...]
    steps: tuple[Step | None, ...]
    n_forward: int
    n_pass: int
    batch_size: int
    micro_batches: int
    ways: tuple[str, ...]
    alignment_bytes: int
    canary_bytes: int
    allocator: str
    constant_bytes: int = may_be_left_out(0)
    rams: tuple[PlannedRam, ...] = may_be_left_out(())
    mode: str = may_be_left_out(TRAIN)
    arithmetic: str | None = may_be_left_out(None)
    training: PlanTraining | None = may_be_left_out(None)

    @property
    def is_inference(self) -> bool:
        """Whether the plan has forward steps alone, to predict and not to train."""
        return self.mode == INFERENCE

    @property
    def memories(self) -> dict[str, MemoryUse]:
        """The memories of the plan by name: the RAMs, the fastest first, and constants.

        Without constants they have no memory either.
        """
        sizes: dict[str, int | None] = {ram.name: ram.size_bytes for ram in self.rams}
        sizes = sizes or {ARENA: None}
        if self.constant_bytes:
            sizes[CONSTANTS] = None
        heights, touched = _ends(self), dict.fromkeys(sizes, 0)
        of_tensor = touched_bytes(
            self.tensors,
            self.executions,
            n_pass=self.n_pass,
            n_passes=self.micro_batches,
        )
        for buffer in self.buffers:
            touched[buffer.memory] += sum(of_tensor[index] for index in buffer.tensors)
        return {
            name: MemoryUse(
                name, heights.get(name, 0), size, name == CONSTANTS, touched[name]
            )
            for name, size in sizes.items()
        }

    @property
    def host_bytes(self) -> int:
        """Bytes of all memories together, which running the plan here takes."""
        return self.arena_bytes + self.constant_bytes

    @property
    def ram_buffers(self) -> tuple[Buffer, ...]:
        """The buffers but those of constants."""
        return tuple(b for b in self.buffers if not b.is_constant)

    @property
    def proved_optimal(self) -> bool:
        """Whether the arena is as small as the live lower bound."""
        return self.arena_bytes == self.live_lower_bound_bytes

    @property
    def pass_samples(self) -> int:
        """Largest number of samples of one forward pass."""
        return -(-self.batch_size // self.micro_batches)

    @property
    def counted_costs(self) -> Costs:
        """Cost of each step in operations; see `arena_ckpt.planning.costs`."""
        flops = {layer.name: layer.flops for layer in self.layers}
        return count_costs(self.executions, self.tensors, flops, self.pass_samples)

    @property
    def overhead(self) -> float:
        """Counted cost of the recomputes divided by that of all other steps."""
        costs = self.counted_costs
        again = rerun_cost(self.executions, self.tensors, costs)
        other = other_cost(self.executions, costs)
        return again / other if other else 0.0

    @public_call
    def iteration_cost(self, costs: Costs) -> float:
        """Return the cost of an iteration with all its passes and updates.

        Parameters
        ----------
        costs : Costs
            For example `counted_costs`.
        """
        require_value(
            "costs", costs, fits=isinstance(costs, Costs), expected="Costs of the steps"
        )
        in_pass = [e for e in self.executions if e.step < self.n_pass]
        after = [e for e in self.executions if e.step >= self.n_pass]
        of_pass = other_cost(in_pass, costs) + rerun_cost(in_pass, self.tensors, costs)
        return self.micro_batches * of_pass + other_cost(after, costs)

    @public_call
    def recompute_steps(self, layer: str) -> tuple[int, ...]:
        """Return the steps at which a layer is counted as recomputed.

        A layer can be recomputed more than once; `execution_order` has the first step.

        Raises
        ------
        UnknownLayerError
        """
        wanted = Step(Phase.RECOMPUTE, layer)
        found = tuple(i for i, step in enumerate(self.steps) if step == wanted)
        if not found and layer not in (known := [own.name for own in self.layers]):
            raise UnknownLayerError(
                f"the plan has no layer {quoted(layer)}{nearest(shown(layer), known)}; "
                f"it has {quote(known)}",
                layer=layer,
            )
        return found

    @public_call
    def taken_bytes(self, size_bytes: int) -> int:
        """Return the space that a buffer of `size_bytes` takes in its memory."""
        is_size = isinstance(size_bytes, int | np.integer) and size_bytes >= 0
        expected = "a whole number of bytes, at least 0"
        require_value("size_bytes", size_bytes, fits=is_size, expected=expected)
        return align_up(size_bytes + self.canary_bytes, self.alignment_bytes)

    @public_call
    def live_bytes(self) -> list[int]:
        """Return the bytes of RAM taken by live buffers at each step."""
        buffers = self.ram_buffers
        return [
            int(b)
            for b in live_bytes(
                np.array([b.start for b in buffers]),
                np.array([b.stop for b in buffers]),
                np.array([self.taken_bytes(b.size_bytes) for b in buffers]),
            )
        ]

    @property
    def peak_step(self) -> int:
        """The first step at which the most bytes are alive."""
        live = self.live_bytes()
        return live.index(max(live))

    @public_call
    def describe_step(self, step: int) -> str:
        """Return a step in words: ``"step 34, calc_gradient of fc1"``."""
        self._require_step(step)
        running = self.steps[step]
        if running is None:
            return f"step {step}"
        if running.phase is Phase.CLIP_GRADIENTS:
            return f"step {step}, {running.phase.value}"
        return f"step {step}, {running.phase.value} of {running.layer}"

    @public_call
    def alive_at(self, step: int) -> tuple[Buffer, ...]:
        """Return the buffers in RAM that are alive at a step, the largest first.

        At the end, one behind the last step, none are.
        """
        self._require_step(step, stop=len(self.steps) + 1)
        alive = [b for b in self.ram_buffers if b.start <= step < b.stop]
        return tuple(sorted(alive, key=lambda b: (-b.size_bytes, b.offset_bytes)))

    @public_call
    def tensor_in(self, buffer: Buffer, step: int) -> LiveRange:
        """Return the live range whose bytes a buffer holds at a step.

        Operation in place lets several live ranges share a buffer; of those at the step
        the longest is returned.
        """
        is_buffer = isinstance(buffer, Buffer)
        expected = "one of the plan's buffers"
        require_value("buffer", buffer, fits=is_buffer, expected=expected)
        self._require_step(step)
        lives = [self.tensors[index] for index in buffer.tensors]
        alive = [life for life in lives if life.start <= step < life.stop]
        return max(alive or lives, key=lambda life: life.stop - life.start)

    @public_call
    def bytes_by_kind(self, step: int) -> dict[TensorKind, int]:
        """Return the space of RAM taken at a step by each kind of tensor."""
        totals = dict.fromkeys(TensorKind, 0)
        for buffer in self.alive_at(step):
            kind = self.tensor_in(buffer, step).kind
            totals[kind] += self.taken_bytes(buffer.size_bytes)
        return totals

    def _require_step(self, step: int, stop: int | None = None) -> None:
        stop = len(self.steps) if stop is None else stop
        is_step = is_whole(step) and 0 <= step < stop
        expected = f"a step of the plan, from 0 to {stop - 1}"
        require_value("step", step, fits=is_step, expected=expected)

    def __repr__(self) -> str:
        """Return one line of the numbers that matter; `print` shows more."""
        try:
            overhead = f"{format_percent(self.overhead)} overhead"
        except (LookupError, ValueError):  # a plan that contradicts itself shows, too
            overhead = "overhead unknown"
        bound = format_bytes(self.live_lower_bound_bytes)
        constants = format_bytes(self.constant_bytes) if self.constant_bytes else ""
        return short_repr(
            self,
            "",
            "inference" if self.is_inference else "",
            f"arena {format_bytes(self.arena_bytes)}",
            "proved optimal" if self.proved_optimal else f"lower bound {bound}",
            f"constants {constants}" if constants else "",
            counted(len(self.layers), "layer"),
            counted(len(self.buffers), "buffer"),
            counted(len(self.steps), "step"),
            f"batch size {self.batch_size:,}",
            overhead,
        )

    # Reports read plans and stand to the right of them; only the questions how a plan
    # is shown go the other way: the answer is looked up when somebody asks.

    def __str__(self) -> str:
        """Return the totals and what limits the plan as some lines of text."""
        report = importlib.import_module("arena_ckpt.report.plan_text")
        return str(report.plan_text(self))

    def _repr_html_(self) -> str:
        """Return the HTML page as which a notebook shows the plan."""
        report = importlib.import_module("arena_ckpt.report.html")
        return str(report.notebook_html(self))

    @public_call
    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row of plain values for each live range of each tensor.

        Returns
        -------
        list of dict
            What ``pandas.DataFrame`` takes, with the keys `tensor`, `life`, `kind`,
            `layer`, `dtype`, `shape` (``"32x64"``), `size_bytes`, `memory`,
            `offset_bytes`, `start_step`, `stop_step`, and `shares_with`, the other
            tensors in its buffer, separated by ``;``.
        """
        report = importlib.import_module("arena_ckpt.report.summary")
        rows: list[dict[str, Any]] = report.plan_rows(self)
        return rows

    @public_call
    @without_collection
    def to_json(self) -> str:
        """Return the plan as JSON text that `from_json` reads back to an equal plan.

        Times are steps, ranges half-open, sizes bytes; one key for each field. The key
        ``written_by`` names this version of the package and is no part of the plan.
        """
        document = self._document()
        document["written_by"] = f"arena_ckpt {__version__}"
        document["checksum"] = checksum(document)
        return json.dumps(document, indent=1) + "\n"

    @property
    def checksum(self) -> str:
        """Checksum of the plan's JSON; two plans with the same one are equal."""
        return checksum(self._document())

    def _document(self) -> dict[str, Any]:
        document = {"format": PLAN_FORMAT, "version": PLAN_VERSION, **encode(self)}
        return document | {"proved_optimal": self.proved_optimal}

    @classmethod
    @public_call
    @without_collection
    def from_json(cls, text: str) -> MemoryPlan:
        """Return the plan that `to_json` has written.

        Raises
        ------
        PlanFormatError
            The text is no plan, of another version, contradicts itself, or is not
            what was written.
        """
        try:
            document = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise PlanFormatError(
                f"this is no memory plan: {error}; plans are written by to_json()"
            ) from None
        if not isinstance(document, dict) or document.get("format") != PLAN_FORMAT:
            raise PlanFormatError(
                f"this JSON is no memory plan: its 'format' is not {PLAN_FORMAT!r}; "
                "plans are written by to_json()"
            )
        if document.get("version") not in READABLE_VERSIONS:
            known = listed_versions(READABLE_VERSIONS)
            raise PlanFormatError(
                f"the plan has version {document.get('version')!r}{_writer(document)}, "
                f"this package reads the versions {known}; make the plan again with "
                "this package: arena-ckpt plan MODEL -o PLAN.json",
                version=document.get("version"),
            )
        try:
            plan: MemoryPlan = decode(cls, document)
            check_plan(plan)
        except (ValueError, OverflowError, LayoutError, RecursionError) as error:
            raise PlanFormatError(
                f"the plan is damaged: {error}; make it again with to_json()"
            ) from None
        if document.get("checksum") != checksum(document):
            raise PlanFormatError(
                "the plan is not as it was written: its checksum is "
                f"{document.get('checksum')!r}, that of its content "
                f"{checksum(document)!r}; make it again: arena-ckpt plan MODEL -o "
                "PLAN.json"
            )
        return plan


def require_plan(plan: object) -> None:
    """Refuse an object that is no memory plan.

    Raises
    ------
    InvalidParameterError
    """
    if not isinstance(plan, MemoryPlan):
        raise InvalidParameterError(
            f"plan is a {type(plan).__name__}; expected a MemoryPlan, from "
            "make_plan(), pareto() or MemoryPlan.from_json()",
            plan=plan,
        )


def require_title(name: str, title: object) -> None:
    """Refuse a title that is no text.

    Raises
    ------
    InvalidParameterError
    """
    require_value(name, title, fits=isinstance(title, str), expected="a text")


def checksum(document: dict[str, Any]) -> str:
    """Return the checksum of a plan's document, whatever the order of its keys.

    The keys ``checksum`` and ``written_by`` do not count.
    """
    rest = {key: value for key, value in document.items() if key not in _NOT_COUNTED}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def memory_checksum(plan: MemoryPlan) -> str:
    """Return the checksum of a plan without what it states of layers and optimizer.

    Learning rates and other numbers can change while a training goes on; this checksum
    stays. It is the one that format version 5 gave the same plan.
    """
    layers = tuple(dataclasses.replace(own, properties=None) for own in plan.layers)
    bare = dataclasses.replace(plan, layers=layers, arithmetic=None, training=None)
    return checksum(bare._document() | {"version": _MEMORY_VERSION})


def _writer(document: dict[str, Any]) -> str:
    """Return who wrote a plan, where its document says so."""
    writer = document.get("written_by")
    return f" (written by {shown(writer)})" if isinstance(writer, str) else ""


def check_plan(plan: MemoryPlan) -> None:
    """Refuse a plan with indices out of range, wrong totals or overlapping buffers.

    Raises
    ------
    ValueError
        The message says what is wrong; for the layout it is a `LayoutError`.
    """
    _require_all(_numbers(plan))
    _require_all(_memories(plan))
    for name, height_bytes in _heights(plan).items():
        buffers = [b for b in plan.buffers if b.memory == name]
        check_layout(
            make_buffers(
                [b.start for b in buffers],
                [b.stop for b in buffers],
                [plan.taken_bytes(b.size_bytes) for b in buffers],
                alignment=plan.alignment_bytes,
            ),
            [b.offset_bytes for b in buffers],
            height_bytes,
        )
    seen = sorted(index for buffer in plan.buffers for index in buffer.tensors)
    if seen != list(range(len(plan.tensors))):
        raise ValueError("the buffers do not hold every tensor exactly once")
    if max(plan.live_bytes()) != plan.live_lower_bound_bytes:
        raise ValueError(
            f"the live lower bound is {max(plan.live_bytes())} bytes, not "
            f"{plan.live_lower_bound_bytes}"
        )
    _require_all(_tensors(plan))
    _require_all(_names(plan))


Claim = tuple[bool, str]
"""Whether something holds, and the message if it does not."""


def _require_all(claims: Iterator[Claim]) -> None:
    for holds, what in claims:
        if not holds:
            raise ValueError(what)


def _numbers(plan: MemoryPlan) -> Iterator[Claim]:
    """Yield the claims that must hold before buffers can be looked at."""
    n_steps = len(plan.steps)
    yield (
        plan.alignment_bytes >= 1 and plan.canary_bytes >= 0,
        f"alignment_bytes is {plan.alignment_bytes}, canary_bytes {plan.canary_bytes}",
    )
    yield (
        1 <= plan.micro_batches <= plan.batch_size,
        f"{plan.batch_size} samples are split into {plan.micro_batches} micro-batches",
    )
    yield (
        0 <= plan.n_forward <= plan.n_pass <= n_steps,
        f"n_forward is {plan.n_forward}, n_pass {plan.n_pass} of {n_steps} steps",
    )
    yield plan.mode in MODES, f"the mode is {plan.mode!r}"
    yield (
        plan.arithmetic in (None, *ARITHMETICS),
        f"the arithmetic is {plan.arithmetic!r}",
    )
    max_norm = plan.training.clip_grad_by_norm if plan.training else None
    yield (
        max_norm is None or 0 < max_norm < math.inf,
        f"clip_grad_by_norm is {max_norm!r}",
    )
    is_forward = all(step and step.phase is Phase.FORWARD for step in plan.steps)
    yield (
        not plan.is_inference or (is_forward and plan.n_forward == n_steps),
        "a plan of inference has other steps than forward ones",
    )
    for tensor in plan.tensors:
        yield (
            0 <= tensor.life < n_steps,
            f"{tensor.name} has life {tensor.life} in {n_steps} steps",
        )
    lives: tuple[LiveRange | Buffer, ...] = (*plan.tensors, *plan.buffers)
    for life in lives:
        yield (
            0 <= life.start < life.stop <= n_steps and life.size_bytes >= 0,
            f"{life.size_bytes} bytes live in [{life.start}, {life.stop}) of "
            f"{n_steps} steps",
        )


def _memories(plan: MemoryPlan) -> Iterator[Claim]:
    """Yield the claims about the memories, and what lies in which."""
    rams = [ram.name for ram in plan.rams]
    yield (
        len({*rams, CONSTANTS}) == len(rams) + 1
        and min((ram.size_bytes for ram in plan.rams), default=1) > 0,
        f"the RAMs are {[(ram.name, ram.size_bytes) for ram in plan.rams]}",
    )
    for buffer in plan.buffers:
        yield (
            buffer.memory in (*(rams or [ARENA]), CONSTANTS),
            f"{buffer.tensor} lies in {buffer.memory!r}, no memory of the plan",
        )
    unwritten = constant_tensors(plan.tensors, plan.executions)
    for buffer in plan.buffers:
        yield (
            not buffer.is_constant
            or (
                unwritten.issuperset(buffer.tensors)
                and (buffer.start, buffer.stop) == (0, len(plan.steps))
            ),
            f"{buffer.tensor} lies in {CONSTANTS!r}, and steps write it",
        )
    heights = _heights(plan)
    for ram in plan.rams:
        yield (
            heights[ram.name] <= ram.size_bytes,
            f"{ram.name} has {ram.size_bytes} bytes, and {heights[ram.name]} are taken",
        )
    if plan.rams:
        total = sum(heights[name] for name in rams)
        yield (
            total == plan.arena_bytes,
            f"the RAMs are {total} bytes high together, not {plan.arena_bytes}",
        )


def _heights(plan: MemoryPlan) -> dict[str, int]:
    """Return the height that the layout of each memory has to have."""
    if plan.rams:
        ends = _ends(plan)
        heights = {ram.name: ends.get(ram.name, 0) for ram in plan.rams}
    else:
        heights = {ARENA: plan.arena_bytes}
    return heights | {CONSTANTS: plan.constant_bytes}


def _ends(plan: MemoryPlan) -> dict[str, int]:
    """Return the end of the highest buffer of each memory that holds any."""
    ends: dict[str, int] = {}
    for buffer in plan.buffers:
        taken = align_up(buffer.size_bytes + plan.canary_bytes, plan.alignment_bytes)
        end = buffer.offset_bytes + taken
        ends[buffer.memory] = max(ends.get(buffer.memory, 0), end)
    return ends


def _tensors(plan: MemoryPlan) -> Iterator[Claim]:
    """Yield the claims about tensors, the buffers they share, and totals."""
    for tensor in plan.tensors:
        yield (
            min(tensor.shape, default=1) > 0
            and tensor.dtype in DTYPES
            and size_bytes(tensor.shape, tensor.dtype) == tensor.size_bytes,
            f"{tensor.name} has {tensor.size_bytes} bytes for the shape "
            f"{tensor.shape} of {tensor.dtype}",
        )
    for buffer in plan.buffers:
        held = [plan.tensors[index] for index in buffer.tensors]
        yield (
            bool(held)
            and buffer.size_bytes == max(t.size_bytes for t in held)
            and buffer.start <= min(t.start for t in held)
            and buffer.stop >= max(t.stop for t in held),
            f"the buffer of {buffer.tensor} is not one for its tensors",
        )
    in_ram = [plan.tensors[i] for b in plan.ram_buffers for i in b.tensors]
    naive_bytes = sum(plan.taken_bytes(tensor.size_bytes) for tensor in in_ram)
    yield (
        plan.naive_bytes == naive_bytes,
        f"naive_bytes is {plan.naive_bytes}, the tensors take {naive_bytes}",
    )
    yield (
        0 <= plan.local_lower_bound_bytes <= plan.live_lower_bound_bytes,
        f"the local lower bound is {plan.local_lower_bound_bytes} bytes",
    )


def _names(plan: MemoryPlan) -> Iterator[Claim]:
    """Yield the claims about layers, steps, and all that names either."""
    n_steps, n_tensors = len(plan.steps), len(plan.tensors)
    yield (
        list(plan.execution_order) == [layer.name for layer in plan.layers],
        "execution_order and layers do not name the same layers",
    )
    for layer in plan.layers:
        sizes = [size for shape in layer.output_shapes for size in shape]
        yield (
            min(sizes, default=0) > 0,
            f"{layer.name} has outputs of {layer.output_shapes}",
        )
        numbers = dataclasses.astuple(layer.flops)
        yield min(numbers) >= 0, f"{layer.name} has operations of {numbers}"
    for order in plan.execution_order.values():
        yield (
            0 <= min(order) <= max(order) < n_steps,
            f"the orders {tuple(order)} are not within {n_steps} steps",
        )
    for name in _named_layers(plan):
        yield name in plan.execution_order, f"there is no layer {name!r}"
    for text in _texts(plan):
        yield text.isprintable(), f"{text!r} has characters that cannot be printed"
    for execution in plan.executions:
        yield 0 <= execution.step < n_steps, f"step {execution.step} of {n_steps}"
        for operand in execution.operands:
            yield (
                0 <= operand.tensor < n_tensors,
                f"step {execution.step} uses tensor {operand.tensor} of {n_tensors}",
            )


def _texts(plan: MemoryPlan) -> Iterator[str]:
    """Yield every name that reports show."""
    yield from plan.execution_order
    yield from (layer.type_name for layer in plan.layers)
    for layer in plan.layers:
        yield from itertools.chain.from_iterable((layer.properties or {}).items())
    if plan.arithmetic:
        yield plan.arithmetic
    for part in plan.training.parts if plan.training else ():
        yield part.type_name
        yield from itertools.chain.from_iterable(part.properties.items())
    yield from (block.name for block in plan.blocks)
    yield from (tensor.name for tensor in plan.tensors)
    yield from (buffer.tensor for buffer in plan.buffers)
    yield from (plan.allocator, *plan.ways, *(ram.name for ram in plan.rams))


def _named_layers(plan: MemoryPlan) -> Iterator[str]:
    """Yield every layer that a part of the plan names."""
    for layer in plan.layers:
        yield from layer.inputs
    for block in plan.blocks:
        yield from block.layers
    yield from (step.layer for step in plan.steps if step)
    yield from (execution.layer for execution in plan.executions)
    yield from (tensor.layer for tensor in plan.tensors if tensor.layer)
