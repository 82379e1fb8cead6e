import gzip
import io
import os
import struct
import tempfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt.data.loaders import load_idx, load_npz
from arena_ckpt.errors import (
    ArenaError,
    CorruptFileError,
    DataError,
    DataFileNotFoundError,
    DataShapeError,
    DataTypeError,
    EmptyDataError,
    NonFiniteDataError,
)
from arena_ckpt.files import read_idx, read_npz, read_table
from arena_ckpt.files.source import read_whole


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Fail if the test takes more than 16 MiB, as Python and NumPy count it."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def idx(type_code: int, shape: tuple[int, ...], data: bytes) -> bytes:
    sizes = struct.pack(f">{len(shape)}I", *shape)
    return bytes([0, 0, type_code, len(shape)]) + sizes + data


def npy(descr: str, shape: tuple[int, ...], data: bytes = b"") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return stream.getvalue() + data


def npz(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return stream.getvalue()


def write(folder: Path, data: bytes) -> Path:
    path = folder / "data"
    path.write_bytes(data)
    return path


# files


def test_a_missing_file_is_met_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "Train.csv").write_text("1\n")
    with pytest.raises(DataFileNotFoundError, match=r"did you mean '.*Train\.csv'"):
        read_table(tmp_path / "trian.csv")
    with pytest.raises(DataFileNotFoundError, match="nor does its folder"):
        read_table(tmp_path / "none" / "train.csv")
    with pytest.raises(FileNotFoundError):
        read_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("read", [read_idx, read_npz, read_table])
def test_what_is_no_file_is_refused(tmp_path: Path, read: type) -> None:
    with pytest.raises(DataError, match="a folder"):
        read(tmp_path)
    for name in ("a\0b", "a" * 5000):
        with pytest.raises(DataError):
            read(tmp_path / name)


# IDX


@pytest.mark.parametrize(
    ("code", "data", "values"),
    [
        (0x08, b"\x01\xff", [1, 255]),
        (0x09, b"\x01\xff", [1, -1]),
        (0x0B, b"\x00\x01\xff\xff", [1, -1]),
        (0x0C, b"\x00\x00\x00\x01\xff\xff\xff\xff", [1, -1]),
        (0x0D, struct.pack(">2f", 1.5, -2), [1.5, -2]),
        (0x0E, struct.pack(">2d", 1.5, -2), [1.5, -2]),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_types_are_read(
    tmp_path: Path, code: int, data: bytes, values: list[float], pack: type[bytes]
) -> None:
    path = write(tmp_path, pack(idx(code, (1, 2), data)))
    assert read_idx(path).tolist() == [values]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "no bytes"),
        (b"\x00\x00\x08", "00 00 08"),
        (b"PK\x03\x04 and more", "50 4b 03 04"),
        (b"\x00\x00\x0a\x01\x00\x00\x00\x00", "00 00 0a 01"),
        (b"\x00\x00\x08\x00\x01", "0 dimensions"),
        (b"\x00\x00\x08\xff\x01", "255 dimensions"),
        (b"\x00\x00\x08\x02\x00\x00", "found 2 bytes"),
        (idx(8, (2, 2), b"\x01" * 3), "4 bytes of data for 2 × 2 values.*3 bytes"),
        (idx(8, (2, 2), b"\x01" * 5), "4 bytes of data for 2 × 2 values.*5 bytes"),
        (gzip.compress(idx(8, (2, 2), b"\x01" * 3), mtime=0), "4 bytes.*found 3 bytes"),
        (
            gzip.compress(idx(8, (2, 2), b"\x01" * 5), mtime=0),
            "4 bytes.*found more bytes",
        ),
        (gzip.compress(idx(8, (2, 2), b"\x01" * 4), mtime=0)[:-3], "cannot be read"),
    ],
)
def test_idx_damage_is_named(tmp_path: Path, data: bytes, match: str) -> None:
    with pytest.raises(CorruptFileError, match=match):
        read_idx(write(tmp_path, data))


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("shape", [(2**31,), (2**32 - 1,) * 8, (60000, 2**20, 2**12)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_sizes_that_lie_take_no_memory(
    tmp_path: Path, shape: tuple[int, ...], pack: type[bytes]
) -> None:
    path = write(tmp_path, pack(idx(0x0E, shape, b"\x01" * 64)))
    with pytest.raises(CorruptFileError, match="as its header states"):
        read_idx(path)


# NPZ


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "names", [("x", "y"), ("x_train", "y_train"), ("X", "y"), ("data", "target")]
)
def test_npz_arrays_are_found(
    tmp_path: Path, save: type, names: tuple[str, str]
) -> None:
    x = np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3))
    arrays = {names[0]: x, names[1]: np.array([1, 0]), "z": np.array(["text"])}
    save(tmp_path / "d.npz", **arrays)
    read_x, read_y = read_npz(tmp_path / "d.npz")
    assert read_x.tolist() == x.tolist()
    assert read_y is not None
    assert read_y.tolist() == [1, 0]


def test_npz_may_lack_labels_but_not_samples(tmp_path: Path) -> None:
    x, y = read_npz(write(tmp_path, npz({"x": npy("<i2", (1,), b"\x07\x00")})))
    assert (x.tolist(), y) == ([7], None)
    with pytest.raises(
        CorruptFileError, match=r"x_train and y_train.*found a, b; save"
    ):
        read_npz(write(tmp_path, npz({"b": b"", "a": b""})))


@pytest.mark.parametrize(
    "array",
    [
        np.array([{"a": 1}], object),
        np.array(["text"]),
        np.array([1j]),
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f4")]),
        np.array(["2026-01-01"], "M8[D]"),
    ],
)
def test_npz_holds_numbers_only(tmp_path: Path, array: npt.NDArray[np.generic]) -> None:
    np.savez(tmp_path / "d.npz", x=array)
    with pytest.raises(DataTypeError, match=r"x\.npy holds"):
        read_npz(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "zip"),
        (b"1,2,3\n", "zip"),
        (npz({"x": b""}), "cannot be read"),
        (npz({"x": b"\x93NUMPY\x03\x00"}), "version 3.0"),
        (npz({"x": b"\x93NUMPY\x01\x00\x05\x00{'a':"}), "cannot be read"),
        (npz({"x": npy("<f4", (2,), b"\x00" * 7)}), "8 bytes.*found 7 bytes"),
        (npz({"x": npy("<f4", (2,), b"\x00" * 9)}), "8 bytes.*found 9 bytes"),
        (npz({"x": npy("<f4", (-1, -2), b"\x00" * 8)}), "8 bytes for the shape"),
        (npz({"x": npy("<f4", (2,))}, zipfile.ZIP_LZMA), "compression method 14"),
    ],
)
def test_npz_damage_is_named(tmp_path: Path, data: bytes, match: str) -> None:
    with pytest.raises(CorruptFileError, match=match):
        read_npz(write(tmp_path, data))


def test_npz_checksums_are_compared(tmp_path: Path) -> None:
    data = npz({"x": npy("|u1", (3,), b"abc")}).replace(b"abc", b"abd")
    with pytest.raises(CorruptFileError, match="CRC"):
        read_npz(write(tmp_path, data))


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("shape", [(2**31,), (2**31, 2**31), (2**62, 4), (2**31,) * 9])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_npz_shapes_that_lie_take_no_memory(
    tmp_path: Path, shape: tuple[int, ...], method: int
) -> None:
    path = write(tmp_path, npz({"x": npy("<f8", shape, b"\x01" * 64)}, method))
    with pytest.raises(CorruptFileError, match=r"as its header states.*found 64 bytes"):
        read_npz(path)


@pytest.mark.usefixtures("little_memory")
def test_npz_directories_that_lie_take_no_memory(tmp_path: Path) -> None:
    member = npy("|u1", (2**31,), b"\x01" * 64)
    data = bytearray(npz({"x": member}))
    directory = data.index(b"PK\x01\x02")
    # the sizes that the directory states for the member: on disk, and unpacked
    lie = struct.pack("<I", 2**31 + len(member) - 64)
    data[directory + 24 : directory + 28] = lie
    with pytest.raises(CorruptFileError, match="as its directory states"):
        read_npz(write(tmp_path, bytes(data)))
    data[directory + 20 : directory + 24] = lie
    with pytest.raises(CorruptFileError, match="as its directory states"):
        read_npz(write(tmp_path, bytes(data)))


# tables


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\n",
        "1,2\r\n3,4\r\n",
        "1,2\r3,4",
        "1;2\n3;4\n",
        "1\t2\n3\t4",
        "a,b\n1,2\n3,4\n",
        "a;'b, c'\n1;2\n3;4\n",
        '"a","b"\n"1","2"\n"3","4"\n',
        "\n\n a , \n1, 2 \n\n3,4\n\n",
        "1e0,+2\n3.,0.4e1\n",
        "\ufeffa,b\n1,2\n3,4\n",
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_tables_are_read(tmp_path: Path, text: str, pack: type[bytes]) -> None:
    path = write(tmp_path, pack(text.encode()))
    assert read_table(path).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("1,2\n3,x\n", "line 2, column 2 is 'x'"),
        ("1,2\n3,\n", "line 2, column 2 is empty"),
        ("a,b\n1,2\n\n3,x\n", r"line 4, column 2 \('b'\) is 'x'"),
        ("\n\n1,2\n3,x\n", "line 4, column 2"),
        ("1,b\n2,3\n", "line 1, column 2 is 'b'"),
        (",\n2,3\n", "line 1, column 1 is empty"),
        ("1,2\n3,1_000\n", "line 2, column 2 is '1_000'"),
        ("1,2\n3,0x10\n", "line 2, column 2 is '0x10'"),
        ("1,2\n3\n", "line 2 has 1 cells, the first line has 2"),
        ("1,2\n3,4,5\n", "line 2 has 3 cells, the first line has 2"),
        ("a,b,c\n1,2\n", "line 2 has 2 cells, the first line has 3"),
        ('1,2\n"3,4\n', "cannot be read"),
    ],
)
def test_table_damage_is_named(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(CorruptFileError, match=match):
        read_table(write(tmp_path, text.encode()))


def test_tables_are_text(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="a table of numbers as text"):
        read_table(write(tmp_path, b"1,2\n\xff\xfe\n"))


@pytest.mark.parametrize("bad", ["nan", "inf", "-Infinity", "1e999", "1e300"])
def test_numbers_that_are_not_finite_are_named(tmp_path: Path, bad: str) -> None:
    text = f"a,b\n1,2\n\n3,{bad}\n{bad},4\n"
    with pytest.raises(NonFiniteDataError, match=r"line 4, column 2 \('b'\)") as caught:
        read_table(write(tmp_path, text.encode()))
    assert vars(caught.value)["count"] == 2


@pytest.mark.parametrize("text", ["", "\n\n", "a,b\n", "  \n"])
def test_tables_without_numbers_are_empty(tmp_path: Path, text: str) -> None:
    with pytest.raises(EmptyDataError):
        read_table(write(tmp_path, text.encode()))


# damage of every kind

INTACT = {
    "idx": idx(0x0B, (3, 2), bytes(range(12))),
    "idx.gz": gzip.compress(idx(0x08, (3, 2), bytes(range(6))), mtime=0),
    "npz": npz(
        {"x": npy("<f4", (2, 2), bytes(16)), "y": npy("|u1", (2,), b"\x00\x01")}
    ),
    "npz deflated": npz({"x": npy("<f4", (2, 2), bytes(16))}, zipfile.ZIP_DEFLATED),
    "csv": b'"a",b\n1.5,2\n3,4e1\n',
    "csv.gz": gzip.compress(b"1;2\n3;4\n", mtime=0),
}


@settings(max_examples=1500, deadline=None)
@given(kind=st.sampled_from(sorted(INTACT)), damage=st.data())
def test_damaged_files_are_refused_or_read(kind: str, damage: st.DataObject) -> None:
    data = bytearray(INTACT[kind])
    places = st.integers(0, len(data) - 1)
    for place, byte in damage.draw(
        st.lists(st.tuples(places, st.integers(0, 255)), max_size=3)
    ):
        data[place] = byte
    del data[damage.draw(st.one_of(st.just(len(data)), places)) :]
    read = {"idx": read_idx, "npz": read_npz, "csv": read_table}[kind[:3]]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), bytes(data))
        try:
            read(path)
        except ArenaError as error:
            message = str(error)
        else:
            message = str(path)
        assert str(path) in message


# -- what fuzzing found ----------------------------------------------------------------


def test_idx_shapes_without_data_that_numpy_cannot_have(tmp_path: Path) -> None:
    path = write(tmp_path, idx(8, (0, 2**32 - 1, 2**32 - 1, 2**32 - 1), b""))
    with pytest.raises(CorruptFileError, match="cannot be read"):
        read_idx(path)


@pytest.mark.parametrize("shape", [(0, 2**62), (0, 2**61, 3), (2, 0, 2**60)])
def test_shapes_without_data_whose_copy_cannot_be(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    member = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(tmp_path / "it.npz", "w") as archive:
        archive.writestr("x.npy", member.getvalue())
    with pytest.raises(DataShapeError, match="too large for any array"):
        load_npz(tmp_path / "it.npz")


def test_idx_images_without_data_whose_copy_cannot_be(tmp_path: Path) -> None:
    path = write(tmp_path, idx(8, (0, 2**31, 2**30), b""))
    with pytest.raises(DataShapeError, match="too large for any array"):
        load_idx(path, path)


def test_labels_without_values_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, idx(0x0C, (1, 0), b""))
    with pytest.raises(DataShapeError, match="at least one value for each sample"):
        load_idx(write_images(tmp_path), path)


def write_images(folder: Path) -> Path:
    path = folder / "images"
    path.write_bytes(idx(8, (1, 2), b"ab"))
    return path


def test_a_small_file_is_read_whole_without_room_for_a_large_one(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, b"abc")
    tracemalloc.start()
    try:
        assert read_whole(path, 2**30) == b"abc"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    with pytest.raises(DataError, match="3 bytes, more than the 2"):
        read_whole(path, 2)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in files here")
def test_nobody_waits_for_a_pipe_or_reads_a_device_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("pipe", "zero", "circle", "x" * 300, "a\0b", "\ud800", ""):
        with pytest.raises(DataError):
            read_whole(tmp_path / name, 100)
