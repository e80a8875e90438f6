"""How a batch treats a rejection, a response that says that there are too many requests.

A single call gives up after a few. A batch does not count them as attempts, because the rate
limiter delays the next request until the site may accept it. If the site states a longer wait, the
prompt is deferred, so that it occupies no thread meanwhile. A prompt that is rejected again and
again while others are accepted fails; see `PromptRejections`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import tenacity

from .._call import Call
from ..errors import APIError
from ..retry import RetryPolicy, stop_with_call

MAX_THREAD_WAIT: Final = 1.0
"""Seconds of a stated wait that a thread waits for; for a longer one the prompt is deferred."""


class Deferred(NamedTuple):
    """A prompt is to be sent again, but not before so many seconds have passed."""

    seconds: float


def deferral(error: APIError) -> Deferred | None:
    """How long to defer a prompt after this error; ``None`` for an error that does not defer it."""
    wait = error.retry_after or 0.0
    return Deferred(wait) if error.rejection and wait > MAX_THREAD_WAIT else None


def batch_retrying(policy: RetryPolicy, call: Call) -> tenacity.Retrying:
    """The tenacity object of a policy, except that rejections are treated as described above."""

    def wait(state: tenacity.RetryCallState) -> float:
        error = _error_of(state)
        if error is not None and error.rejection and error.retry_after is None:
            return call.rejections.wait  # the rate limiter delays the next attempt
        return policy.wait(state)

    return policy.retrying(call).copy(
        wait=wait,
        stop=_stop_after_failures(policy.max_attempts) | stop_with_call(call, call.deadline),
    )


class _stop_after_failures(tenacity.stop.stop_base):  # noqa: N801  (named like tenacity's own)
    """Stop after so many failures other than rejections, or if the prompt is to be deferred."""

    def __init__(self, failures: int) -> None:
        self._left = failures

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        error = _error_of(retry_state)
        if error is None:
            return True
        self._left -= not error.rejection
        return self._left <= 0 or deferral(error) is not None


def _error_of(state: tenacity.RetryCallState) -> APIError | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, APIError) else None
