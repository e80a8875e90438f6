"""One connection to the site, from its first request to its end."""

from __future__ import annotations

import ssl
import threading
import time
from enum import Enum
from typing import Any, Final, Protocol

from .exchange import Exchange, ExchangeState
from .multiplexer import READ, WRITE, Multiplexer

_READ_SIZE: Final = 65536
"""Bytes: four of the largest TLS records."""

_MAX_UNREAD: Final = 256 * 1024
"""Bytes of a response that are read ahead of its reader."""

_WOULD_BLOCK: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class ConnectionState(Enum):
    """What a :class:`Connection` is doing."""

    IDLE = "idle"
    """It is in the pool, and whatever arrives means that it cannot be used again."""
    WRITING = "writing"
    """A thread has taken it from the pool or is sending a request; only that thread closes it."""
    READING = "reading"
    """The request has been sent and the response is incomplete."""
    CLOSED = "closed"
    """Its socket has been closed, or will be by the leader."""


class Owner(Protocol):
    """The pool that a connection belongs to."""

    def on_response_end(self, connection: Connection) -> None:
        """The response is complete or has failed."""

    def on_idle_event(self, connection: Connection) -> None:
        """Something arrived, or the site closed the connection, while there was no response."""

    def abandon(self, connection: Connection, *, written: bool) -> None:
        """The exchange does not need the connection any longer."""


class Connection:
    """A non-blocking socket and the exchange that it carries.

    The thread that sends a request writes to it and the multiplexer's leader reads from it, possibly
    at the same time.

    Attributes:
        fd: its file descriptor.
        events: what the multiplexer looks for.
        state: changed by the pool only, under the multiplexer's lock; so is ``exchange``.
        exchange: the one that it carries.
        reusable: whether another request may follow.
        idle_since: when it was put into the pool (monotonic clock).
        idle_until: when the site may close it (monotonic clock).
    """

    def __init__(self, sock: Any, pool: Owner, multiplexer: Multiplexer) -> None:
        sock.settimeout(0)
        if isinstance(sock, ssl.SSLSocket):
            # A body that ends with its connection is incomplete unless the site says that it ends.
            sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]
        self.fd: int = sock.fileno()
        self.events = 0
        self.state = ConnectionState.WRITING
        self.exchange: Exchange | None = None
        self.reusable = True
        self.idle_since = self.idle_until = time.monotonic()
        self._socket = sock
        self._pool = pool
        self._multiplexer = multiplexer
        # Held while calling into the socket: OpenSSL's objects must not be read from and written to
        # at the same time. No call under it blocks.
        self._socket_lock = threading.Lock()

    def send(self, message: bytes, exchange: Exchange) -> None:
        """Send a request. It stops early when the response does not wait for its end."""
        unsent = memoryview(message)
        while unsent:
            try:
                with self._socket_lock:
                    sent = self._socket.send(unsent[:_READ_SIZE])
            except _WOULD_BLOCK:
                self._multiplexer.watch(self, READ | WRITE)
                exchange.wait_until_writable()
            except (BrokenPipeError, ConnectionResetError):
                self.reusable = False  # the site may have responded before it closed the connection
                return
            else:
                unsent = unsent[sent:]
            if exchange.state is not ExchangeState.SENDING:
                self.reusable = self.reusable and not unsent
                return

    def on_event(self, events: int, now: float) -> Exchange | None:
        """Read what arrived; the multiplexer's leader calls this."""
        exchange = self.exchange
        if exchange is None or exchange.ended or exchange.state is ExchangeState.CONNECTING:
            self._pool.on_idle_event(self)
            return None
        if self.events & WRITE:
            self._multiplexer.watch(self, READ)
            exchange.writable = True
        self._read(exchange, now)
        if exchange.ended:
            self._pool.on_response_end(self)
        elif exchange.unread > _MAX_UNREAD:
            self._pause(exchange)
        return exchange

    def _read(self, exchange: Exchange, now: float) -> None:
        try:
            while not exchange.ended:
                with self._socket_lock:
                    data = self._socket.recv(_READ_SIZE)
                exchange.feed(data, now)
                if not (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
                    break  # what OpenSSL has decrypted already would be invisible to the poller
        except ssl.SSLWantWriteError:
            self._multiplexer.watch(self, READ | WRITE)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except ssl.SSLEOFError:
            exchange.feed(b"", now, clean_eof=False)
        except BaseException as error:
            # A signal handler's exception too: what was read may be lost, and nobody may notice.
            exchange.fail(error if isinstance(error, Exception) else InterruptedError())
            if not isinstance(error, OSError):
                raise

    def _pause(self, exchange: Exchange) -> None:
        with self._multiplexer.lock:
            if exchange.may_pause:
                self._multiplexer.watch(self, 0)

    def is_silent(self) -> bool:
        """Whether nothing has arrived, not even the end of the connection."""
        try:
            with self._socket_lock:
                self._socket.recv(1)
        except _WOULD_BLOCK:
            return True
        except OSError:
            pass
        return False

    def abandon(self, *, written: bool) -> None:
        """Its exchange does not need it any longer.

        Args:
            written: whether its thread certainly does not write to it any more.
        """
        self._pool.abandon(self, written=written)

    def shut(self) -> None:
        """Close the socket; the multiplexer calls this."""
        self._socket.close()

    def __repr__(self) -> str:
        return f"<Connection {self.state.value}, {self._socket!r}>"
