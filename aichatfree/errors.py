"""Every error that this package raises about a request.

::

    AIChatFreeError
    └── APIError
        ├── APIConnectionError           no connection, or it broke before the answer began
        │   └── APITimeoutError          one of the time limits ran out
        ├── APIStatusError               the site answered, and said no
        │   ├── BadRequestError          400, 413, 422
        │   ├── AuthenticationError      401: password, signature, or the site's own key
        │   ├── PermissionDeniedError    403, a challenge page included
        │   ├── NotFoundError            404
        │   ├── RateLimitError           429 and its disguises
        │   ├── OverloadedError          503, 529 and their disguises
        │   └── ServerError              any other 5xx
        ├── StreamInterruptedError       the answer began and did not come to its end
        ├── EmptyReplyError              the answer ended without a word
        ├── ReplyTooLargeError           the answer grew beyond ``max_reply_bytes``
        └── ProtocolError                something else answered: a web page, a redirect

Wrong arguments are ``TypeError`` and ``ValueError``, raised before anything is sent.
"""

from __future__ import annotations


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
        status_code: the HTTP status of the reply, or ``None`` where there was no reply.
        body: the reply's body as text, or ``None``; at most 64 KiB of it.
        retry_after: seconds that the site asked to wait, or ``None``.
        attempts: how often the request was sent.
        partial_text: what had arrived of the answer; ``""`` if nothing had.
    """

    # Every argument but the first is optional and lives in __dict__, so that
    # BaseException's own pickling restores the error whole.
    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        body: str | None = None,
        retry_after: float | None = None,
        attempts: int = 1,
        partial_text: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.body = body
        self.retry_after = retry_after
        self.attempts = attempts
        self.partial_text = partial_text

    def __str__(self) -> str:
        return f"{self.message} ({self.attempts} attempts)" if self.attempts > 1 else self.message


class APIConnectionError(APIError):
    """The site could not be reached, or the connection broke before the answer began."""


class APITimeoutError(APIConnectionError):
    """A time limit ran out; ``partial_text`` has what had arrived."""


class APIStatusError(APIError):
    """The site answered with an error; ``status_code`` and ``body`` have it."""


class BadRequestError(APIStatusError):
    """The site refused the request itself; sending it again does not help."""


class AuthenticationError(APIStatusError):
    """The password or the signature is wrong, or the site's own key for its model is."""


class PermissionDeniedError(APIStatusError):
    """The site, or the network in front of it, does not let this client in."""


class NotFoundError(APIStatusError):
    """There is no chat API at this URL."""


class RateLimitError(APIStatusError):
    """Too many requests, or the quota is used up; ``retry_after`` has the wait, if known."""


class OverloadedError(APIStatusError):
    """The model behind the site is overloaded for now."""


class ServerError(APIStatusError):
    """The site failed; the request itself was not refused."""


class StreamInterruptedError(APIError):
    """The answer broke off; ``partial_text`` has what had arrived."""


class EmptyReplyError(APIError):
    """The site ended its answer without any text."""


class ReplyTooLargeError(APIError):
    """The answer grew beyond ``max_reply_bytes``; ``partial_text`` has what came before."""


class ProtocolError(APIError):
    """What answered does not speak this protocol."""
