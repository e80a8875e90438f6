"""The connections to one site: idle ones are used again, new ones are opened when there are none."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from .connecting import open_socket
from .connection import Connection, ConnectionState
from .exchange import Exchange
from .multiplexer import READ, Multiplexer

_SURPLUS_IDLE_TIME: Final = 30.0
"""Seconds without use after which connections beyond ``max_idle`` are closed."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_KEEP_ALIVE_TIMEOUT: Final = re.compile(r"\btimeout\s*=\s*(\d{1,9})")


class Pool:
    """Sends requests over connections that it keeps. Threads may share it.

    Args:
        opener: urllib3's pool for the site, which knows how to open a connection.
        multiplexer: reads from the connections. Its lock guards the idle ones.
        max_idle: connections kept even if they have not been used for a while.
    """

    def __init__(self, opener: Any, multiplexer: Multiplexer, max_idle: int) -> None:
        self._opener = opener
        self._multiplexer = multiplexer
        self._max_idle = max_idle
        self._connections: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # the one used last at the end
        self._heads: dict[str, bytes] = {}
        self._closed = False

    def send(
        self, exchange: Exchange, method: str, url: str, body: bytes, headers: Mapping[str, str]
    ) -> None:
        """Send a request and wait for the head of its response."""
        message = b"%b%d\r\n\r\n%b" % (self._head(method, url, headers), len(body), body)
        try:
            connection = self._take(exchange) or self._open(exchange)
            exchange.begin_sending()
            self._multiplexer.watch(connection, READ)
            connection.send(message, exchange)
        finally:
            self._end_sending(exchange)
        exchange.wait_for_head()

    def close(self) -> None:
        """Cancel the exchanges and close the connections."""
        with self._multiplexer.lock:
            self._closed = True
            for connection in list(self._connections):
                if connection.exchange is not None:
                    connection.exchange.interrupt()
                elif connection.state is ConnectionState.IDLE:
                    self._discard(connection)

    def on_response_end(self, connection: Connection) -> None:
        """Keep the connection or close it; the multiplexer's leader calls this."""
        with self._multiplexer.lock:
            if connection.state is ConnectionState.READING:
                self._release(connection)

    def on_idle_event(self, connection: Connection) -> None:
        """Close an idle connection that the site closed or that carries what nobody asked for."""
        with self._multiplexer.lock:
            if connection.state is not ConnectionState.IDLE:
                # The thread that writes to it finds out by itself.
                self._multiplexer.watch(connection, 0)
                connection.reusable = False
                return
            self._idle.pop(connection, None)
            connection.state = ConnectionState.WRITING  # no thread takes it meanwhile
        # Over TLS the site may have sent a session ticket, which is not a response.
        silent = connection.is_silent()
        with self._multiplexer.lock:
            if silent and not self._closed:
                connection.state = ConnectionState.IDLE
                self._idle[connection] = None
            else:
                self._discard(connection)

    def abandon(self, connection: Connection, *, written: bool) -> None:
        """Close a connection whose exchange does not need it any longer."""
        with self._multiplexer.lock:
            exchange, connection.exchange = connection.exchange, None
            if written or connection.state is not ConnectionState.WRITING:
                if exchange is not None:
                    exchange.connection = None
                self._discard(connection)

    def _take(self, exchange: Exchange) -> Connection | None:
        """An idle connection that works, for this exchange."""
        while True:
            with self._multiplexer.lock:
                if not self._idle:
                    return None
                connection = next(reversed(self._idle))
                # No call in between, because a signal handler may raise wherever there is one.
                del self._idle[connection]
                connection.state = ConnectionState.WRITING
                connection.exchange, exchange.connection = exchange, connection
            if time.monotonic() < connection.idle_until and connection.is_silent():
                return connection
            with self._multiplexer.lock:
                exchange.connection = None
                self._discard(connection)

    def _open(self, exchange: Exchange) -> Connection:
        sock = open_socket(self._opener, exchange)
        try:
            connection = Connection(sock, self, self._multiplexer)
            with self._multiplexer.lock:
                self._multiplexer.add(connection)
                self._connections.add(connection)
                connection.exchange, exchange.connection = exchange, connection
        except BaseException:
            sock.close()
            raise
        return connection

    def _end_sending(self, exchange: Exchange) -> None:
        with self._multiplexer.lock:
            connection = exchange.connection
            if connection is None:
                return
            if connection.exchange is not exchange:
                exchange.connection = None
                self._discard(connection)
            elif exchange.ended:
                self._release(connection)
            else:
                connection.state = ConnectionState.READING

    def _release(self, connection: Connection) -> None:
        """Keep a connection whose response has ended, if it can be used again."""
        exchange, connection.exchange = connection.exchange, None
        assert exchange is not None
        exchange.connection = None
        now = time.monotonic()
        connection.idle_until = now + _seconds_kept_alive(exchange.keep_alive)
        if self._closed or not (exchange.reusable and connection.reusable):
            self._discard(connection)
            return
        connection.state = ConnectionState.IDLE
        connection.idle_since = now
        self._idle[connection] = None
        while len(self._idle) > self._max_idle:
            oldest = next(iter(self._idle))
            if oldest.idle_since > now - _SURPLUS_IDLE_TIME:
                break
            self._discard(oldest)

    def _discard(self, connection: Connection) -> None:
        connection.state = ConnectionState.CLOSED
        self._idle.pop(connection, None)
        self._connections.discard(connection)
        self._multiplexer.close_channel(connection)

    def _head(self, method: str, url: str, headers: Mapping[str, str]) -> bytes:
        """The head of a request up to its length. Headers do not change from one to the next."""
        head = self._heads.get(url)
        if head is None:
            fields = {name: value for name, value in headers.items() if name != "Content-Length"}
            opener = self._opener
            if opener.proxy is not None and not url.startswith("/"):
                fields.update(opener.proxy_headers)
            lines = [f"{method} {url} HTTP/1.1"]
            if not any(name.lower() == "host" for name in fields):
                lines.append(f"Host: {self._host(url)}")
            lines += [f"{name}: {value}" for name, value in fields.items()]
            head = "\r\n".join([*lines, "Content-Length: "]).encode("latin-1")
            self._heads[url] = head
        return head

    def _host(self, url: str) -> str:
        parts = urlsplit(url)
        host = parts.hostname or self._opener.host
        port = parts.port if parts.netloc else self._opener.port
        host = f"[{host}]" if ":" in host.strip("[]") and "[" not in host else host
        default = _DEFAULT_PORTS[parts.scheme or self._opener.scheme]
        return host if port in (None, default) else f"{host}:{port}"


def _seconds_kept_alive(header: str) -> float:
    """For how long the site keeps an idle connection, with a margin for the way to it."""
    named = _KEEP_ALIVE_TIMEOUT.search(header.lower())
    if named is None:
        return math.inf
    seconds = float(named[1])
    return seconds - min(1.0, seconds / 2)
