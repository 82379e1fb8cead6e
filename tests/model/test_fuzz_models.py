"""Random networks beside PyTorch, and faults that the comparison has to see."""

from __future__ import annotations

import os
import signal
from ast import literal_eval
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")

from fuzzing import models
from fuzzing.guard import Finding
from fuzzing.models import Child, check_network
from fuzzing.networks import NetworkSpec, with_normal_statistics
from fuzzing.target import run_target
from fuzzing.targets import TARGETS
from helpers.scale import how_many
from helpers.torch_judge import JUDGED, rate_of

import arena_ckpt as ac
from arena_ckpt import Model
from arena_ckpt.layers import LAYER_TYPES, Binding, Call
from arena_ckpt.layers.arithmetic import Subtract
from arena_ckpt.layers.dense import FullyConnected
from arena_ckpt.layers.loss import MeanSquaredError
from arena_ckpt.lowering.calls import Lowering
from arena_ckpt.operations.families import reductions
from arena_ckpt.optim.learning_rates import SCHEDULE_SCHEMAS


def test_random_networks() -> None:
    """A fixed sample; `tools/fuzz.py --target models --inputs 2000` runs more."""
    n_networks = how_many(20, 300)
    outcome = run_target(TARGETS["models"], n_networks, None, shrinks=False)
    models.CHILD.close()
    assert outcome.finding is None, (
        f"{outcome.finding}\n{outcome.smallest!r}\n{outcome.smallest.python()}"
    )
    assert models.CHILD.outcomes["judged"] >= 0.8 * outcome.n_inputs


def test_nothing_is_left_out() -> None:
    losses = {name for name, layer in LAYER_TYPES.items() if layer.is_loss}
    own = {name for name in LAYER_TYPES if LAYER_TYPES[name].__module__[:5] != "arena"}
    assert set(LAYER_TYPES) - losses - own == JUDGED
    judged = {"mse", "mae", "huber", "cross_softmax", "cross_sigmoid", "kld"}
    assert losses == judged | {"mean_loss"}  # which has no labels for a judge to take


@pytest.mark.parametrize("kind", SCHEDULE_SCHEMAS)
def test_the_judge_has_schedules_of_its_own(kind: str) -> None:
    values: dict[str, Any] = {"max_learning_rate": 0.5, "min_learning_rate": 0.1}
    values["decay_steps"] = 4
    if kind in ("constant", "exponential"):
        values = {"learning_rate": 0.5, "decay_rate": 0.3, "decay_steps": 4}
    if kind == "step":
        values = {"iteration": (1, 3), "learning_rate": (0.5, 0.2, 0.1)}
    if kind == "constant":
        values = {"learning_rate": 0.5}
    schedule = ac.create_schedule(kind, **values)
    ours = [schedule.learning_rate_at(i) for i in range(9)]
    theirs = [rate_of(kind, values, i) for i in range(9)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


# -- a network of each family ----------------------------------------------------------


def written(text: str, **given: Any) -> NetworkSpec:
    """Return a network from lines ``name = type(inputs) | key=value | …``.

    A layer reads the one of the line before where no inputs are given; two dots go on
    with that line.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    for line in text.replace("\n    ..", "").strip().splitlines():
        head, *pairs = line.split(" | ")
        name, _, call = head.strip().partition(" = ")
        kind, _, sources = call.strip().removesuffix(")").partition("(")
        values: dict[str, Any] = {"name": name}
        if sources:
            values["input_layers"] = sources.split(", ")
        for pair in pairs:
            key, _, value = pair.strip().partition("=")
            values[key] = literal_eval(value)
        layers.append((kind, values))
    given = {"properties": {"batch_size": 5}, "last": 3, **given}
    return NetworkSpec(tuple(layers), **given)


SHARED_WEIGHTS = written(
    """
    in = input | input_shape=(1, 1, 6)
    c = fully_connected | unit=6 | shared_from='a' | bias_decay=0.3
    a = fully_connected | unit=6 | weight_regularizer='l2norm' | weight_decay=0.1
    drop = dropout | dropout_rate=0.5
    b = fully_connected | unit=6 | shared_from='a' | weight_regularizer='l2norm'
    sum = addition(b, c, drop)
    frozen = fully_connected | unit=4 | trainable=False
    d = fully_connected | unit=3
    loss = cross_sigmoid
    """,
    blocks=(("a", "drop", "b"), ("sum", "frozen")),
    properties={"batch_size": 5, "micro_batches": 2, "clip_grad_by_norm": 0.5},
    optimizer=("adam", {"learning_rate": 0.01}),
    schedule=(
        "exponential",
        {"learning_rate": 0.05, "decay_rate": 0.5, "decay_steps": 2},
    ),
    share=0.5,
)
PICTURES = written(
    """
    in = input | input_shape=(3, 7, 5)
    conv = conv2d | filters=4 | kernel_size=(3, 2) | padding=(1, 0, 0, 2)
    norm = batch_normalization | momentum=0.5 | unbiased_variance=True
    act = activation | activation='relu'
    depth = depthwiseconv2d | kernel_size=(3, 3) | stride=(2, 2) | padding='same'
    wide = conv2dtranspose | filters=2 | kernel_size=(2, 3) | stride=(3, 2)
    .. | padding=(1, 0, 0, 1) | output_padding=(1, 0)
    turned = permute | direction=(3, 1, 2)
    far = conv2d | filters=3 | kernel_size=(2, 2) | stride=(3, 3) | dilation=(1, 2)
    moving = batch_normalization | trainable=False
    most = pooling2d(wide) | pooling='max' | pool_size=(2, 3) | stride=(3, 2)
    .. | padding=(1, 0, 2, 1)
    mean = pooling2d(wide) | pooling='average' | pool_size=(3, 2) | stride=(2, 2)
    .. | padding=(0, 1, 1, 0)
    larger = upsample2d(most) | upsample='bilinear' | kernel_size=(1, 2)
    part = slice(mean) | axis=2 | start_index=2 | end_index=4
    row = reshape(part) | target_shape=(2, 1, -1)
    line = conv1d | filters=2 | kernel_size=2 | stride=3 | padding='causal'
    x = flatten(moving)
    y = flatten(larger)
    z = flatten(line)
    all = concat(x, y, z) | axis=3
    out = fully_connected | unit=4
    loss = cross_softmax
    """,
    blocks=(("conv", "norm", "act", "depth"), ("far", "moving")),
    optimizer=("sgd", {"learning_rate": 0.02, "momentum": 0.9}),
    share=0.3,
)
SEQUENCES = written(
    """
    ids = input | input_shape=(1, 1, 4)
    rows = embedding | in_dim=7 | out_dim=6
    placed = positional_encoding
    mask = input | input_shape=(1, 4, 4)
    seen = multi_head_attention(placed, placed, rows, mask) | num_heads=2
    .. | is_causal=True | dropout_rate=0.25 | attention='tiled'
    join = addition(seen, placed)
    norm = layer_normalization
    both = lstm | unit=3 | bidirectional=True | return_sequences=True
    self = multi_head_attention | num_heads=3 | attention='plain'
    step = gru | unit=3 | return_sequences=True | unroll=True
    other = gru(self) | unit=3 | reset_after=False | dropout_rate=0.25
    steps = split(step) | axis=2
    first = lstmcell(steps) | unit=3
    second = lstmcell(steps(1), first, first(1)) | unit=3 | shared_from='first'
    third = grucell(steps(2), second) | unit=3
    fourth = rnncell(steps(3), third) | unit=3
    cell = rms_norm(second(1))
    wide = concat(fourth, other, cell) | axis=3
    dense = fully_connected | unit=6
    out = reshape | target_shape=(1, 2, 3)
    loss = cross_softmax | per_token=True
    """,
    blocks=(("seen", "join", "norm"), ("both", "self")),
    optimizer=("adamw", {"learning_rate": 0.01, "weight_decay": 0.1}),
    properties={"batch_size": 5, "micro_batches": 3},
    allow=("tiled_attention", "micro_batch"),
    share=0.5,
)
ARITHMETIC = written(
    """
    a = input | input_shape=(2, 3, 4)
    b = input | input_shape=(1, 3, 1)
    p = fully_connected(a) | unit=4 | activation='tanh'
    q = fully_connected(b) | unit=1 | activation='sigmoid'
    added = add(p, q)
    less = subtract(q, added)
    times = multiply(less, q)
    ratio = divide(times, q)
    swapped = permute(p) | direction=(1, 3, 2)
    product = matmul(swapped, ratio)
    minus = negative
    bounded = activation | activation='softplus'
    power = pow | exponent=-0.5
    root = sqrt(bounded)
    gate = swiglu(power, root)
    twice = identity(gate, product)
    sums = reduce_sum(twice) | axis=2
    means = reduce_mean(twice(1)) | axis=1
    flat = flatten(means)
    more = flatten(sums)
    all = concat(flat, more) | axis=3
    out = fully_connected | unit=3
    shares = activation | activation='softmax'
    loss = kld
    """,
    blocks=(("added", "less", "times", "ratio"), ("minus", "bounded", "power")),
    optimizer=("sgd", {"learning_rate": 0.02, "momentum": 0.8, "nesterov": True}),
    share=0.5,
)
FAMILIES = {
    "shared": SHARED_WEIGHTS,
    "pictures": PICTURES,
    "sequences": SEQUENCES,
    "arithmetic": ARITHMETIC,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_of_each_family(family: str) -> None:
    assert check_network(FAMILIES[family]) == "judged"


# -- faults that have to be seen -------------------------------------------------------

INPUT = ("input", {"name": "in", "input_shape": (1, 1, 5)})
LOSS = ("mse", {"name": "loss"})


def network(*layers: tuple[str, dict[str, Any]], **given: Any) -> NetworkSpec:
    """Return a network of a few layers."""
    properties = {"batch_size": 4, **given.pop("properties", {})}
    blocks = given.pop("blocks", ())
    optimizer = ("sgd", {"learning_rate": 0.05})
    return NetworkSpec(
        (INPUT, *layers, LOSS), blocks, properties, optimizer, last=3, **given
    )


DENSE = network(
    ("fully_connected", {"name": "a", "unit": 6, "activation": "tanh"}),
    ("fully_connected", {"name": "b", "unit": 3}),
    blocks=(("a", "a/activation_realized"),),
)
DIFFERENCE = network(
    ("fully_connected", {"name": "a", "unit": 3, "input_layers": ["in"]}),
    ("fully_connected", {"name": "b", "unit": 3, "input_layers": ["in"]}),
    ("subtract", {"name": "c", "input_layers": ["a", "b"]}),
)
SHARED = network(
    ("fully_connected", {"name": "a", "unit": 5}),
    ("fully_connected", {"name": "b", "unit": 5, "shared_from": "a"}),
)
ONE = np.ones(1)


def one_percent(patch: pytest.MonkeyPatch) -> None:
    """Make the gradient of the layer 'b' a hundredth too large."""
    right = FullyConnected.calc_gradient

    def wrong(self: FullyConnected, tensors: Binding) -> list[Call]:
        calls = right(self, tensors)
        if self.name == "b":
            gradient = tensors.vector("weight:grad")
            more = Call(reductions.l2_gradient, (gradient, 0.01, ONE, gradient))
            calls.append(more)
        return calls

    patch.setattr(FullyConnected, "calc_gradient", wrong)


def swapped(patch: pytest.MonkeyPatch) -> None:
    """Subtract the first input from the second."""
    right = Subtract.forward

    def wrong(self: Subtract, tensors: Binding) -> list[Call]:
        return [Call(k, (b, a, y)) for k, (a, b, y) in right(self, tensors)]

    patch.setattr(Subtract, "forward", wrong)


def missing_term(patch: pytest.MonkeyPatch) -> None:
    """Forget the gradients of layers that share the weights and came before."""
    patch.setattr(Lowering, "_accumulates", lambda self, _: self.settings.add_gradients)


def wrong_last_batch(patch: pytest.MonkeyPatch) -> None:
    """Divide by the batch size where a batch has fewer samples."""
    right = MeanSquaredError.term_scale
    patch.setattr(
        MeanSquaredError,
        "term_scale",
        lambda self, shape, n: right(self, shape, 4 if n == 3 else n),
    )


def loss_twice(patch: pytest.MonkeyPatch) -> None:
    """Report twice the loss where memory is shared."""
    right = Model.train_step

    def wrong(self: Model, x: Any, y: Any) -> float:
        is_shared = self.get_property("memory_optimization")
        return (1 + is_shared) * right(self, x, y)

    patch.setattr(Model, "train_step", wrong)


FAULTS: dict[Callable[[pytest.MonkeyPatch], None], tuple[NetworkSpec, str]] = {
    one_percent: (DENSE, "gradient of b:weight at first is off"),
    swapped: (DIFFERENCE, "loss at first is off"),
    missing_term: (SHARED, "gradient of a:weight at first is off"),
    wrong_last_batch: (DENSE, "loss of step 3 is off"),
    loss_twice: (DENSE, "memory reused: other bits in loss of step 1"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_fault_is_found(
    fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, expected = FAULTS[fault]
    assert check_network(spec) == "judged"
    fault(monkeypatch)
    with pytest.raises(Finding, match=expected):
        check_network(spec)


def test_rounding_that_counts_for_much_is_no_finding() -> None:
    """In float32, a 1,000 times smaller variance is mostly rounding."""
    layers = (
        ("fully_connected", {"name": "a", "unit": 4}),
        ("layer_normalization", {"name": "b", "epsilon": 1e-9}),
        ("layer_normalization", {"name": "c", "epsilon": 1e-9}),
    )
    spec = replace(network(*layers), optimizer=("adam", {"learning_rate": 0.01}))
    assert check_network(spec) == "judged"


def test_batch_normalizations_see_two_values_at_least() -> None:
    """Others are frozen: they would be refused."""
    layer = ("batch_normalization", {"name": "a"})
    of = {5: True, 3: False}  # samples in micro-batches of two
    for n, trainable in of.items():
        properties = {"batch_size": n, "micro_batches": 2}
        spec = with_normal_statistics(network(layer, properties=properties))
        assert spec.layers[1][1].get("trainable", True) == trainable, n


# -- the child -------------------------------------------------------------------------


class Deadly(NetworkSpec):
    """A network that kills the process."""

    def begun(self, **settings: Any) -> Model:
        if settings.get("debug"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().begun(**settings)


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.close()


def test_a_crash_is_a_finding_and_the_next_network_runs(child: Child) -> None:
    deadly = Deadly(**{f: getattr(DENSE, f) for f in DENSE.__dataclass_fields__})
    with pytest.raises(Finding, match=r"exit code -9\) at: debug mode"):
        child.check(deadly)
    child.check(DENSE)
    assert child.outcomes == {"judged": 1}


def test_a_finding_shows_a_program_that_builds_the_model() -> None:
    spec = replace(DENSE, schedule=("constant", {"learning_rate": 0.5}))
    made: dict[str, Any] = {}
    exec(TARGETS["models"].show(spec), made)
    expected, model = spec.model(), made["model"]
    expected.initialize()
    assert model.plan == expected.plan
    assert model.schedule == expected.schedule
    batch = spec.batch(4)
    assert model.train_step(*batch) == expected.train_step(*batch)
