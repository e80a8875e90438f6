"""A site that costs next to nothing: one thread, constant bytes. For measuring clients."""

from __future__ import annotations

import heapq
import multiprocessing
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"


def reply(chunks: Sequence[bytes]) -> bytes:
    """The wire bytes of a chunked answer."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


def whole_request(data: bytes) -> bool:
    """Whether the bytes are one whole request."""
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank:
        return False
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return len(body) >= int(length or 0)


def serve(channel: Any, answer: bytes, delay: float) -> None:
    """Answer every request with the same bytes, ``delay`` seconds after it, until told to stop."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    ready = selectors.DefaultSelector()
    ready.register(listener, selectors.EVENT_READ)
    ready.register(channel, selectors.EVENT_READ)
    channel.send(f"http://127.0.0.1:{listener.getsockname()[1]}")
    unfinished: dict[socket.socket, bytes] = {}
    due: list[tuple[float, int, socket.socket]] = []
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
            data = peer.recv(65536)
            if not data:
                ready.unregister(peer)
                peer.close()
                continue
            data = unfinished.pop(peer, b"") + data
            if not whole_request(data):
                unfinished[peer] = data
            elif delay:
                heapq.heappush(due, (time.monotonic() + delay, peer.fileno(), peer))
            else:
                peer.sendall(answer)
        while due and due[0][0] <= time.monotonic():
            heapq.heappop(due)[2].sendall(answer)


@contextmanager
def raw_site(chunks: Sequence[bytes] = (b"a short answer",), delay: float = 0.0) -> Iterator[str]:
    """The URL of such a site, in a process of its own so that it does not share our interpreter."""
    here, there = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    server = spawn.Process(target=serve, args=(there, reply(chunks), delay))
    server.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        server.join()
