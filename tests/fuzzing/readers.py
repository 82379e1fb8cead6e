"""Targets that take bytes: the readers of files."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

import arena_ckpt as ac
from arena_ckpt.allocation.minimalloc_csv import (
    KINDS,
    NNTRAINER_NAMES,
    NNTRAINER_OTHERS,
    OLDER_NAMES,
    read_buffers,
)
from arena_ckpt.boards import load_board
from arena_ckpt.cli.models import load_model
from arena_ckpt.data.loaders import load_csv, load_idx, load_npz
from arena_ckpt.examples import EXAMPLES, LARGEST_SIZE
from arena_ckpt.files import read_idx
from arena_ckpt.files.npz import read_arrays
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.optim.learning_rates import SCHEDULE_SCHEMAS
from arena_ckpt.optim.optimizers import OPTIMIZER_SCHEMAS
from arena_ckpt.planning.plan import checksum
from arena_ckpt.report.explain import explain
from arena_ckpt.report.export import FORMATS
from arena_ckpt.testing.golden_files import check_folder, plan_differences
from arena_ckpt.testing.golden_losses import LOSSES_VERSION, parse_losses
from arena_ckpt.testing.golden_losses import TITLE as LOSSES_TITLE
from arena_ckpt.testing.golden_text import GOLDEN_VERSION, golden_plan, golden_text
from arena_ckpt.testing.golden_text import TITLE as GOLDEN_TITLE
from arena_ckpt.testing.sealed import seal
from fuzzing.guard import LIMITS, Finding, Limits, guarded
from fuzzing.mutate import (
    HUGE,
    Short,
    changed_json,
    deep,
    json_values,
    lines,
    mutated,
    texts,
)
from fuzzing.target import Target, reads_file


def small_model() -> ac.Model:
    """Return a model with a block, a normalization and Adam, of few tensors."""
    model = ac.Model(seed=1)
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="fc1", unit=5)
    model.add_layer("activation", name="act", activation="gelu")
    model.add_layer("batch_normalization", name="bn")
    model.add_layer("fully_connected", name="fc2", unit=3)
    model.add_layer("cross_softmax", name="loss")
    model.add_checkpoint_block(["fc1", "act"], name="first")
    model.set_optimizer("adam", learning_rate=0.01)
    model.set_property(batch_size=4, epochs=2)
    return model


# -- INI -------------------------------------------------------------------------------

INI = (
    b"[Model]\ntype = NeuralNetwork\nbatch_size = 4\nepochs=2\nseed = 3\nloss=cross\n"
    b"[Optimizer]\ntype = adam\nlearning_rate = 1e-3 # small\n"
    b"[in]\ntype = input\ninput_shape = 1:1:6\n"
    b"[fc1]\ntype = fully_connected\nunit = 5\nactivation = relu\n"
    b"[out]\nType = fully_connected\ninput_layers = fc1\nunit=3\nactivation=softmax\n",
    b"\xef\xbb\xbf[Model]\r\n\r\n[LearningRateScheduler]\r\ntype = step\r\n"
    b"iteration = 2, 5\r\nlearning_rate = 3, 2, 1\r\n"
    b"[a]\r\ntype=input\r\ninput_shape=3:4:4\r\n"
    b"[c]\r\ntype=conv2d\r\nfilters=2\r\nkernel_size=3,3\r\npadding=same\r\n"
    b"[f]\r\ntype=flatten\r\n[d]\r\ntype=fully_connected\r\nunit=2\r\n"
    b"[CheckpointBlock b]\r\nlayers = c, f\r\n[mse]\r\ntype=mse\r\n",
    b"[model]\nType = 'NeuralNetwork'\nSave_Path = \"m.bin\"  # where\n"
    b"epochs = \\\n 2\ncontinue_train = false\n"
    b"[Optimizer]\ntype = sgd\ndecay_rate = 0.5\n"
    b'Decay_steps=9\n[DataSet]\nTrainData = "t.dat"\n[In]\ntype = input\n'
    b"input_shape = 2:2:3\nactivation = tanh\nnormalization = true\n[c]\n"
    b'type = "conv2d"\nfilters = 2\nkernel_size = 1,1\nflatten = true\n'
    b"activation = relu\ntrainable = false\n[C]\ninput_layers = IN\nfilters = 3\n"
    b"[b]\nbackbone = 'body.ini'\ntrainable = false\n[mse]\ntype=mse\n",
)
BODY = b"[x]\ntype = fully_connected\nunit = 2\n[y]\ntype = flatten\n"
"""What stands beside a file, for it to name as a backbone."""
_SECTIONS = ("Model", "Optimizer", "LearningRateScheduler", "Dataset", "train_set")
_KEYS = sorted(
    {p.name for layer in LAYER_TYPES.values() for p in layer.properties}
    | {p.name for schema in OPTIMIZER_SCHEMAS.values() for p in schema}
    | {p.name for schema in SCHEDULE_SCHEMAS.values() for p in schema}
    | {"type", "loss", "batch_size", "epochs", "seed", "layers", "optimizer"}
    | {"backbone", "flatten", "save_path", "fsu", "packed", "engine", "distribute"}
)
_TYPES = sorted({*LAYER_TYPES, *OPTIMIZER_SCHEMAS, *SCHEDULE_SCHEMAS})
_VALUES = (
    *(*_TYPES, "1:1:6", "2,2", "same", "a, b", "true", "0.5", *map(str, HUGE)),
    *(
        '"same"',
        "'2'",
        '"',
        "a \\",
        "body.ini",
        "model.ini",
        "none",
        "false",
        "A(1), b",
    ),
)
_ini_lines = (
    st.sampled_from([f"[{s}]" for s in (*_SECTIONS, *"abc", "CheckpointBlock x")])
    | st.builds("{} = {}".format, st.sampled_from(_KEYS), st.sampled_from(_VALUES))
    | st.builds("type = {}".format, st.sampled_from(_TYPES))
    | st.builds(
        "{}{}{}".format,
        st.sampled_from(("[", "", "#", " ")),
        texts,
        texts | st.just("]"),
    )
)
_INI_WORDS = tuple(
    w.encode()
    for w in (*_KEYS, *_VALUES, "=", "[", "]", "#", ";", ",", "\\\n", '"', "'")
)


def read_ini(path: Path) -> None:
    """Read a model, plan it, and write it back."""
    body, again = path.parent / "body.ini", path.parent / "again.ini"
    body.write_bytes(BODY)
    try:
        model = ac.load_ini(path)
        model.save_ini(again)
        if _layers(ac.load_ini(again)) != _layers(model):
            raise Finding("what save_ini wrote is another model")
    finally:
        for made in (body, again):
            made.unlink(missing_ok=True)
    model.make_plan()


def _layers(model: ac.Model) -> list[tuple[str, dict[str, Any]]]:
    return [(layer.type_name, dict(layer.given)) for layer in model.layers]


# -- tables ----------------------------------------------------------------------------

_BUFFERS = (
    b"id,lower,upper,size\na,0,3,4\nb,1,5,6\nc,3,9,4\n",
    b"buffer_id,start,end,size,alignment,hint,gaps,offset,group,pool\r\n"
    b'"a ""x""",0,9,64,16,-1,3-5 6-7@0:8,32,g,0\r\nb,0,2,8,8,5,,,g,\r\n',
    b"name,bytes,start,end_excl,offset,is_wgrad,lifespan,exec_order\n"
    b"fc1:out0,64,1,6,0,0,7,1 2 5 \nfc1:out0:grad,64,5,8,64,0,6,5 7 4294967294 \n",
)
_cells = (
    st.integers(-2, 40).map(str)
    | st.sampled_from(("", "a", "3-5", "1-2@0:4", "-1", '"', "1e3", *map(str, HUGE)))
    | texts
)
_buffer_columns = st.lists(
    st.sampled_from((*KINDS, *OLDER_NAMES, *NNTRAINER_NAMES, *NNTRAINER_OTHERS)),
    min_size=4,
    max_size=8,
)
_CSV_WORDS = tuple(
    w.encode() for w in (*KINDS, *OLDER_NAMES, ",", ";", "\t", '"', "3-5@0:2", " ")
)
_TABLES = (
    b"a,b,label\n1,2.5,0\n3,-4e3,1\n\n5,6,2\n",
    b"1;2;3\r\n4;5;6\r\n",
    b"\xef\xbb\xbf1\t2\n3\t0.5\n",
    b'"","a","label"\n"1",NA,"x"\n"2",1,"y"\n',
    b"a;b;c\n1,5;TRUE;red\n2,5;FALSE;blue\n",
    b"3 4 7\n  5   6  8\n",
)


def _csv(header: list[str], rows: list[list[str]]) -> bytes:
    table = "\n".join(",".join(row) for row in [header, *rows])
    return table.encode("utf-8", "surrogatepass")


_TABLE_OPTIONS: tuple[dict[str, Any], ...] = (
    {"header": True, "missing": "mean"},
    {"header": False, "missing": "drop", "label_names": True},
    {"separator": "space", "decimal": "comma", "skip_rows": 1},
    {"targets": 1, "index_column": 0},
    {"label_column": "label", "index_column": "a"},
)
_csvs = st.builds(
    _csv,
    _buffer_columns,
    st.lists(st.lists(_cells, min_size=4, max_size=6), max_size=5),
)
_plain_csvs = st.builds(
    _csv,
    st.lists(_cells, max_size=4),
    st.lists(st.lists(_cells, max_size=4), max_size=5),
)


@st.composite
def packed(draw: st.DrawFn, plain: st.SearchStrategy[bytes]) -> bytes:
    """Return bytes as they are, in gzip, or in a gzip with changes."""
    data = draw(plain)
    kind = draw(st.integers(0, 7))
    if kind > 1:
        return data
    data = gzip.compress(data, mtime=0)
    return data if kind else draw(mutated([data]))


def _read_both_ways(path: Path) -> None:
    read_buffers(path)
    read_buffers(path, fixed=False)


def _read_columns(path: Path) -> None:
    for column in ("first", "none", 1, "last"):
        load_csv(path, column)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ac.ArenaWarning)
        for options in _TABLE_OPTIONS:
            with contextlib.suppress(ac.ArenaError):
                load_csv(path, **options)


# -- IDX and NPZ -----------------------------------------------------------------------


def idx_bytes(code: int, shape: tuple[int, ...], data: bytes) -> bytes:
    """Return an IDX file that claims a type and a shape."""
    sizes = b"".join((size % 2**32).to_bytes(4, "big") for size in shape)
    return bytes([0, 0, code % 256, len(shape) % 256]) + sizes + data


_IDX = (
    idx_bytes(8, (3, 2, 2), bytes(range(12))),
    idx_bytes(8, (3,), b"\0\1\2"),
    idx_bytes(0x0D, (2, 3), np.arange(6, dtype=">f4").tobytes()),
    gzip.compress(idx_bytes(0x0C, (2, 2), bytes(16)), mtime=0),
)
_sizes = st.integers(0, 4) | st.sampled_from((2**8, 2**16, 2**31, 2**32 - 1))
_idx = st.builds(
    idx_bytes,
    st.sampled_from((8, 9, 0x0B, 0x0C, 0x0D, 0x0E, 0x0A, 0)),
    st.lists(_sizes, max_size=9).map(tuple),
    st.binary(max_size=32),
)


def _read_images(path: Path) -> None:
    read_idx(path)
    load_idx(path, path)


def npz_bytes(**arrays: Any) -> bytes:
    """Return an .npz of arrays."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy_bytes(header: str, data: bytes, version: tuple[int, int] = (1, 0)) -> bytes:
    """Return a .npy file with any header."""
    text = header.encode("utf-8", "surrogatepass")
    length = len(text).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + text + data


def zip_bytes(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


_X, _Y = np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(4)
_NPZ = (
    npz_bytes(x=_X, y=_Y),
    npz_bytes(images=np.zeros((2, 2, 2), np.uint8), labels=np.eye(2)),
    zip_bytes({"x.npy": npz_bytes(x=_X)[41:]}, zipfile.ZIP_DEFLATED),
)
_dims = st.integers(-1, 6) | st.sampled_from((*HUGE, 10**30, 10**300, True))
_headers = st.builds(
    "{{'descr': {!r}, 'fortran_order': {!r}, 'shape': {!r}, }}\n".format,
    st.sampled_from(
        ("<f4", "|u1", ">i8", "|O", "<U3", "<f2", "<f16", "|V8", "<M8[s]", "<c8", "x")
    )
    | st.just([("a", "<f4")])
    | st.just(("<f4", (10**9,)))
    | texts,
    st.booleans() | st.none(),
    st.lists(_dims, max_size=4).map(tuple) | st.just([2]) | st.none(),
)
_npy = st.builds(
    npy_bytes,
    _headers | st.just("(" * 5000) | st.just("{" + "'a':" * 3000) | texts,
    st.binary(max_size=40) | st.sampled_from((bytes(48), bytes(24))),
    st.sampled_from(((1, 0), (2, 0), (3, 0), (9, 9))),
)
_npz = st.builds(
    zip_bytes,
    st.dictionaries(
        st.sampled_from(("x.npy", "y.npy", "x", "data.npy", "target.npy", "../x.npy")),
        _npy,
        max_size=3,
    ),
    st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)),
)

# -- plans -----------------------------------------------------------------------------

_plan = small_model().make_plan()
_DOCUMENTS = tuple(json.loads(p.to_json()) for p in (_plan,))
_PLAN_JSON = tuple(json.dumps(document).encode() for document in _DOCUMENTS)
_MODEL = small_model()


def dumps(document: Any) -> bytes:
    """Return a document as JSON in UTF-8."""
    with contextlib.suppress(ValueError):
        return json.dumps(document).encode()
    return b"{}"  # Python writes no integers of thousands of digits


def resealed(data: bytes) -> str | None:
    """Return a plan's text with the checksum of its content, where it has any."""
    try:
        document = json.loads(data)
        if not isinstance(document, dict):
            return None
        document["checksum"] = checksum(document)
        return json.dumps(document)
    except (ValueError, TypeError, RecursionError):
        return None


def read_plan(data: bytes, folder: Path) -> None:
    """Read a plan as it is and with its checksum set right; show what was read."""
    limits = LIMITS
    with guarded(limits, folder):
        ac.MemoryPlan.from_json(data.decode("utf-8", "surrogateescape"))
    text = resealed(data)
    if text is None:
        return
    plan = None
    with guarded(limits, folder):
        plan = ac.MemoryPlan.from_json(text)
    if plan is None:
        return
    if ac.MemoryPlan.from_json(plan.to_json()) != plan:
        raise Finding("to_json does not write what from_json read")
    for show in (explain, ac.plan_ascii, ac.plan_svg, _export, _compare):
        with guarded(limits, folder):
            show(plan)
    with guarded(limits, folder):
        ModelPlans(_MODEL).require_own_plan(plan)
        if plan.buffers and plan != _plan:
            _require_equal_runs(plan)


def _export(plan: ac.MemoryPlan) -> None:
    for form in FORMATS:
        ac.export_plan(plan, form, name="plan")


def _compare(plan: ac.MemoryPlan) -> None:
    ac.plan_html(plan, "plan", before=_plan)


def _require_equal_runs(plan: ac.MemoryPlan) -> None:
    """Refuse a plan that is taken for one of the model and computes something else."""
    losses = []
    for given in (None, plan):
        model = small_model()
        model.initialize(plan=given)
        losses.append([model.train_step(_SAMPLES, _LABELS) for _ in range(2)])
    if losses[0] != losses[1]:
        raise Finding(f"a changed plan was run: losses {losses}")


_SAMPLES = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
_LABELS = np.array([0, 1, 2, 1])


# -- golden files ----------------------------------------------------------------------

_SOURCE = {"model": "nine_layer_mlp", "sizes": "{}", "variant": "no-blocks"}
_GOLDEN = golden_text(golden_plan(_plan, {})).encode()
_GOLDEN_LINES = _GOLDEN.decode().splitlines()[1:-1]
_GOLDEN_SOURCE = golden_text(golden_plan(_plan, _SOURCE)).encode()
_LOSSES = seal(
    LOSSES_TITLE, LOSSES_VERSION, ["# text", "[digits_mlp] 1e-4 {}", "0.5", "0.25"]
).encode()
_golden_lines = (
    st.sampled_from(Short(_GOLDEN_LINES))
    | st.builds(
        "{}{}{}".format,
        st.sampled_from(('"', "[", "#", "", "x: ", 'a "\\', "sizes: ", "variant: ")),
        texts,
        texts,
    )
    | st.sampled_from(
        (
            "[tensors]",
            "[blocks]",
            'a "\\x"',
            "",
            "model: digits_mlp",
            "model: nine_layer_mlp",
            "sizes: {}",
            "sizes: []",
            'sizes: {"a": 1}',
            'sizes: {"n_layers": 1000000000}',
            'sizes: {"d": "x"}',
            "model: transformer",
            "variant: no-blocks",
            "variant: x",
            "[digits_mlp] x y",
            "[a]",
            "1e999",
        )
    )
    | st.builds("sizes: {}".format, st.builds(deep, st.just(9000)))
)


def _load_tiny(name: str, sizes: dict[str, object]) -> ac.Model:
    """Load what a golden file names as the command line does, but no large example."""
    fit = all(isinstance(size, int) and size <= LARGEST_SIZE for size in sizes.values())
    if name in EXAMPLES and fit:
        return small_model()
    if sizes:
        return ac.load_example(name, **sizes).model
    return load_model(name).model


def read_golden(data: bytes, folder: Path) -> None:
    """Read golden files as they are, and their lines behind a right checksum."""
    limits = Limits(cpu_seconds=5)
    path, losses = folder / "x.plan", folder / "losses.golden"
    body = data.decode("utf-8", "surrogateescape").splitlines()
    texts = [(GOLDEN_TITLE, GOLDEN_VERSION), (LOSSES_TITLE, LOSSES_VERSION)]
    sealed = [_seal_or_none(*title, body[1:-1]) for title in texts]
    for content in (data, *sealed):
        if content is None:
            continue
        path.write_bytes(content)
        with guarded(limits, folder):
            plan_differences(_plan, path)
        with guarded(limits, folder):
            check_folder(folder, _load_tiny)
        with guarded(limits, folder):
            parse_losses(content.decode("utf-8", "replace"), str(losses))
    path.unlink(missing_ok=True)


def _seal_or_none(title: str, version: int, body: list[str]) -> bytes | None:
    try:
        return seal(title, version, body).encode()
    except UnicodeEncodeError:
        return None


# -- boards ----------------------------------------------------------------------------

_BOARD = (
    b'[mine]\ntitle = "Mine"\nflash = "1 MiB"\nreserved_flash = 1024\n'
    b'reserved_stack = 0\nreserved_in = "b"\n'
    b'[[mine.ram]]\nname = "a"\nsize = "256 KiB"\nrole = "arena"\n'
    b'[[mine.ram]]\nname = "b"\nsize = 4096\nrole = "other"\nnote = "n"\n',
)
_BOARD_VALUES = (
    *('"arena"', '"other"', '"a"', '"1 KiB"', "4096", "0", "-1", "true", "1e3", "nan"),
    *("[]", "{}", "[{}]", "9" * 5000, "0x" + "f" * 5000, "1979-05-27", '"\\u0000"'),
    *(str(n) for n in HUGE),
    '"9e400 KiB"',
    f'"{"9" * 320} GiB"',
    deep(3000),
    "{a=" * 2000 + "}" * 2000,
)
_BOARD_KEYS = (
    *("title", "flash", "reserved_flash", "reserved_stack", "reserved_heap", "url"),
    *(
        "core",
        "reserved_in",
        "reservations",
        "source",
        "name",
        "size",
        "role",
        "note",
        "ram",
    ),
)
_board_lines = (
    st.sampled_from(("[mine]", "[[mine.ram]]", "[mine.ram]", "[a.b.c]", "a = 1"))
    | st.builds(
        "{} = {}".format,
        st.sampled_from(_BOARD_KEYS),
        st.sampled_from(Short(_BOARD_VALUES)),
    )
    | texts
)


def _check_board(path: Path) -> None:
    fit = load_board(path).check(_plan)
    fit.sentences()
    json.dumps(fit.summary())


def _good_board(data: list[str]) -> bytes:
    return _BOARD[0] + "\n".join(data).encode("utf-8", "surrogatepass")


# -- the table -------------------------------------------------------------------------


def _allocate_once() -> None:
    small_model().make_plan()
    ac.allocate([0, 1], [2, 3], [4, 4], node_limit=10)


def _train_once() -> None:
    _require_equal_runs(_plan)
    _export(_plan)
    _compare(_plan)


_zlib_bomb = (
    b"\x1f\x8b\x08\0\0\0\0\0\0\3" + zlib.compress(bytes(10**6))[2:-4] + bytes(8)
)

READERS = (
    Target(
        "ini",
        mutated(INI, _INI_WORDS) | lines(_ini_lines, 20, ("\n", "\r\n", "\r")),
        reads_file("model.ini", read_ini),
        seeds=INI,
        warm_up=_allocate_once,
    ),
    Target(
        "buffers_csv",
        packed(mutated(_BUFFERS, _CSV_WORDS) | _csvs),
        reads_file("buffers.csv", _read_both_ways),
        seeds=_BUFFERS,
    ),
    Target(
        "table_csv",
        packed(mutated(_TABLES, _CSV_WORDS) | _plain_csvs) | st.just(_zlib_bomb),
        reads_file("table.csv", load_csv, _read_columns),
        seeds=_TABLES,
    ),
    Target(
        "idx",
        mutated(_IDX) | packed(_idx),
        reads_file("x-images-idx3-ubyte", _read_images),
        seeds=_IDX,
    ),
    Target("npz", mutated(_NPZ) | _npz, reads_file("x.npz", load_npz), seeds=_NPZ),
    Target(
        "weights", mutated(_NPZ) | _npz, reads_file("w.npz", read_arrays), seeds=_NPZ
    ),
    Target(
        "plan_json",
        mutated(_PLAN_JSON, (b"NaN", b"Infinity", b"1e999", deep(9000).encode()))
        | changed_json(_DOCUMENTS).map(dumps)
        | json_values.map(dumps),
        read_plan,
        seeds=_PLAN_JSON,
        warm_up=_train_once,
    ),
    Target(
        "golden",
        mutated((_GOLDEN, _GOLDEN_SOURCE, _LOSSES))
        | lines(_golden_lines).map(lambda data: b"x\n" + data + b"\nx"),
        read_golden,
        seeds=(_GOLDEN, _GOLDEN_SOURCE, _LOSSES),
        warm_up=_allocate_once,
    ),
    Target(
        "board_toml",
        mutated(_BOARD, tuple(v.encode() for v in (*_BOARD_VALUES, *_BOARD_KEYS)))
        | lines(_board_lines)
        | st.lists(_board_lines, max_size=4).map(_good_board),
        reads_file("board.toml", _check_board),
        seeds=_BOARD,
    ),
)
