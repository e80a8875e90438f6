"""What the gateway says when it does not answer, in the words of the real sites."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from .._protocol.dialects import GEMINI, Dialect
from ._engines.engine import EngineError

Headers = tuple[tuple[str, str], ...]

# The sites call their JSON plain text, and clients must cope with it.
ERROR_TYPE = "text/plain;charset=UTF-8"


@dataclass(frozen=True)
class Reply:
    """A whole HTTP reply."""

    status: int
    body: bytes
    headers: Headers = (("Content-Type", ERROR_TYPE),)


class RefusalError(Exception):
    """Raised where a request turns out to be unacceptable."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def refusal(status: int, message: str, **headers: str) -> RefusalError:
    """A refusal of the gateway itself; ``Retry_After="1"`` becomes a header."""
    extra = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return RefusalError(_error(status, {"message": message}, extra))


def engine_reply(error: EngineError, dialect: Dialect) -> Reply:
    """An engine's error before its first word, as the site of that dialect would report it."""
    if error.status == 400:
        return _error(400, {"message": error.message, "code": error.code})
    status = error.status if 400 <= error.status < 600 else 500
    if dialect == GEMINI:
        return _error(500, {"code": "Error", "message": _google_words(error, status)})
    wait = () if error.retry_after is None else (("Retry-After", str(_seconds(error))),)
    details = {"message": error.message, "type": error.code, "param": None, "code": error.code}
    return _error(status, details, wait)


def status_line(status: int) -> str:
    """The status and its usual name, as WSGI wants them."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Error"


def _google_words(error: EngineError, status: int) -> str:
    words = (
        f"[GoogleGenerativeAI Error]: Error fetching from : [{status_line(status)}] {error.message}"
    )
    if error.retry_after is None:
        return words
    delay = {
        "@type": "type.googleapis.com/google.rpc.RetryInfo",
        "retryDelay": f"{_seconds(error)}s",
    }
    return f"{words} {json.dumps([delay])}"


def _seconds(error: EngineError) -> int:
    return math.ceil(error.retry_after or 0)


def _error(status: int, details: dict[str, Any], headers: Headers = ()) -> Reply:
    body = json.dumps({"error": details}).encode()
    return Reply(status, body, (("Content-Type", ERROR_TYPE), *headers))
