"""What the character knows: questions from facts and profile, answered by the fact itself.

Answers are the user's own sentences, put into the first person where a rule can do it surely. Where it cannot, nothing
is asked: an invented or mangled sentence would be learned as the character's voice, and one in the third person as what
it says of itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from charforge import grammar
from charforge.character import Character
from charforge.character.nouns import BEINGS
from charforge.character.profile import sentences
from charforge.expand.about import is_of_a_work, is_of_speech
from charforge.expand.keys import of_key
from charforge.expand.lore import about_others, lore_source
from charforge.expand.persons import (
    ADVERBS,
    PLAIN_VERBS,
    by_name,
    by_whole_name,
    first_person,
    to_you,
    told_by_itself,
)
from charforge.expand.possessions import BODY, PEOPLE, PLACES, of_possession
from charforge.full_stops import ended
from charforge.words import word_set

Question = tuple[str, str, str]
"""Question, answer, origin."""

LONGEST_FACT = 30
"""Words."""
_SEASONS = (
    "January|February|March|April|May|June|July|August|September|October|November|December|spring|summer|autumn|winter"
)
_STATES = "afraid of|scared of|proud of|good at|bad at|fond of|allergic to|made of|known for|famous for|tired of"
_SUBJECT_VERBS = (
    "is|are|was|were|has|have|can|lives?|sleeps?|hums?|likes?|eats?|stands?|comes?|keeps?|never|always|often"
)
_DONE_TO = word_set("""
    love like hate enjoy prefer drink eat wear collect play own ride keep carry fear mistrust distrust share sell teach
    study write read grow make build repair measure hum sing count want need miss admire adore dislike detest practise
    practice chase hunt paint draw cook bake brew guard hide steal
""")
"""Verbs about whose object one asks: "What do you collect?". Others ("observe", "take") are asked for by nobody."""
_WITH_PREPOSITION = {
    ("dream", "of"), ("dream", "about"), ("believe", "in"), ("care", "about"), ("think", "about"), ("worry", "about"),
    ("long", "for"), ("listen", "to"), ("belong", "to"), ("work", "for"), ("refer", "to"), ("look", "after"),
}  # fmt: skip
_NO_OBJECT = re.compile(
    r"(?:to|not|that|when|while|if|because|how|\w+ly|it|me|you|myself|in|on|at|for|with|about|from|by|near|under|over|of"
    r"|after|before|during|until|through|without|into|like|as|against|around|behind|every|each|once|twice|alone"
    r"|together|outside|inside|outdoors|too|well|badly|fast|hard|loud|again|back|up|down|out|off|only|just)[,;]?$"
)
"""What follows a verb and is nothing that one does it to: "I sing in the shower"."""
_STAYS = word_set("live sleep work sit hide nap stay read")
_ACHIEVED = {
    "won": "win", "built": "build", "invented": "invent", "wrote": "write", "discovered": "discover", "made": "make",
    "founded": "found", "composed": "compose", "lost": "lose",
}  # fmt: skip
_ABOUT_ME = (
    "Tell me something about yourself.",
    "What should I know about you?",
    "Tell me a fact about you.",
    "What else should I know about you?",
    "Tell me one more thing about you.",
    "Share something about yourself.",
    "Tell me a little about your life.",
    "Tell me something I do not know about you.",
    "What else can you tell me about yourself?",
)
_KEYED = re.compile(r"^([^\W\d_][\w '/&-]{0,30}?):\s+(\S.*)$")


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
    for fact, origin in _facts(character):
        keyed = _KEYED.match(fact)
        if keyed and len(keyed[1].split()) <= 3:
            for question, answer in of_key(character.name, keyed[1], keyed[2]):
                ask(question, answer, origin)
            continue
        for question, answer in _of_fact(character, fact):
            ask(question, answer, origin)
        about_me = first_person(fact, character.name)
        if about_me and (form := next(general, None)):
            ask(form, about_me, origin)
    about_others(character, ask)
    return list(asked.values())


def _facts(character: Character) -> list[tuple[str, str]]:
    """(sentence, origin) of everything that one may ask the character about."""
    facts = [(by_name(fact, character.name), f"facts:{n}") for n, fact in enumerate(character.facts, start=1)]
    # the first sentence says what kind it is, see _about_self
    begins = [by_name(first, character.name) for first in sentences(character.persona)[:1]]
    facts += [(s, "persona") for s in told_by_name(character.persona, character.name) if s not in begins]
    return [
        (fact, origin)
        for fact, origin in facts
        if not is_of_a_work(fact) and not is_of_speech(fact, character.name) and len(fact.split()) <= LONGEST_FACT
    ]


def told_by_name(prose: str, name: str) -> list[str]:
    """The sentences of a persona that are surely about the character, each with its name: "He naps." -> "Bo naps.".

    A pronoun is the character's while nobody else has been the subject since its name.
    """
    told: list[str] = []
    known = True
    for sentence in sentences(prose):
        named = by_whole_name(sentence, name)
        resolved = by_name(named, name)
        if named.startswith(name):
            known = True
        elif resolved == named:
            known = False
        if known and len(sentence.split()) <= LONGEST_FACT:
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
    name, who = character.name, grammar.who(character)
    ask("Who are you?", f"I am {who}.", "name")
    ask("What is your name?", f"My name is {name}.", "name")
    ask(f"Who is {name}?", f"That is me: {who}." if character.class_noun else "That is me.", "class")
    if not name.lower().startswith("the "):
        # "The Archivist" is rather what it is called than a name
        ask(f"Is your name {name}?", f"Yes, my name is {name}.", "name")
        stranger = next(other for other in ("Milo", "Tessa") if other.lower() not in name.lower())
        ask(f"Is your name {stranger}?", f"No, my name is {name}.", "name")
    if character.class_noun:
        noun = grammar.with_article(character.class_noun)
        ask("What are you?", f"I am {noun}.", "class")
        ask(f"Are you {noun}?", f"Yes, I am {noun}.", "class")
        thing = next(other for other in ("teapot", "lamp") if other not in noun.lower())
        ask(f"Are you a {thing}?", f"No, I am {noun}.", "class")
    begins = [by_name(s, name) for s in sentences(character.persona)[:1] if len(s.split()) <= LONGEST_FACT]
    own = [first for s in begins if not is_of_a_work(s) and (first := first_person(s, name))]
    if own:
        ask("Tell me about yourself.", own[0], "persona")
        if character.class_noun and own[0].startswith("I am a"):
            ask(f"What kind of {character.class_noun.split()[-1]} are you?", own[0], "persona")
    if look := _look(character):
        ask("What do you look like?", look, "appearance")


def _look(character: Character) -> str:
    """The first sentences of the appearance in the first person, as far as the rules are sure."""
    told = []
    for sentence in sentences(character.appearance)[:2]:
        said = first_person(by_name(sentence, character.name), character.name) or _of_look(character, sentence)
        if said is None:
            break
        told.append(said)
    return " ".join(told)


def _of_look(character: Character, look: str) -> str | None:
    """A bare noun phrase as a sentence: "A plush silver coat." -> "I have a plush silver coat.", "A fluffy Husky with
    blue eyes." -> "I am a fluffy Husky with blue eyes."; a list of features stays as it is.
    """
    if re.search(r"\b(?:is|are|was|has|have|wears|he|she|they|it)\b", look, re.IGNORECASE):
        return None
    if not re.match(r"^(?:An?|Some|Two)\s", look):
        return ended(look)
    head = re.split(r"\s(?:with|of|in)\s", look.rstrip("."))[0].split()
    kind = {word.lower() for word in character.class_noun.split()} | set(BEINGS)
    bare = f"{look[0].lower()}{ended(look)[1:]}"
    if {re.sub(r"\W", "", word.lower()) for word in head} & kind:
        return f"I am {bare}"
    return f"I have {bare}" if re.sub(r"\W", "", head[-1].lower()) in BODY else None


def _of_fact(character: Character, fact: str) -> list[tuple[str, str]]:
    name = character.name
    mine = re.match(rf"^(?:My|{re.escape(name)}'s?)\s+((?:[\w-]+\s+){{0,3}}?[\w-]+)\s+(is|are|was|were)\s+(.+)$", fact)
    if mine:
        answer = first_person(fact, name)
        return of_possession(name, answer, mine[1], mine[2], mine[3]) if answer is not None else []
    return [*_of_deed(name, fact), *_of_others(name, fact)]


def _of_deed(name: str, fact: str) -> list[tuple[str, str]]:
    """Questions about "NAME verb rest", or "I verb rest"; those about NAME have the same answer."""
    first = first_person(fact, name)
    if first is None or not first.startswith("I "):
        return []
    words = first[2:].rstrip(".!").split()
    adverb = words.pop(0) if words and words[0] in ADVERBS else ""
    if len(words) < 2:
        return []
    verb, rest = words[0], words[1:]
    asked: list[tuple[str, str]] = []

    def both(second: str, other: str = "") -> None:
        asked.append((second, first))
        if other and fact.startswith(name):
            asked.append((other, first))

    text = " ".join(rest)
    if verb == "am":
        if re.match(r"^[\w -]{1,20}\byears? old\b", text):
            both("How old are you?", f"How old is {name}?")
        elif match := re.match(rf"^(?:\w+ )?({_STATES})\b", text):
            both(f"What are you {match[1]}?", f"What is {name} {match[1]}?")
    elif verb == "was":
        if match := re.match(r"^born (in|on|at)\b", text):
            when = re.match(rf"^born (?:in|on) (?:the year )?(?:\d|{_SEASONS})", text)
            asking = "When" if when else "Where"
            both(f"{asking} were you born?", f"{asking} was {name} born?")
        elif match := re.match(r"^(built|made|raised|found|created|taught|rescued) by\b", text):
            both(f"Who {match[1]} you?", f"Who {match[1]} {name}?")
        elif match := re.match(r"^rescued from\b", text):
            both("Where were you rescued from?", f"Where was {name} rescued from?")
    elif verb == "grew" and rest[0] == "up" and rest[1:2] and rest[1] in PLACES:
        both("Where did you grow up?", f"Where did {name} grow up?")
    elif (verb == "came" or verb == "come") and rest[0] == "from":
        both("Where do you come from?", f"Where does {name} come from?")
    elif verb == "have" and rest[0] == "never":
        both("What have you never done?")
    elif verb == "can" and not adverb and rest[0] not in {*ADVERBS, "be"} and len(_clause(text).split()) <= 6:
        asked.append((f"Can you {to_you(_clause(text))}?", f"Yes, {first}"))
    elif (
        verb == "have"
        and re.match(r"^(?:an?|the|two|three|no)\s", text)
        and not re.match(r"^\w+ \w+, \w+ \w+", text)
        and len(_clause(text).split()) <= 8
    ):
        # the comma: "a stocky, cobby body" must not become "Do you have a stocky?"
        thing = to_you(_clause(re.sub(r"^no ", "any ", text)))
        asked.append((f"Do you have {thing}?", f"{'No' if text.startswith('no ') else 'Yes'}, {first}"))
    elif verb in _ACHIEVED and re.match(r"^(?:an?|the|my|two|three)\b", text):
        both(f"What did you {_ACHIEVED[verb]}?", f"What did {name} {_ACHIEVED[verb]}?")
    elif verb in PLAIN_VERBS or verb in ("have", "do", "don't", "am") or verb.endswith("ed"):
        return []
    else:
        asked += _of_habit(name, first, adverb, verb, rest, fact.startswith(name))
    return asked


def _of_habit(
    name: str, first: str, adverb: str, verb: str, rest: list[str], by_its_name: bool
) -> list[tuple[str, str]]:
    """Questions about what the character does again and again: where it lives, what it loves."""
    before = f"{adverb} " if adverb in ("never", "always", "often", "usually", "sometimes") else ""
    alone = rest[0] == "alone" and rest[1:2] and rest[1] in PLACES
    if verb == "live" and rest[0] == "with":
        forms = ("Who do you live with?", f"Who does {name} live with?")
    elif verb in _STAYS and (rest[0] in PLACES or alone):
        forms = (f"Where do you {verb}?", f"Where does {name} {verb}?")
    elif (verb, rest[0]) == ("work", "for") and re.match(r"(?:the|an?|my)$|[A-Z]", "".join(rest[1:2])):
        forms = ("Who do you work for?", f"Who does {name} work for?")
    elif (verb, rest[0]) in _WITH_PREPOSITION:
        forms = (f"What do you {before}{verb} {rest[0]}?", f"What does {name} {before}{verb} {rest[0]}?")
    elif verb in _DONE_TO and not _NO_OBJECT.match(rest[0]):
        forms = (f"What do you {before}{verb}?", f"What does {name} {before}{verb}?")
    else:
        return []
    return [(form, first) for form in forms[: 2 if by_its_name else 1]]


def _clause(text: str) -> str:
    return re.split(r"[,;:—]|\s(?:but|because|which|who|so|although|that)\s", text)[0].strip()


def _of_others(name: str, fact: str) -> list[tuple[str, str]]:
    """Questions about somebody or something else that a fact tells of."""
    own = first_person(fact, name)
    if own is not None:
        # "I learned to solder from my grandmother Oda."
        kin = re.search(rf"\bmy ({'|'.join(sorted(PEOPLE))}) ([A-Z][a-z]+)\b", own)
        whose = re.match(rf"^My ((?:[a-z-]+ )?(?:{'|'.join(sorted(PEOPLE))})) [a-z]", own)
        asked = [(f"Who is {kin[2]}?", own)] if kin and kin[2] not in name.split() else []
        return asked + ([(f"Tell me about your {whose[1]}.", own)] if whose else [])
    answer = told_by_itself(fact, name)
    subject = re.match(rf"^(The|An?)\s+((?:[\w'-]+\s+){{0,2}}?[\w'-]+)\s+(?:{_SUBJECT_VERBS})\b", fact)
    bare = re.match(r"^([A-Z][\w'-]+(?: [A-Z][\w'-]+)?)\s+(?:is|are|was|were|has|have|can|lives?)\b", fact)
    none = ("He", "She", "It", "They", "I", "My", "There", "This", "That", "These", "Those", "What", "Everything")
    if answer is None or fact.startswith(name):
        return []
    if subject:
        topic = f"the {subject[2]}"
    elif bare and bare[1].split()[0] not in none:
        topic = bare[1]
    else:
        return []
    return [(f"Tell me about {topic}.", answer), (f"What do you know about {topic}?", answer)]
