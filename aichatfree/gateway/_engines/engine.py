"""What the gateway requires of a model."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from ..._arguments import check_number, check_optional_str
from ..._cancellation import CancelToken
from ..._protocol.messages import Message
from ...errors import AIChatFreeError

_MAX_WAIT: Final = 365 * 86400.0
"""Seconds."""


class EngineError(AIChatFreeError):
    """A model could not answer.

    Args:
        message: what happened and what to do next; clients see it.
        status: the HTTP status that fits, from 400 to 599; 400 means that the conversation itself
            was refused.
        code: a short name for the reason, such as ``"insufficient_quota"``.
        retry_after: seconds after which another attempt may succeed; a number that is negative or
            more than a year counts as ``None``.
        retried: whether the engine has retried in vain, so that clients need not retry too.

    Raises:
        TypeError, ValueError: an argument is wrong. If an engine causes this, the gateway logs it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 500,
        code: str | None = None,
        retry_after: float | None = None,
        retried: bool = False,
    ) -> None:
        if not isinstance(message, str):
            raise TypeError(f"message must be a str, not {type(message).__name__}")
        check_number("status", status, min=400, max=599, integer=True)
        check_optional_str("code", code)
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        known = retry_after is not None and 0 <= retry_after <= _MAX_WAIT
        self.retry_after: float | None = retry_after if known else None
        self.retried = retried


class TokenLimitError(EngineError):
    """The answer stopped at a token limit; raised after the last chunk."""

    def __init__(self) -> None:
        super().__init__(
            "The answer reached the limit of tokens before its end: ask for a shorter one.",
            status=502,
            code="length",
        )


@dataclass(frozen=True)
class Usage:
    """The tokens of an answer; an engine that counts them yields this once, after the last chunk.

    >>> aichatfree.gateway.Usage(prompt_tokens=9, completion_tokens=2)
    Usage(prompt_tokens=9, completion_tokens=2)

    Attributes:
        prompt_tokens: tokens of the conversation.
        completion_tokens: tokens of the answer.
    """

    prompt_tokens: int
    completion_tokens: int


class Engine(ABC):
    """A model, or a way to reach one.

    A subclass defines ``generate``, and ``close`` if there is something to release.

    >>> class Shouting(aichatfree.gateway.Engine):
    ...     def generate(self, messages, **options):
    ...         yield messages[-1]["content"].upper()
    >>> with aichatfree.gateway.Gateway(Shouting()) as gateway:
    ...     print(aichatfree.Client(gateway.url).generate("Hello"))
    HELLO

    Attributes:
        models: the names that clients see in a list of models.
        takes_images: whether messages may have images; otherwise they are refused.
        max_streams: answers that can be produced at once; a gateway asks for no more by default.
    """

    models: Sequence[str] = ("aichatfree",)
    takes_images: ClassVar[bool] = False
    max_streams: int = 32

    @abstractmethod
    def generate(
        self,
        messages: list[Message],
        *,
        temperature: float | None,
        max_tokens: int | None,
        cancelled: threading.Event,
    ) -> Iterator[str | Usage]:
        """The answer, chunk by chunk; called from many threads at the same time.

        Args:
            messages: the conversation; the last message is to be answered.
            temperature: as the client asked, or ``None``.
            max_tokens: the most tokens that the client wants, or ``None``.
            cancelled: set when the answer is no longer needed. The engine must then stop soon, even
                while it waits for the next chunk.

        Raises:
            TokenLimitError: after the last chunk, if the answer stopped at a token limit.
            EngineError: there is no answer, or it is incomplete; at once or while iterating.
        """

    def close(self) -> None:  # noqa: B027  (most engines have nothing to release)
        """Release everything; running answers end."""


@dataclass(frozen=True)
class _Action:
    """What a cancel token interrupts."""

    interrupt: Callable[[], None]


def on_cancel(cancelled: threading.Event, action: Callable[[], None]) -> None:
    """Call ``action`` once the event is set, in the thread that sets it; it must not block.

    Only the gateway's own events can do that. Of a plain ``threading.Event`` an engine has to ask
    before each chunk, so that a silent server delays the end.
    """
    if isinstance(cancelled, CancelToken):
        cancelled.interrupts(_Action(action))
