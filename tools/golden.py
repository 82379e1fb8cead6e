"""Regenerate golden/: plans and first losses of every bundled example.

    python tools/golden.py           # writes, and says what changed by meaning
    python tools/golden.py --check   # writes nothing; exit code 1 if something differs
    python tools/golden.py --no-losses

The one tool that writes these files; `arena_ckpt.testing.variants` lists what is
pinned of each example.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from arena_ckpt.errors import BudgetError, GoldenFileError
from arena_ckpt.examples import EXAMPLES
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.testing.golden_files import (
    FORMATS,
    Outcome,
    add_golden,
    check_folder,
    load_bundled,
    update_folder,
)
from arena_ckpt.testing.golden_losses import LOSSES_FILES, check_losses, update_losses
from arena_ckpt.testing.variants import golden_variants

FOLDER = Path(__file__).parents[1] / "golden"


def expected_files() -> list[str]:
    """Return the names of all files that belong in the folder.

    A budget that no plan meets has none.
    """
    names = [*LOSSES_FILES.values()]
    for name in EXAMPLES:
        for variant, make in golden_variants(load_bundled(name, {})).items():
            files = [f"{name}.{variant}{suffix}" for suffix in FORMATS.values()]
            if any((FOLDER / file).exists() for file in files) or can_be_met(make):
                names += files
    return sorted(names)


def can_be_met(make: Callable[[], MemoryPlan]) -> bool:
    """Tell whether the budget of a variant can be met, if it has one."""
    try:
        make()
    except BudgetError:
        return False
    return True


def plans(*, check: bool) -> list[Outcome]:
    """Check or write the plans in both formats."""
    if not check:
        for name in EXAMPLES:
            add_golden(FOLDER, name, load_bundled(name, {}))
    walk = check_folder if check else update_folder
    return [o for form in FORMATS for o in walk(FOLDER, load_bundled, form)]


def off(losses: Path, arithmetic: str) -> list[str]:
    """Return how the losses of a file differ, or why they cannot be compared."""
    try:
        found = check_losses(losses, arithmetic)
    except GoldenFileError as error:  # as of a file without a new example
        return [str(error)]
    return [line for of_example in found.values() for line in of_example]


def main() -> int:
    """Run the tool; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--no-losses", action="store_true")
    options = parser.parse_args()
    is_right = True
    for outcome in plans(check=options.check):
        if outcome.state != "same":
            is_right = False
            print(f"{outcome.path.name}: {outcome.state}")
            print("".join(f"  {line}\n" for line in outcome.differences), end="")
    for arithmetic, name in LOSSES_FILES.items() if not options.no_losses else ():
        losses = FOLDER / name
        if options.check or losses.exists():
            for line in off(losses, arithmetic):
                is_right = False
                print(line)
        if not options.check:
            update_losses(losses, arithmetic)
    for stray in sorted({p.name for p in FOLDER.iterdir()} - set(expected_files())):
        is_right = False
        print(f"{stray}: belongs to no example; remove it")
    return 1 if options.check and not is_right else 0


if __name__ == "__main__":
    sys.exit(main())
