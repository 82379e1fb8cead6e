"""Plans and trains the same model in another process; returns hashes of the results.

``python -m arena_ckpt.verification.other_process FOLDER`` is what runs there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arena_ckpt.common.digests import digest_arrays
from arena_ckpt.common.json_codec import decode, encode
from arena_ckpt.data.standardization import Standardization
from arena_ckpt.definition.model_definition import ModelDefinition
from arena_ckpt.errors import ArenaError
from arena_ckpt.importers.ini import load_ini
from arena_ckpt.model import Model, take_statistics
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.verification.batches import Batch
from arena_ckpt.verification.child_process import signal_name
from arena_ckpt.verification.trial import open_session, plan_again, run_trial

COMMAND = (sys.executable, "-m", "arena_ckpt.verification.other_process")
PLAN, BITS = "the plan", "the bits"
_NO_MEMORY = "no memory"
_TIMEOUT_SECONDS = 3600.0
_KILLED = -9
"""Exit code of a process that SIGKILL has ended."""


class NotThereError(Exception):
    """Raised if a model cannot be taken to another process; the text says why."""


class FailedThereError(Exception):
    """Raised if what works in this process fails in another; the text says how."""


def ask_elsewhere(
    model: ModelDefinition,
    plan: MemoryPlan,
    batches: Sequence[Batch],
    command: Sequence[str] | None = None,
) -> dict[str, str]:
    """Let another process plan and train a model.

    Parameters
    ----------
    model : ModelDefinition
    plan : MemoryPlan
        Its recomputes are what the other process plans with.
    batches : sequence of (x, y)
    command : sequence of str, optional
        Builds the model and calls `answer`; a folder is added to it. By default the
        model goes there as an INI file.

    Returns
    -------
    dict
        See `describe_run`.

    Raises
    ------
    NotThereError
        The model cannot be written down, or the other process cannot be started, does
        not end, is killed or has not the memory.
    FailedThereError
        The other process ended with an error.
    """
    with tempfile.TemporaryDirectory(prefix="arena-ckpt-") as name:
        folder = Path(name)
        if command is None:
            _require_known(model)
            try:
                model.save_ini(folder / "model.ini")
            except ArenaError as error:
                raise NotThereError(f"it cannot be written as INI: {error}") from None
            command = COMMAND
        (folder / "plan.json").write_text(plan.to_json(), "utf-8")
        _save_batches(folder / "batches.npz", batches)
        settings = {
            "seed": int(model.seed),
            "properties": dict(model.properties),
            "standardization": encode(model.standardization),
        }
        (folder / "settings.json").write_text(json.dumps(settings), "utf-8")
        answered = folder / "answer.json"
        _run_to_end([*command, name], answered)
        answer: dict[str, str] = json.loads(answered.read_text("utf-8"))
        if _NO_MEMORY in answer:
            raise NotThereError(f"no memory for another process: {answer[_NO_MEMORY]}")
        return answer


def _run_to_end(command: Sequence[str], answered: Path) -> None:
    """Run a command in another process until it has written its answer to a file."""
    environment = dict(os.environ)
    package = str(Path(__file__).parents[2])
    paths = [package, environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment["PYTHONHASHSEED"] = "1"  # another order of every set
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotThereError(
            f"the other process cannot be started or does not end: {error}"
        ) from None
    if done.returncode == _KILLED:
        raise NotThereError("the other process was killed, perhaps for its memory")
    if done.returncode < 0:
        raise FailedThereError(
            f"the other process was ended by {signal_name(-done.returncode)}, and "
            "this one was not"
        )
    if done.returncode or not answered.exists():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise FailedThereError(
            f"the other process ended with an error, and this one did not: {last}"
        )


def answer(model: Model, folder: Path) -> None:
    """Plan and train `model` for `ask_elsewhere`; write the hashes to a file."""
    try:
        found = _found(model, folder)
    except MemoryError as error:
        found = {_NO_MEMORY: str(error)}
    (folder / "answer.json").write_text(json.dumps(found), "utf-8")


def _found(model: Model, folder: Path) -> dict[str, str]:
    settings = json.loads((folder / "settings.json").read_text("utf-8"))
    model.seed = settings["seed"]
    model.set_property(**settings["properties"])
    statistics = decode(Standardization | None, settings["standardization"])
    take_statistics(model, statistics)
    given = MemoryPlan.from_json((folder / "plan.json").read_text("utf-8"))
    plan = plan_again(model, given)
    outcome = run_trial(
        open_session(model, plan), _load_batches(folder / "batches.npz")
    )
    return describe_run(plan, outcome)


def describe_run(plan: MemoryPlan, outcome: Mapping[str, Any]) -> dict[str, str]:
    """Return hashes of a plan, of all its results, and of each part of these."""
    parts = {name: digest_arrays({name: array}) for name, array in outcome.items()}
    whole = digest_arrays({}, "".join(parts.values()).encode())
    return {PLAN: plan.checksum, BITS: whole, **parts}


def _require_known(model: ModelDefinition) -> None:
    for layer in model.layers:
        if not type(layer).__module__.startswith("arena_ckpt."):
            raise NotThereError(
                f"layer {layer.name!r} is of a class outside this package "
                f"({layer.type_name}), which the other process does not know; "
                "arena-ckpt verify PATH.py:FUNCTION builds the model there too"
            )


def _save_batches(path: Path, batches: Sequence[Batch]) -> None:
    arrays: dict[str, Any] = {}
    for number, (x, y) in enumerate(batches):
        parts = x if isinstance(x, dict) else {"": x}
        arrays |= {f"{number}:x:{name}": part for name, part in parts.items()}
        if y is not None:
            labels = y if isinstance(y, dict) else {"": y}
            arrays |= {f"{number}:y:{name}": part for name, part in labels.items()}
    np.savez(path, **arrays)


def _load_batches(path: Path) -> list[Batch]:
    batches: list[Batch] = []
    with np.load(path, allow_pickle=False) as arrays:
        while True:
            x, y = (_parts(arrays, f"{len(batches)}:{part}:") for part in "xy")
            if x is None:
                break
            batches.append((x, y))
    return batches


def _parts(arrays: Any, stem: str) -> Any:
    """Return the arrays whose names begin alike: a dict, one alone, or None."""
    found = {
        name.removeprefix(stem): arrays[name]
        for name in arrays.files
        if name.startswith(stem)
    }
    return found.get("") if "" in found or not found else found


if __name__ == "__main__":
    place = Path(sys.argv[1])
    answer(load_ini(place / "model.ini"), place)
