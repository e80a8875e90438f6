"""The WSGI application: checks requests as the real sites do, and streams what an engine says."""

from __future__ import annotations

import hmac
import json
import logging
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, NoReturn

from .._protocol.dialects import GEMINI, Dialect
from .._protocol.messages import Message, replace_surrogates
from .._protocol.prompts import decode_messages
from .._protocol.responses import one_line
from .._protocol.signing import generate_signature
from .._wire.connection_errors import causes_of, reason
from ._engines.engine import Engine, EngineError
from ._generation import Generation
from ._login_throttle import Guesses
from ._replay_cache import Replays
from ._responses import Headers, RefusalError, Reply, engine_reply, refusal, status_line

logger: Final = logging.getLogger("aichatfree.gateway")

POLL: Final = 0.1
"""Seconds between two looks whether the connection is still there."""
SAFE_INTEGER: Final = 2**53 - 1
"""The largest time that the sites, written in JavaScript, print digit by digit."""
GREETING: Final = b"""\
This is an aichatfree gateway: a chat site on this machine.
Use its address as base_url: aichatfree.Client(base_url="http://...").
"""

Environ = dict[str, Any]


class App:
    """The gateway's WSGI application; its arguments are those of :class:`Gateway`."""

    def __init__(
        self,
        engine: Engine,
        *,
        secret: str,
        passwords: Sequence[str],
        time_window: float | None,
        max_streams: int,
        max_body: int,
        refuse_replays: bool = False,
    ) -> None:
        if refuse_replays and time_window is None:
            raise ValueError("refuse_replays needs a time_window: it is how long replays are known")
        self._engine = engine
        self._secret = secret
        self._passwords = [_bytes(password) for password in passwords]
        self._time_window = time_window
        self._max_streams = max_streams
        self._max_body = max_body
        self._guesses = Guesses()
        self._replays = Replays(time_window) if refuse_replays and time_window else None
        self._lock = threading.Lock()
        self._running: set[Generation] = set()
        self._stopping = threading.Event()
        self._routes: dict[str, dict[str, Callable[[Environ, _Exchange], Reply | _Stream]]] = {
            "/": {"GET": self._greet, "HEAD": self._greet},
            "/api/auth": {"POST": self._auth},
            "/api/generate": {"POST": self._generate},
        }

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        exchange = _Exchange(environ)
        try:
            reply = self._route(environ, exchange)
        except RefusalError as error:
            reply = error.reply
        except _CutError:
            exchange.outcome = "cut off"
            exchange.log(499)
            raise
        except Exception:
            logger.exception("a request failed")
            reply = refusal(500, "The gateway failed; its log says why.").reply
        if isinstance(reply, _Stream):
            start_response("200 OK", list(reply.headers))
            return reply
        exchange.log(reply.status)
        length = ("Content-Length", str(len(reply.body)))
        start_response(status_line(reply.status), [*reply.headers, length])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [reply.body]

    # --- stopping -----------------------------------------------------------------------------

    def stop(self) -> None:
        """Refuse every new question; running answers go on."""
        self._stopping.set()

    def join(self, timeout: float) -> bool:
        """Whether all engines have ended, within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        with self._lock:
            running = list(self._running)
        return all(each.join(max(0.0, deadline - time.monotonic())) for each in running)

    # --- requests -----------------------------------------------------------------------------

    def _route(self, environ: Environ, exchange: _Exchange) -> Reply | _Stream:
        methods = self._routes.get(environ["PATH_INFO"])
        if methods is None:
            return Reply(404, b"Not found")
        handler = methods.get(environ["REQUEST_METHOD"])
        if handler is None:
            allowed = ", ".join(methods)
            raise refusal(405, f"Wrong method: use {allowed} here.", Allow=allowed)
        return handler(environ, exchange)

    def _greet(self, environ: Environ, exchange: _Exchange) -> Reply:
        return Reply(200, GREETING, (("Content-Type", "text/plain; charset=utf-8"),))

    def _auth(self, environ: Environ, exchange: _Exchange) -> Reply:
        right = self._let_in(environ, self._body(environ).get("pass"), signed=False)
        return Reply(200, json.dumps({"code": 0 if right else -1}).encode())

    def _generate(self, environ: Environ, exchange: _Exchange) -> Reply | _Stream:
        dialect, messages, temperature = self._checked(environ)
        gone = environ.get("waitress.client_disconnected", lambda: False)
        pieces = self._pieces(self._start(messages, temperature), gone)
        plain = (("Content-Type", "text/plain; charset=utf-8"),)
        headers = plain if dialect == GEMINI else ()
        try:
            first = next(pieces, "")
            if environ["SERVER_PROTOCOL"] == "HTTP/1.0":
                # There, the end of the connection is the end of the body, and a broken answer
                # would look whole. So it goes out in one piece, with its length.
                return Reply(200, (first + "".join(pieces)).encode(), headers)
        except EngineError as error:
            exchange.outcome = f"the model: {_why(error)}"
            return engine_reply(error, dialect)
        return _Stream(headers, first, pieces, exchange)

    def _body(self, environ: Environ) -> dict[str, Any]:
        raw = environ["wsgi.input"].read(self._max_body + 1)
        if len(raw) > self._max_body:
            raise refusal(413, f"The request is too large: {self._max_body} bytes are the limit.")
        try:
            body = json.loads(raw, parse_constant=_not_json)
        except (ValueError, RecursionError):
            raise refusal(400, "The request's body is not JSON.") from None
        if not isinstance(body, dict):
            raise refusal(400, "The request's body must be a JSON object.")
        if not isinstance(body.get("pass"), (str, type(None))):
            raise refusal(400, "`pass` must be a string or null.")
        return body

    def _checked(self, environ: Environ) -> tuple[Dialect, list[Message], float | None]:
        body = self._body(environ)
        try:
            dialect, messages = decode_messages(body.get("messages"))
        except ValueError as error:
            raise refusal(400, str(error)) from None
        temperature = body.get("temperature") if dialect.temperature else None
        if temperature is not None and not _is_temperature(temperature):
            raise refusal(400, "`temperature` must be a number from 0 to 2.")
        stamp: Any = body.get("time")
        sign: Any = body.get("sign")
        signed = self._is_signature(stamp, sign, messages[-1]["content"])
        if not self._let_in(environ, body.get("pass"), signed):
            raise refusal(401, "Invalid password.")
        if not signed:
            raise refusal(401, "Invalid signature.")
        self._check_time(stamp)
        self._check_replay(sign)
        return dialect, messages, temperature

    def _let_in(self, environ: Environ, given: str | None, signed: bool) -> bool:
        """Whether the password is right, unless too many were wrong."""
        right = self._password_right(given)
        # No password is no guess: a client that asks whether one is needed must not have to wait.
        if not self._passwords or not given:
            return right
        wait = math.ceil(self._guesses.wait(environ.get("REMOTE_ADDR", "-"), signed, right))
        if wait:
            sentence = f"Too many wrong passwords: try again in {wait} s."
            raise refusal(429, sentence, Retry_After=str(wait))
        return right

    def _password_right(self, given: str | None) -> bool:
        if not self._passwords:
            return True
        # A sum, which looks at all of them: the time taken must not tell which it was.
        return sum(hmac.compare_digest(_bytes(given or ""), each) for each in self._passwords) > 0

    def _is_signature(self, stamp: object, sign: object, text: str) -> bool:
        if type(stamp) is not int or abs(stamp) > SAFE_INTEGER or not isinstance(sign, str):
            return False
        right = generate_signature(stamp, text, self._secret)
        return hmac.compare_digest(_bytes(sign), _bytes(right))

    def _check_time(self, stamp: int) -> None:
        if self._time_window is None:
            return
        seconds = stamp / 1000 if stamp > 100_000_000_000 else stamp
        ahead = seconds - time.time()
        if abs(ahead) > self._time_window:
            raise refusal(
                401,
                f"Invalid signature: the client's clock is {abs(ahead):.0f} s "
                f"{'ahead of' if ahead > 0 else 'behind'} the server's; set it right.",
            )

    def _check_replay(self, sign: str) -> None:
        if self._replays is None:
            return
        try:
            new = self._replays.is_new(sign)
        except OverflowError:
            sentence = "Too many signatures to remember: try again in a while."
            raise refusal(503, sentence, Retry_After="10") from None
        if not new:
            raise refusal(401, "Invalid signature: a replay of an earlier request; sign anew.")

    # --- answers ------------------------------------------------------------------------------

    def _start(self, messages: list[Message], temperature: float | None) -> Generation:
        with self._lock:
            if self._stopping.is_set():
                raise refusal(503, "The gateway is stopping.", Retry_After="1")
            if len(self._running) >= self._max_streams:
                raise refusal(
                    503,
                    f"All {self._max_streams} streams are in use: try again in a second.",
                    Retry_After="1",
                )
            generation = Generation(self._engine, messages, temperature, self._ended)
            self._running.add(generation)
        return generation

    def _ended(self, generation: Generation) -> None:
        with self._lock:
            self._running.discard(generation)

    def _pieces(self, generation: Generation, gone: Callable[[], bool]) -> Generator[str]:
        """The engine's pieces, for as long as the connection is there."""
        try:
            while True:
                if gone():
                    raise _CutError("the connection is closed")
                try:
                    piece = generation.piece(POLL)
                except queue.Empty:
                    continue
                if piece is None:
                    return
                yield piece
        except (EngineError, _CutError):
            raise
        except Exception as error:
            logger.exception("the engine failed")
            raise EngineError("The engine failed; the gateway's log says why.") from error
        finally:
            generation.cancel()


class _CutError(OSError):
    """Makes waitress close the connection without the mark that ends a whole body, in silence."""


class _Stream:
    """A streamed answer; WSGI calls its ``close`` whatever becomes of it."""

    def __init__(
        self, headers: Headers, first: str, rest: Generator[str], exchange: _Exchange
    ) -> None:
        self.headers = headers
        self._first = first
        self._rest = rest
        self._exchange = exchange
        exchange.outcome = "cut off"

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in chain([self._first], self._rest):
                # An answer without a word has no chunk either.
                if piece:
                    self._exchange.chunks += 1
                    yield piece.encode()
            self._exchange.outcome = ""
        except EngineError as error:
            self._exchange.outcome = f"broken off: {_why(error)}"
            raise _CutError("the answer broke off") from error

    def close(self) -> None:
        """Stop the engine, if it still runs, and write the log line."""
        self._rest.close()
        self._exchange.log(200)


class _Exchange:
    """One request as the log shows it: never its text, password or signature."""

    def __init__(self, environ: Environ) -> None:
        self._who = environ.get("REMOTE_ADDR", "-")
        self._what = one_line(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}", 100)
        self._started = time.monotonic()
        self.chunks = 0
        self.outcome = ""

    def log(self, status: int) -> None:
        logger.info(
            "%s %s %d, %d chunks, %.3f s%s",
            self._who,
            self._what,
            status,
            self.chunks,
            time.monotonic() - self._started,
            f", {self.outcome}" if self.outcome else "",
        )


def _why(error: EngineError) -> str:
    """What failed, without the words of a model's server, which may repeat the question."""
    words = [str(error.status)]
    if error.code and re.fullmatch(r"[\w.-]{1,60}", error.code):
        words.append(error.code)
    _, *causes = causes_of(error)
    if causes:
        words.append(f"({reason(causes)})")
    return " ".join(words)


def _bytes(text: str) -> bytes:
    return replace_surrogates(text).encode()


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _is_temperature(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 2
