#!/usr/bin/env bash
# Runs the benchmarks and writes docs/benchmark-results.md with its plot, in less than 15
# minutes on two cores that do nothing else. Nothing is installed: tools/test.sh sets up
# .venv, and what of PyTorch and JAX is missing is left out. A part that fails or takes too
# long leaves the rows that it has, on the page as well, and the exit status is 1 then.
# Usage: tools/bench/all.sh [PAGE [OPTION...]]   another page than
# docs/benchmark-results.md, and options of networks.py, such as --case digits_mlp.
# ROUNDS=1 is quick and rough; PATIENCE=3 lets each part take three times as long, where
# others keep the machine busy. Figures and logs of each part are in build/bench.
set -uo pipefail
page="$(realpath -m "${1:-$(dirname "${BASH_SOURCE[0]}")/../../docs/benchmark-results.md}")"
shift $(($# > 0))
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
python=.venv/bin/python
if ! "$python" -c 'import arena_ckpt, numba' 2>/dev/null; then
    echo "no environment in .venv that can run arena_ckpt: run tools/test.sh (with PyTorch)" \
        "or tools/demo.sh (without) first" >&2
    exit 1
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
rounds="${ROUNDS:-5}" patience="${PATIENCE:-1}"
out=build/bench
rm -rf "$out"
mkdir -p "$out"
failed=0 running=
# A part has a process group of its own, which a key press does not reach.
trap 'kill $running 2>/dev/null; exit 130' INT TERM

# part NAME SECONDS COMMAND...: one benchmark, stopped after so many seconds.
part() {
    local name="$1" most="$(($2 * patience))" began=$SECONDS status=0
    shift 2
    echo "== $name (at most $most s)"
    timeout --kill-after=10 "$most" "$python" "tools/bench/$name.py" "$@" \
        --json "$out/$name.json" >"$out/$name.log" 2>&1 &
    running=$!
    wait "$running" || status=$?
    echo "$name $status $((SECONDS - began))" >>"$out/parts.txt"
    if [ "$status" != 0 ]; then
        failed=1
        echo "   FAILED with exit status $status after $((SECONDS - began)) s:" >&2
        grep -v '^USDT:' "$out/$name.log" | tail -n 5 | sed 's/^/   /' >&2
    else
        echo "   done in $((SECONDS - began)) s"
    fi
}

part networks 600 --rounds "$rounds" "$@"
if "$python" -c 'import torch' 2>/dev/null; then
    part step_time 50 --rounds "$rounds"
else
    echo "== step_time is left out: torch cannot be imported"
fi
part portable 130 --rounds "$rounds"
part startup 90 --runs "$((rounds < 3 ? rounds : 3))" --networks nine_layer_mlp digits_cnn

"$python" tools/bench/page.py "$out" --page "$page" || failed=1
echo "== all in $((SECONDS / 60)) min $((SECONDS % 60)) s"
exit "$failed"
