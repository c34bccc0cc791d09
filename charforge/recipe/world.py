"""What `mini` knows: kinds of characters, their parts in words, places and things; sampled as plain records.

Every picture is drawn from such a record, so captions and answers about it are true by construction. Part names are
those of the DiceBear styles (CC0); the words beside them are what captions say.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from charforge.bases.can_draw import Kind

KIND_WEIGHT: dict[Kind, int] = {"person": 52, "critter": 14, "clay": 12, "sprout": 10, "robot": 12}

BACKGROUNDS = {
    "white": "#ffffff", "black": "#1c1c22", "gray": "#8d949c", "red": "#d93636", "orange": "#f5810f", "yellow": "#ffd84a",
    "green": "#3fae55", "mint": "#a5ecc9", "teal": "#1b9e95", "sky blue": "#9fd8f5", "blue": "#2458c5", "navy": "#1d2a4d",
    "purple": "#7a48d8", "lavender": "#cdbdf7", "pink": "#f68fb1", "cream": "#f4e8d2",
}  # fmt: skip
SKIN = {"pale": "#f5d0b0", "peach": "#eab890", "tan": "#c99062", "brown": "#8a5230", "dark brown": "#5f3519"}
HAIR = {
    "black": "#2c222b", "brown": "#6b3f27", "blond": "#e3c27a", "ginger": "#c9622f", "red": "#cf3550", "green": "#3fb27f",
    "blue": "#3f6fd8", "purple": "#7d52c9", "pink": "#ee86b7", "white": "#ecebe6",
}  # fmt: skip
CLOTH = {
    "red": "#d8333f", "orange": "#f57c14", "yellow": "#fac41f", "green": "#3fb24f", "teal": "#159e93", "blue": "#2b6fe0",
    "purple": "#7d4be0", "pink": "#ec5f9b", "white": "#f4f5f7", "black": "#30343b", "brown": "#7d5230", "gray": "#8b939c",
}  # fmt: skip
PANTS = {"blue": "#3b5b9c", "gray": "#6b7280", "brown": "#6b4f3a", "black": "#2b2f36"}
SHOES = {"white": "#f1f3f5", "black": "#2b2f36", "red": "#d6333f", "blue": "#1971c2", "orange": "#f08c00"}
BODY = {
    "sky blue": "#7dd3fc", "purple": "#a78bfa", "pink": "#f9a8d4", "red": "#f87171", "orange": "#fdba74", "yellow": "#fcd34d",
    "lime": "#bef264", "green": "#4ade80", "teal": "#5eead4", "white": "#eef1f5",
}  # fmt: skip
CLAY = {
    "terracotta": "#c4795c", "yellow": "#e0bd6a", "olive": "#a3ad74", "green": "#7f9f62", "teal": "#7fb3a6", "blue": "#7f9fc8",
    "purple": "#9a86c4", "pink": "#d08ea8", "gray": "#b3aea6",
}  # fmt: skip
BLOOM = {"pink": "#f9a8d4", "red": "#fb7185", "orange": "#fdba74", "yellow": "#fcd34d", "purple": "#c4b5fd"}
METAL = {
    "white": "#eef1f4", "gray": "#9aa5b0", "blue": "#60b0fa", "mint": "#63e6be", "yellow": "#ffd43b", "red": "#ff8080",
    "purple": "#b09cf5", "green": "#5fd673",
}  # fmt: skip
GLOW = {"cyan": "#3bd9eb", "green": "#69db7c", "yellow": "#ffd43b", "red": "#ff5b5b", "pink": "#f08df7"}

HAIR_STYLES = {
    "short": "short {} hair", "spiky": "spiky {} hair", "bowl": "a {} bowl cut", "sideSwept": "side-swept {} hair",
    "curly": "curly {} hair", "mohawk": "a {} mohawk", "buns": "{} hair in buns", "ponytail": "a {} ponytail",
    "bob": "a {} bob", "longStraight": "long straight {} hair", "longWavy": "long wavy {} hair", "braids": "{} braids",
    "twinTails": "{} twin tails", "afro": "a {} afro",
}  # fmt: skip
HATS = {"cap": "a {} cap", "beanie": "a {} beanie", "animalEars": "a {} hood with animal ears", "bunnyEars": "a {} hood with bunny ears"}  # fmt: skip
GLASSES = {"round": "round glasses", "square": "square glasses", "shades": "sunglasses", "visor": "a visor"}
BEARDS = {"full": "a full beard", "mustache": "a mustache", "goatee": "a goatee"}
PERSON_EYES = {
    "open": "open eyes", "happy": "happy eyes", "sleepy": "sleepy eyes", "closed": "closed eyes", "wide": "wide eyes",
    "star": "starry eyes", "side": "eyes looking sideways",
}  # fmt: skip
PERSON_MOUTHS = {
    "smile": "smiling", "laugh": "laughing", "flat": "with a straight face", "ooh": "with an open mouth",
    "tongue": "sticking out the tongue", "frown": "frowning", "grin": "grinning", "smirk": "smirking",
}  # fmt: skip
OUTFITS = {
    "plain": ("shirt", "a {} shirt"), "stripes": ("shirt", "a striped {} shirt"), "hoodie": ("shirt", "a {} hoodie"),
    "overalls": ("shirt", "overalls over a {} shirt"), "checker": ("shirt", "a checkered jacket over a {} shirt"),
    "jacket": ("jacket", "a {} jacket"), "coat": ("jacket", "a {} coat"), "dress": ("jacket", "a {} dress"),
    "suit": ("jacket", "a {} suit"),
}  # fmt: skip
CREATURE_EYES = {
    "critter": {
        "round": "round eyes", "dots": "dot eyes", "mono": "one big eye", "trio": "three eyes", "happy": "happy eyes",
        "wink": "a wink", "sleepy": "sleepy eyes", "angry": "angry eyes", "wide": "wide eyes",
    },
    "clay": {"googly": "googly eyes", "big": "big eyes", "mono": "one big eye", "trio": "three eyes", "dots": "dot eyes",
             "happy": "happy eyes", "wink": "a wink"},
    "sprout": {"round": "round eyes", "dots": "dot eyes", "happy": "happy eyes", "wink": "a wink", "sleepy": "sleepy eyes",
               "wide": "wide eyes", "angry": "angry eyes"},
    "robot": {"round": "round eyes", "square": "square eyes", "visor": "a visor eye", "cyclops": "one round eye",
              "happy": "happy eyes", "sleepy": "sleepy eyes", "plus": "plus-shaped eyes"},
}  # fmt: skip
CREATURE_MOUTHS = {
    "critter": {"smile": "smiling", "laugh": "laughing", "ooh": "with an open mouth", "line": "with a straight face",
                "frown": "frowning", "tongue": "sticking out the tongue", "teeth": "showing teeth", "wavy": "with a wavy mouth"},
    "clay": {"smileBig": "smiling", "laugh": "laughing", "o": "with an open mouth", "line": "with a straight face",
             "frown": "frowning", "tongue": "sticking out the tongue", "teeth": "showing teeth", "wavy": "with a wavy mouth"},
    "sprout": {"smile": "smiling", "open": "with an open mouth", "line": "with a straight face", "frown": "frowning",
               "tongue": "sticking out the tongue", "wavy": "with a wavy mouth"},
    "robot": {"grill": "with a grill mouth", "line": "with a straight face", "smile": "smiling", "zigzag": "with a zigzag mouth"},
}  # fmt: skip
CREATURE_TOPS = {
    "critter": {"horns": "horns", "antenna": "an antenna", "antennae": "two antennae", "earsRound": "round ears",
                "earsPointy": "pointy ears", "fin": "a fin", "crown": "a crown", "spikes": "spikes"},
    "clay": {"horns": "horns", "antenna": "an antenna", "ears": "ears", "spikes": "spikes", "curl": "a curl"},
    "sprout": {"cactus": "a cactus", "bush": "a bush", "flower": "a flower", "tulip": "a tulip", "palm": "palm leaves",
               "succulent": "a succulent", "sprout": "a small sprout"},
    "robot": {"antenna": "an antenna", "twin": "two antennas", "dish": "a dish", "fin": "a fin", "lightbar": "a light bar",
              "siren": "a siren"},
}  # fmt: skip
BODIES = {
    "critter": {"dome": "dome-shaped", "block": "blocky", "tower": "tall", "squat": "squat", "blob": "blobby", "peak": "pointed"},
    "clay": {"pear": "pear-shaped", "boulder": "boulder-like", "column": "tall", "stack": "stacked", "egg": "egg-shaped", "cube": "cube-shaped"},
    "sprout": {"taper": "tapered", "bowl": "bowl-shaped", "round": "round", "tub": "wide"},
}  # fmt: skip
CHESTS = {"buttons": "buttons", "vents": "vents", "screen": "a screen", "heart": "a heart", "dial": "a dial"}
PLACES = {
    "beach": "on a beach", "forest": "in a forest", "snow": "in the snow", "city": "in a city at night", "desert": "in a desert",
    "meadow": "in a meadow", "bedroom": "in a bedroom", "kitchen": "in a kitchen", "library": "in a library",
    "space": "in space", "underwater": "under water", "sunset": "at sunset", "workshop": "in a workshop", "rain": "in the rain",
}  # fmt: skip
THINGS = {
    "red-apple": "an apple", "balloon": "a balloon", "guitar": "a guitar", "cat": "a cat", "umbrella": "an umbrella",
    "candle": "a candle", "wrench": "a wrench", "teacup-without-handle": "a cup of tea", "robot": "a toy robot",
    "sunflower": "a sunflower", "birthday-cake": "a cake", "dog": "a dog", "fish": "a fish", "key": "a key",
    "hammer": "a hammer", "soccer-ball": "a ball", "ice-cream": "an ice cream", "pizza": "a pizza", "mushroom": "a mushroom",
    "rocket": "a toy rocket", "star": "a star", "trophy": "a trophy", "camera": "a camera", "alarm-clock": "a clock",
    "telescope": "a telescope", "teapot": "a teapot", "gem-stone": "a gem", "wrapped-gift": "a present", "banana": "a banana",
    "jack-o-lantern": "a pumpkin", "closed-book": "a book", "bird": "a bird",
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """One drawable record. Fields that a kind does not have are empty strings.

    ``place`` is a key of PLACES or empty for a plain ``background``; ``side`` is "holding" or "beside".
    """

    kind: Kind
    background: str = "white"
    place: str = ""
    skin: str = ""
    hair: str = ""
    hair_color: str = ""
    glasses: str = ""
    beard: str = ""
    eyes: str = ""
    mouth: str = ""
    outfit: str = ""
    outfit_color: str = ""
    pants: str = ""
    shoes: str = ""
    body: str = ""
    body_color: str = ""
    top: str = ""
    accent: str = ""
    thing: str = ""
    side: str = ""
    variation: int = 0

    @property
    def thing_left(self) -> bool:
        """Whether the thing stands on the left of the picture."""
        return self.variation % 2 == 0


def random_look(rng: random.Random, kind: Kind | None = None) -> Look:
    """A look with every attribute drawn independently."""
    chosen: Kind = kind or rng.choices(list(KIND_WEIGHT), list(KIND_WEIGHT.values()))[0]
    look = _random_person(rng) if chosen == "person" else _random_creature(rng, chosen)
    return random_scene(rng, look)


def random_scene(rng: random.Random, look: Look) -> Look:
    """The same character in another scene: background or place, and perhaps a thing."""
    place = rng.choice(list(PLACES)) if rng.random() < 0.55 else ""
    thing, side = "", ""
    if rng.random() < 0.3:
        thing, side = rng.choice(list(THINGS)), rng.choice(["holding", "beside"])
    return replace(
        look,
        place=place,
        background=rng.choice(list(BACKGROUNDS)),
        thing=thing,
        side=side,
        variation=rng.randrange(1 << 16),
    )


def random_mood(rng: random.Random, look: Look) -> Look:
    """The same character with another expression and, for people, other clothes."""
    if look.kind == "person":
        return replace(
            look,
            eyes=rng.choice(list(PERSON_EYES)),
            mouth=rng.choice(list(PERSON_MOUTHS)),
            outfit=rng.choice(list(OUTFITS)),
            outfit_color=rng.choice(list(CLOTH)),
            pants=rng.choice(list(PANTS)),
            shoes=rng.choice(list(SHOES)),
        )
    eyes, mouths = CREATURE_EYES[look.kind], CREATURE_MOUTHS[look.kind]
    return replace(look, eyes=rng.choice(list(eyes)), mouth=rng.choice(list(mouths)))


def _random_person(rng: random.Random) -> Look:
    hat = rng.random() < 0.15
    look = Look(
        kind="person",
        skin=rng.choice(list(SKIN)),
        hair=rng.choice(list(HATS if hat else HAIR_STYLES)),
        hair_color=rng.choice(list(CLOTH if hat else HAIR)),
        glasses=rng.choice(list(GLASSES)) if rng.random() < 0.3 else "",
        beard=rng.choice(list(BEARDS)) if rng.random() < 0.12 else "",
    )
    return random_mood(rng, look)


def _random_creature(rng: random.Random, kind: Kind) -> Look:
    colors = {"critter": BODY, "clay": CLAY, "sprout": BODY, "robot": METAL}[kind]
    color = rng.choice(list(colors))
    accents = {"critter": BODY, "clay": CLAY, "sprout": BLOOM, "robot": GLOW}[kind]
    look = Look(
        kind=kind,
        body=rng.choice(list(BODIES[kind])) if kind in BODIES else rng.choice(list(CHESTS)),
        body_color=color,
        top=rng.choice(list(CREATURE_TOPS[kind])) if kind == "sprout" or rng.random() < 0.8 else "",
        accent=rng.choice([name for name in accents if name != color]),
    )
    return random_mood(rng, look)
