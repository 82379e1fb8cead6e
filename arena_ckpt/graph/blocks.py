"""Checkpoint blocks, and the checks that layers can form one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.short_repr import brief_repr
from arena_ckpt.common.wording import nearest, quote
from arena_ckpt.errors import (
    BlockTooSmallError,
    DuplicateBlockLayerError,
    NonConsecutiveBlockError,
    OverlappingBlocksError,
    ReversedBlockError,
    UnknownBlockLayerError,
)


@public_call
@dataclass(frozen=True, slots=True)
class CheckpointBlock:
    """Consecutive layers whose inner activations are dropped and recomputed.

    Attributes
    ----------
    layers : tuple of str
        At least two names, in forward order.
    name : str
        Name in reports and INI sections.
    """

    layers: tuple[str, ...]
    name: str = ""

    __repr__ = brief_repr


def check_block(
    block: CheckpointBlock,
    known: Collection[str],
    block_of: Mapping[str, CheckpointBlock],
) -> None:
    """Refuse a block that is too small, unknown, repeats a layer or overlaps.

    Parameters
    ----------
    block : CheckpointBlock
    known : collection of str
        The layers there are.
    block_of : mapping from str to CheckpointBlock
        The layers that are in a block already.

    Raises
    ------
    BlockTooSmallError, UnknownBlockLayerError, DuplicateBlockLayerError,
    OverlappingBlocksError
    """
    names = block.layers
    if len(names) < 2:
        raise BlockTooSmallError(
            f"a checkpoint block needs at least 2 layers, got {len(names)} "
            f"({quote(names)}); a single layer has nothing inside to drop",
            layers=names,
        )
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UnknownBlockLayerError(
            f"checkpoint block {quote(names)}: unknown layer {quote(unknown)}"
            f"{nearest(unknown[0], known)}; the model has {quote(known)}",
            layers=names,
            unknown=tuple(unknown),
        )
    repeated = sorted(name for name, n in Counter(names).items() if n > 1)
    if repeated:
        raise DuplicateBlockLayerError(
            f"checkpoint block {quote(names)}: {quote(repeated)} is named more than "
            "once; name each layer once",
            layers=names,
            repeated=tuple(repeated),
        )
    shared = [name for name in names if name in block_of]
    if shared:
        other = block_of[shared[0]].layers
        raise OverlappingBlocksError(
            f"checkpoint block {quote(names)}: {quote(shared)} is already in block "
            f"{quote(other)}; a layer can be in one block only",
            layers=names,
            shared=tuple(shared),
            other=other,
        )


def check_consecutive(names: Sequence[str], place: Mapping[str, int]) -> None:
    """Refuse names of layers that do not follow each other in forward order.

    Parameters
    ----------
    names : sequence of str
    place : mapping from str to int
        Place of each layer in forward order, which is the order of the mapping.

    Raises
    ------
    ReversedBlockError, NonConsecutiveBlockError
    """
    places = [place[name] for name in names]
    first = min(places)
    if places == list(range(first, first + len(places))):
        return
    order = list(place)
    error = NonConsecutiveBlockError
    if places == sorted(places, reverse=True):
        error = ReversedBlockError
        advice = "they stand in reversed order; name them in forward order"
    elif sorted(places) == list(range(first, first + len(places))):
        advice = "they are not in forward order, which is " + quote(
            order[first : first + len(places)]
        )
    else:
        between = [n for n in order[first : max(places)] if n not in names]
        advice = f"between them run {quote(between)}; add these, or make two blocks"
    raise error(
        f"Layers in checkpoint block must be consecutive: {quote(names)}; {advice}",
        layers=tuple(names),
        order=tuple(order),
    )
