"""Character -> training pairs. No torch here."""

from charforge.expand.pairs import (
    ImagePart,
    Pair,
    Part,
    TextPart,
    leaked,
    prompt_key,
    prompts,
    read_pairs,
    write_pairs,
)
from charforge.expand.template import expand

__all__ = [
    "ImagePart",
    "Pair",
    "Part",
    "TextPart",
    "expand",
    "leaked",
    "prompt_key",
    "prompts",
    "read_pairs",
    "write_pairs",
]
