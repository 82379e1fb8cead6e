#!/usr/bin/env bash
# Sets up .venv from nothing but Python 3.11 or newer, trains a small network on real
# data in one planned arena, and shows what its checkpoint blocks do to the memory. Where
# there is a C compiler, the same network trains in C, to the same bits.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
setup_env core

run() { .venv/bin/arena-ckpt "$@"; }
weights="$(mktemp -d)"
trap 'rm -rf "$weights"' EXIT

cat <<'TEXT'
== The memory of one training iteration, planned before anything is allocated.
   Inside a checkpoint block, activations are dropped and computed again later.
$ arena-ckpt plan digits_mlp --brief
TEXT
run plan digits_mlp --brief

cat <<'TEXT'
== Training on handwritten digits, in that arena. The first run ever compiles the
   kernels, which can take half a minute; later runs load them from disk.
$ arena-ckpt train digits_mlp --quiet
TEXT
run train digits_mlp --quiet --save-weights "$weights/with.npz" | grep -v "^weights"
echo
echo "== The same without the blocks: more memory, and not one bit of the weights differs."
run train digits_mlp --quiet --no-blocks --save-weights "$weights/without.npz" |
    grep -v "^weights"
if cmp -s "$weights/with.npz" "$weights/without.npz"; then
    echo "weights:         the same, bit for bit"
else
    echo "weights:         DIFFERENT; this is a defect, please report it" >&2
    exit 1
fi
if command -v cc >/dev/null && command -v make >/dev/null; then
    cat <<'TEXT'

== The same network as C99 for a board, in one static array at the offsets of its plan.
   The project's own test compares losses and weights after each of 20 steps.
$ arena-ckpt export digits_mlp --to c -o digits_c
$ make -C digits_c test
TEXT
    run export digits_mlp --to c -o "$weights/digits_c" >/dev/null
    make -s -C "$weights/digits_c" test CC=cc
fi
echo
echo "Next: .venv/bin/arena-ckpt --help, and README.md"
