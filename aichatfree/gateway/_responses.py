"""Responses whose complete body is known, and refusals, which each front words in its own way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

Headers = tuple[tuple[str, str], ...]

JSON_AS_TEXT: Final = (("Content-Type", "text/plain;charset=UTF-8"),)
"""The chat sites label their JSON as plain text, and clients have to accept that."""


@dataclass(frozen=True)
class Response:
    """An HTTP response whose complete body is known."""

    status: int
    body: bytes
    headers: Headers = JSON_AS_TEXT


class RefusalError(Exception):
    """Raised where the gateway cannot accept a request.

    Attributes:
        status: of the response.
        message: what is wrong and what to do next.
        headers: of the response, besides those of its body.
        param: the field of the request that is wrong, if it is one.
        code: a short name for the reason, if there is one.
    """

    def __init__(
        self, status: int, message: str, headers: Headers, param: str | None, code: str | None
    ) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.headers = headers
        self.param = param
        self.code = code


def refusal(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    **headers: str,
) -> RefusalError:
    """A refusal by the gateway; ``Retry_After="1"`` becomes a header."""
    extra = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return RefusalError(status, message, extra, param, code)


def status_line(status: int) -> str:
    """The status and its usual name."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Error"


def wait_header(seconds: float | None) -> Headers:
    """``Retry-After`` with whole seconds, or nothing if the wait is not known."""
    return () if seconds is None else (("Retry-After", str(math.ceil(seconds))),)
