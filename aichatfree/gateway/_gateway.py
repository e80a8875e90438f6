"""The gateway: an engine, the application in front of it, and the server that runs it."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from ._app import App
from ._engines.engine import Engine
from ._engines.smollm2 import SmolLM2
from ._engines.weights import missing_extra

logger: Final = logging.getLogger("aichatfree.gateway")


class Gateway:
    """A chat site on this machine, in both dialects of the protocol.

    It serves from the moment it is made until :meth:`close`, or to the end of its ``with`` block.
    Every request becomes one INFO line of the logger ``aichatfree.gateway``.

    >>> from aichatfree.gateway import Gateway, OpenAIUpstream
    >>> ollama = OpenAIUpstream("http://127.0.0.1:11434/v1", "llama3.2")
    >>> with Gateway(ollama, secret="s3cret") as gateway:
    ...     aichatfree.Client(gateway.url, secret="s3cret")
    Client('http://127.0.0.1:...', dialect='gemini')

    Args:
        engine: what answers; ``None`` for :class:`SmolLM2`. One that is given is not closed here.
        host: the address to listen on.
        port: the port to listen on; 0 for any free one.
        secret: the key of the signatures.
        password: the password or passwords that clients may use; ``None`` lets everybody in.
            After three wrong ones an address has to wait before another is looked at.
        time_window: seconds that a request's ``time`` may be off; ``None`` for any time.
        max_streams: answers that may run at once; further questions are refused with a 503.
        max_body: bytes that a request's body may have.
        refuse_replays: refuse a signature that was used before, with a 401; needs a
            ``time_window``. It holds for as long as the gateway runs. The same text at the same
            ``time`` has the same signature, so of two honest questions with the same text in the
            same millisecond (second, for clients that count seconds) the later one is refused too.

    Raises:
        ImportError: the extra ``local`` is not installed.
        OSError: the address cannot be had.
        TypeError, ValueError: an argument is wrong; so is a ``host`` that others can reach,
            unless there are a secret and a password.
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
        max_streams: int = 32,
        max_body: int = 1_000_000,
        refuse_replays: bool = False,
    ) -> None:
        passwords = _passwords(password)
        if not isinstance(secret, str):
            raise TypeError(f"the secret must be a str, not {type(secret).__name__}")
        for name, number in (("port", port), ("max_streams", max_streams), ("max_body", max_body)):
            if isinstance(number, bool) or not isinstance(number, int):
                raise TypeError(f"{name} must be a whole number, not {type(number).__name__}")
        if not 0 <= port <= 65535:
            raise ValueError(f"port must be from 0 to 65535, not {port}")
        if not 1 <= max_streams <= 1000:
            raise ValueError("max_streams must be from 1 to 1000: each is a thread")
        if not 1 <= max_body <= 1 << 30:
            raise ValueError("max_body must be from 1 byte to 1 GiB")
        if time_window is not None and not time_window > 0:
            raise ValueError("time_window must be above 0 seconds")
        if engine is not None and not callable(getattr(engine, "generate", None)):
            raise TypeError("an engine has generate() and close(), as SmolLM2 has")
        if not _is_loopback(host) and not (secret and passwords):
            raise ValueError(
                f"others can reach {host!r}: set both secret= and password= (aichatfree serve: "
                "AICHATFREE_SECRET and AICHATFREE_PASSWORD), or stay on 127.0.0.1"
            )
        try:
            from ._server import WSGIServer
        except ImportError:
            raise ImportError(missing_extra("waitress")) from None
        self._own: SmolLM2 | None = None
        if engine is None:
            engine = self._own = SmolLM2()
        self._app = App(
            engine,
            secret=secret,
            passwords=passwords,
            time_window=time_window,
            max_streams=max_streams,
            max_body=max_body,
            refuse_replays=refuse_replays,
        )
        bound = _bind(host, port)
        self.url: str = _url(host, bound)
        self._server = WSGIServer(self._app, bound, max_streams=max_streams, max_body=max_body)
        self._lock = threading.Lock()
        self._closed = False

    def close(self, grace: float = 5.0) -> None:
        """Stop: no new questions, and running answers may finish for a while.

        What has not finished then breaks off, so that no client takes it for a whole answer.
        Does nothing the second time.

        Args:
            grace: seconds that running answers may take to finish.

        Raises:
            TypeError, ValueError: it is no number of seconds; the gateway runs on.
        """
        if isinstance(grace, bool) or not isinstance(grace, (int, float)):
            raise TypeError(f"grace must be a number of seconds, not {type(grace).__name__}")
        if not grace >= 0:
            raise ValueError("grace must not be negative")
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._app.stop()
            self._server.stop(grace)
            if not self._app.join(2.0):
                logger.warning("an engine did not stop when it was told to")
            if self._own is not None:
                self._own.close()

    def __enter__(self) -> Gateway:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Gateway {self.url}{' closed' if self._closed else ''}>"


def _passwords(password: str | Sequence[str] | None) -> list[str]:
    if password is None:
        return []
    passwords = [password] if isinstance(password, str) else list(password)
    if not all(isinstance(each, str) for each in passwords):
        raise TypeError("password takes a str, a sequence of str, or None")
    if not passwords or not all(passwords):
        raise ValueError("a password must not be empty: use None for no password")
    return passwords


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot listen on {host} port {port} ({error.strerror}): choose another port, or 0 "
            "for a free one",
        ) from None


def _url(host: str, bound: socket.socket) -> str:
    try:
        if not host or ipaddress.ip_address(host).is_unspecified:
            host = "::1" if bound.family == socket.AF_INET6 else "127.0.0.1"
    except ValueError:
        pass
    port = bound.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
