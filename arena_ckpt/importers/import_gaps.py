"""What an import cannot take: collected over the whole model, and told at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arena_ckpt.errors import UnsupportedModelError


@dataclass(frozen=True, slots=True)
class Gap:
    """An operation that an import cannot take.

    Attributes
    ----------
    op : str
        Its name in the other framework.
    reason : str
        Why, and what to do instead.
    where : str
        The line of the user's code, or the node of the file, where it stands.
    """

    op: str
    reason: str
    where: str


class UnsupportedOperation(Exception):
    """Raised by a rule that cannot take an operation; becomes a `Gap`.

    Parameters
    ----------
    reason : str
        Why, and what to do instead.
    """


def require_no_gaps(gaps: Sequence[Gap], what: str, advice: str) -> None:
    """Refuse a model with gaps; the message lists each kind once.

    Parameters
    ----------
    gaps : sequence of Gap
    what : str
        The model, as the user knows it.
    advice : str
        What helps with all of them.

    Raises
    ------
    UnsupportedModelError
    """
    if not gaps:
        return
    kinds: dict[tuple[str, str], list[Gap]] = {}
    for gap in gaps:
        kinds.setdefault((gap.op, gap.reason), []).append(gap)
    lines = [
        f"  {op} ({len(same)} times, first at {same[0].where}): {reason}"
        if len(same) > 1
        else f"  {op} (at {same[0].where}): {reason}"
        for (op, reason), same in kinds.items()
    ]
    many = "an operation" if len(gaps) == 1 else f"{len(gaps)} operations"
    raise UnsupportedModelError(
        f"{what} has {many} that cannot be imported:\n"
        + "\n".join(lines)
        + f"\n{advice}",
        gaps=tuple(gaps),
    )
