"""When the next request may be sent, so that a site's rate limit is used but hardly exceeded.

Pure arithmetic on times that are passed in. `_rate_limiter` makes threads wait for it.
"""

from __future__ import annotations

import math
from enum import Enum

from ._initial_window import InitialWindow
from ._outage import MAX_SLOW_REQUESTS, MINUTE, Outage, RecentRequests

INITIAL_RATE = 2.0  # requests/s after the first rejection, where the slow start begins
MIN_RATE = 1 / MINUTE  # requests/s; rejections of sparse requests say too little to go lower
CONFIGURED_SHARE = 0.99  # of a configured limit; the site's clock may be a little slower
MAX_CATCH_UP = 0.05  # seconds that a thread which woke up late may make up for
CUBIC_C = 0.04  # less finds a raised limit later, more is rejected more often
SLOW_CUBIC_C = 0.01  # for slow limits, where requests are few and each rejection is costly
CUBIC_K = 1.5  # where the curve is flat: the first cut of 13 % lets two clients share fairly
MAX_SLOW_RATE = MAX_SLOW_REQUESTS / MINUTE  # requests/s; limits up to it are called slow
EXHAUSTED_AFTER = 120.0  # seconds without an accepted request
EXHAUSTED_PROBES = 5  # rejected probes within that time
MAX_RETRY_AFTER = 600.0  # seconds; more than that means that waiting is pointless


class Phase(Enum):
    """What the next request is sent for."""

    INITIAL_WINDOW = "Nothing is known yet: a few requests are sent, and more as they are accepted."
    UNLIMITED = "Many were accepted and none rejected: requests are sent at once."
    SLOW_START = "Nothing is measured yet: each delayed request adds half of the initial rate."
    CONGESTION_AVOIDANCE = "The rate follows a cubic around the limit that was measured last."
    OUTAGE = "Nothing is accepted: requests wait for the end of a pause, when one is sent."
    PROBING = "One request is in flight; the others wait two round trips for its rejection."


class AdaptiveRate:
    """Learns a site's rate limit from rejections alone; CUBIC and NewReno, but for a rate.

    The number of requests accepted between two rejections, divided by the time between them, is
    the limit.

    1. The **initial window** lasts for less than a second; see `InitialWindow`. Then requests are
       **unlimited** until the first rejection, because most sites do not limit. Then comes the
       **slow start**, so that a single odd rejection costs a few seconds.
    2. Requests are numbered as they are sent. The last one sent before a reaction is the
       **recovery point**, as in NewReno: rejections up to it were caused by the old rate and are
       not reacted to. They are subtracted from the requests taken to be accepted, so that
       acceptance need not be reported.
    3. A rejection after the recovery point, with requests accepted since the last one, begins an
       **epoch**. The limit estimated from it, `w_max`, blends the measured and the present rate
       and is at least half the latter, because one measurement can be far off. It leans towards
       the present rate, because a small token bucket rejects what comes a little early. After an
       outage the measurement covers a complete window of the site and counts for more.
    4. **Congestion avoidance** follows CUBIC's curve, flat near `w_max` and steep far from it,
       but over requests and not over time: about 1 in 100 is rejected at any rate, and an idle
       client, whose requests need not wait, learns nothing. The unit is the number of requests
       accepted in the last epoch, but at least a second's worth, so that rejections arrive before
       the next step, and at most five seconds' worth, so that a raised limit is found soon. At
       twice `w_max` a new epoch begins.
    5. A rejection with nothing accepted since the last one means an **outage**: a used-up window
       or quota. Everybody pauses, then **probes** with one request; see `Outage`. A fast rate
       stays as it is, because it is still right when the next window begins.
    6. **Slow limits**, up to 100 requests a minute, are mostly windows of a minute that the first
       burst uses up, and the end of the outage tells how many requests they allow. That becomes
       `w_max`, and requests are sent at even intervals: this is right for fixed and for sliding
       windows and for token buckets. From there on the curve is flatter, and its unit is a hundred
       seconds' worth, because a fixed window rejects nothing until it is used up. A limit that
       seems to have doubled never existed (the site was overloaded, or somebody else used it up):
       a slow start follows.
    7. Slots lie on an absolute grid, so that late wake-ups do not add up. None is reserved in
       advance, so a caller that is cancelled leaves no gap.

    A configured limit is both the initial and the highest rate; rejections reduce it all the same.

    Attributes:
        phase: the state.
        rate: requests/s; infinite without a limit.
        slot: clock time from which on the next request may be sent.
        sent: requests so far, and the number of the last one.
        exhausted: why further requests are pointless for now, in plain words; or ``None``.
    """

    def __init__(self, limit: float = math.inf, *, sent: int = 0) -> None:
        """Start without knowledge.

        Args:
            limit: requests/s that are known to be allowed, or infinite to learn the limit.
            sent: the number of the last request sent before; rejections up to it are ignored.
        """
        self._max_rate = limit * CONFIGURED_SHARE
        self.rate: float = self._max_rate
        self.slot: float = -math.inf
        self.sent: int = sent
        self.exhausted: str | None = None
        self._w_max = self._max_rate
        self._epoch_start = -math.inf  # clock time
        self._epoch_progress = CUBIC_K  # along the cubic, where it is flat for CUBIC_K
        self._epoch_unit = self._unit(0)  # delayed requests for each unit of progress
        self._recovery_point = sent
        self._last_rejection = sent  # the number of the rejection last reacted to
        self._rejected_in_flight = 0  # rejections between the two, not yet subtracted
        self._first_sent_at = 0.0  # clock time of the first request after the recovery point
        self._recent = RecentRequests()
        self._outage: Outage | None = None  # the last one, if it began in this epoch
        self._slow_start_step = 0.0  # requests/s for each delayed request
        self._round_trip = 0.0  # seconds
        self._initial_window = InitialWindow()
        is_known = limit < math.inf
        self._enter(Phase.CONGESTION_AVOIDANCE if is_known else Phase.INITIAL_WINDOW)

    @property
    def is_reduced(self) -> bool:
        """Whether rejections delay requests now, more than a configured limit does."""
        return self.rate < self._max_rate or self.phase in (Phase.OUTAGE, Phase.PROBING)

    def earliest(self, ahead: int) -> float:
        """The clock time before which a request with `ahead` others before it cannot be sent."""
        if self.phase is Phase.INITIAL_WINDOW:
            return -math.inf
        return self.slot + ahead / self._max_rate

    def record_sent(self, now: float, *, delayed: bool) -> int:
        """Number a request that is sent now and set the next slot.

        Args:
            now: clock time.
            delayed: whether the request had to wait for its slot.
        """
        self.sent += 1
        if self.sent == self._recovery_point + 1:
            self._first_sent_at = now
        if delayed:
            self._grow()
        if self.phase is Phase.PROBING:
            self._end_outage(now)
        start = max(self.slot, now - MAX_CATCH_UP) if delayed else now
        self.slot = start + 1 / self.rate
        if self.phase is Phase.OUTAGE:
            self._probe(start, now)
        self._recent.add(self.sent, now)
        if self.phase is Phase.INITIAL_WINDOW:
            self._initial_window.record_sent(self.sent, now)
            self.slot = self._initial_window.slot
        return self.sent

    def lift_limit(self, limit: float, now: float) -> None:
        """Let the rate grow again, from the present one up to a higher limit in requests/s."""
        self._max_rate = limit * CONFIGURED_SHARE
        self._w_max = self.rate
        self._epoch_progress, self._epoch_unit = CUBIC_K, self._unit(math.inf)
        self._epoch_start, self._last_rejection = now, self.sent

    def record_answer(self, number: int) -> None:
        """Note the answer to request `number`, which matters in the initial window only."""
        if self.phase is Phase.INITIAL_WINDOW:
            self._initial_window.confirm(number)
            self.slot = self._initial_window.slot
            if self._initial_window.is_over:
                self._enter(Phase.UNLIMITED)

    def ignore(self, number: int) -> None:
        """Note the rejection of request `number`, which says nothing about the limit."""
        self._recent.discard(number)
        if self.phase is Phase.INITIAL_WINDOW:
            self._initial_window.discard(number)
            self.slot = self._initial_window.slot

    def record_rejection(self, number: int, now: float, retry_after: float | None = None) -> None:
        """React to the rejection of request `number`; `retry_after` is in seconds."""
        self._recent.discard(number)
        accepted = number - self._last_rejection - 1 - self._rejected_in_flight
        if number <= self._recovery_point:
            self._rejected_in_flight += number > self._last_rejection
            return
        if self.phase in (Phase.INITIAL_WINDOW, Phase.UNLIMITED):
            number = self.sent  # all requests in flight belong to the first burst
            self._start_slowly(INITIAL_RATE)
            self._begin_epoch(now)
        elif accepted > 0:
            self._decrease(accepted, now)
        else:
            self._back_off(now, retry_after)
        self._last_rejection, self._recovery_point = number, self.sent
        self._rejected_in_flight = 0
        if retry_after is not None and retry_after > MAX_RETRY_AFTER:
            self.exhausted = "it asks for a long wait"

    def _enter(self, phase: Phase) -> None:
        self.phase: Phase = phase

    def _start_slowly(self, rate: float) -> None:
        self.rate, self._slow_start_step, self._w_max = rate, rate / 2, math.inf
        self._enter(Phase.SLOW_START)

    def _grow(self) -> None:
        if self.phase is Phase.SLOW_START:
            self.rate = min(self.rate + self._slow_start_step, self._max_rate)
        elif self.phase is Phase.CONGESTION_AVOIDANCE and self.rate < self._max_rate:
            self._epoch_progress += 1 / self._epoch_unit
            rate = self._cubic()
            self.rate = min(rate, self._max_rate)
            if rate >= 2 * self._w_max and rate <= MAX_SLOW_RATE:
                self._start_slowly(self.rate)
            elif rate >= 2 * self._w_max:
                self._w_max, self._epoch_progress = rate, CUBIC_K
                self._epoch_unit = self._unit(math.inf)

    def _cubic(self) -> float:
        c = SLOW_CUBIC_C if self._w_max <= MAX_SLOW_RATE else CUBIC_C
        return self._w_max * (1 + c * (self._epoch_progress - CUBIC_K) ** 3)

    def _unit(self, accepted: float) -> float:
        """Delayed requests for each unit of progress, if so many were accepted before."""
        w_max = self._w_max
        if w_max <= MAX_SLOW_RATE:
            return max(10, 100 * w_max)
        return max(10, w_max, min(accepted, max(50, 5 * w_max)))

    def _decrease(self, accepted: int, now: float) -> None:
        measured = accepted / max(now - self._epoch_start, 1e-6)
        if self._outage and accepted >= 10 and self.rate > MAX_SLOW_RATE:
            w_max = 0.8 * measured + 0.2 * self.rate
        else:
            w_max = max(0.4 * measured + 0.6 * self.rate, self.rate / 2)
        self._w_max = min(max(min(w_max, self.rate), MIN_RATE), self._max_rate)
        self._epoch_unit = self._unit(accepted)
        self._epoch_progress = 0.0
        self._outage = None
        self.exhausted = None
        self.rate = self._cubic()
        self._enter(Phase.CONGESTION_AVOIDANCE)
        self._begin_epoch(now)

    def _begin_epoch(self, now: float) -> None:
        self._epoch_start = now
        # Half a gap, so that a small bucket that lacks a fraction of a token does not overflow.
        self.slot = now + 0.5 / self.rate

    def _back_off(self, now: float, retry_after: float | None) -> None:
        self._round_trip = now - self._first_sent_at
        if self._outage is None:
            first_pause = max(1 / self.rate, self._round_trip)
            self._outage = Outage(now, first_pause, self._recent)
        self.slot = now + self._outage.pause(now, retry_after)
        self._enter(Phase.OUTAGE)
        lasted = self._outage.lasted(now)
        if lasted >= EXHAUSTED_AFTER and self._outage.rejections >= EXHAUSTED_PROBES:
            self.exhausted = f"nothing was accepted for {lasted:.0f} s"

    def _probe(self, start: float, now: float) -> None:
        assert self._outage is not None
        self._outage.probe(now)
        self._recent.clear()
        rate = min(self.rate, self._outage.limit)
        self.slot = start + max(1 / rate, 2 * self._round_trip)
        self._enter(Phase.PROBING)

    def _end_outage(self, now: float) -> None:
        """The probe was accepted, because by now its rejection would be known."""
        assert self._outage is not None
        self.exhausted = None
        is_first = math.isinf(self._w_max)
        if self._outage.limit < math.inf:
            self.rate = self._w_max = min(self.rate, max(self._outage.limit, MIN_RATE))
            self._epoch_start, self._epoch_progress = now, CUBIC_K
            # Half of it the first time, so that a limit that does not exist is soon disproved.
            self._epoch_unit = self._unit(math.inf) / (2 if is_first else 1)
        is_measured = self._w_max < math.inf
        self._enter(Phase.CONGESTION_AVOIDANCE if is_measured else Phase.SLOW_START)
