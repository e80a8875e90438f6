"""Time limits: ``Timeout`` as users set it, and what one call has left of it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Final, TypeAlias

from ._cancellation import CancelToken
from .errors import APITimeoutError

_UNLIMITED: Final = 100_000_000
"""Seconds, three years, from which on a limit counts as none: sockets and locks take no more."""


@dataclass(frozen=True)
class Timeout:
    """Time limits in seconds; ``None`` is no limit.

    >>> aichatfree.Timeout(read=120, total=600)
    Timeout(connect=10, read=120, total=600)
    >>> print(client.generate("Name a river.", timeout=aichatfree.Timeout(total=30)))
    The Nile.

    Attributes:
        connect: to reach the site: each address it has, and the TLS handshake.
        read: the longest silence, before the answer begins and within it.
        total: the whole call, with all its retries and the waits between them; in a batch, from
            the moment on when the prompt's first request may leave.
    """

    connect: float | None = 10
    read: float | None = 60
    total: float | None = None

    def __post_init__(self) -> None:
        for name in ("connect", "read", "total"):
            seconds = getattr(self, name)
            if seconds is None:
                continue
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
                raise TypeError(f"Timeout({name}=...) takes seconds, not {type(seconds).__name__}")
            if not seconds > 0:
                raise ValueError(f"Timeout({name}={seconds}) must be more than 0 seconds")
            if seconds > _UNLIMITED:
                object.__setattr__(self, name, None)


TimeLimit: TypeAlias = Timeout | float


def timeout_from(timeout: object) -> Timeout:
    """A ``Timeout`` as it is; a number of seconds as its ``connect`` and ``read``.

    Raises:
        TypeError, ValueError: it is neither, or not positive.
    """
    if isinstance(timeout, Timeout):
        return timeout
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(
            f"timeout= takes a Timeout or a number of seconds, not {type(timeout).__name__}"
        )
    return Timeout(connect=timeout, read=timeout)


class Call:
    """What one call of the user has left, over all its attempts: its deadline and its cancel token.

    Attributes:
        timeout: its time limits.
        cancel_token: set when the answer is no longer wanted.
        attempts: requests sent so far.
        first_byte_at: when the answer of the last attempt began to arrive (monotonic clock).
        started: when its total time limit began (monotonic clock).
        deadline: when the call has to be finished (monotonic clock), or infinity.
        last_attempt_before: when its retry policy allows no further attempt (monotonic clock), or
            infinity.
    """

    def __init__(
        self,
        timeout: Timeout,
        cancel_token: CancelToken | None = None,
        *,
        max_elapsed: float | None = None,
        starts_with_first_request: bool = False,
    ) -> None:
        """Begin a call.

        Args:
            timeout: its time limits.
            cancel_token: cancels it; a new one unless given.
            max_elapsed: seconds after which no further attempt may begin.
            starts_with_first_request: let the total time limit begin when the first request may be
                sent. In a batch, hundreds of prompts may wait for the rate limiter; that time must
                not count against them.
        """
        self.timeout = timeout
        self.cancel_token: CancelToken = cancel_token or CancelToken()
        self.attempts: int = 0
        self.first_byte_at: float | None = None
        self._max_elapsed = math.inf if max_elapsed is None else max_elapsed
        self._starts_with_first_request = starts_with_first_request
        self.start()

    def start(self) -> None:
        """Let the time limits begin now."""
        self.started: float = time.monotonic()
        total = math.inf if self._starts_with_first_request else self.timeout.total
        self.deadline: float = self.started + (total or math.inf)
        self.last_attempt_before: float = self.started + self._max_elapsed

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

    def deadline_error(self) -> APITimeoutError:
        """The error for a call that was not finished before its deadline."""
        return APITimeoutError(
            f"The call was not finished within its total of {self.timeout.total:g} s. Allow more "
            "with timeout=Timeout(total=...)."
        )
