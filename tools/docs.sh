#!/usr/bin/env bash
# Builds the documentation as a site in build/docs: the pages of docs/, this README, the
# reference of the Python interface from its docstrings, and a report to try. A warning
# is an error. Nothing is fetched, neither here nor by who reads the pages.
# Usage: tools/docs.sh [FOLDER]   another place than build/docs
set -euo pipefail
site="$(realpath -m "${1:-$(dirname "${BASH_SOURCE[0]}")/../build/docs}")"
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
setup_env core
if ! [ .venv/.installed-docs -nt tools/lock/docs.txt ]; then
    echo "== installing MkDocs for the site"
    if [ -n "${UNLOCKED:-}" ]; then install -e ".[docs]"; else install_locked docs; fi
    touch .venv/.installed-docs
fi

NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs --quiet build --strict \
    --config-file tools/docs/mkdocs.yml --site-dir "$site"
echo "the site is in $site: open its index.html in a browser"
