"""The sizes of a convolution: outputs, and what its kernels need as workspace."""

from __future__ import annotations

from dataclasses import dataclass

from arena_ckpt.operations.sizes import DOTS
from arena_ckpt.operations.sizes import TILE_ROWS as ROWS
from arena_ckpt.operations.sizes import TILE_VECTORS as VECTORS
from arena_ckpt.operations.sizes import VECTOR_WIDTH as WIDTH

SLACK = 64
"""Elements behind the pictures: vectors read beyond the last row, and a zero."""

_ALL = 1 << 40
"""Number of samples in a group that needs no workspace: all there are."""

_MOST_ELEMS = 1 << 14
"""Maximum number of elements of a workspace of several samples, or a weight's size."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution of one sample; stride and so on as (height, width).

    Attributes
    ----------
    channels, height, width : int
        Of the input.
    filters : int
        Channels of the output.
    kernel, stride, dilation : tuple of int
    padding : tuple of int
        Top, bottom, left, right.
    """

    channels: int
    height: int
    width: int
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]

    @property
    def reach(self) -> tuple[int, int]:
        """Distance of the first and the last tap."""
        return (
            (self.kernel[0] - 1) * self.dilation[0],
            (self.kernel[1] - 1) * self.dilation[1],
        )

    @property
    def out_height(self) -> int:
        """Number of rows of the output."""
        top, bottom, _, _ = self.padding
        return (self.height + top + bottom - self.reach[0] - 1) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        """Number of columns of the output."""
        _, _, left, right = self.padding
        return (self.width + left + right - self.reach[1] - 1) // self.stride[1] + 1

    @property
    def numbers(self) -> tuple[int, ...]:
        """What the kernels take, after the number of samples."""
        return (
            *(self.channels, self.height, self.width),
            *(self.filters, *self.kernel, *self.stride, *self.dilation),
            *(self.padding[0], self.padding[2], self.out_height, self.out_width),
        )

    @property
    def taps(self) -> int:
        """Elements of one channel of a filter."""
        return self.kernel[0] * self.kernel[1]

    @property
    def _weight_elems(self) -> int:
        return self.filters * self.channels * self.taps

    def _forward_size(self) -> tuple[int, int]:
        """Return rows and columns of a phase of the padded input."""
        return (
            self.out_height + self.reach[0] // self.stride[0],
            self.out_width + self.reach[1] // self.stride[1],
        )

    def _picture_elems(self) -> int:
        rows, columns = self._forward_size()
        phases = min(self.stride[0], self.reach[0] + 1)
        phases *= min(self.stride[1], self.reach[1] + 1)
        return self.channels * phases * rows * columns

    def forward_workspace(self) -> Workspace:
        """Return the workspace of `conv_forward`."""
        return self._workspace(
            self._picture_elems(),
            self.out_height,
            self.out_width,
            self.channels * self.taps,
            is_plain=(
                self.stride == (1, 1)
                and (self.padding[0], self.padding[2]) == (0, 0)
                and self._forward_size() == (self.height, self.width)
            ),
        )

    def _derivative_margins(self) -> tuple[int, int]:
        (stride_h, stride_w), (top, _, left, _) = self.stride, self.padding
        return (
            self.reach[0] // stride_h - top // stride_h,
            self.reach[1] // stride_w - left // stride_w,
        )

    def _derivative_size(self) -> tuple[int, int]:
        """Return rows and columns of the padded derivative."""
        margin_h, margin_w = self._derivative_margins()
        rows = (self.height - 1 + self.padding[0]) // self.stride[0]
        columns = (self.width - 1 + self.padding[2]) // self.stride[1]
        return rows + margin_h + 1, columns + margin_w + 1

    def derivative_workspace(self) -> Workspace:
        """Return the workspace of `conv_derivative`."""
        rows, columns = self._derivative_size()
        n_taps = self.filters * self.taps
        return self._workspace(
            self.filters * rows * columns,
            -(-self.height // self.stride[0]),
            -(-self.width // self.stride[1]),
            2 * n_taps,
            is_plain=(
                self._derivative_margins() == (0, 0)
                and (rows, columns) == (self.out_height, self.out_width)
            ),
            packed_elems=ROWS * n_taps,
        )

    def gradient_workspace(self) -> Workspace:
        """Return the workspace of `conv_gradient`: sums of at least 512 products."""
        rows = (self.out_height - 1) * self.stride[0] + self.reach[0] + 1
        columns = (self.out_width - 1) * self.stride[1] + self.reach[1] + 1
        lanes = min(self.channels, WIDTH)
        sample_elems = rows * columns * -(-self.channels // lanes) * lanes
        plane = self.out_height * self.out_width
        group = min(-(-512 // plane), max(1, self._room // sample_elems))
        elems, table_elems = group * sample_elems + SLACK, group * plane
        if group > 1:  # elements of dy are gathered
            elems, table_elems = elems + ROWS * table_elems, 2 * table_elems
        return Workspace(1, group, elems, table_elems)

    def depthwise_workspaces(self) -> tuple[Workspace, Workspace, Workspace]:
        """Return the workspaces of a depthwise forward, gradient and derivative."""
        columns_of_filter, plane = self.kernel[1], self.height * self.width
        phases = self.stride[0] * self.stride[1]
        split = plane if phases > 1 else 0  # a plane with its phases apart

        def tables(copies: int, size: int, *, moves: bool) -> int:
            if not moves:
                return copies * size
            mask = self.out_width * (1 if self.out_width >= WIDTH else WIDTH) + WIDTH
            return 4 * copies + columns_of_filter * mask

        size, _ = self._forward_size()
        size *= self.out_width
        copies = columns_of_filter * min(self.stride[0], self.reach[0] + 1)
        moves = self.stride[1] * self.out_width == self.width
        table_elems = tables(copies, size, moves=moves) + (split if moves else 0)
        elems = copies * size + (split if moves else 0) + SLACK
        forward = Workspace(1, 1, elems, self.taps + table_elems)
        n_taps = -(-self.taps // DOTS) * DOTS
        elems += (n_taps + 1) * WIDTH
        gradient = Workspace(1, 1, elems, n_taps + table_elems)

        size, _ = self._derivative_size()
        size *= -(-self.width // self.stride[1])
        table_elems = tables(columns_of_filter, size, moves=moves) + split
        table_elems += 2 * self.taps + 2 * phases
        elems = columns_of_filter * size + split + self.taps + SLACK
        return forward, gradient, Workspace(1, 1, elems, table_elems)

    @property
    def _room(self) -> int:
        return max(_MOST_ELEMS, self._weight_elems // 4)

    def _workspace(
        self,
        sample_elems: int,
        rows: int,
        columns: int,
        table_elems: int,
        *,
        is_plain: bool,
        packed_elems: int = 0,
    ) -> Workspace:
        samples = _interleaved(columns)
        if is_plain and columns >= WIDTH:  # vectors do not read beyond the picture
            return Workspace(1, _ALL, packed_elems + SLACK, table_elems)
        per_row = -(-columns * samples // WIDTH)
        # Tiles take VECTORS vectors: a lone row of one would waste two of three. And
        # weights are packed anew for each group, so that small pictures come in large
        # groups; large ones had better stay in the second cache.
        blocks, enough = 1, 8 * VECTORS
        if packed_elems and rows * per_row < enough:
            enough = 24 * VECTORS
        elif packed_elems and rows * per_row < 2 * enough:
            enough = 16 * VECTORS
        while blocks * rows * per_row < enough:
            vectors = blocks * rows * per_row
            wasted = -vectors % VECTORS
            room = max(self._room, self._weight_elems if packed_elems else 0)
            fits = (blocks + 1) * samples * sample_elems <= room
            if not fits or (wasted * 20 <= vectors and not packed_elems):
                break
            blocks += 1
        group = blocks * samples
        elems = packed_elems + group * sample_elems + SLACK
        return Workspace(samples, group, elems, table_elems)


@dataclass(frozen=True, slots=True)
class Workspace:
    """The workspace that one kernel needs.

    Attributes
    ----------
    samples : int
        Samples interleaved, so that a row fills vectors.
    group : int
        Samples in the workspace together.
    elems : int
        float32 elements.
    table_elems : int
        int32 elements.
    """

    samples: int
    group: int
    elems: int
    table_elems: int


def _interleaved(columns: int) -> int:
    """Return how many samples to interleave: the fewest that fill most lanes."""

    def waste(samples: int) -> float:
        lanes = columns * samples
        return -lanes % WIDTH / lanes

    if columns >= WIDTH or waste(1) <= 1 / 6:
        return 1
    return min(range(1, WIDTH + 1), key=lambda s: (waste(s) > 1 / 6, s))
