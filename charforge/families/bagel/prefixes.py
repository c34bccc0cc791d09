"""Samples that begin alike, laid out as a tree: what they share is computed once, values and gradients stay the same.

Four replies behind the same system prompt, or twelve questions behind the same line, are one row of attention: the
common beginning, then the rest of each, where nobody sees a sibling. Short trees share a row too, so that little of
the padded grid in which attention runs is padding.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from charforge.families.bagel.splits import LatentSplit, Split, TextSplit


@dataclass(frozen=True)
class Node:
    """A split and the index, in its row, of the split before it; -1 where a sample begins."""

    split: Split
    parent: int


@dataclass
class _Tree:
    """A tree that may still take samples: its nodes by (parent, what they are), and its tokens."""

    nodes: list[Node] = field(default_factory=list)
    known: dict[tuple[int, Hashable], int] = field(default_factory=dict)
    tokens: int = 0


def chain(sample: Sequence[Split]) -> list[Node]:
    """One sample as a row of its own."""
    return [Node(split, number - 1) for number, split in enumerate(sample)]


def shared_rows(samples: Sequence[Sequence[Split]], hidden_size: int) -> list[list[Node]]:
    """Rows of samples, those with a common beginning as a tree.

    A sample joins a tree while the longer row costs attention less than reading its beginning again would cost the
    linear layers (of width ``hidden_size``). No row is longer than the longest tree.
    """
    trees: list[_Tree] = []
    latest: dict[Hashable, _Tree] = {}
    for sample in samples:
        first = split_key(sample[0])
        tree = latest.get(first) if first is not None else None
        if tree is None or not _pays(tree, sample, hidden_size):
            tree = _Tree()
            trees.append(tree)
            latest[first] = tree
        _insert(tree, sample)
    return _fill(trees)


def _fill(trees: Sequence[_Tree]) -> list[list[Node]]:
    """The longest tree first, each in the first row that has room for it."""
    longest = max(tree.tokens for tree in trees)
    rows: list[list[Node]] = []
    room: list[int] = []
    for tree in sorted(trees, key=lambda tree: -tree.tokens):
        at = next((row for row, free in enumerate(room) if free >= tree.tokens), len(rows))
        if at == len(rows):
            rows.append([])
            room.append(longest)
        first = len(rows[at])
        rows[at] += [Node(n.split, n.parent + first if n.parent >= 0 else -1) for n in tree.nodes]
        room[at] -= tree.tokens
    return rows


def split_key(split: Split) -> Hashable:
    """Equal for splits that compute the same; None for what must stay apart: supervised text and noised pictures."""
    if isinstance(split, TextSplit):
        return None if split.loss else split.ids
    if isinstance(split, LatentSplit):
        return None if split.noised else (id(split.tokens), id(split.position_ids))
    return id(split.patches), id(split.position_ids)


def _matched(tree: _Tree, sample: Sequence[Split]) -> tuple[int, int]:
    """How many splits of ``sample`` the tree has already, and the node of the last of them."""
    at = -1
    for number, split in enumerate(sample):
        key = split_key(split)
        found = tree.known.get((at, key)) if key is not None else None
        if found is None:
            return number, at
        at = found
    return len(sample), at


def _pays(tree: _Tree, sample: Sequence[Split], hidden_size: int) -> bool:
    """Scores that joining adds against products that it saves.

    A layer has some 12 hidden_size^2 weights and a score costs 2 hidden_size products; a third of that quotient,
    because scores are slow for their number of products.
    """
    count, _ = _matched(tree, sample)
    prefix = sum(split.length for split in sample[:count])
    rest = sum(split.length for split in sample[count:])
    return 2 * rest * (tree.tokens - prefix) < prefix * (prefix + 2 * hidden_size)


def _insert(tree: _Tree, sample: Sequence[Split]) -> None:
    count, at = _matched(tree, sample)
    for split in sample[count:]:
        tree.nodes.append(Node(split, at))
        parent, at = at, len(tree.nodes) - 1
        key = split_key(split)
        if key is not None:
            tree.known[parent, key] = at
        tree.tokens += split.length
