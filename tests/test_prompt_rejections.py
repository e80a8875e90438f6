"""When rejections are the failure of one prompt, and not the site's rate limit."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from aichatfree import RateLimitError
from aichatfree._prompt_rejections import (
    LAST_FAIL_AFTER,
    MIN_REJECTIONS,
    MOST_IN_A_ROW,
    RARE,
    RARE_FAIL_AFTER,
    Cause,
    Outcomes,
    PromptRejections,
)
from simulated_batch import SimulatedBatch

PAUSE = 5.0
"""Seconds between two attempts of a prompt that is rejected."""


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

    def reject(self, prompt: PromptRejections) -> Cause:
        self.sent += 1
        return prompt.add(
            self.sent, self.now, self.outcomes, sent=self.sent, is_limited=self.is_limited
        )

    def reject_last(self, prompts: list[PromptRejections]) -> float:
        """Reject the last prompts of a batch until all have failed; the seconds that it took."""
        start, left = self.now, list(prompts)
        while left:
            for prompt in left:
                prompt.is_last = True
            left = [prompt for prompt in left if self.reject(prompt) is not Cause.PROMPT]
            self.go_on(seconds=PAUSE)
        return self.now - start


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
    found = causes(30, accepted=0, rejected=rejected)
    assert set(found) == {Cause.LIMIT}


def test_a_prompt_does_not_fail_by_chance() -> None:
    """If the site rejects every other request, ten rejections in a row are no reason to fail."""
    assert Cause.PROMPT not in causes(10, accepted=30, rejected=30)


def test_a_rejection_shows_the_limit_unless_three_others_pass() -> None:
    """With two others accepted after each of its rejections, a prompt is not suspect."""
    assert set(causes(3, accepted=2, rejected=0)) == {Cause.LIMIT}
    assert causes(3, accepted=3, rejected=0)[1:] == [Cause.SUSPECT] * 2


def test_others_pass_whatever_was_rejected_before_them() -> None:
    """Of five that were rejected in a row, the first is suspect as soon as three others pass."""
    prompts, others = [PromptRejections() for _ in range(5)], Others()
    assert {others.reject(prompt) for prompt in prompts} == {Cause.LIMIT}
    others.go_on(accepted=3)
    assert others.reject(prompts[0]) is Cause.SUSPECT


def test_others_that_passed_long_ago_do_not_count() -> None:
    """After a thousand others have passed, a prompt is suspect a few times and not 300 times."""
    prompt, others = PromptRejections(), Others()
    others.reject(prompt)
    others.go_on(accepted=1000)
    found = [others.reject(prompt) for _ in range(2 * MIN_REJECTIONS)]
    assert found[:2] == [Cause.SUSPECT] * 2
    assert found[-1] is Cause.LIMIT


def test_several_such_prompts_do_not_excuse_one_another() -> None:
    """Prompts that were rejected before do not count as others that are rejected."""
    others = Others()
    prompts = [PromptRejections() for _ in range(5)]
    found = []
    for _ in range(5):
        found = [others.reject(prompt) for prompt in prompts]
        others.go_on(accepted=60)
    assert found == [Cause.PROMPT] * 5


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


def test_more_in_a_row_are_a_limit() -> None:
    """Whatever a site has answered before, not more than twenty neighbours are taken for odd."""
    others = Others(is_limited=False)
    others.go_on(accepted=100_000)
    found = [others.reject(PromptRejections()) for _ in range(MOST_IN_A_ROW + 1)]
    assert set(found[:MOST_IN_A_ROW]) == {Cause.SUSPECT}
    assert found[MOST_IN_A_ROW] is Cause.LIMIT


def test_a_single_thread_learns_from_the_second() -> None:
    """If no other prompt is sent before it is rejected again, the rejection is the limit."""
    prompt, others = PromptRejections(), Others(is_limited=False)
    others.go_on(accepted=10)
    assert [others.reject(prompt) for _ in range(2)] == [Cause.SUSPECT, Cause.LIMIT]


# The last prompts of a batch


@pytest.mark.parametrize("count", [1, 5])
def test_the_last_prompts_of_a_batch_fail_after_a_minute(count: int) -> None:
    """Prompts beside which there are no others to send fail together, when a minute is over."""
    others = Others()
    others.go_on(accepted=5)
    seconds = others.reject_last([PromptRejections() for _ in range(count)])
    assert LAST_FAIL_AFTER <= seconds <= LAST_FAIL_AFTER + 2 * PAUSE


def test_they_fail_sooner_if_nearly_all_others_were_answered() -> None:
    """Where at most 4 % were rejected, the last ones fail after ten seconds and five attempts."""
    others = Others()
    others.go_on(accepted=5 * RARE)
    seconds = others.reject_last([PromptRejections() for _ in range(5)])
    assert RARE_FAIL_AFTER <= seconds <= RARE_FAIL_AFTER + 2 * PAUSE


def test_a_site_that_accepts_a_rejected_prompt_later_gets_a_minute() -> None:
    """A prompt that was accepted after a rejection shows that the last ones have to wait, too."""
    others = Others()
    others.go_on(accepted=5 * RARE)
    others.outcomes.record_answer(others.sent, others.now, was_rejected=True)
    assert others.reject_last([PromptRejections()]) >= LAST_FAIL_AFTER


def test_prompts_do_not_fail_while_there_are_others_to_send() -> None:
    """Ten minutes of rejections fail no prompt of a batch that has others, which may pass."""
    prompt, others = PromptRejections(), Others()
    others.go_on(accepted=5 * RARE)
    found = []
    for _ in range(120):
        found.append(others.reject(prompt))
        others.go_on(seconds=PAUSE)
    assert Cause.PROMPT not in found


def test_prompts_do_not_fail_if_the_site_has_answered_nobody() -> None:
    """A site that has answered nothing yet has no quota left, whatever the prompt is."""
    prompt, others, found = PromptRejections(), Others(), set()
    prompt.is_last = True
    for _ in range(30):
        found.add(others.reject(prompt))
        others.go_on(seconds=PAUSE)
    assert found == {Cause.LIMIT}


def test_many_last_prompts_are_a_used_up_quota() -> None:
    """More than twenty that were rejected since the last answer do not fail, however long."""
    others, found = Others(), set()
    others.go_on(accepted=1000)
    prompts = [PromptRejections() for _ in range(MOST_IN_A_ROW + 1)]
    for _ in range(20):
        for prompt in prompts:
            prompt.is_last = True
            found.add(others.reject(prompt))
        others.go_on(seconds=PAUSE)
    assert Cause.PROMPT not in found


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
