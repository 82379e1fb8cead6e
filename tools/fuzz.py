"""Inputs by the thousand: run the targets of tests/fuzzing and say what they found.

    python tools/fuzz.py                                  # 100,000 inputs over all
    python tools/fuzz.py --inputs 5000 --target idx --seed 3
    python tools/fuzz.py --inputs 2000 --target models  # judged by PyTorch
    python tools/fuzz.py --atheris 60 --target npz        # coverage-guided, seconds
    python tools/fuzz.py --list

Inputs are drawn by hypothesis, in rounds of other seeds; the first that fails is shrunk
and printed with the call that runs it again. With --atheris the same targets are driven
by libFuzzer, each in a process of its own (``pip install arena-ckpt[fuzz]``). The exit
code is 1 if something was found.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuzzing.target import Target

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

MOST_SHOWN = 6_000
"""Characters of an input."""

ROUND = 2_000
"""Inputs of one seed: hypothesis remembers all of a run, and slows down."""


def main() -> int:
    """Run the tool; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="over all targets")
    parser.add_argument("--target", action="append", help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", type=int, metavar="SECONDS", help="of each target")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--guided", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.guided:
        from fuzzing.guided import run_guided

        run_guided(options.guided, options.atheris, options.seed)
        return 0
    from fuzzing.targets import TARGETS

    names = options.target or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}; see --list")
    if options.list:
        print("\n".join(names))
        return 0
    for name in [name for name in names if not TARGETS[name].can_run]:
        needs = f"{name} needs {TARGETS[name].needs}, which is not installed"
        if options.target:
            parser.error(needs)
        print(f"left out: {needs}", file=sys.stderr)
        names.remove(name)
    if options.atheris:
        return _guided(names, options.atheris, options.seed)
    return _drawn(names, options.inputs, options.seed)


def _drawn(names: list[str], n_inputs: int, seed: int) -> int:
    """Let hypothesis draw inputs."""
    from fuzzing.target import run_target
    from fuzzing.targets import TARGETS

    total, found = 0, 0
    shares = {name: 1 / TARGETS[name].cost for name in names}
    for name in names:
        wanted = math.ceil(n_inputs * shares[name] / sum(shares.values()))
        done, began = 0, time.perf_counter()
        finding = None
        while done < wanted and finding is None:
            number = 1_000_003 * seed + done
            outcome = run_target(TARGETS[name], min(ROUND, wanted - done), number)
            done += outcome.n_inputs
            finding = outcome.finding
        took = time.perf_counter() - began
        print(f"{name:16} {done:9,} inputs, {done / took:8,.1f} a second", flush=True)
        if (summary := TARGETS[name].summary) is not None:
            print(f"  of these: {summary()}")
        total += done
        if finding is not None:
            found += 1
            _print_finding(TARGETS[name], outcome.smallest, finding)
    print(f"{'all':16} {total:9,} inputs, {found} targets with findings")
    return 1 if found else 0


def _print_finding(target: Target, smallest: Any, finding: BaseException) -> None:
    error = finding
    while error.__cause__ is not None:
        error = error.__cause__
    where = error.__traceback__
    lines = []
    while where is not None:
        code = where.tb_frame.f_code
        lines.append(f"{Path(code.co_filename).name}:{where.tb_lineno} {code.co_name}")
        where = where.tb_next
    print(f"  FOUND: {finding}")
    print(f"  by:    {' < '.join(reversed(lines[-6:]))}")
    sys.set_int_max_str_digits(0)
    shown = repr(smallest)
    print(f"  again: TARGETS[{target.name!r}].check({shown[:MOST_SHOWN]})", flush=True)
    if target.show is not None:
        print(textwrap.indent(target.show(smallest), "    "), flush=True)


def _guided(names: list[str], seconds: int, seed: int) -> int:
    """Let libFuzzer search for inputs, a process for each target."""
    found = 0
    settings = ["--atheris", str(seconds), "--seed", str(seed)]
    for name in names:
        done = subprocess.run(
            [sys.executable, __file__, "--guided", name, *settings],
            capture_output=True,
            text=True,
        )
        last = [line for line in done.stderr.splitlines() if line.startswith("Done")]
        print(f"{name:16} {last[-1] if last else 'ended early'}", flush=True)
        if done.returncode:
            found += 1
            print(done.stdout[-3000:], done.stderr[-3000:], sep="\n", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
