"""When a failed request is sent again: what is safe, how long to wait, how often."""

from __future__ import annotations

import logging
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias

import tenacity
from urllib3.exceptions import NameResolutionError

from ._deadlines import Call
from ._wire.connection_errors import causes_of
from .errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    AuthenticationError,
    NotFoundError,
    OverloadedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
)

log: Final = logging.getLogger("aichatfree.retry")

_RETRYABLE = (
    APIConnectionError,
    OverloadedError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
)


def is_retryable(error: BaseException) -> bool:
    """Whether sending the same request again may help.

    So it is after a failed connection, a timeout, 408, 429, any 5xx and a broken answer; not
    after another 4xx, an empty answer, a web page, or a certificate that is not valid.
    """
    if isinstance(error, APIStatusError) and error.status_code in (408, None):
        return error.status_code == 408  # without a status, it was never sent
    return isinstance(error, _RETRYABLE) and not any(
        isinstance(cause, ssl.SSLCertVerificationError) for cause in causes_of(error)
    )


def is_rejection(error: BaseException | None) -> bool:
    """Whether the site turned a request away because there are too many.

    A 503 counts only if it names a wait: a stray one, taken for a limit, costs a pacer much of its
    rate for nothing (at one in 200, almost half; ``python -m benchmarks.pacing``).
    """
    if isinstance(error, OverloadedError):
        return error.status_code == 529 or error.retry_after is not None
    return isinstance(error, RateLimitError)


def is_fatal(error: BaseException) -> bool:
    """Whether every other request would fail in the same way: nothing but a new setting helps."""
    if isinstance(error, (AuthenticationError, NotFoundError, ProtocolError)):
        return True
    return isinstance(error, APIConnectionError) and any(
        isinstance(cause, (ssl.SSLCertVerificationError, NameResolutionError))
        for cause in causes_of(error)
    )


@dataclass(frozen=True)
class RetryPolicy:
    """How often, how long and how patiently a request is sent again.

    A wait that the site names (``Retry-After``, or Gemini's ``retryDelay``) is waited for in full,
    plus jitter; if ``max_elapsed`` or ``Timeout.total`` has no room for it, the error is raised
    at once, with ``retry_after``.

    >>> patient = aichatfree.RetryPolicy(max_attempts=8, max_elapsed=600)
    >>> print(client.generate("Name a river.", retry=patient))
    The Nile.

    Attributes:
        max_attempts: requests sent at most, the first included.
        max_elapsed: seconds from the first request on, after which none is sent, or ``None``;
            batches go by ``max_attempts`` alone.
        initial_wait: seconds before the second attempt, doubled for each further one.
        max_wait: seconds that a wait grows to.
        jitter: seconds, at most, that are added to each wait at random.
    """

    max_attempts: int = 5
    max_elapsed: float | None = 300
    initial_wait: float = 0.5
    max_wait: float = 30
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int):
            raise TypeError("RetryPolicy(max_attempts=...) takes a whole number")
        if self.max_attempts < 1:
            raise ValueError("RetryPolicy(max_attempts=...) must be at least 1")
        for name in ("max_elapsed", "initial_wait", "max_wait", "jitter"):
            seconds = getattr(self, name)
            if seconds is None and name == "max_elapsed":
                continue
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
                raise TypeError(f"RetryPolicy({name}=...) takes seconds")
            if not seconds >= 0:
                raise ValueError(f"RetryPolicy({name}={seconds}) must not be negative")

    def retrying(self, call: Call, *, patient: bool = False) -> tenacity.Retrying:
        """A tenacity object for one call, whose waits end when the call is cancelled.

        Args:
            call: whose attempts it runs.
            patient: whether rejections do not count, because a pacer sees to them.
        """
        stop: tenacity.stop.stop_base = tenacity.stop_after_attempt(self.max_attempts)
        latest = call.deadline
        if patient:
            stop = _stop_after_failures(self.max_attempts)
        elif self.max_elapsed is not None:
            latest = min(latest, call.last_attempt_before)
        return tenacity.Retrying(
            sleep=call.cancel_token.sleep,
            retry=tenacity.retry_if_exception(is_retryable),
            wait=self._wait_patiently if patient else self._wait,
            stop=stop | _stop_with_call(call, latest),
            before_sleep=_log_retry,
            reraise=True,
        )

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        named = error.retry_after if isinstance(error, APIError) else None
        if named is None:
            named = min(self.max_wait, self.initial_wait * 2 ** min(state.attempt_number - 1, 60))
        return named + random.uniform(0, self.jitter)

    def _wait_patiently(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, APIError) and is_rejection(error) and error.retry_after is None:
            return 0.0  # the pacer's turn is the wait
        return self._wait(state)


class _Unset(Enum):
    UNSET = "the client's own"


UNSET: Final = _Unset.UNSET
"""No choice was made: ``None`` is one, a single attempt."""

Retry: TypeAlias = RetryPolicy | tenacity.Retrying | None
RetryOption: TypeAlias = Retry | Literal[_Unset.UNSET]


def check_retry(retry: object) -> Retry:
    """Pass on what can be a retry policy.

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
    retry: Retry, call: Call, attempt: Callable[[], None], *, patient: bool = False
) -> None:
    """Make an attempt, and make it again for as long as the policy says; ``patient`` as there.

    Raises:
        APIError: what the last attempt raised.
    """
    if isinstance(retry, tenacity.Retrying):
        _ours_from(retry, call)(attempt)
        return
    try:
        attempt()
        return
    except APIError as error:
        failed = [error]

    # Only now, because most calls need no second attempt, and tenacity costs a tenth of a
    # request. To tenacity it looks as if it had made the first one itself.
    def attempt_or_first_failure() -> None:
        if failed:
            raise failed.pop()
        attempt()

    policy = retry or RetryPolicy(max_attempts=1)
    policy.retrying(call, patient=patient)(attempt_or_first_failure)


def _ours_from(retrying: tenacity.Retrying, call: Call) -> tenacity.Retrying:
    """A copy of the user's own, because a Retrying keeps the state of its last call."""
    own_stop, own_retry = retrying.stop, retrying.retry
    call_stops = _stop_with_call(call, call.deadline)

    def failed(state: tenacity.RetryCallState) -> bool:
        # An attempt that succeeds is an answer: rules about results have nothing to judge.
        return bool(state.outcome and state.outcome.failed and own_retry(state))

    return retrying.copy(
        # Its own way of sleeping is kept, unless it is tenacity's, which cannot be cancelled.
        sleep=call.cancel_token.sleep if retrying.sleep is tenacity.nap.sleep else retrying.sleep,
        stop=lambda state: own_stop(state) or call_stops(state),
        retry=failed,
        reraise=True,
        # Its value would be taken for an answer.
        retry_error_callback=None,
    )


class _stop_with_call(tenacity.stop.stop_base):  # noqa: N801  (named as tenacity's own)
    def __init__(self, call: Call, latest: float) -> None:
        self._call = call
        self._latest = latest

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        too_late = time.monotonic() + retry_state.upcoming_sleep >= self._latest
        return too_late or self._call.cancel_token.stopping.is_set()


PATIENCE: Final = 1.0
"""Seconds of a named wait that a thread sleeps through; for longer ones the prompt is put by."""


def is_put_by(error: BaseException | None) -> bool:
    """Whether a batch should hold the prompt, not a thread, until the site may take it."""
    return (
        is_rejection(error)
        and isinstance(error, APIError)
        and ((error.retry_after or 0) > PATIENCE)
    )


class _stop_after_failures(tenacity.stop.stop_base):  # noqa: N801  (named as tenacity's own)
    """Stop when so many attempts have failed, not counting those that the site turned away.

    Those that it asks to come back much later end too, for now.
    """

    def __init__(self, failures: int) -> None:
        self._left = failures

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        self._left -= not is_rejection(error)
        return self._left <= 0 or is_put_by(error)


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.info(
        "attempt %d failed (%s); the next one in %.1f s",
        state.attempt_number,
        type(error).__name__,
        state.upcoming_sleep,
    )
