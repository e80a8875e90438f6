"""How many requests are sent to a site of which nothing is known yet."""

from __future__ import annotations

import pytest

from aichatfree._initial_window import CONFIRMED_AFTER, FIRST_REQUESTS, MANY, InitialWindow


def sent_until(seconds: float) -> int:
    """How many requests have been sent after so many seconds to a site that is silent."""
    window, now, sent = InitialWindow(), 0.0, 0
    while (now := max(now, window.slot)) <= seconds:
        sent += 1
        window.record_sent(sent, now)
    return sent


def test_only_a_few_are_sent_at_first() -> None:
    """Three requests are sent at once, and three more when the first were not rejected."""
    assert sent_until(0) == FIRST_REQUESTS
    assert sent_until(CONFIRMED_AFTER) == 2 * FIRST_REQUESTS


@pytest.mark.parametrize(("threads", "seconds"), [(16, 0.3), (256, 0.6)])
def test_all_threads_are_soon_at_work(threads: int, seconds: float) -> None:
    """16 threads have all sent a request after 0.3 s and 256 after 0.6 s, without any answer."""
    assert sent_until(seconds) >= threads


def test_an_answer_allows_another_request_at_once() -> None:
    """A request that was answered is not waited for."""
    window = InitialWindow()
    for number in range(FIRST_REQUESTS):
        window.record_sent(number, 0.0)
    assert window.slot == CONFIRMED_AFTER
    window.confirm(1)
    assert window.slot < 0


def test_rejections_do_not_allow_more() -> None:
    """A rejected request can be replaced, but the number at a time does not grow."""
    window = InitialWindow()
    for number in range(10 * FIRST_REQUESTS):
        window.record_sent(number, 0.0)
        window.discard(number)
    for number in range(FIRST_REQUESTS):
        assert window.slot < 0
        window.record_sent(100 + number, 0.0)
    assert window.slot > 0


def test_it_is_over_after_many() -> None:
    """After a thousand confirmed requests there is nothing to be careful about."""
    window = InitialWindow()
    for number in range(MANY):
        assert not window.is_over
        window.record_sent(number, 0.0)
        window.confirm(number)
    assert window.is_over
