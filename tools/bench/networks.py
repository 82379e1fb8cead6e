"""Training steps of whole networks beside PyTorch eager and torch.compile, interleaved.

Time is the median over the rounds, of the wall and of the process's CPU time. Peak
bytes are the arena of ours, and for PyTorch what its allocator holds at most within a
step: weights, optimizer states, activations, gradients and workspaces, found by its
profiler. Ours is shown without and with checkpoint blocks.

    python tools/bench/networks.py [--threads 1 2] [--rounds 7] [--case NAME …]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from interleaved import Step, measure

CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    # the example, its sizes, steps in a round
    "gpt d256 x6 T128 b8": ("gpt", {"n_layers": 6, "d": 256, "heads": 8}, 1),
    "char_transformer": ("char_transformer", {}, 2),
    "resnet18 b32": ("resnet18", {"batch_size": 32}, 1),
    "resnet8 b1": ("resnet8", {"batch_size": 1}, 20),
    "resnet8 b16": ("resnet8", {"batch_size": 16}, 4),
}


def _arena(case: str, threads: int, **more: Any) -> tuple[Step, dict[str, Any]]:
    from arena_ckpt.examples import load_example

    name, sizes, _ = CASES[case]
    example = load_example(name, **sizes, **more)
    model = example.model
    model.set_property(threads=threads)
    plan = model.initialize()
    n = model.get_property("batch_size")
    x, y = example.data.x[:n].reshape(n, -1), example.data.y[:n]
    return lambda: model.train_step(x, y), {"bytes": plan.arena_bytes}


def arena_ckpt(case: str, threads: int) -> tuple[Step, dict[str, Any]]:
    """Set up ours, without checkpoint blocks."""
    return _arena(case, threads, checkpoint=False)


def arena_blocks(case: str, threads: int) -> tuple[Step, dict[str, Any]]:
    """Set up ours, with checkpoint blocks."""
    return _arena(case, threads)


def pytorch(case: str, threads: int) -> tuple[Step, dict[str, Any]]:
    """Set up PyTorch eager."""
    step, _ = _torch(case, threads)
    for _ in range(3):
        step()
    return step, {"bytes": _peak_bytes(step)}


def compiled(case: str, threads: int) -> tuple[Step, dict[str, Any]]:
    """Set up PyTorch with torch.compile."""
    import torch

    step, _ = _torch(case, threads, torch.compile)
    for _ in range(3):
        step()
    return step, {"bytes": _peak_bytes(step)}


def _torch(
    case: str, threads: int, prepare: Callable[[Any], Any] = lambda model: model
) -> tuple[Step, Any]:
    import torch

    from arena_ckpt.examples import load_example

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    name, sizes, _ = CASES[case]
    example = load_example(name, **sizes)
    n = example.model.get_property("batch_size")
    x, y = torch.tensor(example.data.x[:n]), torch.tensor(example.data.y[:n]).long()
    if name in ("gpt", "char_transformer"):
        layers = {layer.name: layer for layer in example.model.layers}
        d = layers["tokens"]["out_dim"]
        n_layers = sum(name.startswith("mha") for name in layers)
        heads = layers["mha0"]["num_heads"]
        net, x = (
            _gpt(d, n_layers, heads, x.shape[1], layers["tokens"]["in_dim"]),
            x.long(),
        )
        optimizer: Any = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    else:
        stages = ((64, 2), (128, 2), (256, 2), (512, 2))
        net = _resnet(stages if name == "resnet18" else ((16, 1), (32, 1), (64, 1)))
        x = x.reshape(n, 3, 32, 32)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True)
    net = prepare(net)

    def step() -> float:
        optimizer.zero_grad()
        out = net(x)
        loss = torch.nn.functional.cross_entropy(
            out.reshape(-1, out.shape[-1]), y.reshape(-1)
        )
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step, net


def _gpt(d: int, n_layers: int, heads: int, length: int, vocabulary: int) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.LayerNorm(d)
            self.qkv = nn.Linear(d, 3 * d)
            self.out = nn.Linear(d, d)
            self.between = nn.LayerNorm(d)
            self.wide = nn.Linear(d, 4 * d)
            self.narrow = nn.Linear(4 * d, d)

        def forward(self, x: Any) -> Any:
            batch, length, _ = x.shape
            parts = self.qkv(self.before(x)).reshape(
                batch, length, 3, heads, d // heads
            )
            q, k, v = parts.permute(2, 0, 3, 1, 4)
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(batch, length, d))
            return x + self.narrow(functional.gelu(self.wide(self.between(x))))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(vocabulary, d)
            self.places = nn.Parameter(torch.randn(length, d), requires_grad=False)
            self.blocks = nn.Sequential(*(Block() for _ in range(n_layers)))
            self.last = nn.LayerNorm(d)
            self.logits = nn.Linear(d, vocabulary)

        def forward(self, ids: Any) -> Any:
            x = self.tokens(ids) + self.places
            return self.logits(self.last(self.blocks(x)))

    return Net()


def _resnet(stages: tuple[tuple[int, int], ...]) -> Any:
    from torch import nn
    from torch.nn import functional

    def convolution(source: int, out: int, kernel: int, stride: int) -> Any:
        return nn.Sequential(
            nn.Conv2d(source, out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(out),
        )

    class Block(nn.Module):
        def __init__(self, source: int, out: int, stride: int) -> None:
            super().__init__()
            self.first = convolution(source, out, 3, stride)
            self.second = convolution(out, out, 3, 1)
            plain = stride == 1 and source == out
            self.skip = nn.Identity() if plain else convolution(source, out, 1, stride)

        def forward(self, x: Any) -> Any:
            y = functional.relu(self.first(x), inplace=True)
            return functional.relu(self.second(y) + self.skip(x), inplace=True)

    width = stages[0][0]
    layers: list[Any] = [convolution(3, width, 3, 1), nn.ReLU(inplace=True)]
    for number, (filters, repeats) in enumerate(stages):
        for repeat in range(repeats):
            layers.append(Block(width, filters, 2 if number and not repeat else 1))
            width = filters
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(*layers)


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


CONTESTANTS = {
    "arena": arena_ckpt,
    "blocks": arena_blocks,
    "eager": pytorch,
    "compile": compiled,
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument(
        "--only", nargs="+", default=list(CONTESTANTS), choices=list(CONTESTANTS)
    )
    options = parser.parse_args()
    print("ms of wall (CPU) a step, the CPU time as a share of eager's, and peak MB")
    for case in options.case:
        for threads in options.threads:
            results = measure(
                {name: CONTESTANTS[name] for name in options.only},
                case,
                threads=threads,
                rounds=options.rounds,
                n_steps=CASES[case][2],
            )
            line = f"{case:20} {threads} thread{'s' if threads > 1 else ' '}"
            eager = results.get("eager")
            for name, (wall, cpu, facts) in results.items():
                share = f" ×{cpu / eager.cpu:.2f}" if eager and name != "eager" else ""
                line += f" | {name} {wall / 1e3:.1f} ({cpu / 1e3:.1f}){share}"
                line += f" {facts['bytes'] / 1e6:.1f} MB"
            print(line, flush=True)


if __name__ == "__main__":
    main()
