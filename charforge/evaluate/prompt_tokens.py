"""How much of the prompt the adapter makes needless: the character's whole card before the bare base, against a short
prompt before the adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from charforge import grammar
from charforge.character import Character
from charforge.evaluate.forgetting import text_rows
from charforge.evaluate.intervals import Series
from charforge.evaluate.replies import Turn
from charforge.evaluate.voice import perplexity
from charforge.expand.pairs import Pair, TextPart
from charforge.families.protocol import UnifiedModel
from charforge.kinds import TALK
from charforge.low_rank import adapter_off
from charforge.sample import Sample

EXAMPLES = 8
"""Conversations of training in a card, as many as the bundle's own has."""


def tokens_saved(rows: np.ndarray, card: int, prompts: tuple[int, ...]) -> float:
    """Tokens of prompt that the adapter saves at equal voice: those of the whole card, less those of the shortest
    prompt with which the adapter foresees what the character really said as well as the bare base does with the card.

    ``rows`` (lines, 1 + prompts): cross-entropy of each line, summed in nats: of the bare base after the card, then of
    the adapter after each of the ``prompts``, whose tokens are in rising order; ``card``: tokens of the card.

    - Range: 0 (no prompt does: the card speaks better than the adapter) to the card's tokens; higher is better.
    - Source: prompts that are taken over into weights are counted so in context distillation (Snell et al. 2022); the
      voice is measured by held-out perplexity.
    - Caveat: the card is charforge's own: persona, appearance, all facts, eight conversations. A longer one would be
      read better, and saves more where the adapter still wins. What is equal is how the held-out lines are foreseen,
      not what is known.
    """
    bare, *adapted = rows.sum(axis=0)
    return next((float(card - tokens) for tokens, loss in zip(prompts, adapted, strict=True) if loss <= bare), 0.0)


@dataclass(frozen=True)
class Before:
    """What stands before each of the held-out conversations."""

    turns: tuple[Turn, ...]

    def tokens(self, model: UnifiedModel) -> int:
        """How many tokens it is, markers included."""
        return sum(model.text(turn.text, turn.role).length for turn in self.turns)


def whole_card(model: UnifiedModel, character: Character, pairs: Sequence[Pair]) -> Before:
    """Everything that a card says, with conversations of training as turns before, as front ends send them:
    ``EXAMPLES`` of them, fewer where they would fill more than half of the base's context."""
    about = [grammar.introduction(character), grammar.whole_persona(character), character.appearance, *character.facts]
    system = Turn("system", " ".join(text for text in about if text))
    shown: list[Turn] = []
    room = model.shapes.context_tokens // 2 - model.text(system.text, system.role).length
    for pair in conversations(pairs, "train")[:EXAMPLES]:
        turns = [Turn(part.role or "user", part.text) for part in pair[1:]]
        room -= sum(model.text(turn.text, turn.role).length for turn in turns)
        if room < 0:
            break
        shown += turns
    return Before((system, *shown))


def conversations(pairs: Sequence[Pair], split: str) -> list[tuple[TextPart, ...]]:
    """The conversations of a split in words alone that begin with a system prompt."""
    found = []
    for pair in pairs:
        texts = tuple(part for part in pair.parts if isinstance(part, TextPart))
        if pair.split == split and pair.task in TALK and len(texts) == len(pair.parts) and texts[0].role == "system":
            found.append(texts)
    return found


def after(model: UnifiedModel, before: Before, conversation: Sequence[TextPart]) -> Sample:
    """A conversation with ``before`` in the place of its own system prompt."""
    own = [model.text(part.text, part.role, part.loss) for part in conversation[1:]]
    return (*(model.text(turn.text, turn.role) for turn in before.turns), *own)


def prompt_series(
    model: UnifiedModel, character: Character, pairs: Sequence[Pair], most: int
) -> tuple[dict[str, Series], dict[str, Series]]:
    """``prompt_tokens_saved``, and ``voice_card``: :func:`charforge.evaluate.voice.perplexity` with the whole card in
    the prompt; with the adapter, and of the bare base, which has no tokens to save.

    On the first ``most`` held-out conversations; nothing where there are none.
    """
    held = conversations(pairs, "held_out")[:most]
    if not held:
        return {}, {}
    names = tuple(" / ".join(part.text for part in one if part.role == "user") for one in held)
    card = whole_card(model, character, pairs)
    short = [
        Before((Turn("system", text),))
        for text in dict.fromkeys([grammar.introduction(character), grammar.system_prompt(character)])
    ]
    short.sort(key=lambda one: one.tokens(model))
    with adapter_off(model.network):
        bare = text_rows(model, [after(model, card, one) for one in held])
    with_card = text_rows(model, [after(model, card, one) for one in held])
    adapted = [text_rows(model, [after(model, prompt, one) for one in held])[:, 0] for prompt in short]
    saved = partial(tokens_saved, card=card.tokens(model), prompts=tuple(one.tokens(model) for one in short))
    rows = np.stack([bare[:, 0], *adapted], axis=1)
    on = {"prompt_tokens_saved": Series(names, rows, saved), "voice_card": Series(names, with_card, perplexity)}
    return on, {"voice_card": Series(names, bare, perplexity)}
