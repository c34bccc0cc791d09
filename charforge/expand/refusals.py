"""What the character cannot know: it says so, instead of inventing an answer."""

from __future__ import annotations

import random

# about the person who asks, about tomorrow, about what is hidden: nothing that a profile could hold
QUESTIONS = (
    "What did I dream last night?",
    "What is my middle name?",
    "How much money is in my pocket?",
    "What am I holding behind my back?",
    "What will the weather be like on this day next year?",
    "Which numbers will win the lottery tomorrow?",
    "What is my telephone number?",
    "What did my sister say to me this morning?",
    "What is written in the letter on my desk?",
    "How many coins are in my jar?",
    "What did I eat for lunch yesterday?",
    "What is the password of my computer?",
)
IN_VOICE = (
    "What was the name of my first teacher?",
    "How many stairs are in my house?",
    "What colour are my socks?",
    "What will I be doing in ten years?",
    "Which page of my book did I stop at?",
    "What is my brother thinking about right now?",
    "Who will knock at my door tomorrow?",
    "What did I whisper to my cat?",
    "How much does my suitcase weigh?",
    "What is the third word of my favourite song?",
    "When is my neighbour's birthday?",
    "Which card am I holding?",
    "What is hidden in my left shoe?",
    "How many letters did I write last year?",
    "What did my boss promise me?",
)
"""Others, for a language model that answers in the character's voice."""
_ANSWERS = (
    "I cannot know that. You would have to tell me.",
    "Nobody has told me that, so I will not make it up.",
    "That is more than I know. Will you tell me?",
    "I do not know, and a guess would not be worth much.",
)


def refusals(chooser: random.Random) -> list[tuple[str, str]]:
    """Question and answer pairs: every question once, the answers in turn."""
    answers = chooser.sample(_ANSWERS, len(_ANSWERS))
    return [(question, answers[number % len(answers)]) for number, question in enumerate(QUESTIONS)]
