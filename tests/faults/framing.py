"""Faults of the framing: chunk sizes, lengths, ends and encodings of a body."""

from __future__ import annotations

import gzip

from aichatfree.testing import Answer, Raw

from .case import BROKEN, CHUNKED, HEAD, HELLO, Case, Open, serving


def body(*parts: bytes) -> Open:
    """A chunked body that continues with exactly these bytes after a chunk ``Hello``."""
    return serving(Raw(HELLO, *parts, gap=0.05))


FRAMING = [
    Case("chunk size that is not a number", body(b"zz\r\n"), BROKEN, "Hello"),
    Case("negative chunk size", body(b"-5\r\nHello\r\n"), BROKEN, "Hello"),
    Case("chunk size larger than any memory", body(b"7fffffffffffffff\r\nHello"), BROKEN, "Hello"),
    Case("chunk size larger than the chunk", body(b"ff\r\nHello\r\n0\r\n\r\n"), BROKEN, "Hello"),
    Case("chunk size smaller than the chunk", body(b"2\r\n, all\r\n0\r\n\r\n"), BROKEN, "Hello"),
    Case(
        "chunk size smaller than the chunk, whose remainder looks like a size",
        serving(Raw(CHUNKED + b"8\r\nPrice: $100\r\n6\r\n a day\r\n0\r\n\r\n", end="clean")),
        BROKEN,
    ),
    Case("no chunk size", body(b"\r\n\r\n"), BROKEN, "Hello"),
    Case("no last chunk", body(), BROKEN, "Hello"),
    Case("cut inside a chunk", body(b"c\r\n, all is"), BROKEN, "Hello"),
    Case("cut where only line ends are missing", body(b"0"), BROKEN, "Hello", arguable="Hello"),
    Case(
        "shorter than its Content-Length",
        serving(Answer("Hello", framing="length", end="cut")),
        BROKEN,
        "Hello",
    ),
    Case(
        "longer than its Content-Length",
        serving(Raw(HEAD + b"Content-Length: 5\r\n\r\nHello, all", end="clean")),
        text="Hello",
        undetectable="according to HTTP, the body ends there",
    ),
    Case(
        "Content-Length that is not a number",
        serving(Raw(HEAD + b"Content-Length: many\r\n\r\nHello")),
        text="Hello",
        undetectable="without a length, the body ends with the connection",
    ),
    Case(
        "two Content-Lengths",
        serving(Raw(HEAD + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\nHello, all")),
        "APIConnectionError",
    ),
    Case(
        "cut, where the body ends with the connection",
        serving(Answer("Hello", framing="close", end="cut")),
        text="Hello",
        undetectable="a complete answer ends in the same way",
    ),
    Case(
        "cut in a character, where the body ends with the connection",
        serving(Answer(b"Hello \xf0\x9f", framing="close")),
        BROKEN,
        "Hello ",
    ),
    Case(
        "gzip",
        serving(Answer(gzip.compress(b"Hello"), headers={"Content-Encoding": "gzip"})),
        "ProtocolError",
        retryable=False,
        fatal=True,
        arguable="Hello",
    ),
    Case(
        "plain text labelled as gzip",
        serving(Answer(b"Hello", headers={"Content-Encoding": "gzip"})),
        "ProtocolError",
        retryable=False,
        fatal=True,
    ),
    Case(
        "half of a gzip body, correctly framed",
        serving(Answer(gzip.compress(b"Hello" * 99)[:20], headers={"Content-Encoding": "gzip"})),
        "ProtocolError",
        retryable=False,
        fatal=True,
    ),
    Case(
        "br",
        serving(Answer(b"\x0b\x02\x80Hello\x03", headers={"Content-Encoding": "br"})),
        "ProtocolError",
        retryable=False,
        fatal=True,
        arguable="Hello",
    ),
]
