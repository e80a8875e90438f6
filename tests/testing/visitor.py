"""A plain HTTP client, independent of the package, that sends what a test wants."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any

from aichatfree.testing import FakeSite
from helpers import LONG

#: A header by which an answer ends its connection, so that a socket can be read to its end.
CLOSE = {"Connection": "close"}


class Visitor:
    """Opens connections to sites, which `close` closes; the fixture ``visitor`` does that."""

    def __init__(self) -> None:
        self._opened: list[HTTPConnection | HTTPResponse | socket.socket] = []

    def close(self) -> None:
        while self._opened:
            self._opened.pop().close()

    def connect(self, site: FakeSite) -> HTTPConnection:
        connection = HTTPConnection(site.url.removeprefix("http://"), timeout=LONG)
        self._opened.append(connection)
        return connection

    def post(self, connection: HTTPConnection, text: str = "Hi", **body: Any) -> HTTPResponse:
        """Send a prompt; its fields can be replaced and extended."""
        body = {"messages": [{"role": "user", "parts": [{"text": text}]}], **body}
        connection.request("POST", "/api/generate", json.dumps(body))
        response = connection.getresponse()
        self._opened.append(response)
        return response

    def ask(self, site: FakeSite, text: str = "Hi", **body: Any) -> tuple[int, str]:
        """Send a prompt over a new connection; the status and the text of the response."""
        response = self.post(self.connect(site), text, **body)
        return response.status, response.read().decode()

    def open_socket(self, site: FakeSite) -> socket.socket:
        host, _, port = site.url.removeprefix("http://").partition(":")
        sock = socket.create_connection((host, int(port)), timeout=LONG)
        self._opened.append(sock)
        return sock

    def post_on_socket(self, site: FakeSite, version: str = "HTTP/1.1") -> socket.socket:
        """A socket on which an empty JSON object has been sent as a prompt."""
        sock = self.open_socket(site)
        sock.sendall(f"POST /api/generate {version}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        return sock

    def body_as_sent(self, site: FakeSite, version: str = "HTTP/1.1") -> bytes:
        """The body of a response with the bytes of its framing."""
        response = b"".join(reads(self.post_on_socket(site, version)))
        return response.partition(b"\r\n\r\n")[2]


def reads(sock: socket.socket) -> Iterator[bytes]:
    """What each read of the socket returns, until the site closes the connection."""
    while data := sock.recv(65536):
        yield data


def read_until(sock: socket.socket, mark: bytes) -> bytes:
    received = b""
    while mark not in received:
        data = sock.recv(65536)
        assert data, f"the connection was closed after {received!r}"
        received += data
    return received
