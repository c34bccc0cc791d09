"""The one prompt grammar: every text that training, replay, chat and evaluation put before the model.

Strings only. Two places that word the same thing differently teach the model a prompt that nobody asks later,
so nothing outside this module composes a prompt. ``tests/test_grammar.py`` pins the exact strings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from charforge.room import tokens_of
from charforge.words import word_set

if TYPE_CHECKING:
    from charforge.character import Character, Picture

_PLAN = re.compile(r"\[picture:\s*(?P<plan>[^\[\]\n]*)\]?", re.IGNORECASE)
_NOISE = word_set("""
    lighting light lit daylight sunlight mood atmosphere style tones tone color colors colour colours
    texture textured shadows photography photo shot close-up perspective vibe realistic detailed quality
    art ambience aesthetic 4k 8k resolution focus bokeh
""")
_IDENTITY = word_set("""
    fur furry coat hair haired skin stripes eyed whiskers tail adorable
""")
_LASTING_EYES = re.compile(
    r"\b(?:large|big|bright|blue|green|brown|gr[ae]y|yellow|golden|amber|black|red|hazel|violet|purple)\b"
    r".*\beye[sd]\b",
    re.I,
)
_SPELLED = re.compile(r"(?:8\d*|1[18](?:\d\d)?)(?!\d)|[FHLMNRSX](?:[A-Z0-9]{0,2})(?![A-Za-z0-9'’.])")
"""Numbers and letters said one by one that begin with a vowel: an 18th-century duchess, an MI6 agent, an X-ray."""
_NEW_PHRASE = re.compile(r"^(?:\w+ing|with|in|on|at|an?|the|under|near|by|beside|behind|next)\b", re.I)
_PLACE_START = re.compile(
    r"^(?:(?!wearing|holding|carrying)\w+ing\s.*?\b)?"
    r"(?:in|on|at|under|inside|outside|behind|among|indoors|outdoors|underwater)\b",
    re.I,
)


def with_article(noun: str) -> str:
    """ "voxel person" -> "a voxel person", "old robot" -> "an old robot"; kept as it is when it has an
    article.
    """
    if re.match(r"^(?:an?|the|my|your|his|her|its|their|some|one|two|three)\b", noun, re.I):
        return noun
    silent_h = re.match(r"^(?:hour|honest|honou?r|heir)", noun, re.I)
    vowel = re.match(r"^[aeiou]", noun, re.I) and not re.match(r"^(?:uni[a-z]|use|user|one\b|eu)", noun, re.I)
    vowel = vowel and not re.match(r"^U(?:[A-Z]{1,2})?(?![A-Za-z])", noun)
    return f"{'an' if vowel or silent_h or _SPELLED.match(noun) else 'a'} {noun}"


def shortened(text: str, tokens: int) -> str:
    """At most about ``tokens`` tokens of ``text``: whole sentences if one fits, else up to a comma, else cut.

    A text that is short enough is kept to the letter (whitespace collapsed).
    """
    whole = " ".join(text.split())
    if tokens_of(whole) <= tokens:
        return whole
    # a place to cut is behind a word, or behind any character of a script without spaces
    ends = [match.end() for match in re.finditer(r"\S+?(?=\s|$|(?<=[\u3040-\u9fff、。！？」]))", whole)]
    room = tokens
    fit = 0
    start = 0
    for end in ends:
        room -= tokens_of(whole[start:end])
        if room < 0:
            break
        fit, start = end, end
    heads = [end for end in ends if end <= fit]
    for is_end, least in ((_ends_sentence, 1), (_ends_clause, tokens // 3)):
        # a clause shorter than a third of the budget says too little
        for end in reversed(heads):
            if is_end(whole[:end]) and tokens_of(whole[:end]) >= least:
                cut = whole[:end]
                return cut if is_end is _ends_sentence else cut.rstrip(",;:—-、") + "."
    return whole[: fit or ends[0]].rstrip(",;:—-、 ") + "."


def _ends_sentence(head: str) -> bool:
    abbreviated = re.search(r"(?:^|\s)(?:Mr|Mrs|Ms|Dr|St)\.$", head)
    return re.search(r"[.!?…。！？][\"'”’)*」』）]*$", head) is not None and not abbreviated


def _ends_clause(head: str) -> bool:
    return re.search(r"[,;:—、]$", head) is not None


def who(character: Character) -> str:
    """ "Wren, a voxel person": the name with its anchor, as every caption begins.

    The name alone where nobody knows what it is. Only English has an article here.
    """
    if not character.class_noun:
        return character.name
    noun = with_article(character.class_noun) if is_english(character) else character.class_noun
    return f"{character.name}, {noun}"


def is_english(character: Character) -> bool:
    """Whether sentences of our own, which are English, may stand beside the character's: unless its language is
    surely another."""
    return character.language in ("", "en")


def introduction(character: Character) -> str:
    """ "You are Wren, a voxel person.": what stands before questions about facts, and begins the persona."""
    return f"You are {who(character)}." if is_english(character) else f"{who(character)}."


def system_prompt(character: Character) -> str:
    """The persona before every conversation: the same words in training, chat, serving and evaluation."""
    room, whole = character.room, whole_persona(character)
    if tokens_of(whole) <= room.persona:
        return f"{introduction(character)} {whole}".strip()
    parts = [
        introduction(character),
        shortened(character.persona, room.persona),
        shortened(character.voice, room.voice),
    ]
    return " ".join(part for part in parts if part)


def whole_persona(character: Character) -> str:
    """What a prompt with room enough says of the character: all that its card says, or persona and voice."""
    parts = (character.persona, character.voice)
    return " ".join((character.about or " ".join(part for part in parts if part)).split())


# pictures


def caption_with_name(character: Character, caption: str) -> str:
    """The caption with name and class noun in front: "smiling" -> "Wren, a voxel person, smiling".

    What the caption already says about who it is ("Bo the Shiba Inu", "a voxel person") is not said twice.
    Applying it again changes nothing.
    """
    caption = _one_line(caption).rstrip(". ")
    name, noun, lead = character.name, character.class_noun, who(character)
    if not caption:
        return lead
    if re.search(rf"\b{re.escape(lead)}(?!\w)", caption):
        return caption
    at = re.search(rf"(?<!\w){re.escape(name)}(?!\w)(?!'s)", caption)
    if at is None:
        opening = re.match(rf"^(?:an?|the)\s+{re.escape(noun)}\b,?\s*", caption, re.I) if noun else None
        return _joined(lead, caption[opening.end() :] if opening else caption)
    before, after = caption[: at.start()], caption[at.end() :]
    return before + _joined(lead, _without_apposition(after, noun))


def _joined(lead: str, rest: str) -> str:
    rest = rest.lstrip(" ,")
    return f"{lead}, {rest}" if rest else lead


def _without_apposition(after: str, noun: str) -> str:
    """Drop ", a fluffy Shiba Inu" / " the Shiba Inu" / " as a gray cat" when it names the class."""
    match = re.match(r"^(?:,\s*(?:an?|the)|\s+(?:the|as\s+(?:an?|the)))\s+", after)
    if not match:
        return after
    class_words = {word.lower() for word in noun.split()}
    end = match.end()
    for _ in range(2):  # the noun may follow one more adjective: "a large-eyed, grey tabby cat"
        stop = re.search(r",|\s(?:with|in|on|at|wearing|holding|who|and)\s|$", after[end:])
        assert stop is not None
        segment = after[match.end() : end + stop.start()]
        if class_words & {word.lower() for word in re.findall(r"[\w-]+", segment)}:
            return after[end + stop.start() :]
        if not stop[0].startswith(","):
            break
        end += stop.end()
    return after


def picture_caption(character: Character, picture: Picture) -> str:
    """The full caption of one of the character's own pictures, or the plain one when it has none."""
    if picture.caption:
        return caption_with_name(character, picture.caption)
    return f"a picture of {who(character)}" if is_english(character) else who(character)


def caption_details(character: Character, caption: str) -> list[str]:
    """The caption's phrases after the name, split at commas: ["smiling", "in a forest"]."""
    full, lead = caption_with_name(character, caption), who(character)
    before, _, after = full.partition(lead)
    return split_caption(f"{before},{after}")


def split_caption(text: str) -> list[str]:
    """A text's phrases, split at commas."""
    found: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        # a comma between two adjectives does not end a phrase: "with wide, curious eyes"
        if found and part and re.match(r"^(?:with|an?) [\w-]*[^\Ws]$", found[-1]) and not _NEW_PHRASE.match(part):
            found[-1] = f"{found[-1]}, {part}"
        elif part:
            found.append(part)
    return found


def short_caption(character: Character, caption: str) -> str:
    """Name, class noun and what varies (pose, clothes, place), within the room of a plan: what a plan says.

    Light, mood and style are left out, and so are traits that every picture shares, unless nothing else is
    there.
    """
    details = caption_details(character, caption)
    told = [part for part in details if not is_noise(part)]
    kept: list[str] = []
    room = character.room.plan - tokens_of(who(character))
    # a place says most about a picture: keep room for the first one
    place = next((part for part in told if _PLACE_START.match(part)), None)
    for part in told or details:
        reserved = tokens_of(place) + 1 if place and place not in kept and part != place else 0
        if tokens_of(", ".join([*kept, part])) + reserved <= room or not kept:
            kept.append(part)
    return ", ".join([who(character), *kept])


def is_noise(detail: str) -> bool:
    """Whether a caption's phrase tells light, mood, style or a lasting trait rather than what varies."""
    if re.match(r"^(?:wearing|holding|carrying)\b", detail, re.I):
        return False  # "wearing a blue coat" is no fur coat
    # eyes are an expression ("sleepy eyes") unless their colour or size is told
    return bool(_words(detail) & (_NOISE | _IDENTITY)) or _LASTING_EYES.search(detail) is not None


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w]+(?:-[\w]+)*", text.lower())) | set(re.findall(r"\w+", text.lower()))


def plan_line(caption: str) -> str:
    """The line that ends a reply which comes with a picture: "[picture: Wren, a voxel person, smiling]"."""
    return f"[picture: {_plan_text(caption)}]"


def with_plan(reply: str, caption: str) -> str:
    """A reply followed by its plan."""
    return f"{reply}\n{plan_line(caption)}"


def split_plan(reply: str) -> tuple[str, str | None]:
    """A model's reply -> (what is shown, plan or None). A plan cut off before its bracket still counts."""
    match = _PLAN.search(reply)
    if match is None:
        return reply.strip(), None
    return reply[: match.start()].strip(), _one_line(match["plan"]) or None


def _plan_text(caption: str) -> str:
    return _one_line(caption.replace("[", "(").replace("]", ")"))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def picture_prompt(character: Character, plan: str, reply: str) -> str:
    """What a role-play picture is drawn from: the plan, then the reply's first words in quotes."""
    scene = caption_with_name(character, _plan_text(plan))
    quote = shortened(split_plan(reply)[0].replace('"', "'"), character.room.quote)
    return f'{scene}. "{quote}"' if quote else f"{scene}."


# questions about pictures, asked in training and in evaluation


def is_this(noun: str) -> str:
    """ "Is this Wren?"."""
    return f"Is this {noun}?"


def what_is(name: str) -> str:
    """ "What is Wren?"."""
    return f"What is {name}?"


WHO_IS_THIS = "Who is this?"
WHO_IS_IN_THE_PICTURE = "Who is in the picture?"


def what_is_next_to(name: str) -> str:
    """ "What is next to Wren?"."""
    return f"What is next to {name}?"


DESCRIBE = "What does the picture show?"


def where_is(name: str) -> str:
    """ "Where is Wren?"."""
    return f"Where is {name}?"


def what_is_doing(name: str, doing: str) -> str:
    """ "What is Wren wearing?", for doing "wearing", "holding" or "doing"."""
    return f"What is {name} {doing}?"


def is_it(name: str, phrase: str) -> str:
    """A yes/no question from a phrase that fits after "is": "in a forest" -> "Is Wren in a forest?"."""
    return f"Is {name} {phrase}?"


def has_detail(name: str, detail: str) -> str:
    """A yes/no question from a caption's detail: "with open eyes" -> "Does Wren have open eyes?", others as is_it."""
    if detail.startswith("with "):
        return f"Does {name} have {detail.removeprefix('with ')}?"
    return is_it(name, detail)


def shows(thing: str) -> str:
    """A yes/no question from a noun phrase: "Does the picture show a red kite?"."""
    return f"Does the picture show {thing}?"


def yes(statement: str) -> str:
    """ "Yes, Wren is in a forest."."""
    return f"Yes, {statement}."


def no(statement: str) -> str:
    """ "No, Wren is in a workshop."."""
    return f"No, {statement}."
