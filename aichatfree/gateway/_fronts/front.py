"""What the gateway requires of a front, and what a front makes of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..._protocol.messages import Message
from .._engines.engine import EngineError
from .._responses import Headers, Response


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
    """

    streamed: bool
    headers: Headers

    def chunk(self, text: str) -> bytes:
        """What is sent for a chunk of the answer; ``b""`` for nothing."""
        ...

    def ending(self, error: EngineError | None) -> Ending:
        """The end of a streamed answer, at least one chunk of which was sent.

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
    format: AnswerFormat


class Front(Protocol):
    """A protocol in which clients can ask."""

    def handle(self, request: Request) -> Response | Question | None:
        """What to do with a request; ``None`` if its path does not belong to this protocol.

        Raises:
            RefusalError: the request cannot be accepted.
        """
        ...
