"""What was read of the latest conversations, for requests that bring the whole history each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from charforge.chat.memory import Memory
from charforge.chat.messages import Message
from charforge.chat.session import Session


@dataclass
class Memories:
    """``most_tokens`` are kept at most in all; the conversation that was silent longest is forgotten first.

    What is kept decides how soon a reply begins, and never what it says.
    """

    most_tokens: int
    _kept: list[Memory] = field(default_factory=list)
    """The latest last."""

    def of(self, session: Session, messages: Sequence[Message]) -> Memory:
        """The memory of the conversation that ``messages`` go on with; else a new one, which knows their beginning."""
        mine = [memory for memory in self._kept if memory.session is session]
        best = max(mine, key=lambda memory: memory.shared(messages), default=None)
        if best is None:
            best = Memory(session)
        # an answer given anew, or edited, changes the last exchange; what differs earlier is another conversation
        elif best.shared(messages) < len(best.messages) - 2:
            best = best.fork()
        else:
            self._kept.remove(best)
        self._kept.append(best)
        while len(self._kept) > 1 and sum(memory.tokens for memory in self._kept) > self.most_tokens:
            del self._kept[0]
        return best
