"""A batch on a simulated clock, with the real rate limiter: for hours of a site in milliseconds."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections.abc import Callable
from typing import Protocol

from aichatfree import APIError, Timeout
from aichatfree._call import Call
from aichatfree._rate_limiter import RateLimiter
from aichatfree.batch._deferred import DeferredItems
from aichatfree.batch._prompts import Item

ANSWER_TIME = 1.5
REJECTION_TIME = 0.05
"""Seconds until an answer or a rejection arrives."""


class LimitedSite(Protocol):
    """A site that rejects some requests."""

    def receive(self, now: float) -> APIError | None:
        """Receive a request at this clock time; the error if it is rejected."""


class Simulation:
    """Discrete events on a simulated clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.serial = itertools.count()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.serial), action))

    def wait(self, event: threading.Event, seconds: float) -> None:
        self.advance(self.now + seconds)

    def advance(self, end: float) -> None:
        """Let time pass until the next event, or until the end if that is sooner."""
        if not self.events or self.events[0][0] > end:
            self.now = end
            return
        self.now, _, action = heapq.heappop(self.events)
        action()


class SimulatedBatch(Simulation):
    """Threads that send an endless list of prompts."""

    def __init__(self, site: LimitedSite, threads: int) -> None:
        super().__init__()
        self.site = site
        self.stopped = math.inf  # when the quota was found to be exhausted
        self.failed = 0  # prompts
        self.limiter = RateLimiter(clock=lambda: self.now, wait=self.wait)
        self.idle = threads
        self.deferred = DeferredItems(self.limiter.answers_needed)
        self.items = (Item(index, str(index), "") for index in itertools.count())

    def run(self, seconds: float) -> None:
        """Send until so many seconds have passed or the site's quota is exhausted."""
        while self.now < seconds and self.stopped == math.inf:
            if self.idle:
                self.send(self.deferred.next(self.now) or next(self.items))
            else:
                self.advance(math.inf)

    def send(self, item: Item) -> None:
        number = self.limiter.acquire(Call(Timeout(), rejections=item.rejections))
        self.idle -= 1
        error = self.site.receive(self.now)
        if error is None:
            self.later(ANSWER_TIME, lambda: self.answered(number))
        else:
            self.later(REJECTION_TIME, lambda: self.rejected(number, error, item))

    def answered(self, number: int) -> None:
        self.idle += 1
        self.limiter.record_answer(number)

    def rejected(self, number: int, error: APIError, item: Item) -> None:
        self.idle += 1
        self.limiter.record_rejection(number, error, item.rejections)
        if not error.retryable:
            self.failed += 1
            return
        if self.limiter.exhausted is not None:
            self.stopped = min(self.stopped, self.now)
        wait = max(item.rejections.wait, error.retry_after or 0.0)
        self.deferred.add(item, self.now + wait)
