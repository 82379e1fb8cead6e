#!/usr/bin/env bash
# Looks for known vulnerabilities in what tools/lock/*.txt installs, with pip-audit.
# Exit code 0: none are known. 1: some are. 2: not every package could be asked about,
# which pip-audit alone would call "no known vulnerabilities found".
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/tool_env.sh
tool_env 'pip-audit>=2.7,<3' || {
    echo "NOT AUDITED: pip-audit is not to be had here" >&2
    exit 2
}
for lock in core ci docs judges torch; do
    "$tools/bin/pip-audit" --progress-spinner off --disable-pip --require-hashes \
        --timeout 30 --format json --requirement "tools/lock/$lock.txt" \
        >"$tools/$lock.json" 2>"$tools/$lock.said"
done
"$python" - "$tools" <<'TEXT'
import json, sys
from pathlib import Path

code = 0
for path in sorted(Path(sys.argv[1]).glob("*.said")):
    lock, text = f"tools/lock/{path.stem}.txt", path.with_suffix(".json").read_text()
    try:
        packages = json.loads(text)["dependencies"]
    except ValueError:
        print(f"NOT AUDITED: {lock}: nobody answered", *path.read_text().splitlines()[-1:])
        code = 2
        continue
    skipped = [p for p in packages if "skip_reason" in p]
    known = [(p, v) for p in packages for v in p.get("vulns", ())]
    for package, found in known:
        fixed = ", ".join(found["fix_versions"]) or "no release"
        print(f"{package['name']} {package['version']}: {found['id']}, fixed in {fixed}")
    if known:
        code = max(code, 1)
    if skipped or not packages:
        print(
            f"NOT AUDITED: {lock}: {len(skipped)} of {len(packages)} packages could not "
            f"be asked about, for example: {skipped[0]['skip_reason'] if skipped else ''}"
        )
        code = 2
    else:
        print(f"{lock}: {len(packages)} packages, {len(known)} known vulnerabilities")
sys.exit(code)
TEXT
