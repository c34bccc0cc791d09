"""What a language model says that no character says: refusals, an assistant's manners, talk about the task, echoes.

Only texts that a model wrote are looked at; the user's own words are never judged.
"""

from __future__ import annotations

import re

from charforge.expand.similar import grams, overlap

ECHO = 0.6
"""Share of common four-letter runs from which a reply says the visitor's line again."""
_CANNOT = r"(?:can(?:no|')?t|can not|cannot|(?:am|'m) (?:unable|not able) to|won't be able to)"
_HELP = r"(?:assist|help|provide|fulfil+|comply|answer|generate|create|continue|discuss|engage|process|see|view)"


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE | re.MULTILINE)


_REFUSAL = _any_of(
    rf"\b(?:sorry|apologi[sz]e|unfortunately)\b[^.!?]*\b{_CANNOT}\s+{_HELP}\b",
    rf"\bI\s?{_CANNOT}\s+(?:assist|help (?:you )?with (?:that|this)|provide|fulfil+|comply|generate)\b",
    rf"\b(?:sorry|apologi[sz]e)\b[^.!?]*\b{_CANNOT}\s+understand\b",
    rf"\bI\s?{_CANNOT}\s+(?:see|view) (?:the |any )?(?:image|picture)",
    r"\bI(?:'m| am) (?:sorry|afraid),? but (?:I|as)\b",
    r"\bagainst my (?:guidelines|programming|policy)\b",
    r"\bI don't have (?:access to|the ability to|personal (?:opinions|experiences|feelings))\b",
    r"\bI don't have enough (?:information|context)\b",
)
_ASSISTANT = _any_of(
    r"\bas an? (?:ai|assistant|(?:large )?language model|chatbot)\b",
    r"\b(?:ai|language) (?:language )?model\b",
    r"\bI(?:'m| am) (?:just )?an? (?:ai|assistant|virtual assistant|chatbot|computer program)\b",
    r"\bhow (?:can|may) I (?:help|assist|be of (?:help|assistance|service))\b",
    r"\b(?:is there|if there(?:'s| is)) anything (?:else )?(?:I can|you(?:'d| would) like|you need)\b",
    r"\bfeel free to (?:ask|reach|contact|let)\b",
    r"\blet me know if (?:you|there)\b[^.!?]*\b(?:any|anything|help|more)\b",
    r"\bI hope (?:this|that) helps\b",
    r"\bI(?:'d| would) be happy to (?:help|assist)\b",
    r"\bdon't hesitate to\b",
    r"^[^\S\n]*(?:certainly|sure|of course|absolutely|great question)[!,.]? (?:here|(?:can|could) you)\b",
    r"^[^\S\n]*(?:certainly|sure|of course|absolutely|great question)[!,.]? I(?:'d| would) be happy\b",
    r"\bhere(?:'s| is) a (?:recipe|list|step-by-step|summary|guide|tip)\b",
    r"\bit(?:'s| is) important to\b",
    r"\bthank you for (?:your (?:question|input|feedback|inquiry)|reaching out)\b",
)
_PIECES = (
    r"(?:examples?|exchanges?|dialogues?|conversations?|questions?|repl(?:y|ies)|responses?|captions?|answers?"
    r"|sentences?)"
)
_GIVEN = r"(?:description|sentence|text|profile|prompt|passage|statement|persona)"
_TASK = _any_of(
    r"\bthe (?:visitor|user|reader|speaker|assistant|character)\b",
    r"\b(?:visitor|user|one|they|someone|somebody)(?:'s)? (?:could|might|would|may) (?:say|ask)\b",
    r"\bin (?:this|the) (?:scenario|conversation|exchange|dialogue|example|scene|context)\b",
    rf"\bhere(?:'s| is| are)(?: an?| the| some| a few| \w+)? (?:new |possible |short )?{_PIECES}\b",
    rf"\b(?:the|this|given|provided|above) {_GIVEN}\b",
    r"\bstay(?:ing)? in character\b",
    r"\brole-?play\b",
    r"\bJSON\b",
    r"\bmarkdown\b",
    r"\bvoice of the\b",
    r"\bin the first person\b",
    r"\bthe (?:reply|response|topic) (?:is|should|would|could|must)\b",
)
_PLACEHOLDER = re.compile(r"[\[{<]\s*[A-Za-z_ ]+\s*[\]}>]|<\||\bXXX\b|\blorem ipsum\b|https?:|```|^\W*$")
_SPEAKER = re.compile(
    r"^[^\S\n]*(?:(?i:visitor|user|assistant|system|human|question|answer|reply|response|q|a)\s*:|[A-Z][a-z]+:\s)",
    re.MULTILINE,
)


def ill_mannered(text: str, own: str = "") -> str | None:
    """Why no character says this, or None. What stands in its ``own`` words, in lower case, is its own manner."""
    for pattern, reason in (
        (_REFUSAL, "a refusal"),
        (_ASSISTANT, "an assistant's manners"),
        (_TASK, "talk about the task"),
        (_PLACEHOLDER, "a placeholder"),
        (_SPEAKER, "a speaker's name"),
    ):
        if any(match[0].lower() not in own or not match[0].strip() for match in pattern.finditer(text)):
            return reason
    return None


def echoes(reply: str, line: str) -> bool:
    """Whether a reply says the line again that it answers: "Can I have a slice?" - "Can I have a slice? Yes."."""
    said, asked = grams(reply), grams(line)
    if len(asked) < 8:
        # two words may well come again
        return " ".join(reply.lower().split()).rstrip(".!?") == " ".join(line.lower().split()).rstrip(".!?")
    return overlap(said, asked) >= ECHO or len(said & asked) >= 0.85 * len(asked)


def bare(text: str, name: str) -> str:
    """A line without quotes around it and without the speaker's name before it."""
    line = " ".join(text.split())
    line = re.sub(rf"^(?:{re.escape(name)}|visitor)\s*:\s*", "", line, flags=re.IGNORECASE)
    quoted = re.fullmatch(r"[\"“](.*)[\"”]", line)
    return quoted[1].strip() if quoted and not re.search(r"[\"“”]", quoted[1]) else line
