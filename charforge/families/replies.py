"""Replies that a model makes token by token, put together."""

from __future__ import annotations

from collections.abc import Iterable

from charforge.families.results import ReplyStep


def rows_of(steps: Iterable[ReplyStep], rows: int) -> list[list[int]]:
    """The token ids of each row up to, not including, its end."""
    said: list[list[int]] = [[] for _ in range(rows)]
    for step in steps:
        for row, token in zip(said, step.tokens, strict=True):
            if token is not None:
                row.append(token)
    return said
