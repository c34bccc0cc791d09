"""Broken and hostile folders, each with the line it gets. Nothing in them is changed, nothing ends in a traceback."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from folders import dialogue_line, drawing, make_folder
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from charforge.cli.main import app

Change = Callable[[Path], object]


def replace(file: str, content: bytes | str) -> Change:
    def change(folder: Path) -> None:
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def remove(file: str) -> Change:
    return lambda folder: (folder / file).unlink()


def edit(file: str, old: str, new: str) -> Change:
    return lambda folder: (folder / file).write_text((folder / file).read_text().replace(old, new))


def save(file: str, make: Callable[[], Image.Image], **options: object) -> Change:
    return lambda folder: make().save(folder / file, **options)


def link(file: str, target: str) -> Change:
    def change(folder: Path) -> None:
        path = folder / file
        if path.is_dir():
            path.rename(folder.parent / "elsewhere")
        else:
            path.unlink(missing_ok=True)
        path.symlink_to(folder.parent / target)

    return change


def many(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def bomb() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(b"\0" * 99)]
    framed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def fine(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (96, 96, 3), np.uint8)
    return Image.fromarray(noise).resize((192, 192), Image.Resampling.NEAREST)


def alike(folder: Path) -> None:
    for number in range(1, 11):
        image = fine(1)
        image.putpixel((number, 3), (255, 0, 0))
        image.save(folder / "images" / f"{number:02d}.png")


def dialogues(*lines: str) -> Change:
    return replace("dialogues.jsonl", "\n".join(lines))


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def gone(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def emptied(folder: Path) -> None:
    for number in range(1, 11):
        (folder / "images" / f"{number:02d}.png").unlink()
        (folder / "images" / f"{number:02d}.txt").unlink()


SAME = [dialogue_line(f"Question number {n}, and what about it?", "Always the same words, beep.") for n in range(12)]
# name: (change, file, piece of the problem, piece of the remedy, is it an error)
CASES: dict[str, tuple[Change, str, str, str, bool]] = {
    "empty folder": (gone, "", "has no character.md", "charforge new", True),
    "no character.md": (remove("character.md"), "", "no character card", "charforge new", True),
    "empty character.md": (replace("character.md", ""), "character.md", "has no name", "name:", True),
    "open front matter": (replace("character.md", "---\nname: Pip\n"), "character.md", "never ends", "---", True),
    "front matter is a list": (replace("character.md", "---\n- a\n---\n"), "character.md", "without keys", "key: value", True),
    "yaml bomb": (
        replace("character.md", "---\na: &a [x,x]\nb: &b [*a,*a]\nname: *b\n---\n"), "character.md", "a list or table under 'name'", "plain text", True,
    ),
    "unknown key": (edit("character.md", "author:", "auther:"), "character.md", "'auther'", "did you mean 'author'", True),
    "utf-16": (lambda f: (f / "character.md").write_text((f / "character.md").read_text(), "utf-16"), "character.md", "read as utf-16", "save the file", False),
    "latin-1": (replace("facts.md", b"- caf\xe9\n"), "facts.md:1", "read as cp1252", "save the file", False),
    "no text at all": (replace("facts.md", b"- a\x01\xff\xfe\x80\n"), "facts.md", "not UTF-8", "save the file", True),
    "nul bytes": (replace("facts.md", b"- a\n- b\0c\n"), "facts.md:2", "is UTF-8 with a zero byte (NUL) in this line", "from a text editor", True),
    "a tail of nul bytes": (replace("facts.md", b"- a\n" + bytes(99)), "facts.md:2", "with 99 zero bytes (NUL), the first in this line", "from a text editor", True),
    "a program": (replace("facts.md", b"\x7fELF\0\0\xff\xfe\x80" * 30), "facts.md", "holds zero bytes, as programs", "save its text", True),
    "a table of names": (edit("character.md", "author:", "aliases: {a: b}\nauthor:"), "character.md", "list or table under 'aliases'", "commas between", True),
    "a list of sentences": (edit("character.md", "author:", "voice: [a, b]\nauthor:"), "character.md", "list or table under 'voice'", "plain text", True),
    "nine megabytes": (replace("facts.md", b"- a\n" * 2_400_000), "facts.md", "larger than 8 MB", "keep the parts", True),
    "no images": (many(emptied, lambda f: (f / "images").rmdir()), "images", "is missing", "images/", True),
    "images is a file": (many(emptied, lambda f: (f / "images").rmdir(), replace("images", "x")), "images", "is missing", "images/", True),
    "no pictures": (emptied, "images", "has no pictures", "add pictures", True),
    "images leads outside": (link("images", "elsewhere"), "images", "leads outside", "copy the pictures", True),
    "picture leads outside": (
        many(lambda f: drawing(3).save(f.parent / "x.png"), link("images/01.png", "x.png")), "images/01.png", "leads outside", "copy", True,
    ),
    "picture leads nowhere": (link("images/01.png", "nothing.png"), "images/01.png", "leads nowhere", "replace the link", True),
    "a folder named 01.png": (
        many(remove("images/01.png"), lambda f: (f / "images/01.png").mkdir()), "images/01.png", "not a plain file", "replace it", True,
    ),
    "a pipe": (many(remove("images/01.png"), lambda f: os.mkfifo(f / "images/01.png")), "images/01.png", "not a plain file", "replace it", True),
    "garbage": (replace("images/01.png", b"\0" * 900), "images/01.png", "is not a PNG", "replace or remove", True),
    "zero bytes": (replace("images/01.png", b""), "images/01.png", "is empty", "replace or remove", True),
    "torn": (replace("images/01.png", encoded(fine(1), "PNG")[:2000]), "images/01.png", "is cut off", "copy it again", True),
    "bomb": (replace("images/01.png", bomb()), "images/01.png", "million pixels", "replace or remove", True),
    "gif named png": (replace("images/01.png", encoded(drawing(1), "GIF")), "images/01.png", "is a GIF", "01.gif", False),
    "animated": (
        many(remove("images/01.png"), save("images/01.webp", lambda: drawing(1), save_all=True, append_images=[drawing(5)])), "images/01.webp", "animated", "one frame", True,
    ),
    "jpeg named png": (replace("images/01.png", encoded(drawing(1), "JPEG")), "images/01.png", "is a JPEG", "01.jpg", False),
    "a format that is not read": (replace("images/11.psd", b"8BPS" + bytes(90)), "images/11.psd", "not read", "save it as", False),
    "tiny": (save("images/01.png", lambda: drawing(1, 16)), "images/01.png", "is tiny", "at least 64", True),
    "sixteen bit": (
        save("images/01.png", lambda: Image.fromarray(np.arange(6400, dtype=np.uint16).reshape(80, 80))), "images/01.png", "16 bits", "nothing to do", False,
    ),
    "cmyk": (
        many(remove("images/01.png"), save("images/01.jpg", lambda: drawing(1).convert("CMYK"))), "images/01.jpg", "CMYK", "nothing to do", False,
    ),
    "see-through": (save("images/01.png", lambda: Image.new("RGBA", (80, 80), (9, 9, 9, 40))), "images/01.png", "transparent", "nothing to do", False),
    "turned": (save("images/01.png", lambda: drawing(1), exif=turned()), "images/01.png", "turned by its EXIF", "nothing to do", False),
    "same pixels": (
        many(remove("images/02.png"), save("images/02.webp", lambda: drawing(1), lossless=True)), "images/02.webp", "same picture as 01.png", "remove one", True,
    ),
    "same name twice": (save("images/01.webp", lambda: drawing(30)), "images/01.webp", "same name as", "rename", True),
    "nearly the same": (many(save("images/01.png", lambda: fine(7)), save("images/02.png", lambda: fine(7).filter(ImageFilter.GaussianBlur(0.4)))), "images/01.png", "nearly the same as", "another pose", False),
    "all alike": (alike, "images", "nearly alike", "add other places", False),
    "blurred": (save("images/01.png", lambda: fine(2).resize((24, 24)).resize((192, 192)).filter(ImageFilter.GaussianBlur(8))), "images/01.png", "is blurred", "sharper", False),
    "black": (save("images/01.png", lambda: Image.new("RGB", (80, 80))), "images/01.png", "nearly black", "brighter", False),
    "very long": (save("images/01.png", lambda: fine(3).resize((400, 90))), "images/01.png", "very long", "crop it", False),
    "caption without picture": (replace("images/99.txt", "x"), "images/99.txt", "caption without a picture", "add or remove", False),
    "not json": (dialogues("{bad"), "dialogues.jsonl:1", "is not JSON", "one JSON object a line", True),
    "deep json": (dialogues("[" * 60_000), "dialogues.jsonl:1", "is not JSON", "one JSON object a line", True),
    "no turns": (dialogues("{}"), "dialogues.jsonl:1", 'no list "turns"', "turns", True),
    "one-sided": (dialogues('{"turns": [{"role": "user", "text": "Hi"}]}'), "dialogues.jsonl:1", "one-sided", "both sides", True),
    "empty words": (dialogues('{"turns": [{"role": "user", "text": " "}, {"role": "character", "text": ""}]}'), "dialogues.jsonl:1", "is empty", "both sides", True),
    "strange role": (dialogues('{"turns": [{"role": "narrator", "text": "x"}]}'), "dialogues.jsonl:1", "'narrator'", '"user"', True),
    "picture nobody sent": (dialogues(dialogue_line("Hm?", "Look, beep.", "3x")), "dialogues.jsonl:1", "nobody sent", "", True),
    "few dialogues": (dialogues(dialogue_line("Hm?", "Pip has the kettle on, beep.")), "dialogues", "only 1", "write about 30", False),
    "one-word replies": (dialogues(*[dialogue_line(f"And {n}?", f"Beep {n}.") for n in range(12)]), "dialogues", "3 words or fewer", "sentences", False),
    "repeated replies": (dialogues(*SAME), "dialogues", "said more than once", "replace them", False),
    "out of character": (dialogues(*SAME, dialogue_line("Who?", "As an AI language model I cannot say.")), "dialogues.jsonl:13", "out of character", "rewrite it", False),
    "a name nobody says": (edit("character.md", "name: Pip", "name: Zebediah"), "character.md", "never occurs", "use it", False),
    "broken toml": (replace("charforge.toml", "steps = "), "charforge.toml", "not valid TOML", "", True),
    "unknown setting": (replace("charforge.toml", "[sft]\nstepz = 3\n"), "charforge.toml", "sft.stepz", "charforge settings", True),
    "toml in utf-16": (lambda f: (f / "charforge.toml").write_text("a = 1", "utf-16"), "charforge.toml", "not UTF-8", "save the file", True),
    "broken card": (replace("card.png", encoded(drawing(1), "PNG")), "card.png", "without a character card", "export it again", True),
    "zip without card": (replace("x.charx", b"PK\x05\x06" + b"\0" * 18), "x.charx", "not JSON|zip", "export it again", True),
    "broken lorebook": (replace("lorebook.json", "[1]"), "lorebook.json", "no entries", "export it again", True),
    "markup in a name": (save("images/[red]x[.png", lambda: drawing(1, 16)), "images/[red]x[.png", "is tiny", "at least", True),
}  # fmt: skip


def snapshot(folder: Path) -> list[tuple[str, int, int]]:
    return [(str(p), p.lstat().st_size, p.lstat().st_mtime_ns) for p in sorted(folder.rglob("*"))]


@pytest.mark.parametrize("case", CASES)
def test_a_broken_folder_gets_its_line(tmp_path: Path, case: str) -> None:
    change, file, problem, remedy, is_error = CASES[case]
    folder = make_folder(tmp_path / "pip")
    change(folder)
    before = snapshot(folder)
    result = CliRunner().invoke(app, ["check", "--no-cost", str(folder), "--json"])
    told = json.loads(result.stdout)
    words = problem.split("|")
    lines = [
        p
        for p in told["problems"]
        if (not file or p["file"].startswith(file)) and any(w in p["problem"] for w in words) and remedy in p["remedy"]
    ]
    assert lines, told["problems"]
    assert lines[0]["level"] == ("error" if is_error else "warning")
    assert result.exit_code == (1 if is_error else 0) and told["ok"] == (not is_error)
    assert all("\n" not in p["problem"] + p["remedy"] for p in told["problems"])
    assert snapshot(folder) == before


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_what_is_no_folder_is_told(tmp_path: Path, what: str) -> None:
    path = tmp_path / "it"
    if what == "a file":
        path.write_text("x")
    result = CliRunner().invoke(app, ["check", "--no-cost", str(path)])
    assert isinstance(result.exception, SystemExit) and result.exit_code == 1
    assert "not ready to train" in result.output


def test_a_pipe_beside_the_files_is_not_waited_for(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    os.mkfifo(folder / "x.png")
    command = [sys.executable, "-m", "charforge.cli.main", "check", "--no-cost", str(folder)]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def test_a_preset_that_is_not_there_is_not_blamed_on_the_folder(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(make_folder(tmp_path / "pip")), "--preset", "nowhere"])
    assert "nowhere" in str(result.exception) and "charforge.toml" not in result.output


def test_the_table_shows_names_as_they_are(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    drawing(1, 16).save(folder / "images" / "[red]x[.png")
    result = CliRunner().invoke(app, ["check", "--no-cost", str(folder)])
    assert result.exit_code == 1 and "[red]x[" in result.output.replace("\n", "")


def test_new_folders_lack_nothing_but_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "ann"
    assert CliRunner().invoke(app, ["new", str(folder), "--name", 'Ann "A": x', "--class", "No"]).exit_code == 0
    for number in range(1, 11):
        drawing(number).save(folder / "images" / f"{number:02d}.png")
    told = json.loads(CliRunner().invoke(app, ["check", str(folder), "--json"]).stdout)
    assert told["ok"] and told["found"]["name"] == 'Ann "A": x' and told["found"]["class"] == "No"
    assert told["cost"]["gpu_peak_gib"] == 0.0 and told["cost"]["hours"] > 0
    assert "is not empty" in str(CliRunner().invoke(app, ["new", str(folder)]).exception)


def test_the_voice_is_heard_and_the_figures_are_told(tmp_path: Path) -> None:
    told = json.loads(
        CliRunner().invoke(app, ["check", "--no-cost", str(make_folder(tmp_path / "pip")), "--json"]).stdout
    )
    assert told["dialogues"]["voice_words"][0] == "beep" and told["dialogues"]["dialogues"] == 12
    assert [one["name"] for one in told["pictures"]] == [f"{n:02d}" for n in range(1, 11)]
    assert all(0 < one["brightness"] < 1 and 0 < one["difference"] < 1 for one in told["pictures"])
