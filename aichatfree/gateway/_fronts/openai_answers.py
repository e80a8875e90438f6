"""Answers and errors in the form of OpenAI's API."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, Final

from .._engines.engine import EngineError, TokenLimitError, Usage
from .._responses import Headers, Response, wait_header
from .front import Ending

JSON_TYPE: Final = (("Content-Type", "application/json"),)
EVENT_STREAM: Final = (
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-cache"),
    ("X-Accel-Buffering", "no"),  # nginx would hold back the chunks otherwise
)
DONE: Final = b"data: [DONE]\n\n"

ERROR_TYPES: Final = {401: "authentication_error", 429: "rate_limit_error"}
"""Every other status below 500 is an ``invalid_request_error``, and the rest a ``server_error``."""

STATUSES_OF_ENGINES: Final = (400, 413, 422, 429)
"""Those below 500 that are also true of the request that the gateway got. A 401 is not: the key
that a model's server refuses is the gateway's own."""


class ChatCompletion:
    """One answer: a chat completion, or a stream of its chunks.

    An incomplete stream ends with an event that has the error, and is then cut off. Some clients
    notice only one of the two, and without either they take what has arrived for the answer.
    An answer that stopped at a token limit ends normally, because this API can say so.

    Args:
        model: the name that the client gave.
        streamed: whether it asked for a stream.
        include_usage: whether the stream ends with a count of tokens.
    """

    usage: Usage | None = None
    headers: Headers = EVENT_STREAM

    def __init__(self, model: str, *, streamed: bool, include_usage: bool) -> None:
        self.streamed = streamed
        self._include_usage = include_usage
        self._role = {"role": "assistant"}
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": f"chat.completion{'.chunk' if streamed else ''}",
            "created": int(time.time()),
            "model": model,
        }

    def chunk(self, text: str) -> bytes:
        """An event with this text."""
        return self._event({"content": text})

    def ending(self, error: EngineError | None) -> Ending:
        """The events after the last chunk."""
        if error is not None and not isinstance(error, TokenLimitError):
            return Ending(_event(_error(error.message, _status(error), code=error.code)), False)
        end = self._event({}, _finish_reason(error))
        if self._include_usage:
            end += _event({**self._head, "choices": [], "usage": self._counts()})
        return Ending(end + DONE, complete=True)

    def response(self, text: str, error: EngineError | None) -> Response:
        """The complete answer, or the error without it."""
        if error is not None and not isinstance(error, TokenLimitError):
            # After a part of the answer, what failed is the gateway, whatever the engine says.
            status = 502 if text else _status(error)
            stop = (("X-Should-Retry", "false"),) if error.retried else ()
            headers = (*wait_header(error.retry_after), *stop)
            param = "messages" if status == 400 else None
            return error_response(status, error.message, headers, param=param, code=error.code)
        if self.streamed:
            body = (self.chunk(text) if text else b"") + self.ending(error).body
            return Response(200, body, self.headers)
        message = {**self._role, "content": text, "refusal": None}
        choice = _choice("message", message, _finish_reason(error))
        completion = {**self._head, "choices": [choice], "usage": self._counts()}
        return Response(200, json.dumps(completion).encode(), JSON_TYPE)

    def _event(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = _choice("delta", self._role | delta, finish_reason)
        self._role = {}  # only in the first event
        return _event({**self._head, "choices": [choice]})

    def _counts(self) -> dict[str, int]:
        """The counts of tokens; zeros if they are not known, because clients expect numbers."""
        usage = self.usage or Usage(0, 0)
        return {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }


def error_response(
    status: int,
    message: str,
    headers: Headers = (),
    *,
    param: str | None = None,
    code: str | None = None,
) -> Response:
    """An error as OpenAI's server words it."""
    body = json.dumps(_error(message, status, param=param, code=code)).encode()
    return Response(status, body, (*JSON_TYPE, *headers))


def _error(
    message: str, status: int, *, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    usual = "server_error" if status >= 500 else "invalid_request_error"
    kind = ERROR_TYPES.get(status, usual)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _status(error: EngineError) -> int:
    passed_on = error.status in STATUSES_OF_ENGINES or error.status >= 500
    return error.status if passed_on else 502


def _choice(kind: str, value: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, kind: value, "logprobs": None, "finish_reason": finish_reason}


def _finish_reason(error: EngineError | None) -> str:
    return "stop" if error is None else "length"


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
