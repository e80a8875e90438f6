"""A prompt that the site always rejects does not slow down the others."""

from __future__ import annotations

import threading
import time

import pytest

from aichatfree import RateLimitError
from aichatfree.batch import BatchResult
from aichatfree.testing import Answer, FakeSite, Request
from helpers import LONG, ClientFor, echo

WORDS = "Request too large for the limit of 30000 tokens per minute"


def run(client_for: ClientFor, prompts: int, rejected: set[str]) -> tuple[list[BatchResult], float]:
    """The results of a batch at a site that always rejects some prompts, and its total wait."""

    def answer(request: Request) -> Answer:
        if request.text in rejected:
            return Answer(status=429, body=WORDS)
        return Answer(echo(request))

    with FakeSite(answer) as site:
        batch = client_for(site.url).batch([str(i) for i in range(prompts)])
        return list(batch), batch.summary.rate_limit_wait


@pytest.mark.parametrize(("first", "step"), [(7, 90), (500, 90), (500, 1)])
def test_prompts_that_are_always_rejected_fail_and_the_others_are_answered(
    client_for: ClientFor, first: int, step: int
) -> None:
    """Of 1,000 prompts with 5 that always get a 429, 5 fail, and the others do not wait."""
    rejected = {str(first + step * i) for i in range(5)}
    results, wait = run(client_for, 1000, rejected)
    failed = {result.custom_id: result.error for result in results if not result.ok}
    assert failed.keys() == rejected
    for error in failed.values():
        assert isinstance(error, RateLimitError)
        assert WORDS in str(error)
        assert "rejected this prompt" in str(error)
        assert not error.retryable
    assert wait == 0


def test_two_prompts_do_not_stop_a_batch(client_for: ClientFor) -> None:
    """Two neighbours that are always rejected fail; the other 398 are answered in seconds."""
    started = time.monotonic()
    results, _ = run(client_for, 400, {"10", "11"})
    assert [r.custom_id for r in results if not r.ok] == ["10", "11"]
    assert time.monotonic() - started < LONG


def test_a_real_limit_fails_no_prompt(client_for: ClientFor) -> None:
    """A site that accepts 20 requests at once and 20 a second answers all prompts of a batch."""
    lock, tokens, last = threading.Lock(), 20.0, time.monotonic()

    def answer(request: Request) -> Answer:
        nonlocal tokens, last
        with lock:
            now = time.monotonic()
            tokens, last = min(20.0, tokens + 20 * (now - last)), now
            if tokens < 1:
                return Answer(status=429, body="Too many requests")
            tokens -= 1
        return Answer(echo(request))

    with FakeSite(answer) as site:
        batch = client_for(site.url).batch([str(i) for i in range(200)], max_workers=32)
        assert all(result.ok for result in batch)
        assert len(site.requests) < 2 * 200
