"""Who is named in the files of a folder: who speaks there, and whom entries of lorebooks are about.

Only what stands where a name stands is taken. It decides whether a part of the character's name is its alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from charforge.character.cards.card import Card
from charforge.character.cards.convert import card_texts
from charforge.character.cleaning import one_line
from charforge.character.contents import Contents
from charforge.character.profile import Profile
from charforge.character.speakers import Names
from charforge.character.text_files import read_text
from charforge.character.titles import abbreviated

_LABEL = re.compile(r"^[^\w\n]{0,20}([^\W\d_][^:：\n]{1,40}?)[^\w\n:：]{0,6}[:：]", re.M)
_UNDER_A_KEY = re.compile(
    r'"(?:name|user_name|character_name|from|role|speaker|author|comment|title|displayName|memo)"\s*:\s*"([^"\\\n]{3,40})"'
)
_LISTED = re.compile(r'"(?:keys?|keywords)"\s*:\s*(?:\[([^\[\]]{0,2000})\]|"([^"\\\n]{3,200})")')
_CALLED = re.compile(r"^[^\W\d_][^.!?。！？,;，；\"()]*$")


def who_is_who(folder: Path, contents: Contents, profile: Profile, card: Card | None) -> Names:
    """Who is who in the files of a folder, as character.md and the card say, and as the others in it are called.

    What is wrong with a file is told where it is read.
    """
    paths = (*contents.dialogues, *contents.logs, *contents.lorebooks)
    read = (contents.texts.get(path) or read_text(folder, path, []) for path in paths)
    texts = [text for text in read if text] + (card_texts(card) if card is not None else [])
    from_card = [one_line(card.name), one_line(card.nickname)] if card is not None else []
    name = profile.name or (from_card[0] if from_card else "")
    return Names.of(name, [*profile.aliases, *from_card], profile.users, named_in(texts))


def named_in(texts: Iterable[str]) -> frozenset[str]:
    """Names of at least two words, a title with them."""
    return frozenset(name for text in texts for each in _candidates(text) if _is_a_name(name := each.strip(" *_\"'")))


def _candidates(text: str) -> Iterator[str]:
    if text.lstrip()[:1] in ("{", "["):
        yield from _UNDER_A_KEY.findall(text)
        for listed, joined in _LISTED.findall(text):
            yield from re.findall(r'"([^"\\\n]{3,40})"', listed)
            yield from joined.split(",")
    if not text.lstrip().startswith("{"):
        yield from _LABEL.findall(text)


def _is_a_name(words: str) -> bool:
    """Every word with a capital, or in a script without any: "Kowal's hive" and "the Kowal farm" are no people."""
    parts = words.split()
    plain = _CALLED.match(abbreviated(words)) is not None and not re.search(r"['’]s?(?:\s|$)", words)
    return plain and 2 <= len(parts) <= 4 and not any(part[0].islower() for part in parts[1:])
