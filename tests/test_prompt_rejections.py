"""When rejections are the failure of one prompt, and not the site's rate limit."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from aichatfree import RateLimitError
from aichatfree._prompt_rejections import (
    ALONE_FOR,
    MAX_FIRST_WAIT,
    MIN_INTERVAL,
    MIN_REJECTIONS,
    MIN_WAIT,
    Cause,
    Outcomes,
    PromptRejections,
)
from simulated_batch import SimulatedBatch


@dataclass
class Others:
    """What became of the requests of other prompts, and what a prompt's rejections show then."""

    outcomes: Outcomes = field(default_factory=Outcomes)
    sent: int = 0
    now: float = 0.0
    is_limited: bool = True

    def go_on(self, *, accepted: int = 0, rejected: int = 0, seconds: float = 0.0) -> None:
        self.now += seconds
        for _ in range(accepted):
            self.sent += 1
            self.outcomes.record_answer(self.sent, self.now)
        for _ in range(rejected):
            self.reject(PromptRejections())

    def reject(self, prompt: PromptRejections, retry_after: float | None = None) -> Cause:
        self.sent += 1
        return prompt.add(
            self.sent,
            self.now,
            self.outcomes,
            sent=self.sent,
            is_limited=self.is_limited,
            retry_after=retry_after,
        )


def causes(rounds: int, *, accepted: int, rejected: int, seconds: float = 1.0) -> list[Cause]:
    """What each rejection of a prompt is evidence of, with so many others after each one."""
    prompt, others, found = PromptRejections(), Others(), []
    for _ in range(rounds):
        found.append(others.reject(prompt))
        others.go_on(accepted=accepted, rejected=rejected, seconds=seconds)
    return found


def test_a_prompt_that_alone_is_rejected_fails_after_five() -> None:
    """With 30 others accepted after each rejection, the second is suspect and the fifth fails."""
    found = causes(5, accepted=30, rejected=0)
    assert found == [Cause.LIMIT, Cause.SUSPECT, Cause.SUSPECT, Cause.SUSPECT, Cause.PROMPT]
    assert len(found) == MIN_REJECTIONS


@pytest.mark.parametrize("rejected", [0, 30])
def test_a_prompt_does_not_fail_if_nothing_is_accepted(rejected: int) -> None:
    """While nobody's request is accepted, each rejection is evidence of the rate limit."""
    found = causes(30, accepted=0, rejected=rejected, seconds=MIN_INTERVAL)
    assert set(found) == {Cause.LIMIT}


def test_a_prompt_does_not_fail_by_chance() -> None:
    """If the site rejects every other request, ten rejections in a row are no reason to fail."""
    assert Cause.PROMPT not in causes(10, accepted=30, rejected=30)


def test_with_two_threads_more_rejections_are_needed() -> None:
    """With one other accepted after each rejection, a prompt fails only after seven of them."""
    found = causes(7, accepted=1, rejected=0)
    assert found.index(Cause.PROMPT) == 6
    assert set(found[:6]) == {Cause.LIMIT}


def test_several_such_prompts_do_not_excuse_one_another() -> None:
    """Prompts that were rejected before do not count as others that are rejected."""
    others = Others()
    prompts = [PromptRejections() for _ in range(5)]
    found = []
    for _ in range(5):
        found = [others.reject(prompt) for prompt in prompts]
        others.go_on(accepted=60)
    assert found == [Cause.PROMPT] * 5


@pytest.mark.parametrize(("seconds", "fails"), [(1.0, False), (MIN_INTERVAL, True)])
def test_once_nothing_else_is_sent_time_must_pass(seconds: float, fails: bool) -> None:
    """After the last answer, only rejections with ten seconds between them count."""
    prompt, others = PromptRejections(), Others()
    others.reject(prompt)
    others.go_on(accepted=50)
    found = []
    for _ in range(5):
        found.append(others.reject(prompt))
        others.go_on(seconds=seconds)
    assert (Cause.PROMPT in found) == fails


def test_a_rejection_after_the_stated_wait_counts() -> None:
    """A prompt that is rejected again after each wait that the site stated fails after five."""
    prompt, others = PromptRejections(), Others()
    others.reject(prompt, retry_after=2.0)
    others.go_on(accepted=50, seconds=2.0)
    found = []
    for _ in range(4):
        found.append(others.reject(prompt, retry_after=2.0))
        others.go_on(seconds=2.0)
    assert found[-1] is Cause.PROMPT


# A site that has rejected nothing so far


def test_an_isolated_rejection_says_nothing() -> None:
    """At a site without a known limit, a first rejection after some answers is not the limit."""
    others = Others(is_limited=False)
    others.go_on(accepted=3)
    assert others.reject(PromptRejections()) is Cause.SUSPECT
    assert others.reject(PromptRejections()) is Cause.LIMIT


def test_rare_rejections_say_nothing() -> None:
    """After 500 answers, the rejections of five neighbours are no limit either."""
    others = Others(is_limited=False)
    others.go_on(accepted=500)
    assert {others.reject(PromptRejections()) for _ in range(5)} == {Cause.SUSPECT}


def test_a_single_thread_learns_from_the_second() -> None:
    """If no other prompt is sent before it is rejected again, the rejection is the limit."""
    prompt, others = PromptRejections(), Others(is_limited=False)
    others.go_on(accepted=10)
    assert [others.reject(prompt) for _ in range(2)] == [Cause.SUSPECT, Cause.LIMIT]


def test_the_last_prompt_of_a_batch_fails_alone() -> None:
    """A prompt after which no other is sent fails when a minute has passed."""
    prompt, others = PromptRejections(), Others(is_limited=False)
    others.go_on(accepted=10)
    start = others.now
    while others.reject(prompt) is not Cause.PROMPT:
        others.is_limited = True
        others.go_on(seconds=MIN_INTERVAL)
    assert ALONE_FOR <= others.now - start <= ALONE_FOR + MIN_INTERVAL


# Waits


def test_an_isolated_rejection_is_repeated_when_others_were_sent() -> None:
    """The first wait is the time that the last answers took, at most two seconds."""
    others = Others(is_limited=False)
    others.go_on(accepted=3)
    others.go_on(seconds=1.0)
    prompt = PromptRejections()
    others.reject(prompt)
    assert prompt.wait == 1.0
    others.go_on(accepted=500)
    others.go_on(seconds=60.0)
    prompt = PromptRejections()
    others.reject(prompt)
    assert prompt.wait == MAX_FIRST_WAIT


def test_a_suspect_waits_longer_if_nothing_was_accepted() -> None:
    """The rate limiter does not delay a suspect, so that it must not be repeated in a loop."""
    prompt, others, waits = PromptRejections(), Others(), []
    others.reject(prompt)
    others.go_on(accepted=50)
    for _ in range(4):
        others.reject(prompt)
        waits.append(prompt.wait)
    assert waits == [0, MIN_WAIT, 2 * MIN_WAIT, 4 * MIN_WAIT]


# Honest limits


class Bucket:
    """A site with a token bucket: so many requests a second, ten at once."""

    def __init__(self, rate: float) -> None:
        self.rate, self.tokens, self.last, self.accepted, self.rejected = rate, 10.0, 0.0, 0, 0

    def receive(self, now: float) -> RateLimitError | None:
        self.tokens = min(10.0, self.tokens + self.rate * (now - self.last))
        self.last = now
        if self.tokens < 1:
            self.rejected += 1
            return RateLimitError("Too many requests.", status_code=429)
        self.tokens -= 1
        self.accepted += 1
        return None


@pytest.mark.parametrize("rate", [1.0, 3.0])
@pytest.mark.parametrize("threads", [8, 32])
def test_no_prompt_fails_at_a_limit(rate: float, threads: int) -> None:
    """In ten minutes at a limit of few requests a second no prompt fails, and few are rejected."""
    site = Bucket(rate)
    batch = SimulatedBatch(site, threads)
    batch.run(600)
    assert batch.failed == 0
    assert site.accepted >= 0.95 * 600 * rate
    assert site.rejected <= 0.05 * site.accepted


# --- what has to happen before a prompt is sent again ------------------------------------------


def test_each_rejection_takes_more_answers_to_be_the_prompts_own() -> None:
    """After one, two and three rejections of a prompt, 3, 9 and 18 answers to others are needed."""
    prompt, others = PromptRejections(), Others()
    needed = []
    for _ in range(3):
        others.reject(prompt)
        needed.append(prompt.answers_needed(others.outcomes))
    assert needed == [3, 9, 18]


def test_a_suspected_prompt_is_no_evidence_against_another() -> None:
    """Of two rejected prompts, the first needs fewer answers once the second is suspected."""
    first, second, others = PromptRejections(), PromptRejections(), Others()
    others.reject(first)
    others.reject(second)
    others.go_on(accepted=3)
    before = first.answers_needed(others.outcomes)
    assert others.reject(second) is Cause.SUSPECT
    assert (before, first.answers_needed(others.outcomes)) == (3, 0)


def test_the_last_prompts_of_a_batch_fail_one_after_the_other() -> None:
    """Two prompts that are rejected at the end, at a site that answered all others, fail after a
    minute: when it is certain that the second is the reason, the first one is alone.
    """
    first, second, others = PromptRejections(), PromptRejections(), Others(is_limited=False)
    others.go_on(accepted=500)
    others.reject(first)
    others.reject(second)
    found = []
    for _ in range(7):
        others.go_on(seconds=MIN_INTERVAL)
        found.append((others.reject(second), others.reject(first)))
    assert found[-1] == (Cause.PROMPT, Cause.PROMPT)
    assert found[0][1] is Cause.LIMIT
