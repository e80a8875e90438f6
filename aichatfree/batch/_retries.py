"""How a batch retries: a rejection is the rate limiter's business and uses up no attempt."""

from __future__ import annotations

from typing import Final

import tenacity

from .._deadlines import Call
from ..errors import APIError
from ..retry import RetryPolicy, stop_with_call

MAX_SLEEP: Final = 1.0
"""Seconds of a stated wait that a thread sleeps through; for longer ones the prompt is deferred."""


def batch_retrying(policy: RetryPolicy, call: Call) -> tenacity.Retrying:
    """A tenacity object for one prompt of a batch."""
    return policy.retrying(call).copy(
        wait=_wait_unless_rejected(policy),
        stop=_stop_after_failures(policy.max_attempts) | stop_with_call(call, call.deadline),
    )


def is_deferred(error: BaseException) -> bool:
    """Whether the batch should hold the prompt, instead of a thread, until the site may take it."""
    return (
        isinstance(error, APIError) and error.rejection and (error.retry_after or 0.0) > MAX_SLEEP
    )


class _wait_unless_rejected(tenacity.wait.wait_base):  # noqa: N801  (named like tenacity's own)
    """Wait as the policy says, but not after a rejection without a wait: the limiter makes it."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        if isinstance(error, APIError) and error.rejection and error.retry_after is None:
            return 0.0
        return self._policy.wait(retry_state)


class _stop_after_failures(tenacity.stop.stop_base):  # noqa: N801  (named like tenacity's own)
    """Stop after so many failed attempts, not counting rejections, and at one that is deferred."""

    def __init__(self, failures: int) -> None:
        self._left = failures

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        rejected = isinstance(error, APIError) and error.rejection
        self._left -= not rejected
        return self._left <= 0 or (error is not None and is_deferred(error))
