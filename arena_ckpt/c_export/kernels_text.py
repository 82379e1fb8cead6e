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

_LAST_INCLUDE = "#include <stdint.h>\n"

MATH = ("ac_math.c", "ac_math.h")
"""Files that every project has as they are."""


def kernel_files(
    names: Iterable[KernelName], others: Sequence[str], prefix: str
) -> dict[str, str]:
    """Return the files of kernels by name.

    Parameters
    ----------
    names : iterable of KernelName
        Kernels that are there in C.
    others : sequence of str
        C functions that the program calls besides.
    prefix : str
        With which the linker's names of all functions begin, so that several projects
        go into one program.
    """
    ordered = sorted(set(names), key=str)
    text = source_of(ordered, others)
    prototypes = [f"{match[1]};" for match in _FUNCTION.finditer(text)]
    functions = [re.sub(r"\(.*", "", p, flags=re.DOTALL) for p in prototypes]
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
            *_linker_names((re.split(r"[ *]", f)[-1] for f in functions), prefix),
            "",
            *prototypes,
            "",
            "#endif",
            "",
        ]
    )
    files = {"ac_kernels.c": source, "ac_kernels.h": header}
    files |= {name: (FOLDER / name).read_text("utf-8") for name in MATH}
    after, begin = _LAST_INCLUDE, files["ac_math.h"].index(_LAST_INCLUDE)
    defined = _FUNCTION.finditer(files["ac_math.c"])
    exact = (re.split(r"[ *]", m[1].partition("(")[0])[-1] for m in defined)
    head, tail = files["ac_math.h"][:begin], files["ac_math.h"][begin + len(after) :]
    lines = "\n".join(_linker_names(exact, prefix))
    files["ac_math.h"] = f"{head}{after}\n{lines}\n{tail}"
    return files


def _linker_names(functions: Iterable[str], prefix: str) -> list[str]:
    """Return the lines that give functions another name for the linker."""
    lines = [f"#define {name} {prefix}_{name}" for name in functions]
    return [
        "/* What the linker calls them: other projects may be there as well. */",
        *lines,
    ]
