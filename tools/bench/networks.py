"""Training steps of whole networks beside PyTorch eager, torch.compile and JAX.

All run by turns. Time is the median over the rounds, of the wall and of the process's
CPU time. Peak bytes are the arena of ours, for PyTorch what its allocator holds at most
within a step (weights, optimizer states, activations, gradients and workspaces, found
by its profiler), and for JAX what XLA says that the compiled step takes. Ours is shown
without and with checkpoint blocks. The others begin with the weights of ours and must
have its losses; what is not installed is left out.

    python tools/bench/networks.py [--threads 1 2] [--rounds 7] [--case NAME …]

``--json FILE`` writes all of it, with quartiles, the times of each round, the machine
and the versions. The exit status is 1 where a contestant could not run.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from interleaved import Contestant, Figures, Step, measure
from results import ResultsFile, contestants
from twins import read_reference, write_reference

CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    # the example, its sizes, steps in a round
    "gpt d256 x6 T128 b8": ("gpt", {"n_layers": 6, "d": 256, "heads": 8}, 1),
    "char_transformer": ("char_transformer", {}, 2),
    "resnet18 b32": ("resnet18", {"batch_size": 32}, 1),
    "resnet8 b1": ("resnet8", {"batch_size": 1}, 20),
    "resnet8 b16": ("resnet8", {"batch_size": 16}, 4),
    "mobilenet_v2 b4": ("mobilenet_v2", {"batch_size": 4}, 4),
    "digits_cnn": ("digits_cnn", {}, 10),
    "digits_mlp": ("digits_mlp", {}, 100),
    "mobilenet_v2 b16": ("mobilenet_v2", {"batch_size": 16}, 1),
}


def arena_ckpt(case: str, threads: int) -> tuple[Step, dict[str, Any]]:
    """Set up ours, without checkpoint blocks."""
    return _arena(case, threads, blocks=False)


def arena_blocks(case: str, threads: int) -> tuple[Step, dict[str, Any]]:
    """Set up ours, with checkpoint blocks."""
    return _arena(case, threads, blocks=True)


def _arena(case: str, threads: int, *, blocks: bool) -> tuple[Step, dict[str, Any]]:
    from arena_ckpt.examples import load_example
    from arena_ckpt.model import without_blocks

    name, sizes, _ = CASES[case]
    example = load_example(name, **sizes)
    model = example.model if blocks else without_blocks(example.model)
    model.set_property(threads=threads)
    plan = model.initialize()
    n = model.get_property("batch_size")
    x, y = example.data.x[:n].reshape(n, -1), example.data.y[:n]
    return lambda: model.train_step(x, y), {"bytes": plan.arena_bytes}


def pytorch(reference: Path, case: str, threads: int) -> tuple[Step, dict[str, Any]]:
    """Set up PyTorch eager."""
    return _torch(reference, threads)


def compiled(reference: Path, case: str, threads: int) -> tuple[Step, dict[str, Any]]:
    """Set up PyTorch with torch.compile."""
    import torch

    return _torch(reference, threads, prepare=torch.compile)


def _torch(
    reference: Path, threads: int, **prepare: Any
) -> tuple[Step, dict[str, Any]]:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler says when it runs
    import torch
    from twins_torch import training_step

    torch.set_num_threads(threads)
    step = training_step(read_reference(reference), **prepare)
    for _ in range(3):
        step()
    return step, {"bytes": _peak_bytes(step)}


def jax(reference: Path, case: str, threads: int) -> tuple[Step, dict[str, Any]]:
    """Set up JAX: one jit of the whole step."""
    # XLA takes as many threads as there are processors that it may run on.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    # What is compiled for one number of threads serves for the next, with many words.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(reference.parent / "jax")
    from twins_jax import training_step

    step, n_bytes = training_step(read_reference(reference))
    return step, {"bytes": n_bytes}


def _peak_bytes(step: Step) -> int:
    """Return the most bytes that PyTorch's CPU allocator holds during a step."""
    import gc

    import torch
    from torch.profiler import ProfilerActivity, profile

    gc.collect()
    kinds = (torch.Tensor, torch.nn.Parameter)
    tensors = (o for o in gc.get_objects() if type(o) in kinds)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors}
    held = sum(storage.nbytes() for storage in storages.values())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = recorded.profiler.kineto_results.events()
    changes = sorted(
        (e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"
    )
    peak = now = held
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return peak


OURS: dict[str, Contestant] = {"arena": arena_ckpt, "blocks": arena_blocks}
TWINS = {"eager": pytorch, "compile": compiled, "jax": jax}
"""Contestants that are given the reference of a network."""

CONTESTANTS = (*OURS, *TWINS)


def missing(name: str) -> str | None:
    """Return why a contestant cannot run here, or None if it can."""
    if name in ("eager", "compile") and importlib.util.find_spec("torch") is None:
        return "torch cannot be imported"
    if name == "compile" and not shutil.which(os.environ.get("CXX", "g++")):
        return "torch.compile needs a C++ compiler, and there is no g++"
    if name == "jax" and importlib.util.find_spec("jax") is None:
        return "jax cannot be imported"
    return None


def measure_case(
    case: str, names: list[str], all_threads: list[int], rounds: int, file: ResultsFile
) -> bool:
    """Measure a case with each number of threads; tell whether all could run."""
    name, sizes, n_steps = CASES[case]
    all_ran = True
    with tempfile.TemporaryDirectory(prefix="networks") as folder:
        reference = Path(folder) / "reference.npz"
        every: dict[str, Contestant] = dict(OURS)
        every |= {key: partial(twin, reference) for key, twin in TWINS.items()}
        if not OURS.keys() >= set(names):
            _in_a_process(write_reference, reference, name, sizes)
        for threads in all_threads:
            failures: dict[str, str] = {}
            results = measure(
                {key: every[key] for key in names},
                case,
                threads=threads,
                rounds=rounds,
                n_steps=n_steps,
                failures=failures,
                n_setups=2,  # compilers of the others take one core
            )
            print(_line(case, threads, results), flush=True)
            row = {"case": case, "threads": threads, "steps_in_a_round": n_steps}
            file.add(row | {"contestants": contestants(results), "failed": failures})
            all_ran = all_ran and not failures
    return all_ran


def _in_a_process(function: Any, *arguments: Any) -> None:
    """Call a function in a process of its own; an error is printed there."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=function, args=arguments)
    process.start()
    process.join()


def _line(case: str, threads: int, results: dict[str, Figures]) -> str:
    line = f"{case:20} {threads} thread{'s' if threads > 1 else ' '}"
    eager = results.get("eager")
    for name, one in results.items():
        share = f" ×{one.cpu / eager.cpu:.2f}" if eager and name != "eager" else ""
        line += f" | {name} {one.wall / 1e3:.1f} ({one.cpu / 1e3:.1f}){share}"
        line += f" {one.facts['bytes'] / 1e6:.1f} MB"
    return line


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument(
        "--only", nargs="+", default=list(CONTESTANTS), choices=list(CONTESTANTS)
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    absent = {name: why for name in options.only if (why := missing(name))}
    for name, why in absent.items():
        print(f"{name} is left out: {why}", flush=True)
    names = [name for name in options.only if name not in absent]
    file = ResultsFile(options.json, "networks", rounds=options.rounds, left_out=absent)
    print("ms of wall (CPU) a step, the CPU time as a share of eager's, and peak MB")
    ran = [
        measure_case(case, names, options.threads, options.rounds, file)
        for case in options.case
    ]
    sys.exit(0 if all(ran) else 1)


if __name__ == "__main__":
    main()
