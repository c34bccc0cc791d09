"""Pictures as people bring them: found under every name, used as a viewer would show them, or named."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from folders import CAPTIONS, dialogue_line, drawing, make_folder
from laid_out import WREN, lay_out
from PIL import Image, ImageCms, PngImagePlugin

from charforge.character import load_picture, read_folder
from charforge.character.listing import is_system_path
from charforge.character.picture_folder import PictureFiles, read_pictures
from charforge.character.picture_kinds import FORMATS, reads_heic, what_it_is
from charforge.character.pictures import check_pictures
from charforge.errors import InputError, Problem


def read(folder: Path) -> tuple[PictureFiles, list[Problem]]:
    """Pictures and captions of a folder, and all that is told about them."""
    problems: list[Problem] = []
    found = read_pictures(folder, problems)
    told, _ = check_pictures(folder, found.pictures.values())
    return found, [*problems, *told]


def told(problems: list[Problem], file: str) -> list[str]:
    return [problem.problem for problem in problems if problem.file == file]


def wrens_captions() -> list[str]:
    return [(WREN / f"images/{number:02d}.txt").read_text("utf-8").strip() for number in range(1, 11)]


NUMBERED = [f"{number:02d}" for number in range(1, 11)]
# case: names of its pictures
RIGHT = {
    "01-appledouble": NUMBERED,
    "02-mpo-jpg": NUMBERED,
    "03-jfif": NUMBERED,
    "04-uppercase": [f"IMG_{number:04d}" for number in range(1, 11)],
    "18c-dots-in-names": [f"wren v1.{number}" for number in range(1, 11)],
    "19-kohya-subfolder": NUMBERED,
    "19b-images-at-top": NUMBERED,
    "19d-double-ext-captions": NUMBERED,
}


@pytest.mark.parametrize("case", RIGHT)
def test_ten_pictures_and_ten_captions_are_found(tmp_path: Path, case: str) -> None:
    found, problems = read(lay_out(case, tmp_path / "wren"))
    assert list(found.pictures) == RIGHT[case]
    assert list(found.captions.values()) == wrens_captions()
    assert not [problem for problem in problems if problem.level == "error"]
    assert not [entry for entry in found.entries if not entry.taken]


def test_the_first_picture_of_a_phones_jpeg_is_used(tmp_path: Path) -> None:
    folder = lay_out("02-mpo-jpg", tmp_path / "wren")
    _, problems = read(folder)
    assert told(problems, "images/01.jpg") == ["holds 2 pictures, of which the first is used"]
    used, own = load_picture(folder / "images/01.jpg"), load_picture(WREN / "images/01.png")
    assert np.abs(np.asarray(used, float) - np.asarray(own, float)).mean() < 4


def test_a_colour_profile_is_followed(tmp_path: Path) -> None:
    folder = lay_out("20-icc", tmp_path / "wren")
    _, problems = read(folder)
    assert told(problems, "images/01.png") == ["has the colour profile sRGB built-in and is converted to sRGB"]
    # the file's red and blue are swapped, and so are its profile's
    used = np.asarray(load_picture(folder / "images/01.png"), float)
    stored = np.asarray(Image.open(folder / "images/01.png").convert("RGB"), float)
    assert np.abs(used - stored[:, :, ::-1]).mean() < 4 < np.abs(used - stored).mean()


def test_names_are_the_same_in_both_forms_of_unicode(tmp_path: Path) -> None:
    found, _ = read(lay_out("18-nfd", tmp_path / "wren"))
    assert {"caf\u00e9", "\u00e9t\u00e9", "na\u00efve"} < set(found.pictures)
    assert len(found.captions) == len(found.pictures) == 10


def test_a_mixed_folder_is_read_or_named(tmp_path: Path) -> None:
    found, problems = read(lay_out("32-pictures-mixed", tmp_path / "wren"))
    assert list(found.pictures) == [*NUMBERED, *(["11"] if reads_heic() else []), "12"]
    assert told(problems, "images/02.jpeg") == ["is cut off: the end of the file is missing"]
    assert told(problems, "images/03.png") == ["is transparent in places and is put on white"]
    assert told(problems, "images/12.avif") == []
    assert "HEIC" in told(problems, "images/11.heic")[0] or reads_heic()
    assert found.captions["06"] == wrens_captions()[5]


def test_a_heic_picture_under_another_name_is_told_with_the_remedy(tmp_path: Path) -> None:
    folder = lay_out("33-heic-named-jpg", tmp_path / "wren")
    _, problems = read(folder)
    (problem,) = [problem for problem in problems if problem.file == "images/01.jpg"]
    assert "HEI" in problem.problem
    if not reads_heic():
        assert "charforge[heic]" in problem.remedy and problem.level == "error"


def test_a_card_among_the_pictures_that_shows_one_of_them_is_used_once(tmp_path: Path) -> None:
    folder = lay_out("12h-png-card-in-images", tmp_path / "wren")
    reading = read_folder(folder)
    assert reading.character is not None and not reading.errors
    assert [picture.name for picture in reading.character.pictures] == NUMBERED
    (entry,) = [entry for entry in reading.ledger.passed_over if entry.kind == "picture"]
    assert (entry.file, entry.reason) == ("images/11.png", "is the character card, and the same picture as 01.png")
    with (folder / "dialogues.jsonl").open("a") as file:
        file.write(dialogue_line("Your card?", "By my left spanner, here.", "11") + "\n")
    # a picture that was sent is wanted under its name
    assert any("same picture as 01.png" in problem.problem for problem in read_folder(folder).errors)


def test_what_a_phone_does_to_all_its_pictures_is_told_once(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(1, 11):
        drawing(number).save(folder / f"images/{number:02d}.png", exif=exif)
    (problem,) = read_folder(folder).problems
    assert problem.problem == "is turned by its EXIF tag and is used upright (and 9 more like it)"


# what is no picture is named


def only(folder: Path, file: str, content: bytes) -> tuple[list[str], list[str]]:
    """The problems and the ledger's reasons for one more file in the folder of the pictures."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "images" / file).write_bytes(content)
    found, problems = read(folder)
    return told(problems, f"images/{file}"), [e.reason for e in found.entries if e.file == f"images/{file}"]


def png(image: Image.Image | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    (image or drawing(1)).save(out, "PNG", **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("01.psd", b"8BPS" + bytes(60), "not read (.psd)"),
        ("01.jxl", b"\xff\x0a" + bytes(60), "not read (.jxl)"),
        ("01.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not read (.svg)"),
        ("01", png(), "is a PNG picture without its extension"),
        ("notes.docx", b"PK\x03\x04" + bytes(60), "is neither a picture nor a caption"),
        ("clip.mp4", b"\0\0\0\x18ftypisom" + bytes(60), "is neither a picture nor a caption"),
        ("99.txt", b"smiling", "is a caption without a picture"),
        ("99.caption", b"smiling", "is a caption without a picture"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, file: str, content: bytes, words: str) -> None:
    problems, reasons = only(tmp_path, file, content)
    assert len(problems) == len(reasons) == 1
    assert words in problems[0] and words in reasons[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b"<!DOCTYPE html><html>", "is a web page and no picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "pointer of a file that Git LFS keeps elsewhere"),
        (b"\0\0\0\x1cftypisom" + bytes(90), "is a film"),
        (b"GIF89a", "damaged GIF"),
        (png()[:-40], "is cut off"),
        (b"\x89PNG\r\n\x1a\n" + bytes(90), "PNG picture"),
        (b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(90), "WEBP picture"),
    ],
)
def test_what_is_in_a_picture_of_the_right_name_is_told(tmp_path: Path, content: bytes, words: str) -> None:
    problems, _ = only(tmp_path, "01.png", content)
    assert len(problems) == 1 and (words in problems[0] or "cannot be decoded" in problems[0]), problems
    with pytest.raises(InputError) as refused:
        load_picture(tmp_path / "images" / "01.png")
    assert "\n" not in str(refused.value)


def test_files_of_the_system_are_nobodys() -> None:
    assert is_system_path("__MACOSX/images/._01.png") and is_system_path("images/.DS_Store")
    assert is_system_path("Images\\THUMBS.DB") and is_system_path("desktop.ini")
    assert not is_system_path("images/01.png") and not is_system_path("./images/01.png")


def test_a_data_sets_table_gives_the_captions_that_are_missing(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    for number in (2, 3):
        (folder / f"images/{number:02d}.txt").unlink()
    rows = [
        {"file_name": "01.png", "text": "another"},
        {"file_name": "02.png", "caption": "in a\nmeadow"},
        {"file_name": "nowhere.png", "text": "lost words"},
    ]
    (folder / "images/metadata.jsonl").write_text("\n".join([*map(json.dumps, rows), "{torn"]))
    (folder / "metadata.csv").write_text('file_name,text\nimages/03.png,"asleep, at sea"\n')
    found, problems = read(folder)
    assert (found.captions["01"], found.captions["02"], found.captions["03"]) == (
        CAPTIONS[0], "in a meadow", "asleep, at sea",
    )  # fmt: skip
    assert told(problems, "images/metadata.jsonl:3") == ["names a picture that is not there"]
    assert told(problems, "images/metadata.jsonl:4") == ["cannot be parsed"]
    assert [entry.text for entry in found.entries if not entry.taken] == ["another", "lost words", ""]


def test_pictures_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    for number, name in enumerate(("10_wren", "5_wren hat"), start=1):
        (tmp_path / "images" / name).mkdir(parents=True)
        drawing(number).save(tmp_path / "images" / name / "01.png")
        (tmp_path / "images" / name / "01.txt").write_text(name)
    found, problems = read(tmp_path)
    assert found.captions == {"5_wren hat 01": "5_wren hat", "10_wren 01": "10_wren"}
    assert not problems


def test_the_trainers_folders_beside_the_profile_are_found(tmp_path: Path) -> None:
    (tmp_path / "12_pip robot").mkdir()
    drawing(1).save(tmp_path / "12_pip robot" / "01.png")
    assert list(read(tmp_path)[0].pictures) == ["01"]


def test_pictures_beside_the_folder_of_the_pictures_are_told(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    drawing(44).save(folder / "Best.png")
    found, problems = read(folder)
    assert len(found.pictures) == 10
    assert told(problems, "Best.png") == ["lies beside the folder of the pictures and is not read"]


@pytest.mark.parametrize("name", ["photos", "5_pip hat"])
def test_a_second_folder_of_pictures_is_told(tmp_path: Path, name: str) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / name).mkdir()
    assert told(read(folder)[1], name) == []
    drawing(44).save(folder / name / "01.png")
    found, problems = read(folder)
    assert told(problems, name) == ["is a second folder of pictures and is not read"]
    assert [entry.file for entry in found.entries if not entry.taken] == [name]


def test_a_second_caption_is_passed_over_with_its_words(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / "images/01.caption").write_text("other words")
    found, problems = read(folder)
    assert found.captions["01"] == CAPTIONS[0] and not problems
    (entry,) = [entry for entry in found.entries if not entry.taken]
    assert (entry.file, entry.text) == ("images/01.caption", "other words")


@pytest.mark.skipif(os.name != "posix", reason="names that are no text are a matter of Linux")
def test_a_name_of_bytes_that_are_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / os.fsdecode(b"caf\xe9.png")).write_bytes(png())
    _, problems = read(tmp_path)
    assert [problem.problem for problem in problems] == ["has a name that is not UTF-8"]
    assert problems[0].file == "images/caf\\xe9.png"


def test_links_and_folders_inside_are_told_and_not_followed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / "images/round").symlink_to(folder / "images")
    found, problems = read(folder)
    assert len(found.pictures) == 10
    assert told(problems, "images/round") == ["is a link to a folder and is not followed"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "01.png")
    code = "import sys; from charforge.character.pictures import *; load_picture(Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "01.png")], capture_output=True, text=True, timeout=60, check=False
    )
    assert "is not a plain file" in done.stderr


# what is used of a picture


def frames(*numbers: int) -> list[Image.Image]:
    return [drawing(number) for number in numbers]


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "AVIF"])
def test_only_what_moves_is_animated(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a{FORMATS[kind][0]}"
    first, *others = frames(1, 1, 1)
    first.save(path, kind, save_all=True, append_images=others)
    assert load_picture(path).size == (80, 80)
    first, *others = frames(1, 1, 9)
    first.save(path, kind, save_all=True, append_images=others)
    with pytest.raises(InputError, match=r"is animated .* save one frame as PNG or JPEG"):
        load_picture(path)


def test_a_picture_behind_an_animation_for_programs_that_cannot_play_it_is_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    drawing(9).save(path, save_all=True, append_images=[drawing(1)], default_image=True)
    assert load_picture(path).tobytes() == drawing(9).tobytes()


def test_a_file_of_pages_gives_its_first(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    drawing(1).save(path, save_all=True, append_images=[drawing(9)])
    assert load_picture(path).tobytes() == drawing(1).tobytes()


def swapped_profile() -> bytes:
    """sRGB with red and blue exchanged."""
    raw = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = raw.find(b"rXYZ"), raw.find(b"bXYZ")
    raw[red : red + 4], raw[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(raw)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_profile_is_followed_in_every_mode_and_alpha_stays(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (80, 80), (250, 10, 10)).convert(mode).save(path, icc_profile=swapped_profile())
    red, _, blue = load_picture(path).getpixel((40, 40))  # type: ignore[misc]
    assert blue > 200 > 60 > red
    see_through = Image.new("RGBA", (80, 80), (250, 10, 10, 255))
    see_through.paste((0, 0, 0, 0), (0, 0, 40, 80))
    see_through.save(path, icc_profile=swapped_profile())
    assert load_picture(path).getpixel((5, 5)) == (255, 255, 255)


def test_srgb_under_any_name_moves_no_pixel(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    drawing(3).save(path, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert load_picture(path).tobytes() == drawing(3).tobytes()
    assert check_pictures(tmp_path, [path]) == ([], [])


@pytest.mark.parametrize("profile", [b"no profile", swapped_profile()[:200], b"\0" * 300])
def test_a_damaged_profile_is_told_and_the_colours_stay(tmp_path: Path, profile: bytes) -> None:
    path = tmp_path / "a.png"
    drawing(3).save(path, icc_profile=profile)
    assert load_picture(path).tobytes() == drawing(3).tobytes()
    (problem,), _ = check_pictures(tmp_path, [path])
    assert (problem.level, "profile" in problem.problem) == ("warning", True)


def test_a_profile_of_another_kind_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (80, 80), 77).save(path, icc_profile=swapped_profile())
    assert load_picture(path).getpixel((4, 4)) == (77, 77, 77)


def test_what_nobody_can_see_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGBA", (80, 80), (9, 9, 9, 0)).save(path)
    with pytest.raises(InputError, match="wholly transparent"):
        load_picture(path)


def test_damaged_exif_turns_nothing_and_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    drawing(3).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert load_picture(path).size == (80, 80)


def test_a_text_chunk_that_grows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    info = PngImagePlugin.PngInfo()
    info.add(b"iTXt", b"x\0\1\0\0\0" + zlib.compress(bytes(80 << 20)))
    drawing(3).save(path, pnginfo=info)
    with pytest.raises(InputError, match="cannot be decoded"):
        load_picture(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_is_known_by_its_first_bytes(kind: str) -> None:
    if kind == "HEIF":
        assert ("HEIC" in what_it_is(b"\0\0\0\x18ftypheic" + bytes(50)).problem) != reads_heic()
        return
    out = io.BytesIO()
    drawing(1).save(out, kind)
    assert what_it_is(out.getvalue()[:64]).plugin == kind
