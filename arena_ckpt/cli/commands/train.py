"""The command ``arena-ckpt train``."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from arena_ckpt.cli.data_options import (
    DATA_HELP,
    counts_for,
    data_options,
    given_data_options,
    split_option,
)
from arena_ckpt.cli.failures import INTERRUPTED, OK, print_json
from arena_ckpt.cli.loss_option import loss_option
from arena_ckpt.cli.options import (
    MODEL_HELP,
    arithmetic_option,
    as_json_option,
    batch_size_option,
    check_option,
    debug_option,
    drop_last_option,
    file_option,
    no_blocks_option,
    set_arithmetic,
    set_given,
    strict_option,
)
from arena_ckpt.cli.request_options import given_request, request_options

_HELP = f"""\
Train MODEL and print the loss of every epoch.

{MODEL_HELP}
The first use ever compiles the kernels, which takes some seconds once.

\b
Examples:
  arena-ckpt train digits_mlp
  arena-ckpt train digits_mlp --epochs 5 --seed 1 --save-weights weights.npz
  arena-ckpt train digits_mlp --epochs 50 --checkpoint run --resume
  arena-ckpt train digits_mlp --epochs 5 --save digits.safetensors
  arena-ckpt train digits.safetensors --data digits --epochs 5
  arena-ckpt train digits_mlp --validation-split 0.2 --early-stopping 5 --keep-best
  arena-ckpt train digits_mlp --init digits.safetensors --freeze 'fc[1-4]'
  arena-ckpt train digits_mlp --batch-size 8 --board rp2350
  arena-ckpt train model.ini --data train.npz --validation test.npz
  arena-ckpt train model.ini --data iris.csv --label-column species
  arena-ckpt train model.py:build --data digits --validation-split 0.2 --json
"""


@click.command(help=_HELP)
@click.argument("model")
@loss_option
@click.option(
    "--data",
    metavar="SPEC",
    help=f"Training data, instead of those that come with MODEL: {DATA_HELP}.",
)
@click.option(
    "--validation",
    metavar="SPEC",
    help="Data to evaluate on after each epoch; the same forms as --data.",
)
@click.option(
    "--validation-split",
    type=float,
    metavar="FRACTION",
    help="Put this part of the training data aside for validation, for example 0.2.",
)
@split_option
@data_options
@click.option(
    "--standardize",
    is_flag=True,
    help="Give each column of the samples (of pictures, each channel) mean 0 and "
    "deviation 1, by the statistics of the training data without those for validation. "
    "They are kept with the model; all data stay raw.",
)
@click.option(
    "--epochs",
    type=int,
    metavar="N",
    help="Passes over the data.  [default: as the model says]",
)
@arithmetic_option
@batch_size_option
@drop_last_option
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    metavar="N",
    help="Decides initial weights, order of samples and the validation split.  "
    "[default: as the model says]",
)
@click.option(
    "--init",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Begin with the weights in FILE that have the names and shapes of MODEL's: a "
    "saved .safetensors or an .npz that --save-weights wrote. What was taken is "
    "printed, and why the others were not.",
)
@click.option(
    "--freeze",
    multiple=True,
    metavar="PATTERN",
    help="Do not train the layers whose names match, for example 'conv*'; repeat it "
    "for several patterns.",
)
@no_blocks_option
@click.option(
    "--board",
    metavar="NAME|FILE.toml",
    help="Train with a plan that fits on this board, in portable arithmetic as there; "
    "exit with 1 before the training if none does. The budget is what the board has "
    "free; 'arena-ckpt boards' lists the names.",
)
@request_options
@debug_option
@check_option
@click.option(
    "--early-stopping",
    type=click.IntRange(1),
    metavar="N",
    help="End the training when the loss of the validation, or without one that of the "
    "training, has not improved for N epochs.",
)
@click.option(
    "--reduce-on-plateau",
    type=click.IntRange(1),
    metavar="N",
    help="Divide the learning rate by 10 whenever that loss has not improved for N "
    "epochs.",
)
@click.option(
    "--keep-best",
    is_flag=True,
    help="End with the model as it was after the epoch in which that loss was least.",
)
@click.option(
    "--metrics",
    metavar="NAME,…",
    help="Print these metrics of the validation after each epoch as well, for example "
    "f1,recall.",
)
@file_option(
    "--save-weights",
    metavar="OUT.npz",
    help="Write the weights there at the end, also after Ctrl-C.",
)
@file_option(
    "--save",
    metavar="OUT.safetensors",
    help="Write the model with its whole state there at the end, also after Ctrl-C; "
    "arena_ckpt.load reads it.",
)
@click.option(
    "--checkpoint",
    metavar="FOLDER",
    help="Save the state of the training there: at the beginning, after every epoch, "
    "at the end, and on Ctrl-C or SIGTERM. The two newest states are kept.",
)
@click.option(
    "--every",
    type=int,
    metavar="N",
    help="With --checkpoint: save after every N iterations instead.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="With --checkpoint: go on from the newest state in FOLDER, where there is "
    "one. The end is, bit for bit, that of an uninterrupted training.",
)
@strict_option
@as_json_option
@click.option(
    "--curve/--no-curve",
    default=None,
    help="Print the curve of the losses at the end.  [default: where standard output "
    "is a terminal]",
)
@click.option("--quiet", is_flag=True, help="Print the final result only.")
def train(
    model: str,
    data: str | None,
    validation: str | None,
    validation_split: float | None,
    split: str | None,
    standardize: bool,
    epochs: int | None,
    arithmetic: str | None,
    batch_size: int | str | None,
    drop_last: bool | None,
    seed: int | None,
    init: Path | None,
    freeze: tuple[str, ...],
    no_blocks: bool,
    board: str | None,
    debug: bool,
    check: str,
    early_stopping: int | None,
    reduce_on_plateau: int | None,
    keep_best: bool,
    metrics: str | None,
    save_weights: Path | None,
    save: Path | None,
    checkpoint: str | None,
    every: int | None,
    resume: bool,
    as_json: bool,
    curve: bool | None,
    quiet: bool,
    **values: Any,
) -> int:
    """Train MODEL and print the loss of every epoch."""
    from arena_ckpt.boards import load_board
    from arena_ckpt.cli.batch_sizes import (
        choice_document,
        choice_lines,
        set_batch_size,
    )
    from arena_ckpt.cli.board_plan import board_budget, plan_for_board
    from arena_ckpt.cli.ended import ended_evaluation
    from arena_ckpt.cli.line_breaks import fitted
    from arena_ckpt.cli.models import (
        choose_data,
        load_model,
        plan_to_compare,
        warnings_of,
        with_told,
        without_blocks,
    )
    from arena_ckpt.cli.output import (
        plan_document,
        print_board,
        print_explanation,
        print_table,
        print_training,
        require_writable,
        write_weights,
    )
    from arena_ckpt.cli.results import history_document, result_text, taken_document
    from arena_ckpt.cli.table_hints import table_hints
    from arena_ckpt.cli.trained import (
        go_on_from,
        require_one_start,
        standardization_text,
        standardize_by,
    )
    from arena_ckpt.common.json_codec import encode
    from arena_ckpt.engine.metric_names import names_of_metrics
    from arena_ckpt.model import standardize_as_asked
    from arena_ckpt.report.tables import totals_table
    from arena_ckpt.training.callbacks import (
        Callback,
        EarlyStopping,
        KeepBest,
        ReduceOnPlateau,
    )
    from arena_ckpt.training.records import EpochRecord, epoch_line, text_curve
    from arena_ckpt.training.saved_run import parse_saving

    if validation is not None and validation_split is not None:
        raise click.UsageError(
            "--validation and --validation-split exclude each other; keep one",
            click.get_current_context(),
        )
    if split is not None and validation_split is None:
        raise click.UsageError(
            "--split says which samples --validation-split puts aside; give both, for "
            f"example --validation-split 0.2 --split {split}",
            click.get_current_context(),
        )
    tables = given_data_options(values, data, validation)
    parse_saving(checkpoint, every, resume)
    asked = names_of_metrics(metrics)
    for path in (save_weights, save):
        if path is not None:
            require_writable(path)
    target = None if board is None else load_board(board)
    callbacks: list[Callback] = []
    if early_stopping is not None:
        callbacks.append(EarlyStopping(early_stopping))
    if reduce_on_plateau is not None:
        callbacks.append(ReduceOnPlateau(reduce_on_plateau))
    if keep_best:
        callbacks.append(KeepBest())
    loaded = load_model(model)
    require_one_start(model, loaded, init)
    built = without_blocks(loaded.model) if no_blocks else loaded.model
    if seed is not None:
        built.seed = seed
    if freeze:
        built.freeze(freeze)
    set_given(built, epochs=epochs, drop_last=drop_last)
    for_board = set_arithmetic(built, arithmetic, for_board=target is not None)
    training, evaluation = choose_data(
        loaded,
        model,
        data,
        validation,
        validation_split,
        built.seed,
        tables=tables,
        split=split,
    )
    if asked is not None and evaluation is None:
        raise click.UsageError(
            "--metrics are those of the validation after each epoch; give --validation "
            "or --validation-split, or use 'evaluate' after the training",
            click.get_current_context(),
        )
    hinted = partial(table_hints, built, (data, training), (validation, evaluation))
    if standardize:
        with hinted():
            standardize_by(built, training, loaded.state, model)
    request = given_request(values, target)
    available = board_budget(target, request)
    choice = set_batch_size(
        built,
        batch_size,
        request,
        most=training.n_samples,
        budget_bytes=available,
        debug=debug,
    )
    fit = None
    if target is not None:
        plan, fit = plan_for_board(built, target, request, debug=debug)
        request = {"plan": plan}
    plan = built.initialize(debug=debug, check=check, **request)
    if loaded.state is not None:
        started = go_on_from(built, loaded.state)
    source = None if standardize or loaded.state is None else model
    held = built.standardization
    taken = None if init is None else built.take_weights(init)
    if built.standardization != held:
        source = str(init)
    with hinted():
        standardize_as_asked(built, training)
    without = plan_to_compare(built, plan, debug=debug)
    talks = not (as_json or quiet)
    if talks:
        for line in choice_lines(choice) if choice else ():
            click.echo(line)
        print_training(model, built, training, evaluation, plan, for_board=for_board)
        if built.standardization is not None:
            click.echo(f"{standardization_text(built.standardization, source)}\n")
        if loaded.state is not None:
            click.echo(f"goes on from iteration {started:,} of {model}\n")
        if taken is not None:
            click.echo(f"{taken}\n")
        print_table(totals_table(plan))
        print_explanation(plan, without)
        if fit is not None:
            print_board(fit)
    n_epochs = built.get_property("epochs")

    def print_epoch(record: EpochRecord) -> None:
        shows_rate = reduce_on_plateau is not None
        click.echo(fitted(epoch_line(record, n_epochs, shows_rate=shows_rate)))

    with hinted():
        history = built.train(
            training,
            validation=evaluation,
            progress=False if as_json or quiet else None,
            on_epoch=print_epoch if talks else None,
            callbacks=callbacks,
            metrics=asked,
            checkpoint=checkpoint,
            every=every,
            resume=resume,
        )

    def write_files() -> None:
        if save_weights is not None:
            write_weights(save_weights, built)
        if save is not None:
            built.save(save)

    try:
        result = ended_evaluation(
            built, training, history, (save_weights, save), metrics=asked
        )
    except KeyboardInterrupt:  # a second Ctrl-C loses nothing
        write_files()
        raise
    write_files()
    if as_json:
        document: dict[str, Any] = {"command": "train", "model": model}
        hints = with_told(warnings_of(built, training), built)
        document |= plan_document(plan, without, hints)
        document |= choice_document(choice)
        document["board"] = None if fit is None else fit.summary()
        document |= history_document(history, result)
        document["init"] = None if taken is None else taken_document(taken)
        document["classes"] = built.classes
        document["class_counts"] = {
            "training": counts_for(built, training),
            "validation": None if evaluation is None else counts_for(built, evaluation),
        }
        document["standardization"] = encode(built.standardization)
        document["weights_file"] = None if save_weights is None else str(save_weights)
        document["state_file"] = None if save is None else str(save)
        document["checkpoint_folder"] = checkpoint
        print_json(document)
    else:
        if curve if curve is not None else talks and _is_terminal():
            width = shutil.get_terminal_size().columns
            click.echo("".join(f"{x}\n" for x in text_curve(history.epochs, width)))
        click.echo(result_text(history, n_epochs, result))
        _print_files(save_weights, save, checkpoint if history.interrupted else None)
    return INTERRUPTED if history.interrupted else OK


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _print_files(
    weights: Path | None, state: Path | None, interrupted_state: str | None
) -> None:
    """Print where the weights, the model and the state of an interrupted run are."""
    if weights is not None:
        click.echo(f"weights are in {weights}")
    if state is not None:
        click.echo(f"the model with its state is in {state}")
    if interrupted_state is not None:
        click.echo(f"the state is in {interrupted_state}; --resume goes on from there")
