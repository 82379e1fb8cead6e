"""Training and layers against numbers recorded from NNTrainer.

Without memory reuse every tensor still holds its last value after a step, so inner
values can be compared as well.
"""

from typing import Any

import numpy as np
import pytest
from helpers.recordings import RECORDINGS, Array, counted_arrays

from arena_ckpt import Model

TOLERANCE = 1e-5
pytestmark = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason=f"NNTrainer's recordings are absent: {RECORDINGS}"
)

Spec = dict[str, Any]


def chain(width: int, *layers: Spec, batch_size: int) -> Model:
    """A chain of fully connected layers on rows of `width`, then mse."""
    model = Model()
    model.add_layer("input", name="in", input_shape=(1, 1, width))
    for layer in layers:
        model.add_layer("fully_connected", **layer)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=batch_size, memory_optimization=False)
    return model


def assert_close(found: Array, recorded: Array, what: str) -> None:
    np.testing.assert_allclose(
        found,
        recorded.reshape(found.shape),
        rtol=TOLERANCE,
        atol=TOLERANCE,
        err_msg=what,
    )


def inner(model: Model, tensor: str) -> Array:
    """What a tensor holds since the last step."""
    assert model._session is not None
    return model._session.views.named(tensor).copy()


FC_34: tuple[Spec, ...] = ({"name": "fc", "unit": 4},)
ADAM: Spec = {"learning_rate": 0.1, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
MODELS: dict[str, tuple[tuple[Spec, ...], str, Spec]] = {
    "fc_sgd": (FC_34, "sgd", {"learning_rate": 0.001}),
    "fc_adam": (FC_34, "adam", ADAM),
    "fc_adamw": (FC_34, "adamw", {**ADAM, "weight_decay": 0.01}),
    "non_trainable_fc_idx1": (
        (
            {"name": "fc1", "unit": 10, "activation": "relu", "trainable": False},
            {"name": "fc2", "unit": 10, "activation": "relu"},
            {"name": "fc3", "unit": 2, "activation": "sigmoid"},
        ),
        "sgd",
        {"learning_rate": 0.1},
    ),
    "fc_relu_decay": (
        (
            {"name": "fc1", "unit": 10, "activation": "relu", "weight_decay": 0.9},
            {"name": "fc2", "unit": 2, "activation": "sigmoid", "bias_decay": 0.9},
        ),
        "sgd",
        {"learning_rate": 0.1},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_train_as_recorded(name: str) -> None:
    layers, optimizer, hyperparameters = MODELS[name]
    path = RECORDINGS / "models" / f"{name}.nnmodelgolden"
    (iterations,) = np.frombuffer(path.read_bytes(), "<i4", 1)
    batch_size = next(counted_arrays(path, 4)).size // 3
    arrays = counted_arrays(path, 4)
    model = chain(3, *layers, batch_size=batch_size)
    model.set_optimizer(optimizer, **hyperparameters)
    model.initialize()

    for iteration in range(iterations):
        x = next(arrays).reshape(-1, 3)
        y = next(arrays).reshape(len(x), -1)
        for weight, value in model.weights().items():
            recorded = next(arrays)
            if iteration == 0:
                model.set_weights({weight: recorded.reshape(value.shape)})
            else:
                assert_close(value, recorded, f"{weight} before step {iteration}")
        assert_close(model.predict(x), next(arrays), f"output of step {iteration}")
        model.train_step(x, y)
    assert next(arrays, None) is None


def test_every_tensor_of_ten_iterations_is_as_recorded() -> None:
    data = np.fromfile(RECORDINGS / "models/fc_relu_mse.info", "<f4")
    place = 0

    def take(*shape: int) -> Array:
        nonlocal place
        place += int(np.prod(shape, dtype=int))
        return data[place - int(np.prod(shape, dtype=int)) : place].reshape(shape)

    model = chain(
        3,
        # an identity, restored after each step, whose output's derivative is that of
        # the input of fc1
        {"name": "identity", "unit": 3, "bias": False},
        {"name": "fc1", "unit": 10, "activation": "relu"},
        {"name": "fc2", "unit": 2, "activation": "sigmoid"},
        batch_size=3,
    )
    model.set_optimizer("sgd", learning_rate=0.1)
    model.initialize()
    x, y = take(3, 3), take(3, 2)
    shapes = {name: w.shape for name, w in model.weights().items()}
    identity = shapes.pop("identity:weight")
    model.set_weights({name: take(*shape) for name, shape in shapes.items()})

    for iteration in range(10):
        model.set_weights({"identity:weight": np.eye(*identity)})
        loss = model.train_step(x, y)
        weights = model.weights()

        def check(tensor: str, iteration: int = iteration) -> None:
            found = inner(model, tensor)
            recorded = take(*found.shape)
            assert_close(found, recorded, f"{tensor} in iteration {iteration}")

        check("in:out0")
        take(3, 3)  # the derivative of the data, which we do not compute
        for layer, source in (("fc1", "identity"), ("fc2", "fc1/activation_realized")):
            check(f"{layer}:out0")
            check(f"{source}:out0:grad")
            check(f"{layer}:weight:grad")
            check(f"{layer}:bias:grad")
            for weight in (f"{layer}:weight", f"{layer}:bias"):
                recorded = take(*weights[weight].shape)
                assert_close(weights[weight], recorded, f"{weight} after {iteration}")
            check(f"{layer}/activation_realized:out0")
            check(f"{layer}:out0:grad")
        assert_close(np.float32([loss]), take(1), f"loss {iteration}")
    assert place == data.size


def test_the_fully_connected_layer_is_as_recorded() -> None:
    path = RECORDINGS / "layers/fc_plain.nnlayergolden"
    weight, bias, x, out, d_weight, d_bias, weight_after, bias_after, d_x = (
        counted_arrays(path, 0)
    )
    model = chain(
        10,
        {"name": "identity", "unit": 10, "bias": False},
        {"name": "fc", "unit": 5},
        batch_size=3,
    )
    model.initialize()
    model.set_weights(
        {
            "identity:weight": np.eye(10),
            "fc:weight": weight.reshape(10, 5),
            "fc:bias": bias,
        }
    )
    x = x.reshape(3, 10)

    prediction = model.predict(x)
    # mse hands 2 · (prediction − label) / 15 to the layer: here 2 everywhere
    _, gradients = model.compute_gradients(x, prediction - 15)

    assert_close(inner(model, "fc:out0:grad"), np.full((3, 5), 2.0), "incoming")
    assert_close(prediction, out, "output")
    assert_close(gradients["fc:weight"], d_weight, "weight gradient")
    assert_close(gradients["fc:bias"], d_bias, "bias gradient")
    assert_close(inner(model, "identity:out0:grad"), d_x, "input derivative")
    weights = model.weights()
    assert_close(weights["fc:weight"], weight_after, "weight after")
    assert_close(weights["fc:bias"], bias_after, "bias after")
