"""What a model has read of a conversation, kept: a turn reads only what is new, so that turn twenty begins to speak as
soon as turn two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from charforge.families.protocol import Conditioning, UnifiedModel
from charforge.sample import Part

KEPT = 4
"""How many of the latest states are kept: retrying, editing and going on begin behind one of them."""


@dataclass
class Reading:
    """The parts of one conversation that ``model`` has read, with the adapter that acted then.

    A part is known again by its identity: whoever asks keeps the parts of what was said.
    """

    model: UnifiedModel
    _parts: list[Part] = field(default_factory=list)
    _states: dict[int, Conditioning] = field(default_factory=dict)

    def read(self, parts: Sequence[Part]) -> Conditioning:
        """What the model makes of ``parts``, of which it reads those that are new."""
        same = next((n for n, (a, b) in enumerate(zip(self._parts, parts, strict=False)) if a is not b), None)
        common = min(len(self._parts), len(parts)) if same is None else same
        begin = max((length for length in self._states if length <= common), default=0)
        state = self._states.get(begin)
        self._states = {length: kept for length, kept in self._states.items() if length <= common}
        self._parts = list(parts)
        with self.model.autocast():
            for length in range(begin, len(parts)):
                state = self.model.read([(parts[length],)], state)
                self._states[length + 1] = state
        for length in sorted(self._states)[:-KEPT]:
            del self._states[length]
        if state is None:
            state = self.model.read([()])
        return state
