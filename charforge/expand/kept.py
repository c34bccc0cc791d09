"""What a writer wrote, kept beside the pairs: an interrupted expansion goes on, nothing is paid twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from charforge.expand.asking import Request


class Kept:
    """An append-only file of finished requests. A line cut off by a crash is ignored and written again."""

    def __init__(self, file: Path, identity: str) -> None:
        """``identity`` names who answers (base and its hash, or URL and model): another writer's texts are not used."""
        self._file, self._identity = file, identity
        self._texts: dict[str, str] = {}
        for line in file.read_text("utf-8").split("\n") if file.exists() else ():
            try:
                row = json.loads(line)
                self._texts[row["key"]] = row["text"]
            except (ValueError, KeyError, TypeError):
                # the rest of a line whose writing was cut off
                continue

    def key(self, request: Request) -> str:
        """A hash of everything that decides the answer."""
        content = json.dumps([self._identity, request.kind, request.messages, request.image, request.max_tokens])
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    def missing(self, requests: Sequence[Request]) -> list[Request]:
        """Those without an answer yet, each once."""
        return list({self.key(r): r for r in requests if self.key(r) not in self._texts}.values())

    def add(self, request: Request, text: str) -> None:
        """Keep one answer; it is on disk when this returns."""
        key = self.key(request)
        self._texts[key] = text
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            # the line before may have been cut off: a newline first ends it
            file.write(f"\n{json.dumps({'key': key, 'kind': request.kind, 'text': text}, ensure_ascii=False)}\n")

    def texts(self, requests: Sequence[Request]) -> list[str]:
        """The answers, in order. KeyError when one is missing."""
        return [self._texts[self.key(request)] for request in requests]
