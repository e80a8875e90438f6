"""A batch at a site with a free tier: 10 requests a minute and 500 a day, on a simulated clock."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable

import pytest

from aichatfree import AIChatFreeError, APIError, Site, Timeout
from aichatfree._call import Call
from aichatfree._prompt_rejections import PromptRejections
from aichatfree._protocol.responses import error_from_response
from aichatfree._rate_limiter import RateLimiter
from aichatfree.testing import Answer, FakeSite, Request
from helpers import ClientFor, echo

THREADS = 16
PER_MINUTE = 10
PER_DAY = 500
MINUTE = 60.0
DAY = 86400.0
ANSWER_TIME = 1.5
REJECTION_TIME = 0.05
"""Seconds until an answer or a rejection arrives."""

Body = Callable[[float, int, float], tuple[int, str]]
"""Makes the status and the body of a rejection from its wait, the limit and its period."""


def google(wait: float, limit: int, period: float) -> tuple[int, str]:
    """The error of a GeminiProChat: the message up to the first link."""
    return 500, (
        '{"error":{"code":"Error","message":"[GoogleGenerativeAI Error]: Error fetching from  [429 '
        "Too Many Requests] You exceeded your current quota, please check your plan and billing "
        "details. \\n* Quota exceeded for metric: generativelanguage.googleapis.com/"
        f"generate_content_free_tier_requests, limit: {limit}, model: gemini-3-flash\\nPlease "
        f"retry in {wait:.9f}s. "
        '[{\\"@type\\":\\"type.googleapis.com/google.rpc.Help\\",\\"links\\":[{\\"description\\":'
        '\\"Learn more about Gemini API quotas\\",\\"url\\":\\""}}'
    )


def google_in_full(wait: float, limit: int, period: float) -> tuple[int, str]:
    """The same where Google's details survive."""
    name = "Day" if period == DAY else "Minute"
    wait = 1.0 if period == DAY else wait
    return 429, (
        '{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"Quota exceeded","details":'
        f'[{{"quotaId":"GenerateRequestsPer{name}PerProjectPerModel-FreeTier","quotaValue":'
        f'"{limit}"}},{{"retryDelay":"{math.ceil(wait)}s"}}]}}}}'
    )


def openai(wait: float, limit: int, period: float) -> tuple[int, str]:
    """The error of a chatgpt-demo: OpenAI's body."""
    name = "day (RPD)" if period == DAY else "min (RPM)"
    return 429, (
        '{"error":{"message":"Rate limit reached for gpt-4o-mini in organization org-x on requests '
        f"per {name}: Limit {limit}, Used {limit}, Requested 1. Please try again in "
        f'{int(wait // 3600)}h{int(wait % 3600 // 60)}m{wait % 60:.3f}s.","type":"requests",'
        '"param":null,"code":"rate_limit_exceeded"}}'
    )


class FreeTier:
    """A site that counts the requests of the last minute and of the last day."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.accepted: list[float] = []
        self.rejected: list[float] = []

    def receive(self, now: float) -> APIError | None:
        for period, limit in ((DAY, PER_DAY), (MINUTE, PER_MINUTE)):
            recent = self.accepted[-limit:]
            if len(recent) == limit and recent[0] > now - period:
                self.rejected.append(now)
                status, text = self.body(recent[0] + period - now, limit, period)
                return error_from_response(status, {}, text.encode(), Site("http://site"))
        self.accepted.append(now)
        return None


class Batch:
    """Threads that send an endless list of prompts, as discrete events on a simulated clock."""

    def __init__(self, site: FreeTier) -> None:
        self.site = site
        self.now = 0.0
        self.stopped = math.inf  # when the quota was found to be exhausted
        self.limiter = RateLimiter(clock=lambda: self.now, wait=self.wait)
        self.idle = THREADS
        self.waiting: deque[PromptRejections] = deque()  # prompts to be sent again
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.serial = itertools.count()

    def run(self, seconds: float) -> None:
        """Send until so many seconds have passed or the site's quota is exhausted."""
        while self.now < seconds and self.stopped == math.inf:
            if self.idle:
                prompt = self.waiting.popleft() if self.waiting else PromptRejections()
                self.send(prompt)
            else:
                self.advance(math.inf)

    def send(self, prompt: PromptRejections) -> None:
        number = self.limiter.acquire(Call(Timeout(), rejections=prompt))
        self.idle -= 1
        error = self.site.receive(self.now)
        if error is None:
            self.later(ANSWER_TIME, lambda: self.answered(number))
        else:
            self.later(REJECTION_TIME, lambda: self.rejected(number, error, prompt))

    def answered(self, number: int) -> None:
        self.idle += 1
        self.limiter.record_answer(number)

    def rejected(self, number: int, error: APIError, prompt: PromptRejections) -> None:
        self.idle += 1
        self.limiter.record_rejection(number, error, prompt)
        if self.limiter.exhausted is not None:
            self.stopped = min(self.stopped, self.now)
        self.later(error.retry_after or 0.0, lambda: self.waiting.append(prompt))

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


@pytest.mark.parametrize("body", [google, google_in_full, openai])
def test_ten_minutes(body: Body) -> None:
    """In ten minutes at least 95 % of a stated limit are used, with at most three rejections."""
    site = FreeTier(body)
    Batch(site).run(600)
    assert len(site.accepted) >= 0.95 * 10 * PER_MINUTE
    assert len(site.rejected) <= 3


@pytest.mark.parametrize("body", [google, google_in_full, openai])
def test_the_end_of_the_day(body: Body) -> None:
    """When the day's quota is used up, the batch is told within five seconds, with the time."""
    site = FreeTier(body)
    batch = Batch(site)
    batch.run(2 * 3600)
    assert len(site.accepted) == PER_DAY
    assert batch.limiter.exhausted is not None
    assert "Run it again after" in batch.limiter.exhausted
    first = next(moment for moment in site.rejected if moment > site.accepted[-1])
    assert batch.stopped - first < 5


@pytest.mark.parametrize("body", [google, google_in_full, openai])
def test_a_batch_stops_at_the_end_of_the_day(client_for: ClientFor, body: Body) -> None:
    """A batch whose quota is used up half-way keeps its answers and says when to run it again."""
    numbers = itertools.count(1)

    def answer(request: Request) -> Answer:
        if next(numbers) <= 40:
            return Answer(echo(request))
        status, text = body(DAY / 2, PER_DAY, DAY)
        return Answer(status=status, body=text)

    with FakeSite(answer) as site:
        batch = client_for(site.url).batch([str(i) for i in range(1000)], ordered=False)
        started = time.monotonic()
        with pytest.raises(AIChatFreeError, match=r"Run it again after 20\d\d-.* UTC"):
            batch.run()
        assert time.monotonic() - started < 5
        assert batch.summary.answered == 40
        assert len(site.requests) <= 40 + THREADS
