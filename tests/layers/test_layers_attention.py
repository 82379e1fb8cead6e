"""Attention, normalization, embedding, positions, dropout and SwiGLU as layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.recordings import RECORDINGS, counted_arrays
from helpers.same_bits import assert_same_bits
from helpers.strategies import OPTIMIZERS, ModelSpec, normal

from arena_ckpt import Model
from arena_ckpt.errors import (
    GraphError,
    InvalidParameterError,
    ShapeMismatchError,
)
from arena_ckpt.layers import LAYER_TYPES

Array = npt.NDArray[Any]
Shape = tuple[int, int, int]
TOLERANCE = 1e-5
N = 3


@dataclass(frozen=True)
class Probe:
    """A layer after one linear layer for each input, before a linear layer and mse."""

    kind: str
    values: Mapping[str, Any]
    shapes: tuple[Shape, ...]
    fixed: tuple[int, ...] = ()

    def model(self, **properties: Any) -> Model:
        model = Model(seed=3)
        sources = []
        for i, shape in enumerate(self.shapes):
            model.add_layer("input", name=f"in{i}", input_shape=shape)
            source = f"in{i}"
            if i not in self.fixed:
                source = f"pre{i}"
                model.add_layer(
                    "fully_connected",
                    name=source,
                    unit=shape[2],
                    input_layers=[f"in{i}"],
                )
            sources.append(source)
        model.add_layer(self.kind, name="it", input_layers=sources, **self.values)
        model.add_layer("mse", name="loss")
        model.set_property(batch_size=N, **properties)
        model.set_optimizer("sgd", learning_rate=0.1)
        return model


def inner(model: Model, tensor: str) -> Array:
    assert model._session is not None
    return model._session.views.named(tensor).copy()


def assert_near(
    found: Array, expected: Array, what: str, least_scale: float = 1e-6
) -> None:
    expected = np.asarray(expected).reshape(found.shape)
    scale = max(float(np.abs(expected).max()), least_scale)
    assert np.abs(found - expected).max() <= TOLERANCE * scale, what


Judge = Callable[..., Any]


def assert_follows_torch(
    probe: Probe, judge: Judge, *, ids: int | None = None, state: tuple[str, ...] = ()
) -> Model:
    """Compare output, weight gradients and input derivatives; `judge` gets tensors.

    `judge` is called with the inputs in order and the weights by name.
    """
    torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    model = probe.model(memory_optimization=False)
    model.initialize()
    generator = np.random.default_rng(1)
    model.set_weights(
        {
            name: np.abs(w) if name.endswith("variance") else w
            for name, old in model.weights().items()
            for w in (normal(generator, *old.shape) if old.ndim == 1 else old,)
        }
    )
    x = {
        f"in{i}": (
            generator.integers(0, ids, (N, *shape)).astype(np.float32)
            if ids is not None
            else normal(generator, N, *shape)
        )
        for i, shape in enumerate(probe.shapes)
    }
    assert model._session is not None
    y = normal(generator, *inner(model, "it:out0").shape).reshape(N, -1)
    _, gradients = model.compute_gradients(x, y)
    sources = [
        torch.tensor(x[f"in{i}"] if i in probe.fixed else inner(model, f"pre{i}:out0"))
        for i in range(len(probe.shapes))
    ]
    for i, source in enumerate(sources):
        source.requires_grad_(i not in probe.fixed)
    weights = {
        name.removeprefix("it:"): torch.tensor(w, requires_grad=name not in state)
        for name, w in model.weights().items()
        if name.startswith("it:")
    }
    out = judge(*sources, **weights)
    assert_near(inner(model, "it:out0"), out.detach().numpy(), "out0")
    torch.nn.functional.mse_loss(out.reshape(N, -1), torch.tensor(y)).backward()
    # Softmax cancels the bias of the keys: its gradient is noise of the others'.
    least = max((0.1 * float(np.abs(g).max()) for g in gradients.values()), default=0)
    for name, weight in weights.items():
        if f"it:{name}" in gradients:
            assert_near(gradients[f"it:{name}"], weight.grad.numpy(), name, least)
    for i, source in enumerate(sources):
        if i not in probe.fixed:
            assert_near(
                inner(model, f"pre{i}:out0:grad"), source.grad.numpy(), f"in{i}:grad"
            )
    return model


# -- attention -------------------------------------------------------------------------


def torch_attention(heads: int, causal: bool = False) -> Judge:
    def judge(*inputs: Any, **weights: Any) -> Any:
        import torch

        query, key, value = (inputs[min(i, len(inputs) - 1)] for i in range(3))
        mask = inputs[3] if len(inputs) == 4 else None

        def project(x: Any, name: str) -> Any:
            linear = x @ weights[f"{name}_weight"]
            if f"{name}_bias" in weights:
                linear = linear + weights[f"{name}_bias"]
            return linear

        def split(x: Any, name: str) -> Any:
            return project(x[:, 0], name).unflatten(2, (heads, -1)).transpose(1, 2)

        q, k, v = (
            split(query, "query_fc"),
            split(key, "key_fc"),
            split(value, "value_fc"),
        )
        if mask is not None and causal:
            allowed = torch.ones(q.shape[2], k.shape[2]).tril().bool()
            mask = mask.masked_fill(~allowed, -torch.inf)
        y = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, mask, is_causal=causal and mask is None
        )
        return project(y.transpose(1, 2).flatten(2), "fc")

    return judge


SELF: tuple[Shape, ...] = ((1, 5, 8),)
CROSS: tuple[Shape, ...] = ((1, 5, 8), (1, 7, 6))
THREE: tuple[Shape, ...] = ((1, 5, 8), (1, 7, 6), (1, 7, 3))
MASKED: tuple[Shape, ...] = (*THREE, (1, 5, 7))
MASKED_BY_HEAD: tuple[Shape, ...] = (*THREE, (2, 5, 7))
LONG: tuple[Shape, ...] = ((1, 130, 8), (1, 300, 6))


@pytest.mark.parametrize("attention", ["plain", "tiled"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("shapes", [SELF, CROSS, THREE, MASKED, MASKED_BY_HEAD, LONG])
def test_attention(shapes: tuple[Shape, ...], causal: bool, attention: str) -> None:
    values = {"num_heads": 2, "is_causal": causal, "attention": attention}
    fixed = (3,) if len(shapes) == 4 else ()
    probe = Probe("multi_head_attention", values, shapes, fixed)
    assert_follows_torch(probe, torch_attention(2, causal))


@pytest.mark.parametrize(
    "values",
    [
        {"projected_key_dim": 3},
        {"projected_key_dim": 3, "projected_value_dim": 5, "output_shape": 7},
        {"disable_bias": True},
        {"bias": False, "num_heads": 1},
        {"num_heads": 8},
    ],
    ids=str,
)
def test_attention_properties(values: dict[str, Any]) -> None:
    values = {"num_heads": 2, **values}
    probe = Probe("multi_head_attention", values, SELF)
    assert_follows_torch(probe, torch_attention(values["num_heads"]))


@pytest.mark.parametrize("attention", ["plain", "tiled"])
@pytest.mark.parametrize("shapes", [SELF, CROSS, MASKED])
def test_frozen_attention_passes_the_derivative_on(
    shapes: tuple[Shape, ...], attention: str
) -> None:
    values = {"num_heads": 2, "attention": attention, "trainable": False}
    fixed = (3,) if len(shapes) == 4 else ()
    probe = Probe("multi_head_attention", values, shapes, fixed)
    assert_follows_torch(probe, torch_attention(2))


def test_auto_keeps_probabilities_where_they_are_small() -> None:
    def saved(tokens: int, attention: str) -> set[str]:
        values = {"num_heads": 2, "attention": attention}
        shapes = ((1, tokens, 16),)
        plan = Probe("multi_head_attention", values, shapes).model().make_plan()
        return {t.name for t in plan.tensors}

    for tokens, attention, is_plain in (
        (8, "auto", True),
        (9, "auto", False),
        (8, "tiled", False),
        (9, "plain", True),
    ):
        names = saved(tokens, attention)
        assert ("it:attention_weight" in names) is is_plain
        assert ("it:log_sums" in names) is not is_plain


def test_tiled_attention_has_no_tensor_of_queries_by_keys() -> None:
    values = {"num_heads": 2}
    probe = Probe("multi_head_attention", values, ((1, 1024, 8),))
    plan = probe.model().make_plan()
    largest = max(t.size_bytes for t in plan.tensors if t.layer == "it")
    assert largest < 1024 * 1024


def test_what_attention_can_not_do_is_named() -> None:
    def refused(shapes: tuple[Shape, ...], **values: Any) -> str:
        probe = Probe("multi_head_attention", values, shapes, fixed=(3,))
        with pytest.raises(ShapeMismatchError) as caught:
            probe.model().make_plan()
        return str(caught.value)

    assert "set it, for example num_heads=8" in refused(SELF)
    assert "width 8 among 3 heads" in refused(SELF, num_heads=3)
    assert "7 keys (1:7:6) and 6 values (1:6:3)" in refused(
        ((1, 5, 8), (1, 7, 6), (1, 6, 3)), num_heads=2
    )
    assert "mask of shape 1:7:5; expected 1:5:7" in refused(
        (*THREE, (1, 7, 5)), num_heads=2
    )
    assert "or 2:5:7 (one for each head)" in refused((*THREE, (3, 5, 7)), num_heads=2)
    assert "query of shape 2:5:8" in refused(((2, 5, 8),), num_heads=2)
    with pytest.raises(GraphError, match="takes 1 to 4 input"):
        Probe(
            "multi_head_attention", {"num_heads": 2}, (*MASKED, (1, 1, 1)), (3,)
        ).model().make_plan()
    with pytest.raises(InvalidParameterError, match="expected one of auto, plain"):
        Probe("multi_head_attention", {"attention": "flash"}, SELF).model()
    with pytest.raises(InvalidParameterError, match="at least 0 and below 1"):
        Probe("multi_head_attention", {"dropout_rate": 1.0}, SELF).model()


@pytest.mark.parametrize("attention", ["plain", "tiled"])
def test_attention_dropout_is_off_outside_training(attention: str) -> None:
    values = {"num_heads": 2, "attention": attention}
    with_dropout = Probe(
        "multi_head_attention", {**values, "dropout_rate": 0.5}, SELF
    ).model()
    without = Probe("multi_head_attention", values, SELF).model()
    x = normal(np.random.default_rng(0), N, 40)
    for model in (with_dropout, without):
        model.initialize()
    assert np.array_equal(with_dropout.predict(x), without.predict(x))
    y = np.zeros((N, 40), np.float32)
    loss = with_dropout.compute_gradients(x, y)[0]
    assert loss != without.compute_gradients(x, y)[0]
    assert loss == with_dropout.compute_gradients(x, y)[0]
    with_dropout.train_step(x, y)  # the next iteration drops others
    with_dropout.set_weights(without.weights())
    assert loss != with_dropout.compute_gradients(x, y)[0]


# -- normalization ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [{}, {"is_causal": True}, {"dropout_rate": 0.25}, {"projected_value_dim": 2}],
    ids=str,
)
@pytest.mark.parametrize("attention", ["plain", "tiled"])
def test_gradients_behind_a_layer_that_grows_without_bound(
    attention: str, values: dict[str, Any]
) -> None:
    """Each query sees one key alone: rounding times the keys gave gradients of 1e4."""
    pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    from helpers.torch_judge import TorchJudge

    model = Model(seed=3)
    model.add_layer("input", name="in0", input_shape=(1, 4, 9))
    model.add_layer("fully_connected", name="huge", unit=6)
    model.add_layer(
        "multi_head_attention",
        name="it",
        input_layers=["huge", "huge", "in0"],
        num_heads=2,
        attention=attention,
        **values,
    )
    model.add_layer("fully_connected", name="out", unit=3)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=8)
    model.set_optimizer("sgd", learning_rate=0.1)
    model.initialize()
    model.set_weights({"huge:weight": 1e7 * model.weights()["huge:weight"]})
    generator = np.random.default_rng(1)
    x, y = {"in0": normal(generator, 8, 1, 4, 9)}, normal(generator, 8, 12)
    _, ours = model.compute_gradients(x, y)
    (_, exact), (_, theirs) = (
        TorchJudge(model, dtype).compute_gradients(x, y)
        for dtype in ("float64", "float32")
    )
    for name, gradient in ours.items():
        error = np.abs(theirs[name] - exact[name]).max()
        floor = 4e-6 * np.abs(exact[name]).max()
        assert np.abs(gradient - exact[name]).max() <= 4 * error + floor, name


@pytest.mark.parametrize("axis", [(1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)])
def test_layer_normalization(axis: tuple[int, ...]) -> None:
    def judge(x: Any, gamma: Any, beta: Any) -> Any:
        shape = [x.shape[a] if a in axis else 1 for a in (1, 2, 3)]
        mean = x.mean(axis, keepdim=True)
        variance = x.var(axis, unbiased=False, keepdim=True)
        x_hat = (x - mean) / (variance + 1e-3).sqrt()
        return x_hat * gamma.reshape(shape) + beta.reshape(shape)

    probe = Probe("layer_normalization", {"axis": axis}, ((3, 4, 5),))
    assert_follows_torch(probe, judge)


@pytest.mark.parametrize("width", [3, 33, 100])
def test_layer_normalization_is_over_the_width_by_default(width: int) -> None:
    def judge(x: Any, gamma: Any, beta: Any) -> Any:
        import torch

        return torch.nn.functional.layer_norm(x, (width,), gamma, beta, eps=0.1)

    probe = Probe("layer_normalization", {"epsilon": 0.1}, ((1, 4, width),))
    assert_follows_torch(probe, judge)


def test_rms_norm() -> None:
    def judge(x: Any, gamma: Any) -> Any:
        import torch

        return torch.nn.functional.rms_norm(x, (35,), gamma, eps=1e-3)

    assert_follows_torch(Probe("rms_norm", {}, ((2, 4, 35),)), judge)


def torch_batch_norm(training: bool) -> Judge:
    def judge(
        x: Any, moving_mean: Any, moving_variance: Any, gamma: Any, beta: Any
    ) -> Any:
        import torch

        by_channel = x.shape[1] > 1
        y = torch.nn.functional.batch_norm(
            x if by_channel else x.flatten(0, 2),
            moving_mean.detach().clone(),
            moving_variance.detach().clone(),
            gamma,
            beta,
            training=training,
            eps=1e-3,
        )
        return y.reshape(x.shape)

    return judge


@pytest.mark.parametrize(
    "shape", [(4, 2, 3), (2, 8, 8), (5, 1, 1), (1, 1, 7), (1, 6, 40)]
)
@pytest.mark.parametrize("trainable", [True, False])
def test_batch_normalization(shape: Shape, trainable: bool) -> None:
    probe = Probe("batch_normalization", {"trainable": trainable}, (shape,))
    assert_follows_torch(probe, torch_batch_norm(training=trainable))


@pytest.mark.parametrize("shape", [(4, 2, 3), (1, 1, 7)])
def test_moving_statistics_move_once_a_step_and_serve_predictions(shape: Shape) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    probe = Probe("batch_normalization", {"momentum": 0.9}, (shape,), fixed=(0,))
    model = probe.model(memory_optimization=False)
    model.initialize()
    x = normal(np.random.default_rng(0), N, *shape)
    y = np.zeros((N, x[0].size), np.float32)
    model.compute_gradients(x, y)
    assert (model.weights()["it:moving_mean"] == 0).all()
    axes = (0, 2, 3) if shape[0] > 1 else (0, 1, 2)
    mean, variance = np.zeros(1), np.ones(1)
    for _ in range(3):
        model.train_step(x, y)
        mean = 0.9 * mean + 0.1 * x.mean(axes, dtype=np.float64)
        variance = 0.9 * variance + 0.1 * x.astype(np.float64).var(axes)
    weights = model.weights()
    assert_near(weights["it:moving_mean"], mean, "mean")
    assert_near(weights["it:moving_variance"], variance, "variance")
    judge = torch_batch_norm(training=False)
    expected = judge(
        torch.tensor(x),
        **{name.removeprefix("it:"): torch.tensor(w) for name, w in weights.items()},
    )
    assert_near(model.predict(x), expected.numpy(), "prediction")


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 7), (3, 2, 2)])
def test_the_moving_variance_is_biased_or_pytorchs(
    shape: Shape, unbiased: bool
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    n = 4
    channels = shape[0] if shape[0] > 1 else shape[2]
    given = {"momentum": 0.9, "epsilon": 1e-5, "unbiased_variance": unbiased}
    model = Model()
    model.add_layer("input", name="in", input_shape=shape)
    model.add_layer("batch_normalization", name="bn", **given)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=n)
    model.set_optimizer("sgd", learning_rate=1e-30)
    model.initialize()
    kind = torch.nn.BatchNorm2d if shape[0] > 1 else torch.nn.BatchNorm1d
    judge = kind(channels, momentum=0.1).train()
    for step in range(20):
        size = n if step % 3 else n - 1  # n / (n - 1) is that of the batch at hand
        x = 3 * normal(np.random.default_rng(step), size, *shape)
        judge(torch.tensor(x if shape[0] > 1 else x.reshape(size, -1)))
        model.train_step(x.reshape(size, -1), np.zeros((size, x[0].size), np.float32))
    weights = model.weights()
    mean, variance = judge.running_mean.numpy(), judge.running_var.numpy()
    np.testing.assert_allclose(weights["bn:moving_mean"], mean, rtol=1e-5, atol=1e-6)
    if unbiased:
        np.testing.assert_allclose(weights["bn:moving_variance"], variance, rtol=1e-5)
    else:
        assert (weights["bn:moving_variance"] < 0.97 * variance).all()


def test_of_two_values_the_unbiased_variance_is_twice_the_biased() -> None:
    kept = {}
    for unbiased in (False, True):
        probe = Probe(
            "batch_normalization",
            {"momentum": 0, "unbiased_variance": unbiased},
            ((1, 1, 1),),
            fixed=(0,),
        )
        model = probe.model()
        model.initialize()
        model.train_step(np.array([[1.0], [5.0]]), np.zeros((2, 1)))
        kept[unbiased] = float(model.weights()["it:moving_variance"][0])
    assert kept[False] == pytest.approx(4, rel=1e-5)
    assert kept[True] == pytest.approx(8, rel=1e-5)


def test_equal_values_have_no_variance_at_all() -> None:
    """Its rounded inverse deviation says 3e-11."""
    probe = Probe("batch_normalization", {"momentum": 0}, ((1, 1, 3),))
    model = probe.model()
    model.initialize()
    model.train_step(np.full((3, 3), 0.7), np.zeros((3, 3)))
    assert model.weights()["it:moving_variance"].tolist() == [0.0, 0.0, 0.0]


def test_an_axis_out_of_range_is_named() -> None:
    for axis in ((0,), (4,), (3, 7)):
        probe = Probe("layer_normalization", {"axis": axis}, SELF)
        with pytest.raises(ShapeMismatchError, match="expected some of 1"):
            probe.model().make_plan()


# -- embedding, positions, dropout, SwiGLU ---------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 6), (1, 6, 1)])
def test_embedding(shape: Shape) -> None:
    def judge(ids: Any, weight: Any) -> Any:
        import torch

        return torch.nn.functional.embedding(ids.long().reshape(N, 1, -1), weight)

    probe = Probe("embedding", {"in_dim": 5, "out_dim": 4}, (shape,), fixed=(0,))
    assert_follows_torch(probe, judge, ids=5)


def test_what_embedding_can_not_do_is_named() -> None:
    for values, shape, message in (
        ({"in_dim": 5}, (1, 1, 3), "needs in_dim and out_dim"),
        ({"in_dim": 5, "out_dim": 4}, (2, 1, 3), "ids of shape 2:1:3"),
        ({"in_dim": 5, "out_dim": 4}, (1, 2, 3), "ids of shape 1:2:3"),
        ({"in_dim": 2**25, "out_dim": 1}, (1, 1, 3), "at most 16,777,216"),
    ):
        probe = Probe("embedding", values, (shape,), fixed=(0,))
        with pytest.raises(ShapeMismatchError, match=message):
            probe.model().make_plan()


@pytest.mark.parametrize("width", [1, 7, 16])
def test_positional_encoding(width: int) -> None:
    def judge(x: Any) -> Any:
        import torch

        column = np.arange(width)
        angle = np.arange(9)[:, None] / 10000.0 ** (column // 2 * 2 / width)
        code = np.where(column % 2 == 0, np.sin(angle), np.cos(angle))
        return x + torch.tensor(code.astype(np.float32))

    probe = Probe("positional_encoding", {"max_timestep": 9}, ((1, 9, width),))
    assert_follows_torch(probe, judge)


def test_what_positional_encoding_can_not_do_is_named() -> None:
    probe = Probe("positional_encoding", {"max_timestep": 4}, SELF)
    with pytest.raises(ShapeMismatchError, match="5 rows and max_timestep=4"):
        probe.model().make_plan()
    probe = Probe("positional_encoding", {}, ((2, 4, 5),))
    with pytest.raises(ShapeMismatchError, match="expected 1:positions:features"):
        probe.model().make_plan()


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_dropout_derives_what_it_kept(rate: float) -> None:
    model = Probe("dropout", {"dropout_rate": rate}, ((2, 5, 8),)).model(
        memory_optimization=False
    )
    model.initialize()
    x = normal(np.random.default_rng(0), N, 80)
    prediction = model.predict(x)
    np.testing.assert_array_equal(prediction, inner(model, "pre0:out0"))
    model.compute_gradients(x, np.ones((N, 80), np.float32))
    before, after = inner(model, "pre0:out0"), inner(model, "it:out0")
    factor = np.float32(1 / (1 - rate))
    kept = after != 0
    assert abs(kept.mean() - (1 - rate)) < 0.15
    np.testing.assert_array_equal(after[kept], before[kept] * factor)
    derivative = inner(model, "it:out0:grad")
    expected = np.where(kept, derivative * factor, 0)
    np.testing.assert_array_equal(inner(model, "pre0:out0:grad"), expected)


def test_micro_batches_drop_what_the_whole_batch_drops() -> None:
    losses = []
    for micro_batches in (1, 3):
        model = Probe("dropout", {"dropout_rate": 0.5}, SELF).model(
            micro_batches=micro_batches
        )
        model.initialize()
        x = normal(np.random.default_rng(0), N, 40)
        losses.append(model.compute_gradients(x, np.ones((N, 40), np.float32))[0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("fixed", [(), (0,), (1,)])
def test_swiglu(fixed: tuple[int, ...]) -> None:
    def judge(a: Any, b: Any) -> Any:
        import torch

        return torch.nn.functional.silu(a) * b

    probe = Probe("swiglu", {}, ((2, 3, 4), (2, 3, 4)), fixed)
    assert_follows_torch(probe, judge)


def test_swiglu_of_different_shapes_is_named() -> None:
    with pytest.raises(ShapeMismatchError, match="1:5:8 and 1:7:6"):
        Probe("swiglu", {}, CROSS).model().make_plan()


# -- recordings ------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["plain", "tiled"])
@pytest.mark.parametrize(
    ("file", "kind", "shapes", "values"),
    [
        ("ln_axis_3", "layer_normalization", [(4, 2, 3)], {"axis": 3}),
        ("bn_channels_training", "batch_normalization", [(4, 2, 3)], {}),
        (
            "multi_head_attention",
            "multi_head_attention",
            [(1, 5, 7), (1, 3, 7), (1, 3, 7)],
            {"num_heads": 2, "projected_key_dim": 3},
        ),
    ],
)
def test_recordings_of_nntrainer(
    file: str, kind: str, shapes: list[Shape], values: dict[str, Any], attention: str
) -> None:
    """The derivative of the output is 2; so is that of mse for the right labels."""
    if not RECORDINGS.is_dir():
        pytest.skip(f"NNTrainer's recordings are absent: {RECORDINGS}")
    if kind == "multi_head_attention":
        values = {**values, "attention": attention}
    path = RECORDINGS / "layers" / f"{file}.nnlayergolden"
    arrays = list(counted_arrays(path, 0))
    n, model = 2, Model()
    for i, shape in enumerate(shapes):
        model.add_layer("input", name=f"in{i}", input_shape=shape)
        model.add_layer("fully_connected", name=f"pre{i}", unit=shape[2], bias=False)
    sources = [f"pre{i}" for i in range(len(shapes))]
    model.add_layer(kind, name="it", input_layers=sources, **values)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=n, memory_optimization=False)
    model.set_optimizer("sgd", learning_rate=1e-30)
    model.initialize()
    names = [name for name in model.weights() if name.startswith("it:")]
    trained = [name for name in names if "moving" not in name]
    shapes_of = {name: w.shape for name, w in model.weights().items()}

    def take(count: int) -> list[Array]:
        taken, arrays[:count] = arrays[:count], []
        return taken

    initial = dict(zip(names, take(len(names)), strict=True))
    x, (y,) = take(len(shapes)), take(1)
    identity = {
        f"pre{i}:weight": np.eye(shape[2], dtype=np.float32)
        for i, shape in enumerate(shapes)
    }
    model.set_weights(
        identity | {name: w.reshape(shapes_of[name]) for name, w in initial.items()}
    )
    inputs = {f"in{i}": array.reshape(n, -1) for i, array in enumerate(x)}
    label = y.reshape(n, -1) - y.size  # 2 (y - label) / size = 2
    n_steps = 5 if kind == "batch_normalization" else 1
    _, gradients = model.compute_gradients(inputs, label)
    found = [inner(model, "it:out0"), *(gradients[name] for name in trained)]
    derivatives = [inner(model, f"pre{i}:out0:grad") for i in range(len(shapes))]
    for _ in range(n_steps):
        model.train_step(inputs, label)
    found += [model.weights()[name] for name in names] + derivatives
    recorded = [y, *take(len(trained)), *take(len(names)), *take(len(shapes))]
    for number, (ours, theirs) in enumerate(zip(found, recorded, strict=True)):
        np.testing.assert_allclose(
            ours, theirs.reshape(ours.shape), rtol=1e-4, atol=2e-5, err_msg=str(number)
        )


# -- same bits -------------------------------------------------------------------------


@dataclass(frozen=True)
class TokenSpec(ModelSpec):
    """A model whose input ``ids`` holds whole numbers below 6."""

    def batch(self, n: int, seed: int = 0) -> tuple[Any, Any]:
        x, y = super().batch(n, seed)
        generator = np.random.default_rng(seed)
        x["ids"] = generator.integers(0, 6, x["ids"].shape).astype(np.float32)
        return x, y


def token_spec(
    *layers: tuple[str, dict[str, Any]],
    blocks: tuple[tuple[str, ...], ...] = (),
    **properties: Any,
) -> TokenSpec:
    named = [(kind, {"name": f"{kind}{i}", **v}) for i, (kind, v) in enumerate(layers)]
    return TokenSpec(
        (
            ("input", {"name": "ids", "input_shape": (1, 1, 5)}),
            ("embedding", {"name": "embed", "in_dim": 6, "out_dim": 4}),
            *named,
            ("fully_connected", {"name": "head", "unit": 2}),
            ("mse", {"name": "loss"}),
        ),
        blocks,
        {"batch_size": 4, **properties},
        OPTIMIZERS[3],
    )


MEMBERS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "plain": [("multi_head_attention", {"num_heads": 2, "attention": "plain"})],
    "tiled": [
        (
            "multi_head_attention",
            {"num_heads": 2, "attention": "tiled", "is_causal": True},
        )
    ],
    "dropping plain": [
        (
            "multi_head_attention",
            {"num_heads": 2, "attention": "plain", "dropout_rate": 0.3},
        )
    ],
    "dropping tiled": [
        (
            "multi_head_attention",
            {"num_heads": 2, "attention": "tiled", "dropout_rate": 0.3},
        )
    ],
    "frozen": [("multi_head_attention", {"num_heads": 2, "trainable": False})],
    "layer": [("layer_normalization", {})],
    "layer over two": [("layer_normalization", {"axis": (1, 2)})],
    "rms": [("rms_norm", {})],
    "batch": [("batch_normalization", {})],
    "frozen batch": [("batch_normalization", {"trainable": False})],
    "positions": [("positional_encoding", {})],
    "dropout": [("dropout", {"dropout_rate": 0.4})],
}


@pytest.mark.parametrize("properties", [{}, {"micro_batches": 2}], ids=str)
@pytest.mark.parametrize("name", MEMBERS)
def test_same_bits_in_any_place_of_a_block(
    name: str, properties: dict[str, Any]
) -> None:
    member = MEMBERS[name]
    fully_connected = ("fully_connected", {"unit": 4})
    layers = [fully_connected, *member, ("activation", {"activation": "gelu"})]
    names = [f"{kind}{i}" for i, (kind, _) in enumerate(layers)]
    for block in (names, names[:2], names[1:], [*names, "head"]):
        assert_same_bits(token_spec(*layers, blocks=(tuple(block),), **properties))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("attention", ["plain", "tiled"])
@pytest.mark.parametrize("blocks", ["whole", "halves", "open"])
def test_same_bits_of_a_transformer(
    norm_first: bool, attention: str, blocks: str
) -> None:
    """Two layers with residual connections, dropout everywhere and SwiGLU."""
    layers: list[tuple[str, dict[str, Any]]] = [
        ("input", {"name": "ids", "input_shape": (1, 1, 5)}),
        ("embedding", {"name": "embed", "in_dim": 6, "out_dim": 4}),
        ("positional_encoding", {"name": "positions"}),
    ]
    groups: list[tuple[str, ...]] = []
    source = "positions"
    for i in range(2):

        def add(kind: str, name: str, *sources: str, i: int = i, **v: Any) -> str:
            name = f"{name}{i}"
            layers.append((kind, {"name": name, "input_layers": list(sources), **v}))
            return name

        values = {"num_heads": 2, "attention": attention, "dropout_rate": 0.1}
        inside = source
        if norm_first:
            inside = add("layer_normalization", "norm_a", source)
        inside = add("multi_head_attention", "attention", inside, **values)
        inside = add("dropout", "drop_a", inside, dropout_rate=0.1)
        inside = add("addition", "sum_a", source, inside)
        if not norm_first:
            inside = add("layer_normalization", "norm_a", inside)
        source = inside
        if norm_first:
            inside = add("rms_norm", "norm_b", inside)
        gate = add("fully_connected", "gate", inside, unit=6)
        value = add("fully_connected", "value", inside, unit=6)
        inside = add("swiglu", "swiglu", gate, value)
        inside = add("fully_connected", "down", inside, unit=4)
        inside = add("addition", "sum_b", source, inside)
        if not norm_first:
            inside = add("batch_normalization", "norm_b", inside)
        source = inside
        members = [str(v["name"]) for _, v in layers if str(v["name"]).endswith(str(i))]
        if blocks == "whole":
            groups.append(tuple(members))
        elif blocks == "halves":
            groups += [tuple(members[:4]), tuple(members[4:])]
        else:
            groups.append(tuple(members[1:-2]))
    layers.append(("fully_connected", {"name": "head", "unit": 2}))
    layers.append(("mse", {"name": "loss"}))
    properties = {"batch_size": 4}
    assert_same_bits(TokenSpec(tuple(layers), tuple(groups), properties, OPTIMIZERS[3]))


def test_attention_with_three_inputs_of_one_layer_or_of_three() -> None:
    for sources in (["a", "a", "a"], ["a", "b", "b"], ["a", "b"], ["b", "a", "embed"]):
        layers = (
            ("input", {"name": "ids", "input_shape": (1, 1, 5)}),
            ("input", {"name": "mask", "input_shape": (2, 5, 5)}),
            ("embedding", {"name": "embed", "input_layers": ["ids"], "in_dim": 6}),
            ("fully_connected", {"name": "a", "unit": 4, "input_layers": ["embed"]}),
            ("fully_connected", {"name": "b", "unit": 4, "input_layers": ["embed"]}),
            (
                "multi_head_attention",
                {
                    "name": "it",
                    "num_heads": 2,
                    "input_layers": [*sources, "mask"]
                    if len(sources) == 3
                    else sources,
                },
            ),
            ("addition", {"name": "sum", "input_layers": ["it", "a", "b", "embed"]}),
            ("mse", {"name": "loss"}),
        )
        layers[2][1]["out_dim"] = 4
        used = tuple(
            layer
            for layer in layers
            if len(sources) == 3 or "mask" not in layer[1]["name"]
        )
        assert_same_bits(TokenSpec(used, (("a", "b", "it"),), {"batch_size": 3}))


def test_every_layer_of_the_family_is_registered() -> None:
    assert set(LAYER_TYPES) >= {
        "multi_head_attention",
        "layer_normalization",
        "batch_normalization",
        "rms_norm",
        "embedding",
        "positional_encoding",
        "dropout",
        "swiglu",
    }
