"""What ONNX's `Resize` does along one axis, and as which matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.onnx_graph import onnx_package
from arena_ckpt.importers.onnx_rules import OnnxCall


@dataclass(frozen=True, slots=True)
class Resizing:
    """The interpolation along an axis.

    Attributes
    ----------
    old, new : int
        Number of places before and after.
    scale : float
    by_sizes : bool
        The file states the new size, not the scale.
    attributes : tuple of (str, value)
        Of the operation.
    opset : int
    """

    old: int
    new: int
    scale: float
    by_sizes: bool
    attributes: tuple[tuple[str, object], ...]
    opset: int

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes."""
        return self.old == self.new and self.scale == 1.0

    @property
    def repeats(self) -> str | None:
        """Return how the layer upsample2d does the same: nearest, bilinear or None."""
        said = dict(self.attributes)
        places = said.get("coordinate_transformation_mode", "half_pixel")
        mode = said.get("mode", "nearest")
        if self.new % self.old or self.scale != self.new // self.old:
            return None
        if mode == "linear":
            is_same = places == "half_pixel" or (
                places == "pytorch_half_pixel" and self.new > 1
            )
            return "bilinear" if is_same else None
        rounding = said.get("nearest_mode", "round_prefer_floor")
        if mode == "nearest" and (places, rounding) in (
            ("asymmetric", "floor"),
            ("half_pixel", "round_prefer_floor"),
            ("half_pixel", "round_prefer_ceil"),
        ):
            odd = self.new // self.old % 2 == 1 or places == "asymmetric"
            return "nearest" if odd or rounding == "round_prefer_floor" else None
        return None


_KEPT = (
    *("coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "mode"),
    *("nearest_mode", "antialias"),
)


def resizing_of(
    call: OnnxCall, axes: Sequence[int], sizes: Sequence[int | None]
) -> dict[int, Resizing]:
    """Return the interpolation along each axis that is named.

    Raises
    ------
    UnsupportedOperation
    """
    if call.attribute("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise UnsupportedOperation("tf_crop_and_resize cuts a part out")
    kept = tuple(
        (name, call.attribute(name))
        for name in _KEPT
        if call.attribute(name) is not None
    )
    given = [None if size is None else float(size) for size in sizes]
    if call.has(3) and call.known(3).arrays[0].size:
        extents = call.known(3).extents
        if len(extents) != len(axes):
            raise UnsupportedOperation("its sizes are not as many as its axes")
        wanted: dict[int, int | None] = {}
        for axis, (factor, batched) in zip(axes, extents, strict=True):
            wanted[axis] = None if batched else factor
            if given[axis] is None and not batched and factor != call.export_batch:
                raise UnsupportedOperation("it changes the number of samples")
        policy = call.attribute("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratios = [
                wanted[axis] / given[axis]  # type: ignore[operator]
                for axis in axes
                if given[axis] is not None
            ]
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            for axis in axes:
                n = given[axis] or 0.0
                if int(n * ratio) != int(n * ratio + 0.5):
                    raise UnsupportedOperation(
                        f"{policy} makes {n * ratio:g} places of {n:g}"
                    )
            return {
                axis: Resizing(
                    int(given[axis] or 0),
                    int((given[axis] or 0) * ratio + 0.5),
                    ratio,
                    False,
                    kept,
                    call.opset,
                )
                for axis in axes
                if given[axis] is not None
            }
        return {
            axis: Resizing(
                int(given[axis] or 0),
                int(wanted[axis] or 0),
                (wanted[axis] or 0) / (given[axis] or 1.0),
                True,
                kept,
                call.opset,
            )
            for axis in axes
            if given[axis] is not None
        }
    if not call.has(2):
        raise UnsupportedOperation("it has neither scales nor sizes")
    scales = call.array(2).astype(float).ravel()
    if len(scales) != len(axes):
        raise UnsupportedOperation("its scales are not as many as its axes")
    found = {}
    for axis, scale in zip(axes, scales.tolist(), strict=True):
        size = given[axis]
        if size is None:
            if scale != 1.0:
                raise UnsupportedOperation("it changes the number of samples")
            continue
        new = int(np.floor(size * scale))
        found[axis] = Resizing(int(size), new, scale, False, kept, call.opset)
    return found


MOST_PLACES = 4096


def resize_matrix(one: Resizing) -> npt.NDArray[np.float32]:
    """Return the matrix (old, new) that an interpolation multiplies an axis by.

    The reference evaluator of the package `onnx` says what becomes of each place.
    """
    if one.new < 1:
        raise UnsupportedOperation("nothing is left of an axis")
    if one.old * one.new > MOST_PLACES * 16:
        raise UnsupportedOperation(
            f"an interpolation of {one.old} places to {one.new}, which is no whole "
            "multiple"
        )
    onnx = onnx_package()
    from onnx.reference import ReferenceEvaluator

    helper = onnx.helper
    names = ("x", "", "", "sizes") if one.by_sizes else ("x", "", "scales")
    node = helper.make_node("Resize", names, ["y"], **dict(one.attributes))
    target = names[-1]
    dtype = onnx.TensorProto.INT64 if one.by_sizes else onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "resize",
        [
            helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None),
            helper.make_tensor_value_info(target, dtype, None),
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
    )
    opset = [helper.make_opsetid("", one.opset)]
    evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=opset))
    wanted = (
        np.array([one.new], np.int64)
        if one.by_sizes
        else np.array([one.scale], np.float32)
    )
    rows = []
    for row in np.eye(one.old, dtype=np.float32):
        (made,) = evaluator.run(None, {"x": row, target: wanted})
        rows.append(np.asarray(made, np.float32))
    return np.stack(rows)
