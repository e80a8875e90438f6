"""A prompt that the site always rejects does not slow down the others."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from aichatfree import RateLimitError, RetryPolicy
from aichatfree.batch import BatchResult
from aichatfree.testing import Answer, FakeSite, Request
from helpers import LONG, ClientFor, echo

WORDS = "Request too large for the limit of 30000 tokens per minute"


def run(
    client_for: ClientFor, prompts: int, rejected: set[str], **options: Any
) -> tuple[list[BatchResult], float]:
    """The results of a batch at a site that always rejects some prompts, and its total wait."""

    def answer(request: Request) -> Answer:
        if request.text in rejected:
            return Answer(status=429, body=WORDS)
        return Answer(echo(request))

    with FakeSite(answer) as site:
        batch = client_for(site.url).batch([str(i) for i in range(prompts)], **options)
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


@pytest.mark.parametrize("workers", [4, 32])
@pytest.mark.parametrize("first", [0, 5])
def test_a_row_of_rejected_prompts_does_not_stop_a_batch(
    client_for: ClientFor, workers: int, first: int
) -> None:
    """If five of the first ten prompts in a row are always rejected, they fail within a minute, and
    the others are answered, also if there are fewer threads than such prompts.
    """
    rejected = {str(number) for number in range(first, first + 5)}
    started = time.monotonic()
    results, _ = run(client_for, 400, rejected, max_workers=workers)
    assert {result.custom_id for result in results if not result.ok} == rejected
    assert time.monotonic() - started < 2 * LONG


def test_a_rejected_prompt_does_not_wait_for_a_slow_input(client_for: ClientFor) -> None:
    """While a generator blocks before the next prompt, a rejected one is sent again and again."""
    answered = threading.Event()

    def slow_prompts() -> Iterator[str]:
        yield "0"
        assert answered.wait(LONG)
        yield "1"

    numbers = itertools.count()

    def answer(request: Request) -> Answer:
        if request.text == "0" and next(numbers) < 3:
            return Answer(status=429, body="")
        answered.set()
        return Answer(echo(request))

    with FakeSite(answer) as site:
        results = list(client_for(site.url).batch(slow_prompts()))
    assert [result.attempts for result in results] == [4, 1]


def test_ordered_results_leave_room_for_others(client_for: ClientFor) -> None:
    """With one thread and results in order, four rejected prompts in a row do not stop a batch."""
    rejected = {str(number) for number in range(20, 24)}
    started = time.monotonic()
    results, _ = run(client_for, 200, rejected, max_workers=1)
    assert {result.custom_id for result in results if not result.ok} == rejected
    assert time.monotonic() - started < LONG


def test_a_prompt_that_is_rejected_and_fails_in_turn_ends(client_for: ClientFor) -> None:
    """Rejections do not count as attempts, and the failures between them do not start again."""
    numbers = itertools.count()

    def answer(request: Request) -> Answer:
        if request.text != "0":
            return Answer(echo(request))
        status = 429 if next(numbers) % 2 else 500
        return Answer(status=status, body="")

    with FakeSite(answer) as site:
        client = client_for(site.url, retry=RetryPolicy(3, initial_wait=0.01, jitter=0))
        results = list(client.batch([str(number) for number in range(200)]))
    assert [result.custom_id for result in results if not result.ok] == ["0"]
    assert results[0].attempts == 5


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
