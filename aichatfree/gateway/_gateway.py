"""The gateway: an engine, the application in front of it, and the server that runs it."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Sequence
from enum import Enum
from typing import Final

from .._arguments import check_number
from ._app import App
from ._auth import Authenticator
from ._dependencies import import_dependency
from ._engines.engine import Engine
from ._engines.smollm2 import SmolLM2
from ._fronts.chat_sites import ChatSiteFront
from ._fronts.front import Front
from ._fronts.openai import OpenAIFront
from ._slots import Slots

logger: Final = logging.getLogger(__name__)

MAX_STREAMS: Final = 1000
"""Each stream needs a thread."""
MAX_BODY: Final = 1 << 30  # bytes
MIN_TIME_WINDOW: Final = 0.001  # seconds
ENGINE_TIMEOUT: Final = 2.0
"""Seconds that engines may take to stop after their clients were cut off."""


class GatewayState(Enum):
    """What a gateway does with a request."""

    SERVING = "serving"
    """It accepts requests."""
    STOPPING = "stopping"
    """It refuses new questions; running answers may complete."""
    CLOSED = "closed"
    """Its port is closed, and so are all connections."""


class Gateway:
    """A chat site on this machine, in both dialects of the protocol, with OpenAI's API at ``/v1``.

    It serves as soon as it is created, until :meth:`close` or the end of its ``with`` block. Any
    thread may close it. Each HTTP request is logged in one line at level INFO; configure the logger
    ``aichatfree.gateway``, the parent of all loggers in this package.

    >>> from aichatfree.gateway import Gateway, OpenAIUpstream
    >>> ollama = OpenAIUpstream("http://127.0.0.1:11434/v1", "llama3.2")
    >>> with Gateway(ollama, secret="s3cret") as gateway:
    ...     aichatfree.Client(gateway.url, secret="s3cret")
    Client('http://127.0.0.1:...', dialect='gemini')

    In OpenAI's API, the key is one of the passwords. There are no signatures, so ``time_window``
    and ``refuse_replays`` do not apply, and with a secret but no password it is closed.

    Args:
        engine: produces the answers; ``None`` for :class:`SmolLM2`. The gateway does not close an
            engine that it was given, because several gateways can share one.
        host: the address to listen on.
        port: the port to listen on; 0 for any free port.
        secret: the key of the signatures.
        password: the password or passwords that clients may use; ``None`` lets everybody in.
            After three wrong passwords an address has to wait before the next one is checked.
        time_window: seconds that a request's ``time`` may be off; ``None`` for any time.
        max_streams: answers that may run at once; further questions wait. ``None`` for as many as
            the engine can produce (its attribute ``max_streams``, 32 by default).
        queue_timeout: seconds that a question may wait for a running answer to end; then it is
            refused with a 503.
        max_body: bytes that a request's body may have.
        refuse_replays: refuse a signature that was used before, with a 401; needs a
            ``time_window``. Signatures are forgotten when the gateway is closed. The same text at
            the same ``time`` has the same signature. So if a client asks the same question twice in
            one millisecond (one second, for clients that count seconds), the second one is refused.
        allow_truncated: send an answer that stopped at a token limit to chat clients as if it were
            complete. Otherwise it is cut off. OpenAI's clients see it from ``finish_reason``.

    Raises:
        ImportError: the extra ``local`` is not installed, or a system library that it needs.
        OSError: it cannot listen on this address.
        TypeError, ValueError: an argument is wrong. A ``host`` that other machines can reach needs
            both a secret and a password.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        secret: str = "",
        password: str | Sequence[str] | None = None,
        time_window: float | None = None,
        max_streams: int | None = None,
        queue_timeout: float = 30.0,
        max_body: int = 1_000_000,
        refuse_replays: bool = False,
        allow_truncated: bool = False,
    ) -> None:
        passwords = _passwords(password)
        if not isinstance(secret, str):
            raise TypeError(f"secret must be a str, not {type(secret).__name__}")
        _check_limits(port, max_streams, queue_timeout, max_body, time_window)
        if not isinstance(engine, Engine | None):
            raise TypeError("engine must be an Engine, such as SmolLM2() or SiteEngine(client)")
        if not _is_loopback(host) and not (secret and passwords):
            raise ValueError(
                f"other machines can reach host={host!r}: set both secret= "
                "(AICHATFREE_SECRET) and password= (AICHATFREE_PASSWORD), or use 127.0.0.1"
            )
        authenticator = Authenticator(
            secret=secret,
            passwords=passwords,
            time_window=time_window,
            refuse_replays=refuse_replays,
        )
        import_dependency("aiohttp")
        from ._server import HTTPServer

        self._own_engine: SmolLM2 | None = None
        if engine is None:
            engine = self._own_engine = SmolLM2()
        if max_streams is None:
            max_streams = min(engine.max_streams, MAX_STREAMS)
        fronts: list[Front] = [
            OpenAIFront(authenticator, engine),
            ChatSiteFront(authenticator, allow_truncated=allow_truncated),
        ]
        self._app = App(engine, fronts, Slots(max_streams, queue_timeout))
        listener = _listen(host, port)
        self.url: str = _url(host, listener)
        self._server = HTTPServer(self._app, listener, max_streams=max_streams, max_body=max_body)
        # Held during all of close(), so that a second call returns when the first one has finished.
        # Nothing else takes it: a request that did would make close() wait for itself.
        self._closing = threading.Lock()
        self._state = GatewayState.SERVING

    def close(self, grace: float = 5.0) -> None:
        """Refuse new questions, let running answers complete for a while, and stop.

        Answers that are not complete by then are cut off in a way that their clients notice. Ctrl-C
        during that time cuts them off at once. Does nothing the second time.

        Args:
            grace: seconds that running answers may take to complete.

        Raises:
            TypeError, ValueError: ``grace`` is not a number of seconds; the gateway keeps serving.
        """
        check_number("grace", grace, min=0, unit="seconds")
        with self._closing:
            if self._state is GatewayState.CLOSED:
                return
            try:
                self._state = GatewayState.STOPPING
                self._stop(grace)
            except BaseException:  # Ctrl-C
                self._stop(grace=0)
                raise

    def _stop(self, grace: float) -> None:
        if not self._server.stop(grace):
            logger.warning("the server's thread did not end in time")
        if not self._app.join(ENGINE_TIMEOUT):
            logger.warning("an engine did not stop when it was told to")
        if self._own_engine is not None:
            self._own_engine.close()
        self._state = GatewayState.CLOSED

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        serving = self._state is GatewayState.SERVING
        return f"<Gateway {self.url}{'' if serving else f' {self._state.value}'}>"


def _check_limits(
    port: int,
    max_streams: int | None,
    queue_timeout: float,
    max_body: int,
    time_window: float | None,
) -> None:
    check_number("port", port, min=0, max=65535, integer=True)
    if max_streams is not None:
        check_number("max_streams", max_streams, min=1, max=MAX_STREAMS, integer=True)
    check_number("queue_timeout", queue_timeout, min=0, unit="seconds")
    check_number("max_body", max_body, min=1, max=MAX_BODY, integer=True, unit="bytes")
    if time_window is not None:
        check_number("time_window", time_window, min=MIN_TIME_WINDOW, unit="seconds")


def _passwords(password: str | Sequence[str] | None) -> list[str]:
    if password is None:
        return []
    passwords = [password] if isinstance(password, str) else password
    if not isinstance(passwords, Sequence) or not all(isinstance(each, str) for each in passwords):
        raise TypeError("password must be a str, a sequence of str, or None")
    if not passwords or not all(passwords):
        raise ValueError("password must not be empty: use None for no password")
    return list(passwords)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot listen on {host} port {port} ({error.strerror}): choose another port, or 0 "
            "for a free one",
        ) from None


def _url(host: str, listener: socket.socket) -> str:
    try:
        if not host or ipaddress.ip_address(host).is_unspecified:
            host = "::1" if listener.family == socket.AF_INET6 else "127.0.0.1"
    except ValueError:
        pass
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
