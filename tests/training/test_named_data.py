"""Errors about data say which data: their name, or the validation."""

import numpy as np
import pytest

import arena_ckpt as ac
from arena_ckpt.errors import DataError, InvalidParameterError

X = np.linspace(-1, 1, 24).reshape(6, 4)
Y = np.arange(6) % 3


def model() -> ac.Model:
    made = ac.Model(seed=0)
    made.add_layer("input", name="in", input_shape="1:1:4")
    made.add_layer("fully_connected", name="fc", unit=3)
    made.add_layer("cross_softmax", name="loss")
    made.set_property(batch_size=3, epochs=1)
    made.initialize()
    return made


def test_a_data_set_that_does_not_fit_is_named() -> None:
    good, narrow = ac.Dataset("good", X, Y), ac.Dataset("three.csv", X[:, :3], Y)
    with pytest.raises(DataError, match=r"^three\.csv: x has the shape \(6, 3\)"):
        model().train(narrow, progress=False)
    with pytest.raises(DataError, match=r"^three\.csv: x has the shape \(6, 3\)"):
        model().train(good, validation=narrow, progress=False)
    with pytest.raises(DataError, match=r"^three\.csv: x has the shape \(6, 3\)"):
        model().standardize(narrow)
    with pytest.raises(DataError, match=r"^more: y\[0\] is 3, but the model has 3"):
        model().evaluate(ac.Dataset("more", X, Y + 3))
    named = ac.Dataset("named", X, Y, ("a", "b", "c"))
    other = ac.Dataset("other", X, Y, ("a", "b", "d"))
    with pytest.raises(DataError, match=r"^other: sample 2 has the class 'd'"):
        model().train(named, validation=other, progress=False)


def test_the_validation_is_told_from_the_training_data() -> None:
    with pytest.raises(DataError, match=r"^x has the shape \(6, 3\)"):
        model().train((X[:, :3], Y), validation=(X, Y), progress=False)
    for validation, found in (
        ((X[:, :3], Y), r"^validation: x has the shape \(6, 3\)"),
        ((X, None), "^validation: the data have no labels"),
    ):
        with pytest.raises(DataError, match=found):
            model().train((X, Y), validation=validation, progress=False)
        with pytest.raises(DataError, match=found):
            model().train([(X[:3], Y[:3])], validation=validation, progress=False)
    drawn = (pair for pair in [(X, Y)])
    with pytest.raises(InvalidParameterError, match=r"^validation is a generator") as e:
        model().train((X, Y), validation=drawn, progress=False)  # type: ignore[arg-type]
    assert "to train also" not in str(e.value)


def test_the_facts_of_a_named_error_stay() -> None:
    with pytest.raises(ac.LabelRangeError) as caught:
        model().evaluate(ac.Dataset("more", X, Y + 1))
    facts = vars(caught.value)
    assert (facts["value"], facts["index"], facts["units"]) == (3, 2, 3)
