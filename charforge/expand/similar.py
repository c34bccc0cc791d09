"""How alike two texts are, by the runs of four letters that they have in common."""

from __future__ import annotations

import re

SIMILAR = 0.8
"""Share of common four-letter runs from which two texts say the same."""


def grams(text: str) -> frozenset[str]:
    """The four-letter runs of a text in lower case without marks."""
    plain = " ".join(re.findall(r"\w+", text.lower()))
    if len(plain) < 4:
        return frozenset([plain])
    return frozenset(map("".join, zip(plain, plain[1:], plain[2:], plain[3:], strict=False)))


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard index."""
    return len(one & other) / len(one | other) if one or other else 1.0
