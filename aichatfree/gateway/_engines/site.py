"""A chat site, through a client of this package."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import ClassVar, Final, Protocol

from ..._protocol.error_bodies import error_words
from ..._protocol.messages import Message
from ..._protocol.responses import one_line
from ...errors import (
    AIChatFreeError,
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    EmptyReplyError,
    OverloadedError,
    RateLimitError,
    StreamInterruptedError,
)
from ...stream import Stream
from .engine import Engine, EngineError, on_cancel

MEANINGS: Final[dict[type[APIError], tuple[int, str, str]]] = {
    RateLimitError: (429, "rate_limit_exceeded", "limits its requests"),
    OverloadedError: (503, "overloaded", "is overloaded"),
    BadRequestError: (400, "bad_request", "refuses the question"),
    # Without the site's words, or clients would think that their own password was refused.
    AuthenticationError: (401, "invalid_api_key", "refuses the gateway, or its own key is wrong"),
    APITimeoutError: (504, "timeout", "does not answer in time"),
    APIConnectionError: (502, "connection_failed", "cannot be reached"),
    StreamInterruptedError: (502, "cut_off", "did not complete its answer"),
    EmptyReplyError: (502, "empty_reply", "sent an answer without text"),
    APIError: (502, "site_failed", "failed"),
}
"""The status, the code and what happened, for an error; of its first base class that is listed."""


class SiteClient(Protocol):
    """What the engine uses of a client."""

    def stream(self, prompt: list[Message], *, temperature: float | None = None) -> Stream:
        """The answer as it arrives."""
        ...

    def close(self) -> None:
        """Cancel all calls and close the connections."""
        ...


class SiteEngine(Engine):
    """An engine that asks a chat site: other programs can then use it through OpenAI's API.

    The client retries and keeps to the site's rate limit as usual. ``max_tokens`` is ignored,
    because chat sites do not have it, and so is the temperature in dialects without one. A model's
    reasoning is not part of its answer.

    >>> from aichatfree.gateway import Gateway, SiteEngine
    >>> with Gateway(SiteEngine(client)) as gateway:
    ...     print(aichatfree.Client(gateway.url).generate("Name a river."))
    The Nile.

    Args:
        client: a :class:`~aichatfree.Client` of the site; :meth:`close` closes it.
        models: the names that the gateway lists as its models. The site never sees them: requests
            to it name the client's own ``model``.

    Raises:
        TypeError, ValueError: ``models`` is not a list, or is empty.
    """

    takes_images: ClassVar[bool] = True  # where the dialect has none, the client says so

    def __init__(self, client: SiteClient, *, models: Sequence[str] = Engine.models) -> None:
        if isinstance(models, str):
            raise TypeError("models must be a list of names, not a str")
        if not models:
            raise ValueError("models must have at least one name")
        self._client = client
        self.models: Sequence[str] = models

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._client!r})"

    def generate(
        self,
        messages: list[Message],
        *,
        temperature: float | None,
        max_tokens: int | None,
        cancelled: threading.Event,
    ) -> Iterator[str]:
        """The answer, chunk by chunk; see :class:`~aichatfree.gateway.Engine`."""
        stream = self._stream(messages, temperature)
        on_cancel(cancelled, stream.cancel)
        try:
            with stream:
                for chunk in stream:
                    if cancelled.is_set():
                        return
                    yield chunk
        except APIError as error:
            if not cancelled.is_set():
                raise _engine_error(error) from error
        except AIChatFreeError as error:
            raise EngineError("The gateway's client is closed.", status=503) from error

    def _stream(self, messages: list[Message], temperature: float | None) -> Stream:
        try:
            try:
                return self._client.stream(messages, temperature=temperature)
            except ValueError:
                # If it was not the temperature, which some dialects lack, this one fails as well.
                return self._client.stream(messages)
        except (TypeError, ValueError) as error:
            raise EngineError(f"{error}.", status=400, code="invalid_messages") from error

    def close(self) -> None:
        """Close the client; running answers end."""
        self._client.close()


def _engine_error(error: APIError) -> EngineError:
    """What happened, for clients. The advice in the error is for the gateway's operator."""
    kind = next(kind for kind in type(error).__mro__ if kind in MEANINGS)
    status, code, what = MEANINGS[kind]
    words = _words_of_site(error)
    return EngineError(
        f"The site behind this gateway {what}{f': {words}' if words else '.'}",
        status=status,
        code=code,
        retry_after=error.retry_after,
        # The client retries only until the answer has begun.
        retried=not error.partial_text,
    )


def _words_of_site(error: APIError) -> str:
    if not isinstance(error, APIStatusError) or isinstance(error, AuthenticationError):
        return ""
    words = one_line(error_words(error.body or "")[0])
    return "" if words.startswith("<") else words  # a web page
