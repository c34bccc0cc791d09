"""Which language a text is in."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

FEWEST_LETTERS = 12
"""Fewer are told by chance."""
MOST_CHARACTERS = 4000


@lru_cache(1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language_of(text: str) -> tuple[str, float]:
    """ISO 639-1 code and confidence from 0 to 1; ("", 0.0) for a text of fewer than ``FEWEST_LETTERS`` letters."""
    text = " ".join(text.split())[:MOST_CHARACTERS]
    if sum(character.isalpha() for character in text) < FEWEST_LETTERS:
        return "", 0.0
    code, confidence = _identifier().classify(text)
    return str(code), float(confidence)
