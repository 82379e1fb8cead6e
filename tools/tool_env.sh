# Sourced by lock.sh and audit.sh. tool_env PACKAGE installs a tool into an environment of
# its own, in $tools, made by $python; it goes with the script.
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"

tool_env() {
    python="$(find_python)" || return 1
    tools="$(mktemp -d)"
    trap 'rm -rf "$tools"' EXIT
    "$python" -m venv "$tools" &&
        "$tools/bin/pip" install --quiet --disable-pip-version-check "$1"
}
