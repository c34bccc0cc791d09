"""Sentences in other languages that say what somebody is: one form of each, and nothing where it is not met."""

from __future__ import annotations

import re

_ARTICLES = {
    # subject words, copula with article, what may end the noun
    "es": (r"Él|Ella|Yo", r"(?:es|soy)\s+una?", r"que|de|del|con|en|y|muy|a|llamad[oa]|para"),
    "fr": (r"Il|Elle|Je", r"(?:est|suis)\s+une?", r"qui|de|du|des|d['’]\w+|avec|en|et|au|aux|à|dans|nommée?|très"),
    "it": (r"Lui|Lei|Io", r"(?:è|sono)\s+(?:una?|uno|un['’])", r"che|di|del|della|con|in|e|da|al|alla|molto"),
    "pt": (r"Ele|Ela|Eu", r"(?:é|sou)\s+uma?", r"que|de|do|da|com|em|e|no|na|muito"),
    "nl": (r"Hij|Zij|Ze|Ik", r"(?:is|ben)\s+een", r"die|dat|van|met|uit|in|en|op|met"),
}  # fmt: skip
_RELATIONS = re.compile(
    r"^(?:Freund|Freundin|Schwester|Bruder|Tochter|Sohn|Mutter|Vater|Fan|Mitglied|Figur|Charakter|amig[oa]|herman[oa]|"
    r"hij[oa]|madre|padre|miembro|personaje|amie?|sœur|frère|fille de|fils|mère|père|membre|personnage|amic[oa]|"
    r"sorella|fratello|figli[oa]|personaggio|irmão|irmã|filh[oa]|personagem|vriend|vriendin|zus|broer|dochter|zoon|lid|personage|"
    r"友達|友人|妹|姉|弟|兄|娘|息子|母|父|キャラクター|朋友|角色|粉丝)\b"
)
_JAPANESE = re.compile(
    r"(?P<noun>(?:[\u3400-\u9fff々ァ-ヶー]+の)?[\u3400-\u9fff々ァ-ヶー]+)(?:です|だ|である)(?:よ|ね|にゃ)?(?:[。、！]|$)"
)
_CHINESE = re.compile(r"是(?:一)?(?:个|只|名|位|条|台|頭|头|隻|匹|棵|座|把)(?P<rest>[\u3400-\u9fff]+)")
MOST_WORDS = 4


def foreign_claim(subject: str, said: str) -> str:
    """The noun that the sentence gives the character in German, Spanish, French, Italian, Portuguese, Dutch, Japanese
    or Chinese; empty where none does. ``subject`` is a pattern for its name.
    """
    noun = _german(subject, said) or _with_article(subject, said) or _japanese(subject, said) or _chinese(subject, said)
    return "" if _RELATIONS.match(noun) else noun


def _german(subject: str, said: str) -> str:
    match = re.match(
        rf"^(?:{subject}|Er|Sie|Es|Ich)\s+(?:ist|bin)\s+(?:auch\s+|noch\s+|heute\s+)?(?:eine?)\s+"
        r"(?:(?:[a-zäöüß-]+,?|und)\s+){0,6}?(?P<noun>[A-ZÄÖÜ][\wäöüß-]+(?:\s[A-ZÄÖÜ][\wäöüß-]+)?)",
        said,
    )
    return match["noun"] if match else ""


def _with_article(subject: str, said: str) -> str:
    for pronouns, be, ends in _ARTICLES.values():
        match = re.match(rf"^(?:{subject}|{pronouns})\s+{be}\s*(?P<rest>.+)$", said)
        if match is None:
            continue
        words = re.split(rf"[,;.:!]|\s(?:{ends})\b", match["rest"])[0].split()
        return " ".join(words[:MOST_WORDS])
    return ""


def _japanese(subject: str, said: str) -> str:
    if not re.match(rf"^(?:{subject}|彼女|彼|私|僕|俺)(?:は|って|、)", said) or re.search(
        r"(?:では|じゃ)(?:ない|ありません)", said
    ):
        return ""
    match = _JAPANESE.search(said)
    return match["noun"] if match else ""


def _chinese(subject: str, said: str) -> str:
    match = re.match(rf"^(?:{subject}|她|他|它|我)(?:{_CHINESE.pattern})", said)
    return match["rest"].rsplit("的", 1)[-1] if match else ""
