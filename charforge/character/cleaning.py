"""The one entrance for text: bytes become characters, and what is no part of what somebody wrote is taken off.

Every reader passes its words through ``cleaned``. What it removes are things that a front end put there (reasoning,
HTML, addresses, pictures on the web) and characters that no file can hold; words stay to the letter. What was removed
is returned, so that it can be told.
"""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass

_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_ENCODINGS = ("cp1252", "cp1250", "cp1251", "gb18030", "big5", "cp932", "cp949", "euc_jp")
"""What text files that are not UTF-8 are written in; with fewer candidates short files are recognised better."""
_REASONING = r"think|thinking|thought|thoughts|reasoning|reflection"
_BLOCKS = (
    (re.compile(rf"<({_REASONING})>.*?</\1>", re.I | re.S), "reasoning"),
    # a server that opens the block in its prompt sends only its end
    (re.compile(rf"\A(?:(?!<(?:{_REASONING})>).)*?</(?:{_REASONING})>", re.I | re.S), "reasoning"),
    # cut off before it ended
    (re.compile(rf"<(?:{_REASONING})>.*\Z", re.I | re.S), "reasoning"),
    (re.compile(r"<!--.*?(?:-->|\Z)", re.S), "a comment"),
    (re.compile(r"<(style|script|svg|iframe)\b[^<>]*>.*?</\1\s*>", re.I | re.S), "HTML"),
)
_TAGS = (
    "a|abbr|article|aside|audio|b|big|blockquote|body|br|button|center|code|dd|del|details|div|dl|dt|em|embed|figure|"
    "figcaption|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|li|link|main|mark|meta|"
    "nav|object|ol|option|p|pre|q|ruby|rp|rt|s|samp|script|section|select|small|source|span|strike|strong|style|sub|"
    "summary|sup|svg|table|tbody|td|textarea|tfoot|th|thead|tr|tt|u|ul|video|wbr"
)
_TAG = re.compile(
    rf"<(/?)({_TAGS})((?:\s+[\w:@.-]+(?:\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>]+))|\s+(?:hidden|open|controls|loop))*)"
    r"\s*/?>",
    re.I,
)
_NEW_LINE = re.compile(
    r"br|p|div|hr|li|tr|h[1-6]|ul|ol|table|blockquote|details|summary|center|section|article|pre", re.I
)
_ENTITY = re.compile(
    r"&(?:amp|lt|gt|quot|apos|nbsp|mdash|ndash|hellip|rsquo|lsquo|ldquo|rdquo|#\d{1,6}|#x[0-9a-f]{1,5});", re.I
)
_WEB_PICTURE = re.compile(r"!\[[^\]\n]{0,300}\]\(\s*<?(?:https?:|//|data:)[^)\s]*(?:\s+\"[^\"]*\")?\s*\)", re.I)
_WEB_LINK = re.compile(r"(?<!!)\[([^\]\n]{1,300})\]\(\s*<?(?:https?:|//)[^)\s]*(?:\s+\"[^\"]*\")?\s*\)", re.I)
_ADDRESS = re.compile(r"<?\b(?:https?|ftp)://[^\s<>\"'*)\]}]+>?|\bdata:[a-z]+/[\w.+-]+;base64,[\w+/=]+", re.I)
_FRONT_END = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|^[ \t]*END_OF_DIALOGU?E?[ \t]*$"
    r"|\[/?(?:color|size|img)(?:=[^\]\n]*)?\]",
    re.I | re.M,
)
HALF = "half a character"
"""What a lone surrogate is called among what was removed."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufeff\ufffe\uffff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SUSPECT = re.compile(r"[<&]|\]\(|://|base64,|\[/?(?:INST|color|size|img)|END_OF_DIALOG", re.I)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text out of bytes. ``guessed``: the encoding was recognised by the letters alone and may be wrong."""

    text: str
    encoding: str
    guessed: bool


def decoded(data: bytes) -> Decoded | None:
    """Bytes of a text file as text with plain newlines; None where no encoding makes text of them.

    A byte order mark decides; then UTF-8; then UTF-16 without its mark (every other byte is zero); then what
    charset-normalizer takes it for.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            try:
                return Decoded(_plain_newlines(data.decode(encoding)), encoding.removesuffix("-sig"), False)
            except UnicodeDecodeError:
                return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return _without_mark(data) or _damaged(data) or _recognised(data)
    if "\0" not in text:
        return Decoded(_plain_newlines(text), "utf-8", False)
    return _without_mark(data)


def _without_mark(data: bytes) -> Decoded | None:
    """UTF-16 without its mark: of Western text every other byte is zero."""
    pairs = len(data) // 2
    for encoding, zeros in (("utf-16-le", data[1::2].count(0)), ("utf-16-be", data[::2].count(0))):
        if pairs and len(data) % 2 == 0 and zeros > 0.6 * pairs:
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError:
                continue
            if "\0" not in text:
                return Decoded(_plain_newlines(text), encoding, False)
    return None


def _damaged(data: bytes) -> Decoded | None:
    """UTF-8 that was cut inside a letter or holds half a character; None where too little of it is UTF-8."""
    whole = data.decode("utf-8", "surrogatepass") if _decodes(data) else data.decode("utf-8", "replace")
    broken = whole.count("\ufffd") + len(_SURROGATE.findall(whole))
    letters = sum(1 for letter in whole if letter > "\x7f") - broken
    if "\0" in whole or letters < 4 * broken - 3:
        return None
    return Decoded(_plain_newlines(encodable(whole).replace("\ufffd", "")), "utf-8 with broken letters", False)


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _recognised(data: bytes) -> Decoded | None:
    """Text in an encoding of one language. Data with control characters is no text in any of them."""
    from charset_normalizer import from_bytes

    if re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", data):
        return None
    best = from_bytes(data, cp_isolation=list(_ENCODINGS)).best()
    if best is None:
        return None
    # of encodings that give the same letters the most common name is told
    same = [encoding for encoding in _ENCODINGS if encoding in (best.encoding, *best.could_be_from_charset)]
    return Decoded(_plain_newlines(str(best)), (same or [best.encoding])[0].replace("_", "-"), True)


def _plain_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def encodable(text: str) -> str:
    """Text without lone surrogates, which no file can hold; two that belong together become their character."""
    if not _SURROGATE.search(text):
        return text
    paired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    # with the space before it, where that would be left alone
    return _SURROGATE.sub("", re.sub(r" [\ud800-\udfff]+(?=[\s,.!?;:]|\Z)", "", paired))


def tidied(text: str) -> str:
    """Text in NFC, without lone surrogates and control characters. Nothing that can be read changes."""
    return unicodedata.normalize("NFC", _CONTROL.sub("", encodable(text)))


def one_line(text: str) -> str:
    """A name or a phrase on one line, without the spaces around it: as sentences quote it."""
    return " ".join(tidied(text).split())


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Text as somebody wrote it, and the names of what was taken off, each once: "reasoning", "HTML"."""

    text: str
    removed: tuple[str, ...] = ()


def cleaned(text: str) -> Cleaned:
    """``text`` without what front ends and servers put into it. Where nothing is taken off, not a letter changes."""
    removed: dict[str, None] = {}
    tidy = tidied(text)
    if _SURROGATE.search(text):
        removed[HALF] = None
    if not _SUSPECT.search(tidy):
        return Cleaned(tidy, tuple(removed))
    out = tidy
    for pattern, name in _BLOCKS:
        out = _removed(pattern, "", out, name, removed)
    out = _removed(_WEB_PICTURE, "", out, "a picture on the web", removed)
    out = _removed(_WEB_LINK, r"\1", out, "an address", removed)
    out = _removed(_ADDRESS, "", out, "an address", removed)
    out = _removed(_FRONT_END, "", out, "marks of a prompt", removed)
    if _TAG.search(out):
        removed["HTML"] = None
        out = _TAG.sub(lambda tag: "\n" if _NEW_LINE.fullmatch(tag[2]) else "", out)
    if _ENTITY.search(out):
        out = _ENTITY.sub(lambda entity: html.unescape(entity[0]).replace("\xa0", " "), out)
    if out == tidy:
        return Cleaned(tidy, tuple(removed))
    lines = [re.sub(r"[ \t]{2,}", " ", line).strip() for line in out.split("\n")]
    return Cleaned(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), tuple(removed))


def _removed(pattern: re.Pattern[str], by: str, text: str, name: str, removed: dict[str, None]) -> str:
    out = pattern.sub(by, text)
    if out != text:
        removed[name] = None
    return out
