"""The WSGI application: passes requests to the fronts, and what an engine produces to clients."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final

from ._access_log import AccessLogEntry, summary
from ._engines.engine import Engine, EngineError
from ._fronts.front import AnswerFormat, Front, Question, Request
from ._generation import Generation
from ._responses import RefusalError, Response, refusal

logger: Final = logging.getLogger(__name__)

POLL_INTERVAL: Final = 0.1
"""Seconds between two checks whether the client is still connected."""

Environ = dict[str, Any]


class App:
    """The gateway's WSGI application.

    Args:
        engine: produces the answers.
        fronts: the protocols that clients may use; the last one owns every path.
        max_streams: answers that may run at the same time.
        max_body: bytes that a request's body may have.
    """

    def __init__(
        self, engine: Engine, fronts: Sequence[Front], *, max_streams: int, max_body: int
    ) -> None:
        self._engine = engine
        self._fronts = fronts
        self._max_streams = max_streams
        self._max_body = max_body
        # Guards the two attributes below: no generation starts after stop(), and never more than
        # max_streams run. Never wait for an engine while holding it.
        self._lock = threading.Lock()
        self._running: set[Generation] = set()
        self._stopping = False

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        entry = AccessLogEntry(
            _address(environ), f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        )
        front = next(front for front in self._fronts if front.owns(environ["PATH_INFO"]))
        try:
            response = self._respond(front, environ, entry)
        except RefusalError as error:
            response = front.refusal(error)
        except _AbortError:
            entry.outcome = "cut off"
            entry.write(499)
            raise
        except Exception:
            logger.exception("a request failed")
            response = front.refusal(refusal(500, "The gateway failed; its log has the reason."))
        if isinstance(response, _Stream):
            start_response("200 OK", list(response.format.headers))
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

    def _respond(self, front: Front, environ: Environ, entry: AccessLogEntry) -> Response | _Stream:
        handled = front.handle(self._request(environ))
        if isinstance(handled, Response):
            return handled
        disconnected = environ.get("waitress.client_disconnected", lambda: False)
        return self._answer(handled, disconnected, entry)

    def _request(self, environ: Environ) -> Request:
        body = environ["wsgi.input"].read(self._max_body + 1)
        if len(body) > self._max_body:
            raise refusal(413, f"The request is too large: {self._max_body} bytes are the limit.")
        return Request(
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"],
            {
                name[5:].replace("_", "-").lower(): value
                for name, value in environ.items()
                if name.startswith("HTTP_")
            },
            body,
            _address(environ),
            framed=environ["SERVER_PROTOCOL"] != "HTTP/1.0",
        )

    # --- answers ------------------------------------------------------------------------------

    def _answer(
        self, question: Question, disconnected: Callable[[], bool], entry: AccessLogEntry
    ) -> Response | _Stream:
        chunks = self._chunks(self._start(question), disconnected)
        received: list[str] = []
        try:
            received.append(next(chunks, ""))
            if not question.format.streamed:
                received.extend(chunks)
                return question.format.response("".join(received), None)
        except EngineError as error:
            entry.outcome = f"the model: {summary(error)}"
            return question.format.response("".join(received), error)
        entry.outcome = "cut off"  # until the stream has come to its end
        return _Stream(question.format, chain(received, chunks), chunks.close, entry)

    def _start(self, question: Question) -> Generation:
        with self._lock:
            if self._stopping:
                raise refusal(503, "The gateway is stopping.", Retry_After="1")
            if len(self._running) >= self._max_streams:
                raise refusal(
                    503,
                    f"All {self._max_streams} streams are in use: try again in a second.",
                    Retry_After="1",
                )
            generation = Generation(partial(question.ask, self._engine), self._ended)
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
class _Stream:
    """The ``app_iter`` of a streamed answer; the server always calls its ``close``."""

    format: AnswerFormat
    chunks: Iterator[str]
    cancel: Callable[[], None]
    entry: AccessLogEntry

    def __iter__(self) -> Iterator[bytes]:
        failure: EngineError | None = None
        try:
            for chunk in self.chunks:
                # The first one is empty if the answer is.
                if chunk:
                    self.entry.chunks += 1
                    yield self.format.chunk(chunk)
        except EngineError as error:
            failure = error
        ending = self.format.ending(failure)
        self.entry.outcome = f"incomplete: {summary(failure)}" if failure else ""
        if ending.body:
            yield ending.body
        if not ending.complete:
            raise _AbortError("the engine failed after its first chunk") from failure

    def close(self) -> None:
        """Stop the engine if it is still running, and log the request."""
        self.cancel()
        self.entry.write(200)


def _address(environ: Environ) -> str:
    address: str = environ.get("REMOTE_ADDR", "-")
    return address
