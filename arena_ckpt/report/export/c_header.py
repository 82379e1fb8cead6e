"""Exports a plan as a C99 header: where each tensor lies, and when each layer runs.

Offsets and sizes are macros, unsigned decimal constants of the type that holds them.
Where the arena is not the only memory, each tensor also has the number of the one that
its offset counts from, so that a table of their starts finds it.
The tables of execution orders and of steps are declared; they are defined where the
program defines ``…_IMPLEMENTATION`` before it includes the header, in one of its files.
"""

from __future__ import annotations

from collections.abc import Iterator

from arena_ckpt.common.c_identifiers import (
    identifier,
    string_literal,
    unique_identifiers,
)
from arena_ckpt.common.memories import ARENA, CONSTANTS
from arena_ckpt.common.phases import Phase
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import Access, LiveRange
from arena_ckpt.report.export.live_range_ids import live_range_id
from arena_ckpt.report.stack import is_arena_alone


def c_header_bytes(plan: MemoryPlan, name: str = "arena") -> bytes:
    """Return a plan as a C99 header in ASCII.

    Parameters
    ----------
    plan : MemoryPlan
    name : str
        Name of the model, with which all identifiers begin.

    Notes ----- Names become identifiers in capitals: every character that is not an
    ASCII letter or digit turns into ``_``. Names that are then equal get a number at
    the end, in the order of the plan.
    """
    return ("\n".join(_lines(plan, identifier(name))) + "\n").encode("ascii")


def _lines(plan: MemoryPlan, prefix: str) -> Iterator[str]:
    yield "/* A memory plan, written by arena-ckpt export --to c-header. */"
    yield f"#ifndef {prefix}_PLAN_H"
    yield f"#define {prefix}_PLAN_H"
    yield ""
    yield "#include <stddef.h>"
    yield "#include <stdint.h>"
    yield ""
    yield f"#define {prefix}_ARENA_BYTES {plan.arena_bytes}u"
    yield from _memory_lines(plan, prefix)
    yield f"#define {prefix}_ALIGNMENT_BYTES {plan.alignment_bytes}u"
    yield f"#define {prefix}_BATCH_SAMPLES {plan.batch_size}u"
    yield f"#define {prefix}_MICRO_BATCHES {plan.micro_batches}u"
    yield f"#define {prefix}_N_STEPS {len(plan.steps)}u"
    yield f"#define {prefix}_N_FORWARD_STEPS {plan.n_forward}u"
    yield f"#define {prefix}_N_PASS_STEPS {plan.n_pass}u"
    yield f"#define {prefix}_N_LAYERS {len(plan.layers)}u"
    yield ""
    yield from _tensor_lines(plan, prefix)
    yield from _order_lines(plan, prefix)
    yield ""
    yield from _step_lines(plan, prefix)
    yield ""
    yield f"#endif /* {prefix}_PLAN_H */"


def _memory_names(plan: MemoryPlan) -> dict[str, str]:
    """Return an identifier for each memory; empty where the arena is alone.

    It is none of the words that stand before ``_BYTES`` in every header.
    """
    if is_arena_alone(plan):
        return {}
    rams = [ram.name for ram in plan.rams]
    reserved = ("alignment", "constant", CONSTANTS, ARENA)
    unique = unique_identifiers([*reserved, *rams])[len(reserved) :]
    names = dict(zip(rams, unique, strict=True)) or {ARENA: identifier(ARENA)}
    return {name: names.get(name, identifier(name)) for name in plan.memories}


def _memory_lines(plan: MemoryPlan, prefix: str) -> Iterator[str]:
    """Yield the bytes of each memory, and the number that tensors call it by."""
    names = _memory_names(plan)
    if not names:
        return
    yield f"#define {prefix}_N_MEMORIES {len(names)}u"
    for number, (use, name) in enumerate(
        zip(plan.memories.values(), names.values(), strict=True)
    ):
        if use.is_constant:
            yield "/* No step writes here: it may be const, in flash. */"
            yield f"#define {prefix}_CONSTANT_BYTES {plan.constant_bytes}u"
        elif plan.rams:
            yield f"#define {prefix}_{name}_BYTES {use.height_bytes}u"
        yield f"#define {prefix}_{name}_NUMBER {number}u"


def _tensor_lines(plan: MemoryPlan, prefix: str) -> Iterator[str]:
    memories = _memory_names(plan)
    held_by = {i: b.memory for b in plan.buffers for i in b.tensors}
    offsets = {i: b.offset_bytes for b in plan.buffers for i in b.tensors}
    names = unique_identifiers(map(live_range_id, plan.tensors))
    for index, (tensor, name) in enumerate(zip(plan.tensors, names, strict=True)):
        yield f"/* {_describe(tensor)} */"
        if memories:
            memory = memories[held_by[index]]
            yield f"#define {prefix}_{name}_MEMORY {prefix}_{memory}_NUMBER"
        yield f"#define {prefix}_{name}_OFFSET {offsets[index]}u"
        yield f"#define {prefix}_{name}_SIZE {tensor.size_bytes}u"
    yield ""


def _describe(tensor: LiveRange) -> str:
    shape = "x".join(map(str, tensor.shape))
    return (
        f"{string_literal(tensor.name)}, life {tensor.life}: {tensor.kind.value}, "
        f"{tensor.dtype} {shape}, steps [{tensor.start}, {tensor.stop})"
    )


def _order_lines(plan: MemoryPlan, prefix: str) -> Iterator[str]:
    table = f"const arena_ckpt_order {prefix.lower()}_orders[{prefix}_N_LAYERS]"
    yield "#ifndef ARENA_CKPT_ORDER"
    yield "#define ARENA_CKPT_ORDER"
    yield "typedef struct {"
    yield "  const char *layer;"
    yield "  uint32_t forward;"
    yield "  uint32_t recompute; /* 0 for a layer in no checkpoint block */"
    yield "  uint32_t calc_gradient;"
    yield "  uint32_t calc_derivative;"
    yield "  uint32_t apply_gradient;"
    yield "} arena_ckpt_order;"
    yield "#endif"
    yield ""
    yield f"extern {table};"
    yield f"#ifdef {prefix}_IMPLEMENTATION"
    yield f"{table} = {{"
    for name, order in plan.execution_order.items():
        steps = ", ".join(f"{step}u" for step in order)
        yield f"  {{{string_literal(name)}, {steps}}},"
    yield "};"
    yield "#endif"


_TYPES = """\
#ifndef ARENA_CKPT_STEP
#define ARENA_CKPT_STEP
enum {
  ARENA_CKPT_NOTHING, /* the step is numbered, and no kernel runs */
%s
};
enum { ARENA_CKPT_READ = 1, ARENA_CKPT_WRITE = 2, ARENA_CKPT_UPDATE = 3 };
typedef struct {
  const char *role; /* what the tensor is to the layer: "in0", "weight" */
  uint32_t access;  /* ARENA_CKPT_READ, _WRITE, or _UPDATE, which is both */
  uint32_t memory;  /* number of that in which it lies; 0 where there is one */
  size_t offset;    /* bytes from the start of the memory */
  size_t size;      /* bytes */
} arena_ckpt_operand;
typedef struct {
  uint32_t phase;      /* ARENA_CKPT_FORWARD and so on */
  uint32_t layer;      /* number in the table of orders; that of the layers for none */
  const char *kernel;  /* type of the layer; with the phase it says what to run */
  uint32_t n_operands;
  const arena_ckpt_operand *operands;
} arena_ckpt_step;
#endif
"""

_ACCESS = {
    Access.READ: "ARENA_CKPT_READ",
    Access.WRITE: "ARENA_CKPT_WRITE",
    Access.UPDATE: "ARENA_CKPT_UPDATE",
}


def _step_lines(plan: MemoryPlan, prefix: str) -> Iterator[str]:
    """Yield the table of steps: all of the timeline, in order, with their operands."""
    steps, operands = f"{prefix.lower()}_steps", f"{prefix.lower()}_operands"
    phases = ",\n".join(f"  {_phase(phase)}" for phase in Phase)
    yield from (_TYPES % phases).splitlines()
    yield ""
    yield f"extern const arena_ckpt_step {steps}[{prefix}_N_STEPS];"
    yield f"#ifdef {prefix}_IMPLEMENTATION"
    yield f"static const arena_ckpt_operand {operands}[] = {{"
    yield from _operand_rows(plan, prefix)
    yield "};"
    yield f"const arena_ckpt_step {steps}[{prefix}_N_STEPS] = {{"
    yield from _step_rows(plan, operands)
    yield "};"
    yield "#endif"


def _phase(phase: Phase) -> str:
    return f"ARENA_CKPT_{phase.name}"


def _operand_rows(plan: MemoryPlan, prefix: str) -> Iterator[str]:
    names = unique_identifiers(map(live_range_id, plan.tensors))
    numbers = {name: number for number, name in enumerate(plan.memories)}
    held_by = {i: b.memory for b in plan.buffers for i in b.tensors}
    for execution in plan.executions:
        for operand in execution.operands:
            stem = f"{prefix}_{names[operand.tensor]}"
            yield (
                f"  {{{string_literal(operand.role)}, {_ACCESS[operand.access]}, "
                f"{numbers[held_by[operand.tensor]]}u, {stem}_OFFSET, {stem}_SIZE}},"
            )


def _step_rows(plan: MemoryPlan, operands: str) -> Iterator[str]:
    executions = {execution.step: execution for execution in plan.executions}
    layers = {layer.name: number for number, layer in enumerate(plan.layers)}
    types = {layer.name: string_literal(layer.type_name) for layer in plan.layers}
    first = 0
    for number, step in enumerate(plan.steps):
        execution = executions.get(number)
        layer = layers.get(step.layer, len(layers)) if step else len(layers)
        if execution is None:
            yield f"  {{ARENA_CKPT_NOTHING, {layer}u, 0, 0u, 0}}, /* {number} */"
            continue
        kernel = types[execution.layer]
        if execution.phase is Phase.CLIP_GRADIENTS:
            kernel = string_literal(execution.phase.value)
        n = len(execution.operands)
        place = f"{operands} + {first}" if n else "0"
        yield (
            f"  {{{_phase(execution.phase)}, {layer}u, {kernel}, {n}u, {place}}}, "
            f"/* {number} */"
        )
        first += n
