"""``test/``: batches, the bits that training on them has to give, and what compares."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from arena_ckpt.c_export.exported_model import FloatArray, Reference
from arena_ckpt.c_export.literals import float_rows, rows
from arena_ckpt.c_export.program_text import ProgramText
from arena_ckpt.c_export.templates_of import filled


def test_files(program: ProgramText, reference: Reference) -> dict[str, str]:
    """Return the files of the test by name."""
    arrays = dict(_arrays(program, reference))
    return {
        "data.h": _data_header(program, reference, arrays),
        "data.c": _data_source(arrays),
        "test.h": filled("test.h"),
        "test.c": _runner(program, len(reference.losses)),
        "main.c": filled("test_main.c"),
    }


test_files.__test__ = False  # type: ignore[attr-defined]


def _arrays(
    program: ProgramText, reference: Reference
) -> Iterator[tuple[str, tuple[str, list[str], int]]]:
    """Yield name, C type, lines and length of each array of the data."""
    for place in range(len(program.inputs)):
        values = [batch.inputs[place] for batch in reference.batches]
        yield f"test_input{place}", _floats(values)
    if program.trains:
        counts = program.losses.label_elements
        for place, n_values in enumerate(counts):
            if not n_values:
                continue
            labels = [batch.labels[place] for batch in reference.batches]
            tail = str(place) if len(counts) > 1 else ""
            yield f"test_label{tail}", _floats(labels)
        bits = [struct.unpack("<Q", struct.pack("<d", x))[0] for x in reference.losses]
        items = [f"UINT64_C(0x{number:016x})" for number in bits]
        yield "test_loss", ("uint64_t", list(rows(items)), len(items))
        yield "test_state", _words(reference.states)
    yield "test_prediction", _words(reference.predictions)


def _floats(values: Sequence[FloatArray]) -> tuple[str, list[str], int]:
    joined = np.concatenate([value.reshape(-1) for value in values])
    return "float", list(float_rows(joined)), joined.size


def _words(numbers: Sequence[int]) -> tuple[str, list[str], int]:
    items = [f"0x{number:08x}u" for number in numbers]
    return "uint32_t", list(rows(items)), len(items)


_COMMENTS = {
    "test_label": "labels of all batches",
    "test_loss": "bits of the loss of each step",
    "test_state": "CRC-32 of the state after each step",
    "test_prediction": "CRC-32 of the prediction for each batch, after all steps",
}


def _data_header(
    program: ProgramText,
    reference: Reference,
    arrays: dict[str, tuple[str, list[str], int]],
) -> str:
    lines = []
    for name, (c_type, _, length) in arrays.items():
        kind = "test_label" if name.startswith("test_label") else name
        comment = _COMMENTS.get(kind, "samples of all batches")
        lines.append(f"extern const {c_type} {name}[{length}]; /* {comment} */")
    return filled(
        "data.h",
        name=program.name,
        n_steps=len(reference.losses),
        n_batches=len(reference.batches),
        declarations="\n".join(lines),
    )


def _data_source(arrays: dict[str, tuple[str, list[str], int]]) -> str:
    lines = ['#include "data.h"']
    for name, (c_type, text, length) in arrays.items():
        lines += ["", f"const {c_type} {name}[{length}] = {{", *text, "};"]
    return "\n".join(lines) + "\n"


def _runner(program: ProgramText, n_steps: int) -> str:
    name, places = program.name, program.places
    samples = (
        f"{name.upper()}_BATCH" if program.trains else f"{name.upper()}_PASS_SAMPLES"
    )
    load = [
        f"    copy_bytes({name}_input({place}), test_input{place}\n"
        f"        + (batch * {samples} + first) * {n}, 4u * (uint32_t)n * {n});"
        for place, n in enumerate(program.input_elements)
    ]
    offsets = [
        f'    {{"{macro}", {macro}, {places.offset_of(index)}}},'
        for index, macro in enumerate(places.macros)
    ]
    train, success = "", "the predictions have the same bits"
    if program.trains:
        train = filled(
            "test_train.c", name=name, copy_labels=program.losses.test_lines()
        )
        success = f"{n_steps} steps of training have the same bits"
    return filled(
        "test.c",
        name=name,
        offsets="\n".join(offsets),
        load_inputs="\n".join(load),
        test_train=train,
        run_train="    train();" if program.trains else "",
        success=success,
    )
