"""The bytes of a response: what an `Answer` becomes in reply to one request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from http import HTTPStatus

from ._answers import Answer, Framing, to_bytes
from ._requests import Request

_FAILURE_TAIL = b"Internal server error"
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Response:
    """An `Answer` with its headers and its framing.

    Attributes:
        head: the status line and the headers.
        keep_alive: whether another request may follow on the connection.
    """

    def __init__(self, answer: Answer, request: Request, clock_offset: float) -> None:
        self._answer = answer
        self._framing: Framing = answer.framing
        if answer.framing == "chunked" and request.version == "HTTP/1.0":
            self._framing = "close"
        closes = self._framing == "close" or _asks_to_close(request)
        defaults = self._default_headers(closes, clock_offset)
        given = [*defaults.items(), *answer.headers.items()]
        lines = {name.lower(): f"{name}: {value}\r\n" for name, value in given}
        reason = _REASONS.get(answer.status, "Unknown")
        start = f"HTTP/1.1 {answer.status} {reason}\r\n"
        self.head = f"{start}{''.join(lines.values())}\r\n".encode("latin-1")
        self.keep_alive = not closes and lines["connection"].lower() != "connection: close\r\n"

    def chunks(self) -> Iterator[bytes]:
        """The body's chunks in their framing; an empty chunk gives no bytes."""
        for chunk in self._body():
            if chunk and self._framing == "chunked":
                yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
            else:
                yield chunk

    def last_chunk(self) -> bytes:
        """What tells the client that the body is complete, if that takes any bytes."""
        complete = self._answer.end in ("clean", "tail")
        return b"0\r\n\r\n" if complete and self._framing == "chunked" else b""

    def _body(self) -> Iterator[bytes]:
        yield from map(to_bytes, self._answer.chunks)
        if self._answer.end == "tail":
            yield _FAILURE_TAIL

    def _default_headers(self, closes: bool, clock_offset: float) -> dict[str, str]:
        headers = {
            "Date": formatdate(time.time() + clock_offset, usegmt=True),
            "Connection": "close" if closes else "keep-alive",
        }
        if self._answer.content_type is not None:
            headers["Content-Type"] = self._answer.content_type
        if self._framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        if self._framing == "length":
            # An incomplete answer promises one byte that is never sent.
            incomplete = self._answer.end in ("cut", "reset", "stall")
            headers["Content-Length"] = str(sum(map(len, self._body())) + incomplete)
        return headers


def _asks_to_close(request: Request) -> bool:
    closes = request.headers.get("Connection", "").lower() == "close"
    return closes or request.version == "HTTP/1.0"
