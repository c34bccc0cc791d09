"""Choosing the next token."""

from __future__ import annotations

import torch

from charforge.sampling import nucleus, penalised


def test_what_was_said_becomes_less_likely_and_nothing_else_changes():
    logits = torch.tensor([[3.0, -2.0, 1.0, 0.5]])
    changed = penalised(logits, [0, 1, 0], 2.0)
    torch.testing.assert_close(changed, torch.tensor([[1.5, -4.0, 1.0, 0.5]]))
    assert logits[0, 0] == 3.0
    assert penalised(logits, [], 2.0) is logits and penalised(logits, [0], 1.0) is logits


def test_a_circle_is_left():
    # the likeliest token stays the likeliest for ever without a penalty
    logits, said = torch.tensor([[2.0, 1.9, 1.0]]), []
    for _ in range(3):
        said += nucleus(penalised(logits, said, 1.2), 0, 1.0, torch.Generator()).tolist()
    assert said[:2] == [0, 1]


def test_top_p_keeps_the_smallest_set_that_holds_the_mass():
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log()
    generator = torch.Generator().manual_seed(0)
    drawn = {int(nucleus(logits, 1.0, 0.85, generator)) for _ in range(200)}
    assert drawn == {0, 1}
    assert int(nucleus(logits, 1.0, 0.5, generator)) == 0


def test_the_nucleus_is_that_of_a_whole_sort():
    generator, again = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(4, 5000, generator=torch.Generator().manual_seed(1))
    for top_p in (0.01, 0.3, 0.9, 1.0):
        ordered, ids = (logits / 0.7).softmax(-1).sort(dim=-1, descending=True, stable=True)
        ordered = ordered * (ordered.cumsum(-1) - ordered < top_p)
        picked = torch.multinomial(ordered, 1, generator=again)
        assert torch.equal(nucleus(logits, 0.7, top_p, generator), ids.gather(-1, picked).squeeze(-1))
