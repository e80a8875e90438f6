"""Whether a rejection is the site's rate limit, or the failure of one prompt."""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from typing import Final

MIN_REJECTIONS: Final = 5
"""Rejections of one prompt, and answers to others after the first, before it may fail."""
MAX_CHANCE: Final = 1e-6
"""The probability with which a prompt may fail that was rejected by chance alone."""
SUSPECT_SHARE: Final = 3
"""Others accepted for each repeated rejection that make a prompt suspect."""
RARE: Final = 25
"""Answers for each rejected prompt with which rejections are too rare to show a limit."""
MOST_IN_A_ROW: Final = 20
"""Rejected prompts with no answer in between; more of them show a limit, or a used-up quota."""
LAST_FAIL_AFTER: Final = 61.0
"""Seconds after which the last prompts of a batch fail: the limit of a minute ends sooner."""
RARE_FAIL_AFTER: Final = 10.0
"""The same if they are rare, and if no prompt has been accepted that was rejected before."""


class Cause(Enum):
    """What a rejection is evidence of."""

    LIMIT = "The site's rate limit: the client has to send less."
    SUSPECT = "Probably the prompt: others pass. The rate limiter learns nothing from it."
    PROMPT = "The prompt, which would be rejected again."


class Outcomes:
    """What became of a client's last requests.

    A rejection arrives sooner than an answer, so a request counts as passed when one that was sent
    after it is rejected.

    Attributes:
        accepted: the numbers of those that were answered.
        rejected: the numbers of those that were the first of their prompt to be rejected.
        answers: how many there were.
        passed: how many passed since the last first rejection, less three for each repeated one.
        rejected_in_a_row: prompts rejected for the first time since the last answer.
        repeated: the repeated rejections since the last answer or first rejection, of prompts
            beside which there were no others to send.
        changed_at: the clock time of that.
        has_accepted_rejected: whether a prompt was accepted after a rejection.
    """

    def __init__(self) -> None:
        self.accepted: deque[int] = deque(maxlen=1000)
        self.rejected: deque[int] = deque(maxlen=1000)
        self.answers: int = 0
        self.passed: int = 0
        self.rejected_in_a_row: int = 0
        self.repeated: int = 0
        self.changed_at: float = -math.inf
        self.has_accepted_rejected: bool = False
        self._last_rejected = 0  # the number of the last rejection

    def record_answer(self, number: int, now: float, *, was_rejected: bool = False) -> None:
        """Request `number` was answered; `was_rejected` says whether an earlier one was not."""
        self.accepted.append(number)
        self.answers += 1
        self.has_accepted_rejected |= was_rejected
        self.rejected_in_a_row = self.repeated = 0
        self.changed_at = now

    def record_rejection(
        self, number: int, now: float, *, is_first: bool, is_last: bool = False
    ) -> bool:
        """Request `number` was rejected; returns whether enough others pass.

        Args:
            number: of the request.
            now: clock time.
            is_first: whether it is the first rejection of its prompt.
            is_last: whether there was no other prompt that could be sent.
        """
        passed = self.passed + max(0, number - self._last_rejected - 1)
        self.passed = min(passed, SUSPECT_SHARE * MIN_REJECTIONS)
        self._last_rejected = max(number, self._last_rejected)
        others_pass = self.passed >= SUSPECT_SHARE
        if is_first:
            self.rejected.append(number)
            self.rejected_in_a_row += 1
            self.passed = self.repeated = 0
            self.changed_at = now
            return others_pass or self.are_rejections_rare
        self.repeated += is_last
        self.passed = max(0, self.passed - SUSPECT_SHARE)
        return others_pass

    @property
    def are_rejections_rare(self) -> bool:
        """Whether the site has answered nearly all requests so far."""
        are_few = self.rejected_in_a_row <= MOST_IN_A_ROW
        return are_few and self.answers >= RARE * len(self.rejected)

    def are_last(self, now: float) -> bool:
        """Whether, for a while, no prompts but some that were rejected before have been sent."""
        is_unlimited = self.are_rejections_rare and not self.has_accepted_rejected
        fail_after = RARE_FAIL_AFTER if is_unlimited else LAST_FAIL_AFTER
        is_enough = self.repeated >= MIN_REJECTIONS and now - self.changed_at >= fail_after
        return is_enough and self.answers > 0 and self.rejected_in_a_row <= MOST_IN_A_ROW

    def after(self, number: int) -> tuple[int, int]:
        """How many requests after `number` were answered, and how many prompts rejected."""
        return sum(n > number for n in self.accepted), sum(n > number for n in self.rejected)


class PromptRejections:
    """The rejections of one prompt, compared with what happened to the others in the meantime.

    A site may reject a prompt whatever the rate is, for instance one that is too large for a limit
    of tokens per minute. A limit does not know which prompts were rejected before, so a prompt that
    is rejected again while at least three others pass is *suspect*, and its rejections say nothing
    about the limit.

    It fails once it was rejected so often that, judged by those sent after it, chance does not
    explain it. What counts against this are the first rejections of others, because other prompts
    of this kind are rejected again and again. The last prompts of a batch, beside which there are
    no others to send, fail after a minute, or sooner if the site had answered nearly all others.

    Attributes:
        is_last: whether a batch has no prompt to send but those that were rejected.
        evidence: how many of them the rate limiter has learnt from.
        cause: what the last one is evidence of.
    """

    def __init__(self) -> None:
        self.is_last: bool = False
        self.evidence: int = 0
        self.cause: Cause = Cause.LIMIT
        self._count = 0
        self._persistent = 0  # those with others accepted in between
        self._sent_before = 0  # the number of the last request sent before the first one arrived
        self._last_number = 0  # of the last persistent one

    def __len__(self) -> int:
        return self._count

    def add(
        self, number: int, now: float, outcomes: Outcomes, *, sent: int, is_limited: bool
    ) -> Cause:
        """Judge another rejection.

        Args:
            number: of the request, which grows with each request of the client.
            now: clock time.
            outcomes: those of all requests, which learn of this one.
            sent: the number of the last request.
            is_limited: whether the site is known to have a limit.
        """
        is_first = not self._count
        self._count += 1
        others_pass = outcomes.record_rejection(
            number, now, is_first=is_first, is_last=self.is_last
        )
        if is_first:
            self._sent_before = sent
            others_pass = others_pass and not is_limited
        elif not is_limited and not self.is_last:
            others_pass = others_pass or outcomes.are_rejections_rare
        if is_first or any(other > self._last_number for other in outcomes.accepted):
            self._persistent += 1
            self._last_number = number
        if outcomes.are_last(now) or self._is_no_chance(outcomes):
            self.cause = Cause.PROMPT
        else:
            self.cause = Cause.SUSPECT if others_pass else Cause.LIMIT
        return self.cause

    def _is_no_chance(self, outcomes: Outcomes) -> bool:
        accepted, rejected = outcomes.after(self._sent_before)
        share = (rejected + 1) / (accepted + rejected + 2)
        is_often = min(self._persistent, accepted) >= MIN_REJECTIONS
        return is_often and share**self._persistent < MAX_CHANCE
