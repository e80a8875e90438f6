"""Which connections a pool keeps while they are idle, and for how long."""

from __future__ import annotations

from typing import Final, Generic, Protocol, TypeVar

_SURPLUS_IDLE_TIME: Final = 30.0
"""Seconds without use after which connections beyond ``max_idle`` are closed."""


class Discardable(Protocol):
    """A connection, as far as it is kept.

    Attributes:
        idle_since: when it was used last (monotonic clock).
    """

    idle_since: float

    def discard(self) -> None:
        """Close it."""


C = TypeVar("C", bound=Discardable)


class Connections(Generic[C]):
    """All connections of a pool. The multiplexer's lock guards them.

    How long a site keeps an idle connection is checked when it is taken: ``ResponseParser`` knows
    what the site stated.

    Attributes:
        idle: those that can be taken, the one used last at the end.
        open: all that are not closed.
        closed: whether none is kept any longer.
    """

    def __init__(self, max_idle: int) -> None:
        self.idle: dict[C, None] = {}
        self.open: set[C] = set()
        self.closed = False
        self._max_idle = max_idle

    def keep(self, connection: C) -> None:
        """Keep an idle connection, and close the oldest ones beyond ``max_idle``."""
        self.idle[connection] = None
        while len(self.idle) > self._max_idle:
            oldest = next(iter(self.idle))
            if oldest.idle_since > connection.idle_since - _SURPLUS_IDLE_TIME:
                break
            oldest.discard()

    def forget(self, connection: C) -> None:
        """It is closed."""
        self.idle.pop(connection, None)
        self.open.discard(connection)
