"""When rejections are the failure of one prompt, and not the site's rate limit."""

from __future__ import annotations

import pytest

from aichatfree._prompt_rejections import (
    FIRST_WAIT,
    MIN_INTERVAL,
    MIN_REJECTIONS,
    Cause,
    PromptRejections,
)


def causes(rounds: int, *, accepted: int, rejected: int, seconds: float = 1.0) -> list[Cause]:
    """What each rejection of a prompt is evidence of, with so many others after each one."""
    prompt, answered, rejections, number = PromptRejections(), list[int](), 0, 0
    found = []
    for step in range(rounds):
        number += 1
        found.append(prompt.add(number, step * seconds, answered, rejections))
        rejections += 1 + rejected
        answered += range(number + 1, number + 1 + accepted)
        number += accepted + rejected
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
    assert found[:3] == [Cause.LIMIT, Cause.LIMIT, Cause.SUSPECT]


@pytest.mark.parametrize(("seconds", "fails"), [(1.0, False), (MIN_INTERVAL, True)])
def test_at_the_end_of_a_batch_time_must_pass(seconds: float, fails: bool) -> None:
    """Once nothing else is sent, only rejections with ten seconds between them count."""
    prompt, answered = PromptRejections(), range(2, 52)
    prompt.add(1, 0.0, [], 0)
    found = [prompt.add(100 + i, i * seconds, answered, i) for i in range(1, 6)]
    assert (found[-1] is Cause.PROMPT) == fails


def test_a_suspect_waits_before_its_next_attempt_if_nothing_was_accepted() -> None:
    """The rate limiter does not delay a suspect, so that it must not be repeated in a loop."""
    prompt, answered = PromptRejections(), range(2, 52)
    waits = []
    for number, before in [(1, range(0)), (100, answered), (101, answered)]:
        prompt.add(number, 0.0, before, 0)
        waits.append(prompt.wait)
    assert waits == [0, 0, FIRST_WAIT]
