"""OpenAI's API: chat completions and the list of models."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from .._auth import Authenticator
from .._engines.engine import Engine
from .._responses import RefusalError, Response, refusal
from .front import Question, Request
from .openai_answers import JSON_TYPE, ChatCompletion, error_response
from .openai_requests import read_request

PREFIX: Final = "/v1/"
CHAT: Final = "/v1/chat/completions"
MODELS: Final = "/v1/models"


class OpenAIFront:
    """Answers requests as OpenAI's server does, at all paths under ``/v1``.

    Args:
        authenticator: decides who gets an answer; the API key is the gateway's password.
        engine: whose models are listed.
    """

    def __init__(self, authenticator: Authenticator, engine: Engine) -> None:
        self._authenticator = authenticator
        self._engine = engine

    def owns(self, path: str) -> bool:
        """See :class:`Front`."""
        return f"{path}/".startswith(PREFIX)

    def refusal(self, error: RefusalError) -> Response:
        """See :class:`Front`."""
        return error_response(
            error.status, error.message, error.headers, param=error.param, code=error.code
        )

    def handle(self, request: Request) -> Response | Question:
        """See :class:`Front`."""
        method, handler = self._route(request.path)
        if request.method != method:
            raise refusal(405, f"Wrong method: use {method} here.", Allow=method)
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        token = key.strip() if scheme.lower() == "bearer" else None
        self._authenticator.check_bearer(request.address, token)
        return handler(request)

    def _route(self, path: str) -> tuple[str, Callable[[Request], Response | Question]]:
        if path == CHAT:
            return "POST", self._chat
        if path == MODELS or path.startswith(f"{MODELS}/"):
            return "GET", self._models
        raise refusal(
            404,
            f"This server has only {CHAT} and {MODELS} of OpenAI's API: set your client to chat "
            "completions.",
            code="unknown_url",
        )

    def _chat(self, request: Request) -> Question:
        asked = read_request(request.json_object(), images=self._engine.takes_images)
        if asked.stream and not request.framed:
            raise refusal(
                426,
                "A stream needs HTTP/1.1, because an incomplete answer looks complete in HTTP/1.0: "
                "set proxy_http_version 1.1 in nginx, or ask without stream.",
                Upgrade="HTTP/1.1",
            )
        completion = ChatCompletion(
            asked.model or self._engine.models[0],
            streamed=asked.stream,
            include_usage=asked.include_usage,
        )
        return Question(asked.messages, asked.temperature, asked.max_tokens, completion)

    def _models(self, request: Request) -> Response:
        if request.path == MODELS:
            models = [_model(name) for name in self._engine.models]
            return _json({"object": "list", "data": models})
        name = request.path.removeprefix(f"{MODELS}/")
        if name not in self._engine.models:
            message = f"This model does not exist here, only {', '.join(self._engine.models)}."
            raise refusal(404, message, param="model", code="model_not_found")
        return _json(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "aichatfree"}


def _json(value: dict[str, Any]) -> Response:
    return Response(200, json.dumps(value).encode(), JSON_TYPE)
