"""One connection to the site, from its first request to its end."""

from __future__ import annotations

import ssl
import time
from enum import Enum
from typing import Any, Final

from .._locks import SignalSafeLock
from .exchange import Exchange, ExchangeState
from .idle_connections import Connections
from .multiplexer import READ, WRITE, Multiplexer

_READ_SIZE: Final = 65536
"""Bytes: four of the largest TLS records."""

_WOULD_BLOCK: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_CLOSED_BY_SITE: Final = (
    BrokenPipeError,
    ConnectionResetError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)


class ConnectionState(Enum):
    """What a :class:`Connection` is doing."""

    IDLE = "idle"
    """It can be taken; whatever arrives means that it cannot be used again."""
    WRITING = "writing"
    """A thread has taken it and may be sending a request; no other thread closes it."""
    READING = "reading"
    """The request has been sent and the response is incomplete."""
    CLOSED = "closed"
    """Its socket has been closed, or will be by the leader."""


class Connection:
    """A non-blocking socket and the exchange that it carries.

    The thread that sends a request writes to it and the multiplexer's leader reads from it,
    possibly at the same time.

    Attributes:
        fd: its file descriptor.
        events: what the multiplexer looks for.
        state: assigned under the multiplexer's lock only; so is ``exchange``. Assigned in place,
            because a signal handler may raise in any call, between two changes that belong
            together.
        idle_since: when it was used last (monotonic clock).
        exchange: the one that it carries and that still needs it.
    """

    def __init__(
        self, sock: Any, multiplexer: Multiplexer, connections: Connections[Connection]
    ) -> None:
        sock.settimeout(0)
        self._tls = isinstance(sock, ssl.SSLSocket)
        if self._tls:
            # A body that ends with its connection is incomplete unless the site says that it ends.
            sock.suppress_ragged_eofs = False
        self.fd: int = sock.fileno()
        self.events = 0
        self.state = ConnectionState.WRITING
        self.exchange: Exchange | None = None
        self._socket = sock
        self._multiplexer = multiplexer
        self._connections = connections
        self._reusable = True
        self._reading = False  # whether something was read and may not have reached the exchange
        self.idle_since: float = time.monotonic()
        self._idle_until = self.idle_since
        # Held while calling into the socket: OpenSSL's objects must not be read from and written to
        # at the same time. No call under it blocks.
        self._socket_lock = SignalSafeLock()

    # The thread of the exchange calls these.

    def take(self, exchange: Exchange) -> None:
        """Carry this exchange; under the multiplexer's lock."""
        # No call in here, because a signal handler may raise wherever there is one.
        self.state = ConnectionState.WRITING
        self.exchange, exchange.carrier = exchange, self

    def is_usable(self) -> bool:
        """Whether the site still keeps the connection and nothing has arrived."""
        return time.monotonic() < self._idle_until and self._is_silent()

    def send(self, message: bytes, exchange: Exchange) -> None:
        """Send a request. It stops early when the response does not wait for its end."""
        unsent = memoryview(message)
        while unsent:
            try:
                with self._socket_lock:
                    sent = self._socket.send(unsent[:_READ_SIZE])
            except _WOULD_BLOCK:
                exchange.writable = False  # first, because the leader may set it at once
                self._multiplexer.watch(self, READ | WRITE)
                exchange.wait_until_writable()
            except _CLOSED_BY_SITE:
                self._reusable = False  # the site may have responded before it closed it
                return
            else:
                unsent = unsent[sent:]
            if exchange.state is not ExchangeState.SENDING:
                self._reusable = self._reusable and not unsent
                return

    def end_sending(self, exchange: Exchange) -> None:
        """The exchange's thread writes no more."""
        with self._multiplexer.lock:
            if self.exchange is not exchange:
                self.discard()
            elif exchange.ended:
                self._release(exchange)
            else:
                self.state = ConnectionState.READING

    def abandon(self, *, written: bool) -> None:
        """The exchange does not need the connection any longer.

        Args:
            written: whether its thread certainly does not write to it any more.
        """
        with self._multiplexer.lock:
            self.exchange = None
            if written or self.state is not ConnectionState.WRITING:
                self.discard()

    def resume(self) -> None:
        """Read on, if reading was suspended."""
        if not self.events:
            self._multiplexer.watch(self, READ)

    def discard(self) -> None:
        """Close it; under the multiplexer's lock."""
        # First of all: if the rest is interrupted, the socket does not stay open.
        self._multiplexer.close_channel(self)
        self.state = ConnectionState.CLOSED
        self._connections.forget(self)

    # The multiplexer's leader calls these.

    def on_event(self, events: int, now: float) -> Exchange | None:
        """Read what arrived."""
        exchange = self.exchange
        if exchange is None or exchange.ended or exchange.state is ExchangeState.CONNECTING:
            self._on_unexpected_event()
            return None
        if self.events & WRITE:
            try:
                self._multiplexer.watch(self, READ)
            finally:  # even if a signal handler raises: nothing else will tell its thread
                exchange.writable = True
        self._read(exchange, now)
        if exchange.ended or exchange.overfull:
            with self._multiplexer.lock:
                if self.exchange is not exchange:
                    pass  # its thread has released it, and another one may use it by now
                elif exchange.ended and self.state is ConnectionState.READING:
                    self._release(exchange)
                elif exchange.overfull and not exchange.ended:
                    self._multiplexer.watch(self, 0)
        return exchange

    def _read(self, exchange: Exchange, now: float) -> None:
        if self._reading:  # a signal handler's exception, and then another one, ended the last read
            exchange.fail(InterruptedError())
            return
        try:
            while True:
                self._reading = True
                with self._socket_lock:
                    data = self._socket.recv(_READ_SIZE)
                exchange.feed(data, now)
                self._reading = False
                # What OpenSSL has decrypted already is invisible to the poller.
                if exchange.ended or not (self._tls and self._socket.pending()):
                    return
        except ssl.SSLWantWriteError:
            self._reading = False
            self._multiplexer.watch(self, READ | WRITE)
        except (BlockingIOError, ssl.SSLWantReadError):
            self._reading = False
        except ssl.SSLEOFError:
            exchange.feed(b"", now, clean_eof=False)
        except Exception as error:
            exchange.fail(error)  # and nobody else's: the leader goes on
        except BaseException:
            # A signal handler's: what was read may be lost, so the response cannot be complete.
            exchange.fail(InterruptedError())
            raise

    def _on_unexpected_event(self) -> None:
        with self._multiplexer.lock:
            if self.state is not ConnectionState.IDLE:
                # The thread that writes to it finds out by itself.
                self._multiplexer.watch(self, 0)
                self._reusable = False
                return
            self._connections.idle.pop(self, None)
            self.state = ConnectionState.WRITING  # no thread takes it meanwhile
        # Over TLS the site may have sent a session ticket, which is not a response.
        silent = self._is_silent()
        with self._multiplexer.lock:
            if silent and not self._connections.closed:
                self.state = ConnectionState.IDLE
                self._connections.idle[self] = None
            else:
                self.discard()

    def _is_silent(self) -> bool:
        try:
            with self._socket_lock:
                self._socket.recv(1)
        except _WOULD_BLOCK:
            return True
        except OSError:
            pass
        return False

    def _release(self, exchange: Exchange) -> None:
        """Keep it for the next exchange, if it can be used again."""
        self.exchange = exchange.carrier = None
        seconds = exchange.parser.seconds_reusable
        if self._connections.closed or not self._reusable or self._reading or not seconds:
            self.discard()
            return
        self.state = ConnectionState.IDLE
        self.idle_since = time.monotonic()
        self._idle_until = self.idle_since + seconds
        self._connections.keep(self)

    def shut(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __repr__(self) -> str:
        return f"<Connection {self.state.value}, {self._socket!r}>"
