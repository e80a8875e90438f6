"""The signed protocol of the chat sites, in all its dialects."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NoReturn

from ..._arguments import check_number
from ..._protocol.dialects import Dialect
from ..._protocol.prompts import decode_messages
from .._auth import Authenticator
from .._engines.engine import EngineError
from .._responses import Headers, Response, engine_error_response, refusal
from .front import Ending, Question, Request

PLAIN_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"),)
GREETING: Final = b"""\
This is an aichatfree gateway: a chat site on this machine.
Use its address as base_url: aichatfree.Client(base_url="http://...").
"""


class ChatSiteFront:
    """Answers requests as the real sites do.

    Args:
        authenticator: decides who gets an answer.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._routes: dict[str, dict[str, Callable[[Request], Response | Question]]] = {
            "/": {"GET": self._greet, "HEAD": self._greet},
            "/api/auth": {"POST": self._auth},
            "/api/generate": {"POST": self._generate},
        }

    def handle(self, request: Request) -> Response | Question | None:
        """See :class:`Front`."""
        methods = self._routes.get(request.path)
        if methods is None:
            return None
        handler = methods.get(request.method)
        if handler is None:
            allowed = ", ".join(methods)
            raise refusal(405, f"Wrong method: use {allowed} here.", Allow=allowed)
        return handler(request)

    def _greet(self, request: Request) -> Response:
        return Response(200, GREETING, PLAIN_TEXT)

    def _auth(self, request: Request) -> Response:
        password = _json_object(request.body).get("pass")
        valid = self._authenticator.check_password(request.address, password)
        return Response(200, json.dumps({"code": 0 if valid else -1}).encode())

    def _generate(self, request: Request) -> Question:
        body = _json_object(request.body)
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
        return Question(messages, temperature, _PlainText(dialect, streamed=request.framed))


class _PlainText:
    """The text of the answer and nothing else; an incomplete one is cut off."""

    def __init__(self, dialect: Dialect, *, streamed: bool) -> None:
        self._dialect = dialect
        self.streamed = streamed
        self.headers: Headers = PLAIN_TEXT

    def chunk(self, text: str) -> bytes:
        return text.encode()

    def ending(self, error: EngineError | None) -> Ending:
        return Ending(b"", complete=error is None)

    def response(self, text: str, error: EngineError | None) -> Response:
        if error is not None:
            return engine_error_response(error, self._dialect)
        return Response(200, text.encode(), self.headers)


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    # Deeply nested JSON raises RecursionError. From Python 3.14 on only the deepest does: the
    # rest is parsed and refused for what it contains. Nothing here descends into it.
    except (ValueError, RecursionError):
        raise refusal(400, "The request's body is not JSON.") from None
    if not isinstance(body, dict):
        raise refusal(400, "The request's body must be a JSON object.")
    if not isinstance(body.get("pass"), (str, type(None))):
        raise refusal(400, "`pass` must be a string or null.")
    return body


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
