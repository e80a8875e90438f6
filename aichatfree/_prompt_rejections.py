"""Whether a rejection is the site's rate limit, or the failure of one prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from typing import Final

MIN_REJECTIONS: Final = 5
"""Rejections of one prompt, and answers to others after the first, before it may fail."""
MIN_INTERVAL: Final = 10.0
"""Seconds between two rejections that both count although nothing was accepted in between."""
FIRST_WAIT: Final = 0.25
"""Seconds before a suspect is sent again if nothing was accepted in between; then they double."""
MAX_CHANCE: Final = 1e-6
"""The probability with which a prompt may fail that was rejected by chance alone."""
SUSPECT_SHARE: Final = 3
"""Others accepted for each one rejected that make a prompt suspect at its second rejection."""


class Cause(Enum):
    """What a rejection is evidence of."""

    LIMIT = "The site's rate limit: the client has to send less."
    SUSPECT = "Probably the prompt: others pass. The rate limiter learns nothing from it."
    PROMPT = "The prompt, which would be rejected again."


class PromptRejections:
    """The rejections of one prompt, compared with what happened to the others in the meantime.

    A site may reject a prompt whatever the rate is, for instance one that is too large for a limit
    of tokens per minute. Such a prompt fails once it was rejected so often that, judged by those
    sent after it, chance does not explain it. If everything else is rejected too, it never fails.

    Attributes:
        evidence: how many of them the rate limiter has learnt from.
        wait: seconds before the next attempt, which the rate limiter does not delay.
        cause: what the last one is evidence of.
    """

    def __init__(self) -> None:
        self.evidence: int = 0
        self.wait: float = 0.0
        self.cause: Cause = Cause.LIMIT
        self._uncounted = 0  # since the last one that counted
        self._count = 0
        self._persistent = 0  # those that count towards MIN_REJECTIONS
        self._first_number = 0  # of the first request that was rejected
        self._last_number = 0  # of the last one that counted
        self._last_time = -math.inf  # clock time of it
        self._rejected_before = 0

    def __len__(self) -> int:
        return self._count

    def add(self, number: int, now: float, accepted: Sequence[int], rejected: int) -> Cause:
        """Judge another rejection.

        Args:
            number: of the request, which grows with each request of the client.
            now: clock time.
            accepted: the numbers of the last requests that the site answered.
            rejected: how many requests of all prompts it has rejected before.
        """
        self.cause = self._judge(number, now, accepted, rejected)
        return self.cause

    def _judge(self, number: int, now: float, accepted: Sequence[int], rejected: int) -> Cause:
        if not self._count:
            self._first_number, self._rejected_before = number, rejected
        others_rejected = rejected - self._rejected_before - self._count
        others_accepted = sum(other > self._first_number for other in accepted)
        passed = bool(self._count) and any(other > self._last_number for other in accepted)
        self._count += 1
        persistent = passed or now - self._last_time >= MIN_INTERVAL
        if persistent:
            self._persistent += 1
            self._last_number, self._last_time = number, now
        share = (others_rejected + 1) / (others_accepted + others_rejected + 2)
        others_pass = others_accepted >= SUSPECT_SHARE * (others_rejected + 1)
        suspect = self._count >= (2 if others_pass else 3) and (others_pass or passed)
        self._uncounted = 0 if persistent else self._uncounted + 1
        is_early = suspect and not persistent
        self.wait = min(FIRST_WAIT * 2.0 ** min(self._uncounted - 1, 9), MIN_INTERVAL) * is_early
        is_enough = min(self._persistent, others_accepted) >= MIN_REJECTIONS
        if is_enough and share**self._persistent < MAX_CHANCE:
            return Cause.PROMPT
        if suspect:
            return Cause.SUSPECT
        self.evidence += 1
        return Cause.LIMIT
