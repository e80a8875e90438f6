"""The site's connections and threads: when they are closed, and that none is left behind."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import pytest

from aichatfree.testing import Answer, FakeSite, Raw, Request
from helpers import AT_ONCE, HANG, LONG, SHORT

from .visitor import CLOSE, Visitor, read_until, reads


@pytest.mark.parametrize(
    "answer",
    [
        Answer("Hello", end="stall"),
        Answer("Hello", "again", gap=HANG),
        Answer(stream=itertools.repeat("Hello")),
        Raw(b"HTTP/1.1 200 OK\r\n\r\nHello", end="stall"),
    ],
    ids=["stall", "gap", "busy", "raw"],
)
def test_a_client_that_disconnects_early_is_noticed(visitor: Visitor, answer: Answer | Raw) -> None:
    """A request is marked as disconnected soon after its client leaves in mid-response."""
    with FakeSite(answer) as site:
        with visitor.post_on_socket(site) as sock:
            read_until(sock, b"Hello")
            assert not site.requests[0].disconnected.is_set()
        assert site.requests[0].disconnected.wait(AT_ONCE)


def test_a_client_that_disconnects_after_the_end_is_not_marked(visitor: Visitor) -> None:
    """A request is not marked as disconnected if its client leaves after the end of the answer."""
    with FakeSite() as site:
        visitor.ask(site)
        visitor.close()
    assert not site.requests[0].disconnected.is_set()


def test_idle_connections_are_closed(visitor: Visitor) -> None:
    """A connection that waits longer than idle_timeout for its next request is closed."""
    with FakeSite(idle_timeout=SHORT) as site:
        start = time.monotonic()
        list(reads(visitor.post_on_socket(site)))
        assert SHORT - 0.01 < time.monotonic() - start < SHORT + AT_ONCE


@pytest.mark.parametrize("end", ["clean", "stall"])
def test_drop_connections_closes_them_immediately(visitor: Visitor, end: Any) -> None:
    """drop_connections closes idle and busy connections; new ones are served as before."""
    with FakeSite([Answer("Hello", end=end), "again"], idle_timeout=HANG) as site:
        sock = visitor.post_on_socket(site)
        read_until(sock, b"Hello")
        site.drop_connections()
        assert b"".join(reads(sock)) in (b"", b"0\r\n\r\n")
        assert visitor.ask(site)[1] == "again"
    assert not site.requests[0].disconnected.is_set()


def test_pipelined_requests_are_answered_in_order(visitor: Visitor) -> None:
    """A request that arrives during an answer is answered after it, on the same connection."""
    with FakeSite([Answer("one", "", gap=SHORT), Answer("two", headers=CLOSE)]) as site:
        sock = visitor.post_on_socket(site)
        sock.sendall(b"POST /api/generate HTTP/1.1\r\n\r\n")
        received = b"".join(reads(sock))
    assert received.index(b"one") < received.index(b"two")


def test_a_malformed_request_is_a_400(visitor: Visitor) -> None:
    """A request that is not HTTP is answered with 400 and is not recorded."""
    with FakeSite() as site:
        sock = visitor.open_socket(site)
        sock.sendall(b"hello\r\n\r\n")
        assert b"".join(reads(sock)).startswith(b"HTTP/1.1 400 ")
    assert site.requests == []


def test_256_connections_are_served_simultaneously(visitor: Visitor) -> None:
    """256 requests are answered by callables that all run at the same time."""
    all_connected = threading.Barrier(256, timeout=LONG)

    def meet(request: Request) -> str:
        all_connected.wait()
        return "met"

    with FakeSite(meet) as site:
        socks = [visitor.post_on_socket(site, "HTTP/1.0") for _ in range(256)]
        assert all(b"".join(reads(sock)).endswith(b"met") for sock in socks)


@pytest.mark.parametrize("busy", [False, True])
def test_a_site_starts_and_stops_quickly_and_leaves_nothing_behind(
    visitor: Visitor, busy: bool
) -> None:
    """A site starts and stops in well under a second, and leaves no thread and no open port."""
    before = threading.enumerate()
    start = time.monotonic()
    with FakeSite(Answer("Hello", end="stall" if busy else "clean")) as site:
        socks = [visitor.post_on_socket(site) for _ in range(8)]
        assert all(read_until(sock, b"Hello") for sock in socks)
    assert time.monotonic() - start < AT_ONCE
    assert threading.enumerate() == before
    with pytest.raises(ConnectionRefusedError):
        visitor.open_socket(site)
