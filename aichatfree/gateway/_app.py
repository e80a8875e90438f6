"""The WSGI application: answers requests as the real sites do, with what an engine produces."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, NoReturn

from .._arguments import check_number
from .._protocol.dialects import GEMINI, Dialect
from .._protocol.messages import Message
from .._protocol.prompts import decode_messages
from ._access_log import AccessLogEntry, summary
from ._auth import Authenticator
from ._engines.engine import Engine, EngineError
from ._generation import Generation
from ._responses import Headers, RefusalError, Response, engine_error_response, refusal

logger: Final = logging.getLogger(__name__)

POLL_INTERVAL: Final = 0.1
"""Seconds between two checks whether the client is still connected."""
PLAIN_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"),)
GREETING: Final = b"""\
This is an aichatfree gateway: a chat site on this machine.
Use its address as base_url: aichatfree.Client(base_url="http://...").
"""

Environ = dict[str, Any]


class App:
    """The gateway's WSGI application.

    Args:
        engine: produces the answers.
        authenticator: decides who gets one.
        max_streams: answers that may run at the same time.
        max_body: bytes that a request's body may have.
    """

    def __init__(
        self, engine: Engine, authenticator: Authenticator, *, max_streams: int, max_body: int
    ) -> None:
        self._engine = engine
        self._authenticator = authenticator
        self._max_streams = max_streams
        self._max_body = max_body
        # Guards the two attributes below: no generation starts after stop(), and never more than
        # max_streams run. Never wait for an engine while holding it.
        self._lock = threading.Lock()
        self._running: set[Generation] = set()
        self._stopping = False
        self._routes: dict[str, dict[str, _Handler]] = {
            "/": {"GET": self._greet, "HEAD": self._greet},
            "/api/auth": {"POST": self._auth},
            "/api/generate": {"POST": self._generate},
        }

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        entry = AccessLogEntry(
            _address(environ), f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        )
        try:
            response = self._route(environ, entry)
        except RefusalError as error:
            response = error.response
        except _AbortError:
            entry.outcome = "cut off"
            entry.write(499)
            raise
        except Exception:
            logger.exception("a request failed")
            response = refusal(500, "The gateway failed; its log has the reason.").response
        if isinstance(response, _Stream):
            start_response("200 OK", list(response.headers))
            return response
        entry.write(response.status)
        length = ("Content-Length", str(len(response.body)))
        start_response(response.status_line, [*response.headers, length])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.body]

    # --- stopping -----------------------------------------------------------------------------

    def stop(self) -> None:
        """Refuse further questions; running answers continue."""
        with self._lock:
            self._stopping = True

    def join(self, timeout: float) -> bool:
        """Wait for all engines to end, for at most ``timeout`` seconds; whether they have."""
        deadline = time.monotonic() + timeout
        with self._lock:
            running = list(self._running)
        return all(each.join(max(0.0, deadline - time.monotonic())) for each in running)

    # --- requests -----------------------------------------------------------------------------

    def _route(self, environ: Environ, entry: AccessLogEntry) -> Response | _Stream:
        methods = self._routes.get(environ["PATH_INFO"])
        if methods is None:
            return Response(404, b"Not found")
        handler = methods.get(environ["REQUEST_METHOD"])
        if handler is None:
            allowed = ", ".join(methods)
            raise refusal(405, f"Wrong method: use {allowed} here.", Allow=allowed)
        return handler(environ, entry)

    def _greet(self, environ: Environ, entry: AccessLogEntry) -> Response:
        return Response(200, GREETING, PLAIN_TEXT)

    def _auth(self, environ: Environ, entry: AccessLogEntry) -> Response:
        password = self._body(environ).get("pass")
        valid = self._authenticator.check_password(_address(environ), password)
        return Response(200, json.dumps({"code": 0 if valid else -1}).encode())

    def _generate(self, environ: Environ, entry: AccessLogEntry) -> Response | _Stream:
        question = self._question(environ)
        disconnected = environ.get("waitress.client_disconnected", lambda: False)
        chunks = self._chunks(self._start(question), disconnected)
        headers = PLAIN_TEXT if question.dialect == GEMINI else ()
        try:
            first = next(chunks, "")
            if environ["SERVER_PROTOCOL"] == "HTTP/1.0":
                # There the end of the connection ends the body, and an incomplete answer would look
                # complete. So the answer is sent when it is complete, with its length.
                return Response(200, (first + "".join(chunks)).encode(), headers)
        except EngineError as error:
            entry.outcome = f"the model: {summary(error)}"
            return engine_error_response(error, question.dialect)
        entry.outcome = "cut off"  # until the stream has come to its end
        return _Stream(headers, chain([first], chunks), chunks.close, entry)

    def _question(self, environ: Environ) -> _Question:
        body = self._body(environ)
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
            _address(environ),
            body.get("pass"),
            timestamp=body.get("time"),
            signature=body.get("sign"),
            text=messages[-1]["content"],
        )
        return _Question(dialect, messages, temperature)

    def _body(self, environ: Environ) -> dict[str, Any]:
        raw = environ["wsgi.input"].read(self._max_body + 1)
        if len(raw) > self._max_body:
            raise refusal(413, f"The request is too large: {self._max_body} bytes are the limit.")
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

    # --- answers ------------------------------------------------------------------------------

    def _start(self, question: _Question) -> Generation:
        with self._lock:
            if self._stopping:
                raise refusal(503, "The gateway is stopping.", Retry_After="1")
            if len(self._running) >= self._max_streams:
                raise refusal(
                    503,
                    f"All {self._max_streams} streams are in use: try again in a second.",
                    Retry_After="1",
                )
            generation = Generation(
                self._engine, question.messages, question.temperature, self._ended
            )
            self._running.add(generation)
        return generation

    def _ended(self, generation: Generation) -> None:
        with self._lock:
            self._running.discard(generation)

    def _chunks(
        self, generation: Generation, disconnected: Callable[[], bool]
    ) -> Generator[str, None, None]:
        """The engine's chunks, for as long as the client is connected."""
        try:
            while True:
                if disconnected():
                    raise _AbortError("the client has disconnected")
                try:
                    chunk = generation.next_chunk(POLL_INTERVAL)
                except queue.Empty:
                    continue
                if chunk is None:
                    return
                yield chunk
        except (EngineError, _AbortError):
            raise
        except Exception as error:
            logger.exception("the engine failed")
            raise EngineError("The engine failed; the gateway's log has the reason.") from error
        finally:
            generation.cancel()


class _AbortError(OSError):
    """Makes waitress close the connection without the last chunk, and without a traceback."""


@dataclass(frozen=True)
class _Question:
    """A request that was accepted."""

    dialect: Dialect
    messages: list[Message]
    temperature: float | None


@dataclass(frozen=True)
class _Stream:
    """The ``app_iter`` of a streamed answer; the server always calls its ``close``."""

    headers: Headers
    chunks: Iterator[str]
    cancel: Callable[[], None]
    entry: AccessLogEntry

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self.chunks:
                # The first one is empty if the answer is.
                if chunk:
                    self.entry.chunks += 1
                    yield chunk.encode()
            self.entry.outcome = ""
        except EngineError as error:
            self.entry.outcome = f"incomplete: {summary(error)}"
            raise _AbortError("the engine failed after its first chunk") from error

    def close(self) -> None:
        """Stop the engine if it is still running, and log the request."""
        self.cancel()
        self.entry.write(200)


_Handler = Callable[[Environ, AccessLogEntry], Response | _Stream]


def _address(environ: Environ) -> str:
    address: str = environ.get("REMOTE_ADDR", "-")
    return address


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
