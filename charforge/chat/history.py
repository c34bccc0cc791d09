"""How much of a conversation a base can still read: the oldest exchanges go first, the persona never."""

from __future__ import annotations

from collections.abc import Sequence

ROOM_AFTER_CUT = 0.75
"""Of the room that is left of a history when it has become too long: what is cut off has to be read anew without it,
so that it is cut seldom and then by a good piece."""


def first_kept(lengths: Sequence[int], starts: Sequence[bool], room: int, first: int = 0) -> int:
    """The first message that is still read, never before ``first`` (what was cut off stays so).

    ``lengths`` are tokens, ``starts`` says which messages begin an exchange, ``room`` is in tokens. The last exchange
    is kept whatever its length.
    """
    if sum(lengths[first:]) <= room:
        return first
    begins = [index for index, start in enumerate(starts) if start and index > first]
    for index in begins:
        if sum(lengths[index:]) <= room * ROOM_AFTER_CUT:
            return index
    return begins[-1] if begins else first


def kept_from(lengths: Sequence[int], starts: Sequence[bool], room: int) -> int:
    """The first message that is still read of a history that has grown message by message: by the messages alone."""
    first = 0
    for end in range(1, len(lengths) + 1):
        first = first_kept(lengths[:end], starts[:end], room, first)
    return first
