"""The whole command: started, asked, and ended with Ctrl-C."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import httpx
import pytest
from exported import good

__all__ = ["good"]

NOBODY = "http://127.0.0.1:9/v1"


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT as a terminal does on Ctrl-C")
def test_serve_starts_answers_and_ends_with_ctrl_c(good: Path) -> None:
    shutil.copy(good, good.with_name("pop.charx"))
    command = [sys.executable, "-m", "charforge.cli.main", "serve", str(good.parent), "--port", "0"]
    with subprocess.Popen(
        [*command, "--engine-url", NOBODY], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        # as at a terminal: whoever runs the tests in the background has this signal ignored
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as server:  # fmt: skip
        watchdog = threading.Timer(120, server.kill)
        watchdog.start()
        assert server.stderr is not None
        said = ""
        while "Ctrl-C ends the server" not in said:
            line = server.stderr.readline()
            assert line, said
            said += line
        address = re.search(r"in a browser: (http://127\.0\.0\.1:\d+)/", said)
        assert address and "Pip (pip), Pip (pip-2)" in said
        with httpx.Client(base_url=address[1], timeout=30) as client:
            assert client.get("/health").status_code == 200
            assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["pip", "pip-2"]
            page = client.get("/")
            assert page.status_code == 200 and "<!doctype html>" in page.text.lower()
            body = {"model": "pip", "messages": [{"role": "user", "content": "Hello"}]}
            refused = client.post("/v1/chat/completions", json=body)
            assert refused.status_code == 503 and "cannot be reached" in refused.json()["error"]["message"]
        server.send_signal(signal.SIGINT)
        out, rest = server.communicate(timeout=60)
        watchdog.cancel()
    assert server.returncode == 130, rest
    assert not out and "Traceback" not in said + rest
