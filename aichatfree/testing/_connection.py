"""One TCP connection of a scripted site."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from ._answers import Answer, End, Raw
from ._requests import Headers, Request
from ._responses import Response

_SPLIT_PAUSE = 0.0002
_LINGER_ZERO = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class _ClosedError(Exception):
    """The connection is closed, by the client or by the site."""


class Connection:
    """A TCP connection and the thread that serves it, request after request.

    Every wait is a wait for the socket, so that a client's disconnecting and `drop` both end it at
    once. Only `drop` may be called by other threads.

    Args:
        sock: the accepted socket; it is closed when the thread ends.
        number: its number in `Request.connection`.
        respond: called with each request; returns what to send.
        failed: called with what an ``Answer(stream=...)`` raises.
        clock_offset, idle_timeout: in seconds, as in ``FakeSite``.
    """

    def __init__(
        self,
        sock: socket.socket,
        number: int,
        *,
        respond: Callable[[Request], Answer | Raw],
        failed: Callable[[BaseException], None],
        clock_offset: float,
        idle_timeout: float,
    ) -> None:
        self._socket = sock
        self._number = number
        self._respond = respond
        self._failed = failed
        self._clock_offset = clock_offset
        self._idle_timeout = idle_timeout
        self._buffer = bytearray()
        # Guards the closing of the socket, so that `drop` does not shut down a socket that another
        # connection has got from the system in the meantime. Nothing waits while holding it.
        self._lock = threading.Lock()
        self._dropped = False
        self._thread = threading.Thread(target=self._run, name=f"FakeSite-{number}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def drop(self) -> None:
        """Close the connection from another thread."""
        with self._lock:
            self._dropped = True
            self._shut_down()

    def _shut_down(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            with suppress(OSError):  # the client has disconnected already
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._serve_request():
                pass
        except (_ClosedError, TimeoutError):
            pass
        finally:
            with self._lock:
                # A forked process may hold a copy of the socket, and then close() sends nothing.
                self._shut_down()
                self._socket.close()

    def _serve_request(self) -> bool:
        """Respond to one request; whether the connection can serve another."""
        try:
            request = self._read_request()
        except ValueError:
            self._send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            return False
        answer = self._respond(request)
        try:
            if isinstance(answer, Raw):
                return self._write_raw(answer)
            return self._write(answer, Response(answer, request, self._clock_offset))
        except _ClosedError:
            if not self._dropped:
                request.disconnected.set()
            raise
        except BaseException as error:  # from the iterable of an Answer(stream=...)
            self._failed(error)
            return False

    # --- reading ------------------------------------------------------------------------------

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
            self._fill(self._idle_timeout)
        taken = self._take(size)
        del self._buffer[: len(mark)]
        return taken

    def _take(self, size: int) -> bytes:
        if size < 0:
            raise ValueError(f"a negative size: {size}")
        while len(self._buffer) < size:
            self._fill(self._idle_timeout)
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _fill(self, timeout: float | None) -> None:
        """Wait for bytes from the client; TimeoutError if none come for so many seconds."""
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

    # --- writing ------------------------------------------------------------------------------

    def _write_raw(self, raw: Raw) -> bool:
        for number, part in enumerate(raw.parts):
            if number:
                self._stay_silent(raw.gap)
            self._send(part)
        return self._finish(raw.end)

    def _write(self, answer: Answer, response: Response) -> bool:
        self._stay_silent(answer.delay)
        unsent = response.head
        for number, chunk in enumerate(response.chunks()):
            if number:
                self._stay_silent(answer.gap)
            self._send(unsent + chunk, answer.split)
            unsent = b""
        if unsent := unsent + response.last_chunk():
            self._send(unsent, answer.split)
        return self._finish(answer.end) and response.keep_alive

    def _send(self, data: bytes, split: int | None = None) -> None:
        try:
            if self._socket.gettimeout() is not None:  # saves a system call for each chunk
                self._socket.settimeout(None)
            if not split:
                self._socket.sendall(data)
                return
            for start in range(0, len(data), split):
                self._socket.sendall(data[start : start + split])
                time.sleep(_SPLIT_PAUSE)
        except OSError:
            raise _ClosedError from None

    def _finish(self, end: End) -> bool:
        """End a response; whether the connection can serve another."""
        if end == "stall":
            while True:
                self._fill(None)
        if end == "reset":
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            with self._lock:
                self._socket.close()
        return end in ("clean", "tail")
