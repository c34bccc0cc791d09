"""The chat in a terminal: what is typed, what is shown. What is said is the room chat's."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from charforge.bases.drawing import DrawingProgress
from charforge.chat.conversation import Conversation, Event, Piece, reply_of
from charforge.chat.group import Group, Turn
from charforge.chat.logs import load_conversation, save_conversation
from charforge.chat.messages import Reply
from charforge.chat.session import Session
from charforge.chat.turn import Drawing
from charforge.cli.options import LARGEST_SEED
from charforge.cli.output import print_json, say
from charforge.errors import CharforgeError, InputError, from_os_error
from charforge.files import free_name, write_atomic_with
from charforge.progress import counting, waiting
from charforge.words import printable, printable_line

MOST_PIXELS = 64_000_000
HELP = """\
/image FILE     send a picture with your next message
/draw SCENE     a picture of the character that belongs to no reply
/retry          another answer            /edit TEXT   other words for what was said last
/go             the character speaks again without you
/who [NAME]     who is here; NAME speaks next
/pictures auto|always|never               /seed N      the same seed, the same answers
/persona [TEXT] what the character is told; TEXT says who you are
/save [FILE]    as JSON Lines that SillyTavern imports        /load FILE
/quit           leaves; Ctrl-C stops a sentence, Ctrl-D leaves"""


def one_turn(session: Session, text: str, seed: int, pictures: Path, as_json: bool) -> None:
    """Say one thing, print the reply, leave."""
    with waiting(f"{session.character.name} is answering"):
        reply = reply_of(Conversation(session).say(text, seed))
    if not as_json:
        # before the picture is written: a folder that cannot be written to takes no words away
        print(printable(reply.text), flush=True)
    file = save_picture(reply.image, pictures, session.character.name, seed) if reply.image else None
    if as_json:
        measured = {} if reply.likeness is None else {"likeness": reply.likeness}
        print_json({"reply": reply.text, "image": str(file) if file else None, **measured})
    elif file:
        say(f"[picture: {file}]")


@dataclass
class Terminal:
    """One evening at the terminal. ``pictures`` is the folder that drawn pictures go to."""

    group: Group
    pictures: Path
    seed: int = 0
    turn: int = 0
    images: list[Image.Image] = field(default_factory=list)
    """Waiting to be sent with the next message."""
    file: Path | None = None
    """Where this conversation lies: /save may write over it."""

    def run(self, read: Callable[[], str]) -> None:
        """Line by line from ``read`` until /quit or the end of input."""
        say(f"Talking to {' and '.join(self.group.names)}. /help shows what you can do, /quit leaves.")
        for name, conversation in self.group.conversations.items():
            if conversation.session.character.opening:
                print(printable(f"{name}: {conversation.session.character.opening}"))
        while True:
            try:
                typed = read().strip()
            except KeyboardInterrupt:
                # an empty line is begun anew
                continue
            except EOFError:
                return
            if typed == "/quit":
                return
            try:
                self.obey(typed)
            except OSError as error:
                # a disk that is full, a folder that is not to be written to: no reason to lose the conversation
                say(str(from_os_error(error)))
            except CharforgeError as error:
                say(str(error))

    def obey(self, typed: str) -> None:
        """A command, or something to say. Raises InputError for what cannot be done."""
        word, _, rest = typed.partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: say(HELP), "/image": self.add_image, "/draw": self.draw, "/retry": self.retry,
            "/again": self.retry, "/edit": self.group.edit, "/go": lambda _: self.speak(self.group.next_speaker()),
            "/who": self.who, "/pictures": self.choose_pictures, "/seed": self.set_seed, "/persona": self.persona,
            "/save": self.save, "/load": self.load,
        }  # fmt: skip
        if not typed:
            return
        if word in commands:
            commands[word](rest.strip())
        elif word.startswith("/"):
            raise InputError(f"there is no command {word}: /help lists them")
        else:
            images, self.images = self.images, []
            self.answer(lambda seed: self.group.say(typed, seed, images))

    def answer(self, begin: Callable[[int], Turn]) -> None:
        """One turn of a character, shown as it is made; Ctrl-C ends the sentence."""
        self.turn += 1
        seed = self.seed + self.turn
        turn = begin(seed)
        print(f"{printable_line(turn.speaker)}: ", end="", flush=True)
        with stopping(self.group.stop):
            reply = show_as_said(turn.events)
        if reply.image:
            self.show_picture(reply.image, turn.speaker, seed, reply.likeness)

    def speak(self, name: str) -> None:
        """``name`` speaks without having been asked."""
        self.answer(lambda seed: self.group.speak(name, seed))

    def retry(self, _: str) -> None:
        """Another answer instead of the last."""
        self.answer(self.group.retry)

    def draw(self, scene: str) -> None:
        """A picture of the one who spoke last."""
        if not scene:
            raise InputError("say what to draw: /draw on a beach, laughing")
        name = next((line.speaker for line in reversed(self.group.lines) if line.speaker), self.group.names[0])
        self.turn += 1
        with waiting("drawing"):
            image = self.group.conversations[name].draw(scene, self.seed + self.turn)
        self.show_picture(image, name, self.seed + self.turn)

    def add_image(self, path: str) -> None:
        """A picture for the next message."""
        self.images.append(open_picture(Path(path.strip("\"'")).expanduser()))
        say("It goes with your next message.")

    def who(self, name: str) -> None:
        """Who is here, or who speaks now."""
        if name:
            self.speak(self.group.known(name))
        else:
            say(f"Here: {', '.join(self.group.names)}. Next: {self.group.next_speaker()}.")

    def choose_pictures(self, choice: str) -> None:
        """When a reply comes with a picture."""
        if choice not in ("auto", "always", "never"):
            raise InputError("choose one: /pictures auto, /pictures always or /pictures never")
        for conversation in self.group.conversations.values():
            conversation.pictures = choice  # type: ignore[assignment]

    def set_seed(self, number: str) -> None:
        """From here on answers are those of this seed."""
        if not number.removeprefix("-").isdecimal():
            raise InputError("give a whole number: /seed 7")
        if len(number) > 19 or abs(int(number)) > LARGEST_SEED:
            raise InputError(f"give a seed between -{LARGEST_SEED} and {LARGEST_SEED}")
        self.seed, self.turn = int(number), 0

    def persona(self, text: str) -> None:
        """What each character is told about itself and about the user."""
        for name, conversation in self.group.conversations.items():
            conversation.user = text.rstrip(".") or conversation.user
            say(f"{name} is told: {conversation.session.prompt(conversation.user)}")

    def save(self, path: str) -> None:
        """The conversation as a file."""
        if not self.group.lines:
            raise InputError("nothing has been said yet")
        file = (
            Path(path).expanduser() if path else free_name(self.pictures, plain("-".join(self.group.names)), ".jsonl")
        )
        if file.exists() and file != self.file:
            raise InputError(f"{file} exists and is no file of this conversation: name another")
        save_conversation(file, self.group.lines, self.group.names)
        self.file = file
        say(f"saved as {file}")

    def load(self, path: str) -> None:
        """A conversation from a file takes the place of this one."""
        file = Path(path.strip("\"'")).expanduser()
        loaded = load_conversation(file, self.group.names)
        self.group.lines, self.file = loaded.lines, file
        if loaded.left_out:
            say(f"pictures that could not be read and were left out: {loaded.left_out}")
        for line in self.group.lines[-6:]:
            print(printable(f"{line.speaker or 'you'}: {line.shown}"))

    def show_picture(self, image: Image.Image, name: str, seed: int, likeness: float | None = None) -> None:
        """In the terminal where it can, and as a file whose place is told."""
        file = save_picture(image, self.pictures, name, seed)
        if sys.stdout.isatty() and sys.stdin.isatty():
            from rich.console import Console
            from textual_image.renderable import Image as Shown

            Console(file=sys.stdout).print(Shown(image, width=min(40, image.width // 8)))
        say(f"[picture: {file}]" if likeness is None else f"[picture: {file}, likeness {likeness:.2f}]")


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls ``stop`` inside the block; a second one interrupts as ever."""
    before = signal.getsignal(signal.SIGINT)

    def asked(*_: object) -> None:
        stop()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, asked)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def show_as_said(events: Iterator[Event]) -> Reply:
    """Print every piece of the reply when it is there."""
    reply: Reply | None = None
    with counting("drawing") as drawn:
        for event in events:
            if isinstance(event, Piece):
                print(printable(event.text), end="", flush=True)
            elif isinstance(event, Drawing):
                print(flush=True)
            elif isinstance(event, DrawingProgress):
                drawn(event.done, event.steps)
            else:
                reply = event.reply
    if reply is None or reply.image is None:
        print()
    assert reply is not None
    return reply


def typed_lines(commands: list[str]) -> Callable[[], str]:
    """What the user types: with history and completion at a terminal, plain lines from a pipe."""
    if not sys.stdin.isatty():
        return lambda: input("you: ")
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter

    prompt: PromptSession[str] = PromptSession(completer=WordCompleter(commands, sentence=True))
    return lambda: prompt.prompt("you: ")


def command_names() -> list[str]:
    """All commands, for completion."""
    return sorted({word for word in HELP.split() if word.startswith("/")})


def open_picture(file: Path) -> Image.Image:
    """A picture to send. Raises InputError for what is none, or larger than is looked at."""
    try:
        with Image.open(file) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(f"{file} has more than {MOST_PIXELS // 1_000_000} million pixels: make it smaller")
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise InputError(f"{file} cannot be read as a picture ({type(error).__name__}): name a PNG or JPEG") from error


def save_picture(image: Image.Image, folder: Path, name: str, seed: int) -> Path:
    """A new PNG in ``folder``; never over an existing one."""
    file = free_name(folder, plain(f"{name}-{seed}"), ".png")
    write_atomic_with(file, lambda path: image.save(path, "PNG"))
    return file


def plain(name: str) -> str:
    """A name as part of a file's name."""
    return "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in name.lower())
