"""Valid files from which the fuzzer starts: one of every kind that is read, and the cases that people reported."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from bundle_parts import RANK, A, B, adapter_bytes, manifest, png, safetensors
from card_files import card_charx, card_json, card_png
from folders import CHARACTER_MD, FACTS, REPLIES, dialogue_line, drawing
from mutations import rehashed, zipped
from PIL import Image, ImageCms

from charforge.bundle.manifest import ADAPTER, ADAPTER_CONFIG, AVATAR, CARD, MANIFEST, README
from charforge.resources import preset_path

CASES = Path(__file__).parent / "cases"
TEXT_SUFFIXES = (".txt", ".md", ".json", ".jsonl", ".caption", ".charx", ".csv")


@dataclass(frozen=True)
class Seed:
    """A valid file. ``target`` says who reads it; ``file`` where it lies; ``without`` what it takes the place of."""

    target: str
    file: str
    content: bytes
    without: tuple[str, ...] = ()


@cache
def _pictures() -> list[tuple[str, bytes]]:
    return [(f"{number:02d}.png", png_of(drawing(number, 64))) for number in range(1, 5)]


def png_of(image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def base_folder(folder: Path, without: tuple[str, ...]) -> None:
    """A small folder that is right, less the files that are tried in their place."""
    files = {
        "character.md": CHARACTER_MD.encode(),
        "facts.md": FACTS.encode(),
        "dialogues.jsonl": _dialogues(),
        **{f"images/{name}": content for name, content in _pictures()},
        "images/01.txt": b"smiling, in a workshop",
    }
    for name, content in files.items():
        if name not in without:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


def _dialogues() -> bytes:
    return "\n".join(dialogue_line(asked, said) for asked, said, _ in REPLIES).encode()


def _card() -> dict[str, object]:
    entry = {"keys": ["tea"], "content": "Pip never drinks coffee. The cart has three wheels.", "enabled": True,
             "insertion_order": 1, "extensions": {}, "use_regex": False, "name": "Tea"}  # fmt: skip
    data = {
        "name": "Pip", "description": "{{char}} is a clay robot.\nAge: nine", "personality": "kind", "scenario": "A harbour.",
        "first_mes": "*waves* Beep, {{user}}!", "alternate_greetings": ["Hm?"], "creator": "me", "tags": ["robot"],
        "mes_example": "<START>\n{{user}}: Tea?\n{{char}}: Fog tea, beep.\n<START>\n{{user}}: Rain?\n{{char}}: Soon.",
        "character_book": {"name": "Harbour", "extensions": {}, "entries": [entry, {**entry, "keys": []}]},
        "extensions": {"depth_prompt": {"prompt": "x"}}, "creator_notes": "", "system_prompt": "", "character_version": "1",
        "post_history_instructions": "",
    }  # fmt: skip
    return {"spec": "chara_card_v2", "spec_version": "2.0", "data": data}


def _pictures_of_all_kinds() -> list[tuple[str, bytes]]:
    made: list[tuple[str, bytes]] = []
    first, second = drawing(7, 64), drawing(9, 64)
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    def save(name: str, image: Image.Image, kind: str, **options: object) -> None:
        out = io.BytesIO()
        image.save(out, kind, **options)
        made.append((name, out.getvalue()))

    save("a.jpg", first, "JPEG", exif=exif, icc_profile=profile)
    save("b.jpg", first.convert("CMYK"), "JPEG")
    save("c.png", first.quantize(16), "PNG", transparency=0)
    save("d.png", first.convert("RGBA"), "PNG", icc_profile=profile)
    save("e.png", Image.new("I;16", (64, 64), 900), "PNG")
    save("f.webp", first, "WEBP", exif=exif)
    save("g.webp", first, "WEBP", save_all=True, append_images=[second])
    save("h.gif", first, "GIF", save_all=True, append_images=[first])
    save("i.png", first, "PNG", save_all=True, append_images=[second], default_image=True)
    save("j.bmp", first, "BMP")
    save("k.tif", first, "TIFF", save_all=True, append_images=[second], compression="tiff_lzw")
    save("l.avif", first, "AVIF")
    save("m.jpg", first, "MPO", save_all=True, append_images=[second])
    made.append(("n.heic", b"\0\0\0\x18ftypheic" + bytes(60)))
    return made


def _bundle() -> bytes:
    members = [
        (CARD, card_json(_card())), (AVATAR, png()), (ADAPTER, adapter_bytes()), (README, b"# Pip"),
        (ADAPTER_CONFIG, json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 4}).encode()),
        (MANIFEST, manifest().model_dump_json().encode()),
    ]  # fmt: skip
    return zipped(rehashed(members), random.Random(0))


def _halves() -> bytes:
    """An adapter in fp16 of two layers."""
    names = [name.replace("layers.0", f"layers.{layer}") for layer in range(2) for name in (A, B)]
    shapes = [(RANK, 8), (8, RANK)] * 2
    return safetensors({name: np.full(shape, 0.5, "<f2") for name, shape in zip(names, shapes, strict=True)}, "F16")


def _pair_lines() -> bytes:
    parts = [
        {"role": "system", "text": "You are Pip.", "loss": False}, {"role": "user", "text": "Tea?", "loss": False},
        {"role": "assistant", "text": "Beep.", "loss": True}, {"image": "01", "use": "draw", "loss": True},
    ]  # fmt: skip
    rows = [{"id": f"vqa-{n}", "task": "vqa", "split": "train", "origin": "x", "parts": parts} for n in range(3)]
    return "\n".join(map(json.dumps, rows)).encode()


def _chat() -> bytes:
    rows = [
        {"user_name": "You", "character_name": "Pip", "create_date": "2024-5-1", "chat_metadata": {}},
        {
            "name": "Pip",
            "is_user": False,
            "is_system": False,
            "mes": "Beep.",
            "swipes": ["Beep.", "Hm."],
            "swipe_id": 0,
        },
        {"name": "You", "is_user": True, "mes": "Tea?", "extra": {"image": "01.png"}},
        {"name": "Pip", "is_user": False, "mes": "<think>hm</think>Fog tea, beep.", "extra": {"reasoning": "hm"}},
        {"name": "Gull", "is_user": False, "mes": "Kraa."},
    ]
    return "\n".join(map(json.dumps, rows)).encode()


def _polyglot() -> bytes:
    out = io.BytesIO()
    drawing(3, 64).save(out, "JPEG")
    return out.getvalue() + card_charx(_card(), {"assets/x.png": png()})


def _text_chunk_card() -> bytes:
    """A card in a compressed international text chunk."""
    body = b"iTXtccv3\0\1\0\0\0" + zlib.compress(base64.b64encode(json.dumps(_card()).encode()))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    raw = png_of(drawing(5, 64))
    return raw[:-12] + chunk + raw[-12:]


def _seeds() -> list[Seed]:
    card, chat = _card(), _chat()
    messages = json.dumps({"messages": [{"role": "system", "content": "Pip is kind."}, {"role": "user", "content": "Hi"},
                                        {"role": "assistant", "content": [{"type": "text", "text": "Beep."}]}]})  # fmt: skip
    gpt = json.dumps({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Beep."}]})
    alpaca = json.dumps([{"instruction": "Say hi", "input": "", "output": "Beep."}])
    world = json.dumps(
        {"entries": {"0": {"uid": 0, "key": ["Pip"], "content": "Pip is nine.", "disable": False, "comment": "Age"}}}
    )
    novelai = json.dumps(
        {"lorebookVersion": 3, "entries": [{"text": "Pip is nine.", "displayName": "Pip", "keys": ["pip"]}]}
    )
    agnai = json.dumps({"kind": "character", "name": "Pip", "persona": {"kind": "text", "attributes": {"text": ["Kind."]}},
                        "greeting": "Beep.", "sampleChat": "<START>\n{{user}}: Hi\n{{char}}: Beep."})  # fmt: skip
    log = "User: Hello there\nPip: Beep, and *waves*.\n\nUser: Tea? [image: 01]\nPip: One cup.\n---\nYou: Rain?\nPip: Soon.\n"
    replaces = ("dialogues.jsonl",)
    made = [
        Seed("folder", "character.md", CHARACTER_MD.encode(), ("character.md",)),
        Seed("folder", "facts.md", FACTS.encode(), ("facts.md",)),
        Seed("folder", "dialogues.jsonl", _dialogues(), replaces),
        Seed("folder", "dialogues.md", log.encode(), replaces),
        Seed("folder", "chats/a.txt", log.encode(), replaces),
        Seed("folder", "chats/a.jsonl", chat, replaces),
        Seed("folder", "Pip - 2024.jsonl", chat),
        Seed("folder", "dialogues.jsonl", messages.encode(), replaces),
        Seed("folder", "dialogues.jsonl", gpt.encode(), replaces),
        Seed("folder", "dialogues.json", alpaca.encode(), replaces),
        Seed("folder", "lorebook.json", world.encode()),
        Seed("folder", "Harbour.json", novelai.encode()),
        Seed("folder", "card.json", agnai.encode(), ("character.md",)),
        Seed("folder", "card.json", card_json(card), ("character.md", "dialogues.jsonl")),
        Seed("folder", "card.png", card_png(card, png_of(drawing(6, 64))), ("character.md",)),
        Seed("folder", "Pip.charx", card_charx(card, {"assets/x.png": png()}), ("character.md",)),
        Seed("folder", "images/01.txt", b"smiling, wearing a hat, in a forest"),
        Seed("folder", "images/metadata.jsonl", b'{"file_name": "02.png", "text": "asleep"}\n{"file_name": "03.png"}'),
        Seed("folder", "images/metadata.csv", b"file_name,text\n02.png,asleep\n"),
        Seed("folder", "charforge.toml", b"[sft]\nsteps = 3\n"),
        Seed("folder", "annotation.json", json.dumps({"description": "Kind.", "opening": "Beep.", "scenes": [
            [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Beep.", "image": "1"}]]}).encode(),
            ("character.md", "dialogues.jsonl")),
        Seed("card", "a.json", card_json(card)), Seed("card", "a.json", agnai.encode()),
        Seed("card", "a.png", card_png(card, png_of(drawing(6, 64)))), Seed("card", "b.png", _text_chunk_card()),
        Seed("card", "a.charx", card_charx(card, {"assets/x.png": png()})), Seed("card", "b.charx", _polyglot()),
        Seed("bundle", "a.charx", _bundle()), Seed("bundle", "b.charx", _bundle()),
        Seed("bundle", "c.charx", card_charx(card, {})),
        Seed("weights", "a.safetensors", adapter_bytes()), Seed("weights", "b.safetensors", _halves()),
        Seed("settings", "a.toml", preset_path("mini").read_bytes()),
        Seed("pairs", "a.jsonl", _pair_lines()),
    ]  # fmt: skip
    made += [Seed("picture", name, content) for name, content in _pictures_of_all_kinds()]
    made += [Seed("folder", f"images/{name}", content) for name, content in _pictures_of_all_kinds()]
    made += [
        Seed(
            "folder", path.relative_to(case).as_posix(), path.read_bytes(), _replaced(path.relative_to(case).as_posix())
        )
        for case in sorted(CASES.iterdir())
        if case.is_dir()
        for path in sorted(case.rglob("*"))
        if path.is_file() and path.suffix.lower() in TEXT_SUFFIXES and not path.name.startswith(".")
    ]
    return made


def _replaced(file: str) -> tuple[str, ...]:
    """What a case's file stands for in the folder."""
    if file.startswith(("dialogues", "chats")):
        return ("dialogues.jsonl",)
    return ("character.md",) if file.endswith((".charx", "card.json")) else ()


SEEDS = _seeds()
