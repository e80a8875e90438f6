"""When responses that may be rejections, such as nginx's page for a 503, are taken for some."""

from __future__ import annotations

import threading

import pytest

from aichatfree import OverloadedError, Timeout
from aichatfree._call import Call
from aichatfree._prompt_rejections import PromptRejections
from aichatfree._rate_limiter import RateLimiter


class Site:
    """What a rate limiter makes of requests that are answered or possibly rejected."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.limiter = RateLimiter(clock=lambda: self.now, wait=self.wait)

    def wait(self, event: threading.Event, seconds: float) -> None:
        self.now += seconds

    def answer(self, count: int) -> None:
        for _ in range(count):
            self.limiter.record_answer(self.limiter.acquire(Call(Timeout())))

    def reject(self) -> bool:
        """Whether the next request, which is possibly rejected, is taken for rejected."""
        error = OverloadedError("503", possible_rejection=True)
        number = self.limiter.acquire(Call(Timeout()))
        self.limiter.record_rejection(number, error, PromptRejections())
        return error.rejection


@pytest.fixture
def site() -> Site:
    return Site()


def test_several_possible_rejections_are_rejections(site: Site) -> None:
    """The third possible rejection among few requests is one, and delays the next request."""
    site.answer(50)
    assert [site.reject() for _ in range(3)] == [False, False, True]
    before = site.now
    site.answer(1)
    assert site.now > before


def test_stray_ones_are_failures(site: Site) -> None:
    """A possible rejection in each 20 requests is a failure like any other, and delays nothing."""
    for _ in range(10):
        site.answer(19)
        assert not site.reject()
    assert site.limiter.total_wait == 0


def test_at_a_site_with_a_limit_each_is_a_rejection(site: Site) -> None:
    """Once the site is known to reject requests, a single possible rejection is one."""
    for _ in range(3):
        site.reject()
    site.answer(100)
    assert site.reject()
