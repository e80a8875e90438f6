"""The turns of a client's requests: one pacer for all, and what the site said to them."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

from ._cancellation import cancelled_error
from ._deadlines import Call
from ._forks import renew_after_fork
from ._pacing import Cancelled, DeadlineExceeded, Pacer
from .errors import APIError, RateLimitError

LEAST_PER_MINUTE = 0.001
MOST_PER_MINUTE = 1_000_000_000
MOST_AHEAD = 1000
"""Milliseconds that a signature's time may be ahead of the clock."""


class RateLimiter:
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
        if max_requests_per_minute is not None and not (
            LEAST_PER_MINUTE <= max_requests_per_minute <= MOST_PER_MINUTE
        ):
            raise ValueError(
                f"max_requests_per_minute must be from {LEAST_PER_MINUTE} to {MOST_PER_MINUTE}"
            )
        self.max_requests_per_minute = max_requests_per_minute
        self._last_words = ""
        self._retry_after: float | None = None
        self._last_signed = 0
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._pacer = Pacer(self.max_requests_per_minute)

    def __getstate__(self) -> dict[str, Any]:
        return {"max_requests_per_minute": self.max_requests_per_minute}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def begin_run(self) -> None:
        """A new batch begins: a quota that was used up before may be there again."""
        if self._pacer.exhausted is not None:
            self.after_fork()

    @property
    def total_wait(self) -> float:
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

    def acquire(self, call: Call) -> int:
        """Wait until the call's next attempt may leave; sign and send it at once.

        Raises:
            StreamInterruptedError: the call was cancelled.
            APITimeoutError: its time is up.
            RateLimitError: its time will be up before its turn comes; nothing was sent.
        """
        latest = min(call.deadline, call.last_attempt_before)
        deadline = None if latest == math.inf else latest
        try:
            turn = self._pacer.acquire(cancelled=call.cancel_token.stopping, deadline=deadline)
        except Cancelled:
            raise cancelled_error() from None
        except DeadlineExceeded:
            raise self._no_turn_in_time(call) from None
        call.begin_attempt()
        return turn

    def time_to_sign(self) -> float:
        """The time, but not the same millisecond twice, as long as that is nearly true.

        Equal questions of two threads would have equal signatures, and look like a replay.
        """
        with self._lock:
            now = time.time_ns() // 1_000_000
            # A clock that was set back, or more than 1,000 requests a second, must not lead astray.
            self._last_signed = max(now, min(self._last_signed + 1, now + MOST_AHEAD))
            return (self._last_signed + 0.5) / 1000

    def _no_turn_in_time(self, call: Call) -> APIError:
        if time.monotonic() >= call.deadline:
            return call.deadline_error()
        said = f" It said: {self._last_words}" if self._last_words else ""
        return RateLimitError(
            "The site's limit lets this request leave only after the call's time is up, so it was "
            f"not sent.{said} Try again later, or allow more time.",
            retry_after=self._retry_after,
            retryable=False,
        )

    def record_rejection(self, number: int, error: APIError) -> None:
        """The attempt that had this turn was rejected."""
        self._last_words, self._retry_after = error.message, error.retry_after
        self._pacer.rejected(number, error.retry_after)
