"""The line that the gateway logs for each request."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field
from typing import Final

from .._protocol.responses import one_line
from .._wire.connection_errors import causes_of, reason
from ._engines.engine import EngineError

logger: Final = logging.getLogger(__name__)


@dataclass
class AccessLogEntry:
    """One request as the log shows it; never its text, password or signature.

    Attributes:
        address: the client's IP address.
        request: its method and path.
        outcome: why there is no answer, or only a part of one; ``""`` if all is well.
        chunks: those of the answer that were sent.
        started: when the request arrived (monotonic clock).
    """

    address: str
    request: str
    outcome: str = ""
    chunks: int = 0
    started: float = field(default_factory=time.monotonic)

    def write(self, status: int) -> None:
        """Log the line; called once for each request, when its response is complete."""
        logger.info(
            "%s %s %d, %d chunks, %.3f s%s",
            self.address,
            one_line(self.request, 100),
            status,
            self.chunks,
            time.monotonic() - self.started,
            f", {self.outcome}" if self.outcome else "",
        )


def summary(error: EngineError) -> str:
    """What failed, without the message of a model's server, which may repeat the question."""
    words = [str(error.status)]
    if error.code and re.fullmatch(r"[\w.-]{1,60}", error.code):
        words.append(error.code)
    _, *causes = causes_of(error)
    if causes:
        words.append(f"({reason(causes)})")
    return " ".join(words)
