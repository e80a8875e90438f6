"""Threads that wait, in order, until the request of each may be sent."""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, NamedTuple, TypeVar

from ._call import MAX_SINGLE_WAIT, Call
from ._cancellation import cancelled_error
from ._prompt_rejections import SUSPECT_SHARE, PromptRejections
from ._protocol.durations import format_duration
from .errors import APIError

_POLL_INTERVAL: Final = 0.025
"""Seconds between two checks whether a waiting call was cancelled or has run out of time."""
_MIN_WAIT: Final = 0.001
"""Seconds of the shortest wait, for a slot that somebody else has just taken."""
_MAX_SHOWN_WAIT: Final = 366 * 86400.0
"""Seconds; a longer wait is not shown as a date."""

T = TypeVar("T")


class _Waiter(NamedTuple):
    call: Call
    awake: threading.Event  # set when the thread has something to check


class SlotQueue(ABC, Generic[T]):
    """Calls that wait for a slot, in the order in which their threads arrived.

    Guarantees: requests are sent in that order, except that a prompt that was rejected once is sent
    again after three others, because its second rejection may show that it is the cause. A call
    that is cancelled, or cannot be sent before its deadline, stops waiting within
    ``_POLL_INTERVAL`` or two, and the next one takes its slot.

    Only the first thread in the queue watches the clock, because hundreds of threads that all woke
    up for each slot would take the processor from those that read answers. It also wakes those
    behind it whose wait is pointless. The race avoided is a lost wake-up: (1) the first thread
    leaves the queue, (2) the second checks its position, still second, and (3) goes to sleep for
    good. Therefore the second clears its event before it checks, under the lock, and the first
    sets that event under the lock, after it has left the queue.

    Args:
        clock: returns seconds; the clock of the calls' deadlines.
        wait: sleeps for so many seconds, or until the event is set.
    """

    max_requests_per_minute: float | None
    """The configured limit of all requests together, or ``None``."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self._clock = clock
        self._wait = wait

    def after_fork(self) -> None:
        # Guards changes of all attributes, of the subclasses too; figures that may be outdated at
        # once, such as `waiting`, are read without it. Never sleep or call code of users while
        # holding it.
        self._lock = threading.Lock()
        self._queue: deque[_Waiter] = deque()
        self._last_poll = -math.inf
        self._total_wait = 0.0

    @property
    def total_wait(self) -> float:
        """Seconds that requests have waited for a rate limit, all threads together."""
        return self._total_wait

    @property
    def waiting(self) -> int:
        """How many requests are waiting now."""
        return len(self._queue)

    @property
    @abstractmethod
    def exhausted(self) -> str | None:
        """Why further requests are pointless for now, after "because"; or ``None``."""

    @abstractmethod
    def begin_run(self) -> None:
        """Forget a used-up quota: when a new batch begins, it may have been renewed."""

    def answers_needed(self, prompt: PromptRejections) -> int:
        """How many more answers to others make another rejection of a prompt its own.

        None, unless a site's own rate limiter knows better: prompts of a router are not deferred.
        """
        return 0

    # What a subclass decides; all of these are called while the lock is held.

    @property
    def _is_limited(self) -> bool:
        """Whether it is a rate limit that calls wait for."""
        return True

    @abstractmethod
    def _slot_time(self, now: float) -> float:
        """The clock time from which on the first call in the queue may be sent."""

    @abstractmethod
    def _latest(self, call: Call) -> float:
        """The clock time after which a call is not sent any more."""

    @abstractmethod
    def _earliest(self, ahead: int, now: float) -> float:
        """The clock time before which a call with `ahead` others before it cannot be sent."""

    @abstractmethod
    def _too_late_error(self, call: Call, now: float) -> APIError:
        """The error for a call that can be sent only after its deadline."""

    # What a subclass uses.

    def _acquire(self, call: Call, take: Callable[[float, bool], T | None]) -> T:
        """Wait until the next attempt of a call may be sent; send it at once.

        Args:
            call: the call.
            take: takes the slot, given the clock time and whether the call had to wait; returns
                ``None`` if there is none. It is called while the lock is held.

        Raises:
            StreamInterruptedError: the call was cancelled.
            APITimeoutError: its deadline has passed.
            APIError: it could be sent only after its deadline.
        """
        with self._lock:
            arrived = self._clock()
            self._check(call, self._place(call), arrived)
            taken = None if self._queue else take(arrived, False)
        if taken is None:
            taken = self._acquire_in_queue(call, take, arrived)
        call.begin_attempt()
        return taken

    def _acquire_in_queue(
        self, call: Call, take: Callable[[float, bool], T | None], arrived: float
    ) -> T:
        waiter = _Waiter(call, threading.Event())
        try:
            with self._lock:
                self._queue.insert(self._place(call), waiter)
            return self._wait_for_slot(waiter, take)
        finally:
            with self._lock:
                if self._is_limited:
                    self._total_wait += self._clock() - arrived
                if waiter in self._queue:  # not if Ctrl-C was pressed before it was added
                    self._queue.remove(waiter)
                if self._queue:
                    self._queue[0].awake.set()

    def _place(self, call: Call) -> int:
        """The place in the queue of a call that arrives now."""
        new = 0
        if len(call.rejections) == 1:
            for place, waiter in enumerate(self._queue):
                new += not len(waiter.call.rejections)
                if new == SUSPECT_SHARE:
                    return place + 1
        return len(self._queue)

    def _wait_for_slot(self, waiter: _Waiter, take: Callable[[float, bool], T | None]) -> T:
        while True:
            with self._lock:
                now = self._clock()
                waiter.awake.clear()
                ahead = self._queue.index(waiter)
                self._check(waiter.call, ahead, now)
                seconds = self._slot_time(now) - now
                if not ahead and seconds <= 0:
                    taken = take(now, True)
                    if taken is not None:
                        return taken
                if not ahead:
                    self._wake_refused(now)
            if ahead:
                waiter.awake.wait()
            else:
                seconds = seconds if seconds > 0 else _MIN_WAIT
                self._wait(waiter.call.cancel_token.stopping, min(seconds, _POLL_INTERVAL))

    def _check(self, call: Call, ahead: int, now: float) -> None:
        """Raise if the call should not wait (any longer) behind `ahead` others."""
        if self._is_refused(call, ahead, now):
            if call.cancel_token.stopping.is_set():
                raise cancelled_error()
            if now >= call.deadline:
                raise call.deadline_error()
            raise self._too_late_error(call, now)

    def _is_refused(self, call: Call, ahead: int, now: float) -> bool:
        too_late = max(now, self._earliest(ahead, now)) > self._latest(call)
        return too_late or call.cancel_token.stopping.is_set()

    def _wake_refused(self, now: float) -> None:
        if now - self._last_poll >= _POLL_INTERVAL:
            self._last_poll = now
            for ahead, waiter in enumerate(self._queue):
                if self._is_refused(waiter.call, ahead, now):
                    waiter.awake.set()


def not_sent(call: Call) -> str:
    """What became of a call that would have to wait for too long, as the end of a sentence."""
    return "it was not retried" if call.attempts else "it was not sent"


def allow_more_time(wait: float) -> str:
    """What to do about a call that would have to wait for so many seconds, as a sentence."""
    when = f"in {format_duration(wait)}" if 0 < wait < math.inf else "later"
    return (
        f"Try again {when}, or allow more time with timeout=Timeout(total=...) or "
        "retry=RetryPolicy(max_elapsed=...); with retry=None a call waits for "
        f"{MAX_SINGLE_WAIT:.0f} s at most."
    )


def run_again_in(seconds: float) -> str:
    """When to run a batch again whose quota is used up, as a sentence after another; or nothing."""
    if seconds <= 0:
        return ""
    # Rounded up, because seconds are not shown.
    until = datetime.now(UTC) + timedelta(seconds=min(seconds, _MAX_SHOWN_WAIT) + 59)
    return f". Run it again after {until:%Y-%m-%d %H:%M} UTC"
