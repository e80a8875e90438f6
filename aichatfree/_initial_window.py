"""The first requests to a site: how many may be sent before its first answers arrive."""

from __future__ import annotations

import math
from typing import Final

FIRST_REQUESTS: Final = 3
"""Requests that may be unconfirmed at a time in the beginning."""
FEW: Final = 12
"""Confirmed requests after which as many may be unconfirmed as were confirmed."""
MANY: Final = 1000
"""Confirmed requests after which any number may be unconfirmed."""
CONFIRMED_AFTER: Final = 0.06
"""Seconds after which a request counts as accepted although its answer has not come.

Most rejections arrive sooner, and a longer time would be felt at sites without a limit.
"""


class InitialWindow:
    """Lets a client begin with a few requests, so that few are rejected where the limit is low.

    A request is *confirmed* when it was answered, or when it was not rejected for a while: a model
    may need many seconds for its answer. Free sites often allow ten requests a minute or fewer;
    after the first dozen the number of unconfirmed requests doubles with each round, as in TCP's
    slow start. 16 threads are all at work after 0.3 s, 256 after 0.6 s, or sooner where answers
    are fast.
    """

    def __init__(self) -> None:
        self._unconfirmed: dict[int, float] = {}  # number: clock time, in the order of sending
        self._confirmed = 0

    @property
    def is_over(self) -> bool:
        """Whether so many requests were confirmed that there is nothing to be careful about."""
        return self._confirmed >= MANY

    @property
    def slot(self) -> float:
        """Clock time from which on the next request may be sent."""
        allowed = FIRST_REQUESTS if self._confirmed < FEW else self._confirmed
        if len(self._unconfirmed) < allowed:
            return -math.inf
        return next(iter(self._unconfirmed.values())) + CONFIRMED_AFTER

    def record_sent(self, number: int, now: float) -> None:
        """Request `number` is sent now."""
        while self._unconfirmed:
            oldest, sent = next(iter(self._unconfirmed.items()))
            if sent > now - CONFIRMED_AFTER:
                break
            self.confirm(oldest)
        self._unconfirmed[number] = now

    def confirm(self, number: int) -> None:
        """Request `number` was accepted."""
        self._confirmed += self._unconfirmed.pop(number, None) is not None

    def discard(self, number: int) -> None:
        """Request `number` was rejected."""
        self._unconfirmed.pop(number, None)
