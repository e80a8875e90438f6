"""Every way in which a site or the network was seen to fail, and what an honest client says of it.

Each case has a site of its own on the loopback interface, which serves the fault to the question
``FAULT`` and a whole answer to every other one.
"""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Final

from aichatfree import Site
from aichatfree.testing import Answer, FakeSite, Raw, Request
from aichatfree.testing._fake_site import Reply as SiteReply

from .tls import tls_site

FAULT: Final = "What is the fault?"
WELL: Final = "All is well."
TAIL: Final = "Internal server error"

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
CHUNKED: Final = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO: Final = CHUNKED + b"5\r\nHello\r\n"
LINES: Final = "a\u2028b\u2029c\x85d\r\ne\rf\n"
CONTROLS: Final = "a\0b\x1b[0mc\x7f"
STORY: Final = "Где-то 在某处 somewhere 🙂👩🏽‍🚀"


@dataclass
class Place:
    """Where a case happens: a URL, a proxy on the way, and what reached the site or another."""

    url: str
    proxy: str | None = None
    requests: list[Request] = field(default_factory=list)
    elsewhere: list[Request] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """How often the question that meets the fault has arrived."""
        return sum(request.text == FAULT for request in self.requests)


Open = Callable[[], AbstractContextManager[Place]]


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        name: what happens, in a few words.
        open: where it happens.
        error: the class of the error that is due; ``None`` where the answer is whole.
        text: the whole answer, or what arrives of it.
        again: whether it is safe to ask again.
        stops_batch: whether every other prompt would fail in the same way.
        heals: whether the site is there for other questions.
        settings: of the client, beyond short time limits.
        rejected: whether it counts as "too many requests", which a batch waits out.
        undetectable: why no client can tell this fault from a whole answer.
        arguable: the text to a client that rightly takes for a whole answer what another one
            rightly refuses.
    """

    name: str
    open: Open
    error: str | None = None
    text: str = ""
    again: bool = True
    stops_batch: bool = False
    heals: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    rejected: bool = False
    undetectable: str = ""
    arguable: str | None = None

    def __str__(self) -> str:
        return self.name


def serving(reply: SiteReply) -> Open:
    """A site whose answer to ``FAULT`` is this reply."""

    @contextmanager
    def place() -> Iterator[Place]:
        with FakeSite(lambda request: reply if request.text == FAULT else WELL) as site:
            yield Place(site.url, requests=site.requests)

    return place


def closed_port() -> str:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


@contextmanager
def nobody() -> Iterator[Place]:
    yield Place(closed_port())


@contextmanager
def no_such_host() -> Iterator[Place]:
    yield Place("http://no-such-host.invalid")


@contextmanager
def dead_proxy() -> Iterator[Place]:
    yield Place("http://site.example", proxy=closed_port())


@contextmanager
def refusing_proxy() -> Iterator[Place]:
    refusal = Raw(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    with FakeSite(refusal) as proxy:
        # Through a tunnel, where the refusal is the proxy's own and not the site's.
        yield Place("https://site.example", proxy=proxy.url)


@contextmanager
def untrusted_certificate() -> Iterator[Place]:
    with FakeSite(WELL) as site, tls_site(site.url) as tls:
        yield Place(tls.url, requests=site.requests)


@contextmanager
def no_tls() -> Iterator[Place]:
    with FakeSite(WELL, idle_timeout=0.5) as site:
        yield Place(site.url.replace("http:", "https:"), requests=site.requests)


@contextmanager
def redirect() -> Iterator[Place]:
    with FakeSite("You should not be here.") as elsewhere:
        location = {"Location": f"{elsewhere.url}/api/generate"}
        moved = Answer(status=307, body="", headers=location)
        with FakeSite(lambda request: moved if request.text == FAULT else WELL) as site:
            yield Place(site.url, requests=site.requests, elsewhere=elsewhere.requests)


def quick(**limits: float) -> dict[str, Any]:
    """Time limits that make a silence short; for the cases that are about them."""
    return {"limits": {"read": 0.4, **limits}}


BEFORE_REPLY = [
    Case("connection refused", nobody, "APIConnectionError", heals=False),
    Case("no such host", no_such_host, "APIConnectionError", stops_batch=True, heals=False),
    Case("proxy dead", dead_proxy, "APIConnectionError", heals=False),
    Case("proxy refuses", refusing_proxy, "APIConnectionError", heals=False),
    Case(
        "certificate of an unknown authority",
        untrusted_certificate,
        "APIConnectionError",
        again=False,
        stops_batch=True,
        heals=False,
    ),
    Case("https to a port without TLS", no_tls, "APIConnectionError", heals=False),
    Case("reset", serving(Raw(end="reset")), "APIConnectionError"),
    Case("closed", serving(Raw(end="cut")), "APIConnectionError"),
    Case("silence", serving(Raw(end="stall")), "APITimeoutError", settings=quick()),
    Case("half a status line", serving(Raw(b"HTTP/1.1 20")), "APIConnectionError"),
    Case(
        "half a status line and silence",
        serving(Raw(b"HTTP/1.1 20", end="stall")),
        "APITimeoutError",
        settings=quick(),
    ),
    Case("half of the headers", serving(Raw(HEAD)), "APIConnectionError"),
    Case(
        "half of the line that tells the framing", serving(Raw(CHUNKED[:-8])), "APIConnectionError"
    ),
    Case(
        "a line in the head that is no header, before the length of a cut body",
        serving(Raw(HEAD + b"oops\r\nContent-Length: 500\r\n\r\nHello")),
        "APIConnectionError",
    ),
    Case(
        "a bare line end in a header, before the chunks",
        serving(Raw(HEAD + b"X-Note: a\rb\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO[-10:])),
        "APIConnectionError",
    ),
    Case("another protocol", serving(Raw(b"SSH-2.0-OpenSSH_9.6\r\n")), "APIConnectionError"),
    Case("a body without any head", serving(Raw(b"Hello!")), "APIConnectionError"),
    Case(
        "10,000 headers",
        serving(Raw(HEAD, b"X-Endless: 1\r\n" * 10_000, end="stall")),
        "APIConnectionError",
    ),
    Case(
        "one header of 10 MB",
        serving(Raw(HEAD, b"X-Endless: " + b"x" * 10_000_000, end="stall")),
        "APIConnectionError",
    ),
    Case(
        "headers that trickle for ever",
        serving(Raw(HEAD + b"X-Endless: ", *[b"x"] * 1000, gap=0.05)),
        "APITimeoutError",
        settings=quick(connect=0.2),
    ),
    Case(
        "103 and nothing more",
        serving(Raw(b"HTTP/1.1 103 Early Hints\r\n\r\n")),
        "APIConnectionError",
    ),
    Case(
        "100 and then the answer",
        serving(Raw(b"HTTP/1.1 100 Continue\r\n\r\n", HELLO + b"0\r\n\r\n", end="clean")),
        text="Hello",
    ),
    Case("204", serving(Answer(status=204, body="")), "EmptyReplyError", again=False),
    Case("redirect to another host", redirect, "ProtocolError", again=False, stops_batch=True),
    Case(
        "redirect to a web page",
        serving(Answer(status=302, body="", headers={"Location": "/"})),
        "ProtocolError",
        again=False,
        stops_batch=True,
    ),
    Case(
        "an error's text that trickles for ever",
        serving(Answer(status=500, stream=repeat("x"), gap=0.05)),
        "ServerError",
        settings=quick(),
    ),
]


def chunk(data: str | bytes) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return b"%x\r\n%b\r\n" % (len(data), data)


def each_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def body(*pieces: bytes, end: str = "cut") -> Open:
    """A chunked body of exactly these bytes after a chunk ``Hello``, in a packet of their own."""
    return serving(Raw(HELLO, *pieces, gap=0.05, end=end))  # type: ignore[arg-type]


BROKEN = "StreamInterruptedError"

FRAMING = [
    Case("chunk size that is no number", body(b"zz\r\n"), BROKEN, "Hello"),
    Case("chunk size below zero", body(b"-5\r\nHello\r\n"), BROKEN, "Hello"),
    Case("chunk size beyond memory", body(b"7fffffffffffffff\r\nHello"), BROKEN, "Hello"),
    Case("chunk size larger than the chunk", body(b"ff\r\nHello\r\n0\r\n\r\n"), BROKEN, "Hello"),
    Case("chunk size smaller than the chunk", body(b"2\r\n, all\r\n0\r\n\r\n"), BROKEN, "Hello"),
    Case(
        "chunk size smaller than the chunk, whose rest looks like a size",
        serving(Raw(CHUNKED + b"8\r\nPrice: $100\r\n6\r\n a day\r\n0\r\n\r\n", end="clean")),
        BROKEN,
    ),
    Case("no chunk size", body(b"\r\n\r\n"), BROKEN, "Hello"),
    Case("no last chunk", body(), BROKEN, "Hello"),
    Case("cut inside a chunk", body(b"c\r\n, all is"), BROKEN, "Hello"),
    Case(
        "cut when nothing is missing but line ends", body(b"0"), BROKEN, "Hello", arguable="Hello"
    ),
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
        undetectable="the protocol of HTTP says that it ends there",
    ),
    Case(
        "Content-Length that is not a number",
        serving(Raw(HEAD + b"Content-Length: many\r\n\r\nHello")),
        "APIConnectionError",
    ),
    Case(
        "two Content-Lengths",
        serving(Raw(HEAD + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\nHello, all")),
        "APIConnectionError",
    ),
    Case(
        "cut, where the end of the connection is the end",
        serving(Answer("Hello", framing="close", end="cut")),
        text="Hello",
        undetectable="a whole answer ends in the same way",
    ),
    Case(
        "cut in a character, where the end of the connection is the end",
        serving(Answer(b"Hello \xf0\x9f", framing="close")),
        BROKEN,
        "Hello ",
    ),
    Case(
        "gzip",
        serving(Answer(gzip.compress(b"Hello"), headers={"Content-Encoding": "gzip"})),
        "ProtocolError",
        again=False,
        stops_batch=True,
        arguable="Hello",
    ),
    Case(
        "gzip that is none",
        serving(Answer(b"Hello", headers={"Content-Encoding": "gzip"})),
        "ProtocolError",
        again=False,
        stops_batch=True,
    ),
    Case(
        "half of a gzip body, well framed",
        serving(Answer(gzip.compress(b"Hello" * 99)[:20], headers={"Content-Encoding": "gzip"})),
        "ProtocolError",
        again=False,
        stops_batch=True,
    ),
    Case(
        "br",
        serving(Answer(b"\x0b\x02\x80Hello\x03", headers={"Content-Encoding": "br"})),
        "ProtocolError",
        again=False,
        stops_batch=True,
        arguable="Hello",
    ),
]

IN_REPLY = [
    Case("reset in the answer", serving(Raw(HELLO, b"", gap=0.1, end="reset")), BROKEN, "Hello"),
    Case(
        "silence in the answer",
        serving(Raw(HELLO, end="stall")),
        "APITimeoutError",
        "Hello",
        settings=quick(),
    ),
    Case(
        "a byte each 0.2 s for ever, beyond the total",
        serving(Answer(stream=repeat("a"), gap=0.2)),
        "APITimeoutError",
        "aaa",
        again=False,
        settings={"limits": {"read": 5, "total": 0.5}},
    ),
    Case(
        "a byte each 0.2 s for ever, slower than the read limit",
        serving(Answer(stream=repeat("a"), gap=0.3)),
        "APITimeoutError",
        "a",
        settings={"limits": {"read": 0.15}},
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
        "an honest answer that ends with the tail's words",
        serving(Answer("It said: ", f"then came {TAIL}")),
        text=f"It said: then came {TAIL}",
    ),
    Case(
        "an endless answer",
        serving(Answer(stream=repeat("x" * 1000))),
        "ReplyTooLargeError",
        "x" * 100_000,
        again=False,
        settings={"max_reply_bytes": 100_000},
    ),
    Case(
        "one chunk without an end",
        serving(Raw(CHUNKED + b"7ffffff\r\n", b"x" * 200_000, end="stall")),
        "ReplyTooLargeError",
        "x" * 100_000,
        again=False,
        settings={"max_reply_bytes": 100_000},
    ),
    Case(
        "characters split everywhere",
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
        "a picture",
        serving(Answer(b"\x89PNG", content_type="image/png")),
        "ProtocolError",
        again=False,
        stops_batch=True,
    ),
    Case("an empty 200", serving(Answer()), "EmptyReplyError", again=False),
    Case(
        "a web page",
        serving(Answer("<!DOCTYPE html><title>Welcome</title>", content_type="text/html")),
        "ProtocolError",
        again=False,
        stops_batch=True,
    ),
    Case(
        "JSON of another API",
        serving(Answer('{"error": "no such route"}', content_type="application/json")),
        "ProtocolError",
        again=False,
        stops_batch=True,
    ),
]

CASES = [*BEFORE_REPLY, *FRAMING, *IN_REPLY]
