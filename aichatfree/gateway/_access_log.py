"""The line that the gateway logs for each request."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field
from typing import Final

from .._protocol.meanings import advice_in
from .._protocol.responses import one_line
from .._wire.connection_errors import causes_of, reason
from ..errors import APIError, APIStatusError, StreamInterruptedError
from ._engines.engine import EngineError

logger: Final = logging.getLogger(__name__)

CLIENT_CLOSED_REQUEST: Final = 499
"""The status in the log when a client disconnected before its response began."""
CUT_OFF: Final = "cut off"
"""The outcome of a request until its response is complete."""
AS_ASKED: Final = "stopped at the client's max_tokens"
"""The outcome of a request whose answer is as long as the client allowed."""


@dataclass
class AccessLogEntry:
    """One request as the log shows it; never its text, password or signature.

    Attributes:
        address: the client's IP address.
        request: its method and path.
        status: of the response; as long as there is none, that of a client that disconnects.
        outcome: why there is no answer, or only a part of one; ``""`` if all is well.
        is_streamed: whether the response is a stream.
        chunks: those of a stream that were sent.
        started: when the request arrived (monotonic clock).
    """

    address: str
    request: str
    status: int = CLIENT_CLOSED_REQUEST
    outcome: str = CUT_OFF
    is_streamed: bool = False
    chunks: int = 0
    started: float = field(default_factory=time.monotonic)

    def respond(self, status: int, outcome: str = "") -> None:
        """Note the status of the response, and why it is not an answer."""
        self.status, self.outcome = status, outcome

    def write(self) -> None:
        """Log the line; called once, when the response is ready or the stream has ended."""
        logger.info(
            "%s %s %d, %s%.3f s%s",
            self.address,
            one_line(self.request, 100),
            self.status,
            f"{self.chunks} chunks, " if self.is_streamed else "",
            time.monotonic() - self.started,
            f", {self.outcome}" if self.outcome else "",
        )


def summary(error: EngineError) -> str:
    """What failed, without the words of a model's server or a site, which may be the question."""
    words = [str(error.status)]
    if error.code and re.fullmatch(r"[\w.-]{1,60}", error.code):
        words.append(error.code)
    _, *causes = causes_of(error)
    if causes:
        words.append(f"({reason(causes)})")
    cause = error.__cause__
    advice = _for_operator(cause) if isinstance(cause, APIError) else ""
    return " ".join(words) + (f": {advice}" if advice else "")


def _for_operator(error: APIError) -> str:
    """What to do about the failure of a site, which names the arguments of its client.

    The variables are left out, because those of the gateway have the same names.
    """
    has_sites_words = isinstance(error, (APIStatusError, StreamInterruptedError))
    advice = advice_in(error) if has_sites_words else error.message
    return re.sub(r" \(AICHATFREE_[^)]*\)", "", advice)
