"""When a site that failed is left alone, and for how long."""

from __future__ import annotations

import math

import pytest

from aichatfree import APIConnectionError, APIError, AuthenticationError, RateLimitError
from aichatfree._routing.availability import (
    LONG_OUTAGE,
    LONG_WAIT,
    MAX_COOL_DOWN,
    MIN_COOL_DOWN,
    MIN_REJECTION_TIME,
    Availability,
    SiteState,
)

NOW = 1000.0
REFUSED = APIConnectionError("Nothing answers.")
REJECTED = RateLimitError("Too many requests.")


def fail(
    site: Availability,
    error: APIError = REFUSED,
    *,
    now: float = NOW,
    sent_at: float = NOW,
    stated: float | None = None,
) -> None:
    """The failure of a prompt that was sent in the site's present epoch."""
    site.record_failure(site.epoch, sent_at, now, error, stated)


def test_prompts_are_sent_at_first() -> None:
    """A site that nothing is known of is available."""
    site = Availability()
    assert (site.state, site.ready_at()) == (SiteState.AVAILABLE, -math.inf)


def test_each_further_failure_doubles_the_cool_down() -> None:
    """Without an answer between them, failures begin cool-downs of 1, 2, 4, ... seconds, up to
    five minutes."""
    site = Availability()
    waits = []
    for _ in range(12):
        fail(site)
        waits.append(site.ready_at() - NOW)
        site.record_sent(NOW)
    assert waits[:4] == [MIN_COOL_DOWN * 2**n for n in range(4)]
    assert waits[-1] == MAX_COOL_DOWN


def test_an_answer_makes_the_next_cool_down_short_again() -> None:
    """After a complete answer, the next cool-down lasts one second again."""
    site = Availability()
    for _ in range(4):
        fail(site)
        site.record_sent(NOW)
    site.record_chunk(NOW)
    site.record_answer()
    fail(site)
    assert site.ready_at() == NOW + MIN_COOL_DOWN


def test_a_stated_wait_is_the_cool_down() -> None:
    """A site that says how long to wait is left alone for so long, however long that is."""
    site = Availability()
    fail(site, REJECTED, stated=36000)
    assert site.ready_at() == NOW + 36000
    assert site.is_pointless(NOW)


def test_prompts_that_fail_together_are_one_failure() -> None:
    """Failures of prompts that were sent before the cool-down began do not prolong it, unless one
    states a longer wait."""
    site = Availability()
    for _ in range(16):
        site.record_failure(0, NOW, NOW, REFUSED, None)
    assert site.ready_at() == NOW + MIN_COOL_DOWN
    site.record_failure(0, NOW, NOW, REJECTED, 20)
    assert site.ready_at() == NOW + 20


def test_a_stated_wait_counts_whenever_it_arrives() -> None:
    """A wait that is stated in answer to an early prompt is kept although the site has answered
    others since."""
    site = Availability()
    fail(site)
    site.record_sent(NOW + 1)
    site.record_chunk(NOW + 1)
    site.record_failure(0, NOW, NOW + 2, REJECTED, 20)
    assert site.ready_at() == NOW + 22


def test_one_prompt_probes_the_site() -> None:
    """After the cool-down one prompt is sent, and no other until it has an answer or has failed."""
    site = Availability()
    fail(site)
    site.record_sent(NOW + 1)
    assert (site.state, site.ready_at()) == (SiteState.PROBING, math.inf)
    site.record_chunk(NOW + 1)
    assert site.state is SiteState.AVAILABLE


def test_an_abandoned_probe_is_replaced_by_the_next_prompt() -> None:
    """If nobody waits for the probe's answer any more, the next prompt is the probe."""
    site = Availability()
    fail(site)
    site.record_sent(NOW + 1)
    site.record_abandoned(site.epoch)
    assert (site.state, site.ready_at()) == (SiteState.COOLING_DOWN, -math.inf)


def test_a_probe_after_a_rejection_succeeds_when_it_is_not_rejected_in_time() -> None:
    """After a rejection, others follow the probe as soon as its rejection would be known."""
    site = Availability()
    fail(site, REJECTED, sent_at=NOW - 1, stated=5)
    site.record_sent(NOW + 5)
    assert (site.state, site.ready_at()) == (SiteState.PROBING, NOW + 5 + 2 * 1)
    site.record_sent(NOW + 7)
    assert site.state is SiteState.AVAILABLE


def test_a_rejection_is_given_some_time_even_if_the_last_one_was_quick() -> None:
    """The wait for the rejection of a probe is never shorter than twice `MIN_REJECTION_TIME`."""
    site = Availability()
    fail(site, REJECTED, stated=5)
    site.record_sent(NOW + 5)
    assert site.ready_at() == NOW + 5 + 2 * MIN_REJECTION_TIME


def test_a_later_prompt_that_is_answered_ends_the_cool_down() -> None:
    """A cool-down without a stated end is over when a prompt is answered that was sent after the
    one that failed, but not when an earlier one is."""
    site = Availability()
    fail(site, sent_at=NOW - 1)
    site.record_chunk(NOW - 2)
    assert site.ready_at() == NOW + MIN_COOL_DOWN
    site.record_chunk(NOW - 0.5)
    assert site.state is SiteState.AVAILABLE


def test_nothing_ends_a_stated_wait() -> None:
    """A wait that the site has stated is kept, whatever it answers meanwhile."""
    site = Availability()
    fail(site, REJECTED, sent_at=NOW - 1, stated=5)
    site.record_chunk(NOW - 0.5)
    assert site.ready_at() == NOW + 5


def test_a_fatal_error_is_for_good() -> None:
    """After a fatal error nothing is sent to the site any more, whatever happens."""
    site = Availability()
    fail(site, AuthenticationError("Wrong password."))
    site.record_chunk(NOW)
    fail(site, REFUSED)
    assert (site.state, site.ready_at()) == (SiteState.DISABLED, math.inf)
    assert site.is_pointless(NOW)


def test_a_fatal_refusal_that_is_only_a_text_is_not_for_good() -> None:
    """A site whose answer was read as a refusal is tried again: it may have been an answer."""
    site = Availability()
    fail(site, AuthenticationError("Wrong password.", status_code=200))
    assert (site.state, site.ready_at()) == (SiteState.COOLING_DOWN, NOW + MIN_COOL_DOWN)


@pytest.mark.parametrize(("after", "pointless"), [(LONG_OUTAGE - 1, False), (LONG_OUTAGE, True)])
def test_waiting_is_pointless_after_a_long_outage(after: float, pointless: bool) -> None:
    """Without an answer for two minutes, a batch does not wait for the site any more."""
    site = Availability()
    fail(site)
    assert site.is_pointless(NOW + after) is pointless


def test_a_new_run_waits_again() -> None:
    """A batch that begins after a long outage gives the site as much time as any other."""
    site = Availability()
    fail(site)
    site.begin_run(NOW + LONG_OUTAGE)
    assert not site.is_pointless(NOW + LONG_OUTAGE + 1)


def test_a_short_stated_wait_is_not_pointless() -> None:
    """A batch waits for a stated wait of up to ten minutes, and for the probe after it."""
    site = Availability()
    fail(site, REJECTED, stated=LONG_WAIT)
    assert not site.is_pointless(NOW)
    assert not site.is_pointless(NOW + LONG_WAIT - 1)
    site.record_sent(NOW + LONG_WAIT)
    assert not site.is_pointless(NOW + LONG_WAIT + 1)
