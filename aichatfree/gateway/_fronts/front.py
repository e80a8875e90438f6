"""What the gateway requires of a front, and what a front makes of a request."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from ..._protocol.messages import Message
from .._engines.engine import Engine, EngineError, TokenLimitError, Usage
from .._responses import Headers, RefusalError, Response, refusal


@dataclass(frozen=True)
class Request:
    """An HTTP request whose complete body has been received.

    Attributes:
        method: in capitals.
        path: decoded, without the query.
        headers: by their names in lower case.
        body: its bytes.
        address: the client's IP address.
        framed: whether the client would notice that a streamed answer is incomplete; an HTTP/1.0
            client would not, because there the end of the connection ends the body.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    address: str
    framed: bool

    def json_object(self) -> dict[str, Any]:
        """The body, which has to be a JSON object.

        Raises:
            RefusalError: it is not.
        """
        try:
            body = json.loads(self.body, parse_constant=_refuse_constant)
        # Deeply nested JSON raises RecursionError. From Python 3.14 on only the deepest does: the
        # rest is parsed and refused for what it contains. Nothing here descends into it.
        except (ValueError, RecursionError):
            raise refusal(400, "The request's body is not JSON.") from None
        if not isinstance(body, dict):
            raise refusal(400, "The request's body must be a JSON object.")
        return body


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


@dataclass(frozen=True)
class Ending:
    """How a streamed answer ends: its last bytes, and whether the body is complete or cut off."""

    body: bytes
    complete: bool


class AnswerFormat(Protocol):
    """How one answer is sent.

    Attributes:
        streamed: send each chunk as it arrives, or one response when the answer is complete.
        headers: those of a streamed answer.
        usage: set before the end of the answer, if the engine counts tokens.
    """

    streamed: bool
    headers: Headers
    usage: Usage | None

    def chunk(self, text: str) -> bytes:
        """What is sent for a chunk of the answer; ``b""`` for nothing."""
        ...

    def ending(self, error: EngineError | None) -> Ending:
        """The end of a streamed answer, the head of which was sent.

        Args:
            error: why the answer is incomplete; ``None`` if it is complete.
        """
        ...

    def response(self, text: str, error: EngineError | None) -> Response:
        """The response to a client that gets no stream, or whose answer failed before its start.

        Args:
            text: the answer, or as much of it as there is.
            error: why it is incomplete; ``None`` if it is complete.
        """
        ...


@dataclass(frozen=True)
class Question:
    """A request that was accepted: what an engine has to answer, and how the answer is sent."""

    messages: list[Message]
    temperature: float | None
    max_tokens: int | None
    format: AnswerFormat

    def ends_as_asked(self, error: EngineError) -> bool:
        """Whether an answer stopped at the limit of tokens that the client set.

        The engine's own limit may be lower, which is known only if the engine counts tokens.
        """
        if self.max_tokens is None or not isinstance(error, TokenLimitError):
            return False
        usage = self.format.usage
        return usage is None or usage.completion_tokens >= self.max_tokens

    def ask(self, engine: Engine, cancelled: threading.Event) -> Generator[str, None, None]:
        """The chunks of the engine's answer; called in the thread that runs the engine."""
        items = engine.generate(
            self.messages,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            cancelled=cancelled,
        )
        try:
            for item in items:
                if isinstance(item, Usage):
                    self.format.usage = item
                else:
                    yield item
        finally:
            # An engine may return any iterator, but a generator has to be closed.
            close = getattr(items, "close", None)
            if close is not None:
                close()


class Front(Protocol):
    """A protocol in which clients can ask."""

    def owns(self, path: str) -> bool:
        """Whether requests for this path are in this protocol."""
        ...

    def handle(self, request: Request) -> Response | Question:
        """What to do with a request for a path of this protocol.

        Raises:
            RefusalError: the request cannot be accepted.
        """
        ...

    def refusal(self, error: RefusalError) -> Response:
        """The response that tells a client of this protocol why its request was refused."""
        ...
