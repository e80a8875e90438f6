"""The HTTP responses of the gateway that are not an answer, worded as those of the real sites."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from .._protocol.dialects import GEMINI, Dialect
from ._engines.engine import EngineError

Headers = tuple[tuple[str, str], ...]

ERROR_TYPE: Final = "text/plain;charset=UTF-8"
"""The sites label their JSON as plain text, and clients have to accept that."""


@dataclass(frozen=True)
class Response:
    """An HTTP response whose complete body is known."""

    status: int
    body: bytes
    headers: Headers = (("Content-Type", ERROR_TYPE),)

    @property
    def status_line(self) -> str:
        """The status and its usual name, as WSGI expects them."""
        return _status_line(self.status)


class RefusalError(Exception):
    """Raised where a request turns out to be unacceptable; has the response to send instead."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def refusal(status: int, message: str, **headers: str) -> RefusalError:
    """A refusal by the gateway; ``Retry_After="1"`` becomes a header."""
    extra = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return RefusalError(_error(status, {"message": message}, extra))


def engine_error_response(error: EngineError, dialect: Dialect) -> Response:
    """An engine's error before its first chunk, as a site of that dialect would report it."""
    if error.status == 400:
        return _error(400, {"message": error.message, "code": error.code})
    status = error.status if 400 <= error.status < 600 else 500
    if dialect == GEMINI:
        return _error(500, {"code": "Error", "message": _gemini_message(error, status)})
    wait = () if error.retry_after is None else (("Retry-After", str(_seconds(error))),)
    details = {"message": error.message, "type": error.code, "param": None, "code": error.code}
    return _error(status, details, wait)


def _gemini_message(error: EngineError, status: int) -> str:
    line = _status_line(status)
    message = f"[GoogleGenerativeAI Error]: Error fetching from : [{line}] {error.message}"
    if error.retry_after is None:
        return message
    delay = {
        "@type": "type.googleapis.com/google.rpc.RetryInfo",
        "retryDelay": f"{_seconds(error)}s",
    }
    return f"{message} {json.dumps([delay])}"


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Error"


def _seconds(error: EngineError) -> int:
    return math.ceil(error.retry_after or 0)


def _error(status: int, details: dict[str, Any], headers: Headers = ()) -> Response:
    body = json.dumps({"error": details}).encode()
    return Response(status, body, (("Content-Type", ERROR_TYPE), *headers))
