"""The bytes of one response become its head and its chunks. No sockets in here."""

from __future__ import annotations

import contextlib
import math
import re
from collections import deque
from collections.abc import Iterable
from typing import Final

import httptools
from urllib3.exceptions import ProtocolError

_MAX_OVERHEAD: Final = 128 * 1024
"""Bytes without any of the body: a head, interim responses, extensions of a chunk, trailers."""

_MAX_HEADERS: Final = 100

_KEEP_ALIVE_TIMEOUT: Final = re.compile(r"\btimeout\s*=\s*(\d{1,9})")


class ResponseError(ProtocolError):
    """The rest of a response cannot be read. The message never contains any of its bytes."""


class MalformedResponseError(ResponseError):
    """The response breaks the rules of HTTP/1.1."""


class IncompleteResponseError(ResponseError):
    """The connection ended before the response did."""


class BodyTooLongError(ResponseError):
    """The body is longer than the caller allows."""


class Headers(dict[str, str]):
    """The headers of a response; names are looked up in any case, repeated ones are joined."""

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        for name, value in fields:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
            super().__setitem__(key, f"{super().get(key)}, {text}" if key in self else text)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        return super().get(name.lower(), default)


_NO_HEADERS: Final = Headers()


class ResponseParser:
    """Reads one response with llhttp, which is strict about heads, lengths and chunk sizes.

    Refused beyond what llhttp refuses: anything but HTTP/1.x, empty lines before the head, and
    heads of more than 100 headers or 128 KiB. Interim responses (100, 102, 103) are skipped.

    Attributes:
        status: the HTTP status; 0 until the head is complete.
        headers: the headers, without trailers.
        framed: whether each of the chunks is one HTTP chunk as the site sent it. Otherwise they are
            whatever each read of the socket returned.
        chunks: those that arrived and have not been taken; the reader may be another thread.
        received: bytes of the body so far, including those of an incomplete chunk.
        progress: grows with the head and with each chunk, but not within one.
        complete: whether the body has ended as it should.
        keep_alive: whether the site accepts another request; known once the response is complete.
        surplus: whether bytes followed the response.
    """

    def __init__(self, max_bytes: float) -> None:
        self.status: int = 0
        self.headers: Headers = _NO_HEADERS
        self.framed: bool = False
        self.chunks: deque[bytes] = deque()
        self.received: int = 0
        self.progress: int = 0
        self.complete: bool = False
        self.keep_alive: bool = False
        self.surplus: bool = False
        self._max_bytes = max_bytes
        self._overhead = 0
        self._fields: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._chunked = False
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Continue with what arrived.

        Raises:
            MalformedResponseError, BodyTooLongError: the rest of the response cannot be read.
        """
        if self._parser is None:
            self.surplus = True
            return
        if not (self.status or self._overhead or data[:1] == b"H"):
            raise MalformedResponseError("the response is not HTTP")
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__ or error
            if not self.complete or not isinstance(cause, MalformedResponseError):
                raise cause from None
            self.surplus = True
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise MalformedResponseError(str(error)) from None
            self.surplus = True
        if self.complete:
            self._parser = None  # it refers back to this object
        elif self._overhead > _MAX_OVERHEAD:
            raise MalformedResponseError("the head is too long")

    def feed_eof(self, *, clean: bool = True) -> None:
        """The connection has ended.

        Args:
            clean: whether the other side said so. Over TLS, anybody on the way can cut a connection
                and thereby a body that ends with it.

        Raises:
            IncompleteResponseError: the response has not.
        """
        if self.complete:
            return
        if not self.status:
            raise IncompleteResponseError("the head is incomplete")
        if self._chunked:
            self._end_chunked_body()
        elif "content-length" in self.headers or not clean:
            raise IncompleteResponseError("the body is incomplete")
        self.complete = True
        self._parser = None

    @property
    def seconds_reusable(self) -> float:
        """For how long the site keeps its connection for another request; 0 if it does not."""
        if not self.complete or not self.keep_alive or self.surplus:
            return 0.0
        named = _KEEP_ALIVE_TIMEOUT.search(self.headers.get("keep-alive").lower())
        if named is None:
            return math.inf
        seconds = float(named[1])
        return seconds - min(1.0, seconds / 2)  # the next request has to get there in time

    def close(self) -> None:
        """Read no further, and break the reference cycle with llhttp's parser."""
        self._parser = None

    def _end_chunked_body(self) -> None:
        # Some sites leave out the empty line after the last chunk and close the connection.
        parser = self._parser
        if parser is not None and not self._parts:
            with contextlib.suppress(httptools.HttpParserError):
                parser.feed_data(b"\r\n")
        if not self.complete:
            raise IncompleteResponseError("the body is incomplete")

    # What follows is called by llhttp.

    def on_message_begin(self) -> None:
        if self.complete:
            raise MalformedResponseError("another response follows")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))
        if len(self._fields) > _MAX_HEADERS:
            raise MalformedResponseError("too many headers")

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser is None:
            raise IncompleteResponseError("the exchange was closed")
        fields, self._fields = self._fields, []
        status = parser.get_status_code()
        if not parser.get_http_version().startswith("1.") or status < 100 or status == 101:
            raise MalformedResponseError(f"status {status} of HTTP/{parser.get_http_version()}")
        if status < 200:
            return
        self.headers = Headers(fields)
        codings = self.headers.get("transfer-encoding").lower()
        self._chunked = codings.rpartition(",")[2].strip() == "chunked"
        self.framed = self._chunked and "content-encoding" not in self.headers
        self.progress += 1
        self.status = status

    def on_body(self, data: bytes) -> None:
        self._overhead = 0
        self.received += len(data)
        self._parts.append(data)
        too_long = self.received > self._max_bytes
        if too_long or not self.framed:
            self._end_chunk()
        if too_long:
            raise BodyTooLongError

    def on_chunk_complete(self) -> None:
        if self._parts:
            self._end_chunk()

    def on_message_complete(self) -> None:
        parser = self._parser
        if self.status and parser is not None:
            self.keep_alive = parser.should_keep_alive()
            self.complete = True

    def _end_chunk(self) -> None:
        parts = self._parts
        self.chunks.append(parts[0] if len(parts) == 1 else b"".join(parts))
        self.progress += 1
        parts.clear()
