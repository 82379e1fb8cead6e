"""A program that is given raw rows of a table names their classes as the model does."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import arena_ckpt as ac
from arena_ckpt.c_export.project import write_project
from arena_ckpt.device.export_c import make_c_project

NAMES = ("", "7", 'say "x"', "a */ b ??/", "Grün\n%s")
MAIN = """\
#include <stdio.h>
#include "kinds.h"

static const char *const names[] = KINDS_CLASS_NAMES;

int main(void)
{
    static float out[KINDS_OUTPUT_ELEMENTS];
    float *row = kinds_input(0);
    kinds_init();
    while (scanf("%f,%f,%f", &row[0], &row[1], &row[2]) == 3) {
        int i, best = 0;
        if (kinds_predict(out) != KINDS_OK)
            return 1;
        for (i = 0; i < KINDS_OUTPUT_ELEMENTS; i++) {
            printf("%.9g,", (double)out[i]);
            best = out[i] > out[best] ? i : best;
        }
        printf("%s%c", names[best], 0);
    }
    return (int)(sizeof names / sizeof *names) - KINDS_OUTPUT_ELEMENTS;
}
"""


def untrained() -> ac.Model:
    model = ac.Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:3")
    model.add_layer("fully_connected", name="fc", unit=5)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=1, epochs=5, arithmetic="portable")
    model.set_optimizer("adam", learning_rate=0.05)
    return model


def trained() -> tuple[ac.Model, ac.Dataset]:
    generator = np.random.default_rng(0)
    y = np.arange(40) % 5
    x = generator.normal(size=(40, 3)) + np.stack([y, y % 2, 100_000 + 300 * y], axis=1)
    data = ac.Dataset("kinds", x, y, NAMES)
    model = untrained()
    model.standardize(data)
    model.initialize()
    model.train(data, progress=False)
    return model, data


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler here")
def test_raw_rows_get_the_names_and_bits_of_the_model(tmp_path: Path) -> None:
    model, data = trained()
    project = make_c_project(model, name="kinds", mode="inference")
    write_project(project, tmp_path / "c")
    (tmp_path / "main.c").write_text(MAIN)
    sources = sorted((tmp_path / "c/src").glob("*.c"))
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-O1"]
    subprocess.run(
        ["gcc", *flags, f"-I{tmp_path}/c/src", "main.c", *sources, "-o", "main"],
        cwd=tmp_path,
        check=True,
    )
    rows = "".join(",".join(f"{v:.9g}" for v in row) + "\n" for row in data.x)
    done = subprocess.run(
        [tmp_path / "main"], input=rows.encode(), capture_output=True, check=True
    )
    lines = done.stdout.decode().split("\0")[:-1]
    found = [line.split(",", 5) for line in lines]
    outputs = model.predict(data.x).reshape(-1, 5)
    assert np.array_equal(np.array([f[:5] for f in found], np.float32), outputs)
    names = [NAMES[i] for i in outputs.argmax(axis=1)]
    assert [f[5] for f in found] == names
    assert len({*names}) > 2

    nameless = make_c_project(untrained(), name="kinds", mode="inference")
    assert b"CLASS_NAMES" not in nameless.files["src/kinds.h"]
