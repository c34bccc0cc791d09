"""Text to token ids and back. Markers written inside a user's text stay text: nobody can forge a turn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as _Tokenizer

from charforge.bagel.packing import TextSplit


class Tokenizer:
    """A ``tokenizer.json``. ``chat_roles`` says whether the base was taught "user", "assistant" lines."""

    def __init__(self, file: Path, chat_roles: bool) -> None:
        self._inner = _Tokenizer.from_file(str(file))
        self._inner.encode_special_tokens = True
        self.chat_roles = chat_roles

    def encode(self, text: str) -> list[int]:
        return self._inner.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self._inner.decode(list(ids), skip_special_tokens=True)

    def role_prefix(self, role: str | None) -> list[int]:
        """What stands between bos and the text of ``role``; nothing for bare items or bases without roles."""
        return self.encode(f"{role}\n") if role and self.chat_roles else []

    def text(self, text: str, role: str | None = None, loss: bool = False) -> TextSplit:
        """One text item as every part of charforge writes it."""
        return TextSplit((*self.role_prefix(role), *self.encode(text)), loss)
