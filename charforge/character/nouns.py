"""What a noun phrase calls somebody: "a warm, hungry and easily distracted pizza courier from ..." -> "pizza courier".

The words here are those of English in general. They decide which nouns name a being (``names_a_being``), which
adjectives end no phrase, and which nouns say nothing of what somebody is: relations ("a friend of"), judgements
("a delight").
"""

from __future__ import annotations

import re

from charforge.words import word_set

ANIMALS = {
    "dog": word_set("dog puppy pup doggo hound"),
    "cat": word_set("cat kitty kitten feline"),
    "rabbit": word_set("rabbit bunny hare"),
    "horse": word_set("horse pony mare stallion foal"),
    "bird": word_set("bird"),
    "parrot": word_set("parrot parakeet cockatoo budgie"),
    "tortoise": word_set("tortoise turtle"),
    "cow": word_set("cow bull ox calf"),
    "pig": word_set("pig piglet boar hog"),
    "chicken": word_set("chicken hen rooster chick"),
} | {
    word: frozenset((word,))
    for word in word_set("""
    fox bear wolf owl hamster mouse rat dragon duck goose monkey ape gorilla lizard gecko frog toad penguin
    sheep lamb goat donkey mule deer moose elk squirrel hedgehog badger otter beaver raccoon skunk weasel ferret
    stoat mole bat lion tiger leopard panther lynx cheetah elephant rhino hippo giraffe zebra camel llama alpaca
    kangaroo koala wombat panda sloth seal walrus whale dolphin shark fish goldfish eel octopus squid crab
    lobster snail slug worm spider scorpion beetle ant bee wasp moth butterfly dragonfly cricket mantis snake
    viper cobra crocodile alligator eagle hawk falcon raven crow magpie pigeon dove sparrow robin swan heron
    stork peacock turkey ostrich axolotl salamander newt chameleon iguana capybara
""")
}
BEINGS = word_set("""
    man woman boy girl child teenager teen youth lady gentleman guy person human elder king queen prince
    princess emperor empress duke duchess lord count countess baron baroness regent chief knight squire samurai
    ninja monk nun priest priestess bishop pope rabbi imam saint angel demon devil imp god goddess deity spirit
    ghost phantom specter spectre poltergeist wraith zombie vampire werewolf witch wizard warlock mage sorcerer
    sorceress druid shaman bard cleric paladin rogue thief assassin pirate captain admiral general colonel major
    sergeant soldier guard guardian sentinel elf dwarf gnome goblin orc troll ogre giant fairy faerie pixie
    sprite nymph mermaid merman siren centaur minotaur unicorn phoenix griffin gryphon wyvern hydra kraken golem
    gargoyle djinn genie jinn kitsune tanuki oni yokai banshee leprechaun alien robot android cyborg droid
    automaton computer drone mech machine ai puppet doll teddy plush toy scarecrow snowman statue mannequin
    monster creature beast critter plant flower tree cactus mushroom sprout vegetable doctor nurse surgeon vet
    dentist chef cook baker butcher judge attorney counsel cop detective spy agent sleuth smith blacksmith clerk
    athlete coach pilot astronaut cosmonaut student pupil apprentice aide model poet bartender barista waitress
    waiter maid butler nanny host hostess maestro virtuoso diva idol star celebrity nomad hermit recluse orphan
    oracle seer prophet hacker courier nerd geek punk goth cowboy cowgirl viking courtesan heiress heir mayor
    envoy ambassador president minister senator governor tsar czar sultan pharaoh sheriff deputy clown mime
    acrobat mascot kid tutor scholar monarch sovereign bot train tram locomotive bus car truck lorry ship boat
    submarine rocket spaceship clock kettle teapot lamp lantern lighthouse toaster vending typewriter radio
    sword mirror book broom accountant assistant attendant servant merchant consultant migrant immigrant infant
    swordsman swordswoman housewife midwife sweep
""") | {word for forms in ANIMALS.values() for word in forms}
_AGENT = re.compile(
    r"(?:[a-z]{2}er|[a-z]{2}or|ist|[a-z]ian|eer|ess|man|woman|boy|girl|smith|wright|monger|herd|folk|born|kin|maid|"
    r"pire|cat|dog|bear|bird|fish|bot)s?$"
)
_NO_AGENTS = word_set("""
    clever eager tender bitter sober slender proper former other upper lower inner outer silver ginger amber
    copper leather under over never ever after rather together super bigger smaller older younger better winter
    summer water paper power matter order number letter member manner corner center centre cover dinner wonder
    disaster master minor major senior junior superior inferior exterior interior poor error horror terror
    mirror color colour flavor humor honor favor less fearless restless reckless careless ruthless endless
    harmless selfless tireless mess business press success stress dress excess process mist twist fist list
    waist moist dark stubborn newborn airborne human german italian egyptian victorian russian norwegian
    canadian persian brazilian australian austrian hungarian indian asian finisher reminder blur blockbuster
    stressor danger trigger tower flower fever temper character sister brother mother father daughter lover
    owner partner admirer follower supporter believer keener strict best honest modest earnest fresh dapper
    meager chipper limber somber
""")
_PEOPLES = re.compile(r"^[A-Z][a-z]+(?:an|ish|ese|ch|i)$")
_PERSONAL = re.compile(r"(?:ful|ous|ive|able|ible|less)$")
_ADJECTIVE = re.compile(
    r"(?:ful|ous|ive|able|ible|less|y|ed|ing|ic|al|ant|ent|ish|ary|some|like|esque|minded|hearted)$"
)
_ADJECTIVES = word_set("""
    big small tall short large tiny little huge old young new ancient modern middle-aged good bad kind mean nice
    sweet warm cold cool hot calm quiet loud shy bold brave proud smart clever wise dumb dim bright dark light
    pale soft hard rough tough strong weak fat thin slim slender lean plump round square sharp blunt fast slow
    quick lazy strict stern gruff rude polite honest modest humble vain rich poor famous great grand noble loyal
    true fair free wild tame stray sad glad mad odd strange weird rare plain simple pure stubborn eager tender
    bitter sober proper sly keen cute gentle nimble idle fragile agile docile hostile juvenile senile sane
    insane mature secure obscure sincere severe sparse intense immense naive alone solitary rogue pretty
    handsome blind deaf mute dead undead immortal red orange yellow green blue purple violet pink brown black
    white grey gray silver golden ginger blond blonde tabby male female retired former ex fallen lost broken
    bigger older younger wooden woollen frozen chosen forgotten stoic shrewd brash crass gaunt stout frank fresh
    chic cocky deep
""")
_SAYS_NOTHING = word_set("""
    character protagonist antagonist deuteragonist hero heroine villain figure role persona avatar friend
    companion fan lover owner member sister brother daughter son mother father mom dad wife husband twin cousin
    uncle aunt niece nephew grandmother grandfather granddaughter grandson stepsister stepbrother sibling parent
    spouse neighbour neighbor roommate flatmate colleague coworker co-worker classmate teammate partner
    boyfriend girlfriend rival enemy nemesis ally admirer follower supporter believer victim survivor resident
    native citizen inhabitant acquaintance confidant confidante mentor disciple guest visitor newcomer beginner
    finisher runner-up winner loser couple pair team group family band crew gang lot bunch set number thing
    stuff part piece half bit mix matter one example symbol reminder sign proof result product favourite
    favorite only first last second third best worst youngest oldest eldest middle joy delight dream nightmare
    mystery enigma riddle mess disaster handful blast pleasure treasure gem jewel sweetheart darling force soul
    heart body mind presence voice picture portrait image study contradiction paradox legend myth name word
    nature way reason cause problem solution answer question fact blessing curse danger threat burden gift
    relief surprise shame pity bundle ball bag sack pain menace nuisance riot whirlwind storm hurricane tornado
    bore snob wreck rock pillar beacon master tool weapon candidate expert while time moment day night stickler
    sucker foodie glutton perfectionist optimist pessimist realist introvert extrovert loner romantic fool
    genius prodigy natural beauty hunk catch coat face tail ear ears eyes hair fur skin build nose smile kind
    sort type breed species style mixture
""")
_HARDLY = word_set("hero heroine villain villainess prodigy genius")
"""Say little of what somebody is, and more than nothing: a guess."""
_GENERAL = word_set(
    "person human being individual man woman boy girl creature animal entity child kid teenager someone"
)
_ABSTRACT = re.compile(r"(?:ness|ity|tion|sion|ment|ism|ance|ence|ship|dom|ude|graphy|logy)$")
_TASTES = re.compile(
    r"^(?:cat|dog|animal|morning|night|evening|people|family|party|tea|coffee|indoor|outdoor|big|busy)$"
)
_STOPS = word_set("""
    who whom whose which that with from in on at of for by to into onto living working known named called
    nicknamed born made built owned raised trained often always where when while whenever without about under
    over near inside through between against than as because since until after before so if though although
    despite during wearing carrying holding is are was were has have had can could will would does did loves
    likes hates lives works enjoys currently down up out off across around behind beside beyond
""")
_MEASURE = re.compile(
    r"^\d+(?:st|nd|rd|th)?$|^\d[\d-]*(?:years?|months?|days?|foot|feet|ft|cm|m|kg|inch|pounds?)(?:-|$)|years?$"
    r"|year-olds?$|^years?-|(?:^|-)old-|^\d+['’]"
)
"""An age, a size, a number: what tells no kind, as "8-bit" and "MI6" do."""
_CENTURY = re.compile(r"(\d(?:st|nd|rd|th)) century\b")
_JOINS = {",", "and", "or", "but", "yet", "&", "/"}
_TOKEN = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*|[,;:.!?&/()—–]")


def names_a_being(word: str) -> bool:
    """Whether the noun surely names a being, a trade, or something that is made one in stories ("robot", "lamp")."""
    lowered = word.lower()
    last = lowered.rsplit("-", 1)[-1]
    if lowered in _SAYS_NOTHING or last in _SAYS_NOTHING:
        return False
    return lowered in BEINGS or last in BEINGS or (_AGENT.search(lowered) is not None and lowered not in _NO_AGENTS)


def is_general(noun: str) -> bool:
    """Whether the noun says no more than that it is a person or a creature."""
    return noun.split()[-1].lower() in _GENERAL and len(noun.split()) == 1


def animal_of(noun: str) -> str:
    """The animal in a noun: "ginger housecat" -> "cat"; empty for anything else."""
    last = noun.split()[-1].lower() if noun else ""
    for animal, forms in ANIMALS.items():
        if last in forms or (animal in ("dog", "cat", "hound") and last.endswith(animal)):
            return animal
    return ""


def _is_adjective(word: str) -> bool:
    if word.lower() in BEINGS:
        return False
    return word.lower() in _ADJECTIVES or _ADJECTIVE.search(word) is not None or _PEOPLES.match(word) is not None


def noun_of(phrase: str) -> str:
    """The noun at the beginning of ``phrase``, which follows an article: with at most one word that tells its kind.

    A proper name of several words stays whole ("Siberian Husky"). Empty where the phrase says nothing of what somebody
    is: a relation ("friend of Ann"), a judgement ("delight"), a word for a figure of fiction ("main character").
    """
    kind = re.match(r"(?:[\w-]+ ){0,3}?(?:kind|sort|type|breed|species) of (?:an? |the )?(?=\w)", phrase)
    turned = re.match(r"[\w -]{3,40}?[- ]turned[- ](?=\w)", phrase)
    if (start := turned or kind) is not None:
        return noun_of(phrase[start.end() :])
    words, after, joined = _words_of_noun(_TOKEN.findall(_CENTURY.sub(r"\1-century", phrase)))
    words = _without_idle(words, joined)
    if not words:
        return ""
    head = words[-1]
    lowered = head.lower()
    if (lowered in _SAYS_NOTHING and lowered not in _HARDLY) or _ABSTRACT.search(lowered) or not head[0].isalpha():
        return ""
    if lowered.endswith("ing") and lowered not in ("being", "king", "viking", "hireling", "changeling", "earthling"):
        return ""
    if lowered in ("person", "animal", "creature") and len(words) > 1 and _TASTES.match(words[-2].lower()):
        return ""
    if after[:2] in (["of", "his"], ["of", "her"], ["of", "their"], ["of", "its"]) and after[2:3] == ["former"]:
        return ""
    if not names_a_being(head) and (lowered in _ADJECTIVES or _PERSONAL.search(lowered)) and not head[0].isupper():
        return ""
    return " ".join(_kind_and_head(words))


_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "mice": "mouse",
    "geese": "goose",
    "children": "child",
    "people": "person",
}


def _singular(word: str) -> str:
    """ "sweeps" -> "sweep", "witches" -> "witch"; empty where the word is no plural."""
    lowered = word.lower()
    for plural, one in _IRREGULAR.items():
        if lowered.endswith(plural) and (lowered == plural or plural in ("men", "women")):
            return word[: len(word) - len(plural)] + one
    if not lowered.endswith("s") or lowered.endswith(("ss", "us", "is")):
        return ""
    for ending, one in (("ves", "f"), ("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("shes", "sh"), ("xes", "x")):
        if lowered.endswith(ending):
            return word[: -len(ending)] + one
    return word[:-1]


def noun_of_two(phrase: str) -> str:
    """The noun that follows "Hob and Nell are": "twin chimney sweeps of Leeds" -> "two chimney sweeps"; empty where it
    is no plural of a noun that says what they are.
    """
    phrase = re.sub(r"^(?:(?:the|both|two|twin|identical)\s+)+", "", phrase)
    words, _, _ = _words_of_noun(_TOKEN.findall(phrase))
    one = _singular(words[-1]) if words else ""
    noun = noun_of(" ".join([*words[:-1], one])) if one and names_a_being(one) else ""
    return f"two {noun.removesuffix(one)}{words[-1]}" if noun.endswith(one) and noun else ""


def _words_of_noun(tokens: list[str]) -> tuple[list[str], list[str], bool]:
    """The words up to the end of the noun, what follows, and whether adjectives were joined before it."""
    words: list[str] = []
    joined = False
    for place, token in enumerate(tokens):
        if token in _JOINS:
            if not words or token == "/":
                break
            if names_a_being(words[-1]) and words[-1].lower() not in _ADJECTIVES:
                return words, tokens[place:], joined
            if not _is_adjective(words[-1]) and not _ends_in_a_being(tokens[place + 1 :]):
                return words, tokens[place:], joined
            # adjectives one beside the other describe; the noun comes behind the last
            words, joined = [], True
            continue
        if token.lower() in _STOPS or not token[0].isalnum():
            return words, tokens[place:], joined
        if token.lower() in ("a", "an", "the") and joined:
            continue
        words.append(token)
    return words, [], joined


def _ends_in_a_being(tokens: list[str]) -> bool:
    """Whether the words up to the next stop end in a noun for a being."""
    last = ""
    for token in tokens:
        if token in _JOINS:
            continue
        if token.lower() in _STOPS or not token[0].isalnum():
            break
        last = token
    return bool(last) and names_a_being(last)


def _without_idle(words: list[str], joined: bool) -> list[str]:
    """Without ages, adverbs with what they stand before, and the last of several joined adjectives."""
    kept: list[str] = []
    described = False
    for word in words:
        lowered = word.lower()
        if _MEASURE.search(lowered) or lowered in ("fictional", "playable"):
            kept, described = [], False
        elif re.search(r"[a-z]{3}ly$", lowered) or lowered in (
            "very",
            "quite",
            "rather",
            "too",
            "most",
            "more",
            "once",
        ):
            described = lowered not in ("family", "only", "elderly", "friendly", "lonely", "lovely", "homely")
            kept = [] if described else [*kept, word]
        elif described:
            described = False
            if _is_adjective(word):
                continue
            kept.append(word)
        else:
            kept.append(word)
    if joined and len(kept) > 1 and kept[0][0].islower() and kept == words:
        kept = kept[1:]
    if kept and kept[0].lower() == "old" and words and words[0] != kept[0]:
        kept = kept[1:] or kept
    return kept


def _kind_and_head(words: list[str]) -> list[str]:
    """The head with the word before it; of a proper name all of it."""
    start = len(words) - 1
    if words[-1][0].isupper() or (len(words) > 1 and words[-2][0].isupper()):
        while start > 0 and words[start - 1][0].isupper():
            start -= 1
        return words[start:]
    if start and not _PERSONAL.search(words[-2]):
        start -= 1
    return words[start:]
