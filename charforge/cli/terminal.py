"""The chat in a terminal."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from charforge.chat.session import Session
from charforge.cli.output import print_json, say
from charforge.files import write_atomic_with
from charforge.progress import waiting
from charforge.words import printable, printable_line


def one_turn(session: Session, text: str, seed: int, pictures: Path, as_json: bool) -> None:
    """Say one thing, print the reply, leave."""
    with waiting(f"{session.character.name} is answering"):
        reply = session.say(text, seed)
    file = _save(reply.image, pictures, session.character.name, seed) if reply.image else None
    if as_json:
        print_json({"reply": reply.text, "image": str(file) if file else None})
    else:
        print(printable(reply.text))
        if file:
            say(f"[picture: {file}]")


def talk(session: Session, seed: int, pictures: Path) -> None:
    """Turn by turn until an empty line, /quit or end of input."""
    name = printable_line(session.character.name)
    say(f"Talking to {name}. /quit leaves, /again answers anew, /draw SCENE draws, an empty line leaves too.")
    if session.character.opening:
        print(printable(f"{name}: {session.character.opening}"))
    turn = 0
    while True:
        try:
            text = input("you: ").strip()
        except EOFError:
            return
        if text in ("", "/quit"):
            return
        turn += 1
        if text.startswith("/draw"):
            with waiting("drawing"):
                image = session.imagine(text.removeprefix("/draw").strip(), seed + turn)[0]
            say(f"[picture: {_save(image, pictures, name, seed + turn)}]")
            continue
        if text == "/again":
            if len(session.history) < 2:
                say("nothing to answer anew yet")
                continue
            text = session.history[-2][1]
            del session.history[-2:]
        with waiting(f"{name} is answering"):
            reply = session.say(text, seed + turn)
        print(printable(f"{name}: {reply.text}"))
        if reply.image:
            say(f"[picture: {_save(reply.image, pictures, name, seed + turn)}]")


def _save(image: Image.Image, folder: Path, name: str, seed: int) -> Path:
    """A new PNG in ``folder``; never over an existing one."""
    stem = "".join(letter if letter.isalnum() else "-" for letter in name.lower())
    number = seed
    while (file := folder / f"{stem}-{number}.png").exists():
        number += 1
    write_atomic_with(file, lambda path: image.save(path, "PNG"))
    return file
