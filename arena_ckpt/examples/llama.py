"""A small Llama: blocks of rotary attention in groups and SwiGLU, and a tied head."""

from __future__ import annotations

from arena_ckpt.examples.builder import Builder
from arena_ckpt.model import Model


def llama_tiny(
    n_layers: int = 2,
    d: int = 64,
    heads: int = 4,
    heads_kv: int = 2,
    ff: int = 176,
    *,
    length: int = 64,
    vocabulary: int = 96,
    batch_size: int = 16,
    checkpoint: bool = True,
    seed: int = 0,
) -> Model:
    """Return a causal transformer as Llama is made, for text a character at a time.

    Parameters
    ----------
    n_layers : int
        Blocks of attention and linear layers.
    d : int
        Features of a position.
    heads, heads_kv : int
        Heads of queries, and of the keys and values that groups of them share.
    ff : int
        Features between the linear layers of a block.
    length, vocabulary, batch_size, checkpoint, seed
        As of `networks.gpt`.

    References
    ----------
    Touvron et al., "Llama 2: Open Foundation and Fine-Tuned Chat Models", 2023.
    """
    build = Builder(seed, checkpoint)
    build.add("input", "in", input_shape=(1, 1, length))
    last = build.add("embedding", "tokens", in_dim=vocabulary, out_dim=d)
    for i in range(n_layers):
        build.begin_block()
        last = _add_attention(build, last, str(i), d, heads, heads_kv)
        last = _add_feed_forward(build, last, str(i), d, ff)
        build.end_block(f"layer{i}")
    build.add("rms_norm", "norm", epsilon=1e-5)
    build.add(
        "fully_connected",
        "logits",
        unit=vocabulary,
        bias=False,
        shared_from="tokens",
        transpose=True,
    )
    build.add("cross_softmax", "loss", per_token=True)
    build.model.set_property(batch_size=batch_size, clip_grad_by_norm=1.0)
    build.model.set_optimizer("adamw", learning_rate=3e-3, weight_decay=0.01)
    return build.model


def _linear(build: Builder, name: str, unit: int, source: str) -> str:
    given = {"unit": unit, "bias": False, "input_layers": source}
    return build.add("fully_connected", name, **given)


def _add_attention(
    build: Builder, source: str, block: str, d: int, heads: int, heads_kv: int
) -> str:
    """Add normalization, grouped attention and the residual connection."""
    normal = build.add("rms_norm", f"norm{block}a", epsilon=1e-5, input_layers=source)
    sources = []
    for part, count in (("query", heads), ("key", heads_kv)):
        _linear(build, f"{part}{block}", d // heads * count, normal)
        turned = f"turned_{part}{block}"
        sources.append(build.add("rotary_embedding", turned, num_heads=count))
    sources.append(_linear(build, f"value{block}", d // heads * heads_kv, normal))
    found = build.add(
        "attention",
        f"attention{block}",
        num_heads=heads,
        num_heads_kv=heads_kv,
        is_causal=True,
        input_layers=sources,
    )
    out = _linear(build, f"out{block}", d, found)
    return build.add("addition", f"add{block}a", input_layers=(source, out))


def _add_feed_forward(build: Builder, source: str, block: str, d: int, ff: int) -> str:
    """Add normalization, SwiGLU between linear layers and the residual connection."""
    normal = build.add("rms_norm", f"norm{block}b", epsilon=1e-5, input_layers=source)
    gate = _linear(build, f"gate{block}", ff, normal)
    up = _linear(build, f"up{block}", ff, normal)
    product = build.add("swiglu", f"swiglu{block}", input_layers=(gate, up))
    down = _linear(build, f"down{block}", d, product)
    return build.add("addition", f"add{block}b", input_layers=(source, down))
