"""The pacer: when requests may leave, and what it learns from rejections."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from aichatfree._pacing import AdaptiveRate, Cancelled, DeadlineExceeded, Pacer

NEVER = threading.Event()


class Clock:
    """A clock that only moves when somebody waits; `oversleep` seconds too far each time."""

    def __init__(self, oversleep: float = 0.0) -> None:
        self.now = 1000.0
        self.oversleep = oversleep
        self.waits = 0

    def __call__(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> None:
        self.waits += 1
        self.now += seconds + self.oversleep


class Bucket:
    """A token bucket on the clock: `rate` a second, `size` at once."""

    def __init__(self, clock: Clock, rate: float, size: float) -> None:
        self.clock, self.rate, self.size, self.tokens = clock, rate, size, size
        self.last = clock.now

    def accepts(self) -> bool:
        passed = self.clock.now - self.last
        self.tokens = min(self.size, self.tokens + passed * self.rate)
        self.last = self.clock.now
        self.tokens -= (accepted := self.tokens >= 1)
        return accepted


def make(limit: float | None = None, oversleep: float = 0.0) -> tuple[Pacer, Clock]:
    clock = Clock(oversleep)
    return Pacer(limit, clock=clock, wait=clock.wait), clock


def drive(
    pacer: Pacer, clock: Clock, seconds: float, accepts: Callable[[], bool]
) -> tuple[int, int]:
    """Send one request after the other for so many seconds; returns (accepted, rejected)."""
    end, accepted, rejected = clock.now + seconds, 0, 0
    while clock.now < end:
        number = pacer.acquire(cancelled=NEVER)
        if accepts():
            accepted += 1
        else:
            rejected += 1
            pacer.rejected(number)
            clock.now += 0.05
    return accepted, rejected


def learnt(rate: float, now: float = 100.0) -> AdaptiveRate:
    """An adaptive rate that was just cut to about `rate`, with nothing in flight."""
    adaptive = AdaptiveRate(rate / 0.99)
    adaptive.rejected(adaptive.leave(now - 1, waited=False), now - 1)
    adaptive.slot = now
    for _ in range(2):
        adaptive.leave(now, waited=False)
    adaptive.rejected(adaptive.sent, now)
    return adaptive


# Before anything is known


def test_nobody_waits_before_the_first_rejection() -> None:
    """A server without a limit never notices the pacer, and neither does its user."""
    pacer, clock = make()
    assert [pacer.acquire(cancelled=NEVER) for _ in range(1000)] == list(range(1, 1001))
    assert (clock.waits, pacer.waited, pacer.rate) == (0, 0.0, None)


def test_one_stray_rejection_costs_seconds_at_most() -> None:
    """After the first rejection the slow start is back at 100/s within five seconds."""
    pacer, clock = make()
    pacer.rejected(pacer.acquire(cancelled=NEVER))
    accepted, _ = drive(pacer, clock, 5.0, lambda: True)
    assert pacer.rate is not None
    assert pacer.rate > 100
    assert accepted > 100


def test_the_rest_of_the_first_burst_is_not_news() -> None:
    """However many of the first burst are rejected, the rate is cut once for all of them."""
    pacer, _ = make()
    numbers = [pacer.acquire(cancelled=NEVER) for _ in range(256)]
    pacer.rejected(numbers[5])
    rate = pacer.rate
    for number in numbers[6:]:
        pacer.rejected(number)
    assert pacer.rate == rate == 2.0
    assert pacer.rejections == 251


# Learning the limit


@pytest.mark.parametrize("rate", [5.0, 50.0])
def test_the_limit_of_a_bucket_is_learnt(rate: float) -> None:
    """Five minutes on a token bucket use 95 % of it with at most 2 % rejected."""
    pacer, clock = make()
    accepted, rejected = drive(pacer, clock, 300.0, Bucket(clock, rate, 3 * rate).accepts)
    assert accepted >= 0.95 * 303 * rate
    assert rejected <= 0.02 * accepted


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_changed_limit_is_found_again(factor: float) -> None:
    """A limit that is halved or doubled in mid run is found within a minute."""
    pacer, clock = make()
    bucket = Bucket(clock, 20.0, 20.0)
    drive(pacer, clock, 120.0, bucket.accepts)
    bucket.rate *= factor
    drive(pacer, clock, 60.0, bucket.accepts)
    accepted, rejected = drive(pacer, clock, 60.0, bucket.accepts)
    assert accepted >= 0.9 * 60 * bucket.rate
    assert rejected <= 0.03 * accepted


def test_what_was_in_flight_counts_against_the_accepted() -> None:
    """Requests in flight at a rejection are held accepted only until they are rejected too."""
    kept, lost = learnt(100.0), learnt(100.0)
    for adaptive in (kept, lost):
        first = adaptive.sent + 1
        for step in range(20):
            adaptive.leave(100.0 + step / 100, waited=True)
        adaptive.rejected(first + 9, 100.1)
        for late in range(first + 10, first + 20):
            if adaptive is lost:
                adaptive.rejected(late, 100.15)
        adaptive.leave(100.2, waited=True)
        adaptive.rejected(adaptive.sent, 100.2)
    assert kept._failures == 0  # ten got through
    assert lost._failures == 1  # none did


def test_one_odd_sample_costs_half_the_rate_at_most() -> None:
    """A request rejected right after a pause of the client's own does not ruin the rate."""
    adaptive = learnt(100.0)
    before = adaptive.rate
    adaptive.leave(5000.0, waited=False)
    adaptive.rejected(adaptive.leave(5000.0, waited=False), 5000.1)
    assert before is not None
    assert adaptive.rate is not None
    assert adaptive.rate >= 0.43 * before


def test_an_idle_client_learns_nothing() -> None:
    """The rate grows only with requests that had to wait for their slot."""
    adaptive = learnt(10.0)
    before = adaptive.rate
    for step in range(1000):
        adaptive.leave(200.0 + step, waited=False)
    assert adaptive.rate == before


def test_a_lone_user_never_waits_much_over_a_minute() -> None:
    """Rejections of sparse requests, which say little, cannot push the rate below 1 a minute."""
    adaptive, now = AdaptiveRate(), 0.0
    for _ in range(50):
        for _ in range(2):  # one accepted, one rejected
            now = max(now + 300.0, adaptive.slot)
            number = adaptive.leave(now, waited=False)
        adaptive.rejected(number, now)
    assert adaptive.earliest(0) - now < 70


# Outages


def test_an_outage_is_probed_by_one_request_at_a_time() -> None:
    """While nothing is accepted one request goes, and the next waits two round trips for it."""
    adaptive = learnt(100.0)
    adaptive.rejected(adaptive.leave(101.0, waited=True), 101.5)  # round trip 0.5 s
    assert adaptive.slot >= 101.5 + 0.5
    probe = adaptive.slot
    adaptive.leave(probe, waited=True)
    assert adaptive.slot == pytest.approx(probe + 1.0)
    adaptive.leave(probe + 1.0, waited=True)
    assert adaptive.slot < probe + 1.1


def test_the_rate_outlives_an_outage() -> None:
    """A used-up window says nothing about the rate: it is the same when the next begins."""
    adaptive = learnt(100.0)
    adaptive.rejected(adaptive.leave(101.0, waited=False), 101.05)
    before = adaptive.rate
    for _ in range(10):
        now = adaptive.slot
        adaptive.rejected(adaptive.leave(now, waited=True), now + 0.05)
    assert adaptive.rate == before


def test_retry_after_counts_from_the_third_time_on() -> None:
    """A Retry-After that is far too long does not stop everybody at the first rejection."""
    adaptive, pauses = learnt(100.0), []
    for _ in range(3):
        now = adaptive.slot
        adaptive.rejected(adaptive.leave(now, waited=True), now, retry_after=30.0)
        pauses.append(adaptive.slot - now)
    assert max(pauses[:2]) < 5
    assert pauses[2] == pytest.approx(30.0)


def test_a_quota_gone_for_good_is_noticed() -> None:
    """A used-up quota costs at most 30 requests in 500 s, and the user can be told why."""
    pacer, clock = make()
    drive(pacer, clock, 60.0, Bucket(clock, 20.0, 20.0).accepts)
    assert pacer.exhausted is None
    _, rejected = drive(pacer, clock, 500.0, lambda: False)
    assert rejected <= 30
    assert pacer.exhausted is not None
    assert "nothing was accepted" in pacer.exhausted


def test_an_outage_that_ends_is_forgotten() -> None:
    """Once a probe gets through there is no reason left to give up."""
    pacer, clock = make()
    drive(pacer, clock, 300.0, lambda: False)
    assert pacer.exhausted
    clock.now += 120
    drive(pacer, clock, 2.0, lambda: True)
    assert pacer.exhausted is None


@pytest.mark.parametrize(("retry_after", "given"), [(None, False), (600.0, False), (601.0, True)])
def test_a_very_long_retry_after_is_told(retry_after: float | None, given: bool) -> None:
    """A Retry-After of more than ten minutes is a reason to give up at once; none is allowed."""
    pacer, _ = make()
    pacer.rejected(pacer.acquire(cancelled=NEVER), retry_after)
    assert (pacer.exhausted is not None) == given


# Slots


def test_a_told_limit_is_never_exceeded() -> None:
    """`max_requests_per_minute` paces from the first request on, a hair below the limit."""
    pacer, clock = make(600)
    start = clock.now
    for _ in range(101):
        pacer.acquire(cancelled=NEVER)
    assert clock.now - start == pytest.approx(100 / 9.9, rel=1e-6)
    assert pacer.waited == pytest.approx(clock.now - start)


def test_a_told_limit_that_is_wrong_is_corrected() -> None:
    """Rejections below a told limit are heeded, and the told limit stays the ceiling."""
    pacer, clock = make(6000)
    bucket = Bucket(clock, 10.0, 10.0)
    drive(pacer, clock, 60.0, bucket.accepts)
    _, rejected = drive(pacer, clock, 60.0, bucket.accepts)
    assert rejected < 20
    drive(pacer, clock, 200.0, lambda: True)
    assert pacer.rate == pytest.approx(99.0)


@pytest.mark.parametrize("limit", [0, -1, float("inf"), float("nan")])
def test_an_impossible_limit_is_refused(limit: float) -> None:
    """A limit that is not a positive number is an error where it is written down."""
    with pytest.raises(ValueError, match="max_requests_per_minute"):
        Pacer(limit)


def test_late_wake_ups_do_not_add_up() -> None:
    """Slots lie on an absolute grid: sleeping 3 ms too long each time costs no throughput."""
    pacer, clock = make(6000, oversleep=0.003)
    start = clock.now
    for _ in range(1001):
        pacer.acquire(cancelled=NEVER)
    assert clock.now - start < 1000 / 99 + 0.01


def test_idle_time_is_not_saved_up() -> None:
    """After a long pause requests leave at the rate, not in a burst."""
    pacer, clock = make(60)
    pacer.acquire(cancelled=NEVER)
    clock.now += 1000
    start = clock.now
    for _ in range(3):
        pacer.acquire(cancelled=NEVER)
    assert clock.now - start == pytest.approx(2 / 0.99)


# Giving up


def test_a_slot_after_the_deadline_is_refused_at_once() -> None:
    """A caller whose slot is known to lie after its deadline does not wait, nor take a number."""
    pacer, clock = make(60)
    pacer.acquire(cancelled=NEVER)
    with pytest.raises(DeadlineExceeded):
        pacer.acquire(cancelled=NEVER, deadline=clock.now + 0.5)
    assert clock.waits == 0
    assert pacer.acquire(cancelled=NEVER, deadline=clock.now + 2) == 2


def test_a_deadline_that_has_passed_is_refused() -> None:
    """Even an unpaced request does not leave after its deadline."""
    pacer, clock = make()
    with pytest.raises(DeadlineExceeded):
        pacer.acquire(cancelled=NEVER, deadline=clock.now - 1)


def test_a_cancelled_caller_takes_no_number() -> None:
    """A caller that is cancelled already never sends."""
    pacer, _ = make()
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        pacer.acquire(cancelled=cancelled)
    assert pacer.acquire(cancelled=NEVER) == 1


# Real threads


class Caller(threading.Thread):
    """A thread that acquires once; keeps the number or the error, and when it returned."""

    def __init__(self, pacer: Pacer, deadline: float | None = None) -> None:
        super().__init__(daemon=True)
        self.pacer, self.deadline, self.cancelled = pacer, deadline, threading.Event()
        self.number: int | None = None
        self.error: Exception | None = None
        self.returned = 0.0
        self.start()

    def run(self) -> None:
        try:
            self.number = self.pacer.acquire(cancelled=self.cancelled, deadline=self.deadline)
        except (Cancelled, DeadlineExceeded) as error:
            self.error = error
        self.returned = time.monotonic()


def callers(pacer: Pacer, count: int) -> list[Caller]:
    """So many threads in line, in this order."""
    started = []
    for _ in range(count):
        started.append(Caller(pacer))
        wait_until(lambda: len(pacer._line) == len(started))
    return started


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.0005)


def test_256_threads_leave_at_the_rate() -> None:
    """256 threads share one pacer: each gets a number of its own, at the pace of the limit."""
    pacer = Pacer(60 * 1000)
    started = time.monotonic()
    threads = [Caller(pacer) for _ in range(256)]
    for thread in threads:
        thread.join(5)
    assert sorted(thread.number or 0 for thread in threads) == list(range(1, 257))
    assert time.monotonic() - started >= 255 / 990 - 0.051


def test_first_come_first_served() -> None:
    """Numbers are given in the order of arrival."""
    pacer = Pacer(60 * 50)
    pacer.acquire(cancelled=NEVER)
    line = [Caller(pacer)]
    for _ in range(4):
        time.sleep(0.002)
        line.append(Caller(pacer))
    for caller in line:
        caller.join(5)
    assert [caller.number for caller in line] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_cancelled_wait_ends_at_once_and_leaves_no_hole(position: int) -> None:
    """Anyone in line is let go within 50 ms of being cancelled, and the others move up."""
    pacer = Pacer(60 * 4)
    pacer.acquire(cancelled=NEVER)
    line = callers(pacer, 4)
    line[position].cancelled.set()
    cancelled_at = time.monotonic()
    line[position].join(5)
    assert line[position].returned - cancelled_at < 0.05
    assert isinstance(line[position].error, Cancelled)
    pacer._adaptive.ceiling = pacer._adaptive.rate = 1000.0  # let the others go quickly
    rest = [caller for caller in line if caller is not line[position]]
    for caller in rest:
        caller.join(5)
    assert [caller.number for caller in rest] == [2, 3, 4]
    assert not pacer._line


def test_a_deadline_that_cannot_be_met_ends_the_wait() -> None:
    """When a pause moves the slots past a waiting caller's deadline, it is told then."""
    pacer = Pacer(60)
    pacer.acquire(cancelled=NEVER)
    waiting = Caller(pacer, deadline=time.monotonic() + 30)
    wait_until(lambda: len(pacer._line) == 1)
    pacer._adaptive.slot += 60
    moved_at = time.monotonic()
    waiting.join(5)
    assert isinstance(waiting.error, DeadlineExceeded)
    assert waiting.returned - moved_at < 0.2


def test_only_the_first_in_line_watches_the_clock() -> None:
    """However many threads wait, one of them sleeps on the clock at any time: no herd."""
    asleep, most, lock = 0, 0, threading.Lock()

    def wait(event: threading.Event, seconds: float) -> None:
        nonlocal asleep, most
        with lock:
            asleep += 1
            most = max(most, asleep)
        event.wait(seconds)
        with lock:
            asleep -= 1

    pacer = Pacer(60 * 500, wait=wait)
    threads = [Caller(pacer) for _ in range(64)]
    for thread in threads:
        thread.join(5)
    assert most == 1


def test_a_thread_that_waits_its_turn_costs_nothing() -> None:
    """The others in line sleep until there is something to do: the clock is read by one of them."""
    readings = 0

    def clock() -> float:
        nonlocal readings
        readings += 1
        return time.monotonic()

    pacer = Pacer(60, clock=clock)
    pacer.acquire(cancelled=NEVER)
    line = callers(pacer, 32)
    before = readings
    time.sleep(0.2)
    assert readings - before < 20
    for caller in line:
        caller.cancelled.set()
    for caller in line:
        caller.join(5)


def test_the_place_in_line_counts_for_the_deadline() -> None:
    """With a told limit, a caller behind three others knows at once that it is too late."""
    pacer = Pacer(60)
    pacer.acquire(cancelled=NEVER)
    line = callers(pacer, 3)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        pacer.acquire(cancelled=NEVER, deadline=started + 2.5)
    assert time.monotonic() - started < 0.5
    for caller in line:
        caller.cancelled.set()
        caller.join(5)


def test_the_state_is_not_locked_while_somebody_sleeps() -> None:
    """Rejections are taken in, and others refused, while a caller waits for its slot."""
    pacer = Pacer(60)
    number = pacer.acquire(cancelled=NEVER)
    (waiting,) = callers(pacer, 1)
    reporter = threading.Thread(target=pacer.rejected, args=(number,), daemon=True)
    reporter.start()
    reporter.join(0.5)
    assert not reporter.is_alive()
    waiting.cancelled.set()
    waiting.join(5)
