"""`verify`: what it proves about models that are right, and what it says otherwise."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers.plan_surgery import NETS
from helpers.strategies import ModelSpec, chain

import arena_ckpt as ac
from arena_ckpt.cli import main
from arena_ckpt.engine.session import Session
from arena_ckpt.errors import DataError, EmptyDataError, NonFiniteError
from arena_ckpt.layers import LAYER_TYPES, Binding, Call, Layer, LayerSpec, Shape
from arena_ckpt.layers.dense import FullyConnected
from arena_ckpt.operations.families import elementwise
from arena_ckpt.verification.batches import make_batches
from arena_ckpt.verification.finite_differences import Verdict, measure_slopes
from arena_ckpt.verification.trial import open_session, run_trial

NAMES = (
    "layout",
    "dataflow",
    "bounds",
    "memory",
    "reads",
    "bits of debug mode",
    "bits of the plan",
    "bits without recomputing",
    "bits without reuse",
    "gradients",
    "processes",
)
MLP = NETS["mlp"]


def verified(model: ac.Model, data: Any = None, **request: Any) -> ac.Verification:
    """Verify and look that nothing failed; other processes are not started."""
    result = ac.verify(model, data, command=("/no/such/program",), **request)
    failed = [f"{c.name}: {c.finding}" for c in result.checks if c.passed is False]
    assert not failed
    assert result.passed
    return result


def left_out(result: ac.Verification) -> dict[str, str]:
    return {c.name: c.finding for c in result.checks if c.passed is None}


# -- what is proved --------------------------------------------------------------------


def test_every_check_passes_in_this_process_and_another() -> None:
    seen = []
    result = ac.verify(MLP.model(), on_check=seen.append)
    assert tuple(check.name for check in result.checks) == NAMES
    assert all(check.passed for check in result.checks)
    assert tuple(seen) == result.checks
    assert result.verdict == "verified: 11 checks passed"
    assert result.data == "made-up samples and labels: 3 batches of 8, the last of 7"
    assert all(check.seconds >= 0 for check in result.checks)
    by_name = {check.name: check.finding for check in result.checks}
    plan = MLP.model().make_plan()
    assert f"{plan.arena_bytes:,} B" in by_name["layout"]
    assert f"{len(plan.steps)} steps" in by_name["dataflow"]
    assert f"{plan.live_lower_bound_bytes:,} B that live" in by_name["bounds"]
    assert "8 of 8 weight tensors" in by_name["gradients"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.data = "other"  # type: ignore[misc]


@pytest.mark.parametrize("net", [n for n in NETS if n not in ("mlp", "chosen")])
def test_every_kind_of_network(net: str) -> None:
    assert set(left_out(verified(NETS[net].model()))) == {"processes"}


TILED = "recompute,in_place,layerwise_update,tiled_attention,tiled_update"


@pytest.mark.parametrize(
    ("net", "request_"),
    [
        ("mlp", {"budget": "16KiB"}),
        ("mlp", {"max_overhead": "10%", "allow": "recompute,in_place"}),
        ("transformer", {"max_overhead": 0.3, "allow": TILED, "levels": 1}),
        ("residual", {"max_overhead": 5.0, "allow": "recompute,micro_batch"}),
        ("mlp", {"max_overhead": 0.5, "measure": True}),
    ],
    ids=str,
)
def test_a_chosen_plan(net: str, request_: dict[str, Any]) -> None:
    verified(NETS[net].model(), **request_)


def test_where_nothing_is_recomputed_two_checks_have_nothing_to_do() -> None:
    result = verified(MLP.without_blocks().model())
    assert set(left_out(result)) == {
        "bits without recomputing",
        "bits without reuse",
        "processes",
    }


def test_without_memory_reuse() -> None:
    verified(MLP.with_properties(memory_optimization=False).model())


def test_an_initialized_model_is_verified_as_it_stands_and_not_changed() -> None:
    for debug in (False, True):
        model = MLP.model()
        plan = model.initialize(debug=debug, max_overhead="30%")
        x, y = MLP.batch(8)
        model.train_step(x, y)
        before = {name: w.tobytes() for name, w in model.weights().items()}
        result = verified(model, (x["in"], y))
        assert {n: w.tobytes() for n, w in model.weights().items()} == before
        assert model.plan is plan
        assert "the given data" in result.data
        if not debug:
            assert f"arena {plan.arena_bytes:,} B, " in result.checks[2].finding
    with pytest.raises(ac.InvalidParameterError, match="leave out budget"):
        ac.verify(model, budget="16KiB")


# -- data ------------------------------------------------------------------------------


def net(*layers: tuple[str, dict[str, Any]], batch_size: int = 3) -> ac.Model:
    return ModelSpec(layers, (), {"batch_size": batch_size}).model()


LOSSES: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "values": (("mse", {}),),
    "classes": (("cross_softmax", {}),),
    "classes of rows": (
        ("reshape", {"target_shape": (1, 2, 3)}),
        ("cross_softmax", {"per_token": True}),
    ),
    "shares of rows": (
        ("reshape", {"target_shape": (1, 2, 3)}),
        ("cross_softmax", {}),
    ),
    "classes of pixels": (
        ("reshape", {"target_shape": (3, 2, 1)}),
        ("cross_softmax", {"per_token": True, "axis": 1, "class_weight": "1,4,0.5"}),
    ),
    "shares of pixels": (
        ("reshape", {"target_shape": (3, 2, 1)}),
        ("cross_softmax", {"axis": 1, "label_smoothing": 0.1}),
    ),
    "bits": (("cross_sigmoid", {}),),
    "shares": (("activation", {"activation": "softmax"}), ("kld", {})),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_labels_are_made_up_for_every_loss(loss: str) -> None:
    layers = [
        ("input", {"name": "in", "input_shape": (1, 1, 4)}),
        ("fully_connected", {"name": "fc", "unit": 6}),
    ]
    for index, (kind, values) in enumerate(LOSSES[loss]):
        layers.append((kind, {"name": f"n{index}", **values}))
    verified(net(*layers))


def test_ids_are_made_up_for_an_embedding_even_through_other_layers() -> None:
    model = net(
        ("input", {"name": "ids", "input_shape": (1, 1, 4)}),
        ("input", {"name": "numbers", "input_shape": (1, 4, 3)}),
        ("reshape", {"name": "same", "target_shape": (1, 2, 2), "input_layers": "ids"}),
        ("flatten", {"name": "flat"}),
        ("embedding", {"name": "table", "in_dim": 5, "out_dim": 3}),
        ("addition", {"name": "sum", "input_layers": ["table", "numbers"]}),
        ("fully_connected", {"name": "fc", "unit": 2}),
        ("mse", {"name": "loss"}),
    )
    verified(model)
    ((x, _), *_) = make_batches(model.compile(), 50, 1)
    assert set(np.unique(x["ids"])) == {0, 1, 2, 3, 4}
    assert x["numbers"].min() < 0


def test_samples_are_positive_where_others_have_no_finite_loss() -> None:
    verified(
        net(
            ("input", {"name": "in", "input_shape": (1, 1, 4)}),
            ("sqrt", {"name": "root"}),
            ("fully_connected", {"name": "fc", "unit": 2}),
            ("mse", {"name": "loss"}),
        )
    )


def test_data_are_taken_round_and_round() -> None:
    data = ac.Dataset("five", np.eye(5, 24, dtype=np.float32), np.zeros((5, 5), "f4"))
    assert verified(MLP.model(), data).data.startswith("five: 3 batches of 8")


def test_data_that_cannot_be_used() -> None:
    x = np.zeros((4, 24), np.float32)
    with pytest.raises(EmptyDataError, match="as many samples as labels"):
        ac.verify(MLP.model(), (x, np.zeros((3, 5), np.float32)))
    with pytest.raises(DataError, match="NaN"):
        ac.verify(MLP.model(), (x + np.nan, np.zeros((4, 5), np.float32)))
    with pytest.raises(EmptyDataError, match="as many samples as labels"):
        ac.verify(MLP.model(), (x[:0], np.zeros((0, 5), np.float32)))
    with pytest.raises(EmptyDataError):
        ac.verify(MLP.model(), ac.Dataset("no labels", x, None))
    with pytest.raises(ac.InvalidParameterError, match="expected a Model"):
        ac.verify("digits_mlp")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": 3}, r"data is a int; expected \(x, y\)"),
        ({"data": (1, 2, 3, 4)}, "data is a tuple; expected"),
        ({"data": (1, 2, 3)}, "the data have a third part, weights of samples"),
        ({"on_check": 3}, "on_check=3 cannot be called"),
        ({"bugdet": 3}, r"verify has no argument 'bugdet' \(did you mean 'budget'"),
        ({"debug": True}, "verify has no argument 'debug'"),
    ],
)
def test_arguments_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ac.InvalidParameterError, match=message):
        ac.verify(MLP.model(), **values)


def test_a_model_without_a_finite_loss_is_refused_not_called_defective() -> None:
    x, y = MLP.batch(8)
    with pytest.raises(NonFiniteError):
        ac.verify(MLP.model(), ({"in": x["in"] * 1e30}, y))


# -- layers of one's own ---------------------------------------------------------------


class Twice(Layer):
    """Two times the input."""

    type_name = "twice"

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        return LayerSpec(output_shapes=input_shapes)

    def forward(self, tensors: Binding) -> list[Call]:
        x, y = tensors.vector("in0"), tensors.vector("out0")
        return [Call(elementwise.add, (x, x, y))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        dy, dx = tensors.vector("out0:grad"), tensors.vector("in0:grad")
        return [Call(elementwise.add, (dy, dy, dx))]


class Thrice(Twice):
    """Says that it is two times the input, and its derivative is that of once."""

    type_name = "thrice"

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        dy, dx = tensors.vector("out0:grad"), tensors.vector("in0:grad")
        return [Call(elementwise.copy, (dy, dx))]


def with_own(kind: type[Layer], monkeypatch: pytest.MonkeyPatch) -> ac.Model:
    monkeypatch.setitem(LAYER_TYPES, kind.type_name, kind)
    return net(
        ("input", {"name": "in", "input_shape": (1, 1, 4)}),
        ("fully_connected", {"name": "fc", "unit": 6}),
        (kind.type_name, {"name": "own"}),
        ("mse", {"name": "loss"}),
    )


def test_a_layer_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    result = ac.verify(with_own(Twice, monkeypatch))
    assert result.passed
    assert "'own' is of a class outside this package" in left_out(result)["processes"]
    assert result.verdict == "verified: 8 checks passed, 3 left out"


def test_a_wrong_derivative_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    result = ac.verify(with_own(Thrice, monkeypatch), command=("/no/such/program",))
    failed = [check.name for check in result.checks if check.passed is False]
    assert failed == ["gradients"]
    assert not result.passed
    assert result.verdict == "defect found by 1 check: gradients"


# -- slopes ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "relu", "cnn", "transformer", "recurrent"])
@pytest.mark.parametrize("factor", [0.95, 1.05, -1.0, 0.5])
def test_a_gradient_off_by_a_factor_is_wrong(
    name: str, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = NETS[name].model()
    session = open_session(model, model.make_plan())
    batches = make_batches(model.compile(), NETS[name].batch_size, 3)
    run_trial(session, batches)
    start = session.weights()
    right = measure_slopes(session, batches[0], 24)
    assert not [str(s) for s in right if s.verdict is Verdict.WRONG]
    decided = {s.weight for s in right if s.verdict is Verdict.RIGHT}

    original = Session.compute_gradients

    def scaled(self: Session, x: Any, y: Any) -> Any:
        loss, gradients = original(self, x, y)
        return loss, {n: g * np.float32(factor) for n, g in gradients.items()}

    monkeypatch.setattr(Session, "compute_gradients", scaled)
    wrong = measure_slopes(session, batches[0], 24)
    found = {s.weight for s in wrong if s.verdict is Verdict.WRONG}
    share = 0.15 if abs(factor - 1) < 0.1 else 0.6
    assert len(found) > share * len(decided)
    for weight, values in session.weights().items():
        assert values.tobytes() == start[weight].tobytes()


# -- the command line ------------------------------------------------------------------


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["verify", *arguments])


def test_the_command_prints_a_line_for_each_check() -> None:
    result = run("digits_mlp", "--batch-size", "8")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("digits_mlp: 15 layers; batch size 8; checkpoint block")
    assert [line.split(", ")[0].split("  ")[-1] for line in lines[1:-1]] == list(NAMES)
    assert all(line.startswith("passed  ") for line in lines[1:-1])
    assert lines[-1] == (
        "verified: 11 checks passed; on digits: 3 batches of 8, the last of 7"
    )


def test_the_command_takes_files(tmp_path: Path) -> None:
    MLP.model().save_ini(tmp_path / "net.ini")
    (tmp_path / "net.py").write_text(
        "import arena_ckpt as ac\n"
        "from arena_ckpt.layers.shape import Flatten\n"
        "@ac.register_layer\n"
        "class Flat(Flatten):\n"
        "    type_name = 'flat_of_a_file'\n"
        "def build():\n"
        "    model = ac.Model(seed=5)\n"
        "    model.add_layer('input', name='in', input_shape='1:2:3')\n"
        "    model.add_layer('flat_of_a_file', name='flat')\n"
        "    model.add_layer('fully_connected', name='fc', unit=2)\n"
        "    model.add_layer('mse', name='loss')\n"
        "    return model\n"
    )
    for spec, options in (("net.ini", ["--budget", "16KiB"]), ("net.py:build", [])):
        try:
            result = run(str(tmp_path / spec), "--json", *options)
        finally:
            LAYER_TYPES.pop("flat_of_a_file", None)
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        assert document["command"] == "verify"
        assert document["passed"] is True
        assert "made-up samples" in document["data"]
        assert document["checks"][-1]["name"] == "processes"
        assert document["checks"][-1]["passed"] is True, document["checks"][-1]
    assert run(str(tmp_path / "net.ini"), "--data", "nothing.npz").exit_code == 2


def test_the_command_fails_where_a_defect_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = FullyConnected.calc_gradient

    def wrong(self: FullyConnected, tensors: Binding) -> list[Call]:
        gradient = tensors.vector("bias:grad")
        return [*original(self, tensors), Call(elementwise.fill, (0.0, gradient))]

    monkeypatch.setattr(FullyConnected, "calc_gradient", wrong)
    result = run("digits_mlp", "--batch-size", "8", "--no-blocks")
    assert result.exit_code == 1
    assert "\nFAILED    gradients, " in result.output
    assert "left out  bits without recomputing" in result.output
    last = result.output.splitlines()[-1]
    assert last.startswith("defect found by 2 checks: gradients, processes")


def test_training_with_every_step_checked_prints_the_same() -> None:
    results = []
    for check in ("loss", "all"):
        options = ["--epochs", "1", "--check", check, "--json"]
        result = CliRunner().invoke(main, ["train", "digits_mlp", *options])
        assert result.exit_code == 0
        results.append(json.loads(result.stdout)["training"])
    assert results[0] == results[1]
    result = CliRunner().invoke(main, ["train", "digits_mlp", "--check", "some"])
    assert result.exit_code == 2


NO_MEMORY = """
import sys
from pathlib import Path
import arena_ckpt.verification.other_process as it
from arena_ckpt.model import Model

def fail(*_):
    raise MemoryError("1 EiB")

it.run_trial = it.load_ini = it.MemoryPlan.from_json = fail
it.answer(Model(), Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("/no/such/program",), "cannot be started"),
        (("sh", "-c", "kill -9 $$"), "was killed, perhaps for its memory"),
        ((sys.executable, "-c", NO_MEMORY), "no memory for another process: 1 EiB"),
    ],
    ids=["no program", "killed", "no memory"],
)
def test_another_process_that_cannot_be_asked_is_left_out(
    command: tuple[str, ...], reason: str
) -> None:
    result = ac.verify(chain(3).model(), command=command)
    assert result.passed
    assert reason in left_out(result)["processes"]


def test_another_process_that_crashes_is_a_defect_with_its_signal() -> None:
    result = ac.verify(chain(3).model(), command=("sh", "-c", "kill -SEGV $$"))
    (failed,) = [check for check in result.checks if check.passed is False]
    assert failed.name == "processes"
    assert failed.finding == (
        "the other process was ended by SIGSEGV, and this one was not"
    )


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("false",), "it said nothing"),
        (("true",), "it said nothing"),
        ((sys.executable, "-c", "1 / 0"), "ZeroDivisionError: division by zero"),
    ],
    ids=["false", "true", "error"],
)
def test_another_process_that_fails_is_a_defect(
    command: tuple[str, ...], reason: str
) -> None:
    result = ac.verify(chain(3).model(), command=command)
    (failed,) = [check for check in result.checks if check.passed is False]
    assert failed.name == "processes"
    assert failed.finding.startswith("the other process ended with an error, and this")
    assert failed.finding.endswith(reason)


def test_small_batches_have_no_smaller_last_one() -> None:
    one = chain(4, "gelu", 3, batch_size=1)
    assert verified(one.model()).data.endswith("3 batches of 1, the last of 1")
