"""A model hub small enough to read: the paths, headers and byte ranges that huggingface_hub relies on, on 127.0.0.1."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LARGE = (".safetensors",)


@dataclass
class Hub:
    """One repository. ``cut_after`` ends a download of a name after so many bytes and answers 503 from then on."""

    repository: str
    folder: Path
    commit: str = "1" * 40
    branches: dict[str, str] = field(default_factory=dict)
    cut_after: dict[str, int] = field(default_factory=dict)
    lie_about: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    validated: list[str] = field(default_factory=list)
    created: list[dict] = field(default_factory=list)
    refuse_with: int = 0
    endpoint: str = ""
    _cut: set[str] = field(default_factory=set)

    def commit_of(self, revision: str) -> str | None:
        return self.commit if revision == self.commit else ({"main": self.commit} | self.branches).get(revision)

    def mend(self) -> None:
        """The line works again."""
        self.cut_after, self._cut = {}, set()

    def siblings(self) -> list[dict]:
        return [self._sibling(file) for file in sorted(self.folder.iterdir()) if file.is_file()]

    def _sibling(self, file: Path) -> dict:
        content = file.read_bytes()
        told = {
            "rfilename": file.name,
            "size": len(content),
            "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
        }
        if file.suffix in LARGE:
            sha256 = hashlib.sha256(content + (b"!" if file.name == self.lie_about else b"")).hexdigest()
            told["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 134}
        return told

    def downloads(self, name: str) -> list[str]:
        """The Range header of every download of ``name``, "" for a whole one."""
        return [span for path, span in self.requests if path.endswith(f"/{name}")]


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            return

        def do_HEAD(self) -> None:
            self._file(body=False)

        def do_GET(self) -> None:
            hub.requests.append((self.path.partition("?")[0], self.headers.get("Range", "")))
            if self.path.startswith("/api/models/"):
                self._model_info()
            else:
                self._file(body=True)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            hub.requests.append((path, "POST"))
            if hub.refuse_with:
                return self._fail("", "You are not allowed to do this", status=hub.refuse_with)
            if path == "/api/repos/create":
                hub.created.append(json.loads(body))
                return self._answer({"url": f"{hub.endpoint}/{hub.repository}"})
            if path == "/api/validate-yaml":
                hub.validated.append(json.loads(body)["content"])
                return self._answer({"errors": [], "warnings": []})
            if path == f"/api/models/{hub.repository}/preupload/main":
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                return self._answer({"files": files})
            if path == f"/api/models/{hub.repository}/commit/main":
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        (hub.folder / line["value"]["path"]).write_bytes(base64.b64decode(line["value"]["content"]))
                url = f"{hub.endpoint}/{hub.repository}/commit/{hub.commit}"
                return self._answer({"success": True, "commitOid": hub.commit, "commitUrl": url})
            self._fail("RepoNotFound", "Repository not found")

        def _answer(self, value: dict) -> None:
            content = json.dumps(value).encode()
            self._head(200, len(content), {"Content-Type": "application/json"})
            self.wfile.write(content)

        def _model_info(self) -> None:
            name, _, revision = self.path.partition("?")[0].removeprefix("/api/models/").partition("/revision/")
            commit = hub.commit_of(revision or "main")
            if name != hub.repository:
                return self._fail("RepoNotFound", "Repository not found")
            if commit is None:
                return self._fail("RevisionNotFound", f"Invalid rev id: {revision}")
            answer = {"id": name, "modelId": name, "sha": commit, "siblings": hub.siblings()}
            content = json.dumps(answer).encode()
            self._head(200, len(content), {"Content-Type": "application/json"})
            self.wfile.write(content)

        def _file(self, body: bool) -> None:
            name, _, rest = self.path.removeprefix("/").partition("/resolve/")
            revision, _, file_name = rest.partition("/")
            file = hub.folder / file_name
            if name != hub.repository or hub.commit_of(revision) is None or not file.is_file():
                return self._fail("EntryNotFound", "Entry not found")
            content = file.read_bytes()
            if file_name in hub._cut:
                return self._fail("", "the line is dead", status=503)
            span = self.headers.get("Range", "")
            start = int(span.removeprefix("bytes=").partition("-")[0]) if span else 0
            etag = hashlib.sha256(content).hexdigest()
            headers = {
                "ETag": f'"{etag}"', "X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content)),
                "X-Repo-Commit": hub.commit, "Accept-Ranges": "bytes",
            }  # fmt: skip
            if span:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._head(206 if span else 200, len(content) - start, headers)
            if not body:
                return
            if file_name in hub.cut_after:
                hub._cut.add(file_name)
                self.wfile.write(content[start : hub.cut_after[file_name]])
                self.wfile.flush()
                self.connection.shutdown(2)
                return
            self.wfile.write(content[start:])

        def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(length)}).items():
                self.send_header(key, value)
            self.end_headers()

        def _fail(self, code: str, message: str, status: int = 404) -> None:
            content = json.dumps({"error": message}).encode()
            self._head(status, len(content), {"X-Error-Code": code, "X-Error-Message": message})
            if self.command != "HEAD":
                self.wfile.write(content)

    return Handler


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Run ``hub`` in a thread; ``hub.endpoint`` is its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
