"""Chains of random stages, for tests and benchmarks of the search over them."""

from __future__ import annotations

import numpy as np

from arena_ckpt.checkpoint.chain import Chain, SaveOption, SoloOption
from arena_ckpt.checkpoint.chain_dp import solve


def random_chain(n: int, seed: int = 0) -> Chain:
    """Return `n` stages whose cuts are one tensor of some MiB each."""
    random = np.random.default_rng(seed)
    cut = random.integers(1 << 18, 1 << 22, n + 1)
    work = random.integers(0, 1 << 20, n)
    derivative = cut.copy()
    derivative[0] = 0
    cuts = np.triu(np.broadcast_to(cut, (n + 1, n + 1)), 1)
    sweep = np.triu(np.broadcast_to(cut[1:] + work, (n, n)))
    sweep += np.triu(np.broadcast_to(cut[:-1], (n, n)), 1)
    forward = random.uniform(1, 10, n)
    saves, solos = [], []
    for s in range(n):
        inner = int(random.integers(0, 4 * cut[s + 1]))
        backward = int(cut[s + 1] + inner + derivative[s] + derivative[s + 1] + work[s])
        options = []
        for part, again in ((1, 0.0), (2, 0.1), (4, 0.3)):
            saved = int(cut[s + 1]) + inner // part
            peak = saved + int(work[s])
            options.append(SaveOption(saved, peak, backward, (2 + again) * forward[s]))
        saves.append(tuple(options))
        solos.append((SoloOption(backward, 3 * forward[s]),) if s < n - 1 else ())
    return Chain(cuts, derivative, sweep, forward, tuple(saves), tuple(solos))


def fingerprint() -> str:
    """Describe every schedule of a chain."""
    table = solve(random_chain(12), 1 << 26, n_slots=60)
    text = [table.times.tobytes().hex()]
    for slot in table.front_slots:
        text += [f"{a.kind.value}{a.stage}.{a.option}" for a in table.schedule(slot)]
    return " ".join(text)
