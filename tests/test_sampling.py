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
