"""Clients at a running server, as many as there are fingers on ten hands: what they wait, and what the server keeps.

    charforge serve wren.charx --port 8000 &
    python docs/studies/serving_load.py http://127.0.0.1:8000 --clients 50 --seconds 120 --process $!

Each client talks in turns of its own, streaming, now and then with a picture; told to come back later, it does. Then
--disconnects clients go at random moments. Prints one JSON record.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time

import httpx
import psutil

QUESTIONS = ("What are you building today?", "Who is Bolt?", "Can you send me a picture of you on a beach?", "Why?")


def percentiles(values: list[float]) -> dict[str, float]:
    """The middle and the slow end, in seconds."""
    ordered = sorted(values)
    return {"p50": round(statistics.median(ordered), 2), "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 2)}


async def turn(http: httpx.AsyncClient, body: dict[str, object], seen: dict[str, list[float]]) -> str | None:
    """One reply, streamed; None when it was refused. Raises httpx.HTTPError, ValueError for an error in a stream."""
    begun = time.perf_counter()
    async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code == 429:
            await asyncio.sleep(float(answer.headers["retry-after"]) * random.uniform(0.5, 1.5))
            return None
        answer.raise_for_status()
        text = ""
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if "error" in chunk:
                raise ValueError(chunk["error"]["message"])
            piece = chunk["choices"][0]["delta"].get("content") if chunk["choices"] else None
            if piece and not text:
                seen["first"].append(time.perf_counter() - begun)
            text += piece or ""
        seen["whole"].append(time.perf_counter() - begun)
        return text


async def client(
    http: httpx.AsyncClient, number: int, end: float, seen: dict[str, list[float]], errors: list[str]
) -> None:
    """Conversations of four turns until the end."""
    rng = random.Random(number)
    history: list[dict[str, str]] = []
    while time.monotonic() < end:
        if len(history) >= 8:
            history = []
        said = [*history, {"role": "user", "content": rng.choice(QUESTIONS)}]
        try:
            text = await turn(http, {"messages": said, "stream": True, "seed": rng.randrange(1000)}, seen)
        except (httpx.HTTPError, ValueError) as error:
            errors.append(f"{type(error).__name__}: {error}")
            continue
        if text is None:
            seen["refused"].append(1.0)
        else:
            history = [*said, {"role": "assistant", "content": text}]


async def leaver(http: httpx.AsyncClient, number: int) -> None:
    """Goes before the reply is whole."""
    rng = random.Random(number)
    body = {"messages": [{"role": "user", "content": rng.choice(QUESTIONS)}], "stream": number % 2 == 0, "seed": number}
    try:
        async with asyncio.timeout(rng.random() * 3):
            await turn(http, body, {"first": [], "whole": []})
    except (TimeoutError, httpx.HTTPError, ValueError):
        pass


async def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--disconnects", type=int, default=1000)
    parser.add_argument("--process", type=int)
    given = parser.parse_args()
    server = psutil.Process(given.process) if given.process else None
    memory, seen, errors = [], {"first": [], "whole": [], "refused": []}, []
    end = time.monotonic() + given.seconds

    async def watch() -> None:
        while time.monotonic() < end:
            memory.append(server.memory_info().rss / 2**20 if server else 0.0)
            await asyncio.sleep(5)

    limits = httpx.Limits(max_connections=given.clients + 10)
    async with httpx.AsyncClient(base_url=given.url, timeout=300, limits=limits) as http:
        await asyncio.gather(watch(), *(client(http, number, end, seen, errors) for number in range(given.clients)))
        figures = {
            "replies": len(seen["whole"]), "refused": len(seen["refused"]), "errors": len(errors), "first": errors[:3],
            "to_first_word": percentiles(seen["first"]), "whole": percentiles(seen["whole"]),
            "memory_mib": [round(value) for value in memory[:: max(1, len(memory) // 8)]],
        }  # fmt: skip
        for begin in range(0, given.disconnects, 50):
            await asyncio.gather(*(leaver(http, number) for number in range(begin, begin + 50)))
        if server:
            await asyncio.sleep(2)
            server.cpu_percent()
            await asyncio.sleep(3)
            figures["after"] = {
                "cpu_percent": server.cpu_percent(), "memory_mib": round(server.memory_info().rss / 2**20),
                "threads": server.num_threads(), "connections": len(server.net_connections()),
            }  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main())
