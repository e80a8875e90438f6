"""Faults before a reply: of the network, of proxies and TLS, and of the head of the response."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Final

from aichatfree.testing import Answer, FakeSite, Raw

from .case import CHUNKED, FAULT, HEAD, HELLO, WELL, Case, Place, serving, timeouts
from .tls import tls_site

#: A URL where connections are refused: nothing listens on this port, which only root could open.
UNREACHABLE: Final = "http://127.0.0.1:1"


@contextmanager
def connection_refused() -> Iterator[Place]:
    yield Place(UNREACHABLE)


@contextmanager
def no_such_host() -> Iterator[Place]:
    yield Place("http://no-such-host.invalid")


@contextmanager
def dead_proxy() -> Iterator[Place]:
    yield Place("http://site.example", proxy=UNREACHABLE)


@contextmanager
def refusing_proxy() -> Iterator[Place]:
    refusal = Raw(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    with FakeSite(refusal) as proxy:
        # For https a client asks the proxy for a tunnel, so this answer is not the site's.
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
    with FakeSite("The client was redirected.") as elsewhere:
        location = {"Location": f"{elsewhere.url}/api/generate"}
        moved = Answer(status=307, body="", headers=location)
        with FakeSite(lambda request: moved if request.text == FAULT else WELL) as site:
            yield Place(site.url, requests=site.requests, elsewhere=elsewhere.requests)


BEFORE_REPLY = [
    Case("connection refused", connection_refused, "APIConnectionError", serves_others=False),
    Case("no such host", no_such_host, "APIConnectionError", fatal=True, serves_others=False),
    Case("proxy dead", dead_proxy, "APIConnectionError", serves_others=False),
    Case("proxy refuses", refusing_proxy, "APIConnectionError", serves_others=False),
    Case(
        "certificate of an unknown authority",
        untrusted_certificate,
        "APIConnectionError",
        retryable=False,
        fatal=True,
        serves_others=False,
    ),
    Case("https to a port without TLS", no_tls, "APIConnectionError", serves_others=False),
    Case("reset", serving(Raw(end="reset")), "APIConnectionError"),
    Case("closed", serving(Raw(end="cut")), "APIConnectionError"),
    Case("silence", serving(Raw(end="stall")), "APITimeoutError", settings=timeouts()),
    Case("half a status line", serving(Raw(b"HTTP/1.1 20")), "APIConnectionError"),
    Case(
        "half a status line and silence",
        serving(Raw(b"HTTP/1.1 20", end="stall")),
        "APITimeoutError",
        settings=timeouts(),
    ),
    Case("half of the headers", serving(Raw(HEAD)), "APIConnectionError"),
    Case(
        "cut in the header that states the framing",
        serving(Raw(CHUNKED[:-8])),
        "APIConnectionError",
    ),
    Case(
        "a line in the head that is not a header, before the length of a cut body",
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
        "headers that arrive slowly and never end",
        serving(Raw(HEAD + b"X-Endless: ", *[b"x"] * 1000, gap=0.05)),
        "APITimeoutError",
        settings=timeouts(connect=0.2),
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
    Case("204", serving(Answer(status=204, body="")), "EmptyReplyError"),
    Case("redirect to another host", redirect, "ProtocolError", retryable=False, fatal=True),
    Case(
        "redirect to a web page",
        serving(Answer(status=302, body="", headers={"Location": "/"})),
        "ProtocolError",
        retryable=False,
        fatal=True,
    ),
    Case(
        "an error body that arrives slowly and never ends",
        serving(Answer(status=500, stream=repeat("x"), gap=0.05)),
        "ServerError",
        settings=timeouts(),
    ),
]
