"""A language model that plays back answers, behind a URL on this machine."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from charforge.evaluate.judging import JudgeOptions

Answer = Callable[[str, str], str]
"""What the server says: (system message, last message) -> text."""


@contextmanager
def served(
    answer: Answer, seen: list[dict[str, object]] | None = None, breaks_after: int | None = None, port: int = 0
) -> Iterator[str]:
    """The URL of a server that answers as ``answer`` does, and refuses after ``breaks_after`` answers."""
    count = 0

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal count
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            count += 1
            if seen is not None:
                seen.append(body)
            if breaks_after is not None and count > breaks_after:
                self.send_response(503)
                self.end_headers()
                return
            messages = body["messages"]
            last = messages[-1]["content"]
            text = answer(messages[0]["content"], last if isinstance(last, str) else json.dumps(last))
            usage = {"prompt_tokens": 10, "completion_tokens": 5}
            data = json.dumps({"choices": [{"message": {"content": text}}], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def without_pauses(patch: pytest.MonkeyPatch) -> None:
    """A judge is asked without pauses between the requests."""
    endpoint = JudgeOptions.endpoint
    patch.setattr(JudgeOptions, "endpoint", lambda *options: replace(endpoint(*options), pause=lambda seconds: None))


def items(asked: str, pattern: str) -> list[str]:
    """The numbered or listed lines of a prompt."""
    return re.findall(pattern, asked, re.MULTILINE)


def capable(system: str, asked: str) -> str:
    """Answers in the form that was asked for, each told by its request."""
    numbered = items(asked, r"^\d+\. (.+)$")
    if "questions about a text" in system:
        facts = [line for line in numbered if line.startswith("Pip ") and line.count(" ") > 2]
        made = []
        for fact in facts:
            about = fact.removeprefix("Pip ").rstrip(".")
            made.append(
                {
                    "sentence": fact,
                    "question": f"Is there something about {about.split()[-1]} that you can tell?",
                    "answer": f"My {about.split()[-1]}.",
                    "wrong": ["My hat.", "My boat.", "My drum."],
                }
            )
        return json.dumps(made)
    if "questions about pictures" in system:
        caption = re.search(r"shows: (.+)$", asked, re.MULTILINE)
        assert caption is not None
        detail = caption[1].split(", ")[2]
        return json.dumps(
            [
                {"question": f"Is Pip {detail}?", "answer": f"Yes, Pip is {detail}."},
                {"question": "Is Pip in a submarine?", "answer": f"No, Pip is {detail}."},
            ]
        )
    if "to be drawn" in system:
        detail = {"kind": "place", "words": "on a bridge", "others": ["in a tower", "in a cave", "on a raft"]}
        thing = {"kind": "thing", "words": f"holding a drum {len(asked)}", "others": ["holding a spoon"]}
        return json.dumps([{"details": [detail, thing]}])
    if "cannot know" in asked or "ask Pip for pictures" in asked:
        return json.dumps(
            [
                {"number": n, "reply": f"I do not know that, beep. Ask the {line.split()[-1].strip('?.')}."}
                for n, line in enumerate(numbered, 1)
            ]
        )
    topics = [line.split(" (")[0] for line in numbered]
    if '"turns"' in asked:
        return json.dumps(
            [
                {
                    "turns": [
                        {"visitor": f"Let us talk about {t}.", "reply": f"Gladly: {t} is warm, beep."},
                        {"visitor": f"And what of {t} in winter?", "reply": "Then I count twice."},
                    ]
                }
                for t in topics
            ]
        )
    extra = {"picture": "smiling, wearing a red scarf, on a pier"} if '"picture"' in asked else {}
    return json.dumps(
        [{"visitor": f"What do you say about {t}?", "reply": f"Much, beep, and of {t} most.", **extra} for t in topics]
    )
