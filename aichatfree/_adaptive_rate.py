"""When the next request may be sent, so that a site's rate limit is used but hardly exceeded.

Pure arithmetic on times that are passed in. `_rate_limiter` makes threads wait for it.
"""

from __future__ import annotations

import math
from enum import Enum

INITIAL_RATE = 2.0  # requests/s after the first rejection, where the slow start begins
MIN_RATE = 1 / 60  # requests/s; rejections of sparse requests say too little to go lower
CONFIGURED_SHARE = 0.99  # of a configured limit; the site's clock may be a little slower
MAX_CATCH_UP = 0.05  # seconds that a thread which woke up late may make up for
CUBIC_C = 0.04  # less finds a raised limit later, more is rejected more often
CUBIC_K = 1.5  # where the curve is flat: the first cut of 13 % lets two clients share fairly
MIN_EPOCH_UNIT = 50  # requests, for the upper bound of the unit in which an epoch is counted
MAX_EPOCH_UNIT = 5  # seconds' worth of requests, for the same
MAX_YOUNG_OUTAGE_PAUSE = 4.0  # seconds between the first probes of an outage
EXHAUSTED_AFTER = 120.0  # seconds without an accepted request
EXHAUSTED_PROBES = 5  # rejected probes within that time
MAX_RETRY_AFTER = 600.0  # seconds; more than that means that waiting is pointless


class Phase(Enum):
    """What the next request is sent for."""

    UNLIMITED = "Nothing has been rejected yet: requests are sent at once."
    SLOW_START = "Nothing has been measured yet: the rate grows by 1/s with each delayed request."
    CONGESTION_AVOIDANCE = "The rate follows a cubic around the limit that was measured last."
    OUTAGE = "Nothing is accepted: requests wait for the end of a pause, then one is sent alone."
    PROBING = "That one is in flight, and the others wait two round trips for its rejection."


class AdaptiveRate:
    """Learns a site's rate limit from rejections alone; CUBIC and NewReno, but for a rate.

    The number of requests accepted between two rejections, divided by the time between them, is
    the limit.

    1. Requests are **unlimited** until the first rejection, because most sites do not limit. Then
       comes the **slow start**, so that a single odd rejection costs a few seconds.
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
       or quota. The rate stays. Everybody pauses, with exponential backoff, then **probes** with
       one request. A pause is at most a quarter of the outage so far, so that little is lost when
       it ends. `Retry-After` counts from the third time on: many sites ask for far too much.
    6. Slots lie on an absolute grid, so that late wake-ups do not add up. None is reserved in
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
        self._epoch_unit: float = MIN_EPOCH_UNIT  # delayed requests for each unit of progress
        self._recovery_point = sent
        self._last_rejection = sent  # the number of the rejection last reacted to
        self._rejected_in_flight = 0  # rejections between the two, not yet subtracted
        self._first_sent_at = 0.0  # clock time of the first request after the recovery point
        self._outage_start = 0.0  # clock time
        self._outage_rejections = 0  # reacted to since then; 0 if an epoch has begun since
        self._round_trip = 0.0  # seconds
        self._enter(Phase.UNLIMITED if math.isinf(limit) else Phase.CONGESTION_AVOIDANCE)

    def earliest(self, ahead: int) -> float:
        """The clock time before which a request with `ahead` others before it cannot be sent."""
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
        start = max(self.slot, now - MAX_CATCH_UP) if delayed else now
        self.slot = start + 1 / self.rate
        if self.phase is Phase.OUTAGE:
            self.slot = max(self.slot, start + 2 * self._round_trip)
            self._enter(Phase.PROBING)
        elif self.phase is Phase.PROBING:  # by now a rejection of the probe would be known
            self.exhausted = None
            slow = math.isinf(self._w_max)
            self._enter(Phase.SLOW_START if slow else Phase.CONGESTION_AVOIDANCE)
        return self.sent

    def record_rejection(self, number: int, now: float, retry_after: float | None = None) -> None:
        """React to the rejection of request `number`; `retry_after` is in seconds."""
        accepted = number - self._last_rejection - 1 - self._rejected_in_flight
        if self.phase is Phase.UNLIMITED:
            number = self.sent  # all requests in flight belong to the first burst
            self._enter(Phase.SLOW_START)
            self._begin_epoch(INITIAL_RATE, now)
        elif number <= self._recovery_point:
            self._rejected_in_flight += number > self._last_rejection
            return
        elif accepted > 0:
            self._decrease(accepted, now)
        else:
            self._back_off(now, retry_after)
        self._last_rejection, self._recovery_point = number, self.sent
        self._rejected_in_flight = 0
        if retry_after is not None and retry_after > MAX_RETRY_AFTER:
            self.exhausted = f"the server asks to wait {retry_after:.0f} s"

    def _enter(self, phase: Phase) -> None:
        self.phase: Phase = phase

    def _grow(self) -> None:
        if self.phase is Phase.SLOW_START:
            self.rate += 1
        elif self.phase is Phase.CONGESTION_AVOIDANCE and self.rate < self._max_rate:
            self._epoch_progress += 1 / self._epoch_unit
            rate = self._w_max * (1 + CUBIC_C * (self._epoch_progress - CUBIC_K) ** 3)
            if rate >= 2 * self._w_max:
                self._w_max, self._epoch_progress = rate, CUBIC_K
                self._epoch_unit = max(MIN_EPOCH_UNIT, MAX_EPOCH_UNIT * rate)
            self.rate = min(rate, self._max_rate)

    def _decrease(self, accepted: int, now: float) -> None:
        measured = accepted / max(now - self._epoch_start, 1e-6)
        if self._outage_rejections and accepted >= 10:
            w_max = 0.8 * measured + 0.2 * self.rate
        else:
            w_max = max(0.4 * measured + 0.6 * self.rate, self.rate / 2)
        self._w_max = w_max = min(max(min(w_max, self.rate), MIN_RATE), self._max_rate)
        self._epoch_unit = min(
            max(accepted, 10, w_max), max(MIN_EPOCH_UNIT, MAX_EPOCH_UNIT * w_max)
        )
        self._epoch_progress = 0.0
        self._outage_rejections = 0
        self.exhausted = None
        self._enter(Phase.CONGESTION_AVOIDANCE)
        self._begin_epoch((1 - CUBIC_C * CUBIC_K**3) * w_max, now)

    def _begin_epoch(self, rate: float, now: float) -> None:
        self.rate = rate
        self._epoch_start = now
        # Half a gap, so that a small bucket that lacks a fraction of a token does not overflow.
        self.slot = now + 0.5 / rate

    def _back_off(self, now: float, retry_after: float | None) -> None:
        if not self._outage_rejections:
            self._outage_start = now
        self._outage_rejections += 1
        self._round_trip = now - self._first_sent_at
        lasted = now - self._outage_start
        pause = 2.0 ** min(self._outage_rejections, 30) * max(1 / self.rate, self._round_trip)
        pause = min(pause, max(MAX_YOUNG_OUTAGE_PAUSE, lasted / 4))
        if self._outage_rejections > 2:
            pause = max(pause, retry_after or 0.0)
        self.slot = now + pause
        self._enter(Phase.OUTAGE)
        if lasted >= EXHAUSTED_AFTER and self._outage_rejections >= EXHAUSTED_PROBES:
            self.exhausted = f"nothing was accepted for {lasted:.0f} s"
