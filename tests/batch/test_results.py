"""The results of a batch: their order, when they come, what they contain, and the summary."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from aichatfree import AIChatFreeError
from aichatfree.batch import BatchResult
from aichatfree.batch._backend import POLL_INTERVAL
from aichatfree.testing import Answer, FakeSite, Request
from helpers import HANG, LONG, SHORT, ClientFor, echo


def every_eighth_is_slow(request: Request) -> Answer:
    number = int(request.text.split()[-1])
    return Answer(f"echo {request.text}", delay=0.1 if number % 8 == 0 else 0)


def test_results_come_in_the_order_of_the_prompts(client_for: ClientFor) -> None:
    """Results are returned in input order even if later prompts are answered first."""
    prompts = [f"question {n}" for n in range(64)]
    with FakeSite(every_eighth_is_slow) as site:
        results = list(client_for(site.url).batch(prompts))
    assert [result.text for result in results] == [f"echo {prompt}" for prompt in prompts]
    assert [result.index for result in results] == list(range(64))
    assert [result.custom_id for result in results] == [str(n) for n in range(64)]
    assert all(result.ok and result.attempts == 1 for result in results)
    assert all(result.elapsed > 0 for result in results)


def test_results_can_come_as_they_are_completed(client_for: ClientFor) -> None:
    """With ordered=False no result waits for the answer to an earlier prompt."""
    with FakeSite(every_eighth_is_slow) as site:
        prompts = [f"question {n}" for n in range(32)]
        results = list(client_for(site.url).batch(prompts, ordered=False))
    assert sorted(result.index for result in results) == list(range(32))
    assert [result.index for result in results] != list(range(32))


def test_results_do_not_wait_for_a_slow_input(client_for: ClientFor) -> None:
    """A finished result is returned while a generator still takes its time for later prompts."""
    read: list[int] = []

    def prompts() -> Iterator[str]:
        for n in range(10):
            time.sleep(SHORT)
            read.append(n)
            yield f"q{n}"

    with FakeSite(echo) as site, client_for(site.url).batch(prompts()) as results:
        assert next(results).text == "echo q0"
        assert len(read) < 5


def test_endless_input_is_read_no_further_than_needed(client_for: ClientFor) -> None:
    """The number of prompts read ahead is bounded, and after leaving early nothing is sent."""
    read = itertools.count()
    with FakeSite(echo) as site:
        with client_for(site.url).batch((f"q {n}" for n in read), max_workers=4) as results:
            first = list(itertools.islice(results, 10))
        time.sleep(SHORT)  # a cancelled request may still reach the site
        sent = len(site.requests)
        time.sleep(SHORT)
        assert len(site.requests) == sent
    assert [result.text for result in first] == [f"echo q {n}" for n in range(10)]
    assert next(read) <= 10 + 16 * 8 + 1


def test_nothing_is_sent_before_the_first_result_is_requested(client_for: ClientFor) -> None:
    """batch() itself only checks its arguments."""
    with FakeSite(echo) as site:
        client_for(site.url).batch(["one"])
        time.sleep(SHORT)
        assert site.requests == []


def test_an_error_belongs_to_its_prompt(client_for: ClientFor) -> None:
    """A failed prompt has a result with the error and the partial text; the others continue."""

    def answer(request: Request) -> Answer:
        if request.text == "question 3":
            return Answer("half", end="cut")
        return Answer(echo(request))

    with FakeSite(answer) as site:
        batch = client_for(site.url).batch([f"question {n}" for n in range(10)])
        results = list(batch)
    assert [result.index for result in results if not result.ok] == [3]
    assert (results[3].text, results[3].attempts) == ("half", 5)
    assert (batch.summary.answered, batch.summary.failed) == (9, 1)


def test_results_are_plain_data(client_for: ClientFor) -> None:
    """The fields of a result can be written as JSON, as the rows of a table need it."""
    with FakeSite(echo) as site:
        (result,) = client_for(site.url).batch(["a prompt"])
    assert json.dumps([result.custom_id, result.index, result.text, result.ok, result.elapsed])


def test_identical_prompts_are_sent_once_with_dedupe(client_for: ClientFor) -> None:
    """With dedupe=True one request answers all identical prompts; without it each is sent."""
    prompts = ["same", "other", "same", "same", "other"]
    with FakeSite(echo) as site:
        batch = client_for(site.url).batch(prompts, dedupe=True)
        results = list(batch)
        assert [result.text for result in results] == [f"echo {prompt}" for prompt in prompts]
        assert [result.reused for result in results] == [False, False, True, True, True]
        assert len(site.requests) == 2
        assert batch.summary.reused == 3
        client_for(site.url).batch(prompts).run()
        assert len(site.requests) == 2 + 5


def test_a_failed_prompt_is_sent_again_for_a_later_duplicate(client_for: ClientFor) -> None:
    """With dedupe=True only answers are reused: an identical prompt after a failure is sent."""

    def prompts() -> Iterator[str]:
        yield "same"
        time.sleep(SHORT)  # until the failure is known
        yield "other"
        yield "same"

    with FakeSite([Answer(status=400, body=""), "fine"]) as site:
        batch = client_for(site.url).batch(prompts(), dedupe=True)
        assert [result.ok for result in batch] == [False, True, True]
        assert len(site.requests) == 3


def test_the_summary_counts(client_for: ClientFor) -> None:
    """The summary has the numbers of answers and failures and the time, also during the run."""
    with FakeSite([Answer("a"), Answer(status=400, body=""), Answer("b")]) as site:
        batch = client_for(site.url).batch(["1", "2", "3"], max_workers=1)
        next(batch)
        assert batch.summary.answered >= 1
        assert not batch.summary.complete
        summary = batch.run()
    assert (summary.answered, summary.failed, summary.done) == (2, 1, 3)
    assert summary.complete
    assert summary.elapsed > 0
    assert "2 answered, 1 failed" in str(summary)


def test_an_input_that_raises_stops_the_run_with_its_error(client_for: ClientFor) -> None:
    """An exception of the user's own iterator is raised as it is, after the results so far."""

    def prompts() -> Iterator[str]:
        yield "one"
        time.sleep(SHORT)  # until it is answered
        yield "two"
        raise RuntimeError("a bug of the user")

    results: list[BatchResult] = []
    with FakeSite(echo) as site, pytest.raises(RuntimeError, match="a bug of the user"):
        results.extend(client_for(site.url).batch(prompts()))
    assert results[0].text == "echo one"


def test_closing_from_another_thread_ends_the_iteration(client_for: ClientFor) -> None:
    """A thread that waits for the next result gets an error when another one closes the batch."""
    with FakeSite([Answer("late", delay=HANG)]) as site:
        batch = client_for(site.url).batch(["x"])
        threading.Timer(SHORT, batch.close).start()
        with pytest.raises(AIChatFreeError, match="closed"):
            next(batch)
    assert not batch.summary.complete


def test_closing_at_the_end_of_a_wait_ends_the_iteration(client_for: ClientFor) -> None:
    """A thread that waits does not miss that another one closes the batch when its wait ends."""
    with FakeSite([Answer("late", delay=HANG)]) as site:
        client = client_for(site.url, max_connections=40)

        def close_after(seconds: float) -> None:
            batch = client.batch(["x"], max_workers=1, progress=False)
            threading.Timer(seconds, batch.close).start()
            with pytest.raises(AIChatFreeError, match="closed"):
                next(batch)

        moments = [POLL_INTERVAL + tenths / 10_000 for tenths in range(-50, 100)]
        with ThreadPoolExecutor(4) as executor:
            list(executor.map(close_after, moments, timeout=LONG))


def test_a_batch_shows_its_state(client_for: ClientFor) -> None:
    """The repr of a batch says whether it is new, feeding, draining, stopping or closed."""
    with FakeSite(echo) as site:
        batch = client_for(site.url).batch(["x", "y"])
        assert repr(batch).startswith("<Batch new: ")
        next(batch)
        # On a busy machine the end of the input may not have been reached.
        assert repr(batch).startswith(("<Batch feeding: ", "<Batch draining: "))
        batch.run()
        assert repr(batch).startswith("<Batch closed: 2 answered")
