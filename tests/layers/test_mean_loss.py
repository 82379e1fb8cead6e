"""The loss `mean_loss` takes what it reads for the loss, without labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.kernel_calls import SIZES, assert_same_bits, normal, poison, run_entry

import arena_ckpt as ac
from arena_ckpt import Model
from arena_ckpt.cli import main
from arena_ckpt.errors import EmptyDataError, InvalidParameterError
from arena_ckpt.kernels import mean_loss

GENERATOR = np.random.default_rng(5)
N = 10
X = GENERATOR.standard_normal((N, 6)).astype(np.float32)
Y = GENERATOR.standard_normal((N, 6)).astype(np.float32)
WEIGHTS = GENERATOR.uniform(0, 2, N).astype(np.float32)


def alone(*, weighted: bool = False, **properties: Any) -> Model:
    """Return a model whose last layer computes the loss of each sample."""
    model = Model(seed=1)
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="fc", unit=4)
    model.add_layer("pow", name="squares", exponent=2)
    model.add_layer("reduce_sum", name="terms", axis=3)
    given: dict[str, Any] = {}
    if weighted:
        model.add_layer("input", name="trust", input_shape="1:1:1")
        given["input_layers"] = "terms,trust"
    model.add_layer("mean_loss", name="loss", **given)
    model.set_property(**{"batch_size": N, **properties})
    model.set_optimizer("sgd", learning_rate=0.05)
    return model


def autoencoder(**properties: Any) -> Model:
    """Return one whose code is also kept small, as that of a variational one."""
    model = Model(seed=1)
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="code", unit=3, activation="tanh")
    model.add_layer("fully_connected", name="out", unit=6)
    model.add_layer("mse", name="fit")
    model.add_layer("multiply", name="squares", input_layers=["code", "code"])
    model.add_layer("mean_loss", name="size", weight=0.5)
    model.set_property(**{"batch_size": N, **properties})
    model.set_optimizer("sgd", learning_rate=0.05)
    return model


def initialized(model: Model, **given: Any) -> Model:
    model.initialize(**given)
    return model


def bits(model: Model) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.weights().items()}


@pytest.mark.parametrize("size", SIZES)
def test_the_kernels_add_up_and_write_the_factor(size: int) -> None:
    terms, dx = normal(size), poison(size)
    loss, scale = np.array([3.0]), np.array([0.25])
    run_entry(mean_loss.mean_loss, terms, scale, loss)
    expected = 3 + 0.25 * terms.astype(np.float64).sum()
    np.testing.assert_allclose(loss[0], expected, rtol=1e-12)
    run_entry(mean_loss.mean_derivative, scale, dx)
    assert_same_bits(dx, np.full(size, 0.25, np.float32))


def test_pytorch_agrees() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    model = initialized(autoencoder(micro_batches=3))
    weights = {
        k: torch.tensor(v, requires_grad=True) for k, v in model.weights().items()
    }
    code = torch.tanh(torch.tensor(X) @ weights["code:weight"] + weights["code:bias"])
    out = code @ weights["out:weight"] + weights["out:bias"]
    loss = torch.nn.functional.mse_loss(out, torch.tensor(Y)) + 0.5 * (code**2).mean()
    loss.backward()
    found, gradients = model.compute_gradients(X, {"fit": Y})
    assert found == pytest.approx(float(loss.detach()), rel=1e-6)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, weights[name].grad, rtol=1e-4, atol=1e-7)


def test_there_is_no_label_in_the_plan() -> None:
    assert not [t.name for t in alone().make_plan().tensors if "label" in t.name]
    tensors = [t.name for t in autoencoder().make_plan().tensors if "label" in t.name]
    assert tensors == ["fit:label"]


class Batches:
    """Samples alone, as often as they are asked for."""

    def __init__(self, *beside: None) -> None:
        self.beside = beside

    def __iter__(self) -> Any:
        for start in (0, 5):
            x = X[start : start + 5]
            yield (x, *self.beside) if self.beside else x


def test_it_trains_on_samples_alone(tmp_path: Path) -> None:
    """However they are given; a data set's labels are left alone."""
    np.savez(tmp_path / "x.npz", x=X)
    sources = [
        *(X, {"in": X}, (X, None), ac.Dataset("mine", X, Y)),
        *(ac.load_npz(tmp_path / "x.npz"), Batches(), Batches(None)),
    ]
    found = []
    for data in sources:
        model = initialized(alone(batch_size=5))
        history = model.train(data, epochs=2, shuffle=False, progress=False)
        found.append((history.epochs[-1].loss, bits(model)))
    assert all(one == found[0] for one in found)
    model = initialized(alone())
    first = model.train_step(X)
    assert model.train_step({"in": X}) < first
    assert model.compute_gradients(X)[0] == model.evaluate(X).loss


def test_what_an_evaluation_says() -> None:
    model = initialized(alone())
    found = model.evaluate(X)
    assert found.metric_name == "mean_output"
    assert found.metrics == {"mean_output": pytest.approx(found.loss)}
    assert found.loss == pytest.approx(model.predict(X).mean(), rel=1e-6)
    assert "mean output" in str(found)
    assert found.report is None
    own = model.evaluate(X, metrics=[lambda outputs, labels: (labels is None) + 0.5])
    assert list(own.metrics.values()) == [1.5]
    with pytest.raises(InvalidParameterError, match="there are 'mean_output'"):
        model.evaluate(X, metrics=["accuracy"])


def test_it_stands_beside_other_losses() -> None:
    model = initialized(autoencoder())
    record = model.train((X, Y), epochs=1, validation=(X, {"fit": Y})).epochs[0]
    fit, size = record.losses["fit"], record.losses["size"]
    assert record.loss == pytest.approx(fit + 0.5 * size)
    metrics = record.validation.metrics
    assert metrics["size_mean_output"] == pytest.approx(
        record.validation.losses["size"]
    )
    assert set(model.predict(X)) == {"fit", "size"}


def test_samples_can_have_weights() -> None:
    model = initialized(alone(weighted=True))
    terms = model.predict(X).reshape(N)
    found = model.evaluate((X, None, WEIGHTS)).loss
    assert found == pytest.approx((terms * WEIGHTS).mean(), rel=1e-6)
    assert model.evaluate(X).loss == pytest.approx(terms.mean(), rel=1e-6)
    assert ac.verify(alone(weighted=True), (X, None, WEIGHTS)).passed


def test_the_bits_are_the_same_in_all_modes() -> None:
    outcomes = []
    for properties in ({"memory_optimization": False}, {}):
        for debug in (False, True):
            model = initialized(alone(**properties), debug=debug)
            losses = [model.train_step(X) for _ in range(3)]
            outcomes.append((losses, bits(model), model.predict(X).tobytes()))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert ac.verify(alone(micro_batches=3)).passed
    inference = initialized(alone(), mode="inference")
    inference.set_weights(model.weights())
    assert inference.predict(X).tobytes() == outcomes[0][2]


def test_a_run_goes_on_from_its_folder(tmp_path: Path) -> None:
    given: dict[str, Any] = {"validation": X, "progress": False}
    whole = initialized(alone(batch_size=5))
    expected = whole.train(X, epochs=4, **given)
    for epochs in (2, 4):
        part = initialized(alone(batch_size=5))
        part.train(X, epochs=epochs, checkpoint=tmp_path, resume=epochs == 4, **given)
    assert bits(part) == bits(whole)
    part.save(tmp_path / "model.safetensors")
    assert ac.load(tmp_path / "model.safetensors").predict(X).shape == (N, 1, 1, 1)
    assert expected.epochs[-1].validation.metric_name == "mean_output"


def test_it_stands_in_an_ini_file(tmp_path: Path) -> None:
    for model in (alone(weighted=True), autoencoder()):
        model.save_ini(tmp_path / "net.ini")
        read = ac.load_ini(tmp_path / "net.ini")
        assert [one.given for one in read.layers] == [one.given for one in model.layers]
        assert read.make_plan() == model.make_plan()


def test_the_command_line_takes_samples_alone(tmp_path: Path) -> None:
    alone(batch_size=5).save_ini(tmp_path / "net.ini")
    np.savez(tmp_path / "x.npz", x=X)
    np.savez(tmp_path / "xy.npz", x=X, y=Y)
    texts = []
    for data in ("x.npz", "xy.npz"):
        given = ["--data", str(tmp_path / data)]
        saved = str(tmp_path / "net.safetensors")
        command = ["train", str(tmp_path / "net.ini"), *given, "--epochs", "1"]
        done = CliRunner().invoke(main, [*command, "--save", saved])
        assert done.exit_code == 0, done.output
        done = CliRunner().invoke(main, ["evaluate", saved, *given])
        assert done.exit_code == 0, done.output
        words = " ".join(done.stdout.split())
        said = re.search(r"10 ([\d.]+) mean output ([\d.]+)", words)
        assert said is not None, done.stdout
        texts.append(said.groups())
    assert texts[0] == texts[1]


# -- wrong use -------------------------------------------------------------------------


def test_labels_are_refused_by_name() -> None:
    model = initialized(alone())
    before = bits(model)
    for y in (Y, {"loss": Y}):
        with pytest.raises(InvalidParameterError, match=r"^'loss': no loss .* labels"):
            model.train((X, y), progress=False)
        with pytest.raises(InvalidParameterError, match="leave it out"):
            model.train_step(X, y)
    assert bits(model) == before


def test_others_still_need_their_labels() -> None:
    model = initialized(autoencoder())
    text = "y has labels of no loss 'size'; the model needs exactly 'fit'"
    with pytest.raises(InvalidParameterError, match=re.escape(text)):
        model.train((X, {"fit": Y, "size": Y}), progress=False)
    for data in (X, (X, None), X.tolist()):
        with pytest.raises((EmptyDataError, InvalidParameterError)):
            model.evaluate(data)
    with pytest.raises(EmptyDataError, match="the data have no labels"):
        model.train_step(X)
