"""Files are there whole or not at all: what reaches the disk, and in which order."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from arena_ckpt.files.atomic_write import is_part_of, make_folder, write_whole
from arena_ckpt.files.tensor_file import read_tensor_file, write_tensor_file

CONTENT = b"new" * 1000


class Disk:
    """What is flushed and renamed, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, object]] = []
        fsync, replace = os.fsync, os.replace

        def flushed(number: int) -> None:
            fsync(number)
            state = os.fstat(number)
            is_folder = stat.S_ISDIR(state.st_mode)
            self.seen.append(
                ("folder", state.st_ino) if is_folder else ("file", state.st_size)
            )

        def renamed(source: Path, target: Path) -> None:
            replace(source, target)
            self.seen.append(("rename", Path(target).name))

        monkeypatch.setattr(os, "fsync", flushed)
        monkeypatch.setattr(os, "replace", renamed)


def test_all_bytes_are_on_the_disk_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    write_whole(tmp_path / "file", lambda file: file.write(CONTENT))
    assert disk.seen == [
        ("file", len(CONTENT)),
        ("rename", "file"),
        ("folder", tmp_path.stat().st_ino),
    ]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_until_the_rename_the_old_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file: object) -> None:
        file.write(CONTENT)  # type: ignore[attr-defined]
        file.flush()  # type: ignore[attr-defined]
        assert path.read_bytes() == b"old"
        (part,) = (p for p in tmp_path.iterdir() if p != path)
        assert is_part_of(part.name, "file")

    write_whole(path, write)
    assert path.read_bytes() == CONTENT


def test_a_file_that_is_replaced_keeps_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    write_whole(path, lambda file: file.write(CONTENT))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_write_that_fails_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_new_folders_outlast_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder above each new one is flushed: its name stands there."""
    disk = Disk(monkeypatch)
    folder = tmp_path / "a" / "b"
    make_folder(folder)
    assert folder.is_dir()
    expected = {("folder", p.stat().st_ino) for p in (tmp_path, tmp_path / "a")}
    assert set(disk.seen) == expected
    disk.seen.clear()
    make_folder(folder)
    assert disk.seen == []


@pytest.mark.parametrize(
    ("name", "is_part"),
    [
        (".run-7.0123456789abcdef.part", True),
        (".run-7.0123456789abcdeF.part", False),
        (".run-7.0123456789abcde.part", False),
        ("run-7.0123456789abcdef.part", False),
        (".run-x.0123456789abcdef.part", False),
        (".run-7.0123456789abcdef.party", False),
    ],
)
def test_what_a_killed_process_left_is_told_by_its_name(
    name: str, is_part: bool
) -> None:
    assert is_part_of(name, r"run-[0-9]") == is_part


def test_all_tensors_of_a_file_are_aligned(tmp_path: Path) -> None:
    path = tmp_path / "file"
    arrays = {
        "a": np.arange(3, dtype=np.uint8),
        "b": np.arange(3, dtype=np.float32),
        "c": np.arange(3, dtype=np.float64),
    }
    write_tensor_file(path, arrays, {"x": 1}, format_name="test", version=2)
    found, document = read_tensor_file(path, format_name="test", version=2)
    assert document["x"] == 1
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    content = path.read_bytes()
    for array in arrays.values():
        assert content.index(array.tobytes()) % array.itemsize == 0
