"""Plans of pictures that were said and are not shown."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from charforge import grammar
from charforge.chat.messages import Message
from charforge.chat.turn import Said

REMEMBERED = 1000


class Plans:
    """Replies with their plans. A client sends back the words alone, and the next turn reads what was really said."""

    def __init__(self) -> None:
        self._whole: OrderedDict[tuple[str, str], str] = OrderedDict()

    def remember(self, voice: str, said: Said) -> None:
        """What ``voice`` said last."""
        self._whole[voice, said.reply.text] = said.text
        self._whole.move_to_end((voice, said.reply.text))
        while len(self._whole) > REMEMBERED:
            self._whole.popitem(last=False)

    def restored(self, voice: str, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The messages, with the plans of the replies that are known and have none."""
        return tuple(
            replace(message, text=self._whole.get((voice, message.text.strip()), message.text))
            if message.who == "assistant" and grammar.split_plan(message.text)[1] is None
            else message
            for message in messages
        )
