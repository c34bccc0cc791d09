"""Text to token ids and back. Markers written inside a user's text stay text: nobody can forge a turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as _Tokenizer

from charforge.errors import InputError
from charforge.families.bagel.splits import TextSplit

# How Qwen2's byte-level BPE cuts text into words before merging (its published tokenizer.json says the same)
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Tokenizer:
    """``file`` is a ``tokenizer.json``, or a ``vocab.json`` with Qwen2's ``merges.txt`` beside it.

    ``chat_roles`` says whether the base was taught "user", "assistant" lines. Raises InputError for unreadable files.
    """

    def __init__(self, file: Path, chat_roles: bool) -> None:
        self._inner = _qwen2_tokenizer(file.parent) if file.name == "vocab.json" else _ready_tokenizer(file)
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


def _ready_tokenizer(file: Path) -> _Tokenizer:
    try:
        return _Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception for whatever it cannot parse
        raise InputError(f"{file} is not a readable tokenizer ({error}); fetch the base again") from error


def _qwen2_tokenizer(folder: Path) -> _Tokenizer:
    """The byte-level BPE of ``vocab.json`` and ``merges.txt``, with the markers that ``tokenizer_config.json`` adds."""
    try:
        model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    except Exception as error:
        raise InputError(f"{folder}: vocab.json and merges.txt do not fit together ({error}); fetch again") from error
    tokenizer = _Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(QWEN2_WORDS), behavior="isolated", invert=False)
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, in_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    for number, content, special in _added_tokens(folder / "tokenizer_config.json"):
        tokenizer.add_tokens([AddedToken(content, special=special, normalized=False)])
        if tokenizer.token_to_id(content) != number:
            raise InputError(
                f"{folder}: {content} has id {tokenizer.token_to_id(content)} by the vocabulary and {number} by "
                "tokenizer_config.json; fetch the base again"
            )
    return tokenizer


def _added_tokens(file: Path) -> list[tuple[int, str, bool]]:
    """(id, text, whether it is a marker) in the order of ids; none when the file is absent or adds none."""
    if not file.is_file():
        return []
    try:
        table = json.loads(file.read_text("utf-8")).get("added_tokens_decoder", {})
        return sorted((int(number), str(token["content"]), bool(token["special"])) for number, token in table.items())
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} is not a readable tokenizer configuration; fetch the base again") from error
