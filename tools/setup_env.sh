# Sourced by demo.sh and test.sh: a virtual environment in .venv, from nothing but
# Python 3.11 or newer. Usage: setup_env EXTRAS   (e.g. setup_env "[test,lint]")
setup_env() {
    local root python marker
    root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
    cd "$root" || exit 1
    for python in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            break
        fi
        python=""
    done
    if [ -z "$python" ]; then
        echo "arena_ckpt needs Python 3.11 or newer; set PYTHON=/path/to/python3" >&2
        exit 1
    fi
    if ! [ -x .venv/bin/python ]; then
        echo "== making a virtual environment in .venv with $("$python" --version)"
        "$python" -m venv .venv || {
            echo "python -m venv failed (on Debian: apt-get install python3-venv)" >&2
            exit 1
        }
    fi
    marker=".venv/.installed-$(printf '%s' "$1" | tr -c 'a-z\n' '_')"
    if ! [ "$marker" -nt pyproject.toml ]; then
        echo "== installing arena_ckpt$1"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".$1" || exit 1
        touch "$marker"
    fi
}
