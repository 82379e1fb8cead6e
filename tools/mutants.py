"""Plant faults on purpose, one at a time, and see that the tests named for each fail.

    python tools/mutants.py                      # all of tools/mutants/*.toml
    python tools/mutants.py --area planning --name "live range"
    python tools/mutants.py --list
    python tools/mutants.py --check              # plants nothing: are lists in order?

A fault is an edit by text, with the fewest and fastest tests that have to see it:

    [[fault]]
    name = "a plain sentence that says what is wrong"      # no other fault has it
    file = "arena_ckpt/planning/in_place.py"
    old = '''text that occurs exactly once in the file'''
    new = '''text that replaces it'''
    tests = ["tests/planning/test_in_place.py::test_name"]
    # survives = "only where no test can see it: why"

The tree is copied once for each job, with the times of its files and their compiled
kernels, so that a fault costs little more than its tests. A fault is *killed* if a test
fails, if the process dies of a signal or if it outlasts its limit. It is *broken* if no
test came to a result. Faults whose tests all skip here, for lack of an outside judge,
are not counted. The exit code is 1 if fewer than 95 % of the faults are killed, if the
survival of one is not explained, or if a fault is broken or its list out of order.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LISTS = Path("tools") / "mutants"
LEAST_KILLED = 0.95
"""Smallest share of the faults that has to be killed."""
LEFT_OUT = (".git", ".venv", ".hypothesis", ".*_cache", "build", "dist", "*-pytest-*")
"""What a copy does not hold: nothing that tests read, or compiled for another path."""
LEAST_LIMIT_SECONDS = 300.0
"""Smallest time limit of a fault's tests: an edited kernel is compiled anew."""
BASELINE_LIMIT_SECONDS = 7200.0
"""How long all named tests may take without a fault, with cold kernels."""
LIMIT_FACTOR = 10.0
"""How much longer than without the fault its tests may take."""
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "junit_family=xunit1")
FAILED, PASSED = 1, 0
"""The exit codes of pytest that say that tests ran."""


class ListError(Exception):
    """Raised when a list of faults cannot be run as it stands."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One edit that makes the program wrong, and the tests that have to see it.

    Attributes
    ----------
    name : str
    area : str
        The name of the list it stands in.
    file : str
        Relative to the root of the tree.
    old, new : str
        What is replaced, and by what.
    tests : tuple of str
        What pytest is given.
    survives : str or None
        Why no test can see it.
    """

    name: str
    area: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    survives: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one fault.

    Attributes
    ----------
    fault : Fault
    word : str
        killed, survived, explained, skipped or broken.
    detail : str
        What killed it, or what is wrong.
    seconds : float
    """

    fault: Fault
    word: str
    detail: str
    seconds: float


# -- the lists -------------------------------------------------------------------------


def read_faults(root: Path) -> list[Fault]:
    """Read all lists of a tree.

    Raises
    ------
    ListError
        If a list is no list of faults, or two faults have the same name.
    """
    faults: dict[str, Fault] = {}
    for path in sorted((root / LISTS).glob("*.toml")):
        try:
            said = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ListError(f"{path.name}: {error}") from None
        if set(said) - {"fault"}:
            raise ListError(f"{path.name}: only [[fault]] may stand in it")
        for entry in said.get("fault", []):
            fault = _fault(path, entry)
            if fault.name in faults:
                raise ListError(f"{path.name}: two faults are called {fault.name!r}")
            faults[fault.name] = fault
    return list(faults.values())


def _fault(path: Path, entry: dict[str, Any]) -> Fault:
    name = entry.get("name")
    where = f"{path.name}: fault {name!r}"
    texts = ("name", "file", "old", "new", "survives")
    if unknown := set(entry) - {*texts, "tests"}:
        raise ListError(f"{where}: unknown key {', '.join(sorted(unknown))}")
    for key in texts[:-1]:
        if not isinstance(entry.get(key), str) or not (entry[key] or key == "new"):
            raise ListError(f"{where}: {key!r} has to be text")
    tests = entry.get("tests")
    if not tests or not all(isinstance(test, str) for test in tests):
        raise ListError(f"{where}: 'tests' has to list what pytest is given")
    if "survives" in entry and not str(entry["survives"]).strip():
        raise ListError(f"{where}: 'survives' has to say why")
    return Fault(**{**entry, "area": path.stem, "tests": tuple(tests)})


def planted(root: Path, fault: Fault) -> str:
    """Return the text of a fault's file with the fault in it.

    Raises
    ------
    ListError
        If the text to replace does not occur exactly once, or the result is no Python.
    """
    where = f"{fault.area}.toml: fault {fault.name!r}: {fault.file}"
    path = root / fault.file
    if not path.is_file():
        raise ListError(f"{where} does not exist")
    text = path.read_text(encoding="utf-8")
    if (found := text.count(fault.old)) != 1:
        raise ListError(f"{where} holds the text to replace {found} times, not once")
    if fault.old == fault.new:
        raise ListError(f"{where} stays as it is")
    changed = text.replace(fault.old, fault.new)
    if path.suffix == ".py":
        try:
            ast.parse(changed)
        except SyntaxError as error:
            raise ListError(f"{where} is no Python any more: {error}") from None
    return changed


def check_faults(root: Path, faults: Iterable[Fault]) -> list[str]:
    """Return what is wrong with a list: edits that fit no more, tests that are gone."""
    wrong = []
    tests_of: dict[str, set[str]] = {}
    for fault in faults:
        try:
            planted(root, fault)
        except ListError as error:
            wrong.append(str(error))
        for test in fault.tests:
            file, _, name = test.partition("::")
            if file not in tests_of:
                tests_of[file] = _functions(root / file)
            function = name.partition("[")[0].rpartition("::")[2]
            if not tests_of[file] or (name and function not in tests_of[file]):
                where = f"{fault.area}.toml: fault {fault.name!r}"
                wrong.append(f"{where}: no test {test}")
    return wrong


def _functions(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}


# -- running ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of pytest came to.

    Attributes
    ----------
    code : int or None
        Its exit code, negative for a signal; None if it outlasted its limit.
    results : dict from str to tuple of (str, float)
        For each test that ran: passed, failed or skipped, and its seconds.
    said : str
        The end of its output.
    """

    code: int | None
    results: dict[str, tuple[str, float]]
    said: str


class Copy:
    """A copy of the tree in which faults are planted, and its tests run.

    Parameters
    ----------
    source : Path
        The tree, or another copy.
    folder : Path
        Where the copy is made.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        ignore = shutil.ignore_patterns(*LEFT_OUT)
        shutil.copytree(source, folder, ignore=ignore, symlinks=True)
        self.folder = folder
        self._n_edits = 0
        self._process: subprocess.Popen[str] | None = None

    def require_imports(self, faults: Iterable[Fault]) -> None:
        """Make sure that tests in the copy import the copy's packages."""
        packages = {Path(fault.file).parts[0] for fault in faults}
        for package in sorted(packages):
            if not (self.folder / package / "__init__.py").is_file():
                continue
            script = f"import {package}; print({package}.__file__)"
            found = self._python("-c", script, seconds=60).stdout.strip()
            if not Path(found).is_relative_to(self.folder):
                raise ListError(f"tests in a copy of the tree import {found}")

    @contextmanager
    def edited(self, fault: Fault) -> Iterator[None]:
        """Hold a fault in the copy; put the file back afterwards, with its times."""
        path = self.folder / fault.file
        text, before = path.read_bytes(), path.stat()
        self._n_edits += 1
        # Compiled files name the second and the size of their source: never twice one.
        changed_at = before.st_mtime_ns + self._n_edits * 10**9
        path.write_text(planted(self.folder, fault), encoding="utf-8")
        os.utime(path, ns=(changed_at, changed_at))
        try:
            yield
        finally:
            path.write_bytes(text)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            shutil.rmtree(self.folder / ".hypothesis", ignore_errors=True)

    def run(self, tests: Iterable[str], *options: str, seconds: float) -> Outcome:
        """Run tests in the copy."""
        with tempfile.NamedTemporaryFile(suffix=".xml") as report:
            try:
                done = self._python(
                    *(*PYTEST, f"--junitxml={report.name}", *options, *tests),
                    seconds=seconds,
                )
            except subprocess.TimeoutExpired:
                return Outcome(None, {}, f"outlasted {seconds:.0f} s")
            said = (done.stdout + done.stderr)[-4000:]
            return Outcome(done.returncode, _results(Path(report.name)), said)

    def stop(self) -> None:
        """End what runs in the copy, with all of its children."""
        if process := self._process:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _python(
        self, *arguments: str, seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """Run Python in the copy, in a process group of its own."""
        paths = [str(self.folder), os.environ.get("PYTHONPATH", "")]
        with subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            self._process = process
            try:
                stdout, stderr = process.communicate(timeout=seconds)
            except BaseException:
                self.stop()
                raise
            finally:
                self._process = None
        return subprocess.CompletedProcess(
            process.args, process.returncode, stdout, stderr
        )


def _results(report: Path) -> dict[str, tuple[str, float]]:
    """Read the results of tests from a report in JUnit's format."""
    if report.stat().st_size == 0:
        return {}
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        state = "passed"
        for child in case:
            if child.tag in ("failure", "error"):
                state = "failed"
            elif child.tag == "skipped":
                state = "skipped"
        file, name = case.get("file", ""), case.get("name", "")
        module = file.removesuffix(".py").replace("/", ".")
        inner = case.get("classname", "").removeprefix(module).strip(".")
        test = "::".join(filter(None, (file, inner, name)))
        found[test] = (state, float(case.get("time", "0")))
    return found


def _is_named(test: str, named: str) -> bool:
    """Tell whether a test is among those that a name given to pytest means."""
    return test == named or test.startswith((f"{named}[", f"{named}::"))


@dataclass(frozen=True, slots=True)
class Baseline:
    """How all named tests fare without a fault.

    Attributes
    ----------
    outcome : Outcome
    """

    outcome: Outcome

    def of(self, fault: Fault) -> dict[str, tuple[str, float]]:
        """Return the results of the tests of one fault."""
        return {
            test: result
            for test, result in self.outcome.results.items()
            if any(_is_named(test, named) for named in fault.tests)
        }

    def objection(self, fault: Fault) -> str | None:
        """Return why the tests of a fault could not judge it."""
        results = self.of(fault)
        failed = [test for test, (state, _) in results.items() if state == "failed"]
        if failed:
            return f"fails without the fault: {', '.join(failed)}"
        missing = [
            named
            for named in fault.tests
            if not any(_is_named(test, named) for test in results)
        ]
        return f"did not run: {', '.join(missing)}" if missing else None


def judge(copy: Copy, fault: Fault, baseline: Baseline) -> Verdict:
    """Plant one fault and run its tests."""
    results = baseline.of(fault)
    if objection := baseline.objection(fault):
        return Verdict(fault, "broken", objection, 0.0)
    if all(state == "skipped" for state, _ in results.values()):
        return Verdict(fault, "skipped", "its tests skip here", 0.0)
    usual = sum(seconds for _, seconds in results.values())
    limit = max(LEAST_LIMIT_SECONDS, LIMIT_FACTOR * usual)
    began = time.perf_counter()
    try:
        with copy.edited(fault):
            outcome = copy.run(fault.tests, "-x", seconds=limit)
    except ListError as error:
        return Verdict(fault, "broken", str(error), 0.0)
    seconds = time.perf_counter() - began
    failed = [t for t, (state, _) in outcome.results.items() if state == "failed"]
    if outcome.code is None:
        word, detail = "killed", outcome.said
    elif outcome.code < 0:
        word, detail = "killed", f"died of signal {-outcome.code}"
    elif outcome.code == FAILED and failed:
        word, detail = "killed", failed[0]
    elif outcome.code == PASSED:
        word, detail = "survived", ""
    else:
        lines = outcome.said.strip().splitlines()
        word, detail = "broken", f"pytest ended with {outcome.code}: {lines[-1:]}"
    if fault.survives and word == "survived":
        word, detail = "explained", fault.survives
    elif fault.survives and word == "killed":
        word, detail = "broken", f"explained as surviving, but killed by {detail}"
    return Verdict(fault, word, detail, seconds)


def run_all(root: Path, faults: list[Fault], n_jobs: int) -> Iterator[Verdict]:
    """Run faults in copies of the tree, one copy for each job.

    Yields
    ------
    Verdict
        As they come.

    Raises
    ------
    ListError
        If tests in a copy do not import the copy, or none can be run at all.
    """
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        first = Copy(root, Path(folder, "0"))
        first.require_imports(faults)
        named = dict.fromkeys(test for fault in faults for test in fault.tests)
        outcome = first.run(named, seconds=BASELINE_LIMIT_SECONDS)
        if not outcome.results:
            raise ListError(f"no test could be run:\n{outcome.said}")
        baseline = Baseline(outcome)
        copies = [first]
        copies += [Copy(first.folder, Path(folder, str(k))) for k in range(1, n_jobs)]
        yield from _shared_out(copies, faults, baseline)


def _shared_out(
    copies: list[Copy], faults: list[Fault], baseline: Baseline
) -> Iterator[Verdict]:
    """Give each copy the next fault as soon as it is free."""
    waiting: queue.SimpleQueue[Fault] = queue.SimpleQueue()
    for fault in sorted(faults, key=lambda fault: fault.file):
        waiting.put(fault)
    done: queue.SimpleQueue[Verdict | BaseException] = queue.SimpleQueue()

    def work(copy: Copy) -> None:
        try:
            while True:
                try:
                    fault = waiting.get_nowait()
                except queue.Empty:
                    return
                done.put(judge(copy, fault, baseline))
        except BaseException as error:
            done.put(error)

    for copy in copies:
        threading.Thread(target=work, args=(copy,), daemon=True).start()
    try:
        for _ in faults:
            verdict = done.get()
            if isinstance(verdict, BaseException):
                raise verdict
            yield verdict
    finally:
        with suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        for copy in copies:
            copy.stop()


# -- the command line ------------------------------------------------------------------


def main() -> int:
    """Run the tool; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--area", action="append", help="only this list; repeatable")
    parser.add_argument("--name", help="only faults whose name holds this")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="print the faults' names")
    parser.add_argument("--check", action="store_true", help="plant nothing")
    parser.add_argument("--json", action="store_true", help="print verdicts as JSON")
    parser.add_argument("--root", type=Path, default=ROOT, help="of another tree")
    options = parser.parse_args()
    try:
        faults = _chosen(read_faults(options.root), options.area, options.name)
        if not faults:
            parser.error("no fault is called so; see --list")
        if options.list:
            print("\n".join(f"{fault.area:12} {fault.name}" for fault in faults))
            return 0
        if wrong := check_faults(options.root, faults):
            raise ListError("\n".join(wrong))
        if options.check:
            print(f"{len(faults)} faults in order")
            return 0
        began = time.perf_counter()
        verdicts = []
        for verdict in run_all(options.root, faults, max(1, options.jobs)):
            verdicts.append(verdict)
            if not options.json:
                _print_verdict(verdict)
        return _conclude(verdicts, time.perf_counter() - began, as_json=options.json)
    except ListError as error:
        print(error, file=sys.stderr)
        return 1


def _chosen(
    faults: list[Fault], areas: list[str] | None, name: str | None
) -> list[Fault]:
    return [
        fault
        for fault in faults
        if (areas is None or fault.area in areas) and (not name or name in fault.name)
    ]


def _print_verdict(verdict: Verdict) -> None:
    fault = verdict.fault
    print(
        f"{verdict.word:9} {verdict.seconds:6.1f} s  {fault.area}: {fault.name}\n"
        f"{'':20}{fault.file}" + (f"; {verdict.detail}" if verdict.detail else ""),
        flush=True,
    )


def _conclude(verdicts: list[Verdict], seconds: float, *, as_json: bool) -> int:
    """Print the summary; return the exit code."""
    words = ("killed", "survived", "explained", "skipped", "broken")
    counts = {w: sum(v.word == w for v in verdicts) for w in words}
    n_judged = counts["killed"] + counts["survived"] + counts["explained"]
    share = counts["killed"] / n_judged if n_judged else 1.0
    is_right = share >= LEAST_KILLED and not counts["survived"] + counts["broken"]
    if as_json:
        found = {
            "counts": counts,
            "killed_share": share,
            "seconds": seconds,
            "verdicts": [asdict(verdict) for verdict in verdicts],
        }
        print(json.dumps(found, indent=1))
    else:
        listed = ", ".join(f"{counts[w]} {w}" for w in words)
        print(
            f"{len(verdicts)} faults in {seconds:.0f} s: {listed}; "
            f"{share:.1%} killed, of at least {LEAST_KILLED:.0%}"
        )
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
