"""The kernels in C: which there are, what they take, and the text that some need.

``kernels/*.c`` hold chunks: a comment with the function, constant or macro below it,
apart by blank lines. A kernel's comment begins with its name and what it is given::

    /* kernel elementwise.add_bias(x, bias, y, y.rows, y.columns)
     * y = x + bias; y may be x. */
    void ac_add_bias(const float *x, const float *bias, float *y,
        int32_t rows, int32_t columns)
    {

The list may go on in the next line. A word is a parameter of the kernel call: an array
stands for its address. ``y.size`` is the number of elements of a Vector, Doubles,
Integers or Indexes; ``y.rows`` and ``y.columns`` are those of a Matrix. A number
becomes what the C parameter is.

A kernel that is made for functions, such as ``activations.forward[relu]``, is a chunk
with ``@function@`` in it, which stands for the function: see `VARIANTS`. A function
that needs another loop has a chunk of its own: ``activations.forward[softmax]``. Of the
files, a program gets the chunks that its kernels name, directly or by others.

There is no other arithmetic in C than the portable one: of a kernel that has a twin in
it, `operations.portable`, only the twin is there. Its chunk is named without that word:
``kernel gru.forward`` is ``gru.forward[tanh,sigmoid,portable]``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from arena_ckpt.common.arithmetics import PORTABLE
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.portable import portable

FOLDER = Path(__file__).parent / "kernels"
"""Where the sources are."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "activations": ("function",),
    "curves": ("function",),
    "gru": ("hidden", "recurrent"),
    "lstm": ("hidden", "recurrent"),
    "rnn": ("hidden",),
}
"""What stands between ``@`` in the sources of a family, in the order of a variant."""

SHARED = (
    *("elementary", "vector_math", "random_bits", "lanes", "chains"),
    *("activations", "steps"),
)
"""Files that others use, in the order in which they stand in a program."""

_KERNEL = re.compile(r"/\* kernel ([\w.,\[\]]+)\(([^)]*)\)")
_SIGNATURE = re.compile(r"^void (\w+)\(([^)]*)\)", re.MULTILINE)
_DEFINED = re.compile(
    r"^#define (\w+)"
    r"|^(?=\w)(?!typedef|struct|return)[\w ]*?[\w*]\s+\**(\w+)(?:\(|\[| =)"
    r"|^\} (\w+);",
    re.MULTILINE,
)
_WORD = re.compile(r"\w+")
_OPEN = re.compile(r"@\w+@")


@dataclass(frozen=True, slots=True)
class CKernel:
    """A kernel in C.

    Attributes
    ----------
    function : str
        The name of the C function.
    arguments : tuple of str
        What it is given, in terms of the kernel's parameters: ``"y.size"``.
    types : tuple of str
        The C type of each: ``"const float *"``.
    """

    function: str
    arguments: tuple[str, ...]
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A piece of source with the names that it defines and those that it uses."""

    place: tuple[int, int]
    text: str
    defines: frozenset[str]
    uses: frozenset[str]
    kernel: str | None


def find_kernel(name: KernelName) -> CKernel | None:
    """Return the C kernel that a name stands for, or None if there is none in C."""
    chunk = _kernel_chunk(name)
    if chunk is None:
        return None
    text = _filled(chunk.text, name)
    given = _KERNEL.search(text)
    declared = _SIGNATURE.search(text)
    assert given is not None, text
    assert declared is not None, text
    parameters = [" ".join(part.split()) for part in declared[2].split(",")]
    types = [re.sub(r"\s*\w+$", "", part) for part in parameters]
    arguments = tuple(re.sub(r"[\s*]", "", part) for part in given[2].split(","))
    assert len(arguments) == len(types), f"{name} in C: {arguments}, {types}"
    return CKernel(declared[1], arguments, tuple(types))


def source_of(names: Iterable[KernelName], others: Iterable[str] = ()) -> str:
    """Return the C text of some kernels, and of all that they use, in a fixed order.

    Parameters
    ----------
    names : iterable of KernelName
        Kernels that are there in C.
    others : iterable of str
        Names of C functions that are wanted besides.
    """
    wanted: dict[tuple[int, int, str], str] = {}
    todo = set(others)
    for name in names:
        chunk = _kernel_chunk(name)
        assert chunk is not None, name
        _add(wanted, todo, chunk, name)
    defined = _definitions()
    seen: set[str] = set()
    while todo:
        word = min(todo)
        todo.remove(word)
        seen.add(word)
        if word in defined:
            found = defined[word]
            key = (*found.place, "")
            if key not in wanted:
                wanted[key] = found.text
                todo |= found.uses - seen
    return "\n".join(wanted[key] for key in sorted(wanted))


def _add(
    wanted: dict[tuple[int, int, str], str],
    todo: set[str],
    chunk: _Chunk,
    name: KernelName,
) -> None:
    """Take the chunk of a kernel, filled in for its functions; note what it uses."""
    text = _filled(chunk.text, name)
    wanted[*chunk.place, _variant(chunk, name)] = text
    todo |= set(_WORD.findall(text))
    # What it uses of its own family may have to be filled in as well.
    for other in _templates(chunk.place[0]):
        filled = _filled(other.text, name)
        key = (*other.place, _variant(other, name))
        if key not in wanted and _names(filled) & todo:
            _add(wanted, todo, other, name)


def _kernel_chunk(name: KernelName) -> _Chunk | None:
    """Return the chunk of a kernel: that of its functions, or else that for any."""
    if portable(name) != name:
        return None
    chunks = _kernel_chunks()
    return chunks.get(str(name)) or chunks.get(f"{name.family}.{name.entry}")


def _variant(chunk: _Chunk, name: KernelName) -> str:
    """Return what tells copies of a chunk apart; nothing where it is no template."""
    return ",".join(_functions(name)) if _OPEN.search(chunk.text) else ""


def _functions(name: KernelName) -> tuple[str, ...]:
    """Return the functions that a kernel is made for."""
    return tuple(word for word in name.variant if word != PORTABLE)


def _filled(text: str, name: KernelName) -> str:
    """Put the functions that a kernel is made for where the source leaves them open."""
    words = VARIANTS.get(name.family, ())
    for word, function in zip(words, _functions(name), strict=False):
        text = text.replace(f"@{word}@", function)
    return text


def _names(text: str) -> frozenset[str]:
    """Return the names that a chunk defines at its top level."""
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return frozenset(
        next(name for name in match.groups() if name)
        for match in _DEFINED.finditer(code)
    )


@functools.cache
def _chunks() -> tuple[_Chunk, ...]:
    """Return the chunks of all sources, in the order of files and lines."""
    chunks: list[_Chunk] = []
    rest = sorted(path.stem for path in FOLDER.glob("*.c"))
    for place, stem in enumerate(dict.fromkeys((*SHARED, *rest))):
        path = FOLDER / f"{stem}.c"
        if stem == "ac_math" or not path.exists():
            continue
        for number, text in enumerate(_split(path.read_text("utf-8"))):
            kernel = _KERNEL.search(text)
            code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
            chunks.append(
                _Chunk(
                    (place, number),
                    text,
                    frozenset() if _OPEN.search(text) else _names(text),
                    frozenset(_WORD.findall(code)),
                    kernel[1] if kernel else None,
                )
            )
    return tuple(chunks)


def _split(text: str) -> list[str]:
    """Take a source apart at blank lines outside of braces and comments."""
    chunks: list[str] = []
    lines: list[str] = []
    depth = 0
    for line in [*text.splitlines(), ""]:
        if not line and depth == 0:
            joined = "\n".join(lines) + "\n"
            if lines and re.sub(r"/\*.*?\*/", "", joined, flags=re.DOTALL).strip():
                chunks.append(joined)
            lines = []
            continue
        lines.append(line)
        depth += line.count("{") - line.count("}")
        depth += 1000 * (line.count("/*") - line.count("*/"))
    return chunks


@functools.cache
def _kernel_chunks() -> dict[str, _Chunk]:
    return {chunk.kernel: chunk for chunk in _chunks() if chunk.kernel}


@functools.cache
def _definitions() -> dict[str, _Chunk]:
    return {name: chunk for chunk in _chunks() for name in chunk.defines}


def _templates(file: int) -> list[_Chunk]:
    """Return the chunks of a file that are no kernels and left open in part."""
    return [
        chunk
        for chunk in _chunks()
        if chunk.place[0] == file and _OPEN.search(chunk.text) and not chunk.kernel
    ]
