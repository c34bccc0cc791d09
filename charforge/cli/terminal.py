"""The chat in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from charforge.chat.conversation import Conversation, Drawing, Event, Piece, reply_of
from charforge.chat.session import Reply, Session
from charforge.cli.output import print_json, say
from charforge.errors import InputError
from charforge.files import write_atomic_with
from charforge.progress import waiting


def one_turn(session: Session, text: str, seed: int, pictures: Path, as_json: bool) -> None:
    """Say one thing, print the reply, leave."""
    with waiting(f"{session.character.name} is answering"):
        reply = reply_of(Conversation(session).say(text, seed))
    file = _save(reply.image, pictures, session.character.name, seed) if reply.image else None
    if as_json:
        print_json({"reply": reply.text, "image": str(file) if file else None})
    else:
        print(reply.text)
        if file:
            say(f"[picture: {file}]")


def talk(session: Session, seed: int, pictures: Path) -> None:
    """Turn by turn until an empty line, /quit or end of input."""
    name, conversation = session.character.name, Conversation(session)
    say(f"Talking to {name}. /quit leaves, /again answers anew, /draw SCENE draws, an empty line leaves too.")
    if session.character.opening:
        print(f"{name}: {session.character.opening}")
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
                image = conversation.draw(text.removeprefix("/draw").strip(), seed + turn)
            say(f"[picture: {_save(image, pictures, name, seed + turn)}]")
            continue
        try:
            events = conversation.retry(seed + turn) if text == "/again" else conversation.say(text, seed + turn)
            print(f"{name}: ", end="", flush=True)
            reply = _print_as_said(events)
        except InputError as error:
            say(str(error))
            continue
        if reply.image:
            say(f"[picture: {_save(reply.image, pictures, name, seed + turn)}]")


def _print_as_said(events: Iterator[Event]) -> Reply:
    """Every piece of the reply when it is there."""
    reply: Reply | None = None
    for event in events:
        if isinstance(event, Piece):
            print(event.text, end="", flush=True)
        elif isinstance(event, Drawing):
            say("\n(drawing)")
        else:
            reply = event.reply
    print()
    assert reply is not None
    return reply


def _save(image: Image.Image, folder: Path, name: str, seed: int) -> Path:
    """A new PNG in ``folder``; never over an existing one."""
    stem = "".join(letter if letter.isalnum() else "-" for letter in name.lower())
    number = seed
    while (file := folder / f"{stem}-{number}.png").exists():
        number += 1
    write_atomic_with(file, lambda path: image.save(path, "PNG"))
    return file
