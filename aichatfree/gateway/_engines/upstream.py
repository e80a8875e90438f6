"""A model behind an OpenAI-compatible server: Ollama, vLLM, llama.cpp and the like."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError, ReadTimeoutError

from ..._protocol.messages import Message
from ..._protocol.limits import retry_after
from ..._protocol.responses import MAX_ERROR_BODY, one_line
from ..._protocol.sites import check_base_url
from .engine import EngineError

CONNECT_TIMEOUT: Final = 5.0
POLL: Final = 0.1
MAX_LINE: Final = 8 << 20
"""Bytes that one line of the server's event stream may have."""


class OpenAIUpstream:
    """An engine that asks an OpenAI-compatible server.

    >>> from aichatfree.gateway import OpenAIUpstream
    >>> OpenAIUpstream("http://127.0.0.1:11434/v1", "llama3.2", api_key="k3y")
    OpenAIUpstream('http://127.0.0.1:11434/v1/chat/completions', 'llama3.2')

    Args:
        base_url: what comes before ``/chat/completions``, such as ``http://127.0.0.1:11434/v1``.
        model: the model's name there.
        api_key: the server's key, if it wants one; never shown.
        timeout: seconds that the server may be silent, before its answer and within it.

    Raises:
        TypeError, ValueError: ``base_url`` is not a usable URL, or ``timeout`` is not positive.
    """

    def __init__(
        self, base_url: str, model: str, api_key: str | None = None, *, timeout: float = 120.0
    ) -> None:
        if timeout <= 0:
            raise ValueError(f"timeout is in seconds and must be above 0, not {timeout}")
        self._url = check_base_url(base_url) + "/chat/completions"
        self._model = model
        self._api_key = api_key
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r}, {self._model!r})"

    def generate(
        self,
        messages: list[Message],
        *,
        temperature: float | None,
        cancelled: threading.Event,
    ) -> Iterator[str]:
        """The answer, piece by piece; see :class:`~aichatfree.gateway.Engine`."""
        body: dict[str, Any] = {"model": self._model, "messages": messages, "stream": True}
        if temperature is not None:
            body["temperature"] = temperature
        connections = _Connections()
        with requests.Session() as session, _cut_once(cancelled, connections):
            session.mount("http://", connections)
            session.mount("https://", connections)
            try:
                with self._post(session, body) as response:
                    if response.status_code != 200:
                        raise self._refusal(response)
                    yield from _texts(response)
            except (EngineError, requests.RequestException, HTTPError, OSError) as error:
                # Cutting the connection is how a cancelled answer ends.
                if cancelled.is_set():
                    return
                if isinstance(error, EngineError):
                    raise
                raise self._failure(error) from error

    def _post(self, session: requests.Session, body: dict[str, Any]) -> requests.Response:
        return session.post(
            self._url,
            json=body,
            headers={"Accept": "text/event-stream", "Accept-Encoding": "identity"},
            # Given even without a key, so that ~/.netrc is left alone.
            auth=_Bearer(self._api_key),
            stream=True,
            timeout=(CONNECT_TIMEOUT, self._timeout),
            allow_redirects=False,
        )

    def _refusal(self, response: requests.Response) -> EngineError:
        text = response.raw.read(MAX_ERROR_BODY, decode_content=True).decode("utf-8", "replace")
        message, code = _server_words(text)
        if self._api_key:
            message = message.replace(self._api_key, "***")
        status = response.status_code
        if status < 400:
            return EngineError(f"The model's server answered {status} instead of 200.", status=502)
        if status == 401 and code is None:
            # So that clients do not take it for a refusal of their own password.
            code = "invalid_api_key"
        return EngineError(
            message or f"The model's server answered {status}.",
            status=status,
            code=code,
            retry_after=retry_after(response.headers, text),
        )

    def _failure(self, error: Exception) -> EngineError:
        if isinstance(error, (requests.ReadTimeout, ReadTimeoutError)):
            silent = f"The model's server was silent for {self._timeout:g} s."
            return EngineError(silent, status=504, code="timeout")
        if isinstance(error, requests.ConnectionError):
            return EngineError("fetch failed: the model's server cannot be reached.", code="fetch")
        return _cut_off()

    def close(self) -> None:
        """Nothing is kept between answers."""


class _Bearer(AuthBase):
    def __init__(self, api_key: str | None) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._api_key:
            request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


# --- cancelling -------------------------------------------------------------------------------


class _Connections(HTTPAdapter):
    """An adapter whose connections can be cut from another thread, even before any reply.

    ``raw.shutdown()`` needs a response, and most servers send nothing before the first token.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        sockets = self._sockets

        class Noted(type(pool).ConnectionCls):  # type: ignore[misc]
            def connect(self) -> None:
                super().connect()
                sockets.append(self.sock)

        pool.ConnectionCls = Noted
        return pool

    def cut(self) -> None:
        for opened in self._sockets:
            with suppress(OSError):
                # Not SSLSocket's own shutdown: it pulls the encryption away under the reader.
                socket.socket.shutdown(opened, socket.SHUT_RDWR)


@contextmanager
def _cut_once(cancelled: threading.Event, connections: _Connections) -> Iterator[None]:
    """Cuts the connections when ``cancelled`` is set while the block runs."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(POLL):
            if cancelled.is_set():
                connections.cut()

    watcher = threading.Thread(target=watch, name="upstream-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


# --- reading ----------------------------------------------------------------------------------


def _texts(response: requests.Response) -> Iterator[str]:
    finished = False
    for data in _events(response):
        if data.strip() == "[DONE]":
            return
        for choice in _choices(data):
            if not isinstance(choice, dict):
                continue
            delta = choice.get("delta")
            text = delta.get("content") if isinstance(delta, dict) else None
            if isinstance(text, str) and text:
                yield text
            finished = finished or choice.get("finish_reason") is not None
    if not finished:
        raise _cut_off()


def _choices(data: str) -> list[Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise EngineError("The model's server sent something that is not JSON.", status=502)
    if event.get("error"):
        message, code = _server_words(data)
        status = event["error"].get("code") if isinstance(event["error"], dict) else None
        raise EngineError(message, status=status if isinstance(status, int) else 500, code=code)
    choices = event.get("choices")
    return choices if isinstance(choices, list) else []


def _events(response: requests.Response) -> Iterator[str]:
    """The data of each server-sent event."""
    data: list[str] = []
    for line in _lines(response):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))
        elif not line and data:
            yield "\n".join(data)
            data = []
    if data:
        yield "\n".join(data)


def _lines(response: requests.Response) -> Iterator[bytes]:
    buffer = b""
    # read1 is live on bodies of every kind; iter_content waits for the end of unchunked ones.
    while block := response.raw.read1(65536, decode_content=True):
        *lines, buffer = (buffer + block).split(b"\n")
        if len(buffer) > MAX_LINE:
            raise EngineError("The model's server sent a line that is too long.", status=502)
        yield from (line.removesuffix(b"\r") for line in lines)
    yield buffer.removesuffix(b"\r")


def _server_words(text: str) -> tuple[str, str | None]:
    """The message and the code of an error, in any of the forms that servers give it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return one_line(text), None
    error = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return one_line(error if isinstance(error, str) else text), None
    message, code = error.get("message"), error.get("code") or error.get("type")
    return (
        one_line(message if isinstance(message, str) else text),
        code if isinstance(code, str) else None,
    )


def _cut_off() -> EngineError:
    return EngineError("The model's server broke off its answer.", status=502, code="cut_off")
