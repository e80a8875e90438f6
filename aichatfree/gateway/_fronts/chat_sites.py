"""The signed protocol of the chat sites, in all its dialects."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final

from ..._arguments import check_number
from ..._protocol.dialects import GEMINI, Dialect
from ..._protocol.prompts import decode_messages
from .._auth import Authenticator
from .._engines.engine import EngineError, TokenLimitError, Usage
from .._responses import (
    JSON_AS_TEXT,
    Headers,
    RefusalError,
    Response,
    refusal,
    status_line,
    wait_header,
)
from .front import Ending, Question, Request

PLAIN_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"),)
GREETING: Final = b"""\
This is an aichatfree gateway: a chat site on this machine.
Use its address as base_url: aichatfree.Client(base_url="http://...").
OpenAI's clients add /v1: OpenAI(base_url="http://.../v1").
"""


class ChatSiteFront:
    """Answers requests as the real sites do.

    Args:
        authenticator: decides who gets an answer.
        allow_truncated: treat an answer that stopped at a token limit as complete, because
            this protocol cannot tell the client of the limit. Otherwise such an answer is cut off.
    """

    def __init__(self, authenticator: Authenticator, *, allow_truncated: bool = False) -> None:
        self._authenticator = authenticator
        self._allow_truncated = allow_truncated
        self._routes: dict[str, dict[str, Callable[[Request], Response | Question]]] = {
            "/": {"GET": self._greet, "HEAD": self._greet},
            "/api/auth": {"POST": self._auth},
            "/api/generate": {"POST": self._generate},
        }

    def owns(self, path: str) -> bool:
        """All paths, so that this front comes last."""
        return True

    def refusal(self, error: RefusalError) -> Response:
        """See :class:`Front`."""
        return _error(error.status, {"message": error.message}, error.headers)

    def handle(self, request: Request) -> Response | Question:
        """See :class:`Front`."""
        methods = self._routes.get(request.path)
        if methods is None:
            return Response(404, b"Not found")
        handler = methods.get(request.method)
        if handler is None:
            allowed = ", ".join(methods)
            raise refusal(405, f"Wrong method: use {allowed} here.", Allow=allowed)
        return handler(request)

    def _greet(self, request: Request) -> Response:
        return Response(200, GREETING, PLAIN_TEXT)

    def _auth(self, request: Request) -> Response:
        password = _fields(request).get("pass")
        valid = self._authenticator.check_password(request.address, password)
        return Response(200, json.dumps({"code": 0 if valid else -1}).encode())

    def _generate(self, request: Request) -> Question:
        body = _fields(request)
        try:
            dialect, messages = decode_messages(body.get("messages"))
        except ValueError as error:
            raise refusal(400, str(error)) from None
        temperature = body.get("temperature") if dialect.temperature else None
        if temperature is not None:
            try:
                check_number("`temperature`", temperature, min=0, max=2)
            except (TypeError, ValueError) as error:
                raise refusal(400, f"{error}.") from None
        self._authenticator.check_request(
            request.address,
            body.get("pass"),
            timestamp=body.get("time"),
            signature=body.get("sign"),
            text=messages[-1]["content"],
        )
        plain_text = _PlainText(dialect, request.framed, self._allow_truncated)
        return Question(messages, temperature, None, plain_text)


class _PlainText:
    """The text of the answer; an incomplete one is cut off.

    If the cause is a token limit, clients would retry in vain. So it is appended, in the way in
    which sites append the errors of their models.
    """

    usage: Usage | None = None

    def __init__(self, dialect: Dialect, streamed: bool, allow_truncated: bool) -> None:
        self._dialect = dialect
        self._accepted = TokenLimitError if allow_truncated else ()
        self.streamed = streamed
        self.headers: Headers = PLAIN_TEXT

    def chunk(self, text: str) -> bytes:
        return text.encode()

    def ending(self, error: EngineError | None) -> Ending:
        complete = error is None or isinstance(error, self._accepted)
        if complete or not isinstance(error, TokenLimitError):
            return Ending(b"", complete)
        details = {"message": error.message, "code": error.code}
        return Ending(json.dumps({"error": details}).encode(), complete)

    def response(self, text: str, error: EngineError | None) -> Response:
        if error is None or isinstance(error, self._accepted):
            return Response(200, text.encode(), self.headers)
        return _engine_error(error, self._dialect)


def _fields(request: Request) -> dict[str, Any]:
    body = request.json_object()
    if not isinstance(body.get("pass"), (str, type(None))):
        raise refusal(400, "`pass` must be a string or null.")
    return body


def _engine_error(error: EngineError, dialect: Dialect) -> Response:
    """An engine's error before its first chunk, as a site of that dialect would report it."""
    if error.status == 400:
        return _error(400, {"message": error.message, "code": error.code})
    if dialect == GEMINI:
        return _error(500, {"code": "Error", "message": _gemini_message(error)})
    details = {"message": error.message, "type": error.code, "param": None, "code": error.code}
    return _error(error.status, details, wait_header(error.retry_after))


def _gemini_message(error: EngineError) -> str:
    line = status_line(error.status)
    message = f"[GoogleGenerativeAI Error]: Error fetching from : [{line}] {error.message}"
    if error.retry_after is None:
        return message
    delay = {
        "@type": "type.googleapis.com/google.rpc.RetryInfo",
        "retryDelay": f"{math.ceil(error.retry_after)}s",
    }
    return f"{message} {json.dumps([delay])}"


def _error(status: int, details: dict[str, Any], headers: Headers = ()) -> Response:
    return Response(status, json.dumps({"error": details}).encode(), (*JSON_AS_TEXT, *headers))
