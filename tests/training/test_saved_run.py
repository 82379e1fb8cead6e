"""Trainings that are stopped anywhere and resumed end with the same bits."""

from __future__ import annotations

import errno
import math
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.modules import load_module
from helpers.strategies import ModelSpec

import arena_ckpt as ac
from arena_ckpt import Model
from arena_ckpt.engine.evaluation import Evaluation
from arena_ckpt.errors import (
    ArenaWarning,
    CorruptSavedStateError,
    InvalidParameterError,
    SavedStateError,
    SavedStateExistsError,
    SavedStateMismatchError,
    UnwritableFileError,
)
from arena_ckpt.files.atomic_write import is_part_of
from arena_ckpt.training.records import EpochRecord, History, from_table, to_table
from arena_ckpt.training.saved_run import NAME

N_SAMPLES, EPOCHS = 44, 3
PER_EPOCH = 6  # batches of 8, the last one of 4 samples

SPEC = ModelSpec(
    (
        ("input", {"name": "in", "input_shape": (1, 3, 3)}),
        ("conv2d", {"name": "conv", "filters": 3, "kernel_size": "2,2"}),
        ("batch_normalization", {"name": "bn"}),
        ("activation", {"name": "act", "activation": "gelu"}),
        ("flatten", {"name": "flat"}),
        ("dropout", {"name": "drop", "dropout_rate": 0.3}),
        ("fully_connected", {"name": "fc", "unit": 3}),
        ("cross_softmax", {"name": "loss"}),
    ),
    blocks=(("conv", "bn", "act"),),
    properties={"batch_size": 8},
    optimizer=("adam", {"learning_rate": 0.01}),
)


class Stop(Exception):
    """What ends a run in the middle."""


def data(seed: int = 0) -> tuple[Any, Any]:
    return SPEC.batch(N_SAMPLES, seed)


def build(spec: ModelSpec = SPEC, **request: Any) -> Model:
    model = spec.model()
    model.set_learning_rate_scheduler(
        ac.create_schedule(
            "exponential", learning_rate=0.01, decay_rate=0.5, decay_steps=7
        )
    )
    model.initialize(**request)
    return model


FINAL = f"iteration-{EPOCHS * PER_EPOCH:09d}.safetensors"


def train(model: Model, **values: Any) -> History:
    values = {"epochs": EPOCHS, "validation": data(1)} | values
    return model.train(values.pop("data", data()), **values)


def stop_after(model: Model, iterations: int) -> None:
    """Let a model fail after some iterations, as if its process were gone."""
    session = model._session
    assert session is not None
    iterate, made = session.iterate, []

    def limited(*given: Any, **values: Any) -> float:
        if len(made) == iterations:
            raise Stop
        made.append(None)
        return iterate(*given, **values)

    session.iterate = limited  # type: ignore[method-assign]


def end(model: Model, history: History) -> tuple[Any, ...]:
    """All that must be the same at the end."""
    assert model._session is not None
    states = {n: v.tobytes() for n, v in model._session.persistent().items()}
    records = [replace(record, seconds=0.0) for record in history.epochs]
    return states, records, history.n_iterations, model._session.iteration


def uninterrupted(spec: ModelSpec = SPEC, **values: Any) -> tuple[Any, ...]:
    model = build(spec)
    return end(model, train(model, **values))


# -- the same bits ---------------------------------------------------------------------


@pytest.mark.parametrize("every", [None, 1, 4, 100])
@pytest.mark.parametrize("stop", [0, 1, 5, 6, 7, 12, 17])
def test_a_run_stopped_anywhere_ends_the_same(
    every: int | None, stop: int, tmp_path: Path
) -> None:
    broken = build()
    stop_after(broken, stop)
    with pytest.raises(Stop):
        train(broken, checkpoint=tmp_path, every=every)
    model = build()
    history = train(model, checkpoint=tmp_path, every=every, resume=True)
    assert end(model, history) == uninterrupted()
    step = every or PER_EPOCH
    assert history.n_resumed == stop // step * step


@pytest.mark.parametrize(
    "spec",
    [
        SPEC.with_properties(micro_batches=2),
        SPEC.with_properties(clip_grad_by_norm=0.5),
        replace(SPEC, optimizer=("sgd", {"learning_rate": 0.1, "momentum": 0.9})),
        SPEC.without_blocks(),
    ],
    ids=["micro-batches", "clipping", "momentum", "no blocks"],
)
def test_whatever_the_model_is(spec: ModelSpec, tmp_path: Path) -> None:
    broken = build(spec)
    stop_after(broken, 9)
    with pytest.raises(Stop):
        train(broken, checkpoint=tmp_path, every=4, shuffle=False)
    model = build(spec)
    history = train(model, checkpoint=tmp_path, every=4, shuffle=False, resume=True)
    assert end(model, history) == uninterrupted(spec, shuffle=False)


def test_blocks_debug_and_more_epochs_may_differ(tmp_path: Path) -> None:
    broken = build()
    stop_after(broken, 8)
    with pytest.raises(Stop):
        train(broken, checkpoint=tmp_path, every=1, epochs=2)
    model = build(SPEC.without_blocks(), debug=True)
    history = train(model, checkpoint=tmp_path, resume=True)
    assert end(model, history) == uninterrupted()


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    expected = end(model := build(), train(model, checkpoint=tmp_path))
    again = build()
    stop_after(again, 0)
    assert end(again, train(again, checkpoint=tmp_path, resume=True)) == expected
    longer = build()
    history = train(longer, checkpoint=tmp_path, resume=True, epochs=EPOCHS + 1)
    assert end(longer, history) == uninterrupted(epochs=EPOCHS + 1)


def test_a_run_that_its_callback_ended_stays_ended(tmp_path: Path) -> None:
    model = build()
    history = train(model, checkpoint=tmp_path, on_epoch=lambda r: r.epoch == 2)
    assert len(history.epochs) == 2
    again = build()
    assert end(again, train(again, checkpoint=tmp_path, resume=True)) == end(
        model, history
    )


def test_saving_changes_nothing(tmp_path: Path) -> None:
    model = build()
    assert end(model, train(model, checkpoint=tmp_path, every=1)) == uninterrupted()


def test_the_callback_hears_of_each_epoch_once(tmp_path: Path) -> None:
    heard: list[int] = []
    broken = build()
    stop_after(broken, PER_EPOCH)
    with pytest.raises(Stop):
        train(broken, checkpoint=tmp_path, on_epoch=lambda r: heard.append(r.epoch))
    train(
        build(),
        checkpoint=tmp_path,
        resume=True,
        on_epoch=lambda r: heard.append(r.epoch),
    )
    assert heard == [1, 2, 3]


def test_a_schedule_that_the_callback_sets_is_gone_on_with(tmp_path: Path) -> None:
    def setting(model: Model) -> Callable[[Any], None]:
        def on_epoch(record: Any) -> None:
            if record.epoch == 1:
                model.set_learning_rate_scheduler(
                    ac.create_schedule("constant", learning_rate=0.1)
                )

        return on_epoch

    model = build()
    expected = end(model, train(model, on_epoch=setting(model)))
    broken = build()
    stop_after(broken, 14)
    with pytest.raises(Stop):
        train(broken, checkpoint=tmp_path, every=1, on_epoch=setting(broken))
    newest = tmp_path / names(tmp_path)[-1]
    assert ac.load(newest).schedule == broken.schedule
    again = build()
    history = train(again, checkpoint=tmp_path, resume=True, on_epoch=setting(again))
    assert again.schedule == broken.schedule
    assert end(again, history) == expected


def test_a_callback_may_put_an_earlier_state_back(tmp_path: Path) -> None:
    """The newest state is that of the latest iteration of the run."""

    def restoring(model: Model) -> Callable[[Any], None]:
        first = tmp_path / "first"

        def on_epoch(record: Any) -> None:
            if record.epoch in (2, 3):
                model.restore(first)

        model.save(first)
        return on_epoch

    model = build()
    expected = end(model, train(model, epochs=4, on_epoch=restoring(model)))
    model, folder = build(), tmp_path / "run"
    train(model, epochs=3, checkpoint=folder, on_epoch=restoring(model))
    assert names(folder) == ["iteration-000000012.safetensors", FINAL]
    again = build()
    history = train(again, epochs=4, checkpoint=folder, resume=True)
    assert history.n_resumed == EPOCHS * PER_EPOCH
    assert end(again, history) == expected


def test_data_of_an_input_with_any_name_are_compared(tmp_path: Path) -> None:
    def model() -> Model:
        model = Model()
        model.add_layer("input", name="labels", input_shape="1:1:3")
        model.add_layer("fully_connected", name="fc", unit=2)
        model.add_layer("mse", name="loss")
        model.initialize()
        return model

    x, y = np.ones((2, 3), np.float32), np.zeros((2, 2), np.float32)
    model().train((x, y), checkpoint=tmp_path)
    with pytest.raises(SavedStateMismatchError, match="other data"):
        model().train((2 * x, y), checkpoint=tmp_path, resume=True)


def test_records_of_every_kind_come_back(tmp_path: Path) -> None:
    """They are kept as numbers: a header would be full after some 400,000 of them."""
    records = tuple(
        EpochRecord(epoch, 1 / epoch, validation, 0.1 + 0.2, 1e-300)
        for epoch, validation in enumerate(
            [
                None,
                Evaluation(math.inf, "accuracy", 0.0, 1),
                Evaluation(0.1, "mean_absolute_error", 1 / 3, 2**53 - 1),
            ],
            start=1,
        )
    )
    assert from_table(to_table(records)) == records
    assert from_table(to_table(())) == ()


@pytest.mark.parametrize(
    "table",
    [
        np.zeros((2, 6)),
        np.zeros((2, 7), np.float32),
        np.zeros(7),
        np.array([[0, 0, 0, 0, 3, 0, 1.0]]),
        np.array([[0, 0, 0, 0, 0.5, 0, 1.0]]),
        np.array([[0, 0, 0, 0, math.nan, 0, 1.0]]),
        np.array([[0, 0, 0, 0, 0, 0, math.nan]]),
        np.array([[0, 0, 0, 0, 0, 0, -1.0]]),
        np.array([[0, 0, 0, 0, 0, 0, 1e300]]),
    ],
)
def test_numbers_that_are_no_records(table: np.ndarray) -> None:
    with pytest.raises(ValueError, match="its record"):
        from_table(table)


# -- the folder ------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_two_newest_states_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "where missing"
    train(build(), checkpoint=folder, every=4)
    assert names(folder) == [
        "iteration-000000016.safetensors",
        "iteration-000000018.safetensors",
    ]
    loaded = ac.load(folder / "iteration-000000018.safetensors")
    assert end(loaded, train(loaded, epochs=1))[3] == 18 + PER_EPOCH


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    half = tmp_path / ".iteration-000000003.safetensors.0123456789abcdef.part"
    half.write_bytes(b"half")
    others = [".model.safetensors.0123456789abcdef.part", ".my.part", "notes.txt"]
    for name in others:
        (tmp_path / name).write_text("mine")
    train(build(), checkpoint=tmp_path, resume=True)
    assert [n for n in names(tmp_path) if not n.startswith("iteration")] == others
    assert not half.exists()


def test_a_part_has_the_name_that_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    replace_ = os.replace

    def look(source: Path, target: Path) -> None:
        seen.append(source.name)
        replace_(source, target)

    monkeypatch.setattr("arena_ckpt.files.atomic_write.os.replace", look)
    train(build(), checkpoint=tmp_path, epochs=1)
    assert len(seen) == 2
    assert all(is_part_of(name, NAME) for name in seen)


def test_folders_and_others_are_no_states(tmp_path: Path) -> None:
    """A folder with a fitting name neither stops a resume nor the tidying up."""
    train(build(), checkpoint=tmp_path, epochs=1)
    mine = ["iteration-000000003.safetensors", "iteration-٠٠٠٠٠٠٠٠١.safetensors"]
    for name in mine:
        (tmp_path / name).mkdir()
    (tmp_path / "iteration-000000099.safetensors").symlink_to(tmp_path / "nothing")
    model = build()
    history = train(model, checkpoint=tmp_path, resume=True, every=1)
    assert end(model, history) == uninterrupted()
    states = [name for name in names(tmp_path) if (tmp_path / name).is_file()]
    assert states == ["iteration-000000017.safetensors", FINAL]


def test_the_folder_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    train(build(), checkpoint="run", on_epoch=lambda _: os.chdir(tmp_path / "sub"))
    assert names(tmp_path / "run")[-1] == FINAL
    assert not names(tmp_path / "sub")


def test_one_training_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="there are no locks here")
    before: list[dict[str, bytes]] = []

    def disturb(_: Any) -> None:
        before.append({n: (tmp_path / n).read_bytes() for n in names(tmp_path)})
        with pytest.raises(UnwritableFileError, match="another training saves into it"):
            train(build(), checkpoint=tmp_path, resume=True)
        assert {n: (tmp_path / n).read_bytes() for n in names(tmp_path)} == before[-1]

    model = build()
    history = train(model, checkpoint=tmp_path, on_epoch=disturb)
    assert end(model, history) == uninterrupted()
    assert len(before) == EPOCHS
    train(build(), checkpoint=tmp_path, resume=True)


def test_a_process_that_was_forked_does_not_keep_the_folder(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="there are no locks here")
    ends = os.pipe()

    def fork(record: Any) -> None:
        if record.epoch == 1 and os.fork() == 0:
            os.close(ends[1])
            os.read(ends[0], 1)  # until the other end is closed
            os._exit(0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        train(build(), checkpoint=tmp_path, epochs=2, on_epoch=fork)
    try:
        train(build(), checkpoint=tmp_path, resume=True)
    finally:
        for end_ in ends:
            os.close(end_)
        os.wait()


def test_where_a_resume_cannot_write_is_found_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(build(), checkpoint=tmp_path, epochs=1)
    monkeypatch.setattr("arena_ckpt.files.atomic_write.os.fsync", no_room)
    model = build()
    stop_after(model, 0)
    with pytest.raises(UnwritableFileError, match=r"tion-000000006.* still there"):
        train(model, checkpoint=tmp_path, resume=True)
    train(build(), checkpoint=tmp_path, resume=True, epochs=1)  # nothing is to be done


def test_states_of_an_earlier_run_are_not_overwritten(tmp_path: Path) -> None:
    train(build(), checkpoint=tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with pytest.raises(
        SavedStateExistsError, match=r"iteration 18; go on.*resume=True"
    ):
        train(build(), checkpoint=tmp_path)
    assert {n: (tmp_path / n).read_bytes() for n in names(tmp_path)} == before


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def test_a_damaged_state_is_set_aside(tmp_path: Path) -> None:
    train(build(), checkpoint=tmp_path, epochs=2)
    damage(tmp_path / "iteration-000000012.safetensors")
    model = build()
    with pytest.warns(ArenaWarning, match="checksum.* from iteration-000000006"):
        history = train(model, checkpoint=tmp_path, resume=True)
    assert end(model, history) == uninterrupted()
    assert "iteration-000000012.safetensors.damaged" in names(tmp_path)


def test_what_is_refused_is_left_as_it_is(tmp_path: Path) -> None:
    train(build(), checkpoint=tmp_path, epochs=2)
    damage(tmp_path / "iteration-000000012.safetensors")
    before = names(tmp_path)
    with pytest.raises(SavedStateMismatchError, match="Nothing was changed"):
        train(build(), checkpoint=tmp_path, resume=True, shuffle=False)
    assert names(tmp_path) == before


def test_where_all_states_are_damaged_nothing_is_lost(tmp_path: Path) -> None:
    train(build(), checkpoint=tmp_path)
    for path in tmp_path.iterdir():
        damage(path)
    before = names(tmp_path)
    model = build()
    state = end(model, History((), 0, False))
    with pytest.raises(CorruptSavedStateError, match="none of the 2 states"):
        train(model, checkpoint=tmp_path, resume=True)
    assert end(model, History((), 0, False)) == state
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("spec", "values", "message"),
    [
        (SPEC.with_properties(batch_size=4), {}, "batch_size is 8, not 4"),
        (SPEC.with_properties(micro_batches=2), {}, "micro_batches is 1, not 2"),
        (replace(SPEC, optimizer=("adam", {"learning_rate": 0.02})), {}, "optimizer"),
        (replace(SPEC, layers=(*SPEC.layers[:5], *SPEC.layers[6:])), {}, "layer 5"),
        (SPEC, {"data": data(5)}, "other data"),
        (SPEC, {"shuffle": False}, "shuffle=True"),
    ],
)
def test_another_run_is_not_resumed(
    spec: ModelSpec, values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    train(build(), checkpoint=tmp_path, epochs=1)
    model = build(spec)
    before = end(model, History((), 0, False))
    with pytest.raises(SavedStateMismatchError, match=message) as caught:
        train(model, checkpoint=tmp_path, resume=True, **values)
    assert message in str(caught.value.what)
    assert end(model, History((), 0, False)) == before


def test_plans_that_round_otherwise_are_not_mixed(tmp_path: Path) -> None:
    train(build(), checkpoint=tmp_path, epochs=1)
    plan = SPEC.with_properties(micro_batches=2).model().make_plan()
    model = SPEC.model()
    model.set_learning_rate_scheduler(build().schedule)
    model.initialize(plan=plan)
    with pytest.raises(SavedStateMismatchError, match=r"micro_batches=1 .*, not 2"):
        train(model, checkpoint=tmp_path, resume=True)


def test_a_saved_model_is_no_state_of_a_training(tmp_path: Path) -> None:
    model = build()
    model.save(tmp_path / "iteration-000000000.safetensors")
    with pytest.raises(SavedStateError, match="nothing of a training"):
        train(build(), checkpoint=tmp_path, resume=True)


# -- failures --------------------------------------------------------------------------


def test_a_folder_that_cannot_be_is_found_before_the_first_iteration(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    model = build()
    stop_after(model, 0)
    for folder in (tmp_path / "file", tmp_path / "file/in", "/proc/nothing", "a\0b"):
        with pytest.raises(UnwritableFileError, match="checkpoint= a folder"):
            train(model, checkpoint=folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"every": 3}, "name their folder"),
        ({"resume": True}, "name their folder"),
        ({"checkpoint": 3}, "is no folder"),
        ({"checkpoint": ""}, "is no folder"),
        ({"checkpoint": "it", "every": 0}, "every=0"),
        ({"checkpoint": "it", "every": 1.5}, "every=1.5"),
        ({"checkpoint": "it", "resume": "perhaps"}, "resume=perhaps"),
    ],
)
def test_impossible_requests(
    values: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameterError, match=message):
        train(build(), **values)
    assert not names(tmp_path)


def no_room(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_ends_the_run_and_keeps_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build()

    def fill(record: Any) -> None:
        if record.epoch == 2:
            monkeypatch.setattr("arena_ckpt.files.atomic_write.os.fsync", no_room)

    with pytest.raises(UnwritableFileError, match=r"tion 12: .*iteration-000000006"):
        train(model, checkpoint=tmp_path, on_epoch=fill)
    monkeypatch.undo()
    assert names(tmp_path) == [
        "iteration-000000000.safetensors",
        "iteration-000000006.safetensors",
    ]
    again = build()
    history = train(again, checkpoint=tmp_path, resume=True)
    assert end(again, history) == uninterrupted()


def test_a_failed_save_leaves_every_state_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both of them: had the older been removed first, one damage would be the end."""
    train(build(), checkpoint=tmp_path, every=4)
    before = names(tmp_path)
    assert len(before) == 2

    def no_room(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("arena_ckpt.files.atomic_write.os.fsync", no_room)
    with pytest.raises(UnwritableFileError):
        train(build(), checkpoint=tmp_path, every=4, epochs=EPOCHS + 1, resume=True)
    assert names(tmp_path) == before


def test_a_folder_that_vanishes_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def remove(record: Any) -> None:
        if record.epoch == 2:
            shutil.rmtree(folder)

    model = build()
    with pytest.raises(
        UnwritableFileError, match=r"there is no folder .*none is there"
    ):
        train(model, checkpoint=folder, on_epoch=remove)
    assert not names(tmp_path)


def test_the_best_epoch_can_be_kept(tmp_path: Path) -> None:
    model = build()
    losses: list[float] = []

    def keep(record: Any) -> None:
        assert record.validation is not None
        losses.append(record.validation.loss)
        if losses[-1] == min(losses):
            model.save(tmp_path / "best")

    train(model, on_epoch=keep, epochs=5)
    model.restore(tmp_path / "best")
    assert model.evaluate(data(1)).loss == min(losses)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("every", [None, 100])
def test_ctrl_c_and_sigterm_save_where_it_is(
    every: int | None, number: signal.Signals, tmp_path: Path
) -> None:
    before = signal.getsignal(number)
    model = build()
    session = model._session
    assert session is not None
    iterate, made = session.iterate, []

    def interrupting(*given: Any, **values: Any) -> float:
        made.append(None)
        if len(made) == 8:
            os.kill(os.getpid(), number)
        return iterate(*given, **values)

    session.iterate = interrupting  # type: ignore[method-assign]
    history = train(model, checkpoint=tmp_path, every=every)
    assert history.interrupted
    assert history.n_iterations == 8
    assert names(tmp_path)[-1] == "iteration-000000008.safetensors"
    assert signal.getsignal(number) is before
    again = build()
    history = train(again, checkpoint=tmp_path, every=every, resume=True)
    assert history.n_resumed == 8
    assert end(again, history) == uninterrupted()


# -- processes -------------------------------------------------------------------------


def test_killed_runs_end_the_same(tmp_path: Path) -> None:
    """A few kills; tools/kill_resume.py makes hundreds."""
    pytest.importorskip("fcntl", reason="processes cannot be forked here")
    tool = load_module(Path(__file__).parents[2] / "tools" / "kill_resume.py")
    with warnings.catch_warnings():
        # Python warns of threads that a child does not have; it does not need them.
        warnings.simplefilter("ignore", DeprecationWarning)
        counts = tool.kill_and_resume(4, 1, tmp_path)
    assert counts["kills"] >= 4


def run(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "arena_ckpt", "train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.filterwarnings("ignore:the cosine schedule starts again")
def test_ctrl_c_on_the_command_line(tmp_path: Path) -> None:
    """Exit code 130, the state saved, and a resume that ends as a whole run does."""
    saving = ("--checkpoint", tmp_path / "run", "--every", 10**6, "--quiet")
    process = run("digits_mlp", "--epochs", 10**6, *saving)
    folder = tmp_path / "run"
    while not (folder.is_dir() and names(folder)):  # training begins with a state
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, unexpected(err)) == (130, [])
    assert f"the state is in {folder}; --resume goes on from there" in out

    newest = ac.load(folder / names(folder)[-1])
    assert newest._session is not None
    epochs = newest._session.iteration // 12 + 2
    weights = []
    for options in (("--resume", *saving), ("--quiet",)):
        arguments = ("digits_mlp", "--epochs", epochs, "--save", tmp_path / "end")
        code, _, err = finished(*arguments, *options)
        assert (code, unexpected(err)) == (0, [])
        weights.append(ac.load(tmp_path / "end").weights())
    assert all(np.array_equal(weights[0][n], w) for n, w in weights[1].items())


def unexpected(err: str) -> list[str]:
    """Return lines but the one on a schedule that is over before a million epochs."""
    restarts = "warning: the cosine schedule starts again"
    return [line for line in err.splitlines() if not line.startswith(restarts)]


def finished(*arguments: object) -> tuple[int, str, str]:
    process = run(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_warnings_are_lines_on_the_command_line(tmp_path: Path) -> None:
    arguments = ("digits_mlp", "--checkpoint", tmp_path, "--quiet", "--epochs", 2)
    assert finished(*arguments)[0] == 0
    damage(tmp_path / "iteration-000000024.safetensors")
    code, _, err = finished(*arguments, "--resume")
    assert code == 0
    assert err.startswith("warning: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--every", 3), "every and resume are about saved states"),
        (("--resume",), "every and resume are about saved states"),
        (("--checkpoint", "it", "--every", 0), "every=0 is not possible"),
    ],
)
def test_impossible_options_are_found_before_the_work(
    options: tuple[object, ...], message: str
) -> None:
    code, out, err = finished("digits_mlp", *options)
    assert (code, out) == (2, "")
    assert message in err


def test_a_run_is_not_begun_twice_on_the_command_line(tmp_path: Path) -> None:
    arguments = ("digits_mlp", "--checkpoint", tmp_path, "--quiet", "--epochs", 1)
    assert finished(*arguments)[0] == 0
    code, _, err = finished(*arguments)
    assert code == 2
    assert "--resume" in err
