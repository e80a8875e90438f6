"""How a batch treats a rejection, a response that says that there are too many requests.

A single call gives up after a few. A batch does not count them as attempts, because the rate
limiter delays the next request until the site may accept it. The prompt is deferred, so that it
occupies no thread meanwhile, unless a router tries it at other sites. One that is rejected again
and again while others are accepted fails; see `PromptRejections` and `DeferredItems`.
"""

from __future__ import annotations

from typing import NamedTuple

import tenacity

from .._call import Call
from .._prompt_rejections import PromptRejections
from ..errors import APIError
from ..retry import RetryPolicy, stop_with_call


class Deferred(NamedTuple):
    """A prompt is to be sent again, but not before so many seconds have passed."""

    seconds: float


def deferral(error: APIError, rejections: PromptRejections) -> Deferred | None:
    """How long to defer a prompt after this error; ``None`` for an error that does not defer it.

    Args:
        error: the failure.
        rejections: those of the prompt so far.
    """
    if not error.rejection:
        return None
    return Deferred(max(rejections.wait, error.retry_after or 0.0))


def batch_retrying(policy: RetryPolicy, call: Call, *, failures: int = 0) -> tenacity.Retrying:
    """The tenacity object of a policy, except that a rejection ends the attempts without counting.

    Args:
        policy: the policy.
        call: the call.
        failures: earlier ones of the same prompt, other than rejections.
    """
    return policy.retrying(call).copy(
        stop=_stop_after_failures(policy.max_attempts - failures)
        | stop_with_call(call, call.deadline)
    )


class _stop_after_failures(tenacity.stop.stop_base):  # noqa: N801  (named like tenacity's own)
    """Stop after so many failures, or after a rejection."""

    def __init__(self, failures: int) -> None:
        self._left = failures

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        self._left -= 1
        return self._left <= 0 or (isinstance(error, APIError) and error.rejection)
