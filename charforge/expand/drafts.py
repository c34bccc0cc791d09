"""What a writer hands in: a pair that has no number yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from charforge import grammar
from charforge.character import Character
from charforge.expand.pairs import Pair, Part, Split, Task, TextPart, WriterName


@dataclass(frozen=True)
class Draft:
    """A pair before it is filtered and numbered; fields as in ``Pair``."""

    task: Task
    split: Split
    origin: str
    parts: tuple[Part, ...]
    writer: WriterName = "template"
    source: str = ""


def introduction(character: Character) -> TextPart:
    """The prompt before knowledge: who it is and nothing of its voice.

    Facts are plain sentences. Learned after the whole persona they would be how the character speaks.
    """
    return TextPart(role="system", text=grammar.introduction(character))


def talk(system: TextPart, question: str, answer: str) -> tuple[Part, ...]:
    """System prompt, one question, one answer that is learned."""
    return system, TextPart(role="user", text=question), TextPart(role="assistant", text=answer, loss=True)


def numbered(drafts: Iterable[Draft]) -> list[Pair]:
    """Pairs with ids of the form ``TASK-0001``, counted within the task."""
    counts: dict[str, int] = {}
    pairs: list[Pair] = []
    for draft in drafts:
        counts[draft.task] = counts.get(draft.task, 0) + 1
        pairs.append(Pair(id=f"{draft.task}-{counts[draft.task]:04d}", **vars(draft)))
    return pairs
