"""A site that costs next to nothing: one thread, constant bytes. For measuring clients."""

from __future__ import annotations

import heapq
import selectors
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from benchmarks.elsewhere import elsewhere

TEXT = "text/plain; charset=utf-8"


def reply(chunks: Iterable[bytes], content_type: str = TEXT, *, ended: bool = True) -> bytes:
    """The wire bytes of a chunked answer, or of the beginning of one."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head.encode() + body + (b"0\r\n\r\n" if ended else b"")


def whole_request(data: bytes) -> bool:
    """Whether the bytes are one whole request."""
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank:
        return False
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return len(body) >= int(length or 0)


def path_of(request: bytes) -> str:
    return request.split(b" ", 2)[1].decode()


def serve(channel: Any, answer: bytes, delay: float, answers: Mapping[str, bytes]) -> None:
    """Answer a path with always the same bytes, ``delay`` seconds after it, until told to stop."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    ready = selectors.DefaultSelector()
    ready.register(listener, selectors.EVENT_READ)
    ready.register(channel, selectors.EVENT_READ)
    channel.send(f"http://127.0.0.1:{listener.getsockname()[1]}")
    unfinished: dict[socket.socket, bytes] = {}
    due: list[tuple[float, int, socket.socket, bytes]] = []
    while True:
        wait = max(0.0, due[0][0] - time.monotonic()) if due else None
        for key, _ in ready.select(wait):
            peer: Any = key.fileobj
            if peer is channel:
                return
            if peer is listener:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.register(connection, selectors.EVENT_READ)
                continue
            data = received(peer)
            if not data:
                ready.unregister(peer)
                peer.close()
                unfinished.pop(peer, None)
                continue
            data = unfinished.pop(peer, b"") + data
            if not whole_request(data):
                unfinished[peer] = data
                continue
            wanted = answers.get(path_of(data), answer)
            heapq.heappush(due, (time.monotonic() + delay, peer.fileno(), peer, wanted))
        while due and due[0][0] <= time.monotonic():
            _, _, peer, wanted = heapq.heappop(due)
            with suppress(OSError):  # it has hung up
                peer.sendall(wanted)


def received(peer: socket.socket) -> bytes:
    try:
        return peer.recv(65536)
    except OSError:
        return b""  # it hung up in the middle of an answer


@contextmanager
def raw_site(
    chunks: Iterable[bytes] = (b"a short answer",),
    delay: float = 0.0,
    answers: Mapping[str, bytes] | None = None,
) -> Iterator[str]:
    """The URL of such a site, in a process of its own so that it does not share our interpreter.

    ``answers`` has the wire bytes for some paths; any other path is answered with the ``chunks``.
    """
    with elsewhere(serve, reply(chunks), delay, answers or {}) as url:
        yield url
