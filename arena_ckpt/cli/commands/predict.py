"""The command ``arena-ckpt predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from arena_ckpt.cli.data_options import data_options, given_data_options
from arena_ckpt.cli.failures import OK, print_json
from arena_ckpt.cli.options import (
    MODEL_HELP,
    arithmetic_option,
    as_json_option,
    debug_option,
    file_option,
    number_option,
    weights_option,
)

_HELP = f"""\
Predict with MODEL and its trained weights.

{MODEL_HELP}
The weights are those of a saved model, those that a Python
function gave its model, or --weights. The memory is planned
for inference alone: no labels, gradients or states.

\b
Examples:
  arena-ckpt train digits_mlp --save digits.safetensors
  arena-ckpt predict digits.safetensors --data digits
  arena-ckpt predict digits.safetensors --data digits -o out.csv
  arena-ckpt predict model.ini --weights w.npz --data new.csv --no-labels
  arena-ckpt predict iris.safetensors --data new.csv --label-column species
"""


@click.command(help=_HELP)
@click.argument("model")
@click.option(
    "--data",
    metavar="SPEC",
    help="Samples, with labels or without: 'digits', a .npz with x, a table (.csv, "
    ".tsv, .txt, .dat, .data), an IDX file; with several inputs a .npz with x:NAME for "
    "each.  "
    "[default: the validation data that come with MODEL, else the training data]",
)
@click.option(
    "--no-labels",
    is_flag=True,
    help="Every column of a table is a value of the sample; none has labels.",
)
@data_options
@weights_option
@file_option(
    "-o",
    "--output",
    metavar="OUT.npz|OUT.npy|OUT.csv",
    help="Write all predictions there instead of printing the first.",
)
@click.option(
    "--rows",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    metavar="N",
    help="How many lines of the table to print.",
)
@number_option
@arithmetic_option
@debug_option
@as_json_option
def predict(
    model: str,
    data: str | None,
    no_labels: bool,
    weights: Path | None,
    output: Path | None,
    rows: int,
    batch_size: int | None,
    arithmetic: str | None,
    debug: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Predict with MODEL and its trained weights."""
    from arena_ckpt.cli.line_breaks import fitted
    from arena_ckpt.cli.models import load_model
    from arena_ckpt.cli.output import (
        describe_plan,
        memory_line,
        print_table,
        require_writable,
    )
    from arena_ckpt.cli.predictions import require_suffix
    from arena_ckpt.cli.predictions_by_loss import PredictionsByLoss
    from arena_ckpt.cli.sample_files import data_to_predict, named_samples
    from arena_ckpt.cli.trained import initialize_trained, with_known_means

    for name in ("label_column", "targets", "label_names"):
        if no_labels and values[name]:
            raise click.UsageError(
                f"--no-labels and --{name.replace('_', '-')} exclude each other; keep "
                "one",
                click.get_current_context(),
            )
    tables = given_data_options(values, data)
    has_labels = not no_labels and tables.get("label_column") != "none"
    if output is not None:
        require_suffix(output)
        require_writable(output)
    loaded = load_model(model)
    tables = with_known_means(tables, loaded, weights)
    samples = data_to_predict(loaded, model, data, has_labels=has_labels, tables=tables)
    trained = initialize_trained(
        loaded,
        model,
        weights,
        mode="inference",
        debug=debug,
        batch_size=batch_size,
        arithmetic=arithmetic,
    )
    with named_samples(loaded, samples, has_labels=has_labels):
        outputs = trained.predict(samples.x)
    found = PredictionsByLoss.of(trained.compile(), outputs, trained.classes)
    if output is not None:
        found.write(output)
    plan = trained.plan
    if as_json:
        document: dict[str, Any] = {"command": "predict", "model": model}
        document |= {"data": samples.name, "batch_size": plan.batch_size}
        document |= {"arena_bytes": plan.arena_bytes}
        document |= {"constant_bytes": plan.constant_bytes}
        document |= found.document(with_values=output is None)
        document["output_file"] = None if output is None else str(output)
        print_json(document)
        return OK
    click.echo(fitted(f"{model}: {describe_plan(plan, trained)}"))
    click.echo(fitted(memory_line(plan)))
    if output is not None:
        click.echo(f"{found.n_samples:,} predictions of {samples.name} are in {output}")
        return OK
    if rows:
        click.echo()
        for table in found.tables(rows):
            print_table(table)
    n_lines, unit = found.extent
    shown = min(rows, n_lines)
    line = f"{shown:,} of {n_lines:,} {unit} of {samples.name}"
    if shown < n_lines:
        line += (
            "; -o OUT.npz writes all"
            if found.alone is None
            else "; -o OUT.csv writes all, also as .npz or .npy"
        )
    click.echo(fitted(line))
    return OK
