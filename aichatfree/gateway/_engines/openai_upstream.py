"""A model behind an OpenAI-compatible server: Ollama, vLLM, llama.cpp and the like."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, ClassVar, Final

from ..._arguments import check_number, check_optional_str
from ..._call import Call
from ..._cancellation import CancelToken, CancelTokens
from ..._protocol.dialects import OPENAI
from ..._protocol.error_bodies import error_words
from ..._protocol.limits import retry_after
from ..._protocol.messages import Message
from ..._protocol.responses import MAX_ERROR_BODY, one_line
from ..._protocol.server_sent_events import EventReader
from ..._protocol.sites import Site
from ..._wire.exchange import Exchange
from ..._wire.transport import Transport
from ...errors import AIChatFreeError, APIConnectionError, APIError, APITimeoutError
from ...timeout import Timeout
from .engine import Engine, EngineError, TokenLimitError, Usage, on_cancel

PATH: Final = "/chat/completions"
MODELS_PATH: Final = "/models"
CONNECT_TIMEOUT: Final = 5.0  # seconds
MIN_TIMEOUT: Final = 0.001  # seconds
MAX_EVENT: Final = 8 << 20
"""Bytes that one event of the server may have."""
MAX_RESPONSE: Final = 256 << 20
"""Bytes that one response may have."""


class OpenAIUpstream(Engine):
    """An engine that asks an OpenAI-compatible server. Any thread may use it, until :meth:`close`.

    >>> from aichatfree.gateway import OpenAIUpstream
    >>> OpenAIUpstream("http://127.0.0.1:11434/v1", "llama3.2", api_key="k3y")
    OpenAIUpstream('http://127.0.0.1:11434/v1/chat/completions', 'llama3.2')

    Args:
        base_url: what comes before ``/chat/completions``, such as ``http://127.0.0.1:11434/v1``.
        model: the model's name on that server.
        api_key: the server's key, if it needs one; never shown.
        timeout: seconds that the server may be silent, before its answer and within it.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    takes_images: ClassVar[bool] = True

    def __init__(
        self, base_url: str, model: str, api_key: str | None = None, *, timeout: float = 120.0
    ) -> None:
        check_number("timeout", timeout, min=MIN_TIMEOUT, unit="seconds")
        api_key = check_optional_str("api_key", api_key)
        site = Site(base_url)
        self._base_url = site.base_url
        self.models: Sequence[str] = [model]
        self._api_key = api_key
        self._timeout = timeout
        self._running = CancelTokens()
        self._transport = Transport(
            self._base_url,
            origin=site.origin,
            headers={"Accept": "text/event-stream", **_authorization(api_key)},
            max_reply_bytes=MAX_RESPONSE,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base_url + PATH!r}, {self.models[0]!r})"

    def check(self) -> None:
        """Check that the server can be reached and accepts the key, without asking its model.

        Raises:
            EngineError: it cannot be reached, it fails, or it refuses the key; with its URL.
        """
        failure: EngineError | None = None
        try:
            with closing(self._transport.get(MODELS_PATH, self._call(threading.Event()))) as reply:
                # Not every server has a list of models: a 404 is an answer, too.
                if reply.status >= 500 or reply.status in (401, 403):
                    failure = self._refusal(reply)
        except APIError as error:
            failure = self._engine_error(error)
        if failure is not None:
            raise EngineError(
                f"The model's server at {self._base_url} cannot be used: {failure.message} Check "
                "this URL, and api_key= (AICHATFREE_API_KEY).",
                status=failure.status,
            )

    def generate(
        self,
        messages: list[Message],
        *,
        temperature: float | None,
        max_tokens: int | None,
        cancelled: threading.Event,
    ) -> Iterator[str | Usage]:
        """The answer, chunk by chunk; see :class:`~aichatfree.gateway.Engine`."""
        body = {
            "model": self.models[0],
            "messages": OPENAI.encode(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        options = {"temperature": temperature, "max_tokens": max_tokens}
        body |= {name: value for name, value in options.items() if value is not None}
        try:
            call = self._call(cancelled)
            with closing(self._transport.post(PATH, json.dumps(body).encode(), call)) as exchange:
                if exchange.status != 200:
                    raise self._refusal(exchange)
                for item in _answer(_events(map(b"".join, exchange.chunks()))):
                    if cancelled.is_set():
                        return
                    yield item
        except AIChatFreeError as error:
            # The interruption of a cancelled answer is its normal end.
            if cancelled.is_set():
                return
            if isinstance(error, EngineError):
                raise
            raise self._engine_error(error) from error

    def _call(self, cancelled: threading.Event) -> Call:
        """A call that is cancelled with the caller's event, and also by :meth:`close`.

        ``close`` must not set the caller's event itself: it would then look as if the caller wanted
        no answer, and the error would be suppressed.
        """
        token = CancelToken()
        self._running.add(token)
        on_cancel(cancelled, token.set)
        return Call(Timeout(connect=CONNECT_TIMEOUT, read=self._timeout), token)

    def _refusal(self, exchange: Exchange) -> EngineError:
        text = exchange.read_up_to(MAX_ERROR_BODY).decode("utf-8", "replace")
        message, code = error_words(text)
        status = exchange.status
        if status < 400:
            return EngineError(f"The model's server answered {status} instead of 200.", status=502)
        if status == 401 and not code:
            # Otherwise clients would think that their own password was refused.
            code = "invalid_api_key"
        if self._api_key:
            message = message.replace(self._api_key, "***")
        return EngineError(
            one_line(message) or f"The model's server answered {status}.",
            status=_error_status(status),
            code=code or None,
            retry_after=retry_after(exchange.headers, text),
        )

    def _engine_error(self, error: AIChatFreeError) -> EngineError:
        if isinstance(error, APITimeoutError):
            return EngineError(
                f"The model's server did not accept the connection within {CONNECT_TIMEOUT:g} s, "
                f"or was silent for {self._timeout:g} s.",
                status=504,
                code="timeout",
            )
        if isinstance(error, APIConnectionError):
            return EngineError("fetch failed: the model's server cannot be reached.", code="fetch")
        if isinstance(error, APIError):
            return _incomplete()
        return EngineError("The connection to the model's server was closed.", status=503)

    def close(self) -> None:
        """Close the connections and end running answers; does nothing the second time."""
        # In this order: an answer either finds the transport closed, or its token is cancelled.
        self._transport.close()
        self._running.cancel_all()


def _authorization(api_key: str | None) -> dict[str, str]:
    if not api_key:
        return {}
    if not re.fullmatch("[!-~]+", api_key):
        raise ValueError(
            "api_key must not have spaces, line breaks or characters outside ASCII: copy it again"
        )
    return {"Authorization": f"Bearer {api_key}"}


def _answer(events: Iterable[str]) -> Iterator[str | Usage]:
    """The text of each event, and the usage; one of two marks says that the answer has ended."""
    reason: str | None = None
    usage: Usage | None = None
    for data in events:
        if data.strip() == "[DONE]":
            reason = reason or "stop"
            break
        event = _event(data)
        usage = _usage(event.get("usage")) or usage
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            if not isinstance(choice, dict):
                continue
            delta = choice.get("delta")
            text = delta.get("content") if isinstance(delta, dict) else None
            if isinstance(text, str) and text:
                yield text
            reason = str(choice.get("finish_reason") or "") or reason
    if usage is not None:
        yield usage
    if reason is None or reason in _INCOMPLETE:
        raise _INCOMPLETE[reason]()


def _event(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise EngineError("The model's server sent an event that is not a JSON object.", status=502)
    if event.get("error"):
        message, code = error_words(data)
        status = event["error"].get("code") if isinstance(event["error"], dict) else None
        raise EngineError(one_line(message), status=_error_status(status), code=code or None)
    return event


def _error_status(value: object) -> int:
    """The value if it is the status of an HTTP error; else 500."""
    return value if isinstance(value, int) and 400 <= value <= 599 else 500


def _usage(value: object) -> Usage | None:
    if not isinstance(value, dict):
        return None
    prompt, completion = value.get("prompt_tokens"), value.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(completion, int):
        return None
    return Usage(prompt, completion)


def _events(chunks: Iterable[bytes]) -> Iterator[str]:
    """The data of each server-sent event."""
    reader = EventReader(MAX_EVENT)
    for chunk in chunks:
        for event in reader.feed(chunk):
            yield event.data
        if reader.too_long:
            raise EngineError("The model's server sent an event that is too long.", status=502)
    for event in reader.finish():
        yield event.data


def _incomplete() -> EngineError:
    return EngineError(
        "The model's server ended its answer before it was complete.", status=502, code="cut_off"
    )


def _filtered() -> EngineError:
    return EngineError(
        "The model's server withheld its answer, or the rest of it, because of its content.",
        status=400,
        code="content_filter",
    )


_INCOMPLETE: Final[Mapping[str | None, Callable[[], EngineError]]] = {
    None: _incomplete,
    "error": _incomplete,
    "length": TokenLimitError,
    "content_filter": _filtered,
}
"""What the reasons mean with which a server can end an answer that is incomplete."""
