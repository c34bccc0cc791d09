"""Rewordings of a user's line: the meaning and the reply stay, the words change.

Only frames whose other wording is sure. Changes of spelling ("what's" for "what is") are not made: they would be
duplicates that teach nothing.
"""

from __future__ import annotations

import random
import re

# only wordings that a person would use, and that the same reply answers: no yes/no question for an open one
_FRAMES: list[tuple[str, tuple[str, ...]]] = [
    (r"what(?:'s| is) your favou?rite (\w+)", ("Which {0} do you like best?",)),
    (r"do you like (?!to )(.+)", ("Are you fond of {0}?",)),
    (r"do you want (?!to |me |us )(.+)", ("Would you care for {0}?",)),
    (r"can you (\w.+)", ("Would you be able to {0}?", "Is it possible for you to {0}?")),
    (r"how are you(?: doing)?( today| tonight| now|)", ("How do you feel{0}?",)),
    (r"what do you think (?:of|about) (.+)", ("What is your opinion of {0}?",)),
    (r"where do you live", ("Where is your home?",)),
    (r"(?:please )?tell me (?:something )?about (.+)", ("What can you tell me about {0}?",)),
    (r"why do you (?!not\b)(.+)", ("What makes you {0}?",)),
    (r"why are you (?!not\b)(.+)", ("How come you are {0}?",)),
    (r"what are you (\w+ing)(| there| now| today)", ("I wonder what you might be {0}{1}.",)),
    (r"do you ever (.+)", ("Are there days when you {0}?",)),
    (r"when do you (.+)", ("At what time do you {0}?",)),
    (r"will you (.+)", ("Are you going to {0}?",)),
    (r"may I have (.+)", ("Could I get {0}?", "Would you give me {0}?")),
    (r"where did you find (.+)", ("How did you come by {0}?",)),
    (r"what(?:'s| is) that", ("What might that be?", "What do we have there?")),
    (r"what(?:'s| is) wrong", ("Is something the matter?",)),
    (r"good morning", ("A fine morning to you!",)),
    (r"good night", ("Sleep well!",)),
]
_COMPILED = [(re.compile(rf"^{pattern}$", re.IGNORECASE), forms) for pattern, forms in _FRAMES]


def rewordings(text: str, chooser: random.Random, limit: int = 2) -> list[str]:
    """At most ``limit`` other wordings of one user line of a single sentence, in an order drawn by ``chooser``."""
    if re.search(r"[.!?]\s+\S", text):
        return []
    for pattern, forms in _COMPILED:
        match = pattern.match(text.strip().rstrip("?.! "))
        if match:
            made = [form.format(*match.groups()) for form in forms]
            return chooser.sample(made, min(limit, len(made)))
    return []
