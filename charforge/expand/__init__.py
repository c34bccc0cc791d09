"""Character -> training pairs. No torch here."""

from charforge.expand.expansion import (
    Author,
    Expansion,
    dropped_file,
    expand,
    ledger_file,
    scenes_file,
    summary,
    write_expansion,
)
from charforge.expand.filters import Dropped
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

__all__ = [
    "Author",
    "Dropped",
    "Expansion",
    "ImagePart",
    "Pair",
    "Part",
    "TextPart",
    "dropped_file",
    "expand",
    "leaked",
    "ledger_file",
    "prompt_key",
    "prompts",
    "read_pairs",
    "scenes_file",
    "summary",
    "write_expansion",
    "write_pairs",
]
