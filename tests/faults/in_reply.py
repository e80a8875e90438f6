"""Faults of a reply with correct framing: silences, failure tails, sizes, text and media types."""

from __future__ import annotations

from itertools import repeat
from typing import Final

from aichatfree import Site
from aichatfree.testing import Answer, Raw

from .case import BROKEN, CHUNKED, HELLO, Case, serving, timeouts

TAIL: Final = "Internal server error"
LINES: Final = "a\u2028b\u2029c\x85d\r\ne\rf\n"
CONTROLS: Final = "a\0b\x1b[0mc\x7f"
STORY: Final = "Где-то 在某处 somewhere 🙂👩🏽‍🚀"


def chunk(data: str | bytes) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return b"%x\r\n%b\r\n" % (len(data), data)


def each_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


IN_REPLY = [
    Case("reset in the answer", serving(Raw(HELLO, b"", gap=0.1, end="reset")), BROKEN, "Hello"),
    Case(
        "silence in the answer",
        serving(Raw(HELLO, end="stall")),
        "APITimeoutError",
        "Hello",
        settings=timeouts(),
    ),
    Case(
        "one byte every 0.4 s without an end, beyond the total timeout",
        serving(Answer(stream=repeat("a"), gap=0.4)),
        "APITimeoutError",
        "aaa",
        retryable=False,
        settings={"timeouts": {"read": 5, "total": 1.0}},
    ),
    Case(
        "one byte every second, slower than the read timeout",
        serving(Answer(stream=repeat("a"), gap=1.0)),
        "APITimeoutError",
        "a",
        settings=timeouts(),
    ),
    Case("the failure tail alone", serving(Answer(TAIL)), BROKEN),
    Case("the failure tail at the end", serving(Answer("Hello", TAIL)), BROKEN, "Hello"),
    Case(
        "the failure tail, split over TCP reads",
        serving(Answer("Hello", TAIL, split=3)),
        BROKEN,
        "Hello",
    ),
    Case(
        "the failure tail without chunks",
        serving(Answer("Hello", TAIL, framing="close")),
        BROKEN,
        "Hello",
    ),
    Case(
        "a complete answer that ends with the words of the failure tail",
        serving(Answer("It said: ", f"then came {TAIL}")),
        text=f"It said: then came {TAIL}",
    ),
    Case(
        "an endless answer",
        serving(Answer(stream=repeat("x" * 1000))),
        "ReplyTooLargeError",
        "x" * 100_000,
        retryable=False,
        settings={"max_reply_bytes": 100_000},
    ),
    Case(
        "one chunk that never ends",
        serving(Raw(CHUNKED + b"7ffffff\r\n", b"x" * 200_000, end="stall")),
        "ReplyTooLargeError",
        "x" * 100_000,
        retryable=False,
        settings={"max_reply_bytes": 100_000},
    ),
    Case(
        "every character split",
        serving(Raw(*each_byte(CHUNKED + chunk(STORY) + b"0\r\n\r\n"), gap=0.002, end="clean")),
        text=STORY,
    ),
    Case(
        "a chunk for each byte",
        serving(Answer(*each_byte(STORY.encode()), gap=0.002)),
        text=STORY,
    ),
    Case("no Content-Type", serving(Answer(STORY, content_type=None)), text=STORY),
    Case("no charset", serving(Answer(STORY, content_type="text/plain")), text=STORY),
    Case("invalid UTF-8", serving(Answer(b"a\xff\xfeb")), text="a\ufffd\ufffdb"),
    Case("all kinds of line ends", serving(Answer(LINES)), text=LINES),
    Case("NUL and control characters", serving(Answer(CONTROLS)), text=CONTROLS),
    Case("a byte order mark", serving(Answer("\ufeffHello")), text="\ufeffHello"),
    Case(
        "a lone surrogate in bytes",
        serving(Answer(b"a\xed\xa0\xbdb")),
        text="a\ufffd\ufffd\ufffdb",
    ),
    Case(
        "the quota sentence as a 200",
        serving(Answer(Site().quota_phrases[0])),
        "RateLimitError",
        rejected=True,
    ),
    Case(
        "an image",
        serving(Answer(b"\x89PNG", content_type="image/png")),
        "ProtocolError",
        retryable=False,
        fatal=True,
    ),
    Case("an empty 200", serving(Answer()), "EmptyReplyError"),
    Case(
        "a web page",
        serving(Answer("<!DOCTYPE html><title>Welcome</title>", content_type="text/html")),
        "ProtocolError",
        retryable=False,
        fatal=True,
    ),
    Case(
        "JSON of another API",
        serving(Answer('{"error": "no such route"}', content_type="application/json")),
        "ProtocolError",
        retryable=False,
        fatal=True,
    ),
]
