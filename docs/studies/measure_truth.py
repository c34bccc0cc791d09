"""Do the measures of ``charforge eval`` follow the truth? Faults are planted and the renderer knows how large they are.

    python docs/studies/measure_truth.py OUT.json
    python docs/studies/measure_truth.py OUT.json --characters 3 --judged 1 --asked 3

For each of the benchmark's characters, its ten pictures are the references. Then come new pictures: of the asked scenes
with 0 to 4 of the character's lasting parts exchanged for somebody else's (identity), with 0 to 4 parts of the scene
exchanged (scene), copies of the ten (copies), and the right pictures with more and more noise (babble). Printed is
Spearman's rank correlation of each measure with the truth, the mean over characters and a 95 % interval over them; for
what is only there or not, the area under the curve. Lines of Wren are spoilt in the same way: with another's words,
with letters out of order, with lines of the user and of an assistant. Lines of ``--speakers`` get somebody else's
name. Needs the extra ``recipe``.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from charforge.bases.base import load_base
from charforge.character import Character, read_character
from charforge.evaluate.identity import likeness, likeness_scale, separation
from charforge.evaluate.intervals import interval
from charforge.evaluate.names import wrong_name
from charforge.evaluate.release_items import NAMES
from charforge.evaluate.voice import breaks_character, chrf, distinct, speaks_for_user, voice_distance
from charforge.expand.scenes import Scene, scene_of
from charforge.families.protocol import UnifiedModel
from charforge.files import write_atomic
from charforge.judges.copies import copied, copy_marks
from charforge.judges.encoders import Encoder, load_encoder, pixel_encoder
from charforge.judges.likeness import calibrate
from charforge.judges.scene import judge_scenes
from charforge.recipe import captions, world
from charforge.recipe.bench.run import render_looks
from charforge.recipe.bench.unseen import Subject, subject
from charforge.recipe.world import Look

LEVELS = 5
NOISE = (0.0, 0.25, 0.5, 1.0, 2.0)
LASTING = (("hair", "hair_color"), ("skin",), ("glasses",), ("beard",))
"""Parts of a character that stay; a hat has other colours than hair, so that these two go together."""
PASSING = (("eyes",), ("mouth",), ("outfit",), ("outfit_color",), ("place",))
WREN = Path(__file__).parents[2] / "examples" / "wren"
ANOTHER = (
    "I walked until it got dark.", "Quiet. And a good window.", "Sit down, I can listen.",
    "Only from inside, mind you.",
    "I once lost a shoe in a river.", "Here. Where else would I be?", "The bread is old, the soup is not.",
)  # fmt: skip


def ranks(values: np.ndarray) -> np.ndarray:
    """(n,): places from the smallest on, ties in the middle of theirs."""
    return np.array([(values < value).sum() + ((values == value).sum() - 1) / 2 for value in values])


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation; nan where one of the two does not vary."""
    one, other = ranks(first), ranks(second)
    if not one.std() or not other.std():
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def exchanged(
    look: Look, other: Look, parts: tuple[tuple[str, ...], ...], count: int, rng: random.Random
) -> tuple[Look, int]:
    """``count`` of the parts taken from another look, and how many of them really differ then."""
    names = [name for part in rng.sample(parts, count) for name in part]
    changed = replace(look, **{name: getattr(other, name) for name in names})
    return changed, sum(any(getattr(changed, name) != getattr(look, name) for name in part) for part in parts)


def people(count: int) -> list[Subject]:
    """The first so many of the benchmark's characters that are people: only they have all the parts."""
    return [who for number in range(20) if (who := subject(number)).look.kind == "person"][:count]


def identity_tracks(
    who: Subject, other: Subject, encoders: list[Encoder], asked: int, rng: random.Random
) -> dict[str, float]:
    """Likeness against the number of lasting parts that are wrong, for each encoder; and against noise."""
    looks, wrong = [], []
    for look in who.asked[:asked]:
        for count in range(LEVELS):
            changed, differ = exchanged(look, other.look, LASTING, count, rng)
            looks.append(changed)
            wrong.append(differ)
    own, pictures = render_looks(who.shown), render_looks(looks)
    others = render_looks(other.asked[:asked])
    right = render_looks(who.asked[:asked])
    found = {}
    for encoder in encoders:
        known = encoder.encode(own).cpu()
        value = likeness(encoder.encode(pictures).cpu(), known)[0]
        found[f"likeness, {encoder.name}: lasting parts"] = spearman(value.numpy(), -np.array(wrong, float))
        mine, theirs = (likeness(encoder.encode(some).cpu(), known)[0] for some in (right, others))
        found[f"likeness, {encoder.name}: own against another (area)"] = separation(mine, theirs)
        noisy = [likeness(encoder.encode(_noisy(right, level)).cpu(), known)[0] for level in NOISE]
        levels = np.repeat(NOISE, len(right))
        found[f"likeness, {encoder.name}: noise"] = spearman(torch.cat(noisy).numpy(), -levels)
    scale = likeness_scale(encoders[0].encode, list(own))
    if scale is not None:
        known = encoders[0].encode(own).cpu()
        planted = {"own new pictures": right, "another's pictures": others, "noise of 1.0": _noisy(right, 1.0)}
        for name, some in planted.items():
            value = likeness(encoders[0].encode(some).cpu(), known)[0].mean().item()
            found[f"normalised likeness of {name} (level)"] = scale.normalised(value)
    return found


def _noisy(pictures: Tensor, level: float) -> Tensor:
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    return (pictures + level * noise).clamp(-1, 1)


def copies_track(who: Subject, encoder: Encoder, asked: int) -> dict[str, float]:
    """Which of copies, of copies that were changed a little, and of new pictures are called copies."""
    own, new = render_looks(who.shown), render_looks(who.asked[:asked])
    known = calibrate(encoder.encode(own).cpu())
    marks = copy_marks(known, list(own))
    planted = {
        "copies": own, "softened copies": F.avg_pool2d(own, 3, 1, 1),
        "copies moved by a few pixels": own.roll((2, -3), (2, 3)), "dimmed copies": 0.9 * own, "new pictures": new,
    }  # fmt: skip
    found = {}
    for name, pictures in planted.items():
        nearest = likeness(encoder.encode(pictures).cpu(), known.features)[0]
        found[f"copies: share of {name} called so (level)"] = copied(pictures, nearest, marks).float().mean().item()
        by_encoder = (nearest > known.copy).float().mean().item()
        found[f"copies: the same by the encoder alone, {name} (level)"] = by_encoder
    return found


def scene_for(who: Subject, look: Look, number: int, rng: random.Random) -> Scene:
    """The questions about one look."""
    places = [*world.PLACES.values(), *(f"on a {color} background" for color in ("red", "white", "yellow", "sky blue"))]
    clothes = [
        f"wearing {captions.article(color)} {garment}"
        for color in world.CLOTH
        for garment in ("shirt", "hoodie", "jacket", "coat", "dress", "suit")
    ]
    mouths, eyes = (
        list(world.PERSON_MOUTHS.values()),
        [f"with {words}" for words in world.PERSON_EYES.values() if words.endswith("eyes")],
    )
    told = [
        ("place", captions.place_phrase(look), places), ("mouth", world.PERSON_MOUTHS[look.mouth], mouths),
        ("eyes", f"with {world.PERSON_EYES[look.eyes]}", eyes),
        ("clothes", f"wearing {captions.clothes_phrase(look)}", clothes),
    ]  # fmt: skip
    details = [(kind, words, rng.sample([o for o in others if o != words], 4)) for kind, words, others in told]
    character = Character(who.name, "voxel person", "", "", "", (), "", "", "", (), (), Path())
    made = scene_of(character, details, number, rng)  # type: ignore[arg-type]
    assert made is not None, told
    return made


def scenes_track(model: UnifiedModel, who: Subject, asked: int, rng: random.Random) -> dict[str, float]:
    """What the base sees of a scene against the number of its parts that are wrong."""
    looks, scenes, wrong = [], [], []
    # "eyes looking sideways" fits no question that scenes ask
    plain = [
        replace(look, outfit="coat", eyes="open" if look.eyes == "side" else look.eyes) for look in who.asked[:asked]
    ]
    for number, look in enumerate(plain):
        scene = scene_for(who, look, number, random.Random(f"{who.name} {number}"))
        for count in range(LEVELS):
            other = replace(world.random_mood(rng, world.random_scene(rng, look)), thing="", side="", outfit="hoodie")
            changed, differ = exchanged(look, other, PASSING, count, rng)
            looks.append(changed)
            scenes.append(scene)
            wrong.append(differ)
    looked = model.look_at(render_looks(looks)).parts
    yes_no, keyed = judge_scenes(model, looked, scenes)
    truth = -np.array(wrong, float)
    return {
        "scene_yes_no: parts of the scene": spearman(yes_no.numpy(), truth),
        "scene: parts of the scene": spearman(torch.stack(list(keyed.values())).nanmean(0).numpy(), truth),
    }


def texts_track(seed: int) -> dict[str, float]:
    """Wren's lines with more and more of another's words, and with letters out of order."""
    rng = random.Random(f"{seed} texts")
    wren = read_character(WREN)
    lines = [turn.text for dialogue in wren.dialogues for turn in dialogue.turns if turn.role == "character"]
    rng.shuffle(lines)
    held, own = lines[:10], lines[10:]
    foreign = " ".join(ANOTHER).split()
    spoilt, wrong, references = [], [], []
    for line in held:
        for level in range(LEVELS):
            words = [rng.choice(foreign) if rng.random() < level / (LEVELS - 1) else word for word in line.split()]
            spoilt.append(" ".join(words))
            wrong.append(-level)
            references.append(line)
    truth = np.array(wrong, float)
    said = " ".join(own).lower()
    babble = ["".join(rng.sample(line, len(line))) for line in held]
    circles = [" ".join([*line.split()[:3]] * 5) for line in held]
    users = [f"{line}\nUser: {rng.choice(ANOTHER)}" for line in held]
    assistant = [f"{line} How can I help you today?" for line in held]

    def near(texts: list[str]) -> np.ndarray:
        return -np.array([voice_distance(text, own) for text in texts])

    close = np.array([chrf(text, reference) for text, reference in zip(spoilt, references, strict=True)])
    return {
        "voice_distance: another's words": spearman(near(spoilt), truth),
        "chrf: another's words": spearman(close, truth),
        "voice_distance: letters out of order (area)": _area(near(held), near(babble)),
        "distinct_2: going round in circles (area)": _area(_of(distinct, held), _of(distinct, circles)),
        "speaks_for_user: planted lines found (level)": _of(speaks_for_user, users).mean(),
        "speaks_for_user: own lines called so (level)": _of(speaks_for_user, lines).mean(),
        "breaks_character: planted lines found (level)": _of(breaks_character, assistant).mean(),
        "breaks_character: own lines called so (level)": _of(lambda one: breaks_character(one, said), held).mean(),
    }


NAME_FORMS = (
    "I am {name}. {line}", "{name}: {line}", "{line} My name is {name}, mind you.", "Good day, {name}. {line}",
    "{line} Come back soon, {name}.", "{line} Thanks, {name}!", "{line} {name} says so, and that is me.",
)  # fmt: skip
"""Of oneself, of the user, and one that no pattern knows."""


def names_track(character: Character, seed: int) -> dict[str, float]:
    """Groups of ten of a character's lines, of which 0 to 10 are under somebody else's name."""
    rng = random.Random(f"{seed} names")
    lines = [turn.text for dialogue in character.dialogues for turn in dialogue.turns if turn.role == "character"]
    rng.shuffle(lines)
    held, own = lines[: len(lines) // 2], " ".join(lines[len(lines) // 2 :])
    found, planted = [], []
    for wrong in (0, 2, 4, 6, 8, 10) * 2:
        said = rng.choices(held, k=10)
        spoilt = [
            rng.choice(NAME_FORMS).format(name=rng.choice(NAMES), line=line) if number < wrong else line
            for number, line in enumerate(said)
        ]
        found.append(np.mean([wrong_name(reply, character.name, own) for reply in spoilt]))
        planted.append(wrong)
    name = "wrong_names"
    every = [form.format(name=rng.choice(NAMES), line=line) for form in NAME_FORMS for line in held]
    return {
        f"{name}: share of replies under another's name": spearman(np.array(found), np.array(planted, float)),
        f"{name}: planted replies found (level)": _of(lambda one: wrong_name(one, character.name, own), every).mean(),
        f"{name}: own lines called so (level)": _of(lambda one: wrong_name(one, character.name, own), held).mean(),
    }


def _of(measure: Callable[[str], float], texts: list[str]) -> np.ndarray:
    return np.array([float(measure(text)) for text in texts])


def _area(good: np.ndarray, bad: np.ndarray) -> float:
    return separation(torch.from_numpy(good), torch.from_numpy(bad))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--characters", type=int, default=10)
    parser.add_argument("--judged", type=int, default=4, help="how many of them the base looks at: it takes longest")
    parser.add_argument("--asked", type=int, default=8, help="scenes of each")
    parser.add_argument(
        "--speakers", type=Path, nargs="*", default=[WREN], help="character folders whose lines get wrong names"
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    encoders = [load_encoder("efficientnet-lite0", torch.device("cpu")), pixel_encoder()]
    chosen, speakers = people(arguments.characters), [read_character(folder) for folder in arguments.speakers]
    model = load_base("mini").model if arguments.judged else None
    found: dict[str, list[float]] = {}
    for number, who in enumerate(chosen):
        rng = random.Random(f"measure truth {number}")
        other, asked = chosen[(number + 1) % len(chosen)], arguments.asked
        values = identity_tracks(who, other, encoders, asked, rng) | copies_track(who, encoders[0], asked)
        if model is not None and number < arguments.judged:
            values |= scenes_track(model, who, asked, rng)
        values |= texts_track(number) | names_track(speakers[number % len(speakers)], number)
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    told = {name: {**interval(np.array(values)), "over": len(values)} for name, values in found.items()}
    write_atomic(arguments.out, json.dumps(told, indent=1))
    for name, one in sorted(told.items()):
        print(f"{name:64} {one['value']:6.3f} ({one['low']:.3f} to {one['high']:.3f}) over {one['over']}")


if __name__ == "__main__":
    main()
