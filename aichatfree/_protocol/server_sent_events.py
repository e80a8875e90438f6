"""Server-sent events as bytes: ``EventReader`` splits a body into them. Pure, no I/O."""

from __future__ import annotations

from typing import NamedTuple


class Event(NamedTuple):
    """One server-sent event.

    Attributes:
        data: its lines of data; never empty.
        name: what kind of event it is; ``""`` if it does not say so.
    """

    data: str
    name: str


class EventReader:
    """Splits the chunks of an event stream into events.

    Args:
        max_line: bytes of the longest line.

    Attributes:
        too_long: whether a line was longer, and is lost.
    """

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._rest = b""
        self._data: list[str] = []
        self._name = ""
        self.too_long = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that are complete after one more chunk."""
        *lines, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
        if len(self._rest) > self._max_line:
            self.too_long, self._rest = True, b""
        events = []
        for line in lines:
            if not line:
                if data := "\n".join(self._data):
                    events.append(Event(data, self._name))
                self._data, self._name = [], ""
                continue
            field, _, value = line.decode("utf-8", "replace").partition(":")
            if field.lstrip("\ufeff") == "data":
                self._data.append(value.removeprefix(" "))
            elif field == "event":
                self._name = value.strip()
        return events

    def finish(self) -> list[Event]:
        """The last event, if no empty line came after it."""
        return self.feed(b"\n\n")
