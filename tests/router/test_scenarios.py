"""What a router makes of each way in which a site can fail."""

from __future__ import annotations

import time

import pytest

from aichatfree import (
    APIError,
    BadRequestError,
    StreamInterruptedError,
    Timeout,
)
from aichatfree.testing import Answer
from helpers import AT_ONCE, SHORT, UNREACHABLE, echo

from .sites import (
    COOL_DOWN,
    DOWN,
    NO_HEAD,
    QUOTA,
    WRONG_PASSWORD,
    router_over,
    sites,
    texts_of,
    times_of,
    until,
)

UNKNOWN_HOST = "http://does-not-exist.invalid"

#: Seconds that a site asks to wait, and does reject what comes sooner.
BUSY = 20

PROMPTS = [f"prompt {number}" for number in range(40)]


def test_a_site_that_rejects_is_left_alone_until_the_time_that_it_states() -> None:
    """While a site rejects with Retry-After, all prompts are answered by the other, at once; it
    gets no second request before that time, and takes part again after it."""
    busy = Answer(status=429, body="Too many requests.", headers={"Retry-After": f"{BUSY}"})
    script = until(BUSY - 0.1, busy)
    with sites(script, echo) as (first, second), router_over(first.url, second.url) as router:
        began = time.monotonic()
        replies = []
        while time.monotonic() - began < BUSY + 1:
            replies.append(router.generate("Hello"))
            time.sleep(0.1)
        assert {reply.text for reply in replies} == {"echo Hello"}
        assert max(reply.elapsed for reply in replies) < AT_ONCE
        assert {reply.site for reply in replies} == {first.url, second.url}
        assert BUSY <= times_of(first)[1] < BUSY + 1


def test_a_quota_for_the_day_leaves_the_other_site() -> None:
    """A site whose quota is used up until tomorrow is asked once; a batch goes on with the other
    and ends complete."""
    with sites(QUOTA, echo) as (first, second), router_over(first.url, second.url) as router:
        results = list(router.batch(PROMPTS, max_workers=4))
        assert [result.text for result in results] == [f"echo {prompt}" for prompt in PROMPTS]
        assert {result.site for result in results} == {second.url}
        assert router.generate("Hello").text == "echo Hello"
        assert 1 <= len(first.requests) <= 4


def test_a_wrong_password_leaves_the_other_site() -> None:
    """A site that refuses the password is not asked any more, and the batch goes on."""
    with sites(WRONG_PASSWORD, echo) as (first, second), router_over(first.url, second.url) as r:
        assert [r.generate("Hello").site for _ in range(3)] == [second.url] * 3
        assert r.batch(PROMPTS).run().answered == len(PROMPTS)
        assert len(first.requests) == 1


def test_a_site_that_fails_cools_down_for_longer_each_time() -> None:
    """A site that answers 500 is tried again by single prompts, after one second, two seconds and
    so on; no prompt fails or waits."""
    with sites(DOWN, echo) as (first, second), router_over(first.url, second.url) as router:
        began = time.monotonic()
        while time.monotonic() - began < 4:
            results = list(router.batch(PROMPTS[:8]))
            assert all(result.ok for result in results)
            time.sleep(0.05)
        times = [when for when in times_of(first) if when > COOL_DOWN / 2]
        assert len(times) == 2
        assert times[0] >= COOL_DOWN
        assert times[1] - times[0] >= 2 * COOL_DOWN


def test_a_site_that_refuses_connections_costs_nothing() -> None:
    """Prompts move from a site where nothing listens to the other, without a pause."""
    with sites(echo) as (site,), router_over(UNREACHABLE, site.url) as router:
        reply = router.generate("Hello")
        assert (reply.site, reply.attempts) == (site.url, 2)
        assert reply.elapsed < AT_ONCE
        assert all(result.ok for result in router.batch(PROMPTS))


def test_a_silent_site_costs_one_timeout() -> None:
    """A site that accepts requests and says nothing is left after `Timeout.read`, and then left
    alone."""
    limits = Timeout(read=SHORT)
    with (
        sites(NO_HEAD, echo) as (first, second),
        router_over(first.url, second.url, timeout=limits) as router,
    ):
        reply = router.generate("Hello")
        assert (reply.site, reply.attempts) == (second.url, 2)
        assert SHORT <= reply.elapsed < AT_ONCE
        assert router.generate("Hello").attempts == 1


def test_an_answer_that_was_cut_off_is_asked_for_elsewhere() -> None:
    """`generate` gets the complete answer from another site when the first one is cut off."""
    with sites(Answer("half", end="cut"), echo) as (first, second):
        with router_over(first.url, second.url) as router:
            assert router.generate("Hello").text == "echo Hello"
        assert len(first.requests) == 1


def test_a_stream_moves_until_its_first_chunk() -> None:
    """`stream` moves to another site if the first one breaks off before the first chunk."""
    with sites(Answer("", end="cut"), echo) as (first, second):
        with router_over(first.url, second.url) as router:
            assert router.stream("Hello").read() == "echo Hello"
        assert len(first.requests) == 1


def test_a_stream_stays_after_its_first_chunk() -> None:
    """Once a chunk was returned, an answer that breaks off is an error with its text, and nothing
    is sent to another site."""
    with sites(Answer("half", "way", gap=SHORT, end="cut"), echo) as (first, second):
        with router_over(first.url, second.url) as router:
            stream = router.stream("Hello")
            with pytest.raises(StreamInterruptedError) as caught:
                stream.read()
        assert caught.value.partial_text == "halfway"
        assert first.url in str(caught.value)
        assert not second.requests


def test_when_all_sites_are_down_prompts_wait_for_the_first_that_returns() -> None:
    """With both sites down, prompts wait for the end of a cool-down, and are answered as soon as
    one of them answers again; none is lost."""
    with sites(until(2, DOWN), DOWN) as (first, second), router_over(first.url, second.url) as r:
        reply = r.generate("Hello")
        assert (reply.text, reply.site) == ("echo Hello", first.url)
        assert 2 < reply.elapsed < 5
    with sites(until(2, DOWN), DOWN) as (first, second), router_over(first.url, second.url) as r:
        results = list(r.batch(PROMPTS, max_workers=8))
        assert [result.text for result in results] == [f"echo {prompt}" for prompt in PROMPTS]


def test_a_prompt_that_a_site_refuses_is_asked_once() -> None:
    """A prompt that is refused for its content is not sent to another site."""
    refusal = Answer(status=400, body="The prompt is too long.")
    with sites(refusal, refusal) as (first, second), router_over(first.url, second.url) as router:
        with pytest.raises(BadRequestError) as caught:
            router.generate("Hello")
        assert caught.value.attempts == 1
        assert len(first.requests) + len(second.requests) == 1
        (result,) = router.batch(["Hello"])
        assert isinstance(result.error, BadRequestError)
        assert len(first.requests) + len(second.requests) == 2
        assert texts_of(first) == ["Hello", "Hello"]  # it did not fail


def test_when_all_sites_fail_for_good_the_error_names_each() -> None:
    """If every site has a fatal error, the call ends at once with an error that names each site
    and its reason, and so do all calls after it, which send nothing."""
    with sites(WRONG_PASSWORD) as (site,), router_over(UNKNOWN_HOST, site.url) as router:
        for _ in range(2):
            with pytest.raises(APIError) as caught:
                router.generate("Hello")
            assert caught.value.fatal
            assert UNKNOWN_HOST in str(caught.value)
            assert site.url in str(caught.value)
            assert "Invalid password" in str(caught.value)
        assert len(site.requests) == 1
