"""How the threads of a client wait for the rate limiter, and when they stop waiting."""

from __future__ import annotations

import math
import threading
import time

import pytest

from aichatfree import APIError, APITimeoutError, RateLimitError, StreamInterruptedError, Timeout
from aichatfree._call import Call
from aichatfree._prompt_rejections import PromptRejections
from aichatfree._rate_limiter import RateLimiter
from helpers import AT_ONCE, HANG, LONG, SHORT, Clock, wait_until

REACTION_TIME = 0.4
"""Seconds in which a waiting thread must react: two poll intervals of 25 ms, and a slow machine.

Less than the half second until the next slot in these tests, when the thread would end its wait
in any case.
"""

REJECTED = RateLimitError("Too many requests.")


def simulated(limit: float | None = None) -> tuple[RateLimiter, Clock]:
    clock = Clock()
    return RateLimiter(limit, clock=clock, wait=clock.wait), clock


def call(deadline: float = math.inf) -> Call:
    """A call with a deadline on the rate limiter's clock."""
    made = Call(Timeout())
    made.deadline = deadline
    return made


class Caller(threading.Thread):
    """A thread that acquires once; keeps the number or the error, and when it returned."""

    def __init__(self, limiter: RateLimiter, deadline: float = math.inf) -> None:
        super().__init__(daemon=True)
        self.limiter, self.call = limiter, call(deadline)
        self.number: int | None = None
        self.error: APIError | None = None
        self.returned = 0.0
        self.start()

    def run(self) -> None:
        try:
            self.number = self.limiter.acquire(self.call)
        except APIError as error:
            self.error = error
        self.returned = time.monotonic()


def queue_of(limiter: RateLimiter, count: int) -> list[Caller]:
    """So many threads that wait, in this order."""
    callers: list[Caller] = []
    for _ in range(count):
        callers.append(Caller(limiter))
        wait_until(lambda: limiter.waiting == len(callers))
    return callers


def cancel(callers: list[Caller]) -> None:
    for caller in callers:
        caller.call.cancel_token.set()
    for caller in callers:
        caller.join(LONG)
        assert not caller.is_alive()


# Numbers and waits


def test_nobody_waits_before_the_first_rejection() -> None:
    """Without a configured limit, requests are sent at once until one is rejected."""
    limiter, clock = simulated()
    for number in range(1, 2001):
        assert limiter.acquire(call()) == number
        limiter.record_answer(number)
    assert [limiter.acquire(call()) for _ in range(2000)] == list(range(2001, 4001))
    assert (clock.waits, limiter.total_wait) == (0, 0.0)


def test_the_first_requests_to_a_site_wait_for_a_moment() -> None:
    """256 requests at once to an unknown site are sent within a second, which is no rate limit."""
    limiter, clock = simulated()
    start = clock.now
    for _ in range(256):
        limiter.acquire(call())
    assert 0 < clock.now - start < 1
    assert limiter.total_wait == 0


def test_a_rejection_delays_the_next_request() -> None:
    """After the first rejection requests are sent at intervals, whatever call they belong to."""
    limiter, clock = simulated()
    limiter.record_rejection(limiter.acquire(call()), REJECTED, PromptRejections())
    before = clock.now
    limiter.acquire(call())
    assert clock.now - before == pytest.approx(0.25)


def test_a_configured_limit_is_kept_from_the_first_request_on() -> None:
    """`max_requests_per_minute` applies before any rejection, at 99 % of its value."""
    limiter, clock = simulated(600)
    start = clock.now
    for _ in range(101):
        limiter.acquire(call())
    assert clock.now - start == pytest.approx(100 / 9.9, rel=1e-6)


def test_the_time_that_requests_have_waited_is_known() -> None:
    """`total_wait` is the sum of all waits, in seconds."""
    limiter, clock = simulated(60)
    start = clock.now
    for _ in range(3):
        limiter.acquire(call())
    assert limiter.total_wait == pytest.approx(clock.now - start)


@pytest.mark.parametrize("limit", [0, -1, math.inf, math.nan])
def test_an_impossible_limit_is_refused(limit: float) -> None:
    """A limit that is not a positive, finite number raises ValueError with the argument's name."""
    with pytest.raises(ValueError, match="max_requests_per_minute"):
        RateLimiter(limit)


@pytest.mark.parametrize("limit", ["60", True])
def test_a_limit_that_is_not_a_number_is_refused(limit: object) -> None:
    """A limit of another type raises TypeError with the argument's name."""
    with pytest.raises(TypeError, match="max_requests_per_minute"):
        RateLimiter(limit)  # type: ignore[arg-type]


# Quotas


def test_an_exhausted_quota_is_reported_with_the_sites_message() -> None:
    """After a Retry-After of hours, `exhausted` has the reason and the site's own words."""
    limiter, _ = simulated()
    assert limiter.exhausted is None
    error = RateLimitError("Come back tomorrow.", retry_after=7200.0)
    limiter.record_rejection(limiter.acquire(call()), error, PromptRejections())
    assert limiter.exhausted is not None
    assert "a long wait" in limiter.exhausted
    assert "Come back tomorrow." in limiter.exhausted


def test_a_new_batch_forgets_an_exhausted_quota() -> None:
    """`begin_run` ends the state `exhausted`; late rejections of the last run do not restore it."""
    limiter, clock = simulated(600)
    error = RateLimitError("Come back tomorrow.", retry_after=7200.0)
    numbers = [limiter.acquire(call()) for _ in range(2)]
    limiter.record_rejection(numbers[0], error, PromptRejections())
    limiter.begin_run()
    limiter.record_rejection(numbers[1], error, PromptRejections())
    assert limiter.exhausted is None
    before = clock.now
    assert limiter.acquire(call()) == 3
    assert clock.now == before


# Calls that are not sent


def test_a_slot_after_the_deadline_is_an_error_at_once() -> None:
    """A call whose slot is after its deadline fails without waiting, and takes no number."""
    limiter, clock = simulated(60)
    limiter.acquire(call())
    with pytest.raises(RateLimitError, match="not sent"):
        limiter.acquire(call(deadline=clock.now + 0.5))
    assert clock.waits == 0
    assert limiter.acquire(call(deadline=clock.now + 2)) == 2


def test_a_call_that_is_not_sent_quotes_the_last_rejection() -> None:
    """The error of a call that is not sent has the last message and Retry-After of the site."""
    limiter, clock = simulated(1)
    error = RateLimitError("One a minute, please.", retry_after=60.0)
    limiter.record_rejection(limiter.acquire(call()), error, PromptRejections())
    with pytest.raises(RateLimitError, match="One a minute, please") as caught:
        limiter.acquire(call(deadline=clock.now + 1))
    assert caught.value.retry_after == 60.0


def test_a_call_that_has_to_wait_for_too_long_knows_how_long() -> None:
    """The error of a call whose slot is after its deadline says in how many seconds it is."""
    limiter, clock = simulated(6)
    limiter.acquire(call())
    with pytest.raises(RateLimitError, match=r"it was not sent\. Try again in 10 s, or allow"):
        limiter.acquire(call(clock.now + 5))


def test_the_error_of_a_call_that_was_attempted_does_not_deny_it() -> None:
    """If a retry has to wait until after the deadline, the error says that there was none, not that
    nothing was sent.
    """
    limiter, clock = simulated(6)
    attempted = call(clock.now + 5)
    limiter.acquire(attempted)
    with pytest.raises(RateLimitError, match="it was not retried") as caught:
        limiter.acquire(attempted)
    assert "not sent" not in str(caught.value)


def test_a_deadline_in_the_past_is_a_timeout() -> None:
    """A call whose deadline has passed raises APITimeoutError even if there is no limit."""
    limiter, clock = simulated()
    late = Call(Timeout(total=1))
    late.deadline = clock.now - 1
    with pytest.raises(APITimeoutError):
        limiter.acquire(late)


def test_a_cancelled_call_takes_no_number() -> None:
    """A call that is already cancelled is never sent."""
    limiter, _ = simulated()
    cancelled = call()
    cancelled.cancel_token.set()
    with pytest.raises(StreamInterruptedError):
        limiter.acquire(cancelled)
    assert cancelled.attempts == 0
    assert limiter.acquire(call()) == 1


# Real threads


def test_256_threads_share_one_limit() -> None:
    """256 threads get different numbers, and together no more than the limit allows."""
    limiter = RateLimiter(60 * 1000)
    started = time.monotonic()
    callers = [Caller(limiter) for _ in range(256)]
    for caller in callers:
        caller.join(LONG)
    assert sorted(caller.number or 0 for caller in callers) == list(range(1, 257))
    assert time.monotonic() - started >= 255 / 990 - 0.051  # a late wake-up makes up for 50 ms


def test_threads_are_served_in_the_order_of_their_arrival() -> None:
    """The thread that has waited longest gets the next number."""
    clock, queue_is_complete = Clock(), threading.Event()

    def wait(event: threading.Event, seconds: float) -> None:
        queue_is_complete.wait(LONG)
        clock.wait(event, seconds)

    limiter = RateLimiter(60, clock=clock, wait=wait)
    limiter.acquire(call())
    callers = queue_of(limiter, 5)
    queue_is_complete.set()
    for caller in callers:
        caller.join(LONG)
    assert [caller.number for caller in callers] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_cancelled_thread_stops_waiting_and_the_others_move_up(position: int) -> None:
    """A cancelled call ends its wait before the next slot, and takes neither number nor slot."""
    limiter = RateLimiter(60 * 2)
    limiter.acquire(call())
    callers = queue_of(limiter, 4)
    cancelled_at = time.monotonic()
    cancelled = callers.pop(position)
    cancel([cancelled])
    assert cancelled.returned - cancelled_at < REACTION_TIME
    assert isinstance(cancelled.error, StreamInterruptedError)
    for caller in callers:
        caller.join(LONG)
    assert [caller.number for caller in callers] == [2, 3, 4]
    assert limiter.waiting == 0


def test_a_slot_that_moves_past_the_deadline_ends_the_wait() -> None:
    """When a rejection delays the next slot beyond a waiting call's deadline, the call fails."""
    limiter = RateLimiter(60)
    number = limiter.acquire(call())
    waiting = Caller(limiter, deadline=time.monotonic() + 1.9)  # the slot is in 1 s
    wait_until(lambda: limiter.waiting == 1)
    limiter.record_rejection(number, REJECTED, PromptRejections())  # a pause of 2 s
    rejected_at = time.monotonic()
    waiting.join(LONG)
    assert isinstance(waiting.error, RateLimitError)
    assert waiting.returned - rejected_at < REACTION_TIME


def test_only_the_first_thread_watches_the_clock() -> None:
    """However many threads wait, at most one of them sleeps until the next slot."""
    asleep, most, lock = 0, 0, threading.Lock()

    def wait(event: threading.Event, seconds: float) -> None:
        nonlocal asleep, most
        with lock:
            asleep += 1
            most = max(most, asleep)
        event.wait(seconds)
        with lock:
            asleep -= 1

    limiter = RateLimiter(60 * 500, wait=wait)
    callers = [Caller(limiter) for _ in range(64)]
    for caller in callers:
        caller.join(LONG)
    assert most == 1


def test_waiting_threads_use_no_processor_time() -> None:
    """32 waiting threads read the clock no more often than a single one."""
    readings = 0

    def clock() -> float:
        nonlocal readings
        readings += 1
        return time.monotonic()

    limiter = RateLimiter(60, clock=clock)
    limiter.acquire(call())
    callers = queue_of(limiter, 32)
    before = readings
    time.sleep(SHORT)
    assert readings - before < 100 * SHORT  # one thread alone reads it twice in each 25 ms
    cancel(callers)


def test_the_position_in_the_queue_counts_for_the_deadline() -> None:
    """With a configured limit, a call behind three others knows at once that it is too late."""
    limiter = RateLimiter(1)  # a minute between two requests, so that the slot is after HANG
    limiter.acquire(call())
    callers = queue_of(limiter, 3)
    started = time.monotonic()
    with pytest.raises(RateLimitError, match="not sent"):
        limiter.acquire(call(deadline=started + HANG))
    assert time.monotonic() - started < AT_ONCE
    cancel(callers)


def test_rejections_are_recorded_while_threads_wait() -> None:
    """No lock is held while a thread sleeps, so that another can report a rejection."""
    limiter = RateLimiter(60)
    number = limiter.acquire(call())
    callers = queue_of(limiter, 1)
    reporter = threading.Thread(
        target=limiter.record_rejection, args=(number, REJECTED, PromptRejections()), daemon=True
    )
    reporter.start()
    reporter.join(0.5)
    assert not reporter.is_alive()
    cancel(callers)
