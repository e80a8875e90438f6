"""How a batch treats rejections, deferred prompts, and the rate limit."""

from __future__ import annotations

import itertools

import pytest

from aichatfree import RateLimitError, RetryPolicy, Timeout
from aichatfree.testing import Answer, FakeSite, Request
from helpers import UNREACHABLE, ClientFor, echo


def test_rejections_are_not_failures(client_for: ClientFor) -> None:
    """A prompt that the site rejects as one too many is retried until it is answered."""
    numbers = itertools.count()

    def answer(request: Request) -> Answer:
        if next(numbers) % 3:
            return Answer(status=500, body="Quota exceeded")
        return Answer(echo(request))

    with FakeSite(answer) as site:
        results = list(client_for(site.url).batch(["q0", "q1"], max_workers=2))
    assert all(result.ok for result in results)


def test_rejections_do_not_use_up_attempts(client_for: ClientFor) -> None:
    """A prompt that is rejected more often than max_attempts is answered all the same."""
    rejected = Answer(status=429, body="", headers={"Retry-After": "0"})
    with FakeSite([rejected] * 4 + ["fine"]) as site:
        client = client_for(site.url, retry=RetryPolicy(2, initial_wait=0.01, jitter=0))
        (result,) = client.batch(["q"])
    assert (result.text, result.attempts) == ("fine", 5)


def test_a_single_call_gives_up_on_rejections(client_for: ClientFor) -> None:
    """generate() counts a rejection as an attempt and raises it after the last one."""
    with FakeSite([Answer(status=429, body="")]) as site:
        with pytest.raises(RateLimitError):
            client_for(site.url, retry=RetryPolicy(2, initial_wait=0.01)).generate("Hi")
        assert len(site.requests) == 2


def test_without_retries_a_rejection_fails_its_prompt(client_for: ClientFor) -> None:
    """With retry=None each prompt is sent once, even if the site states a wait."""
    with FakeSite([Answer(status=429, body="", headers={"Retry-After": "2"}), "fine"]) as site:
        first, second = client_for(site.url, retry=None).batch(["a", "b"], max_workers=1)
    assert isinstance(first.error, RateLimitError)
    assert second.ok


def test_a_deferred_prompt_occupies_no_thread(client_for: ClientFor) -> None:
    """While one prompt waits for its Retry-After, the only thread answers the others."""
    seen: list[str] = []

    def answer(request: Request) -> Answer:
        seen.append(request.text)
        if request.text == "q0" and seen.count("q0") == 1:
            return Answer(status=429, body="", headers={"Retry-After": "2"})
        return Answer(echo(request))

    with FakeSite(answer) as site:
        client = client_for(site.url, retry=RetryPolicy(jitter=0))
        results = list(client.batch(["q0", "q1", "q2"], max_workers=1))
    assert seen == ["q0", "q1", "q2", "q0"]
    assert [result.text for result in results] == ["echo q0", "echo q1", "echo q2"]
    assert results[0].attempts == 2
    assert results[0].elapsed >= 2


def test_a_single_503_does_not_slow_the_run(client_for: ClientFor) -> None:
    """A 503 without a stated wait is retried like any failure; it is not taken for a rate limit."""
    with FakeSite([Answer(status=503, body="")] + [Answer("a")] * 200) as site:
        batch = client_for(site.url).batch(["q"] * 100)
        assert all(result.ok for result in batch)
        assert batch.summary.rate_limit_wait == 0


def test_the_total_timeout_begins_with_the_first_request(client_for: ClientFor) -> None:
    """The wait of a prompt for the rate limit before it is sent is not part of its total."""
    with FakeSite(echo) as site:
        client = client_for(site.url, max_requests_per_minute=600, timeout=Timeout(total=0.5))
        batch = client.batch(["q"] * 12, max_workers=12)
        assert all(result.ok for result in batch)
        assert batch.summary.elapsed > 1


def test_a_given_rate_limit_is_kept_from_the_first_request(client_for: ClientFor) -> None:
    """max_requests_per_minute spaces the requests, and the summary has the time they waited."""
    with FakeSite(echo) as site:
        batch = client_for(site.url, max_requests_per_minute=1200).batch(["x"] * 20)
        summary = batch.run()
        times = sorted(request.received for request in site.requests)
    assert times[-1] - times[0] >= 19 / 20 * 0.95
    assert summary.rate_limit_wait > 0
    assert "waited for the rate limit" in str(summary)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_a_rate_limit_must_be_a_positive_number(client_for: ClientFor, bad: float) -> None:
    """A max_requests_per_minute that cannot be used is an error when the client is made."""
    with pytest.raises(ValueError, match="max_requests_per_minute"):
        client_for(UNREACHABLE, max_requests_per_minute=bad)
    with pytest.raises(TypeError, match="max_requests_per_minute"):
        client_for(UNREACHABLE, max_requests_per_minute="60")
