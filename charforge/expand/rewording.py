"""Rewordings of a user's line: the meaning and the reply stay, the words change.

Only frames whose other wording is sure. Changes of spelling ("what's" for "what is") are not made: they would be
duplicates that teach nothing.
"""

from __future__ import annotations

import random
import re

_FRAMES: list[tuple[str, tuple[str, ...]]] = [
    (r"what(?:'s| is) your favou?rite (.+)", ("Which {0} do you like best?", "Is there a {0} you like above all?")),
    (r"do you like (.+)", ("Are you fond of {0}?", "How do you feel about {0}?")),
    (r"do you want (.+)", ("Would you care for {0}?", "Shall we get you {0}?")),
    (r"do you need (.+)", ("Is there any need for {0}?", "Shall I get you {0}?")),
    (r"can you (\w.+)", ("Would you be able to {0}?", "Is it possible for you to {0}?")),
    (r"how are you(?: doing)?( today| tonight| now|)", ("How do you feel{0}?", "Is everything all right with you{0}?")),
    (r"what do you think (?:of|about) (.+)", ("What is your opinion of {0}?", "How do you find {0}?")),
    (r"where do you live", ("Where is your home?", "In what place do you live?")),
    (
        r"(?:please )?tell me (?:something )?about (.+)",
        ("What should one know about {0}?", "Do you have a word on {0}?"),
    ),
    (r"why do you (?!not\b)(.+)", ("For what reason do you {0}?", "What makes you {0}?")),
    (r"why are you (?!not\b)(.+)", ("What is the reason that you are {0}?", "How come you are {0}?")),
    (r"what are you (\w+ing)( .+|)", ("Would you show me what you are {0}{1}?", "I wonder what you might be {0}{1}.")),
    (r"are you (.+)", ("Would you call yourself {0}?", "Is it true that you are {0}?")),
    (r"do you ever (.+)", ("Does it happen that you {0}?", "Are there days when you {0}?")),
    (r"how do you (.+)", ("In what way do you {0}?", "What is your way to {0}?")),
    (r"when do you (.+)", ("At what time do you {0}?", "On which occasion do you {0}?")),
    (r"will you (.+)", ("Are you going to {0}?", "Do you plan to {0}?")),
    (r"may I have (.+)", ("Could I get {0}?", "Would you give me {0}?")),
    (r"where did you find (.+)", ("How did you come by {0}?", "In which place did {0} turn up?")),
    (r"what(?:'s| is) that", ("What might that be?", "What do we have there?")),
    (r"what(?:'s| is) wrong", ("Is something the matter?", "What happened to you?")),
    (r"good morning", ("A fine morning to you!", "Up early, are we?")),
    (r"good night", ("Sleep well!", "Until tomorrow!")),
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
