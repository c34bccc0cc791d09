"""A folder becomes a Character, or one table of what is wrong with it. The folder itself never changes."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path

import numpy
import pytest
from folders import CHARACTER_MD, check_character, dialogue_line, drawing, make_folder
from PIL import Image

from charforge.character import load_picture, read_character
from charforge.errors import InputError, Problem

ROLESCAPE = Path(__file__).parent.parent.parent / "shared" / "rolescape"
needs_rolescape = pytest.mark.skipif(not ROLESCAPE.is_dir(), reason="the RoleScape sample is not beside the repository")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "pip")


def told(folder: Path, file: str) -> list[Problem]:
    return [problem for problem in check_character(folder) if problem.file == file]


def only(folder: Path, file: str) -> Problem:
    problems = check_character(folder)
    assert [problem.file for problem in problems] == [file], problems
    return problems[0]


def snapshot(folder: Path) -> dict[str, tuple[str, float]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime) for p in files}


def test_a_good_folder_has_no_problems_and_is_read_whole(folder: Path) -> None:
    before = snapshot(folder)
    assert check_character(folder) == []
    pip = read_character(folder)
    assert (pip.name, pip.class_noun, pip.author, pip.license) == ("Pip", "clay robot", "a test", "CC0-1.0")
    assert pip.persona.startswith("Pip is a small clay robot") and pip.persona.endswith("counts everything twice.")
    assert pip.voice.startswith("Speaks in short") and pip.appearance.startswith("Pip has round")
    assert pip.opening == "Beep and good morning! Pip has the kettle on."
    assert len(pip.facts) == 7 and pip.facts[1] == "Pip lives in a tea cart by the harbour."
    assert [picture.name for picture in pip.pictures] == [f"{n:02d}" for n in range(1, 11)]
    assert pip.picture("02").caption == "sad, wearing a red hat, on a beach"
    assert pip.dialogues[2].turns[1].image == "03" and pip.dialogues[2].origin == "dialogues.jsonl:3"
    assert snapshot(folder) == before


def test_a_folder_with_errors_is_refused_with_the_whole_table(folder: Path) -> None:
    (folder / "images" / "01.png").write_bytes(b"not a picture")
    (folder / "dialogues.jsonl").write_text("{bad\n")
    with pytest.raises(InputError, match="2 problems to mend") as caught:
        read_character(folder)
    assert {problem.file for problem in caught.value.problems} >= {"images/01.png", "dialogues.jsonl:1"}


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_what_is_no_character_folder_is_told(tmp_path: Path, what: str) -> None:
    path = tmp_path / "it"
    if what == "empty":
        path.mkdir()
    elif what == "file":
        path.write_text("x")
    problem = check_character(path)[0]
    assert problem.level == "error" and "charforge new" in problem.remedy


# pictures


def save_gif(path: Path) -> None:
    frames = [drawing(n) for n in (1, 2, 3)]
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:])


def save_animated_webp(path: Path) -> None:
    frames = [drawing(n) for n in (1, 2, 3)]
    frames[0].save(path, format="WEBP", save_all=True, append_images=frames[1:])


def save_bomb(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b""))


def save_cut(path: Path) -> None:
    noise = numpy.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=numpy.uint8)
    Image.fromarray(noise).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("save", "level", "words"),
    [
        (lambda p: p.write_bytes(b"no picture at all"), "error", "is not a PNG, JPEG or WebP"),
        (lambda p: p.write_bytes(b""), "error", "is empty (0 bytes)"),
        (save_cut, "error", "is cut off"),
        (save_bomb, "error", "promises more than 64 million pixels"),
        (save_gif, "error", "is animated"),
        (save_animated_webp, "error", "is animated"),
        (lambda p: drawing(1).save(p, format="GIF"), "warning", "is a GIF picture, not .png"),
        (lambda p: drawing(1, 63).save(p), "error", "is tiny (63 x 63 pixels)"),
        (lambda p: drawing(2).save(p), "error", "is the same picture as 01.png"),
        (lambda p: drawing(1).save(p, format="JPEG"), "warning", "is a JPEG picture, not .png"),
    ],
)
def test_a_bad_picture_is_told(folder: Path, save, level: str, words: str) -> None:  # type: ignore[no-untyped-def]
    save(folder / "images" / "01.png")
    problems = check_character(folder)
    assert len(problems) == 1, problems
    assert words in problems[0].problem and problems[0].level == level
    assert problems[0].file in ("images/01.png", "images/02.png")


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image = Image.new("RGBA", (80, 80), (255, 0, 0, 0))
    image.putpixel((40, 40), (255, 0, 0, 255))
    image.save(path)
    assert load_picture(path).getpixel((5, 5)) == (255, 255, 255)
    Image.new("LA", (80, 80), (0, 128)).save(path)
    assert load_picture(path).getpixel((5, 5)) == (127, 127, 127)
    palette = drawing(1).quantize(8)
    palette.info["transparency"] = 0
    palette.save(path, transparency=0)
    assert load_picture(path).mode == "RGB"


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (120, 80), "blue").save(path, exif=exif)
    assert load_picture(path).size == (80, 120)


def test_sixteen_bits_become_eight_without_clipping(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    ramp = numpy.linspace(0, 65535, 100, dtype=numpy.uint16)
    Image.fromarray(numpy.tile(ramp, (80, 1))).save(path)
    values = numpy.asarray(load_picture(path))[0, :, 0].astype(int)
    assert numpy.abs(values - ramp.astype(int) / 257).max() <= 0.5 + 1e-9


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (80, 80), (0, 255, 255, 0)).save(path, quality=95)
    red, green, blue = load_picture(path).getpixel((40, 40))  # type: ignore[misc]
    assert red > 200 and green < 60 and blue < 60


def test_what_is_converted_is_said_and_stops_nothing(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    images = folder / "images"
    for number in (1, 2, 3):
        (images / f"{number:02d}.png").unlink()
    drawing(1).save(images / "01.jpg", exif=exif)
    drawing(2).convert("CMYK").save(images / "02.jpg")
    see_through = drawing(3).convert("RGBA")
    see_through.putpixel((0, 0), (0, 0, 0, 0))
    see_through.save(images / "03.png")
    problems = check_character(folder)
    assert [problem.level for problem in problems] == ["warning"] * 3
    assert [problem.problem.split(" and ")[0] for problem in problems] == [
        "is turned by its EXIF tag",
        "is CMYK",
        "is transparent in places",
    ]
    read_character(folder)


@pytest.mark.parametrize(("count", "level"), [(3, "error"), (4, "warning"), (9, "warning")])
def test_few_pictures_are_told(tmp_path: Path, count: int, level: str) -> None:
    folder = make_folder(tmp_path / "few", pictures=count)
    assert [p.level for p in told(folder, "images")] == [level]


def test_two_pictures_of_one_name_are_an_error(folder: Path) -> None:
    drawing(11).save(folder / "images" / "01.jpg")
    assert "same name" in next(p for p in check_character(folder) if p.level == "error").problem


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    drawing(12).save(secret)
    (folder / "images" / "12.png").symlink_to(secret)
    (folder / "images" / "01.txt").unlink()
    (folder / "images" / "01.txt").symlink_to(tmp_path / "nowhere")
    problems = {problem.file: problem.problem for problem in check_character(folder)}
    assert "outside the character folder" in problems["images/12.png"]
    assert "leads nowhere" in problems["images/01.txt"]


def test_a_linked_images_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "images").rename(tmp_path / "elsewhere")
    (folder / "images").symlink_to(tmp_path / "elsewhere")
    assert "outside the character folder" in told(folder, "images")[0].problem


# words


def test_another_encoding_is_recognised_and_told_with_the_line(folder: Path) -> None:
    (folder / "facts.md").write_bytes("- one\n- caf\xe9\n".encode("latin-1"))
    problem = only(folder, "facts.md:2")
    assert problem.level == "warning" and problem.problem == "is not UTF-8 text: it was read as cp1252"
    assert read_character(folder).facts == ("one", "caf\xe9")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf16_is_read_with_and_without_its_mark(folder: Path, encoding: str) -> None:
    (folder / "facts.md").write_bytes("- one\n- caf\xe9\n".encode(encoding))
    assert "UTF-8" in only(folder, "facts.md").problem
    assert read_character(folder).facts == ("one", "caf\xe9")


def test_a_byte_order_mark_and_windows_newlines_are_fine(folder: Path) -> None:
    (folder / "character.md").write_bytes(b"\xef\xbb\xbf" + CHARACTER_MD.replace("\n", "\r\n").encode())
    assert check_character(folder) == []
    assert read_character(folder).name == "Pip"


def test_an_unknown_front_matter_key_is_an_error_with_the_near_one(folder: Path) -> None:
    (folder / "character.md").write_text(CHARACTER_MD.replace("license:", "licence:"))
    assert "did you mean 'license'?" in only(folder, "character.md").remedy


def test_front_matter_values_stay_as_written(folder: Path) -> None:
    (folder / "character.md").write_text(CHARACTER_MD.replace("name: Pip", "name: No"))
    assert read_character(folder).name == "No"


@pytest.mark.parametrize("front", ["---\nname: [a\n---\n", "---\nname: Pip\n", "---\n- a\n---\n"])
def test_broken_front_matter_is_an_error(folder: Path, front: str) -> None:
    (folder / "character.md").write_text(front + "Pip is a robot.\n")
    assert any(p.level == "error" and p.file.startswith("character.md") for p in check_character(folder))


def test_a_missing_name_is_an_error_unless_the_title_gives_it(folder: Path) -> None:
    nameless = CHARACTER_MD.replace("name: Pip\n", "")
    (folder / "character.md").write_text(nameless)
    assert read_character(folder).name == "Pip"
    (folder / "character.md").write_text(nameless.replace("# Pip\n", ""))
    assert "has no name" in next(p for p in check_character(folder) if p.level == "error").problem


def test_a_name_that_never_occurs_is_a_warning(folder: Path) -> None:
    (folder / "character.md").write_text(CHARACTER_MD.replace("name: Pip", "name: Zebulon"))
    assert "never occurs" in only(folder, "character.md").problem


def test_no_dialogues_is_an_error(folder: Path) -> None:
    (folder / "dialogues.jsonl").unlink()
    assert only(folder, "dialogues.jsonl").level == "error"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{oops", "is not JSON"),
        ("[1]", 'has no list "turns"'),
        ('{"turns": "x"}', 'has no list "turns"'),
        ('{"turns": []}', "is empty"),
        ('{"turns": [{"text": "x"}]}', "turn 1 has no role"),
        ('{"turns": [{"role": "wizard", "text": "x"}]}', "has the role 'wizard'"),
        ('{"turns": [{"role": "user"}]}', "turn 1 has no text"),
        ('{"turns": [{"role": "user", "text": "x"}]}', "only the user speaks"),
        ('{"turns": [{"role": "character", "text": "x"}]}', "only the character speaks"),
        (dialogue_line("", "x"), "has a turn without words"),
        (dialogue_line("x", " "), "has a turn without words"),
        (dialogue_line("x", "y", "77"), "names the picture '77', which nobody sent"),
    ],
)
def test_a_bad_dialogue_is_told_with_its_line(folder: Path, line: str, words: str) -> None:
    path = folder / "dialogues.jsonl"
    path.write_text(path.read_text() + line + "\n")
    problem = only(folder, "dialogues.jsonl:13")
    assert problem.level == "error" and words in problem.problem


def test_a_misspelt_picture_name_gets_a_hint(folder: Path) -> None:
    path = folder / "dialogues.jsonl"
    path.write_text(path.read_text() + dialogue_line("x", "y", "3") + "\n")
    assert only(folder, "dialogues.jsonl:13").remedy == "did you mean '03'?"


def test_a_misspelt_turn_key_is_a_warning(folder: Path) -> None:
    path = folder / "dialogues.jsonl"
    path.write_text(path.read_text() + dialogue_line("x", "y", "03").replace('"image"', '"imgae"') + "\n")
    problem = only(folder, "dialogues.jsonl:13")
    assert problem.level == "warning" and "imgae" in problem.problem


# RoleScape as released


@needs_rolescape
@pytest.mark.parametrize(
    ("name", "noun"), [("Bo", "Shiba Inu dog"), ("Mam", "British Shorthair cat")]
)  # fmt: skip
def test_rolescape_is_read_as_released(name: str, noun: str) -> None:
    character = read_character(ROLESCAPE / name)
    assert (character.name, character.class_noun) == (name, noun)
    assert len(character.pictures) == len(character.dialogues) == 12
    assert [picture.name for picture in character.pictures] == [str(n) for n in range(12)]
    assert all(picture.caption and name in picture.caption for picture in character.pictures)
    assert character.voice and character.facts and character.persona.startswith(name)
    assert character == read_character(ROLESCAPE / name / "train")
    assert all(problem.level == "warning" for problem in check_character(ROLESCAPE / name))


def test_a_rolescape_turn_that_names_a_missing_picture_keeps_its_words(tmp_path: Path) -> None:
    folder = tmp_path / "Rex" / "train"
    folder.mkdir(parents=True)
    for number in range(4):
        drawing(number).save(folder / f"{number}.png")
    (folder / "Rex_full_profile.txt").write_text("*   **Breed:** Pug\n*   **Job:** Rex is a dog. He guards.\n")
    scene = [{"role": "user", "text": "Rex?"}, {"role": "machine", "text": "Woof.", "image": "41"}]
    (folder / "annotation.json").write_text(json.dumps({"description": "", "opening": "", "scenes": [scene]}))
    character = read_character(folder.parent)
    assert (character.name, character.class_noun, character.dialogues[0].turns[1].image) == (
        "Rex",
        "Pug dog",
        None,
    )
    assert any("nobody sent" in p.problem and p.level == "warning" for p in check_character(folder))
