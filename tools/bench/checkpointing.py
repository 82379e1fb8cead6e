"""What recomputing saves and costs: named blocks and chosen plans, interleaved.

For each network every plan trains in a process of its own, by turns. Bytes are the
arena, and the most that activations, derivatives and workspaces take at a step; time is
the median CPU time of a step over the rounds, as a share of that of the plan that keeps
all. With --depths a table by the number of layers of the transformer pattern, with the
time of the backward pass (the step less its forward pass).

    python tools/bench/checkpointing.py [--rounds 7] [--measure] [--depths] [--case …]
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from typing import Any

import numpy as np
from interleaved import Figures, Step, measure

CASES = (
    "transformer x6 b4 T32",
    "gpt d256 x6 T128 b8",
    "resnet18 b32",
    "mlp 12x1024 b256",
)
DEPTHS = (2, 4, 6, 8, 12)
PATTERN = {"d": 256, "heads": 8, "ff": 1024, "length": 128, "batch_size": 8}
"""The transformer pattern of the table by depth."""

OVERHEADS = {"<= 5 %": 0.05, "<= 10 %": 0.1, "<= 15 %": 0.15, "<= 20 %": 0.2}
VARIANTS = ("keep all", "named blocks", *OVERHEADS, "least bytes")
OF_DEPTHS = ("named blocks", "<= 10 %", "<= 15 %", "<= 20 %", "least bytes")


def _model(case: str, named: bool) -> Any:
    """Return a model, with its named blocks or without."""
    import arena_ckpt as ac
    from arena_ckpt.examples import load_example

    if case.startswith("pattern x"):
        n_layers = int(case.removeprefix("pattern x"))
        return load_example(
            "transformer", n_layers=n_layers, **PATTERN, checkpoint=named
        ).model
    if case.startswith("transformer"):
        return load_example("transformer", n_layers=6, checkpoint=named).model
    if case.startswith("gpt"):
        return load_example("gpt", checkpoint=named).model
    if case.startswith("resnet18"):
        return load_example("resnet18", batch_size=32, checkpoint=named).model
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:1:1024")
    for i in range(12):
        model.add_layer("fully_connected", name=f"fc{i}", unit=1024)
        model.add_layer("activation", name=f"act{i}", activation="gelu")
        if named:
            model.add_checkpoint_block([f"fc{i}", f"act{i}"])
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=256)
    model.set_optimizer("adam")
    return model


def _plan(case: str, variant: str, measured: bool) -> Any:
    model = _model(case, variant == "named blocks")
    if variant in ("keep all", "named blocks"):
        return model, model.make_plan()
    if variant == "least bytes":
        return model, model.pareto(measure=measured)[0].plan
    point = model.choose_plan(max_overhead=OVERHEADS[variant], measure=measured)
    return model, point.plan


def activation_peak(plan: Any) -> int:
    """Return the most bytes of activations, derivatives and workspaces at a step."""
    kinds = {"activation", "recomputed_activation", "derivative", "workspace"}
    changes = np.zeros(len(plan.steps) + 1, dtype=np.int64)
    for buffer in plan.buffers:
        if buffer.kind.value in kinds:
            taken = plan.taken_bytes(buffer.size_bytes)
            changes[buffer.start] += taken
            changes[buffer.stop] -= taken
    return int(np.cumsum(changes).max())


def contestant(
    variant: str, measured: bool, case: str, threads: int
) -> tuple[Step, dict[str, Any]]:
    """Set up one plan."""
    model, plan = _plan(case, variant, measured)
    model.set_property(threads=threads)
    model.initialize(plan=plan)
    shapes = {
        layer.name: layer.output_shape for layer in plan.layers if not layer.inputs
    }
    n = plan.batch_size
    generator = np.random.default_rng(0)
    if "gpt" in case:
        x: Any = generator.integers(0, 96, (n, 128)).astype(np.float32)
        y: Any = generator.integers(0, 96, (n, 128))
    else:
        (shape,) = shapes.values()
        x = generator.normal(size=(n, int(np.prod(shape)))).astype(np.float32)
        out = plan.layers[-1].output_shape
        classes = plan.layers[-1].type_name == "cross_softmax"
        y = (
            generator.integers(0, out[2], n)
            if classes
            else generator.normal(size=(n, int(np.prod(out)))).astype(np.float32)
        )

    def step() -> object:
        return model.train_step(x, y)

    for _ in range(2):
        step()
    facts = {
        "arena": plan.arena_bytes,
        "activations": activation_peak(plan),
        "counted": plan.overhead,
        "forward": _forward_microseconds(model),
    }
    return step, facts


def _forward_microseconds(model: Any) -> float:
    from arena_ckpt.lowering.kernel_call import Mode

    session = model._session
    one = session._pass(Mode.TRAIN, session.pass_samples, False)
    times = []
    for _ in range(7):
        began = time.process_time()
        one.program.run(0, model.plan.n_forward)
        times.append(time.process_time() - began)
    return statistics.median(times) * 1e6


def _figures(
    case: str, arguments: Any, variants: tuple[str, ...] = VARIANTS
) -> dict[str, Figures]:
    contestants = {
        variant: partial(contestant, variant, arguments.measure) for variant in variants
    }
    return measure(
        contestants,
        case,
        threads=arguments.threads,
        rounds=arguments.rounds,
        n_steps=arguments.steps,
    )


def _print_case(case: str, figures: dict[str, Figures]) -> None:
    keep = figures["keep all"]
    print(f"\n{case}: {keep.facts['arena']:,} B, {keep.cpu / 1000:.1f} ms a step")
    print(f"{'':14} {'activations':>12} {'arena':>8} {'counted':>9} {'measured':>9}")
    for variant, one in figures.items():
        print(
            f"{variant:14} {one.facts['activations'] / keep.facts['activations']:12.1%}"
            f" {one.facts['arena'] / keep.facts['arena']:8.1%}"
            f" {one.facts['counted']:+9.1%} {one.cpu / keep.cpu - 1:+9.1%}"
        )


def _print_depths(rows: dict[int, dict[str, Figures]]) -> None:
    print(f"\ntransformer pattern, {PATTERN}")
    print("arena saved (activations saved); backward and whole step longer, measured")
    print("| layers | keep all | " + " | ".join(OF_DEPTHS) + " |")
    print("|---|---|" + "---|" * len(OF_DEPTHS))
    for depth, figures in rows.items():
        keep = figures["keep all"]
        cells = []
        for name in OF_DEPTHS:
            one = figures[name]
            arena = 1 - one.facts["arena"] / keep.facts["arena"]
            part = 1 - one.facts["activations"] / keep.facts["activations"]
            backward = (one.cpu - one.facts["forward"]) / (
                keep.cpu - keep.facts["forward"]
            )
            cells.append(
                f"{arena:.0%} ({part:.0%}); {backward - 1:+.0%}, "
                f"{one.cpu / keep.cpu - 1:+.0%}"
            )
        size = f"{keep.facts['arena'] / 2**20:.1f} MiB"
        print(f"| {depth} | {size} | " + " | ".join(cells) + " |")


def main() -> None:
    """Run the cases and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1, help="in a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--measure", action="store_true", help="choose by measured time"
    )
    parser.add_argument("--depths", action="store_true", help="the table by depth only")
    arguments = parser.parse_args()
    if arguments.depths:
        variants = "keep all", *OF_DEPTHS
        _print_depths(
            {d: _figures(f"pattern x{d}", arguments, variants) for d in DEPTHS}
        )
        return
    for case in arguments.case:
        _print_case(case, _figures(case, arguments))


if __name__ == "__main__":
    main()
