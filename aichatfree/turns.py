"""The turns of a client's requests: one pacer for all, and what the site said to them."""

from __future__ import annotations

import math
from typing import Any

from .errors import APIError
from .forks import renew_after_fork
from .limits import Call, cancelled_error
from .pacing import Cancelled, DeadlineExceeded, Pacer


class Turns:
    """Lets each attempt wait for its turn, and learns from those that the site turns away.

    Args:
        max_requests_per_minute: the site's limit, or ``None`` to learn it.

    Raises:
        TypeError, ValueError: it is not a positive number.
    """

    def __init__(self, max_requests_per_minute: float | None) -> None:
        if max_requests_per_minute is not None and (
            isinstance(max_requests_per_minute, bool)
            or not isinstance(max_requests_per_minute, (int, float))
        ):
            raise TypeError("max_requests_per_minute must be a number")
        self.max_requests_per_minute = max_requests_per_minute
        self._last_words = ""
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._pacer = Pacer(self.max_requests_per_minute)

    def __getstate__(self) -> dict[str, Any]:
        return {"max_requests_per_minute": self.max_requests_per_minute}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def waited(self) -> float:
        """Seconds that requests have waited for their turn, all threads together."""
        return self._pacer.waited

    @property
    def waiting(self) -> int:
        """How many requests are waiting now."""
        return self._pacer.waiting

    @property
    def exhausted(self) -> str | None:
        """Why it is pointless to go on for now, with the site's own words; or ``None``."""
        reason = self._pacer.exhausted
        return None if reason is None else f"{reason}. The last answer was: {self._last_words}"

    def take(self, call: Call) -> int:
        """Wait until the call's next attempt may leave; sign and send it at once.

        Raises:
            StreamInterruptedError: the call was cancelled.
            APITimeoutError: its time is up before its turn comes.
        """
        deadline = None if call.deadline == math.inf else call.deadline
        try:
            turn = self._pacer.acquire(cancelled=call.stop, deadline=deadline)
        except Cancelled:
            raise cancelled_error() from None
        except DeadlineExceeded:
            raise call.overdue_error() from None
        call.turn_has_come()
        return turn

    def turned_away(self, number: int, error: APIError) -> None:
        """The attempt that had this turn was rejected."""
        self._last_words = error.message
        self._pacer.rejected(number, error.retry_after)
