# Sourced by the scripts beside it. find_python prints a Python that is new enough.
#
# setup_env, for demo.sh and test.sh: a virtual environment in .venv, from nothing but
# Python 3.11 or newer, with what tools/lock/NAME.txt says, checked by its hashes.
# Usage: setup_env NAME   (core or ci). UNLOCKED=1 takes any versions within the bounds of
# pyproject.toml instead.
find_python() {
    local python
    for python in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    echo "arena_ckpt needs Python 3.11 or newer; set PYTHON=/path/to/python3" >&2
    return 1
}

setup_env() {
    local root python marker
    root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
    cd "$root" || exit 1
    python="$(find_python)" || exit 1
    if ! [ -x .venv/bin/python ]; then
        echo "== making a virtual environment in .venv with $("$python" --version)"
        "$python" -m venv .venv || {
            echo "python -m venv failed (on Debian: apt-get install python3-venv)" >&2
            exit 1
        }
    fi
    marker=".venv/.installed-$1"
    if [ "$marker" -nt pyproject.toml ] && [ "$marker" -nt "tools/lock/$1.txt" ]; then
        return
    fi
    if [ -n "${UNLOCKED:-}" ]; then
        echo "== installing arena_ckpt by the bounds in pyproject.toml"
        if [ "$1" = core ]; then install -e .; else install -e ".[png,test,lint]"; fi || exit 1
    else
        echo "== installing arena_ckpt with the versions in tools/lock/$1.txt"
        install_locked "$1" || {
            echo "these files are not to be had here, or are others than were locked." >&2
            echo "UNLOCKED=1 installs any versions within the bounds of pyproject.toml" >&2
            exit 1
        }
        install --no-deps --no-build-isolation -e . || exit 1
    fi
    touch "$marker"
}

install() { "${environment:-.venv}/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

# install_locked NAME: what tools/lock/NAME.txt says, and nothing else. Both install into
# .venv, or where environment=DIRECTORY says.
install_locked() { install --no-deps --require-hashes -r "tools/lock/$1.txt"; }
