"""Expressions drawn by an adapter: which picture is taken, where it lies, what is never overwritten or lost."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bundle_parts import manifest
from exported import contents, good
from PIL import Image
from test_hostile_bundles import Members, changed
from tiny_base import pixel_encoder, tiny_base
from typer.testing import CliRunner, Result

from charforge.bundle import read_bundle
from charforge.bundle.manifest import SPRITES
from charforge.chat.session import Session
from charforge.cli.main import app
from charforge.errors import InputError
from charforge.export import sprites
from charforge.export.faces import FACES, SCENE, details_of, prompt_details, questions_about, what_mini_knows
from charforge.export.parts import renewed, with_sprites, without, write_again
from charforge.export.sprites import (
    Drawing,
    Sprite,
    draw_sprites,
    folder_name,
    likeness,
    mark_of,
    references_of,
    sprites_there,
    write_sprite,
)
from charforge.judges.likeness import References
from charforge.sample import Picture
from charforge.settings import ChatSettings

__all__ = ["good"]
# as SillyTavern has them (public/scripts/extensions/expressions/index.js)
SILLYTAVERN = (
    "admiration amusement anger annoyance approval caring confusion curiosity desire disappointment disapproval "
    "disgust embarrassment excitement fear gratitude grief joy love nervousness optimism pride realization relief "
    "remorse sadness surprise neutral"
)


@pytest.fixture
def session() -> Session:
    return Session(tiny_base(), manifest().to_character(), ChatSettings())


def drawing(**values: object) -> Drawing:
    return replace(Drawing(best_of=1, seed=0, scene=SCENE, simple=True), **values)


# words


def test_all_expressions_of_sillytavern_are_there() -> None:
    assert list(FACES) == SILLYTAVERN.split()


@pytest.mark.parametrize("simple", [True, False])
def test_every_expression_is_drawn_and_asked_for_in_words_of_its_own(simple: bool) -> None:
    prompts = {prompt_details(label, simple, SCENE) for label in FACES}
    assert len(prompts) == len(FACES)
    for label in FACES:
        for asked, words in zip(questions_about(label, simple), details_of(label, simple).values(), strict=True):
            assert len(set(asked.answers)) == len(asked.answers)
            assert asked.answers[asked.right].lower().rstrip(".") in words
            assert f"{words}, " in prompt_details(label, simple, SCENE) + ", "


def test_mini_is_drawn_with_words_that_it_learned() -> None:
    from charforge.recipe.world import PERSON_EYES, PERSON_MOUTHS

    for face in FACES.values():
        assert face.mouth in PERSON_MOUTHS.values()
        assert face.eyes.removeprefix("with ") in PERSON_EYES.values()


def test_what_mini_cannot_do_is_said() -> None:
    assert "no feelings" in what_mini_knows("Wren", "voxel person")
    assert "look alike" not in what_mini_knows("Wren", "voxel person")
    assert "Pip is a clay creature: many will look alike" in what_mini_knows("Pip", "clay robot")
    assert "is what mini does not know" in what_mini_knows("Bo", "lighthouse")


# which picture is taken


def test_the_best_of_several_is_the_one_that_scores_best_alone(session: Session) -> None:
    encoder = pixel_encoder()
    references = references_of(session, encoder, {})
    some = set(FACES) - {"joy", "fear"}
    alone = [list(draw_sprites(session, encoder, references, drawing(seed=seed), some)) for seed in range(4)]
    chosen = list(draw_sprites(session, encoder, references, drawing(best_of=4), some))
    assert [sprite.label for sprite in chosen] == ["fear", "joy"]
    for number, sprite in enumerate(chosen):
        scores = [one[number].likeness + one[number].expression for one in alone]
        best = alone[scores.index(max(scores))][number]
        assert sprite.picture.tobytes() == best.picture.tobytes()
        assert sprite.expression == pytest.approx(best.expression, abs=1e-4)
    assert len({one[0].picture.tobytes() for one in alone}) == 4


def test_likeness_is_measured_between_what_is_rare_and_what_is_usual() -> None:
    own = torch.eye(3)
    references = References(own, cap=0.9, copy=0.95, low=0.5)
    rows = torch.tensor([[0.4, 0.1, 0.0], [0.7, 0.2, 0.0], [0.95, 0.0, 0.0]])
    torch.testing.assert_close(likeness(rows, references), torch.tensor([0.0, 0.5, 1.0]))


def test_pictures_of_the_run_are_what_likeness_is_measured_against(session: Session) -> None:
    model, encoder = session.base.model, pixel_encoder()
    look = model.look(Image.new("RGB", (16, 16)))
    latents = torch.randn(4, 4, 16, generator=torch.Generator().manual_seed(3))
    pictures = {str(number): Picture(model.drawn_target(x0, 2, 2), look) for number, x0 in enumerate(latents)}
    assert references_of(session, encoder, pictures).features.shape[0] == 4
    # without any: drawings of the name, the same every time
    first, second = references_of(session, encoder, {}), references_of(session, encoder, {})
    assert torch.equal(first.features, second.features) and first.features.shape[0] == 6


# files


@pytest.mark.parametrize(
    ("name", "folder"),
    [("Wren", "Wren"), ("Mam the Cat", "Mam the Cat"), ("Ünal", "Ünal"), ("../../etc", "....etc"), ("a/b\\c:d", "abcd"),
     ("..", "character"), ("CON", "con"), ("nul.txt", "nul-txt"), ("Pip. ", "Pip"), ("\x00\x1b[31m", "[31m"),
     ("x" * 300, "x" * 300)],
)  # fmt: skip
def test_a_name_is_a_folder_and_never_a_way_out(name: str, folder: str) -> None:
    assert folder_name(name) == folder
    assert not re.search(r"[/\\\x00-\x1f]", folder_name(name))


def filled(folder: Path, bundle: object, how: Drawing) -> None:
    for number, label in enumerate(FACES):
        sprite = Sprite(label, Image.new("RGB", (8, 8), (number, 0, 0)), 1.0, 1.0, True)
        write_sprite(folder, sprite, mark_of(bundle, how, label))  # type: ignore[arg-type]


def test_own_sprites_are_known_again_and_others_are_nobodys_to_touch(good: Path, tmp_path: Path) -> None:
    bundle = read_bundle(good)
    folder = tmp_path / "Pip"
    assert sprites_there(folder, bundle, drawing()) == set()
    filled(folder, bundle, drawing())
    assert sprites_there(folder, bundle, drawing()) == set(FACES)
    (folder / "joy.png").unlink()
    assert sprites_there(folder, bundle, drawing()) == set(FACES) - {"joy"}
    for other in (drawing(seed=1), drawing(best_of=2), drawing(scene="ö"), drawing(simple=False)):
        with pytest.raises(InputError, match="not drawn by this adapter with these options"):
            sprites_there(folder, bundle, other)
    Image.new("RGB", (8, 8)).save(folder / "joy.png")
    with pytest.raises(InputError, match=r"joy\.png is there"):
        sprites_there(folder, bundle, drawing())
    (folder / "joy.png").unlink()
    (folder / "joy.png").symlink_to(folder / "fear.png")
    with pytest.raises(InputError, match=r"joy\.png is there"):
        sprites_there(folder, bundle, drawing())


# the command


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


@pytest.fixture
def opened(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """``open_character`` gives a tiny base; the bundles that were asked for."""
    asked: list[Path] = []

    def open_character(bundle: Path, device: str | None = None) -> Session:
        asked.append(bundle)
        return session

    monkeypatch.setattr("charforge.chat.session.open_character", open_character)
    monkeypatch.setattr("charforge.judges.encoders.load_encoder", lambda name, device: pixel_encoder())
    return asked


def test_a_call_that_was_stopped_goes_on_where_it_was(
    good: Path, tmp_path: Path, opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = sprites.draw_pixels
    calls: list[int] = []

    def stops(model: object, prompts: list[str], seeds: list[int]) -> torch.Tensor:
        calls.append(len(prompts))
        if len(calls) == 11:
            raise KeyboardInterrupt
        return draw(model, prompts, seeds)

    monkeypatch.setattr("charforge.export.sprites.draw_pixels", stops)
    out = tmp_path / "characters"
    assert command(good, "--sprites", out, "--best-of", 1).exit_code == 130
    assert len(list((out / "Pip").iterdir())) == 10
    result = command(good, "--sprites", out, "--best-of", 1, "-o", tmp_path / "with.charx")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "10 of 28 expressions were drawn before" in result.stderr and "a bundle has no pictures" in result.stderr
    assert "the base, asked, reads the expression that was meant in" in result.stderr
    assert sorted(path.name for path in (out / "Pip").iterdir()) == sorted(f"{label}.png" for label in FACES)
    data = read_bundle(tmp_path / "with.charx").card["data"]
    assert {asset["name"] for asset in data["assets"] if asset["type"] == "emotion"} == set(FACES)
    # nothing is left to draw: no base is opened
    before = len(opened)
    assert command(good, "--sprites", out, "--best-of", 1).exit_code == 0 and len(opened) == before


def test_options_that_have_no_meaning_are_refused(good: Path, tmp_path: Path) -> None:
    for options, told in (
        (("--best-of", 3), "of --sprites alone"), (("--scene", "x"), "of --sprites alone"),
        (("--sprites", tmp_path / "s", "--rank", 1), "leave --rank out"),
        (("--sprites", tmp_path / "s", "-o", tmp_path / "x.png"), "ends so"),
    ):  # fmt: skip
        result = command(good, *options)
        assert isinstance(result.exception, InputError) and told in str(result.exception), result.output
    assert not (tmp_path / "s").exists()


# in a bundle


def with_all(good: Path) -> object:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    return with_sprites(read_bundle(good), {label: out.getvalue() + label.encode() for label in FACES})


def test_a_bundle_keeps_its_expressions_until_pictures_are_left_out(good: Path, tmp_path: Path) -> None:
    path = write_again(tmp_path / "a.charx", with_all(good))  # type: ignore[arg-type]
    assert sum(name.startswith(SPRITES) for name in contents(path)) == len(FACES)
    again = write_again(tmp_path / "b.charx", renewed(read_bundle(path)))
    assert again.read_bytes() == path.read_bytes()
    bare = write_again(tmp_path / "c.charx", without(renewed(read_bundle(path)), ["pictures"]))
    assert not any(name.startswith(SPRITES) for name in contents(bare))
    assert [asset["type"] for asset in read_bundle(bare).card["data"]["assets"]] == ["icon"]
    # new ones replace the old ones
    few = with_sprites(read_bundle(path), {"joy": contents(path)[f"{SPRITES}joy.png"]})
    assert [name for name in few.contents if name.startswith(SPRITES)] == [f"{SPRITES}joy.png"]


@pytest.mark.parametrize("size", [None, (5000, 1)])
def test_an_expression_that_is_no_picture_to_be_opened_is_refused(
    good: Path, tmp_path: Path, size: tuple[int, int] | None
) -> None:
    out = io.BytesIO(b"no picture")
    if size:
        Image.new("RGB", size).save(out, "PNG")

    def put(members: Members) -> None:
        members[f"{SPRITES}joy.png"] = out.getvalue()

    (tmp_path / "x.charx").write_bytes(changed(put)(contents(good)))
    with pytest.raises(InputError, match=r"its picture of joy is (not a readable PNG|5000 x 1 pixels)"):
        read_bundle(tmp_path / "x.charx")
