#!/usr/bin/env bash
# Writes tools/lock/*.txt: what is installed for the bounds in pyproject.toml, to the
# version and with the hash of every file, for Python 3.11 and newer on any system.
#   bash tools/lock.sh             keeps what is locked and still fits
#   bash tools/lock.sh --upgrade   takes the newest of everything
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/tool_env.sh
tool_env 'uv>=0.9,<1'

# Lines of requirements become a file, in which no host of packages is named.
lock() {
    local out="tools/lock/$1.txt"
    shift
    "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url --no-emit-find-links \
        --no-annotate --custom-compile-command "bash tools/lock.sh" \
        --output-file "$out" "$@" - >/dev/null
}

# What pyproject.toml says of the build, the core and the extras, as lines.
wanted() {
    "$python" - "$@" <<'TEXT'
import sys, tomllib
with open("pyproject.toml", "rb") as file:
    said = tomllib.load(file)
groups = {
    "build": said["build-system"]["requires"],
    "core": said["project"]["dependencies"],
    **said["project"]["optional-dependencies"],
}
print("\n".join(line for name in sys.argv[1:] for line in groups[name]))
TEXT
}

mkdir -p tools/lock
wanted build core | lock core "$@"
wanted build core png board onnx test lint | lock ci --constraints tools/lock/core.txt "$@"
# The oldest Numba of the bounds, which compiles with the oldest LLVM, and what runs tests.
oldest="$(wanted core | sed -n 's/^numba>=\([0-9.]*\),.*/\1/p')"
{ wanted core; wanted test | grep -E '^(pytest|hypothesis)>'; echo "numba==$oldest"; } |
    lock lowest "$@"
# The judges come on top of that, so they must not want other versions of it.
wanted judge | grep -v '^torch' | lock judges --constraints tools/lock/ci.txt "$@"
wanted docs | lock docs --constraints tools/lock/ci.txt "$@"
wanted judge | grep '^torch' | lock torch --constraints tools/lock/ci.txt "$@"

# The build of PyTorch for processors alone is smaller by gigabytes, but not every index
# has it; without it what was locked of it stays.
version="$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' tools/lock/torch.txt)"
if "$tools/bin/pip" download --quiet --no-deps --dest "$tools/wheels" \
    "torch==$version+cpu" 2>/dev/null; then
    {
        echo "# For pip install --no-deps, in place of torch.txt; by the same command:"
        awk '/^[a-z]/ { keep = !/^(torch|triton|nvidia-|cuda-)/ } keep || NR == 2' \
            tools/lock/torch.txt
        echo "torch==$version+cpu \\"
        "$tools/bin/pip" hash "$tools/wheels"/torch-*.whl | sed -n 's/^--hash/    &/p'
    } >"$tools/torch-cpu.txt"
    mv "$tools/torch-cpu.txt" tools/lock/torch-cpu.txt
else
    echo "torch $version+cpu is not to be had here: torch-cpu.txt stays as it was" >&2
fi
