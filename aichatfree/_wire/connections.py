"""The pool's connections: they can be interrupted, refuse bad heads, and read chunks strictly."""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import sys
import threading
from collections import deque
from collections.abc import Generator, Mapping
from typing import Any, Final, Protocol

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import IncompleteRead, ProtocolError

_LONGEST_LINE: Final = 65536  # bytes, as in http.client


class Carried(Protocol):
    """What a connection has to know of the exchange that it carries."""

    @property
    def longest_silence(self) -> float | None:
        """Seconds for each read and write of a socket."""

    def use(self, connection: Connection) -> None:
        """The connection that carries it is known."""


# What the current thread is sending, for the connection that urllib3 picks for it.
sending: threading.local = threading.local()


class _Head(http.client.HTTPResponse):
    """The status and headers of a reply, refused if it is cut or a line of it is no header.

    The parser takes a cut for the end of the head. What follows a line that is none it drops, and
    with it the length that tells a cut body.

    Attributes:
        body: what follows, to be read as it is on the wire.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        self.body = sock.makefile("rb")
        self._opened = _Opened(self.body)
        super().__init__(self._opened, *args, **kwargs)  # type: ignore[arg-type]

    def begin(self) -> None:
        super().begin()
        if self._opened.line not in (b"\r\n", b"\n"):
            raise http.client.IncompleteRead(b"")
        if self.headers.defects or self.headers.get_payload():
            raise http.client.HTTPException("malformed headers")


class _Opened:
    """A socket whose file is open already, and which remembers the line that was read last."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.line = b""

    def makefile(self, mode: str) -> _Opened:
        return self

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self._file.readline(limit)
        self.line = line
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Reply(urllib3.HTTPResponse):
    """A reply whose chunks must end where their sizes say, read in half the time.

    urllib3 skips the two bytes after each chunk unseen: where a size is too small, the rest of the
    chunk can pass for the next size, and the answer has a hole.
    """

    def __init__(self, head: _Head) -> None:
        super().__init__(
            body=head,
            original_response=head,
            headers=urllib3.HTTPHeaderDict(head.headers.items()),
            status=head.status,
            version=head.version,
            reason=head.reason,
            preload_content=False,
            decode_content=False,
            request_method="POST",
        )
        self._head = head

    def read_chunked(
        self, amt: int | None = None, decode_content: bool | None = None
    ) -> Generator[bytes, None, None]:
        """The chunks; those of more than ``amt`` bytes in pieces."""
        if "Content-Encoding" in self.headers:
            yield from super().read_chunked(amt, decode_content)
            return
        largest = sys.maxsize if amt is None else amt
        read, readline = self._head.body.read, self._head.body.readline
        while True:
            line = readline(_LONGEST_LINE)
            try:
                size = int(line, 16)
            except ValueError:
                size = _size_in(line)
            if size > largest:
                size = yield from self._first_pieces(size, largest)
            elif size < 0:
                raise _bad_size()
            elif not size:
                break
            data = read(size + 2)
            if data[size:] != b"\r\n":
                missing = size + 2 - len(data)
                raise IncompleteRead(len(data), missing) if missing else _bad_size()
            yield data[:size]
        self._skip_trailers(line)
        self._head.close()
        self.release_conn()

    def _first_pieces(self, size: int, largest: int) -> Generator[bytes, None, int]:
        """All of a large chunk but its last piece, whose size is returned."""
        while size > largest:
            piece = self._head.body.read(largest)
            if len(piece) < largest:
                raise IncompleteRead(len(piece), size - len(piece))
            yield piece
            size -= largest
        return size

    def _skip_trailers(self, line: bytes) -> None:
        """Read on to the empty line; some sites leave it out, and hang up after the last size."""
        while line.strip():
            if not line.endswith(b"\n"):  # "0" may be the beginning of "0c"
                raise IncompleteRead(0, 1)
            line = self._head.body.readline(_LONGEST_LINE)


def _size_in(line: bytes) -> int:
    """The size of a chunk in a line that has more than that, or none."""
    if not line:
        raise IncompleteRead(0, 1)
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        raise _bad_size() from None


def _bad_size() -> ProtocolError:
    return ProtocolError("a chunk's size is wrong")


class Connection:
    """A connection that another thread can interrupt, in whichever phase its exchange is.

    Sockets cannot be waited for and closed by different threads; shutting one down is what ends a
    read at once. The guard keeps a late interrupt away from the next exchange on the connection.
    """

    sock: Any
    timeout: Any
    response_class: Any = _Head

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Reentrant: the handler of a signal may cancel what the same thread is sending.
        self._guard = threading.RLock()
        self._exchange: Carried | None = None
        self._reading: Any = None
        self._unsent: list[bytes] | None = None

    def connect(self) -> None:
        self._attach()
        super().connect()  # type: ignore[misc]
        self._attach()

    def request(
        self, method: str, url: str, body: Any = None, headers: Any = None, **kwargs: Any
    ) -> None:
        self._attach()
        # The head and the body leave together: one system call, and one packet, for both.
        self._unsent = []
        try:
            self._put(method, url, body, headers)
            unsent, self._unsent = self._unsent, None
            self._send_all(b"".join(unsent))
        finally:
            self._unsent = None

    def _put(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        # Not through urllib3's request(), which looks for what the transport has seen to: a length,
        # a user agent, bodies of other kinds. That costs 7 % of a request.
        plain: Any = http.client.HTTPConnection
        plain.putrequest(self, method, url, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            plain.putheader(self, name, value)
        plain.endheaders(self, body)

    def _send_all(self, data: bytes) -> None:
        if self.sock is None:
            self.connect()
        # Until the reply, urllib3's limit is that of connecting: too short for a slow line.
        self._limit(self.timeout if self._exchange is None else self._exchange.longest_silence)
        self.send(data)

    def _limit(self, seconds: float | None) -> None:
        # Setting it is a system call, at which threads that are waiting for the interpreter switch.
        if self.sock.gettimeout() != seconds:
            self.sock.settimeout(seconds)

    def send(self, data: Any) -> None:
        if self._unsent is not None and isinstance(data, bytes):
            self._unsent.append(data)
        else:
            super().send(data)  # type: ignore[misc]

    def getresponse(self) -> Any:
        # http.client forgets the socket here when the body will be ended by closing it.
        self._reading = self.sock
        self._limit(self.timeout)
        head: Any = http.client.HTTPConnection.getresponse(self)  # type: ignore[arg-type]
        if head.status < 200:
            # The real reply is still to come, and would be taken for that of the next request.
            self.close()  # type: ignore[attr-defined]
            raise http.client.BadStatusLine(f"interim reply {head.status}")
        return _Reply(head)

    def _attach(self) -> None:
        exchange: Carried | None = getattr(sending, "exchange", None)
        with self._guard:
            self._exchange = exchange
            self._reading = None
        if exchange is not None:
            exchange.use(self)

    def interrupt(self, exchange: Carried) -> None:
        with self._guard:
            sock = self.sock or self._reading
            if self._exchange is exchange and isinstance(sock, socket.socket):
                with contextlib.suppress(OSError):
                    # Not the TLS socket's own method, which would leave a half-unwrapped one.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _HTTPConnection(Connection, HTTPConnection):
    pass


class _HTTPSConnection(Connection, HTTPSConnection):
    @property
    def is_connected(self) -> bool:
        # What is decrypted already came after the last reply: it is nobody's answer. The socket of
        # TLS within TLS, to a proxy, does not say how much that is.
        pending = getattr(self.sock, "pending", None)
        return super().is_connected and pending is not None and not pending()


class _Stack:
    """A pool's idle connections, last in first out.

    The standard library's queues hold a lock in Python code, where a Ctrl-C can leave it locked.
    """

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._items: deque[Any] = deque()

    def put(self, item: Any, block: bool = False, timeout: float | None = None) -> None:
        if len(self._items) >= self._maxsize:
            raise queue.Full
        self._items.append(item)

    def get(self, block: bool = False, timeout: float | None = None) -> Any:
        try:
            return self._items.pop()
        except IndexError:
            raise queue.Empty from None

    def qsize(self) -> int:
        return len(self._items)


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection
    QueueCls = _Stack  # type: ignore[assignment]


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection
    QueueCls = _Stack  # type: ignore[assignment]


POOLS: Final[dict[str, type[HTTPConnectionPool]]] = {"http": _HTTPPool, "https": _HTTPSPool}
