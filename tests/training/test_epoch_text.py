"""How losses are written in lines and tables."""

import pytest

from arena_ckpt.engine.evaluation import Evaluation
from arena_ckpt.training.epoch_text import loss_text
from arena_ckpt.training.records import EpochRecord, History, epoch_line


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (0.0, "0.0000"),
        (0.4614, "0.4614"),
        (2633.7271, "2633.7271"),
        (3.21e-6, "3.210e-06"),
        (0.001, "0.0010"),
        (0.00009, "0.0001"),
        (0.00004, "4.000e-05"),
        (3.7075873657528e19, "3.708e+19"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_a_loss_says_four_digits(loss: float, text: str) -> None:
    assert loss_text(loss) == text


def test_small_losses_can_be_told_apart() -> None:
    validation = Evaluation(2.5e-7, "mean_absolute_error", 4e-4, 8)
    record = EpochRecord(1, 1.5e-6, validation, 0.01, 0.5)
    assert "loss 1.500e-06  validation: loss 2.500e-07," in epoch_line(record, 1)
    table = str(History(epochs=(record,), n_iterations=1, interrupted=False))
    assert "1.500e-06" in table
    assert "2.500e-07" in table
