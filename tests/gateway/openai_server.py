"""A server that `OpenAIUpstream` asks, and questions to it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from aichatfree import Message
from aichatfree.gateway import OpenAIUpstream, Usage
from helpers import LONG

QUESTION: list[Message] = [{"role": "user", "content": "Hi"}]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"


class Server:
    """A server for one request; it sends these parts of a response one by one.

    Args:
        parts: sent as they are.
        hang: then stay silent until the client closes the connection.

    Attributes:
        request: the bytes that were received.
        on_request: called when the request is complete.
        disconnected: set when the client has closed the connection of a server that hangs.
    """

    def __init__(self, *parts: bytes, hang: bool = False) -> None:
        self.parts = parts
        self.hang = hang
        self.request = b""
        self.on_request: Callable[[], None] = lambda: None
        self.disconnected = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(LONG)
                self._respond(connection)

    def _respond(self, connection: socket.socket) -> None:
        while b"\r\n\r\n" not in self.request or not self.request.endswith(b"}"):
            self.request += connection.recv(65536)
        self.on_request()
        try:
            for part in self.parts:
                connection.sendall(part)
                time.sleep(0.005)
            if self.hang:
                assert connection.recv(1) == b""
        except ConnectionError:  # the client has not read everything
            assert self.hang
        if self.hang:
            self.disconnected.set()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(5)

    @property
    def body(self) -> Any:
        return json.loads(self.request.partition(b"\r\n\r\n")[2])


def event(text: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, **more}
    return b"data: " + json.dumps({"choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


@contextlib.contextmanager
def upstream(
    url: str, api_key: str | None = None, *, timeout: float = LONG
) -> Iterator[OpenAIUpstream]:
    with contextlib.closing(OpenAIUpstream(url, "tiny", api_key, timeout=timeout)) as engine:
        yield engine


def generate(
    engine: OpenAIUpstream,
    cancelled: threading.Event | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
) -> Iterator[str | Usage]:
    cancelled = cancelled or threading.Event()
    return engine.generate(
        QUESTION, temperature=temperature, max_tokens=max_tokens, cancelled=cancelled
    )


def in_chunks(parts: list[bytes]) -> list[bytes]:
    """The parts as the chunks of a chunked body."""
    return [b"%x\r\n%b\r\n" % (len(part), part) for part in parts] + [b"0\r\n\r\n"]


CHUNKED = OK.replace(b"Connection: close", b"Transfer-Encoding: chunked")
