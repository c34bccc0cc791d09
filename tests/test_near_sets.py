"""Near duplicates found by their rarest parts: nothing that is near enough is missed, and few others are looked at."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from charforge.expand.near_sets import NearSets, frequencies
from charforge.expand.pairs import PromptKeys, similar

SETS = st.lists(st.frozensets(st.sampled_from("abcdefghijkl"), min_size=1, max_size=10), min_size=1, max_size=12)


@given(SETS, st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_no_near_set_is_missed(sets: list[frozenset[str]], threshold: float) -> None:
    near = NearSets(threshold, frequencies(sets))
    for number, one in enumerate(sets):
        found = near.candidates(one)
        for other in range(number):
            if len(one & sets[other]) >= threshold * len(one | sets[other]):
                assert other in found
        near.add(number, one)


@given(st.lists(st.text("abcd ", max_size=20), max_size=10), st.text("abcd ", max_size=20))
def test_prompt_keys_find_what_comparing_all_finds(keys: list[str], key: str) -> None:
    keys = [" ".join(k.split()) for k in keys]
    key = " ".join(key.split())
    expected = [number for number, other in enumerate(keys) if similar(key, other)]
    assert PromptKeys(keys, [key]).like(key) == expected


def test_the_work_grows_with_the_number_of_sets_and_not_with_its_square() -> None:
    chooser = random.Random(0)
    words = [f"w{n}" for n in range(2000)]
    weights = [1 / (n + 3) for n in range(2000)]

    def looked_at(count: int) -> int:
        sets = [frozenset(chooser.choices(words, weights, k=12)) for _ in range(count)]
        near, total = NearSets(0.8, frequencies(sets)), 0
        for number, one in enumerate(sets):
            total += len(near.candidates(one))
            near.add(number, one)
        return total

    # comparing all with all would look at 8 million; the square of four is sixteen
    assert looked_at(4000) < 4000 * 60
