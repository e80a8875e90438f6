"""The circuit breaker: when to stop a run because the remaining prompts would fail too."""

from __future__ import annotations

import math
import threading
from typing import Any, Final

from .._slot_queue import SlotQueue, run_again_in
from ..errors import APIConnectionError, APIError, PermissionDeniedError

MAX_UNREACHABLE: Final = 32
"""Failures to reach the site, with no answer between them, that stop a run."""

MAX_FATAL_TEXTS: Final = 3
"""Texts that were read as fatal refusals, with no answer between them, that stop a run."""


class CircuitBreaker:
    """Opens, once and for good, when it is pointless to send more prompts of a run.

    It opens after a fatal error (a wrong password, an unknown host), or, where that is only a text
    that could be an answer, after ``MAX_FATAL_TEXTS`` of them; after ``MAX_UNREACHABLE`` prompts in
    a row that did not reach the site; after more failures than the user allows; and when the site's
    quota is exhausted.

    Args:
        rate_limiter: says when the site's quota is exhausted.
        max_errors: failures allowed; ``None`` allows any number.
        stopping: set as soon as it opens, so that no thread begins another prompt.
    """

    def __init__(
        self, rate_limiter: SlotQueue[Any], max_errors: int | None, stopping: threading.Event
    ) -> None:
        self._rate_limiter = rate_limiter
        self._max_errors = math.inf if max_errors is None else max_errors
        self._stopping = stopping
        # Guards the counts and the reason; all threads of a run record their results. Nothing slow
        # may be done while holding it.
        self._lock = threading.Lock()
        self._failures = 0
        self._unreachable = 0
        self._fatal_texts = 0
        self._reason: str | None = None

    def record(self, error: Exception | None) -> None:
        """Note the error of one prompt, or that it was answered."""
        if error is None:
            # Without the lock: counts that are off by one are good enough.
            self._unreachable = self._fatal_texts = 0
            return
        with self._lock:
            self._failures += 1
            self._unreachable += isinstance(error, (APIConnectionError, PermissionDeniedError))
            self._reason = self._reason or self._reason_after(error)
        if self._reason is not None:
            self._stopping.set()

    def reason(self) -> str | None:
        """Why it is open, as a sentence; ``None`` as long as it is closed."""
        exhausted = self._rate_limiter.exhausted
        if exhausted is not None and self._reason is None:
            return f"Stopped because {exhausted}"
        return self._reason

    def _reason_after(self, error: Exception) -> str | None:
        if self._unreachable >= MAX_UNREACHABLE:
            return (
                f"Stopped because the last {self._unreachable} prompts did not reach the site: "
                f"{error}"
            )
        if isinstance(error, APIError) and self._is_fatal(error):
            again = run_again_in(error.retry_after or 0.0).removeprefix(". ")
            return (
                f"Stopped because every prompt would fail like this one: {error} {again}".rstrip()
            )
        if self._failures > self._max_errors:
            return (
                f"Stopped because more than {self._max_errors} prompts failed. The last error: "
                f"{error}"
            )
        return None

    def _is_fatal(self, error: APIError) -> bool:
        """Whether every other prompt would fail in the same way, as far as can be told by now."""
        self._fatal_texts += error.fatal and error.is_text
        return error.fatal and (not error.is_text or self._fatal_texts >= MAX_FATAL_TEXTS)
