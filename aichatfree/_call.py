"""``Call``: what all attempts of one call of the user share."""

from __future__ import annotations

import math
import time
from typing import Final

from ._cancellation import CancelToken
from ._prompt_rejections import PromptRejections
from .errors import APITimeoutError
from .timeout import Timeout

MAX_SINGLE_WAIT: Final = 2.0
"""Seconds that a call without retries waits while the site rejects requests."""


class Call:
    """One call of the user: what all its attempts share, such as its deadline and cancel token.

    Attributes:
        timeout: its time limits.
        cancel_token: set when the answer is no longer wanted.
        attempts: requests sent so far.
        site: the base URL of the site that the last one was sent to; empty before.
        rejections: those of its prompt.
        last_failure: why its last attempt failed, in a few words; empty before.
        first_byte_at: when the answer to the last attempt began to arrive (monotonic clock).
        started: when its total time limit began (monotonic clock).
        deadline: when the call has to be finished (monotonic clock), or infinity.
        last_attempt_before: when its retry policy allows no further attempt (monotonic clock), or
            infinity.
        waits_for_rejections_until: how long it waits for the rate limiter while rejections slow
            the client down (monotonic clock), or infinity.
    """

    def __init__(
        self,
        timeout: Timeout,
        cancel_token: CancelToken | None = None,
        *,
        max_elapsed: float | None = None,
        single_attempt: bool = False,
        rejections: PromptRejections | None = None,
        starts_with_first_request: bool = False,
    ) -> None:
        """Begin a call.

        Args:
            timeout: its time limits.
            cancel_token: cancels it; a new one unless given.
            max_elapsed: seconds after which no further attempt may begin.
            single_attempt: whether it has no retries, so that it waits for ``MAX_SINGLE_WAIT`` at
                most while rejections slow the client down.
            rejections: those of earlier calls for the same prompt.
            starts_with_first_request: let the total time limit begin when the first request may be
                sent. In a batch, hundreds of prompts may wait for the rate limiter; that time must
                not count against them.
        """
        self.timeout = timeout
        self.cancel_token: CancelToken = cancel_token or CancelToken()
        self.attempts: int = 0
        self.site: str = ""
        self.rejections: PromptRejections = PromptRejections() if rejections is None else rejections
        self.last_failure: str = ""
        self.first_byte_at: float | None = None
        self._max_elapsed = math.inf if max_elapsed is None else max_elapsed
        self._max_rejected_wait = MAX_SINGLE_WAIT if single_attempt else math.inf
        self._starts_with_first_request = starts_with_first_request
        self.start()

    def start(self) -> None:
        """Let the time limits begin now."""
        self.started: float = time.monotonic()
        total = math.inf if self._starts_with_first_request else self.timeout.total
        self.deadline: float = self.started + (total or math.inf)
        self.last_attempt_before: float = self.started + self._max_elapsed
        self.waits_for_rejections_until: float = self.started + self._max_rejected_wait

    def begin_attempt(self) -> None:
        """A request is about to be sent."""
        self.attempts += 1
        if self._starts_with_first_request:
            self._starts_with_first_request = False
            self.start()

    def check(self) -> None:
        """Raise if nothing more may be sent: the call was cancelled, or its deadline has passed."""
        self.cancel_token.check()
        if time.monotonic() >= self.deadline:
            raise self.deadline_error()

    def seconds_for(self, limit: float | None) -> float | None:
        """Seconds that one of its phases may take, such as connecting; ``None`` if for ever."""
        seconds = min(self.deadline - time.monotonic(), limit or math.inf)
        return None if seconds == math.inf else max(seconds, 0.001)

    def deadline_error(self) -> APITimeoutError:
        """The error for a call that was not finished before its deadline."""
        failed = f"; its last attempt failed: {self.last_failure}" if self.last_failure else ""
        return APITimeoutError(
            f"The call was not finished within its total of {self.timeout.total:g} s{failed}. "
            "Allow more with timeout=Timeout(total=...)."
        )
