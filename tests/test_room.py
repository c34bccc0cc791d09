"""How much of a character a base reads, and how tokens are counted without its tokenizer."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from charforge.bases.context import fitted, room_of
from charforge.bases.language import language_folder
from charforge.bundle.manifest import CharacterInfo
from charforge.character import read_character
from charforge.families.bagel.tokenizer import Tokenizer
from charforge.room import LONG_CONTEXT, SHORT_CONTEXT, Room, room_for, tokens_of
from charforge.settings import PromptSettings, Settings

INVENTED = Path(__file__).parent / "invented"
WREN = Path(__file__).parent.parent / "examples" / "wren"


def test_a_small_base_reads_little_and_a_large_one_the_whole_card() -> None:
    assert room_of(Settings()) == SHORT_CONTEXT
    assert room_of(Settings(base="bagel")) == LONG_CONTEXT
    assert room_of(Settings(prompt=PromptSettings(persona=80))).persona == 80


def test_the_system_prompt_leaves_the_conversation_its_share() -> None:
    small = room_for(1000, LONG_CONTEXT)
    assert small.persona == 250 and small.voice == 250 and small.plan == LONG_CONTEXT.plan


def test_a_bundle_keeps_the_room_that_it_was_trained_with() -> None:
    wren = fitted(read_character(WREN), Settings(base="bagel"))
    info = CharacterInfo.from_character(wren)
    assert Room(**info.room.model_dump()) == LONG_CONTEXT
    # a bundle that is older than the setting had the words of the small base
    old = CharacterInfo.model_validate({k: v for k, v in info.model_dump().items() if k != "room"})
    assert Room(**old.room.model_dump()) == SHORT_CONTEXT


def test_tokens_are_counted_about_as_the_embedded_base_does() -> None:
    tokenizer = Tokenizer(language_folder() / "tokenizer.json", True)
    texts = [file.read_text("utf-8") for file in INVENTED.rglob("*_full_profile.txt")]
    texts += [file.read_text("utf-8") for file in [*INVENTED.rglob("character.md"), WREN / "character.md"]]
    counted, real = sum(map(tokens_of, texts)), sum(len(tokenizer.encode(text)) for text in texts)
    assert real <= counted <= 1.5 * real


@given(st.text(max_size=80), st.text(max_size=80))
def test_more_text_is_never_fewer_tokens(one: str, other: str) -> None:
    assert tokens_of(f"{one} {other}") >= max(tokens_of(one), tokens_of(other))
