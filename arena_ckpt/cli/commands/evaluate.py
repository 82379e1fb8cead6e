"""The command ``arena-ckpt evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from arena_ckpt.cli.data_options import data_options, given_data_options
from arena_ckpt.cli.failures import OK, print_json
from arena_ckpt.cli.loss_option import loss_option
from arena_ckpt.cli.options import (
    MODEL_HELP,
    arithmetic_option,
    as_json_option,
    debug_option,
    number_option,
    weights_option,
)

_HELP = f"""\
Print loss and metrics of MODEL with its trained weights.

{MODEL_HELP}
The weights are those of a saved model, those that a Python
function gave its model, or --weights. No weight changes.

\b
Examples:
  arena-ckpt train digits_mlp --save digits.safetensors
  arena-ckpt evaluate digits.safetensors --data digits
  arena-ckpt evaluate digits_mlp --weights weights.npz
  arena-ckpt evaluate model.ini --weights w.npz --data a.npz --data b.npz
  arena-ckpt evaluate iris.safetensors --data iris.csv --metrics accuracy,f1
"""


@click.command(help=_HELP)
@click.argument("model")
@loss_option
@click.option(
    "--data",
    multiple=True,
    metavar="SPEC",
    help="Samples with labels, in the forms of 'train'; with several inputs a .npz "
    "with x:NAME for each, and y. Can be given several times.  "
    "[default: all data that come with MODEL]",
)
@data_options
@click.option(
    "--metrics",
    metavar="NAME,…",
    help="Print these metrics alone, for example accuracy,f1,auc, instead of all with "
    "their values by class or output.",
)
@weights_option
@number_option
@arithmetic_option
@debug_option
@as_json_option
def evaluate(
    model: str,
    data: tuple[str, ...],
    metrics: str | None,
    weights: Path | None,
    batch_size: int | None,
    arithmetic: str | None,
    debug: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Print loss and metrics of MODEL with its trained weights."""
    from arena_ckpt.cli.line_breaks import fitted
    from arena_ckpt.cli.models import load_model
    from arena_ckpt.cli.output import describe_plan, memory_line, print_table
    from arena_ckpt.cli.results import (
        evaluation_document,
        evaluation_table,
        evaluation_text_of,
    )
    from arena_ckpt.cli.sample_files import data_to_evaluate, named_data
    from arena_ckpt.cli.table_hints import table_hints
    from arena_ckpt.cli.trained import initialize_trained, with_known_means
    from arena_ckpt.engine.metric_names import names_of_metrics
    from arena_ckpt.errors import LossError

    tables = given_data_options(values, *data)
    asked = names_of_metrics(metrics)
    loaded = load_model(model)
    if not loaded.model.compile().has_loss:
        raise LossError(
            f"{model} has no loss, so there is nothing to evaluate: add one as its "
            "last layer, for example mse or cross_softmax; 'predict' needs none",
            found=(),
        )
    tables = with_known_means(tables, loaded, weights)
    found = data_to_evaluate(loaded, model, data, tables)
    trained = initialize_trained(
        loaded,
        model,
        weights,
        mode="train",
        debug=debug,
        batch_size=batch_size,
        arithmetic=arithmetic,
    )
    evaluations = []
    for one in found:
        with table_hints(trained, (one.name, one)), named_data(one):
            evaluations.append(
                (one.name, trained.evaluate(one.labelled, metrics=asked))
            )
    plan = trained.plan
    if as_json:
        document: dict[str, Any] = {"command": "evaluate", "model": model}
        document |= {"batch_size": plan.batch_size, "arena_bytes": plan.arena_bytes}
        document |= {"constant_bytes": plan.constant_bytes}
        document["evaluations"] = [
            {"data": name, **evaluation_document(one)} for name, one in evaluations
        ]
        print_json(document)
        return OK
    click.echo(fitted(f"{model}: {describe_plan(plan, trained)}"))
    click.echo(f"{fitted(memory_line(plan))}\n")
    print_table(evaluation_table(evaluations))
    if asked is None:
        texts = [evaluation_text_of(name, found) for name, found in evaluations]
        if shown := [text for text in texts if text]:
            click.echo("\n\n".join(shown))
    return OK
