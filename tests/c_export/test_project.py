"""Projects in C: they train to the bits of the engine, and their test tells a fault."""

import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers.c_nets import NETS, dense, frozen, partly_trained, pictures
from helpers.several_rams import in_rams

from arena_ckpt import Model, create_schedule, load_example
from arena_ckpt.c_export.device_state import DeviceState
from arena_ckpt.c_export.project import CProject, write_project
from arena_ckpt.cli import main
from arena_ckpt.device.export_c import export_c, make_c_project
from arena_ckpt.errors import (
    CExportError,
    InvalidParameterError,
    UnwritableFileError,
)
from arena_ckpt.model import copy_of
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.training.device_states import state_of

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("make")), reason="no C compiler here"
)


@functools.cache
def project_of(name: str, mode: str = "train") -> CProject:
    return make_c_project(NETS[name](), name=name, mode=mode)


def written(project: CProject, folder: Path) -> Path:
    write_project(project, folder)
    return folder


def run_test(
    folder: Path, compiler: Sequence[str] = ("gcc", "-O2", "-Werror")
) -> subprocess.CompletedProcess[str]:
    cc, *flags = compiler
    command = ["make", "-s", "test", f"CC={cc}", f"CFLAGS={' '.join(flags)}"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )


def state_of_model(model: Model) -> DeviceState:
    own = copy_of(model)
    own.initialize()
    assert own._session is not None
    return state_of(own._session)


# -- the same bits ---------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_a_project_trains_to_the_same_bits(name: str, tmp_path: Path) -> None:
    done = run_test(written(project_of(name), tmp_path / "c"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "20 steps of training have the same bits\n"


def test_a_part_of_the_weights_trains_to_the_same_bits(tmp_path: Path) -> None:
    project = make_c_project(partly_trained(), name="partly", mode="train")
    source = project.files["src/partly.c"].decode()
    assert "C(PARTLY_CONV_FILTER)" in source
    done = run_test(written(project, tmp_path / "c"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["dense", "pictures", "frozen"])
def test_inference_alone_predicts_the_same_bits(name: str, tmp_path: Path) -> None:
    project = project_of(name, "inference")
    done = run_test(written(project, tmp_path / "c"))
    assert done.returncode == 0, done.stdout + done.stderr
    header = project.files[f"src/{name}.h"].decode()
    assert "_predict" in header
    assert "_step" not in header


@pytest.mark.parametrize(
    "compiler",
    [
        ("gcc", "-O0", "-Werror"),
        ("gcc", "-O3", "-march=native", "-Werror"),
        ("gcc", "-O2", "-flto", "-Werror"),
        ("gcc", "-O1", "-g", "-fsanitize=address,undefined", "-Werror"),
        ("clang", "-O2", "-Werror"),
    ],
    ids=" ".join,
)
def test_the_bits_do_not_depend_on_the_compiler(
    compiler: tuple[str, ...], tmp_path: Path
) -> None:
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"no {compiler[0]} here")
    done = run_test(written(project_of("pictures"), tmp_path / "c"), compiler)
    assert done.returncode == 0, done.stdout + done.stderr


SCHEDULES = {
    "constant": create_schedule("constant", learning_rate=0.03),
    "exponential": create_schedule(
        "exponential", learning_rate=0.1, decay_rate=0.7, decay_steps=3
    ),
    "step": create_schedule(
        "step", iteration=(0, 4, 11), learning_rate=(0.1, 0.05, 0.02, 0.01)
    ),
    "linear": create_schedule(
        "linear", max_learning_rate=0.1, min_learning_rate=0.01, decay_steps=13
    ),
    "cosine": create_schedule(
        "cosine", max_learning_rate=0.1, min_learning_rate=0.01, decay_steps=6
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_learning_rates_are_the_same(schedule: str, tmp_path: Path) -> None:
    model = dense()
    model.set_learning_rate_scheduler(SCHEDULES[schedule])
    done = run_test(written(make_c_project(model, name="net"), tmp_path / "c"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_budget_recomputes_to_the_same_bits(tmp_path: Path) -> None:
    model = pictures()
    least = min(point.arena_bytes for point in model.pareto())
    project = make_c_project(model, name="net", budget=least)
    source = project.files["src/net.c"].decode()
    assert re.search(r"/\* step \d+, recompute of \w+ \*/", source)
    done = run_test(written(project, tmp_path / "c"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_several_rams_are_an_array_each(tmp_path: Path) -> None:
    model = frozen()
    plan = in_rams(model.make_plan(), {"dtcm": 4096, "S-RAM": 2**16})
    heights = [plan.memories[ram.name].height_bytes for ram in plan.rams]
    assert min(heights) > 0
    project = make_c_project(model, name="net", plan=plan)
    source = project.files["src/net.c"].decode()
    for ram, height in zip(("dtcm", "s_ram"), heights, strict=True):
        array = f"static uint8_t net_{ram}[{height}]"
        assert array in source
        assert f"NET_{ram.upper()}_SECTION;" in source
    done = run_test(written(project, tmp_path / "c"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_trained_model_goes_on_from_its_weights(tmp_path: Path) -> None:
    model = dense()
    model.initialize()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 12), np.float32), rng.integers(0, 5, 8)
    model.train_step(x, y)
    before = model.weights()
    project = make_c_project(model, name="net")
    assert project != project_of("dense")
    done = run_test(written(project, tmp_path / "c"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert all((model.weights()[name] == w).all() for name, w in before.items())


# -- what is written -------------------------------------------------------------------


def test_equal_models_give_equal_bytes() -> None:
    assert make_c_project(dense(), name="dense").files == project_of("dense").files


def test_steps_are_functions_that_can_be_read() -> None:
    source = project_of("dense").files["src/dense.c"].decode()
    assert "/* step 1, forward of fc1 */\nstatic void step_1(void)\n{\n" in source
    assert re.search(r"ac_add_bias\(F\(DENSE_OUT_OUT0\), F\(DENSE_OUT_BIAS\), ", source)
    assert "    RUN(step_1);\n" in source
    assert re.search(r"^ \* +\d+ +768  0-\d+ +fc1:weight$", source, re.MULTILINE)
    assert max(map(len, source.splitlines())) <= 100


@pytest.mark.parametrize("name", NETS)
def test_every_file_compiles_alone(name: str, tmp_path: Path) -> None:
    folder = written(project_of(name), tmp_path / "c")
    for file in sorted((folder / "src").glob("*.c")):
        for compiler in ("gcc", "clang"):
            if shutil.which(compiler):
                command = [compiler, *WARNINGS, "-O2", "-I", str(folder / "src")]
                command += ["-c", str(file), "-o", str(tmp_path / "one.o")]
                subprocess.run(command, check=True)


@pytest.mark.parametrize("name", NETS)
def test_memory_is_the_arena_and_nothing_calls_a_library(
    name: str, tmp_path: Path
) -> None:
    model = NETS[name]()
    plan = model.make_plan()
    folder = written(project_of(name), tmp_path / "c")
    subprocess.run(["make", "-s", f"build/lib{name}.a"], cwd=folder, check=True)
    library = str(folder / f"build/lib{name}.a")
    listing = subprocess.run(
        ["nm", "-S", library], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listing.splitlines()]
    sizes = {row[3]: int(row[1], 16) for row in rows if len(row) == 4}
    kinds = {row[-1]: row[-2] for row in rows if len(row) > 1}
    assert sizes[f"{name}_arena"] == plan.arena_bytes
    own = {symbol for symbol, kind in kinds.items() if kind != "U"}
    # Compilers make loops into the first two; the last is of position-independent code.
    known = {"memcpy", "memset", "_GLOBAL_OFFSET_TABLE_"}
    used = {row[-1] for row in rows if len(row) == 2 and row[0] == "U"}
    assert used - own <= known
    assert "d" not in {kind.lower() for kind in kinds.values()}


def test_constants_stay_in_flash() -> None:
    files = project_of("frozen").files
    source = files["src/frozen.c"].decode()
    weights = files["src/frozen_weights.c"].decode()
    assert "C(FROZEN_CONV1_FILTER)" in source
    assert "const float frozen_constants[" in weights
    assert "frozen_conv1_filter" not in weights
    assert not re.search(r"copy\([^)]*CONV1", source)


def test_the_example_and_cmake_build(tmp_path: Path) -> None:
    folder = written(project_of("dense"), tmp_path / "c")
    subprocess.run(["make", "-s"], cwd=folder, check=True)
    done = subprocess.run(
        ["build/example"], cwd=folder, check=True, capture_output=True, text=True
    )
    assert done.stdout.count("loss") == 10
    if shutil.which("cmake"):
        build = tmp_path / "cmake"
        for command in (
            ["cmake", "-S", str(folder), "-B", str(build)],
            ["cmake", "--build", str(build)],
            ["ctest", "--test-dir", str(build)],
        ):
            subprocess.run(command, check=True, capture_output=True)


# -- faults on purpose -----------------------------------------------------------------

Fault = Callable[[dict[str, str]], None]


def offset_of(tensor: str) -> Fault:
    """Return a fault: a tensor lies 4 bytes further."""

    def plant(files: dict[str, str]) -> None:
        pattern = rf"(#define DENSE_{tensor} )(\d+)\n"
        text, n = re.subn(
            pattern,
            lambda match: f"{match[1]}{int(match[2]) + 4}\n",
            files["src/dense.h"],
        )
        assert n == 1
        files["src/dense.h"] = text

    return plant


def replaced(old: str, new: str, path: str = "src/dense.c") -> Fault:
    """Return a fault: a text stands where another should."""

    def plant(files: dict[str, str]) -> None:
        assert old in files[path], old
        files[path] = files[path].replace(old, new, 1)

    return plant


FAULTS: dict[str, Fault] = {
    "offset of a weight": offset_of("FC1_WEIGHT"),
    "offset of a bias with room behind it": offset_of("OUT_BIAS"),
    "offset of an activation": offset_of("FC1_OUT0"),
    "offset of a state": offset_of("FC2_WEIGHT_SECOND_MOMENT"),
    "a step left out": replaced("    RUN(step_1);\n", "    (void)step_1;\n"),
    "a wrong beta": replaced("ac_whole_power(0.9,", "ac_whole_power(0.91,"),
    "a wrong epsilon": replaced("= 1e-07;", "= 1e-06;"),
    "a wrong learning rate": replaced("return 0.01;", "return 0.010000001;"),
    "a wrong scale": replaced("= 0.125;", "= 0.126;"),
    "a wrong first weight": replaced(
        "    copy(dense_fc1_weight,", "    copy(dense_fc1_weight + 1,"
    ),
    "a tensor that is not saved": replaced(
        "    {0, DENSE_FC1_BIAS, 64},\n", "    {0, DENSE_FC1_BIAS, 60},\n"
    ),
    "a state that is not checked": replaced(
        "if (number_at(bytes) != *crc)", "if (number_at(bytes) > 0 && *crc == 0)"
    ),
    "NaN that is not seen": replaced("x[i] - x[i] == 0.0f", "x[i] != 3.0f"),
    "the first slot, always": replaced("== 0 ? 1 : 0;", "== 0 ? 0 : 0;"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_test_of_a_project_tells_a_fault(fault: str, tmp_path: Path) -> None:
    files = {path: text.decode() for path, text in project_of("dense").files.items()}
    FAULTS[fault](files)
    mutant = CProject("dense", {path: text.encode() for path, text in files.items()})
    done = run_test(written(mutant, tmp_path / "c"), ("gcc", "-O1"))
    assert done.returncode != 0, done.stdout
    assert done.stdout, done.stderr  # it is the test that says so, not the compiler


def test_each_step_that_is_left_out_is_told() -> None:
    text = project_of("dense").files["src/dense.c"].decode()
    steps = sorted({*re.findall(r"^    RUN\((step_\d+)\);$", text, re.MULTILINE)})
    assert len(steps) > 10
    for step in steps:
        with tempfile.TemporaryDirectory() as folder:
            files = dict(project_of("dense").files)
            files["src/dense.c"] = text.replace(
                f"    RUN({step});\n", f"    (void){step};\n"
            ).encode()
            done = run_test(
                written(CProject("dense", files), Path(folder) / "c"), ("gcc", "-O1")
            )
            assert done.returncode != 0, f"{step} is not missed"


# -- the functions, called from C ------------------------------------------------------


def run_main(folder: Path, name: str, body: str) -> str:
    """Compile a program against a project, and return what it prints."""
    main = folder / "main.c"
    main.write_text(
        f'#include <stdio.h>\n#include <string.h>\n#include "{name}.h"\n{body}', "utf-8"
    )
    sources = sorted(map(str, (folder / "src").glob("*.c")))
    command = ["gcc", *WARNINGS, "-O1", "-fsanitize=address,undefined"]
    command += ["-I", str(folder / "src"), str(main), *sources]
    command += ["-o", str(folder / "main")]
    subprocess.run(command, check=True)
    return subprocess.run(
        [str(folder / "main")], check=True, capture_output=True, text=True
    ).stdout


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    folder = written(project_of("tokens"), tmp_path / "c")
    body = """
    static float out[TOKENS_PASS_SAMPLES * TOKENS_OUTPUT_ELEMENTS];
    static void samples(float id, float label)
    {
        int i;
        for (i = 0; i < TOKENS_BATCH * 6; i++) {
            tokens_input(0)[i] = 1.0f;
            tokens_label()[i] = 2.0f;
        }
        tokens_input(0)[5] = id;
        tokens_label()[5] = label;
    }
    static int ended(void *context, int32_t first, int32_t n)
    {
        (void)first;
        (void)n;
        return ++*(int *)context > 0;
    }
    int main(void)
    {
        float zero = 0.0f;
        double loss = 0.0;
        int calls = 0;
        tokens_init();
        printf("%d ", tokens_input(1) == 0 && tokens_input(-1) == 0);
        samples(11.0f, 2.0f); printf("%d ", tokens_step(&loss));
        samples(0.5f, 2.0f); printf("%d ", tokens_step(&loss));
        samples(-1.0f, 2.0f); printf("%d ", tokens_predict(out));
        samples(1.0f, 11.0f); printf("%d ", tokens_step(&loss));
        samples(1.0f, -100.0f); printf("%d ", tokens_step(&loss));
        samples(zero / zero, 2.0f); printf("%d ", tokens_step(&loss));
        samples(1.0f, 1.0f / zero); printf("%d ", tokens_step(&loss));
        printf("%d ", tokens_train(3, ended, &calls));
        printf("%d %d ", calls, (int)tokens_iteration());
        return 0;
    }
    """
    found = run_main(folder, "tokens", body.replace("1.0f / zero", "3e38f * 10.0f"))
    assert found.split() == ["1", "3", "3", "3", "3", "0", "2", "2", "4", "1", "1"]


def test_a_loss_that_is_not_finite_changes_no_weight(tmp_path: Path) -> None:
    folder = written(project_of("momentum"), tmp_path / "c")
    body = """
    static uint8_t state[2][MOMENTUM_STATE_BYTES];
    static int put(void *to, uint32_t at, const uint8_t *bytes, uint32_t n)
    {
        memcpy((uint8_t *)to + at, bytes, n);
        return 0;
    }
    static int fails(void *to, uint32_t at, const uint8_t *bytes, uint32_t n)
    {
        (void)to;
        (void)bytes;
        return at + n > 100;
    }
    int main(void)
    {
        int i;
        double loss = 0.0;
        momentum_init();
        momentum_save(put, state[0]);
        for (i = 0; i < MOMENTUM_BATCH * 6; i++) {
            momentum_input(0)[i] = 1.0f;
        }
        for (i = 0; i < MOMENTUM_BATCH * 3; i++) {
            momentum_label()[i] = 3e38f;
        }
        printf("%d ", momentum_step(&loss));
        momentum_save(put, state[1]);
        printf("%d ", memcmp(state[0], state[1], sizeof state[0]));
        printf("%d ", momentum_save(fails, 0));
        return 0;
    }
    """
    # Squares of floats are finite as doubles; here their sum is one of floats.
    found = run_main(folder, "momentum", body).split()
    assert found[0] in ("0", "1")
    assert (found[0] == "1") == (found[1] == "0")
    assert found[2] == "7"


def test_a_state_of_another_plan_is_refused(tmp_path: Path) -> None:
    model = dense()
    state = state_of_model(model)
    rng = np.random.default_rng(1)
    arrays = {
        name: rng.standard_normal(region.shape, np.float32)
        for name, region in state.tensors.items()
    }
    blob = state.encode(7, arrays)
    other = DeviceState(bytes(32), state.tensors).encode(7, arrays)
    cut = blob[:-1]
    folder = written(project_of("dense"), tmp_path / "c")
    for name, content in (("blob", blob), ("other", other), ("cut", cut)):
        (folder / name).write_bytes(content)
    body = """
    static int get(void *from, uint32_t at, uint8_t *bytes, uint32_t n)
    {
        return fseek(from, (long)at, SEEK_SET) != 0 || fread(bytes, 1, n, from) != n;
    }
    static int put(void *to, uint32_t at, const uint8_t *bytes, uint32_t n)
    {
        return fseek(to, (long)at, SEEK_SET) != 0 || fwrite(bytes, 1, n, to) != n;
    }
    int main(void)
    {
        const char *names[] = {"other", "cut", "blob"};
        FILE *file;
        int i;
        dense_init();
        for (i = 0; i < 3; i++) {
            file = fopen(names[i], "rb");
            printf("%d ", dense_restore(get, file));
            printf("%d ", (int)dense_iteration());
            fclose(file);
        }
        file = fopen("again", "wb");
        printf("%d ", dense_save(put, file));
        fclose(file);
        return 0;
    }
    """.replace('"other"', f'"{folder}/other"')
    for name in ("cut", "blob", "again"):
        body = body.replace(f'"{name}"', f'"{folder}/{name}"')
    found = run_main(folder, "dense", body)
    assert found.split() == ["6", "0", "7", "0", "0", "7", "0"]
    assert (folder / "again").read_bytes() == blob


# -- the command -----------------------------------------------------------------------


def test_the_command_writes_a_project(tmp_path: Path) -> None:
    ini = tmp_path / "net.ini"
    ini.write_text(
        "[Model]\ntype = neuralnetwork\nbatch_size = 4\n"
        "[Optimizer]\ntype = adam\n"
        "[in]\ntype = input\ninput_shape = 1:1:6\n"
        "[fc]\ntype = fully_connected\nunit = 3\n"
        "[loss]\ntype = mse\n",
        "utf-8",
    )

    def export(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["export", str(ini), "--to", "c", *arguments])

    done = export("-o", str(tmp_path / "c"))
    assert done.exit_code == 0, done.output
    assert "files, " in done.stderr
    assert run_test(tmp_path / "c").returncode == 0
    assert (tmp_path / "c/src/net.h").exists()

    named = export("-o", str(tmp_path / "d"), "--prefix", "Two Words")
    assert named.exit_code == 0, named.output
    header = (tmp_path / "d/src/two_words.h").read_text()
    assert "int two_words_step(double *loss);" in header

    predicts = export("-o", str(tmp_path / "e"), "--mode", "inference")
    assert predicts.exit_code == 0, predicts.output
    assert "net_step" not in (tmp_path / "e/src/net.h").read_text()
    assert run_test(tmp_path / "e").returncode == 0

    assert "give a folder" in export().output or "-o DIR" in export().output
    assert export("-o", str(tmp_path / "f"), "--measured").exit_code == 2
    both = export("-o", str(tmp_path / "f"), "--mode", "train", "--inference")
    assert both.exit_code == 2
    fast = export("-o", str(tmp_path / "f"), "--arithmetic", "fast")
    assert fast.exit_code == 2
    assert "fast" in fast.output
    assert not (tmp_path / "f").exists()


# -- refusals --------------------------------------------------------------------------


def test_layers_without_kernels_in_c_are_named_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arena_ckpt.c_export import step_code

    known = step_code.find_kernel
    monkeypatch.setattr(
        step_code,
        "find_kernel",
        lambda name: known(name) if "relu" not in name.variant else None,
    )
    with pytest.raises(CExportError, match="not there in C") as caught:
        export_c(pictures(), tmp_path / "c", name="net")
    assert caught.value.layers == ("act1",)  # type: ignore[attr-defined]
    assert not (tmp_path / "c").exists()


def test_fast_arithmetic_that_is_asked_for_is_refused() -> None:
    model = dense()
    model.set_property(arithmetic="fast")
    with pytest.raises(InvalidParameterError, match="arithmetic"):
        make_c_project(model)


@pytest.mark.parametrize(
    ("model", "values", "says"),
    [
        ("dense", {}, "is no model"),
        (None, {"steps": 0}, "from 1 to"),
        (None, {"steps": 10**9}, "from 1 to"),
        (None, {"steps": True}, "from 1 to"),
        (None, {"data": 3}, "samples and labels"),
        (None, {"data": (1, 2, 3)}, "weights of samples"),
        (None, {"mode": "both"}, "inference"),
        (None, {"budgets": "1MiB"}, "no argument 'budgets'"),
        (None, {"budget": "1 byte"}, "budget"),
    ],
)
def test_values_that_cannot_be_are_refused(
    model: object, values: dict[str, object], says: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidParameterError, match=says):
        export_c(model or dense(), tmp_path / "c", **values)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_plan_for_debug_mode_is_refused() -> None:
    model = dense()
    plan = model.make_plan(debug=True)
    with pytest.raises(ValueError, match=r"debug|canar"):
        make_c_project(model, plan=plan)


def test_names_of_kernels_are_refused_as_names() -> None:
    with pytest.raises(CExportError, match="ac_"):
        make_c_project(dense(), name="ac_kernels")


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    folder = written(project_of("dense"), tmp_path / "c")
    (folder / "build").mkdir()
    (folder / "build/x.o").write_bytes(b"x")
    written(project_of("dense"), folder)  # a project of the same name is replaced
    (folder / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UnwritableFileError, match=r"notes\.txt"):
        write_project(project_of("dense"), folder)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    with pytest.raises(UnwritableFileError, match="no folder"):
        write_project(project_of("dense"), folder / "notes.txt")


def test_a_disk_that_fills_up_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arena_ckpt.c_export import project

    real = project.write_whole

    def fill_up(path: Path, write: Callable[..., object]) -> None:
        if path.name == "Makefile":
            raise UnwritableFileError("full", path=str(path), free_bytes=0)
        real(path, write)

    monkeypatch.setattr(project, "write_whole", fill_up)
    with pytest.raises(UnwritableFileError, match="full"):
        write_project(project_of("dense"), tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_the_state_is_what_the_engine_calls_persistent_and_changes() -> None:
    model = NETS["frozen"]()
    plan = model.make_plan()
    names = set(state_of_model(model).tensors)
    assert names == {"out:weight", "out:bias"}
    batch_norm = state_of_model(pictures()).tensors
    assert "bn1:moving_mean" in batch_norm
    assert ModelPlans(model).kernel_calls(plan)


def test_an_example_of_the_package_trains_in_c(tmp_path: Path) -> None:
    example = load_example("digits_mlp")
    folder = tmp_path / "c"
    export_c(example.model, folder, name="digits", data=example.data, steps=4)
    done = run_test(folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_model_is_not_changed() -> None:
    model = Model(seed=1)
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("fully_connected", name="fc", unit=2)
    model.add_layer("mse", name="loss")
    make_c_project(model, name="net", steps=1)
    assert not model.is_initialized
    assert dict(model.properties) == {}


def test_two_projects_go_into_one_program(tmp_path: Path) -> None:
    """Their kernels have the same names in the source, and others for the linker."""
    names = ("dense", "momentum")
    for name in names:
        written(project_of(name), tmp_path / name)
    body = "".join(f'#include "{name}.h"\n' for name in names)
    calls = "".join(f"    {name}_init();\n" for name in names)
    (tmp_path / "main.c").write_text(
        f"{body}int main(void)\n{{\n{calls}    return 0;\n}}\n"
    )
    for name in names:
        objects = tmp_path / name / "objects"
        objects.mkdir()
        sources = [str(p) for p in sorted((tmp_path / name / "src").glob("*.c"))]
        command = ["gcc", *WARNINGS, "-c", f"-I{tmp_path / name / 'src'}", *sources]
        subprocess.run(command, cwd=objects, check=True)
    parts = [str(p) for name in names for p in (tmp_path / name).glob("objects/*.o")]
    includes = [f"-I{tmp_path / name / 'src'}" for name in names]
    command = ["gcc", *WARNINGS, *includes, "main.c", *parts, "-o", "both"]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run([str(tmp_path / "both")], check=True)


def test_raw_samples_are_standardized_in_c_to_the_same_bits(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for make, shape in ((dense, (12,)), (pictures, (2, 8, 8))):
        model = make()
        x = generator.normal(size=(24, *shape)) * 300 + 1000
        model.standardize((x, None))
        for mode in ("train", "inference"):
            project = make_c_project(model, name="raw", mode=mode)
            assert b"They are raw" in project.files["src/raw.h"]
            folder = written(project, tmp_path / f"{len(shape)}{mode}")
            done = run_test(folder, ("gcc", "-O2", *WARNINGS))
            assert done.returncode == 0, done.stdout + done.stderr
            source = folder / "src" / "raw.c"
            text = source.read_text()
            assert text.count("    standardize_inputs(") == 1 + (mode == "train")
            source.write_text(text.replace("x[i] - mean", "x[i] + mean"))
            assert run_test(folder).returncode != 0
