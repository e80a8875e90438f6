"""Makes the threads of a client wait until the site's rate limit lets their requests be sent."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ._adaptive_rate import AdaptiveRate, Phase
from ._arguments import check_number
from ._call import MAX_SINGLE_WAIT, Call
from ._forks import renew_after_fork
from ._prompt_rejections import Cause, PromptRejections
from ._slot_queue import SlotQueue, run_again_in
from .errors import APIError, RateLimitError, StatedLimits

_MIN_REQUESTS_PER_MINUTE: Final = 0.001
_MAX_REQUESTS_PER_MINUTE: Final = 1_000_000_000
_MAX_STATED_PERIOD: Final = 3600.0
"""Seconds; requests are not spread evenly over a longer period, such as a day."""


@dataclass(frozen=True)
class RateStatus:
    """The rate limit of a site at one moment.

    Attributes:
        requests_per_minute: the limit; ``None`` if there is none.
        source: ``configured``, ``stated`` (by the site) or ``learned`` (from rejections).
        rejections: requests that were rejected so far.
        is_outage: whether the site accepts nothing.
        is_exhausted: whether its quota is used up.
    """

    requests_per_minute: float | None
    source: str
    rejections: int
    is_outage: bool
    is_exhausted: bool


class RateLimiter(SlotQueue[int]):
    """Decides when each request to a site is sent, and learns from those that are rejected.

    No thread waits before the first rejection, unless a limit is configured; see `SlotQueue` for
    how they wait.

    Args:
        max_requests_per_minute: the site's limit, or ``None`` to learn it. A lower limit that a
            rejection states (``error.limits``) is adopted in the same way.
        clock: returns seconds; the clock of the calls' deadlines.
        wait: sleeps for so many seconds, or until the event is set.

    Raises:
        TypeError: the limit is not a number.
        ValueError: it is out of range.
    """

    def __init__(
        self,
        max_requests_per_minute: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        if max_requests_per_minute is not None:
            check_number(
                "max_requests_per_minute",
                max_requests_per_minute,
                min=_MIN_REQUESTS_PER_MINUTE,
                max=_MAX_REQUESTS_PER_MINUTE,
            )
        super().__init__(clock, wait)
        self.max_requests_per_minute = max_requests_per_minute
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        super().after_fork()
        self._stated_rate = math.inf  # requests/s that the site says it allows
        self._reset(sent=0)
        self._accepted: deque[int] = deque(maxlen=1000)  # the numbers of the last requests answered
        self._rejected = 0  # requests
        self._last_message = ""
        self._retry_at = -math.inf  # clock time, as the last rejection stated it

    def _reset(self, sent: int) -> None:
        """Forget what was learnt; rejections of requests up to `sent` are ignored."""
        per_minute = self.max_requests_per_minute
        configured = math.inf if per_minute is None else per_minute / 60
        self._adaptive_rate = AdaptiveRate(min(configured, self._stated_rate), sent=sent)
        self._evidence = 0  # rejections that the rate was learnt from

    def __getstate__(self) -> dict[str, Any]:
        return {"max_requests_per_minute": self.max_requests_per_minute}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def exhausted(self) -> str | None:
        """Why further requests are pointless for now, with the site's last message."""
        reason = self._adaptive_rate.exhausted
        if reason is None:
            return None
        again = run_again_in(self._retry_at - self._clock())
        message = f"The site's last message was: {self._last_message}"
        return f"the site's quota seems to be exhausted: {reason}{again}. {message}"

    @property
    def status(self) -> RateStatus:
        """The present rate limit."""
        rate = self._adaptive_rate
        source = "learned" if self.max_requests_per_minute is None else "configured"
        return RateStatus(
            None if math.isinf(rate.rate) else rate.rate * 60,
            "stated" if self._stated_rate < math.inf else source,
            self._rejected,
            rate.phase in (Phase.OUTAGE, Phase.PROBING),
            rate.exhausted is not None,
        )

    def begin_run(self) -> None:
        with self._lock:
            if self._adaptive_rate.exhausted is not None:
                self._reset(self._adaptive_rate.sent)

    def acquire(self, call: Call) -> int:
        """Wait until the next attempt of a call may be sent; send it at once.

        Returns:
            The number of the request, for :meth:`record_rejection`.

        Raises:
            StreamInterruptedError: the call was cancelled.
            APITimeoutError: its deadline has passed.
            RateLimitError: its deadline is before the slot of its request, or it has no retries
                and would wait too long for a site that rejects requests.
        """
        return self._acquire(call, self._take)

    def try_acquire(self, *, delayed: bool) -> int | None:
        """Take the slot of a request that is sent now; ``None`` if it is not free.

        Args:
            delayed: whether the request had to wait for it.
        """
        with self._lock:
            now = self._clock()
            is_free = not self._queue and self._adaptive_rate.slot <= now
            return self._take(now, delayed) if is_free else None

    @property
    def slot(self) -> float:
        """The clock time from which on the next request may be sent."""
        return self._adaptive_rate.slot

    @property
    def earliest(self) -> float:
        """The clock time before which no further request can be sent."""
        return self._adaptive_rate.earliest(0)

    @property
    def is_reduced(self) -> bool:
        """Whether rejections delay requests now, more than a configured limit does."""
        return self._adaptive_rate.is_reduced

    def record_answer(self, number: int) -> None:
        """Learn that the site answered request `number`."""
        with self._lock:
            self._accepted.append(number)

    def record_rejection(self, number: int, error: APIError, prompt: PromptRejections) -> None:
        """Learn that the site rejected a request because there are too many.

        Report each rejection once. Other failures, such as a lost connection, are not reported.
        If the site rejects only this prompt, the error becomes a failure that is not retried, and
        what was learnt from it is forgotten.

        Args:
            number: what :meth:`acquire` returned for the request.
            error: how the site answered it.
            prompt: the earlier rejections of the same prompt.
        """
        with self._lock:
            now = self._clock()
            self._last_message, self._retry_at = error.message, now + (error.retry_after or 0.0)
            cause = prompt.add(number, now, self._accepted, self._rejected)
            self._rejected += 1
            if cause is Cause.LIMIT:
                self._evidence += 1
                self._learn(number, now, error)
            else:
                self._forget(prompt)
        if cause is Cause.PROMPT:
            error.rejection = error.retryable = False
            error.message += (
                f" The site rejected this prompt {len(prompt)} times while it accepted others: "
                "shorten it, or leave it out."
            )
            error.args = (error.message,)

    def _learn(self, number: int, now: float, error: APIError) -> None:
        """Adopt the limit that the site states, or learn it if that is wrong or missing."""
        limits = error.limits or StatedLimits()
        rate = math.inf
        if limits.requests and limits.period and limits.period <= _MAX_STATED_PERIOD:
            rate = limits.requests / limits.period
        if rate < self._stated_rate:
            self._stated_rate = rate
            self._reset(self._adaptive_rate.sent)
            # It was used up by the requests before.
            wait = limits.period or 0.0 if limits.wait is None else limits.wait
            self._adaptive_rate.slot = now + max(min(wait, limits.period or 0.0), 1 / rate)
        else:
            self._adaptive_rate.record_rejection(number, now, error.retry_after)
        if limits.exhausted_until is not None:
            self._adaptive_rate.exhausted = "a quota is used up"

    def _forget(self, prompt: PromptRejections) -> None:
        """Start again if the rate was learnt from nothing but this prompt's rejections."""
        self._evidence -= min(prompt.evidence, self._evidence)
        prompt.evidence = 0
        if not self._evidence and self._adaptive_rate.is_reduced:
            self._reset(self._adaptive_rate.sent)

    def _take(self, now: float, delayed: bool) -> int | None:
        if self._adaptive_rate.slot > now:
            return None
        return self._adaptive_rate.record_sent(now, delayed=delayed)

    def _slot_time(self, now: float) -> float:
        return self._adaptive_rate.slot

    def _latest(self, call: Call) -> float:
        latest = min(call.deadline, call.last_attempt_before)
        return min(latest, call.waits_for_rejections_until) if self.is_reduced else latest

    def _earliest(self, ahead: int, now: float) -> float:
        return self._adaptive_rate.earliest(ahead)

    def _too_late_error(self, now: float) -> RateLimitError:
        slot = self._adaptive_rate.slot
        message = f" Its last message was: {self._last_message}" if self._last_message else ""
        return RateLimitError(
            "The site's rate limit allows this request only after its deadline, so it was not "
            f"sent.{message} Try again later, or allow more time with timeout=Timeout(total=...) "
            "or retry=RetryPolicy(max_elapsed=...); with retry=None a call waits for "
            f"{MAX_SINGLE_WAIT:.0f} s at most.",
            retry_after=max(0.0, (self._retry_at if self._retry_at > now else slot) - now),
            retryable=False,
        )
