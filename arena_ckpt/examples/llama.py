"""A small Llama: blocks of rotary attention in groups and SwiGLU, and a tied head."""

from __future__ import annotations

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
    model = Model(seed)
    model.add_layer("input", name="in", input_shape=(1, 1, length))
    model.add_layer("embedding", name="tokens", in_dim=vocabulary, out_dim=d)
    last = "tokens"
    for i in range(n_layers):
        before = len(model.layers)
        last = _add_attention(model, last, str(i), heads, heads_kv)
        last = _add_feed_forward(model, last, str(i), ff)
        if checkpoint:
            names = [layer.name for layer in model.layers[before:]]
            model.add_checkpoint_block(names, f"layer{i}")
    model.add_layer("rms_norm", name="norm", epsilon=1e-5)
    model.add_layer(
        "fully_connected",
        name="logits",
        unit=vocabulary,
        bias=False,
        shared_from="tokens",
        transpose=True,
    )
    model.add_layer("cross_softmax", name="loss", per_token=True)
    model.set_property(batch_size=batch_size, clip_grad_by_norm=1.0)
    model.set_optimizer("adamw", learning_rate=3e-3, weight_decay=0.01)
    return model


def _linear(model: Model, name: str, unit: int, source: str) -> str:
    model.add_layer(
        "fully_connected", name=name, unit=unit, bias=False, input_layers=source
    )
    return name


def _add_attention(
    model: Model, source: str, block: str, heads: int, heads_kv: int
) -> str:
    """Add normalization, grouped attention and the residual connection."""
    d = int(model.layers[1]["out_dim"])
    normal = f"norm{block}a"
    model.add_layer("rms_norm", name=normal, epsilon=1e-5, input_layers=source)
    sources = []
    for part, count in (("query", heads), ("key", heads_kv)):
        turned = f"turned_{part}{block}"
        _linear(model, f"{part}{block}", d // heads * count, normal)
        model.add_layer("rotary_embedding", name=turned, num_heads=count)
        sources.append(turned)
    sources.append(_linear(model, f"value{block}", d // heads * heads_kv, normal))
    model.add_layer(
        "attention",
        name=f"attention{block}",
        num_heads=heads,
        num_heads_kv=heads_kv,
        is_causal=True,
        input_layers=sources,
    )
    out = _linear(model, f"out{block}", d, f"attention{block}")
    model.add_layer("addition", name=f"add{block}a", input_layers=(source, out))
    return f"add{block}a"


def _add_feed_forward(model: Model, source: str, block: str, ff: int) -> str:
    """Add normalization, SwiGLU between linear layers and the residual connection."""
    d, normal = int(model.layers[1]["out_dim"]), f"norm{block}b"
    model.add_layer("rms_norm", name=normal, epsilon=1e-5, input_layers=source)
    gate = _linear(model, f"gate{block}", ff, normal)
    up = _linear(model, f"up{block}", ff, normal)
    model.add_layer("swiglu", name=f"swiglu{block}", input_layers=(gate, up))
    down = _linear(model, f"down{block}", d, f"swiglu{block}")
    model.add_layer("addition", name=f"add{block}b", input_layers=(source, down))
    return f"add{block}b"
