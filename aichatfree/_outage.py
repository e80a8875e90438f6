"""Times in which a site accepts nothing: when to probe, and what they say about its limit."""

from __future__ import annotations

import math
from collections import OrderedDict

MINUTE = 60.6  # seconds; 1 % more, because clocks differ and requests are delayed on their way
MAX_SLOW_REQUESTS = 100  # in a minute; a site that accepts more does not have a slow limit
MAX_RECENT_REQUESTS = 1000  # so that a burst of hundreds of threads can be counted
MIN_SLOW_PAUSE = 2.0  # seconds; a token bucket of 1/s is refilled sooner
MAX_YOUNG_PAUSE = 4.0  # seconds between the first probes where no end is predicted
RETRY_AFTER_ERROR = 1.5  # seconds; sites round it to whole seconds


class RecentRequests:
    """The requests of the last minute, without those known to be rejected."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self._requests: OrderedDict[int, float] = OrderedDict()  # number: clock time
        self._dropped = -math.inf  # clock time of the last request for which there was no room

    def add(self, number: int, now: float) -> None:
        """Request `number` is sent now."""
        self._requests[number] = now
        if len(self._requests) > MAX_RECENT_REQUESTS:
            _, self._dropped = self._requests.popitem(last=False)

    def discard(self, number: int) -> None:
        """Request `number` was rejected."""
        self._requests.pop(number, None)

    def window(self, now: float) -> tuple[int, float]:
        """Their number and the time of the first; (0, now) if there are none or more than 100."""
        requests = self._requests
        while requests and next(iter(requests.values())) <= now - MINUTE:
            requests.popitem(last=False)
        is_too_many = len(requests) > MAX_SLOW_REQUESTS or self._dropped > now - MINUTE
        if not requests or is_too_many:
            return 0, now
        return len(requests), next(iter(requests.values()))


class Outage:
    """A series of rejections with nothing accepted between them, and the pauses between probes.

    The pauses double. If at most 100 requests were accepted in the minute before, the limit may be
    so many per minute, the usual kind at free sites. Whether such a site counts in fixed or in
    sliding minutes, it accepts a request again when the first of them is a minute old, so no pause
    goes beyond that. Where no such end is predicted, or it has passed, a pause is at most a
    quarter of the outage so far, so that little time is lost when it ends.

    ``Retry-After`` is obeyed once a second rejection confirms the time that the first one named,
    or after a minute without acceptance: some sites always name the same number of seconds,
    whatever the true wait is.

    Attributes:
        rejections: how many there were.
        limit: requests/s that the outage suggests as soon as its end is probed; or infinite.
    """

    def __init__(self, now: float, first_pause: float, recent: RecentRequests) -> None:
        self.rejections: int = 0
        self._accepted_before, self._window_start = recent.window(now)
        self.limit: float = math.inf
        self._predicted_end = self._window_start + MINUTE if self._accepted_before else now
        self._start = now
        self._first_pause = first_pause
        self._doubled_pause = first_pause
        self._retry_at: float | None = None  # clock time that the first Retry-After named

    def lasted(self, now: float) -> float:
        """Seconds since the first rejection."""
        return now - self._start

    def pause(self, now: float, retry_after: float | None) -> float:
        """Count a rejection; returns the seconds to wait before the next request."""
        self.rejections += 1
        self._doubled_pause = pause = 2.0 ** min(self.rejections, 30) * self._first_pause
        if now < self._predicted_end:
            pause = max(min(pause, self._predicted_end - now), self._first_pause)
        else:
            pause = min(pause, max(MAX_YOUNG_PAUSE, self.lasted(now) / 4, 2 * self._first_pause))
        if retry_after is not None and self._is_credible(now, retry_after):
            pause = max(pause, retry_after)
        return pause

    def probe(self, now: float) -> None:
        """A request is sent to see whether the outage has ended; if so, ``limit`` is the limit.

        A window accepts as many requests as before, in the time from the first of them to the end
        of the outage. A token bucket that rejected the probe before this one needs at least about
        four fifths of the last pause for a token; if it needs more, a rejection soon shows it.
        """
        if self._accepted_before and self._doubled_pause >= MIN_SLOW_PAUSE:
            of_window = self._accepted_before / (now - self._window_start)
            self.limit = max(of_window, 1.25 / self._doubled_pause)

    def _is_credible(self, now: float, retry_after: float) -> bool:
        if self._retry_at is None:
            self._retry_at = now + retry_after
        difference = abs(now + retry_after - self._retry_at)
        is_confirmed = difference <= RETRY_AFTER_ERROR < self.lasted(now)
        return is_confirmed or self.lasted(now) >= MINUTE
