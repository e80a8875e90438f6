"""Rate limits as servers enforce them, on a clock that is passed in.

Each limit answers `admit(now)` with `(accepted, seconds)`: for an accepted request the extra time
until it is served, for a rejected one the time until it would have been accepted (infinite when it
never would). `allowed(seconds)` is what a fresh one lets through at most.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field


@dataclass
class TokenBucket:
    """Tokens drip in at `rate` a second up to `burst` seconds' worth; each request takes one.

    From `change_at` on the rate is `rate * change`.
    """

    rate: float
    burst: float
    change_at: float = math.inf
    change: float = 1.0

    def __post_init__(self) -> None:
        self.size = max(1.0, self.rate * self.burst)
        self.tokens = self.size
        self.last = 0.0

    def admit(self, now: float) -> tuple[bool, float]:
        if now >= self.change_at:
            self.rate *= self.change
            self.size = max(1.0, self.rate * self.burst)
            self.change_at = math.inf
        self.tokens = min(self.size, self.tokens + (now - self.last) * self.rate)
        self.last = now
        if self.tokens >= 1:
            self.tokens -= 1
            return True, 0.0
        return False, (1 - self.tokens) / self.rate

    def allowed(self, seconds: float) -> float:
        first = min(seconds, self.change_at)
        return self.size + self.rate * first + self.rate * self.change * (seconds - first)


@dataclass
class GCRA:
    """The generic cell rate algorithm: the time of the next cell may run `burst` seconds ahead."""

    rate: float
    burst: float
    due: float = 0.0

    def admit(self, now: float) -> tuple[bool, float]:
        ahead = self.due - now
        if ahead > self.burst:
            return False, ahead - self.burst
        self.due = max(self.due, now) + 1 / self.rate
        return True, 0.0

    def allowed(self, seconds: float) -> float:
        return 1 + self.rate * (seconds + self.burst)


@dataclass
class LimitReq:
    """nginx's `limit_req` with `burst`, without `nodelay`: a leaky bucket that delays."""

    rate: float
    burst: float
    excess: float = 0.0
    last: float = -math.inf

    def admit(self, now: float) -> tuple[bool, float]:
        now = math.floor(now * 1000) / 1000
        if self.last == -math.inf:
            excess = 0.0
        else:
            excess = max(0.0, self.excess - self.rate * (now - self.last)) + 1
            if excess > max(1.0, self.rate * self.burst):
                return False, (excess - self.rate * self.burst) / self.rate
        self.excess, self.last = excess, now
        return True, excess / self.rate

    def allowed(self, seconds: float) -> float:
        return 1 + self.rate * (seconds + self.burst)


@dataclass
class FixedWindow:
    """`rate * length` requests in each window; the counter is reset when the next begins."""

    rate: float
    length: float
    phase: float = 0.37
    window: int = -1
    used: int = 0

    def admit(self, now: float) -> tuple[bool, float]:
        position = now / self.length + self.phase
        window = math.floor(position)
        if window != self.window:
            self.window, self.used = window, 0
        if self.used >= round(self.rate * self.length):
            return False, (window + 1 - position) * self.length
        self.used += 1
        return True, 0.0

    def allowed(self, seconds: float) -> float:
        return self.rate * seconds


@dataclass
class SlidingWindow:
    """At most `rate * length` requests in any `length` seconds, from a log of the accepted ones."""

    rate: float
    length: float
    log: deque[float] = field(default_factory=deque)

    def admit(self, now: float) -> tuple[bool, float]:
        while self.log and self.log[0] <= now - self.length:
            self.log.popleft()
        if len(self.log) >= round(self.rate * self.length):
            return False, self.log[0] + self.length - now
        self.log.append(now)
        return True, 0.0

    def allowed(self, seconds: float) -> float:
        return self.rate * seconds


@dataclass
class Quota:
    """`total` requests, then none for good."""

    total: int
    gone_at: float = math.inf

    def admit(self, now: float) -> tuple[bool, float]:
        if self.total > 0:
            self.total -= 1
            self.gone_at = now
            return True, 0.0
        return False, math.inf

    def allowed(self, seconds: float) -> float:
        return self.total


@dataclass
class Both:
    """Two limits at once: what passes the first must pass the second."""

    first: TokenBucket | NoLimit
    second: Quota

    def admit(self, now: float) -> tuple[bool, float]:
        accepted, seconds = self.first.admit(now)
        return self.second.admit(now) if accepted else (accepted, seconds)

    def allowed(self, seconds: float) -> float:
        return min(self.first.allowed(seconds), self.second.allowed(seconds))


@dataclass
class NoLimit:
    """Everything is accepted."""

    def admit(self, now: float) -> tuple[bool, float]:
        return True, 0.0

    def allowed(self, seconds: float) -> float:
        return math.inf
