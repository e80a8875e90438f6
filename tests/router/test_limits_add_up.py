"""How long a batch takes over two sites that limit requests, on a simulated clock."""

from __future__ import annotations

import copy
import math
from collections import deque

import pytest

from aichatfree import APIError, Timeout
from aichatfree._call import Call
from aichatfree._prompt_rejections import PromptRejections
from aichatfree._protocol.responses import error_from_response
from aichatfree._protocol.sites import Site
from aichatfree._rate_limiter import RateLimiter
from aichatfree._routing.selector import SiteSelector, Visit
from benchmarks.pacing.servers import GCRA, FixedWindow, TokenBucket
from benchmarks.pacing.simulation import Limit
from simulated_batch import REJECTION_TIME, Simulation

PROMPTS = 400
THREADS = 32
RATES = (5, 10)
"""Requests/s that the sites accept."""
ANSWER_TIME = 0.1
"""Seconds until an answer arrives."""
MOST = 1.15
"""The time that a batch may take, over the least that the limits allow."""


class Prompt:
    """A prompt, and how the sites have rejected it."""

    def __init__(self) -> None:
        self.rejections = [PromptRejections() for _ in RATES]
        self.failures = [0 for _ in RATES]


class RoutedBatch(Simulation):
    """Threads that send prompts to the site that can take each soonest."""

    def __init__(self, limits: list[Limit], *, configured: bool) -> None:
        super().__init__()
        self.limits = limits
        self.limiters = [
            RateLimiter(rate * 60 if configured else None, clock=self.clock, wait=self.wait)
            for rate in RATES
        ]
        self.selector = SiteSelector(self.limiters, clock=self.clock, wait=self.wait)
        self.waiting = deque(Prompt() for _ in range(PROMPTS))
        self.idle = THREADS
        self.answers = 0

    def clock(self) -> float:
        return self.now

    def run(self) -> float:
        """The seconds until all prompts are answered."""
        while self.answers < PROMPTS:
            if self.idle and self.waiting:
                self.send(self.waiting.popleft())
            else:
                self.advance(math.inf)
        return self.now

    def send(self, prompt: Prompt) -> None:
        visit = Visit()
        self.selector.acquire(Call(Timeout()), visit, prompt.failures)
        assert visit.site is not None
        site = visit.site
        self.idle -= 1
        accepted, wait = self.limits[site].admit(self.now)
        if accepted:
            self.later(ANSWER_TIME, lambda: self.answered(site, visit))
        else:
            headers = {"Retry-After": str(math.ceil(wait))}
            error = error_from_response(429, headers, b"Too many requests.", Site("http://a"))
            self.later(REJECTION_TIME, lambda: self.rejected(site, visit, error, prompt))

    def answered(self, site: int, visit: Visit) -> None:
        self.limiters[site].record_answer(visit.number)
        self.selector.record_chunk(visit)
        self.selector.record_answer(visit)
        self.selector.end(visit)
        self.idle += 1
        self.answers += 1

    def rejected(self, site: int, visit: Visit, error: APIError, prompt: Prompt) -> None:
        rejections = prompt.rejections[site]
        self.limiters[site].record_rejection(visit.number, error, rejections)
        prompt.failures[site] += 1
        self.selector.record_failure(visit, error, rejections.cause)
        self.selector.end(visit)
        self.idle += 1
        self.waiting.appendleft(prompt)


def least_seconds(limits: list[Limit]) -> float:
    """When the sites have accepted and answered so many prompts at best."""
    seconds = 0.0
    while sum(limit.allowed(seconds) for limit in limits) < PROMPTS:
        seconds += 0.01
    return seconds + ANSWER_TIME


KINDS: dict[str, list[Limit]] = {
    "token bucket": [TokenBucket(rate, 1) for rate in RATES],
    "GCRA": [GCRA(rate, 1) for rate in RATES],
    "window": [FixedWindow(rate, 1) for rate in RATES],
    "window, another phase": [FixedWindow(rate, 1, phase=0.81) for rate in RATES],
}


@pytest.mark.parametrize("configured", [True, False], ids=["configured", "learned"])
@pytest.mark.parametrize("limits", KINDS.values(), ids=KINDS)
def test_the_limits_of_two_sites_add_up(limits: list[Limit], configured: bool) -> None:
    """400 prompts over sites that accept 5 and 10 requests a second take at most 1.15 times the
    least that both together allow, whether the limits are known or have to be learned.
    """
    limits = copy.deepcopy(limits)
    least = least_seconds(limits)
    seconds = RoutedBatch(limits, configured=configured).run()
    assert seconds / least <= MOST
