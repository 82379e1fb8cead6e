import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from arena_ckpt.data.loaders import (
    Dataset,
    check_labels,
    check_samples,
    load_csv,
    load_digits,
    load_idx,
    load_npz,
    open_data,
)
from arena_ckpt.errors import (
    ArenaError,
    DataError,
    DataFileNotFoundError,
    DataShapeError,
    DataTypeError,
    EmptyDataError,
    InvalidParameterError,
    LabelRangeError,
    NonFiniteDataError,
)


def numbered(n_samples: int) -> Dataset:
    x = np.arange(2 * n_samples, dtype=np.float32).reshape(n_samples, 2)
    return Dataset("numbered", x, np.arange(n_samples))


def idx_bytes(array: npt.NDArray[np.uint8]) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


# the data set


def test_digits_are_all_there() -> None:
    digits = load_digits()
    assert (digits.name, digits.x.shape, digits.x.dtype) == (
        "digits",
        (1797, 64),
        np.float32,
    )
    assert (digits.x.min(), digits.x.max()) == (0.0, 1.0)
    assert np.array_equal(digits.x * 16, np.round(digits.x * 16))
    assert digits.y is not None
    assert digits.y.dtype == np.int64
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(digits.y).tolist() == counts


def test_take_keeps_samples_and_labels_together() -> None:
    taken = numbered(4).take([3, 0, 3])
    assert taken.y is not None
    assert taken.y.tolist() == [3, 0, 3]
    assert taken.x.tolist() == [[6, 7], [0, 1], [6, 7]]


@pytest.mark.parametrize(
    ("indices", "error"),
    [
        ([4], InvalidParameterError),
        ([-1], InvalidParameterError),
        ([0.5], InvalidParameterError),
        ([True, False], InvalidParameterError),
        ([[0]], InvalidParameterError),
        ([], EmptyDataError),
    ],
)
def test_take_refuses_what_is_no_sample(
    indices: list[float], error: type[ArenaError]
) -> None:
    with pytest.raises(error):
        numbered(4).take(indices)


def test_split_parts_every_sample_once() -> None:
    training, validation = numbered(10).split(0.3, seed=7)
    assert (training.n_samples, validation.n_samples) == (7, 3)
    assert training.y is not None
    assert validation.y is not None
    both = [*training.y.tolist(), *validation.y.tolist()]
    assert sorted(both) == list(range(10))
    assert both != list(range(10))
    assert np.array_equal(validation.x[:, 0], 2 * validation.y)


def test_split_follows_its_seed() -> None:
    first, again, other = (
        numbered(10).split(0.3, seed)[1].x.tolist() for seed in (7, 7, 8)
    )
    assert first == again != other


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2, float("nan")])
def test_split_refuses_a_fraction_that_cannot_be(fraction: float) -> None:
    with pytest.raises(InvalidParameterError, match="above 0 and below 1"):
        numbered(10).split(fraction, 0)


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_split_refuses_an_empty_part(fraction: float) -> None:
    with pytest.raises(EmptyDataError, match="both need at least one"):
        numbered(4).split(fraction, 0)


def test_a_dataset_refuses_other_arrays() -> None:
    x = np.zeros((3, 2), np.float32)
    with pytest.raises(DataShapeError, match="3 samples"):
        Dataset("d", x, np.zeros(2, np.int64))
    with pytest.raises(EmptyDataError):
        Dataset("d", x[:0], None)
    with pytest.raises(DataShapeError, match="at least one value"):
        Dataset("d", x[:, :0].copy(), None)
    with pytest.raises(DataTypeError, match="complex64"):
        Dataset("d", x.astype(np.complex64), None)


# samples


def test_samples_that_are_right_are_not_copied() -> None:
    x = np.zeros((3, 4), np.float32)
    assert np.shares_memory(check_samples(x, 4, (1, 1, 4)), x)
    pictures = np.zeros((3, 1, 2, 2), np.float32)
    assert np.shares_memory(check_samples(pictures, 4, (1, 2, 2)), pictures)


@pytest.mark.parametrize(
    ("shape", "sample_shape"),
    [
        ((2, 12), (1, 1, 12)),
        ((2, 3, 4), (1, 1, 12)),  # a picture for a plain vector is laid flat
        ((2, 1, 3, 4), (1, 3, 4)),
        ((2, 3, 4), (1, 3, 4)),
        ((2, 3, 4, 1), (1, 3, 4)),
        ((2, 12), (3, 2, 2)),
        ((2, 3, 2, 2), (3, 2, 2)),
    ],
)
def test_samples_may_have_these_shapes(
    shape: tuple[int, ...], sample_shape: tuple[int, int, int]
) -> None:
    x = np.arange(24).reshape(shape)
    assert check_samples(x, 12, sample_shape).tolist() == x.reshape(2, 12).tolist()


@pytest.mark.parametrize(
    ("shape", "sample_shape"),
    [
        ((24,), (1, 1, 12)),
        ((2, 11), (1, 1, 12)),
        ((2, 4, 3), (1, 3, 4)),  # height and width exchanged
        ((2, 2, 2, 3), (3, 2, 2)),  # channels last
        ((2, 12, 1, 2), (3, 2, 2)),
        ((2, 0), (1, 1, 12)),
    ],
)
def test_other_shapes_are_refused(
    shape: tuple[int, ...], sample_shape: tuple[int, int, int]
) -> None:
    with pytest.raises(DataShapeError, match=r"expected \(n, 12\)") as caught:
        check_samples(np.zeros(shape), 12, sample_shape)
    assert vars(caught.value)["found"] == shape


def test_a_single_sample_is_told_what_to_do() -> None:
    with pytest.raises(DataShapeError, match=r"pass x\[None\]"):
        check_samples(np.zeros(12), 12, (1, 1, 12))
    with pytest.raises(DataShapeError, match="single number"):
        check_samples(3.0, 1, (1, 1, 1))


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "<u2", "<i8", ">i4", "f2", "<f8", ">f4", "longdouble"]
)
def test_real_numbers_become_float32(dtype: str) -> None:
    checked = check_samples(np.array([[0, 1], [1, 0]], dtype), 2, (1, 1, 2))
    assert checked.dtype == np.float32
    assert checked.flags.c_contiguous
    assert checked.flags.aligned
    assert checked.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    "x",
    [
        np.array([[1j, 2]]),
        np.array([["1", "2"]]),
        np.array([[1, None]]),
        np.array([["2026-01-01", "2026-01-02"]], "M8[D]"),
        [[1, 2], [3]],
        {"x": 1},
        None,
    ],
)
def test_other_values_are_refused(x: object) -> None:
    with pytest.raises(DataTypeError):
        check_samples(x, 2, (1, 1, 2))  # type: ignore[arg-type]


def test_no_samples_are_refused() -> None:
    with pytest.raises(EmptyDataError):
        check_samples(np.zeros((0, 2)), 2, (1, 1, 2))
    with pytest.raises(EmptyDataError):
        check_samples([], 2, (1, 1, 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_the_first_bad_number_is_named(bad: float) -> None:
    x = np.zeros((3, 2, 2))
    x[1, 1, 0] = x[2, 0, 0] = bad
    with pytest.raises(NonFiniteDataError, match=r"2 values.*x\[1, 1, 0\]") as caught:
        check_samples(x, 4, (1, 2, 2))
    assert vars(caught.value)["count"] == 2
    assert vars(caught.value)["index"] == (1, 1, 0)


# the first draw imports much, which a busy machine takes seconds for
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    npst.arrays(
        st.one_of(
            npst.scalar_dtypes(),
            npst.unicode_string_dtypes(),
            st.just(np.dtype(object)),
        ),
        npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    )
)
def test_any_array_is_converted_or_refused(x: npt.NDArray[np.generic]) -> None:
    try:
        checked = check_samples(x, 2, (1, 1, 2))
    except ArenaError:
        return
    assert checked.shape == (len(x), 2)
    assert np.isfinite(checked).all()


# labels


@pytest.mark.parametrize(
    "y",
    [
        [0, 2, 1],
        [[0], [2], [1]],
        [0.0, 2.0, 1.0],
        np.array([0, 2, 1], np.uint64),
        np.array([0, 2, 1], ">i2"),
    ],
)
def test_class_numbers_become_int64(y: npt.ArrayLike) -> None:
    labels = check_labels(y, 3, 3, sparse=True)
    assert (labels.dtype, labels.tolist()) == (np.int64, [0, 2, 1])


def test_labels_that_are_right_are_not_copied() -> None:
    numbers = np.array([0, 1])
    assert np.shares_memory(check_labels(numbers, 2, 2, sparse=True), numbers)
    targets = np.zeros((2, 2), np.float32)
    assert np.shares_memory(check_labels(targets, 2, 2, sparse=False), targets)


@pytest.mark.parametrize("sparse", [True, False])
def test_one_value_for_each_unit_is_a_target(sparse: bool) -> None:
    labels = check_labels([[0, 1], [1, 0]], 2, 2, sparse=sparse)
    assert (labels.dtype, labels.tolist()) == (np.float32, [[0, 1], [1, 0]])


def test_targets_of_one_unit_may_be_flat() -> None:
    labels = check_labels([0.5, 1.5], 2, 1, sparse=False)
    assert labels.tolist() == [[0.5], [1.5]]
    assert check_labels(np.zeros((2, 2, 3)), 2, 6, sparse=False).shape == (2, 6)


@pytest.mark.parametrize(
    ("y", "value", "index"),
    [([0, 3, 1], 3, 1), ([0, 0, -1], -1, 2), ([0.0, 1.0, 1e30], int(1e30), 2)],
)
def test_a_label_outside_the_classes_is_named(
    y: list[float], value: int, index: int
) -> None:
    with pytest.raises(LabelRangeError, match="3 classes") as caught:
        check_labels(y, 3, 3, sparse=True)
    facts = vars(caught.value)
    assert (facts["value"], facts["index"], facts["units"]) == (value, index, 3)


def test_class_numbers_are_whole() -> None:
    with pytest.raises(DataTypeError, match=r"y\[1\] is 0.5"):
        check_labels([0, 0.5], 2, 2, sparse=True)
    with pytest.raises(NonFiniteDataError, match=r"y\[1\]"):
        check_labels([0, np.nan], 2, 2, sparse=True)


@pytest.mark.parametrize("y", [[0, 1], [[0], [1]]])
def test_class_numbers_without_cross_softmax_are_explained(y: list[int]) -> None:
    with pytest.raises(DataShapeError, match=r"cross_softmax.*one-hot"):
        check_labels(y, 2, 3, sparse=False)


def test_labels_of_another_size_are_refused() -> None:
    with pytest.raises(DataShapeError, match="3 labels for 2 samples"):
        check_labels([0, 1, 1], 2, 2, sparse=True)
    with pytest.raises(DataShapeError, match=r"\(2, 4\); expected \(2, 3\)"):
        check_labels(np.zeros((2, 4)), 2, 3, sparse=True)
    with pytest.raises(EmptyDataError):
        check_labels([], 0, 3, sparse=True)
    with pytest.raises(NonFiniteDataError):
        check_labels([[np.inf]], 1, 1, sparse=False)


# loading by name


def write_mnist(folder: Path, images_name: str, labels_name: str) -> None:
    images = np.array([[[0, 51], [102, 255]], [[255, 0], [0, 0]]], np.uint8)
    labels = np.array([7, 3], np.uint8)
    for name, array in ((images_name, images), (labels_name, labels)):
        data = idx_bytes(array)
        packed = gzip.compress(data, mtime=0) if name.endswith(".gz") else data
        (folder / name).write_bytes(packed)


@pytest.mark.parametrize(
    ("images_name", "labels_name"),
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
        ("t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte"),
    ],
)
def test_idx_labels_are_found_beside_the_images(
    tmp_path: Path, images_name: str, labels_name: str
) -> None:
    write_mnist(tmp_path, images_name, labels_name)
    alone = open_data(tmp_path / images_name)
    both = open_data(f"{tmp_path / images_name},{tmp_path / labels_name}")
    for dataset in (alone, both):
        assert dataset.x.shape == (2, 2, 2)
        assert (
            dataset.x.ravel().tolist()
            == np.float32([0, 0.2, 0.4, 1, 1, 0, 0, 0]).tolist()
        )
        assert dataset.y is not None
        assert (dataset.y.dtype, dataset.y.tolist()) == (np.int64, [7, 3])


def test_idx_labels_that_are_missing_are_named(tmp_path: Path) -> None:
    write_mnist(tmp_path, "images-idx3-ubyte", "other")
    with pytest.raises(DataFileNotFoundError, match="labels-idx1-ubyte"):
        open_data(str(tmp_path / "images-idx3-ubyte"))
    write_mnist(tmp_path, "a.idx", "b.idx")
    with pytest.raises(InvalidParameterError, match="give both paths"):
        open_data(str(tmp_path / "a.idx"))


def test_idx_files_must_go_together(tmp_path: Path) -> None:
    (tmp_path / "x.idx").write_bytes(idx_bytes(np.zeros((3, 2), np.uint8)))
    (tmp_path / "y.idx").write_bytes(idx_bytes(np.zeros(2, np.uint8)))
    with pytest.raises(DataShapeError, match="3 samples"):
        load_idx(tmp_path / "x.idx", tmp_path / "y.idx")


@pytest.mark.parametrize(
    ("saved", "y"),
    [
        ({"y": np.array([1, 0], np.uint8)}, [1, 0]),
        ({"y": np.array([[1], [0]])}, [1, 0]),
        ({"y": np.array([0.5, 1.5])}, [[0.5], [1.5]]),
        ({"y": np.array([[0, 1], [1, 0]])}, [[0, 1], [1, 0]]),
        ({}, None),
    ],
)
def test_npz_labels_are_numbers_or_targets(
    tmp_path: Path, saved: dict[str, npt.NDArray[np.generic]], y: object
) -> None:
    np.savez(tmp_path / "d.npz", x=np.arange(4).reshape(2, 2), **saved)
    dataset = open_data(tmp_path / "d.npz")
    assert dataset.x.tolist() == [[0, 1], [2, 3]]
    assert (None if dataset.y is None else dataset.y.tolist()) == y


@pytest.mark.parametrize(
    ("x", "y", "error"),
    [
        (np.zeros((0, 2)), np.zeros(0), EmptyDataError),
        (np.zeros((2, 2)), np.zeros(3), DataShapeError),
        (np.zeros((2, 0)), np.zeros(2), DataShapeError),
        (np.array(1.0), np.zeros(1), DataShapeError),
        (np.zeros((2, 2)), np.array(1.0), DataShapeError),
        (np.array([[np.nan]]), np.zeros(1), NonFiniteDataError),
        (np.zeros((1, 1)), np.array([2**63], np.uint64), DataTypeError),
    ],
)
def test_npz_arrays_that_are_no_samples_are_refused(
    tmp_path: Path,
    x: npt.NDArray[np.generic],
    y: npt.NDArray[np.generic],
    error: type[DataError],
) -> None:
    np.savez(tmp_path / "d.npz", x=x, y=y)
    with pytest.raises(error, match=r"d\.npz"):
        load_npz(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("column", "x", "y"),
    [
        ("last", [[1, 2], [4, 5]], [3, 6]),
        ("first", [[2, 3], [5, 6]], [1, 4]),
        (1, [[1, 3], [4, 6]], [2, 5]),
        ("none", [[1, 2, 3], [4, 5, 6]], None),
    ],
)
def test_csv_labels_stand_in_any_column(
    tmp_path: Path, column: int, x: list[list[float]], y: list[int] | None
) -> None:
    path = tmp_path / "d.csv"
    path.write_text("1,2,3\n4,5,6\n")
    dataset = load_csv(path, column)
    assert dataset.x.tolist() == x
    assert dataset.x.flags.c_contiguous
    assert (None if dataset.y is None else dataset.y.tolist()) == y


def test_csv_labels_with_fractions_are_targets(tmp_path: Path) -> None:
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress(b"1,0.5\n2,1\n", mtime=0))
    y = open_data(path).y
    assert y is not None
    assert (y.dtype, y.tolist()) == (np.float32, [[0.5], [1.0]])


@pytest.mark.parametrize("column", [3, -4, True, "label", None])
def test_csv_label_columns_that_do_not_exist_are_refused(
    tmp_path: Path, column: int
) -> None:
    path = tmp_path / "d.csv"
    path.write_text("1,2,3\n")
    with pytest.raises(InvalidParameterError, match="0 to 2"):
        load_csv(path, column)


def test_csv_needs_a_column_beside_the_labels(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("1\n2\n")
    with pytest.raises(DataShapeError, match="label_column='none'"):
        load_csv(path)
    assert load_csv(path, "none").x.tolist() == [[1], [2]]


def test_open_data_knows_its_formats(tmp_path: Path) -> None:
    assert open_data("digits").n_samples == 1797
    with pytest.raises(InvalidParameterError, match="did you mean 'digits'"):
        open_data("digit")
    for spec in ("data.xyz", "", "a,b", "a.csv,b.csv"):
        with pytest.raises(InvalidParameterError, match=r"\.npz, \.csv"):
            open_data(spec)
    comma = tmp_path / "a,b.csv"
    comma.write_text("1,2\n")
    assert open_data(comma).n_samples == 1


class Raising:
    """Looks like an array of another library, which fails in its own way."""

    def __array__(self, dtype: object = None, copy: object = None) -> None:
        raise KeyError("no array")


def test_arrays_of_other_libraries_may_fail_as_they_like() -> None:
    x = np.zeros((4, 2), np.float32)
    for indices in (Raising(), [Raising()]):
        with pytest.raises(InvalidParameterError, match=r"samples|whole numbers"):
            Dataset("mine", x, None).take(indices)
    for wrong in (None, [[1.0], [2.0, 3.0]], Raising()):
        with pytest.raises(DataTypeError, match=r"mine: x .*array"):
            Dataset("mine", wrong, None)  # type: ignore[arg-type]


FRACTIONS = {
    "array": np.zeros(3),
    "text": "0.5",
    "None": None,
    "digits": 10**5000,
}


@pytest.mark.parametrize("case", FRACTIONS)
def test_fractions_that_are_none(case: str) -> None:
    fraction: Any = FRACTIONS[case]
    data = Dataset("mine", np.zeros((4, 2), np.float32), None)
    with pytest.raises(InvalidParameterError, match="validation_fraction="):
        data.split(fraction, 0)
    if case != "digits":
        with pytest.raises(InvalidParameterError, match="seed="):
            data.split(0.5, fraction)


def test_broadcast_arrays_take_memory_when_they_are_converted() -> None:
    x = np.broadcast_to(np.float16(0), (2**40, 6))
    with pytest.raises(
        DataShapeError, match=r"a copy of which takes .*free; give it in parts"
    ):
        check_samples(x, 6, (1, 1, 6))
    with pytest.raises(DataShapeError, match="indices has the shape"):
        Dataset("mine", np.zeros((4, 2), np.float32), None).take(
            np.broadcast_to(np.int8(0), (2**40,))
        )
