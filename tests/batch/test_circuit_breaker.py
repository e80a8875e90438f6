"""When a whole run stops because the remaining prompts would fail too."""

from __future__ import annotations

import pytest

from aichatfree import AIChatFreeError, RetryPolicy
from aichatfree.batch import BatchResult
from aichatfree.batch._circuit_breaker import MAX_FATAL_TEXTS
from aichatfree.testing import Answer, FakeSite, Request
from helpers import UNREACHABLE, ClientFor, echo

FATAL = {
    "wrong password": Answer(status=401, body='{"error":{"message":"Invalid password."}}'),
    "wrong secret": Answer(status=401, body='{"error":{"message":"Invalid signature."}}'),
    "wrong path": Answer(status=404, body="Not found"),
    "a web page": Answer("<html>", content_type="text/html"),
}


@pytest.mark.parametrize("kind", FATAL)
def test_a_fatal_error_stops_the_run(client_for: ClientFor, kind: str) -> None:
    """After an error that every prompt would meet, each thread sends at most one more prompt."""
    with FakeSite([FATAL[kind]]) as site:
        with pytest.raises(AIChatFreeError, match="every prompt"):
            client_for(site.url).batch(["x"] * 10_000, max_workers=4).run()
        assert len(site.requests) <= 4


REFUSAL = "Invalid password. Please check your password and try again."


def test_one_text_that_is_read_as_a_refusal_stops_nothing(client_for: ClientFor) -> None:
    """If one answer of many resembles a fatal refusal, its prompt fails and the run goes on."""

    def answer(request: Request) -> Answer:
        return Answer(REFUSAL if request.text == "40" else echo(request))

    with FakeSite(answer) as site:
        results = list(client_for(site.url).batch([str(i) for i in range(100)]))
    assert [result.custom_id for result in results if not result.ok] == ["40"]


def test_texts_that_are_read_as_refusals_stop_the_run_together(client_for: ClientFor) -> None:
    """A site that refuses each prompt with status 200 stops a run after a few of them."""
    with FakeSite([Answer(REFUSAL)]) as site:
        with pytest.raises(AIChatFreeError, match="every prompt"):
            client_for(site.url).batch(["x"] * 10_000, max_workers=4).run()
        assert len(site.requests) <= MAX_FATAL_TEXTS + 4


def test_texts_that_are_not_fatal_do_not_count(client_for: ClientFor) -> None:
    """Texts such as "overloaded" are not counted with one that is read as a fatal refusal."""
    busy = Answer("The server is overloaded. Please try again later.")
    with FakeSite([busy, busy, Answer(REFUSAL), "fine"]) as site:
        batch = client_for(site.url, retry=None).batch(["x"] * 4, max_workers=1)
        assert [result.ok for result in batch] == [False, False, False, True]


def test_one_text_that_is_read_as_a_quota_stops_nothing(client_for: ClientFor) -> None:
    """If one answer of many resembles a used-up quota, its prompt fails and the run goes on."""

    def answer(request: Request) -> Answer:
        quota = "You have used up your daily quota. Please try again tomorrow."
        return Answer(quota if request.text == "40" else echo(request))

    with FakeSite(answer) as site:
        results = list(client_for(site.url).batch([str(i) for i in range(1000)]))
    assert [result.custom_id for result in results if not result.ok] == ["40"]


def test_a_host_that_does_not_exist_stops_the_run(client_for: ClientFor) -> None:
    """A host name that cannot be resolved is a fatal error."""
    client = client_for("http://no-such-host.invalid", retry=RetryPolicy(max_attempts=1))
    with pytest.raises(AIChatFreeError, match="does not exist"):
        client.batch(["x"] * 1000, max_workers=2).run()


@pytest.mark.parametrize("allowed", [0, 5])
def test_max_errors_stops_the_run(client_for: ClientFor, allowed: int) -> None:
    """The first failure beyond max_errors stops the run."""
    with FakeSite([Answer(status=500, body="")]) as site:
        batch = client_for(site.url, retry=None).batch(
            ["x"] * 1000, max_workers=1, max_errors=allowed
        )
        with pytest.raises(AIChatFreeError, match=f"more than {allowed} prompts failed"):
            batch.run()
        assert len(site.requests) == allowed + 1


def test_a_site_that_cannot_be_reached_stops_the_run(client_for: ClientFor) -> None:
    """A port where nothing listens stops a run of a thousand prompts."""
    client = client_for(UNREACHABLE, retry=None)
    batch = client.batch(["x"] * 1000, max_workers=4)
    with pytest.raises(AIChatFreeError, match="did not reach the site"):
        batch.run()
    assert batch.summary.failed < 50


def test_a_challenge_page_stops_the_run(client_for: ClientFor) -> None:
    """A network that answers every request with 403 stops a run of a thousand prompts."""
    page = Answer(status=403, body="<html>Just a moment</html>")
    with FakeSite([page]) as site:
        with pytest.raises(AIChatFreeError, match="did not reach the site"):
            client_for(site.url).batch(["x"] * 1000, max_workers=4).run()
        assert len(site.requests) < 50


EXHAUSTED = Answer(status=429, body="come back tomorrow", headers={"Retry-After": "86400"})


def test_an_exhausted_quota_stops_the_run(client_for: ClientFor) -> None:
    """A Retry-After of a day stops the run with the site's own words instead of a long wait."""
    with FakeSite([EXHAUSTED]) as site:
        with pytest.raises(AIChatFreeError, match="come back tomorrow"):
            client_for(site.url).batch(["x"] * 100, max_workers=4).run()
        assert len(site.requests) <= 4


def test_the_next_run_tries_an_exhausted_quota_again(client_for: ClientFor) -> None:
    """A batch that begins after the quota of its client was exhausted asks the site again."""
    with FakeSite([EXHAUSTED, "fine"]) as site:
        client = client_for(site.url)
        with pytest.raises(AIChatFreeError, match="tomorrow"):
            client.batch(["x"], max_workers=1).run()
        assert client.batch(["x"], max_workers=1).run().answered == 1


def test_finished_results_are_returned_before_the_error(client_for: ClientFor) -> None:
    """A run that stops returns all results that it has, even behind a missing one."""

    def answer(request: Request) -> Answer:
        if request.text == "q0":
            return Answer("late", delay=0.3)
        if request.text == "q5":
            return Answer(status=404, body="", delay=0.1)
        return Answer(echo(request))

    results: list[BatchResult] = []
    with FakeSite(answer) as site:
        batch = client_for(site.url).batch([f"q{n}" for n in range(100)], max_workers=2)
        with pytest.raises(AIChatFreeError, match="every prompt"):
            results.extend(batch)
        sent = {request.text for request in site.requests}
    assert {f"q{result.index}" for result in results} == sent
