"""Whether a rejection is the site's rate limit, or the failure of one prompt."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Final

MIN_REJECTIONS: Final = 5
"""Rejections of one prompt, and answers to others after the first, before it may fail."""
MIN_INTERVAL: Final = 10.0
"""Seconds between two rejections that both count although nothing was accepted in between."""
MIN_WAIT: Final = 0.01
"""Seconds before a suspect is sent again if nothing was accepted in between; then they double."""
MAX_FIRST_WAIT: Final = 2.0
"""Seconds before an isolated rejection is repeated, at most; others should be sent meanwhile."""
LAST_ANSWERS: Final = 20
"""Others are likely to be sent in the time that the last answers took, so many of them."""
ALONE_FOR: Final = 61.0
"""Seconds after which a prompt fails that alone is rejected: a minute's limit ends sooner."""
MAX_CHANCE: Final = 1e-6
"""The probability with which a prompt may fail that was rejected by chance alone."""
SUSPECT_SHARE: Final = 3
"""Others accepted for each one rejected that make a prompt suspect."""
RARE: Final = 50
"""Answers for each rejected prompt with which rejections are too rare to show a limit."""


class Cause(Enum):
    """What a rejection is evidence of."""

    LIMIT = "The site's rate limit: the client has to send less."
    SUSPECT = "Probably the prompt: others pass. The rate limiter learns nothing from it."
    PROMPT = "The prompt, which would be rejected again."


class Outcomes:
    """What became of a client's last requests.

    Attributes:
        accepted: the numbers of those that were answered.
        rejected: the numbers of those that were the first of their prompt to be rejected.
        unexplained: those of them whose prompts are not suspected of being the reason.
        answers: how many there were.
        answers_in_a_row: those since another prompt was rejected for the first time.
        answered_at: the clock times of the last answers.
    """

    def __init__(self) -> None:
        self.accepted: deque[int] = deque(maxlen=1000)
        self.rejected: deque[int] = deque(maxlen=1000)
        self.unexplained: deque[int] = deque(maxlen=1000)
        self.answers: int = 0
        self.answers_in_a_row: int = 0
        self.answered_at: deque[float] = deque(maxlen=LAST_ANSWERS)

    def record_answer(self, number: int, now: float) -> None:
        """Request `number` was answered."""
        self.accepted.append(number)
        self.answered_at.append(now)
        self.answers += 1
        self.answers_in_a_row += 1

    def record_first_rejection(self, number: int) -> None:
        """Request `number` was the first of its prompt to be rejected."""
        self.rejected.append(number)
        self.unexplained.append(number)
        self.answers_in_a_row = 0

    def record_cause(self, number: int, cause: Cause) -> None:
        """Request `number` was rejected because of its prompt, certainly or as it seems."""
        if number in self.unexplained:
            self.unexplained.remove(number)
        if cause is Cause.PROMPT and number in self.rejected:
            self.rejected.remove(number)

    @property
    def are_rejections_rare(self) -> bool:
        """Whether the site has answered others in a row, or nearly all of those so far."""
        is_rare = self.answers >= RARE * (len(self.rejected) + 1)
        return is_rare or self.answers_in_a_row >= SUSPECT_SHARE


def _after(number: int, numbers: Iterable[int]) -> int:
    return sum(other > number for other in numbers)


class PromptRejections:
    """The rejections of one prompt, compared with what happened to the others in the meantime.

    A site may reject a prompt whatever the rate is, for instance one that is too large for a limit
    of tokens per minute. Such a prompt fails once it was rejected so often that, judged by those
    sent after it, chance does not explain it. If other prompts are rejected too, it does not fail:
    what counts are their first rejections, because other prompts of this kind are rejected again
    and again. The prompt at the end of a batch, after which none is sent, fails after a minute.

    The first rejection at a site that had no limit so far is *isolated* if it follows some answers.
    It says nothing until another prompt is rejected, or the same one while no other is sent.

    Attributes:
        evidence: how many of them the rate limiter has learnt from.
        wait: seconds before the next attempt, which the rate limiter does not delay.
        cause: what the last one is evidence of.
    """

    def __init__(self) -> None:
        self.evidence: int = 0
        self.wait: float = 0.0
        self.cause: Cause = Cause.LIMIT
        self._retry_at = math.inf  # clock time that the last one stated
        self._unanswered = 0  # those with nothing accepted in between
        self._count = 0
        self._persistent = 0  # those that count towards MIN_REJECTIONS
        self._first_time = 0.0  # clock time of the first one
        self._first_number = 0  # of its request
        self._sent_before = 0  # the number of the last request sent before it arrived
        self._last_number = 0  # of the last one that counted
        self._last_time = -math.inf  # clock time of it
        self._is_isolated = False

    def __len__(self) -> int:
        return self._count

    def add(
        self,
        number: int,
        now: float,
        outcomes: Outcomes,
        *,
        sent: int,
        is_limited: bool,
        retry_after: float | None = None,
    ) -> Cause:
        """Judge another rejection.

        Args:
            number: of the request, which grows with each request of the client.
            now: clock time.
            outcomes: those of all requests, which learn of this one.
            sent: the number of the last request.
            is_limited: whether the site is known to have a limit.
            retry_after: seconds that the site asked to wait.
        """
        is_first = not self._count
        if is_first:
            self._first_number, self._first_time, self._sent_before = number, now, sent
            self._is_isolated = not is_limited and outcomes.are_rejections_rare
            outcomes.record_first_rejection(number)
        passed = not is_first and any(other > self._last_number for other in outcomes.accepted)
        self._count += 1
        waited = now >= min(self._last_time + MIN_INTERVAL, self._retry_at)
        if is_first or passed or waited:
            self._persistent += 1
            self._last_number, self._last_time = number, now
        self._retry_at = math.inf if retry_after is None else now + retry_after
        others_pass = not is_first and not self._answers_needed(outcomes, self._count - 1)
        self.cause = self._judge(now, outcomes, sent, others_pass)
        if others_pass or self.cause is Cause.PROMPT:
            outcomes.record_cause(self._first_number, self.cause)
        self._unanswered = 0 if is_first or passed else self._unanswered + 1
        self.wait = self._wait_after(self.cause, now, outcomes)
        self.evidence += self.cause is Cause.LIMIT
        return self.cause

    def _wait_after(self, cause: Cause, now: float, outcomes: Outcomes) -> float:
        if self._count == 1 and cause is Cause.SUSPECT:
            took = now - min(outcomes.answered_at, default=now)
            return min(max(took, MIN_WAIT), MAX_FIRST_WAIT)
        if self._count == 1:
            return MIN_WAIT  # so that others are in the queue before it
        if cause is Cause.SUSPECT and self._unanswered:
            return min(MIN_WAIT * 2.0 ** min(self._unanswered - 1, 30), MIN_INTERVAL)
        return 0.0

    def answers_needed(self, outcomes: Outcomes) -> int:
        """How many more answers to others make another rejection the prompt's own.

        Ever more, because after the same number each time a prompt could meet the limit each time.
        """
        return self._answers_needed(outcomes, self._count)

    def _answers_needed(self, outcomes: Outcomes, repeated: int) -> int:
        others = _after(self._sent_before, outcomes.unexplained) + repeated * (repeated + 1) // 2
        return max(0, SUSPECT_SHARE * others - _after(self._sent_before, outcomes.accepted))

    def _judge(self, now: float, outcomes: Outcomes, sent: int, others_pass: bool) -> Cause:
        accepted = _after(self._sent_before, outcomes.accepted)
        rejected = _after(self._sent_before, outcomes.rejected)
        is_alone = self._is_isolated and not rejected
        share = (rejected + 1) / (accepted + rejected + 2)
        if self._persistent >= MIN_REJECTIONS:
            is_no_chance = accepted >= MIN_REJECTIONS and share**self._persistent < MAX_CHANCE
            if is_no_chance or (is_alone and now - self._first_time >= ALONE_FOR):
                return Cause.PROMPT
        repeated = self._count - 1
        others_sent = sent - self._sent_before - repeated
        if not repeated or (is_alone and others_sent >= SUSPECT_SHARE):
            return Cause.SUSPECT if is_alone else Cause.LIMIT
        return Cause.SUSPECT if others_pass else Cause.LIMIT
