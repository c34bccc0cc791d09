"""Which of many sets are nearly the same, without comparing every one with every other.

Two sets whose Jaccard index is at least ``t`` share an element among the rarest ``n - ceil(t n) + 1`` of each (the
prefix filter of Bayardo, Ma and Srikant, "Scaling up all pairs similarity search", 2007): only sets that share one of
these are compared. The result is the same as that of comparing all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain


def frequencies(sets: Iterable[frozenset[str]]) -> Counter[str]:
    """In how many sets each element occurs: rare elements tell sets apart."""
    return Counter(chain.from_iterable(sets))


class NearSets:
    """Sets by number, found by sets that may have a Jaccard index of ``threshold`` or more with them.

    ``frequency`` must count every set that is ever added or looked for.
    """

    def __init__(self, threshold: float, frequency: Mapping[str, int]) -> None:
        self._threshold = threshold
        self._frequency = frequency
        self._holding: dict[str, list[int]] = {}

    def add(self, number: int, elements: frozenset[str]) -> None:
        """Remember a set under its number."""
        for element in self._rarest(elements):
            self._holding.setdefault(element, []).append(number)

    def candidates(self, elements: frozenset[str]) -> list[int]:
        """Numbers of all sets that are near enough, and of some that are not, in ascending order."""
        found: set[int] = set()
        for element in self._rarest(elements):
            found.update(self._holding.get(element, ()))
        return sorted(found)

    def _rarest(self, elements: frozenset[str]) -> list[str]:
        ordered = sorted(elements, key=lambda element: (self._frequency[element], element))
        # the small term: 0.8 * 15 must not be more than 12
        return ordered[: len(ordered) - math.ceil(self._threshold * len(ordered) - 1e-9) + 1]
