"""Which pairs a run trains on: its own file, edited or not, the ones it was given, or fresh ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from folders import make_folder
from playback import capable, served

from charforge.character import Character, read_character
from charforge.errors import InputError, MachineError
from charforge.expand import expand, read_pairs, write_pairs
from charforge.expand.authors import planned
from charforge.run.given import given_pairs
from charforge.run.identity import inputs_of
from charforge.run.job import run_pairs
from charforge.run.second_stage import run_scenes
from charforge.settings import ExpandSettings, Settings


class Quiet:
    """Hears what an expansion tells, and says nothing."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.counted: list[tuple[int, int]] = []

    def begin(self, name: str, total: int | None) -> None:
        pass

    def note(self, line: str) -> None:
        self.notes.append(line)

    def count(self, done: int, total: int) -> None:
        self.counted.append((done, total))


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Character:
    return read_character(make_folder(tmp_path_factory.mktemp("characters") / "pip"))


def test_a_fresh_run_expands_and_writes_the_page_and_an_edited_file_is_used(pip: Character, tmp_path: Path) -> None:
    pairs = run_pairs(tmp_path, pip, Settings(), None, Quiet())
    assert len(pairs) > 150 and (tmp_path / "pairs" / "pairs.html").exists()
    assert any(name.startswith("base:") for pair in pairs for name in pair.images("look"))
    write_pairs(tmp_path / "pairs" / "pairs.jsonl", pairs[:7])
    assert run_pairs(tmp_path, pip, Settings(), None, Quiet()) == pairs[:7]


def test_given_pairs_take_the_place_of_the_expansion_and_make_another_run(pip: Character, tmp_path: Path) -> None:
    given = tmp_path / "mine.jsonl"
    write_pairs(given, expand(pip).pairs[:5])
    assert run_pairs(tmp_path / "run", pip, Settings(), given, Quiet()) == read_pairs(given)
    first = inputs_of(pip, given)
    write_pairs(given, expand(pip).pairs[:4])
    assert first != inputs_of(pip, given) != inputs_of(pip) != first


def test_a_pair_with_a_picture_that_nobody_sent_stops_the_run(pip: Character, tmp_path: Path) -> None:
    given = tmp_path / "mine.jsonl"
    write_pairs(given, expand(pip).pairs)
    given.write_text(given.read_text().replace('"image": "03"', '"image": "33"'))
    with pytest.raises(InputError, match="'33', which nobody sent"):
        run_pairs(tmp_path / "run", pip, Settings(), given, Quiet())
    with pytest.raises(InputError, match="'33', which nobody sent"):
        given_pairs(given, pip, Settings())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no pairs"),
        ("[]".encode("utf-16"), "not UTF-8"),
        (b'{"id": "a\xed\xa0\x80"}', "not UTF-8"),
        (b'{"id": "\\ud800", "task": "vqa", "split": "train", "origin": "", "parts": []}', "bad entries"),
        (b"[" * 90_000, "bad entries"),
        (b"\0" * 9, "bad entries"),
    ],
)
def test_pairs_that_cannot_be_read_are_refused(pip: Character, tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "mine.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=words):
        given_pairs(tmp_path / "mine.jsonl", pip, Settings())


def test_a_run_uses_the_writer_of_its_preset_tells_the_cost_and_goes_on(
    pip: Character, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charforge.expand.endpoint.TRIES", 1)
    seen: list[dict[str, object]] = []
    told = Quiet()

    def settings(url: str) -> Settings:
        asked = ExpandSettings(
            writer="endpoint", url=url, model="tiny", dialogues=10, knowledge=5, looks_per_picture=0,
            requests_per_minute=1e6, price_out=2.0,
        )  # fmt: skip
        return Settings(expand=asked)

    with served(capable, seen, breaks_after=3) as url, pytest.raises(MachineError, match="what was written so far"):
        run_pairs(tmp_path, pip, settings(url), None, told)
    kept = (tmp_path / "pairs" / "written.jsonl").read_text()
    assert kept.count('"key"') == 3 and not (tmp_path / "pairs" / "pairs.jsonl").exists()
    port = int(url.rpartition(":")[2].removesuffix("/v1"))
    with served(capable, seen, port=port) as url:
        pairs = run_pairs(tmp_path, pip, settings(url), None, told)
    assert any(pair.writer == "endpoint" for pair in pairs)
    # the three that were answered are not asked again; one was refused
    assert len(seen) == planned(pip, settings(url)).requests + 1
    assert "the writer endpoint: " in told.notes[0] and "cost" in told.notes[-1] and told.counted
    scenes = run_scenes(tmp_path, pip, 0)
    assert any(scene.id.startswith("train-a") for scene in scenes)
