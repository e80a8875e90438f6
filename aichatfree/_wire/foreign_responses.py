"""Responses that came over connections of others: a user's session, ``responses``, TLS in TLS."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

import requests

from .connection_errors import TRANSPORT_ERRORS

_READ_SIZE: Final = 65536


class UrllibResponse:
    """The body of a ``requests.Response``, read through urllib3.

    Its limits are those of requests: ``read`` applies to each read of the socket.

    Args:
        response: its headers have arrived, and nothing of its body has been read.
        max_bytes: a longer chunk is returned in parts, because it would have to fit into memory.
    """

    def __init__(self, response: requests.Response, max_bytes: float) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        chunked = bool(getattr(response.raw, "chunked", False))
        self.framed: bool = chunked and not response.headers.get("Content-Encoding")
        self._response = response
        self._chunks = self._read_all(response.raw, chunked, max_bytes)

    def read_chunk(self) -> bytes:
        """The next chunk; empty at the end."""
        return next(self._chunks, b"")

    def interrupt(self) -> None:
        """Let the thread that reads it fail."""
        with contextlib.suppress(AttributeError, ValueError, RuntimeError, OSError):
            self._response.raw.shutdown()

    def close(self) -> None:
        """Give the connection back if the response was read to its end, or close it."""
        with contextlib.suppress(*TRANSPORT_ERRORS):
            self._response.close()

    def _read_all(self, raw: Any, chunked: bool, max_bytes: float) -> Iterator[bytes]:
        if chunked:
            largest = None if max_bytes == float("inf") else int(max_bytes) + 1
            chunks: Iterator[bytes] = raw.read_chunked(largest, decode_content=True)
            return chunks
        # read1 is the one method that neither waits for a full buffer nor loses the end.
        return iter(partial(raw.read1, _READ_SIZE, decode_content=True), b"")
