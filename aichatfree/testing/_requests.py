"""A request as the site received it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any


class Headers(Mapping[str, str]):
    """Headers by name in any case; the values of a repeated header are joined with a comma."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._values: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError(f"not a header: {line!r}")
            name, value = name.lower(), value.strip()
            self._values[name] = f"{self._values[name]}, {value}" if name in self else value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)


class Request:
    """A request as the site received it.

    >>> from aichatfree.testing import FakeSite
    >>> with FakeSite("Hello") as site:
    ...     reply = aichatfree.Client(site.url).generate("Hi")
    >>> site.requests[0], site.requests[0].text
    (<Request POST /api/generate on connection 1>, 'Hi')

    Attributes:
        method: such as ``"POST"``.
        path: such as ``"/api/generate"``; a complete URL when the site is used as a proxy.
        version: ``"HTTP/1.1"`` or ``"HTTP/1.0"``.
        headers: a mapping whose names match in any case.
        body: the bytes of the body.
        connection: the number of the TCP connection on which it arrived, from 1.
        received: when it had arrived completely, in seconds of ``time.monotonic()``.
        disconnected: a ``threading.Event``, set once the site notices that the client closed the
            connection before the end of the response: at once during a silence, otherwise when the
            site sends the next bytes.
    """

    def __init__(
        self, method: str, path: str, version: str, headers: Headers, body: bytes, connection: int
    ) -> None:
        self.method = method
        self.path = path
        self.version = version
        self.headers = headers
        self.body = body
        self.connection = connection
        self.received: float = time.monotonic()
        self.disconnected: threading.Event = threading.Event()

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path} on connection {self.connection}>"

    @cached_property
    def json(self) -> Any:
        """The parsed body, or None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def text(self) -> str:
        """The text of the last message in either dialect, or ``""`` if there is none."""
        try:
            message = self.json["messages"][-1]
            if "content" in message:
                return str(message["content"])
            return "".join(part["text"] for part in message["parts"])
        except (KeyError, IndexError, TypeError):
            return ""
