"""What the gateway requires of a model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Protocol

from ..._protocol.messages import Message
from ...errors import AIChatFreeError


class EngineError(AIChatFreeError):
    """A model could not answer.

    Args:
        message: what happened and what to do next; clients see it.
        status: the HTTP status that fits; 400 means that the conversation itself was refused.
        code: a short name for the reason, such as ``"insufficient_quota"``.
        retry_after: seconds after which another attempt may succeed.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 500,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.retry_after = retry_after


class Engine(Protocol):
    """A model, or a way to reach one: any object with these two methods.

    >>> class Shouting:
    ...     def generate(self, messages, *, temperature, cancelled):
    ...         yield messages[-1]["content"].upper()
    ...
    ...     def close(self): ...
    >>> with aichatfree.gateway.Gateway(Shouting()) as gateway:
    ...     print(aichatfree.Client(gateway.url).generate("Hello"))
    HELLO
    """

    def generate(
        self,
        messages: list[Message],
        *,
        temperature: float | None,
        cancelled: threading.Event,
    ) -> Iterator[str]:
        """The answer, chunk by chunk; called from many threads at the same time.

        Args:
            messages: the conversation; the last message is to be answered.
            temperature: as the client asked, or ``None``.
            cancelled: set when nobody waits for the answer any more. Then stop soon, even while
                waiting for the next chunk.

        Raises:
            EngineError: there is no answer, or it is incomplete; at once or while iterating.
        """
        ...

    def close(self) -> None:
        """Release everything; running answers end."""
        ...
