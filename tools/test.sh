#!/usr/bin/env bash
# Sets up .venv and passes the checks: lint, types, tests. Arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
setup_env "[test,lint]"

# PyTorch is only a judge: without it its tests say that they skip.
if ! .venv/bin/python -c 'import torch' 2>/dev/null && ! [ -e .venv/.no-torch ]; then
    echo "== installing the outside judge (torch 2.13.0)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 ||
        { echo "torch is not to be had here: its tests will skip" >&2; touch .venv/.no-torch; }
fi

# A browser is only needed to look at the viewer: without it those tests say that they skip.
if [ -z "${CHROMIUM:-}" ] && ! command -v chromium >/dev/null && ! [ -e .venv/.no-chromium ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "== installing a browser for the tests of the viewer"
        { apt-get update && apt-get install -y --no-install-recommends chromium; } >/dev/null 2>&1 ||
            { echo "chromium is not to be had here: its tests will skip" >&2; touch .venv/.no-chromium; }
    else
        echo "no chromium here: the tests of the viewer will skip (set CHROMIUM=/its/path)" >&2
    fi
fi

echo "== lint";  .venv/bin/ruff check . && .venv/bin/ruff format --check .
echo "== types"; .venv/bin/mypy
echo "== tests"; .venv/bin/python -m pytest -n 2 "$@"
