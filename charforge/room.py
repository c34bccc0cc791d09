"""How much of a character a base reads: budgets in tokens, and how they are counted without a tokenizer.

The words that fit must be the same in ``check``, which loads no base, in training, in chat on another machine and in
evaluation. So tokens are counted by a rule that needs no files and is rather too high than too low.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PIECES = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_")
_WIDE = re.compile(r"[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9d]")
LETTERS_A_TOKEN = 5
"""Of words in Latin letters; vocabularies of 50 to 150 thousand pieces hold most common words whole."""


@dataclass(frozen=True)
class Room:
    """Tokens for the persona and the voice in the system prompt, for a plan, and for the words of a reply in the prompt
    that its picture is drawn from. The defaults suit a base that reads its prompt with every sample on a CPU.
    """

    persona: int = 56
    voice: int = 36
    plan: int = 44
    quote: int = 36


SHORT_CONTEXT = Room()
LONG_CONTEXT = Room(persona=4096, voice=1024, plan=96, quote=96)
"""For a base that reads thousands of tokens: the whole of a card."""
SHARE_OF_CONTEXT = 0.25
"""Of a base's context, for the system prompt at most: the rest is the conversation's."""


def tokens_of(text: str) -> int:
    """About how many tokens a text is, rather too many than too few."""
    count = 0
    for piece in _PIECES.findall(text):
        wide = len(_WIDE.findall(piece))
        # a script that a vocabulary has no words of is written in pieces of bytes: two a character
        latin = len(piece) - wide if piece[0] < "\u0250" else 0
        count += 2 * (len(piece) - latin) + -(-latin // LETTERS_A_TOKEN)
    return count


def room_for(base_context: int, given: Room) -> Room:
    """``given``, with a system prompt that leaves the conversation its share of the context."""
    most = int(SHARE_OF_CONTEXT * base_context)
    persona = min(given.persona, most)
    return Room(persona, min(given.voice, persona), given.plan, given.quote)
