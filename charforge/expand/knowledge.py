"""What the character knows: questions from facts and profile, answered by the fact itself.

Answers are the user's own sentences, put into the first person where a rule can do it surely and left as
written
where not: an invented or mangled sentence would be learned as the character's voice.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from charforge import grammar
from charforge.character import Character
from charforge.character.profile import sentences
from charforge.expand.lore import about_others, lore_source
from charforge.expand.persons import ADVERBS, PLAIN_VERBS, ended, first_person
from charforge.words import word_set

Question = tuple[str, str, str]
"""Question, answer, origin."""

_NAMED_THINGS = word_set("""
    favourite favorite name job breed age birthday home colour color motto dream secret hobby dish food drink
    number wish instrument nickname occupation species motivation motivations goal goals interests
""")
_PLACE_PREPOSITIONS = word_set("""
    in on at above under near behind inside by below beside
""")
_PREPOSITIONS = {
    *_PLACE_PREPOSITIONS,
    "of",
    "to",
    "with",
    "about",
    "for",
    "from",
    "after",
    "into",
    "around",
    "against",
}
_PEOPLE = word_set("""
    friend brother sister mother father owner boss teacher master rival enemy partner uncle aunt
    neighbour neighbor grandmother grandfather mentor apprentice maker creator
""")
_SEASONS = (
    "January|February|March|April|May|June|July|August|September|October|November|December|spring|summer|autumn|winter"
)
_STATES = "afraid of|scared of|proud of|good at|bad at|fond of|allergic to|made of|known for|famous for|tired of"
_SUBJECT_VERBS = (
    "is|are|was|were|has|have|can|lives?|sleeps?|hums?|likes?|eats?|stands?|comes?|keeps?|never|always|often"
)
_ABOUT_ME = (
    "Tell me something about yourself.",
    "What should I know about you?",
    "Tell me a fact about you.",
    "What else should I know about you?",
    "Tell me one more thing about you.",
    "What is special about you?",
    "Share something about yourself.",
    "Tell me a little about your life.",
    "Tell me something I do not know about you.",
    "What else can you tell me about yourself?",
)
_KEYS = {
    "age": "How old are you?",
    "home": "Where do you live?",
    "job": "What is your job?",
    "occupation": "What is your job?",
    "born": "When were you born?",
    "birthplace": "Where were you born?",
    "species": "What species are you?",
    "breed": "What breed are you?",
    "likes": "What do you like?",
    "dislikes": "What do you dislike?",
    "hobbies": "What are your hobbies?",
    "fears": "What are you afraid of?",
}


def questions(character: Character) -> list[Question]:
    """All knowledge questions, best forms first; no question is asked twice."""
    asked: dict[str, Question] = {}

    def ask(question: str, answer: str, origin: str) -> bool:
        if question.lower() in asked:
            return False
        asked[question.lower()] = (question, answer, origin)
        return True

    _about_self(character, ask)
    general = iter(_ABOUT_ME)
    facts = [(fact, f"facts:{number}") for number, fact in enumerate(character.facts, start=1)]
    # the first sentence says what kind it is, see _about_self
    begins = sentences(character.persona)[:1]
    facts += [(s, "persona") for s in told_by_name(character.persona, character.name) if s not in begins]
    facts += [(s, "voice") for s in told_by_name(character.voice, character.name) if s not in character.facts]
    for fact, origin in facts:
        made = False
        for question, answer in _of_fact(character, fact):
            made = ask(question, answer, origin) or made
        about_me = first_person(fact, character.name)
        if about_me and (form := next(general, None)):
            ask(form, about_me, origin)
        elif not made and origin.startswith("facts"):
            ask(f"Tell me something about {character.name}.", ended(fact), origin)
    about_others(character, ask)
    return list(asked.values())


def told_by_name(prose: str, name: str) -> list[str]:
    """The sentences of a persona that are surely about the character, each with its name: "He naps." -> "Bo naps.".

    A pronoun is the character's while nobody else has been the subject since its name.
    """
    told: list[str] = []
    known = True
    for sentence in sentences(prose):
        # not it and they: "It rains" is about nobody, and "They nap" would become "Bo nap"
        resolved = re.sub(r"^(?:He|She)\b", name, sentence)
        resolved = re.sub(r"^(?:His|Her)\b", f"{name}'s", resolved)
        if sentence.startswith(name):
            known = True
        elif resolved == sentence:
            known = False
        if known and len(sentence.split()) <= 30:
            told.append(resolved)
    return told


def source_of(character: Character, origin: str) -> str:
    """The user's own words that a question of this origin rests on."""
    if origin.startswith("facts:"):
        return character.facts[int(origin.removeprefix("facts:")) - 1]
    if origin.startswith("lore:"):
        return lore_source(character, origin)
    prose = {"persona": character.persona, "voice": character.voice, "appearance": character.appearance}
    return prose.get(origin, grammar.who(character))


def _about_self(character: Character, ask: Callable[[str, str, str], bool]) -> None:
    name, noun = character.name, grammar.with_article(character.class_noun)
    ask("Who are you?", f"I am {name}, {noun}.", "name")
    ask("What is your name?", f"My name is {name}.", "name")
    ask("What are you?", f"I am {noun}.", "class")
    ask(f"Who is {name}?", f"{name} is {noun}.", "class")
    persona = [s for s in sentences(character.persona) if len(s.split()) <= 30]
    own = [first for s in persona if (first := first_person(s, name))]
    if own:
        ask("Tell me about yourself.", own[0], "persona")
        ask(f"What kind of {character.class_noun.split()[-1]} are you?", own[0], "persona")
    look = " ".join(sentences(character.appearance)[:2])
    if look:
        told = [first_person(sentence, name) or _looks(sentence) for sentence in sentences(look)]
        ask("What do you look like?", " ".join(told), "appearance")
        ask(f"What does {name} look like?", look, "appearance")


def _looks(look: str) -> str:
    """A bare noun phrase becomes a sentence: "A plush silver coat." -> "I have a plush silver coat."."""
    if re.match(r"^(?:An?|Some|Two)\s", look) and not re.search(r"\b(?:is|are|has|have|wears)\b", look.split(".")[0]):
        return f"I have {look[0].lower()}{look[1:]}"
    return look


def _of_fact(character: Character, fact: str) -> list[tuple[str, str]]:
    name = character.name
    keyed = re.match(r"^([A-Za-z][\w '-]{0,30}?):\s+(\S.*)$", fact)
    if keyed and len(keyed[1].split()) <= 3:
        return _of_key(name, keyed[1].strip(), keyed[2].strip().rstrip("."))
    mine = re.match(rf"^(?:My|{re.escape(name)}'s)\s+((?:[\w-]+\s+){{0,3}}?[\w-]+)\s+(is|are|was|were)\s+(.+)$", fact)
    if mine:
        return _of_possession(name, fact, mine[1], mine[2], mine[3])
    return [*_of_deed(name, fact), *_about_topic(name, fact)]


def _of_possession(name: str, fact: str, thing: str, be: str, rest: str) -> list[tuple[str, str]]:
    """ "Bo's tail is curly" -> "What is your tail like?"; "Bo's owner is Ann" -> "Who is your owner?"."""
    asking = "Who" if thing.split()[-1].lower() in _PEOPLE else "What"
    named = re.match(r"^(?:an?|the|my|his|her|its|their|called|named|to|that|\d|[A-Z\"'“])", rest)
    plain = named or asking == "Who" or set(thing.lower().split()) & _NAMED_THINGS
    like = "" if plain else " like"
    answer = first_person(fact, name) or ended(fact)
    third = re.sub(r"^My\b", f"{name}'s", ended(fact))
    return [(f"{asking} {be} your {thing}{like}?", answer), (f"{asking} {be} {name}'s {thing}{like}?", third)]


def _of_key(name: str, key: str, value: str) -> list[tuple[str, str]]:
    """ "Breed: Shiba Inu" -> "What breed are you?", "What is your breed?", "What breed is Bo?"."""
    lowered = key.lower() if not key.isupper() else key
    be = "are" if lowered.endswith("s") and not lowered.endswith("ss") and lowered != "species" else "is"
    asked = [(f"What {be} your {lowered}?", f"My {lowered} {be} {value}.")]
    if lowered in _KEYS:
        value_sentence = {
            "breed": f"I am {grammar.with_article(value)}.",
            "species": f"I am {grammar.with_article(value)}.",
            "age": f"I am {value}{' old' if value.endswith(('year', 'years')) else ''}.",
            "likes": f"I like {value}.",
            "dislikes": f"I dislike {value}.",
            "fears": f"I am afraid of {value}.",
        }
        asked.insert(0, (_KEYS[lowered], value_sentence.get(lowered, f"My {lowered} {be} {value}.")))
    if lowered in ("breed", "species"):
        asked.append((f"What {lowered} is {name}?", f"{name} is {grammar.with_article(value)}."))
    else:
        asked.append((f"What {be} {name}'s {lowered}?", f"{name}'s {lowered} {be} {value}."))
    return asked


def _of_deed(name: str, fact: str) -> list[tuple[str, str]]:
    """Questions about "NAME verb rest", or "I verb rest"."""
    first = first_person(fact, name)
    if first is None or not first.startswith("I "):
        return []
    words = first[2:].rstrip(".!").split()
    adverb = words.pop(0) if words and words[0] in ADVERBS else ""
    if len(words) < 2:
        return []
    verb, rest = words[0], words[1:]
    third = ended(fact)
    third_is = third.startswith(name)
    asked: list[tuple[str, str]] = []

    def both(second: str, other: str) -> None:
        asked.append((second, first))
        if third_is:
            asked.append((other, third))

    text = " ".join(rest)
    if verb == "am":
        if re.match(r"^[\w -]{1,20}\byears? old\b", text):
            both("How old are you?", f"How old is {name}?")
        elif match := re.match(
            rf"^(?:\w+ )?({_STATES})\b",
            text,
        ):
            both(f"What are you {match[1]}?", f"What is {name} {match[1]}?")
    elif verb == "was":
        if match := re.match(r"^born (in|on|at)\b", text):
            when = re.match(rf"^born (?:in|on) (?:the year )?(?:\d|{_SEASONS})", text)
            asking = "When" if when else "Where"
            both(f"{asking} were you born?", f"{asking} was {name} born?")
        elif match := re.match(r"^(built|made|raised|found|created|taught|rescued) by\b", text):
            both(f"Who {match[1]} you?", f"Who {match[1]} {name}?")
    elif verb == "grew" and rest[0] == "up":
        both("Where did you grow up?", f"Where did {name} grow up?")
    elif verb == "came" or (verb == "come" and rest[0] == "from"):
        both("Where do you come from?", f"Where does {name} come from?")
    elif verb == "can" and not adverb and rest[0] not in {*ADVERBS, "be"}:
        both(f"Can you {_clause(text)}?", f"Can {name} {_clause(text)}?")
        asked[0] = (asked[0][0], f"Yes, {first[0]}{first[1:]}")
    elif verb == "have" and re.match(r"^(?:an?|the|two|three|no)\s", text) and not re.match(r"^\w+ \w+, \w+ \w+", text):
        # the last test: "a stocky, cobby body" must not become "Do you have a stocky?"
        both(
            f"Do you have {_clause(re.sub(r'^no ', 'any ', text))}?",
            f"Does {name} have {_clause(re.sub(r'^no ', 'any ', text))}?",
        )
        asked[0] = (asked[0][0], f"{'No' if text.startswith('no ') else 'Yes'}, {first}")
    elif verb in PLAIN_VERBS or verb in ("have", "do", "don't", "am") or verb.endswith("ed"):
        return []
    else:
        before = f"{adverb} " if adverb in ("never", "always", "often", "usually", "sometimes") else ""
        if verb == "live" and rest[0] == "with":
            both("Who do you live with?", f"Who does {name} live with?")
        elif rest[0] in _PLACE_PREPOSITIONS and verb in (
            "live",
            "sleep",
            "work",
            "sit",
            "hide",
            "nap",
            "stay",
            "read",
        ):
            both(f"Where do you {verb}?", f"Where does {name} {verb}?")
        elif rest[0] in _PREPOSITIONS:
            if verb not in ("carry", "observe"):
                both(f"What do you {before}{verb} {rest[0]}?", f"What does {name} {before}{verb} {rest[0]}?")
        elif re.match(r"^(?:to|not|that|when|if|because|himself|herself|itself|myself)$", rest[0]):
            both(f"What do you {before}{verb}?", f"What does {name} {before}{verb}?") if rest[0] in (
                "to",
                "that",
            ) else None
        else:
            both(f"What do you {before}{verb}?", f"What does {name} {before}{verb}?")
    return asked


def _clause(text: str) -> str:
    return re.split(r"[,;:—]|\s(?:but|because|which|who|so|although|that)\s", text)[0].strip()


def _about_topic(name: str, fact: str) -> list[tuple[str, str]]:
    """ "Tell me about X" for names in the fact, or for its subject when that is not the character."""
    answer = first_person(fact, name) or ended(fact)
    own = set(name.split())
    topics: list[str] = []
    for match in re.finditer(r"(?<![.!?]\s)(?<!^)(?<![\"“‘(])\b([A-Z][a-z]+(?:\s+[A-Z][a-z]+)*)\b", fact):
        if not own & set(match[1].split()) and match[1] not in ("I", "My"):
            topics.append(match[1])
    subject = re.match(rf"^(The|An?|Her|His|Their)\s+((?:[\w'-]+\s+){{0,2}}?[\w'-]+)\s+(?:{_SUBJECT_VERBS})\b", fact)
    if subject:
        article = {"An": "the", "A": "the", "The": "the"}.get(subject[1], "your")
        topics.insert(0, f"{article} {subject[2]}")
    bare = re.match(r"^([A-Z][\w'-]+)\s+(?:is|are|was|were|has|have|can|lives?|never|always|often)\b", fact)
    if bare and bare[1] not in own and bare[1] not in ("He", "She", "It", "They", "I", "My", "There", "This"):
        topics.insert(0, bare[1])
    asked: list[tuple[str, str]] = []
    for topic in topics[:1]:
        asked.append((f"Tell me about {topic}.", answer))
        asked.append((f"What do you know about {topic}?", answer))
    return asked
