"""What becomes of a language model's answers: of a capable one's, and of the many ways in which others go wrong.

The model is a server on this machine that plays back answers, asked over HTTP as any other.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folders import make_folder
from hypothesis import given
from hypothesis import strategies as st
from playback import Answer, capable, served

from charforge import grammar
from charforge.character import Character, read_character
from charforge.errors import MachineError
from charforge.expand import Author, Pair, expand, leaked, read_pairs, summary, write_expansion
from charforge.expand.answers import CUT_OFF, NO_JSON, WRONG_FORM, Exchange, Known, parse
from charforge.expand.asking import Request
from charforge.expand.authors import planned
from charforge.expand.borne_out import told_of
from charforge.expand.choices import has_options, new_words, with_options
from charforge.expand.endpoint import Endpoint, EndpointSettings
from charforge.expand.expansion import Expansion, scenes_file
from charforge.expand.kept import Kept
from charforge.expand.manners import bare, echoes, ill_mannered
from charforge.expand.scenes import read_scenes
from charforge.expand.sight import can_see
from charforge.expand.table import task_table
from charforge.settings import ExpandSettings, Settings

SMALL = ExpandSettings(writer="endpoint", dialogues=20, knowledge=10, looks_per_picture=5)


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Character:
    return read_character(make_folder(tmp_path_factory.mktemp("characters") / "pip"))


def writer_at(url: str, file: Path) -> Endpoint:
    settings = EndpointSettings(url, "tiny", requests_per_minute=1e6)
    return Endpoint(settings, Kept(file, "tiny"), {}, pause=lambda seconds: None)


def expanded(pip: Character, answer: Answer, tmp_path: Path, settings: ExpandSettings = SMALL) -> Expansion:
    with served(answer) as url:
        return expand(pip, author=Author("endpoint", writer_at(url, tmp_path / "written.jsonl"), settings))


def authored(expansion: Expansion, task: str = "") -> list[Pair]:
    return [pair for pair in expansion.pairs if pair.writer == "endpoint" and task in ("", pair.task)]


def test_a_capable_writer_fills_every_task(pip: Character, tmp_path: Path) -> None:
    plain = expand(pip)
    expansion = expanded(pip, capable, tmp_path)
    assert [pair for pair in expansion.pairs if pair.writer == "template"] == plain.pairs
    assert leaked(expansion.pairs, pip.name) == []
    spoken = authored(expansion, "roleplay_text")
    assert len(spoken) == 12 and all("Much, beep" in pair.texts("assistant")[0] for pair in spoken)
    for pair in authored(expansion, "roleplay_multi_turn"):
        assert [part.loss for part in pair.parts] == [False, False, True, False, True]
    planned_pairs = authored(expansion, "roleplay_plan")
    assert len(planned_pairs) == 3
    for pair in planned_pairs:
        assert grammar.split_plan(pair.texts("assistant")[0])[1] == (
            "Pip, a clay robot, smiling, wearing a red scarf, on a pier"
        )
    assert authored(expansion, "roleplay_request") and authored(expansion, "refusal") and authored(expansion, "vqa")
    known = authored(expansion, "knowledge")
    assert any(has_options(pair.texts("user")[0]) for pair in known)
    assert all(pair.source in told_of(pip) for pair in known)
    assert expansion.scenes and expansion.scenes[0].prompt.startswith("Pip, a clay robot, holding a drum")


def test_new_scenes_stand_beside_the_pairs_and_can_be_read_back(pip: Character, tmp_path: Path) -> None:
    expansion = expanded(pip, capable, tmp_path)
    write_expansion(tmp_path / "pairs.jsonl", expansion)
    assert read_pairs(tmp_path / "pairs.jsonl") == expansion.pairs
    rows = scenes_file(tmp_path / "pairs.jsonl").read_text().splitlines()
    assert len(rows) == len(expansion.scenes)
    # beside the template's own they are a file of scenes
    (tmp_path / "scenes.jsonl").write_text(f"{rows[0]}\n{rows[0].replace('train', 'held_out')}\n")
    assert read_scenes(tmp_path / "scenes.jsonl")[0] == expansion.scenes[0]


CLUMSY: dict[str, tuple[Answer, str]] = {
    "refusing": (lambda system, asked: "Sorry, but I can't assist with that.", NO_JSON),
    "silent": (lambda system, asked: "", NO_JSON),
    "truncated at once": (lambda system, asked: '[{"visitor": "Hello th', CUT_OFF),
    "another form": (lambda system, asked: '[{"question": 3}]', WRONG_FORM),
}


@pytest.mark.parametrize("kind", CLUMSY)
def test_what_cannot_be_used_is_asked_for_once_more_and_then_dropped_with_its_reason(
    pip: Character, tmp_path: Path, kind: str
) -> None:
    answer, reason = CLUMSY[kind]
    seen: list[dict[str, object]] = []
    with served(answer, seen) as url:
        expansion = expand(pip, author=Author("endpoint", writer_at(url, tmp_path / "w.jsonl"), SMALL))
    assert authored(expansion) == [] and expansion.scenes == ()
    first = [body for body in seen if len(body["messages"]) == 2]  # type: ignore[arg-type]
    assert len(seen) == 2 * len(first)
    assert summary(expansion, pip.name)["dropped"][reason] == len(seen)
    write_expansion(tmp_path / "pairs.jsonl", expansion)
    rows = [json.loads(line) for line in (tmp_path / "pairs.dropped.jsonl").read_text().splitlines()]
    assert sum(row["reason"] == reason for row in rows) == len(seen)


def test_talk_around_the_json_does_no_harm(pip: Character, tmp_path: Path) -> None:
    def chatty(system: str, asked: str) -> str:
        return (
            f"Certainly! Here are the examples:\n```json\n{capable(system, asked)}\n```\nLet me know if you need more!"
        )

    assert authored(expanded(pip, chatty, tmp_path)) == authored(expanded(pip, capable, tmp_path / "other"))


def saying(visitor: str, reply: str) -> Answer:
    """A writer whose every dialogue is this one, and that answers nothing else."""
    return lambda system, asked: (
        json.dumps([{"visitor": visitor, "reply": reply}])
        if '[{"visitor"' in asked and '"picture"' not in asked
        else "no"
    )


@pytest.mark.parametrize(
    ("visitor", "reply", "reason"),
    [
        ("Is the tea hot?", "Sorry, but I can't assist with that.", "a refusal"),
        ("Is the tea hot?", "I'm sorry, I can't understand. Could you explain this?", "a refusal"),
        ("Is the tea hot?", "How can I assist you today? Tea is hot.", "an assistant's manners"),
        ("The visitor could say hello to the robot.", "Hello to you, beep.", "talk about the task"),
        ("Is the tea hot?", "In this scenario the tea is hot, beep.", "talk about the task"),
        ("Is the tea hot today?", "Is the tea hot today? It is hot.", "an echo of the question"),
        ("Is the tea hot?", "Ask Bartholomew about the tea, beep.", "invented name"),
        ("Is the tea hot?", "Чай горячий, как всегда, дорогой гость.", "another language"),
        ("Is the tea hot?", "Pip says that tea is hot, beep.", "speaks of itself by name"),
        ("Neighbours: is the tea hot?", "Warm enough, beep.", "a speaker's name"),
        ("Is the tea hot?", "Sure! Can you suggest a hotter tea?", "an assistant's manners"),
        ("Is the tea hot?", "[insert reply here] and some tea", "a placeholder"),
        ("Is the tea hot?", "Yes.", "too short"),
    ],
)
def test_what_no_character_says_never_passes(
    pip: Character, tmp_path: Path, visitor: str, reply: str, reason: str
) -> None:
    expansion = expanded(pip, saying(visitor, reply), tmp_path)
    assert authored(expansion, "roleplay_text") == []
    assert summary(expansion, pip.name)["dropped"][reason] >= 1


def test_a_reply_that_copies_an_example_is_dropped(pip: Character, tmp_path: Path) -> None:
    dialogue = next(d for d in pip.dialogues if min(len(turn.text.split()) for turn in d.turns) >= 5)
    asked, own = dialogue.turns[0].text, dialogue.turns[1].text
    for number, (line, reply) in enumerate(
        [
            ("What is new at the cart?", own),
            ("What is new at the cart?", f"Well, beep. {own} And so to bed."),
            (asked, "Nothing of the kind, beep."),
        ]
    ):
        expansion = expanded(pip, saying(line, reply), tmp_path / str(number))
        assert authored(expansion, "roleplay_text") == []
        dropped = summary(expansion, pip.name)["dropped"]
        assert "copies an example" in dropped or "leaked" in dropped


def test_what_a_character_says_itself_is_not_an_assistants_manner() -> None:
    assert ill_mannered("Feel free to ask, reader.") == "an assistant's manners"
    assert ill_mannered("Feel free to ask, reader.", own="feel free to ask, reader.") is None
    assert ill_mannered("I cannot help you with the boat, the tide is out.") is None
    assert ill_mannered("Certainly, the kettle is on.") is None


def test_knowledge_quotes_its_sentence_to_the_letter_and_says_no_more(pip: Character, tmp_path: Path) -> None:
    fact = next(fact for fact in pip.facts if "Ottoline" in fact)

    def answer(system: str, asked: str) -> str:
        if "questions about a text" not in system:
            return "no"
        good = {
            "sentence": fact,
            "question": "Who made you?",
            "answer": "I was built by a potter named Ottoline.",
            "wrong": ["A smith.", "A baker.", "A sailor."],
        }
        invented = {**good, "sentence": f"{fact} She was tall."}
        more = {**good, "question": "Who built you then?", "answer": "Ottoline, a famous wizard from the mountains."}
        return json.dumps([good, invented, more])

    expansion = expanded(pip, answer, tmp_path)
    told = authored(expansion, "knowledge")
    assert {pair.texts("assistant")[0] for pair in told if not has_options(pair.texts("user")[0])} == {
        "I was built by a potter named Ottoline."
    }
    assert all(pair.source == fact for pair in told)
    dropped = summary(expansion, pip.name)["dropped"]
    assert dropped["the sentence is not in the profile"] >= 1 and dropped["says more than its sentence"] >= 1


def test_answers_about_a_picture_stand_in_its_caption(pip: Character, tmp_path: Path) -> None:
    def answer(system: str, asked: str) -> str:
        if "questions about pictures" not in system:
            return "no"
        return json.dumps(
            [
                {"question": "What is above Pip?", "answer": "A glowing dragon.", "wrong": []},
                {"question": "Is Pip riding a bicycle?", "answer": "Yes, Pip is.", "wrong": []},
            ]
        )

    expansion = expanded(pip, answer, tmp_path)
    assert authored(expansion, "vqa") == []
    assert summary(expansion, pip.name)["dropped"]["the answer is not in the caption"] >= 2


def test_an_interrupted_expansion_goes_on_where_it_was(pip: Character, tmp_path: Path) -> None:
    seen: list[dict[str, object]] = []
    file = tmp_path / "written.jsonl"
    whole = authored(expanded(pip, capable, tmp_path / "whole"))
    for breaks_after in (1, 4):
        with served(capable, seen, breaks_after) as url, pytest.raises(MachineError, match="what was written so far"):
            expand(pip, author=Author("endpoint", writer_at(url, file), SMALL))
    answered = len(Kept(file, "tiny")._texts)
    assert answered == 5
    seen.clear()
    with served(capable, seen) as url:
        expansion = expand(pip, author=Author("endpoint", writer_at(url, file), SMALL))
    assert authored(expansion) == whole
    requests = planned(pip, Settings(expand=SMALL)).requests
    assert len(seen) == requests - answered
    seen.clear()
    with served(capable, seen) as url:
        assert expand(pip, author=Author("endpoint", writer_at(url, file), SMALL)) == expansion
    assert seen == []


def test_what_will_be_asked_is_known_before_and_follows_the_budgets(pip: Character, tmp_path: Path) -> None:
    assert planned(pip, Settings()).requests == 0
    few, many = planned(pip, Settings(expand=SMALL)), planned(pip, Settings(expand=ExpandSettings(writer="self")))
    assert few.requests < many.requests and few.tokens_out < many.tokens_out
    nothing = ExpandSettings(writer="self", dialogues=0, knowledge=0, looks_per_picture=0)
    asked: list[str] = []

    def note(requests: list[Request]) -> list[str]:
        asked.extend(request.kind for request in requests)
        return ["no"] * len(requests)

    expand(pip, author=Author("self", note, nothing))  # type: ignore[arg-type]
    assert set(asked) == {"refusals"}


def test_a_model_that_cannot_see_is_noticed() -> None:
    seeing = {"probe:triangle": "A purple triangle.", "probe:square": "**Green square**"}
    assert can_see(lambda requests: [seeing[request.image or ""] for request in requests])
    assert not can_see(lambda requests: ["A red circle."] * len(requests))
    assert not can_see(lambda requests: ["A purple triangle."] * len(requests))
    assert not can_see(lambda requests: ["Sorry, but I can't assist with that."] * len(requests))


def test_the_judge_has_the_last_word_and_its_reason_is_kept(pip: Character, tmp_path: Path) -> None:
    with served(capable) as url:
        author = Author("endpoint", writer_at(url, tmp_path / "w"), SMALL, judge=lambda pairs: ["odd" for _ in pairs])
        expansion = expand(pip, author=author)
    assert all(pair.writer == "template" for pair in expansion.pairs)
    assert summary(expansion, pip.name)["dropped"]["odd"] > 20


# the parts


@pytest.mark.parametrize(
    ("text", "good", "problems"),
    [
        ('[{"visitor": "a", "reply": "b"}]', 1, ()),
        ('Sure:\n[{"visitor": "a", "reply": "b"}, {"visitor": "c", "reply": "d"}]\nBye', 2, ()),
        ('{"visitor": "a", "reply": "b"}\n{"visitor": "c", "reply": "d"}', 2, ()),
        ('[{"visitor": "a", "reply": "b"}, {"visitor": "c"}]', 1, (WRONG_FORM,)),
        ('[{"visitor": "a", "reply": "b"}, {"visitor": "c", "rep', 1, (CUT_OFF,)),
        ('[{"exchange": {"visitor": "a", "reply": "b"}}]', 1, ()),
        ("no", 0, (NO_JSON,)),
        ("[", 0, (CUT_OFF,)),
        ('[{"visitor": "", "reply": "b"}]', 0, (WRONG_FORM,)),
    ],
)
def test_items_are_found_in_an_answer(text: str, good: int, problems: tuple[str, ...]) -> None:
    parsed = parse(text, Exchange)
    assert (len(parsed.items), parsed.problems) == (good, problems)


@given(st.text(max_size=200) | st.text(alphabet='[]{}",:ab\\ ', max_size=60))
def test_no_answer_breaks_the_parser(text: str) -> None:
    for found in (parse(text, Exchange), parse(f"[{text}", Known)):
        assert found.items or found.problems or "]" in text


def test_options_hold_one_right_answer_and_are_told_from_other_questions() -> None:
    made = with_options("What do you drink?", "I drink tea.", ["A. Coffee.", "Water.", "milk", "Milk."], "x")
    assert made is not None
    question, answer = made
    assert has_options(question) and not has_options("What do you drink?")
    assert sorted(line[3:] for line in question.split("\n")[1:]) == ["Coffee", "I drink tea", "Water", "milk"]
    assert answer in question.split("\n")
    assert with_options("What?", "Tea", ["Coffee", "Tea.", "coffee"], "x") is None


def test_new_words_are_those_that_nobody_said() -> None:
    assert new_words("I howl at the kettle", "He howls at the kettle.") == set()
    assert new_words("I howl at the moon", "He howls at the kettle.") == {"moon"}


def test_echoes_and_quotes() -> None:
    assert echoes("Can I have a slice? No.", "Can I have a slice?")
    assert not echoes("No. I would give you my moped first.", "Can I have a slice?")
    assert echoes("Walk?", "Walk?") and not echoes("Is it snow? Then walk.", "Walk?")
    assert bare('Pip: "Tea is ready, beep."', "Pip") == "Tea is ready, beep."
    assert bare('He said "no" and "yes".', "Pip") == 'He said "no" and "yes".'


def test_the_published_tasks_are_counted_side_by_side(pip: Character, tmp_path: Path) -> None:
    expansion = expanded(pip, capable, tmp_path)
    rows = {row.task: row for row in task_table(pip, expansion.pairs)}
    assert rows["role-play, text"].published == len(pip.pictures) + 180
    assert rows["questions about pictures, open"].published == 20 * len(pip.pictures)
    assert rows["knowledge, open"].published == 100 and rows["knowledge, multiple choice"].pairs >= 1
    assert sum(row.pairs for row in rows.values()) == len(expansion.pairs)
