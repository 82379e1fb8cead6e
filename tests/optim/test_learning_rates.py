import copy
import math
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt import Model, ModelWarning, load_example
from arena_ckpt.errors import (
    InvalidParameterError,
    UnknownPropertyError,
    UnknownTypeError,
)
from arena_ckpt.optim.learning_rates import SCHEDULE_SCHEMAS, Schedule, create_schedule

FALL = {"max_learning_rate": 1.0, "min_learning_rate": 0.1}

rates = st.floats(1e-30, 1e30)
steps = st.integers(1, 10**6)
falls = st.tuples(rates, rates).map(sorted)
schedules = st.one_of(
    rates.map(lambda r: create_schedule("constant", learning_rate=r)),
    st.builds(
        lambda r, b, s: create_schedule(
            "exponential", learning_rate=r, decay_rate=b, decay_steps=s
        ),
        rates,
        st.floats(0.001, 2),
        steps,
    ),
    st.builds(
        lambda kind, fall, s: create_schedule(
            kind, min_learning_rate=fall[0], max_learning_rate=fall[1], decay_steps=s
        ),
        st.sampled_from(["linear", "cosine"]),
        falls,
        steps,
    ),
    st.builds(
        lambda ends, values: create_schedule(
            "step", iteration=sorted(ends), learning_rate=values[: len(ends) + 1]
        ),
        st.sets(st.integers(0, 1000), min_size=1, max_size=4),
        st.lists(rates, min_size=5, max_size=5),
    ),
)


def test_constant_stays() -> None:
    schedule = create_schedule("constant", ["learning_rate=0.5"])
    assert [schedule.learning_rate_at(i) for i in (0, 10, 10**9)] == [0.5] * 3


def test_exponential_reaches_its_rate_after_its_steps() -> None:
    # NNTrainer's unit test: 1, 0.9, 0.9**3
    every = create_schedule(
        "exponential", learning_rate=1.0, decay_rate=0.9, decay_steps=1
    )
    values = [every.learning_rate_at(i) for i in (0, 1, 3)]
    assert values == pytest.approx([1.0, 0.9, 0.729])
    slow = create_schedule(
        "exponential", learning_rate=8.0, decay_rate=0.25, decay_steps=2
    )
    values = [slow.learning_rate_at(i) for i in (0, 1, 2, 4)]
    assert values == pytest.approx([8.0, 4.0, 2.0, 0.5])


def test_exponential_leaves_the_floats_at_both_ends() -> None:
    values = {"learning_rate": 1.0, "decay_steps": 1}
    growing = create_schedule("exponential", decay_rate=10.0, **values)
    assert growing.learning_rate_at(1000) == math.inf
    falling = create_schedule("exponential", decay_rate=0.1, **values)
    assert falling.learning_rate_at(1000) == 0.0


@pytest.mark.parametrize(
    ("iterations", "value"),
    [
        # NNTrainer's unit test
        ((0, 5, 10), 1.0),
        ((11, 15, 20), 0.1),
        ((21, 25, 30), 0.01),
        ((31, 35, 1000), 0.001),
    ],
)
def test_a_step_ends_with_its_iteration(
    iterations: tuple[int, ...], value: float
) -> None:
    schedule = create_schedule(
        "step", ["learning_rate=1.0, 0.1, 0.01, 0.001", "iteration=10,20,30"]
    )
    assert [schedule.learning_rate_at(i) for i in iterations] == [value] * 3


def test_linear_falls_and_stays() -> None:
    schedule = create_schedule("linear", decay_steps=9, **FALL)
    values = [schedule.learning_rate_at(i) for i in (0, 1, 5, 9, 10, 10**6)]
    assert values == pytest.approx([1.0, 0.9, 0.5, 0.1, 0.1, 0.1])


def test_cosine_falls_and_starts_again() -> None:
    schedule = create_schedule("cosine", decay_steps=4, **FALL)
    values = [schedule.learning_rate_at(i) for i in range(6)]
    root = math.sqrt(0.5)
    up, down = 0.1 + 0.45 * (1 + root), 0.1 + 0.45 * (1 - root)
    assert values == pytest.approx([1.0, up, 0.55, down, 1.0, up])


def test_cosine_of_one_step_stays_at_its_maximum() -> None:
    schedule = create_schedule("cosine", decay_steps=1, **FALL)
    assert [schedule.learning_rate_at(i) for i in (0, 1, 2)] == [1.0] * 3


def test_strings_and_arguments_may_be_mixed_but_not_doubled() -> None:
    schedule = create_schedule(" Linear ", ["decay_steps=9"], **FALL)
    assert schedule == create_schedule("linear", decay_steps=9, **FALL)
    with pytest.raises(InvalidParameterError, match="decay_steps is given twice"):
        create_schedule("linear", ["decay_steps=9"], decay_steps=9, **FALL)


@pytest.mark.parametrize("type_name", sorted(SCHEDULE_SCHEMAS))
def test_missing_properties_are_named(type_name: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        create_schedule(type_name)
    names = tuple(declared.name for declared in SCHEDULE_SCHEMAS[type_name])
    assert vars(caught.value)["missing"] == names
    assert all(name in str(caught.value) for name in names)


def test_an_unknown_type_or_property_is_met_with_the_nearest() -> None:
    with pytest.raises(UnknownTypeError, match="did you mean 'cosine'"):
        create_schedule("cosin")
    with pytest.raises(UnknownPropertyError, match="did you mean 'learning_rate'"):
        create_schedule("constant", ["learning_rat=0.1"])


@pytest.mark.parametrize(
    ("type_name", "text", "match"),
    [
        ("constant", "learning_rate:0.1", "key=value"),
        ("constant", "learning_rate=fast", "expected a number above 0"),
        ("constant", "learning_rate=-1", "expected a number above 0"),
        ("exponential", "decay_steps=0", "expected a whole number"),
        ("step", "iteration=1,x", "expected whole numbers"),
    ],
)
def test_impossible_values_say_what_is_expected(
    type_name: str, text: str, match: str
) -> None:
    with pytest.raises(InvalidParameterError, match=match):
        create_schedule(type_name, [text])


@pytest.mark.parametrize(
    ("rates", "iterations", "match"),
    [
        ("1, 0.1", "1, 2", "give 3 learning rates"),
        ("1", "1, 2", "give 3 learning rates"),
        ("1, 0.1, 0.01", "1, 1", "iteration 1 stands after 1"),
        ("1, 0.1, 0.01", "2, 1", "iteration 1 stands after 2"),
    ],
)
def test_steps_must_fit_together(rates: str, iterations: str, match: str) -> None:
    with pytest.raises(InvalidParameterError, match=match):
        create_schedule("step", [f"learning_rate={rates}", f"iteration={iterations}"])


def test_a_minimum_above_the_maximum_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="exchange them"):
        create_schedule(
            "linear", max_learning_rate=0.1, min_learning_rate=1, decay_steps=1
        )


def test_iterations_count_from_zero() -> None:
    with pytest.raises(InvalidParameterError, match="the first one is 0"):
        create_schedule("constant", learning_rate=1).learning_rate_at(-1)


@settings(deadline=None)
@given(schedules)
def test_text_gives_the_same_schedule_back(schedule: Schedule) -> None:
    strings = [f"{key}={value}" for key, value in schedule.to_properties().items()]
    assert create_schedule(schedule.type_name, strings) == schedule
    assert copy.deepcopy(schedule) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule


@settings(deadline=None)
@given(schedules, st.integers(0, 10**7))
def test_every_schedule_stays_in_its_range(schedule: Schedule, iteration: int) -> None:
    value = schedule.learning_rate_at(iteration)
    if schedule.type_name in ("linear", "cosine"):
        lowest = schedule.values["min_learning_rate"]
        highest = schedule.values["max_learning_rate"]
        assert lowest <= value <= highest * (1 + 1e-12)
    else:
        assert value >= 0


# -- schedules that start again --------------------------------------------------------


@given(schedules, st.integers(0, 40), st.integers(0, 40), st.integers(1, 12))
def test_a_restart_is_where_the_rate_of_a_cosine_rises(
    schedule: Schedule, start: int, n: int, steps: int
) -> None:
    if schedule.type_name == "cosine":
        schedule = Schedule("cosine", {**schedule.values, "decay_steps": steps})
    rates = [schedule.learning_rate_at(i) for i in range(start, start + n)]
    rises = [start + i for i in range(1, n) if rates[i] > rates[i - 1]]
    found = schedule.first_restart(start, start + n)
    if schedule.type_name == "cosine":
        assert found == (rises[0] if rises else None)
    else:
        assert found is None


def net(decay_steps: int, batch_size: int = 2, **properties: object) -> Model:
    model = Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:3")
    model.add_layer("fully_connected", name="fc", unit=1)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=batch_size, **properties)
    fall = {"max_learning_rate": 0.1, "min_learning_rate": 0.0}
    model.set_learning_rate_scheduler(
        create_schedule("cosine", decay_steps=decay_steps, **fall)
    )
    model.initialize()
    return model


DATA = np.ones((7, 3), np.float32), np.ones((7, 1), np.float32)  # 4 batches of 2


def warnings_of(call: Callable[[], object]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return caught


@pytest.mark.parametrize(
    ("decay_steps", "restarts"), [(4, True), (11, True), (12, False), (13, False)]
)
def test_train_warns_of_a_restart_within_its_iterations_alone(
    decay_steps: int, restarts: bool
) -> None:
    model = net(decay_steps)
    caught = warnings_of(lambda: model.train(DATA, epochs=3))
    assert [one.category for one in caught] == [ModelWarning] * restarts
    if not restarts:
        return
    (one,) = caught
    assert one.filename == __file__
    before = model.schedule.learning_rate_at(decay_steps - 1)
    assert str(one.message) == (
        f"the cosine schedule starts again at iteration {decay_steps}, where the "
        f"learning rate rises from {before:.4g} to 0.1, and this training ends after "
        "iteration 11: what the low rate has gained is lost there. Set decay_steps=12 "
        "for a single fall, unless restarts are what you want"
    )


def test_dropped_batches_do_not_count_towards_a_restart() -> None:
    assert not warnings_of(lambda: net(9, drop_last=True).train(DATA, epochs=3))
    assert warnings_of(lambda: net(8, drop_last=True).train(DATA, epochs=3))


def test_a_second_training_counts_on() -> None:
    model = net(8)
    assert not warnings_of(lambda: model.train(DATA, epochs=2))
    # It begins with the maximum: no step before it belongs to this training.
    assert not warnings_of(lambda: model.train(DATA, epochs=2))
    (one,) = warnings_of(lambda: model.train(DATA, epochs=3))
    assert "at iteration 24" in str(one.message)
    assert "Set decay_steps=28" in str(one.message)


def test_a_resumed_training_warns_of_what_is_left(tmp_path: Path) -> None:
    def train(model: Model, epochs: int, name: str = "six") -> object:
        folder = tmp_path / name
        return model.train(DATA, epochs=epochs, checkpoint=folder, resume=True)

    assert not warnings_of(lambda: train(net(6), 1))
    assert "iteration 6," in str(warnings_of(lambda: train(net(6), 2))[0].message)
    assert not warnings_of(lambda: train(net(6), 2))  # nothing is left
    assert "iteration 12," in str(warnings_of(lambda: train(net(6), 4))[0].message)
    train(net(10), 1, "ten")
    assert not warnings_of(lambda: train(net(10), 2, "ten"))  # it ends before 10
    assert "iteration 10," in str(
        warnings_of(lambda: train(net(10), 3, "ten"))[0].message
    )


def test_a_warning_made_an_error_comes_before_any_weight_moves() -> None:
    model = net(2)
    before = model.weights()["fc:weight"].tobytes()
    with pytest.raises(ModelWarning):  # as the suite turns warnings into errors
        model.train(DATA, epochs=3)
    assert model.weights()["fc:weight"].tobytes() == before


@pytest.mark.parametrize(
    "sizes", [{}, {"batch_size": 48}, {"length": 32, "batch_size": 64}]
)
def test_examples_anneal_over_all_of_their_iterations(sizes: dict[str, int]) -> None:
    for name, given_sizes in (("char_transformer", sizes), ("digits_cnn", {})):
        example = load_example(name, **given_sizes)
        model = example.model
        assert model.schedule is not None
        assert example.data is not None
        n_batches = -(-example.data.n_samples // model.get_property("batch_size"))
        iterations = n_batches * model.get_property("epochs")
        assert model.schedule.values["decay_steps"] == iterations
