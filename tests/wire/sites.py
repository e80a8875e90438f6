"""Servers of raw bytes: a site behind TLS, and proxies in front of one."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import trustme

from aichatfree import Client, StreamInterruptedError

Handler = Callable[[socket.socket], None]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
HELLO = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n0\r\n\r\n"


@contextmanager
def server(handle: Handler, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A port whose connections are each handled in a thread; through TLS if there is a context."""
    threads: list[threading.Thread] = []
    spares: list[socket.socket] = []

    def run(connection: socket.socket, spare: socket.socket) -> None:
        with spare, suppress(OSError), connection:
            if context is None:
                handle(connection)
            else:
                with context.wrap_socket(connection, server_side=True) as tls:
                    handle(tls)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection = listener.accept()[0]
                spares.append(connection.dup())  # TLS takes the first one over
                threads.append(threading.Thread(target=run, args=(connection, spares[-1])))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept, args=(listener,))
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for spare in spares:
                with suppress(OSError):
                    spare.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def read_request(connection: socket.socket) -> bytes:
    """The head and the body of a request; empty if the client closed the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            return b""
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def responding(*responses: bytes, requests: list[bytes] | None = None) -> Handler:
    """Handles each connection with these responses in turn, the last one again and again."""

    def handle(connection: socket.socket) -> None:
        remaining = list(responses)
        while request := read_request(connection):
            if requests is not None:
                requests.append(request)
            connection.sendall(remaining.pop(0) if len(remaining) > 1 else remaining[0])

    return handle


def certificates(name: str = "127.0.0.1") -> tuple[ssl.SSLContext, trustme.CA]:
    """A server's context with a certificate for this name, and the authority that issued it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context, authority


def forward(one: socket.socket, port: int) -> None:
    """Connect to a port of this machine and pass on bytes in both directions."""
    with socket.create_connection(("127.0.0.1", port)) as other:
        back = threading.Thread(target=_copy, args=(other, one))
        back.start()
        _copy(one, other)
        back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def connect_proxy(target: int, seen: list[bytes]) -> Handler:
    """A proxy that opens a tunnel to the port, whatever host is asked for."""

    def handle(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        forward(connection, target)

    return handle


def socks_proxy(target: int, seen: list[bytes]) -> Handler:
    """A SOCKS5 proxy without a password that connects to the port, whatever host is asked for."""

    def handle(connection: socket.socket) -> None:
        _, methods = struct.unpack("BB", connection.recv(2))
        connection.recv(methods)
        connection.sendall(b"\x05\x00")
        _, _, _, kind = struct.unpack("BBBB", connection.recv(4))
        length = connection.recv(1)[0] if kind == 3 else 4
        seen.append(connection.recv(length))
        connection.recv(2)
        connection.sendall(b"\x05\x00\x00\x01" + bytes(6))
        forward(connection, target)

    return handle


PROMPTLY = 2.0
"""Seconds; on a busy machine a thread may have to wait for its turn."""


def cancelled_after(seconds: float, client: Client) -> float:
    """How long a stream takes to end after it was cancelled by another thread."""
    stream = client.stream("Hi")
    cancelled_at = 0.0

    def cancel() -> None:
        nonlocal cancelled_at
        cancelled_at = time.monotonic()
        stream.cancel()

    timer = threading.Timer(seconds, cancel)
    timer.start()
    with pytest.raises(StreamInterruptedError, match="cancelled"):
        stream.read()
    timer.join()
    return time.monotonic() - cancelled_at
