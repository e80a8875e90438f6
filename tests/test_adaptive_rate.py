"""The algorithm that learns a rate limit from rejections, on a simulated clock."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from aichatfree._adaptive_rate import AdaptiveRate, Phase

ROUND_TRIP = 0.05
"""Seconds until a rejection arrives."""


class Bucket:
    """A token bucket: `rate` requests a second, `size` at once."""

    def __init__(self, rate: float, size: float) -> None:
        self.rate, self.size, self.tokens, self.last = rate, size, size, 0.0

    def accepts(self, now: float) -> bool:
        self.tokens = min(self.size, self.tokens + (now - self.last) * self.rate)
        self.last = now
        accepted = self.tokens >= 1
        self.tokens -= accepted
        return accepted


class Sender:
    """Sends one request after the other, each as soon as the algorithm allows it."""

    def __init__(self, adaptive: AdaptiveRate) -> None:
        self.adaptive, self.now = adaptive, 0.0

    def send(self, seconds: float, accepts: Callable[[float], bool]) -> tuple[int, int]:
        """Go on for so many seconds; returns how many were accepted and rejected."""
        end, accepted, rejected = self.now + seconds, 0, 0
        while (slot := max(self.now, self.adaptive.slot)) < end:
            number = self.adaptive.record_sent(slot, delayed=slot > self.now)
            self.now = slot
            if accepts(slot):
                accepted += 1
                self.now += 0.0001
            else:
                rejected += 1
                self.now += ROUND_TRIP
                self.adaptive.record_rejection(number, self.now)
        self.now = end
        return accepted, rejected


def accept_all(now: float) -> bool:
    return True


def reject_all(now: float) -> bool:
    return False


def measured(rate: float, now: float = 100.0) -> AdaptiveRate:
    """An adaptive rate that has just been reduced to about `rate`, with nothing in flight."""
    adaptive = AdaptiveRate(rate / 0.99)
    adaptive.record_rejection(adaptive.record_sent(now - 1, delayed=False), now - 1)
    adaptive.slot = now
    for _ in range(2):
        adaptive.record_sent(now, delayed=False)
    adaptive.record_rejection(adaptive.sent, now)
    assert adaptive.phase is Phase.CONGESTION_AVOIDANCE
    return adaptive


# Before anything is known


def test_nothing_is_delayed_before_the_first_rejection() -> None:
    """While a site rejects nothing, each request after the initial window may be sent at once."""
    adaptive = AdaptiveRate()
    for _ in range(2000):
        assert adaptive.slot <= 0.0
        adaptive.record_answer(adaptive.record_sent(0.0, delayed=False))
    for _ in range(2000):
        assert adaptive.slot <= 0.0
        adaptive.record_sent(0.0, delayed=False)
    assert (adaptive.phase, adaptive.rate) == (Phase.UNLIMITED, math.inf)


def test_a_new_start_is_careful() -> None:
    """After a new start few requests are sent until they are accepted, as in the beginning."""
    adaptive = AdaptiveRate(sent=50)
    assert adaptive.phase is Phase.INITIAL_WINDOW


def test_one_odd_rejection_costs_only_seconds() -> None:
    """Five seconds after a single rejection the rate is more than 100 requests a second again."""
    adaptive = AdaptiveRate()
    adaptive.record_rejection(adaptive.record_sent(0.0, delayed=False), 0.0)
    accepted, _ = Sender(adaptive).send(5.0, accept_all)
    assert adaptive.rate > 100
    assert accepted > 100


def test_the_first_burst_is_reacted_to_once() -> None:
    """However many requests sent before the first rejection are rejected, the rate is cut once."""
    adaptive = AdaptiveRate()
    for _ in range(256):
        adaptive.record_sent(0.0, delayed=False)
    for number in range(6, 257):
        adaptive.record_rejection(number, 0.1)
        assert (adaptive.phase, adaptive.rate) == (Phase.SLOW_START, 2.0)


# Learning the limit


@pytest.mark.parametrize("rate", [5.0, 50.0])
def test_the_limit_of_a_bucket_is_learnt(rate: float) -> None:
    """In five minutes 95 % of a token bucket's requests are used, with at most 2 % rejected."""
    accepted, rejected = Sender(AdaptiveRate()).send(300.0, Bucket(rate, 3 * rate).accepts)
    assert accepted >= 0.95 * 303 * rate
    assert rejected <= 0.02 * accepted


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_changed_limit_is_learnt_within_a_minute(factor: float) -> None:
    """A minute after a limit was halved or doubled, 90 % of the new one are used."""
    sender, bucket = Sender(AdaptiveRate()), Bucket(20.0, 20.0)
    sender.send(120.0, bucket.accepts)
    bucket.rate *= factor
    sender.send(60.0, bucket.accepts)
    accepted, rejected = sender.send(60.0, bucket.accepts)
    assert accepted >= 0.9 * 60 * bucket.rate
    assert rejected <= 0.03 * accepted


def test_rejections_of_requests_in_flight_are_subtracted_from_the_accepted() -> None:
    """Ten requests in flight at a rejection count as accepted unless they are rejected too."""
    phases = []
    for rejected_in_flight in (0, 10):
        adaptive = measured(100.0)
        first = adaptive.sent + 1
        for step in range(20):
            adaptive.record_sent(100.0 + step / 100, delayed=True)
        adaptive.record_rejection(first + 9, 100.1)
        for number in range(first + 10, first + 10 + rejected_in_flight):
            adaptive.record_rejection(number, 100.15)
        adaptive.record_rejection(adaptive.record_sent(100.2, delayed=True), 100.2)
        phases.append(adaptive.phase)
    assert phases == [Phase.CONGESTION_AVOIDANCE, Phase.OUTAGE]


def test_one_odd_measurement_does_not_ruin_the_rate() -> None:
    """A request rejected right after an hour without any costs about half the rate at most."""
    adaptive = measured(100.0)
    before = adaptive.rate
    adaptive.record_sent(5000.0, delayed=False)
    adaptive.record_rejection(adaptive.record_sent(5000.0, delayed=False), 5000.1)
    assert adaptive.rate >= 0.43 * before


def test_an_idle_client_learns_nothing() -> None:
    """The rate grows only with requests that had to wait for their slot."""
    adaptive = measured(10.0)
    before = adaptive.rate
    for step in range(1000):
        adaptive.record_sent(200.0 + step, delayed=False)
    assert adaptive.rate == before


def test_sparse_requests_never_wait_much_more_than_a_minute() -> None:
    """Rejections of two requests every ten minutes leave the rate at one a minute at least."""
    adaptive, now = AdaptiveRate(), 0.0
    for _ in range(50):
        for _ in range(2):  # the first is accepted, the second rejected
            now = max(now + 300.0, adaptive.slot)
            number = adaptive.record_sent(now, delayed=False)
        adaptive.record_rejection(number, now)
    assert adaptive.slot - now < 70


# Outages


def test_an_outage_is_probed_by_one_request_at_a_time() -> None:
    """While nothing is accepted one request is sent; the next waits two round trips for it."""
    adaptive = measured(100.0)
    adaptive.record_rejection(adaptive.record_sent(101.0, delayed=True), 101.5)
    assert adaptive.slot >= 101.5 + 0.5  # one round trip
    phases, slots = [adaptive.phase], [adaptive.slot]
    for _ in range(2):
        adaptive.record_sent(adaptive.slot, delayed=True)
        phases.append(adaptive.phase)
        slots.append(adaptive.slot)
    assert phases == [Phase.OUTAGE, Phase.PROBING, Phase.CONGESTION_AVOIDANCE]
    assert slots[1] - slots[0] == pytest.approx(2 * 0.5)
    assert slots[2] - slots[1] < 0.1


def test_a_fast_rate_is_the_same_after_an_outage() -> None:
    """A used-up window of many requests says nothing about the rate."""
    adaptive = measured(100.0)
    for step in range(200):
        number = adaptive.record_sent(100.1 + step / 100, delayed=True)
    adaptive.record_rejection(number, 102.1)
    before = adaptive.rate
    for _ in range(10):
        now = adaptive.slot
        adaptive.record_rejection(adaptive.record_sent(now, delayed=False), now + 0.05)
    for _ in range(2):  # the probe, which is accepted, and the next request
        adaptive.record_sent(adaptive.slot, delayed=False)
    assert adaptive.phase is Phase.CONGESTION_AVOIDANCE
    assert adaptive.rate == before


def test_a_quota_that_is_used_up_for_good_is_noticed() -> None:
    """After a quota is used up at most 30 requests are sent in 500 s, and `exhausted` is set."""
    sender = Sender(AdaptiveRate())
    sender.send(60.0, Bucket(20.0, 20.0).accepts)
    assert sender.adaptive.exhausted is None
    _, rejected = sender.send(500.0, reject_all)
    assert rejected <= 30
    assert sender.adaptive.exhausted is not None
    assert "nothing was accepted" in sender.adaptive.exhausted


def test_a_site_that_accepts_again_is_not_exhausted() -> None:
    """Once a request is accepted after an outage, there is no reason to give up any more."""
    sender = Sender(AdaptiveRate())
    sender.send(300.0, reject_all)
    assert sender.adaptive.exhausted
    sender.now += 120
    sender.send(2.0, accept_all)
    assert sender.adaptive.exhausted is None


@pytest.mark.parametrize(
    ("retry_after", "exhausted"), [(None, False), (600.0, False), (601.0, True)]
)
def test_a_very_long_retry_after_means_exhausted(
    retry_after: float | None, exhausted: bool
) -> None:
    """A Retry-After of more than ten minutes is a reason to give up at once."""
    adaptive = AdaptiveRate()
    adaptive.record_rejection(adaptive.record_sent(0.0, delayed=False), 0.1, retry_after)
    assert (adaptive.exhausted is not None) == exhausted


def test_rejections_from_before_a_new_start_are_ignored() -> None:
    """A limiter that starts again does not react to requests numbered by its predecessor."""
    adaptive = AdaptiveRate(10.0, sent=50)
    adaptive.record_rejection(50, 1.0)
    assert adaptive.phase is Phase.CONGESTION_AVOIDANCE
    assert adaptive.rate == pytest.approx(9.9)
    assert adaptive.record_sent(2.0, delayed=False) == 51


# Slots


def test_a_configured_limit_holds_from_the_first_request_on() -> None:
    """With a configured limit requests are sent at 99 % of it, before any rejection."""
    sender = Sender(AdaptiveRate(10.0))
    accepted, _ = sender.send(100.0, accept_all)
    assert accepted == pytest.approx(100 * 9.9, abs=1)


def test_a_configured_limit_that_is_too_high_is_corrected() -> None:
    """Rejections below a configured limit reduce the rate; later it grows up to the limit only."""
    sender, bucket = Sender(AdaptiveRate(100.0)), Bucket(10.0, 10.0)
    sender.send(60.0, bucket.accepts)
    _, rejected = sender.send(60.0, bucket.accepts)
    assert rejected < 20
    sender.send(200.0, accept_all)
    assert sender.adaptive.rate == pytest.approx(99.0)


def test_late_wake_ups_do_not_add_up() -> None:
    """A thread that wakes up 3 ms after its slot does not delay the slots after it."""
    adaptive = AdaptiveRate(100.0)
    adaptive.record_sent(0.0, delayed=False)
    for _ in range(1000):
        adaptive.record_sent(adaptive.slot + 0.003, delayed=True)
    assert adaptive.slot < 1001 / 99 + 0.01


def test_unused_slots_are_not_saved() -> None:
    """After a long pause requests are sent at the rate, not in a burst."""
    adaptive = AdaptiveRate(1.0)
    adaptive.record_sent(0.0, delayed=False)
    adaptive.record_sent(1000.0, delayed=False)
    assert adaptive.slot == pytest.approx(1000 + 1 / 0.99)
