"""``src/ac_kernels.c`` and ``.h``: the kernels of a program, and what they use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from arena_ckpt.c_export.sources import FOLDER, source_of
from arena_ckpt.c_export.templates_of import filled
from arena_ckpt.operations.kernel_names import KernelName

_FUNCTION = re.compile(
    r"^((?!(?:AC_\w+ )?static\b|AC_INLINE\b)\w[\w \*]*?\**\w+\([^)]*\))\n\{",
    re.MULTILINE,
)

MATH = ("ac_math.c", "ac_math.h")
"""Files that every project has as they are."""


def kernel_files(names: Iterable[KernelName], others: Sequence[str]) -> dict[str, str]:
    """Return the files of kernels by name.

    Parameters
    ----------
    names : iterable of KernelName
        Kernels that are there in C.
    others : sequence of str
        C functions that the program calls besides.
    """
    ordered = sorted(set(names), key=str)
    text = source_of(ordered, others)
    prototypes = [f"{match[1]};" for match in _FUNCTION.finditer(text)]
    source = "\n".join(
        [
            "/* The kernels of this program; written by arena-ckpt export --to c. */",
            filled("preamble.h").rstrip(),
            '#include "ac_kernels.h"',
            "",
            text,
        ]
    )
    header = "\n".join(
        [
            "/* The kernels of this program. */",
            "#ifndef AC_KERNELS_H",
            "#define AC_KERNELS_H",
            "",
            '#include "ac_math.h"',
            "",
            *prototypes,
            "",
            "#endif",
            "",
        ]
    )
    files = {"ac_kernels.c": source, "ac_kernels.h": header}
    return files | {name: (FOLDER / name).read_text("utf-8") for name in MATH}
