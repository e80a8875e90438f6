"""The connections of the server: those that wait for their client make room for new ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp.web import RequestHandler

MIN_CLIENT_TIMEOUT: Final = 1.0
"""Seconds that a client may always take for a request, even when others need its connection."""


class Connections:
    """Knows which connections wait for a request of their client, and since when.

    Guarantee: no client can keep others out by opening connections and sending nothing, or a
    request that is never complete. Beyond ``max_connections`` there are only those whose requests
    are being answered, and those that were opened in the last ``MIN_CLIENT_TIMEOUT`` seconds.

    All methods are called in the server's event loop.
    """

    def __init__(self, max_connections: int) -> None:
        self._max_connections = max_connections
        self._busy = 0
        # When each connection began to wait for its client, the longest wait first.
        self._waiting_since: dict[RequestHandler, float] = {}

    @property
    def busy(self) -> bool:
        """Whether any request is being answered."""
        return self._busy > 0

    def opened(self, connection: RequestHandler) -> None:
        """A connection is being opened."""
        self._waiting_since[connection] = time.monotonic()
        if self._excess() > 0:
            self._forget_closed_ones()
            self.make_room(self._excess())

    @contextmanager
    def answering(self, connection: RequestHandler) -> Iterator[None]:
        """For as long as a request is being answered, its connection does not wait."""
        self._waiting_since.pop(connection, None)
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._waiting_since[connection] = time.monotonic()

    def _excess(self) -> int:
        return self._busy + len(self._waiting_since) - self._max_connections

    def _forget_closed_ones(self) -> None:
        recently = time.monotonic() - MIN_CLIENT_TIMEOUT
        self._waiting_since = {
            each: since
            for each, since in self._waiting_since.items()
            if each.connected or since > recently  # those that are being opened
        }

    def make_room(self, number: int | None = None) -> None:
        """Close up to so many of the connections that have waited longest, or all of them."""
        limit = time.monotonic() - MIN_CLIENT_TIMEOUT
        longest = [each for each, since in self._waiting_since.items() if since < limit]
        for connection in longest if number is None else longest[: max(0, number)]:
            del self._waiting_since[connection]
            connection.force_close()
