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

echo "== lint";  .venv/bin/ruff check . && .venv/bin/ruff format --check .
echo "== types"; .venv/bin/mypy
echo "== tests"; .venv/bin/python -m pytest -n 2 "$@"
