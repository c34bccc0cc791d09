"""The chat in a terminal: several characters at one table, commands, saved conversations, Ctrl-C."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import tiny_model

from charforge.bases.base import Base
from charforge.character import Character, read_character
from charforge.chat.conversation import Conversation, reply_of
from charforge.chat.group import Group, Line
from charforge.chat.logs import Loaded, load_conversation, save_conversation
from charforge.chat.messages import Message
from charforge.chat.session import Session
from charforge.cli.terminal import Terminal, command_names, one_turn, open_picture, stopping, typed_lines
from charforge.errors import InputError
from charforge.settings import ChatSettings

WREN = replace(
    read_character(Path(__file__).parent.parent / "examples" / "wren"), persona="", voice="", class_noun="character"
)
BO = replace(WREN, name="Bo", opening="")


def group(*characters: Character, **changes: object) -> Group:
    base = Base("tiny", tiny_model(), "0" * 64, "float32")
    chat = ChatSettings(**({"max_tokens": 5} | changes))  # type: ignore[arg-type]
    return Group.of([Session(base, character, chat) for character in characters or (WREN,)], pictures="never")


def run(terminal: Terminal, *typed: str) -> None:
    lines = iter(typed)

    def read() -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    terminal.run(read)


def test_a_conversation_from_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(group(), tmp_path, seed=3)
    run(terminal, "Is it in a forest ?", "", "Where is it ?", "/quit", "never said")
    said = capsys.readouterr()
    assert [line.speaker for line in terminal.group.lines] == [None, "Wren", None, "Wren"]
    assert said.out.count("Wren: ") >= 2 and "/help" in said.err
    again = Terminal(group(), tmp_path, seed=3)
    run(again, "Is it in a forest ?", "Where is it ?")
    assert again.group.lines == terminal.group.lines


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(group(), tmp_path)
    run(
        terminal,
        "Is it ?",
        "/retry",
        "/edit Yes .",
        "/go",
        "/who",
        "/pictures always",
        "/seed 9",
        "/persona a keeper .",
    )
    assert [line.speaker for line in terminal.group.lines] == [None, "Wren", "Wren"]
    assert terminal.group.lines[1].text == "Yes ." and terminal.seed == 9 and terminal.turn == 0
    told = capsys.readouterr().err
    assert "Next: Wren" in told and "You are talking to a keeper ." in told
    run(terminal, "/draw on a beach", "In a forest")
    assert len(list(tmp_path.glob("wren-*.png"))) == 2, "one drawn, one that every reply now comes with"


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("/dance", "no command /dance"), ("/retry", "no answer yet"), ("/edit x", "nothing has been said"),
        ("/draw", "say what to draw"), ("/seed x", "whole number"), ("/pictures often", "choose one"),
        ("/who Ann", "there is no Ann here: Wren"), ("/image nowhere.png", "cannot be read as a picture"),
        ("/load nowhere.jsonl", "cannot be read"), ("/save", "nothing has been said"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_and_the_evening_goes_on(
    typed: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal(group(), tmp_path)
    run(terminal, typed, "Is it ?")
    assert problem in capsys.readouterr().err and len(terminal.group.lines) == 2


def test_a_file_that_cannot_be_written_and_a_seed_that_cannot_be_end_no_conversation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    terminal = Terminal(group(), tmp_path)
    run(terminal, "Is it ?", f"/save {tmp_path / 'file' / 'x.jsonl'}", "/seed 99999999999999999999999999", "Where ?")
    assert [line.speaker for line in terminal.group.lines] == [None, "Wren", None, "Wren"]
    said = capsys.readouterr().err
    assert str(tmp_path / "file") in said and "give a seed between" in said and terminal.seed == 0


def test_a_conversation_is_saved_over_no_file_but_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, other = tmp_path / "own.jsonl", tmp_path / "other.jsonl"
    other.write_text("someone's")
    terminal = Terminal(group(), tmp_path)
    run(terminal, "Is it ?", f"/save {own}", f"/save {other}", "Where ?", f"/save {own}")
    assert other.read_text() == "someone's" and "exists and is no file of this conversation" in capsys.readouterr().err
    assert len(own.read_text().splitlines()) == 5, "a header and two exchanges"
    later = Terminal(group(), tmp_path)
    run(later, "Is it ?", f"/save {own}", f"/load {own}", "Is it ?", f"/save {own}")
    assert len(own.read_text().splitlines()) == 7


def test_words_are_there_before_their_picture_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    (session,) = (conversation.session for conversation in group().conversations.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charforge.cli.terminal.Conversation", lambda one: Conversation(one, "always"))
        with pytest.raises((OSError, InputError)):
            one_turn(session, "Is it ?", 1, tmp_path / "file", as_json=False)
    assert capsys.readouterr().out.strip() == reply_of(Conversation(session, "never").say("Is it ?", 1)).text


def test_a_picture_goes_with_the_next_message(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 10), (255, 0, 0, 128)).save(tmp_path / "red.png")
    terminal = Terminal(group(), tmp_path)
    run(terminal, f"/image {tmp_path / 'red.png'}", "Is it red ?", "Is it ?")
    assert [len(line.images) for line in terminal.group.lines] == [1, 0, 0, 0]
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(InputError, match="cannot be read as a picture"):
        open_picture(tmp_path / "no.png")


def test_control_c_stops_the_sentence_and_not_the_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal(group(max_tokens=400, temperature=0, repetition_penalty=1.0), tmp_path)
    conversation = terminal.group.conversations["Wren"]
    words, model = [], type(conversation.session.base.model)
    plain = model.words

    def counted(self, tokens):
        words.append(tokens)
        if len(words) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, tokens)

    monkeypatch.setattr(model, "words", counted)
    run(terminal, "Is it ?", "Where ?")
    assert len(words) > 3 and len(terminal.group.lines) == 4
    before = signal.getsignal(signal.SIGINT)
    with stopping(lambda: None):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_whoever_is_named_speaks_and_else_who_was_silent_longest() -> None:
    table = group(WREN, BO)
    assert table.say("Is it , bo ?", 1).speaker == "Bo"
    list(table.speak("Bo", 1).events)
    assert table.say("Is it ?", 1).speaker == "Wren"
    list(table.speak("Wren", 1).events)
    assert table.next_speaker() == "Bo"
    assert table.say("Wren , is it bobo ?", 1).speaker == "Wren"


def test_each_reads_the_others_as_people_who_talk_to_it() -> None:
    table = group(WREN, BO)
    table.lines = [Line(None, "Hi"), Line("Bo", "Woof.\n[picture: Bo]"), Line("Wren", "Hello"), Line(None, "Who ?")]
    assert table.view("Wren") == [
        Message("user", "Hi\nBo: Woof."), Message("assistant", "Hello"), Message("user", "Who ?")
    ]  # fmt: skip
    assert table.view("Bo") == [
        Message("user", "Hi"), Message("assistant", "Woof.\n[picture: Bo]"), Message("user", "Wren: Hello\nWho ?")
    ]  # fmt: skip


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="same name"):
        group(WREN, WREN)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda t: t.strip())


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([None, "Wren", "Bo"]), TEXTS), min_size=1, max_size=6))
def test_what_was_saved_is_read_back(tmp_path_factory: pytest.TempPathFactory, said: list) -> None:
    file = tmp_path_factory.mktemp("saved") / "talk.jsonl"
    lines = [Line(speaker, text) for speaker, text in said]
    save_conversation(file, lines, ["Wren", "Bo"])
    assert [(line.speaker, line.shown) for line in load_conversation(file, ["Wren", "Bo"]).lines] == [
        (line.speaker, line.shown) for line in lines
    ]


def test_a_saved_conversation_is_what_sillytavern_writes_and_keeps_plans_and_pictures(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 8), "red")
    lines = [Line(None, "Show me"), Line("Wren", "Here.\n[picture: Wren, on a beach]", picture=red)]
    save_conversation(tmp_path / "talk.jsonl", lines, ["Wren"])
    header, first, second = (json.loads(row) for row in (tmp_path / "talk.jsonl").read_text("utf-8").splitlines())
    assert {"user_name", "character_name", "create_date"} <= set(header)
    assert (first["is_user"], first["mes"]) == (True, "Show me") and second["mes"] == "Here."
    assert (tmp_path / second["extra"]["image"]).is_file()
    loaded = load_conversation(tmp_path / "talk.jsonl", ["Wren"])
    (_, back) = loaded.lines
    assert back.picture is not None and back.picture.getpixel((4, 4)) == (255, 0, 0) and loaded.left_out == 0
    assert back.text == lines[1].text
    second["mes"] = "Changed by hand."
    (tmp_path / "edited.jsonl").write_text(json.dumps(second))
    assert load_conversation(tmp_path / "edited.jsonl", ["Wren"]) == Loaded([Line("Wren", "Changed by hand.")], 1)
    hidden = {"name": "Wren", "mes": "", "is_system": True, "extra": {"image": "drawn.png"}}
    foreign = [{"mes": "Hi", "is_user": True}, {"name": "Somebody", "mes": "Ho"}, {"no": "message"}, hidden]
    (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, foreign)))
    assert load_conversation(tmp_path / "other.jsonl", ["Wren"]).lines == [Line(None, "Hi"), Line("Wren", "Ho")]


def test_pictures_are_read_from_the_file_and_from_its_own_folder_alone(tmp_path: Path) -> None:
    held = io.BytesIO()
    Image.new("RGB", (3000, 30), "blue").save(held, "PNG")
    (tmp_path / "talk").mkdir()
    (tmp_path / "talk" / "in.png").write_bytes(held.getvalue())
    (tmp_path / "beside.png").write_bytes(held.getvalue())
    within = "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()
    elsewhere = ["talk/../beside.png", str(tmp_path / "beside.png"), "data:image/png;base64,AAAA", "http://a/b.png"]
    images = {"charforge": {"images": [within, "talk/in.png", *elsewhere]}}
    rows = [
        {"mes": "Look", "is_user": True, "extra": images},
        {"mes": "Ah", "name": "Wren", "extra": {"image": within}},
    ]
    (tmp_path / "talk.jsonl").write_text("\n".join(map(json.dumps, rows)))
    loaded = load_conversation(tmp_path / "talk.jsonl", ["Wren"])
    said, answer = loaded.lines
    assert [image.size for image in said.images] == [(1024, 10)] * 2 and loaded.left_out == len(elsewhere)
    assert answer.picture is not None and answer.picture.getpixel((0, 0)) == (0, 0, 255)


def test_several_pictures_of_a_message_are_saved_and_read_back(tmp_path: Path) -> None:
    colours = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    save_conversation(tmp_path / "talk.jsonl", [Line(None, "Both", tuple(colours))], ["Wren"])
    (back,) = load_conversation(tmp_path / "talk.jsonl", ["Wren"]).lines
    assert [image.getpixel((0, 0)) for image in back.images] == [(255, 0, 0), (0, 255, 0)]


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "[1, 2]", '{"mes": 3}'])
def test_what_is_no_conversation_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "talk.jsonl").write_text(content)
    with pytest.raises(InputError, match=r"talk\.jsonl"):
        load_conversation(tmp_path / "talk.jsonl", ["Wren"])


def test_every_command_is_in_the_help_and_a_pipe_needs_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"/help", "/retry", "/save", "/quit"} - {"/help"} <= set(command_names())
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    assert typed_lines([])() == "hello"
