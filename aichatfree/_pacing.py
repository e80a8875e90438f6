"""When the next request may leave: a client-side rate limiter that learns the server's limit.

`AdaptiveRate` decides, and is given the time as a number. `Pacer` makes threads wait for it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

FIRST_RATE = 2.0  # requests/s, where the slow start begins
LEAST_RATE = 1 / 60  # requests/s; sparse requests say little, and shall not wait for ever
TOLD_SHARE = 0.99  # of a limit that we are told: two clocks never agree to the last digit
CATCH_UP = 0.05  # seconds that a late wake-up may make good
CURVATURE = 0.04  # of the cubic; less finds a raised limit later, more is rejected more often
PLATEAU = 1.5  # where it is flat; the first step down, 13 %, lets two clients share fairly
PROBE_CAP = 4.0  # seconds; the longest pause in a young outage
OUTAGE = 120.0  # seconds without an accepted request before we call it an outage for good
LONG_RETRY_AFTER = 600.0  # seconds
TICK = 0.025  # seconds between two looks at whether a waiting caller was cancelled


class Cancelled(Exception):  # noqa: N818
    """The caller's event was set before its request could leave."""


class DeadlineExceeded(Exception):  # noqa: N818
    """The request cannot leave before the caller's deadline."""


class AdaptiveRate:
    """The rate at which requests may leave, learnt from rejections alone.

    Requests accepted between two rejections, divided by the time between them, *are* the limit.

    1. **Unpaced** until the first rejection, for most servers do not limit. Then **slow start**
       from 2/s, 1/s faster for each request that had to wait: a stray rejection costs a moment.
    2. Requests are numbered as they leave. Only a rejection of one that left after the last
       reaction is *news*. The others were in flight and tell about the old rate; each takes one
       off the requests held to be accepted, which therefore need not be reported.
    3. News, and something was accepted since the last news: **decrease**. The new base blends the
       rate and the measured limit, and is at least half the rate: one odd sample costs no more.
       The blend leans to the rate, for a small bucket rejects what is only a little early. After
       an outage with enough accepted requests the measurement, a whole cycle, weighs more.
    4. **Growth** follows a cubic, flat near the base and steep far from it, counted in requests
       that had to wait (an idle client learns nothing), so that rejections are a fixed share,
       about 1 in 100. Its unit is as many requests as were accepted between two rejections, at
       least a second's worth (the answers must be in before going on), at most five seconds'
       (or a raised limit is found late). At twice the base it starts again from there.
    5. News, and nothing accepted: **outage**, a used-up window or quota. The rate stays, everybody
       pauses with exponential back-off, then one request probes; the next waits two round trips
       for its fate. A pause is capped at a quarter of the outage, so that little is lost when it
       ends. `Retry-After` counts from the third time on: many servers ask for far too much.
    6. Slots lie on an absolute grid, so that late wake-ups do not add up. None is reserved ahead,
       so a cancelled caller leaves no hole.

    A limit that is told is the start and the ceiling; rejections below it are heeded all the same.
    """

    def __init__(self, limit: float = math.inf) -> None:
        """`limit`: requests/s known to be allowed; infinite when they have to be learnt."""
        self.ceiling: float = limit * TOLD_SHARE
        self.rate: float | None = None if math.isinf(limit) else self.ceiling
        self.slot: float = -math.inf  # clock time at which the next request may leave
        self.sent: int = 0
        self.rejections: int = 0
        self.exhausted: str | None = None
        self._slow_start = math.isinf(limit)
        self._base = self.ceiling
        self._progress = PLATEAU  # along the cubic
        self._unit = 50.0  # waited requests for each unit of progress
        self._news = 0  # the number of the rejection last reacted to ...
        self._reacted = 0  # ... and of the last request that had left by then
        self._lost = 0  # rejections of requests in flight between the two, not yet subtracted
        self._mark = -math.inf  # clock time at which measuring began: the last decrease
        self._first_left = 0.0  # when the first request after the last reaction left
        self._failures = 0  # news in a row with nothing accepted
        self._outage = 0.0  # when that began
        self._round_trip = 0.0
        self._probes = 0  # requests that still have to leave one by one

    def earliest(self, ahead: int) -> float:
        """The clock time before which a caller with `ahead` others before it cannot leave."""
        return self.slot + ahead / self.ceiling

    def leave(self, now: float, waited: bool) -> int:
        """Count a request out and set the next slot; returns the request's number, from 1."""
        self.sent += 1
        if self.sent == self._reacted + 1:
            self._first_left = now
        if self.rate is None:
            return self.sent
        if waited and not self._probes:
            self._grow(self.rate)
        start = max(self.slot, now - CATCH_UP) if waited else now
        self.slot = start + 1 / self.rate
        if self._probes == 2:
            self.slot = max(self.slot, start + 2 * self._round_trip)
        elif self._probes == 1:
            self.exhausted = None  # the probe has not come back, so it got through
        self._probes = max(0, self._probes - 1)
        return self.sent

    def rejected(self, number: int, now: float, retry_after: float | None = None) -> None:
        """React to the rejection of request `number`; `retry_after` is in seconds."""
        self.rejections += 1
        accepted = number - self._news - 1 - self._lost
        if self.rate is None:
            number = self.sent  # all in flight belong to the unpaced burst
            self._resume(FIRST_RATE, now)
        elif number <= self._reacted:
            self._lost += number > self._news
            return
        elif accepted > 0:
            self._decrease(self.rate, accepted, now)
        else:
            self._back_off(self.rate, now, retry_after)
        self._news, self._reacted, self._lost = number, self.sent, 0
        if retry_after is not None and retry_after > LONG_RETRY_AFTER:
            self.exhausted = f"the server asks to wait {retry_after:.0f} s"

    def _grow(self, rate: float) -> None:
        if self._slow_start:
            self.rate = rate + 1
        elif rate < self.ceiling:
            self._progress += 1 / self._unit
            rate = self._base * (1 + CURVATURE * (self._progress - PLATEAU) ** 3)
            if rate >= 2 * self._base:
                self._base, self._progress = rate, PLATEAU
                self._unit = max(50.0, 5 * rate)
            self.rate = min(rate, self.ceiling)

    def _decrease(self, rate: float, accepted: int, now: float) -> None:
        measured = accepted / max(now - self._mark, 1e-6)
        if self._failures and accepted >= 10:
            base = 0.8 * measured + 0.2 * rate
        else:
            base = max(0.4 * measured + 0.6 * rate, rate / 2)
        self._base = min(max(min(base, rate), LEAST_RATE), self.ceiling)
        self._unit = min(max(accepted, 10, self._base), max(50, 5 * self._base))
        self._progress = 0.0
        self._slow_start = False
        self._failures = self._probes = 0
        self.exhausted = None
        self._resume((1 - CURVATURE * PLATEAU**3) * self._base, now)

    def _resume(self, rate: float, now: float) -> None:
        self.rate = rate
        self._mark = now
        # Half a gap: a small bucket that lacks a fraction of a token should not run over meanwhile.
        self.slot = now + 0.5 / rate

    def _back_off(self, rate: float, now: float, retry_after: float | None) -> None:
        if not self._failures:
            self._outage = now
        self._failures += 1
        self._round_trip = now - self._first_left
        lasted = now - self._outage
        pause = 2.0 ** min(self._failures, 30) * max(1 / rate, self._round_trip)
        pause = min(pause, max(PROBE_CAP, lasted / 4))
        if self._failures > 2:
            pause = max(pause, retry_after or 0.0)
        self.slot = now + pause
        self._probes = 2
        if lasted >= OUTAGE and self._failures >= 5:
            self.exhausted = f"nothing was accepted for {lasted:.0f} s"


class _Waiter(NamedTuple):
    cancelled: threading.Event
    deadline: float  # clock time
    turn: threading.Event  # set when there is something to look at


class Pacer:
    """Makes the threads of a client wait for their turn, first come, first served.

    Only the first in line watches the clock, so that no herd wakes up for each slot; it also wakes
    those behind it that were cancelled. The lock guards the state and is never held while asleep.
    """

    def __init__(
        self,
        max_requests_per_minute: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        """`max_requests_per_minute`: the server's limit if it is known, else it is learnt.

        `clock` returns seconds; `wait` sleeps for so many seconds or until the event is set.
        Raises `ValueError` for a limit that is not a positive number.
        """
        if max_requests_per_minute is None:
            self._adaptive = AdaptiveRate()
        elif 0 < max_requests_per_minute < math.inf:
            self._adaptive = AdaptiveRate(max_requests_per_minute / 60)
        else:
            raise ValueError(f"max_requests_per_minute is not positive: {max_requests_per_minute}")
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._line: deque[_Waiter] = deque()
        self._looked = -math.inf
        self._waited = 0.0

    @property
    def rate(self) -> float | None:
        """Requests/s that leave at most; `None` while nothing limits them."""
        return self._adaptive.rate

    @property
    def rejections(self) -> int:
        """How many requests the server has rejected."""
        return self._adaptive.rejections

    @property
    def waited(self) -> float:
        """Seconds that callers have waited, all together."""
        return self._waited

    @property
    def waiting(self) -> int:
        """How many callers are waiting now."""
        return len(self._line)

    @property
    def exhausted(self) -> str | None:
        """Why it is pointless to go on for now, in plain words; else `None`."""
        return self._adaptive.exhausted

    def acquire(self, *, cancelled: threading.Event, deadline: float | None = None) -> int:
        """Block until a request may leave, and return its number. Send it at once.

        `deadline` is a time on the pacer's clock. Raises `Cancelled` soon after `cancelled` is
        set, and `DeadlineExceeded` as soon as it is known that the request cannot leave in time.
        """
        if deadline is None:
            deadline = math.inf
        with self._lock:
            arrived = self._clock()
            if refusal := self._refusal(cancelled, deadline, len(self._line), arrived):
                raise refusal
            if not self._line and self._adaptive.slot <= arrived:
                return self._adaptive.leave(arrived, waited=False)
        waiter = _Waiter(cancelled, deadline, threading.Event())
        try:
            with self._lock:
                self._line.append(waiter)
            return self._stand_in_line(waiter)
        finally:
            with self._lock:
                self._waited += self._clock() - arrived
                if waiter in self._line:
                    self._line.remove(waiter)
                if self._line:
                    self._line[0].turn.set()

    def rejected(self, number: int, retry_after: float | None = None) -> None:
        """Report that the server rejected request `number`: 429, 503, 529, quota used up.

        `retry_after` is the wait in seconds that the server asked for, if it did. A retry needs a
        new `acquire`. Report each rejection once, and no other failure (a lost connection, say).
        """
        with self._lock:
            self._adaptive.rejected(number, self._clock(), retry_after)

    def _stand_in_line(self, waiter: _Waiter) -> int:
        while True:
            with self._lock:
                now = self._clock()
                ahead = self._line.index(waiter)
                if refusal := self._refusal(waiter.cancelled, waiter.deadline, ahead, now):
                    raise refusal
                pause = self._adaptive.slot - now
                if ahead:
                    waiter.turn.clear()
                elif pause <= 0:
                    return self._adaptive.leave(now, waited=True)
                else:
                    self._look_back(now)
            if ahead:
                waiter.turn.wait()
            else:
                self._wait(waiter.cancelled, min(pause, TICK))

    def _refusal(
        self, cancelled: threading.Event, deadline: float, ahead: int, now: float
    ) -> Exception | None:
        if cancelled.is_set():
            return Cancelled("cancelled before the request could leave")
        if max(now, self._adaptive.earliest(ahead)) > deadline:
            return DeadlineExceeded("the next free slot lies after the deadline")
        return None

    def _look_back(self, now: float) -> None:
        """Wake those in line who have nothing to wait for any more."""
        if now - self._looked < TICK:
            return
        self._looked = now
        for ahead, waiter in enumerate(self._line):
            if self._refusal(waiter.cancelled, waiter.deadline, ahead, now):
                waiter.turn.set()
