"""``RetryPolicy``: how often a failed request is retried, and how long to wait before that.

Whether an error may be retried at all is decided where its meaning is: ``error.retryable``.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias

import tenacity

from ._arguments import check_number
from ._call import Call
from .errors import APIError

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetryPolicy:
    """How often a failed request is retried, and how long to wait before that.

    If the site states a wait (``Retry-After``, or Gemini's ``retryDelay``) or when a used-up quota
    is renewed, the next attempt begins then, plus jitter. If ``max_elapsed`` or ``Timeout.total``
    leaves no time for it, the error is raised at once, with ``retry_after``.

    Without a policy (``retry=None``) there is one attempt. If it would have to wait for more than
    two seconds because the site has rejected earlier requests, nothing is sent, and a
    :class:`RateLimitError` with ``retry_after`` is raised. A wait for ``max_requests_per_minute``
    alone does not count. Prompts of a batch wait in any case.

    >>> policy = aichatfree.RetryPolicy(max_attempts=8, max_elapsed=600)
    >>> print(client.generate("Name a river.", retry=policy))
    The Nile.

    Attributes:
        max_attempts: requests sent at most, including the first.
        max_elapsed: seconds from the start of the call after which no further attempt begins, or
            ``None``; batches use ``max_attempts`` only.
        initial_wait: seconds before the second attempt, doubled for each further one.
        max_wait: the longest wait in seconds.
        jitter: up to this many seconds are added to each wait at random.

    Raises:
        TypeError: an attribute is not a number.
        ValueError: ``max_attempts`` is below 1, or a time is negative.
    """

    max_attempts: int = 5
    max_elapsed: float | None = 300
    initial_wait: float = 0.5
    max_wait: float = 30
    jitter: float = 0.5

    def __post_init__(self) -> None:
        check_number("RetryPolicy.max_attempts", self.max_attempts, min=1, integer=True)
        for name in ("max_elapsed", "initial_wait", "max_wait", "jitter"):
            seconds = getattr(self, name)
            if seconds is not None or name != "max_elapsed":
                check_number(f"RetryPolicy.{name}", seconds, min=0, unit="seconds")

    def wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds to wait before the next attempt; a tenacity ``wait``."""
        error = state.outcome.exception() if state.outcome else None
        seconds = error.stated_wait if isinstance(error, APIError) else None
        if seconds is None:
            doublings = min(state.attempt_number - 1, 60)
            seconds = min(self.max_wait, self.initial_wait * 2**doublings)
        return seconds + random.uniform(0, self.jitter)

    def retrying(self, call: Call) -> tenacity.Retrying:
        """A tenacity object for one call; its waits end when the call is cancelled."""
        return tenacity.Retrying(
            sleep=call.cancel_token.sleep,
            retry=tenacity.retry_if_exception(is_retryable),
            wait=self.wait,
            stop=tenacity.stop_after_attempt(self.max_attempts)
            | stop_with_call(call, min(call.deadline, call.last_attempt_before)),
            before_sleep=_log_retry,
            reraise=True,
        )


class _Unset(Enum):
    UNSET = "the client's own"


UNSET: Final = _Unset.UNSET
"""No policy was given: ``None`` is one, a single attempt."""

Retry: TypeAlias = RetryPolicy | tenacity.Retrying | None
RetryOption: TypeAlias = Retry | Literal[_Unset.UNSET]
MakeRetrying: TypeAlias = Callable[[RetryPolicy, Call], tenacity.Retrying]


def is_retryable(error: BaseException) -> bool:
    """Whether the same request may succeed if it is sent again."""
    if not isinstance(error, APIError) or not error.retryable:
        return False
    return error.max_retries is None or error.attempts <= error.max_retries


def check_retry(retry: object) -> Retry:
    """Accept what can be a retry policy.

    Raises:
        TypeError: it cannot.
    """
    if retry is None or isinstance(retry, (RetryPolicy, tenacity.Retrying)):
        return retry
    raise TypeError(
        "retry= takes a RetryPolicy, a tenacity.Retrying, or None for a single attempt, not "
        f"{type(retry).__name__}"
    )


def run_attempts(
    retry: Retry,
    call: Call,
    attempt: Callable[[], None],
    *,
    make_retrying: MakeRetrying = RetryPolicy.retrying,
) -> None:
    """Make an attempt, and repeat it as the policy says.

    Args:
        retry: the policy.
        call: the call that the attempts belong to.
        attempt: makes one.
        make_retrying: turns a :class:`RetryPolicy` into a tenacity object.

    Raises:
        APIError: the error of the last attempt.
    """
    if isinstance(retry, tenacity.Retrying):
        _copy_for_call(retry, call)(attempt)
        return
    try:
        attempt()
        return
    except APIError as error:
        if retry is None:
            raise
        failed = [error]

    # Most calls need no second attempt, and setting up tenacity takes a tenth of the CPU time of a
    # request. So it begins with the second attempt, and is told of the first one's failure.
    def attempt_or_first_failure() -> None:
        if failed:
            raise failed.pop()
        attempt()

    make_retrying(retry, call)(attempt_or_first_failure)


def _copy_for_call(retrying: tenacity.Retrying, call: Call) -> tenacity.Retrying:
    """A copy of the user's own object for one call, because it keeps the state of its last call."""
    own_stop, own_retry = retrying.stop, retrying.retry
    call_stops = stop_with_call(call, call.deadline)

    def failed(state: tenacity.RetryCallState) -> bool:
        # An attempt that succeeds is an answer: rules about results do not apply to it.
        return bool(state.outcome and state.outcome.failed and own_retry(state))

    return retrying.copy(
        # The user's own way to sleep is kept, but tenacity's default cannot be cancelled.
        sleep=call.cancel_token.sleep if retrying.sleep is tenacity.nap.sleep else retrying.sleep,
        stop=lambda state: own_stop(state) or call_stops(state),
        retry=failed,
        reraise=True,
        # Its value would be taken for an answer.
        retry_error_callback=None,
    )


class stop_with_call(tenacity.stop.stop_base):  # noqa: N801  (named like tenacity's own)
    """Stop if the next attempt would begin too late, or if the call is being stopped."""

    def __init__(self, call: Call, latest: float) -> None:
        self._call = call
        self._latest = latest

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        too_late = time.monotonic() + retry_state.upcoming_sleep >= self._latest
        return too_late or self._call.cancel_token.stopping.is_set()


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.info(
        "attempt %d failed (%s); the next one in %.1f s",
        state.attempt_number,
        error.reason if isinstance(error, APIError) else type(error).__name__,
        state.upcoming_sleep,
    )
