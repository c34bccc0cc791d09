"""Samples that begin alike: computed once, with the values and gradients of samples that stand alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CONFIG, tiny_data, tiny_network

from charforge.adapter.lora import add_adapter, lora_config
from charforge.families.bagel.losses import text_loss
from charforge.families.bagel.packing import pack
from charforge.families.bagel.prefixes import Node, shared_rows
from charforge.families.bagel.splits import LatentSplit, Split, TextSplit

SYSTEM, OTHER = TextSplit(tuple(range(5, 30))), TextSplit((31, 32))
WIDE = 64


def reply(*ids: int) -> TextSplit:
    return TextSplit(ids, loss=True)


def paths(nodes: list[Node]) -> list[tuple[Split, ...]]:
    """What each leaf of a row reads from its beginning."""
    parents = {node.parent for node in nodes}
    found = []
    for number in range(len(nodes)):
        if number not in parents:
            path, at = [], number
            while at >= 0:
                path.insert(0, nodes[at].split)
                at = nodes[at].parent
            found.append(tuple(path))
    return found


def test_a_common_beginning_is_there_once():
    first, second = (SYSTEM, OTHER, reply(7, 8)), (SYSTEM, OTHER, reply(9))
    third = (SYSTEM, reply(7))
    (row,) = shared_rows([first, second, third], WIDE)
    assert [node.split for node in row].count(SYSTEM) == 1 and [node.split for node in row].count(OTHER) == 1
    assert paths(row) == [first, second, third]


def test_supervised_text_and_noised_pictures_stay_apart():
    tokens, ids = torch.zeros(4, 16), torch.arange(4)
    for apart in (reply(7, 8), LatentSplit(tokens, ids, 0.5)):
        rows = shared_rows([(apart, reply(1)), (apart, reply(1))], WIDE)
        assert len(rows) == 2
    (row,) = shared_rows([(LatentSplit(tokens, ids), reply(1)), (LatentSplit(tokens, ids), reply(2))], WIDE)
    assert len(row) == 3


def test_a_row_ends_where_its_scores_cost_more_than_reading_the_beginning_again():
    samples = [(OTHER, reply(*range(5, 13))) for _ in range(40)]
    lengths = [len(row) for row in shared_rows(samples, WIDE)]
    assert sum(lengths) == 40 + len(lengths) and 2 < len(lengths) < 40
    # a long beginning is worth a longer row
    assert len(shared_rows([(TextSplit(tuple(range(5, 200))), sample[1]) for sample in samples], WIDE)) < len(lengths)


def test_short_trees_share_a_row_without_padding_it():
    long, short = (SYSTEM, reply(*range(5, 45))), [(TextSplit((number,)), reply(7)) for number in range(50, 60)]
    rows = shared_rows([*short, long], WIDE)
    assert len(rows) == 2 and rows[0] == [Node(long[0], -1), Node(long[1], 0)]
    assert paths(rows[1]) == short


SPLITS = st.lists(st.builds(TextSplit, st.tuples(st.integers(5, 7)), st.booleans()), min_size=1, max_size=4)


@given(st.lists(SPLITS, min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_every_sample_is_read_and_its_labels_are_counted(samples):
    endings = [(*sample, reply(number + 8)) for number, sample in enumerate(samples)]
    rows = shared_rows(endings, WIDE)
    assert sorted(map(repr, endings)) == sorted(repr(path) for row in rows for path in paths(row))
    alone, shared = pack(endings, CONFIG), pack(endings, CONFIG, share=True)
    assert sorted(alone.labels.tolist()) == sorted(shared.labels.tolist())
    assert shared.text_ids.numel() <= alone.text_ids.numel()


CLEAN, NOISED = (LatentSplit(torch.zeros(4, 16), torch.arange(4), time) for time in (0.0, 0.5))
ANY = st.lists(
    st.one_of(st.builds(TextSplit, st.tuples(st.integers(5, 7), st.just(8))), st.sampled_from([CLEAN, NOISED])),
    min_size=1,
    max_size=4,
)


def looks(nodes: list[Node]) -> torch.Tensor:
    """Who may look at whom, token by token: at one's own split, up to oneself where it is text, and at what one's
    sample has before, but for noised pictures."""
    tokens = [number for number, node in enumerate(nodes) for _ in range(node.split.length)]
    seen = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
    for query, own in enumerate(tokens):
        before, at = set(), nodes[own].parent
        while at >= 0:
            before.add(at)
            at = nodes[at].parent
        for key, other in enumerate(tokens):
            if own == other:
                seen[query, key] = not isinstance(nodes[own].split, TextSplit) or key <= query
            else:
                seen[query, key] = other in before and nodes[other].split is not NOISED
    return seen


@given(st.lists(ANY, min_size=1, max_size=6), st.booleans())
@settings(max_examples=200, deadline=None)
def test_tokens_look_at_their_own_split_and_at_what_their_sample_has_before(samples, share):
    samples = [(*sample, reply(number + 8)) for number, sample in enumerate(samples)]
    rows = shared_rows(samples, CONFIG.understanding.hidden_size) if share else None
    wanted = [looks(row) for row in rows or [[Node(split, n - 1) for n, split in enumerate(s)] for s in samples]]
    grid = pack(samples, CONFIG, share=share).layout.joint
    for row, mask in enumerate(wanted):
        assert torch.equal(grid.visible[row, : len(mask), : len(mask)], mask)
        assert not grid.visible[row, len(mask) :].any() and not grid.visible[row, :, len(mask) :].any()


def test_sharing_changes_neither_loss_nor_gradient():
    model, look = tiny_network(), tiny_data().samples("looks")[0][0]
    parameters = add_adapter(model, lora_config(CONFIG, 4, 8), seed=0)
    for number, parameter in enumerate(parameters.values()):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    samples = [
        (SYSTEM, OTHER, reply(7, 8, 9)),
        (SYSTEM, OTHER, reply(10), TextSplit((40,)), reply(11, 12)),
        (look, OTHER, reply(13)),
        (SYSTEM, TextSplit((41, 42)), reply(14, 15)),
        (look, TextSplit((43,)), reply(16)),
    ]
    batch = pack(samples, CONFIG, share=True)
    assert batch.text_ids.numel() < pack(samples, CONFIG).text_ids.numel() and len(batch.patch_lengths) == 1
    shared, count = text_loss(model, samples)
    shared.backward()
    together = {name: parameter.grad.clone() for name, parameter in parameters.items() if parameter.grad is not None}
    model.zero_grad()
    for sample in samples:
        alone, own = text_loss(model, [sample])
        alone.backward()
        shared, count = shared - alone.detach(), count - own
    assert count == 0 and abs(shared.item()) < 1e-3
    assert together
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, parameters[name].grad, atol=1e-5, rtol=1e-3)


def test_samples_behind_a_cache_cannot_share():
    valid = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="behind a cache"):
        pack([(SYSTEM, reply(1))], CONFIG, (valid, valid), [2], share=True)
