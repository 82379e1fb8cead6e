#!/usr/bin/env bash
# Sets up .venv and passes the checks: lint, types, tests. Arguments go to pytest.
# Of each large family of tests a fixed sample runs; --full, before others, runs all.
set -euo pipefail
if [ "${1:-}" = --full ]; then
    export ARENA_CKPT_FULL=1
    shift
fi
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
setup_env ci

# PyTorch, SciPy and checkpoint-schedules only judge: without them their tests say that
# they skip. PyTorch's build for processors alone is tried first: it is much smaller.
if ! .venv/bin/python -c 'import checkpoint_schedules, scipy, torch' 2>/dev/null &&
    ! [ -e .venv/.no-judges ]; then
    echo "== installing the outside judges (torch 2.13.0, scipy, checkpoint-schedules)"
    { install_locked judges &&
        { install_locked torch-cpu 2>/dev/null || install_locked torch; }; } ||
        { echo "not all judges are to be had here: their tests will skip" >&2
          touch .venv/.no-judges; }
fi

# Browsers look at the viewer, Graphviz draws what is written for it: without them those
# tests say that they skip.
missing=()
[ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || missing+=(chromium)
[ -n "${FIREFOX:-}" ] || command -v firefox-esr >/dev/null || command -v firefox >/dev/null ||
    missing+=(firefox-esr)
command -v dot >/dev/null || missing+=(graphviz)
if [ ${#missing[@]} -gt 0 ] && ! [ -e .venv/.no-packages ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "== installing ${missing[*]} for the tests that use them"
        { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 ||
            { echo "not to be had here, their tests will skip: ${missing[*]}" >&2; touch .venv/.no-packages; }
    else
        echo "missing here, their tests will skip: ${missing[*]} (or set CHROMIUM=/its/path, FIREFOX=/its/path)" >&2
    fi
fi

# Exported C is built for boards that are emulated. These are large: they are taken where
# they are, and what is missing has to be installed by hand.
boards=()
for tool in qemu-system-arm arm-none-eabi-gcc qemu-system-riscv32 riscv64-unknown-elf-gcc; do
    command -v "$tool" >/dev/null || boards+=("$tool")
done
if [ ${#boards[@]} -gt 0 ]; then
    echo "NOT ALL BOARDS ARE EMULATED HERE, their tests will skip: missing ${boards[*]}" >&2
    echo "(on Debian: apt-get install qemu-system-arm gcc-arm-none-eabi" \
        "libnewlib-arm-none-eabi qemu-system-misc gcc-riscv64-unknown-elf)" >&2
fi

# The oldest Numba of the bounds compiles with the oldest LLVM, and of all kernels the
# recurrent ones ask most of it. Its environment and its compiled kernels stand apart, so
# it runs beside the checks that take one core.
with_oldest_numba() {
    local environment=.venv-lowest lock=tools/lock/lowest.txt
    if ! [ "$environment/.installed" -nt "$lock" ]; then
        if ! .venv/bin/python -m venv "$environment" || ! install_locked lowest; then
            echo "what $lock says is not to be had here: not tried with the oldest Numba" >&2
            return
        fi
        touch "$environment/.installed"
    fi
    NUMBA_CACHE_DIR="$PWD/$environment/kernels" exec "$environment/bin/python" -m pytest \
        -p no:cacheprovider tests/kernels/test_kernels_recurrent.py
}
oldest=
if [ $# -eq 0 ]; then
    mkdir -p build
    with_oldest_numba >build/oldest-numba.log 2>&1 &
    oldest=$!
    trap 'kill "$oldest" 2>/dev/null || true' EXIT
fi

echo "== lint"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
echo "== types"; .venv/bin/mypy
# A test runs the notebook, and others look at the site that is built here.
echo "== documentation"; RUN_NOTEBOOKS=0 tools/docs.sh
export ARENA_CKPT_SITE="$PWD/build/docs"
if [ -n "$oldest" ]; then
    echo "== recurrent kernels, compiled by the oldest Numba"
    passed=0
    wait "$oldest" || passed=$?
    cat build/oldest-numba.log
    [ "$passed" = 0 ]
    trap - EXIT
fi

echo "== tests"; .venv/bin/python -m pytest -n 2 "$@"
if [ -n "${ARENA_CKPT_FULL:-}" ]; then
    echo "== faults on purpose"; ARENA_CKPT_FULL='' .venv/bin/python tools/mutants.py
fi
