"""The scripted site of ``aichatfree.testing``."""

from __future__ import annotations

import hashlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from .._arguments import check_number
from ._answers import Answer, Raw, to_bytes
from ._connection import Connection
from ._requests import Request

_STOP_LIMIT = 10.0  # seconds
_MIN_TIMEOUT = 0.001  # seconds

_Result = str | Answer | Raw
_Item = _Result | Callable[[Request], _Result]


class FakeSite:
    """A chat site that answers from a script; it runs while its ``with`` block does.

    >>> from aichatfree.testing import FakeSite
    >>> with FakeSite(["one", lambda request: f"echo {request.text}"]) as site:
    ...     client = aichatfree.Client(site.url)
    ...     print(client.generate("Hi"), client.generate("Hi"))
    one echo Hi
    >>> len(site.requests)
    2

    Args:
        script: an iterable of items, which may be endless, or a single item. An item is a ``str``
            (an answer of one chunk), an `Answer`, a `Raw`, or a callable that is given the
            `Request` and returns one of those. Requests take items in order of arrival; the last
            item repeats.
        secret: the secret of the signature.
        password: the site's password; None accepts any.
        verify: reject a wrong password or signature with 401, as real sites do, without taking an
            item of the script. Otherwise only ``/api/auth`` checks the password.
        clock_offset: seconds by which the site's clock (its ``Date`` header) is fast.
        host: an IPv4 address or name to listen on; the port is any free one.
        idle_timeout: seconds after which a connection that waits for a request is closed.
        record: whether to keep requests in `requests`; a long benchmark does not need them.

    Attributes:
        url: the base URL, such as ``"http://127.0.0.1:54321"``, from the start of the block.
        requests: every `Request` so far, in order of arrival, on any path.

    Raises:
        TypeError: ``idle_timeout`` is not a number.
        ValueError: the script is empty, or ``idle_timeout`` is below a millisecond.
        RuntimeError: at the end of the block, if a callable or stream has not returned in 10 s.

    An exception in a callable, a stream or the script itself is answered with a 500 (or cuts off
    the answer), and is raised again at the end of the block, unless the block raises one itself.
    """

    def __init__(
        self,
        script: _Item | Iterable[_Item] = "Hello",
        *,
        secret: str = "",
        password: str | None = None,
        verify: bool = False,
        clock_offset: float = 0.0,
        host: str = "127.0.0.1",
        idle_timeout: float = 5.0,
        record: bool = True,
    ) -> None:
        check_number("idle_timeout", idle_timeout, min=_MIN_TIMEOUT, unit="seconds")
        if isinstance(script, (str, Answer, Raw)) or callable(script):
            script = [script]
        self._script = iter(script)
        try:
            self._item = next(self._script)
        except StopIteration:
            raise ValueError("the script is empty") from None
        self._script = itertools.chain([self._item], self._script)
        self._secret = secret
        self._password = password
        self._verify = verify
        self._clock_offset = clock_offset
        self._host = host
        self._idle_timeout = idle_timeout
        self._record = record
        # Guards the script together with `requests`, so that both have the same order, and the list
        # of connections. Only the script's own iterator runs while it is held.
        self._lock = threading.Lock()
        self._connections: list[Connection] = []
        self._errors: list[BaseException] = []
        self._stopping = False
        self.url: str
        self.requests: list[Request] = []

    def __enter__(self) -> FakeSite:
        self._listener = socket.create_server((self._host, 0), backlog=1024)
        self.url = f"http://{self._host}:{self._listener.getsockname()[1]}"
        self._acceptor = threading.Thread(target=self._accept, name="FakeSite", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._stopping = True
        # Closing a listener does not wake its accept() on every system; a connection does.
        with suppress(OSError):
            socket.create_connection(self._listener.getsockname()).close()
        self._acceptor.join()
        self._listener.close()
        self.drop_connections()
        deadline = time.monotonic() + _STOP_LIMIT
        for connection in self._connections:
            connection.join(max(0.0, deadline - time.monotonic()))
        if kind is not None:
            return
        if self._errors:
            raise self._errors[0]
        if any(connection.alive for connection in self._connections):
            raise RuntimeError("a callable or a stream of FakeSite's script does not return")

    def drop_connections(self) -> None:
        """Close every open connection at once, in the middle of an answer or idle."""
        with self._lock:
            for connection in self._connections:
                connection.drop()

    def _accept(self) -> None:
        for number in itertools.count(1):
            try:
                sock, _ = self._listener.accept()
            except OSError:  # out of file descriptors, or the client has disconnected already
                time.sleep(0.01)
                continue
            if self._stopping:
                sock.close()
                return
            connection = Connection(
                sock,
                number,
                respond=self._respond,
                failed=self._errors.append,
                clock_offset=self._clock_offset,
                idle_timeout=self._idle_timeout,
            )
            with self._lock:
                alive = [other for other in self._connections if other.alive]
                self._connections = [*alive, connection]
            connection.start()

    def _respond(self, request: Request) -> Answer | Raw:
        try:
            fixed = self._fixed_answer(request)
            with self._lock:
                if self._record:
                    self.requests.append(request)
                if fixed:
                    return fixed
                item = self._item = next(self._script, self._item)
            result = item(request) if callable(item) else item
            if isinstance(result, str):
                return Answer(result)
            if isinstance(result, (Answer, Raw)):
                return result
            raise TypeError(f"not a str, Answer or Raw in FakeSite's script: {result!r}")
        except BaseException as error:  # pytest.fail() raises a BaseException
            self._errors.append(error)
            return Answer(status=500, body=f"FakeSite's script failed: {error!r}")

    def _fixed_answer(self, request: Request) -> Answer | None:
        """The answer that needs no script, or None for a prompt that is accepted."""
        route = request.method, urlsplit(request.path).path
        if route == ("POST", "/api/generate") and not self._verify:
            return None
        sent = request.json if isinstance(request.json, dict) else {}
        accepted = self._password in (None, sent.get("pass"))
        if route == ("POST", "/api/auth"):
            return Answer(body='{"code": 0}' if accepted else '{"code": -1}')
        if route in (("GET", "/"), ("POST", "/")):
            return Answer(body="<!DOCTYPE html><title>Chat</title>", content_type="text/html")
        if route != ("POST", "/api/generate"):
            return Answer(status=404, body="Not found")
        if not sent:
            return Answer(status=500, body="")
        if not accepted:
            return Answer(status=401, body='{"error":{"message":"Invalid password."}}')
        if sent.get("sign") != _signature(sent.get("time"), request.text, self._secret):
            return Answer(status=401, body='{"error":{"message":"Invalid signature."}}')
        return None


def _signature(moment: object, text: str, secret: str) -> str:
    # The servers print the number as JavaScript does, so 1.0 is signed as 1.
    if isinstance(moment, (int, float)) and float(moment).is_integer():
        moment = int(float(moment))
    return hashlib.sha256(to_bytes(f"{moment}:{text}:{secret}")).hexdigest()
