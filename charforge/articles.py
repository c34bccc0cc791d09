"""The indefinite article: "a" or "an" by how a word is spoken, or none where a determiner stands there already."""

from __future__ import annotations

import re
import unicodedata

from charforge.words import word_set

_NUMBERS = r"\d{1,3}|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|both|several|many"
_DETERMINER = re.compile(r"(?:an?|the|my|your|his|her|its|our|their|some|another|every|this|that)(?=\s)", re.IGNORECASE)
_COUNTED = re.compile(rf"(?:{_NUMBERS})\s(?P<rest>.+)", re.IGNORECASE)
_ONE = re.compile(
    # "one eyed pirate", "one man band": written without their hyphens they still describe
    r"one\s(?!(?:eyed|eared|armed|legged|handed|footed|horned|winged|headed|toothed|sided|time|hit|trick|man|woman"
    r"|person|year|day|hour)\s+\w)",
    re.IGNORECASE,
)
_AFTER_HEAD = re.compile(
    r"[,;(]|\s(?:in|on|at|of|with|from|who|that|which|for|to|and|wearing|holding)\s", re.IGNORECASE
)
_PLURAL = re.compile(r"(?:[^siu]s|ies|ees|men|people|folk|children|mice|geese|feet|teeth|oxen|sheep|fish|deer)$", re.I)

_SPOKEN_Y = re.compile(
    # "unicorn" and "user", but "uninvited" and "usher"
    r"(?:uni(?!n|mp|mag|dent|gnor|ron)|use|usu|uti|uto|uta|ura(?!l)|uri|uru|uk[ru]|ubi|unesco|ufo|uga|eu|ew[eo]s?\b|ewer)"
    r"(?!wok)",
    re.IGNORECASE,
)
_SPOKEN_W = re.compile(r"(?:one(?:s|self)?\b|once\b|ouija|oaxa)", re.IGNORECASE)
_SILENT_H = re.compile(r"(?:hour|honest|honou?r|heir)", re.IGNORECASE)
_VOWEL_LETTERS = "AEFHILMNORSX"
"""Letters whose own names begin with a vowel: "an F", but "a U"."""
_ONSET = re.compile(
    r"(?:f[lr]?|h|l|m|n|r|rh|kn|gn|mn|s(?:[hlmnqtw]|c[hr]?|k|ch|ph|pl?|pr|qu|tr|hr)?)?[aeiouy]", re.IGNORECASE
)
"""How a word begins that can be spoken, as far as the letters with vowels in their names go."""
_CODA = re.compile(
    r"(?:[aeiouy]|(?<=[aeiouy])(?:[bcdfgklmnprstvwxz]|[lnr][cdefgkmnpstxz]|[bcdgklmnprtvw]s|s[hkpst]|[cgt]h|ck|[cfp]t"
    r"|mp|mph|ll|ff|mb|rst|nds|rds|cks|tch|nch|rch))$",
    re.IGNORECASE,
)
_SHORT_WORDS = word_set("fox fan foe fly hen hog lad man mom mum nun ram rat rex rom sim lan spy sow son")
"""Words of three letters: in capitals they would pass for initials."""
_ABBREVIATED = word_set("mr mrs ms mx st sr mt ft nth hmm shh")
"""Without a vowel and yet no initials."""


def with_article(noun: str) -> str:
    """ "voxel person" -> "a voxel person", "old robot" -> "an old robot"; kept as it is when it has an article.

    A number stands for the article only where it counts: "three goats", but "a three-legged goat".
    """
    if _DETERMINER.match(noun) or _ONE.match(noun) or _counts(noun):
        return noun
    return f"{'an' if _begins_with_vowel_sound(noun) else 'a'} {noun}"


def _counts(noun: str) -> bool:
    """Whether the noun begins with a number of things: its head stands in the plural."""
    counted = _COUNTED.match(noun)
    if counted is None:
        return False
    head = _AFTER_HEAD.split(counted["rest"])[0].split()
    return bool(head) and _PLURAL.search(head[-1]) is not None


def _begins_with_vowel_sound(phrase: str) -> bool:
    bare = re.sub(r"^\W+", "", phrase)
    first = re.match(r"[^\W_]+", bare)
    if first is None:
        return False
    if first[0][0].isdigit():
        return _number_begins_with_vowel(bare)
    word = "".join(letter for letter in unicodedata.normalize("NFD", first[0]) if not unicodedata.combining(letter))
    if _is_spelled(word, bare):
        return word[0].upper() in _VOWEL_LETTERS
    if word[0].lower() == "x":
        # "xbox" is spelled at its beginning, "xylophone" is not
        return re.match(r"x[^aeiouy]", word, re.IGNORECASE) is not None
    if word[0].lower() == "h":
        return _SILENT_H.match(word) is not None
    return word[0].lower() in "aeiouœæø" and not (_SPOKEN_Y.match(word) or _SPOKEN_W.match(word))


def _number_begins_with_vowel(text: str) -> bool:
    """ "8-bit", "80s", "11", "18th" and "1800s", but "110" and "1,800"."""
    digits = re.match(r"\d+", text)
    assert digits is not None
    number = digits[0]
    if number.startswith("8"):
        return True
    grouped = re.match(r"\d+(?:,\d{3})+", text) is not None
    # two digits alone, a year in hundreds, or tens of thousands
    return number.startswith(("11", "18")) and (len(number) == 2 or (len(number) in (4, 5) and not grouped))


def _is_spelled(word: str, phrase: str) -> bool:
    """Whether the first word of a phrase is read letter by letter: "FBI", "MI6", "X-ray", but "NASA", "HERO"."""
    letters = re.match(r"[A-Za-z]+", word)
    if letters is None:
        return False
    start = letters[0]
    if len(start) == 1:
        # "X-ray", "F1 driver", "S rank"; one letter alone in small print is a word of another language
        return True
    if start.isupper():
        if len(start) < len(word):
            return len(start) <= 3
        shouted = [
            other for other in re.findall(r"[A-Za-z]{2,}", phrase)[1:] if other.isupper() and _can_be_read(other)
        ]
        whole = phrase.upper() == phrase and bool(shouted)
        return not _can_be_read(start) if len(start) > 3 or whole else start.lower() not in _SHORT_WORDS
    # "npc", "rpg": no vowel to speak it with
    return start.islower() and not re.search(r"[aeiouy]", start) and start not in _ABBREVIATED


def _can_be_read(word: str) -> bool:
    """Whether capitals can be spoken as one word."""
    if word.lower() in _SHORT_WORDS:
        return True
    begins = _ONSET.match(word) is not None or word[0].upper() not in _VOWEL_LETTERS
    return begins and re.search(r"[aeiouy]", word, re.IGNORECASE) is not None and _CODA.search(word) is not None
