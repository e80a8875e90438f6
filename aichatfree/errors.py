"""The errors that this package raises about requests.

::

    AIChatFreeError
    └── APIError
        ├── APIConnectionError           no connection, or it broke before the answer began
        │   └── APITimeoutError          a time limit was reached
        ├── APIStatusError               the site responded with an error
        │   ├── BadRequestError          400, 413, 422
        │   ├── AuthenticationError      401: password, signature, or the site's own key
        │   ├── PermissionDeniedError    403, including challenge pages
        │   ├── NotFoundError            404
        │   ├── RateLimitError           429, and other responses that mean it
        │   ├── OverloadedError          503, 529, and other responses that mean it
        │   └── ServerError              any other 5xx
        ├── StreamInterruptedError       the answer began but is incomplete
        ├── EmptyReplyError              the answer ended without any text
        ├── ReplyTooLargeError           the answer exceeded ``max_reply_bytes``
        └── ProtocolError                something else responded: a web page, a redirect

Wrong arguments are ``TypeError`` and ``ValueError``, raised before anything is sent.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Final

_FIELDS: Final = (
    "message",
    "reason",
    "status_code",
    "body",
    "retry_after",
    "attempts",
    "partial_text",
    "retryable",
    "fatal",
    "rejection",
    "possible_rejection",
    "limits",
)
"""The attributes of an :class:`APIError` that another process has to know."""


@dataclass(frozen=True)
class StatedLimits:
    """What a response says about the site's limits; ``None`` where it does not say it.

    >>> from aichatfree.testing import Answer, FakeSite
    >>> busy = Answer(status=429, body="Limit: 3 requests per minute. Try again in 20s.")
    >>> with FakeSite(busy) as site:
    ...     try:
    ...         aichatfree.Client(site.url, retry=None).generate("Hello")
    ...     except aichatfree.RateLimitError as error:
    ...         print(error.limits)
    StatedLimits(wait=20.0, requests=3.0, period=60.0, exhausted_until=None)

    Attributes:
        wait: seconds to wait before the next request.
        requests: how many requests are allowed in each ``period``.
        period: seconds; ``None`` beside a number of ``requests`` means that only the number was
            stated.
        exhausted_until: when a used-up quota is renewed, in seconds since the epoch.
    """

    wait: float | None = None
    requests: float | None = None
    period: float | None = None
    exhausted_until: float | None = None

    def __bool__(self) -> bool:
        return self != StatedLimits()


class AIChatFreeError(Exception):
    """The base of every error of this package."""


class APIError(AIChatFreeError):
    """A request failed.

    >>> from aichatfree.testing import Answer, FakeSite
    >>> with FakeSite(Answer("half of it", end="cut")) as site:
    ...     try:
    ...         aichatfree.Client(site.url, retry=None).generate("Hello")
    ...     except aichatfree.APIError as error:
    ...         print(type(error).__name__, "after", repr(error.partial_text))
    StreamInterruptedError after 'half of it'

    Attributes:
        message: what happened and what to do next.
        reason: what happened in a few words, such as ``"429"`` or ``"connection refused"``.
        status_code: the HTTP status of the response, or ``None`` where there was no response.
        body: the response's body as text, or ``None``; at most 64 KiB of it.
        retry_after: seconds that the site asked to wait, or ``None``.
        attempts: requests sent.
        partial_text: what had arrived of the answer; ``""`` if nothing had.
        retryable: whether the same request may succeed if it is sent again.
        fatal: whether every other request would fail in the same way, until a setting changes.
        rejection: whether the site rejected the request because it gets too many.
        possible_rejection: whether it may be a rejection although the response does not say so,
            such as nginx's page for a 503; if several come together, they count as rejections.
        limits: what the response says about the site's limits (:class:`StatedLimits`), or ``None``.
    """

    # What follows from an error is decided where its meaning is: these are the defaults of a class,
    # and the code that maps a response or a failure to an exception may decide otherwise.
    reason: str = "failed"
    retryable: bool = False
    fatal: bool = False
    rejection: bool = False
    possible_rejection: bool = False
    limits: StatedLimits | None = None
    max_retries: int | None = None
    """How many retries are worthwhile at most; ``None`` for as many as the policy allows."""

    # Every argument but the first is optional and is kept in __dict__, so that BaseException's own
    # pickling restores the complete error.
    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        status_code: int | None = None,
        body: str | None = None,
        retry_after: float | None = None,
        attempts: int = 1,
        partial_text: str = "",
        retryable: bool | None = None,
        fatal: bool | None = None,
        rejection: bool | None = None,
        possible_rejection: bool | None = None,
        limits: StatedLimits | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.body = body
        self.retry_after: float | None = (
            limits.wait if retry_after is None and limits else retry_after
        )
        self.attempts = attempts
        self.partial_text = partial_text
        if reason is None and status_code is not None and status_code >= 400:
            reason = str(status_code)
        decided = {
            "reason": reason,
            "retryable": retryable,
            "fatal": fatal,
            "rejection": rejection,
            "possible_rejection": possible_rejection,
            "limits": limits,
        }
        vars(self).update({name: value for name, value in decided.items() if value is not None})

    @property
    def stated_wait(self) -> float | None:
        """Seconds that the site asked to wait, or until its used-up quota is renewed."""
        until = self.limits.exhausted_until if self.limits else None
        if until is None:
            return self.retry_after
        return max(self.retry_after or 0.0, until - time.time())

    @property
    def is_text(self) -> bool:
        """Whether the error is a text with status 200 that reads like a refusal.

        The text may be a genuine answer, so a single such error says nothing about other prompts.
        """
        return isinstance(self, APIStatusError) and self.status_code == 200

    def to_dict(self) -> dict[str, Any]:
        """The error as plain data, for ``error_from_dict`` in another process."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        fields["limits"] = None if self.limits is None else asdict(self.limits)
        return {"type": type(self).__name__, **fields}

    def __str__(self) -> str:
        return f"{self.message} ({self.attempts} attempts)" if self.attempts > 1 else self.message


class APIConnectionError(APIError):
    """The site could not be reached, or the connection broke before the answer began."""

    reason = "no connection"
    retryable = True


class APITimeoutError(APIConnectionError):
    """A time limit was reached; ``partial_text`` has what had arrived."""

    reason = "time limit"


class APIStatusError(APIError):
    """The site responded with an error; see ``status_code`` and ``body``."""


class BadRequestError(APIStatusError):
    """The site refused the request itself; sending it again does not help."""


class AuthenticationError(APIStatusError):
    """The password or the signature is wrong, or the site's own key for its model is."""

    fatal = True


class PermissionDeniedError(APIStatusError):
    """The site, or the network in front of it, does not admit this client."""


class NotFoundError(APIStatusError):
    """There is no chat API at this URL."""

    fatal = True


class RateLimitError(APIStatusError):
    """Too many requests, or the quota is used up; ``retry_after`` has the wait if it is known."""

    reason = "rate limit"
    retryable = True
    rejection = True


class OverloadedError(APIStatusError):
    """The model behind the site is overloaded for now."""

    reason = "overloaded"
    retryable = True


class ServerError(APIStatusError):
    """The site failed; the request itself was not refused."""

    retryable = True


class StreamInterruptedError(APIError):
    """The answer was cut off; ``partial_text`` has what had arrived."""

    reason = "incomplete answer"
    retryable = True


class EmptyReplyError(APIError):
    """The answer ended without any text; it is retried once."""

    reason = "empty answer"
    retryable = True
    max_retries: int | None = 1


class ReplyTooLargeError(APIError):
    """The answer exceeded ``max_reply_bytes``; ``partial_text`` has what came before."""


class ProtocolError(APIError):
    """What responded does not speak this protocol."""

    fatal = True


def error_from_dict(data: dict[str, Any]) -> AIChatFreeError:
    """The error that :meth:`APIError.to_dict` described; an unknown type loses its fields."""
    fields = dict(data)
    kind = globals().get(fields.pop("type", ""))
    if isinstance(kind, type) and issubclass(kind, APIError):
        limits = fields.pop("limits", None)
        return kind(**fields, limits=limits and StatedLimits(**limits))
    return AIChatFreeError(fields.get("message", ""))
