"""Makes the threads of a client wait until the site's rate limit lets their requests be sent."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ._adaptive_rate import MAX_RETRY_AFTER, AdaptiveRate, Phase
from ._arguments import check_number
from ._call import Call
from ._forks import renew_after_fork
from ._prompt_rejections import Cause, Outcomes, PromptRejections
from ._slot_queue import SlotQueue, allow_more_time, not_sent, run_again_in
from .errors import APIError, RateLimitError, StatedLimits

_MIN_REQUESTS_PER_MINUTE: Final = 0.001
_MAX_REQUESTS_PER_MINUTE: Final = 1_000_000_000

_POSSIBLE_REJECTIONS: Final = 3
"""So many possible rejections among ``_AMONG`` requests are rejections; fewer are stray."""
_AMONG: Final = 20

_MAX_KEPT: Final = 100
"""Answers at a stated rate after which a little more is tried; twice as many the next time."""
_MAX_STATED_PERIOD: Final = 3600.0
"""Seconds; requests are not spread evenly over a longer period, such as a day."""
_MAX_QUOTA_WAIT: Final = 10.0
"""Seconds; with a longer stated wait, or none, the quota of such a period is used up."""


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

    Unless a limit is configured, no thread waits before the first rejection, except for the
    initial window: the fraction of a second in which nothing is known about a site. See `SlotQueue`
    for how they wait.

    Args:
        max_requests_per_minute: the site's limit, or ``None`` to learn it. A lower limit that a
            rejection states (``error.limits``) is adopted in the same way. After a hundred answers
            a little more is tried, and after twice as many the next time: the site either states it
            again, or the limit is dropped.
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
        self._kept = 0  # answers since then
        self._max_kept = _MAX_KEPT
        self._reset(sent=0)
        self._outcomes = Outcomes()
        self._rejected = 0  # requests so far
        self._possibly_rejected: deque[int] = deque(maxlen=_POSSIBLE_REJECTIONS)  # their numbers
        self._last_message = ""
        self._retry_at = -math.inf  # clock time, as the last rejection stated it

    def _reset(self, sent: int) -> None:
        """Forget what was learnt; rejections of requests up to `sent` are ignored."""
        limit = min(self._configured_rate, self._stated_rate)
        self._adaptive_rate = AdaptiveRate(limit, sent=sent)
        self._evidence = 0  # rejections that the rate was learnt from

    @property
    def _configured_rate(self) -> float:
        per_minute = self.max_requests_per_minute
        return math.inf if per_minute is None else per_minute / 60

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

    def answers_needed(self, prompt: PromptRejections) -> int:
        with self._lock:
            return prompt.answers_needed(self._outcomes)

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
            now = self._clock()
            self._outcomes.record_answer(number, now)
            self._adaptive_rate.record_answer(number)
            self._kept += 1
            if self._kept >= self._max_kept and self._stated_rate < self._configured_rate:
                self._doubt_stated_limit(now)

    def record_rejection(self, number: int, error: APIError, prompt: PromptRejections) -> None:
        """Learn that the site rejected a request because there are too many, or possibly did.

        Report each rejection once. Other failures, such as a lost connection, are not reported.
        If the site rejects only this prompt, the error becomes a failure that is not retried, and
        what was learnt from it is forgotten. A possible rejection becomes one if it is one of
        several among few requests, or if the site has a limit already.

        Args:
            number: what :meth:`acquire` returned for the request.
            error: how the site answered it.
            prompt: the earlier rejections of the same prompt.
        """
        with self._lock:
            is_one_of_several = not error.rejection
            if is_one_of_several and not self._is_rejection(number):
                self._adaptive_rate.ignore(number)
                return
            error.rejection = True
            self._rejected += 1
            now = self._clock()
            self._last_message, self._retry_at = error.message, now + (error.retry_after or 0.0)
            cause = prompt.add(
                number,
                now,
                self._outcomes,
                sent=self._adaptive_rate.sent,
                is_limited=is_one_of_several or self._shows_limit(error),
                retry_after=error.retry_after,
            )
            if cause is Cause.LIMIT:
                self._evidence += 1
                self._learn(number, now, error)
            else:
                self._adaptive_rate.ignore(number)
                self._forget(prompt)
        if cause is Cause.PROMPT:
            error.rejection = error.retryable = False
            error.message += (
                f" The site rejected this prompt {len(prompt)} times although it accepted others: "
                "shorten it, or leave it out."
            )
            error.args = (error.message,)

    def _is_rejection(self, number: int) -> bool:
        """Whether another possible rejection is one."""
        self._possibly_rejected.append(number)
        is_full = len(self._possibly_rejected) == _POSSIBLE_REJECTIONS
        are_close = number - min(self._possibly_rejected) < _AMONG
        return bool(self._evidence) or (is_full and are_close)

    def _shows_limit(self, error: APIError) -> bool:
        """Whether a limit is known, or the rejection states a lower one or a very long wait."""
        limits = error.limits or StatedLimits()
        is_lower = _stated_rate(limits) < self._stated_rate
        is_long = _is_exhausted(limits) or (error.retry_after or 0.0) > MAX_RETRY_AFTER
        is_stated = (is_lower or is_long) and not error.is_text
        return self._adaptive_rate.is_reduced or is_stated

    def _learn(self, number: int, now: float, error: APIError) -> None:
        """Adopt the limit that the site states, or learn it if that is wrong or missing."""
        limits = error.limits or StatedLimits()
        rate = _stated_rate(limits)
        if rate < self._stated_rate:
            self._stated_rate, self._kept = rate, 0
            self._reset(self._adaptive_rate.sent)
            # It was used up by the requests before.
            wait = limits.period or 0.0 if limits.wait is None else limits.wait
            self._adaptive_rate.slot = now + max(min(wait, limits.period or 0.0), 1 / rate)
        else:
            self._adaptive_rate.record_rejection(number, now, error.retry_after)
        if _is_exhausted(limits):
            self._adaptive_rate.exhausted = "it says so"

    def _doubt_stated_limit(self, now: float) -> None:
        """Try a little more than what was stated: if it is true, a rejection states it again."""
        self._stated_rate, self._kept = math.inf, 0
        self._max_kept *= 2
        self._adaptive_rate.lift_limit(self._configured_rate, now)

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

    @property
    def _is_limited(self) -> bool:
        return self._adaptive_rate.rate < math.inf

    def _slot_time(self, now: float) -> float:
        return self._adaptive_rate.slot

    def _latest(self, call: Call) -> float:
        latest = min(call.deadline, call.last_attempt_before)
        return min(latest, call.waits_for_rejections_until) if self.is_reduced else latest

    def _earliest(self, ahead: int, now: float) -> float:
        return self._adaptive_rate.earliest(ahead)

    def _too_late_error(self, call: Call, now: float) -> RateLimitError:
        slot = self._adaptive_rate.slot
        wait = max(0.0, (self._retry_at if self._retry_at > now else slot) - now)
        message = f" Its last message was: {self._last_message}" if self._last_message else ""
        return RateLimitError(
            "The site's rate limit allows this request only after its deadline, so "
            f"{not_sent(call)}.{message} {allow_more_time(wait)}",
            retry_after=wait,
            retryable=False,
        )


def _stated_rate(limits: StatedLimits) -> float:
    """The requests/s that are stated to be allowed; infinite if none are."""
    if limits.requests and limits.period and limits.period <= _MAX_STATED_PERIOD:
        return limits.requests / limits.period
    return math.inf


def _is_exhausted(limits: StatedLimits) -> bool:
    """Whether a quota for a long period is used up."""
    is_long = (limits.period or 0.0) > _MAX_STATED_PERIOD
    is_soon = limits.wait is not None and limits.wait <= _MAX_QUOTA_WAIT
    return limits.exhausted_until is not None or (is_long and not is_soon)
