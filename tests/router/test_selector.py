"""Which site gets the next prompt, on a clock that only advances when a thread waits."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from aichatfree import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    RateLimitError,
    StreamInterruptedError,
    Timeout,
)
from aichatfree._call import Call
from aichatfree._prompt_rejections import Cause
from aichatfree._rate_limiter import RateLimiter
from aichatfree._routing.selector import SiteSelector, Visit
from helpers import AT_ONCE, Clock, wait_until

#: Answers after which a rate limiter does not delay requests, unless one is rejected.
KNOWN_AFTER = 100

REFUSED = APIConnectionError("http://a: Nothing answers.")


class Selector:
    """A selector over sites with these limits (requests a minute), and the visits to them."""

    def __init__(self, *limits: float | None) -> None:
        self.clock = Clock()
        self.limiters = [
            RateLimiter(limit, clock=self.clock, wait=self.clock.wait) for limit in limits
        ]
        for limiter in self.limiters:
            if limiter.max_requests_per_minute is None:
                for _ in range(KNOWN_AFTER):
                    limiter.record_answer(limiter.acquire(unlimited()))
        self.selector = SiteSelector(self.limiters, clock=self.clock, wait=self.clock.wait)

    def visit(self, call: Call | None = None, **options: int | None) -> Visit:
        visit = Visit()
        avoided = [0] * len(self.limiters)
        self.selector.acquire(call or unlimited(), visit, avoided, **options)
        return visit

    def answer(self, visit: Visit, seconds: float = 0.0) -> None:
        self.clock.now += seconds
        self.selector.record_chunk(visit)
        self.selector.record_answer(visit)
        self.selector.end(visit)

    def fail(self, visit: Visit, error: APIError = REFUSED) -> None:
        self.selector.record_failure(visit, error, Cause.LIMIT)
        self.selector.end(visit)


def unlimited() -> Call:
    return Call(Timeout())


def call_until(deadline: float) -> Call:
    call = Call(Timeout(total=1))
    call.deadline = deadline
    return call


def test_limits_add_up() -> None:
    """Two sites of 10 requests a minute take 20 a minute, each at its own rate."""
    sites = Selector(10, 10)
    began = sites.clock.now
    used = Counter(sites.visit().site for _ in range(42))
    assert used == {0: 21, 1: 21}
    assert sites.clock.now - began == pytest.approx(120, rel=0.02)


def test_a_fast_site_is_not_held_up_by_a_slow_one() -> None:
    """No thread is bound to a slow site while the other one is free."""
    sites = Selector(1, 60)
    began = sites.clock.now
    used = Counter(sites.visit().site for _ in range(62))
    assert used[0] in (1, 2)
    assert sites.clock.now - began == pytest.approx(60, rel=0.03)


def test_unlimited_sites_share_the_prompts_in_flight() -> None:
    """Of two sites without a limit that are equally fast, each gets half of the prompts."""
    sites = Selector(None, None)
    assert Counter(sites.visit().site for _ in range(20)) == {0: 10, 1: 10}


def test_a_faster_site_gets_more_of_the_prompts() -> None:
    """Prompts go where the answer can be expected first, by how long the last answers took."""
    sites = Selector(None, None)
    first, second = sites.visit(), sites.visit()
    sites.answer(second, seconds=1)
    sites.answer(first, seconds=2)  # so it took three seconds
    assert Counter(sites.visit().site for _ in range(20)) == {0: 5, 1: 15}


def test_exactly_one_prompt_probes_a_site_after_its_cool_down() -> None:
    """When a cool-down is over, one prompt is sent; the others use other sites until its answer."""
    sites = Selector(None, None)
    sites.fail(sites.visit())
    sites.clock.now += 1
    used = [sites.visit() for _ in range(10)]
    probes = [visit for visit in used if visit.site == 0]
    assert len(probes) == 1
    sites.answer(probes[0])
    assert 0 in {sites.visit().site for _ in range(20)}


def test_prompts_wait_for_the_earliest_end_of_a_cool_down() -> None:
    """If all sites are cooling down, a prompt waits for the first, and no longer."""
    sites = Selector(None, None)
    busy = RateLimitError("http://b: Busy.", retry_after=30)
    sites.fail(sites.visit(preferred=1), busy)
    sites.fail(sites.visit(preferred=0))
    began = sites.clock.now
    assert sites.visit().site == 0
    assert sites.clock.now - began == pytest.approx(1, abs=0.05)


def test_a_cool_down_beyond_the_deadline_is_not_waited_for() -> None:
    """If no site is ready before the deadline, the error comes at once and names each reason."""
    sites = Selector(None, None)
    sites.fail(sites.visit(preferred=0), RateLimitError("http://a: Busy.", retry_after=30))
    sites.fail(sites.visit(preferred=1), RateLimitError("http://b: Full.", retry_after=40))
    with pytest.raises(RateLimitError, match=r"http://a: Busy.*http://b: Full") as caught:
        sites.visit(call_until(sites.clock.now + 20))
    assert caught.value.retry_after == pytest.approx(30)
    assert not caught.value.retryable


def test_the_error_of_a_call_that_was_attempted_does_not_deny_it() -> None:
    """If all sites cool down until after the deadline of a call that one of them has failed, the
    error says that it was not retried, not that nothing was sent.
    """
    sites = Selector(None)
    call = call_until(sites.clock.now + 0.4)
    sites.fail(sites.visit(call))
    with pytest.raises(APIConnectionError, match="it was not retried") as caught:
        sites.visit(call)
    assert "not sent" not in str(caught.value)


def test_a_deadline_that_passes_while_a_probe_is_out_ends_the_wait() -> None:
    """A call that waits for the outcome of a probe ends when its deadline passes."""
    sites = Selector(None)
    sites.fail(sites.visit())
    sites.visit()
    with pytest.raises(APITimeoutError):
        sites.visit(call_until(sites.clock.now + 5))


def test_a_call_without_retries_does_not_wait_for_a_site_that_failed() -> None:
    """With `retry=None`, a call is refused if every site is cooling down for more than 2 s."""
    sites = Selector(None)
    sites.fail(sites.visit(), RateLimitError("http://a: Busy.", retry_after=30))
    call = Call(Timeout(), single_attempt=True)
    call.waits_for_rejections_until = sites.clock.now + 2
    with pytest.raises(RateLimitError):
        sites.visit(call)


def test_all_sites_disabled_is_fatal() -> None:
    """If every site has failed for good, the error is fatal and names them."""
    sites = Selector(None, None)
    for name in ("http://a", "http://b"):
        sites.fail(sites.visit(), AuthenticationError(f"{name}: Wrong password."))
    with pytest.raises(APIError, match=r"http://a: Wrong.*http://b: Wrong") as caught:
        sites.visit()
    assert caught.value.fatal


def test_a_conversation_stays_with_its_site() -> None:
    """The preferred site is used although the other one is faster, unless it is cooling down."""
    sites = Selector(None, None)
    assert {sites.visit(preferred=1).site for _ in range(5)} == {1}
    sites.fail(sites.visit(preferred=1))
    assert sites.visit(preferred=1).site == 0


def test_a_prompt_avoids_the_site_that_has_failed_it() -> None:
    """Among sites that are ready, one that has not failed this prompt comes first."""
    sites = Selector(None, None)
    visit = Visit()
    sites.selector.acquire(unlimited(), visit, [1, 0])
    assert visit.site == 1


@pytest.mark.parametrize("stated", [None, 0.3, 1.0])
def test_a_rejection_with_a_short_stated_wait_or_none_is_left_to_the_rate_limiter(
    stated: float | None,
) -> None:
    """A site that rejects requests is slowed down by its rate limiter, not left alone, unless it
    asks to wait for more than a second: `Retry-After: 1` may stand for any part of one.
    """
    sites = Selector(None)
    error = RateLimitError("http://a: Busy.", retry_after=stated)
    for visit in [sites.visit() for _ in range(5)]:
        sites.limiters[0].record_rejection(visit.number, error, unlimited().rejections)
        sites.fail(visit, error)
    began = sites.clock.now
    sites.visit()
    assert 0 < sites.clock.now - began < 0.5


def test_a_longer_stated_wait_is_kept() -> None:
    """A site that asks to wait for two seconds gets nothing before."""
    sites = Selector(None)
    sites.fail(sites.visit(), RateLimitError("http://a: Busy.", retry_after=2))
    began = sites.clock.now
    sites.visit()
    assert sites.clock.now - began >= 2


def test_the_rejection_of_one_prompt_alone_does_not_cool_the_site_down() -> None:
    """A rejection that is probably caused by the prompt leaves the site available to others."""
    sites = Selector(None)
    visit = sites.visit()
    sites.selector.record_failure(
        visit, RateLimitError("http://a: Busy.", retry_after=60), Cause.SUSPECT
    )
    began = sites.clock.now
    sites.visit()
    assert sites.clock.now == began


def test_all_exhausted_sites_stop_a_batch() -> None:
    """A selector is exhausted when each of its sites is, and says when the first is ready again."""
    sites = Selector(None, None)
    sites.fail(sites.visit(), RateLimitError("http://a: Quota.", retry_after=36000))
    assert sites.selector.exhausted is None
    sites.fail(sites.visit(), AuthenticationError("http://b: Wrong password."))
    reason = sites.selector.exhausted
    assert reason is not None
    assert "Run it again after" in reason
    assert "http://a: Quota. http://b: Wrong password." in reason


def test_a_cancelled_call_stops_waiting() -> None:
    """A thread that waits for a cool-down stops at once when its call is cancelled."""
    limiter = RateLimiter()
    selector = SiteSelector([limiter])
    visit = Visit()
    selector.acquire(unlimited(), visit, [0])
    selector.record_failure(visit, RateLimitError("Busy.", retry_after=60), Cause.LIMIT)
    selector.end(visit)
    call = unlimited()
    errors: list[APIError] = []

    def wait() -> None:
        try:
            selector.acquire(call, Visit(), [0])
        except APIError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: selector.waiting == 1)
    began = time.monotonic()
    call.cancel_token.set()
    thread.join()
    assert time.monotonic() - began < AT_ONCE
    assert isinstance(errors[0], StreamInterruptedError)


def test_a_prompt_moves_at_once_only_to_a_site_that_has_failed_it_less_often() -> None:
    """After a failure another ready site is better if it has failed the prompt less often, so that
    a prompt that all sites reject is not sent to one after the other without a wait.
    """
    selector = Selector(None, None).selector
    assert selector.is_better_ready(0, [1, 0])
    assert not selector.is_better_ready(0, [1, 1])
