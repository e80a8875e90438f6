"""Times in which a site accepts nothing: the pauses between probes, and slow limits."""

from __future__ import annotations

import itertools
import math
from collections import deque

import pytest

from aichatfree._adaptive_rate import AdaptiveRate
from aichatfree._outage import MINUTE, Outage, RecentRequests

ROUND_TRIP = 0.05
"""Seconds until a rejection arrives."""


class SlidingMinute:
    """At most `limit` requests in any 60 seconds."""

    def __init__(self, limit: int) -> None:
        self.limit, self.accepted = limit, deque[float]()

    def accepts(self, now: float) -> bool:
        while self.accepted and self.accepted[0] <= now - 60:
            self.accepted.popleft()
        if len(self.accepted) >= self.limit:
            return False
        self.accepted.append(now)
        return True


class FixedMinute:
    """At most `limit` requests in each minute; the first one ends after 25 seconds."""

    def __init__(self, limit: int) -> None:
        self.limit, self.minute, self.used = limit, 0, 0

    def accepts(self, now: float) -> bool:
        minute = math.floor((now + 35) / 60)
        if minute != self.minute:
            self.minute, self.used = minute, 0
        self.used += 1
        return self.used <= self.limit


class Bucket:
    """A bucket with room for a single token, and one more token every `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.next = seconds, 0.0

    def accepts(self, now: float) -> bool:
        if now < self.next:
            return False
        self.next = now + self.seconds
        return True


class Down:
    """Accepts everything, except between two times."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end

    def accepts(self, now: float) -> bool:
        return not self.start <= now < self.end


def send(
    adaptive: AdaptiveRate, site: SlidingMinute | FixedMinute | Bucket | Down, seconds: float
) -> tuple[list[float], list[float]]:
    """Send for so many seconds from 0 on; returns when requests were accepted and rejected."""
    now = 0.0
    accepted: list[float] = []
    rejected: list[float] = []
    while (slot := max(now, adaptive.slot)) < seconds:
        number = adaptive.record_sent(slot, delayed=slot > now)
        now = slot
        if site.accepts(now):
            accepted.append(now)
            now += 0.01
            adaptive.record_answer(number)
        else:
            rejected.append(now)
            now += ROUND_TRIP
            adaptive.record_rejection(number, now)
    return accepted, rejected


def burst(count: int) -> RecentRequests:
    """So many requests at the time 0."""
    recent = RecentRequests()
    for number in range(count):
        recent.add(number, 0.0)
    return recent


# Slow limits


@pytest.mark.parametrize("limit", [3, 5, 10, 15, 30, 60])
@pytest.mark.parametrize("kind", [SlidingMinute, FixedMinute])
def test_a_limit_per_minute_is_learnt(kind: type[SlidingMinute | FixedMinute], limit: int) -> None:
    """In ten minutes 92 % of 3 to 60 requests a minute are used, with at most 20 rejections."""
    accepted, rejected = send(AdaptiveRate(), kind(limit), 600.0)
    assert len(accepted) >= 0.92 * 10 * limit
    assert len(rejected) <= 20


@pytest.mark.parametrize("seconds", [2.0, 5.0])
def test_a_slow_bucket_is_learnt(seconds: float) -> None:
    """In ten minutes 92 % of a bucket's tokens are used, with at most 20 rejections."""
    accepted, rejected = send(AdaptiveRate(), Bucket(seconds), 600.0)
    assert len(accepted) >= 0.92 * 600 / seconds
    assert len(rejected) <= 20


def test_a_used_up_minute_is_probed_when_it_ends() -> None:
    """When a burst used up a sliding minute, the first probe after its end comes a second later."""
    accepted, _ = send(AdaptiveRate(), SlidingMinute(10), 70.0)
    assert accepted[9] < 1
    assert 60 < accepted[10] < 61


def test_requests_of_a_slow_limit_are_sent_at_even_intervals() -> None:
    """After the first minute of a limit of ten, requests are sent six seconds apart."""
    accepted, _ = send(AdaptiveRate(), SlidingMinute(10), 100.0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(accepted[10:])]
    assert gaps == pytest.approx([6.06] * len(gaps), rel=0.02)


def test_an_outage_of_a_fast_site_does_not_slow_it_down() -> None:
    """After more than 100 requests in a minute, 20 s without acceptance leave no slow limit."""
    adaptive = AdaptiveRate()
    send(adaptive, Down(3.0, 23.0), 40.0)
    assert adaptive.rate > 10


def test_a_slow_limit_that_does_not_exist_is_disproved() -> None:
    """When a site was only overloaded for 20 s, the rate doubles and grows fast from there."""
    adaptive = AdaptiveRate()
    for number in range(1, 11):  # sparse requests, the last of them rejected
        adaptive.record_sent(5.0 * number - 55.0, delayed=False)
    adaptive.record_rejection(10, -4.9)
    send(adaptive, Down(-5.0, 15.0), 300.0)
    assert adaptive.rate > 10


# Pauses


def test_pauses_double_up_to_the_predicted_end() -> None:
    """After ten requests at 0 s, pauses of 1 s double until the minute of the first is over."""
    outage, now, probes = Outage(1.0, 0.5, burst(10)), 1.0, []
    for _ in range(6):
        now += outage.pause(now, None)
        probes.append(now)
    assert probes == pytest.approx([2.0, 4.0, 8.0, 16.0, 32.0, MINUTE])


def test_pauses_without_a_predicted_end_are_a_quarter_of_the_outage() -> None:
    """After an unknown number of requests, long outages are probed at least every quarter."""
    outage, now = Outage(0.0, 0.5, RecentRequests()), 0.0
    for _ in range(30):
        pause = outage.pause(now, None)
        assert pause <= max(4.0, now / 4)
        now += pause


def test_a_retry_after_that_is_confirmed_is_obeyed() -> None:
    """Once two rejections name the same time, the next request is sent then."""
    outage = Outage(0.0, 0.5, burst(10))
    pauses = [outage.pause(now, retry_after=30.0 - now) for now in (0.0, 1.0, 3.0)]
    assert pauses == pytest.approx([1.0, 2.0, 27.0])


def test_a_retry_after_that_is_always_the_same_is_doubted() -> None:
    """A Retry-After of 30 s in every rejection is obeyed only after a minute without acceptance."""
    outage, now = Outage(0.0, 0.5, RecentRequests()), 0.0
    while now < 120.0:
        pause = outage.pause(now, retry_after=30.0)
        assert pause == pytest.approx(30.0) if now >= MINUTE else pause < 20.0
        now += pause


def test_a_predicted_end_is_probed_before_a_doubted_retry_after() -> None:
    """A fixed Retry-After does not delay the probe at the end of the minute."""
    outage, now = Outage(1.0, 0.5, burst(10)), 1.0
    for _ in range(6):
        now += outage.pause(now, retry_after=40.0)
    assert now == pytest.approx(MINUTE)


def test_a_burst_of_hundreds_of_threads_is_counted() -> None:
    """When 256 requests are sent at once and 246 of them rejected, ten were accepted."""
    recent = burst(256)
    for number in range(10, 256):
        recent.discard(number)
    assert recent.window(1.0) == (10, 0.0)


# What an outage says about the limit


def test_the_limit_is_what_the_window_accepted() -> None:
    """Ten requests, and acceptance again after a minute: the limit is ten per minute."""
    outage, now = Outage(1.0, 0.5, burst(10)), 1.0
    while now < MINUTE - 0.001:
        now += outage.pause(now, None)
    outage.probe(now)
    assert outage.limit == pytest.approx(10 / MINUTE)


@pytest.mark.parametrize("count", [0, 101])
def test_nothing_is_said_without_a_known_number_of_requests(count: int) -> None:
    """Neither a site that accepted nothing nor one that accepted more than 100 has a slow limit."""
    outage, now = Outage(1.0, 0.5, burst(count)), 1.0
    for _ in range(5):
        now += outage.pause(now, None)
    outage.probe(now)
    assert outage.limit == math.inf


def test_a_short_outage_says_nothing() -> None:
    """An outage that ends after a second does not mean a slow limit."""
    outage = Outage(1.0, 0.5, burst(10))
    outage.probe(1.0 + outage.pause(1.0, None))
    assert outage.limit == math.inf


def test_recent_requests_are_those_of_a_minute_without_the_rejected() -> None:
    """Requests leave the record when they are rejected or a minute old."""
    recent = RecentRequests()
    for number in range(1, 7):
        recent.add(number, 10.0 * number)
    recent.discard(4)
    assert recent.window(60.0) == (5, 10.0)
    assert recent.window(85.0) == (3, 30.0)
    assert recent.window(200.0) == (0, 200.0)


def test_a_minute_after_many_requests_the_next_ones_are_counted() -> None:
    """More than 100 requests in a minute cannot be counted; a minute later others can."""
    recent = burst(101)
    assert recent.window(1.0) == (0, 1.0)
    recent.add(101, 70.0)
    assert recent.window(71.0) == (1, 70.0)
