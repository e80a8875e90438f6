"""Makes the threads of a client wait until the site's rate limit lets their requests be sent."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from ._adaptive_rate import AdaptiveRate, Phase
from ._arguments import check_number
from ._call import MAX_SINGLE_WAIT, Call
from ._cancellation import cancelled_error
from ._forks import renew_after_fork
from ._prompt_rejections import SUSPECT_SHARE, Cause, PromptRejections
from .errors import APIError, RateLimitError, StatedLimits

_MIN_REQUESTS_PER_MINUTE: Final = 0.001
_MAX_REQUESTS_PER_MINUTE: Final = 1_000_000_000
_POLL_INTERVAL: Final = 0.025
"""Seconds between two checks whether a waiting call was cancelled or has run out of time."""

_MAX_STATED_PERIOD: Final = 3600.0
"""Seconds; requests are not spread evenly over a longer period, such as a day."""
_MAX_RETRY_AFTER: Final = 366 * 86400.0
"""Seconds; a longer stated wait is not shown as a date."""


class _Waiter(NamedTuple):
    call: Call
    awake: threading.Event  # set when the thread has something to check


class RateStatus(NamedTuple):
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


class RateLimiter:
    """Decides when each request of a client is sent, and learns from those that are rejected.

    Guarantees: requests are sent in the order in which their threads arrived, except that a prompt
    that was rejected once is sent again after three others, because its second rejection may show
    that it is the cause. No thread waits before the first rejection, unless a limit is configured.
    A call that is cancelled, or cannot be sent before its deadline, stops waiting within
    ``_POLL_INTERVAL`` or two, and the next one takes its slot.

    Only the first thread in the queue watches the clock, because hundreds of threads that all woke
    up for each slot would take the processor from those that read answers. It also wakes those
    behind it whose wait is pointless. The race avoided is a lost wake-up: (1) the first thread
    leaves the queue, (2) the second checks its position, still second, and (3) goes to sleep for
    good. Therefore the second clears its event before it checks, under the lock, and the first
    sets that event under the lock, after it has left the queue.

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
        self.max_requests_per_minute: float | None = max_requests_per_minute
        self._clock = clock
        self._wait = wait
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        # Guards the attributes below. Never sleep or call code of others while holding it.
        self._lock = threading.Lock()
        self._stated_rate = math.inf  # requests/s that the site says it allows
        self._reset(sent=0)
        self._accepted: deque[int] = deque(maxlen=1000)  # the numbers of the last requests answered
        self._rejected = 0  # requests
        self._queue: deque[_Waiter] = deque()
        self._last_poll = -math.inf
        self._total_wait = 0.0
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
    def total_wait(self) -> float:
        """Seconds that requests have waited, all threads together."""
        return self._total_wait

    @property
    def waiting(self) -> int:
        """How many requests are waiting now."""
        return len(self._queue)

    @property
    def exhausted(self) -> str | None:
        """Why further requests are pointless for now, with the site's last message; or ``None``."""
        reason = self._adaptive_rate.exhausted
        if reason is None:
            return None
        left = self._retry_at - self._clock()
        until = datetime.now(UTC) + timedelta(seconds=min(left, _MAX_RETRY_AFTER))
        again = f". Run it again after {until:%Y-%m-%d %H:%M} UTC" if left > 0 else ""
        return f"{reason}{again}. The site's last message was: {self._last_message}"

    def statuses(self) -> dict[str, RateStatus]:
        """The present rate limit of each site; the only one here has no name."""
        rate = self._adaptive_rate
        source = "learned" if self.max_requests_per_minute is None else "configured"
        status = RateStatus(
            None if math.isinf(rate.rate) else rate.rate * 60,
            "stated" if self._stated_rate < math.inf else source,
            self._rejected,
            rate.phase in (Phase.OUTAGE, Phase.PROBING),
            rate.exhausted is not None,
        )
        return {"": status}

    def begin_run(self) -> None:
        """Forget a used-up quota: when a new batch begins, it may have been renewed."""
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
        number = None
        with self._lock:
            arrived = self._clock()
            self._check(call, self._place(call), arrived)
            if not self._queue and self._adaptive_rate.slot <= arrived:
                number = self._adaptive_rate.record_sent(arrived, delayed=False)
        if number is None:
            number = self._acquire_in_queue(call, arrived)
        call.begin_attempt()
        return number

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

    def _acquire_in_queue(self, call: Call, arrived: float) -> int:
        waiter = _Waiter(call, threading.Event())
        try:
            with self._lock:
                self._queue.insert(self._place(call), waiter)
            return self._wait_for_slot(waiter)
        finally:
            with self._lock:
                self._total_wait += self._clock() - arrived
                if waiter in self._queue:  # not if Ctrl-C was pressed before it was added
                    self._queue.remove(waiter)
                if self._queue:
                    self._queue[0].awake.set()

    def _place(self, call: Call) -> int:
        """The place in the queue of a call that arrives now."""
        end = len(self._queue)
        return min(end, SUSPECT_SHARE) if len(call.rejections) == 1 else end

    def _wait_for_slot(self, waiter: _Waiter) -> int:
        while True:
            with self._lock:
                now = self._clock()
                waiter.awake.clear()
                ahead = self._queue.index(waiter)
                self._check(waiter.call, ahead, now)
                seconds = self._adaptive_rate.slot - now
                if not ahead and seconds <= 0:
                    return self._adaptive_rate.record_sent(now, delayed=True)
                if not ahead:
                    self._wake_refused(now)
            if ahead:
                waiter.awake.wait()
            else:
                self._wait(waiter.call.cancel_token.stopping, min(seconds, _POLL_INTERVAL))

    def _check(self, call: Call, ahead: int, now: float) -> None:
        """Raise if the call should not wait (any longer) behind `ahead` others."""
        if self._is_refused(call, ahead, now):
            if call.cancel_token.stopping.is_set():
                raise cancelled_error()
            raise call.deadline_error() if now >= call.deadline else self._too_late_error(now)

    def _is_refused(self, call: Call, ahead: int, now: float) -> bool:
        latest = min(call.deadline, call.last_attempt_before)
        if self._adaptive_rate.is_reduced:
            latest = min(latest, call.waits_for_rejections_until)
        too_late = max(now, self._adaptive_rate.earliest(ahead)) > latest
        return too_late or call.cancel_token.stopping.is_set()

    def _wake_refused(self, now: float) -> None:
        if now - self._last_poll >= _POLL_INTERVAL:
            self._last_poll = now
            for ahead, waiter in enumerate(self._queue):
                if self._is_refused(waiter.call, ahead, now):
                    waiter.awake.set()

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
