"""The same answer in each wire format: plain text, ollama's lines and openai's events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from benchmarks.raw_site import TEXT, reply

WORD = "word "

OPEN = "open"
"""In place of the number of chunks: an answer that begins, and never comes to its end."""


def as_text(chunks: int) -> Iterator[bytes]:
    for _ in range(chunks):
        yield WORD.encode()


def as_lines(chunks: int) -> Iterator[bytes]:
    common = {"model": "llama3.2", "created_at": "2026-01-01T00:00:00.000000Z"}
    for _ in range(chunks):
        message = {"role": "assistant", "content": WORD}
        yield as_json({**common, "message": message, "done": False}) + b"\n"
    message = {"role": "assistant", "content": ""}
    counts = {"prompt_eval_count": 26, "eval_count": chunks, "eval_duration": 1_000_000}
    last = {"message": message, "done_reason": "stop", "done": True, **counts}
    yield as_json({**common, **last}) + b"\n"


def as_events(chunks: int) -> Iterator[bytes]:
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1767225600}
    for delta, reason in (
        *(({"content": WORD}, None) for _ in range(chunks)),
        ({}, "stop"),
    ):
        choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
        yield b"data: " + as_json({**common, "model": "llama3.2", "choices": choices}) + b"\n\n"
    yield b"data: [DONE]\n\n"


def as_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


FORMATS: dict[str, tuple[str, Callable[[int], Iterator[bytes]]]] = {
    "/api/generate": (TEXT, as_text),
    "/api/chat": ("application/x-ndjson", as_lines),
    "/v1/chat/completions": ("text/event-stream", as_events),
}


def answers(*sizes: int) -> dict[str, bytes]:
    """For a ``raw_site``: an answer of each size at ``/SIZE/...``, and ``/open/...``."""
    wire = {}
    for path, (content_type, chunks) in FORMATS.items():
        for size in sizes:
            wire[f"/{size}{path}"] = reply(chunks(size), content_type)
        wire[f"/{OPEN}{path}"] = reply([next(chunks(1))], content_type, ended=False)
    return wire
