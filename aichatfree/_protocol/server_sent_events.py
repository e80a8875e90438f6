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
        max_event: bytes of the longest event.

    Attributes:
        too_long: whether an event was longer, and is lost.
    """

    def __init__(self, max_event: int) -> None:
        self._max_event = max_event
        self._line: list[bytes] = []  # the parts of a line that is incomplete so far
        self._line_size = 0
        self._data: list[str] = []
        self._data_size = 0
        self._name = ""
        self.too_long = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that are complete after one more chunk."""
        self._line.append(chunk)
        self._line_size += len(chunk)
        events = []
        if b"\n" in chunk:
            *lines, rest = b"".join(self._line).replace(b"\r\n", b"\n").split(b"\n")
            self._line, self._line_size = [rest], len(rest)
            for line in lines:
                if line:
                    self._read_field(line)
                    continue
                if data := "\n".join(self._data):
                    events.append(Event(data, self._name))
                self._data, self._data_size, self._name = [], 0, ""
        if self._line_size + self._data_size > self._max_event:
            self.too_long = True
            self._line, self._line_size, self._data, self._data_size = [], 0, [], 0
        return events

    def _read_field(self, line: bytes) -> None:
        field, _, value = line.decode("utf-8", "replace").partition(":")
        if field.lstrip("\ufeff") == "data":
            self._data.append(value.removeprefix(" "))
            self._data_size += len(line)
        elif field == "event":
            self._name = value.strip()

    def finish(self) -> list[Event]:
        """The last event, if no empty line came after it."""
        return self.feed(b"\n\n")
