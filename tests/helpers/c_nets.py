"""Small models of many kinds, in portable arithmetic, as projects in C train them."""

from __future__ import annotations

from collections.abc import Callable

from arena_ckpt import Model, create_optimizer, create_schedule


def _model(batch_size: int = 8, **properties: object) -> Model:
    model = Model(seed=3)
    model.set_property(arithmetic="portable", batch_size=batch_size, **properties)
    return model


def dense() -> Model:
    """Return a classifier with the optimizer Adam."""
    model = _model()
    model.add_layer("input", name="in", input_shape="1:1:12")
    model.add_layer("fully_connected", name="fc1", unit=16, activation="relu")
    model.add_layer("fully_connected", name="fc2", unit=16, activation="tanh")
    model.add_layer("fully_connected", name="out", unit=5)
    model.add_layer("cross_softmax", name="loss")
    model.add_checkpoint_block(["fc1", "fc2"])
    model.set_optimizer(create_optimizer("adam", learning_rate=0.01))
    return model


def momentum() -> Model:
    """Return a regression with momentum, decay, a penalty, clipping, a schedule."""
    model = _model(clip_grad_by_norm=0.5)
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer(
        *("fully_connected",),
        name="fc1",
        unit=8,
        activation="sigmoid",
        weight_regularizer="l2norm",
        weight_regularizer_constant=0.01,
        weight_decay=0.001,
    )
    model.add_layer("fully_connected", name="out", unit=3)
    model.add_layer("mse", name="loss")
    model.set_optimizer(
        create_optimizer("sgd", learning_rate=0.1, momentum=0.9, nesterov=True)
    )
    model.set_learning_rate_scheduler(
        create_schedule(
            "cosine", max_learning_rate=0.1, min_learning_rate=0.01, decay_steps=7
        )
    )
    return model


def pictures() -> Model:
    """Return convolutions with batch normalization, pooling and dropout."""
    model = _model(batch_size=6)
    model.add_layer("input", name="in", input_shape="2:8:8")
    model.add_layer(
        "conv2d", name="conv1", filters=4, kernel_size=(3, 3), padding="same"
    )
    model.add_layer("batch_normalization", name="bn1")
    model.add_layer("activation", name="act1", activation="relu")
    model.add_layer("pooling2d", name="pool", pooling="max", pool_size=(2, 2))
    model.add_layer("conv2d", name="conv2", filters=6, kernel_size=(3, 3))
    model.add_layer("activation", name="act2", activation="gelu")
    model.add_layer("flatten", name="flat")
    model.add_layer("dropout", name="drop", dropout_rate=0.25)
    model.add_layer("fully_connected", name="out", unit=4)
    model.add_layer("cross_softmax", name="loss")
    model.set_optimizer(create_optimizer("adamw", weight_decay=0.01))
    return model


def micro_batches() -> Model:
    """Return the pictures in micro-batches of two sizes."""
    model = pictures()
    model.set_property(batch_size=8, micro_batches=3)
    return model


def frozen() -> Model:
    """Return the pictures with a convolution that stays as it is."""
    model = _model(batch_size=4)
    model.add_layer("input", name="in", input_shape="2:8:8")
    model.add_layer(
        *("conv2d",),
        name="conv1",
        filters=4,
        kernel_size=(3, 3),
        padding="same",
        trainable=False,
    )
    model.add_layer("activation", name="act1", activation="relu")
    model.add_layer("flatten", name="flat")
    model.add_layer("fully_connected", name="out", unit=4)
    model.add_layer("cross_softmax", name="loss")
    return model


def partly_trained() -> Model:
    """Return a network that trains some weights of its layers, in micro-batches."""
    model = _model(batch_size=4, micro_batches=2)
    model.add_layer("input", name="in", input_shape="2:8:8")
    same = {"kernel_size": (3, 3), "padding": "same"}
    model.add_layer("conv2d", name="conv", filters=4, **same, trainable="bias")
    model.add_layer("batch_normalization", name="bn", statistics="moving", train="beta")
    model.add_layer("depthwiseconv2d", name="deep", **same, train="bias")
    model.add_layer("layer_normalization", name="norm", train="gamma")
    model.add_layer("flatten", name="flat")
    model.add_layer("fully_connected", name="out", unit=4, trainable="bias")
    model.add_layer("cross_softmax", name="loss")
    return model


def tokens() -> Model:
    """Return a transformer of tokens whose output layer is the transposed embedding."""
    model = _model(batch_size=4)
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("embedding", name="embedding", in_dim=11, out_dim=8, padding_idx=2)
    model.add_layer("positional_encoding", name="places")
    model.add_layer(
        "multi_head_attention",
        name="attention",
        num_heads=2,
        num_heads_kv=1,
        lora_rank=2,
        input_layers=["places", "places", "places"],
    )
    model.add_layer("layer_normalization", name="norm", axis=3)
    tied = {"shared_from": "embedding", "transpose": True, "disable_bias": True}
    model.add_layer("fully_connected", name="out", unit=11, **tied)
    model.add_layer("cross_softmax", name="loss", per_token=True)
    model.set_optimizer(create_optimizer("adam"))
    return model


def llama() -> Model:
    """Return a block with rotary positions, grouped heads, SwiGLU and a tied head."""
    model = _model(batch_size=3)
    model.add_layer("input", name="in", input_shape="1:1:5")
    model.add_layer("embedding", name="table", in_dim=9, out_dim=8)
    model.add_layer("rms_norm", name="norm")
    for name, unit, heads in (("q", 8, 2), ("k", 4, 1)):
        model.add_layer("fully_connected", name=name, unit=unit, input_layers="norm")
        model.add_layer("rotary_embedding", name=f"turned_{name}", num_heads=heads)
    model.add_layer("fully_connected", name="v", unit=4, input_layers="norm")
    model.add_layer(
        "attention",
        name="attention",
        num_heads=2,
        num_heads_kv=1,
        is_causal=True,
        dropout_rate=0.2,
        input_layers=["turned_q", "turned_k", "v"],
    )
    model.add_layer("addition", name="sum", input_layers=["table", "attention"])
    model.add_layer("fully_connected", name="gate", unit=6, input_layers="sum")
    model.add_layer("fully_connected", name="up", unit=6, input_layers="sum")
    model.add_layer("swiglu", name="swiglu", input_layers=["gate", "up"])
    model.add_layer("fully_connected", name="down", unit=8)
    tied = {"shared_from": "table", "transpose": True, "bias_initializer": "ones"}
    model.add_layer("fully_connected", name="head", unit=9, **tied)
    model.add_layer("cross_softmax", name="loss", per_token=True)
    return model


def segmentation() -> Model:
    """Return a convolution with a class for each pixel, some of which count more."""
    model = _model(batch_size=3)
    model.add_layer("input", name="in", input_shape="2:5:6")
    model.add_layer(
        *("conv2d",),
        name="conv",
        filters=3,
        kernel_size=(3, 3),
        padding="same",
        learning_rate_scale=0.5,
    )
    model.add_layer(
        *("cross_softmax",),
        name="loss",
        axis=1,
        per_token=True,
        class_weight=(1, 4, 0.5),
        label_smoothing=0.1,
    )
    model.set_optimizer(create_optimizer("rmsprop", momentum=0.5, clip_value=0.01))
    return model


def tables() -> Model:
    """Return tokens with learned places, scaled by given numbers, in micro-batches."""
    model = _model(batch_size=5, micro_batches=2)
    model.add_layer("input", name="in", input_shape="1:4:6")
    model.add_layer("weight", name="places", dim="1:4:6")
    model.add_layer("add", name="placed", input_layers=["in", "places"])
    model.add_layer("constant", name="scales", dim="1:1:6", value="1,2,.5,-1,.1,3")
    model.add_layer("multiply", name="scaled", input_layers=["scales", "placed"])
    model.add_layer("weight", name="mixing", dim="1:6:3")
    model.add_layer("matmul", name="mixed", input_layers=["scaled", "mixing"])
    model.add_layer("weight", name="rows", dim="1:4:1", value=1.5)
    model.add_layer("divide", name="divided", input_layers=["mixed", "rows"])
    model.add_layer("weight", name="token", dim="1:1:3")
    model.add_layer("concat", name="all", axis=2, input_layers=["token", "divided"])
    model.add_layer("weight", name="turned", dim="1:3:5")
    model.add_layer("expand", name="copies", activation="tanh")
    model.add_layer("permute", name="back", direction="1,3,2")
    model.add_layer("addition", name="sum", input_layers=["all", "back"])
    model.add_layer("flatten", name="flat")
    model.add_layer("fully_connected", name="out", unit=3)
    model.add_layer("cross_softmax", name="loss")
    model.set_optimizer(create_optimizer("adam"))
    return model


def recurrent() -> Model:
    """Return sequences of several lengths, kept states, and a growing learning rate."""
    model = _model(batch_size=3)
    model.add_layer("input", name="in", input_shape="1:5:4")
    model.add_layer("input", name="lengths", input_shape="1:1:1")
    both = {"bidirectional": True, "return_sequences": True, "return_state": True}
    model.add_layer("lstm", name="lstm", unit=3, input_layers="in,lengths", **both)
    model.add_layer("gru", name="gru", unit=6, stateful=3, input_layers="lstm")
    model.add_layer("concat", name="joined", axis=3, input_layers="gru,lstm(1),lstm(2)")
    model.add_layer("fully_connected", name="out", unit=3)
    model.add_layer("cross_softmax", name="loss")
    model.set_learning_rate_scheduler(
        create_schedule(
            "exponential", learning_rate=0.05, decay_rate=1.3, decay_steps=9
        )
    )
    return model


def touched_rows() -> Model:
    """Return ids before a GRU, whose embedding is updated in the rows of a batch."""
    model = _model(batch_size=3, micro_batches=2)
    model.add_layer("input", name="in", input_shape="1:1:5")
    model.add_layer("embedding", name="table", in_dim=40, out_dim=4, sparse=True)
    model.add_layer("gru", name="gru", unit=6)
    model.add_layer("fully_connected", name="out", unit=3)
    model.add_layer("cross_softmax", name="loss")
    return model


TAGS = {"per_token": True, "ignore_label": 0, "class_weight": "1,2,1,0.5,3"}


def heads() -> Model:
    """Return a body with two losses of unlike weights, one with sample weights."""
    model = _model(batch_size=6)
    model.add_layer("input", name="in", input_shape="1:3:4")
    model.add_layer("fully_connected", name="rows", unit=5, activation="tanh")
    model.add_layer("cross_softmax", name="tag", **TAGS)
    model.add_layer("flatten", name="flat", input_layers="rows")
    model.add_layer(
        *("fully_connected",),
        name="out",
        unit=2,
        weight_regularizer="l2norm",
        weight_regularizer_constant=0.01,
    )
    model.add_layer("input", name="share", input_shape="1:1:1")
    model.add_layer("mse", name="angle", weight=0.25, input_layers="out,share")
    model.set_optimizer(create_optimizer("sgd", learning_rate=0.1))
    return model


def elements() -> Model:
    """Return functions with numbers, choices, and layers along an axis."""
    model = _model(batch_size=5)

    def add(kind: str, name: str, *sources: str, **values: object) -> None:
        inputs = {"input_layers": sources} if sources else {}
        model.add_layer(kind, name=name, **inputs, **values)

    add("input", "in", input_shape="2:3:4")
    add("input", "places", input_shape="1:1:2")
    add("fully_connected", "fc1", "in", unit=6, activation="hard_swish")
    add("batch_normalization", "bn", activation="sin")
    add("prelu", "slopes", num_parameters=2)
    add("drop_path", "path", dropout_rate=0.4)
    add("addition", "skip", "path", "slopes", activation="sigmoid_gelu")
    add("activation", "soft", activation="softmax(axis=1)")
    add("maximum", "most", "skip", "soft", activation="clamp(-1, 2)")
    add("minimum", "least", value=0.5, activation="exp")
    add("slice", "condition", "in", axis=3, end_index=2, activation="relu6")
    add("where", "chosen", "condition", "least", "skip")
    add("gather", "some", "chosen", "places", axis=2)
    add("cumsum", "sums", axis=2, activation="leaky_relu(0.2)")
    add("reduce_prod", "product", axis=3, activation="hard_sigmoid")
    add("reduce_max", "greatest", "sums", axis=3, activation="cos")
    add("norm", "norm", "sums", axis=3, activation="elu(0.5)")
    add("cosine_similarity", "alike", "sums", "some", axis=3, activation="tan")
    add("concat", "all", "product", "greatest", "norm", "alike", axis=3)
    add("multiply", "twice", value=2.0, activation="abs")
    add("flatten", "flat")
    add("fully_connected", "out", unit=2)
    add("mse", "loss")
    model.add_checkpoint_block(["slopes", "path", "skip", "soft"])
    model.set_optimizer(create_optimizer("sgd", learning_rate=0.001))
    return model


def unlabelled() -> Model:
    """Return a model that computes its loss, in micro-batches."""
    model = _model(batch_size=5, micro_batches=2)
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="fc", unit=4, activation="tanh")
    model.add_layer("pow", name="squares", exponent=2)
    model.add_layer("mean_loss", name="loss", weight=2)
    given = {"learning_rate": 0.001, "centered": True, "momentum": 0.5}
    model.set_optimizer(create_optimizer("rmsprop", **given))
    return model


NETS: dict[str, Callable[[], Model]] = {
    "dense": dense,
    "momentum": momentum,
    "pictures": pictures,
    "micro_batches": micro_batches,
    "frozen": frozen,
    "tokens": tokens,
    "segmentation": segmentation,
    "tables": tables,
    "llama": llama,
    "recurrent": recurrent,
    "touched_rows": touched_rows,
    "heads": heads,
    "elements": elements,
    "unlabelled": unlabelled,
}
"""The models by name."""
