"""The scripted site of ``aichatfree.testing``."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from email.utils import formatdate
from functools import cached_property
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

Framing = Literal["chunked", "length", "close"]
End = Literal["clean", "cut", "reset", "stall", "tail"]
RawEnd = Literal["clean", "cut", "reset", "stall"]

_FAILURE_TAIL = b"Internal server error"
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPLIT_PAUSE = 0.0002
_STOP_LIMIT = 10.0
_LINGER_ZERO = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Answer:
    """An HTTP response, well formed until its end.

    >>> from aichatfree.testing import Answer, FakeSite
    >>> with FakeSite(Answer("half of it", end="cut")) as site:
    ...     aichatfree.Client(site.url, retry=None).generate("Hello")
    Traceback (most recent call last):
    aichatfree.errors.StreamInterruptedError: ...the answer is not whole. Send it again.

    Args:
        chunks: the body, ``str`` (sent as UTF-8) or ``bytes``. The headers leave together with
            the first chunk. An empty chunk sends nothing, or the headers alone if it is the first.
        stream: the body as an iterable instead, endless if you like. It is iterated anew for each
            request, so a generator object serves one; a callable in the script can make more.
        body: the whole body at once instead, with ``framing="length"`` unless told otherwise.
        status: from 200 to 999.
        headers: added to the default ones, or in place of those of the same name.
        framing: how the client learns where the body ends: ``"chunked"``, ``"length"`` (a
            Content-Length) or ``"close"`` (the end of the connection). An HTTP/1.0 client gets
            ``"close"`` for ``"chunked"``.
        content_type: ``None`` sends no Content-Type at all.
        delay: seconds of silence before the headers.
        gap: seconds of silence between two chunks. Silences are good to about a millisecond.
        end: what follows the last chunk.
            ``"clean"``: the end of a whole body.
            ``"tail"``: a last chunk ``Internal server error``, then a clean end.
            ``"cut"``: the connection is closed before the end of the body (which shows in
            ``"chunked"`` and ``"length"`` framing only).
            ``"reset"``: the connection is reset (TCP RST), which may overtake the last chunks.
            ``"stall"``: silence until the client leaves or the site stops.
        split: send the bytes of the response so many at a time, so that characters and chunk
            headers arrive in pieces (a client slow to read gets several at once).

    Raises:
        ValueError: an argument is out of its range, or two of ``chunks``, ``stream`` and ``body``
            are given, or ``framing="length"`` with a ``stream``.
    """

    def __init__(
        self,
        *chunks: str | bytes,
        stream: Iterable[str | bytes] | None = None,
        body: str | bytes | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        framing: Framing | None = None,
        content_type: str | None = "text/plain; charset=utf-8",
        delay: float = 0.0,
        gap: float = 0.0,
        end: End = "clean",
        split: int | None = None,
    ) -> None:
        if bool(chunks) + (stream is not None) + (body is not None) > 1:
            raise ValueError("give the body once: as chunks, stream or body")
        if framing is None:
            framing = "chunked" if body is None else "length"
        if framing not in get_args(Framing):
            raise ValueError(f"framing must be one of {get_args(Framing)}, not {framing!r}")
        if framing == "length" and stream is not None:
            raise ValueError("framing='length' needs chunks or body: a stream's length is unknown")
        if not 200 <= status <= 999:
            raise ValueError(f"status must be from 200 to 999, not {status}")
        if split is not None and split < 1:
            raise ValueError(f"split must be at least 1 byte, not {split}")
        _check_seconds(delay=delay, gap=gap)
        _check_end(end, get_args(End))
        self.chunks: Iterable[str | bytes] = chunks if body is None else (body,)
        if stream is not None:
            self.chunks = stream
        self.status = status
        self.headers: dict[str, str] = dict(headers or {})
        self.framing = framing
        self.content_type = content_type
        self.delay = delay
        self.gap = gap
        self.end = end
        self.split = split

    def _pieces(self) -> Iterator[bytes]:
        yield from map(_to_bytes, self.chunks)
        if self.end == "tail":
            yield _FAILURE_TAIL

    def _content_length(self) -> int:
        # An answer that breaks off promises one byte that never comes.
        broken = self.end in ("cut", "reset", "stall")
        return sum(map(len, self._pieces())) + broken


class Raw:
    """Exact bytes on the socket in place of an HTTP response: half a status line, a wrong chunk.

    >>> from aichatfree.testing import FakeSite, Raw
    >>> with FakeSite([Raw(b"HTTP/1.1 2"), "Hello"]) as site:
    ...     print(aichatfree.Client(site.url).generate("Hi"))
    Hello

    Args:
        pieces: each one is sent by itself.
        gap: seconds of silence between two pieces.
        end: ``"cut"`` closes the connection, ``"reset"`` and ``"stall"`` are those of `Answer`,
            and ``"clean"`` goes on to the next request, as after a whole response.

    Raises:
        ValueError: ``gap`` is negative, or ``end`` is unknown.
    """

    def __init__(self, *pieces: bytes, gap: float = 0.0, end: RawEnd = "cut") -> None:
        _check_seconds(gap=gap)
        _check_end(end, get_args(RawEnd))
        self.pieces = pieces
        self.gap = gap
        self.end = end


class Headers(Mapping[str, str]):
    """Request headers by name, in any case; those that came twice are joined with a comma."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._values: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError(f"not a header: {line!r}")
            name, value = name.lower(), value.strip()
            self._values[name] = f"{self._values[name]}, {value}" if name in self else value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)


class Request:
    """A request as the site received it.

    >>> from aichatfree.testing import FakeSite
    >>> with FakeSite("Hello") as site:
    ...     reply = aichatfree.Client(site.url).generate("Hi")
    >>> site.requests[0], site.requests[0].text
    (<Request POST /api/generate on connection 1>, 'Hi')

    Attributes:
        method: such as ``"POST"``.
        path: such as ``"/api/generate"``; a whole URL when the site is used as a proxy.
        version: ``"HTTP/1.1"`` or ``"HTTP/1.0"``.
        headers: a mapping whose names match in any case.
        body: its bytes.
        connection: the number of the TCP connection it came on, from 1.
        received: when all of it had come, in seconds of ``time.monotonic()``.
        disconnected: a ``threading.Event``, set once the site notices that the client closed the
            connection before the end of the answer: at once in a silence, else when it sends.
    """

    def __init__(
        self, method: str, path: str, version: str, headers: Headers, body: bytes, connection: int
    ) -> None:
        self.method = method
        self.path = path
        self.version = version
        self.headers = headers
        self.body = body
        self.connection = connection
        self.received: float = time.monotonic()
        self.disconnected: threading.Event = threading.Event()

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path} on connection {self.connection}>"

    @cached_property
    def json(self) -> Any:
        """The parsed body, or None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def text(self) -> str:
        """The text of the last message in either dialect, or ``""`` if there is none."""
        try:
            message = self.json["messages"][-1]
            if "content" in message:
                return str(message["content"])
            return "".join(part["text"] for part in message["parts"])
        except (KeyError, IndexError, TypeError):
            return ""

    def _asks_to_close(self) -> bool:
        closes = self.headers.get("Connection", "").lower() == "close"
        return closes or self.version == "HTTP/1.0"


Reply = str | Answer | Raw
Item = Reply | Callable[[Request], Reply]


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
        script: an iterable of items, endless if you like, or a single item. An item is a ``str``
            (an answer of one chunk), an `Answer`, a `Raw`, or a callable that is given the
            `Request` and returns one of those. Requests take items in order of arrival.
        secret: the secret of the signature.
        password: the site's password; None lets everybody in.
        verify: refuse a wrong password or signature with 401, as real sites do, before the
            script's turn. Without it only ``/api/auth`` looks at the password.
        clock_offset: seconds by which the site's clock (its ``Date`` header) is fast.
        host: an IPv4 address or name to listen on; the port is any free one.
        idle_timeout: seconds after which a connection that waits for a request is closed.
        record: whether to keep requests in `requests`; a long benchmark does without.

    Attributes:
        url: the base URL, such as ``"http://127.0.0.1:54321"``, from the start of the block.
        requests: every `Request` so far, in order of arrival, on any path.

    Raises:
        ValueError: the script is empty or ``idle_timeout`` is not positive.
        RuntimeError: at the end of the block, if a callable or stream has not returned in 10 s.

    What a callable, a stream or the script itself raises is answered with a 500 (or breaks off the
    answer), and is raised again at the end of the block, unless that raises something itself.
    """

    def __init__(
        self,
        script: Item | Iterable[Item] = "Hello",
        *,
        secret: str = "",
        password: str | None = None,
        verify: bool = False,
        clock_offset: float = 0.0,
        host: str = "127.0.0.1",
        idle_timeout: float = 5.0,
        record: bool = True,
    ) -> None:
        if idle_timeout <= 0:
            raise ValueError(f"idle_timeout must be positive, not {idle_timeout}")
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
        self._lock = threading.Lock()
        self._connections: list[_Connection] = []
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping = True
        # Closing a listener does not wake its accept() on every system; a connection does.
        with suppress(OSError):
            socket.create_connection(self._listener.getsockname()).close()
        self._acceptor.join()
        self._listener.close()
        self.drop_connections()
        deadline = time.monotonic() + _STOP_LIMIT
        for connection in self._connections:
            connection.thread.join(max(0.0, deadline - time.monotonic()))
        if kind is not None:
            return
        if self._errors:
            raise self._errors[0]
        if any(connection.thread.is_alive() for connection in self._connections):
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
            except OSError:  # out of file descriptors, or the client has left already
                time.sleep(0.01)
                continue
            if self._stopping:
                sock.close()
                return
            connection = _Connection(self, sock, number)
            with self._lock:
                alive = [other for other in self._connections if other.thread.is_alive()]
                self._connections = [*alive, connection]
            connection.thread.start()

    def _reply(self, request: Request) -> Answer | Raw:
        try:
            fixed = self._fixed_answer(request)
            # One lock for both: requests are recorded in the order in which they take items.
            with self._lock:
                if self._record:
                    self.requests.append(request)
                if fixed:
                    return fixed
                item = self._item = next(self._script, self._item)
            reply = item(request) if callable(item) else item
            if isinstance(reply, str):
                return Answer(reply)
            if isinstance(reply, (Answer, Raw)):
                return reply
            raise TypeError(f"not a str, Answer or Raw in FakeSite's script: {reply!r}")
        except BaseException as error:  # what pytest.fail() raises is no Exception
            self._errors.append(error)
            return Answer(status=500, body=f"FakeSite's script failed: {error!r}")

    def _fixed_answer(self, request: Request) -> Answer | None:
        """The answer that needs no script, or None for a prompt that is let in."""
        route = request.method, urlsplit(request.path).path
        if route == ("POST", "/api/generate") and not self._verify:
            return None
        sent = request.json if isinstance(request.json, dict) else {}
        welcome = self._password in (None, sent.get("pass"))
        if route == ("POST", "/api/auth"):
            return Answer(body='{"code": 0}' if welcome else '{"code": -1}')
        if route in (("GET", "/"), ("POST", "/")):
            return Answer(body="<!DOCTYPE html><title>Chat</title>", content_type="text/html")
        if route != ("POST", "/api/generate"):
            return Answer(status=404, body="Not found")
        if not sent:
            return Answer(status=500, body="")
        if not welcome:
            return Answer(status=401, body='{"error":{"message":"Invalid password."}}')
        if sent.get("sign") != _signature(sent.get("time"), request.text, self._secret):
            return Answer(status=401, body='{"error":{"message":"Invalid signature."}}')
        return None


class _ClosedError(Exception):
    """The connection is closed, by the client or by the site."""


class _Connection:
    """One TCP connection and the thread that serves it.

    Every wait is a wait on the socket, so that a client's leaving and `drop` both end it at once.
    """

    def __init__(self, site: FakeSite, sock: socket.socket, number: int) -> None:
        self._site = site
        self._socket = sock
        self._number = number
        self._buffer = bytearray()
        self._dropped = False
        self.thread = threading.Thread(target=self._run, name=f"FakeSite-{number}", daemon=True)

    def drop(self) -> None:
        """Close from another thread, which holds the site's lock."""
        self._dropped = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            with suppress(OSError):  # the client has left already
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._serve_request():
                pass
        except (_ClosedError, TimeoutError):
            pass
        finally:
            # Closing alone is silent while a forked process holds a copy of the socket.
            with self._site._lock:
                self.drop()
                self._socket.close()

    def _serve_request(self) -> bool:
        """Answer one request; whether the connection can serve another."""
        try:
            request = self._read_request()
        except ValueError:
            self._send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            return False
        reply = self._site._reply(request)
        try:
            return self._write_raw(reply) if isinstance(reply, Raw) else self._write(request, reply)
        except _ClosedError:
            if not self._dropped:
                request.disconnected.set()
            raise
        except BaseException as error:  # from the iterable of an Answer(stream=...)
            self._site._errors.append(error)
            return False

    def _read_request(self) -> Request:
        start, *lines = self._take_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        method, path, version = start.split(" ")
        headers = Headers(lines)
        if headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b"".join(self._take_chunks())
        else:
            body = self._take(int(headers.get("Content-Length", "0")))
        return Request(method, path, version, headers, body, self._number)

    def _take_chunks(self) -> Iterator[bytes]:
        while size := int(self._take_until(b"\r\n").partition(b";")[0], 16):
            yield self._take(size)
            self._take_until(b"\r\n")
        while self._take_until(b"\r\n"):
            pass

    def _take_until(self, mark: bytes) -> bytes:
        while (size := self._buffer.find(mark)) < 0:
            self._fill(self._site._idle_timeout)
        taken = self._take(size)
        del self._buffer[: len(mark)]
        return taken

    def _take(self, size: int) -> bytes:
        if size < 0:
            raise ValueError(f"a negative size: {size}")
        while len(self._buffer) < size:
            self._fill(self._site._idle_timeout)
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _fill(self, timeout: float | None) -> None:
        """Wait for bytes of the client; TimeoutError if there are none for so many seconds."""
        try:
            self._socket.settimeout(timeout)
            received = self._socket.recv(65536)
        except TimeoutError:
            raise
        except OSError:
            raise _ClosedError from None
        if not received:
            raise _ClosedError
        self._buffer += received

    def _stay_silent(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with suppress(TimeoutError):
            while (left := deadline - time.monotonic()) > 0:
                self._fill(left)

    def _send(self, data: bytes, split: int | None = None) -> None:
        try:
            if self._socket.gettimeout() is not None:  # a system call saved for each chunk
                self._socket.settimeout(None)
            if not split:
                self._socket.sendall(data)
                return
            for start in range(0, len(data), split):
                self._socket.sendall(data[start : start + split])
                time.sleep(_SPLIT_PAUSE)
        except OSError:
            raise _ClosedError from None

    def _write_raw(self, raw: Raw) -> bool:
        for number, piece in enumerate(raw.pieces):
            if number:
                self._stay_silent(raw.gap)
            self._send(piece)
        return self._finish(raw.end)

    def _write(self, request: Request, answer: Answer) -> bool:
        framing = answer.framing
        if framing == "chunked" and request.version == "HTTP/1.0":
            framing = "close"
        self._stay_silent(answer.delay)
        unsent, keep_alive = self._head(request, answer, framing)
        for number, piece in enumerate(answer._pieces()):
            if number:
                self._stay_silent(answer.gap)
            if framing == "chunked" and piece:
                piece = b"%x\r\n%b\r\n" % (len(piece), piece)
            self._send(unsent + piece, answer.split)
            unsent = b""
        if framing == "chunked" and answer.end in ("clean", "tail"):
            unsent += b"0\r\n\r\n"
        if unsent:
            self._send(unsent, answer.split)
        return self._finish(answer.end) and keep_alive

    def _head(self, request: Request, answer: Answer, framing: Framing) -> tuple[bytes, bool]:
        """The status line and headers, and whether they keep the connection open."""
        closes = framing == "close" or request._asks_to_close()
        headers = {
            "Date": formatdate(time.time() + self._site._clock_offset, usegmt=True),
            "Connection": "close" if closes else "keep-alive",
        }
        if answer.content_type is not None:
            headers["Content-Type"] = answer.content_type
        if framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        if framing == "length":
            headers["Content-Length"] = str(answer._content_length())
        given = [*headers.items(), *answer.headers.items()]
        lines = {name.lower(): f"{name}: {value}\r\n" for name, value in given}
        start = f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Unknown')}\r\n"
        head = f"{start}{''.join(lines.values())}\r\n".encode("latin-1")
        return head, not closes and lines["connection"].lower() != "connection: close\r\n"

    def _finish(self, end: End) -> bool:
        """End a response; whether the connection can serve another."""
        if end == "stall":
            while True:
                self._fill(None)
        if end == "reset":
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            with self._site._lock:
                self._socket.close()
        return end in ("clean", "tail")


def _check_seconds(**arguments: float) -> None:
    for name, seconds in arguments.items():
        if seconds < 0:
            raise ValueError(f"{name} must not be negative, not {seconds}")


def _check_end(end: str, known: tuple[str, ...]) -> None:
    if end not in known:
        raise ValueError(f"end must be one of {known}, not {end!r}")


def _to_bytes(text: str | bytes) -> bytes:
    """UTF-8 as the real servers write and hash it: U+FFFD for a lone surrogate."""
    return text if isinstance(text, bytes) else _SURROGATE.sub("\ufffd", text).encode()


def _signature(moment: object, text: str, secret: str) -> str:
    # The servers print the number as JavaScript does, so 1.0 is signed as 1.
    if isinstance(moment, (int, float)) and float(moment).is_integer():
        moment = int(float(moment))
    return hashlib.sha256(_to_bytes(f"{moment}:{text}:{secret}")).hexdigest()
